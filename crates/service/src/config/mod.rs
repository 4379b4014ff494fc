//! One configuration for all daemons: a YAML file, environment variables, flags.
//!
//! Order: built-in defaults, which run the demo; the file, with `${NAME}` and `${NAME:-default}` substituted in values;
//! [`VARIABLES`]; flags. Nothing is ignored silently: an unknown key is an error that names the nearest one, and what this
//! version has no use for is said by [`Config::notices`].

mod check;
mod correlation;
mod daemons;
mod environment;
mod error;
mod listeners;
mod load;
mod schema;
mod site;
mod sources;
mod substitute;
mod values;
mod workflow;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use correlation::{
    AlertWords, Correlation, CorrelationRule, FlappingSettings, Schedule, Weekday, Window,
};
pub use daemons::{
    Autonomy, AutonomyOverride, Coordinator, Diagnostic, PollPrometheus, Reconcile, Resolution, Retention,
    Scope, Simulator, TokenEntry,
};
pub use environment::{Environment, VARIABLES, Variable, parse_flag};
pub use error::{ConfigError, Position};
pub use listeners::Listeners;
pub use load::{Daemon, Loading};
pub use schema::schema;
pub use site::{
    Agents, Ansible, Automation, Deployment, DiagnosticSwitches, Elasticsearch, Grafana, Infrastructure,
    Jira, Kubernetes, Logging, Loki, Monitoring, Prometheus, Remediation, ResolutionSwitches, Splunk, Ssh,
    Terraform, Ticketing, Visualization,
};
pub use sources::{HealthCheckEntry, LanguageModelSettings, LogFields, SourceChoice, SourceChoices};
pub use values::{BaseUrl, HIDDEN, Period, Secret, parse_listen, shown_address};
pub use workflow::Workflow;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// False: metrics and logs are the simulator's, and no cluster is looked at. True: the systems configured here are looked at. What is
    /// acted on is what `resolution.inventory_file` names, either way.
    pub use_real_data: bool,
    /// The tenant that every record names.
    pub tenant: String,
    /// Where the site's telemetry is.
    // On the heap, since a future that holds a configuration is large enough.
    pub infrastructure: Box<Infrastructure>,
    /// The means of acting.
    pub automation: Automation,
    /// What the agents may do and use.
    pub agents: Agents,
    /// Where tickets are filed.
    pub ticketing: Ticketing,
    /// Limits of each listener and of its connections.
    pub listeners: Listeners,
    /// The simulated infrastructure, which is looked at while `use_real_data` is false.
    pub simulator: Simulator,
    /// The coordinator, which alone knows every incident.
    pub coordinator: Coordinator,
    /// The diagnostic agent, which reads and changes nothing.
    pub diagnostic: Diagnostic,
    /// The resolution agent, which alone acts.
    pub resolution: Resolution,
}

/// The key's file in the data folder, where no other is configured.
const PERMIT_KEY_FILE: &str = "permit.key";

impl Default for Config {
    fn default() -> Self {
        Self {
            use_real_data: false,
            tenant: "default".to_owned(),
            infrastructure: Box::default(),
            automation: Automation::default(),
            agents: Agents::default(),
            ticketing: Ticketing::default(),
            listeners: Listeners::default(),
            simulator: Simulator::default(),
            coordinator: Coordinator::default(),
            diagnostic: Diagnostic::default(),
            resolution: Resolution::default(),
        }
    }
}

impl Config {
    /// Whether metrics are those of the configured systems, and not the simulator's.
    pub fn has_real_metrics(&self) -> bool {
        self.is_real(self.diagnostic.sources.metrics)
    }

    /// Whether logs are those of the configured systems, and not the simulator's.
    pub fn has_real_logs(&self) -> bool {
        self.is_real(self.diagnostic.sources.logs)
    }

    fn is_real(&self, choice: Option<SourceChoice>) -> bool {
        choice.map_or(self.use_real_data, |choice| choice == SourceChoice::Configured)
    }

    /// The coordinator's data folder; the error says what to set where neither a setting nor a home folder names one.
    pub fn coordinator_data_dir(&self) -> Result<&Path, ConfigError> {
        data_dir("coordinator.data_dir", self.coordinator.data_dir.as_ref())
    }

    /// The file of the key by which the coordinator signs permits; the error says what to set where nothing says where it is.
    pub fn permit_key_file(&self) -> Result<PathBuf, ConfigError> {
        if let Some(file) = &self.coordinator.signing_key_file {
            return Ok(file.clone());
        }
        let folder = self.coordinator.data_dir.as_ref().ok_or_else(|| {
            let why = "is not set, and there is no `coordinator.data_dir` to keep a key in; set one of them";
            ConfigError::setting("coordinator.signing_key_file", why)
        })?;
        Ok(folder.join(PERMIT_KEY_FILE))
    }

    /// The resolution agent's data folder; the error says what to set where neither a setting nor a home folder names one.
    pub fn resolution_data_dir(&self) -> Result<&Path, ConfigError> {
        data_dir("resolution.data_dir", self.resolution.data_dir.as_ref())
    }
}

fn data_dir<'a>(setting: &str, folder: Option<&'a PathBuf>) -> Result<&'a Path, ConfigError> {
    folder.map(PathBuf::as_path).ok_or_else(|| {
        let why = "is not set, and neither XDG_STATE_HOME nor HOME says where data belongs; set it, or QUELL_DATA_DIR";
        ConfigError::setting(setting, why)
    })
}
