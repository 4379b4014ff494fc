//! Histories that matter, each told once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use common::*;
use jiff::SignedDuration;
use quell_incident::contract::{PlanAnswer, ProbeVerdict, StepOutcome, Verdict};
use quell_incident::correlation::Flapping;
use quell_incident::event::{DecodeError, EVENT_VERSION};
use quell_incident::gate::{AlertNow, KillSwitch, LockState, OpenWindow, Throw, WindowKind};
use quell_incident::incident::{How, Outcome, Phase, Why};
use quell_incident::severity::{Priority, Severity};
use quell_incident::workflow::{self, AlertBatch, Autonomy, Input, Policy, Refused};
use quell_incident::{Envelope, Event};

fn started(case: &Case) -> Vec<(usize, bool)> {
    let pick = |envelope: &Envelope| match envelope.event {
        Event::StepStarted { index, undo, .. } => Some((index, undo)),
        _ => None,
    };
    case.log.iter().filter_map(pick).collect()
}

#[test]
fn a_fixed_fault_is_verified_resolved_and_closed_to_the_runbooks_credit() {
    let mut case = Case::new(auto());
    case.reach_verifying();
    assert_eq!(started(&case), [(0, false), (1, false), (2, false)]);
    case.pass(10);
    let now = case.now;
    case.must(Input::Checks(checks(Verdict::Passed, now)));
    assert_eq!(case.phase(), "verifying", "the alert has not cleared yet");
    case.pass(60);
    case.clear();
    let Phase::Resolved { how: How::Runbook { runbook }, .. } = &case.incident.phase else {
        panic!("{:?}", case.incident.phase)
    };
    assert_eq!(runbook.as_str(), "mend");
    assert!(case.locks.values().all(|lock| lock.holder.is_none()));
    case.pass(601);
    case.must(Input::Deadline);
    assert_eq!(case.phase(), "closed");
    assert!(case.incident.post_mortem.as_deref().unwrap().contains("resolved by runbook mend"));
    assert_eq!(workflow::replay(&case.log).unwrap(), case.incident);
}

#[test]
fn the_shipped_defaults_end_in_here_is_the_plan() {
    let mut case = Case::new(Policy::default());
    case.reach_decided();
    let Phase::Escalated { why: Why::GatesClosed { because }, .. } = &case.incident.phase else {
        panic!("{:?}", case.incident.phase)
    };
    assert!(because.contains("here is the plan"), "{because}");
    assert!(started(&case).is_empty());
    assert!(case.incident.plan.is_some());
}

#[test]
fn a_plan_runs_only_after_exactly_it_was_approved() {
    let mut case = Case::new(with_approval());
    case.reach_decided();
    assert_eq!(case.phase(), "awaiting_approval");
    let digest = case.incident.proposal().unwrap().digest;
    let other = quell_incident::Digest::of_bytes(b"other");
    let refused = case.input(Input::Approve { by: "ann".to_owned(), digest: other }).unwrap_err();
    assert_eq!(refused, Refused::OtherPlan { wanted: digest, given: other });
    case.must(Input::Approve { by: "ann".to_owned(), digest });
    assert_eq!(case.phase(), "executing");
    // The second click changes nothing.
    assert!(case.must(Input::Approve { by: "ann".to_owned(), digest }).is_empty());
    case.gates();
    assert_eq!(started(&case), [(0, false)]);
}

#[test]
fn two_people_must_agree_when_two_are_needed() {
    let mut case = Case::new(Policy { approvals_needed: 2, ..with_approval() });
    case.reach_decided();
    let digest = case.incident.proposal().unwrap().digest;
    case.must(Input::Approve { by: "ann".to_owned(), digest });
    case.must(Input::Approve { by: "ann".to_owned(), digest });
    assert_eq!(case.phase(), "awaiting_approval");
    case.must(Input::Approve { by: "bob".to_owned(), digest });
    assert_eq!(case.phase(), "executing");
}

#[test]
fn no_answer_is_a_no_after_two_reminders() {
    let mut case = Case::new(with_approval());
    case.reach_decided();
    for expected in [150, 90] {
        let deadline = workflow::next_deadline(&case.incident).unwrap();
        assert_eq!(deadline.duration_since(case.now).as_secs(), expected);
        case.now = deadline;
        case.must(Input::Deadline);
        assert_eq!(case.phase(), "awaiting_approval");
    }
    case.now = workflow::next_deadline(&case.incident).unwrap();
    case.must(Input::Deadline);
    assert!(matches!(case.incident.phase, Phase::Escalated { why: Why::ApprovalExpired, .. }));
}

#[test]
fn an_alert_that_clears_before_the_first_step_is_nobodys_merit() {
    for go in [Case::reach_diagnosing, Case::reach_held, Case::reach_decided] as [fn(&mut Case); 3] {
        for policy in [auto(), with_approval()] {
            let mut case = Case::new(policy);
            go(&mut case);
            case.clear();
            assert!(
                matches!(case.incident.phase, Phase::Resolved { how: How::Itself, .. }),
                "{:?}",
                case.incident.phase
            );
            assert!(started(&case).is_empty());
        }
    }
}

#[test]
fn an_alert_read_again_as_cleared_stops_the_first_step() {
    let mut case = Case::new(auto());
    case.reach_decided();
    let (key, now) = (case.key(), case.now);
    case.world.alerts.insert(key, AlertNow::Cleared(now));
    case.gates();
    assert!(matches!(case.incident.phase, Phase::Resolved { how: How::Itself, .. }));
    assert!(started(&case).is_empty());
}

#[test]
fn an_alert_that_clears_between_steps_leads_to_verification() {
    let mut case = Case::new(auto());
    case.reach_decided();
    case.do_step();
    case.clear();
    assert_eq!(case.phase(), "verifying");
    assert_eq!(started(&case).len(), 1);
}

#[test]
fn a_fault_that_ended_before_the_first_step_is_not_credited_even_if_told_late() {
    let mut case = Case::new(auto());
    case.reach_verifying();
    let now = case.now;
    case.must(Input::Checks(checks(Verdict::Passed, now)));
    let (key, before) = (case.key(), at(1));
    case.must(Input::AlertCleared { key, at: before });
    assert!(
        matches!(case.incident.phase, Phase::Resolved { how: How::Itself, .. }),
        "{:?}",
        case.incident.phase
    );
}

#[test]
fn checks_that_already_hold_hold_back_the_first_step() {
    let mut case = Case::new(auto());
    case.reach_decided();
    let now = case.now;
    case.world.baseline = Some(checks(Verdict::Passed, now));
    case.gates();
    assert!(started(&case).is_empty());
    case.world.baseline = Some(checks(Verdict::Inconclusive, now));
    case.gates();
    assert_eq!(started(&case).len(), 1);
}

#[test]
fn a_wrong_action_is_undone_in_reverse_and_escalated() {
    let mut case = Case::new(Policy { attempts_max: 1, ..auto() });
    case.reach_verifying();
    case.pass(61);
    let now = case.now;
    case.must(Input::Checks(checks(Verdict::Failed, now)));
    assert_eq!(case.phase(), "undoing");
    case.do_step();
    case.do_step();
    case.gates();
    assert_eq!(started(&case), [(0, false), (1, false), (2, false), (2, true), (0, true)]);
    assert!(
        matches!(case.incident.phase, Phase::Escalated { why: Why::NotFixed { .. }, .. }),
        "{:?}",
        case.incident.phase
    );
    assert!(case.locks.values().all(|lock| lock.holder.is_none()));
}

#[test]
fn after_an_undo_another_runbook_is_tried_and_not_the_same() {
    let mut case = Case::new(auto());
    case.reach_verifying();
    case.pass(61);
    let now = case.now;
    case.must(Input::Checks(checks(Verdict::Failed, now)));
    case.do_step();
    case.do_step();
    case.gates();
    assert_eq!(case.phase(), "planning");
    let request = workflow::plan_request(&case.incident).unwrap();
    assert_eq!(request.exclude.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["mend"]);
    let Phase::Planning { asking, .. } = &case.incident.phase else { unreachable!() };
    let task = asking.task.clone();
    case.must(Input::Plan { task, answer: PlanAnswer::NoPlan { why: "nothing else fits".to_owned() } });
    assert!(matches!(case.incident.phase, Phase::Escalated { why: Why::NotFixed { .. }, .. }));
}

#[test]
fn no_data_neither_passes_nor_undoes() {
    let mut case = Case::new(auto());
    case.reach_verifying();
    case.pass(100);
    let now = case.now;
    case.must(Input::Checks(checks(Verdict::Inconclusive, now)));
    case.clear();
    assert_eq!(case.phase(), "verifying", "a cleared alert alone is no proof");
    case.now = workflow::next_deadline(&case.incident).unwrap();
    case.must(Input::Deadline);
    assert!(matches!(case.incident.phase, Phase::Escalated { why: Why::NotVerified { .. }, .. }));
}

#[test]
fn late_alone_is_no_reason_to_undo() {
    let mut case = Case::new(auto());
    case.reach_verifying();
    case.pass(5);
    let now = case.now;
    case.must(Input::Checks(checks(Verdict::Passed, now)));
    case.now = workflow::next_deadline(&case.incident).unwrap();
    case.must(Input::Deadline);
    assert!(matches!(case.incident.phase, Phase::Escalated { why: Why::NotVerified { .. }, .. }));
    assert!(started(&case).iter().all(|(_, undo)| !undo));
}

#[test]
fn a_step_without_an_outcome_is_probed_and_never_started_again_under_its_key() {
    let mut case = Case::new(auto());
    case.reach_decided();
    case.gates();
    let key = case.incident.run().unwrap().key.clone();
    case.now = workflow::next_deadline(&case.incident).unwrap();
    case.must(Input::Deadline);
    assert!(matches!(workflow::duties(&case.incident)[0].kind, workflow::DutyKind::Probe(_)));
    case.must(Input::Probed { key: key.clone(), verdict: ProbeVerdict::NotDone });
    // A late outcome of the old key changes nothing.
    let now = case.now;
    assert!(case.input(Input::StepOutcome { key: key.clone(), outcome: done(now) }).is_err());
    case.gates();
    let again = case.incident.run().unwrap().key.clone();
    assert_ne!(again, key);
    case.now = workflow::next_deadline(&case.incident).unwrap();
    case.must(Input::Deadline);
    case.must(Input::Probed { key: again, verdict: ProbeVerdict::NotDone });
    assert!(
        matches!(case.incident.phase, Phase::Escalated { why: Why::StepRefused { .. }, .. }),
        "tries are used up"
    );
}

#[test]
fn what_no_probe_can_tell_goes_to_a_person_and_the_lock_stays() {
    let mut case = Case::new(auto());
    case.reach_decided();
    case.gates();
    let now = case.now;
    case.outcome(StepOutcome::Unknown { why: "the agent died".to_owned() });
    let key = case.incident.run().unwrap().key.clone();
    case.must(Input::Probed { key, verdict: ProbeVerdict::CannotTell { why: "no state".to_owned() } });
    assert!(matches!(case.incident.phase, Phase::Escalated { unknown: Some(_), .. }));
    assert_eq!(case.locks[&target("db-1")].holder, Some(case.incident.id));
    // Cleared, but nobody knows what was done: a person must say.
    case.must(Input::AlertCleared { key: case.key(), at: now });
    assert_eq!(case.phase(), "escalated");
    let settle = |happened| Input::Settle {
        by: "ann".to_owned(),
        key: None,
        happened,
        why: "looked at the database".to_owned(),
    };
    case.must(settle(true));
    assert_eq!(case.phase(), "resolved", "it had cleared, and only the step was open");
    assert!(case.locks.values().all(|lock| lock.holder.is_none()));
}

#[test]
fn a_held_lock_holds_the_plan_and_says_so_once() {
    let mut case = Case::new(auto());
    let other = quell_incident::IncidentId(uuid::Uuid::from_u128(99));
    case.locks.insert(target("db-1"), LockState { token: token(4), holder: Some(other) });
    case.reach_held();
    assert!(matches!(case.gates()[..], [Event::GatesClosed { .. }]));
    assert!(case.gates().is_empty());
    case.locks.insert(target("db-1"), LockState { token: token(4), holder: None });
    case.gates();
    case.gates();
    assert_eq!(case.incident.run().unwrap().lock.token, token(5));
}

#[test]
fn the_kill_switch_stops_steps_and_undo() {
    let mut case = Case::new(auto());
    case.reach_verifying();
    case.pass(61);
    let now = case.now;
    case.must(Input::Checks(checks(Verdict::Failed, now)));
    let kill = KillSwitch { by: "ann".to_owned(), why: "storm".to_owned(), at: now };
    case.world.site = case.world.site.thrown(Throw::Engage(kill.clone()));
    case.gates();
    assert!(started(&case).iter().all(|(_, undo)| !undo));
    case.world.site = case.world.site.thrown(Throw::Release(kill));
    case.do_step();
    assert!(started(&case).iter().any(|(_, undo)| *undo));
}

#[test]
fn a_denied_or_taken_over_plan_does_no_further_step() {
    for take_over in [false, true] {
        let mut case = Case::new(auto());
        case.reach_decided();
        case.gates();
        let by = "ann".to_owned();
        case.must(if take_over {
            Input::TakeOver { by }
        } else {
            Input::Deny { by, why: "no".to_owned(), digest: None }
        });
        let now = case.now;
        case.outcome(done(now));
        case.gates();
        assert_eq!(case.phase(), if take_over { "taken_over" } else { "escalated" });
        assert_eq!(started(&case).len(), 1);
        assert!(case.locks.values().all(|lock| lock.holder.is_none()));
    }
}

#[test]
fn a_lost_agent_is_asked_again_and_then_a_person_is() {
    let mut case = Case::new(auto());
    case.reach_diagnosing();
    for attempt in 1..=3 {
        let Phase::Diagnosing(asking) = &case.incident.phase else { panic!("{:?}", case.incident.phase) };
        assert_eq!(asking.attempt, attempt);
        case.now = asking.deadline;
        case.must(Input::Deadline);
    }
    assert!(matches!(case.incident.phase, Phase::Escalated { why: Why::AgentFailed { .. }, .. }));
}

#[test]
fn levels_below_approve_hand_over_what_they_have() {
    let mut case = Case::new(Policy { autonomy: Autonomy::Observe, ..auto() });
    case.reach_diagnosing();
    case.diagnose(0.9);
    assert!(matches!(case.incident.phase, Phase::Escalated { why: Why::ObserveOnly, .. }));
    let mut case = Case::new(Policy { autonomy: Autonomy::Suggest, ..auto() });
    case.reach_decided();
    assert!(matches!(case.incident.phase, Phase::Escalated { why: Why::GatesClosed { .. }, .. }));
    assert!(case.incident.plan.is_some());
}

#[test]
fn low_confidence_asks_a_person_even_at_auto() {
    let mut case = Case::new(auto());
    case.reach_diagnosing();
    case.diagnose(0.55);
    case.plan("mend");
    case.gates();
    assert_eq!(case.phase(), "awaiting_approval");
}

#[test]
fn what_fires_again_reopens_and_counts_against_the_runbook() {
    let mut case = Case::new(auto());
    case.reach_verifying();
    let now = case.now;
    case.must(Input::Checks(checks(Verdict::Passed, now)));
    case.pass(5);
    case.clear();
    assert_eq!(case.phase(), "resolved");
    case.pass(30);
    // The old message, delivered again, changes nothing; a new episode reopens.
    assert!(case.must(Input::AlertFiring(Box::new(alert("ShopSlow")))).is_empty());
    let mut again = alert("ShopSlow");
    again.starts_at = case.now;
    case.must(Input::AlertFiring(Box::new(again)));
    assert_eq!(case.phase(), "diagnosing");
    assert!(case.incident.attempts[0].came_back);
}

#[test]
fn resolved_by_a_person_stays_so_while_the_same_episode_fires_on() {
    let mut case = Case::new(auto());
    case.reach_diagnosing();
    case.must(Input::Resolve { by: "ann".to_owned() });
    assert!(case.must(Input::AlertFiring(Box::new(alert("ShopSlow")))).is_empty());
    case.pass(601);
    case.must(Input::Deadline);
    let Phase::Closed { outcome: Outcome::Resolved { how } } = &case.incident.phase else { panic!() };
    assert_eq!(*how, How::Person { name: "ann".to_owned() });
}

#[test]
fn every_event_survives_its_stored_form() {
    let mut case = Case::new(with_approval());
    case.reach_decided();
    let digest = case.incident.proposal().unwrap().digest;
    case.must(Input::Approve { by: "ann".to_owned(), digest });
    for _ in 0..3 {
        case.do_step();
    }
    let read: Vec<_> = case.log.iter().map(|e| Envelope::decode(&e.encode().unwrap()).unwrap()).collect();
    assert_eq!(read, case.log);
    let mut newer: serde_json::Value = serde_json::from_slice(&case.log[0].encode().unwrap()).unwrap();
    newer["version"] = (EVENT_VERSION + 1).into();
    let error = Envelope::decode(newer.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains(&format!("version {}", EVENT_VERSION + 1)), "{error}");
}

#[test]
fn an_older_event_is_read_or_refused_by_name() {
    let mut case = Case::new(with_approval());
    case.reach_decided();
    let planned = case.log.iter().find(|envelope| envelope.event.kind() == "planned").unwrap();
    let mut stored: serde_json::Value = serde_json::from_slice(&planned.encode().unwrap()).unwrap();
    let decode = |stored: &serde_json::Value| Envelope::decode(stored.to_string().as_bytes());
    stored["version"] = 2.into();
    assert_eq!(decode(&stored).unwrap().event, planned.event, "it has today's form");

    // As version 2 wrote it: nothing said yet how far Quell may go with a plan.
    stored["data"].as_object_mut().unwrap().remove("autonomy").unwrap();
    let error = decode(&stored).unwrap_err();
    let is_named = matches!(&error, DecodeError::Older { kind, version: 2 } if kind == "planned");
    assert!(is_named && error.to_string().contains("event `planned` has version 2"), "{error}");
    stored["version"] = EVENT_VERSION.into();
    let error = decode(&stored).unwrap_err();
    assert!(matches!(error, DecodeError::Malformed(_)), "{error}");
}

fn window(kind: WindowKind, until: i64) -> Vec<OpenWindow> {
    vec![OpenWindow { kind, name: "night".to_owned(), until: at(until) }]
}

#[test]
fn a_window_holds_a_plan_until_it_ends_however_long_that_is() {
    for policy in [auto(), with_approval()] {
        let mut case = Case::new(policy.clone());
        case.reach_held();
        case.world.windows = window(WindowKind::Maintenance, 4 * 3_600);
        let said = case.gates();
        assert!(matches!(&said[..], [Event::GatesClosed { .. }]), "{said:?}");
        assert_eq!(case.phase(), "held");
        let words = quell_incident::view::summary(&case.incident);
        assert!(words.contains("the maintenance window night is open until"), "{words}");
        assert!(case.gates().is_empty(), "said once");
        // Longer than a plan is held otherwise; nobody is asked and nothing starts.
        case.pass(2 * 3_600);
        assert!(case.must(Input::Deadline).is_empty());
        assert!(workflow::next_deadline(&case.incident).unwrap() > at(4 * 3_600));
        // When it is over, the plan is too old, and is made anew.
        case.now = at(4 * 3_600);
        assert!(matches!(case.gates()[..], [Event::PlanningStarted { .. }]));
        case.plan("mend");
        case.gates();
        let expected = if policy.require_approval { "awaiting_approval" } else { "executing" };
        assert_eq!(case.phase(), expected);
    }
}

#[test]
fn a_freeze_also_holds_what_was_approved_but_not_p0_where_that_is_allowed() {
    for (allow_p0, p0, held) in [(true, true, false), (true, false, true), (false, true, true)] {
        let mut case = Case::new(with_approval());
        if p0 {
            let (priority, severity) = (Priority::P0, Severity::Critical);
            case.must(Input::AlertUrgency { priority, severity });
        }
        case.reach_decided();
        let digest = case.incident.proposal().unwrap().digest;
        case.must(Input::Approve { by: "ann".to_owned(), digest });
        case.world.windows = window(WindowKind::Freeze { allow_p0 }, 60);
        case.gates();
        assert_eq!(started(&case).is_empty(), held, "allow_p0 {allow_p0}, P0 {p0}");
        if held {
            case.now = at(60);
            case.gates();
        }
        assert_eq!(started(&case), [(0, false)]);
    }
}

#[test]
fn while_it_flaps_only_a_person_acts() {
    let flaps = |case: &mut Case| {
        let flapping = Flapping { key: case.key(), transitions: 6, until: at(200) };
        case.must(Input::Alerts(Box::new(AlertBatch { flapping: Some(flapping), ..AlertBatch::default() })));
    };
    let mut case = Case::new(auto());
    case.reach_decided();
    flaps(&mut case);
    case.gates();
    assert!(started(&case).is_empty());
    assert!(quell_incident::view::to_json(&case.incident)["flapping"]["transitions"] == 6);
    case.now = at(200);
    case.gates();
    assert_eq!(started(&case), [(0, false)], "quiet for long enough");
    let mut case = Case::new(with_approval());
    case.reach_decided();
    let digest = case.incident.proposal().unwrap().digest;
    flaps(&mut case);
    case.must(Input::Approve { by: "ann".to_owned(), digest });
    case.gates();
    assert_eq!(started(&case), [(0, false)]);
}

#[test]
fn an_incident_waits_for_the_plan_of_another_one_and_says_so_once() {
    let mut case = Case::new(auto());
    case.reach_diagnosing();
    case.diagnose(0.9);
    let other = quell_incident::IncidentId(uuid::Uuid::from_u128(77));
    let taken = |case: &Case| {
        let Phase::Planning { asking, .. } = &case.incident.phase else {
            panic!("{:?}", case.incident.phase)
        };
        let answer = PlanAnswer::Taken {
            incident_id: other,
            runbook: "mend".parse().unwrap(),
            targets: vec!["alpha".parse().unwrap()],
            until: case.now,
        };
        Input::Plan { task: asking.task.clone(), answer }
    };
    let said = case.must(taken(&case));
    assert!(matches!(&said[..], [Event::PlanningWaits { on, .. }] if *on == other), "{said:?}");
    assert!(
        quell_incident::view::summary(&case.incident).contains(&format!("incident {other} has the plan"))
    );
    // However often it hears of it, and however long it takes.
    for _ in 0..10 {
        case.pass(60);
        assert!(case.must(taken(&case)).is_empty());
    }
    // A person is asked in the end.
    case.pass(3_600);
    case.must(Input::Deadline);
    let Phase::Escalated { why, .. } = &case.incident.phase else { panic!("{:?}", case.incident.phase) };
    assert!(why.to_string().contains("waited too long: incident"), "{why}");
}

/// A source that lost an alert and has it back says the same start again: long after its end that is no late message.
#[test]
fn the_same_start_again_is_late_until_five_minutes_after_its_end_was_heard_of() {
    let mut case = Case::new(auto());
    let (ended, alert) = (at(1), alert("ShopSlow"));
    // The end is told long after it was.
    case.pass(600);
    case.must(Input::AlertCleared { key: case.key(), at: ended });
    let begins_anew = |seconds| {
        let now = case.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        workflow::begins_anew(&case.incident, &alert, now)
    };
    assert!(!begins_anew(0) && !begins_anew(299));
    assert!(begins_anew(300));
}
