//! What sources have in common: where time comes from, and why there is no answer.

use std::sync::Arc;

use jiff::Timestamp;
use quell_tool::ToolError;

/// Where the time of what is observed here comes from.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

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
    /// It failed so often that it is not asked for a while.
    #[error(
        "{what} is not asked since {seconds} s, and tried again in {again_in_seconds} s, because it failed repeatedly; the last time: {why}"
    )]
    Open {
        /// The source.
        what: String,
        /// For how long it has not been asked.
        seconds: u64,
        /// When it will be.
        again_in_seconds: u64,
        /// What its last failure was.
        why: String,
    },
    /// The question cannot be put to it.
    #[error("the query is invalid: {why}")]
    Invalid {
        /// What is wrong with it.
        why: String,
    },
}

impl SourceError {
    /// Whether the source is at fault, and not the question.
    #[cfg(feature = "ask")]
    pub(crate) fn is_fault(&self) -> bool {
        self.may_pass() || *self == Self::TimedOut
    }

    /// Whether the same question may be answered a moment later. What took too long once would do so again.
    #[cfg(feature = "ask")]
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Answered { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

impl From<SourceError> for ToolError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unreachable { .. } | SourceError::Open { .. } => {
                Self::Unreachable { why: error.to_string() }
            }
            SourceError::TimedOut => Self::TimedOut,
            SourceError::Answered { status, body } => Self::upstream(i32::from(status), &body),
            SourceError::Malformed { .. } => Self::Broken { why: error.to_string() },
            SourceError::TooLarge { bytes_max } => Self::OutputTooLarge { bytes_max },
            SourceError::Invalid { why } => Self::invalid(".", why),
        }
    }
}
