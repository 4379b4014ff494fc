//! What public bug reports and rule sets show, through parsing and correlation to incidents: the small inputs beside the incident's tests,
//! with the right value of each.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use jiff::{SignedDuration, Timestamp};
use quell_incident::ids::SourceName;
use quell_incident::severity::{Priority, Severity, Status};
use serde_json::Value;

use super::tests::House;
use crate::alertmanager;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../incident/tests/field-cases");

fn case(id: &str) -> Value {
    let text = std::fs::read_to_string(format!("{FOLDER}/{id}.json"))
        .unwrap_or_else(|error| panic!("{id}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// Every time of the case's alerts, in place.
fn times(value: &mut Value, each: &mut impl FnMut(&mut Value, Timestamp)) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let known = matches!(name.as_str(), "startsAt" | "endsAt");
                match field.as_str().filter(|_| known).and_then(|text| text.parse::<Timestamp>().ok()) {
                    Some(at) if at > Timestamp::UNIX_EPOCH => each(field, at),
                    _ => times(field, each),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| times(item, each)),
        _ => {}
    }
}

/// Sends the posts of a case, the newest time in it being now.
async fn house_of(id: &str) -> House {
    let mut case = case(id);
    let mut house = House::new(|_| {});
    let mut newest = Timestamp::UNIX_EPOCH;
    times(&mut case, &mut |_, at| newest = newest.max(at));
    let shift = house.clock_now().duration_since(newest);
    times(&mut case, &mut |field, at| *field = (at + shift).to_string().into());
    for post in case["posts"].as_array().unwrap() {
        house.pass(SignedDuration::from_millis((post["sleep"].as_f64().unwrap_or(0.2) * 1_000.0) as i64));
        let body = post["raw"].as_str().map_or_else(|| post["body"].to_string(), str::to_owned);
        let bare = post["path"] == "/webhook/alert";
        let source = SourceName::declared("alertmanager").unwrap();
        let payload = alertmanager::parse(body.as_bytes(), &source, bare, house.clock_now())
            .unwrap_or_else(|why| panic!("{id}: {why}"));
        assert!(payload.rejected.is_empty(), "{id}: {:?}", payload.rejected);
        house.tell(payload.group_key.as_deref(), payload.alerts).await;
    }
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_other_senders_are_taken() {
    for (id, incidents, alerts) in [
        ("A1-grafana-v1", 1, 1),
        ("A1b-grafana-as-4", 1, 1),
        ("A2-grafana-test", 1, 1),
        ("A3-amp-template", 1, 1),
        ("A6-no-generator", 2, 2),
        ("A9-number-values", 2, 2),
        ("A10-notification-reason", 1, 1),
        ("A11-trailing-slash", 1, 1),
        ("A12-nocontenttype", 1, 1),
        ("A13-empty-alerts", 0, 0),
        ("A14-bom", 1, 1),
        ("A15-invalid-utf8-label", 1, 1),
        ("A16-dup-key", 1, 1),
        ("A17-epoch-times", 2, 2),
    ] {
        let found = house_of(id).await.incidents().await;
        assert_eq!(
            found.len(),
            incidents,
            "{id}: {:?}",
            found.iter().map(|one| &one.title).collect::<Vec<_>>()
        );
        assert_eq!(found.iter().map(|one| one.members.len()).sum::<usize>(), alerts, "{id}");
    }
    let grafana = house_of("A1-grafana-v1").await.only().await;
    assert_eq!((grafana.priority, grafana.service.as_str()), (Priority::P0, "checkout"));
    assert_eq!(grafana.title, "Checkout latency on checkout");
    let amp = house_of("A3-amp-template").await.only().await;
    assert_eq!(amp.started_at.to_string(), "2026-11-30T14:30:00.123456789Z");
    let numbers = house_of("A9-number-values").await.incidents().await;
    let codes: Vec<_> = numbers.iter().flat_map(|one| one.alerts.values()).collect();
    assert!(codes.iter().any(|state| state.alert.labels.get("code").is_some_and(|code| code.is("503"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_by_the_payload_or_by_its_time_is_resolved() {
    for (id, status) in [
        ("A7-alert-without-status", Status::Resolved),
        ("A8-bare-endsAt", Status::Resolved),
        ("F2-resolved-again", Status::Resolved),
        ("F3-late-firing", Status::Resolved),
        ("F5-startsAt-moves", Status::Resolved),
        ("F6-same-second-refire", Status::Investigating),
        ("F7-uppercase-status", Status::Open),
    ] {
        let incident = house_of(id).await.only().await;
        assert_eq!(incident.status(), status, "{id}");
        assert_eq!(incident.reopened, u32::from(id.starts_with("F6")), "{id}");
    }
    assert!(house_of("F1-resolved-unknown").await.incidents().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_patient_is_named_and_not_the_exporter() {
    for (id, title, affected) in [
        ("D1-ksm-node", "KubeNodeUnreachable on worker-2", "worker-2"),
        ("D2-ksm-pod", "KubePodCrashLooping on shop/checkout-6c9f-x2x4z", "shop/checkout-6c9f-x2x4z"),
        ("D3-exported", "KubeContainerWaiting on shop/cart-7d4-abcde", "shop/cart-7d4-abcde"),
        ("D4-no-instance-deployment", "KubeDeploymentReplicasMismatch on shop/checkout", "shop/checkout"),
        ("D5-pvc", "KubePersistentVolumeFillingUp on db/data-pg-0", "db/data-pg-0"),
        ("D6-nothing", "KubeAPIDown", ""),
        ("D7-otel", "HighLatency on vm-7", "vm-7"),
        ("D8-nodename", "HostOutOfMemory on db-1", "db-1"),
        ("D10-kafka-lag", "KafkaConsumerGroupLag on billing (orders)", "billing"),
        ("D12-message-annotation", "KubePodNotReady on shop/cart-1", "shop/cart-1"),
        ("D13-cadvisor", "ContainerHighMemory on shop/cart-1", "shop/cart-1"),
        ("H1-awesome-description", "PostgresqlTooManyConnections on 10.0.0.9 (shop)", "10.0.0.9"),
    ] {
        let mut house = house_of(id).await;
        let incident = house.only().await;
        assert_eq!(incident.title, title, "{id}");
        assert_eq!(incident.affected_systems.join(","), affected, "{id}");
        assert!(!incident.service.contains("metrics"), "{id}: {}", incident.service);
        house.restart().await;
        for event in house.log(incident.id).await {
            let text = quell_incident::view::describe(&event.event);
            assert!(!text.contains("unknown") && !text.contains("10.42.0.72"), "{id}: {text}");
        }
    }
    let mut probed: Vec<_> =
        house_of("D9-blackbox").await.incidents().await.iter().map(|one| one.title.clone()).collect();
    probed.sort();
    assert_eq!(probed, ["SiteDown on https://shop.example.org:8443/health", "SiteDown on shop.example.org"]);
    assert_eq!(house_of("D7-otel").await.only().await.service, "checkout");
    let described = |id: &'static str| async move { house_of(id).await.only().await.description.clone() };
    assert_eq!(described("D12-message-annotation").await, "Pod shop/cart-1 has been non-ready for an hour.");
    assert_eq!(described("D6-nothing").await, "Target disappeared from Prometheus target discovery.");
    assert_eq!(
        described("H1-awesome-description").await,
        "PostgreSQL instance has too many connections (> 80%). VALUE = 93.1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_together_is_one_incident_and_what_does_not_is_not() {
    for (id, incidents, firing) in [
        ("E1-ksm-component", 3, 3),
        ("E2-one-crash-four-alerts", 1, 4),
        ("E3-group-key-utf8", 1, 2),
        ("E4-ha-groupkey-order", 1, 2),
        ("E5-value-label", 1, 5),
        ("E5b-value-label-grouped", 1, 4),
        ("E6-ksm-restart", 1, 1),
        ("E7-ha-replica", 1, 2),
        ("E7b-replica-grouped", 1, 2),
        ("E7c-replica-default", 1, 2),
        ("E8-two-routes", 1, 1),
        ("E9-groupkey-escapes", 1, 2),
        ("E10-ns-two-pods", 2, 2),
        ("E11-no-groupkey", 2, 2),
        ("E12-host-two-exporters", 1, 2),
    ] {
        let mut house = house_of(id).await;
        for restarted in [false, true] {
            let found = house.incidents().await;
            let titles: Vec<_> = found.iter().map(|one| &one.title).collect();
            assert_eq!(found.len(), incidents, "{id}, restarted: {restarted}: {titles:?}");
            assert_eq!(found.iter().map(|one| one.members.firing()).sum::<usize>(), firing, "{id}");
            assert!(found.iter().all(|one| one.status().is_active()), "{id}");
            house.restart().await;
        }
    }
}

/// What comes one by one, or after a restart, belongs where it would have belonged at once.
#[tokio::test(flavor = "multi_thread")]
async fn one_crash_is_one_incident_also_over_a_restart_and_two_workloads_are_two() {
    let case = case("E2-one-crash-four-alerts");
    let alerts = case["posts"][0]["body"]["alerts"].as_array().unwrap();
    let source = SourceName::declared("alertmanager").unwrap();
    let mut house = House::new(|_| {});
    for (number, alert) in alerts.iter().enumerate() {
        for (name, group) in [("checkout", None), ("mail", Some(r#"{}:{namespace="shop"}"#))] {
            let body = alert.to_string().replace("checkout", name);
            let payload = alertmanager::parse(body.as_bytes(), &source, true, house.clock_now()).unwrap();
            house.tell(group, payload.alerts).await;
        }
        if number == 1 {
            house.restart().await;
        }
        house.pass(SignedDuration::from_mins(20));
    }
    let found = house.incidents().await;
    assert_eq!(found.iter().map(|one| one.members.len()).collect::<Vec<_>>(), [4, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchdogs_open_nothing_and_what_nobody_needs_to_see_asks_nobody() {
    for id in ["G1-watchdog", "G2-infoinhibitor"] {
        assert!(house_of(id).await.incidents().await.is_empty(), "{id}");
    }
    let mut house = House::new(|_| {});
    let source = SourceName::declared("alertmanager").unwrap();
    let body = r#"{"labels": {"alertname": "X", "instance": "a:1", "severity": "none"}}"#;
    let payload = alertmanager::parse(body.as_bytes(), &source, true, house.clock_now()).unwrap();
    house.tell(None, payload.alerts).await;
    house.pass(SignedDuration::from_hours(24));
    let incident = house.only().await;
    assert_eq!(
        (incident.priority, incident.severity, incident.status()),
        (Priority::P3, Severity::Info, Status::Open)
    );
    assert!(quell_incident::workflow::next_deadline(&incident).unwrap() > house.clock_now());
    assert!(
        quell_incident::view::summary(&incident).contains("nobody"),
        "{}",
        quell_incident::view::summary(&incident)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_severity_that_nobody_knows_is_said_and_is_no_p3() {
    let mut house = House::new(|_| {});
    let source = SourceName::declared("alertmanager").unwrap();
    let body = r#"{"labels": {"alertname": "X", "instance": "a:1", "severity": "gold"}}"#;
    let payload = alertmanager::parse(body.as_bytes(), &source, true, house.clock_now()).unwrap();
    house.tell(None, payload.alerts).await;
    let incident = house.only().await;
    assert_eq!(incident.priority, Priority::P2);
    let log = house.log(incident.id).await;
    let said = log.iter().filter(|event| quell_incident::view::describe(&event.event).contains("`gold`"));
    assert_eq!(said.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn grafana_s_missing_data_names_the_rule() {
    let found = house_of("F4-grafana-nodata").await.incidents().await;
    let titles: Vec<_> = found.iter().map(|one| one.title.as_str()).collect();
    assert!(titles.contains(&"Checkout latency: no data"), "{titles:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_alerts_are_shown() {
    let view = quell_incident::view::to_json(&*house_of("D1-ksm-node").await.only().await);
    assert_eq!(view["runbook_url"], "https://runbooks.example/kubenodeunreachable");
    assert_eq!(view["links"][1]["url"], "http://prom.example/graph?g0.expr=x");
    assert_eq!(view["links"][1]["kind"], "rule");
}
