//! The diagnostic agent as a library: [`start`] it, ask its [`Handle`] for the address, stop it.
//!
//! For an incident it reads metrics, logs, dependencies' health and the platform, in parallel and within a time, and hands what it got (and what it could not get) to the
//! pure engines of `quell-diagnose`. It is built from a [`quell_tool::ReadRegistry`], so it can be given nothing that acts.
//!
//! A2A (skills `diagnose` and `tool`), the card, `/health`, `/ready` and `/metrics` share one port. A reload takes over rules and sources, all or
//! nothing.

mod agent;
mod analyzer;
mod call;
mod card;
mod error;
mod gather;
mod knowledge;
mod metrics;
mod monitor;
mod pages;
mod reader;
mod skill;
mod sources;
mod time_range;

pub use agent::{Handle, Setup, check, start};
pub use analyzer::log_analyzer;
pub use error::StartError;
pub use monitor::system_monitor;
pub use pages::endpoints;
