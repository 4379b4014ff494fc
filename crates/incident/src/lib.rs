//! The domain of Quell, pure: what an alert, an incident, a diagnosis, a plan and a step are, and the one function that
//! decides what becomes of an incident ([`workflow::decide`]).
//!
//! Nothing here does IO, reads a clock or makes an id: time, ids and what was observed come in as arguments, so every
//! decision can be replayed and tested at an instant of our choice.
//!
//! Everything that crosses a process or is stored has serde names that are part of the published JSON. Integers of 64 bits
//! and times are strings there, because an A2A data part turns every number into a double.

pub mod about;
pub mod alert;
pub mod contract;
pub mod correlation;
pub mod document;
pub mod event;
pub mod evidence;
pub mod gate;
pub mod ids;
pub mod incident;
pub mod links;
pub mod mapping;
pub mod members;
pub mod permit;
mod phase;
pub mod plan;
pub mod report;
pub mod said;
pub mod severity;
pub mod surroundings;
pub mod urgency;
pub mod view;
pub mod workflow;

pub use alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels, Untrusted};
pub use event::{Envelope, Event};
pub use ids::{Digest, FencingToken, IncidentId, Revision, RunbookName, StepKey, TargetName, TaskKey};
pub use incident::{Incident, Phase};
pub use members::{Member, Members};
pub use permit::{Permit, PermittedSkill, SignedPermit};
pub use plan::{Plan, Step, Undo};
pub use report::{Hypothesis, Report};
pub use severity::{Priority, Severity, Status};
