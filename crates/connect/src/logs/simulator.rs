//! The simulated infrastructure's log.

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::evidence::{LogLine, LogLines, LogQuery};
use quell_tool::CallContext;
use serde::Deserialize;

use super::{LogSource, MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, check, cut, shown};
use crate::http::Endpoint;
use crate::source::SourceError;

/// An answer at the most, in bytes.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Reads `GET /logs` of a simulator.
pub struct SimulatorLogs {
    endpoint: Endpoint,
}

#[derive(Deserialize)]
struct WireLine {
    time: Timestamp,
    #[serde(default)]
    level: String,
    #[serde(default)]
    service: String,
    #[serde(default)]
    instance: String,
    #[serde(default)]
    message: String,
}

impl SimulatorLogs {
    /// The simulator at that address.
    pub fn new(endpoint: impl Into<Endpoint>) -> Self {
        Self { endpoint: endpoint.into() }
    }
}

#[async_trait]
impl LogSource for SimulatorLogs {
    fn name(&self) -> &str {
        "simulator"
    }

    fn words(&self, query: &LogQuery) -> String {
        format!("{}/logs {}", self.endpoint.access.shown(), shown(query))
    }

    async fn lines(&self, query: &LogQuery, context: &CallContext) -> Result<LogLines, SourceError> {
        check(query)?;
        let mut parameters = vec![
            ("since", query.from.to_string()),
            ("until", query.to.to_string()),
            ("limit", query.lines_max.to_string()),
        ];
        parameters.extend(query.service.clone().map(|service| ("service", service)));
        parameters.extend(query.contains.clone().map(|text| ("contains", text)));
        let access = &self.endpoint.access;
        let request = access.get(access.url("logs")?).query(&parameters);
        let wire: Vec<WireLine> = self.endpoint.ask_json(request, BODY_BYTES_MAX, context).await?;
        let lines_max = query.lines_max as usize;
        let mut lines: Vec<LogLine> = wire
            .into_iter()
            .map(|line| LogLine {
                at: line.time,
                level: cut(&line.level, NAME_CHARACTERS_MAX).to_lowercase(),
                service: cut(&line.service, NAME_CHARACTERS_MAX),
                instance: cut(&line.instance, NAME_CHARACTERS_MAX),
                message: cut(&line.message, MESSAGE_CHARACTERS_MAX),
            })
            .filter(|line| line.at >= query.from && line.at <= query.to)
            .collect();
        lines.sort_by_key(|line| line.at);
        // As many lines as were allowed: there may have been more before them.
        let truncated = lines.len() >= lines_max;
        let surplus = lines.len().saturating_sub(lines_max);
        lines.drain(..surplus);
        Ok(LogLines {
            source: self.name().to_owned(),
            query: self.words(query),
            lines,
            truncated,
            left_out: Vec::new(),
        })
    }
}
