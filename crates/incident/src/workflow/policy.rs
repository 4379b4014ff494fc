//! The settings that the workflow decides by. They are values: the digest of the policy in force stands in every event.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::autonomy::{Autonomy, AutonomyOverride};
use crate::severity::Priority;

/// The settings, with the defaults that Quell ships.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Whether actions are switched on at all.
    pub execution_enabled: bool,
    /// Whether every plan needs a person's approval, also at the level auto.
    pub require_approval: bool,
    /// The level where no override matches.
    pub autonomy: Autonomy,
    /// Other levels for what they match.
    pub autonomy_overrides: Vec<AutonomyOverride>,
    /// Below it even a plan at the level auto asks a person. 0 to 1.
    pub confidence_min: f64,
    /// How many people must approve.
    pub approvals_needed: u32,
    /// How long an incident waits before it is looked into: alerts that come with it join, and what heals by itself heals.
    pub settle: SignedDuration,
    /// The same for P0.
    pub settle_p0: SignedDuration,
    /// How long one diagnosis may take.
    pub diagnosis: SignedDuration,
    /// How long making a plan may take.
    pub planning: SignedDuration,
    /// How often an agent that is lost or late is asked again.
    pub agent_retries_max: u32,
    /// The first back-off before an agent is asked again; it doubles.
    pub agent_backoff: SignedDuration,
    /// How long people have to answer; no answer is a no.
    pub approval: SignedDuration,
    /// How often closed gates are looked at again.
    pub hold_look_again: SignedDuration,
    /// How long a plan is held by closed gates before a person is asked.
    pub hold_max: SignedDuration,
    /// How long after its own time-out a step's outcome is awaited before it is in doubt.
    pub step_grace: SignedDuration,
    /// How long a step in doubt is probed before a person must look.
    pub probe: SignedDuration,
    /// How often an idempotent step is tried.
    pub step_tries_max: u32,
    /// How many runbooks are tried for one incident.
    pub attempts_max: u32,
    /// How often the checks are read while verifying.
    pub verify_interval: SignedDuration,
    /// How long checks may keep failing after the last step before that is evidence that it did not help.
    pub check_patience: SignedDuration,
    /// What scrape, evaluation and group intervals add to an alert's own look-back before it can clear.
    pub alert_pipeline_delay: SignedDuration,
    /// What is added to the earliest instant at which the alert can clear, for the verification's deadline.
    pub verification_grace: SignedDuration,
    /// How long a resolved incident is watched before it is closed.
    pub quiet_before_close: SignedDuration,
    /// How long after an end the same runbook does not start again for the same class and target.
    pub cool_down: SignedDuration,
    /// How often an escalated incident that nobody took reminds.
    pub escalation_reminder: SignedDuration,
}

impl Default for Policy {
    fn default() -> Self {
        let seconds = SignedDuration::from_secs;
        Self {
            execution_enabled: false,
            require_approval: true,
            autonomy: Autonomy::Approve,
            autonomy_overrides: Vec::new(),
            confidence_min: 0.7,
            approvals_needed: 1,
            settle: seconds(5),
            settle_p0: SignedDuration::ZERO,
            diagnosis: seconds(60),
            planning: seconds(30),
            agent_retries_max: 3,
            agent_backoff: seconds(2),
            approval: seconds(300),
            hold_look_again: seconds(15),
            hold_max: SignedDuration::from_mins(60),
            step_grace: seconds(10),
            probe: seconds(120),
            step_tries_max: 2,
            attempts_max: 2,
            verify_interval: seconds(5),
            check_patience: seconds(60),
            alert_pipeline_delay: seconds(45),
            verification_grace: seconds(120),
            quiet_before_close: SignedDuration::from_mins(10),
            cool_down: SignedDuration::from_mins(30),
            escalation_reminder: SignedDuration::from_mins(30),
        }
    }
}

impl Policy {
    /// How long an incident of this priority settles.
    pub fn settle_for(&self, priority: Priority) -> SignedDuration {
        if priority == Priority::P0 { self.settle_p0 } else { self.settle }
    }
}
