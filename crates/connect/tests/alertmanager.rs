//! Alertmanager as it answers, recorded, and as it should not.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod fake;

use std::time::Duration;

use fake::{Fake, context};
use jiff::{SignedDuration, Timestamp};
use quell_connect::SourceError;
use quell_connect::alertmanager::{AlertState, AlertmanagerClient, Silence, Status, WebhookReceiver};
use quell_incident::alert::Fingerprint;
use quell_tool::CallContext;
use serde_json::json;

#[tokio::test]
async fn what_is_held() {
    let fake = Fake::saying(200, include_str!("fixtures/alertmanager-v2-alerts.json")).await;
    let client = AlertmanagerClient::new(fake.access());
    let alerts = client.alerts(&context()).await.unwrap();
    assert_eq!(fake.asked(), ["/api/v2/alerts?active=true&silenced=true&inhibited=true"]);
    assert_eq!(alerts.len(), 3);
    let last = &alerts[2];
    assert!(last.labels.get("alertname").unwrap().is("ManualOne"));
    assert!(last.annotations.get("summary").unwrap().is("posted by test"));
    assert_eq!(Fingerprint::of(&last.labels).as_str(), last.fingerprint);
    assert_eq!(last.ends_at, Some("2026-11-20T17:17:46Z".parse().unwrap()));
    assert_eq!(last.receivers, ["hook"]);
    assert!(alerts.iter().all(|alert| alert.processed && alert.state == AlertState::Firing));
}

#[tokio::test]
async fn an_alert_that_was_posted_without_a_start_began_when_it_was_posted() {
    // As Alertmanager 0.25 lists it.
    let body = r#"[{"annotations": {}, "endsAt": "2026-11-21T00:12:39.000Z", "fingerprint": "3956c7b61199689a",
        "receivers": [{"name": "hook"}], "startsAt": "2026-11-21T00:12:39.000Z", "updatedAt": "2026-11-20T23:12:39.336Z",
        "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"}, "labels": {"alertname": "ManualThing"}}]"#;
    let fake = Fake::saying(200, body).await;
    let alerts = AlertmanagerClient::new(fake.access()).alerts(&context()).await.unwrap();
    assert_eq!(alerts[0].starts_at.to_string(), "2026-11-20T23:12:39.336Z");
}

#[tokio::test]
async fn names_in_a_filter_mean_themselves_only() {
    let fake = Fake::saying(200, "[]").await;
    let client = AlertmanagerClient::new(fake.access());
    client.alerts_named(&["DiskFull", "disk_low"], &context()).await.unwrap();
    let asked = fake.asked();
    assert!(asked[0].ends_with("&filter=alertname%3D%7E%22DiskFull%7Cdisk_low%22"), "{asked:?}");
    let many: Vec<_> = vec!["a"; 21];
    for names in [&[".*"][..], &["a|b"], &["a\"b"], &["a b"], &[""], &many] {
        let refused = client.alerts_named(names, &context()).await;
        assert!(matches!(refused, Err(SourceError::Invalid { .. })), "{names:?}");
    }
    assert_eq!(fake.asked().len(), 1, "what is not plain is not asked for at all");
}

#[tokio::test]
async fn silences_and_inhibitions_are_named() {
    let alert = |fingerprint: &str, status: serde_json::Value| json!({"fingerprint": fingerprint, "startsAt": "2026-11-20T17:07:46Z", "labels": {}, "status": status});
    let body = json!([
        alert("a1", json!({"state": "suppressed", "silencedBy": ["7b1e", "1a"], "inhibitedBy": []})),
        alert(
            "a2",
            json!({"state": "suppressed", "silencedBy": [], "inhibitedBy": ["a1"], "mutedBy": ["night"]})
        ),
        alert("a3", json!({"state": "unprocessed", "silencedBy": null})),
    ]);
    let fake = Fake::saying(200, body.to_string()).await;
    let alerts = AlertmanagerClient::new(fake.access()).alerts(&context()).await.unwrap();
    let suppressed =
        |by: &[&str]| AlertState::Suppressed { by: by.iter().map(|text| (*text).to_owned()).collect() };
    let states: Vec<_> = alerts.into_iter().map(|alert| (alert.state, alert.processed)).collect();
    assert_eq!(
        states,
        [
            (suppressed(&["silence 1a", "silence 7b1e"]), true),
            (suppressed(&["alert a1", "interval night"]), true),
            (AlertState::Firing, false)
        ]
    );
}

#[tokio::test]
async fn silences_in_force_have_their_words() {
    let mut recorded: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/alertmanager-v2-silences.json")).unwrap();
    let mut over = recorded[0].clone();
    over["status"]["state"] = json!("expired");
    recorded.as_array_mut().unwrap().push(over);
    let fake = Fake::saying(200, recorded.to_string()).await;
    let silences = AlertmanagerClient::new(fake.access()).silences(&context()).await.unwrap();
    assert_eq!(
        silences,
        [Silence {
            id: "ba7c7770-4486-42be-8dbb-39ad47cea0db".to_owned(),
            created_by: "t".to_owned(),
            comment: "c".to_owned(),
            ends_at: "2026-11-20T17:17:46Z".parse().unwrap(),
        }]
    );
}

async fn status_of(body: impl Into<String>) -> Result<Status, SourceError> {
    let fake = Fake::saying(200, body).await;
    AlertmanagerClient::new(fake.access()).status(&context()).await
}

#[tokio::test]
async fn since_when_it_runs_and_whom_it_tells() {
    let status = status_of(include_str!("fixtures/alertmanager-v2-status.json")).await.unwrap();
    assert_eq!(status.started_at, "2026-11-20T17:06:31.495Z".parse::<Timestamp>().unwrap());
    assert_eq!(status.resolve_timeout, SignedDuration::from_secs(5));
    let urls = vec!["http://127.0.0.1:29199/hook".to_owned()];
    assert_eq!(status.webhooks, [WebhookReceiver { name: "hook".to_owned(), urls }]);

    let of =
        |config: &str| json!({"uptime": "2026-11-20T17:06:31Z", "config": {"original": config}}).to_string();
    let bare = status_of(of("route: {receiver: a}\nreceivers: [{name: a}]\n")).await.unwrap();
    assert_eq!((bare.resolve_timeout, bare.webhooks.len()), (SignedDuration::from_mins(5), 0));
    assert!(status_of(of("global: {resolve_timeout: soon}")).await.is_err());
    assert!(status_of(of("{")).await.is_err());
    assert!(status_of("{}").await.is_err());
}

#[tokio::test]
async fn an_answer_that_is_none_clears_nothing() {
    for (status, body) in [(503, "busy"), (200, "{}"), (200, "[{\"labels\": {}}]"), (200, ""), (404, "[]")] {
        let fake = Fake::saying(status, body).await;
        let alerts = AlertmanagerClient::new(fake.access()).alerts(&context()).await;
        assert!(alerts.is_err(), "{status} {body}");
    }
    let silent = Fake::silent().await;
    let short = CallContext::within(Duration::from_millis(50));
    let alerts = AlertmanagerClient::new(silent.access()).alerts(&short).await;
    assert_eq!(alerts, Err(SourceError::TimedOut));
}
