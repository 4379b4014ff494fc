//! `/live`, `/health`, `/ready` and `/metrics`.

use std::sync::{Arc, PoisonError};

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use quell_a2a::{A2aError, AGENT_CARD_PATH, CALLS};
use quell_service::Scope;
use quell_service::http::metrics_response;
use quell_web::{Endpoint, Routes, Takes, open};
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

fn routes() -> Routes<Pages> {
    Routes::new()
        .page("/live", open(), quell_service::http::live)
        .page("/health", open(), async || Json(json!({"status": "healthy"})))
        .page("/ready", open(), ready)
        .page("/metrics", open(), metrics)
}

pub(crate) fn router(pages: Pages) -> Router {
    routes().into_router().with_state(pages)
}

/// What the port answers to, and the rights that it takes.
///
/// # Errors
/// [`A2aError`] when the descriptors of A2A cannot be read.
pub fn endpoints() -> Result<Vec<Endpoint>, A2aError> {
    let card = Endpoint {
        method: Method::GET,
        path: AGENT_CARD_PATH.to_owned(),
        needs: open(),
        takes: Takes::Nothing,
    };
    let call = |path: String| {
        let needs = if path.starts_with(CALLS) { Scope::Agent.as_str() } else { open() };
        Endpoint { method: Method::POST, path, needs, takes: Takes::Grpc }
    };
    let calls = quell_a2a::calls()?.into_iter().map(call);
    Ok(routes().into_endpoints().into_iter().chain([card]).chain(calls).collect())
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
