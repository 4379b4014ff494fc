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

use crate::alert::Alert;
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

/// Alerts with the same values of these labels belong to one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, for the timeline.
    pub name: String,
    /// All of them must be there and equal.
    pub labels: Vec<String>,
    /// How long after the last alert another one joins; `None` for as long as the incident is under way.
    pub window: Option<SignedDuration>,
    /// The sources that it is for: their alerts join each other. Empty: every source, each by itself.
    pub sources: Vec<String>,
}

impl Rule {
    /// What an alert must have in common with another one; `None` when the rule says nothing of it.
    pub fn key(&self, alert: &Alert) -> Option<Vec<String>> {
        let source = alert.key.source.as_str();
        let own = if self.sources.is_empty() {
            source.to_owned()
        } else if self.sources.iter().any(|wanted| wanted == source) {
            String::new()
        } else {
            return None;
        };
        if self.labels.is_empty() {
            return None;
        }
        let values = self.labels.iter().map(|name| alert.labels.get(name).map(|value| value.for_people()));
        std::iter::once(Some(own)).chain(values).collect()
    }
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
