//! Every fault of the simulator, and one that nothing here knows, as a real Prometheus and a real Alertmanager see them.
//!
//! Where the two programs are not installed (Debian: `prometheus` and `prometheus-alertmanager`) the test says so and returns.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::routing::get;
use quell_sandbox::pair::{Also, Programs};
use quell_sandbox::processes::{ProcessOptions, Processes, told};
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(90);
/// What is at fault in each scenario, and the alert by which its incident is known.
const SCENARIOS: [(&str, &str, &str); 8] = [
    ("database_timeout", "DatabaseConnectionTimeout", "connection_pool_exhausted"),
    ("memory_leak", "HighMemoryUsage", "memory_leak"),
    ("high_cpu", "HighCPUUsage", "runaway_cpu"),
    ("api_503", "APIGateway503Errors", "upstream_unavailable"),
    ("disk_full", "DiskSpace", "disk_filled_by_logs"),
    ("certificate_expiry", "CertificateExpiringSoon", "certificate_expiring"),
    ("kafka_lag", "KafkaConsumerLagHigh", "consumer_group_too_small"),
    ("postgres_connections", "PostgreSQLConnectionsHigh", "idle_sessions_exhaust_connections"),
];
const TURBINE_RULES: &str = "      - alert: TurbineOverheats
        expr: turbine_temperature_celsius > 100
        for: 1s
        labels: {severity: critical, component: turbine}
        annotations: {summary: 'Turbine {{ $labels.instance }} is too hot'}";

/// A machine of a kind that nothing here knows.
async fn turbine(is_hot: Arc<AtomicBool>) -> SocketAddr {
    let page = async move || {
        let degrees = if is_hot.load(Ordering::Relaxed) { 140 } else { 60 };
        format!(
            "# TYPE turbine_temperature_celsius gauge\nturbine_temperature_celsius{{instance=\"turbine-1:9100\"}} {degrees}\n"
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        async move { axum::serve(listener, axum::Router::new().route("/metrics", get(page))).await },
    );
    address
}

async fn incident(site: &Processes, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    site.incident(what, WITHIN, wanted).await.unwrap_or_else(|error| panic!("{error}"))
}

fn is_named(incident: &Value, alert: &str) -> bool {
    incident["alert_name"].as_str().is_some_and(|name| name.starts_with(alert))
}

/// Which kinds of evidence the claims of the first cause cite.
fn kinds_cited(diagnostics: &Value) -> BTreeSet<&'static str> {
    let claims = diagnostics["claims"].as_array().unwrap();
    let cited = claims.iter().flat_map(|claim| claim["evidence"].as_array().unwrap());
    let kind = |id: &Value| {
        let kinds = ["metrics", "logs", "pods", "dependencies", "changes", "traces"];
        kinds.into_iter().find(|kind| diagnostics[*kind].get(id.as_str().unwrap()).is_some()).unwrap()
    };
    cited.map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_known_by_two_kinds_of_evidence_and_an_unknown_one_goes_to_a_person() {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(missing) => {
            println!("skipped: real Prometheus and Alertmanager: {missing}");
            return;
        }
    };
    let is_hot = Arc::new(AtomicBool::new(false));
    let exporter = turbine(Arc::clone(&is_hot)).await;
    let options = ProcessOptions {
        pair: Some(programs),
        also: Some(Also { exporter, rules: TURBINE_RULES.to_owned() }),
        replacements: vec![("settle: 200ms", "settle: 200ms, alert_pipeline_delay: 10s")],
    };
    let site = Processes::start(&options).await.unwrap_or_else(|error| panic!("{error}"));
    for (scenario, alert, cause) in SCENARIOS {
        site.trigger(scenario).await.unwrap();
        let over = |one: &Value| is_named(one, alert) && one["status"] == "closed";
        let incident = incident(&site, &format!("the incident of {scenario} to be closed"), over).await;
        let story = told(std::slice::from_ref(&incident));
        println!("{story}");
        let diagnostics = &incident["diagnostics"];
        assert_eq!(diagnostics["root_cause"], cause, "{story}");
        let metrics = diagnostics["metrics"].as_object().unwrap();
        assert!(metrics.values().all(|evidence| evidence["source"] == "prometheus"), "{metrics:#?}");
        let kinds = kinds_cited(diagnostics);
        assert!(kinds.len() >= 2 && kinds.contains("metrics"), "{scenario}: {kinds:?}\n{diagnostics:#}");
        assert_eq!(incident["resolution"]["by"], "runbook", "{story}");
    }

    let done = site.actions().await.unwrap().len();
    is_hot.store(true, Ordering::Relaxed);
    let asked = |one: &Value| is_named(one, "TurbineOverheats") && one["phase"] == "escalated";
    let incident = incident(&site, "a person to be asked about the turbine", asked).await;
    let story = told(std::slice::from_ref(&incident));
    println!("{story}");
    let diagnostics = &incident["diagnostics"];
    assert_eq!(diagnostics["root_cause"], Value::Null, "{diagnostics:#}");
    assert!(diagnostics["abstained"].as_str().is_some_and(|why| !why.is_empty()), "{diagnostics:#}");
    assert_eq!(site.actions().await.unwrap().len(), done, "something was done to it: {story}");
}
