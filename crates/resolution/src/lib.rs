//! The resolution agent as a library: [`start`] it, ask its [`Handle`] for the address, stop it.
//!
//! It turns a report into a plan, carries out steps of plans that it made itself, undoes and probes them, and reads a plan's checks.
//! What it may do is decided here, by its own guard and its own ledger, whatever the coordinator says; with the shipped defaults it
//! does nothing to any system.
//!
//! A2A (skills `plan`, `execute`, `undo`, `probe`, `verify`), the card, `/health`, `/ready` and `/metrics` share one port.

mod agent;
mod card;
mod error;
mod knowledge;
mod metrics;
mod pages;
mod skills;
mod sources;

pub use agent::{Handle, LEDGER_EXTENSION, Setup, check, notices, start};
pub use error::StartError;
pub use pages::endpoints;
