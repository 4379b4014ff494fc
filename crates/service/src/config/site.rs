//! The systems of the site, by the names that users of the configuration file know.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{FilePath, Optional};
use super::sources::LogFields;
use super::values::{BaseUrl, Period, Secret, optional};

/// Where the site's telemetry is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Infrastructure {
    /// Systems that measure and alert.
    pub monitoring: Monitoring,
    /// Systems that keep logs.
    pub logging: Logging,
    /// Systems that draw dashboards.
    pub visualization: Visualization,
}

/// Systems that measure and alert.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Monitoring {
    /// Prometheus and its Alertmanager.
    pub prometheus: Prometheus,
}

/// Prometheus and its Alertmanager.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prometheus {
    /// The base address of Prometheus.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<BaseUrl>")]
    pub url: Option<BaseUrl>,
    /// The base address of Alertmanager.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<BaseUrl>")]
    pub alert_manager_url: Option<BaseUrl>,
    /// Base addresses of further Alertmanagers of the same cluster: together they are one source.
    pub alert_manager_urls: Vec<BaseUrl>,
    /// The tenant (`X-Scope-OrgID`), where the servers have several, as Mimir, Cortex and Thanos do.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<String>")]
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// Elasticsearch or OpenSearch, whose logs are read.
    pub elasticsearch: Elasticsearch,
    /// Splunk, whose logs are read.
    pub splunk: Splunk,
    /// Loki, whose logs are read.
    pub loki: Loki,
    /// The zone of times that name none, such as `Europe/Berlin`; UTC where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Elasticsearch or OpenSearch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Elasticsearch {
    /// The base address of Elasticsearch.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<BaseUrl>")]
    pub url: Option<BaseUrl>,
    /// The indices that are searched.
    pub index_pattern: String,
    /// API key, as it is sent: encoded; or a user name and password.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub api_key: Option<Secret>,
    /// User name, where no API key is used.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<String>")]
    pub username: Option<String>,
    /// The password of that user.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Splunk {
    /// The base address of its management port.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<BaseUrl>")]
    pub url: Option<BaseUrl>,
    /// Token; or a user name and password.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub api_key: Option<Secret>,
    /// User name, where no token is used.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<String>")]
    pub username: Option<String>,
    /// The password of that user.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Loki {
    /// The base address of Loki.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<BaseUrl>")]
    pub url: Option<BaseUrl>,
    /// Bearer token; or a user name and password.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub token: Option<Secret>,
    /// User name, where no token is used.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<String>")]
    pub username: Option<String>,
    /// The password of that user.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub password: Option<Secret>,
    /// The tenant (`X-Scope-OrgID`), where the server has several.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<String>")]
    pub tenant: Option<String>,
    /// The streams that are searched where no service is asked for: matchers of LogQL without the braces.
    pub selector: String,
    /// The label that names the service.
    pub service_label: String,
    /// The names of its labels, or of the fields of lines that are JSON.
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Visualization {
    /// Grafana, through which metrics can be read.
    pub grafana: Grafana,
}

/// Grafana.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grafana {
    /// The base address of Grafana.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<BaseUrl>")]
    pub url: Option<BaseUrl>,
    /// Token of a service account.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub api_key: Option<Secret>,
    /// The uid of its Prometheus data source, to read metrics through Grafana where no Prometheus is configured.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<String>")]
    pub data_source: Option<String>,
}

/// The means of acting.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Automation {
    /// Systems that deploy, of which Kubernetes is only read.
    pub deployment: Deployment,
    /// Means of repair. This version does not use them yet: what is acted on stands in the inventory.
    pub remediation: Remediation,
}

/// Systems that deploy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deployment {
    /// Ansible. This version does not use it yet.
    pub ansible: Ansible,
    /// Kubernetes, whose objects and events are only read.
    pub kubernetes: Kubernetes,
}

/// Ansible.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ansible {
    /// Ansible's inventory file.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub inventory_file: Option<PathBuf>,
    /// The folder of the playbooks.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub playbook_dir: Option<PathBuf>,
}

/// Kubernetes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// The kubeconfig file.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Remediation {
    /// Service commands over SSH. This version does not use it yet.
    pub ssh: Ssh,
    /// Terraform. This version does not use it yet.
    pub terraform: Terraform,
}

/// Service commands over SSH.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// The user on the hosts.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<String>")]
    pub username: Option<String>,
    /// The file of the private key.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Terraform {
    /// The folder of the state.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub state_dir: Option<PathBuf>,
    /// Applies a plan without asking again.
    pub auto_approve: bool,
}

/// What the agents may do and use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Agents {
    /// Which engines the diagnostic agent uses, and what the coordinator shows it.
    pub diagnostic: DiagnosticSwitches,
    /// The safety switches of the resolution agent, what the coordinator shows it, and whose word it takes.
    pub resolution: ResolutionSwitches,
}

/// Which engines the diagnostic agent uses, and what the coordinator shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiagnosticSwitches {
    /// Uses what `quell eval calibrate` learned from this site's incidents.
    pub use_ml_model: bool,
    /// The file that `quell eval calibrate` writes; needed where `use_ml_model` is true.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub ml_model_path: Option<PathBuf>,
    /// Uses the declarative rules; without them every diagnosis abstains.
    pub use_rules_engine: bool,
    /// The bearer token that the coordinator shows to this agent, one of those in `diagnostic.tokens`, and to no other.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub token: Option<Secret>,
    /// A file with that token, instead of the token.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
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

/// The safety switches of the resolution agent, what the coordinator shows it, and whose word it takes. The defaults do nothing to any
/// system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResolutionSwitches {
    /// Actions may take effect on real systems.
    pub execute_real_commands: bool,
    /// A person has to approve every plan, also at the level `auto`.
    pub require_approval: bool,
    /// Plans are only shown, never executed.
    pub dry_run: bool,
    /// The bearer token that the coordinator shows to this agent, one of those in `resolution.tokens`, and to no other.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub token: Option<Secret>,
    /// A file with that token, instead of the token.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub token_file: Option<PathBuf>,
    /// The public keys of the coordinators whose signed permits this agent takes, as `quell-coordinator --print-public-key` prints them.
    /// Empty: that of the coordinator that comes first, for good, in `coordinator.pub` of `resolution.data_dir`. Needed where
    /// `resolution.listen` is beyond loopback and commands are executed.
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ticketing {
    /// Jira. This version does not use it yet.
    pub jira: Jira,
}

/// Jira.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Jira {
    /// Files one issue per incident, once Jira is used.
    pub enabled: bool,
    /// The base address of Jira.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<BaseUrl>")]
    pub url: Option<BaseUrl>,
    /// The account that files issues.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<String>")]
    pub username: Option<String>,
    /// The token of that account.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub token: Option<Secret>,
}
