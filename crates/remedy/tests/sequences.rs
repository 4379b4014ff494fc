//! Any sequence of requests, repeated, reordered, late, with lives that end in between: each key starts at most once, a sealed one
//! never, and a lower token never acts.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::*;
use proptest::prelude::*;
use quell_incident::contract::{ProbeVerdict, StepOutcome};
use quell_remedy::NoFaults;
use quell_tool::ToolError;
use quell_tool::fake::{Behaviour, KeyValueTarget};
use serde_json::json;
use tokio::runtime::Builder;

#[derive(Clone, Debug)]
enum Act {
    Execute {
        key: u8,
        step: usize,
        undo: bool,
        token: u64,
    },
    Probe {
        key: u8,
        step: usize,
        undo: bool,
        token: u64,
    },
    /// The next call of the tool goes wrong.
    Trouble(u8),
    /// The process ends and starts again.
    Restart,
    /// Time passes, in seconds.
    Wait(i64),
}

fn act() -> impl Strategy<Value = Act> {
    let step = || (0..6_u8, 0..2_usize, any::<bool>(), 1..4_u64);
    prop_oneof![
        6 => step().prop_map(|(key, step, undo, token)| Act::Execute { key, step, undo, token }),
        3 => step().prop_map(|(key, step, undo, token)| Act::Probe { key, step, undo, token }),
        2 => (0..4_u8).prop_map(Act::Trouble),
        1 => Just(Act::Restart),
        1 => (1..50_i64).prop_map(Act::Wait),
    ]
}

fn trouble(kind: u8) -> Behaviour {
    match kind {
        0 => Behaviour::LoseReply,
        1 => Behaviour::Fail(ToolError::Unreachable { why: "down".to_owned() }),
        2 => Behaviour::Panic,
        _ => Behaviour::CannotTell,
    }
}

fn run(acts: &[Act]) -> Result<(), TestCaseError> {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    target.set("alpha", "size", json!(10));
    let lives = || agent_with(folder.path(), &target, &clock, switched_on(), Arc::new(NoFaults));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut agent = lives();
        let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
        // What the network still holds: every request is made once, at the beginning, and may come at any time.
        let sent: BTreeMap<_, _> = (0..6_u8)
            .flat_map(|key| [0, 1].map(|step| (key, step)))
            .flat_map(|(key, step)| [false, true].map(|undo| (key, step, undo)))
            .map(|(key, step, undo)| {
                let request = request(&plan, step, &format!("k{key}"), 1, &clock);
                ((key, step, undo), if undo { undo_of(request) } else { request })
            })
            .collect();
        let mut highest: BTreeMap<String, u64> = BTreeMap::new();
        let mut settled: BTreeSet<(u8, usize, bool)> = BTreeSet::new();
        for act in acts {
            let before = target.effects().len();
            match act {
                Act::Execute { key, step, undo, token } => {
                    let mut request = sent[&(*key, *step, *undo)].clone();
                    request.lock.token.0 = *token;
                    let late = clock.now() > request.not_after;
                    let on = request.step.target.to_string();
                    let outcome = agent.execute(permitted(request)).await.outcome;
                    let acted = target.effects().len() > before;
                    let seen = highest.get(&on).copied().unwrap_or(0);
                    prop_assert!(!(acted && (late || *token < seen)), "{act:?} acted: {outcome:?}");
                    prop_assert!(
                        !(acted && settled.contains(&(*key, *step, *undo))),
                        "{act:?} acted on a settled key"
                    );
                    prop_assert!(!(acted && matches!(outcome, StepOutcome::Refused { .. })), "{outcome:?}");
                    if acted {
                        highest.insert(on, seen.max(*token));
                    }
                    // Whatever it was told, the key has been seen now.
                    settled.insert((*key, *step, *undo));
                }
                Act::Probe { key, step, undo, token } => {
                    let mut request = sent[&(*key, *step, *undo)].clone();
                    request.lock.token.0 = *token;
                    let on = request.step.target.to_string();
                    let verdict = agent.probe(asking(request)).await.verdict;
                    prop_assert_eq!(target.effects().len(), before, "a probe acted");
                    if !settled.contains(&(*key, *step, *undo)) {
                        prop_assert_eq!(verdict, ProbeVerdict::NotDone);
                    }
                    settled.insert((*key, *step, *undo));
                    let seen = highest.entry(on).or_default();
                    *seen = (*seen).max(*token);
                }
                Act::Trouble(kind) => target.next_call(trouble(*kind)),
                Act::Restart => {
                    drop(agent);
                    agent = lives();
                }
                Act::Wait(seconds) => clock.advance(*seconds),
            }
        }
        let keys: Vec<_> = target.effects().into_iter().map(|effect| effect.key).collect();
        let once: BTreeSet<_> = keys.iter().cloned().collect();
        prop_assert_eq!(once.len(), keys.len(), "a key acted twice: {:?}", keys);
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_starts_a_key_twice(acts in prop::collection::vec(act(), 1..40)) {
        run(&acts)?;
    }
}
