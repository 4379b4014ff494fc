//! Prometheus' own questions as tools, for agents and people who write PromQL: `prometheus-query`, `-query-range`, `-series`, `-rules`,
//! `-alerts`, `-targets`. Answers keep Prometheus' form, bounded: samples are text there, so that `NaN` and `+Inf` stay what they are.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_tool::{CallContext, ReadTool, ToolError, TypedRead, TypedReadTool};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{RANGE_SECONDS_MAX, SERIES_MAX};
use crate::http::{Endpoint, answered, parse};
use crate::source::SourceError;

/// An answer at the most, in bytes.
const BODY_BYTES_MAX: usize = 32 << 20;
/// Points of one series at the most; the step is made longer where it has to be.
const STEPS_MAX: f64 = 1_000.0;
const STEP_SECONDS_MIN: f64 = 1.0;
const QUERY_CHARACTERS_MAX: usize = 8_192;
/// Selectors in one question for series.
const MATCHES_MAX: usize = 16;

/// The tools over a Prometheus.
pub fn prometheus_tools(endpoint: impl Into<Endpoint>) -> Vec<Arc<dyn ReadTool>> {
    let api = Api { endpoint: endpoint.into() };
    vec![
        tool(
            "prometheus-query",
            "Prometheus query",
            "The value of a PromQL expression at an instant.",
            Query(api.clone()),
        ),
        tool(
            "prometheus-query-range",
            "Prometheus range query",
            "A PromQL expression over a time range, at regular steps.",
            QueryRange(api.clone()),
        ),
        tool(
            "prometheus-series",
            "Prometheus series",
            "Which series match selectors, by their labels.",
            FindSeries(api.clone()),
        ),
        tool(
            "prometheus-rules",
            "Prometheus rules",
            "Alerting and recording rules, and how they are.",
            Rules(api.clone()),
        ),
        tool(
            "prometheus-alerts",
            "Prometheus alerts",
            "Alerts that are pending or firing in Prometheus.",
            Alerts(api.clone()),
        ),
        tool(
            "prometheus-targets",
            "Prometheus targets",
            "What is scraped, and whether that works; those that fail first.",
            Targets(api),
        ),
    ]
}

fn tool<T: TypedRead + 'static>(name: &str, title: &str, description: &str, inner: T) -> Arc<dyn ReadTool> {
    Arc::new(TypedReadTool::new(name, title, description, inner))
}

#[derive(Clone)]
struct Api {
    endpoint: Endpoint,
}

#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(default = "Option::default")]
    data: Option<T>,
    #[serde(default)]
    warnings: Vec<String>,
}

impl Api {
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        context: &CallContext,
    ) -> Result<(T, Vec<String>), ToolError> {
        let access = &self.endpoint.access;
        let request = access.get(access.url(path)?).query(parameters);
        let (status, body) = self.endpoint.ask(request, BODY_BYTES_MAX, context).await?;
        if !status.is_success() {
            return Err(answered(status, &body).into());
        }
        let envelope: Envelope<T> = parse(&body)?;
        let data =
            envelope.data.ok_or_else(|| SourceError::Malformed { why: "it has no data".to_owned() })?;
        Ok((data, envelope.warnings))
    }
}

fn instant(field: &str, text: &str) -> Result<f64, ToolError> {
    let at: Timestamp =
        text.parse().map_err(|_| ToolError::invalid(field, "must be a time such as 2026-05-01T12:00:00Z"))?;
    Ok(at.as_millisecond() as f64 / 1000.0)
}

fn expression(query: &str) -> Result<&str, ToolError> {
    match query.trim() {
        "" => Err(ToolError::invalid("query", "must not be empty")),
        long if long.chars().count() > QUERY_CHARACTERS_MAX => {
            Err(ToolError::invalid("query", format!("must have at most {QUERY_CHARACTERS_MAX} characters")))
        }
        query => Ok(query),
    }
}

/// A time range in seconds since 1970.
fn range(from: &str, to: &str) -> Result<(f64, f64), ToolError> {
    let (begin, end) = (instant("from", from)?, instant("to", to)?);
    if end < begin || end - begin > RANGE_SECONDS_MAX as f64 {
        let why = format!("must be at or after `from`, and within {RANGE_SECONDS_MAX} seconds");
        return Err(ToolError::invalid("to", why));
    }
    Ok((begin, end))
}

/// The result of a query.
#[derive(Debug, Serialize, JsonSchema)]
struct Answer {
    /// The expression that was asked.
    query: String,
    /// `matrix`, `vector`, `scalar` or `string`.
    result_type: String,
    /// Series with `metric` (labels) and `value` or `values`: pairs of seconds since 1970 and a number as text.
    result: Value,
    /// Whether series were left out because of a limit.
    truncated: bool,
    /// What Prometheus has to say about the question.
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

fn answer(query: &str, (data, warnings): (Data, Vec<String>)) -> Answer {
    let Data { result_type, mut result } = data;
    let mut truncated = false;
    // A scalar is a list as well, of its time and its value.
    if matches!(result_type.as_str(), "matrix" | "vector")
        && let Value::Array(series) = &mut result
    {
        truncated = series.len() > SERIES_MAX;
        series.truncate(SERIES_MAX);
    }
    Answer { query: query.to_owned(), result_type, result, truncated, warnings }
}

struct Query(Api);

/// Input of `prometheus-query`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct QueryInput {
    /// The PromQL expression.
    query: String,
    /// The instant, RFC 3339; now unless it is given.
    #[serde(default)]
    time: Option<String>,
}

#[async_trait]
impl TypedRead for Query {
    type Input = QueryInput;
    type Output = Answer;

    async fn read(&self, input: QueryInput, context: &CallContext) -> Result<Answer, ToolError> {
        let query = expression(&input.query)?;
        let mut parameters = vec![("query", query.to_owned())];
        if let Some(time) = &input.time {
            parameters.push(("time", format!("{:.3}", instant("time", time)?)));
        }
        Ok(answer(query, self.0.get("api/v1/query", &parameters, context).await?))
    }
}

struct QueryRange(Api);

/// Input of `prometheus-query-range`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct QueryRangeInput {
    /// The PromQL expression.
    query: String,
    /// The first instant, RFC 3339.
    from: String,
    /// The last instant, RFC 3339; at most seven days later.
    to: String,
    /// Seconds between two values; without it, and where it would give too many, it is chosen.
    #[serde(default)]
    step_seconds: Option<f64>,
}

#[async_trait]
impl TypedRead for QueryRange {
    type Input = QueryRangeInput;
    type Output = Answer;

    async fn read(&self, input: QueryRangeInput, context: &CallContext) -> Result<Answer, ToolError> {
        let query = expression(&input.query)?;
        let (from, to) = range(&input.from, &input.to)?;
        let step = input.step_seconds.unwrap_or(STEP_SECONDS_MIN);
        if !(step.is_finite() && step > 0.0) {
            return Err(ToolError::invalid("step_seconds", "must be above zero"));
        }
        let step = step.max((to - from) / STEPS_MAX).max(0.001);
        let parameters = [
            ("query", query.to_owned()),
            ("start", format!("{from:.3}")),
            ("end", format!("{to:.3}")),
            ("step", format!("{step:.3}")),
        ];
        Ok(answer(query, self.0.get("api/v1/query_range", &parameters, context).await?))
    }
}

struct FindSeries(Api);

/// Input of `prometheus-series`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SeriesInput {
    /// Selectors such as `up{job="app"}`; a series that matches any of them is found.
    #[schemars(length(min = 1, max = 16))]
    matches: Vec<String>,
    /// The first instant, RFC 3339.
    from: String,
    /// The last instant, RFC 3339.
    to: String,
}

/// Answer of the tools that list.
#[derive(Debug, Serialize, JsonSchema)]
struct List {
    /// What was found.
    items: Vec<Value>,
    /// Whether there are more.
    truncated: bool,
}

fn list(mut items: Vec<Value>) -> List {
    let truncated = items.len() > SERIES_MAX;
    items.truncate(SERIES_MAX);
    List { items, truncated }
}

#[async_trait]
impl TypedRead for FindSeries {
    type Input = SeriesInput;
    type Output = List;

    async fn read(&self, input: SeriesInput, context: &CallContext) -> Result<List, ToolError> {
        let (from, to) = range(&input.from, &input.to)?;
        if input.matches.is_empty() || input.matches.len() > MATCHES_MAX {
            return Err(ToolError::invalid("matches", format!("must be 1 to {MATCHES_MAX} selectors")));
        }
        let mut parameters = vec![
            ("start", format!("{from:.3}")),
            ("end", format!("{to:.3}")),
            // Servers before 2.52 do not know it and send all.
            ("limit", (SERIES_MAX + 1).to_string()),
        ];
        for selector in &input.matches {
            parameters.push(("match[]", expression(selector)?.to_owned()));
        }
        let (series, _): (Vec<Value>, _) = self.0.get("api/v1/series", &parameters, context).await?;
        Ok(list(series))
    }
}

struct Rules(Api);

/// Input of `prometheus-rules`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RulesInput {
    /// Rules whose name has this text in it only.
    #[serde(default)]
    contains: Option<String>,
}

#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    name: String,
    #[serde(default)]
    rules: Vec<Value>,
}

#[async_trait]
impl TypedRead for Rules {
    type Input = RulesInput;
    type Output = List;

    async fn read(&self, input: RulesInput, context: &CallContext) -> Result<List, ToolError> {
        let (data, _): (Groups, _) = self.0.get("api/v1/rules", &[], context).await?;
        let mut items = Vec::new();
        for group in data.groups {
            for mut rule in group.rules {
                let name = rule.get("name").and_then(Value::as_str).unwrap_or_default();
                if input.contains.as_ref().is_some_and(|text| !name.contains(text.as_str())) {
                    continue;
                }
                if let Value::Object(fields) = &mut rule {
                    // The tool for alerts has them.
                    let alerts = fields.remove("alerts").and_then(|alerts| alerts.as_array().map(Vec::len));
                    fields.insert("alerts".to_owned(), json!(alerts.unwrap_or(0)));
                    fields.insert("group".to_owned(), json!(group.name));
                }
                items.push(rule);
            }
        }
        Ok(list(items))
    }
}

struct Alerts(Api);

/// Input of `prometheus-alerts`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AlertsInput {
    /// `pending` or `firing`; both unless it is given.
    #[serde(default)]
    state: Option<String>,
}

#[derive(Deserialize)]
struct AlertData {
    #[serde(default)]
    alerts: Vec<Value>,
}

#[async_trait]
impl TypedRead for Alerts {
    type Input = AlertsInput;
    type Output = List;

    async fn read(&self, input: AlertsInput, context: &CallContext) -> Result<List, ToolError> {
        if input.state.as_deref().is_some_and(|state| !matches!(state, "pending" | "firing")) {
            return Err(ToolError::invalid("state", "must be pending or firing"));
        }
        let (mut data, _): (AlertData, _) = self.0.get("api/v1/alerts", &[], context).await?;
        if let Some(state) = &input.state {
            data.alerts.retain(|alert| alert.get("state").and_then(Value::as_str) == Some(state));
        }
        Ok(list(data.alerts))
    }
}

struct Targets(Api);

/// Input of `prometheus-targets`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TargetsInput {
    /// Targets of this job only.
    #[serde(default)]
    job: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetData {
    #[serde(default)]
    active_targets: Vec<Value>,
}

#[async_trait]
impl TypedRead for Targets {
    type Input = TargetsInput;
    type Output = List;

    async fn read(&self, input: TargetsInput, context: &CallContext) -> Result<List, ToolError> {
        let parameters = [("state", "active".to_owned())];
        let (mut data, _): (TargetData, _) = self.0.get("api/v1/targets", &parameters, context).await?;
        let text = |target: &Value, pointer: &str| {
            target.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        if let Some(job) = &input.job {
            data.active_targets.retain(|target| text(target, "/labels/job") == *job);
        }
        data.active_targets.sort_by_key(|target| text(target, "/health") == "up");
        for target in &mut data.active_targets {
            if let Value::Object(fields) = target {
                // What a target was before relabelling is long and says nothing of how it is.
                fields.remove("discoveredLabels");
            }
        }
        Ok(list(data.active_targets))
    }
}
