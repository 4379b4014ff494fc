//! Prometheus: an instant query with a range selector gives the raw samples, which `query_range` would not.

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::alert::Labels;
use quell_incident::evidence::{MetricQuery, POINTS_MAX, Point, Series, SeriesSet};
use quell_tool::CallContext;
use serde::Deserialize;

use super::{MetricSource, SERIES_MAX, check, selector, thin};
use crate::http::{Access, answered, fetch, parse};
use crate::source::SourceError;

/// An answer at the most, in bytes.
const BODY_BYTES_MAX: usize = 32 << 20;

/// A Prometheus, or anything that speaks its query interface.
pub struct PrometheusSource {
    access: Access,
}

impl PrometheusSource {
    /// The Prometheus at that address.
    pub fn new(access: Access) -> Self {
        Self { access }
    }
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Matrix {
    #[serde(default)]
    metric: Labels,
    // Left out by Prometheus where a series has native histograms only.
    #[serde(default)]
    values: Vec<(f64, String)>,
}

#[async_trait]
impl MetricSource for PrometheusSource {
    fn name(&self) -> &str {
        "prometheus"
    }

    fn words(&self, query: &MetricQuery) -> String {
        let milliseconds = query.to.as_millisecond() - query.from.as_millisecond();
        // A range of zero is not allowed; the shortest is what "at this instant" means.
        format!("{}[{}ms]", selector(query), milliseconds.max(1))
    }

    async fn series(&self, query: &MetricQuery, context: &CallContext) -> Result<SeriesSet, SourceError> {
        check(query)?;
        let words = self.words(query);
        let time = query.to.as_millisecond() as f64 / 1000.0;
        let url = self.access.url("api/v1/query")?;
        let request =
            self.access.get(url).query(&[("query", words.as_str()), ("time", &format!("{time:.3}"))]);
        let (status, body) = fetch(request, BODY_BYTES_MAX, context.remaining()).await?;
        let envelope: Envelope = match parse(&body) {
            Ok(envelope) => envelope,
            // A proxy's error page is no answer of Prometheus, and its status says more than its form.
            Err(_) if !status.is_success() => return Err(answered(status, &body)),
            Err(error) => return Err(error),
        };
        if envelope.status != "success" || !status.is_success() {
            let why = envelope.error.unwrap_or_else(|| "no reason was given".to_owned());
            return Err(answered(status, why.as_bytes()));
        }
        let data = envelope.data.ok_or_else(|| malformed("it has no data"))?;
        if data.result_type != "matrix" {
            return Err(malformed(&format!("a matrix was expected, not `{}`", data.result_type)));
        }
        let result: Vec<Matrix> =
            serde_json::from_value(data.result).map_err(|error| malformed(&error.to_string()))?;
        let mut truncated = result.len() > SERIES_MAX;
        let series =
            result.into_iter().take(SERIES_MAX).map(|one| series(one, query, &mut truncated)).collect();
        Ok(SeriesSet { source: self.name().to_owned(), query: words, series, truncated })
    }
}

fn series(matrix: Matrix, query: &MetricQuery, truncated: &mut bool) -> Series {
    let labels = matrix
        .metric
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| (name.to_owned(), value.for_people()))
        .collect();
    let mut points: Vec<Point> = matrix
        .values
        .iter()
        .filter_map(|(seconds, value)| {
            // Also `NaN`, `+Inf` and markers of staleness are text here; what is not finite is left out.
            let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
            let at = Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()?;
            (at >= query.from && at <= query.to).then_some(Point { at, value })
        })
        .collect();
    points.sort_by_key(|point| point.at);
    *truncated |= thin(&mut points, POINTS_MAX);
    Series { metric: query.metric.clone(), labels, points }
}

fn malformed(why: &str) -> SourceError {
    SourceError::Malformed { why: why.to_owned() }
}
