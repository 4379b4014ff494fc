//! The binary: its address file, its signals, its exit codes, and what a killed process leaves behind.

#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::*;
use quell_a2a::{Client, ClientOptions};
use quell_incident::PermittedSkill;
use quell_incident::contract::{ProbeVerdict, StepOutcome};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(60);

/// A running `quell-resolution`, killed when the test ends.
struct Process {
    child: Child,
    address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(config: &Path, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quell-resolution"));
    command.env_clear().args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    command.arg("--config").arg(config).arg("--data-dir").arg(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(config: &Path, folder: &Path) -> Process {
    let file = folder.join("address.json");
    let _ = std::fs::remove_file(&file);
    let mut child = command(config, folder).arg("--address-file").arg(&file).spawn().unwrap();
    // Read all the time, so that the process never waits for us.
    let stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).for_each(drop));
    let deadline = Instant::now() + DEADLINE;
    while !file.exists() {
        assert!(Instant::now() < deadline, "no address was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let address = written["addresses"]["grpc"].as_str().unwrap().to_owned();
    Process { child, address }
}

impl Process {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a reload has switched execution on.
    async fn executes(&self) {
        let ready = format!("http://{}/ready", self.address);
        let deadline = Instant::now() + DEADLINE;
        while get(ready.clone()).await["executes"] != true {
            assert!(Instant::now() < deadline, "the reload did not take effect");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn asker(&self) -> Asker {
        let client = Client::connect_lazy(&format!("http://{}", self.address), ClientOptions::default());
        Asker::over(client.unwrap())
    }
}

/// A configuration file for a simulator.
fn configuration(simulator: &quell_simulator::Handle, folder: &Path, executes: bool) -> std::path::PathBuf {
    let pages = simulator.addresses().map(|address| format!("    - http://{address}/metrics\n")).concat();
    let text = format!(
        "simulator:\n  url: {}\n  metrics_urls:\n{pages}agents:\n  resolution:\n    execute_real_commands: {executes}\n    dry_run: {}\n",
        url(simulator),
        !executes
    );
    let file = folder.join("quell.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_reloads_and_ends_by_signals() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let config = configuration(&simulator, folder.path(), false);
    let mut process = spawn(&config, folder.path());
    let ready = format!("http://{}/ready", process.address);
    assert_eq!(get(ready).await["executes"], false);

    configuration(&simulator, folder.path(), true);
    process.signal("-HUP");
    process.executes().await;
    process.signal("-TERM");
    assert_eq!(process.ended().code(), Some(0));
    assert!(!folder.path().join("address.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_step_is_under_way_it_begins_it_no_second_time() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    // In front of the simulator something takes the connection and never answers: the step is under way when the process is killed.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = configuration(&simulator, folder.path(), false);
    let process = spawn(&config, folder.path());
    let clean = plan_request("disk_filled_by_logs", subject("", "storage-node-01:9090", "/data"));
    let plan = process.asker().plan(&clean).await;
    configuration(&simulator, folder.path(), true);
    let text = std::fs::read_to_string(&config).unwrap();
    let control = |address: &str| format!("simulator:\n  url: {address}\n");
    let to_silent = control(&format!("http://{}", silent.local_addr().unwrap()));
    std::fs::write(&config, text.replace(&control(&url(&simulator)), &to_silent)).unwrap();
    process.signal("-HUP");
    process.executes().await;

    let request = step_request(&plan, 0, 1, false, 1);
    let asker = process.asker();
    let asked = permitted(&request, PermittedSkill::Execute, approved(&request), &permit_key());
    let asking = tokio::spawn(async move { asker.ask::<Value>("execute", &asked).await });
    // The connection is there: the intent was on disk before it.
    let held = tokio::time::timeout(DEADLINE, silent.accept()).await.unwrap().unwrap();
    assert_eq!(get(format!("http://{}/ready", process.address)).await["steps_running"], 1);
    drop(process);
    asking.abort();
    drop(held);

    std::fs::write(&config, text).unwrap();
    let second = spawn(&config, folder.path());
    let asker = second.asker();
    let again = asker.step(&request).await;
    assert!(matches!(again, StepOutcome::Unknown { .. }), "{again:?}");
    assert_eq!(asker.probe(&request).await.verdict, ProbeVerdict::NotDone);
    assert!(actions(&simulator).await.is_empty());
    // A new try has a new key.
    let retry = asker.step(&step_request(&plan, 0, 2, false, 1)).await;
    assert!(matches!(retry, StepOutcome::Done { .. }), "{retry:?}");
    assert_eq!(actions(&simulator).await.len(), 1);
}

const SWITCHED_ON: &str = "agents: {resolution: {execute_real_commands: true, dry_run: false}}\n";
const EXPOSED: &str =
    "resolution: {listen: '0.0.0.0:0', tokens: [{name: coordinator, token: right-token, scopes: [agent]}]}\n";

#[test]
fn trusting_the_first_coordinator_is_said_by_a_check_and_once_by_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("quell.yaml");
    let checked = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quell-resolution"));
        command.env_clear().arg("--check").arg("--config").arg(&config);
        let output = command.arg("--data-dir").arg(folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let is_told = |said: &str| said.contains("agents.resolution.coordinator_public_keys is not set");
    let (code, said) = checked(SWITCHED_ON);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("note: execution is switched on") && is_told(&said), "{said}");
    assert!(said.contains("coordinator.pub") && said.contains("--print-public-key"), "{said}");
    assert_eq!(said.matches("introduces itself first").count(), 1, "{said}");
    let key = permit_key().public();
    let listed = SWITCHED_ON.replace("dry_run", &format!("coordinator_public_keys: ['{key}'], dry_run"));
    let (code, said) = checked(&listed);
    assert!(code == Some(0) && !is_told(&said), "{said}");
    let (code, said) = checked(&format!("{EXPOSED}{SWITCHED_ON}"));
    assert!(code == Some(2) && said.contains("can be reached from other machines"), "{said}");
    let (code, said) = checked(&format!("{EXPOSED}{listed}"));
    assert!(code == Some(0) && !is_told(&said), "{said}");

    std::fs::write(&config, SWITCHED_ON).unwrap();
    let file = folder.path().join("address.json");
    let child = command(&config, folder.path()).arg("--address-file").arg(&file).spawn().unwrap();
    let deadline = Instant::now() + DEADLINE;
    while !file.exists() {
        assert!(Instant::now() < deadline, "no address was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
    let log = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("introduces itself first")).collect();
    assert!(told.len() == 1 && told[0].contains("WARN"), "{log}");
}

#[test]
fn what_cannot_start_exits_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (text, code, reason) in [
        (format!("resolution: {{listen: '127.0.0.1:{port}'}}\n"), 3, "resolution.listen"),
        ("resolution: {listen: '0.0.0.0:0'}\n".to_owned(), 2, "resolution.tokens"),
        (format!("{EXPOSED}{SWITCHED_ON}"), 2, "agents.resolution.coordinator_public_keys"),
        ("resolution: {inventory_file: /nowhere/inventory.yaml}\n".to_owned(), 2, "/nowhere/inventory.yaml"),
        ("resolution: {allowed_targets: [moon]}\n".to_owned(), 2, "moon"),
        ("resolution: {runbooks: x}\n".to_owned(), 2, "runbook_dir"),
    ] {
        let config = folder.path().join("quell.yaml");
        std::fs::write(&config, &text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quell-resolution"));
        command.env_clear().arg("--config").arg(&config).arg("--data-dir").arg(folder.path());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}: {said}");
        assert!(said.contains(reason), "{text}: {said}");
    }
}
