use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use quell_connect::health::{HealthChecks, HealthTarget};
use quell_incident::surroundings::HealthSet;
use quell_tool::{CallContext, ReadRegistry, ToolError};
use serde_json::json;

use super::*;
use crate::fake::{Fake, client, context, nowhere};

fn target(name: &str, url: String) -> HealthTarget {
    HealthTarget {
        name: name.to_owned(),
        url,
        expected_status: 200,
        timeout: Duration::from_secs(5),
        token: None,
    }
}

fn checks(targets: Vec<HealthTarget>) -> HealthChecks {
    let _ = client();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    HealthChecks::new(client, Arc::new(start), targets).unwrap()
}

async fn ask(checks: &HealthChecks) -> HealthSet {
    checks.check(None, &context()).await.unwrap()
}

#[tokio::test]
async fn each_dependency_is_asked_once_and_told_in_its_order() {
    let fake = Fake::answering(|path| match path {
        "/well?token=hunter2" => "yes".into_response(),
        "/moved" => (StatusCode::FOUND, [("location", "/well")]).into_response(),
        "/teapot" => StatusCode::IM_A_TEAPOT.into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
    .await;
    let url = |path: &str| format!("{}{path}", fake.url());
    let asked = checks(vec![
        HealthTarget { token: Some("s3cret".into()), ..target("well", url("/well?token=hunter2")) },
        target("ill", url("/ill")),
        target("moved", url("/moved")),
        HealthTarget { expected_status: 418, ..target("teapot", url("/teapot")) },
        target("gone", nowhere().await),
    ]);
    let set = ask(&asked).await;
    let told: Vec<(&str, bool)> = set.checks.iter().map(|check| (&*check.name, check.healthy)).collect();
    assert_eq!(told, [("well", true), ("ill", false), ("moved", false), ("teapot", true), ("gone", false)]);
    assert_eq!(set.checks[1].message, "503 Service Unavailable, where 200 is expected");
    assert!(set.checks[4].message.contains("refused"), "{}", set.checks[4].message);
    assert!(set.checks.iter().all(|check| check.at == start() && check.seconds < 5.0));
    assert!(!set.query.contains("hunter2"), "{}", set.query);
    let mut seen = fake.asked();
    seen.sort();
    assert_eq!(seen, ["/ill", "/moved", "/teapot", "/well?token=hunter2 Bearer s3cret"]);
}

#[tokio::test]
async fn silence_is_told_after_its_time() {
    let silent = Fake::silent().await;
    let slow = HealthTarget { timeout: Duration::from_millis(30), ..target("slow", silent.url()) };
    let set = ask(&checks(vec![slow])).await;
    assert_eq!((set.checks[0].healthy, &*set.checks[0].message), (false, "no answer within 0.03 s"));
    let patient = checks(vec![target("slow", silent.url())]);
    let set = patient.check(None, &CallContext::within(Duration::from_millis(30))).await.unwrap();
    assert!(!set.checks[0].healthy && set.checks[0].seconds < 4.0);
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    let fake = Fake::answering(|_| "x".repeat(100 << 20).into_response()).await;
    assert!(ask(&checks(vec![target("endless", fake.url())])).await.checks[0].healthy);
}

#[tokio::test]
async fn the_tool_takes_the_names_that_are_configured() {
    let fake = Fake::saying(200, "yes").await;
    let mut registry = ReadRegistry::new();
    registry.register(Arc::new(checks(vec![target("a", fake.url()), target("b", fake.url())]))).unwrap();
    let answer = registry.call(HealthChecks::NAME, json!({"names": ["b"]}), &context()).await.unwrap();
    let set: HealthSet = serde_json::from_value(answer).unwrap();
    assert_eq!(set.checks.iter().map(|check| &*check.name).collect::<Vec<_>>(), ["b"]);
    let wrong = registry.call(HealthChecks::NAME, json!({"names": ["c"]}), &context()).await;
    assert!(matches!(wrong, Err(ToolError::InvalidInput { .. })));
}

#[test]
fn settings_that_cannot_be_used_name_the_dependency() {
    let fine = || target("orders", "http://127.0.0.1:1/health".to_owned());
    for wrong in [
        HealthTarget { name: " ".to_owned(), ..fine() },
        HealthTarget { url: "orders:80".to_owned(), ..fine() },
        HealthTarget { url: "ftp://orders/".to_owned(), ..fine() },
        HealthTarget { expected_status: 42, ..fine() },
        HealthTarget { timeout: Duration::ZERO, ..fine() },
    ] {
        let error = HealthChecks::new(client(), Arc::new(start), vec![wrong]).err().unwrap().to_string();
        assert!(error.contains("orders") || error.contains("needs a name"), "{error}");
    }
}
