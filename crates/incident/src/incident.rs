//! An incident: the fold of its events, and the phase that it is in.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::alert::{Alert, AlertKey};
use crate::contract::{IncidentBrief, StepOutcome};
use crate::correlation::{Flapping, GroupId};
use crate::gate::CoolDown;
use crate::ids::{Digest, FencingToken, IncidentId, Revision, RunbookName, StepKey, TargetName};
use crate::members::Members;
pub use crate::phase::{
    Approval, Asking, Doubt, How, Outcome, Phase, Proposal, Run, Settlement, Stop, UnknownStep, Waits, Why,
};
use crate::plan::{Change, Plan};
use crate::report::Report;
use crate::said::{Said, same_word};
pub use crate::severity::{Priority, Severity, Status};
use crate::workflow::AutonomyDecision;

/// Alerts that one incident has at the most: nothing joins it when it has so many.
pub const ALERTS_MAX: usize = 20_000;
/// Alerts that one incident keeps in full.
pub const SAMPLE_MAX: usize = 100;
/// Groups that one incident remembers.
pub(crate) const GROUPS_MAX: usize = 64;
/// Alerts that an agent is told of.
const BRIEF_ALERTS_MAX: usize = 20;

/// An incident as its events have made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// How many events it has had.
    pub revision: Revision,
    /// Whose it is.
    pub tenant: String,
    /// `Database connection timeout on db-server-01`.
    pub title: String,
    /// The alert's description.
    pub description: String,
    /// The first alert's name: its class.
    pub alert_name: String,
    /// How bad.
    pub severity: Severity,
    /// How urgent.
    pub priority: Priority,
    /// Tags.
    pub tags: Vec<String>,
    /// The component, empty when unknown.
    pub component: String,
    /// The service, empty when unknown.
    pub service: String,
    /// Instances without their ports.
    pub affected_systems: Vec<String>,
    /// What opened it.
    pub origin: String,
    /// An earlier incident of the same alert.
    pub linked_to: Option<IncidentId>,
    /// The A2A context in which a caller opened it, which is kept.
    pub context: Option<String>,
    /// When the first alert began.
    pub started_at: Timestamp,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When its last event was.
    pub updated_at: Timestamp,
    /// When it was last resolved.
    pub resolved_at: Option<Timestamp>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// A sample of its alerts in full, at most [`SAMPLE_MAX`].
    pub alerts: BTreeMap<AlertKey, AlertState>,
    /// Every alert in its shortest form, at most [`ALERTS_MAX`].
    pub members: Members,
    /// The sources and services that telemetry ever named.
    pub said: Said,
    /// Groups of its source in which alerts came, with when the last one joined.
    pub groups: BTreeMap<GroupId, Timestamp>,
    /// How many alerts of a group a message left out.
    pub truncated: BTreeMap<GroupId, u64>,
    /// Which alert flaps, or last did.
    pub flapping: Option<Flapping>,
    /// Alerts beyond [`ALERTS_MAX`], which are only counted.
    pub alerts_not_kept: u64,
    /// Where it stands.
    pub phase: Phase,
    /// The last report.
    pub report: Option<Report>,
    /// The last plan, also when it was not carried out.
    pub plan: Option<(Digest, Plan)>,
    /// How far Quell was to go with that plan, and why, as it was decided when the plan was taken.
    pub autonomy: Option<AutonomyDecision>,
    /// Everything that was done, in order.
    pub actions: Vec<ActionRecord>,
    /// Plans that were carried out and what came of them.
    pub attempts: Vec<Attempt>,
    /// Locks that it holds.
    pub locks: BTreeMap<TargetName, FencingToken>,
    /// Every key that was ever started here, so that none is started again.
    pub started_keys: Vec<StepKey>,
    /// Makes the next task's key.
    pub task_serial: u32,
    /// Who chose the runbook in hand, if a person did.
    pub chosen_by: Option<String>,
    /// Who has seen it.
    pub acknowledged_by: Vec<String>,
    /// How often it came back.
    pub reopened: u32,
    /// What came of it.
    pub post_mortem: Option<String>,
}

/// One alert of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertState {
    /// As it last began to fire.
    pub alert: Arc<Alert>,
    /// When this episode cleared.
    pub cleared_at: Option<Timestamp>,
    /// What silences or inhibits it.
    pub suppressed_by: Option<String>,
}

/// Something that was done to a target.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionRecord {
    /// The step's key.
    pub key: StepKey,
    /// The action.
    pub action: String,
    /// The target.
    pub target: TargetName,
    /// Whether it was an undo.
    pub undo: bool,
    /// What changed.
    pub changes: Vec<Change>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How; `None` while it runs or is unknown.
    pub outcome: Option<StepOutcome>,
    /// The person's word that the outcome rests on, where nothing else could tell.
    pub settled: Option<Settlement>,
}

impl ActionRecord {
    /// Whether it was done; `None` while that is not known.
    pub fn success(&self) -> Option<bool> {
        self.outcome.as_ref().map(|outcome| matches!(outcome, StepOutcome::Done { .. }))
    }
}

/// A plan that was carried out, or begun.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its runbook.
    pub runbook: RunbookName,
    /// The plan's digest.
    pub digest: Digest,
    /// Whether it was undone.
    pub undone: bool,
    /// Whether the alert came back after it.
    pub came_back: bool,
    /// The cool-downs that it was given, one for each of its targets.
    pub cool_downs: Vec<CoolDown>,
}

impl Incident {
    /// The public status.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Settling { .. } => Status::Open,
            Phase::Resolved { .. } => Status::Resolved,
            Phase::Closed { .. } => Status::Closed,
            _ => Status::Investigating,
        }
    }

    /// Whether it is kept and shown and nothing else: its alert says that nobody is to be troubled, so it settles until that ends.
    pub fn is_kept_only(&self) -> bool {
        let long = SignedDuration::from_hours(24 * 30);
        matches!(self.phase, Phase::Settling { until } if until.duration_since(self.created_at) > long)
    }

    /// Whether it has alerts and every one of them has cleared.
    pub fn cleared(&self) -> bool {
        !self.members.is_empty() && self.members.firing() == 0 && self.all_known()
    }

    /// Whether every alert is known: none was left out of a message, none is merely counted.
    pub fn all_known(&self) -> bool {
        self.alerts_not_kept == 0 && self.truncated.is_empty()
    }

    /// Whether telemetry says that it concerns this service: enough to go no further than the service allows, and never to go further.
    pub fn may_concern(&self, service: &str) -> bool {
        self.said.may_have_named(service)
            || same_word(&self.service, service)
            || self.affected_systems.iter().any(|system| same_word(system, service))
    }

    /// The step that runs or is in doubt.
    pub fn run(&self) -> Option<&Run> {
        match &self.phase {
            Phase::Executing { run, .. } | Phase::Undoing { run, .. } => run.as_ref(),
            _ => None,
        }
    }

    /// The plan in hand.
    pub fn proposal(&self) -> Option<&Proposal> {
        match &self.phase {
            Phase::Held { proposal, .. }
            | Phase::AwaitingApproval { proposal, .. }
            | Phase::Executing { proposal, .. }
            | Phase::Verifying { proposal, .. }
            | Phase::Undoing { proposal, .. } => Some(proposal),
            _ => None,
        }
    }

    /// The step whose effect is unknown.
    pub fn unknown_step(&self) -> Option<&UnknownStep> {
        match &self.phase {
            Phase::Escalated { unknown, .. } | Phase::TakenOver { unknown, .. } => unknown.as_deref(),
            _ => None,
        }
    }

    /// How it was resolved, once it was.
    pub fn how(&self) -> Option<&How> {
        match &self.phase {
            Phase::Resolved { how, .. } | Phase::Closed { outcome: Outcome::Resolved { how } } => Some(how),
            _ => None,
        }
    }

    /// What agents are told of it now. A request under way keeps its own, see [`Asking::brief`].
    pub fn brief(&self) -> IncidentBrief {
        // The alert that opened it stands for it; in the sample those that fire come first.
        let mut alerts: Vec<_> = self.alerts.values().collect();
        let others = |state: &AlertState| state.alert.name() != self.alert_name;
        alerts.sort_by_key(|state| (others(state), state.alert.starts_at));
        let labels = alerts.first().map(|state| state.alert.labels.clone()).unwrap_or_default();
        alerts.sort_by_key(|state| state.cleared_at.is_some());
        IncidentBrief {
            id: self.id,
            title: self.title.clone(),
            alert_name: self.alert_name.clone(),
            priority: self.priority,
            severity: self.severity,
            affected_systems: self.affected_systems.clone(),
            started_at: self.started_at,
            alerts: alerts.iter().take(BRIEF_ALERTS_MAX).map(|state| Alert::clone(&state.alert)).collect(),
            labels,
        }
    }
}
