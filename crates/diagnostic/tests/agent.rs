//! The agent in this process, against the real simulator, through the real A2A client.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::time::Duration;

use common::{Site, WITHIN, agent, config, request, settings, simulator};
use quell_a2a::{Client, ClientOptions, Message, Part};
use quell_diagnostic::StartError;
use quell_incident::Report;
use quell_incident::report::EvidenceKind;
use quell_service::{Clock, Handle as _, SystemClock};
use serde_json::Value;

fn kinds(report: &Report) -> usize {
    let cited: Vec<&String> =
        report.root_cause.iter().flat_map(|cause| &cause.claims).flat_map(|claim| &claim.evidence).collect();
    let has = |kind| report.evidence.iter().any(|one| one.kind == kind && cited.contains(&&one.id));
    usize::from(has(EvidenceKind::Metric)) + usize::from(has(EvidenceKind::Log))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_of_each_fault_is_found_in_the_simulated_world() {
    for (scenario, labels, cause, service) in [
        (
            "database_timeout",
            [("instance", "db-server-01:9090"), ("component", "database")],
            "connection_pool_exhausted",
            "order_service",
        ),
        (
            "memory_leak",
            [("instance", "app-server-01:9090"), ("service", "order_service")],
            "memory_leak",
            "order_service",
        ),
        (
            "high_cpu",
            [("instance", "app-server-01:9090"), ("service", "order_service")],
            "runaway_cpu",
            "order_service",
        ),
        (
            "api_503",
            [("instance", "api-gateway-01:9090"), ("status", "503")],
            "upstream_unavailable",
            "catalog_service",
        ),
        (
            "disk_full",
            [("instance", "storage-node-01:9090"), ("mountpoint", "/data")],
            "disk_filled_by_logs",
            "storage-node-01",
        ),
        (
            "certificate_expiry",
            [("instance", "api.example.com:443"), ("job", "x")],
            "certificate_expiring",
            "api.example.com",
        ),
        (
            "kafka_lag",
            [("consumergroup", "email-service"), ("job", "x")],
            "consumer_group_too_small",
            "email-service",
        ),
        (
            "postgres_connections",
            [("instance", "postgres-01:9187"), ("job", "x")],
            "idle_sessions_exhaust_connections",
            "postgres-01",
        ),
    ] {
        let mut site = Site::start("").await;
        site.trigger(scenario).await;
        let report = site
            .until(scenario, &labels, |report| {
                report.root_cause.as_ref().is_some_and(|found| found.cause == cause) && kinds(report) == 2
            })
            .await;
        let found = report.root_cause.as_ref().unwrap();
        assert_eq!(found.subject.service, service, "{scenario}");
        assert!(found.confidence > 0.8, "{scenario}: {}", found.confidence);
        assert_eq!(report.unavailable, []);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_world_has_no_cause() {
    let mut site = Site::start("").await;
    let labels = [("instance", "db-server-01:9090"), ("component", "database")];
    let report = site.until("evidence", &labels, |report| report.unavailable.is_empty()).await;
    assert_eq!(report.root_cause, None);
    assert!(report.abstained.is_some());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_are_gone_are_part_of_the_report() {
    let gone = simulator().await;
    let settings = settings(gone.addresses(), "");
    gone.stop().await;
    let mut site = Site { agent: agent(config(&settings)).await.unwrap(), ..Site::start("").await };
    site.client = Client::connect_lazy(&site.agent.address().to_string(), ClientOptions::default()).unwrap();
    let report = site.diagnose(&request(SystemClock.now(), &[("instance", "db-server-01:9090")])).await;
    assert_eq!(report.root_cause, None);
    let sources: Vec<&str> = report.unavailable.iter().map(|missing| missing.source.as_str()).collect();
    assert!(sources.contains(&"query-metrics") && sources.contains(&"search-logs"), "{sources:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_card_share_the_port() {
    let site = Site::start("").await;
    assert_eq!(site.get("/health").await, (200, "{\"status\":\"healthy\"}".to_owned()));
    let (status, ready) = site.get("/ready").await;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(status, 200);
    assert!(ready["rules"].as_u64().unwrap() >= 48, "{ready}");
    assert_eq!(
        ready["tools"],
        serde_json::json!(["list-metrics", "log-analyzer", "query-metrics", "search-logs", "system-monitor"])
    );
    let (status, card) = site.get("/.well-known/agent-card.json").await;
    let card: Value = serde_json::from_str(&card).unwrap();
    assert_eq!((status, card["skills"][0]["id"].as_str()), (200, Some("diagnose")));
    assert!(site.get("/metrics").await.1.contains("quell_build_info{daemon=\"quell-diagnostic\""));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_none_is_refused_by_its_field() {
    let site = Site::start("").await;
    let mut data = serde_json::to_value(request(SystemClock.now(), &[("instance", "x")])).unwrap();
    data["incident"]["priority"] = "P9".into();
    let message = Message::user("wrong", vec![Part::data(data)]).with_skill("diagnose");
    let error = site.client.run(message, WITHIN).await.unwrap_err().to_string();
    assert!(error.contains("incident.priority"), "{error}");
    let message = Message::user("text", vec![Part::text("why is it slow?")]).with_skill("diagnose");
    assert!(site.client.run(message, WITHIN).await.is_err());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_all_rules_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    let text = r#"schema: quell/rules/v1
rules:
  - name: always
    cause: it_is_up
    root_cause: "it is up"
    base_confidence: 0.5
    signals: {start: {metric: process_start_time_seconds}}
    when: [{group: metric, share: 1.0, if: start.last > 0.0, says: "it started"}]
"#;
    fs::write(&rules, text).unwrap();
    let mut site = Site::start("").await;
    let with = settings(site.simulator.addresses(), &format!("  rules_file: {}\n", rules.display()));
    let count = async |site: &Site| {
        let ready: Value = serde_json::from_str(&site.get("/ready").await.1).unwrap();
        ready["rules"].as_u64().unwrap()
    };
    let shipped = count(&site).await;
    // The port stays the one that was bound.
    site.agent.reload(config(&with)).await.unwrap();
    assert_eq!(count(&site).await, shipped + 1);
    fs::write(&rules, text.replace("start.last", "stop.last")).unwrap();
    let error = site.agent.reload(config(&with)).await.unwrap_err();
    assert!(error.contains("rules.yaml:8:44: always.when[0].if speaks of"), "{error}");
    assert_eq!(count(&site).await, shipped + 1);
    fs::remove_file(&rules).unwrap();
    assert!(site.agent.reload(config(&with)).await.unwrap_err().contains("rules_file"));
    let moved = with.replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:1");
    assert!(site.agent.reload(config(&moved)).await.is_err());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_which_setting() {
    let none = "use_real_data: true\ndiagnostic: {listen: \"127.0.0.1:0\"}\n";
    let error = agent(config(none)).await.err().unwrap().to_string();
    assert!(error.contains("infrastructure.monitoring.prometheus.url"), "{error}");
    let missing = "diagnostic: {listen: \"127.0.0.1:0\", rules_file: /nowhere/rules.yaml}\n";
    let error = agent(config(missing)).await.err().unwrap().to_string();
    assert!(error.contains("diagnostic.rules_file") && error.contains("/nowhere/rules.yaml"), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("diagnostic: {{listen: \"{}\"}}\n", taken.local_addr().unwrap());
    assert!(matches!(agent(config(&busy)).await, Err(StartError::Bind(_))));
}

/// `--check` says what a start would: it has no runtime, and asks nobody.
#[test]
fn a_check_finds_what_a_start_would_refuse() {
    for (more, words) in [
        (
            "agents: {diagnostic: {use_ml_model: true, ml_model_path: /nowhere/model.json}}",
            ["`agents.diagnostic.ml_model_path`", "/nowhere/model.json cannot be read"],
        ),
        ("agents: {diagnostic: {use_ml_model: true}}", ["`agents.diagnostic.ml_model_path`", "is not set"]),
        (
            "diagnostic: {language_model: {url: \"http://127.0.0.1:1\"}}",
            ["`diagnostic.language_model.model`", "is not set"],
        ),
        ("diagnostic: {rules_file: /nowhere/rules.yaml}", ["diagnostic.rules_file", "/nowhere/rules.yaml"]),
    ] {
        let error = quell_diagnostic::check(&config(more)).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{more}: {error}");
    }
    quell_diagnostic::check(&config("diagnostic: {language_model: {url: \"http://127.0.0.1:1\", model: m}}"))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_need_a_token_where_there_are_any() {
    let simulator = simulator().await;
    let tokens = "  tokens: [{name: coordinator, token: 0123456789abcdef, scopes: [agent]}, {name: reader, token: fedcba9876543210, scopes: [read]}]\n";
    let agent = agent(config(&settings(simulator.addresses(), tokens))).await.unwrap();
    for (token, accepted) in
        [(Some("0123456789abcdef"), true), (Some("fedcba9876543210"), false), (None, false)]
    {
        let options = ClientOptions { bearer: token.map(Into::into), ..ClientOptions::default() };
        let client = Client::connect_lazy(&agent.address().to_string(), options).unwrap();
        let data = serde_json::to_value(request(SystemClock.now(), &[("instance", "x")])).unwrap();
        let message = Message::user(format!("{token:?}"), vec![Part::data(data)]).with_skill("diagnose");
        assert_eq!(client.run(message, WITHIN).await.is_ok(), accepted, "{token:?}");
    }
    agent.stop(Duration::from_secs(5)).await;
    simulator.stop().await;
}
