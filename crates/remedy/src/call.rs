//! Calls of a plan and calls of a tool.
//!
//! A tool that has several actions says so in its input schema: a property `action` with an `enum`, and `parameters`. One that has a
//! single action is called by its own name, and its arguments are its input. So `deployment-system` and any one-purpose tool can both
//! stand in a runbook.

use quell_incident::TargetName;
use quell_incident::plan::{ActionCall, Change};
use quell_tool::{ActionRegistry, ToolError, ToolSpec};
use serde_json::{Map, Value, json};

const ACTION: &str = "action";
const PARAMETERS: &str = "parameters";

/// The actions of a tool, by name.
pub(crate) fn actions_of(spec: &ToolSpec) -> Vec<&str> {
    match spec.input_schema["properties"][ACTION]["enum"].as_array() {
        Some(names) => names.iter().filter_map(Value::as_str).collect(),
        None => vec![spec.name.as_str()],
    }
}

fn has_several(spec: &ToolSpec) -> bool {
    spec.input_schema["properties"][ACTION]["enum"].is_array()
}

/// The call as the registry takes it.
///
/// # Errors
/// When there is no such tool, or it has no such action.
pub(crate) fn to_tool(
    call: &ActionCall,
    actions: &ActionRegistry,
) -> Result<quell_tool::ActionCall, ToolError> {
    let spec = actions
        .spec(&call.tool)
        .ok_or_else(|| ToolError::NotFound { what: format!("the tool `{}`", call.tool) })?;
    if !actions_of(spec).contains(&call.action.as_str()) {
        return Err(ToolError::NotFound { what: format!("the action `{}` of `{}`", call.action, call.tool) });
    }
    let arguments = if has_several(spec) {
        let mut wrapped = Map::new();
        wrapped.insert(ACTION.to_owned(), json!(call.action));
        wrapped.insert(PARAMETERS.to_owned(), Value::Object(call.arguments.clone()));
        wrapped
    } else {
        call.arguments.clone()
    };
    Ok(quell_tool::ActionCall { action: call.tool.clone(), target: call.target.to_string(), arguments })
}

/// An inverse that a tool made, as a call of a plan; `None` unless it is a call of the same tool on the same target.
pub(crate) fn from_tool(
    inverse: quell_tool::ActionCall,
    target: &TargetName,
    actions: &ActionRegistry,
) -> Option<ActionCall> {
    let spec = actions.spec(&inverse.action)?;
    if inverse.target != target.as_str() {
        return None;
    }
    let (action, arguments) = if has_several(spec) {
        let mut wrapped = inverse.arguments;
        let action = wrapped.remove(ACTION)?.as_str()?.to_owned();
        let arguments = match wrapped.remove(PARAMETERS) {
            Some(Value::Object(arguments)) => arguments,
            None => Map::new(),
            Some(_) => return None,
        };
        (action, arguments)
    } else {
        (spec.name.clone(), inverse.arguments)
    };
    Some(ActionCall { tool: inverse.action, action, target: target.clone(), arguments })
}

/// Checks a call's arguments against the tool's schema: first against that of its own action, which gives the better message.
pub(crate) fn check_arguments(call: &ActionCall, actions: &ActionRegistry) -> Result<(), ToolError> {
    let tool_call = to_tool(call, actions)?;
    if let Some(spec) = actions.spec(&call.tool)
        && let Some(alternatives) = spec.input_schema["oneOf"].as_array()
        && let Some(own) =
            alternatives.iter().find(|one| one["properties"][ACTION]["const"] == call.action.as_str())
    {
        let schema = &own["properties"][PARAMETERS];
        quell_tool::check_schema(schema, &Value::Object(call.arguments.clone()))?;
    }
    actions.check(&tool_call)
}

pub(crate) fn changes(changes: Vec<quell_tool::Change>) -> Vec<Change> {
    changes.into_iter().map(|change| Change { what: change.what, from: change.from, to: change.to }).collect()
}
