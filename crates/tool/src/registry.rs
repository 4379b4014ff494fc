//! The tools that an agent has, by name, and the limits around their calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use crate::action::{ActionCall, ActionTool, Effected, ExecutionGrant, Preview, ProbeVerdict};
use crate::context::CallContext;
use crate::error::{RegistryError, ToolError};
use crate::read::ReadTool;
use crate::redact::{redact, redact_value, truncate};
use crate::run::{Ended, json_bytes, run_bounded, without_effect};
use crate::schema::check_schema;
use crate::spec::{Effect, ToolSpec};

/// Appended to an output that was cut.
const CUT: &str = "\n[output cut]";

/// Read tools by name: all that a diagnostic agent can do.
#[derive(Default, Clone)]
pub struct ReadRegistry {
    tools: BTreeMap<String, Arc<dyn ReadTool>>,
}

impl ReadRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool; refuses a name that is taken or malformed, and a tool that does not declare to be read-only.
    pub fn register(&mut self, tool: Arc<dyn ReadTool>) -> Result<(), RegistryError> {
        let spec = tool.spec();
        spec.check()?;
        let name = spec.name.clone();
        if spec.effect != Effect::ReadOnly {
            return Err(RegistryError::WrongEffect { name });
        }
        if self.tools.contains_key(&name) {
            return Err(RegistryError::Duplicate { name });
        }
        self.tools.insert(name, tool);
        Ok(())
    }

    /// The tools' descriptions, sorted by name.
    pub fn list(&self) -> Vec<&ToolSpec> {
        self.tools.values().map(|tool| tool.spec()).collect()
    }

    /// The description of one tool.
    pub fn spec(&self, name: &str) -> Option<&ToolSpec> {
        self.tools.get(name).map(|tool| tool.spec())
    }

    /// Calls a tool: input checked against its schema, bounded by the deadline and the output limit, answer redacted.
    pub async fn call(&self, name: &str, input: Value, context: &CallContext) -> Result<Value, ToolError> {
        let begun = Instant::now();
        let answer = self.call_unlogged(name, input, context).await;
        log("read", name, None, context, begun, answer.as_ref().err());
        answer
    }

    async fn call_unlogged(
        &self,
        name: &str,
        input: Value,
        context: &CallContext,
    ) -> Result<Value, ToolError> {
        let tool = self.tools.get(name).ok_or_else(|| no_such_tool(name))?;
        check_schema(&tool.spec().input_schema, &input)?;
        let mut answer = without_effect(run_bounded(context, tool.call(input, context)).await)?;
        json_bytes(&answer, context.output_bytes_max)?;
        redact_value(&mut answer);
        Ok(answer)
    }
}

/// Action tools by name: all that a resolution agent can do.
#[derive(Default, Clone)]
pub struct ActionRegistry {
    tools: BTreeMap<String, Arc<dyn ActionTool>>,
}

impl ActionRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool; refuses a name that is taken or malformed, and a tool that declares to be read-only.
    pub fn register(&mut self, tool: Arc<dyn ActionTool>) -> Result<(), RegistryError> {
        let spec = tool.spec();
        spec.check()?;
        let name = spec.name.clone();
        if spec.effect == Effect::ReadOnly {
            return Err(RegistryError::WrongEffect { name });
        }
        if self.tools.contains_key(&name) {
            return Err(RegistryError::Duplicate { name });
        }
        self.tools.insert(name, tool);
        Ok(())
    }

    /// The tools' descriptions, sorted by name.
    pub fn list(&self) -> Vec<&ToolSpec> {
        self.tools.values().map(|tool| tool.spec()).collect()
    }

    /// The description of one action.
    pub fn spec(&self, action: &str) -> Option<&ToolSpec> {
        self.tools.get(action).map(|tool| tool.spec())
    }

    /// Checks that the action exists and that the arguments fit its schema; touches no target.
    pub fn check(&self, call: &ActionCall) -> Result<(), ToolError> {
        self.checked(call).map(|_| ())
    }

    /// What the call would change now, and how to undo that.
    pub async fn preview(&self, call: &ActionCall, context: &CallContext) -> Result<Preview, ToolError> {
        let begun = Instant::now();
        let preview = self.preview_unlogged(call, context).await;
        log("preview", &call.action, Some(&call.target), context, begun, preview.as_ref().err());
        preview
    }

    /// Executes `grant.call()`, once.
    ///
    /// Errors: [`ToolError::Refused`] if `now` is past the grant's not-after; [`ToolError::InDoubt`] if the deadline
    /// passed or the tool panicked after it was begun; any other error means that there was no effect. An output over
    /// the limit is cut rather than refused: what happened has to be reported.
    pub async fn execute(
        &self,
        grant: ExecutionGrant,
        now: Timestamp,
        context: &CallContext,
    ) -> Result<Effected, ToolError> {
        let begun = Instant::now();
        let effected = self.execute_unlogged(&grant, now, context).await;
        let call = grant.call();
        log("execute", &call.action, Some(&call.target), context, begun, effected.as_ref().err());
        effected
    }

    /// Asks the target whether the call, started at `started_at`, took effect.
    pub async fn probe(
        &self,
        call: &ActionCall,
        started_at: Timestamp,
        context: &CallContext,
    ) -> Result<ProbeVerdict, ToolError> {
        let begun = Instant::now();
        let verdict = self.probe_unlogged(call, started_at, context).await;
        log("probe", &call.action, Some(&call.target), context, begun, verdict.as_ref().err());
        verdict
    }

    fn checked(&self, call: &ActionCall) -> Result<&Arc<dyn ActionTool>, ToolError> {
        let tool = self.tools.get(&call.action).ok_or_else(|| no_such_tool(&call.action))?;
        check_schema(&tool.spec().input_schema, &Value::Object(call.arguments.clone()))?;
        Ok(tool)
    }

    async fn preview_unlogged(&self, call: &ActionCall, context: &CallContext) -> Result<Preview, ToolError> {
        let tool = self.checked(call)?;
        let mut preview = without_effect(run_bounded(context, tool.preview(call, context)).await)?;
        json_bytes(&preview, context.output_bytes_max)?;
        preview.summary = redact(&preview.summary);
        // The inverse stays as it was captured: masked, it would restore the mask. Secrets are not for arguments.
        preview.changes.iter_mut().for_each(redact_change);
        Ok(preview)
    }

    async fn execute_unlogged(
        &self,
        grant: &ExecutionGrant,
        now: Timestamp,
        context: &CallContext,
    ) -> Result<Effected, ToolError> {
        let call = grant.call();
        let tool = self.checked(call)?;
        if now > grant.not_after() {
            return Err(ToolError::Refused {
                why: format!("the grant ended at {}, it is {now} now", grant.not_after()),
            });
        }
        if context.remaining().is_zero() {
            return Err(ToolError::TimedOut);
        }
        match run_bounded(context, tool.execute(call, grant, context)).await {
            Ended::Answered(Ok(effected)) => Ok(bounded(effected, context.output_bytes_max)),
            Ended::Answered(Err(error)) => Err(error),
            Ended::Late => Err(ToolError::InDoubt { why: "the deadline passed while it ran".to_owned() }),
            Ended::Panicked(why) => Err(ToolError::InDoubt { why }),
        }
    }

    async fn probe_unlogged(
        &self,
        call: &ActionCall,
        started_at: Timestamp,
        context: &CallContext,
    ) -> Result<ProbeVerdict, ToolError> {
        let tool = self.checked(call)?;
        let mut verdict = without_effect(run_bounded(context, tool.probe(call, started_at, context)).await)?;
        json_bytes(&verdict, context.output_bytes_max)?;
        match &mut verdict {
            ProbeVerdict::Done { changes } => changes.iter_mut().for_each(redact_change),
            ProbeVerdict::CannotTell { why } => *why = redact(why),
            ProbeVerdict::NotDone => {}
        }
        Ok(verdict)
    }
}

/// Redacts, then cuts: a secret cut in half would no longer be recognised.
fn bounded(mut effected: Effected, bytes_max: usize) -> Effected {
    let redacted = redact(&effected.output);
    effected.output = if redacted.len() > bytes_max {
        format!("{}{CUT}", truncate(&redacted, bytes_max.saturating_sub(CUT.len())))
    } else {
        redacted
    };
    effected.changes.iter_mut().for_each(redact_change);
    while json_bytes(&effected.changes, bytes_max).is_err() && effected.changes.pop().is_some() {}
    effected
}

fn redact_change(change: &mut crate::Change) {
    redact_value(&mut change.from);
    redact_value(&mut change.to);
}

fn no_such_tool(name: &str) -> ToolError {
    ToolError::NotFound { what: format!("tool `{}`", truncate(name, 64)) }
}

fn log(
    operation: &'static str,
    tool: &str,
    target: Option<&str>,
    context: &CallContext,
    begun: Instant,
    error: Option<&ToolError>,
) {
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let incident = context.incident_id.as_deref();
    let key = context.idempotency_key.as_deref();
    match error {
        Some(error) => {
            let code = error.code();
            tracing::warn!(operation, tool, target, incident, key, duration_ms, code, %error, "tool call failed");
        }
        // Reads are frequent and harmless; what acts is always said.
        None if operation == "execute" => {
            tracing::info!(operation, tool, target, incident, key, duration_ms, "tool call done");
        }
        None => tracing::debug!(operation, tool, target, incident, key, duration_ms, "tool call done"),
    }
}
