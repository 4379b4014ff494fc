//! What the coordinator serves over HTTP: webhooks, the API, health and metrics.

mod api;
mod body;
mod changes;
mod evidence;
mod webhooks;

pub(crate) use body::Bodies;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use quell_incident::ids::SourceName;
use quell_service::config::BaseUrl;
use quell_service::http::metrics_response;
use quell_service::{Principal, Problem, Scope, TokenTable};
use quell_web::{Endpoint, Routes, Takes, open};
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
    pub url: BaseUrl,
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

/// The routes but the card's. Webhooks come from senders that say all sorts of types.
fn routes(enable_webhooks: bool) -> Routes<Web> {
    let [webhook, read, operate] = [Scope::Webhook, Scope::Read, Scope::Operate].map(Scope::as_str);
    let routes = Routes::new()
        .page("/live", open(), quell_service::http::live)
        .page("/health", open(), health)
        .page("/ready", open(), health)
        .page("/metrics", open(), metrics)
        .page("/incidents", read, api::list)
        .page("/api/incidents", read, api::list)
        .with(Method::POST, "/api/incidents", operate, Takes::Json, api::create)
        .page("/api/incidents/{id}", read, api::show)
        .page("/api/incidents/{id}/evidence", read, evidence::show)
        .page("/api/changes", read, changes::list)
        .with(Method::POST, "/api/changes", webhook, Takes::Json, changes::tell)
        .with(Method::POST, WORD, "operate or approve", Takes::Json, api::word)
        .page("/api/agents", read, api::agents)
        .page("/api/kill-switch", read, api::kill_switch)
        .with(
            Method::PUT,
            "/api/kill-switch",
            "operate; approve to release",
            Takes::Json,
            api::set_kill_switch,
        );
    if !enable_webhooks {
        return routes;
    }
    // A slash at the end is a common slip in an address, and a 404 would lose alerts.
    let routes =
        ["/webhooks/alertmanager", "/webhooks/alertmanager/"].into_iter().fold(routes, |routes, path| {
            routes.with(Method::POST, path, webhook, Takes::AnyType, webhooks::alertmanager)
        });
    ["/webhook/alert", "/webhook/alert/"].into_iter().fold(routes, |routes, path| {
        routes.with(Method::POST, path, webhook, Takes::AnyType, webhooks::alert)
    })
}

/// The path of people's words.
const WORD: &str = "/api/incidents/{id}/{word}";

/// What the port answers to, each of people's words by itself.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let (words, mut others): (Vec<_>, Vec<_>) =
        routes(true).into_endpoints().into_iter().partition(|endpoint| endpoint.path == WORD);
    for (word, scope) in words.iter().flat_map(|_| api::WORDS) {
        let path = WORD.replace("{word}", word);
        others.push(Endpoint { method: Method::POST, path, needs: scope.as_str(), takes: Takes::Json });
    }
    others
}

/// The routes. `card` stands at the well-known place here as well as on the gRPC port.
pub(crate) fn router(web: Web, card: Router, enable_webhooks: bool) -> Router {
    routes(enable_webhooks)
        .into_router()
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
