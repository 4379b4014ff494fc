//! The settings that sources depend on.

use std::path::PathBuf;
use std::time::Duration;

use quell_service::config::{BaseUrl, Elasticsearch, Grafana, HealthCheckEntry, Kubernetes, Loki, Splunk};
use quell_service::{Config, Secret};

use crate::error::StartError;

/// The settings that the sources depend on: while they stay the same over a reload, the sources keep their history and their breakers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SourceSettings {
    pub(super) scrape: Option<Scrape>,
    /// With the tenant, where the server has several.
    pub(super) prometheus: Option<(BaseUrl, Option<String>)>,
    /// With an address.
    pub(super) grafana: Option<(BaseUrl, Grafana)>,
    pub(super) simulator_logs: Option<(BaseUrl, Option<Secret>)>,
    pub(super) elasticsearch: Option<(BaseUrl, Elasticsearch)>,
    pub(super) loki: Option<(BaseUrl, Loki)>,
    pub(super) splunk: Option<(BaseUrl, Splunk)>,
    pub(super) log_files: Vec<PathBuf>,
    /// The zone of times in logs that name none.
    pub(super) time_zone: Option<String>,
    pub(super) journal_files: Vec<PathBuf>,
    pub(super) health_checks: Vec<HealthCheckEntry>,
    pub(super) kubernetes: Option<Kubernetes>,
    pub(super) timeout: Duration,
}

/// How the simulator's exporters are scraped.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scrape {
    pub(super) urls: Vec<String>,
    pub(super) interval: Duration,
    pub(super) history: Duration,
}

impl SourceSettings {
    pub(crate) fn of(config: &Config) -> Result<Self, StartError> {
        let (diagnostic, simulator) = (&config.diagnostic, &config.simulator);
        let infrastructure = &config.infrastructure;
        let (logging, grafana) = (&infrastructure.logging, &infrastructure.visualization.grafana);
        let (real_metrics, real_logs) = (config.has_real_metrics(), config.has_real_logs());
        let kubernetes = &config.automation.deployment.kubernetes;
        let scrape = || Scrape {
            urls: simulator.metrics_urls.iter().map(|url| url.as_str().to_owned()).collect(),
            interval: diagnostic.scrape_interval.get(),
            history: diagnostic.history.get(),
        };
        let settings = Self {
            scrape: (!real_metrics).then(scrape),
            prometheus: infrastructure
                .monitoring
                .prometheus
                .url
                .clone()
                .filter(|_| real_metrics)
                .map(|url| (url, infrastructure.monitoring.prometheus.tenant.clone())),
            grafana: placed(grafana.url.as_ref(), grafana, real_metrics),
            simulator_logs: (!real_logs).then(|| (simulator.url.clone(), simulator.token.clone())),
            elasticsearch: placed(logging.elasticsearch.url.as_ref(), &logging.elasticsearch, real_logs),
            loki: placed(logging.loki.url.as_ref(), &logging.loki, real_logs),
            splunk: placed(logging.splunk.url.as_ref(), &logging.splunk, real_logs),
            log_files: diagnostic.log_files.clone(),
            time_zone: logging.time_zone.clone(),
            journal_files: diagnostic.journal_files.clone(),
            health_checks: diagnostic.health_checks.clone(),
            kubernetes: (config.use_real_data && kubernetes.is_set()).then(|| kubernetes.clone()),
            timeout: diagnostic.source_timeout.get(),
        };
        if !settings.has_metrics() && !settings.has_logs() {
            return Err(StartError::Setting {
                setting: "infrastructure.monitoring.prometheus.url",
                why: "is not set, and neither is any source of logs, while `use_real_data` is true: there is nothing to look at"
                    .to_owned(),
            });
        }
        Ok(settings)
    }

    fn has_metrics(&self) -> bool {
        let through_grafana = self.grafana.as_ref().is_some_and(|(_, grafana)| grafana.data_source.is_some());
        self.scrape.is_some() || self.prometheus.is_some() || through_grafana
    }

    fn has_logs(&self) -> bool {
        let systems = self.elasticsearch.is_some() || self.loki.is_some() || self.splunk.is_some();
        systems
            || self.simulator_logs.is_some()
            || !self.log_files.is_empty()
            || !self.journal_files.is_empty()
    }
}

fn placed<T: Clone>(url: Option<&BaseUrl>, system: &T, is_asked: bool) -> Option<(BaseUrl, T)> {
    url.filter(|_| is_asked).map(|url| (url.clone(), system.clone()))
}
