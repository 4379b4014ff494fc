//! Tools in the manner of MCP: every capability that an agent uses has a name, a description, JSON Schemas of what goes
//! in and out, and a declared effect. This crate knows nothing of incidents and is useful without the rest of Quell.
//!
//! Two kinds of tool exist, and they are two traits, not one trait with a flag:
//!
//! * a [`ReadTool`] looks; the diagnostic agent is built from a [`ReadRegistry`] and so cannot be given anything else;
//! * an [`ActionTool`] changes the world; it says beforehand what it would change ([`ActionTool::preview`]), needs an
//!   [`ExecutionGrant`] to do it, and can be asked afterwards whether it happened ([`ActionTool::probe`]).
//!
//! Tools are called through their registry, which is where the limits are: input checked against the schema, a deadline
//! enforced from outside the tool, output bounded and redacted, a panic turned into an error. An action that was begun
//! and whose end was not seen is always [`ToolError::InDoubt`], never a plain failure: whoever repeats a plain failure
//! would do the action twice.

mod action;
mod context;
mod error;
pub mod fake;
mod read;
mod redact;
mod registry;
mod run;
mod schema;
mod spec;

pub use action::{ActionCall, ActionTool, Change, Effected, ExecutionGrant, Preview, ProbeVerdict};
pub use context::CallContext;
pub use error::{RegistryError, ToolError};
pub use read::{ReadTool, TypedRead, TypedReadTool};
pub use redact::{MASK, names_secret, redact, redact_value, truncate};
pub use registry::{ActionRegistry, ReadRegistry};
pub use schema::{check_schema, parse_input, schema_of};
pub use spec::{Effect, ToolSpec};
