//! The tool `platform-state`.

use std::sync::Arc;

use async_trait::async_trait;
use quell_incident::surroundings::PlatformQuery;
use quell_tool::{CallContext, Effect, ReadTool, ToolError, ToolSpec, parse_input};
use serde_json::{Value, json};

use super::PlatformSource;

/// Asks a platform how its workloads are.
pub struct PlatformState {
    spec: ToolSpec,
    source: Arc<dyn PlatformSource>,
}

impl PlatformState {
    /// The name that it is registered under.
    pub const NAME: &'static str = "platform-state";

    /// The tool over that platform.
    pub fn new(source: Arc<dyn PlatformSource>) -> Self {
        let texts = |names: &[&str]| -> Value {
            names
                .iter()
                .map(|name| ((*name).to_owned(), json!({"type": "string"})))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let spec = ToolSpec {
            name: Self::NAME.to_owned(),
            title: "Platform state".to_owned(),
            description: "Pods, deployments with their rollouts, nodes, and events of a time range."
                .to_owned(),
            input_schema: json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["from", "to"],
                "properties": {
                    "from": {"type": "string", "format": "date-time", "description": "events from this instant on, RFC 3339"},
                    "to": {"type": "string", "format": "date-time", "description": "events until this instant"},
                    "namespace": {"type": ["string", "null"], "description": "in this namespace only"},
                    "service": {"type": ["string", "null"], "description": "of this service only"}
                }
            }),
            output_schema: json!({
                "type": "object",
                "required": ["source", "query", "objects", "events"],
                "properties": {
                    "source": {"type": "string"},
                    "query": {"type": "string", "description": "the query in the source's own words"},
                    "objects": {"type": "array", "items": {
                        "type": "object",
                        "properties": texts(&["kind", "namespace", "name", "service", "node", "state", "last_exit", "revision"])
                    }},
                    "events": {"type": "array", "items": {
                        "type": "object",
                        "properties": texts(&["at", "kind", "namespace", "name", "service", "reason", "message"])
                    }},
                    "truncated": {"type": "boolean", "description": "whether something was left out"}
                }
            }),
            effect: Effect::ReadOnly,
        };
        Self { spec, source }
    }
}

#[async_trait]
impl ReadTool for PlatformState {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, input: Value, context: &CallContext) -> Result<Value, ToolError> {
        let query: PlatformQuery = parse_input(input)?;
        let answer = self.source.state(&query, context).await?;
        serde_json::to_value(answer).map_err(|error| ToolError::Broken { why: error.to_string() })
    }
}
