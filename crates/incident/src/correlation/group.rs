//! Alertmanager's group key: when it says that alerts belong together, and when it does not.

use serde::{Deserialize, Serialize};

use super::{is_volatile, without_replica};
use crate::about::About;
use crate::alert::{Alert, Fingerprint, Labels};
use crate::ids::SourceName;

/// A group of one source, as 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(Fingerprint);

impl std::fmt::Display for GroupId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl GroupId {
    /// The group as its source names it, whatever that says of its alerts.
    pub fn of_message(source: &SourceName, group_key: Option<&str>) -> Self {
        let key = group_key.unwrap_or_default();
        let key = parts(key).map_or_else(|| key.to_owned(), |(route, labels)| text_of(&route, &labels));
        let parts = [("key", key.as_str()), ("source", source.as_str())];
        Self(Fingerprint::of(&parts.into_iter().collect::<Labels>()))
    }
}

/// Labels that hold for much: alerts are not one incident for sharing nothing else.
const BROAD: [&str; 16] = [
    "namespace",
    "exported_namespace",
    "cluster",
    "severity",
    "priority",
    "team",
    "env",
    "environment",
    "stage",
    "tenant",
    "region",
    "zone",
    "datacenter",
    "job",
    "prometheus",
    "monitor",
];

/// What the group key of a message says of its alerts: nothing, when it does not say that they belong together.
///
/// A key ends in the labels that the source grouped by: `{}/{severity="critical"}:{alertname="Down", cluster="eu"}`. Without labels
/// everything that has no better place is in one group, so it says nothing. An alert that does not carry those labels was put there by
/// somebody else's hand. Labels of an exporter, of a replica of Prometheus or with a value that changes say nothing either. One label
/// alone, such as a service, holds for too much: then only alerts of the same name are a group; and of those that share a namespace, a
/// cluster, a team and the like alone, only those of one workload.
#[derive(Debug)]
pub struct GroupKey {
    /// The route, its matchers in an order of their own: two Alertmanagers of a pair may write them in different ones.
    route: String,
    labels: Vec<(String, String)>,
    /// The group of the last alert, which is mostly the next one's as well, by what it follows from.
    last: Option<(Follows, GroupId)>,
}

/// What an alert's group follows from, besides the key.
#[derive(Debug, PartialEq, Eq)]
struct Follows {
    source: SourceName,
    /// Which of the key's labels say something of it.
    telling: Vec<bool>,
    name: String,
    workload: String,
}

impl GroupKey {
    /// Reads a key; `None` when it says nothing of any alert.
    pub fn of(text: &str) -> Option<Self> {
        let (route, labels) = parts(text)?;
        (!labels.is_empty()).then_some(Self { route, labels, last: None })
    }

    /// The group of an alert that came with it.
    pub fn group_of(&mut self, alert: &Alert, about: &About) -> Option<GroupId> {
        let fits = |(name, value): &(String, String)| alert.labels.get(name).is_some_and(|own| own.is(value));
        if !self.labels.iter().all(fits) {
            return None;
        }
        let tells = |(name, _): &(String, String)| !is_volatile(name) && !about.is_exporters(name);
        let telling: Vec<bool> = self.labels.iter().map(tells).collect();
        let labels = || self.labels.iter().zip(&telling).filter(|(_, tells)| **tells).map(|(label, _)| label);
        let count = labels().count();
        if count == 0 {
            return None;
        }
        let broad = labels().all(|(name, _)| BROAD.contains(&name.as_str()));
        let name = if count < 2 || broad { alert.name() } else { String::new() };
        let workload = about.workload.clone().filter(|_| broad).unwrap_or_default();
        let plain: Vec<(String, String)> =
            labels().map(|(name, value)| (name.clone(), without_replica(name, value.clone()))).collect();
        let key = text_of(&self.route, &plain);
        let follows = Follows { source: alert.key.source.clone(), telling, name, workload };
        if let Some((_, group)) = self.last.as_ref().filter(|(last, _)| *last == follows) {
            return Some(group.clone());
        }
        let Follows { source, name, workload, .. } = &follows;
        let parts =
            [("key", key.as_str()), ("name", name), ("source", source.as_str()), ("workload", workload)];
        let group = GroupId(Fingerprint::of(&parts.into_iter().collect::<Labels>()));
        self.last = Some((follows, group.clone()));
        Some(group)
    }
}

/// The route and labels as they are compared.
fn text_of<'a>(route: &str, labels: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let labels = labels.into_iter().map(|(name, value)| format!("{name}={value:?}"));
    format!("{route}:{}", labels.collect::<Vec<_>>().join(","))
}

/// The route of a group key and the labels at its end; `None` when it does not have that form.
fn parts(group_key: &str) -> Option<(String, Vec<(String, String)>)> {
    let mut begin = None;
    let mut before = ' ';
    for (at, character) in outside_quotes(group_key) {
        if before == ':' && character == '{' {
            begin = Some(at + 1);
        }
        before = character;
    }
    let begin = begin?;
    let mut rest = group_key.get(begin..)?.strip_suffix('}')?;
    let mut labels = Vec::new();
    while !rest.is_empty() {
        // A name of UTF-8 may be quoted.
        let (name, after) = match quoted_text(rest) {
            Some((name, after)) => (name, after.strip_prefix('=')?),
            None => rest.split_once('=').map(|(name, after)| (name.trim().to_owned(), after))?,
        };
        let (value, after) = quoted_text(after)?;
        labels.push((name, value));
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
    Some((route(group_key.get(..begin.checked_sub(2)?)?), labels))
}

/// A route's text with the matchers between each pair of braces in order.
fn route(text: &str) -> String {
    let mut ordered = String::with_capacity(text.len());
    let (mut from, mut matchers) = (0, Vec::new());
    for (at, character) in outside_quotes(text) {
        if !matches!(character, '{' | ',' | '}') {
            continue;
        }
        let part = text.get(from..at).unwrap_or_default().trim();
        from = at + 1;
        if character == '{' {
            ordered.push_str(part);
        } else {
            matchers.push(part);
        }
        if character != ',' {
            matchers.sort_unstable();
            ordered.push_str(&matchers.join(","));
            matchers.clear();
            ordered.push(character);
        }
    }
    ordered.push_str(text.get(from..).unwrap_or_default());
    ordered
}

/// The characters that are not within quotes, with their places.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, character)| {
        let inside = quoted;
        if quoted {
            quoted = escaped || *character != '"';
            escaped = !escaped && *character == '\\';
        } else {
            quoted = *character == '"';
        }
        !inside
    })
}

/// A quoted text at the beginning, and what follows it.
fn quoted_text(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, inner.get(at + 1..)?)),
            '\\' => {
                let (at, escape) = characters.next()?;
                let (read, digits) = escaped(escape, inner.get(at + 1..)?)?;
                value.push(read);
                for _ in 0..digits {
                    characters.next();
                }
            }
            plain => value.push(plain),
        }
    }
    None
}

/// The character that Go's `%q` wrote as an escape, and how many characters of digits follow its letter.
fn escaped(letter: char, after: &str) -> Option<(char, usize)> {
    let plain = match letter {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        same @ ('"' | '\\' | '\'') => same,
        'x' | 'u' | 'U' => {
            let digits = match letter {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let code = u32::from_str_radix(after.get(..digits)?, 16).ok()?;
            // A byte that is no text of UTF-8 comes as a replacement in the label as well.
            let whole = if letter == 'x' && code > 0x7f { None } else { char::from_u32(code) };
            return Some((whole.unwrap_or(char::REPLACEMENT_CHARACTER), digits));
        }
        _ => return None,
    };
    Some((plain, 0))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::alert::{AlertKey, AlertStatus};

    fn group_of(group_key: Option<&str>, alert: &Alert) -> Option<GroupId> {
        GroupKey::of(group_key?)?.group_of(alert, &alert.about())
    }

    fn alert(labels: &[(&str, &str)]) -> Alert {
        let labels: Labels = labels.iter().copied().collect();
        let source = SourceName::declared("am").unwrap();
        Alert {
            key: AlertKey { source, fingerprint: Fingerprint::of(&labels) },
            status: AlertStatus::Firing,
            labels,
            annotations: Labels::default(),
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: None,
        }
    }

    #[test]
    fn what_a_group_key_says() {
        let a = alert(&[("alertname", "A"), ("cluster", "eu"), ("odd", "a\"b:{c}"), ("instance", "1")]);
        let b = alert(&[("alertname", "A"), ("cluster", "eu"), ("odd", "a\"b:{c}"), ("instance", "2")]);
        for together in [
            r#"{}:{alertname="A"}"#,
            r#"{}:{cluster="eu"}"#,
            r#"{}/{odd=~"x:{y"}:{alertname="A", cluster="eu"}"#,
            r#"{}:{cluster="eu", odd="a\"b:{c}"}"#,
        ] {
            let group = group_of(Some(together), &a);
            assert!(group.is_some(), "{together}");
            assert_eq!(group, group_of(Some(together), &b), "{together}");
        }
        for nothing in
            ["", "{}", "{}:{}", "{}:{", "group", r#"{}:{alertname="B"}"#, r#"{}:{alertname="A}"#, r#"{}:{x}"#]
        {
            assert_eq!(group_of(Some(nothing), &a), None, "{nothing}");
        }
        assert_eq!(group_of(None, &a), None);
    }

    #[test]
    fn one_label_holds_for_alerts_of_one_name_only() {
        let test = alert(&[("alertname", "TestIncident"), ("component", "email")]);
        let down = alert(&[("alertname", "EmailServiceDown"), ("component", "email")]);
        let text = r#"{}:{component="email"}"#;
        let key = Some(text);
        assert_ne!(group_of(key, &test), group_of(key, &down));
        let mut same = GroupKey::of(text).unwrap();
        for alert in [&test, &test, &down, &test] {
            assert_eq!(same.group_of(alert, &alert.about()), group_of(key, alert), "whatever came before");
        }
        let key = Some(r#"{}:{alertname="TestIncident"}"#);
        assert!(group_of(key, &test).is_some() && group_of(key, &down).is_none());
    }

    #[test]
    fn keys_that_are_written_differently_are_one() {
        let one = alert(&[
            ("alertname", "A"),
            ("env", "prod"),
            ("service.name", "a\u{a0}b\u{7}ä"),
            ("prometheus_replica", "p-0"),
        ]);
        let keys = [
            r#"{}/{a=~"^(?:x,}.*)$",b="1"}/{c="2"}:{alertname="A", env="prod", service.name="a\u00a0b\aä"}"#,
            r#"{}/{b="1",a=~"^(?:x,}.*)$"}/{c="2"}:{alertname="A", env="prod", "service.name"="a\u00a0b\x07\u00e4"}"#,
            r#"{}/{b="1", a=~"^(?:x,}.*)$"}/{c="2"}:{alertname="A", env="prod", prometheus_replica="p-0", service.name="a\U000000a0b\aä"}"#,
        ];
        let first = group_of(Some(keys[0]), &one);
        assert!(first.is_some());
        for key in keys {
            assert_eq!(group_of(Some(key), &one), first, "{key}");
        }
        let other = keys[0].replace("c=\"2\"", "c=\"3\"");
        assert_ne!(group_of(Some(&other), &one), first, "another route");
        for broken in [r#"{}:{a="\u00"}"#, r#"{}:{a="\q"}"#, r#"{}:{a="\"}"#, r#":{a="b"}"#, r#"{"}:{a="b"}"#]
        {
            assert_eq!(group_of(Some(broken), &one), None, "{broken}");
        }
    }

    #[test]
    fn what_an_exporter_or_a_namespace_alone_says_does_not_make_two_workloads_one() {
        let state = |labels: &[(&str, &str)]| {
            let exporter = [
                ("job", "kube-state-metrics"),
                ("instance", "10.0.0.1:8080"),
                ("component", "kube-state-metrics"),
            ];
            alert(&[&exporter, labels].concat())
        };
        let cart =
            state(&[("alertname", "KubePodCrashLooping"), ("namespace", "shop"), ("pod", "cart-6c9f-x2x4z")]);
        let again =
            state(&[("alertname", "KubePodCrashLooping"), ("namespace", "shop"), ("pod", "cart-6c9f-aaaa2")]);
        let mail =
            state(&[("alertname", "KubePodCrashLooping"), ("namespace", "shop"), ("pod", "mail-6c9f-x2x4z")]);
        let by_exporter = Some(r#"{}:{component="kube-state-metrics", instance="10.0.0.1:8080"}"#);
        assert_eq!(group_of(by_exporter, &cart), None);
        let by_namespace = Some(r#"{}:{job="kube-state-metrics", namespace="shop"}"#);
        assert_eq!(group_of(by_namespace, &cart), group_of(by_namespace, &again));
        assert_ne!(group_of(by_namespace, &cart), group_of(by_namespace, &mail));
        let by_name = Some(r#"{}:{alertname="KubePodCrashLooping", namespace="shop"}"#);
        assert_eq!(group_of(by_name, &cart), group_of(by_name, &mail), "a source that says one name is one");
    }
}
