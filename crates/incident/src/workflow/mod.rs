//! The workflow: one function decides what becomes true, one folds it, one says what should be under way.
//!
//! ```text
//! decide(incident, input, now, policy) -> Result<Vec<Event>, Refused>
//! apply(incident, envelope)            -> the fold; replay is recovery
//! duties(incident)                     -> what should be under way, from the state alone
//! ```
//!
//! **Flow.** The runner loads an incident, decides on an input, appends the events with the claims that they need, and then
//! sees to the incident's duties. **Guarantees.** The rules that no history may break are tested as properties over random
//! histories (`tests/rules.rs`). **Assumptions.** `now` does not run backwards for one incident by more than clocks do; an
//! input is what it says it is (the person was authenticated, the answer came from the agent). **Absent on purpose:** stored
//! timers (each phase owns its deadlines) and an effect queue (what is to be done follows from the phase).

mod alerts;
pub mod apply;
mod apply_alerts;
mod autonomy;
mod duties;
mod gates;
mod people;
pub mod policy;
mod settle;
mod steps;
pub(crate) mod tasks;
mod verify;

use jiff::Timestamp;

pub use alerts::{ALERTS_PER_EVENT_MAX, AlertBatch, FiredAlert, LATE_MESSAGE_WITHIN, begins_anew, open_with};
pub use apply::{Illegal, apply, opened, replay};
pub use autonomy::{Autonomy, AutonomyDecision, AutonomyOverride, AutonomyReason};
pub use duties::{Duty, DutyKind, diagnose_request, duties, next_deadline, plan_request, step_request};
pub use policy::Policy;
pub use tasks::{may_only_show, waits_for};

use crate::alert::{Alert, AlertKey};
use crate::contract::{PlanAnswer, ProbeVerdict, StepOutcome, TargetLock, VerificationReport};
use crate::event::Event;
use crate::gate::{CoolDown, World};
use crate::ids::{Digest, GateEpoch, IncidentId, RunbookName, StepKey, TaskKey};
use crate::incident::{How, Incident, Phase, Proposal, UnknownStep, Why};
use crate::mapping::Head;
use crate::report::Report;
use crate::severity::{Priority, Severity};

/// What can happen to an incident.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// An alert of it fires.
    AlertFiring(Box<Alert>),
    /// Several messages about alerts, each alert once, decided together.
    Alerts(Box<AlertBatch>),
    /// A reconciliation has listed every alert: none is left out any more.
    AlertsListed,
    /// An alert that joined it is this urgent.
    AlertUrgency {
        /// As the mapping says.
        priority: Priority,
        /// As the mapping says.
        severity: Severity,
    },
    /// An alert of it has cleared.
    AlertCleared {
        /// Which.
        key: AlertKey,
        /// When, as its source says.
        at: Timestamp,
    },
    /// An alert of it is silenced or inhibited (`Some`), or no longer is.
    AlertSuppressed {
        /// Which.
        key: AlertKey,
        /// By what.
        by: Option<String>,
    },
    /// The diagnostic agent answered.
    Report {
        /// The request's key.
        task: TaskKey,
        /// The answer.
        report: Box<Report>,
    },
    /// The resolution agent answered.
    Plan {
        /// The request's key.
        task: TaskKey,
        /// The answer.
        answer: PlanAnswer,
    },
    /// A request to an agent failed.
    TaskFailed {
        /// Its key.
        task: TaskKey,
        /// Why.
        why: String,
        /// Whether asking again would bring the same: the agent rejected it, or its answer cannot be used.
        for_good: bool,
    },
    /// The resolution agent says how a step ended.
    StepOutcome {
        /// The step's key.
        key: StepKey,
        /// How.
        outcome: StepOutcome,
    },
    /// A probe says whether a step happened.
    Probed {
        /// The step's key.
        key: StepKey,
        /// What it says.
        verdict: ProbeVerdict,
    },
    /// The checks were read.
    Checks(VerificationReport),
    /// The gates were looked at: the world as it was observed just before.
    Gates(Box<World>),
    /// A deadline may have passed.
    Deadline,
    /// A person has seen it.
    Acknowledge {
        /// Who.
        by: String,
    },
    /// A person agrees to a plan.
    Approve {
        /// Who.
        by: String,
        /// To which plan.
        digest: Digest,
    },
    /// A person says no.
    Deny {
        /// Who.
        by: String,
        /// Their words.
        why: String,
        /// To which plan, if they say.
        digest: Option<Digest>,
    },
    /// A person takes over.
    TakeOver {
        /// Who.
        by: String,
    },
    /// A person gives it back.
    HandBack {
        /// Who.
        by: String,
    },
    /// A person chooses a runbook.
    RunRunbook {
        /// Who.
        by: String,
        /// Which.
        runbook: RunbookName,
    },
    /// A person wants it diagnosed again.
    DiagnoseAgain {
        /// Who.
        by: String,
    },
    /// A person says that it is resolved.
    Resolve {
        /// Who.
        by: String,
    },
    /// A person closes it.
    Close {
        /// Who.
        by: String,
        /// Their words.
        why: String,
    },
    /// Whoever opened it takes it back.
    Withdraw {
        /// Who.
        by: String,
    },
    /// A person says that it is not over.
    Reopen {
        /// Who.
        by: String,
        /// Their words.
        why: String,
    },
    /// A person says whether the step took effect whose effect is unknown.
    Settle {
        /// Who.
        by: String,
        /// Which step, if they say.
        key: Option<StepKey>,
        /// Whether it took effect.
        happened: bool,
        /// How they know.
        why: String,
    },
    /// A person notes something.
    Note {
        /// Who.
        by: String,
        /// The words.
        text: String,
    },
}

/// An input that does not fit. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An answer to an old question, a duplicate, an outcome of another step.
    #[error("{what} is not what the incident waits for in phase {phase}")]
    Stale {
        /// What came.
        what: String,
        /// The phase.
        phase: &'static str,
    },
    /// A person's word that is not possible now.
    #[error("{what} is not possible in phase {phase}: {remedy}")]
    NotNow {
        /// What was wanted.
        what: &'static str,
        /// The phase.
        phase: &'static str,
        /// What to do instead.
        remedy: String,
    },
    /// An approval that comes too late.
    #[error("the question expired at {at}; no answer was a no")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// An approval of a plan that is not the one that is asked for.
    #[error("the plan to approve is {wanted}, not {given}: look at it again and approve that digest")]
    OtherPlan {
        /// The digest that is asked for.
        wanted: Digest,
        /// The digest that was given.
        given: Digest,
    },
}

impl Refused {
    /// What is to be decided and recorded although the input was refused: that a question has expired must outlast a clock that is put
    /// back, or the next answer would find it open again.
    pub fn recorded_by(&self) -> Option<Input> {
        matches!(self, Self::Expired { .. }).then_some(Input::Deadline)
    }

    fn stale(what: impl Into<String>, incident: &Incident) -> Self {
        Self::Stale { what: what.into(), phase: incident.phase.name() }
    }
}

/// What opens an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Its head.
    pub head: Head,
    /// Instances without their ports.
    pub affected_systems: Vec<String>,
    /// Alertmanager, a person, an agent: by name.
    pub origin: String,
    /// An earlier incident of the same alert.
    pub linked_to: Option<IncidentId>,
    /// The A2A context in which a caller opens it, if it names one.
    pub context: Option<String>,
    /// The alert that opens it, if one does.
    pub alert: Option<Alert>,
}

/// The first events of an incident.
pub fn open(draft: Draft, now: Timestamp, policy: &Policy) -> Vec<Event> {
    let Draft { head, affected_systems, origin, linked_to, context, alert } = draft;
    let settle_until = later(now, policy.settle_for(head.priority));
    let started_at = alert.as_ref().map_or(now, |alert| alert.starts_at.min(now));
    let opened = Event::Opened {
        head: Box::new(head),
        affected_systems,
        origin,
        linked_to,
        started_at,
        settle_until,
        context,
    };
    let fired = alert.map(|alert| Event::AlertFired { alert: Box::new(alert) });
    std::iter::once(opened).chain(fired).collect()
}

/// Decides what becomes true of an incident when something happens to it. Pure: the same arguments give the same events.
///
/// # Errors
/// [`Refused`] when the input does not fit; then nothing has changed, and the caller notes it.
pub fn decide(
    incident: &Incident,
    input: &Input,
    now: Timestamp,
    policy: &Policy,
) -> Result<Vec<Event>, Refused> {
    let look = Looking { incident, now, policy };
    match input {
        Input::AlertFiring(alert) => look.alert_firing(alert),
        Input::Alerts(batch) => look.alerts(batch),
        Input::AlertsListed => Ok(look.alerts_listed()),
        Input::AlertUrgency { priority, severity } => Ok(look.alert_urgency(*priority, *severity)),
        Input::AlertCleared { key, at } => look.alert_cleared(key, *at),
        Input::AlertSuppressed { key, by } => look.alert_suppressed(key, by.as_deref()),
        Input::Report { task, report } => look.report(task, report),
        Input::Plan { task, answer } => look.plan(task, answer),
        Input::TaskFailed { task, why, for_good } => look.task_failed(task, why, *for_good),
        Input::StepOutcome { key, outcome } => look.step_outcome(key, outcome),
        Input::Probed { key, verdict } => look.probed(key, verdict),
        Input::Checks(report) => look.checks(report),
        Input::Gates(world) => look.gates(world),
        Input::Deadline => look.deadline(),
        Input::Acknowledge { by } => look.acknowledge(by),
        Input::Approve { by, digest } => look.approve(by, *digest),
        Input::Deny { by, why, digest } => look.deny(by, why, *digest),
        Input::TakeOver { by } => look.take_over(by),
        Input::HandBack { by } => look.hand_back(by),
        Input::RunRunbook { by, runbook } => look.run_runbook(by, runbook),
        Input::DiagnoseAgain { by } => look.diagnose_again(by),
        Input::Resolve { by } => look.resolve(by),
        Input::Close { by, why } => look.close(by, why),
        Input::Withdraw { by } => look.withdraw(by),
        Input::Reopen { by, why } => look.reopen(by, why),
        Input::Settle { by, key, happened, why } => look.settle(by, key.as_ref(), *happened, why),
        Input::Note { by, text } => Ok(vec![Event::Noted { by: by.clone(), text: text.clone() }]),
    }
}

/// What the append of a decision must check and change in the same commit, besides the incident's own revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The target is free and its last token is the one before: now this incident holds it.
    Take(TargetLock),
    /// This incident still holds the target with this token.
    Hold(TargetLock),
    /// The target is free again.
    Release(TargetLock),
    /// The site's switches have not changed since they were read.
    SiteEpoch(GateEpoch),
    /// The runbook cools down.
    CoolDown(CoolDown),
}

/// The claims that follow from events: nothing else may change locks and cool-downs, so that the log stays the truth.
pub fn claims(events: &[Event]) -> Vec<Claim> {
    let mut claims = Vec::new();
    for event in events {
        match event {
            Event::StepStarted { takes, lock, site_epoch, .. } => {
                claims.extend(takes.iter().cloned().map(Claim::Take));
                if !takes.contains(lock) {
                    claims.push(Claim::Hold(lock.clone()));
                }
                claims.push(Claim::SiteEpoch(*site_epoch));
            }
            Event::LocksReleased { locks } => claims.extend(locks.iter().cloned().map(Claim::Release)),
            Event::CoolDownSet { cool_down } => claims.push(Claim::CoolDown(cool_down.clone())),
            _ => {}
        }
    }
    claims
}

/// One decision: the incident, the instant and the settings.
struct Looking<'a> {
    incident: &'a Incident,
    now: Timestamp,
    policy: &'a Policy,
}

/// An instant later by a span; the end of time instead of an overflow.
pub(crate) fn later(at: Timestamp, span: jiff::SignedDuration) -> Timestamp {
    at.saturating_add(span).unwrap_or(Timestamp::MAX)
}

impl Looking<'_> {
    fn task_key(&self, skill: &str) -> TaskKey {
        TaskKey::of(self.incident.id, skill, self.incident.task_serial + 1)
    }

    fn start_diagnosis(&self, attempt: u32) -> Event {
        let not_before = if attempt == 1 { self.now } else { later(self.now, backoff(self.policy, attempt)) };
        Event::DiagnosisStarted {
            task: self.task_key("diagnose"),
            attempt,
            not_before,
            deadline: later(not_before, self.policy.diagnosis),
        }
    }

    fn start_planning(&self, attempt: u32, chosen: Option<(&RunbookName, &str)>) -> Event {
        let not_before = if attempt == 1 { self.now } else { later(self.now, backoff(self.policy, attempt)) };
        Event::PlanningStarted {
            task: self.task_key("plan"),
            attempt,
            not_before,
            deadline: later(not_before, self.policy.planning),
            runbook: chosen.map(|(runbook, _)| runbook.clone()),
            chosen_by: chosen.map(|(_, by)| by.to_owned()),
        }
    }

    /// Locks that no longer protect anything, released with the event that ends the work.
    fn release_locks(&self) -> Option<Event> {
        let locks: Vec<_> = self
            .incident
            .locks
            .iter()
            .map(|(target, token)| TargetLock { target: target.clone(), token: *token })
            .collect();
        (!locks.is_empty()).then_some(Event::LocksReleased { locks })
    }

    /// A cool-down for each target of the plan in hand, once its first step was started.
    fn cool_down(&self) -> Vec<Event> {
        let begun = self.incident.proposal().filter(|proposal| proposal.begun_at.is_some());
        begun.map(|proposal| self.cool_down_of(proposal)).unwrap_or_default()
    }

    fn cool_down_of(&self, proposal: &Proposal) -> Vec<Event> {
        let until = later(self.now, self.policy.cool_down);
        let cool = |target| CoolDown {
            class: self.incident.alert_name.clone(),
            target,
            runbook: proposal.plan.runbook.clone(),
            until,
        };
        proposal
            .plan
            .targets()
            .into_iter()
            .map(|target| Event::CoolDownSet { cool_down: cool(target) })
            .collect()
    }

    /// Hands over to a person. Locks are kept only while a step's effect is unknown.
    fn escalate(&self, why: Why, unknown: Option<UnknownStep>) -> Vec<Event> {
        let mut events = self.cool_down();
        if unknown.is_none() {
            events.extend(self.release_locks());
        }
        let remind_at = later(self.now, self.policy.escalation_reminder);
        events.push(Event::Escalated { why, unknown: unknown.map(Box::new), remind_at });
        events
    }

    fn resolve_as(&self, how: How) -> Vec<Event> {
        let mut events = Vec::new();
        if matches!(self.incident.phase, Phase::AwaitingApproval { .. }) {
            events.push(Event::ApprovalWithdrawn { why: "the alert has cleared".to_owned() });
        }
        events.extend(self.cool_down());
        events.extend(self.release_locks());
        events.push(Event::Resolved { how, quiet_until: later(self.now, self.policy.quiet_before_close) });
        events
    }
}

fn backoff(policy: &Policy, attempt: u32) -> jiff::SignedDuration {
    let doublings = attempt.saturating_sub(2).min(10);
    policy.agent_backoff.saturating_mul(1 << doublings)
}
