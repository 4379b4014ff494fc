//! Grafana: how it is, what a dashboard asks, and questions to its data sources. Samples for diagnosis come through its proxy
//! ([`crate::metrics::PrometheusSource::through_grafana`]).

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_tool::{CallContext, ReadTool, ToolError, TypedRead, TypedReadTool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::Endpoint;
use crate::metrics::check_uid;
use crate::source::SourceError;

const BODY_BYTES_MAX: usize = 16 << 20;
/// Panels of a dashboard that are told.
const PANELS_MAX: usize = 500;
/// Questions of one panel that are told.
const TARGETS_MAX: usize = 20;
/// How deep rows of panels are looked into; Grafana has one level.
const ROWS_DEEP_MAX: usize = 4;
const SERIES_MAX: usize = 200;
const POINTS_MAX: u32 = 1_000;
const RANGE_SECONDS_MAX: i64 = 7 * 24 * 3600;
const EXPRESSION_CHARACTERS_MAX: usize = 8_192;

/// The tools over a Grafana: `grafana-health`, `grafana-dashboard`, `grafana-query`.
pub fn grafana_tools(endpoint: &Endpoint) -> Vec<Arc<dyn ReadTool>> {
    vec![
        Arc::new(TypedReadTool::new(
            "grafana-health",
            "Grafana health",
            "Whether Grafana and its database are well, and its version.",
            Health(endpoint.clone()),
        )),
        Arc::new(TypedReadTool::new(
            "grafana-dashboard",
            "Grafana dashboard",
            "The panels of a dashboard and what they ask their data sources.",
            Dashboard(endpoint.clone()),
        )),
        Arc::new(TypedReadTool::new(
            "grafana-query",
            "Grafana query",
            "An expression over a time range, asked of a data source of Grafana.",
            Query(endpoint.clone()),
        )),
    ]
}

struct Health(Endpoint);

/// Input of `grafana-health`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HealthInput {}

/// Answer of `grafana-health`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct HealthAnswer {
    /// `ok` when it is well.
    database: String,
    /// Grafana's version.
    #[serde(default)]
    version: String,
}

#[async_trait]
impl TypedRead for Health {
    type Input = HealthInput;
    type Output = HealthAnswer;

    async fn read(&self, _input: HealthInput, context: &CallContext) -> Result<HealthAnswer, ToolError> {
        let access = &self.0.access;
        Ok(self.0.ask_json(access.get(access.url("api/health")?), BODY_BYTES_MAX, context).await?)
    }
}

struct Dashboard(Endpoint);

/// Input of `grafana-dashboard`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DashboardInput {
    /// The dashboard's uid, as it stands in its address.
    uid: String,
}

/// Answer of `grafana-dashboard`.
#[derive(Debug, Serialize, JsonSchema)]
struct DashboardAnswer {
    /// Its title.
    title: String,
    /// Its folder.
    folder: String,
    /// Its panels.
    panels: Vec<Panel>,
    /// Whether there are more.
    truncated: bool,
}

/// A panel.
#[derive(Debug, Serialize, JsonSchema)]
struct Panel {
    /// Its title.
    title: String,
    /// How it shows what it asks, such as `timeseries`.
    kind: String,
    /// The uid of its data source.
    data_source: String,
    /// What it asks.
    expressions: Vec<String>,
}

#[async_trait]
impl TypedRead for Dashboard {
    type Input = DashboardInput;
    type Output = DashboardAnswer;

    async fn read(&self, input: DashboardInput, context: &CallContext) -> Result<DashboardAnswer, ToolError> {
        check_uid(&input.uid).map_err(|error| ToolError::invalid("uid", error.to_string()))?;
        let access = &self.0.access;
        let request = access.get(access.url(&format!("api/dashboards/uid/{}", input.uid))?);
        let asked = self.0.ask_json::<Value>(request, BODY_BYTES_MAX, context).await;
        let document = match asked {
            Err(SourceError::Answered { status: 404, .. }) => {
                return Err(ToolError::NotFound {
                    what: format!("a dashboard with the uid `{}`", input.uid),
                });
            }
            other => other?,
        };
        let mut panels = Vec::new();
        collect(document.pointer("/dashboard/panels"), ROWS_DEEP_MAX, &mut panels);
        let truncated = panels.len() > PANELS_MAX;
        panels.truncate(PANELS_MAX);
        let title = text(&document, "/dashboard/title");
        Ok(DashboardAnswer { title, folder: text(&document, "/meta/folderTitle"), panels, truncated })
    }
}

fn text(document: &Value, pointer: &str) -> String {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Panels in the order of the dashboard; rows may hold others.
fn collect(panels: Option<&Value>, deep: usize, found: &mut Vec<Panel>) {
    for panel in panels.and_then(Value::as_array).into_iter().flatten() {
        if found.len() > PANELS_MAX {
            return;
        }
        let targets = panel.get("targets").and_then(Value::as_array).into_iter().flatten();
        let expressions: Vec<String> = targets
            .filter_map(|target| ["expr", "query", "rawSql"].iter().find_map(|key| target.get(key)?.as_str()))
            .take(TARGETS_MAX)
            .map(str::to_owned)
            .collect();
        if !expressions.is_empty() {
            let (title, kind) = (text(panel, "/title"), text(panel, "/type"));
            found.push(Panel { title, kind, data_source: text(panel, "/datasource/uid"), expressions });
        }
        if deep > 0 {
            collect(panel.get("panels"), deep - 1, found);
        }
    }
}

struct Query(Endpoint);

/// Input of `grafana-query`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct QueryInput {
    /// The uid of the data source.
    data_source: String,
    /// The expression, in the language of the data source: PromQL, LogQL.
    expression: String,
    /// The first instant, RFC 3339.
    from: String,
    /// The last instant, RFC 3339; at most seven days later.
    to: String,
}

/// Answer of `grafana-query`.
#[derive(Debug, Serialize, JsonSchema)]
struct QueryAnswer {
    /// What was found: labels, and pairs of milliseconds since 1970 and a value.
    series: Vec<QuerySeries>,
    /// Whether a limit left something out.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct QuerySeries {
    /// The name of the value.
    name: String,
    /// Its labels.
    labels: Value,
    /// The points: milliseconds since 1970 and a number, or a text where it is a line; null where there is no value.
    points: Vec<(i64, Value)>,
}

#[derive(Deserialize)]
struct Results {
    results: std::collections::BTreeMap<String, Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(default)]
    schema: Schema,
    #[serde(default)]
    data: FrameData,
}

#[derive(Default, Deserialize)]
struct Schema {
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    labels: Value,
}

#[derive(Default, Deserialize)]
struct FrameData {
    #[serde(default)]
    values: Vec<Vec<Value>>,
}

#[async_trait]
impl TypedRead for Query {
    type Input = QueryInput;
    type Output = QueryAnswer;

    async fn read(&self, input: QueryInput, context: &CallContext) -> Result<QueryAnswer, ToolError> {
        check_uid(&input.data_source)
            .map_err(|error| ToolError::invalid("data_source", error.to_string()))?;
        if !(1..=EXPRESSION_CHARACTERS_MAX).contains(&input.expression.trim().chars().count()) {
            let why = format!("must have 1 to {EXPRESSION_CHARACTERS_MAX} characters");
            return Err(ToolError::invalid("expression", why));
        }
        let (from, to) = (milliseconds("from", &input.from)?, milliseconds("to", &input.to)?);
        if to < from || (to - from) / 1000 > RANGE_SECONDS_MAX {
            return Err(ToolError::invalid("to", "must be at or after `from`, and within seven days"));
        }
        let query = json!({
            "refId": "A",
            "datasource": {"uid": input.data_source},
            "expr": input.expression.trim(),
            "range": true,
            "maxDataPoints": POINTS_MAX,
            "intervalMs": ((to - from) / i64::from(POINTS_MAX)).max(1000),
        });
        let body = json!({"queries": [query], "from": from.to_string(), "to": to.to_string()});
        let access = &self.0.access;
        // A question, although it is a POST: it changes nothing there and can be asked twice.
        let request = access.post(access.url("api/ds/query")?).json(&body);
        let results: Results = self.0.ask_json(request, BODY_BYTES_MAX, context).await?;
        let mut answer = QueryAnswer { series: Vec::new(), truncated: false };
        for outcome in results.results.into_values() {
            if let Some(error) = outcome.error.filter(|error| !error.is_empty()) {
                return Err(ToolError::upstream(i32::from(outcome.status.unwrap_or(500)), &error));
            }
            for frame in outcome.frames {
                read_frame(frame, &mut answer);
            }
        }
        Ok(answer)
    }
}

fn milliseconds(field: &str, text: &str) -> Result<i64, ToolError> {
    let at: Result<Timestamp, _> = text.parse();
    at.map(Timestamp::as_millisecond)
        .map_err(|_| ToolError::invalid(field, "must be a time such as 2026-05-01T12:00:00Z"))
}

/// A frame is a table by columns: one of times, and values beside it.
fn read_frame(frame: Frame, answer: &mut QueryAnswer) {
    let Frame { schema, data } = frame;
    let Some(times) = schema.fields.iter().position(|field| field.kind == "time") else { return };
    let Some(times) = data.values.get(times).cloned() else { return };
    for (field, values) in schema.fields.into_iter().zip(data.values) {
        if field.kind == "time" {
            continue;
        }
        if answer.series.len() >= SERIES_MAX {
            answer.truncated = true;
            return;
        }
        answer.truncated |= values.len() > POINTS_MAX as usize * 2;
        let points = times.iter().zip(values).filter_map(|(time, value)| {
            // Grafana's `NaN` and infinities stand elsewhere; what is neither number nor text is no value.
            let value = if value.is_number() || value.is_string() { value } else { Value::Null };
            Some((time.as_f64()? as i64, value))
        });
        let points = points.take(POINTS_MAX as usize * 2).collect();
        answer.series.push(QuerySeries { name: field.name, labels: field.labels, points });
    }
}
