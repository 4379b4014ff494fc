//! What telemetry has named in an incident: sources and services. It can lower how far Quell goes by itself
//! ([`crate::workflow::Autonomy`]), so nothing is ever taken out again: otherwise whoever sends enough alerts could push a word out of
//! the sample, and raise the level by it.

use crate::alert::Alert;
use crate::ids::SourceName;

/// Services that one incident remembers by name; with more of them it may concern any.
const SERVICES_MAX: usize = 1_000;
/// A longer word is no service's name.
const WORD_BYTES_MAX: usize = 256;
/// Labels whose value may be the name of a service.
const SERVICE_LABELS: [&str; 28] = [
    "service",
    "service_name",
    "service.name",
    "exported_service",
    "app",
    "app_kubernetes_io_name",
    "app.kubernetes.io/name",
    "deployment",
    "statefulset",
    "daemonset",
    "workload",
    "consumergroup",
    "application",
    "app_name",
    "k8s_app",
    "kube_service",
    "kube_deployment",
    "kube_stateful_set",
    "kube_daemon_set",
    "k8s.deployment.name",
    "k8s_deployment_name",
    "k8s.statefulset.name",
    "k8s_statefulset_name",
    "sloth_service",
    "envoy_cluster_name",
    "destination_service_name",
    "destination_workload",
    "peer.service",
];

/// Sources and services that telemetry has named.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Sources are configured, so there are few.
    sources: Vec<SourceName>,
    services: Vec<Box<str>>,
    /// More services were named than are kept.
    more_services: bool,
}

impl Said {
    /// The sources of all alerts that the incident ever had.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(SourceName::as_str)
    }

    /// Whether telemetry named this service, or so many that it may have.
    pub fn may_have_named(&self, service: &str) -> bool {
        self.more_services || self.services.iter().any(|said| same_word(said, service))
    }

    pub(crate) fn add_source(&mut self, source: &SourceName) {
        if !self.sources.contains(source) {
            self.sources.push(source.clone());
        }
    }

    pub(crate) fn add_service(&mut self, service: &str) {
        if service.is_empty() || service.len() > WORD_BYTES_MAX || self.more_services {
            return;
        }
        if let Err(place) = self.services.binary_search_by(|known| (**known).cmp(service)) {
            if self.services.len() >= SERVICES_MAX {
                self.more_services = true;
            } else {
                self.services.insert(place, service.into());
            }
        }
    }

    pub(crate) fn add_alert(&mut self, alert: &Alert) {
        self.add_source(&alert.key.source);
        services_of(alert).for_each(|service| self.add_service(&service));
    }
}

/// The services that an alert names: the one that it is about, and all that its labels may mean by one.
pub(crate) fn services_of(alert: &Alert) -> impl Iterator<Item = String> {
    let named = SERVICE_LABELS.iter().filter_map(|label| alert.labels.get(label));
    let named = named.filter(|value| value.bytes() <= WORD_BYTES_MAX).map(|value| value.for_people());
    named.chain([alert.about().service]).filter(|service| !service.is_empty())
}

/// Whether telemetry's word is a declared name. It only ever lowers a level, so another spelling is no way around it.
pub(crate) fn same_word(said: &str, declared: &str) -> bool {
    said.trim().eq_ignore_ascii_case(declared.trim())
}
