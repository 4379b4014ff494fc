//! Sources of metrics: raw samples of one metric in a time range. Every reduction is done by whoever asked.

mod exposition;
mod prometheus;
mod prometheus_tools;
mod scrape;
mod tool;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use quell_incident::evidence::{MetricQuery, Point, SeriesSet};
use quell_tool::CallContext;

pub use crate::source::Now;
use crate::source::SourceError;

pub use exposition::{Exposition, ExpositionError, Sample, parse as parse_exposition};
pub use prometheus::PrometheusSource;
pub(crate) use prometheus::check_uid;
pub use prometheus_tools::prometheus_tools;
pub use scrape::{ScrapeOptions, ScrapeSource};
pub use tool::{ListMetrics, QueryMetrics};

/// Series in one answer at the most.
pub const SERIES_MAX: usize = 1_000;
/// A time range at the most, in seconds.
const RANGE_SECONDS_MAX: i64 = 7 * 24 * 3600;
/// Labels in one query at the most.
const LABELS_MAX: usize = 32;

/// A system that can be asked for samples.
#[async_trait]
pub trait MetricSource: Send + Sync {
    /// What it is called in evidence: `prometheus`, `scrape`.
    fn name(&self) -> &str;

    /// The query in the source's own words, also when it cannot be answered.
    fn words(&self, query: &MetricQuery) -> String;

    /// The samples of the series that match, in the order of time, finite, at most
    /// [`POINTS_MAX`](quell_incident::evidence::POINTS_MAX) of each and at most [`SERIES_MAX`] series.
    ///
    /// # Errors
    /// [`SourceError`]; a metric that does not exist is an answer without series.
    async fn series(&self, query: &MetricQuery, context: &CallContext) -> Result<SeriesSet, SourceError>;

    /// The names of the metrics that it has, a few seconds old at the most; `None` where it cannot tell. Whoever is going to ask for
    /// many metrics leaves out those that do not exist.
    ///
    /// # Errors
    /// [`SourceError`]; then any metric may exist.
    async fn names(&self, _context: &CallContext) -> Result<Option<Arc<BTreeSet<String>>>, SourceError> {
        Ok(None)
    }
}

/// Refuses a query that could not be put into words safely or would be too large.
fn check(query: &MetricQuery) -> Result<(), SourceError> {
    let invalid = |why: String| Err(SourceError::Invalid { why });
    if !is_name(&query.metric) {
        return invalid(NAME_EXPECTED.to_owned());
    }
    if query.labels.len() > LABELS_MAX {
        return invalid(format!("more than {LABELS_MAX} labels"));
    }
    for (name, _) in query.labels.iter() {
        if !is_name(name) {
            return invalid(NAME_EXPECTED.to_owned());
        }
    }
    let seconds = query.to.duration_since(query.from).as_secs();
    if query.to < query.from || seconds > RANGE_SECONDS_MAX {
        return invalid(format!(
            "the time range must end after it begins and within {RANGE_SECONDS_MAX} seconds"
        ));
    }
    Ok(())
}

const NAME_EXPECTED: &str = "the name of a metric or a label has 1 to 256 bytes and no control characters";

/// Since Prometheus 3 any text is a name, such as OpenTelemetry's `http.server.duration`.
fn is_name(name: &str) -> bool {
    (1..=256).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Whether a name may be written without quotes.
fn is_plain(name: &str, also: &[u8]) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || also.contains(&byte))
}

/// A metric and its labels as PromQL has them, values escaped, and names in quotes that have other signs than they used to.
fn selector(query: &MetricQuery) -> String {
    let name_of = |name: &str| if is_plain(name, b"") { name.to_owned() } else { quoted(name) };
    let labels =
        query.labels.iter().map(|(name, value)| format!("{}={}", name_of(name), quoted(&value.for_people())));
    let labels: Vec<String> = labels.collect();
    match (is_plain(&query.metric, b":"), labels.is_empty()) {
        (true, true) => query.metric.clone(),
        (true, false) => format!("{}{{{}}}", query.metric, labels.join(",")),
        (false, _) => {
            let all: Vec<String> = std::iter::once(quoted(&query.metric)).chain(labels).collect();
            format!("{{{}}}", all.join(","))
        }
    }
}

/// A string literal of PromQL.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}

/// At most `points_max` points, evenly chosen, the newest among them; whether any was left out.
fn thin(points: &mut Vec<Point>, points_max: usize) -> bool {
    let step = points.len().div_ceil(points_max.max(1)).max(1);
    if step == 1 {
        return false;
    }
    let kept: Vec<Point> = points.iter().rev().step_by(step).copied().collect();
    *points = kept.into_iter().rev().collect();
    true
}
