//! What a step's outcome, or a probe of its target, brings.

use super::{Looking, Refused, later};
use crate::contract::{ProbeVerdict, StepEnd, StepOutcome};
use crate::event::Event;
use crate::ids::StepKey;
use crate::incident::{Phase, Run, Why};

impl Looking<'_> {
    fn run_of(&self, key: &StepKey) -> Result<&Run, Refused> {
        self.incident
            .run()
            .filter(|run| run.key == *key)
            .ok_or_else(|| Refused::stale(format!("the outcome of step {key}"), self.incident))
    }

    pub(super) fn doubt(&self, key: &StepKey, why: String) -> Event {
        Event::StepDoubted { key: key.clone(), why, deadline: later(self.now, self.policy.probe) }
    }

    pub(super) fn step_outcome(&self, key: &StepKey, outcome: &StepOutcome) -> Result<Vec<Event>, Refused> {
        let run = self.run_of(key)?;
        let end = match outcome.end() {
            Ok(end) => end,
            // Said again while it is probed, it changes nothing.
            Err(_) if run.doubt.is_some() => return Ok(Vec::new()),
            Err(why) => return Ok(vec![self.doubt(key, why.to_owned())]),
        };
        let ended = Event::StepEnded { key: key.clone(), outcome: end.clone(), by_probe: false };
        Ok(self.after_step(run, ended, &end))
    }

    pub(super) fn probed(&self, key: &StepKey, verdict: &ProbeVerdict) -> Result<Vec<Event>, Refused> {
        let run = self.run_of(key)?;
        let Some(doubt) = &run.doubt else {
            return Err(Refused::stale(
                format!("a probe of step {key}, which is not in doubt"),
                self.incident,
            ));
        };
        let outcome = match verdict {
            ProbeVerdict::Done { changes } => StepEnd::Done {
                changes: changes.clone(),
                output: "seen by a probe of the target".to_owned(),
                began_at: run.started_at,
                ended_at: self.now,
            },
            ProbeVerdict::NotDone => {
                let why = format!("{}; a probe of the target says that it did not happen", doubt.why);
                StepEnd::Refused { why }
            }
            ProbeVerdict::CannotTell { why } => {
                let because = format!("{}; {why}", doubt.why);
                let unknown = self.unknown_of(run, because.clone());
                return Ok(self.escalate(Why::StepUnknown { because }, Some(unknown)));
            }
        };
        let ended = Event::StepEnded { key: key.clone(), outcome: outcome.clone(), by_probe: true };
        if matches!(verdict, ProbeVerdict::NotDone) && self.may_try_again(run) {
            // The next look at the gates starts the new try, with a new key.
            return Ok(vec![ended]);
        }
        Ok(self.after_step(run, ended, &outcome))
    }

    fn may_try_again(&self, run: &Run) -> bool {
        let idempotent = self
            .incident
            .proposal()
            .and_then(|proposal| proposal.plan.steps.get(run.index))
            .is_some_and(|step| step.idempotent);
        idempotent && run.attempt < self.policy.step_tries_max
    }

    /// What follows on a step's end. The incident is still as before the end, so what the end itself changes is allowed for here.
    fn after_step(&self, run: &Run, ended: Event, outcome: &StepEnd) -> Vec<Event> {
        let mut events = vec![ended];
        match (&self.incident.phase, outcome) {
            (Phase::Undoing { .. }, StepEnd::Done { .. }) => {}
            (Phase::Undoing { .. }, StepEnd::Failed { why } | StepEnd::Refused { why }) => {
                events.extend(self.escalate(Why::UndoFailed { because: why.clone() }, None));
            }
            (Phase::Executing { stop: Some(_), .. }, _) => {}
            (Phase::Executing { proposal, .. }, StepEnd::Done { .. }) => {
                let last = run.index + 1 >= proposal.plan.steps.len();
                if last || self.incident.cleared() {
                    events.push(self.start_verification());
                }
            }
            (Phase::Executing { .. }, StepEnd::Failed { why }) => {
                events.push(self.start_undo(format!("step failed: {why}")));
            }
            (Phase::Executing { proposal, .. }, StepEnd::Refused { why }) => {
                if proposal.happened.is_empty() {
                    events.extend(self.escalate(Why::StepRefused { because: why.clone() }, None));
                } else {
                    events.push(self.start_undo(format!("a later step was refused: {why}")));
                }
            }
            _ => {}
        }
        events
    }

    pub(super) fn start_undo(&self, why: String) -> Event {
        // An undo has as long as its steps may take, twice, and as long as gates may hold it.
        let steps = self.incident.proposal().map_or(jiff::SignedDuration::ZERO, |proposal| {
            proposal
                .plan
                .steps
                .iter()
                .fold(jiff::SignedDuration::ZERO, |sum, step| sum.saturating_add(step.timeout))
        });
        let span = steps.saturating_mul(2).saturating_add(self.policy.hold_max);
        Event::UndoStarted { why, deadline: later(self.now, span) }
    }
}
