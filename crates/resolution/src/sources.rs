//! Where the samples for verification come from: the simulator's pages, or a Prometheus.

use std::sync::Arc;

use quell_connect::Access;
use quell_connect::metrics::{MetricSource, PrometheusSource, QueryMetrics, ScrapeOptions, ScrapeSource};
use quell_service::{Clock, Config};
use quell_tool::ReadRegistry;

use crate::error::StartError;

/// The settings that the source depends on: when they stay the same over a reload, so does the source with its history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SourceSettings {
    Scrape { urls: Vec<String>, interval: std::time::Duration, history: std::time::Duration },
    Prometheus { url: String, tenant: Option<String> },
}

impl SourceSettings {
    pub(crate) fn of(config: &Config) -> Result<Self, StartError> {
        // What is verified is read where the diagnosis reads it.
        if !config.has_real_metrics() {
            let urls = config.simulator.metrics_urls.iter().map(|url| url.as_str().to_owned()).collect();
            let (interval, history) =
                (config.diagnostic.scrape_interval.get(), config.diagnostic.history.get());
            return Ok(Self::Scrape { urls, interval, history });
        }
        let prometheus = &config.infrastructure.monitoring.prometheus;
        match &prometheus.url {
            Some(url) => Ok(Self::Prometheus { url: url.as_str().to_owned(), tenant: prometheus.tenant.clone() }),
            None => Err(StartError::Setting {
                setting: "infrastructure.monitoring.prometheus.url",
                why: "is not set, and metrics are not the simulator's (`use_real_data`, `diagnostic.sources`): without a source of \
                      metrics nothing can be verified"
                    .to_owned(),
            }),
        }
    }

    /// Opens the source and registers the tool that asks it; has to be called in a runtime.
    pub(crate) fn open(&self, clock: &Arc<dyn Clock>) -> Result<ReadRegistry, StartError> {
        // Whoever came first has chosen; every crate of ours chooses the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let assembly = |why: String| StartError::Assembly { why };
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| assembly(error.to_string()))?;
        let source: Arc<dyn MetricSource> = match self {
            Self::Scrape { urls, interval, history } => {
                let now = Arc::clone(clock);
                let mut options = ScrapeOptions::new(urls.clone());
                (options.interval, options.history) = (*interval, *history);
                let source = ScrapeSource::start(client, Arc::new(move || now.now()), options);
                let setting = "simulator.metrics_urls";
                Arc::new(source.map_err(|error| StartError::Setting { setting, why: error.to_string() })?)
            }
            Self::Prometheus { url, tenant } => {
                let setting = "infrastructure.monitoring.prometheus.url";
                let access =
                    Access::new(client, url).and_then(|access| access.with_tenant(tenant.as_deref()));
                let access =
                    access.map_err(|error| StartError::Setting { setting, why: error.to_string() })?;
                Arc::new(PrometheusSource::new(access))
            }
        };
        let mut tools = ReadRegistry::new();
        tools.register(Arc::new(QueryMetrics::new(source))).map_err(|error| assembly(error.to_string()))?;
        Ok(tools)
    }
}
