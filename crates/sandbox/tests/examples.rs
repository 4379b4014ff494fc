//! What stands in `examples/` works as it stands there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "../../a2a/tests/python/sdk.rs"]
mod sdk;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use quell_sandbox::{Options, Sandbox};
use quell_service::{Environment, Loading};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").canonicalize().unwrap()
}

#[test]
fn the_configuration_is_sound_and_executes_nothing() {
    let file = Some(examples().join("quell.yaml"));
    let config = Loading { daemon: None, file, environment: Environment::default() }.load(|_| ()).unwrap();
    assert!(!config.agents.resolution.execute_real_commands);
    assert_eq!(config.coordinator.autonomy_overrides.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_and_the_runbook_are_taken() {
    let rules = format!("diagnostic: {{rules_file: \"{}\", listen", examples().join("rules.yaml").display());
    let runbooks =
        format!("resolution: {{runbook_dir: \"{}\", listen", examples().join("runbooks").display());
    let options = Options::default()
        .replacing("diagnostic: {listen", &rules)
        .replacing("resolution: {listen", &runbooks);
    let sandbox = Sandbox::start(options).await.unwrap();
    let agents = sandbox.get("/api/agents").await.unwrap();
    assert!(agents.as_array().unwrap().iter().all(|agent| agent["reachable"] == true), "{agents:#}");
}

/// Hands in an incident with one of the programs of `examples/submit-task`, against the daemons and the simulator, and returns what it
/// printed. The simulator's own alerts stay away, so that there is one incident.
async fn submitted(mut program: Command) -> String {
    let options = Options { alerts_hold: Duration::from_secs(3_600), ..Options::default() }.asking();
    let sandbox = Sandbox::start(options).await.unwrap();
    sandbox.trigger("kafka_lag", None).await.unwrap();
    let lags = |row: &serde_json::Value| row["name"] == "kafka_lag" && row["active"] == true;
    sandbox.simulator("/scenarios").await.unwrap().as_array().unwrap().iter().find(|row| lags(row)).unwrap();
    let address = sandbox.grpc();
    let run = tokio::task::spawn_blocking(move || program.arg(address.to_string()).output().unwrap());
    let output = tokio::time::timeout(Duration::from_secs(90), run).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    let incidents = sandbox.get("/api/incidents?view=full").await.unwrap();
    let [incident] = incidents.as_array().unwrap().as_slice() else { panic!("{incidents:#}") };
    assert_eq!(incident["status"], "closed", "{incident:#}\n{printed}");
    assert_eq!(incident["resolution"]["by"], "runbook", "{incident:#}\n{printed}");
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_submitted_from_rust() {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples");
    let printed = submitted(Command::new(folder.join("submit-task"))).await;
    assert!(printed.contains("consumer_group_too_small") && printed.contains("completed: "), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_submitted_from_python() {
    let Some(python) = sdk::python_or_word().await else { return };
    let mut program = Command::new(python);
    program.arg(examples().join("submit-task/submit_task.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    let printed = submitted(program).await;
    assert!(
        printed.contains("consumer_group_too_small") && printed.contains("TASK_STATE_COMPLETED: "),
        "{printed}"
    );
}
