//! What differs between what Alertmanager holds and what is known here. Pure: the readings, and a memory of the last one.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use quell_connect::alertmanager::{AlertState, HeldAlert, INTERVAL};
use quell_incident::IncidentId;
use quell_incident::alert::AlertKey;

use super::intervals::Told;
use super::reader::Held;

/// An alert that fires as far as is known here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Own {
    /// Which.
    pub key: AlertKey,
    /// Of which incident.
    pub incident_id: IncidentId,
    /// When this episode began.
    pub starts_at: Timestamp,
    /// What is known to suppress it.
    pub suppressed_by: Option<String>,
    /// Whether it was read from Prometheus, so that Alertmanager may never have heard of it.
    pub polled: bool,
    /// Its labels, where something is compared by them.
    pub labels: quell_incident::alert::Labels,
}

/// What Alertmanager holds, and what its not holding something means.
pub(crate) struct Listing<'a> {
    /// By fingerprint.
    pub alerts: &'a BTreeMap<String, Held>,
    /// Whether everyone who was asked answered, and has run for so long that what fires has been heard of again since the start.
    pub settled: bool,
    /// The instant before it was read.
    pub at: Timestamp,
}

/// The limits that are compared by.
pub(crate) struct Limits<'a> {
    /// How long an alert may be unknown here.
    pub missed_after: SignedDuration,
    /// How old an alert must be that was never seen listed, until its not being listed counts.
    pub cleared_after: SignedDuration,
    /// The receivers whose alerts are ours.
    pub receivers: &'a [String],
    /// Whether the end of what was read from Prometheus is read there as well.
    pub polling: bool,
}

/// What was seen in earlier rounds. Forgetting it delays a repair and changes none.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    listed: HashSet<AlertKey>,
    /// Since when it is said of alerts that the time intervals of their routes let them through, by fingerprint.
    open: HashMap<String, Timestamp>,
    absent: HashMap<AlertKey, Absence>,
}

#[derive(Debug)]
struct Absence {
    /// The first reading without it.
    since: Timestamp,
    /// Of which episode.
    starts_at: Timestamp,
}

/// An alert that has ended there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    /// As it is known here.
    pub own: Own,
    /// When, as far as can be said: when it was first seen to be gone.
    pub at: Timestamp,
}

/// A change of what suppresses an alert.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Suppression {
    /// Which alert.
    pub key: AlertKey,
    /// Of which incident.
    pub incident_id: IncidentId,
    /// By what now.
    pub by: Option<String>,
}

/// What differs.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// Alerts that fire there and are not among what fires here.
    pub unknown: Vec<HeldAlert>,
    /// Alerts that fire here and have ended there.
    pub ended: Vec<Ended>,
    /// Alerts that have been silenced or inhibited, or no longer are.
    pub suppressions: Vec<Suppression>,
}

impl Memory {
    /// A round without an answer: two rounds in a row begin anew.
    pub(crate) fn interrupted(&mut self) {
        self.absent.clear();
        self.open.clear();
    }

    /// Since when each is let through, as far as it has been seen without a break.
    fn let_through(&mut self, listing: &Listing<'_>) {
        let open = |held: &Held| matches!(held.told, Told::Open { .. });
        self.open.retain(|fingerprint, _| listing.alerts.get(fingerprint).is_some_and(open));
        for (fingerprint, _) in listing.alerts.iter().filter(|(_, held)| open(held)) {
            self.open.entry(fingerprint.clone()).or_insert(listing.at);
        }
    }

    /// Whether its webhook is overdue: told or not, when it comes is the route's to say.
    fn overdue(&self, held: &Held, listing: &Listing<'_>, missed_after: SignedDuration) -> bool {
        let age = |since: Timestamp| listing.at.duration_since(since);
        let fired = age(held.alert.starts_at);
        match held.told {
            Told::Always { after } => fired >= missed_after.saturating_add(after),
            Told::Open { after } => {
                let open = self.open.get(&held.alert.fingerprint);
                fired >= missed_after
                    && open.is_some_and(|since| age(*since) >= missed_after.saturating_add(after))
            }
            Told::Muted { .. } | Told::Unsaid => false,
        }
    }

    /// Two readings of one episode agree that it is gone: since when. The first one is remembered.
    pub(crate) fn gone(&mut self, own: &Own, at: Timestamp) -> Option<Timestamp> {
        match self.absent.get(&own.key) {
            Some(absence) if absence.starts_at == own.starts_at => Some(absence.since),
            _ => {
                let absence = Absence { since: at, starts_at: own.starts_at };
                self.absent.insert(own.key.clone(), absence);
                None
            }
        }
    }

    pub(crate) fn present(&mut self, key: &AlertKey) {
        self.absent.remove(key);
    }

    /// Forgets what is not known here any more.
    pub(crate) fn keep(&mut self, known: &HashSet<&AlertKey>) {
        self.listed.retain(|key| known.contains(key));
        self.absent.retain(|key, _| known.contains(key));
    }
}

/// Whether it is held and has not ended.
fn fires(held: &HeldAlert, at: Timestamp) -> bool {
    held.ends_at.is_none_or(|ends_at| ends_at > at)
}

/// Compares, and remembers what the next round needs.
pub(crate) fn compare(
    own: &[Own],
    listing: &Listing<'_>,
    limits: &Limits<'_>,
    memory: &mut Memory,
) -> Findings {
    let mut findings = Findings::default();
    let mut known: HashSet<&str> = HashSet::new();
    for one in own {
        known.insert(one.key.fingerprint.as_str());
        let held =
            listing.alerts.get(one.key.fingerprint.as_str()).filter(|held| fires(&held.alert, listing.at));
        match held {
            Some(held) => {
                memory.listed.insert(one.key.clone());
                memory.present(&one.key);
                findings.suppressions.extend(suppression(one, held));
            }
            None => findings.ended.extend(ended(one, listing, limits, memory)),
        }
    }
    memory.keep(&own.iter().map(|one| &one.key).collect());
    memory.let_through(listing);
    let missed = |held: &&Held| {
        let alert = &held.alert;
        alert.state == AlertState::Firing
            // Who is told is not decided yet.
            && alert.processed
            && fires(alert, listing.at)
            && !known.contains(alert.fingerprint.as_str())
            && memory.overdue(held, listing, limits.missed_after)
            && alert.receivers.iter().any(|receiver| limits.receivers.contains(receiver))
    };
    findings.unknown = listing.alerts.values().filter(missed).map(|held| held.alert.clone()).collect();
    findings
}

fn suppression(own: &Own, held: &Held) -> Option<Suppression> {
    let by = match held.alert.state {
        AlertState::Suppressed { .. } => held.by.clone(),
        // Nobody says whether the interval that kept it back still does.
        AlertState::Firing | AlertState::Cleared
            if held.told == Told::Unsaid
                && own.suppressed_by.as_deref().is_some_and(|by| by.contains(INTERVAL)) =>
        {
            return None;
        }
        // A moment after it was received again nobody has looked at its silences.
        AlertState::Firing | AlertState::Cleared if held.alert.processed => None,
        AlertState::Firing | AlertState::Cleared => return None,
    };
    (by != own.suppressed_by).then(|| Suppression { key: own.key.clone(), incident_id: own.incident_id, by })
}

fn ended(own: &Own, listing: &Listing<'_>, limits: &Limits<'_>, memory: &mut Memory) -> Option<Ended> {
    let heard_of =
        memory.listed.contains(&own.key) || listing.at.duration_since(own.starts_at) >= limits.cleared_after;
    if !listing.settled || !heard_of || (own.polled && limits.polling) {
        memory.present(&own.key);
        return None;
    }
    let at = memory.gone(own, listing.at)?;
    Some(Ended { own: own.clone(), at: at.max(own.starts_at) })
}

/// The receivers whose alerts are ours: those that are named; or those with a webhook at a path of ours; or those with any.
pub(crate) fn receivers_of(
    named: &[String],
    statuses: &[&quell_connect::alertmanager::Status],
) -> Vec<String> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let ours = |url: &String| {
        let path = url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        path.ends_with("/webhooks/alertmanager") || path.ends_with("/webhook/alert")
    };
    let with = |fits: &dyn Fn(&String) -> bool| -> Vec<String> {
        let webhooks = statuses.iter().flat_map(|status| &status.webhooks);
        let mut names: Vec<_> =
            webhooks.filter(|one| one.urls.iter().any(fits)).map(|one| one.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    };
    let at_a_path_of_ours = with(&ours);
    if at_a_path_of_ours.is_empty() { with(&|_| true) } else { at_a_path_of_ours }
}
