//! A whole site for tests. [`Sandbox`] is one in one process: simulator, coordinator and both agents on free loopback ports, each with
//! a runtime of its own, so that one can be killed where it stands and started again on the same data. [`processes`] is one of the
//! programs that people run, and [`pair`] a real Prometheus and Alertmanager in front of them.
//!
//! **Guarantees.** A [kill](Sandbox::kill) drops every task of the part at its next await; nothing of it is drained. What it had
//! submitted to its journal may still become durable, as with a process whose last write reached the system. **Assumptions.** Tests run
//! it from a multi-threaded runtime. **Absent.** Cutting power: that is `quell-journal`'s simulated disk.

mod ask;
pub mod fake_alertmanager;
mod options;
pub mod pair;
pub mod processes;
pub mod server;
mod site;

pub use ask::{Asking, until};
pub use options::{Options, Part};
pub use site::{Sandbox, SandboxError, Stopped};
