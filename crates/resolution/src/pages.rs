//! `/live`, `/health`, `/ready` and `/metrics`.

use std::sync::{Arc, PoisonError};

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use quell_a2a::{A2aError, AGENT_CARD_PATH, CALLS};
use quell_remedy::Agent;
use quell_service::http::metrics_response;
use quell_service::{Scope, in_words};
use quell_web::{Endpoint, Routes, Takes, open};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) agent: Arc<Agent>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: CancellationToken,
}

fn routes() -> Routes<Pages> {
    Routes::new()
        .page("/live", open(), quell_service::http::live)
        .page("/health", open(), health)
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

/// Whether the process should live.
async fn health(State(pages): State<Pages>) -> Response {
    match trouble(&pages).await {
        None => Json(json!({"status": "healthy", "ledger": "open"})).into_response(),
        Some(why) => {
            let body = Json(json!({"status": "unhealthy", "ledger": why}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// Why nothing could be recorded, and so nothing be begun.
async fn trouble(pages: &Pages) -> Option<String> {
    if let Some(error) = pages.agent.ledger().failure() {
        return Some(in_words(&error));
    }
    let agent = Arc::clone(&pages.agent);
    match tokio::task::spawn_blocking(move || agent.ledger().check_room()).await {
        Ok(room) => room.err().map(|error| in_words(&error)),
        Err(_) => Some("the ledger's folder could not be tried".to_owned()),
    }
}

/// Whether it should be asked.
async fn ready(State(pages): State<Pages>) -> Response {
    if pages.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready"}))).into_response();
    }
    if let Some(why) = trouble(&pages).await {
        let body = Json(json!({"status": "not ready", "ledger": why}));
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    let knowledge = pages.agent.knowledge();
    let guard = &knowledge.guard;
    Json(json!({
        "status": "ready",
        "runbooks": knowledge.runbooks.iter().count(),
        "targets": knowledge.inventory.iter().count(),
        "executes": guard.execute_real_commands && !guard.dry_run,
        "steps_running": pages.agent.running(),
    }))
    .into_response()
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let running = i64::try_from(pages.agent.running()).unwrap_or(i64::MAX);
    pages.metrics.steps_running.set(running);
    // Encoding reads atomics only; a panic in it leaves nothing half done.
    metrics_response(&pages.metrics.registry.lock().unwrap_or_else(PoisonError::into_inner))
}
