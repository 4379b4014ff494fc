//! How far Quell goes by itself follows from what is declared; what telemetry says lowers it at the most.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use std::sync::Arc;

use common::*;

use quell_incident::alert::Alert;
use quell_incident::correlation::JoinedBy;
use quell_incident::event::Event;
use quell_incident::gate::AlertNow;
use quell_incident::ids::RunbookName;
use quell_incident::incident::{Phase, Why};
use quell_incident::plan::{DeclaredTarget, Plan};
use quell_incident::workflow::{AlertBatch, Autonomy, AutonomyOverride, FiredAlert, Input, Policy};

fn row(level: Autonomy) -> AutonomyOverride {
    AutonomyOverride { source: None, service: None, target: None, runbook: None, level }
}

fn service(name: &str, level: Autonomy) -> AutonomyOverride {
    AutonomyOverride { service: Some(name.to_owned()), ..row(level) }
}

fn source(name: &str, level: Autonomy) -> AutonomyOverride {
    AutonomyOverride { source: Some(name.to_owned()), ..row(level) }
}

fn target_row(name: &str, level: Autonomy) -> AutonomyOverride {
    AutonomyOverride { target: Some(name.to_owned()), ..row(level) }
}

fn runbook_row(name: &str, level: Autonomy) -> AutonomyOverride {
    AutonomyOverride { runbook: Some(name.to_owned()), ..row(level) }
}

fn joins(case: &mut Case, alert: Alert) {
    let joined = Some(JoinedBy::Rule { rule: "same-host".to_owned() });
    case.world.alerts.insert(alert.key.clone(), AlertNow::Firing);
    let fired = vec![FiredAlert { alert: Arc::new(alert), joined, group: None, affected: None }];
    case.must(Input::Alerts(Box::new(AlertBatch { fired, ..AlertBatch::default() })));
}

fn of_service(name: &str) -> DeclaredTarget {
    DeclaredTarget { service: Some(name.to_owned()), ..DeclaredTarget::default() }
}

/// As far as the case goes with a plan of these declarations: the phase that a person finds.
fn goes(case: &mut Case, declared: &[(&str, DeclaredTarget)]) -> &'static str {
    let plan = plan_of(case, declared);
    answer(case, plan);
    case.gates();
    case.phase()
}

fn planning(policy: Policy) -> Case {
    let mut case = Case::new(policy);
    case.reach_diagnosing();
    case.diagnose(0.9);
    case
}

#[test]
fn a_label_does_not_raise_the_level_of_another_services_target() {
    // The alert of the case has the label service=shop; the plan's targets are other services' or nobody's.
    for declared in [
        vec![],
        vec![("db-1", of_service("billing")), ("shop", of_service("billing"))],
        // One target of two is not enough.
        vec![("shop", of_service("shop"))],
    ] {
        let mut case = planning(policy(Autonomy::Approve, &[service("shop", Autonomy::Auto)]));
        assert_eq!(goes(&mut case, &declared), "awaiting_approval", "{declared:?}");
    }
    let mut case = planning(policy(Autonomy::Approve, &[service("shop", Autonomy::Auto)]));
    let both = [("db-1", of_service("shop")), ("shop", of_service("shop"))];
    assert_eq!(goes(&mut case, &both), "executing", "what is declared of every target raises it");
}

#[test]
fn a_service_is_held_back_whoever_says_that_it_is_concerned() {
    let suggest = policy(Autonomy::Auto, &[service("order_service", Autonomy::Suggest)]);
    let known_as = DeclaredTarget { known_as: vec!["order_service".to_owned()], ..DeclaredTarget::default() };
    for declared in [of_service("order_service"), known_as] {
        let mut case = planning(suggest.clone());
        assert_eq!(goes(&mut case, &[("shop", declared.clone())]), "escalated", "{declared:?}");
    }
    for labels in [
        [("alertname", "B"), ("service", "order_service")],
        [("alertname", "B"), ("service", " Order_Service ")],
        [("alertname", "B"), ("exported_service", "order_service")],
        [("alertname", "B"), ("deployment", "order_service")],
        [("alertname", "B"), ("instance", "order_service:9090")],
    ] {
        let mut case = planning(suggest.clone());
        joins(&mut case, from("alertmanager", &labels));
        assert_eq!(goes(&mut case, &[]), "escalated", "{labels:?}");
    }
    // Also where what is declared raises the level.
    let rows = [service("shop", Autonomy::Auto), service("order_service", Autonomy::Approve)];
    let mut case = planning(policy(Autonomy::Suggest, &rows));
    joins(&mut case, from("alertmanager", &[("alertname", "B"), ("service", "order_service")]));
    let both = [("db-1", of_service("shop")), ("shop", of_service("shop"))];
    assert_eq!(goes(&mut case, &both), "awaiting_approval");
    // By the target's own name, without a word from anybody.
    let mut case = planning(policy(Autonomy::Auto, &[service("db-1", Autonomy::Suggest)]));
    assert_eq!(goes(&mut case, &[]), "escalated");
    let mut case = planning(policy(Autonomy::Auto, &[target_row("db-1", Autonomy::Approve)]));
    assert_eq!(goes(&mut case, &[]), "awaiting_approval");
    let mut case = planning(suggest);
    assert_eq!(goes(&mut case, &[("shop", of_service("shop"))]), "executing", "it concerns no other service");
}

#[test]
fn a_source_that_joins_raises_nothing_wherever_its_name_is_sorted() {
    for name in ["aaa", "zzz"] {
        let observe = policy(Autonomy::Observe, &[source(name, Autonomy::Auto)]);
        let mut case = Case::new(observe.clone());
        joins(&mut case, from(name, &[("alertname", "B")]));
        case.reach_diagnosing();
        case.diagnose(0.9);
        let Phase::Escalated { why, .. } = &case.incident.phase else { panic!("{}", case.phase()) };
        assert_eq!(*why, Why::ObserveOnly);
        // It holds back what it joins.
        let mut case = planning(policy(Autonomy::Auto, &[source(name, Autonomy::Suggest)]));
        joins(&mut case, from(name, &[("alertname", "B")]));
        assert_eq!(goes(&mut case, &[]), "escalated");
    }
    let mut case = planning(policy(Autonomy::Approve, &[source("alertmanager", Autonomy::Auto)]));
    assert_eq!(goes(&mut case, &[]), "executing", "all alerts are of that source");
}

#[test]
fn a_source_is_not_forgotten_when_its_alerts_are_only_counted_or_have_cleared() {
    let mut case = planning(policy(Autonomy::Approve, &[source("alertmanager", Autonomy::Auto)]));
    let other = from("other", &[("alertname", "B"), ("service", "order_service")]);
    let key = other.key.clone();
    joins(&mut case, other);
    case.must(Input::AlertCleared { key, at: case.now });
    for number in 0..120 {
        let number = number.to_string();
        joins(&mut case, from("alertmanager", &[("alertname", "C"), ("instance", &number)]));
    }
    assert!(
        case.incident.alerts.keys().all(|key| key.source.as_str() == "alertmanager"),
        "the sample has it no more"
    );
    assert!(case.incident.may_concern("order_service"));
    assert_eq!(goes(&mut case, &[]), "awaiting_approval");
}

#[test]
fn the_services_of_alerts_that_are_only_counted_are_known() {
    let mut case = planning(policy(Autonomy::Auto, &[service("order_service", Autonomy::Suggest)]));
    let storm = (0..300).map(|number| {
        let (number, service) = (number.to_string(), if number == 299 { "order_service" } else { "cart" });
        let alert = from("alertmanager", &[("alertname", "C"), ("instance", &number), ("service", service)]);
        FiredAlert { alert: Arc::new(alert), joined: None, group: None, affected: None }
    });
    let fired = storm.collect();
    case.must(Input::Alerts(Box::new(AlertBatch { fired, ..AlertBatch::default() })));
    assert!(case.incident.alerts.len() <= 100);
    assert_eq!(goes(&mut case, &[]), "escalated");
    // Of so many services that they are not all kept, any may be concerned.
    let mut case = planning(policy(Autonomy::Auto, &[service("order_service", Autonomy::Suggest)]));
    for number in 0..1_100 {
        let number = number.to_string();
        joins(&mut case, from("alertmanager", &[("alertname", "C"), ("service", &number)]));
    }
    assert_eq!(goes(&mut case, &[]), "escalated");
}

#[test]
fn what_the_inventory_and_the_runbook_declare_is_a_ceiling() {
    let ceiling = |level| DeclaredTarget { level: Some(level), ..DeclaredTarget::default() };
    let mut case = planning(auto());
    assert_eq!(goes(&mut case, &[("db-1", ceiling(Autonomy::Approve))]), "awaiting_approval");
    let mut case = planning(policy(Autonomy::Approve, &[]));
    assert_eq!(
        goes(&mut case, &[("db-1", ceiling(Autonomy::Auto))]),
        "awaiting_approval",
        "it raises nothing"
    );
    for (level, phase) in [(Autonomy::Approve, "awaiting_approval"), (Autonomy::Suggest, "escalated")] {
        let mut case = planning(auto());
        let plan = Plan { level: Some(level), ..plan_of(&case, &[]) };
        answer(&mut case, plan);
        case.gates();
        assert_eq!(case.phase(), phase);
    }
}

#[test]
fn the_lowest_row_counts_but_for_exceptions_that_come_first_and_name_more() {
    let shop = [("db-1", of_service("shop")), ("shop", of_service("shop"))];
    let mend_in_shop =
        AutonomyOverride { runbook: Some("mend".to_owned()), ..service("shop", Autonomy::Auto) };
    for (rows, phase) in [
        (vec![runbook_row("mend", Autonomy::Auto), service("shop", Autonomy::Suggest)], "escalated"),
        (vec![service("shop", Autonomy::Suggest), runbook_row("mend", Autonomy::Auto)], "escalated"),
        (vec![mend_in_shop.clone(), service("shop", Autonomy::Suggest)], "executing"),
        (vec![service("shop", Autonomy::Suggest), mend_in_shop.clone()], "escalated"),
        // The exception is for the runbook in the shop, and does not open what the source closes.
        (vec![mend_in_shop.clone(), source("alertmanager", Autonomy::Suggest)], "escalated"),
        (vec![service("shop", Autonomy::Auto), service("shop", Autonomy::Suggest)], "executing"),
        (vec![runbook_row("other", Autonomy::Suggest)], "awaiting_approval"),
    ] {
        let mut case = planning(policy(Autonomy::Approve, &rows));
        assert_eq!(goes(&mut case, &shop), phase, "{rows:?}");
    }
}

#[test]
fn before_there_is_a_plan_telemetry_can_only_forbid_one() {
    let observed = |policy: Policy| {
        let mut case = Case::new(policy);
        case.reach_diagnosing();
        case.diagnose(0.9);
        case.phase()
    };
    // Of which target the plan will be is not known; the label on the alert is no reason to believe it.
    for name in ["shop", "billing"] {
        assert_eq!(observed(policy(Autonomy::Observe, &[service(name, Autonomy::Auto)])), "planning");
    }
    assert_eq!(observed(policy(Autonomy::Observe, &[source("other", Autonomy::Auto)])), "escalated");
    assert_eq!(observed(policy(Autonomy::Auto, &[service("shop", Autonomy::Observe)])), "escalated");
    assert_eq!(observed(policy(Autonomy::Auto, &[service("billing", Autonomy::Observe)])), "planning");
    assert_eq!(observed(policy(Autonomy::Observe, &[runbook_row("mend", Autonomy::Auto)])), "planning");
    // And what is observed only is not done when the plan is of another target.
    let mut case = planning(policy(Autonomy::Observe, &[service("billing", Autonomy::Auto)]));
    assert_eq!(goes(&mut case, &[("shop", of_service("shop"))]), "escalated");
}

#[test]
fn the_level_is_frozen_with_its_reasons_and_only_sinks_until_there_is_another_plan() {
    let mut case = planning(auto());
    let plan = plan_of(&case, &[("shop", of_service("shop"))]);
    let events = answer(&mut case, plan);
    let [Event::Planned { autonomy, .. }] = &events[..] else { panic!("{events:?}") };
    let said: Vec<_> =
        autonomy.reasons.iter().map(|reason| format!("{}: {}", reason.what, reason.level)).collect();
    assert_eq!(
        said,
        [
            "target db-1, which declares no service: coordinator.autonomy: auto",
            "target shop (service shop): coordinator.autonomy: auto"
        ]
    );
    assert!(quell_incident::view::describe(&events[0]).contains("autonomy auto (target db-1"), "{events:?}");
    assert_eq!(quell_incident::view::to_json(&case.incident)["autonomy"]["level"], "auto");
    case.gates();
    case.do_step();
    // A changed setting holds back the next step, and raising it again does not undo what was said meanwhile by an alert.
    case.policy.autonomy_overrides = vec![service("order_service", Autonomy::Approve)];
    joins(&mut case, from("alertmanager", &[("alertname", "B"), ("service", "order_service")]));
    case.gates();
    let Phase::Escalated { why, .. } = &case.incident.phase else { panic!("{}", case.phase()) };
    let why = why.to_string();
    assert!(
        why.contains("approval") && why.contains("the alerts: the override for service order_service"),
        "{why}"
    );

    let mut case = planning(policy(Autonomy::Approve, &[]));
    assert_eq!(goes(&mut case, &[]), "awaiting_approval");
    case.policy.autonomy = Autonomy::Auto;
    let Phase::AwaitingApproval { proposal, .. } = &case.incident.phase else { panic!() };
    assert_eq!(proposal.autonomy.level, Autonomy::Approve);
    let digest = proposal.digest;
    case.must(Input::Approve { by: "ann".to_owned(), digest });
    case.policy.autonomy = Autonomy::Suggest;
    case.gates();
    let Phase::Escalated { why, .. } = &case.incident.phase else { panic!("{}", case.phase()) };
    assert!(why.to_string().contains("the autonomy level is suggest"), "{why}");
}

#[test]
fn a_runbook_that_a_person_chose_is_held_to_the_same_level() {
    let mut case = planning(policy(Autonomy::Auto, &[service("order_service", Autonomy::Approve)]));
    case.must(Input::TakeOver { by: "ann".to_owned() });
    let runbook = RunbookName::declared("mend").unwrap();
    case.must(Input::RunRunbook { by: "ann".to_owned(), runbook });
    assert_eq!(goes(&mut case, &[("shop", of_service("order_service"))]), "awaiting_approval");
}
