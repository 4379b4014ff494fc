//! Why the agent does not start.

use quell_diagnose::RuleMistakes;
use quell_service::{BindError, Exit, Failure};

/// Why the agent does not start, or does not take over another configuration. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot be used.
    #[error("`{setting}`: {why}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The rules have mistakes.
    #[error(transparent)]
    Rules(#[from] RuleMistakes),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The parts do not fit together; a defect.
    #[error("the agent cannot be put together: {why}")]
    Assembly {
        /// Why.
        why: String,
    },
}

impl Failure for StartError {
    fn exit(&self) -> Exit {
        match self {
            Self::Setting { .. } | Self::Rules(_) => Exit::Usage,
            Self::Bind(error) => error.exit(),
            Self::Assembly { .. } => Exit::Failure,
        }
    }
}
