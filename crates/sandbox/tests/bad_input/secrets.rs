//! No secret of an address is shown by any program: when it starts, while it runs, or where it is asked.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use quell_a2a::{Client, ClientOptions, ListTasks};
use quell_sandbox::until;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::common::program;
use crate::programs::{COORDINATOR, run};

const SECRET: &str = "hunter2";
const PROGRAMS: [&str; 3] = [COORDINATOR, "quell-diagnostic", "quell-resolution"];
/// Nobody listens there.
const ADDRESS: &str = "http://user:hunter2@127.0.0.1:1/a?token=hunter2";

fn config(simulator: &str) -> String {
    format!(
        "use_real_data: true
infrastructure:
  monitoring: {{prometheus: {{url: '{ADDRESS}', alert_manager_url: '{ADDRESS}', alert_manager_urls: ['{ADDRESS}&b=1']}}}}
  logging: {{elasticsearch: {{url: '{ADDRESS}'}}, splunk: {{url: '{ADDRESS}'}}, loki: {{url: '{ADDRESS}'}}}}
  visualization: {{grafana: {{url: '{ADDRESS}'}}}}
ticketing: {{jira: {{url: '{ADDRESS}'}}}}
simulator: {{url: '{simulator}', metrics_urls: ['{ADDRESS}']}}
coordinator:
  listen: 127.0.0.1:0
  grpc_listen: 127.0.0.1:0
  data_dir: c
  diagnostic_url: '{ADDRESS}'
  resolution_url: '{ADDRESS}'
  reconcile: {{interval: 50ms, timeout: 50ms}}
  poll_prometheus: {{enabled: true, interval: 50ms, timeout: 50ms}}
diagnostic: {{listen: 127.0.0.1:0, scrape_interval: 50ms, health_checks: [{{name: a, url: '{ADDRESS}'}}]}}
resolution: {{listen: 127.0.0.1:0, data_dir: r}}
"
    )
}

/// A program that runs, if it did start.
struct Life {
    child: Child,
    addresses: Option<Value>,
}

impl Life {
    async fn start(name: &str, folder: &Path) -> Self {
        let file = folder.join(format!("{name}.json"));
        let mut command = Command::new(program(name));
        command.args(["--config", "quell.yaml", "--log-level", "debug", "--address-file"]).arg(&file);
        command.current_dir(folder).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let started = until(name, Duration::from_secs(20), async || {
            if child.try_wait().unwrap().is_some() {
                return Ok(None);
            }
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            serde_json::from_str::<Value>(&text).map(Some).map_err(|error| error.to_string())
        });
        let addresses = started.await.unwrap().map(|told| told["addresses"].clone());
        Self { child, addresses }
    }

    /// Where it listens: for HTTP and for gRPC, which may be one port.
    fn address(&self, name: &str) -> Option<String> {
        let addresses = self.addresses.as_ref()?;
        let found = addresses[name].as_str().or_else(|| addresses["grpc"].as_str());
        found.map(str::to_owned)
    }

    /// All that it said.
    async fn end(mut self) -> String {
        // It may have ended by itself.
        let _ = self.child.start_kill();
        let output = self.child.wait_with_output().await.unwrap();
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
    }
}

async fn get(address: &str, path: &str, token: Option<&str>) -> String {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut request = reqwest::Client::new().get(format!("http://{address}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn no_secret_of_an_address_is_shown_by_any_program() {
    for simulator in ["http://127.0.0.1:1", ADDRESS] {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("quell.yaml"), config(simulator)).unwrap();
        for name in PROGRAMS {
            let ran = run(name, folder.path(), &["--config", "quell.yaml", "--check"]).await;
            assert!(
                !ran.error.contains(SECRET) && !ran.out.contains(SECRET),
                "{name}: {} {}",
                ran.error,
                ran.out
            );
            let life = Life::start(name, folder.path()).await;
            let mut told = String::new();
            if let Some(address) = life.address("http") {
                for path in ["/api/agents", "/metrics", "/ready", "/health", "/.well-known/agent-card.json"] {
                    told.push_str(&get(&address, path, None).await);
                }
            }
            told.push_str(&life.end().await);
            assert!(!told.contains(SECRET), "{name}: {told}");
        }
    }
}

fn counted(metrics: &str, reason: &str) -> u64 {
    let name = format!("quell_authentication_failures_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

#[tokio::test]
async fn a_caller_who_is_not_let_in_leaves_a_count_and_one_line_without_the_token() {
    let folder = TempDir::new().unwrap();
    let tokens = "tokens: [{name: viewer, token: token-of-viewer, scopes: [read]}]";
    let text = format!(
        "coordinator: {{listen: 127.0.0.1:0, grpc_listen: 127.0.0.1:0, data_dir: c, {tokens}}}\n\
         diagnostic: {{listen: 127.0.0.1:0, {tokens}}}\nresolution: {{listen: 127.0.0.1:0, data_dir: r, {tokens}}}\n"
    );
    std::fs::write(folder.path().join("quell.yaml"), text).unwrap();
    for name in PROGRAMS {
        let life = Life::start(name, folder.path()).await;
        let http = life.address("http").unwrap();
        let is_coordinator = name == COORDINATOR;
        for token in [None, Some("token-of-nobody"), Some("token-of-viewer")] {
            let options = ClientOptions::default().with_bearer(token);
            let client = Client::connect_lazy(&life.address("grpc").unwrap(), options).unwrap();
            let may = is_coordinator && token == Some("token-of-viewer");
            assert_eq!(client.list_tasks(ListTasks::default()).await.is_ok(), may, "{name} {token:?}");
            if is_coordinator {
                get(&http, "/api/incidents", token).await;
                get(&http, "/api/changes?token=token-of-nobody", token).await;
            }
        }
        let metrics = get(&http, "/metrics", None).await;
        let counts = ["missing", "unknown", "forbidden"].map(|reason| counted(&metrics, reason));
        assert_eq!(counts, if is_coordinator { [3, 3, 0] } else { [1, 1, 1] }, "{name}");
        let log = life.end().await;
        let lines: Vec<_> = log.lines().filter(|line| line.contains("a caller was refused")).collect();
        assert_eq!(lines.len(), 1, "{name}: {log}");
        for word in ["127.0.0.1", "missing", "POST /lf.a2a.v1.A2AService/ListTasks"] {
            assert!(lines[0].contains(word), "{name}: {word} is not in {}", lines[0]);
        }
        assert!(!log.contains("token-of"), "{name}: {log}");
    }
}
