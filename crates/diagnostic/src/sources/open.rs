//! Opening sources. Nothing is asked of them yet, so they need not be reachable.

use std::sync::Arc;

use quell_connect::grafana::grafana_tools;
use quell_connect::health::{HealthChecks, HealthTarget};
use quell_connect::logs::{
    ElasticsearchLogs, ElasticsearchOptions, FieldMap, FileLogs, FileLogsOptions, JournalLogs,
    JournalLogsOptions, LogSource, LokiLogs, LokiOptions, SimulatorLogs, SplunkLogs, SplunkOptions,
};
use quell_connect::metrics::{MetricSource, PrometheusSource, ScrapeOptions, ScrapeSource, prometheus_tools};
use quell_connect::platform::{KubernetesOptions, KubernetesPlatform, PlatformSource};
use quell_connect::{Access, Endpoint, Guard, GuardOptions, Now, SourceError};
use quell_service::config::{BaseUrl, Elasticsearch, LogFields, Loki, Splunk};
use quell_service::{Clock, Secret};
use quell_tool::ReadTool;
use reqwest::Client;
use secrecy::SecretString;

use super::{SourceSettings, Sources};
use crate::error::StartError;

const PROMETHEUS: &str = "infrastructure.monitoring.prometheus";
const GRAFANA: &str = "infrastructure.visualization.grafana";
const ELASTICSEARCH: &str = "infrastructure.logging.elasticsearch";
const LOKI: &str = "infrastructure.logging.loki";
const TIME_ZONE: &str = "infrastructure.logging.time_zone";
const SPLUNK: &str = "infrastructure.logging.splunk";
const KUBERNETES: &str = "automation.deployment.kubernetes";
const SIMULATOR: &str = "simulator.url";

impl SourceSettings {
    /// Opens the sources; has to be called in a runtime.
    pub(crate) async fn open(&self, clock: &Arc<dyn Clock>) -> Result<Sources, StartError> {
        // Whoever came first has chosen; every crate of ours chooses the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| StartError::Assembly { why: error.to_string() })?;
        let clock = Arc::clone(clock);
        let now: Now = Arc::new(move || clock.now());
        let mut own_tools = Vec::new();
        let metrics = self.metrics(&client, &now, &mut own_tools)?;
        let health = match self.health_checks.as_slice() {
            [] => None,
            _ => Some(Arc::new(self.health(&client, &now)?)),
        };
        let platform = match &self.kubernetes {
            None => None,
            Some(kubernetes) => {
                let options = KubernetesOptions {
                    kubeconfig: kubernetes.kubeconfig.clone(),
                    namespaces: kubernetes.namespaces.clone(),
                };
                let platform = KubernetesPlatform::open(options, self.guard("kubernetes")).await;
                let platform = platform.map_err(wrong(KUBERNETES))?;
                Some(Arc::new(platform) as Arc<dyn PlatformSource>)
            }
        };
        Ok(Sources { metrics, logs: self.logs(&client)?, health, platform, own_tools })
    }

    fn guard(&self, name: &str) -> Guard {
        Guard::new(name, GuardOptions { timeout: self.timeout, ..GuardOptions::default() })
    }

    fn access(&self, client: &Client, url: &BaseUrl, setting: &'static str) -> Result<Access, StartError> {
        Access::new(client.clone(), url.as_str()).map_err(wrong(setting))
    }

    fn metrics(
        &self,
        client: &Client,
        now: &Now,
        own_tools: &mut Vec<Arc<dyn ReadTool>>,
    ) -> Result<Vec<Arc<dyn MetricSource>>, StartError> {
        let mut metrics: Vec<Arc<dyn MetricSource>> = Vec::new();
        if let Some(scrape) = &self.scrape {
            let mut options = ScrapeOptions::new(scrape.urls.clone());
            (options.interval, options.history) = (scrape.interval, scrape.history);
            let source = ScrapeSource::start(client.clone(), Arc::clone(now), options);
            metrics.push(Arc::new(source.map_err(wrong("simulator.metrics_urls"))?));
        }
        if let Some((url, tenant)) = &self.prometheus {
            let access = self.access(client, url, PROMETHEUS)?.with_tenant(tenant.as_deref());
            let access = access.map_err(wrong(PROMETHEUS))?;
            let endpoint = Endpoint::new(access, self.guard("prometheus"));
            own_tools.extend(prometheus_tools(endpoint.clone()));
            metrics.push(Arc::new(PrometheusSource::new(endpoint)));
        }
        if let Some((url, grafana)) = &self.grafana {
            let mut access = self.access(client, url, GRAFANA)?;
            if let Some(key) = &grafana.api_key {
                access = access.with_bearer(secret(key));
            }
            let endpoint = Endpoint::new(access, self.guard("grafana"));
            own_tools.extend(grafana_tools(&endpoint));
            if let Some(uid) = &grafana.data_source {
                let source = PrometheusSource::through_grafana(&endpoint, uid).map_err(wrong(GRAFANA))?;
                metrics.push(Arc::new(source));
            }
        }
        Ok(metrics)
    }

    fn logs(&self, client: &Client) -> Result<Vec<Arc<dyn LogSource>>, StartError> {
        let usual = self.fields()?;
        let field_map = |fields: &LogFields| {
            let LogFields { time, message, level, service, instance } = fields.clone();
            usual.clone().with(FieldMap { time, message, level, service, instance, zone: usual.zone.clone() })
        };
        let mut logs: Vec<Arc<dyn LogSource>> = Vec::new();
        if let Some((url, token)) = &self.simulator_logs {
            let mut access = self.access(client, url, SIMULATOR)?;
            if let Some(token) = token {
                access = access.with_bearer(secret(token));
            }
            logs.push(Arc::new(SimulatorLogs::new(Endpoint::new(access, self.guard("simulator")))));
        }
        if let Some((url, Elasticsearch { index_pattern, api_key, username, password, fields, .. })) =
            &self.elasticsearch
        {
            let access = self.access(client, url, ELASTICSEARCH)?;
            let access = match api_key {
                Some(key) => access.with_scheme("ApiKey", secret(key)),
                None => basic(access, username.as_deref(), password.as_ref()),
            };
            let options = ElasticsearchOptions {
                fields: field_map(fields),
                ..ElasticsearchOptions::new(index_pattern)
            };
            let endpoint = Endpoint::new(access, self.guard("elasticsearch"));
            let source = ElasticsearchLogs::new(endpoint, options).map_err(wrong(ELASTICSEARCH))?;
            logs.push(Arc::new(source));
        }
        if let Some((url, Loki { token, username, password, tenant, selector, service_label, fields, .. })) =
            &self.loki
        {
            let access =
                self.access(client, url, LOKI)?.with_tenant(tenant.as_deref()).map_err(wrong(LOKI))?;
            let access = match token {
                Some(token) => access.with_bearer(secret(token)),
                None => basic(access, username.as_deref(), password.as_ref()),
            };
            let options = LokiOptions {
                selector: selector.clone(),
                service_label: service_label.clone(),
                fields: field_map(fields),
                ..LokiOptions::default()
            };
            let endpoint = Endpoint::new(access, self.guard("loki"));
            logs.push(Arc::new(LokiLogs::new(endpoint, options).map_err(wrong(LOKI))?));
        }
        if let Some((url, Splunk { api_key, username, password, search, fields, .. })) = &self.splunk {
            let access = self.access(client, url, SPLUNK)?;
            let access = match api_key {
                Some(key) => access.with_bearer(secret(key)),
                None => basic(access, username.as_deref(), password.as_ref()),
            };
            let options = SplunkOptions {
                search: search.clone(),
                fields: field_map(fields),
                ..SplunkOptions::default()
            };
            let endpoint = Endpoint::new(access, self.guard("splunk"));
            logs.push(Arc::new(SplunkLogs::new(endpoint, options).map_err(wrong(SPLUNK))?));
        }
        if !self.log_files.is_empty() {
            let options =
                FileLogsOptions { fields: usual.clone(), ..FileLogsOptions::new(self.log_files.clone()) };
            logs.push(Arc::new(FileLogs::new(options)));
        }
        if !self.journal_files.is_empty() {
            logs.push(Arc::new(JournalLogs::new(JournalLogsOptions::new(self.journal_files.clone()))));
        }
        Ok(logs)
    }

    /// The usual fields, with the zone of times that name none.
    fn fields(&self) -> Result<FieldMap, StartError> {
        match &self.time_zone {
            None => Ok(FieldMap::default()),
            Some(zone) => FieldMap::default().in_zone(zone).map_err(wrong(TIME_ZONE)),
        }
    }

    fn health(&self, client: &Client, now: &Now) -> Result<HealthChecks, StartError> {
        let targets = self.health_checks.iter().map(|check| HealthTarget {
            name: check.name.clone(),
            url: check.url.as_str().to_owned(),
            expected_status: check.expected_status,
            timeout: check.timeout.get(),
            token: check.token.as_ref().map(secret),
        });
        HealthChecks::new(client.clone(), Arc::clone(now), targets.collect())
            .map_err(wrong("diagnostic.health_checks"))
    }
}

fn wrong(setting: &'static str) -> impl Fn(SourceError) -> StartError {
    move |error| StartError::Setting { setting, why: error.to_string() }
}

fn secret(secret: &Secret) -> SecretString {
    SecretString::from(secret.expose())
}

fn basic(access: Access, username: Option<&str>, password: Option<&Secret>) -> Access {
    match (username, password) {
        (Some(username), Some(password)) => access.with_basic(username, secret(password)),
        _ => access,
    }
}
