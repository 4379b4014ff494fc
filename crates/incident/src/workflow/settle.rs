//! A step whose effect is unknown: only a person can say what became of it, and until they have nothing else frees its target or starts
//! anything. A lock that was given back in silence would let another step meet what this one may have left half done.

use super::{Looking, Refused};
use crate::contract::StepOutcome;
use crate::event::{Envelope, Event};
use crate::ids::StepKey;
use crate::incident::{How, Incident, Phase, Settlement, Why};
use crate::severity::Status;

impl Looking<'_> {
    /// While it is unknown whether a step took effect, nothing is started anew and nothing is declared over.
    pub(super) fn must_be_settled(&self, what: &'static str) -> Result<(), Refused> {
        let Some(unknown) = self.incident.unknown_step() else { return Ok(()) };
        let (title, target) = (&unknown.title, &unknown.lock.target);
        self.not_now(
            what,
            &format!(
                "whether `{title}` took effect is not known, and `{target}` stays locked until a person says so: look at it, then \
                 `quell incident settle {} --happened|--not-happened --why ...`",
                self.incident.id
            ),
        )
    }

    pub(super) fn settle(
        &self,
        by: &str,
        key: Option<&StepKey>,
        happened: bool,
        why: &str,
    ) -> Result<Vec<Event>, Refused> {
        if self.incident.status() == Status::Closed {
            return self.not_now("settle", "the incident is closed");
        }
        let Some(unknown) = self.incident.unknown_step() else {
            // The same word again, because its sender did not hear the answer.
            if self.was_settled(by, key, happened) {
                return Ok(Vec::new());
            }
            return self.not_now("settle", "no step of it has an unknown effect");
        };
        if let Some(other) = key.filter(|key| **key != unknown.key) {
            let remedy = format!("the step in doubt is {}, not {other}; look at it again", unknown.key);
            return self.not_now("settle", &remedy);
        }
        let (by, why) = (by.to_owned(), why.to_owned());
        let mut events = vec![Event::StepSettled { key: unknown.key.clone(), by: by.clone(), happened, why }];
        if self.incident.cleared() {
            // What the clearing would have brought, had the step not been in doubt.
            let how = match &self.incident.phase {
                Phase::TakenOver { by, .. } => How::Person { name: by.clone() },
                _ if happened => How::Person { name: by },
                _ => How::Itself,
            };
            events.extend(self.resolve_as(how));
        } else {
            events.extend(self.release_locks());
        }
        Ok(events)
    }

    fn was_settled(&self, by: &str, key: Option<&StepKey>, happened: bool) -> bool {
        let last =
            self.incident.actions.iter().rev().find_map(|action| Some((action, action.settled.as_ref()?)));
        last.is_some_and(|(action, settled)| {
            settled.by == by && settled.happened == happened && key.is_none_or(|key| *key == action.key)
        })
    }
}

/// The fold: the person's word stands for the outcome that nobody else could tell.
pub(super) fn settled(incident: &mut Incident, envelope: &Envelope) -> bool {
    let Event::StepSettled { key, by, happened, why } = &envelope.event else { return false };
    let unknown = match &mut incident.phase {
        Phase::Escalated { unknown, .. } | Phase::TakenOver { unknown, .. } => unknown,
        _ => return false,
    };
    if unknown.take_if(|unknown| unknown.key == *key).is_none() {
        return false;
    }
    if let Phase::Escalated { why: open, .. } = &mut incident.phase {
        *open = Why::StepSettled { by: by.clone(), happened: *happened, because: why.clone() };
    }
    let Some(action) = incident.actions.iter_mut().rfind(|action| action.key == *key) else { return false };
    let words = format!("{by} says so: {why}");
    action.ended_at = Some(envelope.at);
    action.outcome = Some(if *happened {
        let (began_at, ended_at) = (action.started_at, envelope.at);
        StepOutcome::Done { changes: Vec::new(), output: words, began_at, ended_at }
    } else {
        StepOutcome::Refused { why: words }
    });
    let (by, why, at) = (by.clone(), why.clone(), envelope.at);
    action.settled = Some(Settlement { by, happened: *happened, why, at });
    true
}
