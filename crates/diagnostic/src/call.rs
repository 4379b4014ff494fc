//! The skill `tool`: calls one of the agent's read-only tools, or says which there are.

use std::sync::Arc;

use async_trait::async_trait;
use quell_a2a::{A2aError, Message, Outcome, Skill, SkillError, Work};
use quell_incident::document;
use quell_tool::{CallContext, check_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::skill::{Current, Means};

/// The id of the skill.
pub(crate) const TOOL: &str = "tool";
/// The schema of its message.
const CALL_SCHEMA: &str = "quell/tool-call/v1";
/// The names of its artifacts.
const ANSWER: &str = "answer";
const TOOLS: &str = "tools";
/// An answer at the most, in bytes of JSON: what a client takes is more.
const ANSWER_BYTES_MAX: usize = 4 << 20;

pub(crate) struct CallTool {
    pub(crate) current: Arc<Current>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    /// Looked at beforehand.
    #[serde(rename = "schema")]
    _schema: String,
    /// Without one the tools are listed.
    #[serde(default)]
    tool: Option<String>,
    #[serde(default)]
    input: Option<Value>,
}

#[async_trait]
impl Skill for CallTool {
    fn id(&self) -> &str {
        TOOL
    }

    fn check(&self, message: &Message) -> Result<(), A2aError> {
        call(message.data(), &self.current.get())
            .map(drop)
            .map_err(|(field, why)| A2aError::invalid(field, why))
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        let means = self.current.get();
        let call = call(work.data(), &means)
            .map_err(|(field, why)| SkillError::rejected(format!("{field}: {why}")))?;
        let registry = &means.tools.registry;
        let Some(tool) = call.tool else {
            let tools: Vec<Value> = registry.list().into_iter().map(|spec| spec.to_mcp()).collect();
            return Ok(Outcome::data(TOOLS, json!({"tools": tools})));
        };
        let context = CallContext::within(means.gathering.within).with_output_bytes_max(ANSWER_BYTES_MAX);
        let input = call.input.unwrap_or_else(|| json!({}));
        tokio::select! {
            () = work.cancelled.cancelled() => Err(SkillError::Canceled),
            answer = registry.call(&tool, input, &context) => match answer {
                Ok(answer) => Ok(Outcome::data(ANSWER, answer)),
                Err(error) => Err(SkillError::failed(format!("{tool}: {error}"))),
            },
        }
    }
}

/// The call in a message's data part, or the field that is wrong and why.
fn call(data: Option<&Value>, means: &Means) -> Result<Call, (String, String)> {
    let data =
        data.ok_or_else(|| ("parts".to_owned(), format!("one data part `{CALL_SCHEMA}` is needed")))?;
    document::named(data, CALL_SCHEMA)
        .map_err(|unfit| (format!("parts[0].data.{}", unfit.field), unfit.why))?;
    let call: Call = serde_path_to_error::deserialize(data)
        .map_err(|error| (format!("parts[0].data.{}", error.path()), error.into_inner().to_string()))?;
    let registry = &means.tools.registry;
    let Some(tool) = &call.tool else { return Ok(call) };
    let Some(spec) = registry.spec(tool) else {
        let known: Vec<&str> = registry.list().into_iter().map(|spec| spec.name.as_str()).collect();
        let why = format!("there is no such tool; there are {}", known.join(", "));
        return Err(("parts[0].data.tool".to_owned(), why));
    };
    let input = call.input.clone().unwrap_or_else(|| json!({}));
    match check_schema(&spec.input_schema, &input) {
        Ok(()) => Ok(call),
        Err(quell_tool::ToolError::InvalidInput { field, why }) => {
            let field = if field == "." { String::new() } else { format!(".{field}") };
            Err((format!("parts[0].data.input{field}"), why))
        }
        Err(error) => Err(("parts[0].data.input".to_owned(), error.to_string())),
    }
}
