//! Payloads of Grafana, of managed services and of scripts: taken, or refused with words that say what they are; watchdogs; links.

use quell_sandbox::Sandbox;
use serde_json::{Value, json};

use crate::common::{WEBHOOKS, deliver, firing, get, incidents, post, still};

async fn start() -> Sandbox {
    Sandbox::start(still()).await.unwrap()
}

/// A post of a small input of other senders, as it is sent.
pub(crate) fn field_case(id: &str, post: usize) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../incident/tests/field-cases");
    let case: Value = serde_json::from_slice(&std::fs::read(format!("{folder}/{id}.json")).unwrap()).unwrap();
    let post = &case["posts"][post];
    post["raw"].as_str().map_or_else(|| post["body"].to_string(), str::to_owned).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_other_senders_are_answered_as_taken() {
    let sandbox = start().await;
    for (id, post_number) in [
        ("A1-grafana-v1", 0),
        ("A2-grafana-test", 0),
        ("A3-amp-template", 0),
        ("A9-number-values", 0),
        ("A13-empty-alerts", 0),
        ("A14-bom", 0),
        ("A15-invalid-utf8-label", 0),
        ("A16-dup-key", 0),
        ("A17-epoch-times", 0),
        ("A17-epoch-times", 1),
        ("F7-uppercase-status", 0),
    ] {
        for path in ["/webhooks/alertmanager", "/webhooks/alertmanager/", "/webhook/alert", "/webhook/alert/"]
        {
            let answer = post(&sandbox, path, field_case(id, post_number)).await;
            assert_eq!(
                (answer.status, answer.json()),
                (200, json!({"status": "ok"})),
                "{id} to {path}: {answer:?}"
            );
        }
    }
    // A bare alert ends when its time has come.
    let [begin, end] = [0, 1].map(|number| field_case("A8-bare-endsAt", number));
    let past = |body: Vec<u8>| String::from_utf8(body).unwrap().replace("2026-11-30", "2026-01-31");
    let opened = post(&sandbox, "/webhook/alert", past(begin)).await.json()["incident_id"].clone();
    assert_eq!(post(&sandbox, "/webhook/alert", past(end)).await.json()["incident_id"], opened);
    let incident = get(&sandbox, &format!("/api/incidents/{}", opened.as_str().unwrap())).await.json();
    assert_eq!(incident["status"], "resolved", "{incident:#}");
}

/// A watchdog says that all is well: it is counted and opens nothing, and the answer says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_is_a_heartbeat() {
    let sandbox = start().await;
    let seen = async || {
        let metrics = get(&sandbox, "/metrics").await.text;
        let name = "quell_heartbeat_last_seen_timestamp_seconds ";
        metrics.lines().find_map(|line| line.strip_prefix(name)).map(|at| at.parse::<f64>().unwrap())
    };
    // Neither the end of a watchdog nor an inhibitor says that all is well.
    let mut ended = firing("Watchdog", &[("severity", "none")]);
    ended["status"] = json!("resolved");
    for alert in [ended, firing("InfoInhibitor", &[("severity", "none")])] {
        let body = json!({"version": "4", "alerts": [alert]}).to_string();
        assert_eq!(post(&sandbox, WEBHOOKS[0], body).await.json(), json!({"status": "ok"}));
    }
    assert_eq!(seen().await, None, "an alert on its age would fire");
    let told = post(&sandbox, WEBHOOKS[0], field_case("G1-watchdog", 0)).await.json();
    assert_eq!(told, json!({"status": "ok", "heartbeats": 1}));
    incidents(&sandbox, 0).await;
    assert!(seen().await.is_some_and(|at| at > 0.0));
    // What says itself that it is an alarm is one, whatever its name.
    deliver(&sandbox, WEBHOOKS[0], &[firing("Heartbeat", &[("severity", "critical")])]).await;
    assert_eq!(incidents(&sandbox, 1).await[0]["priority"], "P0");
}

/// Addresses of runbooks, rules and dashboards are for people, and harmless.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_shown_and_are_of_the_web_only() {
    let sandbox = start().await;
    let mut alert = firing("Linked", &[]);
    alert["annotations"] =
        json!({"runbook_url": "https://runbooks.example/linked", "dashboard_url": "javascript:alert(1)"});
    alert["generatorURL"] = json!("http://prom.example/graph?g0.expr=up");
    alert["dashboardURL"] = json!("https://user:secret@grafana.example/d/x\u{1b}[2J");
    alert["panelURL"] = json!("https://grafana.example/d/x?viewPanel=1");
    deliver(&sandbox, WEBHOOKS[0], &[alert]).await;
    let incident = incidents(&sandbox, 1).await.remove(0);
    assert_eq!(incident["runbook_url"], "https://runbooks.example/linked");
    let links: Vec<_> =
        incident["links"].as_array().unwrap().iter().map(|link| link["url"].as_str().unwrap()).collect();
    assert_eq!(
        links,
        [
            "https://runbooks.example/linked",
            "http://prom.example/graph?g0.expr=up",
            "https://grafana.example/d/x[2J",
            "https://grafana.example/d/x?viewPanel=1"
        ]
    );
}
