//! Why a source gave no answer.

use quell_tool::ToolError;

/// Why a source gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It could not be reached.
    #[error("cannot reach {what}: {why}")]
    Unreachable {
        /// Its address or file.
        what: String,
        /// What happened on the way.
        why: String,
    },
    /// It did not answer in time.
    #[error("no answer within the time allowed")]
    TimedOut,
    /// It answered with an error.
    #[error("the source answered with status {status}: {body}")]
    Answered {
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// It answered with something else than was asked for.
    #[error("the source's answer cannot be read: {why}")]
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// Its answer is larger than is read.
    #[error("the source's answer is larger than {bytes_max} bytes: ask for less")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// The question cannot be put to it.
    #[error("the query is invalid: {why}")]
    Invalid {
        /// What is wrong with it.
        why: String,
    },
}

impl From<SourceError> for ToolError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unreachable { .. } => Self::Unreachable { why: error.to_string() },
            SourceError::TimedOut => Self::TimedOut,
            SourceError::Answered { status, body } => Self::upstream(i32::from(status), &body),
            SourceError::Malformed { .. } => Self::Broken { why: error.to_string() },
            SourceError::TooLarge { bytes_max } => Self::OutputTooLarge { bytes_max },
            SourceError::Invalid { why } => Self::invalid(".", why),
        }
    }
}
