//! Every part of the site is killed at every point where something is about to become durable or to leave the process, or just has;
//! and started again. Whatever the instant: the incident ends closed or with a person, and nothing was done twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use quell_sandbox::{Options, Part, Sandbox};
use quell_service::FaultPoints;
use serde_json::Value;
use tokio::task::JoinSet;

const WITHIN: Duration = Duration::from_secs(90);
const SCENARIO: &str = "database_timeout";
/// Sites at the same time.
const AT_ONCE: usize = 4;

fn options(faults: HashMap<Part, FaultPoints>) -> Options {
    Options { faults, ..Options::default() }
}

fn over(incident: &Value) -> bool {
    incident["status"] == "closed" || incident["phase"] == "escalated"
}

/// What must hold whatever was killed.
async fn check(sandbox: &Sandbox, what: &str) -> String {
    let incident = sandbox
        .incident(&format!("the end after {what}"), WITHIN, over)
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let all = sandbox.get("/api/incidents?view=full").await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1, "{what}: one fault, one incident: {all:#}");
    let actions = sandbox.actions().await.unwrap();
    let mut done = BTreeMap::<String, usize>::new();
    for action in &actions {
        let key = action["key"].as_str().unwrap_or_default();
        assert!(!key.is_empty(), "{what}: an action without its key: {action}");
        *done.entry(key.to_owned()).or_default() += 1;
        // A step that was tried again, with a new key, must not have happened the first time.
        *done
            .entry(format!("{}/{}/{}", action["operation"], action["target"], action["arguments"]))
            .or_default() += 1;
    }
    let twice: Vec<_> = done.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{what}: done twice: {twice:?}\n{actions:#?}\n{:#}", incident["timeline"]);
    if incident["status"] == "closed" {
        let words = incident["summary"].as_str().unwrap_or_default();
        assert_eq!(incident["resolution"]["by"], "runbook", "{what}: {words}\n{:#}", incident["timeline"]);
    }
    incident["phase"].as_str().unwrap_or_default().to_owned()
}

/// Runs the scenario with a part that dies at the `nth` reach of any of its points, and is started again.
async fn die_at(part: Part, nth: u64) -> (String, String) {
    let faults = FaultPoints::counting();
    let (died, dead) = tokio::sync::oneshot::channel();
    faults.arm_any(nth, move |crashed| {
        let _ = died.send(crashed);
    });
    let mut sandbox = Sandbox::start(options([(part, faults.clone())].into())).await.unwrap();
    sandbox.trigger(SCENARIO, None).await.unwrap();
    // A run may take fewer steps than the first one: then the part was not killed, and that is no failure.
    let crashed = tokio::time::timeout(WITHIN, async {
        tokio::select! {
            crashed = dead => crashed.ok(),
            _ = sandbox.incident("the end", WITHIN, over) => None,
        }
    })
    .await
    .unwrap();
    let Some(crashed) = crashed else { return ("not reached".to_owned(), check(&sandbox, "nothing").await) };
    let what = format!("{part:?} died at {} #{}", crashed.name, crashed.nth);
    sandbox.restart(part).await.unwrap();
    let end = check(&sandbox, &what).await;
    (what, end)
}

/// How many points a run without a death reaches.
async fn count(part: Part) -> u64 {
    let faults = FaultPoints::counting();
    let sandbox = Sandbox::start(options([(part, faults.clone())].into())).await.unwrap();
    sandbox.trigger(SCENARIO, None).await.unwrap();
    check(&sandbox, "nothing").await;
    let counts = faults.counts();
    println!("{part:?}: {counts:?}");
    faults.total()
}

async fn walk(part: Part) {
    let points = count(part).await;
    assert!(points >= 6, "{part:?} reaches only {points} points");
    let mut running = JoinSet::new();
    let mut ends = BTreeMap::<String, usize>::new();
    for nth in 1..=points {
        while running.len() >= AT_ONCE {
            let (what, end) = running.join_next().await.unwrap().unwrap();
            println!("{what}: {end}");
            *ends.entry(end).or_default() += 1;
        }
        running.spawn(die_at(part, nth));
    }
    while let Some(ended) = running.join_next().await {
        let (what, end) = ended.unwrap();
        println!("{what}: {end}");
        *ends.entry(end).or_default() += 1;
    }
    println!("{part:?}, {points} points: {ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_dies_at_every_point() {
    walk(Part::Coordinator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resolution_agent_dies_at_every_point() {
    walk(Part::Resolution).await;
}

/// The agents are killed whenever the coordinator is about to dial one, or just has.
#[tokio::test(flavor = "multi_thread")]
async fn agents_die_whenever_they_are_dialled() {
    let dials = [
        "coordinator.diagnose.before",
        "coordinator.plan.before",
        "coordinator.dial.before",
        "coordinator.dial.after",
        "coordinator.verify.before",
    ];
    for part in [Part::Diagnostic, Part::Resolution] {
        for dial in dials {
            let faults = FaultPoints::counting();
            let mut sandbox =
                Sandbox::start(options([(Part::Coordinator, faults.clone())].into())).await.unwrap();
            sandbox.trigger(SCENARIO, None).await.unwrap();
            sandbox
                .incident(dial, WITHIN, |_| faults.counts().get(dial).copied().unwrap_or(0) > 0)
                .await
                .unwrap();
            sandbox.restart(part).await.unwrap();
            let end = check(&sandbox, &format!("{part:?} killed at {dial}")).await;
            println!("{part:?} killed at {dial}: {end}");
        }
    }
}
