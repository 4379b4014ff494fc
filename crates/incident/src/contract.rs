//! The JSON that the daemons send each other in A2A data parts. An agent in another language is written against these.
//!
//! | skill | request | answer |
//! |---|---|---|
//! | `diagnose` | [`DiagnoseRequest`] | [`crate::Report`] |
//! | `plan` | [`PlanRequest`] | [`PlanAnswer`] |
//! | `execute`, `undo` | [`StepRequest`] | [`StepAnswer`] |
//! | `probe` | [`StepRequest`] | [`ProbeAnswer`] |
//! | `verify` | [`VerifyRequest`] | [`VerificationReport`] |
//! | `introduce` | [`Introduction`] | [`Introduced`] |
//!
//! What `execute`, `undo` and `probe` ask for must be permitted: [`crate::permit`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Labels};
use crate::ids::{Digest, FencingToken, IncidentId, RunbookName, StepKey, TargetName};
use crate::permit::SignedPermit;
use crate::plan::{AgentIdentity, Change, Check, Plan, Step};
use crate::report::Report;
use crate::severity::{Priority, Severity};
use crate::surroundings::ChangeRecord;

/// What an agent needs to know of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentBrief {
    /// Its id.
    pub id: IncidentId,
    /// Its title.
    pub title: String,
    /// The first alert's name.
    pub alert_name: String,
    /// P0 to P3.
    pub priority: Priority,
    /// Its severity.
    pub severity: Severity,
    /// Instances without their ports; telemetry's text.
    pub affected_systems: Vec<String>,
    /// When the first alert began.
    pub started_at: Timestamp,
    /// A bounded sample of its alerts.
    pub alerts: Vec<Alert>,
    /// Labels of the first alert.
    pub labels: Labels,
}

/// Asks the diagnostic agent for a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagnoseRequest {
    /// `quell/diagnose/v1`.
    pub schema: String,
    /// Of what.
    pub incident: IncidentBrief,
    /// The instant to diagnose at.
    pub reference_time: Timestamp,
    /// What was changed on purpose before and since the incident began, as far as the coordinator was told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeRecord>,
}

/// Asks the resolution agent for a plan with its dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRequest {
    /// `quell/plan-request/v1`.
    pub schema: String,
    /// For what.
    pub incident: IncidentBrief,
    /// The diagnosis. A person's choice of a runbook needs none.
    pub report: Option<Report>,
    /// Runbooks that were tried in this incident and did not help, and are not to be proposed.
    pub exclude: Vec<RunbookName>,
    /// The runbook that a person chose, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<RunbookName>,
    /// Incidents whose open plans do not count any more: they are over, or nobody here knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub despite: Vec<IncidentId>,
}

/// The answer to a [`PlanRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PlanAnswer {
    /// A plan.
    Plan {
        /// The plan.
        plan: Box<Plan>,
    },
    /// A plan of the same runbook for the same targets is open for another incident. It is made once, and what comes of it is waited for.
    Taken {
        /// The other incident.
        incident_id: IncidentId,
        /// The runbook.
        runbook: RunbookName,
        /// The targets of its steps, in order.
        targets: Vec<TargetName>,
        /// When that plan can begin no more.
        until: Timestamp,
    },
    /// No runbook fits, or the one that fits cannot be previewed.
    NoPlan {
        /// Why.
        why: String,
    },
}

/// Asks the resolution agent to execute, undo or probe one step. It carries everything, so that the agent decides by what it is
/// told and by its own ledger and guard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRequest {
    /// `quell/step/v1`.
    pub schema: String,
    /// The incident.
    pub incident_id: IncidentId,
    /// The step's key; started once.
    pub key: StepKey,
    /// The digest of the plan that was approved.
    pub plan_digest: Digest,
    /// The whole step.
    pub step: Step,
    /// Whether the step's inverse is meant. With the skill `probe` as well.
    pub undo: bool,
    /// Who may carry it out.
    pub agent: AgentIdentity,
    /// The lock on the step's target.
    pub lock: TargetLock,
    /// When it was decided to start it.
    pub started_at: Timestamp,
    /// Refused after this.
    pub not_after: Timestamp,
    /// The coordinator's signed word for all of it; without one that fits, nothing is done and nothing is sealed. It is added when the
    /// request is sent: the workflow, from which the request comes, has no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<SignedPermit>,
}

/// Tells the resolution agent by which key the coordinator signs its permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// `quell/introduction/v1`.
    pub schema: String,
    /// The key: 64 hexadecimal digits.
    pub public_key: String,
}

/// The answer to an [`Introduction`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Introduced {
    /// Permits that are signed with it count.
    Accepted,
    /// They do not.
    Refused {
        /// Why, and what to set.
        why: String,
    },
}

/// A target's lock and its fencing token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetLock {
    /// What is locked.
    pub target: TargetName,
    /// The token of this holding.
    pub token: FencingToken,
}

/// How a step ended, as the agent's ledger has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepOutcome {
    /// It was done.
    Done {
        /// What changed.
        changes: Vec<Change>,
        /// What the tool said, bounded and redacted.
        output: String,
        /// When it began and ended.
        began_at: Timestamp,
        /// When it ended.
        ended_at: Timestamp,
    },
    /// It was tried and failed; part of it may have happened, so it is undone like a done one.
    Failed {
        /// Why.
        why: String,
    },
    /// It was not tried: the guard, the lock, the time or the ledger forbade it, or it was a dry run. Nothing happened.
    Refused {
        /// Why.
        why: String,
    },
    /// It may or may not have happened: the agent died in the middle, or the connection broke. Only a probe can tell.
    Unknown {
        /// Why.
        why: String,
    },
}

/// How a step ended, once that is known: what [`StepOutcome`] says without a doubt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepEnd {
    /// It was done.
    Done {
        /// What changed.
        changes: Vec<Change>,
        /// What the tool said, bounded and redacted.
        output: String,
        /// When it began.
        began_at: Timestamp,
        /// When it ended.
        ended_at: Timestamp,
    },
    /// It was tried and failed.
    Failed {
        /// Why.
        why: String,
    },
    /// It was not tried.
    Refused {
        /// Why.
        why: String,
    },
}

impl StepOutcome {
    /// How it ended.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn end(&self) -> Result<StepEnd, &str> {
        match self {
            Self::Done { changes, output, began_at, ended_at } => Ok(StepEnd::Done {
                changes: changes.clone(),
                output: output.clone(),
                began_at: *began_at,
                ended_at: *ended_at,
            }),
            Self::Failed { why } => Ok(StepEnd::Failed { why: why.clone() }),
            Self::Refused { why } => Ok(StepEnd::Refused { why: why.clone() }),
            Self::Unknown { why } => Err(why),
        }
    }
}

impl From<StepEnd> for StepOutcome {
    fn from(end: StepEnd) -> Self {
        match end {
            StepEnd::Done { changes, output, began_at, ended_at } => {
                Self::Done { changes, output, began_at, ended_at }
            }
            StepEnd::Failed { why } => Self::Failed { why },
            StepEnd::Refused { why } => Self::Refused { why },
        }
    }
}

/// The answer to `execute` and `undo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepAnswer {
    /// The key that was asked for.
    pub key: StepKey,
    /// The outcome.
    pub outcome: StepOutcome,
}

/// What a probe of the target says. Asking seals a key that the ledger has not seen: a late `execute` with it is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProbeVerdict {
    /// The step took effect.
    Done {
        /// What is seen to have changed.
        changes: Vec<Change>,
    },
    /// It did not, and will not.
    NotDone,
    /// A person must look.
    CannotTell {
        /// Why.
        why: String,
    },
}

/// The answer to `probe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// The key that was asked for.
    pub key: StepKey,
    /// The verdict.
    pub verdict: ProbeVerdict,
}

/// Asks the resolution agent to read the checks of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// `quell/verify/v1`.
    pub schema: String,
    /// The incident.
    pub incident_id: IncidentId,
    /// The checks.
    pub checks: Vec<Check>,
    /// Samples from before this instant prove nothing. Without it the samples of the last two minutes are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What the checks say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All hold.
    Passed,
    /// At least one was read and does not hold: positive evidence that the fault is still there.
    Failed,
    /// None is known not to hold, but at least one could not be read: no data never passes.
    Inconclusive,
}

/// The answer to [`VerifyRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerificationReport {
    /// `quell/verification/v1`.
    pub schema: String,
    /// All checks together.
    pub verdict: Verdict,
    /// Each check.
    pub checks: Vec<CheckResult>,
    /// When they were read.
    pub read_at: Timestamp,
}

/// One check as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The check's name.
    pub name: String,
    /// What it says.
    pub verdict: Verdict,
    /// The number that was read, if any.
    pub value: Option<f64>,
    /// One sentence: what was read, against which bound, or why nothing could be.
    pub statement: String,
    /// The query in the source's own words.
    pub query: String,
}
