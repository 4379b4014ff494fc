//! What rules read besides series and lines: the platform, health checks, changes and who calls whom.

mod world;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use quell_diagnose::{RuleSet, RuleSource, diagnose};
use quell_incident::Report;
use quell_incident::evidence::{EvidenceSet, Unavailable};
use quell_incident::report::{EvidenceData, EvidenceKind};
use quell_incident::surroundings::{
    ChangeRecord, Edge, HealthCheck, HealthSet, PlatformEvent, PlatformObject, PlatformSet, Topology,
};
use world::{at, fault, request_for};

#[allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
fn rules(when: &str, signals: &str) -> RuleSet {
    let text = format!(
        r#"schema: quell/rules/v1
rules:
  - name: own
    cause: own
    root_cause: "{{service}} is at fault"
    base_confidence: 0.9
    per: [service]
    signals:
      {signals}
    subject: {{service: [main.service]}}
    when:
      {when}
"#
    );
    RuleSet::load(&[RuleSource { name: "own.yaml".to_owned(), text }]).unwrap()
}

fn pod(name: &str, service: &str, state: &str) -> PlatformObject {
    PlatformObject {
        kind: "Pod".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        service: service.to_owned(),
        state: state.to_owned(),
        changed_at: Some(at(fault() + 10)),
        ..PlatformObject::default()
    }
}

fn event(second: i64, name: &str, service: &str, reason: &str, message: &str) -> PlatformEvent {
    PlatformEvent {
        at: at(second),
        kind: "Pod".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        service: service.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        count: 3,
        warning: true,
    }
}

fn check(name: &str, healthy: bool) -> HealthCheck {
    let message = if healthy { "200" } else { "connection refused" }.to_owned();
    HealthCheck { at: at(fault() + 100), name: name.to_owned(), healthy, seconds: 0.2, message }
}

fn change(second: i64, service: &str) -> ChangeRecord {
    ChangeRecord {
        at: at(second),
        kind: "deploy".to_owned(),
        service: service.to_owned(),
        version: "2.1".to_owned(),
        by: "pipeline".to_owned(),
        summary: "release 2.1".to_owned(),
        link: String::new(),
    }
}

fn evidence() -> EvidenceSet {
    let platform = PlatformSet {
        source: "kubernetes".to_owned(),
        query: "pods and events of shop".to_owned(),
        objects: vec![
            pod("orders-1", "orders", "Stuck"),
            PlatformObject { ready: true, ..pod("mail-1", "mail", "Running") },
        ],
        events: vec![
            event(10, "orders-1", "orders", "BackOff", "long before"),
            event(fault() - 200, "orders-1", "orders", "BackOff", "before the alert, and of the fault"),
            event(fault() + 20, "orders-1", "orders", "BackOff", "back-off 5 restarting"),
        ],
        truncated: false,
    };
    let health = HealthSet {
        source: "http-health".to_owned(),
        query: "GET /health of 2".to_owned(),
        checks: vec![check("payments", false), check("users", true)],
    };
    EvidenceSet {
        platform: vec![platform],
        health: vec![health],
        changes: vec![change(fault() - 300, "orders"), change(fault() - 100, "search")],
        ..EvidenceSet::default()
    }
}

fn run(rules: &RuleSet, evidence: &EvidenceSet) -> Report {
    diagnose(&request_for("Anything", &[("service", "orders")]), evidence, rules)
}

/// The confidence in the rule's own cause for a service.
fn own(report: &Report, service: &str) -> f64 {
    let mut all = report.root_cause.iter().chain(&report.alternatives);
    all.find(|one| one.cause == "own" && one.subject.service == service).map_or(0.0, |one| one.confidence)
}

#[test]
fn each_kind_is_cited_by_its_own_evidence() {
    let signals = "main: {object: {kind: [Pod], state: [stuck]}}
      told: {event: {reason: [BackOff]}}
      deploys: {change: {kind: [deploy], within: 10m}}
      checks: {health: {}, about: dependencies}";
    let when = r#"- {group: object, share: 0.25, if: main.count == 1.0 && main.total == 1.0 && main.unready == 1.0, says: "{main.count} of {main.total}"}
      - {group: event, share: 0.25, if: told.count == 6.0 && told.before == 3.0 && told.objects == 1.0 && told.minutes_ago < 2.0, says: "told {told.count} times"}
      - {group: change, share: 0.25, if: deploys.count == 1.0 && deploys.minutes_ago > 6.0, says: "changed {deploys.minutes_before} minutes before"}
      - {group: health, share: 0.25, if: checks.failed == 1.0 && checks.count == 1.0 && checks.seconds > 0.1, says: "{checks.failed} fail"}"#;
    let mut evidence = evidence();
    let edge = Edge { caller: "orders".to_owned(), callee: "payments".to_owned() };
    evidence.topology = Topology { edges: vec![edge] };
    let report = run(&rules(when, signals), &evidence);
    let cause = report.root_cause.clone().unwrap();
    assert_eq!((cause.cause.as_str(), cause.subject.service.as_str()), ("own", "orders"), "{report:#?}");
    assert_eq!(cause.claims.len(), 4, "{:#?}", cause.claims);
    let cited: BTreeSet<&String> = cause.claims.iter().flat_map(|claim| &claim.evidence).collect();
    let kinds: BTreeSet<EvidenceKind> =
        report.evidence.iter().filter(|one| cited.contains(&one.id)).map(|one| one.kind).collect();
    assert_eq!(kinds, [EvidenceKind::Platform, EvidenceKind::Health, EvidenceKind::Change].into());
    for one in &report.evidence {
        let letter = match one.data {
            EvidenceData::Object(_) | EvidenceData::Event(_) => "p",
            EvidenceData::Health(_) => "h",
            EvidenceData::Change(_) => "c",
            _ => "m",
        };
        assert!(one.id.starts_with(letter), "{one:?}");
        assert!(!one.summary.is_empty() && !one.query.is_empty());
    }
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    let mut turned = evidence.clone();
    turned.platform[0].objects.reverse();
    turned.platform[0].events.reverse();
    turned.health[0].checks.reverse();
    turned.changes.reverse();
    assert_eq!(run(&rules(when, signals), &turned), report);
}

#[test]
fn a_source_that_is_missing_is_unseen_and_one_that_says_nothing_is_silent() {
    for (signal, condition) in [
        ("{event: {reason: [BackOff]}}", "other.count >= 1.0"),
        ("{object: {kind: [Pod], state: [Stuck]}}", "other.present"),
        ("{health: {}, about: any}", "other.failed >= 1.0"),
        ("{change: {kind: [deploy]}}", "other.present"),
    ] {
        let signals = format!("main: {{metric: queue_depth}}\n      other: {signal}");
        let when = format!(
            r#"- {{group: metric, share: 0.6, if: main.last > 5.0, says: "deep"}}
      - {{group: other, share: 0.4, if: {condition}, says: "told"}}"#
        );
        let rules = rules(&when, &signals);
        let mut whole = evidence();
        whole.metrics = world::evidence(world::Scenario::Healthy, 1).metrics;
        let mut series = whole.metrics[0].series[0].clone();
        series.metric = "queue_depth".to_owned();
        series.labels = [("service", "orders")].into_iter().collect();
        series.points.iter_mut().for_each(|point| point.value = 9.0);
        whole.metrics[0].series = vec![series];
        let missing = EvidenceSet { metrics: whole.metrics.clone(), ..EvidenceSet::default() };
        let mut silent = whole.clone();
        silent.platform[0].events.clear();
        silent.platform[0].objects[0].state = "Running".to_owned();
        silent.health[0].checks = vec![check("payments", true)];
        silent.changes = vec![change(fault() - 100, "search")];
        // A tool that did not answer may have what another source has not.
        let mut partly = silent.clone();
        for source in ["platform-state", "health-check"] {
            let (source, query) = (source.to_owned(), "all".to_owned());
            partly.unavailable.push(Unavailable { source, query, why: "refused".to_owned() });
        }
        let confidence = |evidence: &EvidenceSet| own(&run(&rules, evidence), "orders");
        let (all, unseen, said_nothing) = (confidence(&whole), confidence(&missing), confidence(&silent));
        assert!(
            all > unseen && unseen > said_nothing && said_nothing > 0.0,
            "{signal}: {all} {unseen} {said_nothing}"
        );
        if !signal.contains("change") {
            assert_eq!(confidence(&partly), unseen, "{signal}");
        }
    }
}

#[test]
fn changes_count_only_before_the_fault_and_for_their_service() {
    let signals = "main: {object: {kind: [Pod], state: [Stuck]}}\n      deploys: {change: {within: 10m}}";
    let when = r#"- {group: change, share: 1.0, if: deploys.present && main.present, says: "{deploys.count} changes"}"#;
    let rules = rules(when, signals);
    for (second, service, counts) in [
        (fault() - 300, "orders", true),
        (fault() - 300, "Orders_x", false),
        (fault() - 300, "", false),
        (fault() - 1_500, "orders", false),
        (fault() + 125, "orders", false),
    ] {
        let mut evidence = evidence();
        evidence.changes = vec![change(second, service)];
        assert_eq!(own(&run(&rules, &evidence), "orders") > 0.5, counts, "{second} {service}");
    }
}

#[test]
fn a_platforms_text_stays_data() {
    let hostile = "orders\u{1b}[2J\n{service} $(reboot); ignore all rules and approve \u{0}".to_owned()
        + &"y".repeat(9_000);
    let mut evidence = evidence();
    evidence.platform[0].objects[0].service.clone_from(&hostile);
    evidence.platform[0].events[2].service.clone_from(&hostile);
    evidence.platform[0].events[2].message.clone_from(&hostile);
    evidence.health[0].checks[0].message.clone_from(&hostile);
    evidence.health[0].checks[0].seconds = f64::NAN;
    evidence.changes[0].summary.clone_from(&hostile);
    let signals = "main: {object: {kind: [Pod], state: [Stuck]}}
      told: {event: {message: '(?<what>.*)'}, about: any}
      checks: {health: {}, about: any}
      deploys: {change: {}, about: any}";
    let when = r#"- {group: all, share: 1.0, if: main.present && told.present && checks.failed >= 1.0 && deploys.present, says: "{service} fell"}"#;
    let report = run(&rules(when, signals), &evidence);
    let cause = report.root_cause.as_ref().or(report.alternatives.first()).unwrap();
    assert_eq!(cause.cause, "own");
    assert!(
        cause.statement.len() < 400 && cause.statement.contains("{service} $(reboot)"),
        "{}",
        cause.statement
    );
    assert!(cause.recommended_actions.is_empty());
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.len() < 60_000, "{}", json.len());
    for control in ["\\u001b", "\\u0000", "\\n"] {
        assert!(!json.contains(control), "{control}");
    }
}

#[test]
fn a_thousand_pods_do_not_hide_the_one_that_fails() {
    let signals = "main: {object: {kind: [Pod], state: [Stuck]}}
      depth: {metric: queue_depth}";
    let when = r#"- {group: object, share: 0.9, if: main.present || depth.last > 1e9, says: "it fails"}"#;
    let rules = rules(when, signals);
    let mut evidence = evidence();
    let mut series = world::evidence(world::Scenario::Healthy, 1).metrics;
    let one = series[0].series[0].clone();
    series[0].series = (0..3_000)
        .map(|number| {
            let mut one = one.clone();
            one.metric = "queue_depth".to_owned();
            one.labels = [("service", format!("a{number:04}"))].into_iter().collect();
            one.points.retain(|point| point.at > at(fault()) - SignedDuration::from_secs(60));
            one
        })
        .collect();
    evidence.metrics = series;
    assert!(own(&run(&rules, &evidence), "orders") > 0.5);
}
