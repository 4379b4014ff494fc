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
    if !is_metric_name(&query.metric) {
        return invalid("the metric's name may have letters, digits, `_` and `:`".to_owned());
    }
    if query.labels.len() > LABELS_MAX {
        return invalid(format!("more than {LABELS_MAX} labels"));
    }
    for (name, _) in query.labels.iter() {
        if !is_metric_name(name) || name.contains(':') {
            return invalid("a label's name may have letters, digits and `_`".to_owned());
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

fn is_metric_name(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

/// A metric and its labels as PromQL has them, values escaped.
fn selector(query: &MetricQuery) -> String {
    let labels: Vec<String> =
        query.labels.iter().map(|(name, value)| format!("{name}={}", quoted(&value.for_people()))).collect();
    if labels.is_empty() { query.metric.clone() } else { format!("{}{{{}}}", query.metric, labels.join(",")) }
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
