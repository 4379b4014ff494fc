//! The tool `query-metrics`.

use std::sync::Arc;

use async_trait::async_trait;
use quell_incident::evidence::MetricQuery;
use quell_tool::{CallContext, Effect, ReadTool, ToolError, ToolSpec, parse_input};
use serde_json::{Value, json};

use super::MetricSource;

/// Asks a source of metrics for raw samples.
pub struct QueryMetrics {
    spec: ToolSpec,
    source: Arc<dyn MetricSource>,
}

impl QueryMetrics {
    /// The name that it is registered under.
    pub const NAME: &'static str = "query-metrics";

    /// The tool over that source.
    pub fn new(source: Arc<dyn MetricSource>) -> Self {
        let spec = ToolSpec {
            name: Self::NAME.to_owned(),
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
