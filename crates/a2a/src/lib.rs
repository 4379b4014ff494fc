//! A2A (Agent2Agent) version 1.0 over gRPC: types, a server, tasks for agents made of skills, and a client
//! that holds on.
//!
//! The crate knows nothing of what the agents do. Data is [`serde_json::Value`], time is [`jiff::Timestamp`],
//! and no generated type leaves the crate. The wire is described in `proto/lf/a2a/v1/a2a.proto`.
//!
//! # Flow
//!
//! 1. An agent is a set of [`Skill`]s under a [`TaskManager`], or anything else that is an [`Agent`].
//!    [`router`] puts it behind gRPC with health and reflection, and its [`AgentCard`] under
//!    `/.well-known/agent-card.json`: routes that a daemon merges with its own, and serves.
//! 2. A call passes version, credentials and required extensions before its body is read, then size, form,
//!    room, tenant and MIME types. What is left reaches the agent together with its [`Caller`].
//! 3. A message makes a task, and the task runs by itself. Whoever sent it waits, watches, or comes back
//!    later.
//! 4. [`Client::run`] sends a message and follows its task through broken streams and restarts to the end or
//!    to a question.
//!
//! # Guarantees
//!
//! - The same message id with the same content, from the same caller in the same tenant, is one task, for as
//!   long as [`TaskLimits`] keeps it. With another content it is refused.
//! - Every subscriber of a task sees the task first and then the same events in the same order, none left
//!   out. One that is too slow is let go with an error after which it can subscribe again; neither the task
//!   nor the others wait for it.
//! - A task that the caller may not see is not found, in every call. Callers without credentials share
//!   nothing: they follow what they sent in its own call or not at all.
//! - What is read is checked: required fields, lengths, nesting, numbers. Numbers that would change on the
//!   way are refused on sending.
//! - A skill that fails or panics ends its own task and nothing else.
//! - Queues, streams, calls, sizes and waits are limited: [`ServerOptions`], [`TaskLimits`],
//!   [`ClientOptions`]. Connections, and how long a request may arrive, are for the server that carries the
//!   routes: it knows what else it carries.
//!
//! # Assumptions
//!
//! - Tasks live in memory. After a restart they are unknown, and the message is sent again; a skill that must
//!   not do a thing twice keeps its own record of what it did.
//! - Ids made by [`TaskOptions::new_id`] differ and cannot be guessed; the clock may jump, lists stay in
//!   order.
//! - TLS is ended by the server, or in front of it.
//! - Whole numbers are exact up to 2^53 in both directions; larger ones and decimals that must stay exact
//!   travel as strings.
//!
//! # Errors
//!
//! [`A2aError`] is one of [`ErrorKind`], the protocol's own division. It travels as a gRPC status with
//! `google.rpc.ErrorInfo` or `BadRequest`, and is read back by its reason. Its message is for the peer; its
//! cause stays in the log. [`A2aError::is_retryable`] tells whether the same request may succeed later.
//! [`ClientError`] adds what only the asking side can know.

mod client;
mod convert;
mod error;
mod proto;
mod server;
mod tasks;
mod types;

pub use client::{Client, ClientError, ClientOptions, fetch_card};
pub use error::{A2aError, ERROR_DOMAIN, ErrorKind, FieldViolation};
pub use server::{
    Access, Agent, Authenticate, Caller, EventStream, ServerOptions, calls, card_router, router,
};
pub use tasks::{Outcome, Skill, SkillError, TaskLimits, TaskManager, TaskOptions, Updates, Work, paginate};
pub use types::*;

/// The protocol's version on the wire.
pub const PROTOCOL_VERSION: &str = "1.0";
/// What the paths of all calls of A2A begin with; health and reflection are elsewhere.
pub const CALLS: &str = "/lf.a2a.v1.A2AService/";
/// Where an agent's public card is found.
pub const AGENT_CARD_PATH: &str = "/.well-known/agent-card.json";

const VERSION_HEADER: &str = "a2a-version";
const EXTENSIONS_HEADER: &str = "a2a-extensions";
/// How many bytes of one answer a caller reads at once, where that is more than the 4 MiB of gRPC's libraries.
const MESSAGE_BYTES_HEADER: &str = "x-message-bytes-max";
const TRACEPARENT_HEADER: &str = "traceparent";

/// True for the fixed form of the W3C header: version, trace, span and flags in lower-case hexadecimal.
fn is_traceparent(value: &str) -> bool {
    let mut lengths = [2, 32, 16, 2].into_iter();
    let hexadecimal = |field: &str| field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    value.split('-').all(|field| lengths.next() == Some(field.len()) && hexadecimal(field))
        && lengths.next().is_none()
}
