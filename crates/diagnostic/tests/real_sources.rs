//! The agent over configured systems instead of the simulator: fakes that refuse what the real ones refuse.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_a2a::{A2aError, Client, ClientError, ClientOptions, ErrorKind, Message, Part, TaskState};
use quell_connect::fake::{FakeElasticsearch, FakeGrafana, FakeKubernetes, FakeLoki, FakeSplunk, Mood};
use quell_diagnostic::{Setup, StartError};
use quell_incident::Report;
use quell_service::{Clock as _, Config, Daemon, Environment, Handle as _, Loading, SystemClock, SystemIds};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);

fn config(text: &str) -> Config {
    let loading =
        Loading { daemon: Some(Daemon::Diagnostic), file: None, environment: Environment::default() };
    loading.load_text(text, |_| {}).unwrap()
}

async fn agent(text: &str) -> Result<quell_diagnostic::Handle, StartError> {
    let clock = Arc::new(SystemClock);
    let ids = Arc::new(SystemIds::new(clock.clone()));
    quell_diagnostic::start(Setup { config: config(text), clock, ids }).await
}

/// All systems, each with one piece of evidence of the last minutes.
struct Systems {
    elasticsearch: FakeElasticsearch,
    loki: FakeLoki,
    splunk: FakeSplunk,
    grafana: FakeGrafana,
    kubernetes: FakeKubernetes,
    folder: tempfile::TempDir,
}

fn ago(seconds: i64) -> Timestamp {
    SystemClock.now() - SignedDuration::from_secs(seconds)
}

impl Systems {
    async fn start() -> Self {
        let systems = Self {
            elasticsearch: FakeElasticsearch::start().await.unwrap(),
            loki: FakeLoki::start().await.unwrap(),
            splunk: FakeSplunk::start().await.unwrap(),
            grafana: FakeGrafana::start().await.unwrap(),
            kubernetes: FakeKubernetes::start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        systems.elasticsearch.wants("ApiKey es-key");
        let document = json!({"@timestamp": ago(30).to_string(), "message": "of elasticsearch", "service": {"name": "orders"}});
        systems.elasticsearch.add("logs-app", document);
        systems.loki.has_several_tenants();
        systems.loki.add("shop", &[("service_name", "orders")], ago(30).as_nanosecond(), "of loki");
        systems.splunk.wants("Bearer splunk-key");
        systems.splunk.add(ago(30), &[("_raw", "of splunk"), ("service", "orders")]);
        systems.grafana.wants("Bearer grafana-key");
        let samples: Vec<(i64, String)> =
            (0..40).map(|i| (ago(600 - 15 * i).as_millisecond(), format!("{}", 200_000_000 + i))).collect();
        let samples: Vec<(i64, &str)> = samples.iter().map(|(at, value)| (*at, value.as_str())).collect();
        let labels = [("__name__", "process_resident_memory_bytes"), ("instance", "app-1:9090")];
        systems.grafana.add_series("prom", &labels, &samples);
        systems.kubernetes.add("nodes", json!({"metadata": {"name": "node-1"}}));
        systems
    }

    fn settings(&self) -> String {
        let kubeconfig = self.folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: \"{}\"}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n",
            self.kubernetes.url()
        );
        std::fs::write(&kubeconfig, text).unwrap();
        format!(
            "use_real_data: true\n\
             infrastructure:\n\
             \x20 logging:\n\
             \x20   elasticsearch: {{url: \"{}\", api_key: es-key}}\n\
             \x20   loki: {{url: \"{}\", tenant: shop}}\n\
             \x20   splunk: {{url: \"{}\", api_key: splunk-key}}\n\
             \x20 visualization: {{grafana: {{url: \"{}\", api_key: grafana-key, data_source: prom}}}}\n\
             automation: {{deployment: {{kubernetes: {{kubeconfig: \"{}\"}}}}}}\n\
             diagnostic:\n\
             \x20 listen: 127.0.0.1:0\n\
             \x20 source_timeout: 5s\n\
             \x20 health_checks: [{{name: grafana, url: \"{}/api/health\"}}]\n",
            self.elasticsearch.url(),
            self.loki.url(),
            self.splunk.url(),
            self.grafana.url(),
            kubeconfig.display(),
            self.grafana.url(),
        )
    }
}

struct Caller {
    client: Client,
    calls: u32,
}

impl Caller {
    fn of(agent: &quell_diagnostic::Handle) -> Self {
        let client = Client::connect_lazy(&agent.address().to_string(), ClientOptions::default()).unwrap();
        Self { client, calls: 0 }
    }

    async fn send(&mut self, skill: &str, data: Value) -> Result<quell_a2a::Task, ClientError> {
        self.calls += 1;
        let message = Message::user(format!("call-{}", self.calls), vec![Part::data(data)]).with_skill(skill);
        self.client.run(message, WITHIN).await
    }

    async fn call(&mut self, tool: &str, input: Value) -> Result<Value, String> {
        let data = json!({"schema": "quell/tool-call/v1", "tool": tool, "input": input});
        let task = self.send("tool", data).await.unwrap();
        match task.state() {
            TaskState::Completed => Ok(task.artifact("answer").and_then(|one| one.data()).unwrap().clone()),
            _ => Err(task.status.message.as_ref().map(Message::text).unwrap_or_default()),
        }
    }

    async fn refused(&mut self, data: Value) -> A2aError {
        match self.send("tool", data).await {
            Err(ClientError::Call(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}

fn lines(from: Timestamp) -> Value {
    json!({"from": from.to_string(), "to": SystemClock.now().to_string(), "lines_max": 10})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_configured_system_is_behind_a_tool() {
    let systems = Systems::start().await;
    let agent = agent(&systems.settings()).await.unwrap();
    let mut caller = Caller::of(&agent);
    let task = caller.send("tool", json!({"schema": "quell/tool-call/v1"})).await.unwrap();
    let tools = task.artifact("tools").and_then(|one| one.data()).unwrap()["tools"].clone();
    let names: Vec<&str> =
        tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "grafana-dashboard",
            "grafana-health",
            "grafana-query",
            "health-check",
            "list-metrics",
            "log-analyzer",
            "platform-state",
            "query-metrics",
            "search-logs",
            "search-logs.loki",
            "search-logs.splunk",
            "system-monitor"
        ]
    );
    assert!(tools.as_array().unwrap().iter().all(|tool| tool["annotations"]["readOnlyHint"] == true));
    for (tool, source) in
        [("search-logs", "elasticsearch"), ("search-logs.loki", "loki"), ("search-logs.splunk", "splunk")]
    {
        let answer = caller.call(tool, lines(ago(60))).await.unwrap();
        assert_eq!(answer["lines"][0]["message"], format!("of {source}"), "{answer}");
        assert_eq!((&answer["source"], &answer["lines"][0]["service"]), (&json!(source), &json!("orders")));
    }
    let answer = caller.call("health-check", json!({})).await.unwrap();
    assert_eq!(answer["checks"][0]["healthy"], true, "{answer}");
    let range = json!({"from": ago(60).to_string(), "to": ago(0).to_string()});
    let answer = caller.call("platform-state", range).await.unwrap();
    assert_eq!(answer["objects"][0]["name"], "node-1", "{answer}");
    let answer = caller.call("list-metrics", json!({})).await.unwrap();
    assert_eq!(answer["names"], json!(["process_resident_memory_bytes"]), "{answer}");
    agent.stop(Duration::from_secs(5)).await;
}

fn diagnose(started_at: Timestamp) -> Value {
    let labels = json!({"alertname": "HighMemoryUsage", "instance": "app-1:9090"});
    json!({
        "schema": "quell/diagnose/v1",
        "incident": {
            "id": uuid::Uuid::from_u128(9), "title": "an incident", "alert_name": "HighMemoryUsage", "priority": "P1",
            "severity": "high", "affected_systems": ["app-1"], "started_at": started_at.to_string(), "alerts": [],
            "labels": labels,
        },
        "reference_time": SystemClock.now().to_string(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diagnosis_asks_all_of_them_and_only_for_metrics_that_exist() {
    let systems = Systems::start().await;
    let agent = agent(&systems.settings()).await.unwrap();
    let mut caller = Caller::of(&agent);
    let report = async |caller: &mut Caller| -> Report {
        let task = caller.send("diagnose", diagnose(ago(20))).await.unwrap();
        assert_eq!(task.state(), TaskState::Completed, "{task:?}");
        serde_json::from_value(task.artifact("report").and_then(|one| one.data()).unwrap().clone()).unwrap()
    };
    let first = report(&mut caller).await;
    assert_eq!(first.unavailable, []);
    let asked = |all: Vec<String>, part: &str| all.iter().filter(|asked| asked.contains(part)).count();
    assert_eq!(
        asked(systems.grafana.asked(), "/api/v1/query?"),
        1,
        "one of the metrics that rules know is there"
    );
    assert_eq!(asked(systems.elasticsearch.asked(), "_search"), 1);
    assert_eq!(asked(systems.loki.asked(), "query_range"), 1);
    assert_eq!(asked(systems.splunk.asked(), "export"), 1);
    assert_eq!(asked(systems.kubernetes.asked(), "/api/v1/pods"), 1);

    // What could not be had is part of the evidence, and the rest is there all the same.
    systems.splunk.feels(Mood::Unavailable);
    systems.kubernetes.feels(Mood::Saying("<html>".to_owned()));
    let second = report(&mut caller).await;
    let missing: Vec<&str> = second.unavailable.iter().map(|missing| missing.source.as_str()).collect();
    assert_eq!(missing, ["search-logs.splunk", "platform-state"]);
    assert!(second.unavailable[0].why.contains("status 503"), "{:?}", second.unavailable);
    agent.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_none_are_refused_by_their_field() {
    let systems = Systems::start().await;
    let agent = agent(&systems.settings()).await.unwrap();
    let mut caller = Caller::of(&agent);
    let call =
        |tool: &str, input: Value| json!({"schema": "quell/tool-call/v1", "tool": tool, "input": input});
    for (data, field) in [
        (json!({}), "parts[0].data"),
        (json!({"schema": "quell/tool-call/v2"}), "parts[0].data.schema"),
        (json!({"schema": "quell/tool-call/v1", "extra": 1}), "parts[0].data"),
        (call("restart_service", json!({})), "parts[0].data.tool"),
        (call("search-logs", json!({"from": 5})), "parts[0].data.input"),
        (call("health-check", json!({"names": ["other"]})), "parts[0].data.input.names"),
        (call("health-check", json!([])), "parts[0].data.input"),
    ] {
        let error = caller.refused(data.clone()).await;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{data}: {error}");
        assert!(error.violations()[0].field.starts_with(field), "{data}: {error}");
    }
    systems.loki.feels(Mood::Unavailable);
    let why = caller.call("search-logs.loki", lines(ago(60))).await.unwrap_err();
    assert!(why.starts_with("search-logs.loki: ") && why.contains("503"), "{why}");
    agent.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_systems_that_cannot_be_used_are_named() {
    for (setting, named) in [
        (
            "logging: {elasticsearch: {url: \"http://e\", index_pattern: \"../x\"}}",
            "infrastructure.logging.elasticsearch",
        ),
        ("logging: {loki: {url: \"http://l\", selector: \"{a}\"}}", "infrastructure.logging.loki"),
        ("logging: {splunk: {url: \"http://s\", search: \"a | b\"}}", "infrastructure.logging.splunk"),
        (
            "visualization: {grafana: {url: \"http://g\", data_source: a/b}}",
            "infrastructure.visualization.grafana",
        ),
    ] {
        let text = format!(
            "use_real_data: true\ninfrastructure: {{{setting}}}\ndiagnostic: {{listen: \"127.0.0.1:0\"}}\n"
        );
        let error = agent(&text).await.err().unwrap().to_string();
        assert!(error.contains(named), "{setting}: {error}");
    }
    let text = "use_real_data: true\nautomation: {deployment: {kubernetes: {kubeconfig: /nowhere/kube}}}\n\
                diagnostic: {listen: \"127.0.0.1:0\", log_files: [/nowhere/a.log]}\n";
    let error = agent(text).await.err().unwrap().to_string();
    assert!(error.contains("automation.deployment.kubernetes") && error.contains("/nowhere/kube"), "{error}");
}
