//! Where an incident stands, with exactly the data that belongs there, and the reasons that are kept for people.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::contract::{IncidentBrief, TargetLock, VerificationReport};
use crate::gate::ClosedGate;
use crate::ids::{Digest, IncidentId, RunbookName, StepKey, TaskKey};
use crate::plan::Plan;
use crate::workflow::AutonomyDecision;

/// Where an incident stands: each phase owns exactly its data.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Taken; alerts that come with it join, and what heals by itself heals.
    Settling {
        /// Looked into after this.
        until: Timestamp,
    },
    /// The diagnostic agent is asked.
    Diagnosing(Asking),
    /// The resolution agent is asked for a plan.
    Planning {
        /// The request.
        asking: Asking,
        /// The runbook that a person chose.
        runbook: Option<RunbookName>,
        /// Why it waits for another incident, if it does.
        waits: Option<Waits>,
    },
    /// There is a plan, and its gates are looked at.
    Held {
        /// The plan.
        proposal: Proposal,
        /// What is closed, as last said.
        closed: Vec<ClosedGate>,
        /// A person is asked after this.
        give_up_at: Timestamp,
    },
    /// A person is asked.
    AwaitingApproval {
        /// The plan.
        proposal: Proposal,
        /// When they were asked.
        asked_at: Timestamp,
        /// No answer until then is a no.
        expires_at: Timestamp,
        /// When they are reminded next.
        remind_at: Option<Timestamp>,
        /// How many must agree.
        needed: u32,
        /// Who has.
        given: Vec<Approval>,
    },
    /// The plan is carried out.
    Executing {
        /// The plan.
        proposal: Proposal,
        /// The next step's place in the plan, or the running one's.
        index: usize,
        /// The step that runs or is in doubt.
        run: Option<Run>,
        /// What is closed, as last said.
        closed: Vec<ClosedGate>,
        /// A person is asked when the gates stay closed until then.
        give_up_at: Timestamp,
        /// A person's word to stop before the next step.
        stop: Option<Stop>,
    },
    /// The plan is carried out and checked.
    Verifying {
        /// The plan.
        proposal: Proposal,
        /// Samples from before prove nothing.
        since: Timestamp,
        /// Checks that still fail after this say that it did not help.
        patience_until: Timestamp,
        /// The alert can clear at the earliest then.
        earliest_clear: Timestamp,
        /// Late after this.
        deadline: Timestamp,
        /// What the checks last said.
        last: Option<VerificationReport>,
    },
    /// The plan is undone, in reverse order.
    Undoing {
        /// The plan.
        proposal: Proposal,
        /// Why.
        why: String,
        /// The step that is looked at next, as one more than its place in the plan; 0 when all are done.
        remaining: usize,
        /// The inverse that runs or is in doubt.
        run: Option<Run>,
        /// What is closed, as last said.
        closed: Vec<ClosedGate>,
        /// A person must look after this.
        deadline: Timestamp,
    },
    /// A person must decide.
    Escalated {
        /// Why.
        why: Why,
        /// Who has seen it.
        acknowledged_by: Option<String>,
        /// The step whose effect is unknown.
        unknown: Option<Box<UnknownStep>>,
        /// The next reminder.
        remind_at: Timestamp,
    },
    /// Only people act.
    TakenOver {
        /// Who.
        by: String,
        /// The step whose effect is unknown.
        unknown: Option<Box<UnknownStep>>,
    },
    /// Its alerts have cleared; it is watched for a return.
    Resolved {
        /// How.
        how: How,
        /// Closed after this.
        quiet_until: Timestamp,
    },
    /// Over.
    Closed {
        /// What came of it.
        outcome: Outcome,
    },
}

/// A request to an agent under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// Its key.
    pub task: TaskKey,
    /// Which try, from 1.
    pub attempt: u32,
    /// Not asked before this.
    pub not_before: Timestamp,
    /// Late after this.
    pub deadline: Timestamp,
    /// What the agent is told of the incident: as it was when the request was decided, whatever has happened to it since. An agent
    /// that knows the key refuses another content under it.
    pub brief: Arc<IncidentBrief>,
}

/// Another incident is worked on with the plan that this one would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Which.
    pub on: IncidentId,
    /// One sentence for people.
    pub because: String,
}

/// A plan with its digest and who agreed to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The plan.
    pub plan: Box<Plan>,
    /// Its digest: what an approval names.
    pub digest: Digest,
    /// How far Quell may go with it, as it was when the plan was taken: until there is another one, only less.
    pub autonomy: AutonomyDecision,
    /// Who agreed.
    pub approvals: Vec<Approval>,
    /// Steps of it that happened (done, or failed half-way), by place, in order.
    pub happened: Vec<usize>,
    /// When its first step was started.
    pub begun_at: Option<Timestamp>,
}

/// A step that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its key.
    pub key: StepKey,
    /// Its place in the plan.
    pub index: usize,
    /// Which try of it, from 1.
    pub attempt: u32,
    /// Whether its inverse is meant.
    pub undo: bool,
    /// The lock that it is done under.
    pub lock: TargetLock,
    /// When it was started.
    pub started_at: Timestamp,
    /// The agent refuses it after this.
    pub not_after: Timestamp,
    /// Without an outcome until then it is in doubt.
    pub deadline: Timestamp,
    /// Since when and why it is in doubt; then the target is probed.
    pub doubt: Option<Doubt>,
}

/// Why it is not known whether a step happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    /// Why.
    pub why: String,
    /// A person must look after this.
    pub deadline: Timestamp,
}

/// A person's word to stop before the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Who.
    pub by: String,
    /// Their words.
    pub why: String,
    /// Whether they take over.
    pub take_over: bool,
}

/// A person's agreement to exactly one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The authenticated caller.
    pub by: String,
    /// The plan's digest.
    pub digest: Digest,
    /// When.
    pub at: Timestamp,
}

/// A step whose effect is unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnknownStep {
    /// Its key.
    pub key: StepKey,
    /// Its title.
    pub title: String,
    /// Its target, which stays locked.
    pub lock: TargetLock,
    /// Why it is not known.
    pub why: String,
}

/// A person's word on whether a step took effect of which no probe could tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Who.
    pub by: String,
    /// Whether it took effect.
    pub happened: bool,
    /// Their words.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// Why a person must decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Why {
    /// The evidence supports no cause well enough.
    Abstained {
        /// What the report says.
        because: String,
    },
    /// The level is observe: detect and diagnose only.
    ObserveOnly,
    /// An agent did not answer in time, as often as it may be asked.
    AgentFailed {
        /// What it was asked for, and what went wrong.
        because: String,
    },
    /// No runbook fits.
    NoPlan {
        /// What the agent says.
        because: String,
    },
    /// A gate that only a person can open.
    GatesClosed {
        /// The gates' reasons.
        because: String,
    },
    /// A person said no.
    Denied {
        /// Who.
        by: String,
        /// Their words.
        because: String,
    },
    /// Nobody answered in time.
    ApprovalExpired,
    /// The agent refused a step.
    StepRefused {
        /// What it says.
        because: String,
    },
    /// Whether a step happened cannot be told.
    StepUnknown {
        /// What the probe says.
        because: String,
    },
    /// A person said whether it happened; how to go on is still to be decided.
    StepSettled {
        /// Who.
        by: String,
        /// Whether the step took effect.
        happened: bool,
        /// Their words.
        because: String,
    },
    /// Undoing failed or was not done in time.
    UndoFailed {
        /// Why.
        because: String,
    },
    /// It was carried out and undone, and nothing else is left to try.
    NotFixed {
        /// What the checks say.
        because: String,
    },
    /// It was carried out, and whether it helped could not be seen in time.
    NotVerified {
        /// What is missing.
        because: String,
    },
}

impl std::fmt::Display for Why {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Abstained { because } => write!(formatter, "no cause is supported well enough: {because}"),
            Self::ObserveOnly => write!(formatter, "the autonomy level is observe: here is the diagnosis"),
            Self::AgentFailed { because } | Self::GatesClosed { because } => formatter.write_str(because),
            Self::NoPlan { because } => write!(formatter, "no plan: {because}"),
            Self::Denied { by, because } if because.is_empty() => write!(formatter, "{by} denied the plan"),
            Self::Denied { by, because } => write!(formatter, "{by} denied the plan: {because}"),
            Self::ApprovalExpired => write!(formatter, "nobody approved the plan in time"),
            Self::StepRefused { because } => {
                write!(formatter, "the resolution agent refused a step: {because}")
            }
            Self::StepUnknown { because } => {
                write!(formatter, "whether a step took effect is not known: {because}")
            }
            Self::StepSettled { by, happened, because } => {
                let what = if *happened { "took effect" } else { "did not take effect" };
                write!(formatter, "{by} says that the step {what} ({because}); how to go on is open")
            }
            Self::UndoFailed { because } => write!(formatter, "the undo failed: {because}"),
            Self::NotFixed { because } => write!(formatter, "it was tried and undone: {because}"),
            Self::NotVerified { because } => {
                write!(formatter, "it was carried out but could not be verified: {because}")
            }
        }
    }
}

/// How an incident was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum How {
    /// Its alerts cleared without Quell's doing.
    Itself,
    /// By a runbook whose effect was verified.
    Runbook {
        /// Which.
        runbook: RunbookName,
    },
    /// By a person.
    Person {
        /// Who.
        name: String,
    },
}

impl std::fmt::Display for How {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Itself => formatter.write_str("by itself"),
            Self::Runbook { runbook } => write!(formatter, "by runbook {runbook}"),
            Self::Person { name } => write!(formatter, "by {name}"),
        }
    }
}

/// What came of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// It was resolved and stayed so.
    Resolved {
        /// How.
        how: How,
    },
    /// Whoever opened it took it back.
    Withdrawn {
        /// Who.
        by: String,
    },
    /// A person closed it although nothing could be done.
    ClosedByPerson {
        /// Who.
        by: String,
        /// Their words.
        why: String,
    },
}

impl Phase {
    /// The phase's name for people and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Settling { .. } => "settling",
            Self::Diagnosing(_) => "diagnosing",
            Self::Planning { .. } => "planning",
            Self::Held { .. } => "held",
            Self::AwaitingApproval { .. } => "awaiting_approval",
            Self::Executing { .. } => "executing",
            Self::Verifying { .. } => "verifying",
            Self::Undoing { .. } => "undoing",
            Self::Escalated { .. } => "escalated",
            Self::TakenOver { .. } => "taken_over",
            Self::Resolved { .. } => "resolved",
            Self::Closed { .. } => "closed",
        }
    }
}
