//! From matches to messages: how long a condition has held, what was said, what is to be said.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::rules::{Labels, Match};
use super::webhook::{Alert, Payload, group_labels, payload};

/// An alert whose condition holds.
struct Holding {
    since: Timestamp,
    /// None until the condition has held long enough.
    alert: Option<Alert>,
}

/// All alerts, and when each group was last told.
pub(crate) struct Alerting {
    hold: SignedDuration,
    repeat: SignedDuration,
    external_url: String,
    holding: BTreeMap<Labels, Holding>,
    told: BTreeMap<Labels, Timestamp>,
}

impl Alerting {
    pub(crate) fn new(hold: Duration, repeat: Duration, external_url: String) -> Alerting {
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        Alerting {
            hold: signed(hold),
            repeat: signed(repeat),
            external_url,
            holding: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// The messages that this evaluation makes necessary, at most one per group.
    pub(crate) fn evaluate(&mut self, now: Timestamp, matches: Vec<Match>) -> Vec<Payload> {
        let mut groups: BTreeMap<Labels, Vec<Alert>> = BTreeMap::new();
        let mut changed: Vec<Labels> = Vec::new();
        let current: BTreeMap<Labels, Match> =
            matches.into_iter().map(|one| (one.labels.clone(), one)).collect();

        for (labels, ended) in self.holding.extract_if(.., |labels, _| !current.contains_key(labels)) {
            if let Some(alert) = ended.alert {
                let group = group_labels(&labels);
                changed.push(group.clone());
                groups.entry(group).or_default().push(Alert { ends_at: Some(now), ..alert });
            }
        }
        for (labels, found) in current {
            let holding = self.holding.entry(labels).or_insert(Holding { since: now, alert: None });
            if now.duration_since(holding.since) < self.hold {
                continue;
            }
            let group = group_labels(&found.labels);
            if holding.alert.is_none() {
                changed.push(group.clone());
            }
            let starts_at = holding.alert.as_ref().map_or(now, |alert| alert.starts_at);
            let annotations = found.annotations();
            let alert =
                Alert { rule: found.rule, labels: found.labels, annotations, starts_at, ends_at: None };
            holding.alert = Some(alert.clone());
            groups.entry(group).or_default().push(alert);
        }

        let mut messages = Vec::new();
        for (group, alerts) in groups {
            let due = self.told.get(&group).is_none_or(|at| now.duration_since(*at) >= self.repeat);
            if due || changed.contains(&group) {
                if alerts.iter().all(|alert| alert.ends_at.is_some()) {
                    self.told.remove(&group);
                } else {
                    self.told.insert(group.clone(), now);
                }
                messages.push(payload(group, &alerts, &self.external_url));
            }
        }
        messages
    }
}
