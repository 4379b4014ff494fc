//! The tool `search-logs`.

use std::sync::Arc;

use async_trait::async_trait;
use quell_incident::evidence::{LOG_LINES_MAX, LogQuery};
use quell_tool::{CallContext, Effect, ReadTool, ToolError, ToolSpec, parse_input};
use serde_json::{Value, json};

use super::LogSource;

/// Asks a source of logs for lines.
pub struct SearchLogs {
    spec: ToolSpec,
    source: Arc<dyn LogSource>,
}

impl SearchLogs {
    /// The name that the first source is registered under.
    pub const NAME: &'static str = "search-logs";

    /// The tool over that source, under its usual name.
    pub fn new(source: Arc<dyn LogSource>) -> Self {
        Self::named(Self::NAME, source)
    }

    /// The tool under another name, where there are several sources.
    pub fn named(name: &str, source: Arc<dyn LogSource>) -> Self {
        let spec = ToolSpec {
            name: name.to_owned(),
            title: "Search logs".to_owned(),
            description: "The newest log lines in a time range, by service and text.".to_owned(),
            input_schema: json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["from", "to", "lines_max"],
                "properties": {
                    "from": {"type": "string", "format": "date-time", "description": "the first instant, RFC 3339"},
                    "to": {"type": "string", "format": "date-time", "description": "the last instant, RFC 3339"},
                    "service": {"type": ["string", "null"], "description": "lines of this service only"},
                    "contains": {"type": ["string", "null"], "description": "lines with this text only"},
                    "lines_max": {"type": "integer", "minimum": 1, "maximum": LOG_LINES_MAX}
                }
            }),
            output_schema: json!({
                "type": "object",
                "required": ["source", "query", "lines"],
                "properties": {
                    "source": {"type": "string"},
                    "query": {"type": "string", "description": "the query in the source's own words"},
                    "lines": {"type": "array", "items": {
                        "type": "object",
                        "properties": {
                            "at": {"type": "string"},
                            "level": {"type": "string"},
                            "service": {"type": "string"},
                            "instance": {"type": "string"},
                            "message": {"type": "string"}
                        }
                    }},
                    "truncated": {"type": "boolean", "description": "whether a limit left something out"},
                    "left_out": {"type": "array", "description": "lines that could not be used", "items": {
                        "type": "object",
                        "properties": {
                            "count": {"type": "integer"},
                            "what": {"type": "string"},
                            "sample": {"type": "string"}
                        }
                    }}
                }
            }),
            effect: Effect::ReadOnly,
        };
        Self { spec, source }
    }
}

#[async_trait]
impl ReadTool for SearchLogs {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, input: Value, context: &CallContext) -> Result<Value, ToolError> {
        let query: LogQuery = parse_input(input)?;
        let answer = self.source.lines(&query, context).await?;
        serde_json::to_value(answer).map_err(|error| ToolError::Broken { why: error.to_string() })
    }
}
