//! From the configuration file to the settings that the workflow decides by.

use std::path::Path;

use quell_incident::Digest;
use quell_incident::mapping::Mapping;
use quell_incident::workflow::{Autonomy, AutonomyOverride, Policy};
use quell_service::{Config, config};

use crate::site::Settings;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The mapping's file cannot be read.
    #[error("the alert mapping {path} cannot be read: {why}")]
    Mapping {
        /// The file.
        path: String,
        /// What is wrong, with line and column where it is known.
        why: String,
    },
    /// A number that has no JSON form.
    #[error("the policy has no digest: {0}")]
    Digest(String),
}

/// The settings that a configuration means.
///
/// # Errors
/// [`SettingsError`] naming the file and what is wrong in it.
pub(crate) fn of(config: &Config) -> Result<Settings, SettingsError> {
    let policy = policy(config);
    let policy_digest = Digest::of(&policy).map_err(|error| SettingsError::Digest(error.to_string()))?;
    let mapping = match &config.coordinator.alert_mapping_file {
        Some(path) => mapping(path)?,
        None => Mapping::shipped(),
    };
    let correlate_by = config.coordinator.correlate_by.clone();
    Ok(Settings { policy, policy_digest, mapping, correlate_by })
}

fn mapping(path: &Path) -> Result<Mapping, SettingsError> {
    let wrong = |why: String| SettingsError::Mapping { path: path.display().to_string(), why };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn policy(config: &Config) -> Policy {
    let (switches, coordinator) = (&config.agents.resolution, &config.coordinator);
    let workflow = &coordinator.workflow;
    Policy {
        execution_enabled: switches.execute_real_commands && !switches.dry_run,
        require_approval: switches.require_approval,
        autonomy: level(coordinator.autonomy),
        autonomy_overrides: coordinator
            .autonomy_overrides
            .iter()
            .map(|row| AutonomyOverride {
                source: row.source.clone(),
                service: row.service.clone(),
                runbook: row.runbook.clone(),
                level: level(row.level),
            })
            .collect(),
        confidence_min: workflow.confidence_min,
        approvals_needed: workflow.approvals_needed,
        settle: workflow.settle.signed(),
        settle_p0: workflow.settle_p0.signed(),
        diagnosis: workflow.diagnosis.signed(),
        planning: workflow.planning.signed(),
        agent_retries_max: workflow.agent_retries_max,
        agent_backoff: workflow.agent_backoff.signed(),
        approval: workflow.approval.signed(),
        hold_look_again: workflow.hold_look_again.signed(),
        hold_max: workflow.hold_max.signed(),
        step_grace: workflow.step_grace.signed(),
        probe: workflow.probe.signed(),
        step_tries_max: workflow.step_tries_max,
        attempts_max: workflow.attempts_max,
        verify_interval: workflow.verify_interval.signed(),
        check_patience: workflow.check_patience.signed(),
        alert_pipeline_delay: workflow.alert_pipeline_delay.signed(),
        verification_grace: workflow.verification_grace.signed(),
        quiet_before_close: workflow.quiet_before_close.signed(),
        cool_down: workflow.cool_down.signed(),
        escalation_reminder: workflow.remind_escalated.signed(),
    }
}

fn level(level: config::Autonomy) -> Autonomy {
    match level {
        config::Autonomy::Observe => Autonomy::Observe,
        config::Autonomy::Suggest => Autonomy::Suggest,
        config::Autonomy::Approve => Autonomy::Approve,
        config::Autonomy::Auto => Autonomy::Auto,
    }
}
