//! Child processes that are never left behind, and free ports for them: what tests, the self-test and the project's tasks start sites
//! of real programs with.
//!
//! **Guarantees.** A [`Process`] is killed when it is dropped, and by the system when the thread that started it ends, where `setpriv`
//! is there to ask for that: whoever is killed itself leaves nothing behind either. **Absent on purpose.** Waiting for something: that
//! is a thread's or a runtime's, as the caller likes it.

mod ports;
mod process;

pub use ports::free_addresses;
pub use process::{Log, Manner, Process, bound, find, tail};
pub use rustix::process::Signal;

/// Why there is no process, or no port for one.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// A program, or the file for its output, cannot be opened.
    #[error("{program} does not start: {why}")]
    Start {
        /// Which.
        program: String,
        /// What the system says.
        why: std::io::Error,
    },
    /// Every port is taken.
    #[error("no free ports on 127.0.0.1")]
    NoPorts,
}
