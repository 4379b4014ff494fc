//! The tool `system-monitor`: how the signals of some servers are just now, compared with the time before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use quell_connect::SourceError;
use quell_connect::metrics::MetricSource;
use quell_diagnose::MetricRead;
use quell_diagnose::series::{Reading, SeriesKind, Window};
use quell_incident::evidence::{MetricQuery, Series, SeriesSet};
use quell_service::{Clock, Period};
use quell_tool::{CallContext, ReadTool, ToolError, TypedRead, TypedReadTool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time_range::{before, length};

/// Metrics that are asked for at the same time.
const QUERIES_AT_ONCE: usize = 8;
/// Servers in one question at the most.
const SERVERS_MAX: usize = 100;
/// Signals in one answer at the most, those that changed first.
const SIGNALS_MAX: usize = 500;
/// Labels by which a server is recognised.
const SERVER_LABELS: [&str; 7] = ["instance", "host", "hostname", "node", "pod", "server", "service"];

/// The tool over a source, for the metrics that rules read.
pub fn system_monitor(
    source: Arc<dyn MetricSource>,
    reads: Vec<MetricRead>,
    clock: Arc<dyn Clock>,
) -> Arc<dyn ReadTool> {
    Arc::new(TypedReadTool::new(
        "system-monitor",
        "System monitor",
        "Level, trend and change point of the signals of some servers, compared with the time before.",
        SystemMonitor { source, reads, clock },
    ))
}

/// Levels, trends and change points of what the rules look at.
struct SystemMonitor {
    source: Arc<dyn MetricSource>,
    reads: Vec<MetricRead>,
    clock: Arc<dyn Clock>,
}

/// Input of `system-monitor`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonitorInput {
    /// The incident that it is asked for; repeated in the answer.
    incident_id: String,
    /// Servers by name, with or without a port, or services.
    #[schemars(length(min = 1, max = 100))]
    servers: Vec<String>,
    /// How much time is looked at, such as `30m`, which it is by default.
    #[serde(default)]
    time_range: Option<String>,
}

/// Answer of `system-monitor`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MonitorAnswer {
    /// As it was asked.
    incident_id: String,
    /// The first instant looked at.
    from: String,
    /// The last one.
    to: String,
    /// The signals of the servers, those that changed most first.
    signals: Vec<SignalAnswer>,
    /// Whether there are more.
    truncated: bool,
    /// Metrics that could not be read, and why.
    unavailable: Vec<String>,
}

/// One series.
#[derive(Debug, Serialize, JsonSchema)]
struct SignalAnswer {
    /// The metric.
    metric: String,
    /// Its labels.
    labels: BTreeMap<String, String>,
    /// The last sample.
    last: f64,
    /// The median now: of the samples of a gauge, of the rates per second of a counter.
    level: f64,
    /// The same before; null without a before.
    before: Option<f64>,
    /// The trend of the level, per second.
    trend_per_second: f64,
    /// When it changed, if it did.
    changed_at: Option<String>,
    /// How many times the noise the level lies from before.
    score: f64,
}

type Asked = (String, Result<SeriesSet, SourceError>);

impl SystemMonitor {
    async fn ask(&self, query: MetricQuery, context: &CallContext) -> Asked {
        let answer = self.source.series(&query, context).await;
        (query.metric, answer)
    }
}

#[async_trait]
impl TypedRead for SystemMonitor {
    type Input = MonitorInput;
    type Output = MonitorAnswer;

    async fn read(&self, input: MonitorInput, context: &CallContext) -> Result<MonitorAnswer, ToolError> {
        if input.servers.is_empty() || input.servers.len() > SERVERS_MAX {
            return Err(ToolError::invalid("servers", format!("must be 1 to {SERVERS_MAX}")));
        }
        let to = self.clock.now();
        let from = before(to, length(input.time_range.as_deref(), Period::seconds(30 * 60))?);
        let wanted: BTreeSet<&str> = input.servers.iter().map(|server| without_port(server)).collect();
        let query = |read: MetricRead| MetricQuery { metric: read.metric, labels: read.labels, from, to };
        let queries: Vec<MetricQuery> = self.reads.iter().cloned().map(query).collect();
        let asked = queries.into_iter().map(|query| self.ask(query, context));
        let answers: Vec<Asked> = futures::stream::iter(asked).buffered(QUERIES_AT_ONCE).collect().await;
        let (mut signals, mut unavailable) = (Vec::new(), Vec::new());
        for (metric, answer) in answers {
            match answer {
                Ok(set) => {
                    let of_servers = set.series.iter().filter(|series| belongs(series, &wanted));
                    signals.extend(of_servers.filter_map(|series| signal(series, to)));
                }
                Err(error) => unavailable.push(format!("{metric}: {error}")),
            }
        }
        signals.sort_by(|one, other| {
            other.score.total_cmp(&one.score).then_with(|| one.metric.cmp(&other.metric))
        });
        let truncated = signals.len() > SIGNALS_MAX;
        signals.truncate(SIGNALS_MAX);
        let (from, to) = (from.to_string(), to.to_string());
        Ok(MonitorAnswer { incident_id: input.incident_id, from, to, signals, truncated, unavailable })
    }
}

fn belongs(series: &Series, wanted: &BTreeSet<&str>) -> bool {
    let named = SERVER_LABELS.iter().filter_map(|label| series.labels.get(label));
    named.into_iter().any(|value| wanted.contains(without_port(&value.for_people())))
}

fn without_port(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => name,
    }
}

fn signal(series: &Series, now: Timestamp) -> Option<SignalAnswer> {
    let window = Window { started_at: now, reference: now };
    let reading = Reading::of(&series.points, SeriesKind::of(&series.metric), window)?;
    Some(SignalAnswer {
        metric: series.metric.clone(),
        labels: series.labels.iter().map(|(name, value)| (name.to_owned(), value.for_people())).collect(),
        last: reading.last,
        level: reading.level,
        before: reading.before,
        trend_per_second: reading.slope,
        changed_at: reading.onset.filter(|_| reading.changed()).map(|at| at.to_string()),
        score: reading.score,
    })
}
