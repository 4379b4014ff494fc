//! The agent against the real simulator: each fault is planned for, healed by the plan's steps, and seen to be healed.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use common::*;
use quell_incident::contract::{StepOutcome, Verdict};
use quell_incident::report::Subject;
use quell_service::Handle as _;

/// From a hand-made report to a healed fault.
async fn heals(scenario_name: &str, cause: &str, subject: Subject, runbook: &str, without: &[&str]) {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let agent = agent(switched_on(&simulator, folder.path())).await;
    let asker = Asker::of(&agent);
    trigger(&simulator, scenario_name).await;
    let mut request = plan_request(cause, subject);
    request.exclude =
        without.iter().map(|name| quell_incident::RunbookName::declared(name).unwrap()).collect();
    let plan = asker.plan(&request).await;
    assert_eq!(plan.runbook.as_str(), runbook);
    // Before anything is done the checks see the fault: a verification that cannot fail would prove nothing.
    asker.verified(&plan, None, Verdict::Failed).await;
    assert!(actions(&simulator).await.is_empty(), "planning and verifying change nothing");

    for index in 0..plan.steps.len() {
        let outcome = asker.step(&step_request(&plan, index, 1, false, 1)).await;
        let StepOutcome::Done { changes, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(!changes.is_empty());
    }
    let report = asker.verified(&plan, Some(now()), Verdict::Passed).await;
    assert!(report.checks.iter().all(|check| check.value.is_some() && !check.query.is_empty()), "{report:?}");

    let status = scenario(&simulator, scenario_name).await;
    assert_eq!((&status["active"], &status["ended"]), (&false.into(), &"healed".into()), "{status}");
    let done = actions(&simulator).await;
    assert_eq!(done.len(), plan.steps.len());
    for (index, action) in done.iter().enumerate() {
        assert_eq!(action["key"], step_request(&plan, index, 1, false, 1).key.as_str());
    }
    let health = get(format!("{}/health", url(&simulator))).await;
    assert_eq!(health["resets"], 0);
    agent.stop(PATIENCE).await;
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_timeout() {
    let subject = subject("order_service", "db-server-01:9090", "customer_db");
    heals("database_timeout", "connection_pool_exhausted", subject, "database-raise-limits", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_leak() {
    let subject = subject("order_service", "app-server-01:9090", "");
    heals("memory_leak", "memory_leak", subject, "memory-restart-service", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn high_cpu() {
    let subject = subject("order_service", "app-server-01:9090", "invoice-rebuild-batch");
    heals("high_cpu", "runaway_cpu", subject, "cpu-scale-out", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn high_cpu_by_stopping_the_job() {
    let subject = subject("order_service", "app-server-01:9090", "invoice-rebuild-batch");
    heals("high_cpu", "runaway_cpu", subject, "cpu-stop-runaway-job", &["cpu-scale-out"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_503() {
    let subject = subject("catalog_service", "", "");
    heals("api_503", "upstream_unavailable", subject, "api-503-restart-upstream", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_503_by_scaling_the_gateway() {
    // Without a service that is named, nothing is restarted.
    heals("api_503", "upstream_unavailable", Subject::default(), "api-503-scale-gateway", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_full() {
    let subject = subject("", "storage-node-01:9090", "/data");
    heals("disk_full", "disk_filled_by_logs", subject, "disk-clean-logs", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_expiry() {
    let subject = subject("", "api.example.com:443", "");
    heals("certificate_expiry", "certificate_expiring", subject, "certificate-renew", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_lag() {
    let subject = subject("email-service", "kafka-01:9308", "email-service");
    heals("kafka_lag", "consumer_group_too_small", subject, "kafka-scale-consumers", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_connections() {
    let subject = subject("", "postgres-01:9187", "");
    let cause = "idle_sessions_exhaust_connections";
    heals("postgres_connections", cause, subject, "postgres-end-idle-sessions", &[]).await;
}
