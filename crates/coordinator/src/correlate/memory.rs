//! What correlation remembers between turns: where groups and rules lead, and how alerts change. All of it
//! follows from incidents and messages; after a restart it is filled from the incidents that are not over.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use quell_incident::about::{About, SiteLabels};
use quell_incident::alert::{Alert, AlertKey, AlertStatus};
use quell_incident::correlation::{Flapping, FlappingRule, GroupId, JoinedBy, Rule, Transitions};
use quell_incident::workflow::LATE_MESSAGE_WITHIN;
use quell_incident::{Incident, IncidentId};

/// Severity words that are told of once each.
const WORDS_MAX: usize = 100;
/// Entries of each kind before those of no more use are forgotten, and then those that nothing has come to for longest: an alert that
/// they would have led somewhere opens an incident of its own.
const ENTRIES_MAX: usize = 50_000;

/// Entries of each kind that are left alone while nothing comes.
const ENTRIES_IDLE_MAX: usize = 2_000;

/// What makes alerts one incident.
#[derive(Clone, Debug)]
pub(crate) struct JoinSettings {
    /// Within which time of its last alert a group is one; zero: never.
    pub group_window: SignedDuration,
    /// In the order in which they are looked at.
    pub rules: Vec<Rule>,
    /// When an alert flaps.
    pub flapping: FlappingRule,
    /// What the site knows of its labels.
    pub site: SiteLabels,
}

/// Where a group or a rule's values lead.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: IncidentId,
    last: Timestamp,
}

type RuleKey = (String, Vec<String>);

#[derive(Default)]
pub(super) struct Memory {
    groups: HashMap<GroupId, Place>,
    rules: HashMap<RuleKey, Place>,
    changes: HashMap<AlertKey, Changes>,
    episodes: HashMap<AlertKey, Episodes>,
    words: HashSet<String>,
}

#[derive(Default)]
struct Changes {
    seen: Transitions,
    fires: Option<bool>,
}

/// What was heard of an alert's episodes, whether an incident knows the alert or not: messages come in another order than they were
/// sent, and the end of an episode may be here before its beginning.
#[derive(Clone, Copy, Debug)]
struct Episodes {
    /// When the newest one that fires or fired began.
    began: Timestamp,
    /// The newest one that is known to have ended.
    ended: Option<Ended>,
    /// When anything was last heard.
    last: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    began: Timestamp,
    at: Timestamp,
    /// When that was heard first.
    heard: Timestamp,
}

impl Memory {
    /// An alert fires. False if that is a late message of an episode that has ended.
    pub(super) fn fires(&mut self, alert: &Alert, heard: Timestamp) -> bool {
        let new = Episodes { began: alert.starts_at, ended: None, last: heard };
        let known = self.episodes.entry(alert.key.clone()).or_insert(new);
        known.last = known.last.max(heard);
        let is_late = known.ended.is_some_and(|ended| {
            alert.starts_at <= ended.began && heard.duration_since(ended.heard) < LATE_MESSAGE_WITHIN
        });
        if !is_late {
            known.began = known.began.max(alert.starts_at);
        }
        !is_late
    }

    /// An episode of an alert has ended. False if a later one is known to have begun after that: then the alert goes on.
    pub(super) fn ends(&mut self, alert: &Alert, at: Timestamp, heard: Timestamp) -> bool {
        if at < alert.starts_at {
            // The end of an episode whose beginning is not said.
            return true;
        }
        let new = Ended { began: alert.starts_at, at, heard };
        let first = Episodes { began: alert.starts_at, ended: None, last: heard };
        let known = self.episodes.entry(alert.key.clone()).or_insert(first);
        known.last = known.last.max(heard);
        // What is repeated was heard first when it was heard first.
        if known.ended.is_none_or(|ended| (ended.began, ended.at) < (new.began, new.at)) {
            known.ended = Some(new);
        }
        alert.starts_at >= known.began || at >= known.began
    }

    /// Takes over what an incident that is not over says.
    pub(super) fn learn(&mut self, incident: &Incident, settings: &JoinSettings) {
        for state in incident.alerts.values() {
            self.note_change(&state.alert.key, AlertStatus::Firing, state.alert.starts_at);
            if let Some(at) = state.cleared_at {
                self.note_change(&state.alert.key, AlertStatus::Resolved, at);
            }
        }
        if !incident.status().is_active() {
            return;
        }
        let id = incident.id;
        for (group, last) in &incident.groups {
            let place = Place { id, last: *last };
            let known = self.groups.entry(group.clone()).or_insert(place);
            if known.last < place.last {
                *known = place;
            }
        }
        for state in incident.alerts.values() {
            let last = state.alert.starts_at.max(incident.created_at);
            let about = About::with(&state.alert.labels, &settings.site);
            for rule in &settings.rules {
                if let Some(values) = rule.key(&state.alert, &about) {
                    let place = self.rules.entry((rule.name.clone(), values)).or_insert(Place { id, last });
                    if place.last < last {
                        *place = Place { id, last };
                    }
                }
            }
        }
    }

    /// Where an alert that is not known may belong, and why, the best first.
    pub(super) fn candidates(
        &self,
        (alert, about): (&Alert, &About),
        group: Option<&GroupId>,
        at: Timestamp,
        settings: &JoinSettings,
    ) -> Vec<(IncidentId, JoinedBy)> {
        let within = |place: &Place, window: SignedDuration| at.duration_since(place.last) <= window;
        let mut found = Vec::new();
        if let Some(place) = group.and_then(|group| self.groups.get(group))
            && settings.group_window.is_positive()
            && within(place, settings.group_window)
        {
            found.push((place.id, JoinedBy::GroupKey));
        }
        for rule in &settings.rules {
            let Some(values) = rule.key(alert, about) else { continue };
            if let Some(place) = self.rules.get(&(rule.name.clone(), values))
                && rule.window.is_none_or(|window| within(place, window))
            {
                found.push((place.id, JoinedBy::Rule { rule: rule.name.clone() }));
            }
        }
        found
    }

    /// An alert belongs to this incident now. A key that leads to another incident that still takes alerts keeps leading there.
    pub(super) fn belongs(
        &mut self,
        (alert, about): (&Alert, &About),
        group: Option<&GroupId>,
        id: IncidentId,
        at: Timestamp,
        settings: &JoinSettings,
        takes: impl Fn(IncidentId) -> bool,
    ) {
        let lead = |place: &mut Place| {
            if place.id == id || !takes(place.id) {
                *place = Place { id, last: place.last.max(at) };
            }
        };
        if let Some(group) = group {
            lead(self.groups.entry(group.clone()).or_insert(Place { id, last: at }));
        }
        for rule in &settings.rules {
            if let Some(values) = rule.key(alert, about) {
                lead(self.rules.entry((rule.name.clone(), values)).or_insert(Place { id, last: at }));
            }
        }
    }

    /// Whether a severity word that nobody knows is seen for the first time.
    pub(super) fn is_new_word(&mut self, word: &str) -> bool {
        self.words.len() < WORDS_MAX && self.words.insert(word.to_owned())
    }

    /// Notes that an alert fires or has cleared since an instant.
    pub(super) fn note_change(&mut self, key: &AlertKey, status: AlertStatus, at: Timestamp) {
        let changes = self.changes.entry(key.clone()).or_default();
        let fires = status == AlertStatus::Firing;
        // Two sources of one alert do not begin it at quite the same instant.
        if changes.fires != Some(fires) {
            changes.fires = Some(fires);
            changes.seen.note(at);
        }
    }

    /// Whether an alert flaps now.
    pub(super) fn flapping(&self, key: &AlertKey, rule: &FlappingRule, now: Timestamp) -> Option<Flapping> {
        self.changes.get(key)?.seen.flapping(key, rule, now)
    }

    /// Whether it has become much.
    pub(super) fn is_large(&self) -> bool {
        let largest = self.groups.len().max(self.rules.len()).max(self.episodes.len());
        largest.max(self.changes.len()) > ENTRIES_MAX
    }

    /// Whether it is worth while to forget what is of no more use although there is room.
    pub(super) fn is_worth_giving_back(&self) -> bool {
        let largest = self.groups.capacity().max(self.rules.capacity()).max(self.episodes.capacity());
        largest.max(self.changes.capacity()) > ENTRIES_IDLE_MAX
    }

    /// Forgets what leads to incidents that are over, and what is long ago.
    pub(super) fn forget(
        &mut self,
        unfinished: &HashSet<IncidentId>,
        settings: &JoinSettings,
        now: Timestamp,
    ) {
        self.groups.retain(|_, place| unfinished.contains(&place.id));
        self.rules.retain(|_, place| unfinished.contains(&place.id));
        forget_oldest(&mut self.groups, |place| place.last);
        forget_oldest(&mut self.rules, |place| place.last);
        self.episodes.retain(|_, known| now.duration_since(known.last) < LATE_MESSAGE_WITHIN);
        forget_oldest(&mut self.episodes, |known| known.last);
        let since = now.saturating_sub(settings.flapping.window).unwrap_or(Timestamp::MIN);
        self.changes.retain(|_, changes| changes.seen.last().is_some_and(|last| last >= since));
        // A storm within the window: what is forgotten only delays that flapping is seen.
        if self.changes.len() > ENTRIES_MAX {
            self.changes.clear();
        }
        self.groups.shrink_to_fit();
        self.rules.shrink_to_fit();
        self.changes.shrink_to_fit();
        self.episodes.shrink_to_fit();
    }
}

/// Of too many, the older half: so that it is long until there are too many again.
fn forget_oldest<K, V>(places: &mut HashMap<K, V>, last: impl Fn(&V) -> Timestamp) {
    if places.len() <= ENTRIES_MAX {
        return;
    }
    let mut times: Vec<_> = places.values().map(&last).collect();
    let middle = times.len() / 2;
    let (_, &mut median, _) = times.select_nth_unstable(middle);
    let mut room = ENTRIES_MAX / 2;
    places.retain(|_, place| {
        // Many may be of one instant.
        let stays = last(place) >= median && room > 0;
        room -= usize::from(stays);
        stays
    });
}
