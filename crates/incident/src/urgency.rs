//! How urgent an alert is by its own words. Senders write that in many vocabularies (Prometheus' rule sets, Alertmanager, Grafana,
//! Opsgenie, PagerDuty, Zabbix, syslog, Nagios, Datadog, Azure, X.733, plain numbers): one table reads them all.

mod alerting;
mod words;

use crate::alert::Labels;
use crate::severity::{Priority, Severity};

pub(crate) use alerting::tells_of_failure;
pub use alerting::{OfAlerting, of_alerting};
use words::{is_negation, is_weak, of_sign, of_word, plain};

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
    "severitylevel",
    "severitytext",
    "severityname",
    "severitylabel",
    "severityclass",
    "sev",
    "priority",
    "prio",
    "prioritylevel",
    "priorityname",
    "urgency",
    "criticality",
    "criticity",
    "impact",
    "importance",
    "alertlevel",
    "level",
];
/// Labels that often say something else: of them only a word that is known counts, and no number.
const VAGUE_LABELS: &[&str] = &["level", "importance", "impact"];
/// Words before such a name that say whose word it is, and leave it what it is: `opsgenie_priority`, `labels_severity`.
const WHOSE: &[&str] = &[
    "alert",
    "alerting",
    "alertmanager",
    "annotation",
    "annotations",
    "computed",
    "custom",
    "datadog",
    "dd",
    "default",
    "effective",
    "event",
    "grafana",
    "icinga",
    "incident",
    "issue",
    "itsm",
    "jira",
    "label",
    "labels",
    "monitor",
    "my",
    "nagios",
    "notification",
    "og",
    "on",
    "call",
    "oncall",
    "opsgenie",
    "original",
    "pager",
    "pagerduty",
    "pd",
    "problem",
    "prometheus",
    "rule",
    "servicenow",
    "snow",
    "source",
    "splunk",
    "squadcast",
    "ticket",
    "trigger",
    "victorops",
    "zabbix",
];

/// What a word says; `None` when it is not known.
pub fn meaning(text: &str) -> Option<Meaning> {
    let text = text.trim();
    let joined = plain(text);
    if is_decimal(text) {
        let (whole, fraction) = text.split_once('.')?;
        return fraction.bytes().all(|byte| byte == b'0').then(|| of_number(whole)).flatten();
    }
    of_word(&joined).or_else(|| of_number(&joined)).or_else(|| of_parts(text)).or_else(|| of_sign(text))
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

/// `2.0`, which is how a number comes out of a query or of a language that knows only floating ones. What is between two of a scale is
/// none of them.
fn is_decimal(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(whole, fraction)| is_number(whole) && is_number(fraction))
}

/// `1 - Critical`, `high/P1`, `team-page`: the worst of the words in it. A number without a word before it only says where the word
/// stands in a list whose direction is not known, and some words say little beside others. A "no" or "non" among them makes it one that
/// is not known.
fn of_parts(text: &str) -> Option<Meaning> {
    let parts: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).map(plain).filter(|part| !part.is_empty()).collect();
    if parts.len() < 2 || parts.iter().any(|part| is_negation(part)) {
        return None;
    }
    let worst = |strong: bool| {
        let is_strong = |part: &str| !is_weak(part) && !part.bytes().all(|byte| byte.is_ascii_digit());
        let wanted = parts.iter().filter(|part| is_strong(part) || !strong);
        let known = wanted.filter_map(|part| of_word(part).or_else(|| of_number(part)));
        known.min_by_key(|meaning| match meaning {
            Meaning::Urgent(priority, severity) => (0, *priority, *severity),
            Meaning::Nobody => (1, Priority::P3, Severity::Info),
        })
    };
    worst(true).or_else(|| worst(false))
}

/// What an alert's labels say. `site` reads a site's own words first.
pub fn told(labels: &Labels, site: impl Fn(&str) -> Option<Meaning>) -> Told {
    let mut unknown = None;
    for (wanted, vague, name) in telling(labels) {
        let Some(text) = labels.get(name).map(|value| value.for_people()) else { continue };
        let vague = vague || VAGUE_LABELS.contains(&wanted);
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
    unknown.map_or(Told::Nothing, Told::Unknown)
}

/// Whether an alert's severity itself says that it is a heartbeat.
pub(crate) fn says_heartbeat(labels: &Labels) -> bool {
    telling(labels).any(|(_, _, name)| {
        labels.get(name).is_some_and(|value| {
            let word = plain(&value.for_people());
            matches!(word.as_str(), "heartbeat" | "watchdog" | "deadman" | "deadmanswitch" | "deadmansswitch")
        })
    })
}

/// The labels that say how urgent it is, the most telling first: which of the names it has, whether something before that may make it
/// another thing's, and its own name.
fn telling(labels: &Labels) -> impl Iterator<Item = (&'static str, bool, &str)> {
    LABELS.iter().flat_map(move |wanted| {
        let named = move |exact: bool| {
            labels.iter().filter_map(move |(name, _)| {
                let before = before(name, wanted)?;
                if before.is_empty() != exact {
                    return None;
                }
                let is_whose = || {
                    let mut words = before.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
                    words.all(|word| WHOSE.iter().any(|whose| whose.eq_ignore_ascii_case(word)))
                };
                if exact || is_whose() {
                    Some((*wanted, false, name))
                } else {
                    // Somebody's severity is a severity; somebody's level or priority may be of anything.
                    (*wanted == "severity").then_some((*wanted, true, name))
                }
            })
        };
        named(true).chain(named(false))
    })
}

/// What stands in a label's name before the wanted one, whatever its case and separators: `Alert-` of `Alert-Severity`.
fn before<'a>(name: &'a str, wanted: &str) -> Option<&'a str> {
    let mut letters = name.char_indices().rev().filter(|(_, c)| c.is_alphanumeric());
    let mut begin = name.len();
    for expected in wanted.chars().rev() {
        let (at, letter) = letters.next()?;
        if letter.to_ascii_lowercase() != expected {
            return None;
        }
        begin = at;
    }
    let (before, own) = name.split_at_checked(begin)?;
    // `multilevel` is a word of its own; `alertLevel`, `alert_level` and `alertlevel` are two.
    let parted = before.is_empty()
        || WHOSE.contains(&before)
        || before.ends_with(|c: char| !c.is_alphanumeric())
        || own.starts_with(char::is_uppercase);
    parted.then(|| before.trim_matches(|c: char| !c.is_alphanumeric()))
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
            // Forms: what a number counts beside a word, brackets, signs, floating numbers, and the width of East Asian fonts.
            (
                "[CRITICAL], critical!, CRIT/HIGH, 1 (critical), 5: Disaster, 🔴, 🔴 Critical, ＣＲＩＴＩＣＡＬ",
                (P0, Critical),
            ),
            ("P1 - High, 2 - High, high priority, ２, 2.0, P1 (error)", (P1, High)),
            ("2 (warning), warning alert, warn/email, ⚠️", (P2, Warning)),
            ("1 - Information, low priority, info-alert, ✅", (P3, Info)),
        ] {
            for word in words.split(", ") {
                assert_eq!(of(word), Some(expected), "{word}");
            }
        }
        for word in [
            "",
            "foo",
            "non-critical",
            "no page",
            "p",
            "sev",
            "9",
            "99999999999",
            "criticalish",
            "🔥",
            "3.5",
            "не критично",
            "nicht kritisch",
            "некритичный",
        ] {
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
}
