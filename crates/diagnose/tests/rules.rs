//! Loading rules: mistakes name file, line and field, and nothing is taken when there is one.

mod world;

use quell_diagnose::{RuleSet, RuleSource, diagnose};
use world::{Scenario, evidence, request};

const RULE: &str = r#"schema: quell/rules/v1
rules:
  - name: memory-leak
    cause: memory_leak
    root_cause: "{service} leaks"
    base_confidence: 0.6
    per: [instance, service]
    signals:
      memory: {metric: process_resident_memory_bytes}
      lines: {log: 'OutOf(?<what>\w+)'}
    subject:
      service: [memory.service]
      part: [lines.what]
    when:
      - {group: metric, share: 0.6, if: memory.last > 500000000.0, says: "{memory.last} bytes"}
      - {group: log, share: 0.4, if: lines.count >= 1.0, says: "{lines.count} lines"}
    recommended_actions: [page_someone]
"#;

fn load(text: &str) -> Result<RuleSet, String> {
    let source = RuleSource { name: "site.yaml".to_owned(), text: text.to_owned() };
    RuleSet::load(&[source]).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn the_shipped_rules_know_every_scenario() {
    let rules = RuleSet::load(&[]).unwrap();
    let causes = rules.causes();
    for scenario in Scenario::FAULTS {
        assert!(causes.contains(scenario.cause().unwrap()), "{scenario:?}");
    }
    assert!(causes.len() >= 40, "{}", causes.len());
    let reads = rules.reads();
    let mut once = reads.clone();
    once.dedup();
    assert_eq!(reads, once);
    assert!(reads.iter().any(|read| read.metric == "pg_stat_activity_count") && rules.reads_logs());
}

#[test]
fn a_sites_rule_replaces_the_shipped_one_of_its_name() {
    let rules = load(RULE).unwrap();
    let report = diagnose(&request(Scenario::MemoryLeak), &evidence(Scenario::MemoryLeak, 1), &rules);
    let cause = report.root_cause.unwrap();
    assert_eq!(cause.confidence, 0.6);
    assert_eq!(cause.subject.part, "MemoryError");
    assert_eq!(cause.recommended_actions, ["page_someone"]);
    assert_ne!(rules.digest(), RuleSet::load(&[]).unwrap().digest());
}

#[test]
fn a_mistake_names_file_line_and_field() {
    for (from, to, expected) in [
        (
            "if: memory.last >",
            "if: memory.lst >",
            "site.yaml:15:41: memory-leak.when[0].if asks for `memory.lst`",
        ),
        (
            "lines.count >= 1.0",
            "lines.count >=",
            "site.yaml:16:38: memory-leak.when[1].if is not an expression",
        ),
        (
            "{memory.last} bytes",
            "{memory.lost} bytes",
            "site.yaml:15:74: memory-leak.when[0].says has the unknown",
        ),
        (
            "share: 0.6",
            "share: 0.7",
            "site.yaml:3:11: memory-leak.when has groups whose largest shares add up to 1.10",
        ),
        (
            "base_confidence: 0.6",
            "base_confidence: 1.0",
            "site.yaml:6:22: memory-leak.base_confidence must be",
        ),
        (
            "OutOf(?<what>",
            "OutOf(?<what>(",
            "site.yaml:10:14: memory-leak.signals.lines is not a regular expression",
        ),
        ("[lines.what]", "[lines.why]", "site.yaml:13:14: memory-leak.subject.part names `why`"),
        (
            "[memory.service]",
            "[memry.service]",
            "site.yaml:12:17: memory-leak.subject.service speaks of `memry`",
        ),
        ("per:", "pear:", "site.yaml:7:5: the file cannot be read"),
        ("v1", "v2", "site.yaml:1:9: schema must be `quell/rules/v1`"),
        ("cause: memory_leak", "cause: Memory", "site.yaml:4:12: memory-leak.cause must be"),
        (
            "metric: process_resident_memory_bytes",
            "metric: 'a{b}'",
            "site.yaml:9:15: memory-leak.signals.memory names",
        ),
    ] {
        let text = RULE.replacen(from, to, 1);
        assert_ne!(text, RULE, "{from}");
        let error = load(&text).err().unwrap_or_default();
        assert!(error.contains(expected), "{from} -> {to}: {error}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = RULE.replace("0.6,", "0.0,").replace("{lines.count}", "{nothing}");
    let error = load(&text).err().unwrap();
    assert!(error.contains("when[0].share") && error.contains("when[1].says"), "{error}");
}

#[test]
fn an_unused_signal_and_a_second_name_are_mistakes() {
    let unused = RULE.replacen("      lines:", "      spare: {metric: up}\n      lines:", 1);
    assert!(load(&unused).err().unwrap().contains("signals.spare is not used"));
    let (_, rule) = RULE.split_once("rules:\n").unwrap();
    let twice = format!("{RULE}{rule}");
    assert!(load(&twice).err().unwrap().contains("memory-leak.name is the name of another rule"));
    assert!(load("").is_err());
    assert!(load(&"a".repeat(2 << 20)).err().unwrap().contains("larger than"));
}
