//! From the configuration file to the settings that the workflow decides by.

use std::path::Path;

use quell_incident::Digest;
use quell_incident::about::SiteLabels;
use quell_incident::correlation::{Common, FlappingRule, Rule, SettleRule};
use quell_incident::mapping::{Mapping, SiteWords};
use quell_incident::urgency;
use quell_incident::workflow::{Autonomy, AutonomyOverride, Policy};
use quell_service::{Config, Period, config};
use quell_store::Retention;

use crate::correlate::JoinSettings;
use crate::site::Settings;
use crate::windows::Windows;

/// What stands in for `coordinator.alert_mapping_file`.
const SHIPPED_MAPPING: &str = include_str!("alert-mapping.yaml");

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
    /// A severity word is said to mean one that is not known.
    #[error(
        "`coordinator.alerts.severities` says that `{word}` means `{means}`, which is no word that is known: expected one such as \
         critical, high, medium, warning, info or none"
    )]
    Severity {
        /// The site's word.
        word: String,
        /// What it is said to mean.
        means: String,
    },
    /// A window cannot be used.
    #[error("{0}")]
    Window(String),
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
    let mut mapping = match &config.coordinator.alert_mapping_file {
        Some(path) => mapping(path)?,
        None => shipped()?,
    };
    mapping.site = site_words(config)?;
    let (join, settle) = join(config);
    let windows = Windows::of(&config.coordinator.maintenance, &config.coordinator.freezes)
        .map_err(SettingsError::Window)?;
    Ok(Settings {
        policy,
        policy_digest,
        mapping,
        join,
        settle,
        windows,
        reconcile: config.coordinator.reconcile.clone(),
        poll_prometheus: config.coordinator.poll_prometheus.clone(),
        retention: retention(&config.coordinator.retention),
    })
}

/// Zero is for ever.
fn retention(periods: &config::Retention) -> Retention {
    let kept = |period: Period| (!period.get().is_zero()).then_some(period.get());
    Retention { closed_incidents: kept(periods.closed_incidents), received: kept(periods.received) }
}

/// The settings that differ and are read at a start alone, by name: a reload says them instead of passing over them.
pub(crate) fn for_a_start_alone(started: &Config, new: &Config) -> Vec<&'static str> {
    let (old, own) = (&started.coordinator, &new.coordinator);
    let monitoring = |config: &Config| config.infrastructure.monitoring.prometheus.clone();
    let differs = [
        ("tenant", started.tenant != new.tenant),
        ("infrastructure.monitoring.prometheus", monitoring(started) != monitoring(new)),
        ("coordinator.listen", old.listen != own.listen),
        ("coordinator.grpc_listen", old.grpc_listen != own.grpc_listen),
        ("coordinator.allowed_hosts", old.allowed_hosts != own.allowed_hosts),
        ("coordinator.data_dir", old.data_dir != own.data_dir),
        ("coordinator.database_url", old.database_url != own.database_url),
        ("coordinator.enable_webhooks", old.enable_webhooks != own.enable_webhooks),
        ("coordinator.body_bytes_max", old.body_bytes_max != own.body_bytes_max),
        ("coordinator.source_name", old.source_name != own.source_name),
        ("coordinator.diagnostic_url", old.diagnostic_url != own.diagnostic_url),
        ("coordinator.resolution_url", old.resolution_url != own.resolution_url),
        ("coordinator.tokens", old.tokens != own.tokens),
        ("agents.diagnostic.token", started.agents.diagnostic.token != new.agents.diagnostic.token),
        ("agents.resolution.token", started.agents.resolution.token != new.agents.resolution.token),
        ("coordinator.signing_key_file", old.signing_key_file != own.signing_key_file),
        ("coordinator.lease", old.lease != own.lease),
        ("coordinator.audit", old.audit != own.audit),
        ("listeners", started.listeners != new.listeners),
    ];
    differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// The name of the rule that `coordinator.correlate_by` is short for.
const CORRELATE_BY: &str = "correlate_by";

fn join(config: &Config) -> (JoinSettings, SettleRule) {
    let correlation = &config.coordinator.correlation;
    let own = correlation.rules.iter().map(|rule| Rule {
        name: rule.name.clone(),
        by: Common::Labels(rule.labels.clone()),
        window: rule.window.map(|window| window.signed()),
        sources: rule.sources.clone(),
    });
    let short = Rule {
        name: CORRELATE_BY.to_owned(),
        by: Common::Labels(config.coordinator.correlate_by.clone()),
        window: None,
        sources: Vec::new(),
    };
    let short = (!config.coordinator.correlate_by.is_empty()).then_some(short);
    let shipped = |name: &str, by| Rule { name: name.to_owned(), by, window: None, sources: Vec::new() };
    let condition = shipped("same-condition", Common::Condition);
    let workload = correlation.same_workload.then(|| shipped("same-workload", Common::Workload));
    let flapping = FlappingRule {
        transitions: correlation.flapping.transitions as usize,
        window: correlation.flapping.window.signed(),
        quiet: correlation.flapping.quiet.signed(),
    };
    let group_window = correlation.group_window.signed();
    let rules = std::iter::once(condition).chain(own).chain(workload).chain(short).collect();
    let join = JoinSettings { group_window, rules, flapping, site: site_labels(config) };
    (join, SettleRule { within_max: correlation.self_healing_within.signed() })
}

fn site_labels(config: &Config) -> SiteLabels {
    let alerts = &config.coordinator.alerts;
    SiteLabels { subject_labels: alerts.subject_labels.clone(), exporters: alerts.exporters.clone() }
}

fn site_words(config: &Config) -> Result<SiteWords, SettingsError> {
    let mut severities = std::collections::BTreeMap::new();
    for (word, means) in &config.coordinator.alerts.severities {
        let meaning = urgency::meaning(means)
            .ok_or_else(|| SettingsError::Severity { word: word.clone(), means: means.clone() })?;
        severities.insert(word.trim().to_lowercase(), meaning);
    }
    Ok(SiteWords { severities, labels: site_labels(config) })
}

fn shipped() -> Result<Mapping, SettingsError> {
    let wrong = |error: serde_saphyr::Error| SettingsError::Mapping {
        path: "that is shipped".to_owned(),
        why: error.to_string(),
    };
    serde_saphyr::from_str(SHIPPED_MAPPING).map_err(wrong)
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
                target: row.target.clone(),
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
    use quell_incident::ids::SourceName;
    use quell_incident::mapping::Head;
    use quell_incident::severity::{Priority, Severity};

    use super::*;

    fn head(name: &str, severity: &str, extra: &[(&str, &str)]) -> Head {
        let mut labels: Labels = extra.iter().copied().collect();
        labels.insert("alertname", name);
        labels.insert("severity", severity);
        let alert = Alert {
            key: AlertKey {
                source: SourceName::declared("alertmanager").unwrap(),
                fingerprint: Fingerprint::of(&labels),
            },
            status: AlertStatus::Firing,
            labels,
            annotations: Labels::default(),
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: None,
        };
        shipped().unwrap().head(&alert)
    }

    #[test]
    fn every_row_of_the_shipped_mapping() {
        let rows = [
            (
                "DatabaseConnectionTimeout",
                "critical",
                Severity::High,
                Priority::P0,
                "database,connectivity,timeout",
            ),
            ("HighMemoryUsage", "warning", Severity::Warning, Priority::P2, "memory,resource"),
            ("HighCPUUsage", "warning", Severity::Warning, Priority::P2, "cpu,resource"),
            ("APIGateway503Errors", "critical", Severity::Critical, Priority::P0, "api,gateway,503"),
            ("DiskSpaceCritical", "critical", Severity::Critical, Priority::P1, "disk,storage,space"),
            ("CertificateExpiringSoon", "warning", Severity::High, Priority::P2, "ssl,certificate,expiry"),
            ("TestIncident", "critical", Severity::Critical, Priority::P0, "email,host"),
            ("Other", "high", Severity::High, Priority::P1, "email,host"),
            ("Other", "", Severity::Medium, Priority::P3, "email,host"),
            ("Other", "disaster", Severity::Critical, Priority::P0, "email,host"),
            ("Other", "gold", Severity::Medium, Priority::P2, "email,host"),
        ];
        for (name, label, severity, priority, tags) in rows {
            let head = head(name, label, &[("component", "email"), ("instance", "host-1:9100")]);
            assert_eq!(
                (head.severity, head.priority, head.tags.join(",").as_str()),
                (severity, priority, tags),
                "{name} {label}"
            );
            assert!(head.title.ends_with(" on host-1"), "{}", head.title);
        }
    }

    #[test]
    fn an_alert_without_an_instance_has_a_title_without_one() {
        assert_eq!(head("TestIncident", "critical", &[]).title, "TestIncident");
    }

    #[test]
    fn a_mistake_in_a_mapping_names_file_line_and_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "alerts:\n  - {alertname: A, severty: high}\n").unwrap();
        let words = mapping(file.path()).unwrap_err().to_string();
        let name = file.path().file_name().unwrap().to_str().unwrap();
        for part in [name, "severty", "line 2"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
