//! The series, healthy and at fault.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use quell_simulator::world::{Exporter, Scenario};

use super::lab::*;

#[test]
fn a_healthy_world_shows_no_symptom_at_any_tick() {
    for tick in TICKS {
        let mut lab = Lab::new(tick);
        for _ in 0..30 {
            assert_eq!(symptoms(&mut lab), BTreeSet::new());
        }
    }
}

#[test]
fn each_fault_shows_its_own_symptoms_and_no_other_at_any_tick() {
    for tick in TICKS {
        for scenario in Scenario::ALL {
            let mut lab = Lab::new(tick);
            lab.run(60);
            lab.world.trigger(lab.now, scenario, None);
            for _ in 0..3 {
                assert_eq!(symptoms(&mut lab), BTreeSet::from([scenario]));
            }
            assert!(lab.world.is_active(scenario));
        }
    }
}

#[test]
fn all_faults_together_are_independent() {
    let mut lab = Lab::new(TICKS[1]);
    for scenario in Scenario::ALL {
        lab.world.trigger(lab.now, scenario, None);
    }
    assert_eq!(symptoms(&mut lab), Scenario::ALL.into());
    lab.act("storage-node-01", &clean("/data")).unwrap();
    lab.run(1);
    let rest = Scenario::ALL.into_iter().filter(|one| *one != Scenario::DiskFull).collect();
    assert_eq!(symptoms(&mut lab), rest);
}

#[test]
fn memory_leaks_ten_megabytes_a_second_from_five_hundred() {
    for tick in TICKS {
        let mut lab = Lab::new(tick);
        lab.world.trigger(lab.now, Scenario::MemoryLeak, None);
        lab.run(120);
        assert!((lab.value(MEMORY) - 1_700e6).abs() < 1.0, "{}", lab.value(MEMORY));
    }
}

#[test]
fn every_series_is_on_one_exporter_only() {
    let lab = Lab::broken(Scenario::Api503);
    let mut seen = BTreeSet::new();
    for exporter in Exporter::ALL {
        for (series, value) in series_of(&lab.world, exporter) {
            assert!(value.is_finite(), "{series} is {value}");
            assert!(seen.insert(series.clone()), "{series} is served twice");
        }
    }
    let on = |exporter, name: &str| {
        series_of(&lab.world, exporter).iter().any(|(series, _)| series.starts_with(name))
    };
    assert!(
        on(Exporter::Database, "db_") && on(Exporter::Database, "node_") && on(Exporter::Database, "pg_")
    );
    assert!(on(Exporter::Application, "process_") && on(Exporter::Application, "kafka_"));
    assert!(on(Exporter::Gateway, "http_") && on(Exporter::Gateway, "probe_"));
}

#[test]
fn counters_never_fall_by_themselves() {
    let mut lab = Lab::new(TICKS[1]);
    for scenario in Scenario::ALL {
        lab.world.trigger(lab.now, scenario, Some(20.0));
    }
    let mut before = lab.series();
    for _ in 0..600 {
        lab.tick();
        let after = lab.series();
        for (series, value) in &after {
            let counts = ["_total{", "_sum{", "_count{"].iter().any(|end| series.contains(end));
            let gauge = series.starts_with("pg_stat");
            assert!(!counts || gauge || *value >= before[series], "{series} fell");
        }
        before = after;
    }
}

#[test]
fn a_certificate_of_a_healthy_world_renews_itself() {
    let mut lab = Lab::new(Duration::from_secs(300));
    lab.now += SignedDuration::from_hours(24 * 59);
    lab.tick();
    let left = lab.value(CERTIFICATE) - lab.now.as_second() as f64;
    assert!(left > 80.0 * 86_400.0, "{left} s left");
}
