//! The tool `log-analyzer`: which templates of log lines are new, more frequent or gone.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use quell_connect::logs::LogSource;
use quell_diagnose::template::{Split, TemplateClass, changes};
use quell_incident::evidence::{LOG_LINES_MAX, LogLine, LogQuery};
use quell_service::{Clock, Period};
use quell_tool::{CallContext, ReadTool, ToolError, TypedRead, TypedReadTool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time_range::{before, length};

/// Templates in one answer at the most.
const TEMPLATES_MAX: usize = 100;

/// The tool over some sources.
pub fn log_analyzer(sources: Vec<Arc<dyn LogSource>>, clock: Arc<dyn Clock>) -> Arc<dyn ReadTool> {
    Arc::new(TypedReadTool::new(
        "log-analyzer",
        "Log analyzer",
        "Templates of log lines that are new, more frequent than before, or gone.",
        LogAnalyzer { sources, clock },
    ))
}

/// Compares the lines of a time range with those of as long a time before it.
struct LogAnalyzer {
    sources: Vec<Arc<dyn LogSource>>,
    clock: Arc<dyn Clock>,
}

/// Input of `log-analyzer`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnalyzerInput {
    /// The incident that it is asked for; repeated in the answer.
    incident_id: String,
    /// How much time is looked at, such as `1h`, which it is by default; as much before it is what it is compared with.
    #[serde(default)]
    time_range: Option<String>,
    /// Lines of this service only.
    #[serde(default)]
    service: Option<String>,
}

/// Answer of `log-analyzer`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AnalyzerAnswer {
    /// As it was asked.
    incident_id: String,
    /// The first instant of the time range.
    from: String,
    /// The last one.
    to: String,
    /// Lines that were read.
    lines: usize,
    /// What changed, the most surprising first.
    templates: Vec<TemplateAnswer>,
    /// Whether a limit left something out.
    truncated: bool,
    /// Sources that did not answer, and why; and lines of those that did which could not be used.
    unavailable: Vec<String>,
}

/// One template.
#[derive(Debug, Serialize, JsonSchema)]
struct TemplateAnswer {
    /// `new`, `burst` or `vanished`.
    class: String,
    /// The service that writes it.
    service: String,
    /// The level of its lines.
    level: String,
    /// The message with its changing parts masked.
    template: String,
    /// Lines in the time range.
    count: u64,
    /// Lines before it.
    before: u64,
    /// Some of the lines.
    samples: Vec<String>,
}

#[async_trait]
impl TypedRead for LogAnalyzer {
    type Input = AnalyzerInput;
    type Output = AnalyzerAnswer;

    async fn read(&self, input: AnalyzerInput, context: &CallContext) -> Result<AnalyzerAnswer, ToolError> {
        let range = length(input.time_range.as_deref(), Period::seconds(3600))?;
        let to = self.clock.now();
        let fault_from = before(to, range);
        let query = LogQuery {
            from: before(fault_from, range),
            to,
            service: input.service,
            contains: None,
            lines_max: u32::try_from(LOG_LINES_MAX).unwrap_or(u32::MAX),
        };
        let answers = join_all(self.sources.iter().map(|source| source.lines(&query, context))).await;
        let (mut lines, mut unavailable, mut truncated) = (Vec::<LogLine>::new(), Vec::new(), false);
        for (source, answer) in self.sources.iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    truncated |= answer.truncated;
                    let left_out = answer.left_out.iter();
                    unavailable.extend(left_out.map(|lines| format!("{}: {}", source.name(), lines.told())));
                    lines.extend(answer.lines);
                }
                Err(error) => unavailable.push(format!("{}: {error}", source.name())),
            }
        }
        if lines.is_empty()
            && let Some(why) = unavailable.first()
        {
            return Err(ToolError::Unreachable { why: why.clone() });
        }
        // What was not logged before the first line that is known was perhaps only not kept.
        let first = lines.iter().map(|line| line.at).min().unwrap_or(query.from);
        let split = Split { from: first.min(fault_from), fault_from, to };
        let mut templates: Vec<TemplateAnswer> = changes(&lines, split)
            .into_iter()
            .map(|change| TemplateAnswer {
                class: match change.class {
                    TemplateClass::New => "new",
                    TemplateClass::Burst => "burst",
                    TemplateClass::Vanished => "vanished",
                }
                .to_owned(),
                service: change.service,
                level: change.level,
                template: change.template,
                count: change.count,
                before: change.before,
                samples: change.samples,
            })
            .collect();
        truncated |= templates.len() > TEMPLATES_MAX;
        templates.truncate(TEMPLATES_MAX);
        Ok(AnalyzerAnswer {
            incident_id: input.incident_id,
            from: fault_from.to_string(),
            to: to.to_string(),
            lines: lines.len(),
            templates,
            truncated,
            unavailable,
        })
    }
}
