//! Errors as RFC 9457 problem documents.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::world::Refusal;

const OPERATIONS: &str = "operations";

/// An error answer.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    /// A member of its own: what would have been right.
    known: Option<(&'static str, Value)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), known: None }
    }

    pub(crate) fn with(mut self, member: &'static str, value: Value) -> Problem {
        self.known = Some((member, value));
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = refusal.to_string();
        match refusal {
            Refusal::UnknownTarget { .. } => {
                Problem::new(StatusCode::NOT_FOUND, detail).with("targets", json!(crate::world::TARGET_NAMES))
            }
            Refusal::NotOffered { kind, .. } => Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
                .with(OPERATIONS, json!(kind.operations())),
            Refusal::Invalid(_) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        // A target without the operation takes no method at all; where only the method is wrong, axum names the right one.
        let no_method = self.known.as_ref().is_some_and(|(member, _)| *member == OPERATIONS);
        if let Some((member, value)) = self.known {
            document[member] = value;
        }
        let mut response = (self.status, document.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::METHOD_NOT_ALLOWED if no_method => {
                headers.insert(header::ALLOW, HeaderValue::from_static(""));
            }
            _ => {}
        }
        response
    }
}
