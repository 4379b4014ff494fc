//! Times and limits of the workflow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::Period;

/// Times and limits of the workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Workflow {
    /// How long a new incident waits for its alerts to settle.
    pub settle: Period,
    /// How long a new incident of P0 waits for its alerts to settle.
    pub settle_p0: Period,
    /// How long a diagnosis may take.
    pub diagnosis: Period,
    /// How long planning may take.
    pub planning: Period,
    /// How long an approval is waited for; no answer is a no.
    pub approval: Period,
    /// Not used by this version: how long a step may take is said by its runbook.
    pub step: Period,
    /// How long verification goes on after the earliest time at which the alert can have cleared.
    pub verification_grace: Period,
    /// How long a resolved incident stays quiet before it is closed.
    pub quiet_before_close: Period,
    /// How long the same runbook does not start again for the same alert class and target.
    pub cool_down: Period,
    /// How many plans are tried for one incident.
    pub attempts_max: u32,
    /// How often an idempotent step is tried.
    pub step_tries_max: u32,
    /// The least confidence of a diagnosis, from 0 to 1, with which a plan is carried out without asking. Below it a person has to approve.
    pub confidence_min: f64,
    /// How often people are reminded of an escalated incident.
    pub remind_escalated: Period,
    /// What scrape, evaluation and group intervals add to an alert's own look-back before it can clear after a fix.
    pub alert_pipeline_delay: Period,
    /// How long checks may keep failing after the last step before that is evidence that it did not help.
    pub check_patience: Period,
    /// How many people must approve.
    pub approvals_needed: u32,
    /// How long after its own time-out a step's outcome is awaited before it is in doubt.
    pub step_grace: Period,
    /// How long a step in doubt is probed before a person must look.
    pub probe: Period,
    /// The first pause before a lost or late agent is asked again; it doubles.
    pub agent_backoff: Period,
    /// How often verification looks.
    pub verify_interval: Period,
    /// How often closed gates are looked at again.
    pub hold_look_again: Period,
    /// How long closed gates may hold a plan before a person is asked.
    pub hold_max: Period,
    /// How often a lost or late agent is tried again.
    pub agent_retries_max: u32,
}

impl Default for Workflow {
    fn default() -> Self {
        Self {
            settle: Period::seconds(5),
            settle_p0: Period::seconds(0),
            diagnosis: Period::seconds(60),
            planning: Period::seconds(30),
            approval: Period::seconds(300),
            step: Period::seconds(120),
            verification_grace: Period::seconds(120),
            quiet_before_close: Period::seconds(10 * 60),
            cool_down: Period::seconds(30 * 60),
            attempts_max: 2,
            step_tries_max: 2,
            confidence_min: 0.7,
            remind_escalated: Period::seconds(30 * 60),
            alert_pipeline_delay: Period::seconds(45),
            check_patience: Period::seconds(60),
            approvals_needed: 1,
            step_grace: Period::seconds(10),
            probe: Period::seconds(120),
            agent_backoff: Period::seconds(2),
            verify_interval: Period::seconds(5),
            hold_look_again: Period::seconds(15),
            hold_max: Period::seconds(60 * 60),
            agent_retries_max: 3,
        }
    }
}
