//! Prometheus: an instant query with a range selector gives the raw samples, which `query_range` would not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::alert::Labels;
use quell_incident::evidence::{MetricQuery, POINTS_MAX, Point, Series, SeriesSet};
use quell_tool::CallContext;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{MetricSource, SERIES_MAX, check, selector, thin};
use crate::http::{Endpoint, answered, parse};
use crate::source::SourceError;

/// An answer at the most, in bytes.
const BODY_BYTES_MAX: usize = 32 << 20;
/// How long names are kept: a metric that is new is to be seen soon.
const NAMES_FOR: Duration = Duration::from_secs(10);
const UID_BYTES_MAX: usize = 40;

/// A Prometheus, or anything that speaks its query interface.
pub struct PrometheusSource {
    name: &'static str,
    endpoint: Endpoint,
    /// Held while they are read, so that many questions at once read them once.
    names: Mutex<Option<(Instant, Arc<BTreeSet<String>>)>>,
}

impl PrometheusSource {
    /// The Prometheus at that address.
    pub fn new(endpoint: impl Into<Endpoint>) -> Self {
        Self { name: "prometheus", endpoint: endpoint.into(), names: Mutex::default() }
    }

    /// The Prometheus that a Grafana has as its data source of this uid, through Grafana's proxy.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for a uid that is none.
    pub fn through_grafana(grafana: &Endpoint, uid: &str) -> Result<Self, SourceError> {
        check_uid(uid)?;
        let endpoint = grafana.below(&format!("api/datasources/proxy/uid/{uid}/"))?;
        Ok(Self { name: "grafana", ..Self::new(endpoint) })
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
struct NameValues {
    data: Vec<String>,
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
        self.name
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
        let access = &self.endpoint.access;
        let url = access.url("api/v1/query")?;
        let request = access.get(url).query(&[("query", words.as_str()), ("time", &format!("{time:.3}"))]);
        let (status, body) = self.endpoint.ask(request, BODY_BYTES_MAX, context).await?;
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

    async fn names(&self, context: &CallContext) -> Result<Option<Arc<BTreeSet<String>>>, SourceError> {
        let mut kept = self.names.lock().await;
        if let Some((read_at, names)) = kept.as_ref()
            && read_at.elapsed() < NAMES_FOR
        {
            return Ok(Some(Arc::clone(names)));
        }
        let access = &self.endpoint.access;
        let request = access.get(access.url("api/v1/label/__name__/values")?);
        let values: NameValues = self.endpoint.ask_json(request, BODY_BYTES_MAX, context).await?;
        let names: Arc<BTreeSet<String>> = Arc::new(values.data.into_iter().collect());
        *kept = Some((Instant::now(), Arc::clone(&names)));
        Ok(Some(names))
    }
}

/// Refuses what is no uid of a data source or a dashboard of Grafana, and would lead elsewhere in a path.
pub(crate) fn check_uid(uid: &str) -> Result<(), SourceError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=UID_BYTES_MAX).contains(&uid.len()) && uid.bytes().all(fits) {
        return Ok(());
    }
    let why =
        format!("`{}` is not a uid: 1 to {UID_BYTES_MAX} letters, digits, `-`, `_`", uid.escape_debug());
    Err(SourceError::Invalid { why })
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
