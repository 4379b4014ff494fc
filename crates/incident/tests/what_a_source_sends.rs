//! Whatever a source can send, nothing of it raises a level, names a target, or widens a plan.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::*;
use jiff::SignedDuration;
use proptest::prelude::*;

use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::correlation::{Flapping, GroupId, JoinedBy};
use quell_incident::event::{Cleared, Event};
use quell_incident::gate::{AlertNow, World};
use quell_incident::ids::SourceName;
use quell_incident::incident::Phase;
use quell_incident::plan::DeclaredTarget;
use quell_incident::severity::{Priority, Severity};
use quell_incident::workflow::{AlertBatch, Autonomy, AutonomyOverride, FiredAlert, Input};

const WORDS: [&str; 6] = ["shop", "billing", "db-1", "order_service", "", "aaa"];
const SOURCES: [&str; 3] = ["alertmanager", "aaa", "zzz"];
const LEVELS: [Autonomy; 4] = [Autonomy::Observe, Autonomy::Suggest, Autonomy::Approve, Autonomy::Auto];

fn levels() -> impl Strategy<Value = Autonomy> {
    prop::sample::select(LEVELS.to_vec())
}

fn maybe(words: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::sample::select(words).prop_map(str::to_owned))
}

fn rows() -> impl Strategy<Value = Vec<AutonomyOverride>> {
    let row =
        (maybe(&SOURCES), maybe(&WORDS[..4]), maybe(&["db-1", "shop"]), maybe(&["mend", "other"]), levels())
            .prop_map(|(source, service, target, runbook, level)| AutonomyOverride {
                source,
                service,
                target,
                runbook,
                level,
            });
    prop::collection::vec(row, 0..6)
}

fn declarations() -> impl Strategy<Value = BTreeMap<String, DeclaredTarget>> {
    let known_as = prop::collection::vec(prop::sample::select(&WORDS[..4]).prop_map(str::to_owned), 0..2);
    let declared = (maybe(&WORDS[..4]), prop::option::weighted(0.2, levels()), known_as)
        .prop_map(|(service, level, known_as)| DeclaredTarget { service, level, known_as });
    prop::collection::btree_map(
        prop::sample::select(&["db-1", "shop"][..]).prop_map(str::to_owned),
        declared,
        0..3,
    )
}

/// An alert as anybody may send it: any labels and annotations, of any source.
fn alerts() -> impl Strategy<Value = Alert> {
    let names = prop::sample::select(
        &["service", "instance", "severity", "app", "target", "runbook", "autonomy", "level", "component"][..],
    );
    let words = prop_oneof![
        4 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(&["critical", "auto", "P0", "mend", "shop:9090"][..]).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ];
    let texts = prop::collection::btree_map(names.prop_map(str::to_owned), words, 0..5);
    (prop::sample::select(&SOURCES[..]), texts.clone(), texts, 0u8..4).prop_map(
        |(source, labels, annotations, name)| {
            let mut labels: Labels = labels.into_iter().collect();
            labels.insert("alertname", ["ShopSlow", "ShopDown", "DbDown", "mend"][usize::from(name)]);
            let key = AlertKey {
                source: SourceName::declared(source).unwrap(),
                fingerprint: Fingerprint::of(&labels),
            };
            let annotations = annotations.into_iter().collect();
            let status = AlertStatus::Firing;
            Alert { key, status, labels, annotations, starts_at: at(1), ends_at: None, generator_url: None }
        },
    )
}

/// What a source can make the coordinator decide about an incident that is there.
fn sent() -> impl Strategy<Value = Vec<(Alert, u8)>> {
    prop::collection::vec((alerts(), any::<u8>()), 0..8)
}

fn input_of(case: &Case, alert: &Alert, how: u8) -> Input {
    let group = GroupId::of_message(&alert.key.source, Some("{}:{alertname=\"ShopSlow\"}"));
    let joined = Some(JoinedBy::Rule { rule: "same-host".to_owned() });
    let fired = |joined, group| FiredAlert { alert: Arc::new(alert.clone()), joined, group, affected: None };
    match how % 8 {
        0 => Input::AlertFiring(Box::new(alert.clone())),
        1 | 2 => {
            let urgency = Some((Priority::P0, Severity::Critical));
            let fired = vec![fired(joined, Some(group))];
            Input::Alerts(Box::new(AlertBatch { fired, urgency, ..AlertBatch::default() }))
        }
        3 => Input::AlertUrgency { priority: Priority::P0, severity: Severity::Critical },
        4 => {
            Input::AlertSuppressed { key: alert.key.clone(), by: (how > 100).then(|| "a silence".to_owned()) }
        }
        5 => {
            let truncated = [(group, u64::from(how))].into();
            Input::Alerts(Box::new(AlertBatch { truncated, ..AlertBatch::default() }))
        }
        6 => {
            let until = case.now.saturating_add(SignedDuration::from_secs(60)).unwrap();
            let flapping = Some(Flapping { key: alert.key.clone(), transitions: 9, until });
            Input::Alerts(Box::new(AlertBatch { flapping, ..AlertBatch::default() }))
        }
        _ => {
            let cleared = vec![Cleared { key: alert.key.clone(), at: case.now }];
            Input::Alerts(Box::new(AlertBatch {
                fired: vec![fired(None, None)],
                cleared,
                ..AlertBatch::default()
            }))
        }
    }
}

/// Sends one thing; what a source sends never plans, asks, approves or starts anything.
fn send(case: &mut Case, alert: &Alert, how: u8) {
    let input = input_of(case, alert, how);
    let plan = case.incident.plan.clone();
    let Ok(events) = case.input(input) else { return };
    for event in &events {
        let kind = event.kind();
        let acts = [
            "planning_started",
            "planned",
            "approval_asked",
            "approved",
            "execution_started",
            "step_started",
        ];
        assert!(!acts.contains(&kind), "{alert:?} made {kind}");
    }
    assert_eq!(case.incident.plan, plan, "the plan is what it was");
}

fn level_of(case: &Case, declared: &BTreeMap<String, DeclaredTarget>) -> Autonomy {
    let declared: Vec<_> =
        declared.iter().map(|(name, declared)| (name.as_str(), declared.clone())).collect();
    case.policy.autonomy_of(&case.incident, &plan_of(case, &declared)).level
}

/// The world in which every alert still fires.
fn all_fire(case: &Case) -> World {
    let alerts = case.incident.members.iter().map(|member| (member.key.clone(), AlertNow::Firing)).collect();
    World { alerts, ..case.look_world() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_source_sends_raises_a_level(
        level in levels(),
        rows in rows(),
        declared in declarations(),
        sent in sent(),
    ) {
        let mut case = Case::new(policy(level, &rows));
        let (mut known, mut may) = (level_of(&case, &declared), case.policy.may_plan(&case.incident));
        for (alert, how) in &sent {
            send(&mut case, alert, *how);
            let now = (level_of(&case, &declared), case.policy.may_plan(&case.incident));
            prop_assert!(now.0 <= known, "{alert:?} raised {known} to {}", now.0);
            prop_assert!(may || !now.1, "{alert:?} lets a plan be made");
            (known, may) = now;
        }
    }

    #[test]
    fn the_labels_of_the_alert_that_opens_it_raise_nothing(
        level in levels(),
        rows in rows(),
        declared in declarations(),
        labels in alerts(),
    ) {
        let bare = from(labels.key.source.as_str(), &[("alertname", "ShopSlow")]);
        let policy = policy(level, &rows);
        let (bare, labelled) = (Case::opened_by(bare, policy.clone()), Case::opened_by(labels, policy));
        prop_assert!(level_of(&labelled, &declared) <= level_of(&bare, &declared));
        prop_assert!(bare.policy.may_plan(&bare.incident) || !labelled.policy.may_plan(&labelled.incident));
    }

    /// With a plan in hand, what is sent names no target and adds no step: what runs is a beginning of the plan that was taken, at the
    /// level that it was taken with or a lower one.
    #[test]
    fn nothing_that_a_source_sends_names_a_target_or_widens_a_plan(
        level in levels(),
        rows in rows(),
        declared in declarations(),
        before in sent(),
        after in sent(),
        text in "\\PC{0,40}",
    ) {
        let mut case = Case::new(policy(level, &rows));
        before.iter().for_each(|(alert, how)| send(&mut case, alert, *how));
        case.pass(6);
        case.must(Input::Deadline);
        let Phase::Diagnosing(asking) = &case.incident.phase else { return Ok(()) };
        let task = asking.task.clone();
        let mut said = report(case.incident.id, 0.9);
        if let Some(cause) = &mut said.root_cause {
            // What the report cites is telemetry's text.
            cause.statement.clone_from(&text);
            cause.subject.service = text;
        }
        case.must(Input::Report { task, report: Box::new(said) });
        if case.phase() != "planning" {
            return Ok(());
        }
        let plan = plan_of(&case, &declared.iter().map(|(name, d)| (name.as_str(), d.clone())).collect::<Vec<_>>());
        answer(&mut case, plan.clone());
        let taken = case.incident.proposal().unwrap().autonomy.level;
        let mut started = Vec::new();
        let mut after = after.iter();
        for _ in 0..8 {
            if let Some((alert, how)) = after.next() {
                send(&mut case, alert, *how);
            }
            let looks = matches!(case.phase(), "held" | "executing") && case.incident.run().is_none();
            if !looks {
                if case.incident.run().is_some() {
                    let now = case.now;
                    case.outcome(done(now));
                }
                continue;
            }
            let world = all_fire(&case);
            for event in case.must(Input::Gates(Box::new(world))) {
                if let Event::StepStarted { index, takes, lock, .. } = event {
                    prop_assert!(takes.iter().chain([&lock]).all(|lock| plan.targets().contains(&lock.target)));
                    prop_assert!(taken == Autonomy::Auto, "{taken} ran without an approval");
                    started.push(index);
                }
            }
        }
        prop_assert!(started.iter().copied().eq(0..started.len()), "{started:?}");
        prop_assert!(started.len() <= plan.steps.len());
    }
}
