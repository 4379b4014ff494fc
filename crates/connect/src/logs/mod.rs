//! Sources of log lines.

mod access;
mod batch;
mod clock;
mod cursor;
mod elasticsearch;
mod fields;
mod file;
mod gathered;
mod journal;
mod level;
mod logfmt;
mod loki;
mod names;
mod parse;
mod record;
mod simulator;
mod splunk;
mod syslog;
mod text_level;
mod time;
mod time_field;
mod tool;

use async_trait::async_trait;
use quell_incident::evidence::{LOG_LINES_MAX, LogLines, LogQuery};
use quell_tool::CallContext;

use crate::source::SourceError;

pub use elasticsearch::{ElasticsearchLogs, ElasticsearchOptions};
pub use fields::FieldMap;
pub use file::{FileLogs, FileLogsOptions};
pub use journal::{JournalLogs, JournalLogsOptions};
pub use loki::{LokiLogs, LokiOptions};
pub use simulator::SimulatorLogs;
pub use splunk::{SplunkLogs, SplunkOptions};
pub use tool::SearchLogs;

/// A message at the most, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 2_000;
/// A name of a service, instance or level at the most, in characters.
const NAME_CHARACTERS_MAX: usize = 200;

/// A system that can be asked for log lines.
#[async_trait]
pub trait LogSource: Send + Sync {
    /// What it is called in evidence: `elasticsearch`, `loki`, `file`, ...
    fn name(&self) -> &str;

    /// The query in the source's own words, also when it cannot be answered.
    fn words(&self, query: &LogQuery) -> String;

    /// The newest lines that match, in the order of time.
    ///
    /// # Errors
    /// [`SourceError`]; no line that matches is an answer without lines.
    async fn lines(&self, query: &LogQuery, context: &CallContext) -> Result<LogLines, SourceError>;
}

fn check(query: &LogQuery) -> Result<(), SourceError> {
    if query.to < query.from {
        return Err(SourceError::Invalid { why: "the time range must end after it begins".to_owned() });
    }
    if query.lines_max == 0 || query.lines_max as usize > LOG_LINES_MAX {
        return Err(SourceError::Invalid { why: format!("`lines_max` must be 1 to {LOG_LINES_MAX}") });
    }
    Ok(())
}

/// Telemetry's text, cut.
fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text.to_owned(),
    }
}

/// The query for people.
fn shown(query: &LogQuery) -> String {
    let mut words = format!("since={} until={}", query.from, query.to);
    if let Some(service) = &query.service {
        words.push_str(&format!(" service={}", cut(service, NAME_CHARACTERS_MAX)));
    }
    if let Some(text) = &query.contains {
        words.push_str(&format!(" contains={}", cut(text, NAME_CHARACTERS_MAX)));
    }
    words
}
