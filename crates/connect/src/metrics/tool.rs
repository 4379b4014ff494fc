//! The tools `query-metrics` and `list-metrics`.

use std::sync::Arc;

use async_trait::async_trait;
use quell_incident::evidence::MetricQuery;
use quell_tool::{CallContext, Effect, ReadTool, ToolError, ToolSpec, TypedRead, parse_input};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::MetricSource;

/// Asks a source of metrics for raw samples.
pub struct QueryMetrics {
    spec: ToolSpec,
    source: Arc<dyn MetricSource>,
}

impl QueryMetrics {
    /// The name that the first source is registered under.
    pub const NAME: &'static str = "query-metrics";

    /// The tool over that source, under its usual name.
    pub fn new(source: Arc<dyn MetricSource>) -> Self {
        Self::named(Self::NAME, source)
    }

    /// The tool under another name, where there are several sources.
    pub fn named(name: &str, source: Arc<dyn MetricSource>) -> Self {
        let spec = ToolSpec {
            name: name.to_owned(),
            title: "Query metrics".to_owned(),
            description: "Raw samples of one metric in a time range, by labels that must be equal."
                .to_owned(),
            input_schema: json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["metric", "from", "to"],
                "properties": {
                    "metric": {"type": "string", "minLength": 1, "maxLength": 256, "description": "the metric's name"},
                    "labels": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                        "description": "labels that must be equal"
                    },
                    "from": {"type": "string", "format": "date-time", "description": "the first instant, RFC 3339"},
                    "to": {"type": "string", "format": "date-time", "description": "the last instant, RFC 3339"}
                }
            }),
            output_schema: json!({
                "type": "object",
                "required": ["source", "query", "series"],
                "properties": {
                    "source": {"type": "string"},
                    "query": {"type": "string", "description": "the query in the source's own words"},
                    "series": {"type": "array", "items": {
                        "type": "object",
                        "properties": {
                            "metric": {"type": "string"},
                            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                            "points": {"type": "array", "items": {
                                "type": "object",
                                "properties": {"at": {"type": "string"}, "value": {"type": "number"}}
                            }}
                        }
                    }},
                    "truncated": {"type": "boolean", "description": "whether a limit left something out"}
                }
            }),
            effect: Effect::ReadOnly,
        };
        Self { spec, source }
    }
}

#[async_trait]
impl ReadTool for QueryMetrics {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, input: Value, context: &CallContext) -> Result<Value, ToolError> {
        let query: MetricQuery = parse_input(input)?;
        let answer = self.source.series(&query, context).await?;
        serde_json::to_value(answer).map_err(|error| ToolError::Broken { why: error.to_string() })
    }
}

/// Names in one answer at the most.
const NAMES_MAX: u32 = 5_000;

/// Asks a source of metrics which metrics it has; make a tool of it by [`quell_tool::TypedReadTool`].
pub struct ListMetrics {
    source: Arc<dyn MetricSource>,
}

impl ListMetrics {
    /// The name that it is registered under.
    pub const NAME: &'static str = "list-metrics";

    /// The tool over that source.
    pub fn new(source: Arc<dyn MetricSource>) -> Self {
        Self { source }
    }
}

/// Input of `list-metrics`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListMetricsInput {
    /// Names with this text in them only.
    #[serde(default)]
    contains: Option<String>,
    /// Names at the most; 1,000 unless it is given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 5000))]
    limit: Option<u32>,
}

/// Answer of `list-metrics`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListMetricsAnswer {
    /// Which source answered.
    source: String,
    /// The names, sorted.
    names: Vec<String>,
    /// Whether there are more.
    truncated: bool,
}

#[async_trait]
impl TypedRead for ListMetrics {
    type Input = ListMetricsInput;
    type Output = ListMetricsAnswer;

    async fn read(&self, input: Self::Input, context: &CallContext) -> Result<Self::Output, ToolError> {
        let all = self.source.names(context).await?.ok_or_else(|| ToolError::NotFound {
            what: format!("a list of metrics of the source `{}`", self.source.name()),
        })?;
        let limit = input.limit.unwrap_or(1_000).min(NAMES_MAX) as usize;
        let wanted = |name: &&String| input.contains.as_ref().is_none_or(|text| name.contains(text.as_str()));
        let mut names: Vec<String> = all.iter().filter(wanted).take(limit + 1).cloned().collect();
        let truncated = names.len() > limit;
        names.truncate(limit);
        Ok(ListMetricsAnswer { source: self.source.name().to_owned(), names, truncated })
    }
}
