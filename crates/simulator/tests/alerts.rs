//! Webhooks that the simulator posts itself, to a receiver that fails at first.

#![allow(clippy::unwrap_used, reason = "helpers outside test functions may fail like tests")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use quell_simulator::{AlertsConfig, Clock, Config, Handle, start};
use serde_json::{Value, json};

#[allow(clippy::disallowed_methods, reason = "these tests run against real time")]
fn clock() -> Clock {
    Arc::new(jiff::Timestamp::now)
}

/// Answers with the given codes, then with 200, and keeps what it got.
#[derive(Clone)]
struct Receiver {
    codes: Arc<Mutex<Vec<u16>>>,
    received: Arc<Mutex<Vec<(u16, Value)>>>,
}

impl Receiver {
    async fn listen(mut codes: Vec<u16>) -> (Receiver, String) {
        codes.reverse();
        let receiver = Receiver { codes: Arc::new(Mutex::new(codes)), received: Arc::default() };
        let router = Router::new().route("/hook", post(Receiver::take)).with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
        assert_eq!(headers["authorization"], "Bearer hook-token");
        assert_eq!(headers["content-type"], "application/json");
        let code = receiver.codes.lock().unwrap().pop().unwrap_or(200);
        receiver.received.lock().unwrap().push((code, serde_json::from_str(&body).unwrap()));
        StatusCode::from_u16(code).unwrap()
    }

    /// Waits for the message at that position.
    async fn message(&self, position: usize) -> (u16, Value) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(message) = self.received.lock().unwrap().get(position) {
                return message.clone();
            }
            assert!(Instant::now() < deadline, "message {position} did not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn simulator(url: String) -> (Handle, reqwest::Client) {
    let alerts = AlertsConfig {
        token: Some("hook-token".into()),
        hold: Duration::from_millis(100),
        interval: Duration::from_millis(20),
        ..AlertsConfig::new(url)
    };
    let tick = Duration::from_millis(20);
    let config =
        Config { metrics_port: 0, tick, seed: Some(3), alerts: Some(alerts), ..Config::new(clock()) };
    let handle = start(config).await.unwrap();
    (handle, reqwest::Client::new())
}

async fn send(client: &reqwest::Client, handle: &Handle, path: &str) {
    let url = format!("http://{}{path}", handle.addresses()[0]);
    assert_eq!(client.post(url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn firing_is_retried_until_taken_and_healing_is_told() {
    let (receiver, url) = Receiver::listen(vec![503, 500]).await;
    let (handle, client) = simulator(url).await;
    send(&client, &handle, "/trigger/memory_leak").await;
    let (first, second, third) =
        (receiver.message(0).await, receiver.message(1).await, receiver.message(2).await);
    assert_eq!((first.0, second.0, third.0), (503, 500, 200));
    assert!(first.1 == second.1 && second.1 == third.1, "a retry says the same");

    let firing = third.1;
    let expected = json!({ "alertname": "HighMemoryUsage", "service": "order_service" });
    assert_eq!(firing["groupLabels"], expected);
    assert_eq!(firing["groupKey"], r#"{}:{alertname="HighMemoryUsage", service="order_service"}"#);
    assert_eq!(firing["version"], "4");
    assert_eq!(firing["status"], "firing");
    assert_eq!(firing["receiver"], "incident-response-webhook");
    assert_eq!(firing["truncatedAlerts"], 0);
    assert_eq!(firing["externalURL"], format!("http://{}", handle.addresses()[0]));
    let alert = &firing["alerts"][0];
    let labels = json!({
        "alertname": "HighMemoryUsage",
        "component": "memory",
        "instance": "app-server-01:9090",
        "job": "app-server",
        "monitor": "incident-response-monitor",
        "service": "order_service",
        "severity": "warning",
    });
    assert_eq!((&alert["labels"], &firing["commonLabels"]), (&labels, &labels));
    assert_eq!(alert["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(alert["annotations"], firing["commonAnnotations"]);
    let generator = alert["generatorURL"].as_str().unwrap();
    assert!(
        generator.ends_with("/graph?g0.expr=process_resident_memory_bytes+%3E+500000000&g0.tab=1"),
        "{generator}"
    );

    send(&client, &handle, "/targets/order_service/restart").await;
    let (_, resolved) = receiver.message(3).await;
    let ended = &resolved["alerts"][0];
    assert_eq!((&resolved["status"], &ended["status"]), (&json!("resolved"), &json!("resolved")));
    for same in ["fingerprint", "labels", "startsAt"] {
        assert_eq!(ended[same], alert[same], "{same}");
    }
    assert!(ended["startsAt"].as_str() < ended["endsAt"].as_str());
    handle.stop().await;
    assert_eq!(receiver.received.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_refused_is_not_sent_again_and_the_next_state_is() {
    let (receiver, url) = Receiver::listen(vec![422]).await;
    let (handle, client) = simulator(url).await;
    send(&client, &handle, "/trigger/certificate_expiry").await;
    let (code, firing) = receiver.message(0).await;
    assert_eq!((code, &firing["status"]), (422, &json!("firing")));
    send(&client, &handle, "/targets/api.example.com/renew").await;
    let (_, resolved) = receiver.message(1).await;
    assert_eq!(resolved["status"], "resolved");
    handle.stop().await;
    assert_eq!(receiver.received.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_newer_state_replaces_one_that_could_not_be_delivered() {
    // The receiver fails until the alert is over.
    let (receiver, url) = Receiver::listen(vec![503; 1000]).await;
    let (handle, client) = simulator(url).await;
    send(&client, &handle, "/trigger/kafka_lag").await;
    assert_eq!(receiver.message(0).await.1["status"], "firing");
    send(&client, &handle, "/resolve").await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let resolved =
        || receiver.received.lock().unwrap().iter().any(|(_, message)| message["status"] == "resolved");
    while !resolved() {
        assert!(Instant::now() < deadline, "the resolved state was not posted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    receiver.codes.lock().unwrap().clear();
    let count = receiver.received.lock().unwrap().len();
    let taken = {
        let mut position = count - 1;
        loop {
            let (code, message) = receiver.message(position).await;
            if code == 200 {
                break message;
            }
            position += 1;
        }
    };
    assert_eq!(taken["status"], "resolved");
    handle.stop().await;
}
