//! A person's word. It is effective before the next step.

use super::{Looking, Refused};
use crate::event::Event;
use crate::ids::{Digest, RunbookName};
use crate::incident::{How, Outcome, Phase, Why};
use crate::severity::Status;

impl Looking<'_> {
    pub(super) fn not_now<T>(&self, what: &'static str, remedy: &str) -> Result<T, Refused> {
        Err(Refused::NotNow { what, phase: self.incident.phase.name(), remedy: remedy.to_owned() })
    }

    fn over(&self) -> bool {
        self.incident.status() == Status::Closed
    }

    /// While a step runs nobody can declare the incident over: its outcome must come in first.
    fn must_not_run(&self, what: &'static str) -> Result<(), Refused> {
        if self.incident.run().is_some() {
            return self.not_now(
                what,
                "a step is running; take over to stop before the next one, or wait for its outcome",
            );
        }
        Ok(())
    }

    pub(super) fn acknowledge(&self, by: &str) -> Result<Vec<Event>, Refused> {
        if self.over() {
            return self.not_now("acknowledge", "the incident is closed");
        }
        let already = match &self.incident.phase {
            Phase::Escalated { acknowledged_by, .. } => acknowledged_by.as_deref() == Some(by),
            _ => self.incident.acknowledged_by.iter().any(|name| name == by),
        };
        Ok(if already { Vec::new() } else { vec![Event::Acknowledged { by: by.to_owned() }] })
    }

    pub(super) fn approve(&self, by: &str, digest: Digest) -> Result<Vec<Event>, Refused> {
        match &self.incident.phase {
            Phase::AwaitingApproval { proposal, given, needed, expires_at, .. } => {
                if proposal.digest != digest {
                    return Err(Refused::OtherPlan { wanted: proposal.digest, given: digest });
                }
                if *expires_at <= self.now {
                    return Err(Refused::Expired { at: *expires_at });
                }
                // The same person twice is one approval.
                if given.iter().any(|approval| approval.by == by) {
                    return Ok(Vec::new());
                }
                Ok(self.approved(by, digest, given, *needed))
            }
            // The first answer won; the same one again changes nothing.
            Phase::Executing { proposal, .. } | Phase::Verifying { proposal, .. }
                if proposal.digest == digest =>
            {
                Ok(Vec::new())
            }
            _ => self.not_now("approve", "no plan waits for approval"),
        }
    }

    pub(super) fn deny(&self, by: &str, why: &str, digest: Option<Digest>) -> Result<Vec<Event>, Refused> {
        let (by, why) = (by.to_owned(), why.to_owned());
        match &self.incident.phase {
            Phase::AwaitingApproval { proposal, .. } => {
                if let Some(given) = digest.filter(|given| *given != proposal.digest) {
                    return Err(Refused::OtherPlan { wanted: proposal.digest, given });
                }
                let mut events = vec![Event::Denied { by: by.clone(), why: why.clone() }];
                // The same alert must not ask the same question again at once.
                events.extend(self.cool_down_of(proposal));
                events.extend(self.escalate(Why::Denied { by, because: why }, None));
                Ok(events)
            }
            Phase::Held { .. } => Ok(self.escalate(Why::Denied { by, because: why }, None)),
            Phase::Executing { stop: None, .. } => Ok(vec![Event::StopAsked { by, why, take_over: false }]),
            Phase::Executing { stop: Some(_), .. } => Ok(Vec::new()),
            _ => self.not_now("deny", "no plan waits for approval or is being carried out"),
        }
    }

    pub(super) fn take_over(&self, by: &str) -> Result<Vec<Event>, Refused> {
        let by = by.to_owned();
        match &self.incident.phase {
            Phase::Executing { stop: None, .. } => {
                Ok(vec![Event::StopAsked { by, why: "taken over".to_owned(), take_over: true }])
            }
            // A denial before it does not keep a person from taking over.
            Phase::Executing { stop: Some(stop), .. } if !stop.take_over => {
                Ok(vec![Event::StopAsked { by, why: "taken over".to_owned(), take_over: true }])
            }
            Phase::Executing { stop: Some(_), .. } => Ok(Vec::new()),
            Phase::Undoing { run: Some(_), .. } => {
                self.not_now("take over", "an undo step is running; wait for its outcome")
            }
            Phase::Resolved { .. } | Phase::Closed { .. } => {
                self.not_now("take over", "the incident is resolved; reopen it first")
            }
            Phase::TakenOver { by: holder, .. } if *holder == by => Ok(Vec::new()),
            phase => {
                let mut events = Vec::new();
                if matches!(phase, Phase::AwaitingApproval { .. }) {
                    events.push(Event::ApprovalWithdrawn { why: format!("{by} took over") });
                }
                events.extend(self.cool_down());
                if self.incident.unknown_step().is_none() {
                    events.extend(self.release_locks());
                }
                events.push(Event::TakenOver { by });
                Ok(events)
            }
        }
    }

    pub(super) fn hand_back(&self, by: &str) -> Result<Vec<Event>, Refused> {
        let Phase::TakenOver { .. } = &self.incident.phase else {
            return self.not_now("hand back", "nobody has taken it over");
        };
        self.must_be_settled("hand back")?;
        let mut events = vec![Event::HandedBack { by: by.to_owned() }];
        events.extend(self.release_locks());
        events.push(self.start_diagnosis(1));
        Ok(events)
    }

    pub(super) fn run_runbook(&self, by: &str, runbook: &RunbookName) -> Result<Vec<Event>, Refused> {
        self.must_be_settled("run a runbook")?;
        match &self.incident.phase {
            Phase::Escalated { .. }
            | Phase::TakenOver { .. }
            | Phase::Held { .. }
            | Phase::AwaitingApproval { .. } => {
                let mut events = Vec::new();
                if matches!(self.incident.phase, Phase::AwaitingApproval { .. }) {
                    events.push(Event::ApprovalWithdrawn { why: format!("{by} chose runbook {runbook}") });
                }
                events.extend(self.release_locks());
                events.push(self.start_planning(1, Some((runbook, by))));
                Ok(events)
            }
            _ => self.not_now("run a runbook", "take over first"),
        }
    }

    pub(super) fn diagnose_again(&self, by: &str) -> Result<Vec<Event>, Refused> {
        self.must_be_settled("diagnose again")?;
        match &self.incident.phase {
            Phase::Escalated { .. } | Phase::TakenOver { .. } => {
                let text = format!("{by} asked for a new diagnosis");
                let mut events = vec![Event::Noted { by: by.to_owned(), text }];
                events.extend(self.release_locks());
                events.push(self.start_diagnosis(1));
                Ok(events)
            }
            _ => self.not_now("diagnose again", "take over first"),
        }
    }

    pub(super) fn resolve(&self, by: &str) -> Result<Vec<Event>, Refused> {
        self.must_not_run("resolve")?;
        self.must_be_settled("resolve")?;
        match &self.incident.phase {
            Phase::Resolved { .. } => Ok(Vec::new()),
            Phase::Closed { .. } => self.not_now("resolve", "the incident is closed"),
            _ => Ok(self.resolve_by_person(by)),
        }
    }

    fn resolve_by_person(&self, by: &str) -> Vec<Event> {
        let mut events = self.resolve_as(How::Person { name: by.to_owned() });
        if let Some(Event::ApprovalWithdrawn { why }) = events.first_mut() {
            *why = format!("{by} resolved the incident");
        }
        events
    }

    pub(super) fn close(&self, by: &str, why: &str) -> Result<Vec<Event>, Refused> {
        self.must_not_run("close")?;
        self.must_be_settled("close")?;
        let outcome = match &self.incident.phase {
            Phase::Closed { .. } => return Ok(Vec::new()),
            Phase::Resolved { how, .. } => Outcome::Resolved { how: how.clone() },
            _ => Outcome::ClosedByPerson { by: by.to_owned(), why: why.to_owned() },
        };
        Ok(self.closed_as(by, outcome))
    }

    pub(super) fn withdraw(&self, by: &str) -> Result<Vec<Event>, Refused> {
        self.must_not_run("withdraw")?;
        self.must_be_settled("withdraw")?;
        if self.over() {
            return self.not_now("withdraw", "the incident is closed");
        }
        Ok(self.closed_as(by, Outcome::Withdrawn { by: by.to_owned() }))
    }

    fn closed_as(&self, by: &str, outcome: Outcome) -> Vec<Event> {
        let mut events = Vec::new();
        if matches!(self.incident.phase, Phase::AwaitingApproval { .. }) {
            events.push(Event::ApprovalWithdrawn { why: format!("{by} closed the incident") });
        }
        events.extend(self.cool_down());
        events.extend(self.release_locks());
        let post_mortem = crate::view::post_mortem(self.incident, &outcome, self.now);
        events.push(Event::Closed { outcome, post_mortem });
        events
    }

    pub(super) fn reopen(&self, by: &str, why: &str) -> Result<Vec<Event>, Refused> {
        match &self.incident.phase {
            Phase::Resolved { how, .. } => {
                let against = match how {
                    How::Runbook { runbook } => Some(runbook.clone()),
                    How::Itself | How::Person { .. } => None,
                };
                let why = format!("{by}: {why}");
                Ok(vec![Event::Reopened { why, against }, self.start_diagnosis(1)])
            }
            Phase::Closed { .. } => {
                self.not_now("reopen", "the incident is closed; create a new one that is linked to it")
            }
            _ => self.not_now("reopen", "it is not resolved"),
        }
    }
}
