//! Against a small interface that keeps its state, and that can break off after an effect.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use quell_tool::{
    ActionCall, ActionRegistry, CallContext, Effected, ExecutionGrant, Preview, ProbeVerdict, ToolError,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{ACTIONS, ClientError, DeploymentSystem, DeploymentTarget};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// How the next answer to an effect goes wrong.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// The effect takes place; the connection breaks before a word.
    DropAfterEffect,
    /// The effect takes place; the connection breaks in the middle of the answer.
    DropInAnswer,
    /// Answers this status, with the effect done or not.
    Status(StatusCode, bool),
    /// The effect takes place and the answer never comes.
    Hang,
    /// An answer without an end.
    Endless,
    /// A redirect to another place that takes everything.
    Redirect,
}

#[derive(Default)]
struct World {
    state: Mutex<Value>,
    wrong: Mutex<VecDeque<Wrong>>,
    /// Method, path, key and body of each request that would change something.
    seen: Mutex<Vec<(String, String, String, Value)>>,
    authorized: Mutex<Vec<String>>,
}

impl World {
    fn change(&self, name: &str, operation: &str, body: &Value) -> (Value, Value) {
        let mut state = self.state.lock().unwrap();
        let target = &mut state[name];
        match operation {
            "replicas" => {
                let from = json!({"replicas": target["replicas"]});
                target["replicas"] = body["replicas"].clone();
                (from, json!({"replicas": body["replicas"]}))
            }
            "config" => {
                let mut from = json!({});
                for (key, value) in body.as_object().unwrap() {
                    from[key] = target["config"][key].clone();
                    target["config"][key] = value.clone();
                }
                (from, body.clone())
            }
            "restart" => {
                let from = target["started_at"].clone();
                target["started_at"] = json!(NOW);
                (json!({"started_at": from}), json!({"started_at": NOW}))
            }
            _ => (json!(operation), body.clone()),
        }
    }

    fn seen(&self) -> Vec<(String, String, String, Value)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read(State(world): State<Arc<World>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    let shown = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    world.authorized.lock().unwrap().extend(shown);
    let state = world.state.lock().unwrap()[&name].clone();
    if state.is_null() { StatusCode::NOT_FOUND.into_response() } else { Json(state).into_response() }
}

async fn change(
    State(world): State<Arc<World>>,
    Path((name, operation)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let path = format!("{name}/{operation}");
    world.seen.lock().unwrap().push((method.to_string(), path, key.unwrap_or_default(), body.clone()));
    let wrong = world.wrong.lock().unwrap().pop_front();
    if let Some(Wrong::Status(status, false)) = wrong {
        return (status, "no").into_response();
    }
    if let Some(Wrong::Redirect) = wrong {
        let to = format!("/targets/{name}/{operation}");
        return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response();
    }
    let (from, to) = world.change(&name, &operation, &body);
    let breaks = || Err::<Bytes, _>(std::io::Error::other("broken on purpose"));
    match wrong {
        None => Json(json!({"from": from, "to": to})).into_response(),
        // A panic in the handler ends the connection without an answer.
        Some(Wrong::DropAfterEffect) => std::panic::panic_any("dropped on purpose"),
        Some(Wrong::DropInAnswer) => {
            let parts = vec![Ok(Bytes::from_static(b"{\"from\":")), breaks()];
            Body::from_stream(futures_of(parts)).into_response()
        }
        Some(Wrong::Hang) => std::future::pending().await,
        Some(Wrong::Endless) => {
            let parts = (0..100).map(|_| Ok(Bytes::from(vec![b' '; 64 << 10]))).collect();
            Body::from_stream(futures_of(parts)).into_response()
        }
        Some(Wrong::Status(status, _)) => (status, "after the effect").into_response(),
        Some(Wrong::Redirect) => StatusCode::IM_A_TEAPOT.into_response(),
    }
}

fn futures_of(
    parts: Vec<Result<Bytes, std::io::Error>>,
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::iter(parts)
}

struct Site {
    world: Arc<World>,
    actions: ActionRegistry,
}

async fn site() -> Site {
    let world = Arc::new(World::default());
    *world.state.lock().unwrap() = json!({
        "service": {
            "name": "service", "kind": "service", "host": "h", "replicas": 2, "started_at": "2026-12-01T00:00:00Z",
            "config": {"connection_timeout": 10, "pool_size": 10, "mode": "fast"},
            "jobs": [{"name": "batch", "started_at": "2026-12-01T00:00:00Z"}],
        },
        "storage": {"filesystems": {"/data": {"size_bytes": 100, "avail_bytes": 10, "cleaned_at": null}}},
        "postgres": {"sessions": {"active": 3, "idle": 40, "max": 50}, "idle_ended_at": null},
        "cert": {"not_before": "2026-11-01T00:00:00Z", "not_after": "2027-01-16T00:00:00Z"},
        "odd/name?x": {"replicas": 1},
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/api/targets/{name}", get(read))
        .route("/api/targets/{name}/{operation}", any(change))
        .with_state(Arc::clone(&world));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Site { actions: registry(address), world }
}

fn registry(address: SocketAddr) -> ActionRegistry {
    let target = |name: &str, token: Option<&str>| DeploymentTarget {
        name: name.to_owned(),
        endpoint: format!("http://{address}/api"),
        token: token.map(|token| SecretString::from(token.to_owned())),
    };
    let tool = DeploymentSystem::new(vec![
        target("service", Some("t0ken")),
        target("storage", None),
        target("postgres", None),
        target("cert", None),
        target("odd/name?x", None),
        target("gone", None),
    ])
    .unwrap();
    let mut actions = ActionRegistry::new();
    actions.register(Arc::new(tool)).unwrap();
    actions
}

fn call(target: &str, action: &str, parameters: Value) -> ActionCall {
    let Value::Object(arguments) = json!({"action": action, "parameters": parameters}) else {
        unreachable!()
    };
    ActionCall { action: "deployment-system".to_owned(), target: target.to_owned(), arguments }
}

fn context() -> CallContext {
    CallContext::within(Duration::from_secs(20))
}

impl Site {
    fn goes_wrong(&self, wrong: Wrong) {
        self.world.wrong.lock().unwrap().push_back(wrong);
    }

    async fn preview(&self, call: &ActionCall) -> Result<Preview, ToolError> {
        self.actions.preview(call, &context()).await
    }

    async fn execute(&self, call: &ActionCall, key: &str) -> Result<Effected, ToolError> {
        let grant = ExecutionGrant::issue(key, call.clone(), NOW).with_fencing_token(3);
        self.actions.execute(grant, NOW, &context()).await
    }

    async fn probe(&self, call: &ActionCall, began_at: Timestamp) -> ProbeVerdict {
        self.actions.probe(call, began_at, &context()).await.unwrap()
    }

    fn set(&self, pointer: &str, value: Value) {
        *self.world.state.lock().unwrap().pointer_mut(pointer).unwrap() = value;
    }
}

#[tokio::test]
async fn a_preview_says_what_would_change_and_captures_the_way_back() {
    let site = site().await;
    let wanted = call("service", "update_config", json!({"connection_timeout": 30, "pool_size": 20}));
    let preview = site.preview(&wanted).await.unwrap();
    assert_eq!(preview.summary, "set connection_timeout = 30, pool_size = 20 on service");
    let changes: Vec<_> = preview.changes.iter().map(|one| (one.what.as_str(), &one.from, &one.to)).collect();
    assert_eq!(
        changes,
        [
            ("connection_timeout of service", &json!(10), &json!(30)),
            ("pool_size of service", &json!(10), &json!(20))
        ]
    );
    let back = call("service", "update_config", json!({"connection_timeout": 10, "pool_size": 10}));
    assert_eq!(preview.inverse, Some(back));

    let preview = site.preview(&call("service", "scale", json!({"replicas": 6}))).await.unwrap();
    assert_eq!(preview.inverse, Some(call("service", "scale", json!({"replicas": 2}))));

    // What is not there yet cannot be set back.
    let preview = site.preview(&call("service", "update_config", json!({"new": 1}))).await.unwrap();
    assert_eq!((preview.inverse, preview.limits_of_preview.is_some()), (None, true));

    for (target, action, parameters, summary) in [
        (
            "service",
            "restart_service",
            json!({}),
            "restart service, which has run since 2026-12-01T00:00:00Z",
        ),
        ("service", "stop_job", json!({"job": "batch"}), "stop job batch of service"),
        (
            "storage",
            "clean_disk",
            json!({"path": "/data/"}),
            "remove old logs from /data/ on storage, where 10 bytes are free",
        ),
        ("postgres", "end_idle_sessions", json!({}), "end 40 idle sessions of postgres"),
        (
            "cert",
            "renew_certificate",
            json!({}),
            "renew the certificate cert, which expires at 2027-01-16T00:00:00Z",
        ),
    ] {
        let preview = site.preview(&call(target, action, parameters)).await.unwrap();
        assert_eq!(preview.summary, summary);
        assert_eq!(preview.inverse, None);
    }
    assert!(site.world.seen().is_empty(), "a preview changes nothing");
    assert!(site.world.authorized.lock().unwrap().iter().all(|shown| shown == "Bearer t0ken"));
}

#[tokio::test]
async fn a_preview_of_what_cannot_be_done_is_an_error() {
    let site = site().await;
    for (target, action, parameters, expected) in [
        ("storage", "restart_service", json!({}), "not found: a start time of target `storage`"),
        (
            "service",
            "clean_disk",
            json!({"path": "/data"}),
            "not found: filesystem /data of target `service`",
        ),
        ("service", "stop_job", json!({"job": "x"}), "not found: a running job `x` of target `service`"),
        ("nobody", "restart_service", json!({}), "not found: target `nobody` in the inventory"),
        ("service", "scale", json!({"replicas": -1}), "invalid input"),
        ("service", "scale", json!({}), "invalid input"),
        (
            "service",
            "update_config",
            json!({}),
            "invalid input in `parameters`: must name at least one setting",
        ),
        ("service", "update_config", json!({"a": {"b": 1}}), "invalid input"),
        ("service", "format_disk", json!({}), "invalid input"),
    ] {
        let error = site.preview(&call(target, action, parameters)).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let gone = site.preview(&call("gone", "restart_service", json!({}))).await.unwrap_err();
    assert!(matches!(gone, ToolError::NotFound { .. }), "{gone}");
}

#[tokio::test]
async fn an_action_is_one_request_with_its_key() {
    let site = site().await;
    for (target, action, parameters, method, path) in [
        ("service", "update_config", json!({"pool_size": 20}), "PATCH", "service/config"),
        ("service", "restart_service", json!({}), "POST", "service/restart"),
        ("service", "scale", json!({"replicas": 6}), "PUT", "service/replicas"),
        ("storage", "clean_disk", json!({"path": "/data"}), "POST", "storage/clean"),
        ("cert", "renew_certificate", json!({}), "POST", "cert/renew"),
        ("postgres", "end_idle_sessions", json!({}), "POST", "postgres/end-idle-sessions"),
        ("service", "stop_job", json!({"job": "batch"}), "POST", "service/stop-job"),
    ] {
        let before = site.world.seen().len();
        site.execute(&call(target, action, parameters.clone()), "i/1/d/s/1").await.unwrap();
        let seen = site.world.seen();
        let expected = (method.to_owned(), path.to_owned(), "i/1/d/s/1".to_owned(), parameters);
        assert_eq!(seen[before..], [expected]);
    }
    assert_eq!(site.world.seen().len(), ACTIONS.len());
    let done = site.execute(&call("service", "scale", json!({"replicas": 3})), "k").await.unwrap();
    let change = &done.changes[0];
    assert_eq!(
        (change.what.as_str(), &change.from, &change.to),
        ("replicas of service", &json!(6), &json!(3))
    );
    // Keys that a header would not hold are sent as their digest.
    site.execute(&call("service", "scale", json!({"replicas": 3})), &"k".repeat(400)).await.unwrap();
    assert_eq!(site.world.seen().last().unwrap().2.len(), 64);
}

#[tokio::test]
async fn a_name_is_one_segment_of_the_path() {
    let site = site().await;
    site.execute(&call("odd/name?x", "scale", json!({"replicas": 2})), "k").await.unwrap();
    assert_eq!(site.world.seen()[0].1, "odd/name?x/replicas");
    for (name, endpoint) in [("..", "http://h"), ("a", "file:///etc"), ("a", "nowhere"), ("", "http://h")] {
        let target = DeploymentTarget { name: name.to_owned(), endpoint: endpoint.to_owned(), token: None };
        let refused = DeploymentSystem::new(vec![target]);
        assert!(matches!(refused, Err(ClientError::Endpoint { .. })), "{name} {endpoint}");
    }
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_in_doubt_and_not_sent_again() {
    let site = site().await;
    for wrong in [
        Wrong::DropAfterEffect,
        Wrong::DropInAnswer,
        Wrong::Endless,
        Wrong::Status(StatusCode::INTERNAL_SERVER_ERROR, true),
        Wrong::Status(StatusCode::BAD_GATEWAY, false),
        Wrong::Status(StatusCode::SERVICE_UNAVAILABLE, false),
        Wrong::Status(StatusCode::OK, true),
    ] {
        let before = site.world.seen().len();
        site.goes_wrong(wrong);
        let error = site.execute(&call("service", "restart_service", json!({})), "k").await.unwrap_err();
        assert!(matches!(error, ToolError::InDoubt { .. }), "{wrong:?}: {error}");
        assert_eq!(site.world.seen().len(), before + 1, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_late_answer_is_in_doubt() {
    let site = site().await;
    site.goes_wrong(Wrong::Hang);
    let wanted = call("service", "scale", json!({"replicas": 4}));
    let grant = ExecutionGrant::issue("k", wanted.clone(), NOW);
    let short = CallContext::within(Duration::from_secs(2));
    let error = site.actions.execute(grant, NOW, &short).await.unwrap_err();
    assert!(matches!(error, ToolError::InDoubt { .. }), "{error}");
    assert!(matches!(site.probe(&wanted, NOW).await, ProbeVerdict::Done { .. }));
}

#[tokio::test]
async fn what_was_refused_or_could_not_be_sent_did_not_happen() {
    let site = site().await;
    let wanted = call("service", "scale", json!({"replicas": 4}));
    for status in [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::UNAUTHORIZED, StatusCode::CONFLICT] {
        site.goes_wrong(Wrong::Status(status, false));
        let error = site.execute(&wanted, "k").await.unwrap_err();
        assert!(matches!(error, ToolError::Upstream { .. }), "{error}");
    }
    // A redirect is not followed: the inventory alone says where to go.
    site.goes_wrong(Wrong::Redirect);
    let error = site.execute(&wanted, "k").await.unwrap_err();
    // Whoever redirects may have acted before.
    assert!(matches!(&error, ToolError::InDoubt { why } if why.contains("307")), "{error}");
    assert_eq!(site.world.seen().len(), 4);
    assert_eq!(site.probe(&wanted, NOW).await, ProbeVerdict::NotDone);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = registry(listener.local_addr().unwrap());
    drop(listener);
    let grant = ExecutionGrant::issue("k", wanted.clone(), NOW);
    let error = nobody.execute(grant, NOW, &context()).await.unwrap_err();
    assert!(matches!(error, ToolError::Unreachable { .. }), "{error}");
    let error = nobody.preview(&wanted, &context()).await.unwrap_err();
    assert!(matches!(error, ToolError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_probe_compares_the_state_with_what_was_wanted() {
    let site = site().await;
    let config = call("service", "update_config", json!({"connection_timeout": 30.0, "pool_size": 20}));
    assert_eq!(site.probe(&config, NOW).await, ProbeVerdict::NotDone);
    site.set("/service/config/pool_size", json!(20));
    assert!(matches!(site.probe(&config, NOW).await, ProbeVerdict::CannotTell { .. }));
    site.set("/service/config/connection_timeout", json!(30));
    assert!(matches!(site.probe(&config, NOW).await, ProbeVerdict::Done { .. }));

    let job = call("service", "stop_job", json!({"job": "batch"}));
    assert_eq!(site.probe(&job, NOW).await, ProbeVerdict::NotDone);
    site.set("/service/jobs/0/started_at", json!(NOW + SignedDuration::from_secs(1)));
    assert!(matches!(site.probe(&job, NOW).await, ProbeVerdict::CannotTell { .. }));
    site.set("/service/jobs", json!([]));
    assert!(matches!(site.probe(&job, NOW).await, ProbeVerdict::Done { .. }));

    // A state that does not show it decides nothing.
    let strange = call("storage", "scale", json!({"replicas": 1}));
    assert!(matches!(site.probe(&strange, NOW).await, ProbeVerdict::CannotTell { .. }));
}

#[tokio::test]
async fn a_probe_compares_times_with_the_beginning_of_the_step() {
    let site = site().await;
    for (target, action, parameters, pointer, margin_seconds) in [
        ("service", "restart_service", json!({}), "/service/started_at", 2),
        ("storage", "clean_disk", json!({"path": "/data"}), "/storage/filesystems/~1data/cleaned_at", 2),
        ("postgres", "end_idle_sessions", json!({}), "/postgres/idle_ended_at", 2),
        ("cert", "renew_certificate", json!({}), "/cert/not_before", 3600),
    ] {
        let asked = call(target, action, parameters);
        assert_eq!(site.probe(&asked, NOW).await, ProbeVerdict::NotDone, "{action}");
        site.set(pointer, json!(NOW - SignedDuration::from_secs(margin_seconds + 1)));
        assert_eq!(site.probe(&asked, NOW).await, ProbeVerdict::NotDone, "{action}");
        site.set(pointer, json!(NOW - SignedDuration::from_secs(1)));
        assert!(matches!(site.probe(&asked, NOW).await, ProbeVerdict::CannotTell { .. }), "{action}");
        for seconds in [0, 3] {
            site.set(pointer, json!(NOW + SignedDuration::from_secs(seconds)));
            assert!(matches!(site.probe(&asked, NOW).await, ProbeVerdict::Done { .. }), "{action}");
        }
    }
    assert!(site.world.seen().is_empty(), "a probe changes nothing");
}
