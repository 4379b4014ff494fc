//! SIGHUP to a real coordinator: other settings are in force at once, all of them or none, and what takes effect only at a start is said
//! by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use quell_child::{Manner, Process, Signal, free_addresses};
use quell_sandbox::fake_alertmanager::FakeAlertmanager;
use quell_sandbox::{Asking, until};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(30);
const USED: &str = "the new configuration is in effect";
const NOT_USED: &str = "the new configuration is not used";

struct Site {
    folder: TempDir,
    asking: Asking,
    alertmanager: FakeAlertmanager,
    http: SocketAddr,
    grpc: SocketAddr,
    process: Option<Process>,
}

impl Site {
    async fn start(settings: &str) -> Self {
        let [http, grpc] = free_addresses().unwrap();
        let webhook = format!("http://{http}/webhooks/alertmanager");
        let alertmanager = FakeAlertmanager::start(&webhook, SignedDuration::from_secs(2)).await.unwrap();
        let (folder, asking) = (tempfile::tempdir().unwrap(), Asking::new().unwrap());
        let mut site = Self { folder, asking, alertmanager, http, grpc, process: None };
        site.write(settings);
        fs::write(site.file("mapping.yaml"), "alerts: []\n").unwrap();
        let arguments = ["--config", "quell.yaml", "--log-format", "human", "--address-file", "listens.json"];
        let (program, arguments) = (common::program("quell-coordinator"), arguments.map(str::to_owned));
        let folder = site.folder.path();
        let process = Process::start("coordinator", &program, &arguments, folder, Manner::default()).unwrap();
        site.process = Some(process);
        let listens = site.file("listens.json");
        site.wait("it to listen", async || listens.exists().then_some(()).ok_or_else(String::new)).await;
        site
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, settings: &str) {
        let text = format!(
            "infrastructure: {{monitoring: {{prometheus: {{alert_manager_url: \"{}\"}}}}}}
coordinator:
  listen: \"{}\"
  grpc_listen: \"{}\"
  data_dir: data
  alert_mapping_file: mapping.yaml
  workflow: {{settle: 1h, settle_p0: 1h}}
{settings}",
            self.alertmanager.url(),
            self.http,
            self.grpc
        );
        fs::write(self.file("quell.yaml"), text).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("coordinator.log")).unwrap()
    }

    /// Waits until something is there; a process that has ended is not waited for.
    async fn wait<T>(&self, what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
        let found = until(what, WITHIN, look).await;
        found.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Sends the signal, and waits for this word on it.
    async fn reload(&mut self, word: &str) {
        let before = self.log().matches(word).count();
        self.process.as_mut().unwrap().signal(Signal::HUP);
        let said = async || {
            let said = self.log().matches(word).count();
            if said > before { Ok(()) } else { Err(format!("said {said} times")) }
        };
        self.wait(word, said).await;
    }

    async fn fires_at_alertmanager(&self, name: &str) {
        let alert = json!([{"labels": {"alertname": name, "instance": name, "severity": "warning"}}]);
        let url = format!("{}/api/v2/alerts", self.alertmanager.url());
        self.asking.json(Method::POST, &url, Some(&alert)).await.unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    async fn incidents(&self) -> Result<Vec<Value>, String> {
        let all = self.asking.get(&self.url("/api/incidents?view=full")).await;
        Ok(all.map_err(|error| error.to_string())?.as_array().unwrap().clone())
    }

    async fn incident(&self, name: &str) -> Value {
        self.wait(name, async || {
            let all = self.incidents().await?;
            all.iter().find(|one| one["alert_name"] == name).cloned().ok_or_else(|| format!("{all:?}"))
        })
        .await
    }
}

fn settings(reconcile_interval: &str, retention: &str, more: &str) -> String {
    format!(
        "  reconcile: {{interval: {reconcile_interval}, missed_after: 0s, clear_margin: 1s, cleared_after: 1h}}
  retention: {{closed_incidents: {retention}}}
{more}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_puts_all_settings_in_force_or_none() {
    let mut site = Site::start(&settings("1h", "0s", "")).await;
    // The first comparison is at the start; until the next one there is an hour.
    let first = "quell_reconcile_rounds_total{result=\"complete\"} 1";
    let page = site.url("/metrics");
    site.wait(first, async || {
        let text = site.asking.text(&page).await.map_err(|error| error.to_string())?;
        if text.contains(first) { Ok(()) } else { Err(text) }
    })
    .await;
    site.fires_at_alertmanager("Missed").await;

    // One mistake, in the file of the mapping, and nothing of the rest is used either.
    site.write(&settings("100ms", "1s", ""));
    fs::write(site.file("mapping.yaml"), "alerts: [{alertname: Second, severty: high}]\n").unwrap();
    site.reload(NOT_USED).await;
    assert!(site.log().contains("severty"), "{}", site.log());
    let text = site.asking.text(&page).await.unwrap();
    assert!(text.contains(first), "the interval is still an hour: {text}");
    // The same with a window.
    fs::write(site.file("mapping.yaml"), "alerts: [{alertname: Second, priority: P1}]\n").unwrap();
    let window = "  freezes: [{name: never, starts_at: soon, ends_at: later}]\n";
    site.write(&settings("100ms", "1s", window));
    site.reload(NOT_USED).await;
    assert!(site.log().contains("`coordinator.freezes[0]` (never): `soon` is no time"), "{}", site.log());
    assert!(site.incidents().await.unwrap().is_empty());

    // Now all of it is sound: comparing, dropping, the mapping.
    site.write(&settings("100ms", "1s", ""));
    site.reload(USED).await;
    let missed = site.incident("Missed").await;
    assert_eq!(missed["priority"], "P2", "as an alert that the mapping does not name");
    site.fires_at_alertmanager("Second").await;
    let second = site.incident("Second").await;
    assert_eq!(second["priority"], "P1");
    let close = site.url(&format!("/api/incidents/{}/close", second["id"].as_str().unwrap()));
    site.asking.json(Method::POST, &close, Some(&json!({"why": "seen to"}))).await.unwrap();
    site.wait("the closed incident to be dropped", async || {
        let all = site.incidents().await?;
        if all.iter().all(|one| one["alert_name"] != "Second") { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;

    // Comparing is switched off, and on again.
    site.write(&settings("100ms, enabled: false", "0s", ""));
    site.reload(USED).await;
    site.fires_at_alertmanager("Third").await;
    site.write(&settings("100ms", "0s", ""));
    site.reload(USED).await;
    let third = site.incident("Third").await;
    let close = site.url(&format!("/api/incidents/{}/close", third["id"].as_str().unwrap()));
    site.asking.json(Method::POST, &close, Some(&json!({"why": "seen to"}))).await.unwrap();
    assert_eq!(site.incident("Third").await["status"], "closed");
    assert!(!site.log().contains("only at a start"), "{}", site.log());

    // What cannot be changed while it runs is named, again and again; the rest is used.
    let more = "  lease: 9s\n  source_name: other\n";
    site.write(&settings("1h", "0s", more));
    for times in 1..=2 {
        site.reload(USED).await;
        let log = site.log();
        for name in ["coordinator.lease", "coordinator.source_name"] {
            let said = log.lines().filter(|line| line.contains("only at a start") && line.contains(name));
            assert_eq!(said.count(), times, "{name}: {log}");
        }
    }
}
