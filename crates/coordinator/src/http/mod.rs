//! What the coordinator serves over HTTP: webhooks, the API, health and metrics.

mod api;
mod body;
mod changes;
mod evidence;
mod webhooks;

pub(crate) use body::Bodies;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use quell_incident::ids::SourceName;
use quell_service::http::metrics_response;
use quell_service::{Principal, Problem, Scope, TokenTable};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use crate::correlate::Correlated;
use crate::site::Site;

/// An agent as it is configured, for those who ask which there are.
#[derive(Clone, Debug)]
pub(crate) struct AgentEndpoint {
    /// `diagnostic` or `resolution`.
    pub role: &'static str,
    /// Where its card is.
    pub url: String,
}

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Web {
    /// The site.
    pub site: Arc<Site>,
    /// Who may call.
    pub tokens: Arc<TokenTable>,
    /// The source of `/webhooks/alertmanager`.
    pub source: SourceName,
    /// Told after each receipt.
    pub received: Arc<Notify>,
    /// Where correlation stands.
    pub correlated: Correlated,
    /// What is counted.
    pub registry: Arc<Registry>,
    /// The agents.
    pub agents: Arc<[AgentEndpoint]>,
    /// For asking them for their cards.
    pub client: reqwest::Client,
    /// The largest body of a request.
    pub body_bytes_max: usize,
    /// What all bodies together may take.
    pub bodies: Bodies,
    /// Lists of whole incidents are made a few at a time.
    pub large_answers: Arc<Semaphore>,
}

/// So many at the same time.
pub(crate) const LARGE_ANSWERS_MAX: usize = 4;

impl Web {
    /// The caller, if they may do this.
    fn require(&self, headers: &HeaderMap, scope: Scope) -> Result<Principal, Problem> {
        let principal = self.tokens.authenticate_headers(headers)?;
        principal.require(scope)?;
        Ok(principal)
    }
}

/// The routes. `card` stands at the well-known place here as well as on the gRPC port.
pub(crate) fn router(web: Web, card: Router, enable_webhooks: bool) -> Router {
    let mut router = Router::new()
        .route("/live", get(quell_service::http::live))
        .route("/health", get(health))
        .route("/ready", get(health))
        .route("/metrics", get(metrics))
        .route("/incidents", get(api::list))
        .route("/api/incidents", get(api::list).post(api::create))
        .route("/api/incidents/{id}", get(api::show))
        .route("/api/incidents/{id}/evidence", get(evidence::show))
        .route("/api/changes", get(changes::list).post(changes::tell))
        .route("/api/incidents/{id}/{word}", post(api::word))
        .route("/api/agents", get(api::agents))
        .route("/api/kill-switch", get(api::kill_switch).put(api::set_kill_switch));
    if enable_webhooks {
        // A slash at the end is a common slip in an address, and a 404 would lose alerts.
        router = router
            .route("/webhooks/alertmanager", post(webhooks::alertmanager))
            .route("/webhooks/alertmanager/", post(webhooks::alertmanager))
            .route("/webhook/alert", post(webhooks::alert))
            .route("/webhook/alert/", post(webhooks::alert));
    }
    router
        .fallback(async || {
            Problem::not_found("nothing is here; the API is under /api, webhooks under /webhooks")
        })
        .method_not_allowed_fallback(async || {
            let detail = "this path does not take that method; the header `Allow` names those that it takes";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .with_state(web)
        .merge(card)
}

/// Healthy as long as the store takes changes: without it nothing could be accepted.
async fn health(State(web): State<Web>) -> Response {
    match web.site.store.health().await {
        Ok(()) => Json(json!({"status": "healthy", "database": "connected"})).into_response(),
        Err(error) => {
            let body = json!({"status": "unhealthy", "database": error.to_string()});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn metrics(State(web): State<Web>) -> Response {
    metrics_response(&web.registry)
}
