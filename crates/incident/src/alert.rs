//! Alerts as they come in, and what in them may not be trusted.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::SourceName;

/// Text that telemetry brought: a label, an annotation, a log line.
///
/// It can be shown and compared. It cannot become a command, a host or an argument: those types ([`crate::TargetName`], a step's
/// arguments) have no conversion from it, and what is acted on comes from the inventory and the runbook.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Untrusted<'a>(&'a str);

impl<'a> Untrusted<'a> {
    /// Marks text as having come from telemetry.
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Whether it is exactly the declared text: how telemetry selects a rule, a runbook or a target.
    pub fn is(&self, declared: &str) -> bool {
        self.0 == declared
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The text for people: control characters replaced, cut at 500 characters.
    pub fn for_people(&self) -> String {
        self.0.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, formatter)
    }
}

/// Labels or annotations: names and telemetry's text, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The value of a label, if it is there and not empty (to Prometheus an empty label is an absent one).
    pub fn get(&self, name: &str) -> Option<Untrusted<'_>> {
        self.0.get(name).filter(|value| !value.is_empty()).map(|value| Untrusted(value))
    }

    /// All of them by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Untrusted<'_>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), Untrusted(value)))
    }

    /// Sets one.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// These, and those of the others whose names are missing or empty here.
    #[must_use]
    pub fn completed_by(&self, others: &Self) -> Self {
        let mut all = self.clone();
        for (name, value) in &others.0 {
            if !value.is_empty() && self.get(name).is_none() {
                all.insert(name, value);
            }
        }
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// What Alertmanager calls the fingerprint: 64-bit FNV-1a over the sorted labels, as 16 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Takes a fingerprint that a source sent. Other sources use other forms, so any text up to 128 characters is one; `None` when
    /// it is empty, longer or has control characters.
    pub fn given(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_owned()))
    }

    /// Computes it as the Prometheus data model does (`LabelSet.Fingerprint`): over names and values in the order of the names,
    /// each followed by the byte 0xff, with FNV-1a.
    pub fn of(labels: &Labels) -> Self {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        let hash = labels.0.iter().fold(OFFSET, |hash, (name, value)| {
            let hash = add(name.bytes().fold(hash, add), 0xff);
            add(value.bytes().fold(hash, add), 0xff)
        });
        Self(format!("{hash:016x}"))
    }

    /// The fingerprint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether the alert's condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    /// It holds.
    Firing,
    /// It has ceased to hold.
    Resolved,
}

/// What makes two messages speak of one alert: the configured source and the fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    /// The configured source.
    pub source: SourceName,
    /// The alert's fingerprint there.
    pub fingerprint: Fingerprint,
}

impl fmt::Display for AlertKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.source, self.fingerprint)
    }
}

/// One message about one alert, in our own shape whatever source it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The configured source and the fingerprint.
    #[serde(flatten)]
    pub key: AlertKey,
    /// Firing or resolved.
    pub status: AlertStatus,
    /// What identifies it; telemetry's text.
    pub labels: Labels,
    /// What describes it; telemetry's text.
    #[serde(default)]
    pub annotations: Labels,
    /// When this episode began.
    pub starts_at: Timestamp,
    /// When it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Where the source shows its rule; for people only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_url: Option<String>,
}

impl Alert {
    /// The alert's name, `unnamed` without one.
    pub fn name(&self) -> String {
        self.labels.get("alertname").map_or_else(|| "unnamed".to_owned(), |name| name.for_people())
    }

    /// The affected system: the label `instance` without its port, `unknown` without one.
    pub fn affected_system(&self) -> String {
        let Some(instance) = self.labels.get("instance") else { return "unknown".to_owned() };
        let text = instance.for_people();
        match text.rsplit_once(':') {
            // `[::1]:9090` and `host:9090` lose their port, `::1` has none.
            Some((host, port))
                if !host.is_empty()
                    && port.bytes().all(|byte| byte.is_ascii_digit())
                    && (!host.contains(':') || host.ends_with(']')) =>
            {
                host.to_owned()
            }
            _ => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn the_fingerprint_of_no_labels_is_the_fnv_offset_basis() {
        assert_eq!(Fingerprint::of(&Labels::default()).as_str(), "cbf29ce484222325");
    }

    #[test]
    fn the_fingerprint_is_that_of_alertmanager() {
        // Recorded from Alertmanager 0.25.
        let recorded: serde_json::Value =
            serde_json::from_str(include_str!("../tests/fixtures/alertmanager-webhook-firing.json")).unwrap();
        let alert = &recorded["alerts"][0];
        let labels: Labels = serde_json::from_value(alert["labels"].clone()).unwrap();
        assert_eq!(Fingerprint::of(&labels).as_str(), alert["fingerprint"].as_str().unwrap());
    }

    #[test]
    fn the_affected_system_is_the_instance_without_its_port() {
        for (instance, expected) in [
            ("db-server-01:9090", "db-server-01"),
            ("db-server-01", "db-server-01"),
            ("[::1]:9090", "[::1]"),
            ("::1", "::1"),
            ("http://x/y:z", "http://x/y:z"),
            ("", "unknown"),
        ] {
            let alert = Alert {
                key: AlertKey {
                    source: SourceName::declared("am").unwrap(),
                    fingerprint: Fingerprint::given("0").unwrap(),
                },
                status: AlertStatus::Firing,
                labels: labels(&[("instance", instance)]),
                annotations: Labels::default(),
                starts_at: Timestamp::UNIX_EPOCH,
                ends_at: None,
                generator_url: None,
            };
            assert_eq!(alert.affected_system(), expected, "{instance}");
        }
    }

    #[test]
    fn text_for_people_has_no_control_characters() {
        assert_eq!(Untrusted::new("a\u{1b}[31mred\nline").for_people(), "a [31mred line");
    }
}
