//! Prometheus as a source of alerts: as it answers, recorded, and as it should not.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod fake;

use fake::{Fake, client, context};
use jiff::SignedDuration;
use quell_connect::prometheus::{PrometheusClient, RuleTimes};
use quell_connect::{Access, SourceError};

async fn asking(status: u16, body: &str) -> (Fake, PrometheusClient) {
    let fake = Fake::saying(status, body).await;
    let client = PrometheusClient::new(fake.access());
    (fake, client)
}

#[tokio::test]
async fn alerts_rules_start_and_configuration() {
    let (fake, client) = asking(200, include_str!("fixtures/prometheus-v1-alerts.json")).await;
    let alerts = client.alerts(&context()).await.unwrap();
    assert_eq!(fake.asked(), ["/api/v1/alerts"]);
    assert_eq!(alerts.iter().map(|alert| alert.firing).collect::<Vec<_>>(), [true, false]);
    assert!(alerts[0].labels.get("alertname").unwrap().is("Always"));
    assert!(alerts[0].annotations.get("summary").unwrap().is("always"));

    let (fake, client) = asking(200, include_str!("fixtures/prometheus-v1-rules-alert.json")).await;
    let rules = client.rules(&context()).await.unwrap();
    assert_eq!(fake.asked(), ["/api/v1/rules?type=alert"]);
    let expected =
        RuleTimes { hold: SignedDuration::from_secs(1), interval: SignedDuration::from_millis(500) };
    assert_eq!(rules["Always"], expected);

    let (_fake, client) = asking(200, include_str!("fixtures/prometheus-v1-status-runtimeinfo.json")).await;
    let started_at = client.started_at(&context()).await.unwrap();
    assert_eq!(started_at.to_string(), "2026-11-20T22:49:13.342322442Z");

    let (_fake, client) = asking(200, include_str!("fixtures/prometheus-v1-status-config.json")).await;
    let config = client.alert_config(&context()).await.unwrap();
    assert_eq!(config.evaluation_interval, SignedDuration::from_millis(500));
    assert!(!config.relabels);
    let external: Vec<_> =
        config.external_labels.iter().map(|(name, value)| format!("{name}={}", value.for_people())).collect();
    assert_eq!(external, ["cluster=1", "monitor=m"]);
}

#[tokio::test]
async fn labels_that_are_rewritten_are_noticed() {
    let yaml = "alerting: {alert_relabel_configs: [{action: labeldrop, regex: replica}]}\n";
    let body = serde_json::json!({"status": "success", "data": {"yaml": yaml}}).to_string();
    let (_fake, client) = asking(200, &body).await;
    let config = client.alert_config(&context()).await.unwrap();
    assert!(config.relabels && config.external_labels.is_empty());
    assert_eq!(config.evaluation_interval, SignedDuration::from_mins(1), "what Prometheus assumes");
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error() {
    let wrong = [
        (503, "busy"),
        (200, ""),
        (200, "{}"),
        (200, r#"{"status": "error", "error": "no"}"#),
        (200, r#"{"status": "success"}"#),
        (200, r#"{"status": "success", "data": {}}"#),
        (200, r#"{"status": "success", "data": {"alerts": [{"labels": {}}]}}"#),
    ];
    for (status, body) in wrong {
        let (_fake, client) = asking(status, body).await;
        assert!(client.alerts(&context()).await.is_err(), "{status} {body}");
    }
    let (_fake, client) = asking(404, "404 page not found").await;
    assert!(matches!(client.rules(&context()).await, Err(SourceError::Answered { status: 404, .. })));
}

#[tokio::test]
async fn the_page_of_alerts_has_no_password() {
    let access = Access::new(client(), "http://me:secret@127.0.0.1:9090/prefix").unwrap();
    assert_eq!(PrometheusClient::new(access).alerts_page(), "http://127.0.0.1:9090/prefix/alerts");
}
