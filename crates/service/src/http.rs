//! What all HTTP sides have in common: errors as RFC 9457 problems, and the metrics page.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::tokens::AuthError;

/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";
/// The media type of the metrics page.
pub const OPENMETRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An error as an HTTP client gets it (RFC 9457). Its detail is for the caller; internal causes go to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Identifies the kind of problem; `about:blank` where the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What it is about, such as the path of an incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// When trying again makes sense; becomes a `Retry-After` header.
    #[serde(skip)]
    pub retry_after_seconds: Option<u64>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: Some(detail.into()),
            instance: None,
            retry_after_seconds: None,
        }
    }

    /// 400: the request cannot be understood, and never will be.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 409: it does not go together with the present state.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 413: the body has more than `bytes_max` bytes.
    pub fn body_too_large(bytes_max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {bytes_max} bytes"))
    }

    /// 422: understood, and its content cannot be accepted.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 503: not now. Overload is always this and never a 4xx, which alert senders do not send again.
    pub fn unavailable(detail: impl Into<String>, retry_after_seconds: u64) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.retry_after_seconds = Some(retry_after_seconds);
        problem
    }

    /// 500 without the cause: log that before.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong inside; the log says what")
    }

    /// The same with a kind of its own, such as `urn:quell:problem:plan-changed`.
    pub fn of_kind(mut self, kind: impl Into<String>, title: impl Into<String>) -> Self {
        self.kind = kind.into();
        self.title = title.into();
        self
    }

    /// The same with what it is about.
    pub fn about(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let status = match error {
            AuthError::Missing | AuthError::Unknown => StatusCode::UNAUTHORIZED,
            AuthError::Forbidden { .. } => StatusCode::FORBIDDEN,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_seconds = self.retry_after_seconds;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// `/live`: the process answers. It looks at nothing else, so that nothing else can keep it from answering: whether the process has to
/// be started again is another question than whether it can work.
pub async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({"status": "live"}))
}

/// The metrics page of a registry.
pub fn metrics_response(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS_TEXT))], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics page");
            Problem::internal().into_response()
        }
    }
}

/// Registers `quell_build_info`, which says what runs.
pub fn register_build_info(registry: &mut Registry, daemon: &'static str, version: &'static str) {
    let info = Info::new(vec![("daemon", daemon), ("version", version)]);
    registry.register("quell_build", "What runs here", info);
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn body(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_problem_is_an_rfc_9457_document() {
        let problem = Problem::conflict("the plan changed").about("/api/incidents/1");
        let problem = problem.of_kind("urn:quell:problem:plan-changed", "Plan changed");
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        insta::assert_snapshot!(body(response).await, @r#"{"type":"urn:quell:problem:plan-changed","title":"Plan changed","status":409,"detail":"the plan changed","instance":"/api/incidents/1"}"#);
    }

    #[tokio::test]
    async fn overload_says_when_to_come_back() {
        let response = Problem::unavailable("the queue is full", 2).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert!(!body(response).await.contains("retry"));
    }

    #[tokio::test]
    async fn callers_who_are_turned_away_learn_how_to_come_in() {
        let response = Problem::from(AuthError::Missing).into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        let error = AuthError::Forbidden { name: "on-call".to_owned(), scope: "approve" };
        assert_eq!(Problem::from(error).status, 403);
    }

    #[tokio::test]
    async fn the_metrics_page_says_what_runs() {
        let mut registry = Registry::default();
        register_build_info(&mut registry, "quell-coordinator", "1.2.3");
        let response = metrics_response(&registry);
        assert_eq!(response.headers()[CONTENT_TYPE], OPENMETRICS_TEXT);
        insta::assert_snapshot!(body(response).await, @r#"
        # HELP quell_build What runs here.
        # TYPE quell_build info
        quell_build_info{daemon="quell-coordinator",version="1.2.3"} 1
        # EOF
        "#);
    }
}
