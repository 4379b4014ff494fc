//! Where the evidence comes from: the simulator, or the configured systems.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quell_connect::Access;
use quell_connect::logs::{FileLogs, FileLogsOptions, LogSource, SearchLogs, SimulatorLogs};
use quell_connect::metrics::{MetricSource, PrometheusSource, QueryMetrics, ScrapeOptions, ScrapeSource};
use quell_diagnose::RuleSet;
use quell_service::{Clock, Config, Secret};
use quell_tool::{ReadRegistry, ReadTool};
use reqwest::Client;
use secrecy::SecretString;

use crate::analyzer::log_analyzer;
use crate::error::StartError;
use crate::monitor::system_monitor;

/// The settings that the sources depend on: while they stay the same over a reload, the sources keep their history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SourceSettings {
    metrics: Option<MetricSettings>,
    simulator_logs: Option<(String, Option<Secret>)>,
    log_files: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
enum MetricSettings {
    Scrape { urls: Vec<String>, interval: Duration, history: Duration },
    Prometheus { url: String },
}

/// Open sources.
pub(crate) struct Sources {
    metrics: Option<Arc<dyn MetricSource>>,
    logs: Vec<Arc<dyn LogSource>>,
}

/// What a diagnosis is made with: read-only by its type.
pub(crate) struct Tools {
    pub(crate) registry: ReadRegistry,
    /// Whether there is a source of metrics.
    pub(crate) has_metrics: bool,
    /// The tools that search logs, one for each source.
    pub(crate) log_tools: Vec<String>,
}

impl SourceSettings {
    pub(crate) fn of(config: &Config) -> Result<Self, StartError> {
        let diagnostic = &config.diagnostic;
        let log_files = diagnostic.log_files.clone();
        if !config.use_real_data {
            let urls = config.simulator.metrics_urls.iter().map(|url| url.as_str().to_owned()).collect();
            let (interval, history) = (diagnostic.scrape_interval.get(), diagnostic.history.get());
            let simulator = (config.simulator.url.as_str().to_owned(), config.simulator.token.clone());
            return Ok(Self {
                metrics: Some(MetricSettings::Scrape { urls, interval, history }),
                simulator_logs: Some(simulator),
                log_files,
            });
        }
        let url = config.infrastructure.monitoring.prometheus.url.as_ref();
        let metrics = url.map(|url| MetricSettings::Prometheus { url: url.as_str().to_owned() });
        if metrics.is_none() && log_files.is_empty() {
            return Err(StartError::Setting {
                setting: "infrastructure.monitoring.prometheus.url",
                why: "is not set, and neither is `diagnostic.log_files`, while `use_real_data` is true: there is nothing to look at"
                    .to_owned(),
            });
        }
        Ok(Self { metrics, simulator_logs: None, log_files })
    }

    /// Opens the sources; has to be called in a runtime.
    pub(crate) fn open(&self, clock: &Arc<dyn Clock>) -> Result<Sources, StartError> {
        // Whoever came first has chosen; every crate of ours chooses the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| StartError::Assembly { why: error.to_string() })?;
        let metrics = match &self.metrics {
            Some(settings) => Some(settings.open(&client, clock)?),
            None => None,
        };
        let mut logs: Vec<Arc<dyn LogSource>> = Vec::new();
        if let Some((url, token)) = &self.simulator_logs {
            let mut access = access(&client, url, "simulator.url")?;
            if let Some(token) = token {
                access = access.with_bearer(SecretString::from(token.expose()));
            }
            logs.push(Arc::new(SimulatorLogs::new(access)));
        }
        if !self.log_files.is_empty() {
            logs.push(Arc::new(FileLogs::new(FileLogsOptions::new(self.log_files.clone()))));
        }
        Ok(Sources { metrics, logs })
    }
}

impl MetricSettings {
    fn open(&self, client: &Client, clock: &Arc<dyn Clock>) -> Result<Arc<dyn MetricSource>, StartError> {
        match self {
            Self::Scrape { urls, interval, history } => {
                let now = Arc::clone(clock);
                let mut options = ScrapeOptions::new(urls.clone());
                (options.interval, options.history) = (*interval, *history);
                let source = ScrapeSource::start(client.clone(), Arc::new(move || now.now()), options);
                let setting = "simulator.metrics_urls";
                let source =
                    source.map_err(|error| StartError::Setting { setting, why: error.to_string() })?;
                Ok(Arc::new(source))
            }
            Self::Prometheus { url } => {
                let access = access(client, url, "infrastructure.monitoring.prometheus.url")?;
                Ok(Arc::new(PrometheusSource::new(access)))
            }
        }
    }
}

fn access(client: &Client, url: &str, setting: &'static str) -> Result<Access, StartError> {
    Access::new(client.clone(), url).map_err(|error| StartError::Setting { setting, why: error.to_string() })
}

impl Sources {
    /// The tools over these sources.
    pub(crate) fn tools(&self, rules: &RuleSet, clock: &Arc<dyn Clock>) -> Result<Tools, StartError> {
        let mut registry = ReadRegistry::new();
        let mut log_tools = Vec::new();
        let mut register = |tool: Arc<dyn ReadTool>| {
            registry.register(tool).map_err(|error| StartError::Assembly { why: error.to_string() })
        };
        if let Some(source) = &self.metrics {
            register(Arc::new(QueryMetrics::new(Arc::clone(source))))?;
            register(system_monitor(Arc::clone(source), rules.reads(), Arc::clone(clock)))?;
        }
        for (index, source) in self.logs.iter().enumerate() {
            // The first source has the usual name; a second one says which it is.
            let name = match index {
                0 => SearchLogs::NAME.to_owned(),
                _ => format!("{}.{}", SearchLogs::NAME, source.name()),
            };
            register(Arc::new(SearchLogs::named(&name, Arc::clone(source))))?;
            log_tools.push(name);
        }
        if !self.logs.is_empty() {
            register(log_analyzer(self.logs.clone(), Arc::clone(clock)))?;
        }
        Ok(Tools { registry, has_metrics: self.metrics.is_some(), log_tools })
    }
}
