//! What the agents' answers bring, and what is done when they do not come.

use jiff::{SignedDuration, Timestamp};

use super::{Autonomy, Looking, Policy, Refused, later};
use crate::contract::PlanAnswer;
use crate::event::Event;
use crate::ids::{IncidentId, RunbookName, TargetName, TaskKey};
use crate::incident::{Approval, Asking, Incident, Phase, UnknownStep, Why};
use crate::plan::{Plan, STEPS_MAX};
use crate::report::Report;

/// When people are reminded of an open question: at half and at 80 % of its time.
pub(crate) fn next_reminder(asked_at: Timestamp, expires_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let span = expires_at.duration_since(asked_at);
    let at_percent = |percent: i32| {
        later(asked_at, SignedDuration::from_millis_i128(span.as_millis() * i128::from(percent) / 100))
    };
    [50, 80].into_iter().map(at_percent).find(|&at| at > now && at < expires_at)
}

/// Whether an incident waits for what comes of another one's plan, which is the plan that it would have itself: as long as that one is not
/// over, and unless it may only show what this one may do.
pub fn waits_for(own: &Incident, other: &Incident, policy: &Policy) -> bool {
    let is_over = matches!(other.phase, Phase::Resolved { .. } | Phase::Closed { .. });
    let may_act = || other.plan.as_ref().is_some_and(|(_, plan)| may_carry_out(own, plan, policy));
    !is_over && other.id != own.id && !(may_only_show(other, policy) && may_act())
}

/// Whether an incident has a plan that it may show and not carry out. One that it has not taken yet says nothing against waiting for it.
pub fn may_only_show(incident: &Incident, policy: &Policy) -> bool {
    incident.plan.as_ref().is_some_and(|(_, plan)| !may_carry_out(incident, plan, policy))
}

fn may_carry_out(incident: &Incident, plan: &Plan, policy: &Policy) -> bool {
    policy.execution_enabled && policy.autonomy_of(incident, plan).level >= Autonomy::Approve
}

impl Looking<'_> {
    fn asked(&self, task: &TaskKey) -> Result<&Asking, Refused> {
        match &self.incident.phase {
            Phase::Diagnosing(asking) | Phase::Planning { asking, .. } if asking.task == *task => Ok(asking),
            _ => Err(Refused::stale(format!("the answer to {task}"), self.incident)),
        }
    }

    pub(super) fn report(&self, task: &TaskKey, report: &Report) -> Result<Vec<Event>, Refused> {
        let asking = self.asked(task)?;
        if !matches!(self.incident.phase, Phase::Diagnosing(_)) {
            return Err(Refused::stale(format!("a report for {task}"), self.incident));
        }
        if report.incident_id != self.incident.id {
            let why = format!("the report is of incident {}", report.incident_id);
            return Ok(self.give_up(asking, &why));
        }
        let mut events = vec![Event::Diagnosed { report: Box::new(report.clone()) }];
        if report.root_cause.is_none() {
            let because = report.abstained.clone().unwrap_or_else(|| "the report names no cause".to_owned());
            events.extend(self.escalate(Why::Abstained { because }, None));
        } else if !self.policy.may_plan(self.incident) {
            events.extend(self.escalate(Why::ObserveOnly, None));
        } else {
            events.push(self.start_planning(1, None));
        }
        Ok(events)
    }

    pub(super) fn plan(&self, task: &TaskKey, answer: &PlanAnswer) -> Result<Vec<Event>, Refused> {
        let asking = self.asked(task)?;
        if !matches!(self.incident.phase, Phase::Planning { .. }) {
            return Err(Refused::stale(format!("a plan for {task}"), self.incident));
        }
        let plan = match answer {
            PlanAnswer::NoPlan { why } => return Ok(self.no_plan(why)),
            PlanAnswer::Taken { incident_id, runbook, targets, .. } => {
                return Ok(self.wait_for(*incident_id, runbook, targets).into_iter().collect());
            }
            PlanAnswer::Plan { plan } => plan,
        };
        if self.incident.chosen_by.is_none() && super::gates::excluded(self.incident).contains(&plan.runbook)
        {
            return Ok(self.no_plan(&format!("only {} fits, which did not help before", plan.runbook)));
        }
        if let Phase::Planning { runbook: Some(chosen), .. } = &self.incident.phase
            && *chosen != plan.runbook
        {
            return Ok(
                self.give_up(asking, &format!("a plan of {} although {chosen} was chosen", plan.runbook))
            );
        }
        match self.sound(plan) {
            Ok(digest) => Ok(vec![Event::Planned {
                plan: plan.clone(),
                digest,
                autonomy: self.policy.autonomy_of(self.incident, plan),
                give_up_at: later(self.now, self.policy.hold_max),
            }]),
            Err(why) => Ok(self.give_up(asking, &format!("the plan cannot be used: {why}"))),
        }
    }

    /// Said once for each incident that is waited for; however many there are in turn, a person is asked at the same time.
    fn wait_for(&self, on: IncidentId, runbook: &RunbookName, targets: &[TargetName]) -> Option<Event> {
        let Phase::Planning { asking, waits, .. } = &self.incident.phase else { return None };
        if waits.as_ref().is_some_and(|waits| waits.on == on) {
            return None;
        }
        let mut targets: Vec<_> = targets.iter().map(TargetName::as_str).collect();
        targets.dedup();
        let because = format!(
            "incident {on} has the plan that this one would have, {runbook} on {}: what comes of it is waited for",
            targets.join(", ")
        );
        let give_up_at = match waits {
            Some(_) => asking.deadline,
            None => later(self.now, self.policy.hold_max),
        };
        Some(Event::PlanningWaits { on, because, give_up_at })
    }

    /// With an attempt behind it "no plan" means that nothing else is left to try.
    fn no_plan(&self, why: &str) -> Vec<Event> {
        let undone = self.incident.attempts.iter().rev().find(|attempt| attempt.undone);
        let why = match undone {
            Some(attempt) => {
                Why::NotFixed { because: format!("{} did not help, and {why}", attempt.runbook) }
            }
            None => Why::NoPlan { because: why.to_owned() },
        };
        self.escalate(why, None)
    }

    fn sound(&self, plan: &Plan) -> Result<crate::ids::Digest, String> {
        if plan.incident_id != self.incident.id {
            return Err(format!("it is for incident {}", plan.incident_id));
        }
        if plan.steps.is_empty() || plan.steps.len() > STEPS_MAX {
            return Err(format!("it has {} steps, expected 1 to {STEPS_MAX}", plan.steps.len()));
        }
        if plan.checks.is_empty() {
            return Err("it has no check, so it could not be verified".to_owned());
        }
        let mut names: Vec<_> = plan.steps.iter().map(|step| &step.name).collect();
        names.sort();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("two of its steps have one name".to_owned());
        }
        let elsewhere = |step: &crate::plan::Step| {
            let undone = match &step.undo {
                crate::plan::Undo::Inverse { call } => &call.target,
                _ => &step.target,
            };
            step.call.target != step.target || *undone != step.target
        };
        if plan.steps.iter().any(elsewhere) {
            return Err("a step's call or its inverse acts on another target than the step".to_owned());
        }
        plan.digest().map_err(|error| error.to_string())
    }

    pub(super) fn task_failed(
        &self,
        task: &TaskKey,
        why: &str,
        for_good: bool,
    ) -> Result<Vec<Event>, Refused> {
        let asking = self.asked(task)?;
        Ok(if for_good { self.give_up(asking, why) } else { self.ask_again(asking, why) })
    }

    /// The agent has answered, and nothing is gained by asking it the same again.
    fn give_up(&self, asking: &Asking, why: &str) -> Vec<Event> {
        let failed = Event::TaskFailed { task: asking.task.clone(), why: why.to_owned() };
        let what =
            if matches!(self.incident.phase, Phase::Planning { .. }) { "a plan" } else { "a diagnosis" };
        let because = format!("no answer to the request for {what} that can be used: {why}");
        std::iter::once(failed).chain(self.escalate(Why::AgentFailed { because }, None)).collect()
    }

    fn ask_again(&self, asking: &Asking, why: &str) -> Vec<Event> {
        let failed = Event::TaskFailed { task: asking.task.clone(), why: why.to_owned() };
        let mut events = vec![failed];
        let next = asking.attempt + 1;
        let (what, again) = match &self.incident.phase {
            Phase::Planning { runbook, .. } => (
                "a plan",
                self.start_planning(next, runbook.as_ref().zip(self.incident.chosen_by.as_deref())),
            ),
            _ => ("a diagnosis", self.start_diagnosis(next)),
        };
        if asking.attempt < self.policy.agent_retries_max.max(1) {
            events.push(again);
        } else {
            let because =
                format!("no answer to the request for {what} after {} tries: {why}", asking.attempt);
            events.extend(self.escalate(Why::AgentFailed { because }, None));
        }
        events
    }

    /// A deadline may have passed: every phase that must not wait for ever is here.
    pub(super) fn deadline(&self) -> Result<Vec<Event>, Refused> {
        let now = self.now;
        let past = |at: &Timestamp| *at <= now;
        Ok(match &self.incident.phase {
            Phase::Settling { until } if past(until) => {
                if self.incident.cleared() {
                    self.on_cleared(None)
                } else {
                    vec![self.start_diagnosis(1)]
                }
            }
            Phase::Planning { asking, waits: Some(waits), .. } if past(&asking.deadline) => {
                let because = format!("waited too long: {}", waits.because);
                self.escalate(Why::GatesClosed { because }, None)
            }
            Phase::Diagnosing(asking) | Phase::Planning { asking, .. } if past(&asking.deadline) => {
                self.ask_again(asking, "no answer in time")
            }
            Phase::Held { give_up_at, closed, .. } if past(give_up_at) => {
                let because = super::gates::sentence(closed);
                self.escalate(Why::GatesClosed { because: format!("held too long: {because}") }, None)
            }
            Phase::AwaitingApproval { expires_at, .. } if past(expires_at) => {
                let mut events = vec![Event::ApprovalWithdrawn {
                    why: "nobody answered in time; no answer is a no".to_owned(),
                }];
                events.extend(self.escalate(Why::ApprovalExpired, None));
                events
            }
            Phase::AwaitingApproval { remind_at: Some(at), asked_at, expires_at, .. } if past(at) => {
                vec![Event::ApprovalReminded { next_at: next_reminder(*asked_at, *expires_at, now) }]
            }
            Phase::Executing { run: Some(run), .. } | Phase::Undoing { run: Some(run), .. } => {
                match &run.doubt {
                    None if past(&run.deadline) => {
                        vec![self.doubt(&run.key, "no outcome in time".to_owned())]
                    }
                    Some(doubt) if past(&doubt.deadline) => {
                        let because = format!("{}; and no probe could tell in time", doubt.why);
                        let unknown = self.unknown_of(run, because.clone());
                        self.escalate(Why::StepUnknown { because }, Some(unknown))
                    }
                    _ => Vec::new(),
                }
            }
            Phase::Executing { run: None, give_up_at, closed, .. } if past(give_up_at) => {
                let because =
                    format!("held too long before the next step: {}", super::gates::sentence(closed));
                self.escalate(Why::GatesClosed { because }, None)
            }
            Phase::Undoing { run: None, deadline, closed, .. } if past(deadline) => {
                let because = format!("not done in time: {}", super::gates::sentence(closed));
                self.escalate(Why::UndoFailed { because }, None)
            }
            Phase::Verifying { deadline, last, .. } if past(deadline) => {
                self.verification_is_late(last.as_ref())
            }
            Phase::Escalated { acknowledged_by: None, remind_at, .. } if past(remind_at) => {
                vec![Event::EscalationReminded { remind_at: later(now, self.policy.escalation_reminder) }]
            }
            Phase::Resolved { how, quiet_until } if past(quiet_until) => self.quiet_is_over(how),
            _ => Vec::new(),
        })
    }

    pub(super) fn unknown_of(&self, run: &crate::incident::Run, why: String) -> UnknownStep {
        let step = self.incident.proposal().and_then(|proposal| proposal.plan.steps.get(run.index));
        let title = step.map_or_else(|| run.key.to_string(), |step| step.title.clone());
        let title = if run.undo { format!("undo of: {title}") } else { title };
        UnknownStep { key: run.key.clone(), title, lock: run.lock.clone(), why }
    }

    /// An approval as an event, and what it starts when it is the last one needed.
    pub(super) fn approved(
        &self,
        by: &str,
        digest: crate::ids::Digest,
        given: &[Approval],
        needed: u32,
    ) -> Vec<Event> {
        let approval = Approval { by: by.to_owned(), digest, at: self.now };
        let mut events = vec![Event::Approved { approval }];
        if given.len() + 1 >= needed as usize {
            events.push(Event::ExecutionStarted { give_up_at: later(self.now, self.policy.hold_max) });
        }
        events
    }
}
