//! What stands in `examples/` works as it stands there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::path::PathBuf;

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
