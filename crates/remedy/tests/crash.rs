//! The process dies at every point of a step, or the power goes at every write: nothing is ever done twice.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::*;
use quell_incident::Plan;
use quell_incident::contract::{ProbeVerdict, StepOutcome};
use quell_journal::{Options, SimulatedDisk, Survival};
use quell_remedy::{Agent, FAULT_POINTS, FaultHook, Ledger, LedgerSettings, NoFaults};
use quell_tool::fake::KeyValueTarget;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// One life: dropped with all of its tasks, as a killed process is.
fn life(
    folder: &Path,
    target: &KeyValueTarget,
    clock: &TestClock,
    faults: Arc<dyn FaultHook>,
    lived: impl AsyncFnOnce(Arc<Agent>),
) {
    let runtime = runtime();
    runtime.block_on(async {
        lived(agent_with(folder, target, clock, switched_on(), faults)).await;
    });
    drop(runtime);
}

#[test]
fn killed_at_any_point_a_step_is_never_begun_again() {
    for point in FAULT_POINTS {
        for undo in [false, true] {
            let (folder, target, clock) =
                (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
            target.set("alpha", "size", json!(10));
            let mut planned: Option<Plan> = None;
            life(folder.path(), &target, &clock, Arc::new(NoFaults), async |agent| {
                let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
                if undo {
                    agent.execute(request(&plan, 0, "before", 1, &clock)).await;
                }
                planned = Some(plan);
            });
            let plan = planned.unwrap();
            let before = target.effects().len();
            let sent = request(&plan, 0, "k1", 1, &clock);
            let sent = if undo { undo_of(sent) } else { sent };
            let dies = DieAt::point(point);
            life(folder.path(), &target, &clock, Arc::clone(&dies) as Arc<dyn FaultHook>, async |agent| {
                tokio::select! {
                    answer = agent.execute(sent.clone()) => assert_eq!(point, FAULT_POINTS[5], "{answer:?}"),
                    () = dies.died() => {}
                }
            });
            let happened = target.effects().len() > before;
            let expected_to_happen = FAULT_POINTS.iter().position(|one| *one == point).unwrap() >= 3;
            assert_eq!(happened, expected_to_happen, "{point}");

            life(folder.path(), &target, &clock, Arc::new(NoFaults), async |agent| {
                let again = agent.execute(sent.clone()).await.outcome;
                let verdict = agent.probe(asking(sent.clone())).await.verdict;
                match point {
                    // Nothing was on disk, so the key was unseen: it ran now, for the first time.
                    "resolution.intent.before" => {
                        assert!(matches!(again, StepOutcome::Done { .. }), "{point}: {again:?}");
                    }
                    // On disk to its end.
                    "resolution.outcome.after" => {
                        assert!(matches!(again, StepOutcome::Done { .. }), "{point}: {again:?}");
                    }
                    // In the middle: only the target knows.
                    _ => {
                        assert!(matches!(again, StepOutcome::Unknown { .. }), "{point}: {again:?}");
                        let is_done = matches!(verdict, ProbeVerdict::Done { .. });
                        assert_eq!(is_done, happened, "{point}: {verdict:?}");
                    }
                }
            });
            assert!(effects_of(&target, "k1") <= 1, "{point}");
        }
    }
}

#[test]
fn killed_and_probed_first_a_key_is_never_begun() {
    for point in ["resolution.intent.before", "resolution.intent.after", "resolution.effect.before"] {
        let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
        let mut planned: Option<Plan> = None;
        let dies = DieAt::point(point);
        life(folder.path(), &target, &clock, Arc::clone(&dies) as Arc<dyn FaultHook>, async |agent| {
            let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
            tokio::select! {
                answer = agent.execute(request(&plan, 0, "k1", 1, &clock)) => panic!("{answer:?}"),
                () = dies.died() => {}
            }
            planned = Some(plan);
        });
        let sent = request(&planned.unwrap(), 0, "k1", 1, &clock);
        life(folder.path(), &target, &clock, Arc::new(NoFaults), async |agent| {
            assert_eq!(agent.probe(asking(sent.clone())).await.verdict, ProbeVerdict::NotDone, "{point}");
            let late = agent.execute(sent.clone()).await.outcome;
            assert!(!matches!(late, StepOutcome::Done { .. }), "{point}: {late:?}");
        });
        assert!(target.effects().is_empty(), "{point}");
    }
}

/// One life on a simulated disk: `None` when the ledger could not be opened.
fn life_on_disk(
    disk: &SimulatedDisk,
    target: &KeyValueTarget,
    clock: &TestClock,
    lived: impl AsyncFnOnce(Arc<Agent>),
) -> Option<()> {
    let mut options = Options::new(uuid::Uuid::from_u128(7));
    options.disk = Arc::new(disk.clone());
    let settings = LedgerSettings::default();
    let (ledger, _) =
        Ledger::open_with(Path::new("ledger"), "agent-1", options, settings, clock.now()).ok()?;
    let now = clock.clone();
    let clock: quell_remedy::Clock = Arc::new(move || now.now());
    let knowledge = knowledge(target, switched_on());
    let runtime = runtime();
    runtime.block_on(async {
        lived(Agent::new(Arc::new(ledger), knowledge, settles_at_once(), clock, Arc::new(NoFaults))).await;
    });
    Some(())
}

#[test]
fn when_the_power_goes_at_any_write_no_answer_is_taken_back() {
    for survival in [Survival::None, Survival::All, Survival::Random(3)] {
        cut_at_every_operation(survival);
    }
}

fn cut_at_every_operation(survival: Survival) {
    let mut cuts = 0;
    for operations in 0.. {
        let (target, clock) = (KeyValueTarget::new(), TestClock::new());
        target.set("alpha", "size", json!(10));
        let disk = SimulatedDisk::new();
        let mut planned: Option<Plan> = None;
        life_on_disk(&disk, &target, &clock, async |agent| {
            planned = Some(plan(&agent, &plan_request("too_low", "beta-service")).await);
        })
        .unwrap();
        let plan = planned.unwrap();
        let (sent, asked) = (request(&plan, 0, "k1", 1, &clock), request(&plan, 1, "k2", 1, &clock));
        disk.cut_power_after(operations);
        let mut answers = None;
        life_on_disk(&disk, &target, &clock, async |agent| {
            let outcome = agent.execute(sent.clone()).await.outcome;
            let verdict = agent.probe(asking(asked.clone())).await.verdict;
            answers = Some((outcome, verdict));
        });
        let was_cut = disk.is_cut();
        cuts += usize::from(was_cut);
        let disk = disk.restart(survival);
        life_on_disk(&disk, &target, &clock, async |agent| {
            let again = agent.execute(sent.clone()).await.outcome;
            let late = agent.execute(asked.clone()).await.outcome;
            let Some((outcome, verdict)) = &answers else { return };
            match outcome {
                // What was answered as done, or as refused, stays so.
                StepOutcome::Done { .. } | StepOutcome::Refused { .. } => assert_eq!(again, *outcome),
                StepOutcome::Failed { .. } | StepOutcome::Unknown { .. } => {}
            }
            if *verdict == ProbeVerdict::NotDone {
                assert!(matches!(late, StepOutcome::Refused { .. }), "{late:?}");
            }
        })
        .unwrap();
        assert!(effects_of(&target, "k1") <= 1 && effects_of(&target, "k2") <= 1, "cut after {operations}");
        if !was_cut {
            break;
        }
    }
    assert!(cuts >= 6, "the power was cut {cuts} times only");
}

#[test]
fn a_token_that_only_the_intent_carries_counts_in_the_next_life() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let mut planned: Option<Plan> = None;
    let dies = DieAt::point("resolution.intent.after");
    life(folder.path(), &target, &clock, Arc::clone(&dies) as Arc<dyn FaultHook>, async |agent| {
        let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
        tokio::select! {
            answer = agent.execute(request(&plan, 0, "k1", 5, &clock)) => panic!("{answer:?}"),
            () = dies.died() => {}
        }
        planned = Some(plan);
    });
    let plan = planned.unwrap();
    life(folder.path(), &target, &clock, Arc::new(NoFaults), async |agent| {
        let stale = agent.execute(request(&plan, 0, "k2", 4, &clock)).await.outcome;
        assert!(matches!(&stale, StepOutcome::Refused { why } if why.contains("lower than 5")), "{stale:?}");
        let newer = agent.execute(request(&plan, 0, "k3", 6, &clock)).await.outcome;
        assert!(matches!(newer, StepOutcome::Done { .. }), "{newer:?}");
    });
}
