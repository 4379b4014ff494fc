//! The simulator through its real listeners.

#![allow(clippy::unwrap_used, reason = "helpers outside test functions may fail like tests")]

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quell_simulator::{Clock, Config, Handle, StartError, start};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

#[allow(clippy::disallowed_methods, reason = "these tests run against real time")]
fn clock() -> Clock {
    Arc::new(jiff::Timestamp::now)
}

fn config() -> Config {
    Config { metrics_port: 0, tick: Duration::from_millis(20), seed: Some(1), ..Config::new(clock()) }
}

struct Lab {
    handle: Handle,
    client: Client,
}

impl Lab {
    async fn start(config: Config) -> Lab {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        Lab { handle: start(config).await.unwrap(), client }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.handle.addresses()[0]))
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    /// Sends a body as `curl -d` does.
    async fn send(&self, method: Method, path: &str, body: &'static str) -> Response {
        let form = "application/x-www-form-urlencoded";
        self.request(method, path).header("content-type", form).body(body).send().await.unwrap()
    }

    async fn ok(&self, method: Method, path: &str, body: &'static str) -> Value {
        let response = self.send(method, path, body).await;
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn problem(&self, method: Method, path: &str, body: &'static str) -> (u16, Value) {
        let response = self.send(method, path, body).await;
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let status = response.status().as_u16();
        let document: Value = response.json().await.unwrap();
        assert_eq!(document["status"], status);
        (status, document)
    }

    async fn scrape(&self, port: usize) -> String {
        let url = format!("http://{}/metrics", self.handle.addresses()[port]);
        let response = self.client.get(url).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        response.text().await.unwrap()
    }
}

/// Asks until the answer is there; a condition that never comes fails the test.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn metrics_are_served_on_three_ports() {
    let lab = Lab::start(config()).await;
    let needles = [
        "db_connection_timeout_total{instance=\"db-server-01:9090\",database=\"customer_db\"}",
        "process_resident_memory_bytes{instance=\"app-server-01:9090\",service=\"order_service\"}",
        "http_requests_total{instance=\"api-gateway-01:9090\",method=\"GET\",status=\"503\"} 0\n",
    ];
    for (port, needle) in needles.into_iter().enumerate() {
        for other in 0..3 {
            assert_eq!(lab.scrape(other).await.contains(needle), port == other, "{needle} on port {other}");
        }
    }
    lab.handle.stop().await;
}

#[tokio::test]
async fn a_fault_is_triggered_read_back_and_healed() {
    let lab = Lab::start(config()).await;
    let status = lab.ok(Method::POST, "/trigger/disk_full", "").await;
    assert_eq!((&status["active"], &status["until"]), (&json!(true), &Value::Null));
    let full =
        "node_filesystem_avail_bytes{instance=\"storage-node-01:9090\",mountpoint=\"/data\"} 500000000\n";
    eventually("a full disk", async || lab.scrape(0).await.contains(full).then_some(())).await;

    let change = lab.ok(Method::POST, "/targets/storage-node-01/clean", r#"{"path":"/data"}"#).await;
    assert_eq!(
        change,
        json!({ "from": { "avail_bytes": 500_000_000 }, "to": { "avail_bytes": 3_000_000_000_u64 } })
    );
    let target = lab.get("/targets/storage-node-01").await;
    assert_eq!(target["filesystems"]["/data"]["avail_bytes"], 3_000_000_000_u64);
    assert!(target["filesystems"]["/data"]["cleaned_at"].is_string());
    let scenarios = lab.get("/scenarios").await;
    let disk = scenarios.as_array().unwrap().iter().find(|one| one["name"] == "disk_full").unwrap();
    assert_eq!((&disk["ended"], &disk["healed_by"]), (&json!("healed"), &json!(1)));
    eventually("an empty disk", async || (!lab.scrape(0).await.contains(full)).then_some(())).await;
    lab.handle.stop().await;
}

#[tokio::test]
async fn a_duration_ends_a_fault_and_the_body_needs_no_content_type() {
    let lab = Lab::start(config()).await;
    let status = lab.ok(Method::POST, "/trigger/api_503", r#"{"duration": 0.2}"#).await;
    assert!(status["until"].is_string());
    let ended = eventually("the end", async || {
        let scenarios = lab.get("/scenarios").await;
        let gateway =
            scenarios.as_array().unwrap().iter().find(|one| one["name"] == "api_503").unwrap().clone();
        (gateway["active"] == false).then_some(gateway)
    })
    .await;
    assert_eq!((&ended["ended"], &ended["healed_by"]), (&json!("expired"), &Value::Null));
    lab.handle.stop().await;
}

#[tokio::test]
async fn every_operation_answers_with_before_and_after() {
    let lab = Lab::start(config()).await;
    for scenario in ["high_cpu", "postgres_connections"] {
        lab.ok(Method::POST, &format!("/trigger/{scenario}"), "{}").await;
    }
    let change = lab.ok(Method::PATCH, "/targets/db-server-01/config", r#"{"pool_size":20}"#).await;
    assert_eq!(change, json!({ "from": { "pool_size": 10 }, "to": { "pool_size": 20 } }));
    let change = lab.ok(Method::PUT, "/targets/email-service/replicas", r#"{"replicas":6}"#).await;
    assert_eq!(change, json!({ "from": { "replicas": 1 }, "to": { "replicas": 6 } }));
    let change = lab.ok(Method::POST, "/targets/order_service/restart", "").await;
    assert!(change["from"]["started_at"].as_str() < change["to"]["started_at"].as_str());
    let change = lab.ok(Method::POST, "/targets/api.example.com/renew", "").await;
    assert!(change["from"]["not_after"].as_str() < change["to"]["not_after"].as_str());
    let change = lab.ok(Method::POST, "/targets/postgres-01/end-idle-sessions", "").await;
    assert_eq!((&change["from"]["idle"], &change["to"]["idle"]), (&json!(86), &json!(0)));
    let jobs = lab.get("/targets/order_service").await["jobs"].clone();
    assert_eq!(jobs[1]["name"], "invoice-rebuild-batch");
    let change =
        lab.ok(Method::POST, "/targets/order_service/stop-job", r#"{"job":"invoice-rebuild-batch"}"#).await;
    assert_eq!(change["to"], json!({ "jobs": ["cache-warmer"] }));

    let actions = lab.get("/actions").await;
    let healed: Vec<_> = actions.as_array().unwrap().iter().map(|action| action["healed"].clone()).collect();
    let none = Value::Null;
    assert_eq!(
        healed,
        [none.clone(), none.clone(), none.clone(), none, json!("postgres_connections"), json!("high_cpu")]
    );
    assert_eq!(lab.get("/targets").await.as_array().unwrap().len(), 10);
    lab.handle.stop().await;
}

#[tokio::test]
async fn the_same_key_does_it_twice_and_both_are_recorded() {
    let lab = Lab::start(config()).await;
    for _ in 0..2 {
        let request =
            lab.request(Method::POST, "/targets/search_service/restart").header("idempotency-key", "step-1");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    let actions = lab.get("/actions").await;
    assert_eq!(actions.as_array().unwrap().len(), 2);
    assert!(actions.as_array().unwrap().iter().all(|action| action["key"] == "step-1"));
    let request = lab
        .request(Method::POST, "/targets/search_service/restart")
        .header("idempotency-key", "k".repeat(256));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    lab.handle.stop().await;
}

#[tokio::test]
async fn errors_are_problem_documents() {
    let lab = Lab::start(config()).await;
    let (post, put, patch) = (Method::POST, Method::PUT, Method::PATCH);
    let cases = [
        (&post, "/trigger/disk_full", "{\"duration\":", 400),
        (&post, "/trigger/disk_full", "{\"duration\":-1}", 400),
        (&post, "/trigger/disk_full", "{\"seconds\":1}", 400),
        (&post, "/trigger/flood", "", 404),
        (&post, "/targets/nobody/restart", "", 404),
        (&post, "/targets/storage-node-01/restart", "", 405),
        (&post, "/scenarios", "", 405),
        (&post, "/nowhere", "", 404),
        (&put, "/targets/email-service/replicas", "{\"replicas\":21}", 422),
        (&put, "/targets/email-service/replicas", "{\"replicas\":-1}", 422),
        (&put, "/targets/email-service/replicas", "", 400),
        (&patch, "/targets/db-server-01/config", "{\"colour\":1}", 422),
        (&patch, "/targets/db-server-01/config", "{\"pool_size\":\"many\"}", 422),
        (&patch, "/targets/db-server-01/config", "[]", 422),
        (&Method::GET, "/logs?limit=10001", "", 400),
        (&Method::GET, "/logs?since=yesterday", "", 400),
    ];
    for (method, path, body, expected) in cases {
        let (status, document) = lab.problem(method.clone(), path, body).await;
        assert_eq!(status, expected, "{method} {path} {body}: {document}");
    }
    let (_, document) = lab.problem(Method::POST, "/trigger/flood", "").await;
    assert_eq!(document["scenarios"].as_array().unwrap().len(), 8);
    let (_, document) = lab.problem(Method::POST, "/targets/storage-node-01/restart", "").await;
    assert_eq!(document["operations"], json!(["clean"]));
    let large = lab.request(Method::POST, "/targets/search_service/restart").body("x".repeat(65 * 1024));
    assert_eq!(large.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(lab.get("/actions").await, json!([]));
    lab.handle.stop().await;
}

#[tokio::test]
async fn logs_are_filtered_and_limited_to_the_newest() {
    let lab = Lab::start(config()).await;
    lab.ok(Method::POST, "/trigger/database_timeout", "").await;
    let path = "/logs?service=order_service&level=error&contains=Connection%20Timeout";
    let lines = eventually("three lines", async || {
        let lines = lab.get(path).await.as_array().unwrap().clone();
        (lines.len() >= 3).then_some(lines)
    })
    .await;
    assert!(lines.iter().all(|line| line["level"] == "ERROR" && line["instance"] == "app-server-01"));
    let since = lines[1]["time"].as_str().unwrap();
    let until = lines[2]["time"].as_str().unwrap();
    assert_eq!(lab.get(&format!("{path}&since={since}&until={until}")).await, json!(lines[1..3]));
    assert_eq!(lab.get(&format!("{path}&until={until}&limit=1")).await, json!(lines[2..3]));
    lab.handle.stop().await;
}

#[tokio::test]
async fn a_reset_is_told_apart_from_healing() {
    let lab = Lab::start(config()).await;
    lab.ok(Method::POST, "/trigger/kafka_lag", "").await;
    assert_eq!(lab.ok(Method::POST, "/resolve", "").await, json!({ "ended": ["kafka_lag"] }));
    let health = lab.get("/health").await;
    assert_eq!((&health["status"], &health["resets"]), (&json!("healthy"), &json!(1)));
    lab.handle.stop().await;
}

#[tokio::test]
async fn a_token_guards_everything_but_scrapes() {
    let lab = Lab::start(Config { token: Some("correct horse".into()), ..config() }).await;
    lab.scrape(0).await;
    lab.scrape(2).await;
    let send = async |header: Option<&str>| {
        let request = lab.request(Method::POST, "/trigger/disk_full");
        let request = match header {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(None).await, 401);
    for wrong in ["Bearer", "Bearer ", "Bearer correct horse battery", "Basic correct horse", "correct horse"]
    {
        assert_eq!(send(Some(wrong)).await, 401, "{wrong}");
    }
    assert_eq!(send(Some("Bearer correct horse")).await, 200);
    assert_eq!(send(Some("bearer correct horse")).await, 200);
    assert_eq!(
        lab.request(Method::GET, "/scenarios").send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    lab.handle.stop().await;
}

#[tokio::test]
async fn what_cannot_start_says_which_setting_is_wrong() {
    let refusal = async |config| match start(config).await {
        Ok(_) => panic!("started"),
        Err(error) => error,
    };
    let open = refusal(Config { listen: IpAddr::from([0, 0, 0, 0]), ..config() }).await;
    assert!(matches!(open, StartError::Unprotected { .. }) && open.to_string().contains("SIMULATOR_TOKEN"));
    let fast = refusal(Config { tick: Duration::ZERO, ..config() }).await;
    assert!(fast.to_string().starts_with("--tick is invalid"), "{fast}");
    let high = refusal(Config { metrics_port: u16::MAX - 1, ..config() }).await;
    assert!(high.to_string().starts_with("--metrics-port is invalid"), "{high}");
    let alerts = quell_simulator::AlertsConfig::new("ftp://127.0.0.1/".to_owned());
    let url = refusal(Config { alerts: Some(alerts), ..config() }).await;
    assert!(url.to_string().starts_with("--alerts is invalid"), "{url}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let bind = refusal(Config { metrics_port: port, ..config() }).await;
    assert!(
        bind.to_string().contains(&format!("127.0.0.1:{port}"))
            && bind.to_string().contains("--metrics-port")
    );
}

#[tokio::test]
async fn addresses_and_log_lines_are_written_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let (address_file, log_file) = (folder.path().join("addresses.json"), folder.path().join("world.log"));
    let config =
        Config { address_file: Some(address_file.clone()), log_file: Some(log_file.clone()), ..config() };
    let lab = Lab::start(config).await;
    let written: Value = serde_json::from_str(&std::fs::read_to_string(address_file).unwrap()).unwrap();
    assert_eq!(written["addresses"], json!(lab.handle.addresses()));
    assert_eq!(written["control"], format!("http://{}", lab.handle.addresses()[0]));

    lab.ok(Method::POST, "/trigger/postgres_connections", "").await;
    let lines = eventually("a line", async || {
        let text = std::fs::read_to_string(&log_file).unwrap();
        text.contains("remaining connection slots").then_some(text)
    })
    .await;
    lab.handle.stop().await;
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    for field in ["time", "level", "service", "instance", "message"] {
        assert!(line[field].is_string(), "{field}");
    }
}

#[tokio::test]
async fn a_stopped_simulator_has_left_its_ports() {
    let lab = Lab::start(config()).await;
    let addresses = lab.handle.addresses();
    lab.handle.stop().await;
    for address in addresses {
        TcpListener::bind(address).unwrap();
    }
}
