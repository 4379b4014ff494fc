//! What an agent is asked is fixed by the event that asks: asked again after a crash, it is the same request, byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use common::*;
use quell_incident::severity::{Priority, Severity};
use quell_incident::workflow::{self, DutyKind, Input};

/// The request that is due, as it goes to the agent.
fn request(case: &Case) -> (String, String) {
    let duty = workflow::duties(&case.incident).remove(0);
    let bytes = match &duty.kind {
        DutyKind::Diagnose => serde_json::to_string(&workflow::diagnose_request(&case.incident).unwrap()),
        DutyKind::Plan => serde_json::to_string(&workflow::plan_request(&case.incident).unwrap()),
        other => panic!("{other:?}"),
    };
    (duty.key, bytes.unwrap())
}

/// Whatever can still happen to an incident while an agent is asked.
fn meanwhile(case: &mut Case) {
    case.pass(1);
    for number in 0..130 {
        // More than the sample holds, from before and from after the first one.
        let mut other = alert(&format!("Other{number}"));
        other.starts_at = at(if number % 2 == 0 { -500 } else { 5 });
        case.must(Input::AlertFiring(Box::new(other)));
    }
    case.must(Input::AlertUrgency { priority: Priority::P0, severity: Severity::Critical });
    let keys: Vec<_> = case.incident.alerts.keys().cloned().collect();
    for (number, key) in keys.into_iter().enumerate().skip(1) {
        match number % 3 {
            0 => drop(case.must(Input::AlertCleared { key, at: case.now })),
            1 => drop(case.must(Input::AlertSuppressed { key, by: Some("silence".to_owned()) })),
            _ => {}
        }
    }
    case.must(Input::Acknowledge { by: "ann".to_owned() });
}

#[test]
fn an_alert_that_joins_while_an_agent_is_asked_changes_nothing_of_what_it_was_asked() {
    let diagnosing: fn(&mut Case) = Case::reach_diagnosing;
    let planning: fn(&mut Case) = |case| {
        case.reach_diagnosing();
        case.diagnose(0.9);
    };
    for reach in [diagnosing, planning] {
        let mut case = Case::new(auto());
        reach(&mut case);
        let asked = request(&case);
        meanwhile(&mut case);
        assert_eq!(request(&case), asked);
        // What a process that begins anew reads from the log.
        case.incident = workflow::replay(&case.log).unwrap();
        assert_eq!(request(&case), asked);
        // The next request is another one, and knows what has happened.
        let task = asked.0.parse().unwrap();
        case.must(Input::TaskFailed { task, why: "down".to_owned(), for_good: false });
        let next = request(&case);
        assert!(next.0 != asked.0 && next.1.contains("Other"), "{next:?}");
    }
}
