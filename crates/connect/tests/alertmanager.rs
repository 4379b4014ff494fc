//! Alertmanager as it answers, recorded, and as it should not.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod fake;

use std::time::Duration;

use fake::{Fake, context};
use jiff::{SignedDuration, Timestamp};
use quell_connect::SourceError;
use quell_connect::alertmanager::{
    AlertState, AlertmanagerClient, Grouped, Routes, Silence, Status, WebhookReceiver,
};
use quell_incident::alert::{Fingerprint, Labels};
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

#[tokio::test]
async fn groups_say_which_intervals_mute_them_where_they_say_anything() {
    let grouped = |fingerprint: &str, receiver: &str, muted_by: Option<&[&str]>| Grouped {
        fingerprint: fingerprint.to_owned(),
        receiver: receiver.to_owned(),
        muted_by: muted_by.map(|named| named.iter().map(|name| (*name).to_owned()).collect()),
    };
    // As recorded from 0.25, which says nothing of it.
    let fake = Fake::saying(200, include_str!("fixtures/alertmanager-v2-alert-groups.json")).await;
    let client = AlertmanagerClient::new(fake.access().with_tenant(Some("shop")).unwrap());
    let old = client.groups_named(&[], &context()).await.unwrap();
    assert_eq!(
        fake.asked(),
        ["/api/v2/alerts/groups?active=true&silenced=true&inhibited=true&muted=true of shop"]
    );
    assert_eq!((old.len(), &old[0]), (3, &grouped("4fbce442ddbd975b", "hook", None)));

    // As 0.28 says it.
    let alert = |fingerprint: &str, muted_by: &[&str]| {
        let status = json!({"inhibitedBy": [], "mutedBy": muted_by, "silencedBy": [], "state": "suppressed"});
        json!({"fingerprint": fingerprint, "status": status})
    };
    let body = json!([
        {"labels": {}, "receiver": {"name": "hook"}, "alerts": [alert("a", &["nights"]), alert("b", &[])]},
        {"labels": {}, "receiver": {"name": "pager"}, "alerts": null},
    ]);
    let fake = Fake::saying(200, body.to_string()).await;
    let new = AlertmanagerClient::new(fake.access()).groups_named(&["A"], &context()).await.unwrap();
    assert_eq!(new, [grouped("a", "hook", Some(&["nights"])), grouped("b", "hook", Some(&[]))]);
}

async fn routes(route: &str) -> Result<Routes, String> {
    let config = format!("route:\n  receiver: root\n  routes:\n{route}");
    let body = json!({"uptime": "2026-11-20T17:06:31Z", "config": {"original": config}});
    status_of(body.to_string()).await.unwrap().routes
}

#[tokio::test]
async fn an_alert_takes_the_routes_that_alertmanager_would_choose() {
    let tree = routes(
        r#"
    - matchers: ['team="db"', "severity=~\"critical|warning\""]
      receiver: db
      group_wait: 2m
      mute_time_intervals: [nights]
      routes:
        - match: {severity: critical}
          receiver: db-pager
          continue: true
        - match_re: {severity: "crit.*"}
          receiver: db-chat
          active_time_intervals: [office]
    - matchers: ['{ "service.name"!="" , host!~"test-.*" }']
      receiver: dotted
    - matchers: ['quoted="a\"b\\c,d"']
      receiver: quoted
    - matchers: 'single=x'
      receiver: single
"#,
    )
    .await
    .unwrap();
    assert!(tree.have_intervals());
    let taken = |labels: &[(&str, &str)]| -> Vec<(String, bool, i64)> {
        let labels: Labels = labels.iter().copied().collect();
        let taken = tree.taken_by(&labels).into_iter();
        taken
            .map(|route| (route.receiver.to_owned(), route.has_intervals, route.group_wait.as_secs()))
            .collect()
    };
    let to = |receiver: &str, has_intervals: bool, wait: i64| (receiver.to_owned(), has_intervals, wait);
    assert_eq!(taken(&[("team", "db"), ("severity", "warning")]), [to("db", true, 120)]);
    // Intervals are not handed down to the routes below, and waits are.
    assert_eq!(
        taken(&[("team", "db"), ("severity", "critical")]),
        [to("db-pager", false, 120), to("db-chat", true, 120)]
    );
    assert_eq!(taken(&[("team", "db"), ("severity", "criticality")]), [to("root", false, 30)], "anchored");
    assert_eq!(taken(&[("service.name", "cart")]), [to("dotted", false, 30)]);
    assert_eq!(taken(&[("service.name", "cart"), ("host", "test-1")]), [to("root", false, 30)]);
    assert_eq!(taken(&[("quoted", r#"a"b\c,d"#)]), [to("quoted", false, 30)]);
    assert_eq!(taken(&[("single", "x")]), [to("single", false, 30)]);
    assert_eq!(taken(&[]), [to("root", false, 30)]);
}

#[tokio::test]
async fn routes_that_cannot_be_read_are_told_apart_from_none() {
    for (route, said) in [
        ("    - matchers: [\"a\"]\n", "the matcher `a`"),
        ("    - matchers: ['a=~\"(\"']\n", "the expression `(`"),
        ("    - matchers: ['a=\"b']\n", "the matcher"),
        ("    - group_wait: soon\n", "`soon` is no duration"),
    ] {
        let error = routes(route).await.unwrap_err();
        assert!(error.contains(said), "{route}: {error}");
    }
    let bare = json!({"uptime": "2026-11-20T17:06:31Z", "config": {"original": ""}});
    let status = status_of(bare.to_string()).await.unwrap();
    assert_eq!(status.routes.unwrap_err(), "it shows no routes");
}
