//! What a diagnosis rests on: kept with its incident, shown to people, and good for the same diagnosis again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use std::fs;
use std::process::Stdio;

use common::{WITHIN, deliver, firing, program, with};
use quell_diagnose::{Case, RuleSet};
use quell_incident::IncidentId;
use quell_sandbox::{Options, Part, Sandbox, until};
use quell_service::{Clock as _, SystemClock};
use quell_store::{EmbeddedStore, IncidentStore as _};
use serde_json::{Value, json};
use tokio::process::Command;

async fn closed(sandbox: &Sandbox, scenario: &str) -> Value {
    sandbox.trigger(scenario, None).await.unwrap();
    let over = |incident: &Value| incident["status"] == "closed";
    sandbox.incident("the incident to be closed", WITHIN, over).await.unwrap()
}

async fn quell(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let (code, out, error) = ran(sandbox, arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {out}\n{error}");
    out
}

async fn ran(sandbox: &Sandbox, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(program("quell"));
    command.env_clear().env("QUELL_URL", sandbox.url("")).args(arguments).stdin(Stdio::null());
    let ran = tokio::time::timeout(WITHIN, command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_incident_is_diagnosed_again_byte_for_byte() {
    let mut sandbox = Sandbox::start(Options::default()).await.unwrap();
    let incident = closed(&sandbox, "database_timeout").await;
    let id = incident["id"].as_str().unwrap();
    let url = sandbox.url(&format!("/api/incidents/{id}/evidence"));

    // As JSON to everybody, packed to those who take it.
    let plain = sandbox.client().get(&url).header("accept-encoding", "identity").send().await.unwrap();
    assert_eq!(plain.headers()["content-type"], "application/json");
    let case = Case::read(&plain.bytes().await.unwrap()).unwrap();
    let packed = sandbox.client().get(&url).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(Case::unpack(&packed.bytes().await.unwrap()).unwrap(), case);
    assert_eq!(case.request.incident.id.to_string(), id);
    assert!(!case.evidence.metrics.is_empty() && !case.evidence.logs.is_empty());

    let shown = quell(&sandbox, &["incident", "evidence", id]).await;
    assert!(shown.contains("KIND") && shown.contains("metric") && shown.contains("log"), "{shown}");
    let folder = sandbox.folder().join("cases");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("one.json.gz");
    quell(&sandbox, &["incident", "evidence", id, "--out", file.to_str().unwrap()]).await;
    assert_eq!(Case::unpack(&fs::read(&file).unwrap()).unwrap(), case);

    // One incident teaches nothing yet, and that is said.
    let learned = sandbox.folder().join("learned.json");
    let (code, _, error) = ran(&sandbox, &["eval", "calibrate", "--out", learned.to_str().unwrap()]).await;
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("that was verified: 1;") && error.contains("20 are needed"), "{error}");
    assert!(!learned.exists());

    let same = quell(&sandbox, &["backtest"]).await;
    assert_eq!(same, "1 diagnosed again, 0 would change\n");

    // A rule of the site that is surer of something else.
    let rules = sandbox.folder().join("rules.yaml");
    let text = r#"schema: quell/rules/v1
rules:
  - name: always
    cause: it_is_up
    root_cause: "it is up"
    base_confidence: 0.99
    signals: {start: {metric: process_start_time_seconds}}
    when: [{group: metric, share: 1.0, if: start.last > 0.0, says: "it started"}]
"#;
    fs::write(&rules, text).unwrap();
    let rules = rules.to_str().unwrap();
    let changed: Value =
        serde_json::from_str(&quell(&sandbox, &["backtest", "--rules", rules, "-o", "json"]).await).unwrap();
    assert_eq!((&changed["replayed"], &changed["without_evidence"]), (&json!(1), &json!(0)), "{changed}");
    let one = &changed["incidents"][0];
    assert_eq!(one["before"]["root_cause"], "connection_pool_exhausted", "{one}");
    assert_eq!(one["repaired_by"], "database-raise-limits", "{one}");
    let by_folder = ["backtest", "--rules", rules, "--cases", folder.to_str().unwrap(), "-o", "json"];
    let offline: Value = serde_json::from_str(&quell(&sandbox, &by_folder).await).unwrap();
    assert_eq!(offline["incidents"][0]["after"], one["after"], "{offline}");
    let later = quell(&sandbox, &["backtest", "--from", "2999-01-01T00:00:00Z"]).await;
    assert_eq!(later, "0 diagnosed again, 0 would change\n");

    sandbox.kill(Part::Coordinator);
    let options = quell_store::Options::new(uuid::Uuid::nil());
    let folder = sandbox.folder().join("coordinator");
    // It lets go of its folder when the last of it has ended.
    let opened = async || EmbeddedStore::open(&folder, options.clone()).map_err(|error| error.to_string());
    let store = until("the folder of the incidents to be free", WITHIN, opened).await.unwrap();
    let stored = store.incident(id.parse::<IncidentId>().unwrap()).await.unwrap().unwrap();
    let mut report = stored.report.clone().unwrap();
    assert!(report.case.take().is_some());
    let again = case.diagnose(&RuleSet::load(&[]).unwrap());
    assert_eq!(serde_json::to_vec(&again).unwrap(), serde_json::to_vec(&report).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_kept_and_told_to_the_diagnosis() {
    let mut sandbox = Sandbox::start(Options::default()).await.unwrap();
    let deploy = json!({
        "at": SystemClock.now(), "kind": "deploy", "service": "order_service", "version": "1.4.1 -> 1.4.2"
    });
    let first = sandbox.post("/api/changes", &json!([deploy, deploy])).await.unwrap();
    assert_eq!(first, json!({"received": 2, "new": 1}));
    for (wrong, words) in [
        (json!({"kind": ""}), "`kind` is empty"),
        (json!({"kind": "deploy", "who": "x"}), "unknown field `who`"),
        (json!({"kind": "deploy", "at": "2999-01-01T00:00:00Z"}), "yet to come"),
        (json!({"kind": "deploy", "at": "9999-12-31T23:59:59Z"}), "yet to come"),
        (json!({"kind": "deploy", "at": "yesterday"}), "`at` is `yesterday`, expected a time such as"),
        (json!({"kind": "deploy", "at": "1999-01-01T00:00:00Z"}), "are kept for 30 days"),
        (json!({"kind": "deploy", "summary": "x".repeat(3_000)}), "`summary` is longer"),
        (json!("deploy"), "expected a change such as"),
    ] {
        let refused = sandbox.post("/api/changes", &wrong).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    // It is there after a crash.
    sandbox.kill(Part::Coordinator);
    sandbox.restart(Part::Coordinator).await.unwrap();
    let told = sandbox.get("/api/changes").await.unwrap();
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told[0]["version"], "1.4.1 -> 1.4.2");
    assert_eq!(sandbox.get("/api/changes?until=2000-01-01T00:00:00Z").await.unwrap(), json!([]));
    let listed = sandbox.get("/api/changes?until=9999-12-31T23:59:59Z").await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let refused = sandbox.get("/api/changes?since=yesterday").await.unwrap_err().to_string();
    assert!(refused.contains("`since` is `yesterday`, expected a time such as"), "{refused}");
    assert!(sandbox.get("/api/changes?limit=0").await.unwrap_err().to_string().contains("expected 1 to"));

    // The first incident takes longer than a change takes to settle.
    closed(&sandbox, "database_timeout").await;
    sandbox.trigger("kafka_lag", None).await.unwrap();
    let other = |incident: &Value| {
        incident["status"] == "closed"
            && incident["alert_name"].as_str().is_some_and(|name| name.contains("Kafka"))
    };
    let second = sandbox.incident("the second incident", WITHIN, other).await.unwrap();
    let id = second["id"].as_str().unwrap();
    let evidence = sandbox.get(&format!("/api/incidents/{id}/evidence")).await.unwrap();
    assert_eq!(evidence["evidence"]["changes"][0]["service"], "order_service", "{}", evidence["request"]);
    let none = sandbox.get(&format!("/api/incidents/{}/evidence", IncidentId(uuid::Uuid::nil()))).await;
    assert!(none.unwrap_err().to_string().contains("404"));
}

/// A ninth fault, of a kind that nothing here knows: "I don't know" is the answer, and a person gets it with what was looked at.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_knows_is_said_so_and_handed_to_a_person() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let labels = [("severity", "critical"), ("component", "turbine"), ("instance", "turbine-1:9100")];
    let alert = with(firing("TurbineOverheats", &labels), "startsAt", json!(SystemClock.now()));
    deliver(&sandbox, "/webhooks/alertmanager", &[alert]).await;
    let over = |incident: &Value| incident["phase"] == "escalated";
    let incident = sandbox.incident("a person to be asked", WITHIN, over).await.unwrap();
    let diagnostics = &incident["diagnostics"];
    assert_eq!(diagnostics["root_cause"], Value::Null, "{diagnostics:#}");
    assert!(diagnostics["abstained"].as_str().is_some_and(|why| !why.is_empty()), "{diagnostics:#}");
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
    let id = incident["id"].as_str().unwrap();
    let evidence = sandbox.get(&format!("/api/incidents/{id}/evidence")).await.unwrap();
    assert_eq!(evidence["request"]["incident"]["alert_name"], "TurbineOverheats");

    // The next one is like it, and it is not known what was wrong.
    sandbox.post(&format!("/api/incidents/{id}/close"), &json!({"why": "switched off"})).await.unwrap();
    let labels = [("severity", "critical"), ("component", "turbine"), ("instance", "turbine-2:9100")];
    let alert = with(firing("TurbineOverheats", &labels), "startsAt", json!(SystemClock.now()));
    deliver(&sandbox, "/webhooks/alertmanager", &[alert]).await;
    let second = |incident: &Value| incident["phase"] == "escalated" && incident["id"] != id;
    let second = sandbox.incident("the second one", WITHIN, second).await.unwrap();
    let asked = ["incident", "similar", second["id"].as_str().unwrap(), "-o", "json"];
    let cited: Value = serde_json::from_str(&quell(&sandbox, &asked).await).unwrap();
    assert_eq!(cited.as_array().unwrap().len(), 1, "{cited}");
    assert_eq!((&cited[0]["incident"], &cited[0]["cause"]), (&json!(id), &Value::Null), "{cited}");
    assert_eq!(cited[0]["shared"][0], json!({"aspect": "alert", "name": "TurbineOverheats"}), "{cited}");
    let shown = quell(&sandbox, &["incident", "show", second["id"].as_str().unwrap()]).await;
    assert!(shown.contains("SIMILAR") && shown.contains("was wrong: not known"), "{shown}");
}
