//! What belongs together, decided without IO: Alertmanager's groups, configured rules, flapping, and how long a class of alerts is
//! worth waiting for.

mod flap;
mod group;
mod settle;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

pub use flap::{Flapping, FlappingRule, Transitions};
pub use group::{GroupId, GroupKey};
pub use settle::{SETTLED_KEPT_MAX, SettleRule, learned_settle};

use crate::about::{About, Kind};
use crate::alert::{Alert, Fingerprint, Labels};
use crate::ids::SourceName;

/// Why an alert joined an incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum JoinedBy {
    /// Its source sent it in the same group.
    GroupKey,
    /// It has the same labels as a rule names.
    Rule {
        /// The rule's name.
        rule: String,
    },
}

impl std::fmt::Display for JoinedBy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::GroupKey => formatter.write_str("by group key"),
            Self::Rule { rule } => write!(formatter, "by rule {rule}"),
        }
    }
}

/// Alerts that have the same of something belong to one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, for the timeline.
    pub name: String,
    /// What they must have in common.
    pub by: Common,
    /// How long after the last alert another one joins; `None` for as long as the incident is under way.
    pub window: Option<SignedDuration>,
    /// The sources that it is for: their alerts join each other. Empty: every source, each by itself.
    pub sources: Vec<String>,
}

/// What alerts have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Common {
    /// Values of these labels: all there, equal, and of what the alert is about, not of the exporter that told of it.
    Labels(Vec<String>),
    /// The workload that they are about: one that crashes is told of by several alerts.
    Workload,
    /// Everything but what changes without another thing being broken: a measured value, the replica of Prometheus that sent it, the
    /// address of the exporter.
    Condition,
}

impl Rule {
    /// What an alert must have in common with another one; `None` when the rule says nothing of it.
    pub fn key(&self, alert: &Alert, about: &About) -> Option<Vec<String>> {
        let source = alert.key.source.as_str();
        let own = if self.sources.is_empty() {
            source.to_owned()
        } else if self.sources.iter().any(|wanted| wanted == source) {
            String::new()
        } else {
            return None;
        };
        match &self.by {
            Common::Labels(labels) if labels.is_empty() => None,
            Common::Labels(labels) => {
                let values = labels.iter().map(|name| about.label(&alert.labels, name));
                std::iter::once(Some(own)).chain(values).collect()
            }
            Common::Workload => Some(vec![own, about.workload.clone()?]),
            Common::Condition => Some(vec![own, condition(alert, about)?.to_string()]),
        }
    }
}

/// The fingerprint of an alert without what changes; `None` for one that has nothing of that kind.
fn condition(alert: &Alert, about: &About) -> Option<Fingerprint> {
    // An exporter's address is all there is to tell two of them apart where nothing says what they are about.
    let named = about.kind != Kind::Nothing;
    let goes = |name: &str| is_volatile(name) || (named && about.is_exporters(name));
    let stays = |name: &str| !goes(name);
    if alert.labels.iter().all(|(name, _)| stays(name) && !names_prometheus(name)) {
        return None;
    }
    let kept = alert.labels.iter().filter(|(name, _)| stays(name));
    let kept = kept.map(|(name, value)| (name, without_replica(name, value.for_people())));
    Some(Fingerprint::of(&kept.collect::<Labels>()))
}

/// A label without its separators and in lower case.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_ascii_lowercase()
}

/// Whether a label changes without anything else being broken.
fn is_volatile(name: &str) -> bool {
    const VALUES: [&str; 19] = [
        "value",
        "val",
        "currentvalue",
        "current",
        "metricvalue",
        "valuestring",
        "measured",
        "timestamp",
        "time",
        "percent",
        "percentage",
        "pct",
        "usage",
        "count",
        "threshold",
        "duration",
        "requestid",
        "traceid",
        "spanid",
    ];
    // Whatever a pair calls the label that tells its two apart: `prometheus_replica`, `__replica__`, `thanos_ruler_replica_id`.
    const REPLICAS: [&str; 6] =
        ["replica", "replicaid", "replicaname", "replicalabel", "hapeer", "replicaindex"];
    let plain = plain(name);
    REPLICAS.iter().any(|replica| plain.ends_with(replica)) || VALUES.contains(&plain.as_str())
}

/// Whether a label says which Prometheus sent an alert. Its value is not dropped, for two that are no pair watch different things.
fn names_prometheus(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "prometheus",
        "prometheusname",
        "prometheusserver",
        "prometheusinstance",
        "prometheuspod",
        "prometheushost",
        "monitor",
        "monitorname",
        "prom",
        "vmalert",
        "thanosruler",
        "ruler",
    ];
    NAMES.contains(&plain(name).as_str())
}

/// A label's value as it is compared: where it names a Prometheus, without what tells the two of a pair apart at its end. `monitoring/k8s-0`
/// and `monitoring/k8s-1` are a pair, and so are `prom-a` and `prom-b`, and `prometheus` and `prometheus-2`.
fn without_replica(name: &str, value: String) -> String {
    if !names_prometheus(name) {
        return value;
    }
    // An address ends in its port, and a name of a network in its domain: the replica is in the host.
    let (host, rest) = match value.find(['.', ':']) {
        Some(at) => value.split_at(at),
        None => (value.as_str(), ""),
    };
    let is_parted = |rest: &str| rest.ends_with(['-', '_', '/']);
    let without_number = host.trim_end_matches(|c: char| c.is_ascii_digit());
    let letter = host.char_indices().last().filter(|(_, last)| last.is_ascii_alphabetic());
    let stem = if without_number.len() < host.len() {
        without_number
    } else {
        letter.and_then(|(at, _)| host.get(..at)).filter(|rest| is_parted(rest)).unwrap_or(host)
    };
    let stem = ["-replica", "_replica", "replica-", "replica_", "replica"]
        .iter()
        .find_map(|word| stem.strip_suffix(word))
        .unwrap_or(stem);
    let stem = stem.trim_end_matches(['-', '_', '/']);
    // All of an address of numbers would be a replica's.
    let is_address = value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b':'));
    if (is_address && !rest.is_empty()) || ends_in_place(stem) { value } else { format!("{stem}{rest}") }
}

/// Whether a name ends in a word that counts places or parts: `eu-west-1` and `eu-west-2` are no pair, and neither are `dc1` and `dc2`.
fn ends_in_place(stem: &str) -> bool {
    const PLACES: [&str; 22] = [
        "north",
        "south",
        "east",
        "west",
        "central",
        "northeast",
        "northwest",
        "southeast",
        "southwest",
        "dc",
        "az",
        "zone",
        "region",
        "rack",
        "room",
        "site",
        "cluster",
        "shard",
        "tenant",
        "team",
        "stage",
        "env",
    ];
    let last = stem.rsplit(['-', '_', '/']).next().unwrap_or(stem);
    let last = last.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
    PLACES.contains(&last.as_str())
}

/// A class of alert: what a history is kept of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// The source, as incidents name their origin.
    pub source: String,
    /// The alert's name.
    pub alert_name: String,
    /// Its component, empty when unknown.
    pub component: String,
}

impl Class {
    /// The class of an alert.
    pub fn of(source: &SourceName, head: &crate::mapping::Head) -> Self {
        Self {
            source: source.to_string(),
            alert_name: head.alert_name.clone(),
            component: head.component.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::alert::{AlertKey, AlertStatus};

    /// An alert of a disk with one more label.
    fn with(name: &str, value: &str) -> Alert {
        let mut labels: Labels = [("alertname", "Disk"), ("instance", "h1:9100")].into_iter().collect();
        labels.insert(name, value);
        Alert {
            key: AlertKey {
                source: SourceName::declared("am").unwrap(),
                fingerprint: Fingerprint::of(&labels),
            },
            status: AlertStatus::Firing,
            labels,
            annotations: Labels::default(),
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: None,
        }
    }

    fn key(alert: &Alert) -> Option<Vec<String>> {
        let rule = Rule { name: "r".to_owned(), by: Common::Condition, window: None, sources: Vec::new() };
        rule.key(alert, &alert.about())
    }

    #[test]
    fn the_two_of_a_pair_send_the_same_alert() {
        for (name, one, other) in [
            ("prometheus_replica", "prometheus-k8s-0", "prometheus-k8s-1"),
            ("replica", "A", "B"),
            ("__replica__", "r1", "r2"),
            ("receive_replica", "0", "1"),
            ("rule_replica", "thanos-rule-0", "thanos-rule-1"),
            ("thanos_ruler_replica", "a", "b"),
            ("replica_id", "1", "2"),
            ("prometheus", "monitoring/k8s-0", "monitoring/k8s-1"),
            ("prometheus", "prometheus", "prometheus-2"),
            ("prometheus", "prom01", "prom02"),
            ("prometheus", "prom-a", "prom-b"),
            ("prometheus", "prom-0.example.org:9090", "prom-1.example.org:9090"),
            ("prometheus", "eu-replica-0", "eu-replica-1"),
            ("monitor", "prometheus-1", "prometheus-2"),
            ("monitor", "master-0", "master-1"),
            ("prometheus_server", "p1", "p2"),
        ] {
            let (one, other) = (with(name, one), with(name, other));
            assert!(key(&one).is_some(), "{name}: {one:?}");
            assert_eq!(key(&one), key(&other), "{name}: {one:?} {other:?}");
            let group = |alert: &Alert| {
                let value = alert.labels.get(name).map(|value| value.for_people()).unwrap_or_default();
                let text = format!(r#"{{}}:{{alertname="Disk", instance="h1:9100", {name}="{value}"}}"#);
                GroupKey::of(&text).and_then(|mut group| group.group_of(alert, &alert.about()))
            };
            assert!(group(&one).is_some(), "{name}");
            assert_eq!(group(&one), group(&other), "{name}: the same group");
        }
    }

    #[test]
    fn two_that_are_no_pair_send_different_alerts() {
        for (name, one, other) in [
            ("prometheus", "monitoring/k8s", "shop/k8s"),
            ("prometheus", "prom-eu", "prom-us"),
            ("prometheus", "eu-0", "us-0"),
            ("prometheus", "eu-west-1", "eu-west-2"),
            ("prometheus", "us-east1-b", "us-east1-c"),
            ("prometheus", "k8s-shard-1", "k8s-shard-2"),
            ("monitor", "dc1", "dc2"),
            ("prometheus", "10.0.0.1:9090", "10.0.0.2:9090"),
            ("monitor", "web", "mail"),
            ("instance", "h-1", "h-2"),
            ("shard", "0", "1"),
            ("node", "w1", "w2"),
        ] {
            let (one, other) = (with(name, one), with(name, other));
            assert!(key(&one).is_none() || key(&one) != key(&other), "{name}: {one:?} {other:?}");
        }
    }
}
