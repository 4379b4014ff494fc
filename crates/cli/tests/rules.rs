//! `quell rule`, on the shipped rules and on files.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::fs;

use serde_json::Value;
use support::quell;

const RULES: &str = r#"schema: quell/rules/v1
rules:
  - name: queue-full
    cause: queue_full
    root_cause: "{service} has a full queue"
    base_confidence: 0.9
    per: [service]
    signals:
      depth: {metric: queue_depth}
      kills: {event: {kind: [Pod], reason: [Killing]}}
    subject:
      service: [depth.service]
    when:
      - {group: metric, share: 0.6, if: depth.last > 100.0, says: "{depth.last} wait"}
      - {group: event, share: 0.4, if: kills.count >= 1.0, says: "killed {kills.count} times"}
    recommended_actions: [scale]
"#;

const TESTS: &str = r#"schema: quell/rule-tests/v1
cases:
  - rule: queue-full
    name: a long queue
    alert: {service: mail}
    series:
      'queue_depth{service="mail"}': 3x29 900x5
    events: [{kind: Pod, name: mail-1, service: mail, reason: Killing, at: 1m}]
    fires: {service: mail, confidence_min: 0.85}
  - rule: queue-full
    name: a short queue
    series:
      'queue_depth{service="mail"}': 3x35
    silent: {confidence_max: 0.1}
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| fs::write(folder.0.path().join(name), text).unwrap());
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

#[tokio::test]
async fn the_shipped_rules_are_listed_and_have_no_mistake() {
    let ran = quell(&["rule", "list", "-o", "json"], None).await;
    let list: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    assert!(list.len() >= 40 && list.iter().any(|rule| rule["name"] == "memory-leak"), "{}", list.len());
    let ran = quell(&["rule", "check"], None).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "no mistake in the shipped rules and tests\n"));
    let ran = quell(&["rule", "test", "--rule", "memory-leak"], None).await;
    assert!(ran.code == 0 && ran.out.ends_with("2 cases passed\n"), "{}{}", ran.out, ran.error);
}

#[tokio::test]
async fn a_rule_is_explained_with_its_runbooks() {
    let ran = quell(&["rule", "explain", "memory-leak"], None).await;
    for part in [
        "memory-leak speaks for the cause memory_leak",
        "the metric process_resident_memory_bytes, a gauge, the highest of its series",
        "the group `metric` carries 0.70 of it at the most and gives 1 - (1 - 0.87)^0.70 = 0.76 by itself",
        "all groups together give 1 - (1 - 0.76) * (1 - 0.46) = 0.87",
        "memory-restart-service: Restart the service that leaks memory",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let ran = quell(&["rule", "explain", "nothing"], None).await;
    assert_eq!(ran.code, 3);
    assert!(ran.error.contains("there is no rule nothing"), "{}", ran.error);
}

#[tokio::test]
async fn a_site_tests_its_own_rules() {
    let folder = Folder::with(&[("rules.yaml", RULES), ("tests.yaml", TESTS)]);
    let (rules, tests) = (folder.path("rules.yaml"), folder.path("tests.yaml"));
    let ran = quell(&["rule", "test", &rules, &tests], None).await;
    assert_eq!((ran.code, ran.error.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.contains("2 cases passed"), "{}", ran.out);
    // Without its first case the rule is not tried to fire, and the answer is a note.
    let half = Folder::with(&[(
        "tests.yaml",
        &TESTS.replacen("name: a long queue", "name: other", 1).replacen(
            "fires: {service: mail, confidence_min: 0.85}",
            "silent: {confidence_max: 0.2}",
            1,
        ),
    )]);
    let ran = quell(&["rule", "test", &rules, &half.path("tests.yaml")], None).await;
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("where less than 0.20 is expected: 900 wait; killed 1 times"), "{}", ran.out);
    assert!(ran.error.contains("queue-full has no case that fires it"), "{}", ran.error);
    let ran = quell(&["rule", "explain", "queue-full", "--rules", &rules], None).await;
    assert!(
        ran.out.contains("platform events of the kind Pod with the reason Killing about its subject"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("none of the known ones takes this cause"), "{}", ran.out);
}

#[tokio::test]
async fn each_mistake_has_its_place_and_what_was_expected() {
    let wrong = RULES.replace("depth.last > 100.0", "depth.lst > 100.0").replace("[Killing]", "[' ']");
    let tests = TESTS.replace("3x29 900x5", "3x29 many").replace("at: 1m", "at: soon");
    let folder = Folder::with(&[("rules.yaml", &wrong), ("tests.yaml", &tests)]);
    let (rules, tests) = (folder.path("rules.yaml"), folder.path("tests.yaml"));
    let ran = quell(&["rule", "check", &rules, &tests], None).await;
    assert_eq!(ran.code, 1);
    for (file, expected) in [
        (
            &rules,
            ":10:14: queue-full.signals.kills has an empty word, where one such as `Pod` or `OOMKilled` is expected",
        ),
        (
            &tests,
            ":7:38: queue-full (a long queue).series.queue_depth{service=\"mail\"} has `many`, where samples such as",
        ),
        (
            &tests,
            ":8:76: queue-full (a long queue).events.at is `soon`, where a time such as `90s` or `-5m` is expected",
        ),
    ] {
        assert!(ran.out.contains(&format!("{file}{expected}")), "{expected}: {}", ran.out);
    }
    let ran = quell(&["rule", "check", "-o", "json", &rules], None).await;
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["mistakes"][0]["line"]), (1, &10.into()));
    let ran = quell(&["rule", "test", &folder.path("missing.yaml")], None).await;
    assert_eq!(ran.code, 1);
    assert!(ran.error.contains("missing.yaml cannot be read"), "{}", ran.error);
}
