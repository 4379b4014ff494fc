//! The rules that no history may break, over random histories: fitting inputs, junk, late and doubled ones, at any pace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use jiff::SignedDuration;
use proptest::prelude::*;

use quell_incident::contract::{PlanAnswer, ProbeVerdict, StepEnd, StepOutcome, Verdict};
use quell_incident::correlation::{Flapping, GroupId, JoinedBy};
use quell_incident::event::Cleared;
use quell_incident::gate::{AlertNow, CoolDown, KillSwitch, LockState, OpenWindow, Throw, WindowKind};
use quell_incident::ids::{IncidentId, RunbookName, StepKey, TaskKey};
use quell_incident::incident::{How, Incident, Outcome, Phase, SAMPLE_MAX};
use quell_incident::plan::Undo;
use quell_incident::severity::{Priority, Severity};
use quell_incident::workflow::{self, AlertBatch, Autonomy, DutyKind, FiredAlert, Input, Policy};
use quell_incident::{Digest, Event};

/// One turn of a history: what is tried, with which variation, after how many seconds.
#[derive(Clone, Debug)]
struct Turn {
    what: u8,
    variation: u8,
    seconds: u16,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = (0u8..66, any::<u8>(), prop_oneof![4 => 0u16..3, 3 => 3u16..70, 1 => 70u16..2000])
        .prop_map(|(what, variation, seconds)| Turn { what, variation, seconds });
    prop::collection::vec(turn, 1..120)
}

fn policies() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>(), 0u8..4, 1u32..3, 1u32..4).prop_map(
        |(execution, approval, level, needed, attempts)| {
            let autonomy =
                [Autonomy::Auto, Autonomy::Auto, Autonomy::Approve, Autonomy::Suggest][usize::from(level)];
            Policy {
                execution_enabled: execution || level < 2,
                require_approval: approval,
                autonomy,
                approvals_needed: needed,
                attempts_max: attempts,
                ..Policy::default()
            }
        },
    )
}

fn task_of(incident: &Incident) -> TaskKey {
    match &incident.phase {
        Phase::Diagnosing(asking) | Phase::Planning { asking, .. } => asking.task.clone(),
        _ => "old/task/1".parse().unwrap(),
    }
}

fn key_of(incident: &Incident, stale: bool) -> StepKey {
    let old = || "old/1/000000000000/step/1".parse().unwrap();
    if stale {
        return incident.started_keys.first().cloned().unwrap_or_else(old);
    }
    incident.run().map_or_else(old, |run| run.key.clone())
}

/// The kind of input that moves the incident on, so that histories get somewhere.
fn what_fits(incident: &Incident, variation: u8) -> u8 {
    match &incident.phase {
        Phase::Settling { .. } => 25,
        Phase::Diagnosing(_) => 4,
        Phase::Planning { .. } => 5,
        Phase::Executing { .. } if variation >= 240 => 20,
        Phase::Executing { run: Some(run), .. } | Phase::Undoing { run: Some(run), .. } => {
            if run.doubt.is_some() { 10 } else { 8 }
        }
        Phase::Held { .. } | Phase::Executing { .. } | Phase::Undoing { .. } => 13,
        Phase::AwaitingApproval { .. } => 19,
        Phase::Verifying { .. } => [11, 11, 1, 25][usize::from(variation / 64)],
        Phase::Escalated { unknown: Some(_), .. } | Phase::TakenOver { unknown: Some(_), .. }
            if variation.is_multiple_of(3) =>
        {
            29
        }
        Phase::Escalated { .. } | Phase::TakenOver { .. } => 20,
        Phase::Resolved { .. } | Phase::Closed { .. } => 0,
    }
}

/// Turns a random number into an input, mostly one that fits; also changes the world.
fn input_of(case: &mut Case, turn: &Turn) -> Input {
    let what = if turn.what < 30 { turn.what } else { what_fits(&case.incident, turn.variation) };
    let variation = turn.variation;
    let odd = variation % 2 == 1;
    let by = if odd { "ann" } else { "bob" }.to_owned();
    let now = case.now;
    let incident = &case.incident;
    match what {
        0 => {
            let mut fired = alert(["ShopSlow", "ShopDown", "ShopSlow"][usize::from(variation % 3)]);
            if variation > 100 {
                fired.starts_at = now;
            }
            Input::AlertFiring(Box::new(fired))
        }
        26 => many(incident, variation, now),
        27 if variation < 60 => Input::AlertsListed,
        28 if variation < 60 => {
            let kind =
                if odd { WindowKind::Maintenance } else { WindowKind::Freeze { allow_p0: variation < 30 } };
            let until = now.saturating_add(SignedDuration::from_secs(i64::from(variation) * 10)).unwrap();
            case.world.windows = vec![OpenWindow { kind, name: "night".to_owned(), until }];
            Input::Deadline
        }
        1 | 2 => {
            let nth = usize::from(variation) % incident.alerts.len();
            let key = incident.alerts.keys().nth(nth).unwrap().clone();
            Input::AlertCleared { key, at: if variation < 20 { at(-100) } else { now } }
        }
        3 => Input::AlertSuppressed { key: case.key(), by: odd.then(|| "silence".to_owned()) },
        4 => {
            let mut report = report(incident.id, f64::from(variation) / 255.0);
            if variation.is_multiple_of(11) {
                report.root_cause = None;
            }
            Input::Report { task: task_of(incident), report: Box::new(report) }
        }
        5 | 6 => {
            let answer = match variation % 7 {
                0 => PlanAnswer::NoPlan { why: "nothing fits".to_owned() },
                1 => {
                    let mut bad = plan(incident.id, "mend", now);
                    bad.checks.clear();
                    PlanAnswer::Plan { plan: Box::new(bad) }
                }
                n => {
                    let name = ["mend", "patch", "swap"][usize::from(n) % 3];
                    let mut good = plan(incident.id, name, now);
                    if variation.is_multiple_of(13) {
                        good.steps[1].undo = Undo::Irreversible { why: "it is gone".to_owned() };
                    }
                    PlanAnswer::Plan { plan: Box::new(good) }
                }
            };
            Input::Plan { task: task_of(incident), answer }
        }
        7 => {
            let for_good = variation < 40;
            Input::TaskFailed { task: task_of(incident), why: "agent down".to_owned(), for_good }
        }
        8 | 9 => {
            let outcome = match variation % 6 {
                0 => StepOutcome::Failed { why: "exit 1".to_owned() },
                1 => StepOutcome::Refused { why: "guard".to_owned() },
                2 => StepOutcome::Unknown { why: "died".to_owned() },
                _ => done(now),
            };
            Input::StepOutcome { key: key_of(incident, variation % 9 == 8), outcome }
        }
        10 => {
            let verdict = match variation % 3 {
                0 => ProbeVerdict::NotDone,
                1 => ProbeVerdict::Done { changes: Vec::new() },
                _ => ProbeVerdict::CannotTell { why: "no state".to_owned() },
            };
            Input::Probed { key: key_of(incident, false), verdict }
        }
        11 | 12 => {
            let verdict =
                [Verdict::Passed, Verdict::Failed, Verdict::Inconclusive][usize::from(variation % 3)];
            Input::Checks(checks(verdict, now))
        }
        13..=16 => {
            let state = match variation % 9 {
                0 => AlertNow::Cleared(now),
                1 => AlertNow::Suppressed("silence".to_owned()),
                2 => AlertNow::Unknown("source down".to_owned()),
                _ => AlertNow::Firing,
            };
            // Sometimes all but one are silenced, as by a critical alert that inhibits the others.
            let of = |nth: usize| match &state {
                AlertNow::Suppressed(_) if nth == 0 && variation.is_multiple_of(2) => AlertNow::Firing,
                other => other.clone(),
            };
            case.world.alerts =
                incident.alerts.keys().enumerate().map(|(nth, key)| (key.clone(), of(nth))).collect();
            case.world.baseline = (variation % 8 == 7).then(|| checks(Verdict::Passed, now));
            Input::Gates(Box::new(case.look_world()))
        }
        17 | 18 => Input::Deadline,
        19 => Input::Approve {
            by,
            digest: incident
                .proposal()
                .filter(|_| variation > 20)
                .map_or(Digest::of_bytes(b"x"), |p| p.digest),
        },
        20 => match variation % 8 {
            0 => Input::Deny { by, why: String::new(), digest: None },
            1 => Input::TakeOver { by },
            2 => Input::HandBack { by },
            3 => Input::RunRunbook { by, runbook: RunbookName::declared("patch").unwrap() },
            4 => Input::DiagnoseAgain { by },
            5 => Input::Reopen { by, why: "not over".to_owned() },
            6 => Input::Acknowledge { by },
            _ => Input::Note { by, text: "hm".to_owned() },
        },
        21 => {
            let kill = KillSwitch { by, why: "storm".to_owned(), at: now };
            let throw = if odd { Throw::Engage(kill) } else { Throw::Release(kill) };
            case.world.site = case.world.site.thrown(throw);
            Input::Deadline
        }
        22 => {
            // Another incident takes or frees a target.
            let lock = case.locks.get_mut(&target("shop")).unwrap();
            let other = IncidentId(uuid::Uuid::from_u128(99));
            match lock.holder {
                None => *lock = LockState { token: lock.token.next(), holder: Some(other) },
                Some(holder) if holder == other => lock.holder = None,
                Some(_) => {}
            }
            Input::Deadline
        }
        29 => Input::Settle {
            by,
            key: (variation % 4 < 2).then(|| {
                incident
                    .unknown_step()
                    .filter(|_| odd)
                    .map_or(key_of(incident, true), |step| step.key.clone())
            }),
            happened: variation > 128,
            why: "looked at it".to_owned(),
        },
        23 if variation < 30 => Input::Resolve { by },
        24 if variation < 20 => Input::Close { by, why: "enough".to_owned() },
        _ => {
            case.now = workflow::next_deadline(&case.incident).unwrap_or(now).max(now);
            Input::Deadline
        }
    }
}

/// Up to 130 alerts, more than the sample: some that it knows, some that it does not; some have cleared, some were left out.
fn many(incident: &Incident, variation: u8, now: jiff::Timestamp) -> Input {
    let count = if variation.is_multiple_of(16) { 130 } else { usize::from(variation % 12) };
    let (mut fired, mut cleared) = (Vec::new(), Vec::new());
    for number in 0..count {
        let mut one = alert(&format!("Many{number}"));
        one.starts_at = if variation > 128 { now } else { at(-30) };
        if (number + count).is_multiple_of(3) {
            cleared.push(Cleared { key: one.key, at: now });
        } else {
            let joined = (!variation.is_multiple_of(4)).then_some(JoinedBy::GroupKey);
            fired.push(FiredAlert { alert: std::sync::Arc::new(one), joined, group: None, affected: None });
        }
    }
    if variation >= 200 {
        let all = incident.members.iter().map(|member| quell_incident::AlertKey::clone(&member.key));
        cleared = all.map(|key| Cleared { key, at: now }).collect();
        fired.clear();
    }
    let source = quell_incident::ids::SourceName::declared("alertmanager").unwrap();
    let truncated =
        (variation % 7 < 2).then(|| (GroupId::of_message(&source, None), u64::from(variation % 7)));
    let flapping = variation.is_multiple_of(9).then(|| Flapping {
        key: incident.alerts.keys().next().unwrap().clone(),
        transitions: 6,
        until: now.saturating_add(SignedDuration::from_secs(300)).unwrap(),
    });
    let urgency = Some((Priority::P1, Severity::High)).filter(|_| variation.is_multiple_of(5));
    let truncated = truncated.into_iter().collect();
    Input::Alerts(Box::new(AlertBatch { fired, cleared, urgency, flapping, truncated }))
}

/// The members are counted right, the sample is of them, and the limits hold.
fn members_are_exact(after: &Incident) {
    assert_eq!(after.members.iter().count(), after.members.len());
    assert_eq!(after.members.iter().filter(|member| member.fires()).count(), after.members.firing());
    assert!(after.alerts.len() <= SAMPLE_MAX);
    for (key, state) in &after.alerts {
        let member = after.members.get(key).expect("the sample is of members");
        assert_eq!((member.cleared_at, member.starts_at), (state.cleared_at, state.alert.starts_at));
    }
}

/// Checks one decision against the rules, with the incident as it was before and is after.
fn check_turn(case: &Case, before: &Incident, events: &[Event], input: &Input) {
    let after = &case.incident;
    for event in events {
        if let Event::StepStarted { key, index, undo, lock, .. } = event {
            let Input::Gates(world) = input else { panic!("a step was started by {input:?}") };
            assert!(world.site.kill_switch.is_none(), "rule 1: the kill switch was engaged");
            if !undo {
                let holds = |window: &OpenWindow| {
                    let exempt = window.kind == WindowKind::Freeze { allow_p0: true }
                        && before.priority == Priority::P0;
                    window.until > case.now && !exempt
                };
                assert!(!world.windows.iter().any(holds), "a window holds actions");
                let flaps = before.flapping.as_ref().is_some_and(|flapping| flapping.until > case.now);
                let by_person =
                    before.chosen_by.is_some() || before.proposal().is_some_and(|p| !p.approvals.is_empty());
                assert!(!flaps || by_person, "an automatic action while it flaps");
            }
            assert!(before.run().is_none(), "rule 2: a step was running");
            assert!(!before.started_keys.contains(key), "rule 3: started twice");
            assert_eq!(case.locks[&lock.target], LockState { token: lock.token, holder: Some(after.id) });
            let proposal = before.proposal().unwrap();
            if *undo {
                assert!(matches!(before.phase, Phase::Undoing { .. }));
                assert!(proposal.happened.contains(index), "rule 6: undone although it did not happen");
                continue;
            }
            let Phase::Executing { index: next, stop, .. } = &before.phase else {
                panic!("rule 1: {:?}", before.phase)
            };
            assert_eq!(next, index, "rule 1: not the next step");
            assert!(stop.is_none(), "rule 9: a person had stopped it");
            assert!(
                world.alerts.values().any(|now| matches!(now, AlertNow::Firing)),
                "rule 1: no alert fires that is not suppressed"
            );
            assert!(case.policy.execution_enabled && case.policy.autonomy >= Autonomy::Approve);
            let must_ask = case.policy.require_approval
                || case.policy.autonomy < Autonomy::Auto
                || proposal.plan.needs_person().is_some();
            let given: BTreeSet<_> =
                proposal.approvals.iter().filter(|a| a.digest == proposal.digest).map(|a| &a.by).collect();
            assert!(
                !must_ask || given.len() >= case.policy.approvals_needed as usize,
                "rule 1: approvals are missing"
            );
            assert!(
                world.baseline.as_ref().is_none_or(|b| b.verdict != Verdict::Passed)
                    || proposal.begun_at.is_some(),
                "the checks held already"
            );
            assert!(
                !workflow_excludes(before).contains(&proposal.plan.runbook) || before.chosen_by.is_some()
            );
        }
        if let Event::Resolved { how: How::Runbook { .. }, .. } = event {
            let Phase::Verifying { last, .. } = &before.phase else { panic!("rule 5: {:?}", before.phase) };
            let passed =
                |report: &quell_incident::contract::VerificationReport| report.verdict == Verdict::Passed;
            let now_passed = matches!(input, Input::Checks(report) if passed(report));
            assert!(now_passed || last.as_ref().is_some_and(passed), "rule 5: no data passed");
            assert!(after.cleared(), "rule 5: an alert still fires");
            assert!(after.truncated.is_empty(), "alerts were left out of the messages");
        }
        if let Event::UndoStarted { .. } = event {
            let failed_step = matches!(before.phase, Phase::Executing { .. });
            let failed_checks = match (&before.phase, input) {
                (Phase::Verifying { .. }, Input::Checks(report)) => report.verdict == Verdict::Failed,
                (Phase::Verifying { last: Some(report), .. }, _) => report.verdict == Verdict::Failed,
                _ => false,
            };
            assert!(failed_step || failed_checks, "rule 5: undone without positive evidence");
        }
        if let Event::GatesClosed { closed } = event {
            let said = match &before.phase {
                Phase::Held { closed, .. }
                | Phase::Executing { closed, .. }
                | Phase::Undoing { closed, .. } => closed,
                other => panic!("{other:?}"),
            };
            assert_ne!(said, closed, "rule 8: said twice");
        }
    }
    members_are_exact(after);
    only_a_person_settles(before, after, events);
    if events.iter().any(|event| matches!(event, Event::AlertsJoined { joined: Some(_), .. })) {
        let known = |fired: &FiredAlert| before.members.get(&fired.alert.key).is_some();
        let all_known = matches!(input, Input::Alerts(batch) if batch.fired.iter().all(known));
        assert!(before.status().is_active() || all_known, "joined in {}", before.phase.name());
    }
    ended_attempts_cool_down(before, after, events);
    nothing_is_kept_locked_for_nothing(after, case);
    nothing_waits_for_ever(after);
}

/// While the effect of a step is unknown its lock stays, nothing starts and nothing is over, until a person has said what happened.
fn only_a_person_settles(before: &Incident, after: &Incident, events: &[Event]) {
    let Some(unknown) = before.unknown_step() else { return };
    let settled = events.iter().position(|event| matches!(event, Event::StepSettled { .. }));
    let moved_on = events.iter().position(|event| {
        matches!(
            event,
            Event::LocksReleased { .. }
                | Event::DiagnosisStarted { .. }
                | Event::PlanningStarted { .. }
                | Event::StepStarted { .. }
                | Event::HandedBack { .. }
                | Event::Resolved { .. }
                | Event::Closed { .. }
        )
    });
    assert!(moved_on.is_none_or(|moved_on| settled.is_some_and(|settled| settled < moved_on)), "{events:?}");
    match settled {
        None => {
            assert_eq!(after.unknown_step(), Some(unknown));
            assert_eq!(after.locks.get(&unknown.lock.target), Some(&unknown.lock.token));
        }
        Some(_) => {
            assert!(after.unknown_step().is_none() && after.locks.is_empty());
            let action = after.actions.iter().find(|action| action.key == unknown.key).unwrap();
            assert!(action.settled.is_some() && action.success().is_some());
        }
    }
}

fn workflow_excludes(incident: &Incident) -> Vec<RunbookName> {
    incident.attempts.iter().filter(|a| a.undone || a.came_back).map(|a| a.runbook.clone()).collect()
}

/// Rule 7.
fn ended_attempts_cool_down(before: &Incident, after: &Incident, events: &[Event]) {
    let begun = before.proposal().is_some_and(|proposal| proposal.begun_at.is_some());
    let ended = begun && after.proposal().is_none();
    if ended {
        let cool = |event: &Event| matches!(event, Event::CoolDownSet { cool_down: CoolDown { .. } });
        assert!(
            events.iter().any(cool),
            "rule 7: {:?} ended without a cool-down in {events:?}",
            before.phase
        );
    }
}

fn nothing_is_kept_locked_for_nothing(after: &Incident, case: &Case) {
    let working =
        matches!(after.phase, Phase::Executing { .. } | Phase::Verifying { .. } | Phase::Undoing { .. });
    if !working && after.unknown_step().is_none() {
        assert!(after.locks.is_empty(), "{} keeps {:?}", after.phase.name(), after.locks);
        assert!(case.locks.values().all(|lock| lock.holder != Some(after.id)));
    }
}

/// Rule 10: a deadline that is due changes something, so that the next one is later.
fn nothing_waits_for_ever(after: &Incident) {
    let free = matches!(
        after.phase,
        Phase::Escalated { acknowledged_by: Some(_), .. } | Phase::TakenOver { .. } | Phase::Closed { .. }
    );
    let Some(due) = workflow::next_deadline(after) else {
        assert!(free, "rule 10: {} has no deadline", after.phase.name());
        return;
    };
    let later = due.saturating_add(SignedDuration::from_secs(1)).unwrap();
    let events = workflow::decide(after, &Input::Deadline, later, &Policy::default()).unwrap();
    assert!(!events.is_empty(), "rule 10: the deadline of {} changes nothing", after.phase.name());
}

/// Over a whole log: undo goes in reverse order, and after a person's stop nothing but what they asked for starts.
fn check_log(case: &Case) {
    let mut undone: Option<usize> = None;
    let mut keys = BTreeSet::new();
    for envelope in &case.log {
        match &envelope.event {
            Event::UndoStarted { .. } => undone = None,
            Event::StepStarted { index, undo: true, key, .. } => {
                assert!(undone.is_none_or(|last| *index <= last), "rule 6: not in reverse order");
                undone = Some(*index);
                assert!(keys.insert(key.clone()));
            }
            Event::StepStarted { key, .. } => {
                assert!(keys.insert(key.clone()), "rule 3: {key} started twice")
            }
            Event::Closed { outcome: Outcome::Resolved { how: How::Runbook { .. } }, .. } => {
                assert!(
                    case.log
                        .iter()
                        .any(|e| matches!(&e.event, Event::StepEnded { outcome: StepEnd::Done { .. }, .. }))
                );
            }
            _ => {}
        }
    }
    assert_eq!(workflow::replay(&case.log).unwrap(), case.incident, "replay is recovery");
}

/// Whatever joins, clears or is silenced between asking and asking again: an agent refuses another content under a key that it knows.
fn a_key_stands_for_one_request(incident: &Incident, asked: &mut BTreeMap<String, String>) {
    for duty in workflow::duties(incident) {
        let request = match &duty.kind {
            DutyKind::Diagnose => serde_json::to_string(&workflow::diagnose_request(incident).unwrap()),
            DutyKind::Plan => serde_json::to_string(&workflow::plan_request(incident).unwrap()),
            DutyKind::Step(request) | DutyKind::Probe(request) => serde_json::to_string(request),
            DutyKind::Verify(request) => serde_json::to_string(request),
            DutyKind::LookAtGates { .. } => continue,
        };
        let request = request.unwrap();
        let first = asked.entry(duty.key.clone()).or_insert_with(|| request.clone());
        assert_eq!(*first, request, "{} is another request now", duty.key);
    }
}

fn run_history(policy: Policy, turns: &[Turn]) -> Case {
    let mut case = Case::new(policy);
    let mut asked = BTreeMap::new();
    for turn in turns {
        case.pass(i64::from(turn.seconds));
        let input = input_of(&mut case, turn);
        let before = case.incident.clone();
        match case.input(input.clone()) {
            Ok(events) => check_turn(&case, &before, &events, &input),
            // Rule 11: what does not fit changes nothing.
            Err(_) => assert_eq!(before, case.incident),
        }
        a_key_stands_for_one_request(&case.incident, &mut asked);
    }
    check_log(&case);
    case
}

#[test]
fn no_history_breaks_a_rule() {
    use proptest::test_runner::{Config, TestRunner};

    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<String, usize>::new());
    let config = Config { cases: 4_000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&(policies(), turns()), |(policy, turns)| {
        let case = run_history(policy, &turns);
        let mut seen = seen.borrow_mut();
        for envelope in &case.log {
            let what = match &envelope.event {
                Event::Resolved { how, .. } => format!(
                    "resolved {}",
                    if matches!(how, How::Runbook { .. }) { "by a runbook" } else { "else" }
                ),
                Event::StepStarted { undo: true, .. } => "undo started".to_owned(),
                other => other.kind().to_owned(),
            };
            *seen.entry(what).or_default() += 1;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // Histories that never get anywhere would break no rule either.
    let seen = seen.into_inner();
    for what in [
        "step_started",
        "undo started",
        "undone",
        "step_doubted",
        "resolved by a runbook",
        "reopened",
        "closed",
        "stop_asked",
        "step_settled",
        "alerts_joined",
        "alerts_cleared",
        "alerts_truncated",
        "flapping",
    ] {
        assert!(seen.get(what).copied().unwrap_or(0) >= 5, "too few histories reached `{what}`: {seen:?}");
    }
}
