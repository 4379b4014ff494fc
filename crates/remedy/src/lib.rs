//! Remediation: from a diagnosis to a plan, and from an approved plan to steps that happen once.
//!
//! - [`Inventory`] says what may be acted on; telemetry selects from it and adds nothing to it.
//! - [`Runbooks`] say what is done about a cause. [`build_plan`] makes a plan of one, each step tried dry, with its undo.
//! - [`CoordinatorKeys`] says whose signed permits count: without one nothing is done.
//! - [`guard`] forbids what this agent does not do, whatever it is told.
//! - [`Ledger`] remembers, crash-safe, what was asked: a key is begun once in all lives of the agent.
//! - [`Agent`] puts these together behind `plan`, `execute` and `probe`; [`verify()`] reads the checks afterwards.
//!
//! What runs is always this agent's own copy of a step, taken from its ledger by the plan's digest; what a request carries is only
//! compared with it.

mod book;
mod call;
mod execute;
pub mod guard;
mod inventory;
mod ledger;
mod permit;
mod planner;
mod runbook;
mod verify;
mod yaml;

pub use book::{LoadError, RUNBOOKS_MAX, Runbooks};
pub use execute::{
    Agent, Clock, EFFECT_SETTLES_WITHIN, FAULT_POINTS, FaultHook, NoFaults, OUTPUT_BYTES_MAX, PlanSettings,
};
pub use guard::{Forbidden, GuardSettings, Knowledge};
pub use inventory::{Inventory, Match, NotSelected, TARGETS_MAX, Target};
pub use ledger::{Ledger, LedgerError, LedgerSettings, PlanFileError};
pub use permit::CoordinatorKeys;
pub use planner::{Planner, build_plan};
pub use runbook::{CHECKS_MAX, Runbook, RunbookStep, STEP_TIMEOUT_DEFAULT, StepTarget, UndoRule};
pub use verify::{QUERY_METRICS, SAMPLE_AGE_MAX, VERIFICATION_SCHEMA, evaluate, verify};
pub use yaml::{FILE_BYTES_MAX, Mistake, Mistakes};
