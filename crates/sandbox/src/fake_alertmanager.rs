//! An Alertmanager in this process: its API, version 2, as far as Quell and the tests use it, with alerts, silences, a restart, and bad
//! days. It refuses what the real one refuses; a test holds the two side by side.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::{Fingerprint, Labels};
use quell_service::{Clock, SystemClock};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::SandboxError;

/// How it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// 503 to everything.
    Unavailable,
    /// Never.
    Silent,
    /// Something that is not what was asked for.
    Nonsense,
}

#[derive(Clone)]
struct Alert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Clone)]
struct Silence {
    matchers: Vec<Matcher>,
    body: Value,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

#[derive(Clone)]
struct Matcher {
    name: String,
    value: Regex,
    equal: bool,
}

struct Inside {
    started_at: Timestamp,
    resolve_timeout: SignedDuration,
    receiver_url: String,
    alerts: BTreeMap<String, Alert>,
    silences: BTreeMap<Uuid, Silence>,
    mood: Mood,
}

type Shared = Arc<Mutex<Inside>>;

/// It runs until it is dropped.
pub struct FakeAlertmanager {
    address: SocketAddr,
    inside: Shared,
    task: JoinHandle<()>,
}

impl Drop for FakeAlertmanager {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeAlertmanager {
    /// Starts one whose only receiver has a webhook at this address; it sends nothing.
    ///
    /// # Errors
    /// [`SandboxError::Ground`]
    pub async fn start(receiver_url: &str, resolve_timeout: SignedDuration) -> Result<Self, SandboxError> {
        let ground = |error: std::io::Error| SandboxError::Ground(error.to_string());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(ground)?;
        let address = listener.local_addr().map_err(ground)?;
        let inside = Arc::new(Mutex::new(Inside {
            started_at: SystemClock.now(),
            resolve_timeout,
            receiver_url: receiver_url.to_owned(),
            alerts: BTreeMap::new(),
            silences: BTreeMap::new(),
            mood: Mood::Well,
        }));
        let routes = Router::new()
            .route("/api/v2/alerts", get(alerts).post(take_alerts))
            .route("/api/v2/silences", get(silences).post(take_silence))
            .route("/api/v2/silence/{id}", delete(expire))
            .route("/api/v2/status", get(status))
            .with_state(Arc::clone(&inside))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&inside), by_mood));
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, inside, task })
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How it answers from now on.
    pub fn feels(&self, mood: Mood) {
        lock(&self.inside).mood = mood;
    }

    /// Starts anew: silences are kept, alerts are forgotten.
    pub fn restart(&self) {
        let mut inside = lock(&self.inside);
        inside.started_at = SystemClock.now();
        inside.alerts.clear();
    }
}

fn lock(inside: &Shared) -> std::sync::MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn by_mood(
    State(inside): State<Shared>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let mood = lock(&inside).mood;
    match mood {
        Mood::Well => next.run(request).await,
        Mood::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::Nonsense => Json(json!({"alerts": "none that I know of"})).into_response(),
    }
}

/// The two ways in which the real one says no: by a sentence, or by an object of its validation.
fn no(sentence: impl Into<String>) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!(sentence.into()))).into_response()
}

fn invalid(status: StatusCode, code: u16, message: impl Into<String>) -> Response {
    (status, Json(json!({"code": code, "message": message.into()}))).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedAlert {
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
}

async fn take_alerts(State(inside): State<Shared>, body: Bytes) -> Response {
    let posted: Vec<PostedAlert> = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(error) => {
            let message = format!("parsing alerts body from \"\" failed, because {error}");
            return invalid(StatusCode::BAD_REQUEST, 400, message);
        }
    };
    if let Some(index) = posted.iter().position(|alert| alert.labels.is_none()) {
        let message = format!("{index}.labels in body is required");
        return invalid(StatusCode::UNPROCESSABLE_ENTITY, 602, message);
    }
    let now = SystemClock.now();
    let mut inside = lock(&inside);
    let mut refused = None;
    for alert in posted {
        let labels: BTreeMap<_, _> =
            alert.labels.unwrap_or_default().into_iter().filter(|(_, value)| !value.is_empty()).collect();
        // The real one takes the end for the start where only that is given.
        let starts_at = alert.starts_at.or(alert.ends_at).unwrap_or(now);
        let ends_at = alert.ends_at.unwrap_or_else(|| later(now, inside.resolve_timeout));
        if labels.is_empty() {
            refused = refused.or(Some("at least one label pair required".to_owned()));
        } else if let Some(name) = labels.keys().find(|name| !is_label(name)) {
            refused = refused.or(Some(format!("invalid label set: invalid name \"{name}\"")));
        } else if starts_at > ends_at {
            refused = refused.or(Some("start time must be before end time".to_owned()));
        } else {
            let fingerprint = Fingerprint::of(&labels.iter().collect::<Labels>()).to_string();
            // One that still fires keeps its beginning.
            let began = inside.alerts.get(&fingerprint).filter(|known| known.ends_at > now);
            let starts_at = began.map_or(starts_at, |known| known.starts_at.min(starts_at));
            let annotations = alert.annotations;
            inside
                .alerts
                .insert(fingerprint, Alert { labels, annotations, starts_at, ends_at, updated_at: now });
        }
    }
    refused.map_or_else(|| StatusCode::OK.into_response(), no)
}

fn later(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.saturating_add(span).unwrap_or(Timestamp::MAX)
}

fn is_label(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(fits) && !name.as_bytes().first().is_none_or(u8::is_ascii_digit)
}

async fn alerts(State(inside): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let mut filters = Vec::new();
    let mut silenced_too = true;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match (name, decoded(value)) {
            ("filter", filter) => match matcher(&filter) {
                Ok(matcher) => filters.push(matcher),
                Err(why) => return no(why),
            },
            ("silenced", value) => silenced_too = value != "false",
            _ => {}
        }
    }
    let now = SystemClock.now();
    let inside = lock(&inside);
    let listed: Vec<_> = inside
        .alerts
        .iter()
        .filter(|(_, alert)| alert.ends_at > now && filters.iter().all(|filter| filter.fits(&alert.labels)))
        .filter_map(|(fingerprint, alert)| {
            let active = inside.silences.iter().filter(|(_, silence)| {
                silence.starts_at <= now && silence.ends_at > now && silence.covers(&alert.labels)
            });
            let by: Vec<_> = active.map(|(id, _)| id.to_string()).collect();
            let state = if by.is_empty() { "active" } else { "suppressed" };
            (silenced_too || by.is_empty()).then(|| {
                json!({
                    "annotations": alert.annotations,
                    "endsAt": alert.ends_at,
                    "fingerprint": fingerprint,
                    "receivers": [{"name": "hook"}],
                    "startsAt": alert.starts_at,
                    "status": {"inhibitedBy": [], "silencedBy": by, "state": state},
                    "updatedAt": alert.updated_at,
                    "labels": alert.labels,
                })
            })
        })
        .collect();
    Json(listed).into_response()
}

/// A value of a query, percent-decoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits).into_owned();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            other => other,
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A matcher as it is written in a filter: `name="value"`, `name=~"expression"`.
fn matcher(text: &str) -> Result<Matcher, String> {
    let bad = || format!("bad matcher format: {text}");
    let at = text.find(['=', '!']).ok_or_else(bad)?;
    let (name, rest) = text.split_at(at);
    let operators = [("=~", true, true), ("!~", true, false), ("!=", false, false), ("=", false, true)];
    let (regex, equal, value) = operators
        .into_iter()
        .find_map(|(operator, regex, equal)| Some((regex, equal, rest.strip_prefix(operator)?)))
        .ok_or_else(bad)?;
    let value = value.trim_matches('"');
    let value = anchored(value, regex).map_err(|error| format!("error parsing regexp: {error}"))?;
    Ok(Matcher { name: name.to_owned(), value, equal })
}

fn anchored(value: &str, regex: bool) -> Result<Regex, regex::Error> {
    let value = if regex { value.to_owned() } else { regex::escape(value) };
    Regex::new(&format!("^(?:{value})$"))
}

impl Matcher {
    fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        self.value.is_match(labels.get(&self.name).map_or("", String::as_str)) == self.equal
    }
}

impl Silence {
    fn covers(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matchers.iter().all(|matcher| matcher.fits(labels))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedSilence {
    matchers: Option<Vec<PostedMatcher>>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    created_by: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: String,
    value: String,
    #[serde(default)]
    is_regex: bool,
    is_equal: Option<bool>,
}

async fn take_silence(State(inside): State<Shared>, body: Bytes) -> Response {
    let posted: PostedSilence = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(error) => return invalid(StatusCode::BAD_REQUEST, 400, error.to_string()),
    };
    let required =
        |name: &str| invalid(StatusCode::UNPROCESSABLE_ENTITY, 602, format!("{name} in body is required"));
    let Some(comment) = posted.comment else { return required("comment") };
    let Some(created_by) = posted.created_by else { return required("createdBy") };
    let (Some(starts_at), Some(ends_at)) = (posted.starts_at, posted.ends_at) else {
        return required("endsAt");
    };
    let Some(matchers) = posted.matchers else { return required("matchers") };
    if matchers.is_empty() {
        let message = "matchers in body should have at least 1 items";
        return invalid(StatusCode::UNPROCESSABLE_ENTITY, 612, message);
    }
    let now = SystemClock.now();
    if starts_at > ends_at {
        return no("Failed to create silence: start time must be before end time");
    }
    if ends_at < now {
        return no("Failed to create silence: end time can't be in the past");
    }
    let mut read = Vec::new();
    for (index, matcher) in matchers.iter().enumerate() {
        match anchored(&matcher.value, matcher.is_regex) {
            Ok(value) => {
                let equal = matcher.is_equal.unwrap_or(true);
                read.push(Matcher { name: matcher.name.clone(), value, equal });
            }
            Err(error) => return no(format!("silence invalid: invalid label matcher {index}: {error}")),
        }
    }
    if read.iter().all(|matcher| matcher.fits(&BTreeMap::new())) {
        return no("silence invalid: at least one matcher must not match the empty string");
    }
    let id = Uuid::from_u128(u128::from(now.as_nanosecond().unsigned_abs() as u64));
    let body = json!({"id": id, "comment": comment, "createdBy": created_by, "updatedAt": now});
    let starts_at = starts_at.max(now);
    lock(&inside).silences.insert(id, Silence { matchers: read, body, starts_at, ends_at });
    Json(json!({"silenceID": id})).into_response()
}

async fn silences(State(inside): State<Shared>) -> Response {
    let now = SystemClock.now();
    let inside = lock(&inside);
    let listed = inside.silences.values().map(|silence| {
        let mut body = silence.body.clone();
        let state = match (silence.starts_at <= now, silence.ends_at > now) {
            (_, false) => "expired",
            (true, true) => "active",
            (false, true) => "pending",
        };
        body["status"] = json!({"state": state});
        body["startsAt"] = json!(silence.starts_at);
        body["endsAt"] = json!(silence.ends_at);
        body
    });
    Json(listed.collect::<Vec<_>>()).into_response()
}

async fn expire(State(inside): State<Shared>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<Uuid>() else {
        let message = format!("silenceID in path must be of type uuid: \"{id}\"");
        return invalid(StatusCode::UNPROCESSABLE_ENTITY, 601, message);
    };
    match lock(&inside).silences.get_mut(&id) {
        Some(silence) => {
            silence.ends_at = SystemClock.now();
            StatusCode::OK.into_response()
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!("silence not found"))).into_response(),
    }
}

async fn status(State(inside): State<Shared>) -> Response {
    let inside = lock(&inside);
    let original = format!(
        "global:\n  resolve_timeout: {}ms\nroute:\n  receiver: hook\n  group_wait: 0s\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: {}\n",
        inside.resolve_timeout.as_millis(),
        inside.receiver_url,
    );
    Json(json!({
        "cluster": {"peers": [], "status": "disabled"},
        "config": {"original": original},
        "uptime": inside.started_at,
        "versionInfo": {"version": "0.25.0"},
    }))
    .into_response()
}
