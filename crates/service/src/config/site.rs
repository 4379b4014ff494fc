//! The systems of the site, by the names that users of the configuration file know.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::sources::LogFields;
use super::values::{BaseUrl, Period, Secret, optional};

/// Where the site's telemetry is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Infrastructure {
    /// Metrics and alerts.
    pub monitoring: Monitoring,
    /// Logs.
    pub logging: Logging,
    /// Dashboards.
    pub visualization: Visualization,
}

/// Systems that measure and alert.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Monitoring {
    /// Prometheus and its Alertmanager.
    pub prometheus: Prometheus,
}

/// Prometheus and its Alertmanager.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prometheus {
    /// Base address of Prometheus.
    #[serde(deserialize_with = "optional")]
    pub url: Option<BaseUrl>,
    /// Base address of Alertmanager.
    #[serde(deserialize_with = "optional")]
    pub alert_manager_url: Option<BaseUrl>,
    /// Base addresses of further Alertmanagers of the same cluster: together they are one source.
    pub alert_manager_urls: Vec<BaseUrl>,
    /// The tenant (`X-Scope-OrgID`), where the servers have several, as Mimir, Cortex and Thanos do.
    #[serde(deserialize_with = "optional")]
    pub tenant: Option<String>,
}

impl Prometheus {
    /// Every Alertmanager that is set, each once.
    pub fn alert_managers(&self) -> Vec<&BaseUrl> {
        let mut all: Vec<&BaseUrl> = Vec::new();
        for url in self.alert_manager_url.iter().chain(&self.alert_manager_urls) {
            if !all.iter().any(|known| known.as_str() == url.as_str()) {
                all.push(url);
            }
        }
        all
    }
}

/// Systems that keep logs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// Elasticsearch.
    pub elasticsearch: Elasticsearch,
    /// Splunk.
    pub splunk: Splunk,
    /// Loki.
    pub loki: Loki,
    /// The zone of times that name none, such as `Europe/Berlin`; UTC where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Elasticsearch or OpenSearch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Elasticsearch {
    /// Base address.
    #[serde(deserialize_with = "optional")]
    pub url: Option<BaseUrl>,
    /// The indices that are searched.
    pub index_pattern: String,
    /// API key, as it is sent: encoded; or a user name and password.
    #[serde(deserialize_with = "optional")]
    pub api_key: Option<Secret>,
    /// User name, where no API key is used.
    #[serde(deserialize_with = "optional")]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(deserialize_with = "optional")]
    pub password: Option<Secret>,
    /// Where the parts of a line stand.
    #[serde(skip_serializing_if = "LogFields::is_usual")]
    pub fields: LogFields,
}

impl Default for Elasticsearch {
    fn default() -> Self {
        Self {
            url: None,
            index_pattern: "logs-*".to_owned(),
            api_key: None,
            username: None,
            password: None,
            fields: LogFields::default(),
        }
    }
}

/// Splunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Splunk {
    /// Base address of its management port.
    #[serde(deserialize_with = "optional")]
    pub url: Option<BaseUrl>,
    /// Token; or a user name and password.
    #[serde(deserialize_with = "optional")]
    pub api_key: Option<Secret>,
    /// User name, where no token is used.
    #[serde(deserialize_with = "optional")]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(deserialize_with = "optional")]
    pub password: Option<Secret>,
    /// The beginning of every search, such as `index=main`.
    pub search: String,
    /// Where the parts of a line stand.
    #[serde(skip_serializing_if = "LogFields::is_usual")]
    pub fields: LogFields,
}

impl Default for Splunk {
    fn default() -> Self {
        Self {
            url: None,
            api_key: None,
            username: None,
            password: None,
            search: "index=*".to_owned(),
            fields: LogFields::default(),
        }
    }
}

/// Loki.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Loki {
    /// Base address.
    #[serde(deserialize_with = "optional")]
    pub url: Option<BaseUrl>,
    /// Bearer token; or a user name and password.
    #[serde(deserialize_with = "optional")]
    pub token: Option<Secret>,
    /// User name, where no token is used.
    #[serde(deserialize_with = "optional")]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(deserialize_with = "optional")]
    pub password: Option<Secret>,
    /// The tenant (`X-Scope-OrgID`), where the server has several.
    #[serde(deserialize_with = "optional")]
    pub tenant: Option<String>,
    /// The streams that are searched where no service is asked for: matchers of LogQL without the braces.
    pub selector: String,
    /// The label that names the service.
    pub service_label: String,
    /// Where the parts of a line stand: in its labels, or in lines that are JSON.
    #[serde(skip_serializing_if = "LogFields::is_usual")]
    pub fields: LogFields,
}

impl Default for Loki {
    fn default() -> Self {
        Self {
            url: None,
            token: None,
            username: None,
            password: None,
            tenant: None,
            selector: "service_name=~\".+\"".to_owned(),
            service_label: "service_name".to_owned(),
            fields: LogFields::default(),
        }
    }
}

/// Systems that draw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Visualization {
    /// Grafana.
    pub grafana: Grafana,
}

/// Grafana.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grafana {
    /// Base address.
    #[serde(deserialize_with = "optional")]
    pub url: Option<BaseUrl>,
    /// Token of a service account.
    #[serde(deserialize_with = "optional")]
    pub api_key: Option<Secret>,
    /// The uid of its Prometheus data source, to read metrics through Grafana where no Prometheus is configured.
    #[serde(deserialize_with = "optional")]
    pub data_source: Option<String>,
}

/// The means of acting.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Automation {
    /// Systems that deploy.
    pub deployment: Deployment,
    /// Means of repair.
    pub remediation: Remediation,
}

/// Systems that deploy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deployment {
    /// Ansible.
    pub ansible: Ansible,
    /// Kubernetes.
    pub kubernetes: Kubernetes,
}

/// Ansible.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ansible {
    /// Ansible's inventory file.
    #[serde(deserialize_with = "optional")]
    pub inventory_file: Option<PathBuf>,
    /// The folder of the playbooks.
    #[serde(deserialize_with = "optional")]
    pub playbook_dir: Option<PathBuf>,
}

/// Kubernetes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// The kubeconfig file.
    #[serde(deserialize_with = "optional")]
    pub kubeconfig: Option<PathBuf>,
    /// Without a kubeconfig: uses the service account of the pod that this runs in.
    pub in_cluster: bool,
    /// The namespaces that are looked at; all of them where none is named.
    pub namespaces: Vec<String>,
}

impl Kubernetes {
    /// Whether a cluster is configured.
    pub fn is_set(&self) -> bool {
        self.in_cluster || self.kubeconfig.is_some()
    }
}

/// Means of repair.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remediation {
    /// Service commands over SSH.
    pub ssh: Ssh,
    /// Terraform.
    pub terraform: Terraform,
}

/// Service commands over SSH.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// The user on the hosts.
    #[serde(deserialize_with = "optional")]
    pub username: Option<String>,
    /// The file of the private key.
    #[serde(deserialize_with = "optional")]
    pub private_key: Option<PathBuf>,
    /// How long a command may take.
    pub timeout: Period,
}

impl Default for Ssh {
    fn default() -> Self {
        Self { username: None, private_key: None, timeout: Period::seconds(30) }
    }
}

/// Terraform.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terraform {
    /// The folder of the state.
    #[serde(deserialize_with = "optional")]
    pub state_dir: Option<PathBuf>,
    /// Applies a plan without asking again.
    pub auto_approve: bool,
}

/// What the agents may do and use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agents {
    /// The diagnostic agent.
    pub diagnostic: DiagnosticSwitches,
    /// The resolution agent.
    pub resolution: ResolutionSwitches,
}

/// Which engines the diagnostic agent uses, and what the coordinator shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiagnosticSwitches {
    /// Uses the learned model.
    pub use_ml_model: bool,
    /// The learned model's file.
    #[serde(deserialize_with = "optional")]
    pub ml_model_path: Option<PathBuf>,
    /// Uses the declarative rules.
    pub use_rules_engine: bool,
    /// The bearer token that the coordinator shows to this agent, one of those in `diagnostic.tokens`, and to no other.
    #[serde(deserialize_with = "optional")]
    pub token: Option<Secret>,
    /// A file with that token, instead of the token.
    #[serde(deserialize_with = "optional")]
    pub token_file: Option<PathBuf>,
}

impl Default for DiagnosticSwitches {
    fn default() -> Self {
        Self {
            use_ml_model: false,
            ml_model_path: None,
            use_rules_engine: true,
            token: None,
            token_file: None,
        }
    }
}

/// The safety switches of the resolution agent, what the coordinator shows it, and whose word it takes; the defaults do nothing to any
/// system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResolutionSwitches {
    /// Actions may take effect on real systems.
    pub execute_real_commands: bool,
    /// A person has to approve a plan.
    pub require_approval: bool,
    /// Plans are only shown, never executed.
    pub dry_run: bool,
    /// The bearer token that the coordinator shows to this agent, one of those in `resolution.tokens`, and to no other.
    #[serde(deserialize_with = "optional")]
    pub token: Option<Secret>,
    /// A file with that token, instead of the token.
    #[serde(deserialize_with = "optional")]
    pub token_file: Option<PathBuf>,
    /// The public keys of the coordinators whose signed permits this agent takes, as `quell-coordinator --print-public-key` prints them.
    /// Empty: that of the coordinator that comes first, for good, in `coordinator.pub` of `resolution.data_dir`.
    pub coordinator_public_keys: Vec<String>,
}

impl Default for ResolutionSwitches {
    fn default() -> Self {
        Self {
            execute_real_commands: false,
            require_approval: true,
            dry_run: true,
            token: None,
            token_file: None,
            coordinator_public_keys: Vec::new(),
        }
    }
}

/// Where tickets are filed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ticketing {
    /// Jira.
    pub jira: Jira,
}

/// Jira.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jira {
    /// Files one issue per incident.
    pub enabled: bool,
    /// Base address.
    #[serde(deserialize_with = "optional")]
    pub url: Option<BaseUrl>,
    /// The account.
    #[serde(deserialize_with = "optional")]
    pub username: Option<String>,
    /// The account's token.
    #[serde(deserialize_with = "optional")]
    pub token: Option<Secret>,
}
