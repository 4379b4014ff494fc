//! How urgent an alert is by its own words. Senders write that in many vocabularies (Prometheus' rule sets, Alertmanager, Grafana,
//! Opsgenie, PagerDuty, Zabbix, syslog, Nagios, Datadog, Azure, X.733, plain numbers): one table reads them all.

use crate::alert::Labels;
use crate::severity::{Priority, Severity};

/// What a word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// So bad and so urgent.
    Urgent(Priority, Severity),
    /// Nobody is to be troubled: `severity: none` of watchdogs and inhibitors.
    Nobody,
}

/// What an alert's labels say of its urgency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A word that is known.
    Known(Meaning),
    /// Words, and none of them is known: the first one.
    Unknown(String),
    /// Nothing at all.
    Nothing,
}

/// What is taken for a word that nobody knows: it was meant to say something, so not "when there is time".
pub const OF_UNKNOWN_WORD: (Priority, Severity) = (Priority::P2, Severity::Medium);
/// What is taken for an alert without any word.
pub const OF_NO_WORD: (Priority, Severity) = (Priority::P3, Severity::Medium);

const CRITICAL: Meaning = Meaning::Urgent(Priority::P0, Severity::Critical);
const HIGH: Meaning = Meaning::Urgent(Priority::P1, Severity::High);
const MEDIUM: Meaning = Meaning::Urgent(Priority::P2, Severity::Medium);
const WARNING: Meaning = Meaning::Urgent(Priority::P2, Severity::Warning);
const LOW: Meaning = Meaning::Urgent(Priority::P3, Severity::Warning);
const INFO: Meaning = Meaning::Urgent(Priority::P3, Severity::Info);

/// Words without their separators, in lower case. What several systems use for different things has the meaning that is worse.
const WORDS: &[(Meaning, &[&str])] = &[
    (
        CRITICAL,
        &[
            "critical",
            "crit",
            "page",
            "pager",
            "paging",
            "pageme",
            "emergency",
            "emerg",
            "fatal",
            "disaster",
            "catastrophic",
            "catastrophe",
            "urgent",
            "panic",
            "alert",
            "red",
            "blocker",
            "outage",
            "down",
            "highest",
            "veryhigh",
            "extreme",
            "immediate",
            "kritisch",
            "critique",
            "critico",
            "crítico",
        ],
    ),
    (
        HIGH,
        &[
            "high",
            "error",
            "err",
            "errors",
            "major",
            "severe",
            "serious",
            "orange",
            "failure",
            "failed",
            "danger",
            "important",
            "unreachable",
            "hoch",
            "alerting",
        ],
    ),
    (MEDIUM, &["medium", "med", "mid", "moderate", "average", "normal", "mittel"]),
    (
        WARNING,
        &[
            "warning",
            "warn",
            "warnings",
            "minor",
            "ticket",
            "tickets",
            "yellow",
            "amber",
            "degraded",
            "caution",
            "attention",
            "indeterminate",
            "unknown",
            "nodata",
            "warnung",
        ],
    ),
    (
        INFO,
        &[
            "info",
            "information",
            "informational",
            "informative",
            "inform",
            "notice",
            "notify",
            "notification",
            "low",
            "lowest",
            "verylow",
            "minimal",
            "trivial",
            "niedrig",
            "debug",
            "trace",
            "verbose",
            "fine",
            "ok",
            "okay",
            "success",
            "green",
            "blue",
            "clear",
            "cleared",
            "recovered",
            "notclassified",
            "unclassified",
            "log",
            "email",
            "mail",
        ],
    ),
    (Meaning::Nobody, &["none", "nobody", "heartbeat", "watchdog", "deadman", "deadmansswitch", "silent"]),
];

/// Words before a number, and whether its scale is that of priorities. A severity of 1 is the worst (0 where a scale begins there); a
/// priority of 1 is the worst to Opsgenie and Jira and the second worst here, which is what it says.
const SCALES: &[(&str, bool)] = &[
    ("severity", false),
    ("sev", false),
    ("s", false),
    ("tier", false),
    ("priority", true),
    ("prio", true),
    ("p", true),
    ("", false),
];

/// Labels that say how bad or how urgent something is, the most telling first; compared without separators and in any case.
const LABELS: &[&str] = &[
    "severity",
    "alertseverity",
    "severitylevel",
    "severitytext",
    "sev",
    "priority",
    "prio",
    "urgency",
    "criticality",
    "importance",
    "alertlevel",
    "level",
];
/// Labels that often say something else: of them only a word that is known counts, and no number.
const VAGUE_LABELS: &[&str] = &["level", "importance"];

/// What a word says; `None` when it is not known.
pub fn meaning(text: &str) -> Option<Meaning> {
    let text = text.trim().to_lowercase();
    let joined: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    of_word(&joined).or_else(|| of_number(&joined)).or_else(|| of_parts(&text))
}

fn of_word(word: &str) -> Option<Meaning> {
    WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(meaning, _)| *meaning)
}

/// `1`, `sev-2`, `P3`, `s1`.
fn of_number(word: &str) -> Option<Meaning> {
    SCALES.iter().find_map(|(prefix, priorities)| {
        let number: u8 = word.strip_prefix(prefix)?.parse().ok()?;
        Some(match (number, priorities) {
            (0, _) | (1, false) => CRITICAL,
            (1, true) | (2, false) => HIGH,
            (2, true) => WARNING,
            (3, false) => MEDIUM,
            (3, true) => LOW,
            (4 | 5, _) => INFO,
            _ => return None,
        })
    })
}

/// `1 - Critical`, `high/P1`, `team-page`: the worst of the words in it. A "no" or "non" among them makes it one that is not known.
fn of_parts(text: &str) -> Option<Meaning> {
    let parts: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
    if parts.len() < 2 || parts.iter().any(|part| matches!(*part, "no" | "non" | "not" | "never")) {
        return None;
    }
    let known = parts.iter().filter_map(|part| of_word(part).or_else(|| of_number(part)));
    known.min_by_key(|meaning| match meaning {
        Meaning::Urgent(priority, severity) => (0, *priority, *severity),
        Meaning::Nobody => (1, Priority::P3, Severity::Info),
    })
}

/// What an alert's labels say. `site` reads a site's own words first.
pub fn told(labels: &Labels, site: impl Fn(&str) -> Option<Meaning>) -> Told {
    let mut unknown = None;
    for wanted in LABELS {
        for (name, value) in labels.iter().filter(|(name, _)| is_called(name, wanted)) {
            let text = value.for_people();
            let vague = VAGUE_LABELS.contains(wanted);
            if text.trim().is_empty() || (vague && text.trim().bytes().all(|byte| byte.is_ascii_digit())) {
                continue;
            }
            if let Some(meaning) = site(text.trim()).or_else(|| meaning(&text)) {
                return Told::Known(meaning);
            }
            if !vague && unknown.is_none() && name.len() < 40 {
                unknown = Some(text.trim().chars().take(80).collect());
            }
        }
    }
    unknown.map_or(Told::Nothing, Told::Unknown)
}

/// Whether a label is the wanted one, whatever its case and separators: `Alert-Severity` is `alertseverity`.
fn is_called(name: &str, wanted: &str) -> bool {
    let plain = name.chars().filter(|c| c.is_alphanumeric());
    plain.map(|c| c.to_ascii_lowercase()).eq(wanted.chars())
}

/// What an alert's name says of the alerting itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfAlerting {
    /// A dead man's switch: nothing else is called so, whatever its severity is. It fires while all is well, and its silence is the news.
    DeadMansSwitch,
    /// A word for the same that other things are called too, such as `Watchdog`.
    Watchdog,
    /// The inhibitor of kube-prometheus. It fires beside alerts of severity `info` to hold them back, so it says nothing of how all is.
    Inhibitor,
}

/// What an alert of this name is to the alerting itself; `None` for all others. The news that a watchdog is missing is an alert of its
/// own, whose name goes on after that.
pub fn of_alerting(alert_name: &str) -> Option<OfAlerting> {
    let plain: String =
        alert_name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_ascii_lowercase();
    let switches =
        ["deadmansswitch", "deadmanswitch", "deadmanssnitch", "deadmansnitch", "deadmansignal", "deadman"];
    match plain.as_str() {
        "infoinhibitor" => Some(OfAlerting::Inhibitor),
        "watchdog" | "heartbeat" | "alwaysfiring" => Some(OfAlerting::Watchdog),
        _ if switches.iter().any(|name| plain.ends_with(name)) => Some(OfAlerting::DeadMansSwitch),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(Priority, Severity)> {
        match meaning(text) {
            Some(Meaning::Urgent(priority, severity)) => Some((priority, severity)),
            Some(Meaning::Nobody) | None => None,
        }
    }

    #[test]
    fn words_of_other_systems() {
        use Priority::{P0, P1, P2, P3};
        use Severity::{Critical, High, Info, Medium, Warning};
        for (words, expected) in [
            // Rule sets and Alertmanager.
            ("critical, page, pager, CRITICAL , Crit", (P0, Critical)),
            ("warning, warn, ticket", (P2, Warning)),
            ("info, informational, notify", (P3, Info)),
            // Zabbix.
            ("Disaster", (P0, Critical)),
            ("Average", (P2, Medium)),
            ("Not classified, Information", (P3, Info)),
            // syslog.
            ("emerg, alert, panic", (P0, Critical)),
            ("err, error", (P1, High)),
            ("notice, debug", (P3, Info)),
            // Nagios, X.733, Datadog, Azure, plain numbers.
            ("UNKNOWN, indeterminate, minor", (P2, Warning)),
            ("major", (P1, High)),
            ("success, ok", (P3, Info)),
            ("Sev0, sev1, SEV-1, s1, 0, 1, severity 1, 1 - Critical", (P0, Critical)),
            ("Sev2, s2, 2, P1, prio-1, high/P1, severe", (P1, High)),
            ("sev3, 3, 3 - moderate", (P2, Medium)),
            ("P2, priority: 2", (P2, Warning)),
            ("P3", (P3, Warning)),
            ("sev4, P4, P5, 5", (P3, Info)),
        ] {
            for word in words.split(", ") {
                assert_eq!(of(word), Some(expected), "{word}");
            }
        }
        for word in
            ["", "foo", "non-critical", "no page", "p", "sev", "9", "99999999999", "criticalish", "🔥"]
        {
            assert_eq!(meaning(word), None, "{word}");
        }
        assert_eq!(meaning("None"), Some(Meaning::Nobody));
    }

    #[test]
    fn the_label_that_says_most_is_read() {
        let told = |pairs: &[(&str, &str)]| {
            told(&pairs.iter().copied().collect(), |word| (word == "lunch").then_some(INFO))
        };
        assert_eq!(told(&[("severity", "foo"), ("priority", "P1")]), Told::Known(HIGH));
        assert_eq!(told(&[("severity", "warning"), ("level", "critical")]), Told::Known(WARNING));
        assert_eq!(told(&[("level", "critical")]), Told::Known(CRITICAL));
        assert_eq!(told(&[("level", "1")]), Told::Nothing, "a RAID level");
        assert_eq!(told(&[("level", "gold")]), Told::Nothing);
        assert_eq!(told(&[("Severity", "Major")]), Told::Known(HIGH));
        assert_eq!(told(&[("alert_severity", "sev1")]), Told::Known(CRITICAL));
        assert_eq!(told(&[("severity", "gold")]), Told::Unknown("gold".to_owned()));
        assert_eq!(told(&[("severity", " ")]), Told::Nothing);
        assert_eq!(told(&[("severity", "lunch")]), Told::Known(INFO), "a site's own word");
    }

    #[test]
    fn a_watchdog_is_of_the_alerting_and_its_absence_is_not() {
        for (names, expected) in [
            ("Watchdog, watch-dog, Heartbeat, AlwaysFiring", OfAlerting::Watchdog),
            (
                "DeadMansSwitch, PrometheusAlertmanagerE2eDeadManSwitch, dead-mans-switch, DeadMan",
                OfAlerting::DeadMansSwitch,
            ),
            ("InfoInhibitor", OfAlerting::Inhibitor),
        ] {
            for name in names.split(", ") {
                assert_eq!(of_alerting(name), Some(expected), "{name}");
            }
        }
        for name in
            ["WatchdogMissing", "DeadMansSwitchFailed", "HeartbeatLost", "PatroniWatchdogOff", "X", ""]
        {
            assert_eq!(of_alerting(name), None, "{name}");
        }
    }
}
