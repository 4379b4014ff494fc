//! The tests that are shipped beside the rules, and what all rules have in common.

use std::collections::{BTreeMap, BTreeSet};

use quell_diagnose::{RuleSet, RuleTests};

#[test]
fn every_shipped_rule_does_what_its_tests_say() {
    let rules = RuleSet::load(&[]).unwrap();
    let tests = RuleTests::shipped().unwrap();
    let results = tests.run(&rules, None);
    assert_eq!(results.len(), tests.count());
    let failed: Vec<String> = results
        .iter()
        .filter(|one| !one.passed())
        .map(|one| {
            format!("{}:{} {}: {}\n  {}", one.file, one.line, one.rule, one.name, one.failures.join("\n  "))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), results.len(), failed.join("\n"));
    assert_eq!(tests.untested(&rules), BTreeMap::new());
}

#[test]
fn shipped_rules_rest_on_two_kinds_of_evidence() {
    let rules = RuleSet::load(&[]).unwrap();
    let list = rules.list();
    assert!(list.len() >= 40, "{}", list.len());
    for one in &list {
        assert!(one.groups.len() >= 2, "{} has {:?}", one.name, one.groups);
        let explained = rules.explain(&one.name).unwrap();
        for condition in explained.conditions {
            assert!(condition.strength < 0.88, "{} is {} by one group alone", one.name, condition.strength);
        }
    }
}

#[test]
fn only_metrics_that_are_known_are_asked_for() {
    let rules = RuleSet::load(&[]).unwrap();
    let all = rules.reads();
    let known: BTreeSet<String> =
        ["up", "node_disk_io_time_seconds_total", "pg_stat_activity_count", "something_else"]
            .map(str::to_owned)
            .into();
    let reads = rules.reads_for(&known);
    assert!(all.len() > 100 && reads.len() == 3, "{} {}", all.len(), reads.len());
    assert!(reads.iter().all(|read| all.contains(read)));
    assert_eq!(rules.reads_for(&all.iter().map(|read| read.metric.clone()).collect()), all);
    assert!(rules.reads_platform() && rules.reads_health() && rules.reads_changes());
}
