//! Alertmanager's group key: when it says that alerts belong together, and when it does not.

use serde::{Deserialize, Serialize};

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
        let parts = [("key", group_key.unwrap_or_default()), ("source", source.as_str())];
        Self(Fingerprint::of(&parts.into_iter().collect::<Labels>()))
    }
}

/// What the group key of a message says of its alerts: nothing, when it does not say that they belong together.
///
/// A key ends in the labels that the source grouped by: `{}/{severity="critical"}:{alertname="Down", cluster="eu"}`. Without labels
/// everything that has no better place is in one group, so it says nothing. An alert that does not carry those labels was put there by
/// somebody else's hand. One label alone, such as a service, holds for too much: then only alerts of the same name are a group.
#[derive(Debug)]
pub struct GroupKey<'a> {
    text: &'a str,
    labels: Vec<(String, String)>,
    /// The group of the last alert, which is mostly the next one's as well, by source and name.
    last: Option<(SourceName, String, GroupId)>,
}

impl<'a> GroupKey<'a> {
    /// Reads a key; `None` when it says nothing of any alert.
    pub fn of(text: &'a str) -> Option<Self> {
        let labels = group_labels(text)?;
        (!labels.is_empty()).then_some(Self { text, labels, last: None })
    }

    /// The group of an alert that came with it.
    pub fn group_of(&mut self, alert: &Alert) -> Option<GroupId> {
        let fits = |(name, value): &(String, String)| alert.labels.get(name).is_some_and(|own| own.is(value));
        if !self.labels.iter().all(fits) {
            return None;
        }
        let source = &alert.key.source;
        let name = if self.labels.len() < 2 { alert.name() } else { String::new() };
        if let Some((_, _, group)) = self.last.as_ref().filter(|last| last.0 == *source && last.1 == name) {
            return Some(group.clone());
        }
        let parts = [("key", self.text), ("name", &name), ("source", source.as_str())];
        let group = GroupId(Fingerprint::of(&parts.into_iter().collect::<Labels>()));
        self.last = Some((source.clone(), name, group.clone()));
        Some(group)
    }
}

/// The labels at the end of a group key; `None` when it does not have that form.
fn group_labels(group_key: &str) -> Option<Vec<(String, String)>> {
    let mut begin = None;
    let (mut quoted, mut escaped, mut before) = (false, false, ' ');
    for (at, character) in group_key.char_indices() {
        if quoted {
            quoted = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else {
            quoted = character == '"';
            if before == ':' && character == '{' {
                begin = Some(at + 1);
            }
        }
        before = character;
    }
    let mut rest = group_key.get(begin?..)?.strip_suffix('}')?;
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted_text(after)?;
        labels.push((name.trim().to_owned(), value));
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
    Some(labels)
}

/// A quoted text at the beginning, and what follows it.
fn quoted_text(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, inner.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                same @ ('"' | '\\') => value.push(same),
                // Other escapes are of characters that no label in use has.
                _ => return None,
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::alert::{AlertKey, AlertStatus};

    fn group_of(group_key: Option<&str>, alert: &Alert) -> Option<GroupId> {
        GroupKey::of(group_key?)?.group_of(alert)
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
            assert_eq!(same.group_of(alert), group_of(key, alert), "whatever came before");
        }
        let key = Some(r#"{}:{alertname="TestIncident"}"#);
        assert!(group_of(key, &test).is_some() && group_of(key, &down).is_none());
    }
}
