//! What was looked at: series, log lines and their analysis, each with the query that anyone can repeat.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::{Labels, Untrusted};
use crate::surroundings::{ChangeRecord, HealthSet, PlatformSet, Topology};

/// Points in one series of evidence at the most; a longer one is thinned by its reader, which says so.
pub const POINTS_MAX: usize = 2_000;
/// Lines kept of one log query at the most.
pub const LOG_LINES_MAX: usize = 10_000;

/// A question to a source of metrics: raw samples of one metric. Every reduction (rate, level, trend) is done by ourselves from
/// the samples, so that Prometheus and a scraped exporter give the same answer. Input of the tool `query-metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricQuery {
    /// The metric's name, such as `db_query_duration_seconds`.
    pub metric: String,
    /// Labels that must be equal.
    #[serde(default)]
    pub labels: Labels,
    /// The first instant.
    pub from: Timestamp,
    /// The last instant.
    pub to: Timestamp,
}

/// One series of raw samples in the order of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The metric's name.
    pub metric: String,
    /// Its labels without the name; telemetry's text.
    pub labels: Labels,
    /// Samples; a value that is not finite is left out by the reader.
    pub points: Vec<Point>,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it was taken.
    pub at: Timestamp,
    /// Its value, finite.
    pub value: f64,
}

/// The answer of the tool `query-metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesSet {
    /// Which source answered: `prometheus`, `scrape`.
    pub source: String,
    /// The query in that source's own words, for people to repeat.
    pub query: String,
    /// The series that match.
    pub series: Vec<Series>,
    /// Whether something was left out because of a limit.
    #[serde(default)]
    pub truncated: bool,
}

/// A question to a source of logs. Input of the tool `search-logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The first instant.
    pub from: Timestamp,
    /// The last instant.
    pub to: Timestamp,
    /// Lines of this service only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Lines that contain this text only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// The newest lines, at most this many.
    pub lines_max: u32,
}

/// One log line; all of its text is telemetry's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// `error`, `warn`, `info`, ... in lower case; empty when unknown.
    #[serde(default)]
    pub level: String,
    /// The service that wrote it; empty when unknown.
    #[serde(default)]
    pub service: String,
    /// The host or instance; empty when unknown.
    #[serde(default)]
    pub instance: String,
    /// The message, cut at 2,000 characters.
    pub message: String,
}

/// The answer of the tool `search-logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLines {
    /// Which source answered: `file`, `simulator`.
    pub source: String,
    /// The query in that source's own words.
    pub query: String,
    /// The lines in the order of time.
    pub lines: Vec<LogLine>,
    /// Whether something was left out because of a limit.
    #[serde(default)]
    pub truncated: bool,
    /// Lines that were there and could not be used, by what they lack: they may have said something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// Lines of an answer that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// What they lack, such as `without a time`.
    pub what: String,
    /// One of them; telemetry's text.
    pub sample: String,
}

impl LeftOut {
    /// In words, such as `312 lines without a time left out: ...`.
    pub fn told(&self) -> String {
        let Self { count, what, sample } = self;
        let lines = if *count == 1 { "line" } else { "lines" };
        format!("{count} {lines} {what} left out: {}", Untrusted::new(sample).for_people())
    }
}

/// All that was gathered for one diagnosis. The engines are pure functions of this, so a past incident can be diagnosed again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvidenceSet {
    /// Answers of metric sources.
    pub metrics: Vec<SeriesSet>,
    /// Answers of log sources.
    pub logs: Vec<LogLines>,
    /// Answers of platforms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platform: Vec<PlatformSet>,
    /// Answers of health checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<HealthSet>,
    /// What was changed on purpose, in the order of time, as the coordinator told it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeRecord>,
    /// Who calls whom.
    #[serde(default)]
    pub topology: Topology,
    /// What could not be fetched: part of the evidence, since "no data" is not "healthy".
    pub unavailable: Vec<Unavailable>,
}

/// A source that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// Which source.
    pub source: String,
    /// What it was asked.
    pub query: String,
    /// Why there is no answer.
    pub why: String,
}
