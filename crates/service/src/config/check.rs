//! Whether a configuration can be used, and what should be said about it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::load::Daemon;
use super::values::Period;
use super::{AutonomyOverride, Config, ConfigError, Scope, TokenEntry, Workflow};

/// The shortest time that a setting with a least length takes; shorter ones keep a processor busy.
const PERIOD_MIN: Period = Period::milliseconds(10);
/// The longest time that such a setting takes.
const PERIOD_MAX: Period = Period::seconds(30 * 24 * 60 * 60);
const TOKEN_BYTES_MIN: usize = 8;
const TOKENS_MAX: usize = 1000;
const RULES_MAX: usize = 100;
const OVERRIDES_MAX: usize = 200;
const RULE_LABELS_MAX: usize = 20;
const NAME_BYTES_MAX: usize = 64;
const ALERT_MANAGERS_MAX: usize = 16;
const HEALTH_CHECKS_MAX: usize = 200;
/// An Ed25519 key has 32 bytes.
const PUBLIC_KEY_DIGITS: usize = 64;

/// Checks what the types alone do not say; addresses and tokens only for the daemons that are concerned.
pub(super) fn check(config: &Config, concerns: impl Fn(Daemon) -> bool) -> Result<(), ConfigError> {
    check_name("tenant", &config.tenant)?;
    check_name("coordinator.source_name", &config.coordinator.source_name)?;
    check_periods(config)?;
    check_numbers(config)?;
    let prometheus = &config.infrastructure.monitoring.prometheus;
    if prometheus.alert_managers().len() > ALERT_MANAGERS_MAX {
        let why = format!("names more than {ALERT_MANAGERS_MAX}; a cluster of Alertmanagers is smaller");
        return Err(ConfigError::setting("infrastructure.monitoring.prometheus.alert_manager_urls", why));
    }
    if config.coordinator.poll_prometheus.enabled && prometheus.url.is_none() {
        let why = "is true, but `infrastructure.monitoring.prometheus.url` is not set";
        return Err(ConfigError::setting("coordinator.poll_prometheus.enabled", why));
    }
    check_rules(config)?;
    check_overrides(config)?;
    check_audit(config)?;
    check_sources(config)?;
    if config.simulator.metrics_urls.is_empty() && !config.has_real_metrics() {
        let why = "is empty, and nothing else is measured while `use_real_data` is false";
        return Err(ConfigError::setting("simulator.metrics_urls", why));
    }
    let (coordinator, diagnostic, resolution) = (&config.coordinator, &config.diagnostic, &config.resolution);
    check_agents(config)?;
    if concerns(Daemon::Coordinator) {
        check_tokens("coordinator.tokens", &coordinator.tokens)?;
        check_exposure("coordinator.listen", coordinator.listen, "coordinator.tokens", &coordinator.tokens)?;
        check_exposure(
            "coordinator.grpc_listen",
            coordinator.grpc_listen,
            "coordinator.tokens",
            &coordinator.tokens,
        )?;
        if coordinator.listen == coordinator.grpc_listen && coordinator.listen.port() != 0 {
            let why = format!(
                "{} is the address of `coordinator.listen` too; take another port",
                coordinator.listen
            );
            return Err(ConfigError::setting("coordinator.grpc_listen", why));
        }
    }
    if concerns(Daemon::Diagnostic) {
        check_tokens("diagnostic.tokens", &diagnostic.tokens)?;
        check_exposure("diagnostic.listen", diagnostic.listen, "diagnostic.tokens", &diagnostic.tokens)?;
    }
    if concerns(Daemon::Resolution) {
        check_tokens("resolution.tokens", &resolution.tokens)?;
        check_exposure("resolution.listen", resolution.listen, "resolution.tokens", &resolution.tokens)?;
    }
    Ok(())
}

fn check_name(setting: &str, name: &str) -> Result<(), ConfigError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
        let why = format!("`{}` is no name; use 1 to 64 letters, digits, `-`, `_`, `.`", name.escape_debug());
        return Err(ConfigError::setting(setting, why));
    }
    Ok(())
}

fn check_periods(config: &Config) -> Result<(), ConfigError> {
    let workflow = &config.coordinator.workflow;
    let (reconcile, poll) = (&config.coordinator.reconcile, &config.coordinator.poll_prometheus);
    let zero = Period::seconds(0);
    for (setting, period, least) in [
        ("automation.remediation.ssh.timeout", config.automation.remediation.ssh.timeout, PERIOD_MIN),
        ("coordinator.reconcile.interval", reconcile.interval, PERIOD_MIN),
        ("coordinator.reconcile.timeout", reconcile.timeout, PERIOD_MIN),
        ("coordinator.reconcile.missed_after", reconcile.missed_after, zero),
        ("coordinator.reconcile.clear_margin", reconcile.clear_margin, zero),
        ("coordinator.reconcile.cleared_after", reconcile.cleared_after, zero),
        ("coordinator.poll_prometheus.interval", poll.interval, PERIOD_MIN),
        ("coordinator.poll_prometheus.timeout", poll.timeout, PERIOD_MIN),
        ("coordinator.workflow.settle", workflow.settle, zero),
        ("coordinator.workflow.settle_p0", workflow.settle_p0, zero),
        ("coordinator.workflow.diagnosis", workflow.diagnosis, PERIOD_MIN),
        ("coordinator.workflow.planning", workflow.planning, PERIOD_MIN),
        ("coordinator.workflow.approval", workflow.approval, PERIOD_MIN),
        ("coordinator.workflow.step", workflow.step, PERIOD_MIN),
        ("coordinator.workflow.verification_grace", workflow.verification_grace, PERIOD_MIN),
        ("coordinator.workflow.quiet_before_close", workflow.quiet_before_close, PERIOD_MIN),
        ("coordinator.workflow.cool_down", workflow.cool_down, PERIOD_MIN),
        ("coordinator.workflow.remind_escalated", workflow.remind_escalated, PERIOD_MIN),
        ("coordinator.workflow.check_patience", workflow.check_patience, PERIOD_MIN),
        ("coordinator.workflow.step_grace", workflow.step_grace, PERIOD_MIN),
        ("coordinator.workflow.probe", workflow.probe, PERIOD_MIN),
        ("coordinator.workflow.agent_backoff", workflow.agent_backoff, PERIOD_MIN),
        ("coordinator.workflow.verify_interval", workflow.verify_interval, PERIOD_MIN),
        ("coordinator.workflow.hold_look_again", workflow.hold_look_again, PERIOD_MIN),
        ("coordinator.workflow.hold_max", workflow.hold_max, PERIOD_MIN),
        ("coordinator.correlation.group_window", config.coordinator.correlation.group_window, zero),
        (
            "coordinator.correlation.flapping.window",
            config.coordinator.correlation.flapping.window,
            PERIOD_MIN,
        ),
        ("coordinator.correlation.flapping.quiet", config.coordinator.correlation.flapping.quiet, PERIOD_MIN),
        (
            "coordinator.correlation.self_healing_within",
            config.coordinator.correlation.self_healing_within,
            zero,
        ),
        ("coordinator.audit.anchor_interval", config.coordinator.audit.anchor_interval, PERIOD_MIN),
        ("listeners.head_timeout", config.listeners.head_timeout, PERIOD_MIN),
        ("listeners.idle_timeout", config.listeners.idle_timeout, PERIOD_MIN),
        ("listeners.body_timeout", config.listeners.body_timeout, PERIOD_MIN),
        ("listeners.behind_max", config.listeners.behind_max, PERIOD_MIN),
        ("diagnostic.scrape_interval", config.diagnostic.scrape_interval, PERIOD_MIN),
        ("diagnostic.history", config.diagnostic.history, config.diagnostic.scrape_interval),
        ("diagnostic.window_before", config.diagnostic.window_before, PERIOD_MIN),
        ("diagnostic.gather_timeout", config.diagnostic.gather_timeout, PERIOD_MIN),
        ("diagnostic.source_timeout", config.diagnostic.source_timeout, PERIOD_MIN),
        ("diagnostic.language_model.timeout", config.diagnostic.language_model.timeout, PERIOD_MIN),
    ] {
        if period < least || period > PERIOD_MAX {
            let why = format!("{period} is out of range; it takes {least} to {PERIOD_MAX}");
            return Err(ConfigError::setting(setting, why));
        }
    }
    Ok(())
}

fn check_rules(config: &Config) -> Result<(), ConfigError> {
    let rules = &config.coordinator.correlation.rules;
    if rules.len() > RULES_MAX {
        let why = format!("has more than {RULES_MAX} entries");
        return Err(ConfigError::setting("coordinator.correlation.rules", why));
    }
    let mut names = BTreeSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let setting = |field: &str| format!("coordinator.correlation.rules[{index}].{field}");
        check_name(&setting("name"), &rule.name)?;
        if !names.insert(&rule.name) {
            return Err(ConfigError::setting(
                setting("name"),
                format!("`{}` is another rule's too", rule.name),
            ));
        }
        if rule.labels.is_empty() || rule.labels.len() > RULE_LABELS_MAX {
            let why = format!("has {} labels; a rule takes 1 to {RULE_LABELS_MAX}", rule.labels.len());
            return Err(ConfigError::setting(setting("labels"), why));
        }
    }
    Ok(())
}

/// A row that names nothing would be the level itself, and many rows are looked through for each plan.
fn check_overrides(config: &Config) -> Result<(), ConfigError> {
    let rows = &config.coordinator.autonomy_overrides;
    if rows.len() > OVERRIDES_MAX {
        let why = format!("has more than {OVERRIDES_MAX} entries");
        return Err(ConfigError::setting("coordinator.autonomy_overrides", why));
    }
    let names_nothing = |row: &AutonomyOverride| {
        [&row.source, &row.service, &row.target, &row.runbook].into_iter().all(Option::is_none)
    };
    if let Some(index) = rows.iter().position(names_nothing) {
        let why = "names no source, service, target or runbook; set `coordinator.autonomy` instead";
        return Err(ConfigError::setting(format!("coordinator.autonomy_overrides[{index}]"), why));
    }
    Ok(())
}

/// Systems that are asked: who asks has a password with a name, and dependencies have names of their own.
fn check_sources(config: &Config) -> Result<(), ConfigError> {
    let logging = &config.infrastructure.logging;
    let (elasticsearch, splunk, loki) = (&logging.elasticsearch, &logging.splunk, &logging.loki);
    for (setting, url, username, password) in [
        ("elasticsearch", &elasticsearch.url, &elasticsearch.username, &elasticsearch.password),
        ("splunk", &splunk.url, &splunk.username, &splunk.password),
        ("loki", &loki.url, &loki.username, &loki.password),
    ] {
        let (missing, other) = match (url, username, password) {
            (Some(_), Some(_), None) => ("password", "username"),
            (Some(_), None, Some(_)) => ("username", "password"),
            _ => continue,
        };
        let why = format!("is not set, and `{other}` is; set both or none");
        return Err(ConfigError::setting(format!("infrastructure.logging.{setting}.{missing}"), why));
    }
    let checks = &config.diagnostic.health_checks;
    if checks.len() > HEALTH_CHECKS_MAX {
        let why = format!("has more than {HEALTH_CHECKS_MAX} entries");
        return Err(ConfigError::setting("diagnostic.health_checks", why));
    }
    let mut names = BTreeSet::new();
    for (index, check) in checks.iter().enumerate() {
        let setting = |field: &str| format!("diagnostic.health_checks[{index}].{field}");
        check_name(&setting("name"), &check.name)?;
        if !names.insert(&check.name) {
            let why = format!("`{}` is another dependency's too", check.name);
            return Err(ConfigError::setting(setting("name"), why));
        }
        if !(100..=599).contains(&check.expected_status) {
            let why = format!("{} is not a status; it takes 100 to 599", check.expected_status);
            return Err(ConfigError::setting(setting("expected_status"), why));
        }
        if check.timeout < PERIOD_MIN || check.timeout > PERIOD_MAX {
            let why = format!("{} is out of range; it takes {PERIOD_MIN} to {PERIOD_MAX}", check.timeout);
            return Err(ConfigError::setting(setting("timeout"), why));
        }
    }
    Ok(())
}

/// Each agent has a credential of its own: what the one is shown opens nothing at the other, which alone has power.
fn check_agents(config: &Config) -> Result<(), ConfigError> {
    let (diagnostic, resolution) = (&config.agents.diagnostic, &config.agents.resolution);
    if let (Some(one), Some(other)) = (&diagnostic.token, &resolution.token)
        && one.expose() == other.expose()
    {
        let why = "is the token of `agents.diagnostic.token` too; give each agent one of its own";
        return Err(ConfigError::setting("agents.resolution.token", why));
    }
    let of_agents = |entries: &[TokenEntry]| -> Vec<(usize, String)> {
        let may = |entry: &&TokenEntry| entry.scopes.contains(&Scope::Agent);
        let entries = entries.iter().enumerate().filter(|(_, entry)| may(entry));
        entries.filter_map(|(at, entry)| Some((at, entry.token.as_ref()?.expose().to_owned()))).collect()
    };
    let others = of_agents(&config.diagnostic.tokens);
    let shared = of_agents(&config.resolution.tokens)
        .into_iter()
        .find(|(_, token)| others.iter().any(|(_, other)| other == token));
    if let Some((at, _)) = shared {
        let why = "is a token of `diagnostic.tokens` too; give each agent one of its own";
        return Err(ConfigError::setting(format!("resolution.tokens[{at}].token"), why));
    }
    for (at, key) in resolution.coordinator_public_keys.iter().enumerate() {
        if key.len() != PUBLIC_KEY_DIGITS || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let why = format!(
                "expected {PUBLIC_KEY_DIGITS} hexadecimal digits, as `quell-coordinator --print-public-key` prints them"
            );
            return Err(ConfigError::setting(
                format!("agents.resolution.coordinator_public_keys[{at}]"),
                why,
            ));
        }
    }
    Ok(())
}

/// An anchor without a signature proves nothing, and a key without a file signs nothing.
fn check_audit(config: &Config) -> Result<(), ConfigError> {
    let audit = &config.coordinator.audit;
    let (missing, other) = match (&audit.anchor_file, &audit.signing_key_file) {
        (Some(_), None) => ("coordinator.audit.signing_key_file", "coordinator.audit.anchor_file"),
        (None, Some(_)) => ("coordinator.audit.anchor_file", "coordinator.audit.signing_key_file"),
        _ => return Ok(()),
    };
    Err(ConfigError::setting(missing, format!("is not set, and `{other}` is; set both or none")))
}

fn check_numbers(config: &Config) -> Result<(), ConfigError> {
    let (coordinator, workflow) = (&config.coordinator, &config.coordinator.workflow);
    let listeners = &config.listeners;
    for (setting, number, range) in [
        ("coordinator.body_bytes_max", coordinator.body_bytes_max as u64, 1024..=1 << 30),
        ("listeners.connections_max", listeners.connections_max as u64, 16..=1 << 16),
        ("listeners.connections_per_peer_max", listeners.connections_per_peer_max as u64, 8..=1 << 16),
        ("listeners.answer_bytes_max", listeners.answer_bytes_max as u64, 1 << 20..=1 << 34),
        ("listeners.body_bytes_max", listeners.body_bytes_max as u64, 1 << 20..=1 << 34),
        ("coordinator.workflow.attempts_max", u64::from(workflow.attempts_max), 1..=10),
        ("coordinator.workflow.step_tries_max", u64::from(workflow.step_tries_max), 1..=10),
        ("coordinator.workflow.approvals_needed", u64::from(workflow.approvals_needed), 1..=20),
        ("coordinator.workflow.agent_retries_max", u64::from(workflow.agent_retries_max), 0..=100),
    ] {
        if !range.contains(&number) {
            let why = format!("{number} is out of range; it takes {} to {}", range.start(), range.end());
            return Err(ConfigError::setting(setting, why));
        }
    }
    // Also refuses a value that is not a number.
    if !(0.0..=1.0).contains(&workflow.confidence_min) {
        let why = format!("{} is out of range; it takes 0 to 1", workflow.confidence_min);
        return Err(ConfigError::setting("coordinator.workflow.confidence_min", why));
    }
    Ok(())
}

fn check_tokens(setting: &str, entries: &[TokenEntry]) -> Result<(), ConfigError> {
    if entries.len() > TOKENS_MAX {
        return Err(ConfigError::setting(setting, format!("has more than {TOKENS_MAX} entries")));
    }
    let (mut names, mut tokens) = (BTreeSet::new(), BTreeSet::new());
    for (index, entry) in entries.iter().enumerate() {
        let refuse =
            |field: &str, why: String| Err(ConfigError::setting(format!("{setting}[{index}].{field}"), why));
        check_name(&format!("{setting}[{index}].name"), &entry.name)?;
        if !names.insert(&entry.name) {
            return refuse(
                "name",
                format!("`{}` is the name of two callers; records could not tell them apart", entry.name),
            );
        }
        let token = entry.token.as_ref().map_or("", |token| token.expose());
        if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = format!(
                "the token of `{}` needs at least {TOKEN_BYTES_MIN} visible ASCII characters",
                entry.name
            );
            return refuse("token", why);
        }
        if !tokens.insert(token) {
            return refuse(
                "token",
                format!("`{}` has the token of another caller; give it one of its own", entry.name),
            );
        }
        if entry.scopes.is_empty() {
            let why = "is empty; give some of webhook, read, operate, approve, agent".to_owned();
            return refuse("scopes", why);
        }
    }
    Ok(())
}

/// Without tokens everyone who reaches the port may do everything, so only this machine may reach it.
fn check_exposure(
    setting: &str,
    address: SocketAddr,
    tokens_setting: &str,
    tokens: &[TokenEntry],
) -> Result<(), ConfigError> {
    if tokens.is_empty() && !address.ip().to_canonical().is_loopback() {
        let why = format!(
            "{address} can be reached from other machines, and nobody would have to show a token; set `{tokens_setting}`, or listen on 127.0.0.1"
        );
        return Err(ConfigError::setting(setting, why));
    }
    Ok(())
}

impl Config {
    /// What is set and has no effect in this version, or not the effect that one may expect: to be said at start-up, so
    /// that nobody relies on it.
    pub fn notices(&self) -> Vec<String> {
        let (deployment, remediation) = (&self.automation.deployment, &self.automation.remediation);
        let unused = [
            (
                "automation.deployment.ansible",
                deployment.ansible.inventory_file.is_some() || deployment.ansible.playbook_dir.is_some(),
            ),
            (
                "automation.remediation.ssh",
                remediation.ssh.username.is_some() || remediation.ssh.private_key.is_some(),
            ),
            (
                "automation.remediation.terraform",
                remediation.terraform.state_dir.is_some() || remediation.terraform.auto_approve,
            ),
            ("ticketing.jira", self.ticketing.jira.enabled || self.ticketing.jira.url.is_some()),
            ("coordinator.workflow.step", self.coordinator.workflow.step != Workflow::default().step),
        ];
        let mut notices: Vec<String> = unused
            .into_iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(setting, _)| format!("`{setting}` is set, but this version of Quell does not use it yet"))
            .collect();
        self.notice_sources(&mut notices);
        let switches = &self.agents.resolution;
        if switches.execute_real_commands && switches.dry_run {
            let text = "`agents.resolution.dry_run` is true, so nothing is executed although \
                        `agents.resolution.execute_real_commands` is true";
            notices.push(text.to_owned());
        }
        let prometheus = &self.infrastructure.monitoring.prometheus;
        let grafana = &self.infrastructure.visualization.grafana;
        let through_grafana = grafana.url.is_some() && grafana.data_source.is_some();
        if self.has_real_metrics() && prometheus.url.is_none() && !through_grafana {
            let text = "`use_real_data` is true, but `infrastructure.monitoring.prometheus.url` is not set: there are no \
                        metrics to look at";
            notices.push(text.to_owned());
        }
        notices
    }

    /// What is configured and not asked, and why.
    fn notice_sources(&self, notices: &mut Vec<String>) {
        let logging = &self.infrastructure.logging;
        let grafana = &self.infrastructure.visualization.grafana;
        let (elasticsearch, splunk, loki) = (&logging.elasticsearch, &logging.splunk, &logging.loki);
        let systems = [
            (
                "infrastructure.logging.elasticsearch",
                elasticsearch.url.is_some(),
                elasticsearch.api_key.is_some() || elasticsearch.username.is_some(),
                self.has_real_logs(),
            ),
            (
                "infrastructure.logging.splunk",
                splunk.url.is_some(),
                splunk.api_key.is_some() || splunk.username.is_some(),
                self.has_real_logs(),
            ),
            (
                "infrastructure.logging.loki",
                loki.url.is_some(),
                loki.token.is_some() || loki.username.is_some(),
                self.has_real_logs(),
            ),
            (
                "infrastructure.visualization.grafana",
                grafana.url.is_some(),
                grafana.api_key.is_some() || grafana.data_source.is_some(),
                self.has_real_metrics(),
            ),
            (
                "automation.deployment.kubernetes",
                self.automation.deployment.kubernetes.is_set(),
                false,
                self.use_real_data,
            ),
        ];
        for (setting, has_place, has_more, is_asked) in systems {
            match (has_place, has_more, is_asked) {
                (false, true, _) => {
                    notices.push(format!("`{setting}` is set, but not its `url`: it is not asked"));
                }
                (true, _, false) => notices.push(format!(
                    "`{setting}` is set, but not asked: `use_real_data` is false, so the simulator is looked at"
                )),
                _ => {}
            }
        }
    }

    /// The configuration as it is in effect, as YAML; secrets and passwords are hidden.
    pub fn render_effective(&self) -> Result<String, ConfigError> {
        serde_saphyr::to_string(self)
            .map_err(|error| ConfigError::setting(".", format!("cannot be written as YAML: {error}")))
    }
}
