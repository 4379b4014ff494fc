//! Every shipped rule on evidence with noise, and what changes when evidence is missing, renamed or of something else.

mod world;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use quell_diagnose::{CONFIDENCE_MIN, RuleSet, diagnose};
use quell_incident::Report;
use quell_incident::evidence::{EvidenceSet, Unavailable};
use quell_incident::report::{EvidenceData, EvidenceKind};
use world::{Scenario, evidence, evidence_of, request, request_for};

#[allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
fn report(scenario: Scenario, seed: u64) -> Report {
    diagnose(&request(scenario), &evidence(scenario, seed), &RuleSet::load(&[]).unwrap())
}

fn kinds(report: &Report) -> BTreeSet<EvidenceKind> {
    let cited: BTreeSet<&String> =
        report.root_cause.iter().flat_map(|cause| &cause.claims).flat_map(|claim| &claim.evidence).collect();
    report.evidence.iter().filter(|one| cited.contains(&one.id)).map(|one| one.kind).collect()
}

fn cause(report: &Report) -> Option<&str> {
    report.root_cause.as_ref().map(|cause| cause.cause.as_str())
}

#[test]
fn each_fault_is_named_by_two_kinds_of_evidence() {
    let rules = RuleSet::load(&[]).unwrap();
    for scenario in Scenario::FAULTS {
        for seed in 1..=10 {
            let report = diagnose(&request(scenario), &evidence(scenario, seed), &rules);
            assert_eq!(cause(&report), scenario.cause(), "{scenario:?} {seed}: {report:#?}");
            assert!(report.confidence() > 0.85, "{scenario:?} {seed}: {}", report.confidence());
            assert_eq!(kinds(&report).len(), 2, "{scenario:?} {seed}");
        }
    }
}

#[test]
fn the_subject_is_what_has_to_be_acted_on() {
    for (scenario, service, instance, part) in [
        (Scenario::DatabaseTimeout, "order_service", "db-server-01:9090", "customer_db"),
        (Scenario::MemoryLeak, "order_service", "app-server-01:9090", ""),
        (Scenario::HighCpu, "order_service", "app-server-01:9090", "invoice-rebuild-batch"),
        (Scenario::Api503, "catalog_service", "", ""),
        (Scenario::DiskFull, "storage-node-01", "storage-node-01:9090", "/data"),
        (Scenario::CertificateExpiry, "api.example.com", "api.example.com:443", ""),
        (Scenario::KafkaLag, "email-service", "kafka-01:9308", "email-service"),
        (Scenario::PostgresConnections, "postgres-01", "postgres-01:9187", "report-ui"),
    ] {
        let subject = report(scenario, 3).root_cause.unwrap().subject;
        let found = (subject.service.as_str(), subject.instance.as_str(), subject.part.as_str());
        assert_eq!(found, (service, instance, part), "{scenario:?}");
    }
}

#[test]
fn the_base_confidence_is_reached_when_all_evidence_is_there() {
    for (scenario, base) in [
        (Scenario::DatabaseTimeout, 0.92),
        (Scenario::MemoryLeak, 0.87),
        (Scenario::HighCpu, 0.9),
        (Scenario::Api503, 0.92),
        (Scenario::DiskFull, 0.93),
        (Scenario::CertificateExpiry, 0.95),
        (Scenario::KafkaLag, 0.92),
        (Scenario::PostgresConnections, 0.92),
    ] {
        assert_eq!(report(scenario, 1).confidence(), base, "{scenario:?}");
    }
}

#[test]
fn healthy_evidence_names_no_cause() {
    let rules = RuleSet::load(&[]).unwrap();
    for seed in 1..=20 {
        let healthy = evidence(Scenario::Healthy, seed);
        for scenario in Scenario::FAULTS {
            let report = diagnose(&request(scenario), &healthy, &rules);
            assert_eq!(cause(&report), None, "{scenario:?} {seed}");
            assert!(report.abstained.is_some());
        }
    }
}

#[test]
fn the_alerts_name_is_not_looked_at() {
    let rules = RuleSet::load(&[]).unwrap();
    let evidence = evidence(Scenario::MemoryLeak, 5);
    let (_, labels) = Scenario::MemoryLeak.alert();
    let one = diagnose(&request(Scenario::MemoryLeak), &evidence, &rules);
    let other = diagnose(&request_for("DatabaseConnectionTimeout", &labels), &evidence, &rules);
    assert_eq!(one, other);
}

#[test]
fn other_evidence_under_the_same_alert_is_another_cause() {
    let rules = RuleSet::load(&[]).unwrap();
    let (name, labels) = Scenario::HighCpu.alert();
    for scenario in [Scenario::MemoryLeak, Scenario::HighCpu] {
        let report = diagnose(&request_for(name, &labels), &evidence(scenario, 2), &rules);
        assert_eq!(cause(&report), scenario.cause());
    }
}

#[test]
fn missing_logs_lower_the_confidence_and_silent_logs_lower_it_more() {
    let rules = RuleSet::load(&[]).unwrap();
    for scenario in Scenario::FAULTS {
        let whole = evidence(scenario, 4);
        let mut without = whole.clone();
        without.logs.clear();
        let (source, query) = ("simulator".to_owned(), "all lines".to_owned());
        without.unavailable.push(Unavailable { source, query, why: "connection refused".to_owned() });
        let mut silent = whole.clone();
        silent.logs[0].lines.clear();
        let confidence = |evidence: &EvidenceSet| {
            let report = diagnose(&request(scenario), evidence, &rules);
            let first = report.root_cause.as_ref().or(report.alternatives.first()).cloned().unwrap();
            assert_eq!(Some(first.cause.as_str()), scenario.cause());
            first.confidence
        };
        // One log source says nothing and the other did not answer, or the answer was cut: as if there were none.
        let mut partly = silent.clone();
        partly.unavailable = without.unavailable.clone();
        let mut cut = silent.clone();
        cut.logs[0].truncated = true;
        let report = diagnose(&request(scenario), &cut, &rules);
        assert_eq!(report.unavailable.len(), 1);
        assert!(report.unavailable[0].why.contains("cut"));
        let (all, missing, silence) = (confidence(&whole), confidence(&without), confidence(&silent));
        assert_eq!((confidence(&partly), confidence(&cut)), (missing, missing), "{scenario:?}");
        assert!(all > missing && missing > silence, "{scenario:?}: {all} {missing} {silence}");
    }
}

#[test]
fn logs_alone_against_healthy_metrics_are_not_enough() {
    let rules = RuleSet::load(&[]).unwrap();
    let mut mixed = evidence(Scenario::Healthy, 6);
    mixed.logs = evidence(Scenario::DatabaseTimeout, 6).logs;
    let report = diagnose(&request(Scenario::DatabaseTimeout), &mixed, &rules);
    assert_eq!(cause(&report), None);
    assert!(report.alternatives[0].confidence < CONFIDENCE_MIN);
}

#[test]
fn a_fault_elsewhere_is_an_alternative_and_not_the_cause() {
    let rules = RuleSet::load(&[]).unwrap();
    let both = evidence_of(&[Scenario::DatabaseTimeout, Scenario::DiskFull], 8);
    let report = diagnose(&request(Scenario::DiskFull), &both, &rules);
    assert_eq!(cause(&report), Scenario::DiskFull.cause());
    let other = &report.alternatives[0];
    assert_eq!(Some(other.cause.as_str()), Scenario::DatabaseTimeout.cause());
    assert_eq!(
        other.not_first_because.as_deref(),
        Some("it has nothing to do with what the alerts speak of")
    );

    let unrelated = diagnose(&request(Scenario::Healthy), &evidence(Scenario::DiskFull, 8), &rules);
    assert_eq!(cause(&unrelated), None);
    assert!(unrelated.abstained.unwrap().contains("nothing to do with"));
}

#[test]
fn two_causes_of_one_subject_are_told_apart_only_by_the_alerts_component() {
    let rules = RuleSet::load(&[]).unwrap();
    let both = evidence_of(&[Scenario::MemoryLeak, Scenario::HighCpu], 9);
    for scenario in [Scenario::MemoryLeak, Scenario::HighCpu] {
        let report = diagnose(&request(scenario), &both, &rules);
        assert_eq!(cause(&report), scenario.cause());
        assert!(report.confidence() < 0.85);
    }
    let labels = [("instance", "app-server-01:9090"), ("service", "order_service")];
    let report = diagnose(&request_for("SomethingIsWrong", &labels), &both, &rules);
    assert_eq!(cause(&report), None);
    assert_eq!(report.alternatives.len(), 2);
    assert!(report.abstained.unwrap().starts_with("two causes are too close"));
}

#[test]
fn an_alert_that_is_early_or_late_changes_nothing() {
    let rules = RuleSet::load(&[]).unwrap();
    for scenario in Scenario::FAULTS {
        for shift in [-60, 60, 300] {
            let mut request = request(scenario);
            request.incident.started_at += SignedDuration::from_secs(shift);
            let report = diagnose(&request, &evidence(scenario, 10), &rules);
            assert_eq!(cause(&report), scenario.cause(), "{scenario:?} {shift}");
        }
    }
}

#[test]
fn a_fault_from_the_first_sample_on_is_found_by_its_level() {
    let rules = RuleSet::load(&[]).unwrap();
    for scenario in Scenario::FAULTS {
        let mut short = evidence(scenario, 11);
        let from = world::at(world::fault() + 20);
        for series in &mut short.metrics[0].series {
            series.points.retain(|point| point.at >= from);
        }
        short.logs[0].lines.retain(|line| line.at >= from);
        let report = diagnose(&request(scenario), &short, &rules);
        assert_eq!(cause(&report), scenario.cause(), "{scenario:?} {report:#?}");
    }
}

#[test]
fn what_no_rule_knows_is_listed_as_evidence() {
    let mut evidence = evidence(Scenario::Healthy, 12);
    let mut strange = evidence.metrics[0].series[0].clone();
    strange.metric = "queue_depth".to_owned();
    for point in &mut strange.points {
        point.value = if point.at > world::at(world::fault()) { 900.0 } else { 3.0 };
    }
    evidence.metrics[0].series.push(strange);
    for second in 0..20 {
        let at = world::fault() + 2 * second;
        evidence.logs[0].lines.push(world::line(
            at,
            "error",
            "billing",
            "b-1",
            format!("ledger {second} is torn"),
        ));
    }
    let report = diagnose(&request(Scenario::DiskFull), &evidence, &RuleSet::load(&[]).unwrap());
    let told: Vec<&str> = report.evidence.iter().map(|one| one.summary.as_str()).collect();
    assert!(told.iter().any(|summary| summary.starts_with("queue_depth{")), "{told:?}");
    assert!(told.iter().any(|summary| summary.contains("ledger <n> is torn")), "{told:?}");
}

#[test]
fn no_rules_and_no_evidence_abstain() {
    let nothing = EvidenceSet::default();
    let shipped = RuleSet::load(&[]).unwrap();
    for (evidence, rules) in [(&nothing, &shipped), (&evidence(Scenario::HighCpu, 1), &RuleSet::empty())] {
        let report = diagnose(&request(Scenario::HighCpu), evidence, rules);
        assert_eq!(report.root_cause, None);
        assert!(report.abstained.is_some() && report.alternatives.is_empty());
    }
}

#[test]
fn a_whole_report() {
    let mut report = report(Scenario::DatabaseTimeout, 1);
    report.engine = "engine".to_owned();
    for evidence in &mut report.evidence {
        if let EvidenceData::Metric(metric) = &mut evidence.data {
            metric.points.truncate(1);
        }
    }
    insta::with_settings!({snapshot_path => "../src/snapshots"}, {
        insta::assert_json_snapshot!(report);
    });
}
