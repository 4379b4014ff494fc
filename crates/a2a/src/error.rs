//! The protocol's errors, and how they cross the wire.
//!
//! Several kinds share one gRPC code, so the kind travels as the reason of a `google.rpc.ErrorInfo`, and the
//! reader goes by that reason. The code decides only where a peer sent no reason.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;

use tonic::{Code, Status};
use tonic_types::{BadRequest, ErrorDetail, ErrorInfo, StatusExt};

/// The domain of the protocol's reasons in `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "a2a-protocol.org";

/// Details travel in a header: longer texts are cut, more violations left out.
const TEXT_BYTES_MAX: usize = 1024;
const VIOLATIONS_MAX: usize = 16;

/// What went wrong, in the protocol's own division.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No such task, or none that this caller may see.
    TaskNotFound,
    /// The task has ended and cannot be cancelled.
    TaskNotCancelable,
    /// The agent posts no notifications.
    PushNotificationNotSupported,
    /// The agent does not do this, or not in the task's present state.
    UnsupportedOperation,
    /// A part is of a MIME type that the agent does not read.
    ContentTypeNotSupported,
    /// The agent answered against the protocol.
    InvalidAgentResponse,
    /// The agent has no extended card.
    ExtendedAgentCardNotConfigured,
    /// The caller did not name an extension that the agent requires.
    ExtensionSupportRequired,
    /// The caller speaks another version of the protocol.
    VersionNotSupported,
    /// The request is malformed; [`A2aError::violations`] says where.
    Invalid,
    /// The caller did not show who it is.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// The agent failed; its log knows why.
    Internal,
    /// The agent cannot be reached or has no room now; the same request may succeed later.
    Unavailable,
    /// Time ran out; the outcome is not known.
    Timeout,
}

/// One row for each kind: its reason on the wire, where the protocol names one, and its gRPC code.
const KINDS: [(ErrorKind, Option<&str>, Code); 15] = [
    (ErrorKind::TaskNotFound, Some("TASK_NOT_FOUND"), Code::NotFound),
    (ErrorKind::TaskNotCancelable, Some("TASK_NOT_CANCELABLE"), Code::FailedPrecondition),
    (
        ErrorKind::PushNotificationNotSupported,
        Some("PUSH_NOTIFICATION_NOT_SUPPORTED"),
        Code::FailedPrecondition,
    ),
    (ErrorKind::UnsupportedOperation, Some("UNSUPPORTED_OPERATION"), Code::FailedPrecondition),
    (ErrorKind::ContentTypeNotSupported, Some("CONTENT_TYPE_NOT_SUPPORTED"), Code::InvalidArgument),
    (ErrorKind::InvalidAgentResponse, Some("INVALID_AGENT_RESPONSE"), Code::Internal),
    (
        ErrorKind::ExtendedAgentCardNotConfigured,
        Some("EXTENDED_AGENT_CARD_NOT_CONFIGURED"),
        Code::FailedPrecondition,
    ),
    (ErrorKind::ExtensionSupportRequired, Some("EXTENSION_SUPPORT_REQUIRED"), Code::FailedPrecondition),
    (ErrorKind::VersionNotSupported, Some("VERSION_NOT_SUPPORTED"), Code::FailedPrecondition),
    (ErrorKind::Invalid, None, Code::InvalidArgument),
    (ErrorKind::Unauthenticated, None, Code::Unauthenticated),
    (ErrorKind::Forbidden, None, Code::PermissionDenied),
    (ErrorKind::Internal, None, Code::Internal),
    (ErrorKind::Unavailable, None, Code::Unavailable),
    (ErrorKind::Timeout, None, Code::DeadlineExceeded),
];

impl ErrorKind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = ErrorKind> {
        KINDS.into_iter().map(|(kind, ..)| kind)
    }

    /// The reason on the wire, where the protocol names one.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        KINDS.into_iter().find(|(kind, ..)| *kind == self).and_then(|(_, reason, _)| reason)
    }

    fn code(self) -> Code {
        KINDS.into_iter().find(|(kind, ..)| *kind == self).map_or(Code::Internal, |(.., code)| code)
    }

    fn of_reason(reason: &str) -> Option<Self> {
        KINDS.into_iter().find(|(_, known, _)| *known == Some(reason)).map(|(kind, ..)| kind)
    }

    /// For a peer that gave no reason.
    fn of_code(code: Code) -> Self {
        match code {
            Code::NotFound => ErrorKind::TaskNotFound,
            Code::InvalidArgument | Code::OutOfRange => ErrorKind::Invalid,
            Code::FailedPrecondition | Code::Unimplemented => ErrorKind::UnsupportedOperation,
            Code::Unauthenticated => ErrorKind::Unauthenticated,
            Code::PermissionDenied => ErrorKind::Forbidden,
            Code::DeadlineExceeded => ErrorKind::Timeout,
            // A stream that broke off without a status reads as unknown or cancelled.
            Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::Cancelled | Code::Unknown => {
                ErrorKind::Unavailable
            }
            Code::Ok | Code::AlreadyExists | Code::Internal | Code::DataLoss => ErrorKind::Internal,
        }
    }
}

/// A field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path to the field, such as `message.parts[2].data`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// An error as the peer sees it: the message is public, the cause stays here.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct A2aError {
    kind: ErrorKind,
    message: String,
    violations: Vec<FieldViolation>,
    metadata: BTreeMap<String, String>,
    #[source]
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl A2aError {
    /// An error of that kind; the message goes to the peer.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), violations: Vec::new(), metadata: BTreeMap::new(), cause: None }
    }

    /// No such task, or none that this caller may see: the two look the same from outside.
    #[must_use]
    pub fn task_not_found(id: &str) -> Self {
        Self::new(ErrorKind::TaskNotFound, format!("task {id:?} not found")).with_metadata("taskId", id)
    }

    /// One field is not as it must be.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = FieldViolation { field: field.into(), description: description.into() };
        let message = format!("{}: {}", violation.field, violation.description);
        Self { violations: vec![violation], ..Self::new(ErrorKind::Invalid, message) }
    }

    /// Several fields are not as they must be.
    pub(crate) fn invalid_fields(message: String, violations: Vec<FieldViolation>) -> Self {
        Self { violations, ..Self::new(ErrorKind::Invalid, message) }
    }

    /// The agent does not do this, or not now.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::UnsupportedOperation, message)
    }

    /// No room or no connection now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// The agent failed. The peer is told no more than that; the cause is for the log.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "the agent failed; its log says why").with_cause(cause)
    }

    /// The same error with its cause, which never leaves this process.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// The same error with a further fact for programs; keys are camelCase.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.to_owned(), cut(value));
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message as the peer sees it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The fields at fault, for [`ErrorKind::Invalid`].
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        &self.violations
    }

    /// Further facts for programs.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// True when the same request may succeed later. A send is safe to repeat with the same message id.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// Puts the field's place in front of every violation, for a value inside of a larger one.
    pub(crate) fn within(mut self, outer: &str) -> Self {
        for violation in &mut self.violations {
            violation.field = match violation.field.as_str() {
                "" => outer.to_owned(),
                inner if inner.starts_with('[') => format!("{outer}{inner}"),
                inner => format!("{outer}.{inner}"),
            };
        }
        if let [violation] = self.violations.as_slice() {
            self.message = format!("{}: {}", violation.field, violation.description);
        }
        self
    }

    /// As it goes out, and a line in the log where the peer is told less than there is to know.
    pub(crate) fn into_status(self) -> Status {
        if let Some(cause) = &self.cause {
            tracing::warn!(kind = ?self.kind, error = %self.message, cause = %chain(cause.as_ref()), "call failed");
        }
        let mut details = Vec::new();
        if let Some(reason) = self.kind.reason() {
            let metadata: HashMap<String, String> = self.metadata.into_iter().collect();
            details.push(ErrorDetail::ErrorInfo(ErrorInfo::new(reason, ERROR_DOMAIN, metadata)));
        }
        if !self.violations.is_empty() {
            let violations: Vec<_> = self
                .violations
                .iter()
                .take(VIOLATIONS_MAX)
                .map(|violation| {
                    tonic_types::FieldViolation::new(cut(&violation.field), cut(&violation.description))
                })
                .collect();
            details.push(ErrorDetail::BadRequest(BadRequest::new(violations)));
        }
        let message = cut(&self.message);
        if details.is_empty() {
            return Status::new(self.kind.code(), message);
        }
        Status::with_error_details_vec(self.kind.code(), message, details)
    }

    /// As it came in.
    pub(crate) fn from_status(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let info = info.filter(|info| info.domain.is_empty() || info.domain == ERROR_DOMAIN);
        let by_reason = info.as_ref().and_then(|info| ErrorKind::of_reason(&info.reason));
        let kind = match (by_reason, std::error::Error::source(status)) {
            (Some(kind), _) => kind,
            // A status with a source was made on this side: the connection, not the agent, failed.
            (None, Some(_)) if status.code() == Code::DeadlineExceeded => ErrorKind::Timeout,
            (None, Some(_)) => ErrorKind::Unavailable,
            (None, None) => ErrorKind::of_code(status.code()),
        };
        let violations = status.get_details_bad_request().map_or_else(Vec::new, |bad| {
            let violations = bad.field_violations.into_iter();
            violations
                .map(|violation| FieldViolation {
                    field: violation.field,
                    description: violation.description,
                })
                .collect()
        });
        let message = match status.message() {
            "" => format!("the agent answered with {:?} and no message", status.code()),
            message => message.to_owned(),
        };
        let metadata = info.map(|info| info.metadata.into_iter().collect()).unwrap_or_default();
        let cause = std::error::Error::source(status)
            .map(|source| Arc::from(Box::<dyn Error + Send + Sync>::from(chain(source))));
        Self { kind, message, violations, metadata, cause }
    }
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_status() {
        for kind in ErrorKind::all() {
            let sent = A2aError::new(kind, "why it failed");
            let status = sent.into_status();
            let read = A2aError::from_status(&status);
            assert_eq!(read.kind(), kind);
            assert_eq!(read.message(), "why it failed");
        }
    }

    #[test]
    fn reason_wins_over_code() {
        let details = vec![ErrorDetail::ErrorInfo(ErrorInfo::new(
            "PUSH_NOTIFICATION_NOT_SUPPORTED",
            ERROR_DOMAIN,
            HashMap::<String, String>::new(),
        ))];
        let status = Status::with_error_details_vec(Code::Unimplemented, "no", details);
        assert_eq!(A2aError::from_status(&status).kind(), ErrorKind::PushNotificationNotSupported);
    }

    #[test]
    fn reason_of_another_domain_is_not_ours() {
        let details = vec![ErrorDetail::ErrorInfo(ErrorInfo::new(
            "TASK_NOT_FOUND",
            "example.com",
            HashMap::<String, String>::new(),
        ))];
        let status = Status::with_error_details_vec(Code::PermissionDenied, "no", details);
        assert_eq!(A2aError::from_status(&status).kind(), ErrorKind::Forbidden);
    }

    #[test]
    fn violations_and_metadata_survive() {
        let error = A2aError::invalid("parts[1].data", "holds no value").within("message");
        assert_eq!(error.to_string(), "message.parts[1].data: holds no value");
        let read = A2aError::from_status(&error.into_status());
        assert_eq!(read.violations()[0].field, "message.parts[1].data");
        assert_eq!(read.violations()[0].description, "holds no value");

        let read = A2aError::from_status(&A2aError::task_not_found("t-1").into_status());
        assert_eq!(read.metadata()["taskId"], "t-1");
    }

    #[test]
    fn cause_stays_inside() {
        let error = A2aError::internal("the password is swordfish");
        let status = error.clone().into_status();
        assert!(!status.message().contains("swordfish"));
        assert!(!String::from_utf8_lossy(status.details()).contains("swordfish"));
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let error = A2aError::invalid("f", "ü".repeat(5000));
        let status = error.into_status();
        assert!(status.message().len() <= TEXT_BYTES_MAX);
        assert!(status.details().len() < 4 * TEXT_BYTES_MAX);
    }
}
