//! The gates were looked at: ask a person, start the next step, wait, plan anew, or hand over.

use super::alerts::cleared_events;
use super::{Looking, Refused, later};
use crate::alert::AlertKey;
use crate::contract::TargetLock;
use crate::event::{Cleared, Event};
use crate::gate::{AlertNow, ClosedGate, Closing, World, closed_gates, closed_gates_of_undo};
use crate::ids::StepKey;
use crate::incident::{How, Incident, Phase, Proposal, Stop, Why};
use crate::plan::{Step, Undo};
use crate::workflow::Autonomy;

/// Closed gates as one sentence.
pub(super) fn sentence(closed: &[ClosedGate]) -> String {
    if closed.is_empty() {
        return "the gates were not looked at".to_owned();
    }
    closed.iter().map(|gate| gate.why.as_str()).collect::<Vec<_>>().join("; ")
}

impl Looking<'_> {
    pub(super) fn gates(&self, world: &World) -> Result<Vec<Event>, Refused> {
        let seen_to_clear = self.seen_to_clear(world);
        if !seen_to_clear.is_empty() {
            return Ok(seen_to_clear);
        }
        let mut events = self.seen_suppressed(world);
        events.extend(match &self.incident.phase {
            Phase::Held { proposal, closed, .. } => self.held(world, proposal, closed),
            Phase::Executing { proposal, index, run: None, closed, stop, .. } => match stop {
                Some(stop) => self.stopped(stop),
                None => self.next_step(world, proposal, *index, closed),
            },
            Phase::Undoing { proposal, remaining, run: None, closed, .. } => {
                self.next_undo(world, proposal, *remaining, closed)
            }
            _ => return Err(Refused::stale("a look at the gates", self.incident)),
        });
        Ok(events)
    }

    /// Alerts that were silenced or inhibited since that was last known, or no longer are.
    fn seen_suppressed(&self, world: &World) -> Vec<Event> {
        let firing = self.incident.members.iter().filter(|member| member.fires());
        let changed = firing.filter_map(|member| {
            let by = match world.alerts.get(&member.key)? {
                AlertNow::Suppressed(by) => Some(by.clone()),
                AlertNow::Firing => None,
                AlertNow::Cleared(_) | AlertNow::Unknown(_) => return None,
            };
            let key = AlertKey::clone(&member.key);
            (member.suppressed_by.as_deref() != by.as_deref()).then_some(Event::AlertSuppressed { key, by })
        });
        changed.collect()
    }

    /// Alerts that their source, read again, says have cleared although no message said so yet.
    fn seen_to_clear(&self, world: &World) -> Vec<Event> {
        let before_undo = !matches!(self.incident.phase, Phase::Undoing { .. });
        let members = &self.incident.members;
        let seen = |(key, now): (&AlertKey, &AlertNow)| match now {
            // What was observed before this episode began says nothing of it.
            AlertNow::Cleared(at) if members.get(key).is_some_and(|m| m.fires() && *at >= m.starts_at) => {
                Some(Cleared { key: key.clone(), at: *at })
            }
            _ => None,
        };
        let cleared: Vec<_> = world.alerts.iter().filter_map(seen).collect();
        let last = cleared.iter().map(|cleared| cleared.at).max();
        let all = last.is_some() && cleared.len() == members.firing() && self.incident.all_known();
        let mut events = cleared_events(cleared);
        if all && before_undo {
            events.extend(self.on_cleared(last));
        }
        events
    }

    fn held(&self, world: &World, proposal: &Proposal, said: &[ClosedGate]) -> Vec<Event> {
        // The checks are read again right before the first step; here they would only delay the question.
        let closed = closed_gates(self.incident, &proposal.plan, world, self.policy, false, self.now);
        if let Some(events) = self.waiting(&closed, said) {
            return events;
        }
        match self.why_ask(proposal) {
            Some(why) => vec![Event::ApprovalAsked {
                digest: proposal.digest,
                why,
                needed: self.policy.approvals_needed.max(1),
                expires_at: later(self.now, self.policy.approval),
            }],
            None => vec![Event::ExecutionStarted { give_up_at: later(self.now, self.policy.hold_max) }],
        }
    }

    /// Why a person must agree to the plan, if one must.
    fn why_ask(&self, proposal: &Proposal) -> Option<String> {
        let plan = &proposal.plan;
        let autonomy = self.policy.autonomy_in_force(self.incident, plan);
        let confidence = self.incident.report.as_ref().map_or(0.0, |report| report.confidence());
        if let Some(why) = plan.needs_person() {
            Some(why)
        } else if self.policy.require_approval {
            Some("every plan needs approval (agents.resolution.require_approval)".to_owned())
        } else if autonomy.level < Autonomy::Auto {
            Some(format!("the autonomy level is {}: {}", autonomy.level, autonomy.because()))
        } else if confidence < self.policy.confidence_min && self.incident.chosen_by.is_none() {
            Some(format!("the confidence {confidence:.2} is below {:.2}", self.policy.confidence_min))
        } else {
            None
        }
    }

    /// What closed gates bring; `None` when all are open.
    fn waiting(&self, closed: &[(ClosedGate, Closing)], said: &[ClosedGate]) -> Option<Vec<Event>> {
        if closed.is_empty() {
            return None;
        }
        let only = |wanted: Closing| -> Vec<ClosedGate> {
            closed.iter().filter(|(_, closing)| *closing == wanted).map(|(gate, _)| gate.clone()).collect()
        };
        let hand_over = only(Closing::HandOver);
        if !hand_over.is_empty() {
            let mut events = vec![Event::GatesClosed { closed: hand_over.clone() }];
            events.extend(self.escalate(Why::GatesClosed { because: sentence(&hand_over) }, None));
            return Some(events);
        }
        let waits = only(Closing::Wait);
        if waits.is_empty() {
            // Only now: as long as something else holds it, a new plan would grow as old.
            let chosen = self.incident.proposal().map(|proposal| &proposal.plan.runbook);
            return Some(vec![self.start_planning(1, chosen.zip(self.incident.chosen_by.as_deref()))]);
        }
        Some(if waits == said { Vec::new() } else { vec![Event::GatesClosed { closed: waits }] })
    }

    fn stopped(&self, stop: &Stop) -> Vec<Event> {
        if stop.take_over {
            let mut events = self.cool_down();
            events.extend(self.release_locks());
            events.push(Event::TakenOver { by: stop.by.clone() });
            events
        } else {
            self.escalate(Why::Denied { by: stop.by.clone(), because: stop.why.clone() }, None)
        }
    }

    fn next_step(&self, world: &World, proposal: &Proposal, index: usize, said: &[ClosedGate]) -> Vec<Event> {
        let plan = &proposal.plan;
        if self.incident.cleared() {
            return self.on_cleared(None);
        }
        let Some(step) = plan.steps.get(index) else { return vec![self.start_verification()] };
        let closed =
            closed_gates(self.incident, plan, world, self.policy, proposal.begun_at.is_some(), self.now);
        if let Some(events) = self.waiting(&closed, said) {
            return events;
        }
        if let Some(why) = self.why_ask(proposal)
            && proposal.approvals.iter().all(|given| given.digest != proposal.digest)
        {
            let because = format!("the approval of exactly this plan is missing: {why}");
            return self.escalate(Why::GatesClosed { because }, None);
        }
        let takes: Vec<_> = plan
            .targets()
            .into_iter()
            .filter(|target| !self.incident.locks.contains_key(target))
            .filter_map(|target| {
                let token = world.locks.get(&target)?.token.next();
                Some(TargetLock { target, token })
            })
            .collect();
        self.start_step(world, proposal, (index, step), takes, false).into_iter().collect()
    }

    fn next_undo(
        &self,
        world: &World,
        proposal: &Proposal,
        remaining: usize,
        said: &[ClosedGate],
    ) -> Vec<Event> {
        let next = proposal.plan.steps.iter().enumerate().take(remaining).rev().find(|(index, step)| {
            proposal.happened.contains(index) && matches!(step.undo, Undo::Inverse { .. })
        });
        let Some((index, step)) = next else { return self.all_undone(proposal) };
        let closed = closed_gates_of_undo(self.incident, &proposal.plan, world);
        if !closed.is_empty() {
            return if closed == said { Vec::new() } else { vec![Event::GatesClosed { closed }] };
        }
        self.start_step(world, proposal, (index, step), Vec::new(), true).into_iter().collect()
    }

    fn start_step(
        &self,
        world: &World,
        proposal: &Proposal,
        (index, step): (usize, &Step),
        takes: Vec<TargetLock>,
        undo: bool,
    ) -> Option<Event> {
        let held = self
            .incident
            .locks
            .get(&step.target)
            .map(|token| TargetLock { target: step.target.clone(), token: *token });
        let lock = takes.iter().find(|lock| lock.target == step.target).cloned().or(held)?;
        let number = self.incident.attempts.len() + usize::from(proposal.begun_at.is_none());
        let attempt = (1..=1_000).find(|attempt| {
            let key = StepKey::of(self.incident.id, number, &proposal.digest, &step.name, *attempt, undo);
            !self.incident.started_keys.contains(&key)
        })?;
        let not_after = later(self.now, step.timeout);
        Some(Event::StepStarted {
            key: StepKey::of(self.incident.id, number, &proposal.digest, &step.name, attempt, undo),
            index,
            attempt,
            undo,
            takes,
            lock,
            site_epoch: world.site.epoch,
            not_after,
            deadline: later(not_after, self.policy.step_grace),
        })
    }

    fn all_undone(&self, proposal: &Proposal) -> Vec<Event> {
        let left =
            proposal.happened.iter().filter_map(|index| proposal.plan.steps.get(*index)).filter_map(|step| {
                match &step.undo {
                    Undo::Inverse { .. } => None,
                    Undo::NotNeeded { why } => Some(format!("{}: needs no undo, {why}", step.name)),
                    Undo::Irreversible { why } => Some(format!("{}: cannot be undone, {why}", step.name)),
                }
            });
        let mut events = vec![Event::Undone { left: left.collect() }];
        let why = match &self.incident.phase {
            Phase::Undoing { why, .. } => why.clone(),
            _ => String::new(),
        };
        if self.incident.cleared() {
            events.extend(self.resolve_as(How::Itself));
        } else if self.incident.attempts.len() < self.policy.attempts_max as usize {
            events.extend(self.cool_down());
            events.extend(self.release_locks());
            events.push(self.start_planning(1, None));
        } else {
            events.extend(self.escalate(Why::NotFixed { because: why }, None));
        }
        events
    }
}

/// Runbooks that are not to be proposed again for an incident: an ineffective one is not tried twice.
pub(crate) fn excluded(incident: &Incident) -> Vec<crate::ids::RunbookName> {
    let mut names: Vec<_> = incident
        .attempts
        .iter()
        .filter(|attempt| attempt.undone || attempt.came_back)
        .map(|attempt| attempt.runbook.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}
