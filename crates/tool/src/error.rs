//! What can go wrong when a tool is called or registered.

use crate::redact::{redact, truncate};

const EXCERPT_BYTES_MAX: usize = 512;

/// Why a call gave no answer.
///
/// All but [`ToolError::InDoubt`] promise that an action had no effect. A tool that cannot promise that returns
/// `InDoubt`, and the caller probes instead of repeating.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The input does not fit the schema or the tool's own rules.
    #[error("invalid input in `{field}`: {why}")]
    InvalidInput {
        /// Path of the field, `.` for the input as a whole.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such tool, target or object.
    #[error("not found: {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// A guard or the target's own policy forbids it.
    #[error("refused: {why}")]
    Refused {
        /// The rule that forbids it.
        why: String,
    },
    /// The target could not be reached, and nothing was sent.
    #[error("cannot reach the target: {why}")]
    Unreachable {
        /// What happened on the way.
        why: String,
    },
    /// The deadline passed, without any effect.
    #[error("no answer within the time allowed")]
    TimedOut,
    /// The target answered with an error, without any effect.
    #[error("the target answered with status {status}: {body}")]
    Upstream {
        /// Its status code: HTTP, gRPC or exit code.
        status: i32,
        /// The beginning of what it said, redacted; make it by [`ToolError::upstream`].
        body: String,
    },
    /// The answer is larger than the caller takes.
    #[error("the answer is larger than {bytes_max} bytes: ask for less")]
    OutputTooLarge {
        /// The limit of the call.
        bytes_max: usize,
    },
    /// The tool itself failed; a defect.
    #[error("the tool failed: {why}")]
    Broken {
        /// What is known of it.
        why: String,
    },
    /// An action was begun and its end was not seen: it may or may not have taken effect.
    #[error("it is not known whether the action took effect: {why}")]
    InDoubt {
        /// At which point sight of it was lost.
        why: String,
    },
}

impl ToolError {
    /// An [`ToolError::InvalidInput`] for `field`.
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::InvalidInput { field: field.into(), why: why.into() }
    }

    /// An [`ToolError::Upstream`] with the beginning of `body`, redacted and bounded.
    pub fn upstream(status: i32, body: &str) -> Self {
        // Bounded twice: redaction reads all that it is given, and masks can be longer than what they hide.
        let beginning = truncate(body, EXCERPT_BYTES_MAX * 8);
        Self::Upstream { status, body: truncate(&redact(beginning), EXCERPT_BYTES_MAX).to_owned() }
    }

    /// True where the same call may well succeed later. Never true of an action whose effect is unknown.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut => true,
            Self::Upstream { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::InvalidInput { .. }
            | Self::NotFound { .. }
            | Self::Refused { .. }
            | Self::OutputTooLarge { .. }
            | Self::Broken { .. }
            | Self::InDoubt { .. } => false,
        }
    }

    /// A stable word for records and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidInput { .. } => "invalid_input",
            Self::NotFound { .. } => "not_found",
            Self::Refused { .. } => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Upstream { .. } => "upstream",
            Self::OutputTooLarge { .. } => "output_too_large",
            Self::Broken { .. } => "broken",
            Self::InDoubt { .. } => "in_doubt",
        }
    }
}

/// Why a tool was not taken into a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Another tool has this name.
    #[error("a tool named `{name}` is registered already")]
    Duplicate {
        /// The name in question.
        name: String,
    },
    /// The name cannot be used.
    #[error(
        "`{name}` is not a tool name: use 1 to 64 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit"
    )]
    BadName {
        /// The name in question.
        name: String,
    },
    /// The input schema is not of type `object`.
    #[error("the input schema of tool `{name}` is not of type `object`")]
    InputNotAnObject {
        /// The tool's name.
        name: String,
    },
    /// A read tool that says that it acts, or an action that says that it only reads.
    #[error("tool `{name}` declares an effect that does not fit this registry")]
    WrongEffect {
        /// The tool's name.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_in_doubt_is_never_retried() {
        assert!(!ToolError::InDoubt { why: "connection reset".to_owned() }.is_retryable());
        assert!(ToolError::Unreachable { why: "refused".to_owned() }.is_retryable());
        assert!(ToolError::upstream(503, "").is_retryable());
        assert!(!ToolError::upstream(404, "").is_retryable());
    }

    #[test]
    fn what_the_target_said_is_bounded_and_redacted() {
        let error = ToolError::upstream(500, &format!("password=hunter2 {}", "é".repeat(10_000)));
        let ToolError::Upstream { body, .. } = &error else { panic!("{error:?}") };
        assert!(body.len() <= EXCERPT_BYTES_MAX);
        assert!(body.starts_with("password=*** "), "{body}");
    }
}
