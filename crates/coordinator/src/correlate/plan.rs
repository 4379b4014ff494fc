//! One turn: what becomes of the messages that are taken together. Decided in the messages' order, without waiting for anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quell_incident::about::{About, SiteLabels};
use quell_incident::alert::{Alert, AlertKey, AlertStatus};
use quell_incident::correlation::{Class, Flapping, GroupId, JoinedBy};
use quell_incident::event::Cleared;
use quell_incident::incident::ALERTS_MAX;
use quell_incident::mapping::Head;
use quell_incident::severity::{Priority, Severity, Status};
use quell_incident::workflow::{self, AlertBatch, FiredAlert};
use quell_incident::{Incident, IncidentId};
use tracing::{debug, warn};

use super::memory::Memory;
use crate::site::Settings;

/// Alerts in one append at the most.
const ALERTS_PER_APPEND_MAX: usize = 2_000;

/// How long an incident settles whose alert says that nobody is to be troubled: it is kept and shown, and ends with its alert.
const NOBODY_IS_ASKED_FOR: SignedDuration = SignedDuration::from_hours(24 * 365);

/// One alert of a received message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The alert.
    pub alert: Arc<Alert>,
    /// What it is about.
    pub about: Arc<About>,
    /// The group in which it came, when that says something of it.
    pub group: Option<GroupId>,
    /// The group of the message, whatever that says.
    pub of_message: GroupId,
    /// How many alerts the message left out.
    pub truncated: u64,
    /// When it was received.
    pub at: Timestamp,
}

/// What is known of the incidents that messages may concern.
#[derive(Default)]
pub(super) struct View {
    /// The incident that an alert last fired in.
    pub of_alert: BTreeMap<AlertKey, IncidentId>,
    /// Incidents; those that cannot be read are not there.
    pub incidents: HashMap<IncidentId, Arc<Incident>>,
}

/// What is to be done to one incident, in order.
pub(super) struct Work {
    /// Which.
    pub id: IncidentId,
    /// Its opening, when it is new.
    pub opening: Option<Opening>,
    /// Then these.
    pub rounds: Vec<Round>,
    /// Alerts that may be new to it.
    adds: usize,
}

/// A new incident.
pub(super) struct Opening {
    /// Its head.
    pub head: Head,
    /// Its first alert.
    pub alert: Arc<Alert>,
    /// What that is about.
    pub affected_systems: Vec<String>,
    /// An earlier incident of the same alert.
    pub linked_to: Option<IncidentId>,
    /// How long it settles at least, as its class has taught.
    pub settle: Option<SignedDuration>,
}

/// Messages that are decided together: each alert once.
#[derive(Default)]
pub(super) struct Round {
    fired: Vec<FiredAlert>,
    cleared: Vec<Cleared>,
    urgency: Option<(Priority, Severity)>,
    flapping: Option<Flapping>,
    truncated: BTreeMap<GroupId, u64>,
    /// What each alert does in it, and since when.
    alerts: BTreeMap<AlertKey, (AlertStatus, Timestamp)>,
    /// The messages, by their place in the turn: to be taken again when the round is refused.
    messages: Vec<usize>,
}

impl Round {
    /// As the workflow takes it, and the places of its messages.
    pub(super) fn into_batch(self) -> (AlertBatch, Vec<usize>) {
        let Self { fired, cleared, urgency, flapping, truncated, messages, .. } = self;
        (AlertBatch { fired, cleared, urgency, flapping, truncated }, messages)
    }
}

/// Plans a turn.
pub(super) struct Planner<'a> {
    pub(super) settings: &'a Settings,
    pub(super) view: &'a View,
    pub(super) memory: &'a mut Memory,
    pub(super) now: Timestamp,
    /// Makes the ids of new incidents.
    pub(super) new_id: &'a (dyn Fn() -> IncidentId + Sync),
    /// How long a class is worth waiting for.
    pub(super) settle: &'a (dyn Fn(&Class, Priority) -> Option<SignedDuration> + Sync),
    /// Where alerts went in this turn.
    pub(super) went: HashMap<AlertKey, IncidentId>,
    /// What is to be done, by incident and in the order in which they were first concerned.
    pub(super) works: Vec<Work>,
    /// Their places in it.
    pub(super) places: HashMap<IncidentId, usize>,
    /// Alerts of messages that came late, of an episode that is over: they change nothing.
    pub(super) late: Vec<AlertKey>,
}

impl Planner<'_> {
    /// Takes one message.
    pub(super) fn take(&mut self, place: usize, message: &Message) {
        let alert = &message.alert;
        if alert.status == AlertStatus::Firing && self.settings.mapping.is_heartbeat(alert) {
            // A watchdog fires while all is well, so it opens no incident. That it stopped shows in
            // `quell_heartbeat_last_seen_timestamp_seconds`. Its end goes on: an incident may be open for it since it was mapped otherwise.
            return;
        }
        let since = match alert.status {
            AlertStatus::Firing => alert.starts_at,
            AlertStatus::Resolved => ended_at(alert, self.now),
        };
        let went = self.went.get(&alert.key).copied();
        let known = went.or_else(|| self.view.of_alert.get(&alert.key).copied());
        let incident = known.and_then(|id| self.view.incidents.get(&id));
        let in_order = match alert.status {
            AlertStatus::Firing => self.memory.fires(alert, message.at),
            // Of one that fires as a watchdog it is not known when it began.
            AlertStatus::Resolved if self.settings.mapping.is_heartbeat(alert) => true,
            AlertStatus::Resolved => self.memory.ends(alert, since, message.at),
        };
        if !in_order {
            self.late.push(alert.key.clone());
            // What the message says of others counts all the same.
            if let Some(id) = known
                && (went.is_some() || incident.is_some_and(|known| known.status() != Status::Closed))
            {
                self.tell_truncated(id, place, message);
            }
            return;
        }
        self.memory.note_change(&alert.key, alert.status, since);
        match (known, incident, alert.status) {
            // To an incident that this turn opens, or that was told of this alert before in it.
            (Some(id), _, status) if went.is_some() => self.push(id, place, message, (status, since), None),
            (Some(id), Some(incident), AlertStatus::Firing) if incident.status() == Status::Closed => {
                if workflow::begins_anew(incident, alert, self.now) {
                    self.open_or_join(place, message, Some(id));
                }
            }
            (Some(id), Some(_), status) => self.push(id, place, message, (status, since), None),
            (_, _, AlertStatus::Firing) => self.open_or_join(place, message, None),
            (_, _, AlertStatus::Resolved) => {
                debug!(alert = %alert.key, "the end of an alert that is not known");
            }
        }
    }

    fn open_or_join(&mut self, place: usize, message: &Message, linked_to: Option<IncidentId>) {
        let alert = &message.alert;
        let join = &self.settings.join;
        let candidates =
            self.memory.candidates((alert, &message.about), message.group.as_ref(), message.at, join);
        let urgency = self.settings.mapping.urgency(alert);
        if let Some(word) = self.settings.mapping.unknown_severity(alert)
            && self.memory.is_new_word(&word)
        {
            warn!(
                word,
                taken_as = %urgency.0,
                "nobody knows this severity; `coordinator.alerts.severities` can say what it means"
            );
        }
        let earlier = linked_to.and_then(|id| self.view.incidents.get(&id));
        // An alert is looked for in the newest incident that it fired in: in an older one its end would not be found.
        let is_newer = |id: &IncidentId| match (earlier, self.view.incidents.get(id)) {
            (Some(earlier), Some(joined)) => {
                (joined.created_at, joined.id) > (earlier.created_at, earlier.id)
            }
            _ => true,
        };
        let (id, joined) = match candidates.into_iter().find(|(id, _)| is_newer(id) && self.takes(*id)) {
            Some((id, joined)) => (id, Some(joined)),
            None => {
                let id = (self.new_id)();
                let head = self.settings.mapping.head(alert);
                let class = Class::of(&alert.key.source, &head);
                let learned = (self.settle)(&class, head.priority);
                let quiet = self.settings.mapping.troubles_nobody(alert).then_some(NOBODY_IS_ASKED_FOR);
                let opening = Opening {
                    affected_systems: self.settings.mapping.affected_systems(alert),
                    head,
                    alert: Arc::clone(alert),
                    linked_to,
                    settle: quiet.or(learned),
                };
                self.places.insert(id, self.works.len());
                self.works.push(Work { id, opening: Some(opening), rounds: Vec::new(), adds: 0 });
                (id, None)
            }
        };
        self.push(id, place, message, (AlertStatus::Firing, alert.starts_at), Some((joined, urgency)));
    }

    /// Whether an incident can be joined.
    fn takes(&self, id: IncidentId) -> bool {
        takes(self.view, &self.works, &self.places, id)
    }

    /// Tells an incident how many alerts a message left out, and nothing else of it.
    fn tell_truncated(&mut self, id: IncidentId, place: usize, message: &Message) {
        let truncated_before = self.view.incidents.get(&id).is_some_and(|known| !known.truncated.is_empty());
        if message.truncated == 0 && !truncated_before {
            return;
        }
        let at = *self.places.entry(id).or_insert_with(|| {
            self.works.push(Work { id, opening: None, rounds: Vec::new(), adds: 0 });
            self.works.len() - 1
        });
        let Some(work) = self.works.get_mut(at) else { return };
        if work.rounds.is_empty() {
            work.rounds.push(Round::default());
        }
        if let Some(round) = work.rounds.last_mut() {
            round.truncated.insert(message.of_message.clone(), message.truncated);
            round.messages.push(place);
        }
    }

    /// Adds a message to what an incident is told.
    fn push(
        &mut self,
        id: IncidentId,
        place: usize,
        message: &Message,
        (status, since): (AlertStatus, Timestamp),
        joins: Option<(Option<JoinedBy>, (Priority, Severity))>,
    ) {
        let alert = &message.alert;
        let truncated_before = self.view.incidents.get(&id).is_some_and(|known| !known.truncated.is_empty());
        let at = *self.places.entry(id).or_insert_with(|| {
            self.works.push(Work { id, opening: None, rounds: Vec::new(), adds: 0 });
            self.works.len() - 1
        });
        let flapping = self.memory.flapping(&alert.key, &self.settings.join.flapping, self.now);
        let Some(work) = self.works.get_mut(at) else { return };
        self.went.insert(alert.key.clone(), id);
        let another = work.rounds.last().is_none_or(|round| {
            round.alerts.len() >= ALERTS_PER_APPEND_MAX
                || round.alerts.get(&alert.key).is_some_and(|told| *told != (status, since))
        });
        if another {
            work.rounds.push(Round::default());
        }
        let Some(round) = work.rounds.last_mut() else { return };
        if message.truncated > 0 || truncated_before {
            round.truncated.insert(message.of_message.clone(), message.truncated);
        }
        round.messages.push(place);
        if round.alerts.insert(alert.key.clone(), (status, since)).is_some() {
            return;
        }
        if flapping.as_ref().map(|flapping| flapping.until)
            > round.flapping.as_ref().map(|flapping| flapping.until)
        {
            round.flapping = flapping;
        }
        match status {
            AlertStatus::Firing => {
                let joined = joins.as_ref().and_then(|(joined, _)| joined.clone());
                let group = message.group.clone();
                let follows = self.settings.mapping.site.labels == SiteLabels::default();
                let affected = (!follows).then(|| message.about.name.clone());
                round.fired.push(FiredAlert { alert: Arc::clone(alert), joined, group, affected });
            }
            AlertStatus::Resolved => round.cleared.push(Cleared { key: alert.key.clone(), at: since }),
        }
        if let Some((_, urgency)) = joins {
            work.adds += 1;
            round.urgency =
                Some(round.urgency.map_or(urgency, |(priority, severity)| {
                    (priority.min(urgency.0), severity.min(urgency.1))
                }));
        }
        if status == AlertStatus::Firing {
            let (view, works, places) = (self.view, &self.works, &self.places);
            let takes = |id| takes(view, works, places, id);
            let join = &self.settings.join;
            self.memory.belongs((alert, &message.about), message.group.as_ref(), id, message.at, join, takes);
        }
    }
}

/// When an alert ended. An end that is announced for later has been announced now. This machine's clock may be behind the one that the
/// alert's times are by, so now is not before its beginning; an end that its source itself puts there is one of an earlier episode.
pub(crate) fn ended_at(alert: &Alert, now: Timestamp) -> Timestamp {
    let now = now.max(alert.starts_at);
    alert.ends_at.unwrap_or(now).min(now)
}

fn takes(view: &View, works: &[Work], places: &HashMap<IncidentId, usize>, id: IncidentId) -> bool {
    let work = places.get(&id).and_then(|place| works.get(*place));
    let adds = work.map_or(0, |work| work.adds);
    match view.incidents.get(&id) {
        // What is kept only must not hold back what somebody is to see.
        Some(incident) => {
            let works_on_it = incident.status().is_active() && !incident.is_kept_only();
            works_on_it && incident.members.len() + adds < ALERTS_MAX
        }
        None => {
            let opening = work.and_then(|work| work.opening.as_ref());
            adds < ALERTS_MAX && opening.is_some_and(|opening| opening.settle != Some(NOBODY_IS_ASKED_FOR))
        }
    }
}
