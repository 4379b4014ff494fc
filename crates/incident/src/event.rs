//! What becomes true of an incident. Events are the only way it changes; the workflow makes them, the store keeps them, and the
//! fold of them is the incident.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::alert::{Alert, AlertKey};
use crate::contract::{StepEnd, TargetLock, VerificationReport};
use crate::correlation::{Flapping, GroupId, JoinedBy};
use crate::gate::{ClosedGate, CoolDown};
use crate::ids::{Digest, GateEpoch, IncidentId, Revision, RunbookName, StepKey, TaskKey};
use crate::incident::{Approval, How, Outcome, UnknownStep, Why};
use crate::mapping::Head;
use crate::members::Member;
use crate::plan::Plan;
use crate::report::Report;
use crate::severity::{Priority, Severity};
use crate::workflow::AutonomyDecision;

/// The version of every event's payload that this program writes. An older event is read as it stands, as long as it has a form that this
/// program knows; otherwise it is refused by name ([`DecodeError::Older`]). Nothing that is stored is rewritten.
pub const EVENT_VERSION: u16 = 3;

/// An event with all that is known of how it came to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Envelope {
    /// Unique over all incidents (UUIDv7).
    pub id: uuid::Uuid,
    /// Of which incident.
    pub incident_id: IncidentId,
    /// The incident's revision after it; the first event makes revision 1.
    pub revision: Revision,
    /// Whose incident it is.
    pub tenant: String,
    /// When it was decided.
    pub at: Timestamp,
    /// Who or what caused it: a person's name, `alertmanager`, `diagnostic`, `workflow`.
    pub actor: String,
    /// W3C trace context of what caused it, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The digest of the policy in force.
    pub policy: Digest,
    /// [`EVENT_VERSION`] of the program that wrote it.
    pub version: u16,
    /// What became true: `type` and `data`.
    #[serde(flatten)]
    pub event: Event,
}

/// Why stored bytes are not an event that this program knows.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer program. The incident is to be left alone until this one is upgraded.
    #[error(
        "event `{kind}` has version {version}, this program knows up to {EVENT_VERSION}: run the version that wrote it, or a newer one"
    )]
    Newer {
        /// The event's type.
        kind: String,
        /// Its version.
        version: u16,
    },
    /// Written by an older program, in a form that has changed since. The incident is to be left alone.
    #[error(
        "event `{kind}` has version {version}, whose form this program, which writes version {EVENT_VERSION}, does not read: run the version \
         that wrote it"
    )]
    Older {
        /// The event's type.
        kind: String,
        /// Its version.
        version: u16,
    },
    /// Not an event at all.
    #[error("not an event: {0}")]
    Malformed(String),
}

#[derive(Deserialize)]
struct StoredEnvelope {
    id: uuid::Uuid,
    incident_id: IncidentId,
    revision: Revision,
    tenant: String,
    at: Timestamp,
    actor: String,
    #[serde(default)]
    trace: Option<String>,
    policy: Digest,
    version: u16,
    #[serde(rename = "type")]
    kind: String,
    data: Value,
}

impl Envelope {
    /// The stored form.
    ///
    /// # Errors
    /// When a value in it has no JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads the stored form. Fields that have been added since it was written get their defaults; no other form is brought up.
    ///
    /// # Errors
    /// [`DecodeError`], which tells another version's event from a damaged one.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let stored: StoredEnvelope =
            serde_json::from_slice(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
        if stored.version > EVENT_VERSION {
            return Err(DecodeError::Newer { kind: stored.kind, version: stored.version });
        }
        let tagged = serde_json::json!({ "type": stored.kind, "data": stored.data });
        let event = match serde_json::from_value(tagged) {
            Ok(event) => event,
            Err(_) if stored.version < EVENT_VERSION => {
                return Err(DecodeError::Older { kind: stored.kind, version: stored.version });
            }
            Err(error) => return Err(DecodeError::Malformed(error.to_string())),
        };
        Ok(Self {
            id: stored.id,
            incident_id: stored.incident_id,
            revision: stored.revision,
            tenant: stored.tenant,
            at: stored.at,
            actor: stored.actor,
            trace: stored.trace,
            policy: stored.policy,
            version: stored.version,
            event,
        })
    }
}

/// An alert's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Which.
    #[serde(flatten)]
    pub key: AlertKey,
    /// When, as its source says.
    pub at: Timestamp,
}

/// What became true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Event {
    /// The incident exists; always the first.
    Opened {
        /// Title, severity, priority and the rest of its head.
        head: Box<Head>,
        /// Instances without their ports.
        affected_systems: Vec<String>,
        /// Alertmanager, a person, an agent: by name.
        origin: String,
        /// An earlier incident of the same alert.
        linked_to: Option<IncidentId>,
        /// When it began, as far as is known.
        started_at: Timestamp,
        /// It is not looked into before this.
        settle_until: Timestamp,
        /// The A2A context in which a caller opened it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// An alert began to fire, here or again.
    AlertFired {
        /// As it came.
        alert: Box<Alert>,
    },
    /// Alerts began to fire, here or again: at most [`crate::workflow::ALERTS_PER_EVENT_MAX`] of them.
    AlertsJoined {
        /// Those of the sample, as they came.
        full: Vec<Arc<Alert>>,
        /// The others.
        counted: Vec<Member>,
        /// Why they belong to this incident; `None` for those that it knew, and for those that opened it.
        joined: Option<JoinedBy>,
        /// The group in which their source sent them, when that says something.
        group: Option<GroupId>,
        /// The services that the others name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        services: Vec<String>,
        /// What they are about, where the site's own labels said so; else it follows from the alerts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        affected: Option<Vec<String>>,
    },
    /// Alerts cleared: at most [`crate::workflow::ALERTS_PER_EVENT_MAX`] of them.
    AlertsCleared {
        /// Which, and when, as their source says.
        cleared: Vec<Cleared>,
    },
    /// A message carried fewer alerts than there are.
    AlertsTruncated {
        /// Of which group; `None` when a reconciliation has listed them all.
        group: Option<GroupId>,
        /// How many were left out; 0: none any more.
        more: u64,
    },
    /// An alert of it flaps.
    Flapping {
        /// Which, how, until when.
        flapping: Flapping,
    },
    /// An alert that joined it is more urgent.
    PriorityRaised {
        /// From now on.
        priority: Priority,
        /// From now on.
        severity: Severity,
    },
    /// An alert cleared.
    AlertCleared {
        /// Which.
        key: AlertKey,
        /// When, as its source says.
        cleared_at: Timestamp,
    },
    /// An alert was silenced or inhibited, or is no longer.
    AlertSuppressed {
        /// Which.
        key: AlertKey,
        /// By what; `None` when it no longer is.
        by: Option<String>,
    },
    /// The diagnostic agent is to be asked.
    DiagnosisStarted {
        /// The key of the request.
        task: TaskKey,
        /// Which try, from 1.
        attempt: u32,
        /// Not asked before this.
        not_before: Timestamp,
        /// Late after this.
        deadline: Timestamp,
    },
    /// A request to an agent failed or was late.
    TaskFailed {
        /// Its key.
        task: TaskKey,
        /// Why.
        why: String,
    },
    /// There is a report.
    Diagnosed {
        /// The report.
        report: Box<Report>,
    },
    /// The resolution agent is to be asked for a plan.
    PlanningStarted {
        /// The key of the request.
        task: TaskKey,
        /// Which try, from 1.
        attempt: u32,
        /// Not asked before this.
        not_before: Timestamp,
        /// Late after this.
        deadline: Timestamp,
        /// The runbook that a person chose.
        runbook: Option<RunbookName>,
        /// Who chose it.
        chosen_by: Option<String>,
    },
    /// The plan that it would have is open for another incident: what comes of that is waited for.
    PlanningWaits {
        /// The other incident.
        on: IncidentId,
        /// One sentence for people.
        because: String,
        /// A person is asked after this.
        give_up_at: Timestamp,
    },
    /// There is a plan; its gates are looked at next.
    Planned {
        /// The plan.
        plan: Box<Plan>,
        /// Its digest.
        digest: Digest,
        /// How far Quell may go with it, and why.
        autonomy: AutonomyDecision,
        /// A person is asked when the gates are not open until then.
        give_up_at: Timestamp,
    },
    /// Gates are closed. Said when the reasons change, not each time that they are looked at.
    GatesClosed {
        /// Which and why.
        closed: Vec<ClosedGate>,
    },
    /// A person is asked.
    ApprovalAsked {
        /// For what.
        digest: Digest,
        /// Why a person must agree.
        why: String,
        /// How many.
        needed: u32,
        /// No answer until then is a no.
        expires_at: Timestamp,
    },
    /// A person was reminded of an open question.
    ApprovalReminded {
        /// The next reminder, if there is one before it expires.
        next_at: Option<Timestamp>,
    },
    /// A person agreed to exactly this plan.
    Approved {
        /// Who, to what, when.
        approval: Approval,
    },
    /// A person said no.
    Denied {
        /// Who.
        by: String,
        /// Their words.
        why: String,
    },
    /// An open question is void.
    ApprovalWithdrawn {
        /// Why.
        why: String,
    },
    /// The plan is carried out from here.
    ExecutionStarted {
        /// Closed gates hold it until then, before a person is asked.
        give_up_at: Timestamp,
    },
    /// A step is started: written before the agent is told.
    StepStarted {
        /// The step's key; never started twice.
        key: StepKey,
        /// Its place in the plan.
        index: usize,
        /// Which try of it, from 1.
        attempt: u32,
        /// Whether its inverse is meant.
        undo: bool,
        /// The locks that are taken with this event: all of the plan's with its first step.
        takes: Vec<TargetLock>,
        /// The lock that the step is done under.
        lock: TargetLock,
        /// The epoch of the site's switches that the decision relied on.
        site_epoch: GateEpoch,
        /// The agent refuses it after this.
        not_after: Timestamp,
        /// Without an outcome until then it is in doubt.
        deadline: Timestamp,
    },
    /// Whether a step happened is not known; the target is probed.
    StepDoubted {
        /// Its key.
        key: StepKey,
        /// Why.
        why: String,
        /// A person must look after this.
        deadline: Timestamp,
    },
    /// A step ended.
    StepEnded {
        /// Its key.
        key: StepKey,
        /// How.
        outcome: StepEnd,
        /// Whether a probe said so.
        by_probe: bool,
    },
    /// A person said whether a step took effect of which no probe could tell: only then its target may be freed.
    StepSettled {
        /// The step's key.
        key: StepKey,
        /// Who.
        by: String,
        /// Whether it took effect.
        happened: bool,
        /// Their words.
        why: String,
    },
    /// A person wants it stopped before the next step.
    StopAsked {
        /// Who.
        by: String,
        /// Their words.
        why: String,
        /// Whether they take over; otherwise they denied.
        take_over: bool,
    },
    /// The plan is carried out, now it is checked.
    VerificationStarted {
        /// Samples from before prove nothing.
        since: Timestamp,
        /// Checks that still fail after this say that it did not help.
        patience_until: Timestamp,
        /// The alert can clear at the earliest then.
        earliest_clear: Timestamp,
        /// Late after this.
        deadline: Timestamp,
    },
    /// The checks were read and say something else than before.
    ChecksRead {
        /// What they say.
        report: VerificationReport,
    },
    /// The plan is undone, in reverse order.
    UndoStarted {
        /// Why.
        why: String,
        /// A person must look when it is not done by then.
        deadline: Timestamp,
    },
    /// Everything that could be undone is.
    Undone {
        /// Steps that needed no undo or cannot be undone, with why.
        left: Vec<String>,
    },
    /// Locks are free again.
    LocksReleased {
        /// Which.
        locks: Vec<TargetLock>,
    },
    /// The runbook does not start again for this class and target until then.
    CoolDownSet {
        /// For what.
        cool_down: CoolDown,
    },
    /// A person must decide.
    Escalated {
        /// Why.
        why: Why,
        /// The step whose effect is unknown, if one is: its target stays locked until a person says whether it
        /// happened.
        unknown: Option<Box<UnknownStep>>,
        /// The first reminder.
        remind_at: Timestamp,
    },
    /// A person was reminded.
    EscalationReminded {
        /// The next reminder.
        remind_at: Timestamp,
    },
    /// A person has seen it.
    Acknowledged {
        /// Who.
        by: String,
    },
    /// Only people act from here.
    TakenOver {
        /// Who.
        by: String,
    },
    /// A person gave it back; it is diagnosed anew.
    HandedBack {
        /// Who.
        by: String,
    },
    /// It is over, if it stays so.
    Resolved {
        /// How.
        how: How,
        /// Closed after this.
        quiet_until: Timestamp,
    },
    /// It came back.
    Reopened {
        /// Why.
        why: String,
        /// The runbook that had "fixed" it.
        against: Option<RunbookName>,
    },
    /// It is over.
    Closed {
        /// What came of it.
        outcome: Outcome,
        /// What happened, for people, in Markdown.
        post_mortem: String,
    },
    /// A person's words.
    Noted {
        /// Who.
        by: String,
        /// The words.
        text: String,
    },
}

impl Event {
    /// The event's type as it stands in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::AlertFired { .. } => "alert_fired",
            Self::AlertsJoined { .. } => "alerts_joined",
            Self::AlertsCleared { .. } => "alerts_cleared",
            Self::AlertsTruncated { .. } => "alerts_truncated",
            Self::Flapping { .. } => "flapping",
            Self::PriorityRaised { .. } => "priority_raised",
            Self::AlertCleared { .. } => "alert_cleared",
            Self::AlertSuppressed { .. } => "alert_suppressed",
            Self::DiagnosisStarted { .. } => "diagnosis_started",
            Self::TaskFailed { .. } => "task_failed",
            Self::Diagnosed { .. } => "diagnosed",
            Self::PlanningStarted { .. } => "planning_started",
            Self::PlanningWaits { .. } => "planning_waits",
            Self::Planned { .. } => "planned",
            Self::GatesClosed { .. } => "gates_closed",
            Self::ApprovalAsked { .. } => "approval_asked",
            Self::ApprovalReminded { .. } => "approval_reminded",
            Self::Approved { .. } => "approved",
            Self::Denied { .. } => "denied",
            Self::ApprovalWithdrawn { .. } => "approval_withdrawn",
            Self::ExecutionStarted { .. } => "execution_started",
            Self::StepStarted { .. } => "step_started",
            Self::StepDoubted { .. } => "step_doubted",
            Self::StepEnded { .. } => "step_ended",
            Self::StepSettled { .. } => "step_settled",
            Self::StopAsked { .. } => "stop_asked",
            Self::VerificationStarted { .. } => "verification_started",
            Self::ChecksRead { .. } => "checks_read",
            Self::UndoStarted { .. } => "undo_started",
            Self::Undone { .. } => "undone",
            Self::LocksReleased { .. } => "locks_released",
            Self::CoolDownSet { .. } => "cool_down_set",
            Self::Escalated { .. } => "escalated",
            Self::EscalationReminded { .. } => "escalation_reminded",
            Self::Acknowledged { .. } => "acknowledged",
            Self::TakenOver { .. } => "taken_over",
            Self::HandedBack { .. } => "handed_back",
            Self::Resolved { .. } => "resolved",
            Self::Reopened { .. } => "reopened",
            Self::Closed { .. } => "closed",
            Self::Noted { .. } => "noted",
        }
    }
}
