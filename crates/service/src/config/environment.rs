//! The environment as an input: read once, passed on as a value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::values::parse_listen;
use super::{Autonomy, Config, ConfigError};

/// The environment variables, as they were when the process began or as a test gives them.
///
/// An empty variable counts as one that is not set: that is how compose files and manifests leave them out.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process; only `main` has a reason to call this. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    /// An environment of these variables.
    pub fn of<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of a variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables that are set, also empty ones.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl std::fmt::Debug for Environment {
    /// Names only: values can be secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// An environment variable that sets something in the configuration.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The settings that it sets, by their paths; mostly one.
    pub settings: &'static [&'static str],
    apply: fn(&mut Config, &str) -> Result<(), String>,
}

/// Every variable that sets something, in the order in which they are applied.
pub const VARIABLES: &[Variable] = &[
    variable("USE_REAL_DATA", &["use_real_data"], |c, v| set_flag(&mut c.use_real_data, v)),
    variable("EXECUTE_REAL_REMEDIATION", &["agents.resolution.execute_real_commands"], |c, v| {
        set_flag(&mut c.agents.resolution.execute_real_commands, v)
    }),
    variable("REQUIRE_APPROVAL_FOR_CHANGES", &["agents.resolution.require_approval"], |c, v| {
        set_flag(&mut c.agents.resolution.require_approval, v)
    }),
    variable("DRY_RUN_MODE", &["agents.resolution.dry_run"], |c, v| {
        set_flag(&mut c.agents.resolution.dry_run, v)
    }),
    variable("PROMETHEUS_URL", &["infrastructure.monitoring.prometheus.url"], |c, v| {
        set_some(&mut c.infrastructure.monitoring.prometheus.url, v)
    }),
    variable("ALERTMANAGER_URL", &["infrastructure.monitoring.prometheus.alert_manager_url"], |c, v| {
        set_some(&mut c.infrastructure.monitoring.prometheus.alert_manager_url, v)
    }),
    variable("ELASTICSEARCH_URL", &["infrastructure.logging.elasticsearch.url"], |c, v| {
        set_some(&mut c.infrastructure.logging.elasticsearch.url, v)
    }),
    variable("ELASTICSEARCH_API_KEY", &["infrastructure.logging.elasticsearch.api_key"], |c, v| {
        set_some(&mut c.infrastructure.logging.elasticsearch.api_key, v)
    }),
    variable("ELASTICSEARCH_USERNAME", &["infrastructure.logging.elasticsearch.username"], |c, v| {
        set_some(&mut c.infrastructure.logging.elasticsearch.username, v)
    }),
    variable("ELASTICSEARCH_PASSWORD", &["infrastructure.logging.elasticsearch.password"], |c, v| {
        set_some(&mut c.infrastructure.logging.elasticsearch.password, v)
    }),
    variable("LOKI_URL", &["infrastructure.logging.loki.url"], |c, v| {
        set_some(&mut c.infrastructure.logging.loki.url, v)
    }),
    variable("SPLUNK_URL", &["infrastructure.logging.splunk.url"], |c, v| {
        set_some(&mut c.infrastructure.logging.splunk.url, v)
    }),
    variable("SPLUNK_API_KEY", &["infrastructure.logging.splunk.api_key"], |c, v| {
        set_some(&mut c.infrastructure.logging.splunk.api_key, v)
    }),
    variable("GRAFANA_URL", &["infrastructure.visualization.grafana.url"], |c, v| {
        set_some(&mut c.infrastructure.visualization.grafana.url, v)
    }),
    variable("GRAFANA_API_KEY", &["infrastructure.visualization.grafana.api_key"], |c, v| {
        set_some(&mut c.infrastructure.visualization.grafana.api_key, v)
    }),
    // JIRA_BASE_URL is the newer name and comes second, so that it counts where both are set.
    variable("JIRA_URL", &["ticketing.jira.url"], |c, v| set_some(&mut c.ticketing.jira.url, v)),
    variable("JIRA_BASE_URL", &["ticketing.jira.url"], |c, v| set_some(&mut c.ticketing.jira.url, v)),
    variable("JIRA_USERNAME", &["ticketing.jira.username"], |c, v| {
        set_some(&mut c.ticketing.jira.username, v)
    }),
    variable("JIRA_TOKEN", &["ticketing.jira.token"], |c, v| set_some(&mut c.ticketing.jira.token, v)),
    variable("SSH_USER", &["automation.remediation.ssh.username"], |c, v| {
        set_some(&mut c.automation.remediation.ssh.username, v)
    }),
    variable("SSH_KEY_PATH", &["automation.remediation.ssh.private_key"], |c, v| {
        set_some(&mut c.automation.remediation.ssh.private_key, v)
    }),
    variable("ANSIBLE_INVENTORY", &["automation.deployment.ansible.inventory_file"], |c, v| {
        set_some(&mut c.automation.deployment.ansible.inventory_file, v)
    }),
    variable("KUBECONFIG", &["automation.deployment.kubernetes.kubeconfig"], |c, v| {
        set_some(&mut c.automation.deployment.kubernetes.kubeconfig, v)
    }),
    variable("WEBHOOK_HOST", &["coordinator.listen"], set_webhook_host),
    variable("WEBHOOK_PORT", &["coordinator.listen"], |c, v| {
        c.coordinator.listen.set_port(port(v)?);
        Ok(())
    }),
    variable("ENABLE_WEBHOOKS", &["coordinator.enable_webhooks"], |c, v| {
        set_flag(&mut c.coordinator.enable_webhooks, v)
    }),
    variable("METRICS_PORT", &["simulator.url", "simulator.metrics_urls"], set_simulator_ports),
    variable("QUELL_SIMULATOR_URL", &["simulator.url"], |c, v| set(&mut c.simulator.url, v)),
    variable("QUELL_SIMULATOR_TOKEN", &["simulator.token"], |c, v| set_some(&mut c.simulator.token, v)),
    variable("QUELL_TENANT", &["tenant"], |c, v| set(&mut c.tenant, v)),
    variable("QUELL_AUTONOMY", &["coordinator.autonomy"], set_autonomy),
    variable("QUELL_GRPC_LISTEN", &["coordinator.grpc_listen"], |c, v| {
        c.coordinator.grpc_listen = parse_listen(v)?;
        Ok(())
    }),
    variable("QUELL_DIAGNOSTIC_URL", &["coordinator.diagnostic_url"], |c, v| {
        set(&mut c.coordinator.diagnostic_url, v)
    }),
    variable("QUELL_RESOLUTION_URL", &["coordinator.resolution_url"], |c, v| {
        set(&mut c.coordinator.resolution_url, v)
    }),
    variable("QUELL_DIAGNOSTIC_TOKEN", &["agents.diagnostic.token"], |c, v| {
        set_some(&mut c.agents.diagnostic.token, v)
    }),
    variable("QUELL_RESOLUTION_TOKEN", &["agents.resolution.token"], |c, v| {
        set_some(&mut c.agents.resolution.token, v)
    }),
    // The name that platforms give to the database that they provide.
    variable("DATABASE_URL", &["coordinator.database_url"], |c, v| {
        set_some(&mut c.coordinator.database_url, v)
    }),
    variable("QUELL_DIAGNOSTIC_LISTEN", &["diagnostic.listen"], |c, v| {
        c.diagnostic.listen = parse_listen(v)?;
        Ok(())
    }),
    variable("QUELL_RESOLUTION_LISTEN", &["resolution.listen"], |c, v| {
        c.resolution.listen = parse_listen(v)?;
        Ok(())
    }),
    // One variable may be seen by several daemons of one machine, and a data folder belongs to one of them.
    variable("QUELL_DATA_DIR", &["coordinator.data_dir", "resolution.data_dir"], |c, v| {
        c.coordinator.data_dir = Some(PathBuf::from(v).join("coordinator"));
        c.resolution.data_dir = Some(PathBuf::from(v).join("resolution"));
        Ok(())
    }),
];

/// Variables with the prefix that are read elsewhere.
const OTHERS: [&str; 3] = ["QUELL_CONFIG", "QUELL_LOG", "QUELL_LOG_FORMAT"];

/// Applies every variable of [`VARIABLES`] that is set.
pub(super) fn apply(config: &mut Config, environment: &Environment) -> Result<(), ConfigError> {
    for variable in VARIABLES {
        if let Some(value) = environment.get(variable.name) {
            (variable.apply)(config, value).map_err(|why| ConfigError::Variable {
                variable: variable.name.to_owned(),
                settings: variable.settings.join("` and `"),
                why,
            })?;
        }
    }
    Ok(())
}

/// Variables that look like settings of Quell and are none, for a notice at start-up.
pub(super) fn unknown(environment: &Environment) -> impl Iterator<Item = &str> {
    environment.iter().map(|(name, _)| name).filter(|name| {
        name.starts_with("QUELL_")
            && !OTHERS.contains(name)
            && VARIABLES.iter().all(|variable| variable.name != *name)
    })
}

/// Reads a switch; the error says what is accepted.
pub fn parse_flag(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(format!("`{text}` is not a switch; accepted are true, false, 1, 0, yes, no")),
    }
}

const fn variable(
    name: &'static str,
    settings: &'static [&'static str],
    apply: fn(&mut Config, &str) -> Result<(), String>,
) -> Variable {
    Variable { name, settings, apply }
}

fn set_flag(setting: &mut bool, value: &str) -> Result<(), String> {
    *setting = parse_flag(value)?;
    Ok(())
}

fn set<T: FromStr<Err: std::fmt::Display>>(setting: &mut T, value: &str) -> Result<(), String> {
    *setting = value.parse().map_err(|error: T::Err| error.to_string())?;
    Ok(())
}

fn set_some<T: FromStr<Err: std::fmt::Display>>(setting: &mut Option<T>, value: &str) -> Result<(), String> {
    *setting = Some(value.parse().map_err(|error: T::Err| error.to_string())?);
    Ok(())
}

fn port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is not a port; accepted are 0 to 65535"))
}

fn set_webhook_host(config: &mut Config, value: &str) -> Result<(), String> {
    let host = if value == "localhost" { "127.0.0.1" } else { value.trim() };
    let address: IpAddr = host.parse().map_err(|_| {
        format!("`{value}` is not an IP address; accepted are addresses such as 127.0.0.1 or 0.0.0.0, and localhost")
    })?;
    config.coordinator.listen.set_ip(address);
    Ok(())
}

/// The simulator's first port; the others follow it.
fn set_simulator_ports(config: &mut Config, value: &str) -> Result<(), String> {
    let first = port(value)?;
    config.simulator.url = config.simulator.url.with_port(first)?;
    for (url, offset) in config.simulator.metrics_urls.iter_mut().zip(0_u16..) {
        let port = first.checked_add(offset).ok_or("the ports that follow it would be over 65535")?;
        *url = url.with_port(port)?;
    }
    Ok(())
}

fn set_autonomy(config: &mut Config, value: &str) -> Result<(), String> {
    config.coordinator.autonomy = match value.trim().to_ascii_lowercase().as_str() {
        "observe" => Autonomy::Observe,
        "suggest" => Autonomy::Suggest,
        "approve" => Autonomy::Approve,
        "auto" => Autonomy::Auto,
        _ => return Err(format!("`{value}` is no level; accepted are observe, suggest, approve, auto")),
    };
    Ok(())
}
