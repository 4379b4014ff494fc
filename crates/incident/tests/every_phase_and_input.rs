//! Walks every phase with every input and shows what comes of it: the table is reviewed, not computed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use common::*;
use quell_incident::contract::{PlanAnswer, ProbeVerdict, StepOutcome, Verdict};
use quell_incident::correlation::{Flapping, GroupId, JoinedBy};
use quell_incident::event::{Cleared, Event};
use quell_incident::ids::{RunbookName, StepKey, TaskKey};
use quell_incident::incident::Phase;
use quell_incident::workflow::{self, AlertBatch, FiredAlert, Input, Refused};

/// A case in each phase, by the shortest way there.
fn phases() -> Vec<(&'static str, Case)> {
    let make = |policy, go: &dyn Fn(&mut Case)| {
        let mut case = Case::new(policy);
        go(&mut case);
        case
    };
    let unknown = |case: &mut Case| {
        case.reach_decided();
        case.gates();
        case.outcome(StepOutcome::Unknown { why: "died".to_owned() });
        let key = case.incident.run().unwrap().key.clone();
        case.must(Input::Probed { key, verdict: ProbeVerdict::CannotTell { why: "no state".to_owned() } });
    };
    let resolve = |case: &mut Case| {
        case.reach_verifying();
        let now = case.now;
        case.must(Input::Checks(checks(Verdict::Passed, now)));
        case.clear();
    };
    let fail = |case: &mut Case| {
        case.reach_verifying();
        case.pass(61);
        let now = case.now;
        case.must(Input::Checks(checks(Verdict::Failed, now)));
    };
    let take_over = |case: &mut Case| {
        case.must(Input::TakeOver { by: "bob".to_owned() });
    };
    vec![
        ("settling", make(auto(), &|_| {})),
        ("diagnosing", make(auto(), &Case::reach_diagnosing)),
        (
            "planning",
            make(auto(), &|case| {
                case.reach_diagnosing();
                case.diagnose(0.9);
            }),
        ),
        ("held", make(auto(), &Case::reach_held)),
        ("awaiting_approval", make(with_approval(), &Case::reach_decided)),
        ("executing, nothing begun", make(auto(), &Case::reach_decided)),
        (
            "executing, a step runs",
            make(auto(), &|case| {
                case.reach_decided();
                case.gates();
            }),
        ),
        (
            "executing, a step in doubt",
            make(auto(), &|case| {
                case.reach_decided();
                case.gates();
                case.outcome(StepOutcome::Unknown { why: "died".to_owned() });
            }),
        ),
        (
            "executing, between steps",
            make(auto(), &|case| {
                case.reach_decided();
                case.do_step();
            }),
        ),
        ("verifying", make(auto(), &Case::reach_verifying)),
        ("undoing", make(auto(), &fail)),
        (
            "undoing, a step runs",
            make(auto(), &|case| {
                fail(case);
                case.gates();
            }),
        ),
        (
            "escalated",
            make(auto(), &|case| {
                case.reach_diagnosing();
                let Phase::Diagnosing(asking) = &case.incident.phase else { unreachable!() };
                let mut report = report(case.incident.id, 0.2);
                report.root_cause = None;
                let task = asking.task.clone();
                case.must(Input::Report { task, report: Box::new(report) });
            }),
        ),
        ("escalated, a step unknown", make(auto(), &unknown)),
        (
            "taken_over, a step unknown",
            make(auto(), &|case| {
                unknown(case);
                take_over(case);
            }),
        ),
        ("taken_over", make(auto(), &take_over)),
        ("resolved", make(auto(), &resolve)),
        (
            "closed",
            make(auto(), &|case| {
                resolve(case);
                case.pass(601);
                case.must(Input::Deadline);
            }),
        ),
    ]
}

fn task_of(case: &Case) -> TaskKey {
    match &case.incident.phase {
        Phase::Diagnosing(asking) | Phase::Planning { asking, .. } => asking.task.clone(),
        _ => "old/task/1".parse().unwrap(),
    }
}

fn key_of(case: &Case) -> StepKey {
    case.incident.run().map_or_else(|| "old/1/0/step/1".parse().unwrap(), |run| run.key.clone())
}

fn inputs(case: &Case) -> Vec<(&'static str, Input)> {
    let by = || "ann".to_owned();
    let now = case.now;
    let mut again = alert("ShopSlow");
    again.starts_at = now;
    let digest = case.incident.proposal().map_or(quell_incident::Digest::of_bytes(b"x"), |p| p.digest);
    let answer = PlanAnswer::Plan { plan: Box::new(plan(case.incident.id, "mend", now)) };
    vec![
        ("the same alert again", Input::AlertFiring(Box::new(alert("ShopSlow")))),
        ("a new episode", Input::AlertFiring(Box::new(again))),
        ("another alert", Input::AlertFiring(Box::new(alert("ShopDown")))),
        (
            "a more urgent alert",
            Input::AlertUrgency {
                priority: quell_incident::severity::Priority::P0,
                severity: quell_incident::severity::Severity::Critical,
            },
        ),
        ("many alerts join", many(case, true, 0)),
        ("many of its own fire", many(case, false, 0)),
        ("all of many clear", many_clear(case, None)),
        ("the same, more exist", many_clear(case, Some(3))),
        ("every alert is listed", Input::AlertsListed),
        ("it flaps", flaps(case)),
        ("cleared", Input::AlertCleared { key: case.key(), at: now }),
        ("silenced", Input::AlertSuppressed { key: case.key(), by: Some("silence".to_owned()) }),
        ("report", Input::Report { task: task_of(case), report: Box::new(report(case.incident.id, 0.9)) }),
        ("plan", Input::Plan { task: task_of(case), answer }),
        (
            "no plan",
            Input::Plan { task: task_of(case), answer: PlanAnswer::NoPlan { why: "none".to_owned() } },
        ),
        ("task failed", Input::TaskFailed { task: task_of(case), why: "down".to_owned(), for_good: false }),
        ("task rejected", Input::TaskFailed { task: task_of(case), why: "no".to_owned(), for_good: true }),
        ("step done", Input::StepOutcome { key: key_of(case), outcome: done(now) }),
        (
            "step failed",
            Input::StepOutcome { key: key_of(case), outcome: StepOutcome::Failed { why: "x".to_owned() } },
        ),
        (
            "step refused",
            Input::StepOutcome { key: key_of(case), outcome: StepOutcome::Refused { why: "x".to_owned() } },
        ),
        (
            "step unknown",
            Input::StepOutcome { key: key_of(case), outcome: StepOutcome::Unknown { why: "x".to_owned() } },
        ),
        (
            "probe: done",
            Input::Probed { key: key_of(case), verdict: ProbeVerdict::Done { changes: Vec::new() } },
        ),
        ("probe: not done", Input::Probed { key: key_of(case), verdict: ProbeVerdict::NotDone }),
        (
            "probe: cannot tell",
            Input::Probed { key: key_of(case), verdict: ProbeVerdict::CannotTell { why: "x".to_owned() } },
        ),
        ("checks pass", Input::Checks(checks(Verdict::Passed, now))),
        ("checks fail", Input::Checks(checks(Verdict::Failed, now))),
        ("checks unread", Input::Checks(checks(Verdict::Inconclusive, now))),
        ("gates open", Input::Gates(Box::new(case.look_world()))),
        ("deadline, not due", Input::Deadline),
        ("acknowledge", Input::Acknowledge { by: by() }),
        ("approve", Input::Approve { by: by(), digest }),
        ("deny", Input::Deny { by: by(), why: String::new(), digest: None }),
        ("take over", Input::TakeOver { by: by() }),
        ("hand back", Input::HandBack { by: by() }),
        ("run a runbook", Input::RunRunbook { by: by(), runbook: RunbookName::declared("patch").unwrap() }),
        ("diagnose again", Input::DiagnoseAgain { by: by() }),
        ("settle: it happened", settle(true)),
        ("settle: it did not", settle(false)),
        ("resolve", Input::Resolve { by: by() }),
        ("close", Input::Close { by: by(), why: String::new() }),
        ("withdraw", Input::Withdraw { by: by() }),
        ("reopen", Input::Reopen { by: by(), why: String::new() }),
        ("note", Input::Note { by: by(), text: "hm".to_owned() }),
    ]
}

/// Six hundred alerts that it does not know, so that they are two events.
fn many(case: &Case, joined: bool, from: usize) -> Input {
    let fired = (from..from + 600).map(|number| {
        let mut alert = alert(&format!("Many{number}"));
        alert.starts_at = case.now;
        let joined = joined.then_some(JoinedBy::GroupKey);
        FiredAlert { alert: std::sync::Arc::new(alert), joined, group: None, affected: None }
    });
    Input::Alerts(Box::new(AlertBatch { fired: fired.collect(), ..AlertBatch::default() }))
}

fn many_clear(case: &Case, more: Option<u64>) -> Input {
    let cleared = case
        .incident
        .members
        .iter()
        .map(|member| Cleared { key: quell_incident::AlertKey::clone(&member.key), at: case.now });
    let source = quell_incident::ids::SourceName::declared("alertmanager").unwrap();
    let truncated = more.map(|more| (GroupId::of_message(&source, None), more)).into_iter().collect();
    Input::Alerts(Box::new(AlertBatch { cleared: cleared.collect(), truncated, ..AlertBatch::default() }))
}

fn settle(happened: bool) -> Input {
    Input::Settle { by: "ann".to_owned(), key: None, happened, why: "looked at it".to_owned() }
}

fn flaps(case: &Case) -> Input {
    let flapping = Flapping { key: case.key(), transitions: 6, until: at(10_000) };
    Input::Alerts(Box::new(AlertBatch { flapping: Some(flapping), ..AlertBatch::default() }))
}

#[test]
fn every_phase_with_every_input() {
    let mut table = String::new();
    for (name, case) in phases() {
        table.push_str(&format!("\n{name}\n"));
        for (what, input) in inputs(&case) {
            let row = match workflow::decide(&case.incident, &input, case.now, &case.policy) {
                Ok(events) if events.is_empty() => "-".to_owned(),
                Ok(events) => events.iter().map(Event::kind).collect::<Vec<_>>().join(", "),
                Err(Refused::Stale { .. }) => "refused: stale".to_owned(),
                Err(Refused::NotNow { remedy, .. }) => format!("refused: {remedy}"),
                Err(Refused::Expired { .. }) => "refused: expired".to_owned(),
                Err(Refused::OtherPlan { .. }) => "refused: another plan".to_owned(),
            };
            table.push_str(&format!("  {what:<22}{row}\n"));
            let mut after = Case {
                incident: case.incident.clone(),
                log: case.log.clone(),
                locks: case.locks.clone(),
                world: case.world.clone(),
                policy: case.policy.clone(),
                now: case.now,
            };
            let _ = after.input(input);
        }
    }
    insta::assert_snapshot!(table);
}
