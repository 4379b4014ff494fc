//! The tools over a real Prometheus, which scrapes itself.
//!
//! Where it is not installed (Debian: `prometheus` and `prometheus-alertmanager`) the test says so and returns.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use quell_connect::metrics::{MetricSource, PrometheusSource, QueryMetrics, prometheus_tools};
use quell_connect::{Access, Endpoint, Guard, GuardOptions};
use quell_incident::evidence::{MetricQuery, SeriesSet};
use quell_sandbox::pair::Programs;
use quell_sandbox::server::Server;
use quell_sandbox::until;
use quell_service::{Clock as _, SystemClock};
use quell_tool::{CallContext, ReadRegistry, ToolError};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);
const RULES: &str = "groups: [{name: g, interval: 500ms, rules: [
  {alert: AlwaysFiring, expr: vector(1), labels: {severity: info}},
  {alert: NeverFiring, expr: vector(0) > 1}]}]\n";

fn context() -> CallContext {
    CallContext::within(Duration::from_secs(20))
}

async fn call(registry: &ReadRegistry, tool: &str, input: Value) -> Result<Value, ToolError> {
    registry.call(tool, input, &context()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_answers_every_tool() {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(missing) => {
            println!("skipped: real Prometheus: {missing}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::prometheus(&programs, folder.path(), "", RULES).unwrap();
    let address = server.url().replace("http://", "");
    // The second target is not there.
    let config = format!(
        "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\nrule_files: [rules.yml]\n\
         scrape_configs:\n- job_name: itself\n  static_configs: [{{targets: [\"{address}\"]}}]\n\
         - job_name: gone\n  static_configs: [{{targets: [\"127.0.0.1:1\"]}}]\n"
    );
    server.write("prometheus.yml", &config).unwrap();
    server.start().await.unwrap();

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let access = Access::new(reqwest::Client::new(), &server.url()).unwrap();
    let endpoint = Endpoint::new(access, Guard::new("prometheus", GuardOptions::default()));
    let source: Arc<dyn MetricSource> = Arc::new(PrometheusSource::new(endpoint.clone()));
    let mut registry = ReadRegistry::new();
    registry.register(Arc::new(QueryMetrics::new(Arc::clone(&source)))).unwrap();
    prometheus_tools(endpoint).into_iter().for_each(|tool| registry.register(tool).unwrap());

    until("both targets to be scraped and the alert to fire", WITHIN, async || {
        let query = json!({"query": "count(up) + count(ALERTS{alertstate=\"firing\"})"});
        let answer = call(&registry, "prometheus-query", query).await.map_err(|error| error.to_string())?;
        match answer["result"][0]["value"][1].as_str() {
            Some("3") => Ok(()),
            _ => Err(answer.to_string()),
        }
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));

    let (from, to) = (SystemClock.now() - SignedDuration::from_secs(300), SystemClock.now());
    let names = source.names(&context()).await.unwrap().unwrap();
    assert!(
        names.contains("up") && names.contains("process_resident_memory_bytes") && !names.contains("no_such")
    );
    let query =
        MetricQuery { metric: "up".to_owned(), labels: [("job", "itself")].into_iter().collect(), from, to };
    let set = call(&registry, QueryMetrics::NAME, serde_json::to_value(query).unwrap()).await.unwrap();
    let set: SeriesSet = serde_json::from_value(set).unwrap();
    assert_eq!((set.series.len(), set.series[0].points[0].value), (1, 1.0));

    let range = |query: &str| json!({"query": query, "from": from.to_string(), "to": to.to_string()});
    let answer = call(&registry, "prometheus-query-range", range("up{job=\"gone\"}")).await.unwrap();
    assert_eq!(
        (&answer["result_type"], &answer["result"][0]["values"][0][1]),
        (&json!("matrix"), &json!("0"))
    );
    let error = call(&registry, "prometheus-query-range", range("sum(")).await.unwrap_err();
    assert!(matches!(&error, ToolError::Upstream { status: 400, .. }), "{error}");
    assert!(error.to_string().contains("parse error"), "{error}");

    let series =
        json!({"matches": ["up", "{__name__=\"no_such\"}"], "from": from.to_string(), "to": to.to_string()});
    let answer = call(&registry, "prometheus-series", series).await.unwrap();
    assert_eq!(answer["items"].as_array().unwrap().len(), 2, "{answer}");
    let answer = call(&registry, "prometheus-rules", json!({"contains": "AlwaysFiring"})).await.unwrap();
    let rule = &answer["items"][0];
    assert_eq!(
        (&rule["state"], &rule["alerts"], &rule["group"]),
        (&json!("firing"), &json!(1), &json!("g")),
        "{answer}"
    );
    let answer = call(&registry, "prometheus-alerts", json!({"state": "firing"})).await.unwrap();
    assert_eq!(answer["items"][0]["labels"]["alertname"], "AlwaysFiring", "{answer}");
    let answer = call(&registry, "prometheus-targets", json!({})).await.unwrap();
    let health: Vec<&Value> =
        answer["items"].as_array().unwrap().iter().map(|target| &target["health"]).collect();
    assert_eq!(health, ["down", "up"], "{answer}");
}
