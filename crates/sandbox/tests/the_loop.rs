//! The whole site against the simulator: from a fault to a verified, closed incident, and all the ways in which it must not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::time::Duration;

use quell_sandbox::{Options, Sandbox};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

fn is(incident: &Value, status: &str) -> bool {
    incident["status"] == status
}

fn handed_over(incident: &Value) -> bool {
    incident["phase"] == "escalated"
}

async fn closed(sandbox: &Sandbox) -> Value {
    sandbox.incident("the incident to be closed", WITHIN, |incident| is(incident, "closed")).await.unwrap()
}

async fn healed_by(scenario: &str, cause: &str, action: &str) {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    sandbox.trigger(scenario, None).await.unwrap();
    let incident = closed(&sandbox).await;
    assert_eq!(incident["resolution"]["by"], "runbook", "{incident:#}");
    assert_eq!(incident["diagnostics"]["root_cause"], cause, "{incident:#}");
    assert!(incident["diagnostics"]["confidence"].as_f64().unwrap() >= 0.7);
    let done = incident["remediation_actions"].as_array().unwrap();
    assert!(done.iter().any(|record| record["action"] == action && record["success"] == true), "{done:#?}");
    let scenarios = sandbox.simulator("/scenarios").await.unwrap();
    let of_this = scenarios.as_array().unwrap().iter().find(|row| row["name"] == scenario).unwrap();
    assert_eq!(of_this["ended"], "healed", "{of_this}");
    let kinds: std::collections::BTreeSet<_> = ["metrics", "logs"]
        .into_iter()
        .filter(|kind| incident["diagnostics"][kind].as_object().is_some_and(|found| !found.is_empty()))
        .collect();
    assert_eq!(kinds.len(), 2, "evidence of one kind only: {:#}", incident["diagnostics"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_timeout_is_healed() {
    healed_by("database_timeout", "connection_pool_exhausted", "update_config").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_leak_is_healed() {
    healed_by("memory_leak", "memory_leak", "restart_service").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn high_cpu_is_healed() {
    healed_by("high_cpu", "runaway_cpu", "scale").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_503_is_healed() {
    healed_by("api_503", "upstream_unavailable", "restart_service").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_full_is_healed() {
    healed_by("disk_full", "disk_filled_by_logs", "clean_disk").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_expiry_is_healed() {
    healed_by("certificate_expiry", "certificate_expiring", "renew_certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_lag_is_healed() {
    healed_by("kafka_lag", "consumer_group_too_small", "scale").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_connections_is_healed() {
    healed_by("postgres_connections", "idle_sessions_exhaust_connections", "end_idle_sessions").await;
}

/// Nothing is executed until it is switched on, as the simulator's own record shows.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_shipped_defaults_nothing_is_done() {
    let sandbox = Sandbox::start(Options { automatic: false, ..Options::default() }).await.unwrap();
    sandbox.trigger("database_timeout", None).await.unwrap();
    let incident = sandbox.incident("a person to be asked", WITHIN, handed_over).await.unwrap();
    let words = incident["summary"].as_str().unwrap();
    assert!(words.contains("here is the plan, and what it would do"), "{words}");
    let plan = &incident["plan"]["plan"];
    assert_eq!(plan["steps"][0]["preview"]["changes"][0]["from"], 10, "{plan:#}");
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
    assert_eq!(incident["remediation_actions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_waits_for_approval_and_runs_after_it() {
    let sandbox = Sandbox::start(Options::default().asking()).await.unwrap();
    sandbox.trigger("kafka_lag", None).await.unwrap();
    let asked = sandbox.incident("a question", WITHIN, |i| i["phase"] == "awaiting_approval").await.unwrap();
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
    let (id, digest) = (asked["id"].as_str().unwrap(), asked["question"]["plan_digest"].clone());
    let wrong = json!({"plan_digest": "0".repeat(64)});
    let refused = sandbox.post(&format!("/api/incidents/{id}/approve"), &wrong).await.unwrap_err();
    assert!(refused.to_string().contains("409"), "{refused}");
    sandbox.post(&format!("/api/incidents/{id}/approve"), &json!({"plan_digest": digest})).await.unwrap();
    let incident = closed(&sandbox).await;
    assert_eq!(incident["resolution"]["by"], "runbook");
    let record = &incident["remediation_actions"][0];
    assert_eq!((&record["from"], &record["to"]), (&json!(1), &json!(6)), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_plan_is_not_carried_out() {
    let sandbox = Sandbox::start(Options::default().asking()).await.unwrap();
    sandbox.trigger("kafka_lag", None).await.unwrap();
    let asked = sandbox.incident("a question", WITHIN, |i| i["phase"] == "awaiting_approval").await.unwrap();
    let id = asked["id"].as_str().unwrap();
    sandbox.post(&format!("/api/incidents/{id}/deny"), &json!({"why": "not on a Friday"})).await.unwrap();
    let incident = sandbox.incident("a person to decide", WITHIN, handed_over).await.unwrap();
    assert!(incident["summary"].as_str().unwrap().contains("not on a Friday"));
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
}

/// A runbook that was edited to change the configuration of the wrong service: undone, the old value read back, and escalated.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_action_is_undone_and_escalated() {
    let runbooks = tempfile::TempDir::new().unwrap();
    std::fs::write(runbooks.path().join("database-raise-limits.yaml"), WRONG_RUNBOOK).unwrap();
    let options = Options::default()
        .replacing(
            "resolution: {listen",
            &format!("resolution: {{runbook_dir: \"{}\", listen", runbooks.path().display()),
        )
        .replacing("check_patience: 10s", "check_patience: 1s");
    let sandbox = Sandbox::start(options).await.unwrap();
    let before = sandbox.simulator("/targets/payment_service").await.unwrap()["config"].clone();
    sandbox.trigger("database_timeout", None).await.unwrap();
    let incident = sandbox.incident("a person to be asked", WITHIN, handed_over).await.unwrap();
    let after = sandbox.simulator("/targets/payment_service").await.unwrap()["config"].clone();
    assert_eq!(before, after);
    let actions = sandbox.actions().await.unwrap();
    assert_eq!(actions.len(), 2, "done and undone: {actions:#?}");
    assert!(incident["remediation_actions"][1]["undo"].as_bool().unwrap(), "{incident:#}");
    assert!(incident["resolution"].is_null());
}

/// The shipped runbook, with the wrong target.
const WRONG_RUNBOOK: &str = r#"
name: database-raise-limits
title: Raise the limits of the wrong service
for:
  causes: [connection_pool_exhausted]
priority: 10
steps:
  - name: raise-limits
    title: Raise the limits of payment_service
    tool: deployment-system
    action: update_config
    target: payment_service
    arguments: {request_timeout: 60}
    undo: inverse
    timeout: 30s
    idempotent: true
verify:
  - name: no-connection-timeouts
    metric: db_connection_timeout_total
    labels: {instance: "db-server-01:9090"}
    reduce: rate
    holds_if: "<"
    value: 0.2
alert_look_back: 1m
"#;

/// The fault ends by itself while the alert still looks back: nobody did it, and nothing is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_ends_by_itself_is_credited_to_no_runbook() {
    let options = Options { alerts_hold: Duration::from_secs(1), ..Options::default() };
    let sandbox = Sandbox::start(options.replacing("settle: 200ms", "settle: 4s")).await.unwrap();
    sandbox.trigger("kafka_lag", Some(3.0)).await.unwrap();
    let incident = closed(&sandbox).await;
    assert_eq!(incident["resolution"]["by"], "itself", "{incident:#}");
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
}

/// The cause follows from the evidence and not from the alert's name.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_alert_has_the_same_cause() {
    let sandbox = Sandbox::start(Options {
        alerts_hold: Duration::from_secs(3600),
        automatic: false,
        ..Options::default()
    })
    .await
    .unwrap();
    sandbox.trigger("database_timeout", None).await.unwrap();
    sandbox
        .incident("nothing", Duration::from_secs(3), |_| false)
        .await
        .expect_err("the simulator's own alerts are held back");
    let labels =
        json!({"alertname": "SomethingElse", "severity": "warning", "instance": "db-server-01:9090"});
    let answer = sandbox.post("/webhook/alert", &json!({"labels": labels})).await.unwrap();
    assert!(answer["incident_id"].is_string(), "{answer}");
    let incident = sandbox.incident("a person to be asked", WITHIN, handed_over).await.unwrap();
    assert_eq!(incident["diagnostics"]["root_cause"], "connection_pool_exhausted");
}

/// The same name, healthy evidence: "I don't know" is an answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_name_without_the_evidence_has_no_cause() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let labels = json!({"alertname": "DatabaseConnectionTimeout", "severity": "critical", "instance": "db-server-01:9090"});
    sandbox.post("/webhook/alert", &json!({"labels": labels})).await.unwrap();
    let incident = sandbox.incident("a person to be asked", WITHIN, handed_over).await.unwrap();
    assert!(incident["diagnostics"]["root_cause"].is_null(), "{:#}", incident["diagnostics"]);
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
}

/// What an attacker can write into an alert: it claims to be of the service that is let loose.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_does_not_choose_the_autonomy() {
    let overrides = "autonomy: approve\n  autonomy_overrides: [{service: test_service, level: auto}]";
    let hold = Options { alerts_hold: Duration::from_secs(3600), ..Options::default() };
    let sandbox = Sandbox::start(hold.replacing("autonomy: auto", overrides)).await.unwrap();
    sandbox.trigger("database_timeout", None).await.unwrap();
    let labels = json!({"alertname": "DatabaseConnectionTimeout", "severity": "warning",
        "instance": "db-server-01:9090", "service": "test_service"});
    sandbox
        .incident("nothing", Duration::from_secs(3), |_| false)
        .await
        .expect_err("the simulator's own alerts are held back, and the evidence is there by then");
    sandbox.post("/webhook/alert", &json!({"labels": labels})).await.unwrap();
    let asked = sandbox.incident("a question", WITHIN, |i| i["phase"] == "awaiting_approval").await.unwrap();
    assert_eq!(asked["service"], "test_service");
    assert_eq!(asked["autonomy"]["level"], "approve", "{:#}", asked["autonomy"]);
    let timeline = asked["timeline"].to_string();
    assert!(
        timeline.contains("target order_service (service order_service): coordinator.autonomy"),
        "{timeline}"
    );
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
}

/// The other way round: what a site holds back is held back by what its inventory says, without a word in the alert.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_held_back_is_not_restarted_for_another_ones_alert() {
    let overrides = "autonomy: auto\n  autonomy_overrides: [{service: order_service, level: suggest}]";
    let sandbox = Sandbox::start(Options::default().replacing("autonomy: auto", overrides)).await.unwrap();
    sandbox.trigger("database_timeout", None).await.unwrap();
    let incident = sandbox.incident("a person to be asked", WITHIN, handed_over).await.unwrap();
    let words = incident["summary"].as_str().unwrap();
    assert!(words.contains("suggest") && words.contains("override for service order_service"), "{words}");
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
}

/// A source that joins is one more that must be allowed to, wherever its name is sorted.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_joins_does_not_choose_the_autonomy() {
    let settings = "source_name: zzz
  correlation: {rules: [{name: both, labels: [instance], sources: [webhook, zzz]}]}
  autonomy: observe
  autonomy_overrides: [{source: webhook, level: auto}]";
    let options = Options::default().replacing("autonomy: auto", settings);
    let options = options.replacing("settle: 200ms", "settle: 3s, settle_p0: 3s");
    let sandbox = Sandbox::start(options).await.unwrap();
    sandbox.trigger("database_timeout", None).await.unwrap();
    let opened = sandbox.incident("the incident", WITHIN, |_| true).await.unwrap();
    let labels = json!({"alertname": "Other", "instance": "db-server-01:9090"});
    let joined = sandbox.post("/webhook/alert", &json!({"labels": labels})).await.unwrap();
    assert_eq!(joined["incident_id"], opened["id"], "{joined}");
    let incident = sandbox.incident("a person to be asked", WITHIN, handed_over).await.unwrap();
    assert_eq!(incident["question"]["why"]["reason"], "observe_only", "{:#}", incident["question"]);
    assert_eq!(incident["plan"], Value::Null);
    assert_eq!(sandbox.actions().await.unwrap(), Vec::<Value>::new());
}
