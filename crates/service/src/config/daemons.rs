//! The sections of Quell's own daemons.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::correlation::{AlertWords, Correlation, Window};
use super::schema::{FilePath, HostName, ListenAddress, Optional};
use super::sources::{HealthCheckEntry, LanguageModelSettings, SourceChoices};
use super::values::{BaseUrl, Period, Secret, hosts, listen, optional};
use super::workflow::Workflow;

/// The simulated infrastructure, the source of everything while `use_real_data` is false.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Simulator {
    /// The base address of its control API. `METRICS_PORT` sets its port alone.
    pub url: BaseUrl,
    /// The addresses of its pages of metrics. `METRICS_PORT` sets the port of the first, and the others follow it.
    pub metrics_urls: Vec<BaseUrl>,
    /// The bearer token of its control API.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub token: Option<Secret>,
}

impl Default for Simulator {
    fn default() -> Self {
        let metrics_urls = [8000, 8001, 8002].map(|port| BaseUrl::local(port, "/metrics"));
        Self { url: BaseUrl::local(8000, ""), metrics_urls: metrics_urls.to_vec(), token: None }
    }
}

/// The coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Coordinator {
    /// Where HTTP is served: webhooks, API, console. `WEBHOOK_HOST` sets its IP address alone, `WEBHOOK_PORT` its port.
    #[serde(deserialize_with = "listen")]
    #[schemars(with = "ListenAddress")]
    pub listen: SocketAddr,
    /// Where gRPC is served, which is A2A.
    #[serde(deserialize_with = "listen")]
    #[schemars(with = "ListenAddress")]
    pub grpc_listen: SocketAddr,
    /// Names by which both ports are called, beside those of loopback and IP addresses: a web page can make any other name point here.
    #[serde(deserialize_with = "hosts")]
    #[schemars(with = "Vec<HostName>")]
    pub allowed_hosts: Vec<String>,
    /// The folder of the store; by default `quell/coordinator` in the XDG state folder. `QUELL_DATA_DIR` makes it `coordinator` in that one.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub data_dir: Option<PathBuf>,
    /// The PostgreSQL database that several coordinators share, as `postgres://user:password@host:port/database`. When it is set,
    /// everything is kept there, and in `data_dir` at most the key of `signing_key_file`.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<Secret>")]
    pub database_url: Option<Secret>,
    /// A file with that address, instead of `database_url`.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub database_url_file: Option<PathBuf>,
    /// Takes the webhooks of Alertmanager and others; without them their paths do not exist.
    pub enable_webhooks: bool,
    /// The largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// The name of the source whose alerts come by the webhook; two Alertmanagers of one pair are one source.
    pub source_name: String,
    /// The address of the diagnostic agent.
    pub diagnostic_url: BaseUrl,
    /// The address of the resolution agent.
    pub resolution_url: BaseUrl,
    /// Who may call, and for what. Empty: everyone who reaches the port, which then has to be on loopback.
    pub tokens: Vec<TokenEntry>,
    /// The key by which the coordinator signs what the resolution agent may do; made at the first start where there is none. By default
    /// `permit.key` in `data_dir`. Several coordinators on one database share one, or the resolution agent is told the key of each.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub signing_key_file: Option<PathBuf>,
    /// The file of the alert mapping, which replaces the shipped one.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub alert_mapping_file: Option<PathBuf>,
    /// What a site's alerts say in words and labels of its own.
    pub alerts: AlertWords,
    /// Labels by which an alert joins an incident that is under way: all of them there and equal, and of the same source. Short for a
    /// last rule of `correlation.rules` without a window. Empty: there is no such rule.
    pub correlate_by: Vec<String>,
    /// How long a coordinator holds what it works on without a sign of life; of several coordinators on one database, another one takes
    /// over then.
    pub lease: Period,
    /// How alerts come to be one incident, and when they flap.
    pub correlation: Correlation,
    /// Windows in which alerts open incidents that are diagnosed, and about which nothing is done or asked.
    pub maintenance: Vec<Window>,
    /// Windows in which nothing is done, also when a person approved it.
    pub freezes: Vec<Window>,
    /// How far Quell goes by itself.
    pub autonomy: Autonomy,
    /// Other levels for some sources, services, targets or runbooks. The lowest that fits counts, but a row is an exception to the later
    /// ones that name nothing that it does not name as well.
    pub autonomy_overrides: Vec<AutonomyOverride>,
    /// Comparing with Alertmanager what is known here.
    pub reconcile: Reconcile,
    /// Reading the alerts of `infrastructure.monitoring.prometheus.url`.
    pub poll_prometheus: PollPrometheus,
    /// Times and limits of the workflow.
    pub workflow: Workflow,
    /// How long what is over is kept.
    pub retention: Retention,
    /// Signed notes of how far the log went.
    pub audit: Audit,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            listen: local(5000),
            grpc_listen: local(50051),
            allowed_hosts: Vec::new(),
            data_dir: None,
            database_url: None,
            database_url_file: None,
            enable_webhooks: true,
            body_bytes_max: 10 * 1024 * 1024,
            source_name: "alertmanager".to_owned(),
            diagnostic_url: BaseUrl::local(50052, ""),
            resolution_url: BaseUrl::local(50053, ""),
            tokens: Vec::new(),
            signing_key_file: None,
            alert_mapping_file: None,
            alerts: AlertWords::default(),
            correlate_by: vec!["instance".to_owned(), "component".to_owned()],
            lease: Period::seconds(6),
            correlation: Correlation::default(),
            maintenance: Vec::new(),
            freezes: Vec::new(),
            autonomy: Autonomy::Approve,
            autonomy_overrides: Vec::new(),
            reconcile: Reconcile::default(),
            poll_prometheus: PollPrometheus::default(),
            workflow: Workflow::default(),
            retention: Retention::default(),
            audit: Audit::default(),
        }
    }
}

/// Comparing with Alertmanager what is known here, where an Alertmanager is set: what webhooks missed is repaired, and what is silenced
/// or inhibited there is known here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reconcile {
    /// Whether anything is compared.
    pub enabled: bool,
    /// How often; each pause is up to a tenth longer or shorter.
    pub interval: Period,
    /// How long one comparison may take.
    pub timeout: Period,
    /// How long an alert that fires there may be unknown here until its webhook counts as missed.
    pub missed_after: Period,
    /// What is added to Alertmanager's `resolve_timeout`: after so long a run it has heard again of everything that fires, and an alert
    /// that it does not list has ended. At least the time in which Prometheus repeats itself, a minute by default.
    pub clear_margin: Period,
    /// How long ago an alert must have begun that this process has never seen listed, until its not being listed counts.
    pub cleared_after: Period,
    /// The receivers in Alertmanager's configuration whose alerts are Quell's. Empty: those with a webhook at a path of Quell's, or, where
    /// there is none, those with any webhook.
    pub receivers: Vec<String>,
}

impl Default for Reconcile {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Period::seconds(60),
            timeout: Period::seconds(20),
            missed_after: Period::seconds(60),
            clear_margin: Period::seconds(120),
            cleared_after: Period::seconds(10 * 60),
            receivers: Vec::new(),
        }
    }
}

/// Reading the alerts of `infrastructure.monitoring.prometheus.url`. It is for sites without an Alertmanager, or as a second way beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PollPrometheus {
    /// Whether they are read; it needs `infrastructure.monitoring.prometheus.url`.
    pub enabled: bool,
    /// How often; each pause is up to a tenth longer or shorter.
    pub interval: Period,
    /// How long one reading may take.
    pub timeout: Period,
    /// Names of alerts that are left out: those that always fire. Nothing is routed here, as it is in an Alertmanager.
    pub ignore: Vec<String>,
}

impl Default for PollPrometheus {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: Period::seconds(15),
            timeout: Period::seconds(10),
            ignore: ["Watchdog", "DeadMansSwitch", "InfoInhibitor"].map(str::to_owned).to_vec(),
        }
    }
}

/// How long what is over is kept. Zero is for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Closed incidents, from their last event on.
    pub closed_incidents: Period,
    /// Received alerts, once they are correlated.
    pub received: Period,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self { closed_incidents: Period::seconds(90 * DAY), received: Period::seconds(7 * DAY) }
    }
}

/// Signed notes of how far the log went. With them `quell audit verify` finds a cut end and a log that was rewritten as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Where they are added; best on another machine's disk, or copied away from here.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub anchor_file: Option<PathBuf>,
    /// The key that signs them; `quell audit key` makes one.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub signing_key_file: Option<PathBuf>,
    /// How often one is written, if anything has happened; more often when much has.
    pub anchor_interval: Period,
}

impl Default for Audit {
    fn default() -> Self {
        Self { anchor_file: None, signing_key_file: None, anchor_interval: Period::seconds(60) }
    }
}

/// How far Quell goes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Autonomy {
    /// Detects and diagnoses.
    Observe,
    /// Also plans, and shows the dry run.
    Suggest,
    /// Also executes, after approval.
    Approve,
    /// Also executes without asking, where nothing else demands a person.
    Auto,
}

/// Another level of autonomy for what fits all the names given; a name that is left out fits anything. What alerts say lowers a level
/// and never raises it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutonomyOverride {
    /// The source of the alerts: to raise the level, of all of them.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<String>")]
    pub source: Option<String>,
    /// The service: to raise the level, that which the inventory declares of the target.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<String>")]
    pub service: Option<String>,
    /// The target's name in the inventory.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<String>")]
    pub target: Option<String>,
    /// The name of the runbook.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<String>")]
    pub runbook: Option<String>,
    /// The level that holds for them.
    pub level: Autonomy,
}

/// The diagnostic agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Diagnostic {
    /// Where gRPC is served, which is A2A and health, and HTTP on the same port.
    #[serde(deserialize_with = "listen")]
    #[schemars(with = "ListenAddress")]
    pub listen: SocketAddr,
    /// Names by which it is called, beside those of loopback and IP addresses.
    #[serde(deserialize_with = "hosts")]
    #[schemars(with = "Vec<HostName>")]
    pub allowed_hosts: Vec<String>,
    /// Who may call, and for what. Empty: everyone who reaches the port, which then has to be on loopback.
    pub tokens: Vec<TokenEntry>,
    /// The site's own rules, beside the shipped ones; one with the name of a shipped rule replaces it.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub rules_file: Option<PathBuf>,
    /// Log files that are read, beside the systems that keep logs.
    #[schemars(with = "Vec<FilePath>")]
    pub log_files: Vec<PathBuf>,
    /// Exports of systemd's journal to read, of `journalctl -o json` or `-o export`.
    #[schemars(with = "Vec<FilePath>")]
    pub journal_files: Vec<PathBuf>,
    /// A language model that reads the finished evidence.
    pub language_model: LanguageModelSettings,
    /// Dependencies whose health is asked for.
    pub health_checks: Vec<HealthCheckEntry>,
    /// Which services a service calls, by their names: a fault that is only passed on is told from its cause by this.
    pub depends_on: BTreeMap<String, Vec<String>>,
    /// Where each kind of evidence comes from.
    pub sources: SourceChoices,
    /// How long one attempt to ask a system may take.
    pub source_timeout: Period,
    /// How often the simulator's metrics are scraped.
    pub scrape_interval: Period,
    /// How much of the simulator's metrics is kept; at least `scrape_interval`.
    pub history: Period,
    /// How much time before the incident is compared with.
    pub window_before: Period,
    /// How long gathering evidence may take.
    pub gather_timeout: Period,
}

impl Default for Diagnostic {
    fn default() -> Self {
        Self {
            listen: local(50052),
            allowed_hosts: Vec::new(),
            tokens: Vec::new(),
            rules_file: None,
            log_files: Vec::new(),
            journal_files: Vec::new(),
            language_model: LanguageModelSettings::default(),
            health_checks: Vec::new(),
            depends_on: BTreeMap::new(),
            sources: SourceChoices::default(),
            source_timeout: Period::seconds(10),
            scrape_interval: Period::seconds(5),
            history: Period::seconds(15 * 60),
            window_before: Period::seconds(30 * 60),
            gather_timeout: Period::seconds(20),
        }
    }
}

/// The resolution agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resolution {
    /// Where gRPC is served, which is A2A and health, and HTTP on the same port.
    #[serde(deserialize_with = "listen")]
    #[schemars(with = "ListenAddress")]
    pub listen: SocketAddr,
    /// Names by which it is called, beside those of loopback and IP addresses.
    #[serde(deserialize_with = "hosts")]
    #[schemars(with = "Vec<HostName>")]
    pub allowed_hosts: Vec<String>,
    /// Who may call, and for what. Empty: everyone who reaches the port, which then has to be on loopback.
    pub tokens: Vec<TokenEntry>,
    /// The folder of the ledger; by default `quell/resolution` in the XDG state folder. `QUELL_DATA_DIR` makes it `resolution` in that one.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub data_dir: Option<PathBuf>,
    /// The folder of the site's own runbooks, beside the shipped ones; one with the name of a shipped runbook replaces it.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub runbook_dir: Option<PathBuf>,
    /// The inventory of targets; by default the simulator's.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<FilePath>")]
    pub inventory_file: Option<PathBuf>,
    /// The targets that may be touched, by their inventory names; by default all of the inventory.
    pub allowed_targets: Option<Vec<String>>,
}

impl Default for Resolution {
    fn default() -> Self {
        Self {
            listen: local(50053),
            allowed_hosts: Vec::new(),
            tokens: Vec::new(),
            data_dir: None,
            runbook_dir: None,
            inventory_file: None,
            allowed_targets: None,
        }
    }
}

/// A caller that is known by a bearer token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// The caller's name, as records show it.
    pub name: String,
    /// The token itself, in visible ASCII characters; or `token_file`.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<Secret>")]
    pub token: Option<Secret>,
    /// A file with the token, read when the configuration is loaded.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<FilePath>")]
    pub token_file: Option<PathBuf>,
    /// What the caller may do.
    pub scopes: Vec<Scope>,
}

/// A right of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Deliver alerts.
    Webhook,
    /// See incidents.
    Read,
    /// Work on incidents: create, note, take over, resolve, close; engage the kill switch.
    Operate,
    /// Approve or deny plans, choose a runbook, release the kill switch.
    Approve,
    /// Give agents tasks.
    Agent,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Webhook, Self::Read, Self::Operate, Self::Approve, Self::Agent];

    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Approve => "approve",
            Self::Agent => "agent",
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
