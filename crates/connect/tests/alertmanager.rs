//! Alertmanager as it answers, recorded, and as it should not.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod fake;

use std::time::Duration;

use fake::{Fake, context};
use quell_connect::SourceError;
use quell_connect::alertmanager::{AlertState, AlertmanagerClient};
use quell_incident::alert::{AlertKey, Fingerprint};
use quell_incident::ids::SourceName;
use quell_tool::CallContext;
use serde_json::json;

fn key(fingerprint: &str) -> AlertKey {
    AlertKey {
        source: SourceName::declared("alertmanager").unwrap(),
        fingerprint: Fingerprint::given(fingerprint).unwrap(),
    }
}

#[tokio::test]
async fn held_alerts_fire_and_others_are_cleared() {
    let fake = Fake::saying(200, include_str!("fixtures/alertmanager-v2-alerts.json")).await;
    let client = AlertmanagerClient::new(fake.access());
    let keys = [key("4fbce442ddbd975b"), key("0000000000000000")];
    let states = client.states(&keys, &context()).await.unwrap();
    assert_eq!(states, [(keys[0].clone(), AlertState::Firing), (keys[1].clone(), AlertState::Cleared)]);
    assert_eq!(fake.asked(), ["/api/v2/alerts?active=true&silenced=true&inhibited=true"]);
    let alerts = client.alerts(&context()).await.unwrap();
    assert_eq!(alerts.len(), 3);
    assert!(alerts[2].labels.get("alertname").unwrap().is("ManualOne"));
    assert_eq!(Fingerprint::of(&alerts[2].labels).as_str(), alerts[2].fingerprint);
}

#[tokio::test]
async fn silences_and_inhibitions_are_named() {
    let alert = |fingerprint: &str, status: serde_json::Value| json!({"fingerprint": fingerprint, "startsAt": "2026-11-20T17:07:46Z", "labels": {}, "status": status});
    let body = json!([
        alert("a1", json!({"state": "suppressed", "silencedBy": ["7b1e"], "inhibitedBy": []})),
        alert(
            "a2",
            json!({"state": "suppressed", "silencedBy": [], "inhibitedBy": ["a1"], "mutedBy": ["night"]})
        ),
        alert("a3", json!({"state": "unprocessed", "silencedBy": null})),
    ]);
    let fake = Fake::saying(200, body.to_string()).await;
    let client = AlertmanagerClient::new(fake.access());
    let states = client.states(&[key("a1"), key("a2"), key("a3")], &context()).await.unwrap();
    let suppressed =
        |by: &[&str]| AlertState::Suppressed { by: by.iter().map(|text| (*text).to_owned()).collect() };
    let states: Vec<AlertState> = states.into_iter().map(|(_, state)| state).collect();
    assert_eq!(
        states,
        [suppressed(&["silence 7b1e"]), suppressed(&["alert a1", "interval night"]), AlertState::Firing]
    );
}

#[tokio::test]
async fn an_answer_that_is_none_clears_nothing() {
    for (status, body) in [(503, "busy"), (200, "{}"), (200, "[{\"labels\": {}}]"), (200, ""), (404, "[]")] {
        let fake = Fake::saying(status, body).await;
        let states = AlertmanagerClient::new(fake.access()).states(&[key("a1")], &context()).await;
        assert!(states.is_err(), "{status} {body}");
    }
    let silent = Fake::silent().await;
    let short = CallContext::within(Duration::from_millis(50));
    let states = AlertmanagerClient::new(silent.access()).states(&[key("a1")], &short).await;
    assert_eq!(states, Err(SourceError::TimedOut));
}
