//! What an alert's firing, clearing and silencing do to an incident.

use jiff::{SignedDuration, Timestamp};

use super::{Looking, Refused, later};
use crate::alert::{Alert, AlertKey};
use crate::event::Event;
use crate::incident::{How, Incident, Outcome, Phase};
use crate::severity::{Priority, Severity, Status};

/// How long after an alert cleared a firing of the same episode may be a late message.
const LATE_MESSAGE_WITHIN: SignedDuration = SignedDuration::from_mins(5);

/// Whether a firing alert is news to an incident: one that it does not know, or a new episode of one that it knows.
pub fn begins_anew(incident: &Incident, alert: &Alert, now: Timestamp) -> bool {
    let Some(known) = incident.alerts.get(&alert.key) else { return true };
    match known.cleared_at {
        // The episode goes on, whatever startsAt a second Alertmanager gives it. What a person accepted by closing the incident stays
        // accepted; but what began later is not what they accepted, and its end before that may never have been told.
        None => incident.closed_at.is_some_and(|at| alert.starts_at > at),
        // An older message, or the firing of the episode that has cleared, delivered late. After a while it is no late message any more:
        // a source that lost the alert and has it back says the same start again.
        Some(at) => alert.starts_at > known.alert.starts_at || now >= later(at, LATE_MESSAGE_WITHIN),
    }
}

impl Looking<'_> {
    pub(super) fn alert_firing(&self, alert: &Alert) -> Result<Vec<Event>, Refused> {
        let fired = Event::AlertFired { alert: Box::new(alert.clone()) };
        if !begins_anew(self.incident, alert, self.now) {
            return Ok(Vec::new());
        }
        match &self.incident.phase {
            Phase::Merged { .. } | Phase::Closed { .. } => {
                Err(Refused::stale(format!("alert {} that fires anew", alert.key), self.incident))
            }
            Phase::Resolved { how, .. } => {
                let against = match how {
                    How::Runbook { runbook } => Some(runbook.clone()),
                    How::Itself | How::Person { .. } => None,
                };
                let why = format!("{} fires again", alert.name());
                Ok(vec![fired, Event::Reopened { why, against }, self.start_diagnosis(1)])
            }
            _ => Ok(vec![fired]),
        }
    }

    /// The most urgent alert counts; an incident does not become less urgent because a mild one joins it.
    pub(super) fn alert_urgency(&self, priority: Priority, severity: Severity) -> Vec<Event> {
        let higher = priority < self.incident.priority && self.incident.status() != Status::Closed;
        let severity = severity.min(self.incident.severity);
        if higher { vec![Event::PriorityRaised { priority, severity }] } else { Vec::new() }
    }

    pub(super) fn alert_cleared(&self, key: &AlertKey, at: Timestamp) -> Result<Vec<Event>, Refused> {
        let Some(known) = self.incident.alerts.get(key) else {
            return Err(Refused::stale(
                format!("the end of alert {key}, which is not of this incident"),
                self.incident,
            ));
        };
        if known.cleared_at.is_some() || at < known.alert.starts_at {
            return Ok(Vec::new());
        }
        let mut events = vec![Event::AlertCleared { key: key.clone(), cleared_at: at }];
        let all_cleared = self.incident.alerts_not_kept == 0
            && self.incident.alerts.iter().all(|(other, state)| other == key || state.cleared_at.is_some());
        if all_cleared {
            events.extend(self.on_cleared(Some(at)));
        }
        Ok(events)
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
            | Phase::Merged { .. }
            | Phase::Closed { .. } => Vec::new(),
        }
    }

    pub(super) fn alert_suppressed(&self, key: &AlertKey, by: Option<&str>) -> Result<Vec<Event>, Refused> {
        let Some(known) = self.incident.alerts.get(key) else {
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
