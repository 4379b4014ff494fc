//! The exporters and the control interface: a thin layer that only translates.

mod logs;
mod problem;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use quell_web::{Hosts, Routes, Takes, open};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

use crate::exposition;
use crate::simulation::{REQUESTS_MAX, Shared};
use crate::world::{
    Action, DURATION_SECONDS_MAX, Exporter, Operation, Scenario, ScenarioStatus, TARGET_NAMES,
};
use problem::Problem;

const BODY_BYTES_MAX: usize = 64 * 1024;
const KEY_BYTES_MAX: usize = 255;
const REQUEST_SECONDS_MAX: u64 = 10;
/// What all but scrapes need, where one is set.
const TOKEN: &str = "the token";

type Answer<T> = Result<Json<T>, Problem>;
type World = State<Arc<Shared>>;

/// The first port: the database exporter and everything that controls the world.
pub(crate) fn control_routes() -> Routes<Arc<Shared>> {
    let any = Takes::AnyType;
    Routes::new()
        .page("/live", open(), quell_service::http::live)
        .page("/metrics", open(), |State(shared): World| async move { metrics(&shared, Exporter::Database) })
        .page("/health", TOKEN, health)
        .page("/scenarios", TOKEN, scenarios)
        .with(Method::POST, "/trigger/{scenario}", TOKEN, any, trigger)
        .with(Method::POST, "/resolve", TOKEN, any, resolve)
        .with(Method::POST, "/refuse", TOKEN, any, refuse)
        .page("/targets", TOKEN, targets)
        .page("/targets/{name}", TOKEN, target)
        .with(Method::PATCH, "/targets/{name}/config", TOKEN, any, change_config)
        .with(Method::POST, "/targets/{name}/restart", TOKEN, any, restart)
        .with(Method::PUT, "/targets/{name}/replicas", TOKEN, any, scale)
        .with(Method::POST, "/targets/{name}/clean", TOKEN, any, clean)
        .with(Method::POST, "/targets/{name}/renew", TOKEN, any, renew)
        .with(Method::POST, "/targets/{name}/end-idle-sessions", TOKEN, any, end_idle_sessions)
        .with(Method::POST, "/targets/{name}/stop-job", TOKEN, any, stop_job)
        .page("/actions", TOKEN, actions)
        .page("/logs", TOKEN, logs::list)
}

/// The second and third port: only an exporter.
pub(crate) fn exporter_routes(exporter: Exporter) -> Routes<Arc<Shared>> {
    let serve = move |State(shared): World| async move { metrics(&shared, exporter) };
    Routes::new()
        .page("/live", open(), quell_service::http::live)
        .page("/metrics", open(), serve)
        .page("/health", TOKEN, health)
}

/// The routes as they are served. No web page gets to them, and the others by the token, if there is one.
pub(crate) fn guarded(routes: Routes<Arc<Shared>>, shared: Arc<Shared>, allowed_hosts: &[String]) -> Router {
    let mut hosts = Hosts::new("--allowed-host", allowed_hosts);
    if shared.token.is_some() {
        let shared = Arc::clone(&shared);
        hosts = hosts.with_tokens(move |headers: &HeaderMap| is_authorized(&shared, headers));
    }
    let router = routes
        .into_router()
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take that method")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), operation))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared);
    quell_web::guard(router, hosts)
}

/// Authenticates, and bounds how many requests run and for how long.
async fn guard(State(shared): World, request: Request, next: Next) -> Response {
    let open = request.method() == Method::GET && ["/live", "/metrics"].contains(&request.uri().path());
    if !open && !is_authorized(&shared, request.headers()) {
        return Problem::new(StatusCode::UNAUTHORIZED, "a bearer token is needed").into_response();
    }
    let Ok(_permit) = shared.requests.try_acquire() else {
        let detail = format!("{REQUESTS_MAX} requests are being worked on, try again");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    };
    match tokio::time::timeout(Duration::from_secs(REQUEST_SECONDS_MAX), next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("the request did not arrive within {REQUEST_SECONDS_MAX} s");
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        }
    }
}

/// An operation takes its time, so that somebody can die while it is under way, and is refused if that was asked for.
async fn operation(State(shared): World, request: Request, next: Next) -> Response {
    let path = request.uri().path().strip_prefix("/targets/").filter(|_| request.method() != Method::GET);
    let Some(target) = path.and_then(|path| path.split('/').next()) else { return next.run(request).await };
    if shared.is_refused(target) {
        let detail = "this operation is refused, as was asked for by POST /refuse; nothing was changed";
        return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).into_response();
    }
    let half = shared.operation_time / 2;
    tokio::time::sleep(half).await;
    let response = next.run(request).await;
    tokio::time::sleep(half).await;
    response
}

fn is_authorized(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(expected) = &shared.token else { return true };
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let Some((scheme, token)) = given.split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(token.ct_eq(expected.expose_secret().as_bytes()))
}

fn metrics(shared: &Shared, exporter: Exporter) -> Response {
    shared.scrapes.fetch_add(1, Ordering::Relaxed);
    let families = shared.with(|world| world.metrics(exporter));
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition::render(&families)).into_response()
}

/// `resets` tells a test of healing that nobody used `POST /resolve` instead; `scrapes` tells it that there is something to compare a
/// fault with.
async fn health(State(shared): World) -> Json<Value> {
    let resets = shared.with(|world| world.resets());
    let scrapes = shared.scrapes.load(Ordering::Relaxed);
    Json(json!({ "status": "healthy", "resets": resets, "scrapes": scrapes }))
}

async fn scenarios(State(shared): World) -> Json<Vec<ScenarioStatus>> {
    Json(shared.with(|world| world.scenarios().to_vec()))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TriggerBody {
    /// In seconds; without it the fault lasts until it is healed.
    duration: Option<f64>,
}

async fn trigger(State(shared): World, Path(name): Path<String>, body: Body) -> Answer<ScenarioStatus> {
    let Some(scenario) = Scenario::by_name(&name) else {
        let known = Scenario::ALL.map(Scenario::name);
        let detail = format!("no scenario is called {name:?}; there are: {}", known.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, detail).with("scenarios", json!(known)));
    };
    let bytes = read(body).await?;
    let TriggerBody { duration } = match bytes.trim_ascii() {
        [] => TriggerBody::default(),
        given => serde_json::from_slice(given).map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the body must be like {{\"duration\": 60}}: {error}"),
            )
        })?,
    };
    if let Some(seconds) = duration
        && !(seconds > 0.0 && seconds <= f64::from(DURATION_SECONDS_MAX))
    {
        let detail =
            format!("duration must be over 0 and at most {DURATION_SECONDS_MAX} seconds, not {seconds}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let now = shared.now();
    let status = shared.with(|world| world.trigger(now, scenario, duration).clone());
    tracing::info!(scenario = name, duration_seconds = duration, "fault triggered");
    Ok(Json(status))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefuseBody {
    /// On which target.
    target: String,
    /// How many of its next operations; none takes it back.
    times: u32,
}

async fn refuse(State(shared): World, body: Body) -> Answer<Value> {
    let bytes = read(body).await?;
    let RefuseBody { target, times } = parse(&bytes)?;
    if !TARGET_NAMES.contains(&target.as_str()) {
        let detail = format!("no target is called {target:?}; there are: {}", TARGET_NAMES.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    shared.refuse_next(&target, times);
    Ok(Json(json!({ "target": target, "times": times })))
}

async fn resolve(State(shared): World) -> Json<Value> {
    shared.refuse_nothing();
    let now = shared.now();
    let ended = shared.with(|world| world.resolve_all(now));
    tracing::info!(count = ended.len(), "all faults ended by hand");
    Json(json!({ "ended": ended }))
}

async fn targets(State(shared): World) -> Json<Vec<Value>> {
    Json(shared.with(|world| world.targets()))
}

async fn target(State(shared): World, Path(name): Path<String>) -> Answer<Value> {
    shared.with(|world| world.target(&name)).map(Json).ok_or_else(|| {
        let detail = format!("no target is called {name:?}");
        Problem::new(StatusCode::NOT_FOUND, detail).with("targets", json!(TARGET_NAMES))
    })
}

async fn actions(State(shared): World) -> Json<Vec<Action>> {
    Json(shared.with(|world| world.actions().iter().cloned().collect()))
}

async fn change_config(
    State(shared): World,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Value> {
    let changes: Map<String, Value> = parse(&read(body).await?)?;
    operate(&shared, &name, &headers, &Operation::Config(changes))
}

async fn restart(
    State(shared): World,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Value> {
    read(body).await?;
    operate(&shared, &name, &headers, &Operation::Restart)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicasBody {
    replicas: u32,
}

async fn scale(
    State(shared): World,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Value> {
    let ReplicasBody { replicas } = parse(&read(body).await?)?;
    operate(&shared, &name, &headers, &Operation::Replicas(replicas))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CleanBody {
    path: String,
}

async fn clean(
    State(shared): World,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Value> {
    let CleanBody { path } = parse(&read(body).await?)?;
    operate(&shared, &name, &headers, &Operation::Clean(path))
}

async fn renew(
    State(shared): World,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Value> {
    read(body).await?;
    operate(&shared, &name, &headers, &Operation::Renew)
}

async fn end_idle_sessions(
    State(shared): World,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Value> {
    read(body).await?;
    operate(&shared, &name, &headers, &Operation::EndIdleSessions)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopJobBody {
    job: String,
}

async fn stop_job(
    State(shared): World,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Value> {
    let StopJobBody { job } = parse(&read(body).await?)?;
    operate(&shared, &name, &headers, &Operation::StopJob(job))
}

fn operate(shared: &Shared, name: &str, headers: &HeaderMap, operation: &Operation) -> Answer<Value> {
    let key =
        headers.get("idempotency-key").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        let detail = format!("Idempotency-Key must have at most {KEY_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let now = shared.now();
    let action = shared.with(|world| world.operate(now, name, operation, key))?;
    tracing::info!(
        action = action.id,
        operation = action.operation,
        target = action.target,
        healed = action.healed.map(Scenario::name),
        "operation carried out"
    );
    Ok(Json(json!({ "from": action.from, "to": action.to })))
}

/// The whole body, whatever its content type says: `curl -d` claims that JSON is a form.
async fn read(body: Body) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let detail = format!("the body could not be read, or has more than {BODY_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    })
}

/// JSON of the wrong shape is understood but refused; what is no JSON is not understood.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // A struct would be read from a list as well, by the order of its fields.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let detail = "the body does not fit: expected a JSON object, found a list";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let status = if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        Problem::new(status, format!("the body does not fit: {error}"))
    })
}
