//! Webhooks: what is taken, what is not, and what becomes of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quell_sandbox::{Part, Sandbox};
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{
    self, WEBHOOKS, ask, correlated, deliver, deliver_bare, firing, get, incidents, is_healthy, next_page,
    payload, post, resolved, still, with,
};
use crate::senders::field_case;

/// Label and annotation values are at most this long.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The shipped limit of a request's body.
const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;

async fn start() -> Sandbox {
    Sandbox::start(still()).await.unwrap()
}

/// A payload of exactly so many bytes: alerts with long descriptions.
fn payload_of(bytes: usize) -> String {
    let big = |number: usize| {
        let alert = firing("Big", &[("instance", &format!("host-{number}:9100"))]);
        with(alert, "annotations", json!({"description": "x".repeat(60_000)}))
    };
    let alerts: Vec<_> = (0..bytes / 61_000).map(big).collect();
    let mut text = payload(&alerts).to_string();
    assert!(text.len() < bytes);
    // JSON may end in blanks.
    text.push_str(&" ".repeat(bytes - text.len()));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_taken_is_told_why() {
    let sandbox = start().await;
    let good = firing("Good", &[]);
    let of = |alert: Value| payload(&[alert]).to_string().into_bytes();
    let mut many_labels = firing("Many", &[]);
    for number in 0..300 {
        many_labels["labels"][format!("l{number}")] = json!("x");
    }
    let long = with(good.clone(), "annotations", json!({"description": "x".repeat(VALUE_BYTES_MAX)}));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", Vec::new(), &["not JSON"]),
        ("half", b"{\"version\": \"4\", \"alerts\": [".to_vec(), &["not JSON", "line 1"]),
        ("text", b"hello".to_vec(), &["not JSON"]),
        ("too deep", deep, &["not JSON", "recursion"]),
        ("a form", b"version=4&alerts=".to_vec(), &["not JSON"]),
        ("not UTF-8", b"{\"version\": \"4\", \"alerts\": \"\xff\xfe\"}".to_vec(), &["no `alerts`"]),
        ("UTF-16", vec![0xff, 0xfe, b'{', 0, b'}', 0], &["no `alerts`"]),
        ("a list", b"[]".to_vec(), &["version 4"]),
        ("null", b"null".to_vec(), &["version 4"]),
        ("a number", b"4".to_vec(), &["version 4"]),
        ("an empty object", b"{}".to_vec(), &["no `alerts`", "list"]),
        ("no alerts", br#"{"version": "4"}"#.to_vec(), &["no `alerts`", "list"]),
        (
            "of Datadog",
            br#"{"event_type": "x", "org": {"id": "1"}, "title": "CPU"}"#.to_vec(),
            &["looks like a Datadog event", "`{\"alerts\": "],
        ),
        (
            "two documents",
            b"{\"alerts\": []}\n{\"alerts\": []}".to_vec(),
            &["not JSON", "byte 15", "request of its own"],
        ),
        ("alerts not a list", br#"{"version": "4", "alerts": {}}"#.to_vec(), &["no `alerts`", "list"]),
        ("of SNS", field_case("A4-amp-sns", 0), &["Amazon SNS envelope", "raw message delivery"]),
        ("of Azure", field_case("A5-azure", 0), &["Azure Monitor"]),
        ("an alert that is a word", of(json!("DiskFull")), &["alert 0"]),
        ("an alert that is null", of(Value::Null), &["alert 0"]),
        ("unknown status", of(with(good.clone(), "status", json!("flapping"))), &["`flapping`", "`firing`"]),
        ("no labels", of(json!({"status": "firing"})), &["no labels"]),
        ("labels that are a list", of(json!({"labels": ["alertname"]})), &["alert 0", "map"]),
        (
            "a wrong time",
            of(with(good.clone(), "startsAt", json!("yesterday"))),
            &["`startsAt`", "yesterday"],
        ),
        ("an impossible day", of(with(good.clone(), "endsAt", json!("2026-02-31T00:00:00Z"))), &["`endsAt`"]),
        ("a time that is a number", of(with(good.clone(), "startsAt", json!(5))), &["`startsAt`", "`5`"]),
        ("too many labels", of(many_labels), &["301 labels", "256"]),
        ("a long value", of(long), &["`description`", "65536 bytes"]),
    ];
    for path in WEBHOOKS {
        for (what, body, words) in &cases {
            let answer = post(&sandbox, path, body.clone()).await;
            answer.is_problem(&format!("{what} to {path}"), 400, words);
        }
    }
    is_healthy(&sandbox).await;
    incidents(&sandbox, 0).await;
    deliver(&sandbox, WEBHOOKS[0], &[good]).await;
    incidents(&sandbox, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_alert_that_cannot_be_taken_is_told_why() {
    let sandbox = start().await;
    for (what, alert, words) in [
        ("unknown status", json!({"labels": {"alertname": "A"}, "status": "on"}), vec!["`on`", "`resolved`"]),
        ("no label", json!({"labels": {}}), vec!["no labels"]),
        ("labels that are none", json!({"labels": [1]}), vec!["map"]),
        ("a wrong time", json!({"labels": {"a": "b"}, "startsAt": "25:00"}), vec!["`startsAt`", "25:00"]),
    ] {
        post(&sandbox, "/webhook/alert", alert.to_string()).await.is_problem(what, 400, &words);
        // Alertmanager's own path takes its own form only.
        post(&sandbox, "/webhooks/alertmanager", alert.to_string()).await.is_problem(what, 400, &["version"]);
    }
    incidents(&sandbox, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_alerts_are_taken() {
    let sandbox = start().await;
    let nameless =
        json!({"status": "firing", "labels": {"job": "backup"}, "startsAt": "2026-01-31T12:00:00Z"});
    let recorded: Value = serde_json::from_str(include_str!(
        "../../../incident/tests/fixtures/alertmanager-webhook-firing.json"
    ))
    .unwrap();
    let mut without_fingerprint = recorded["alerts"][0].clone();
    without_fingerprint.as_object_mut().unwrap().remove("fingerprint");
    let before = common::fake::now();
    for (number, (what, alert, expected)) in [
        ("no alertname", nameless, json!({"alert_name": "unnamed", "priority": "P3"})),
        (
            "no fingerprint",
            without_fingerprint,
            json!({"fingerprints": ["1599681a69b07994"], "affected_systems": ["127.0.0.1"], "priority": "P0"}),
        ),
        (
            "an empty fingerprint",
            with(firing("EmptyFingerprint", &[]), "fingerprint", json!("")),
            json!({"alert_name": "EmptyFingerprint"}),
        ),
        (
            "the far past",
            with(firing("Past", &[]), "startsAt", json!("1970-01-01T00:00:00Z")),
            json!({"started_at": "1970-01-01T00:00:00Z"}),
        ),
        (
            "before the Common Era's Unix",
            with(firing("LongPast", &[]), "startsAt", json!("1066-10-14T09:00:00+00:00")),
            json!({"started_at": "1066-10-14T09:00:00Z"}),
        ),
        ("the future", with(firing("Future", &[]), "startsAt", json!("2999-01-01T00:00:00Z")), json!({})),
        ("Go's zero time", with(firing("Zero", &[]), "startsAt", json!("0001-01-01T00:00:00Z")), json!({})),
        ("no time and no status", json!({"labels": {"alertname": "Terse"}}), json!({"alert_name": "Terse"})),
        ("a field nobody knows", with(firing("Extra", &[]), "extra", json!({"a": [1]})), json!({})),
        ("no annotations", with(firing("NullAnnotations", &[]), "annotations", Value::Null), json!({})),
        (
            "a terminal's codes",
            firing("Codes\u{1b}[2J\u{0}", &[("severity", "CRITICAL"), ("instance", "a\nb:1")]),
            json!({"alert_name": "Codes [2J ", "affected_systems": ["a b"], "priority": "P0", "severity": "critical"}),
        ),
        (
            "text of every script",
            firing("Störung 障害 🔥", &[("service", "größe")]),
            json!({"alert_name": "Störung 障害 🔥", "service": "größe"}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        deliver(&sandbox, WEBHOOKS[number % 2], &[alert]).await;
        let all = incidents(&sandbox, number + 1).await;
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&all[0][field], value, "{what}: {:#}", all[0]);
        }
        let started: jiff::Timestamp = all[0]["started_at"].as_str().unwrap().parse().unwrap();
        assert!(started <= common::fake::now(), "{what}: began in the future: {started}");
        if matches!(what, "the future" | "Go's zero time" | "no time and no status") {
            assert!(started >= before, "{what}: {started}");
        }
    }
    is_healthy(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_alert_that_cannot_be_used_does_not_lose_the_others() {
    let sandbox = start().await;
    let alerts = [
        firing("First", &[]),
        with(firing("Second", &[]), "status", json!("odd")),
        firing("Third", &[]),
        json!({"status": "firing"}),
    ];
    for path in WEBHOOKS {
        let answer = post(&sandbox, path, payload(&alerts).to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let told = answer.json();
        assert_eq!((&told["accepted"], &told["rejected"][0]["index"]), (&json!(2), &json!(1)), "{told}");
        assert!(told["rejected"][0]["why"].as_str().unwrap().contains("`odd`"), "{told}");
        assert_eq!(told["rejected"][1]["index"], 3, "{told}");
        let names: Vec<_> =
            incidents(&sandbox, 2).await.iter().map(|one| one["alert_name"].clone()).collect();
        assert_eq!(names, ["Third", "First"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_and_any_content_type_are_fine() {
    let sandbox = start().await;
    for path in WEBHOOKS {
        deliver(&sandbox, path, &[]).await;
        let none = post(&sandbox, path, r#"{"version": "4", "groupKey": "{}", "alerts": null}"#).await;
        assert_eq!((none.status, none.json()), (200, json!({"status": "ok"})), "{none:?}");
        let alert = firing("Typed", &[("path", path)]);
        for content_type in
            ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]
        {
            let headers = [("content-type", content_type)];
            let body = payload(std::slice::from_ref(&alert)).to_string();
            let answer = ask(&sandbox, Method::POST, path, &headers, body).await;
            assert_eq!(answer.status, 200, "{content_type}: {answer:?}");
        }
    }
    incidents(&sandbox, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packing_that_is_not_read_is_named() {
    let sandbox = start().await;
    for path in WEBHOOKS {
        for (coding, status, words) in [
            ("zstd", 415, ["Content-Encoding: zstd", "`gzip`"]),
            ("br", 415, ["Content-Encoding: br", "`deflate`"]),
            ("gzip", 400, ["cannot be unpacked", "`gzip`"]),
        ] {
            let headers = [("content-encoding", coding)];
            let answer = ask(&sandbox, Method::POST, path, &headers, payload(&[]).to_string()).await;
            answer.is_problem(coding, status, &words);
        }
    }
    is_healthy(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_and_paths_are_told_so() {
    let sandbox = start().await;
    for path in WEBHOOKS {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = ask(&sandbox, method.clone(), path, &[], "").await;
            answer.is_problem(&format!("{method} {path}"), 405, &["method", "`Allow`"]);
            assert_eq!(answer.header("allow"), "POST");
        }
    }
    ask(&sandbox, Method::DELETE, "/api/incidents", &[], "").await.is_problem("DELETE", 405, &["method"]);
    for path in [
        "/webhooks/grafana",
        "/webhook",
        "/api",
        "/api/incident",
        "/API/incidents",
        "/nothing/%ff",
        "/%2e%2e/etc/passwd",
    ] {
        post(&sandbox, path, payload(&[]).to_string()).await.is_problem(path, 404, &["/api", "/webhooks"]);
    }
    let unknown = "/api/incidents/00000000-0000-7000-8000-000000000000";
    get(&sandbox, unknown).await.is_problem("unknown", 404, &["no incident 00000000"]);
    for id in ["17", "not-an-id", "%ff", "..%2f.."] {
        get(&sandbox, &format!("/api/incidents/{id}")).await.is_problem(id, 404, &["incident id"]);
        let word = format!("/api/incidents/{id}/resolve");
        post(&sandbox, &word, "").await.is_problem(&word, 404, &["incident id"]);
    }
    is_healthy(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_are_switched_off_are_not_there() {
    let sandbox =
        Sandbox::start(still().replacing("autonomy:", "enable_webhooks: false\n  autonomy:")).await.unwrap();
    for path in WEBHOOKS {
        post(&sandbox, path, payload(&[]).to_string()).await.is_problem(path, 404, &[]);
    }
    assert_eq!(sandbox.get("/api/incidents").await.unwrap(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_up_to_the_limit_is_taken_and_a_larger_one_is_told_the_limit() {
    let sandbox = start().await;
    let largest = payload_of(BODY_BYTES_MAX);
    let count = BODY_BYTES_MAX / 61_000;
    for path in WEBHOOKS {
        let answer = post(&sandbox, path, largest.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let all = incidents(&sandbox, count).await;
    assert!(
        all.iter().all(|one| one["description"].as_str().unwrap().len() >= 500),
        "a description was lost"
    );
    for bytes in [BODY_BYTES_MAX + 1, 11 * 1024 * 1024] {
        for path in WEBHOOKS.into_iter().chain(["/api/incidents", "/api/kill-switch"]) {
            let method = if path == "/api/kill-switch" { Method::PUT } else { Method::POST };
            let answer = ask(&sandbox, method, path, &[], vec![b' '; bytes]).await;
            let words = ["10485760 bytes", "coordinator.body_bytes_max"];
            answer.is_problem(&format!("{bytes} bytes to {path}"), 413, &words);
        }
    }
    let word = format!("/api/incidents/{}/notes", all[0]["id"].as_str().unwrap());
    post(&sandbox, &word, vec![b' '; 11_000_000]).await.is_problem("a long note", 413, &["10485760 bytes"]);
    is_healthy(&sandbox).await;
    incidents(&sandbox, count).await;
}

/// One alert as large as a body may be: it is one incident like any other, and correlation goes on behind it.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_of_ten_megabytes() {
    let mut sandbox = start().await;
    let mut huge = firing("Huge", &[("severity", "critical")]);
    for number in 0..150 {
        huge["annotations"][format!("a{number}")] = json!("x".repeat(60_000));
    }
    deliver(&sandbox, WEBHOOKS[0], &[huge, firing("Behind", &[])]).await;
    assert_eq!(incidents(&sandbox, 2).await[0]["alert_name"], "Behind");
    sandbox.restart(Part::Coordinator).await.unwrap();
    incidents(&sandbox, 2).await;
    is_healthy(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_alerts_in_one_payload() {
    const COUNT: usize = 10_000;
    let mut sandbox = start().await;
    let alert = |number: usize| {
        let labels =
            [("instance", &*format!("host-{number}:9100")), ("severity", "info"), ("component", "disk")];
        firing(&format!("Flood{}", number % 7), &labels)
    };
    let alerts: Vec<_> = (0..COUNT).map(alert).collect();
    let began = Instant::now();
    deliver(&sandbox, WEBHOOKS[0], &alerts).await;
    assert!(began.elapsed() < Duration::from_secs(5), "taken after {:?}", began.elapsed());
    // Answered is durable: what was correlated before the kill and what was not.
    sandbox.kill(Part::Coordinator);
    sandbox.restart(Part::Coordinator).await.unwrap();
    // Seconds as it is shipped; a build for debugging, beside other tests, takes longer.
    let within = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 12 });
    correlated(&sandbox, within).await;
    let mut seen = BTreeSet::new();
    let mut path = "/api/incidents?limit=1000".to_owned();
    loop {
        let page = get(&sandbox, &path).await;
        assert_eq!(page.header("x-total-count"), COUNT.to_string());
        for incident in page.json().as_array().unwrap() {
            assert_eq!(incident["alerts_total"], 1, "{incident}");
            seen.insert(incident["fingerprints"][0].as_str().unwrap().to_owned());
        }
        match next_page(&page) {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(seen.len(), COUNT, "each alert has its incident");
    is_healthy(&sandbox).await;
}

/// Alerts on one component of one host are one incident, which knows each of them.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_alerts_of_one_cause() {
    let sandbox = start().await;
    let labels = [("instance", "host-1:9100"), ("component", "disk")];
    let alert = |number: usize| firing(&format!("Flood{number}"), &labels);
    let alerts: Vec<_> = (0..200).map(alert).collect();
    deliver(&sandbox, WEBHOOKS[0], &alerts).await;
    let first = incidents(&sandbox, 1).await.remove(0);
    assert_eq!((&first["alerts_total"], &first["alerts_firing"]), (&json!(200), &json!(200)));
    deliver(&sandbox, WEBHOOKS[1], &alerts).await;
    assert_eq!(incidents(&sandbox, 1).await[0], first, "what is repeated changes nothing");
    let ends: Vec<_> = alerts.iter().map(|alert| resolved(alert, "2026-01-31T13:00:00Z")).collect();
    deliver(&sandbox, WEBHOOKS[0], &ends[1..]).await;
    let last = incidents(&sandbox, 1).await.remove(0);
    assert_eq!((&last["alerts_firing"], &last["status"]), (&json!(1), &json!("open")), "one still fires");
    deliver(&sandbox, WEBHOOKS[0], &ends[..1]).await;
    assert_eq!(incidents(&sandbox, 1).await[0]["status"], "resolved");
}

/// An incident keeps a sample of its alerts in full and knows every one.
#[tokio::test(flavor = "multi_thread")]
async fn more_alerts_of_one_cause_than_an_incident_keeps_in_full() {
    let sandbox = start().await;
    let labels = [("instance", "host-1:9100"), ("component", "disk")];
    let alerts: Vec<_> = (0..1_020).map(|number| firing(&format!("Flood{number}"), &labels)).collect();
    deliver(&sandbox, WEBHOOKS[0], &alerts).await;
    let first = incidents(&sandbox, 1).await;
    assert_eq!((&first[0]["alerts_total"], &first[0]["alerts_firing"]), (&json!(1_020), &json!(1_020)));
    deliver(&sandbox, WEBHOOKS[0], &alerts).await;
    assert_eq!(incidents(&sandbox, 1).await, first, "what is repeated changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_scripted_check() {
    let sandbox = start().await;
    let alerts = ["TestIncident", "EmailServiceDown"]
        .map(|name| firing(name, &[("severity", "critical"), ("service", "email")]));
    deliver(&sandbox, WEBHOOKS[0], &alerts).await;
    let all = incidents(&sandbox, 2).await;
    let names: BTreeSet<_> = all.iter().map(|one| one["alert_name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["EmailServiceDown", "TestIncident"]));
    assert!(all.iter().all(|one| one["priority"] == "P0" && one["severity"] == "critical"), "{all:#?}");
    // The address that older scripts use.
    assert_eq!(sandbox.get("/incidents?status=active").await.unwrap().as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_alert_again_is_the_same_incident() {
    let sandbox = start().await;
    let alert = firing("Twice", &[("severity", "warning"), ("instance", "host-1:9100")]);
    let both = [alert.clone(), alert.clone()];
    deliver(&sandbox, WEBHOOKS[0], &both).await;
    let first = incidents(&sandbox, 1).await[0].clone();
    let posts = (0..20).map(|number| deliver(&sandbox, WEBHOOKS[number % 2], &both));
    futures::future::join_all(posts).await;
    // A second Alertmanager of the pair has another clock.
    deliver(&sandbox, WEBHOOKS[0], &[with(alert.clone(), "startsAt", json!("2026-01-31T12:00:07Z"))]).await;
    let again = incidents(&sandbox, 1).await[0].clone();
    assert_eq!(first, again, "a repeat changes nothing");
    // A bare alert has a source of its own, in which the same labels are another alert.
    let bare = deliver_bare(&sandbox, &alert).await;
    assert_eq!(bare, deliver_bare(&sandbox, &alert).await);
    assert!(bare.is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_alerts_in_any_order() {
    let sandbox = start().await;
    let ago = |minutes| {
        common::fake::now().saturating_sub(jiff::SignedDuration::from_mins(minutes)).unwrap().to_string()
    };
    let alert = with(firing("Ended", &[]), "startsAt", json!(ago(4)));
    let ended = resolved(&alert, &ago(2));
    // The end before anything: nothing to end, and nothing opened, also not by its beginning that comes late.
    deliver(&sandbox, WEBHOOKS[0], std::slice::from_ref(&ended)).await;
    incidents(&sandbox, 0).await;
    deliver(&sandbox, WEBHOOKS[0], std::slice::from_ref(&alert)).await;
    deliver(&sandbox, WEBHOOKS[0], &[ended.clone(), alert.clone()]).await;
    incidents(&sandbox, 0).await;
    // A later episode of it.
    let alert = with(alert, "startsAt", json!(ago(1)));
    let ended = resolved(&alert, &common::fake::now().to_string());
    deliver(&sandbox, WEBHOOKS[0], std::slice::from_ref(&alert)).await;
    let incident = incidents(&sandbox, 1).await[0].clone();
    assert_eq!(
        (&incident["status"], &incident["alerts_firing"]),
        (&json!("open"), &json!(1)),
        "{incident:#}"
    );
    // The end of an earlier episode, late: this one goes on.
    deliver(&sandbox, WEBHOOKS[0], &[resolved(&alert, &ago(60))]).await;
    assert_eq!(incidents(&sandbox, 1).await[0]["alerts_firing"], 1);
    // Its own end, twice; then its beginning, delivered late.
    deliver(&sandbox, WEBHOOKS[0], &[ended.clone(), ended.clone(), alert.clone()]).await;
    let over = incidents(&sandbox, 1).await[0].clone();
    assert_eq!((&over["alerts_firing"], &over["status"]), (&json!(0), &json!("resolved")), "{over:#}");
    // A new episode of it comes back to the same incident.
    deliver(&sandbox, WEBHOOKS[0], &[with(alert, "startsAt", json!(ago(0)))]).await;
    let back = incidents(&sandbox, 1).await[0].clone();
    assert_eq!((&back["id"], &back["alerts_firing"], &back["reopened"]), (&over["id"], &json!(1), &json!(1)));
}
