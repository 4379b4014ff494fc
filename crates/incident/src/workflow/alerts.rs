//! What an alert's firing, clearing and silencing do to an incident. Many messages are decided together, so that a storm is a few
//! events and not one for each alert.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Draft, Looking, Policy, Refused, later};
use crate::alert::{Alert, AlertKey};
use crate::correlation::{Flapping, GroupId, JoinedBy};
use crate::event::{Cleared, Event};
use crate::incident::{How, Incident, Outcome, Phase, SAMPLE_MAX};
use crate::members::Member;
use crate::said::services_of;
use crate::severity::{Priority, Severity, Status};

/// How long after an alert cleared a firing of the same episode may be a late message.
pub const LATE_MESSAGE_WITHIN: SignedDuration = SignedDuration::from_mins(5);
/// Alerts that one event speaks of at the most.
pub const ALERTS_PER_EVENT_MAX: usize = 500;
/// Bytes of alerts in full in one event, about; and an alert that alone is longer than a tenth of it is only counted.
const FULL_BYTES_MAX: usize = 512 * 1024;

/// Messages about alerts of one incident that are decided together. Each alert is in it once, and their order means nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertBatch {
    /// Alerts that fire.
    pub fired: Vec<FiredAlert>,
    /// Alerts that have cleared.
    pub cleared: Vec<Cleared>,
    /// The most urgent of those that join.
    pub urgency: Option<(Priority, Severity)>,
    /// An alert of it that flaps.
    pub flapping: Option<Flapping>,
    /// How many alerts messages left out, by the group of the message.
    pub truncated: BTreeMap<GroupId, u64>,
}

/// An alert that fires, and why it belongs to the incident.
#[derive(Clone, Debug, PartialEq)]
pub struct FiredAlert {
    /// As it came.
    pub alert: Arc<Alert>,
    /// Why it joins, if the incident does not know it.
    pub joined: Option<JoinedBy>,
    /// The group of its source, when that says something.
    pub group: Option<GroupId>,
    /// What it is about, where a site's own labels are to say so.
    pub affected: Option<String>,
}

/// The first events of an incident that alerts open together. `settle` is how long it settles at least, as its class has taught.
pub fn open_with(
    draft: Draft,
    batch: &AlertBatch,
    settle: Option<SignedDuration>,
    now: Timestamp,
    policy: &Policy,
) -> Vec<Event> {
    let started_at = batch.fired.iter().map(|fired| fired.alert.starts_at).min();
    let urgency = batch.urgency.filter(|(priority, _)| *priority < draft.head.priority);
    let priority = urgency.map_or(draft.head.priority, |(priority, _)| priority);
    let own_severity = draft.head.severity;
    let mut events = super::open(draft, now, policy);
    if let Some(Event::Opened { started_at: began, settle_until, .. }) = events.first_mut() {
        *began = started_at.map_or(*began, |started_at| started_at.min(*began));
        let usual = policy.settle_for(priority);
        let learned = settle.filter(|_| priority != Priority::P0).map_or(usual, |learned| learned.max(usual));
        *settle_until = later(now, learned);
    }
    if let Some((priority, severity)) = urgency {
        events.push(Event::PriorityRaised { priority, severity: severity.min(own_severity) });
    }
    let truncated = batch.truncated.iter().filter(|(_, more)| **more > 0);
    events.extend(
        truncated.map(|(group, more)| Event::AlertsTruncated { group: Some(group.clone()), more: *more }),
    );
    events.extend(fired_events(batch.fired.iter().collect(), |_| false, SAMPLE_MAX));
    events.extend(batch.flapping.clone().map(|flapping| Event::Flapping { flapping }));
    events
}

/// Whether a firing alert is news to an incident: one that it does not know, or a new episode of one that it knows.
pub fn begins_anew(incident: &Incident, alert: &Alert, now: Timestamp) -> bool {
    let Some(known) = incident.members.get(&alert.key) else { return true };
    match known.cleared_at {
        // The episode goes on, whatever startsAt a second Alertmanager gives it. What a person accepted by closing the incident stays
        // accepted; but what began later is not what they accepted, and its end before that may never have been told.
        None => incident.closed_at.is_some_and(|at| alert.starts_at > at),
        // An older message, or the firing of the episode that has cleared, delivered late. After a while it is no late message any more:
        // a source that lost the alert and has it back says the same start again.
        // The time counts from when the end was heard of, which may be long after the end itself.
        Some(at) => {
            let heard = incident.resolved_at.map_or(at, |resolved| resolved.max(at));
            alert.starts_at > known.starts_at || now >= later(heard, LATE_MESSAGE_WITHIN)
        }
    }
}

/// The events of alerts that fire: those that fit into the sample in full, the others by their keys.
fn fired_events(
    fired: Vec<&FiredAlert>,
    in_sample: impl Fn(&AlertKey) -> bool,
    mut room: usize,
) -> Vec<Event> {
    if let [FiredAlert { alert, joined: None, group: None, affected: None }] = fired[..]
        && (room > 0 || in_sample(&alert.key))
    {
        return vec![Event::AlertFired { alert: Box::new(Alert::clone(alert)) }];
    }
    let mut by_reason: BTreeMap<_, Vec<&FiredAlert>> = BTreeMap::new();
    for one in fired {
        by_reason.entry((&one.joined, &one.group)).or_default().push(one);
    }
    let mut events = Vec::new();
    for ((joined, group), alerts) in by_reason {
        let mut next = Joining::default();
        for FiredAlert { alert, affected, .. } in alerts {
            let known = in_sample(&alert.key);
            let own_bytes = bytes_of(alert);
            if own_bytes <= FULL_BYTES_MAX / 10 && (known || room > 0) {
                room -= usize::from(!known);
                next.bytes += own_bytes;
                next.full.push(Arc::clone(alert));
                next.affected.extend(affected.clone());
            } else {
                next.counted.push(Member::firing(alert.key.clone(), alert.starts_at));
                next.services.extend(services_of(alert));
            }
            if next.full.len() + next.counted.len() >= ALERTS_PER_EVENT_MAX || next.bytes >= FULL_BYTES_MAX {
                events.extend(std::mem::take(&mut next).event(joined, group));
            }
        }
        events.extend(next.event(joined, group));
    }
    events
}

/// The alerts of the next event.
#[derive(Default)]
struct Joining {
    full: Vec<Arc<Alert>>,
    counted: Vec<Member>,
    /// One for each that is there in full, where a site's own labels say what alerts are about.
    affected: Vec<String>,
    /// What those that are only counted name as their service.
    services: BTreeSet<String>,
    bytes: usize,
}

impl Joining {
    fn event(self, joined: &Option<JoinedBy>, group: &Option<GroupId>) -> Option<Event> {
        let Self { full, counted, mut affected, services, .. } = self;
        if full.is_empty() && counted.is_empty() {
            return None;
        }
        let told = !affected.is_empty();
        affected.retain(|system| !system.is_empty());
        affected.sort();
        affected.dedup();
        let affected = told.then_some(affected);
        let services = services.into_iter().collect();
        let (joined, group) = (joined.clone(), group.clone());
        Some(Event::AlertsJoined { full, counted, joined, group, services, affected })
    }
}

fn bytes_of(alert: &Alert) -> usize {
    let texts = alert.labels.iter().chain(alert.annotations.iter());
    let url = alert.generator_url.as_ref().map_or(0, String::len);
    texts.map(|(name, value)| name.len() + value.bytes()).sum::<usize>() + url
}

/// The events of alerts that cleared.
pub(super) fn cleared_events(cleared: Vec<Cleared>) -> Vec<Event> {
    if let [one] = &cleared[..] {
        return vec![Event::AlertCleared { key: one.key.clone(), cleared_at: one.at }];
    }
    let chunks = cleared.chunks(ALERTS_PER_EVENT_MAX);
    chunks.map(|chunk| Event::AlertsCleared { cleared: chunk.to_vec() }).collect()
}

impl Looking<'_> {
    pub(super) fn alert_firing(&self, alert: &Alert) -> Result<Vec<Event>, Refused> {
        let fired = FiredAlert { alert: Arc::new(alert.clone()), joined: None, group: None, affected: None };
        self.alerts(&AlertBatch { fired: vec![fired], ..AlertBatch::default() })
    }

    /// The most urgent alert counts; an incident does not become less urgent because a mild one joins it.
    pub(super) fn alert_urgency(&self, priority: Priority, severity: Severity) -> Vec<Event> {
        let higher = priority < self.incident.priority && self.incident.status() != Status::Closed;
        let severity = severity.min(self.incident.severity);
        if higher { vec![Event::PriorityRaised { priority, severity }] } else { Vec::new() }
    }

    pub(super) fn alert_cleared(&self, key: &AlertKey, at: Timestamp) -> Result<Vec<Event>, Refused> {
        if self.incident.members.get(key).is_none() {
            return Err(Refused::stale(
                format!("the end of alert {key}, which is not of this incident"),
                self.incident,
            ));
        }
        let cleared = vec![Cleared { key: key.clone(), at }];
        self.alerts(&AlertBatch { cleared, ..AlertBatch::default() })
    }

    /// Every alert is known, says a reconciliation.
    pub(super) fn alerts_listed(&self) -> Vec<Event> {
        if self.incident.truncated.is_empty() || self.incident.status() == Status::Closed {
            return Vec::new();
        }
        let mut events = vec![Event::AlertsTruncated { group: None, more: 0 }];
        if !self.incident.members.is_empty()
            && self.incident.members.firing() == 0
            && self.incident.alerts_not_kept == 0
        {
            events.extend(self.on_cleared(None));
        }
        events
    }

    pub(super) fn alerts(&self, batch: &AlertBatch) -> Result<Vec<Event>, Refused> {
        let (incident, members) = (self.incident, &self.incident.members);
        let news = batch.fired.iter().filter(|fired| begins_anew(incident, &fired.alert, self.now));
        let news: Vec<_> = news.collect();
        let joins = |fired: &&FiredAlert| members.get(&fired.alert.key).is_none();
        if let Some(first) = news.first()
            && incident.status() == Status::Closed
        {
            return Err(Refused::stale(format!("alert {} that fires anew", first.alert.key), incident));
        }
        if let Some(first) = news.iter().find(|fired| joins(fired) && fired.joined.is_some())
            && !incident.status().is_active()
        {
            // It would be taken for a return of what was resolved.
            return Err(Refused::stale(format!("alert {} that joins", first.alert.key), incident));
        }
        let mut events = Vec::new();
        let mut all_known = incident.alerts_not_kept == 0;
        let mut truncated = incident.truncated.clone();
        if incident.status() != Status::Closed {
            for (group, more) in &batch.truncated {
                if truncated.get(group).copied().unwrap_or(0) != *more {
                    truncated.insert(group.clone(), *more);
                    events.push(Event::AlertsTruncated { group: Some(group.clone()), more: *more });
                }
            }
        }
        all_known &= truncated.values().all(|more| *more == 0);
        if let Some((priority, severity)) = batch.urgency.filter(|_| news.iter().any(joins)) {
            events.extend(self.alert_urgency(priority, severity));
        }
        let cleared = batch.cleared.iter().filter(|cleared| {
            members.get(&cleared.key).is_some_and(|known| known.fires() && cleared.at >= known.starts_at)
        });
        let cleared: Vec<_> = cleared.cloned().collect();
        let last = cleared.iter().map(|cleared| cleared.at).max();
        let again = !news.is_empty();
        // A word on truncated alerts may be what was missing for all to have cleared.
        let none_fires = !again && !members.is_empty() && members.firing() == cleared.len();
        let name = news.first().map(|fired| fired.alert.name());
        let over = incident.alerts.values().filter(|state| state.cleared_at.is_some()).count();
        let room = SAMPLE_MAX.saturating_sub(incident.alerts.len()) + over;
        events.extend(fired_events(news, |key| incident.alerts.contains_key(key), room));
        events.extend(cleared_events(cleared));
        events.extend(self.flapping(batch.flapping.as_ref()));
        if let (Phase::Resolved { how, .. }, Some(name)) = (&incident.phase, name) {
            let against = match how {
                How::Runbook { runbook } => Some(runbook.clone()),
                How::Itself | How::Person { .. } => None,
            };
            events.push(Event::Reopened { why: format!("{name} fires again"), against });
            events.push(self.start_diagnosis(1));
        } else if none_fires && all_known && (last.is_some() || !incident.truncated.is_empty()) {
            events.extend(self.on_cleared(last));
        }
        Ok(events)
    }

    /// Said when it begins, and when it goes on for longer than was said.
    fn flapping(&self, now: Option<&Flapping>) -> Option<Event> {
        let known = self.incident.flapping.as_ref();
        let news = now.filter(|now| known.is_none_or(|known| now.until > known.until))?;
        (self.incident.status() != Status::Closed).then(|| Event::Flapping { flapping: news.clone() })
    }

    /// What follows when every alert has cleared, the last one at `at`.
    pub(super) fn on_cleared(&self, at: Option<Timestamp>) -> Vec<Event> {
        match &self.incident.phase {
            Phase::Settling { .. }
            | Phase::Diagnosing(_)
            | Phase::Planning { .. }
            | Phase::Held { .. }
            | Phase::AwaitingApproval { .. } => self.resolve_as(How::Itself),
            Phase::Executing { proposal, run: None, stop, .. } => match stop {
                // The person's word comes first; it is carried out when the gates are looked at.
                Some(_) => Vec::new(),
                None if proposal.happened.is_empty() => self.resolve_as(How::Itself),
                None => vec![self.start_verification()],
            },
            Phase::Verifying { last, .. } => self.verified(last.as_ref(), at),
            Phase::Escalated { unknown: None, .. } => self.resolve_as(How::Itself),
            Phase::TakenOver { by, unknown: None } => self.resolve_as(How::Person { name: by.clone() }),
            Phase::Executing { run: Some(_), .. }
            | Phase::Undoing { .. }
            | Phase::Escalated { unknown: Some(_), .. }
            | Phase::TakenOver { unknown: Some(_), .. }
            | Phase::Resolved { .. }
            | Phase::Closed { .. } => Vec::new(),
        }
    }

    pub(super) fn alert_suppressed(&self, key: &AlertKey, by: Option<&str>) -> Result<Vec<Event>, Refused> {
        let Some(known) = self.incident.members.get(key) else {
            return Err(Refused::stale(
                format!("the silence of alert {key}, which is not of this incident"),
                self.incident,
            ));
        };
        // What has cleared is not held back by anything, and a closed incident is told of nothing.
        if known.suppressed_by.as_deref() == by
            || known.cleared_at.is_some()
            || self.incident.status() == Status::Closed
        {
            return Ok(Vec::new());
        }
        Ok(vec![Event::AlertSuppressed { key: key.clone(), by: by.map(str::to_owned) }])
    }

    /// What a deadline brings in the quiet phases.
    pub(super) fn quiet_is_over(&self, how: &How) -> Vec<Event> {
        let outcome = Outcome::Resolved { how: how.clone() };
        let post_mortem = crate::view::post_mortem(self.incident, &outcome, self.now);
        vec![Event::Closed { outcome, post_mortem }]
    }

    pub(super) fn start_verification(&self) -> Event {
        let look_back = self.incident.proposal().map_or(SignedDuration::ZERO, |p| p.plan.alert_look_back);
        let earliest_clear = later(later(self.now, look_back), self.policy.alert_pipeline_delay);
        Event::VerificationStarted {
            since: self.now,
            patience_until: later(self.now, self.policy.check_patience),
            earliest_clear,
            deadline: later(earliest_clear, self.policy.verification_grace),
        }
    }
}
