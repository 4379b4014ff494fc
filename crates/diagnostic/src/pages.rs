//! `/live`, `/health`, `/ready` and `/metrics`.

use std::sync::{Arc, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use quell_service::http::metrics_response;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::skill::Current;

#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) current: Arc<Current>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: CancellationToken,
}

pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/live", get(quell_service::http::live))
        .route("/health", get(async || Json(json!({"status": "healthy"}))))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

/// Whether it should be asked. Sources that are away do not count: a diagnosis says what it could not see.
async fn ready(State(pages): State<Pages>) -> Response {
    if pages.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready"}))).into_response();
    }
    let means = pages.current.get();
    let tools: Vec<&str> = means.tools.registry.list().into_iter().map(|spec| spec.name.as_str()).collect();
    Json(json!({
        "status": "ready",
        "rules": means.rules.names().len(),
        "rules_digest": means.rules.digest().short(),
        "tools": tools,
    }))
    .into_response()
}

async fn metrics(State(pages): State<Pages>) -> Response {
    // Writing the page changes nothing, so a panic in it leaves nothing half done.
    metrics_response(&pages.metrics.registry.lock().unwrap_or_else(PoisonError::into_inner))
}
