//! A step whose effect is unknown: a person says what became of it before anything else goes on, and until then its target stays locked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use common::*;
use quell_incident::contract::{ProbeVerdict, StepOutcome};
use quell_incident::event::Event;
use quell_incident::ids::{RunbookName, StepKey};
use quell_incident::incident::{Phase, Why};
use quell_incident::view;
use quell_incident::workflow::{self, Input, Refused};

fn ann() -> String {
    "ann".to_owned()
}

fn settle(key: Option<StepKey>, happened: bool) -> Input {
    Input::Settle { by: ann(), key, happened, why: "looked at it".to_owned() }
}

/// Escalated with a step of which no probe could tell.
fn unknown() -> (Case, StepKey) {
    let mut case = Case::new(auto());
    case.reach_decided();
    case.gates();
    case.outcome(StepOutcome::Unknown { why: "the agent died".to_owned() });
    let key = case.incident.run().unwrap().key.clone();
    let verdict = ProbeVerdict::CannotTell { why: "the target is away".to_owned() };
    case.must(Input::Probed { key: key.clone(), verdict });
    (case, key)
}

fn words_that_would_go_on() -> Vec<Input> {
    let why = || "enough".to_owned();
    vec![
        Input::HandBack { by: ann() },
        Input::RunRunbook { by: ann(), runbook: RunbookName::declared("patch").unwrap() },
        Input::DiagnoseAgain { by: ann() },
        Input::Resolve { by: ann() },
        Input::Close { by: ann(), why: why() },
        Input::Withdraw { by: ann() },
    ]
}

#[test]
fn until_it_is_settled_every_word_that_goes_on_says_so_and_the_lock_stays() {
    for taken_over in [false, true] {
        let (mut case, _) = unknown();
        // These change nothing of the target, and remain possible.
        case.must(Input::Acknowledge { by: ann() });
        case.must(Input::Note { by: ann(), text: "looking".to_owned() });
        if taken_over {
            case.must(Input::TakeOver { by: ann() });
        }
        for word in words_that_would_go_on() {
            if !taken_over && matches!(word, Input::HandBack { .. }) {
                continue;
            }
            let refused = case.input(word.clone()).unwrap_err();
            let Refused::NotNow { remedy, .. } = &refused else { panic!("{word:?}: {refused}") };
            let command =
                format!("quell incident settle {} --happened|--not-happened --why", case.incident.id);
            assert!(remedy.contains(&command) && remedy.contains("db-1"), "{word:?}: {remedy}");
            assert_eq!(case.locks[&target("db-1")].holder, Some(case.incident.id), "{word:?}");
        }
        let text: Vec<_> = case.log.iter().map(|envelope| view::describe(&envelope.event)).collect();
        assert!(text.iter().any(|line| line.contains("db-1 stays locked until a person says")), "{text:#?}");
        let remedy = view::to_json(&case.incident)["question"]["remedy"].to_string();
        assert!(remedy.contains("quell incident settle"), "{remedy}");
    }
}

#[test]
fn after_it_is_settled_every_word_goes_on() {
    for word in words_that_would_go_on() {
        for happened in [true, false] {
            let (mut case, key) = unknown();
            case.must(Input::TakeOver { by: ann() });
            let events = case.must(settle(Some(key), happened));
            let kinds: Vec<_> = events.iter().map(Event::kind).collect();
            assert_eq!(kinds, ["step_settled", "locks_released"]);
            assert!(case.locks.values().all(|lock| lock.holder.is_none()));
            assert_eq!(case.phase(), "taken_over", "it goes on as the other words decide");
            case.must(word.clone());
        }
    }
}

#[test]
fn what_a_person_said_is_what_counts_as_done_with_their_name_and_reason() {
    for (happened, result) in [(true, "took effect"), (false, "did not take effect")] {
        let (mut case, key) = unknown();
        case.must(settle(None, happened));
        let Phase::Escalated { why: Why::StepSettled { by, .. }, unknown: None, .. } = &case.incident.phase
        else {
            panic!("{:?}", case.incident.phase)
        };
        assert_eq!(by, "ann");
        let action = case.incident.actions.iter().find(|action| action.key == key).unwrap();
        assert_eq!(action.success(), Some(happened));
        let settled = action.settled.as_ref().unwrap();
        assert_eq!(
            (settled.by.as_str(), settled.why.as_str(), settled.at),
            ("ann", "looked at it", case.now)
        );
        let said = case.log.iter().map(|envelope| view::describe(&envelope.event));
        let words = format!("ann says that step {key} {result}: looked at it");
        assert!(said.into_iter().any(|line| line == words));
        assert_eq!(workflow::replay(&case.log).unwrap(), case.incident);
        case.must(Input::Close { by: ann(), why: "seen to".to_owned() });
        assert!(case.incident.post_mortem.as_ref().unwrap().contains("says ann: looked at it"));
    }
}

#[test]
fn what_cleared_meanwhile_is_resolved_when_it_is_settled_and_not_before() {
    for happened in [true, false] {
        let (mut case, _) = unknown();
        case.clear();
        assert_eq!(case.phase(), "escalated");
        let events = case.must(settle(None, happened));
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        assert_eq!(kinds, ["step_settled", "locks_released", "resolved"]);
    }
}

#[test]
fn the_word_is_about_the_step_in_doubt_and_counts_once() {
    let (mut case, key) = unknown();
    let other: StepKey = "old/1/000000000000/step/1".parse().unwrap();
    let refused = case.input(settle(Some(other), true)).unwrap_err();
    assert!(refused.to_string().contains(key.as_str()), "{refused}");
    case.must(settle(Some(key.clone()), true));
    // Sent again because the answer was lost: nothing more happens. The opposite is no repeat.
    assert!(case.must(settle(Some(key.clone()), true)).is_empty());
    assert!(case.input(settle(Some(key), false)).is_err());
    assert!(Case::new(auto()).input(settle(None, true)).is_err(), "nothing is in doubt");
}

#[test]
fn a_log_that_frees_the_target_of_an_unsettled_step_is_illegal() {
    let (case, _) = unknown();
    let locks = case.incident.locks.iter().map(|(target, token)| quell_incident::contract::TargetLock {
        target: target.clone(),
        token: *token,
    });
    let released = Event::LocksReleased { locks: locks.collect() };
    let outcome = quell_incident::incident::Outcome::Withdrawn { by: ann() };
    let closed = Event::Closed { outcome, post_mortem: String::new() };
    for event in [released, closed] {
        let mut incident = case.incident.clone();
        let envelope = envelope(incident.id, incident.revision.0 + 1, case.now, event);
        assert!(workflow::apply(&mut incident, &envelope).is_err(), "{}", envelope.event.kind());
    }
}
