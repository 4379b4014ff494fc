//! Why the agent does not start.

use quell_remedy::{LedgerError, LoadError};
use quell_service::{BindError, ConfigError, Exit, Failure};

/// Why the agent does not start, or does not take over another configuration. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting does not fit the inventory or the sources.
    #[error("`{setting}`: {why}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The key of the coordinator that came first cannot be read.
    #[error(
        "{file}, the public key of the coordinator that came first, cannot be used: {why}; remove the file to trust the coordinator that \
         comes next, or set `agents.resolution.coordinator_public_keys`"
    )]
    PinnedKey {
        /// The file.
        file: String,
        /// Why.
        why: String,
    },
    /// Runbooks or the inventory cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The ledger cannot be opened.
    #[error("the ledger in {folder} cannot be opened")]
    Ledger {
        /// Its folder.
        folder: String,
        /// Why.
        source: LedgerError,
    },
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
            Self::Config(error) => error.exit(),
            Self::Setting { .. } | Self::Load(_) => Exit::Usage,
            Self::Bind(error) => error.exit(),
            Self::Ledger { source: LedgerError::Journal(quell_journal::Error::Locked { .. }), .. } => {
                Exit::DataLocked
            }
            Self::Ledger { source: LedgerError::Lost(_), .. } => Exit::DataLost,
            Self::Ledger { .. } | Self::PinnedKey { .. } => Exit::Data,
            Self::Assembly { .. } => Exit::Failure,
        }
    }
}
