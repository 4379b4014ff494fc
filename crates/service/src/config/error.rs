//! What can be wrong with a configuration, said so that it can be put right.

use std::path::PathBuf;

use crate::exit::{Exit, Failure};

/// Why a configuration was not accepted. No message shows a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason that the system gives.
        why: String,
    },
    /// A key that does not exist, most often a slip of the pen.
    #[error("{at}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// Where it stands.
        at: Position,
        /// The key as it was written.
        key: String,
        /// The nearest key that exists, and which ones are known there.
        hint: String,
    },
    /// `${NAME}` without a default, and the variable is not set.
    #[error(
        "{at}: the environment variable {variable} is not set; set it, or give a default by ${{{variable}:-...}}{hint}"
    )]
    UnsetVariable {
        /// Where it is used.
        at: Position,
        /// The variable.
        variable: String,
        /// What `${NAME:?hint}` says about it.
        hint: String,
    },
    /// The text is no YAML, or a value is not of the kind that the setting takes.
    #[error("{at}: {why}")]
    Malformed {
        /// Where.
        at: Position,
        /// What is wrong.
        why: String,
    },
    /// An environment variable that sets something has a value that cannot be used.
    #[error("the environment variable {variable} cannot be used for `{settings}`: {why}")]
    Variable {
        /// The variable.
        variable: String,
        /// The setting that it sets; with several, "` and `" stands between them.
        settings: String,
        /// What is wrong, and what is accepted.
        why: String,
    },
    /// A setting has a value that is out of its range, or does not go together with others.
    #[error("`{setting}`: {why}")]
    Setting {
        /// The setting, by its path.
        setting: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl ConfigError {
    pub(crate) fn setting(setting: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Setting { setting: setting.into(), why: why.into() }
    }
}

impl Failure for ConfigError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file as it was named.
    pub file: String,
    /// From 1; 0 where it is not known.
    pub line: u64,
    /// From 1, in characters; 0 where it is not known.
    pub column: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            write!(formatter, "{}", self.file)
        } else {
            write!(formatter, "{}:{}:{}", self.file, self.line, self.column)
        }
    }
}
