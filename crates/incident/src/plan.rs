//! A plan: what would be done, shown before it is done. An approval names its digest, so what was approved is what runs.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::alert::Labels;
use crate::ids::{Digest, IncidentId, RunbookName, StepName, TargetName};
use crate::workflow::Autonomy;

/// The schema name that the JSON of a [`Plan`] carries.
pub const PLAN_SCHEMA: &str = "quell/plan/v1";
/// Steps in one plan at the most.
pub const STEPS_MAX: usize = 50;
/// How long gates may hold a plan that has begun, in all.
const OVERRUN: SignedDuration = SignedDuration::from_mins(30);

/// What the resolution agent proposes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: String,
    /// For which incident.
    pub incident_id: IncidentId,
    /// The runbook that it comes from.
    pub runbook: RunbookName,
    /// The digest of the runbook's text, so that an edited runbook makes another plan.
    pub runbook_digest: Digest,
    /// The cause that it is meant for.
    pub cause: String,
    /// One sentence for people.
    pub summary: String,
    /// What is done, in order; never empty.
    pub steps: Vec<Step>,
    /// What the inventory declares of the steps' targets. A target that is not in it has nothing declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub declared: BTreeMap<TargetName, DeclaredTarget>,
    /// The runbook goes no further than this level, if its file declares one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Autonomy>,
    /// What must hold afterwards; never empty.
    pub checks: Vec<Check>,
    /// How far back the alert's own rule looks (range, `keep_firing_for`): the alert cannot clear earlier after a fix.
    pub alert_look_back: SignedDuration,
    /// When it was made.
    pub made_at: Timestamp,
    /// After this it is too old to start.
    pub valid_until: Timestamp,
    /// The agent and ledger that made it and that alone may carry it out.
    pub agent: AgentIdentity,
}

impl Plan {
    /// The digest that an approval names.
    ///
    /// # Errors
    /// When a value in it has no JSON form.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        Digest::of(self)
    }

    /// The last moment at which a step of it may start once it has begun: what its dry run showed grows old also then. There is room for
    /// two tries of every step and for gates that close in between.
    pub fn steps_until(&self) -> Timestamp {
        let steps =
            self.steps.iter().fold(SignedDuration::ZERO, |sum, step| sum.saturating_add(step.timeout));
        let room = steps.saturating_mul(2).saturating_add(OVERRUN);
        self.valid_until.checked_add(room).unwrap_or(Timestamp::MAX)
    }

    /// The targets of its steps, sorted, each once: taken in this order, two plans cannot wait for each other.
    pub fn targets(&self) -> Vec<TargetName> {
        let mut targets: Vec<_> = self.steps.iter().map(|step| step.target.clone()).collect();
        targets.sort();
        targets.dedup();
        targets
    }

    /// Why a person must agree whatever the autonomy: a step that cannot be undone.
    pub fn needs_person(&self) -> Option<String> {
        self.steps.iter().find_map(|step| match &step.undo {
            Undo::Irreversible { why } => Some(format!("step {} cannot be undone: {why}", step.name)),
            Undo::Inverse { .. } | Undo::NotNeeded { .. } => None,
        })
    }
}

/// What the inventory declares of a target: by it, and not by telemetry, is decided how far Quell goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredTarget {
    /// The service that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// No plan that touches it goes further than this level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Autonomy>,
    /// What telemetry may call its service. Such a word can lower the level, and not raise it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_as: Vec<String>,
}

/// Which resolution agent, and which of its ledgers. Another instance or another ledger knows nothing of a step's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentIdentity {
    /// The agent's name, stable over restarts.
    pub instance: String,
    /// The id of its ledger, made when the ledger was.
    pub ledger: String,
}

/// A call of an action tool, all of it from the runbook and the inventory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionCall {
    /// The tool, such as `deployment-system`.
    pub tool: String,
    /// The action, such as `update_config`.
    pub action: String,
    /// The inventory name of what it acts on.
    pub target: TargetName,
    /// The action's arguments, from the runbook.
    pub arguments: Map<String, Value>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the plan.
    pub name: StepName,
    /// One sentence for people.
    pub title: String,
    /// The inventory name of what it acts on (the same as in `call`).
    pub target: TargetName,
    /// What is done.
    pub call: ActionCall,
    /// What the dry run said.
    pub preview: StepPreview,
    /// How it is undone.
    pub undo: Undo,
    /// How long it may take.
    pub timeout: SignedDuration,
    /// Whether doing it twice does no more than doing it once: only then is it tried again after a probe said "not done".
    pub idempotent: bool,
}

/// What a dry run said a step would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepPreview {
    /// One sentence.
    pub summary: String,
    /// What would change.
    pub changes: Vec<Change>,
    /// What the dry run cannot know, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<String>,
}

/// One value before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What it is, such as `connection_timeout` or `replicas`.
    pub what: String,
    /// Before.
    pub from: Value,
    /// After.
    pub to: Value,
}

/// How a step is undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Undo {
    /// By this call, made from the state that the dry run captured.
    Inverse {
        /// The call.
        call: ActionCall,
    },
    /// It needs none, as a reviewer of the runbook judged: a restart, a clean-up of listed files, a renewal.
    NotNeeded {
        /// Why.
        why: String,
    },
    /// It cannot be undone: a person must agree from the start.
    Irreversible {
        /// Why.
        why: String,
    },
}

/// What must hold after the plan, read from metrics over a range that is shorter than the alert's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Unique in the plan.
    pub name: String,
    /// The metric.
    pub metric: String,
    /// Labels that must be equal; from the runbook.
    #[serde(default)]
    pub labels: Labels,
    /// How its samples become one number.
    pub reduce: Reduce,
    /// For [`Reduce::RatioTo`]: the metric to divide by, with the same labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divide_by: Option<String>,
    /// How the number is compared with `value`.
    pub holds_if: Comparison,
    /// The bound.
    pub value: f64,
}

/// How samples become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// The newest sample.
    Last,
    /// The counter's increase per second over the samples, resets allowed for.
    Rate,
    /// The newest sample divided by the newest of `divide_by`.
    RatioTo,
    /// Seconds from now until the newest sample, which is a Unix time.
    SecondsUntil,
    /// The sum of the newest samples of all matching series.
    Sum,
    /// The sum of the newest samples divided by the newest of `divide_by`.
    SumRatioTo,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// Less than.
    #[serde(rename = "<")]
    Less,
    /// At most.
    #[serde(rename = "<=")]
    AtMost,
    /// Greater than.
    #[serde(rename = ">")]
    Greater,
    /// At least.
    #[serde(rename = ">=")]
    AtLeast,
}

impl Comparison {
    /// Whether `number` compares so with `bound`.
    pub fn holds(self, number: f64, bound: f64) -> bool {
        match self {
            Self::Less => number < bound,
            Self::AtMost => number <= bound,
            Self::Greater => number > bound,
            Self::AtLeast => number >= bound,
        }
    }
}
