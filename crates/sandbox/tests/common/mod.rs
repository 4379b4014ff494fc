//! What the tests share: a coordinator without agents, payloads, and what an answer must look like.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod fake;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use quell_sandbox::{Options, Sandbox};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

/// Both paths on which alerts come in.
pub(crate) const WEBHOOKS: [&str; 2] = ["/webhooks/alertmanager", "/webhook/alert"];
/// How long a test waits for anything.
pub(crate) const WITHIN: Duration = Duration::from_secs(12);

/// A coordinator without agents, in which incidents stay as they were opened or resolved.
pub(crate) fn still() -> Options {
    Options { automatic: false, ..Options::default() }
        .coordinator_alone()
        .replacing("settle: 200ms", "settle: 1h, settle_p0: 1h")
        .replacing("quiet_before_close: 500ms", "quiet_before_close: 1h")
}

/// A firing alert with these further labels.
pub(crate) fn firing(name: &str, labels: &[(&str, &str)]) -> Value {
    let mut all = Map::from_iter([("alertname".to_owned(), json!(name))]);
    all.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    json!({"status": "firing", "labels": all, "startsAt": "2026-01-31T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z"})
}

/// The same alert with another field.
pub(crate) fn with(mut alert: Value, field: &str, value: Value) -> Value {
    alert[field] = value;
    alert
}

/// The end of a firing alert.
pub(crate) fn resolved(alert: &Value, ends_at: &str) -> Value {
    with(with(alert.clone(), "status", json!("resolved")), "endsAt", json!(ends_at))
}

/// A payload of Alertmanager, version 4.
pub(crate) fn payload(alerts: &[Value]) -> Value {
    json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "quell", "alerts": alerts})
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// An RFC 9457 problem of this status, whose detail has all these words.
    pub(crate) fn is_problem(&self, what: &str, status: u16, words: &[&str]) {
        assert_eq!(self.status, status, "{what}: {self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{what}: {self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{what}: {problem}");
        assert!(!problem["title"].as_str().unwrap_or_default().is_empty(), "{what}: {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        for word in words {
            assert!(detail.contains(word), "{what}: {word:?} is not in {detail:?}");
        }
        assert!(detail.len() < 1_000, "{what}: a detail is for people: {} bytes", detail.len());
    }
}

/// A request to the coordinator with any body.
pub(crate) async fn ask(
    sandbox: &Sandbox,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Answer {
    let mut request = sandbox.client().request(method, sandbox.url(path)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

pub(crate) async fn get(sandbox: &Sandbox, path: &str) -> Answer {
    ask(sandbox, Method::GET, path, &[], "").await
}

/// The path of the page after this one, from its `Link` header.
pub(crate) fn next_page(answer: &Answer) -> Option<String> {
    let link = answer.header("link");
    let (address, rel) = link.strip_prefix('<')?.split_once('>')?;
    assert_eq!(rel, "; rel=\"next\"", "{link}");
    Some(address.to_owned())
}

pub(crate) async fn post(sandbox: &Sandbox, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    ask(sandbox, Method::POST, path, &[("content-type", "application/json")], body).await
}

/// Posts alerts that must be taken.
pub(crate) async fn deliver(sandbox: &Sandbox, path: &str, alerts: &[Value]) {
    let answer = post(sandbox, path, payload(alerts).to_string()).await;
    assert_eq!(answer.status, StatusCode::OK.as_u16(), "{answer:?}");
}

/// Posts one bare alert, which is answered when it is part of its incident.
pub(crate) async fn deliver_bare(sandbox: &Sandbox, alert: &Value) -> Value {
    let answer = post(sandbox, "/webhook/alert", alert.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK.as_u16(), "{answer:?}");
    answer.json()["incident_id"].clone()
}

/// All incidents, the newest first, once there are so many and everything received before is part of them.
pub(crate) async fn incidents(sandbox: &Sandbox, count: usize) -> Vec<Value> {
    correlated(sandbox, WITHIN).await;
    let all = sandbox.get("/api/incidents?view=full").await.unwrap();
    let all = all.as_array().unwrap().clone();
    assert_eq!(all.len(), count, "{:#}", Value::Array(all));
    all
}

/// Waits until everything that was received before is part of incidents.
pub(crate) async fn correlated(sandbox: &Sandbox, within: Duration) {
    // Alerts are taken in their order, and a bare one is answered when it is through, or after a while that it is not yet.
    let nobody = resolved(&firing("Barrier", &[]), "2026-01-31T12:00:01Z").to_string();
    let began = Instant::now();
    loop {
        let answer = post(sandbox, "/webhook/alert", nobody.clone()).await;
        assert_eq!(answer.json()["incident_id"], Value::Null, "{answer:?}");
        match answer.status {
            200 => return,
            202 => assert!(began.elapsed() < within, "not correlated within {within:?}"),
            _ => panic!("{answer:?}"),
        }
    }
}

/// The coordinator takes work as before.
pub(crate) async fn is_healthy(sandbox: &Sandbox) {
    let health = get(sandbox, "/health").await;
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(health.json()["status"], "healthy");
}

/// The program of that name, as its sources are now: built once per process, which is nothing when it is fresh.
pub(crate) fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

const PROGRAMS: [&str; 5] =
    ["quell", "quell-coordinator", "quell-diagnostic", "quell-resolution", "quell-simulator"];

/// Builds the programs beside this test and returns their folder.
fn build() -> PathBuf {
    // <target>/<profile>/deps/<this test>
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        profile => profile,
    };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--profile", profile, "--target-dir"]).arg(folder.parent().unwrap());
    build.args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    let built = build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.to_owned()
}
