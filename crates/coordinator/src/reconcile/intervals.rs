//! Whether Alertmanager tells us of an alert, or keeps it back on purpose by the time intervals of its routes. Pure.
//!
//! The list of alerts does not show mute and active time intervals. Groups of notifications do from Alertmanager 0.28 on, as of the last
//! time that a group was due to be told; older ones say nothing, and then only the routes of the configuration are known.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use quell_connect::alertmanager::{Grouped, HeldAlert, Route, Status};

/// What Alertmanager assumes where a route does not say how long a group may wait; for routes that cannot be read.
const GROUP_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// Whether we are told of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// By a route that has no time intervals, at the latest after its group's wait.
    Always {
        /// How long a new group waits.
        after: SignedDuration,
    },
    /// By routes that have some, and none keeps it back as of the last time that its group was due. That says something of now once it
    /// has been said for as long as a group may wait.
    Open {
        /// How long a group may wait.
        after: SignedDuration,
    },
    /// Time intervals keep it back.
    Muted {
        /// Their names, sorted.
        by: Vec<String>,
    },
    /// By routes that have some, and whether one of them keeps it back is not said.
    Unsaid,
}

/// What one Alertmanager says besides its list.
#[derive(Debug, Default)]
pub(super) struct Says {
    /// What it is and how it routes; `None` when it did not answer.
    pub status: Option<std::sync::Arc<Status>>,
    /// In which groups each alert stands, by fingerprint; `None` when it was not asked or did not answer.
    pub groups: Option<BTreeMap<String, Vec<Grouped>>>,
}

impl Says {
    /// Whether it has to be asked for its groups: some route is quiet at times, or that is not known.
    pub(super) fn needs_groups(status: Option<&Status>) -> bool {
        status.is_none_or(|status| status.routes.as_ref().map_or(true, |routes| routes.have_intervals()))
    }

    /// Whether the alert is told to one of `receivers`; to anybody, where none are known.
    pub(super) fn told(&self, alert: &HeldAlert, receivers: &[String]) -> Told {
        let ours = |receiver: &str| receivers.is_empty() || receivers.iter().any(|name| name == receiver);
        let routes = self.status.as_ref().and_then(|status| status.routes.as_ref().ok());
        let routes: Option<Vec<Route<'_>>> = routes.map(|routes| {
            routes.taken_by(&alert.labels).into_iter().filter(|route| ours(route.receiver)).collect()
        });
        let always =
            routes.iter().flatten().filter(|route| !route.has_intervals).map(|route| route.group_wait);
        if let Some(after) = always.min() {
            return Told::Always { after };
        }
        let groups = self.groups.as_ref().and_then(|groups| groups.get(&alert.fingerprint));
        let groups: Vec<_> = groups.into_iter().flatten().filter(|group| ours(&group.receiver)).collect();
        let mut by = Vec::new();
        let mut open = false;
        for group in &groups {
            match group.muted_by.as_deref() {
                None => return Told::Unsaid,
                Some([]) => open = true,
                Some(named) => by.extend(named.iter().cloned()),
            }
        }
        if open {
            let waits = routes.iter().flatten().map(|route| route.group_wait.max(route.group_interval));
            return Told::Open { after: waits.max().unwrap_or(GROUP_INTERVAL) };
        }
        if by.is_empty() {
            return Told::Unsaid;
        }
        by.sort();
        by.dedup();
        Told::Muted { by }
    }
}

impl Told {
    /// What two Alertmanagers of a cluster say together. Each looks at its intervals when its own group is due, so one may know a little
    /// later than the other: what one of them keeps back is kept back.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Muted { mut by }, Self::Muted { by: others }) => {
                by.extend(others);
                by.sort();
                by.dedup();
                Self::Muted { by }
            }
            (muted @ Self::Muted { .. }, _) | (_, muted @ Self::Muted { .. }) => muted,
            (Self::Open { after }, Self::Open { after: other }) => Self::Open { after: after.max(other) },
            (open @ Self::Open { .. }, _) | (_, open @ Self::Open { .. }) => open,
            (Self::Always { after }, Self::Always { after: other }) => {
                Self::Always { after: after.max(other) }
            }
            (Self::Unsaid, _) | (_, Self::Unsaid) => Self::Unsaid,
        }
    }
}
