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
    if alert.labels.iter().all(|(name, _)| stays(name)) {
        return None;
    }
    let kept = alert.labels.iter().filter(|(name, _)| stays(name));
    Some(Fingerprint::of(&kept.map(|(name, value)| (name, value.for_people())).collect::<Labels>()))
}

/// Whether a label changes without anything else being broken.
fn is_volatile(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_ascii_lowercase();
    let values = [
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
    plain.ends_with("replica") || values.contains(&plain.as_str())
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
