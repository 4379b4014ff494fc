//! Tools that change the world.

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::context::CallContext;
use crate::error::ToolError;
use crate::schema::parse_input;
use crate::spec::ToolSpec;

/// One action on one target, as a runbook or an undo names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionCall {
    /// The name of the action tool.
    pub action: String,
    /// The target by its name in the inventory, never an address.
    pub target: String,
    /// The arguments, by the tool's input schema.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

impl ActionCall {
    /// The arguments as a `T`; the error names the argument that does not fit.
    pub fn parse_arguments<T: DeserializeOwned>(&self) -> Result<T, ToolError> {
        parse_input(Value::Object(self.arguments.clone()))
    }
}

/// One value that changes, or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What changes, such as `replicas of email-service`.
    pub what: String,
    /// The value before; null where there was none.
    pub from: Value,
    /// The value after; null where there is none.
    pub to: Value,
}

/// What an action would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// One line for people.
    pub summary: String,
    /// The changes, from the state that was read just now.
    pub changes: Vec<Change>,
    /// The call that would restore what was read just now; none where there is no way back or nothing to restore.
    pub inverse: Option<ActionCall>,
    /// What this preview could not see, such as "check mode skips command tasks"; none where it saw all.
    pub limits_of_preview: Option<String>,
}

/// What an action did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Effected {
    /// The changes as they took place.
    pub changes: Vec<Change>,
    /// What the target or the command said; the registry bounds and redacts it.
    pub output: String,
}

/// Whether a call took effect, as far as the target shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum ProbeVerdict {
    /// It did.
    Done {
        /// The changes that the target shows.
        changes: Vec<Change>,
    },
    /// It did not, and will not any more.
    NotDone,
    /// The target does not show it; a person has to look.
    CannotTell {
        /// What is missing to tell.
        why: String,
    },
}

/// The right to execute one call once.
///
/// It names the whole call, arguments included, so that it is of no use for another; it cannot be cloned, and
/// [`crate::ActionRegistry::execute`] takes it away.
#[derive(Debug, PartialEq, Eq)]
pub struct ExecutionGrant {
    key: String,
    call: ActionCall,
    not_after: Timestamp,
    fencing_token: Option<u64>,
}

impl ExecutionGrant {
    /// Issues a grant.
    ///
    /// **For the guard of the resolution agent only**: it has checked allow-lists, switches, approval and lock, and has
    /// written `key` to its ledger. A call of this function anywhere else, but in tests of tools, is a way around it.
    pub fn issue(key: impl Into<String>, call: ActionCall, not_after: Timestamp) -> Self {
        Self { key: key.into(), call, not_after, fencing_token: None }
    }

    /// The same with the fencing token of the target's lock, for targets that can compare it themselves.
    pub fn with_fencing_token(mut self, fencing_token: u64) -> Self {
        self.fencing_token = Some(fencing_token);
        self
    }

    /// The idempotency key: the same for no other execution.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The call that may be executed.
    pub fn call(&self) -> &ActionCall {
        &self.call
    }

    /// The effect must not begin after this time.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The fencing token of the target's lock, if there is one.
    pub fn fencing_token(&self) -> Option<u64> {
        self.fencing_token
    }
}

/// A tool that changes something.
///
/// Flow: `preview` while the plan is made, `execute` once under a grant, `probe` when the end of an execution was not
/// seen. Guarantees expected of an implementation: `preview` and `probe` change nothing; `execute` starts nothing that
/// outlives it unseen; an error of `execute` other than [`ToolError::InDoubt`] means that there was no effect.
/// Caveats: the future of `execute` may be dropped at any await point, at the deadline; what was sent by then is in doubt.
#[async_trait]
pub trait ActionTool: Send + Sync {
    /// What the tool says about itself; its effect is an action.
    fn spec(&self) -> &ToolSpec;

    /// Read-only: says what `execute` would change now, and the captured inverse.
    async fn preview(&self, call: &ActionCall, context: &CallContext) -> Result<Preview, ToolError>;

    /// Does it. Call it through [`crate::ActionRegistry::execute`], which has the limits.
    async fn execute(
        &self,
        call: &ActionCall,
        grant: &ExecutionGrant,
        context: &CallContext,
    ) -> Result<Effected, ToolError>;

    /// Read-only: did this call, started at `started_at`, take effect on the target?
    async fn probe(
        &self,
        call: &ActionCall,
        started_at: Timestamp,
        context: &CallContext,
    ) -> Result<ProbeVerdict, ToolError>;
}
