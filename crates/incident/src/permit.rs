//! What the coordinator permits, signed: an agent that acts believes this, and not that somebody reached its port.
//!
//! The signed text is `quell/permit/v1`, a line feed, and the permit's canonical JSON (RFC 8785); the signature is Ed25519's. Signing and
//! checking are for those who have keys; what is signed, and what it must agree with, is said here.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::contract::{StepRequest, TargetLock};
use crate::ids::{Digest, IncidentId, StepKey, StepName};
use crate::incident::{Approval, Incident};
use crate::plan::AgentIdentity;
use crate::workflow::later;

/// The schema of a [`Permit`], and the first line of what is signed.
pub const PERMIT_SCHEMA: &str = "quell/permit/v1";
/// How long after the end of its doubt a step may still be asked about: the clocks of two machines may differ, and asking changes
/// nothing but that a key which was never seen never starts.
const PROBED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// What a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermittedSkill {
    /// Carrying out the step.
    Execute,
    /// Carrying out its inverse.
    Undo,
    /// Asking what became of the step, or of its inverse.
    Probe,
}

/// One thing that may be done once, to one target, until one moment, by one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// [`PERMIT_SCHEMA`].
    pub schema: String,
    /// What it is for.
    pub skill: PermittedSkill,
    /// Whether the step's inverse is meant.
    pub undo: bool,
    /// The incident.
    pub incident_id: IncidentId,
    /// The plan.
    pub plan_digest: Digest,
    /// The step, by its name in the plan.
    pub step: StepName,
    /// The digest of all that the step says: a copy of it that says something else has no permit.
    pub step_digest: Digest,
    /// The step's key.
    pub key: StepKey,
    /// The target, and the token of the lock on it.
    pub lock: TargetLock,
    /// Who may do it.
    pub agent: AgentIdentity,
    /// Who agreed to exactly this plan.
    pub approvals: Vec<Approval>,
    /// Worth nothing after this.
    pub not_after: Timestamp,
}

/// A permit with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPermit {
    /// What is permitted.
    pub permit: Permit,
    /// The key that it says it was signed with: 64 hexadecimal digits.
    pub public_key: String,
    /// The signature of [`Permit::signed_bytes`]: 128 hexadecimal digits.
    pub signature: String,
}

impl Permit {
    /// The permit that fits a request, with these approvals, until then.
    ///
    /// # Errors
    /// When the step has no JSON form.
    pub fn of(
        request: &StepRequest,
        skill: PermittedSkill,
        approvals: Vec<Approval>,
        not_after: Timestamp,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            schema: PERMIT_SCHEMA.to_owned(),
            skill,
            undo: request.undo,
            incident_id: request.incident_id,
            plan_digest: request.plan_digest,
            step: request.step.name.clone(),
            step_digest: Digest::of(&request.step)?,
            key: request.key.clone(),
            lock: request.lock.clone(),
            agent: request.agent.clone(),
            approvals,
            not_after,
        })
    }

    /// The permit for the step of an incident that runs or is in doubt; `None` when there is none.
    ///
    /// # Errors
    /// When the step has no JSON form.
    pub fn for_step(incident: &Incident, request: &StepRequest) -> Result<Option<Self>, serde_json::Error> {
        let (Some(run), Some(proposal)) = (incident.run(), incident.proposal()) else { return Ok(None) };
        let (skill, not_after) = match &run.doubt {
            Some(doubt) => (PermittedSkill::Probe, later(doubt.deadline, PROBED_FOR)),
            None if run.undo => (PermittedSkill::Undo, run.not_after),
            None => (PermittedSkill::Execute, run.not_after),
        };
        let of_this_plan = |approval: &&Approval| approval.digest == proposal.digest;
        let approvals = proposal.approvals.iter().filter(of_this_plan).cloned().collect();
        Self::of(request, skill, approvals, not_after).map(Some)
    }

    /// What is signed.
    ///
    /// # Errors
    /// None is known: a permit has a JSON form.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = format!("{PERMIT_SCHEMA}\n").into_bytes();
        bytes.extend(serde_json_canonicalizer::to_vec(self)?);
        Ok(bytes)
    }

    /// The first field in which it is for something else than this request, by its name.
    pub fn differs_in(&self, request: &StepRequest, skill: PermittedSkill) -> Option<&'static str> {
        let Ok(fitting) = Self::of(request, skill, self.approvals.clone(), self.not_after) else {
            return Some("step_digest");
        };
        // Taken apart, so that a field that is added later cannot be left out here.
        let Self {
            schema,
            skill,
            undo,
            incident_id,
            plan_digest,
            step,
            step_digest,
            key,
            lock,
            agent,
            approvals: _,
            not_after,
        } = self;
        let in_time = fitting.skill == PermittedSkill::Probe || *not_after == request.not_after;
        let fields = [
            ("schema", *schema == fitting.schema),
            ("skill", *skill == fitting.skill),
            ("undo", *undo == fitting.undo),
            ("incident_id", *incident_id == fitting.incident_id),
            ("plan_digest", *plan_digest == fitting.plan_digest),
            ("step", *step == fitting.step),
            ("step_digest", *step_digest == fitting.step_digest),
            ("key", *key == fitting.key),
            ("lock.target", lock.target == fitting.lock.target),
            ("lock.token", lock.token == fitting.lock.token),
            ("agent", *agent == fitting.agent),
            ("not_after", in_time),
        ];
        fields.into_iter().find_map(|(name, same)| (!same).then_some(name))
    }

    /// Whether a person who is named agreed to exactly its plan.
    pub fn is_approved(&self) -> bool {
        self.approvals.iter().any(|given| given.digest == self.plan_digest && !given.by.trim().is_empty())
    }
}
