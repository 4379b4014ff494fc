//! What is recorded so that it can be told later: who chose, what cools down, that a question had expired.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use common::*;
use quell_incident::Event;
use quell_incident::incident::{Phase, Why};
use quell_incident::workflow::{Input, Refused};

#[test]
fn a_plan_that_is_made_anew_for_a_chosen_runbook_says_who_chose_it() {
    let mut case = Case::new(auto());
    case.reach_diagnosing();
    case.diagnose(0.9);
    case.must(Input::TaskFailed {
        task: task_of(&case),
        why: "the agent is away".to_owned(),
        for_good: false,
    });
    case.must(Input::TakeOver { by: "bob".to_owned() });
    let runbook = quell_incident::RunbookName::declared("mend").unwrap();
    case.must(Input::RunRunbook { by: "ann".to_owned(), runbook });
    let failed =
        Input::TaskFailed { task: task_of(&case), why: "the agent is away".to_owned(), for_good: false };
    let again = case.must(failed);
    assert!(
        matches!(&again[1], Event::PlanningStarted { chosen_by: Some(by), .. } if by == "ann"),
        "{again:?}"
    );
    case.plan("mend");
    // While a closed gate holds it the plan grows too old, and then it is made anew.
    case.pass(601);
    let anew = case.gates();
    let [started @ Event::PlanningStarted { runbook: Some(_), chosen_by: Some(by), .. }] = &anew[..] else {
        panic!("{anew:?}")
    };
    assert_eq!(by, "ann");
    let words = quell_incident::view::describe(started);
    assert_eq!(words, "the resolution agent is asked for a plan of runbook mend, which ann chose");
}

fn task_of(case: &Case) -> quell_incident::TaskKey {
    match &case.incident.phase {
        Phase::Diagnosing(asking) | Phase::Planning { asking, .. } => asking.task.clone(),
        phase => panic!("{phase:?}"),
    }
}

#[test]
fn an_attempt_keeps_the_cool_down_of_each_of_its_targets() {
    let mut case = Case::new(auto());
    case.reach_decided();
    case.do_step();
    case.must(Input::Deny { by: "ann".to_owned(), why: "no".to_owned(), digest: None });
    case.gates();
    let cooled: Vec<_> =
        case.incident.attempts[0].cool_downs.iter().map(|cool| cool.target.as_str()).collect();
    assert_eq!(cooled, ["db-1", "shop"]);
}

#[test]
fn that_a_question_expired_is_recorded_when_it_is_first_seen() {
    let mut case = Case::new(with_approval());
    case.reach_decided();
    let Phase::AwaitingApproval { proposal, expires_at, .. } = &case.incident.phase else { panic!() };
    let (digest, expires_at, before) = (proposal.digest, *expires_at, case.now);
    case.now = expires_at;
    let approve = Input::Approve { by: "ann".to_owned(), digest };
    let refused = case.input(approve.clone()).unwrap_err();
    assert_eq!(refused, Refused::Expired { at: expires_at });
    case.must(refused.recorded_by().unwrap());
    // The clock that had jumped is put back.
    case.now = before;
    assert!(matches!(case.incident.phase, Phase::Escalated { why: Why::ApprovalExpired, .. }));
    case.input(approve).unwrap_err();
    assert!(case.log.iter().all(|envelope| envelope.event.kind() != "step_started"));
}
