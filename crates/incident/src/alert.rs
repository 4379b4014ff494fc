//! Alerts as they come in, and what in them may not be trusted.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::about::About;
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

    /// Whether a declared condition holds of it, such as an expression of the configuration. All that comes out is yes or no.
    pub fn fits(&self, condition: impl FnOnce(&str) -> bool) -> bool {
        condition(self.0)
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The whole text, for what looks at each of its characters itself.
    pub(crate) fn in_full(&self) -> &'a str {
        self.0
    }

    /// The text for people: control characters replaced, cut at 500 characters.
    pub fn for_people(&self) -> String {
        if self.0.len() <= 500 && !self.0.chars().any(char::is_control) {
            return self.0.to_owned();
        }
        self.0.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, formatter)
    }
}

/// Labels or annotations: names and telemetry's text, sorted by name. There are few of them in an alert and many alerts in memory, so
/// they are a list and not a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(Box<str>, Box<str>)>);

impl Labels {
    /// The value of a label, if it is there and not empty (to Prometheus an empty label is an absent one).
    pub fn get(&self, name: &str) -> Option<Untrusted<'_>> {
        let (_, value) = self.0.get(self.place(name).ok()?)?;
        (!value.is_empty()).then_some(Untrusted(value))
    }

    /// All of them by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Untrusted<'_>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), Untrusted(value)))
    }

    /// Sets one.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.put(name.into().into(), value.into().into());
    }

    /// Gives those another value of which `of`, which is told name and value, has one.
    pub fn rewrite(&mut self, mut of: impl FnMut(&str, &str) -> Option<String>) {
        for (name, value) in &mut self.0 {
            if let Some(other) = of(name, value) {
                *value = other.into();
            }
        }
    }

    fn put(&mut self, name: Box<str>, value: Box<str>) {
        match self.place(&name) {
            Ok(place) => {
                if let Some((_, known)) = self.0.get_mut(place) {
                    *known = value;
                }
            }
            Err(place) => self.0.insert(place, (name, value)),
        }
    }

    /// Where one is, or where it belongs. Most come in their order.
    fn place(&self, name: &str) -> Result<usize, usize> {
        match self.0.last() {
            Some((last, _)) if **last < *name => Err(self.0.len()),
            _ => self.0.binary_search_by(|(known, _)| (**known).cmp(name)),
        }
    }

    /// These, and those of the others whose names are missing or empty here.
    #[must_use]
    pub fn completed_by(&self, others: &Self) -> Self {
        let mut all = self.clone();
        for (name, value) in &others.0 {
            if !value.is_empty() && self.get(name).is_none() {
                all.put(name.clone(), value.clone());
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
        let mut labels = Self::default();
        pairs.into_iter().for_each(|(name, value)| labels.insert(name, value));
        labels
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of names and texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut labels = Labels::default();
        while let Some((name, value)) = map.next_entry()? {
            labels.put(name, value);
        }
        Ok(labels)
    }
}

/// What Alertmanager calls the fingerprint: 64-bit FNV-1a over the sorted labels, as 16 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(Arc<str>);

impl Fingerprint {
    /// Takes a fingerprint that a source sent. Other sources use other forms, so any text up to 128 characters is one; `None` when
    /// it is empty, longer or has control characters.
    pub fn given(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control);
        fits.then(|| Self(Arc::from(text)))
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
        Self(format!("{hash:016x}").into())
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "StoredAlert")]
pub struct Alert {
    /// The configured source and the fingerprint.
    pub key: AlertKey,
    /// Firing or resolved.
    pub status: AlertStatus,
    /// What identifies it; telemetry's text.
    pub labels: Labels,
    /// What describes it; telemetry's text.
    pub annotations: Labels,
    /// When this episode began.
    pub starts_at: Timestamp,
    /// When it ended, if it has.
    pub ends_at: Option<Timestamp>,
    /// Where the source shows its rule; for people only.
    pub generator_url: Option<String>,
}

/// An alert's stored form, with the key's parts beside the others. Thousands are written and read per second, and serde's `flatten`
/// would take each apart into a tree first.
#[derive(Serialize, Deserialize)]
struct StoredAlert<L = Labels, U = String> {
    source: SourceName,
    fingerprint: Fingerprint,
    status: AlertStatus,
    labels: L,
    #[serde(default)]
    annotations: L,
    starts_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    generator_url: Option<U>,
}

impl Serialize for Alert {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let AlertKey { source, fingerprint } = self.key.clone();
        let Self { status, starts_at, ends_at, .. } = *self;
        let generator_url = self.generator_url.as_deref();
        let (labels, annotations) = (&self.labels, &self.annotations);
        StoredAlert { source, fingerprint, status, labels, annotations, starts_at, ends_at, generator_url }
            .serialize(serializer)
    }
}

impl From<StoredAlert> for Alert {
    fn from(stored: StoredAlert) -> Self {
        let StoredAlert {
            source,
            fingerprint,
            status,
            labels,
            annotations,
            starts_at,
            ends_at,
            generator_url,
        } = stored;
        let key = AlertKey { source, fingerprint };
        Self { key, status, labels, annotations, starts_at, ends_at, generator_url }
    }
}

impl Alert {
    /// The alert's name, `unnamed` without one.
    pub fn name(&self) -> String {
        self.labels.get("alertname").map_or_else(|| "unnamed".to_owned(), |name| name.for_people())
    }

    /// What it is about.
    pub fn about(&self) -> About {
        About::of(&self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_stored_form_has_the_parts_of_the_key_beside_the_others() {
        let stored = concat!(
            r#"{"source":"am","fingerprint":"0f","status":"firing","labels":{"alertname":"A"},"annotations":{},"#,
            r#""starts_at":"2026-11-20T18:00:00Z"}"#
        );
        let alert: Alert = serde_json::from_str(stored).unwrap();
        assert_eq!(alert.key.to_string(), "am/0f");
        assert_eq!(serde_json::to_string(&alert).unwrap(), stored);
        let ended = Alert {
            ends_at: Some(alert.starts_at),
            generator_url: Some("http://prometheus/graph".to_owned()),
            status: AlertStatus::Resolved,
            ..alert
        };
        let stored = serde_json::to_string(&ended).unwrap();
        assert!(
            stored
                .ends_with(r#""ends_at":"2026-11-20T18:00:00Z","generator_url":"http://prometheus/graph"}"#)
        );
        assert_eq!(serde_json::from_str::<Alert>(&stored).unwrap(), ended);
        let without_annotations = stored.replace(r#""annotations":{},"#, "");
        assert_eq!(serde_json::from_str::<Alert>(&without_annotations).unwrap(), ended);
    }

    #[test]
    fn labels_are_sorted_and_the_last_of_one_name_counts() {
        let labels: Labels = serde_json::from_str(r#"{"c":"1","a":"2","b":"3","a":"4","d":""}"#).unwrap();
        assert_eq!(serde_json::to_string(&labels).unwrap(), r#"{"a":"4","b":"3","c":"1","d":""}"#);
        assert!(labels.get("a").is_some_and(|value| value.is("4")));
        assert!(labels.get("d").is_none() && labels.get("e").is_none(), "an empty label is an absent one");
        assert_eq!(labels, [("d", ""), ("b", "x"), ("a", "4"), ("c", "1"), ("b", "3")].into_iter().collect());
        assert!(serde_json::from_str::<Labels>(r#"{"a":1}"#).is_err());
    }

    #[test]
    fn text_for_people_has_no_control_characters() {
        assert_eq!(Untrusted::new("a\u{1b}[31mred\nline").for_people(), "a [31mred line");
    }
}
