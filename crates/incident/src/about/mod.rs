//! What an alert is about, by the kind of its labels: the one place that says so. Titles, affected systems, correlation, tags and the
//! diagnosis take it from here.
//!
//! An alert carries labels of two origins: those of the condition, and those that the scrape gave to everything that one target said
//! (`instance`, `job`, in Kubernetes also `pod`, `container`, `service`, `namespace`). Where the target speaks of others, as
//! kube-state-metrics, cAdvisor, a probe or a database's exporter do, the latter name the messenger and not the patient: `scrape`
//! tells which they are. Of the rest `choose` takes the label that says most.

mod choose;
mod cluster;
mod named;
mod names;
mod pods;
mod scrape;

use crate::alert::Labels;
pub use cluster::InCluster;

/// What a site knows better: labels that name what is broken, and jobs that speak of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteLabels {
    /// Labels whose value is the subject, the most telling first; before all that are known here.
    pub subject_labels: Vec<String>,
    /// Words in a `job`, `container` or `service` that say: this target is an exporter.
    pub exporters: Vec<String>,
}

/// The kind of what an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A machine of a cluster, or any host.
    Host,
    /// A pod of Kubernetes.
    Pod,
    /// A deployment, stateful set, daemon set or what else makes pods.
    Workload,
    /// A job or cron job.
    Job,
    /// A claim or volume.
    Volume,
    /// Another object of a cluster: an autoscaler, a budget, a certificate, an application.
    Object,
    /// A container without a pod.
    Container,
    /// A group of consumers.
    ConsumerGroup,
    /// A queue or topic.
    Queue,
    /// One server behind a proxy, or a whole backend.
    Backend,
    /// A service, by whatever name.
    Service,
    /// A database.
    Database,
    /// An address that is probed.
    Address,
    /// What a provider of clouds runs.
    CloudResource,
    /// A namespace as a whole.
    Namespace,
    /// A cluster as a whole.
    Cluster,
    /// What a site's own label names.
    Own,
    /// None of the labels says.
    Nothing,
}

impl Kind {
    /// Its word for tags; empty when there is none.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Pod => "pod",
            Self::Workload => "workload",
            Self::Job => "job",
            Self::Volume => "volume",
            Self::Object => "object",
            Self::Container => "container",
            Self::ConsumerGroup => "consumer-group",
            Self::Queue => "queue",
            Self::Backend => "backend",
            Self::Service => "service",
            Self::Database => "database",
            Self::Address => "address",
            Self::CloudResource => "cloud",
            Self::Namespace => "namespace",
            Self::Cluster => "cluster",
            Self::Own | Self::Nothing => "",
        }
    }
}

/// What an alert is about. All text in it is telemetry's, for people and for comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Of which kind.
    pub kind: Kind,
    /// The affected system: `shop/checkout-6c9f-x2x4z`, `worker-2`, `https://shop.example.org/health`; empty for [`Kind::Nothing`].
    pub name: String,
    /// Which part of it: a topic, a mount point, a database; empty without one.
    pub part: String,
    /// The service that the labels name, empty without one.
    pub service: String,
    /// The component that the labels name, empty without one.
    pub component: String,
    /// The workload that it is, or is a pod of, with its namespace and cluster: what one crash is one incident by.
    pub workload: Option<String>,
    /// Names of labels that are the messenger's.
    exporters: Vec<Box<str>>,
}

/// Labels that say which thing is meant, as opposed to how bad it is or who collected it.
const IDENTITY_LABELS: [&str; 30] = [
    "app",
    "consumergroup",
    "container",
    "container_name",
    "cronjob",
    "daemonset",
    "database",
    "datname",
    "deployment",
    "device",
    "domain",
    "host",
    "host.name",
    "hostname",
    "instance",
    "job_name",
    "k8s.deployment.name",
    "k8s.node.name",
    "k8s.pod.name",
    "node",
    "nodename",
    "persistentvolumeclaim",
    "pod",
    "server",
    "service",
    "service.name",
    "statefulset",
    "target",
    "topic",
    "upstream",
];

impl About {
    /// Reads it from an alert's labels, as they are known everywhere.
    pub fn of(labels: &Labels) -> Self {
        Self::with(labels, &SiteLabels::default())
    }

    /// Reads it from an alert's labels and what a site knows of them.
    pub fn with(labels: &Labels, site: &SiteLabels) -> Self {
        let scrape = scrape::Scrape::of(labels, site);
        let chosen = choose::Chooser { scrape: &scrape, site }.choose();
        Self {
            service: scrape.first(names::SERVICE).unwrap_or_default(),
            component: scrape.get("component").unwrap_or_default(),
            workload: chosen.workload,
            kind: chosen.kind,
            name: chosen.name,
            part: chosen.part,
            exporters: labels
                .iter()
                .map(|(name, _)| name)
                .filter(|name| scrape.is_exporters(name))
                .map(Into::into)
                .collect(),
        }
    }

    /// Whether the alert's label of this name is the messenger's and says nothing of the patient.
    pub fn is_exporters(&self, label: &str) -> bool {
        self.exporters.iter().any(|name| **name == *label)
    }

    /// The value of a label as far as it is the patient's: `pod` is `exported_pod` where the scrape renamed it, and nothing where it is
    /// the exporter's pod.
    pub fn label(&self, labels: &Labels, name: &str) -> Option<String> {
        let renamed = scrape::renamed(name).and_then(|renamed| labels.get(renamed));
        let own = || labels.get(name).filter(|_| !self.is_exporters(name));
        renamed.or_else(own).map(|value| value.for_people())
    }

    /// Every name by which the labels know the patient: hosts without their ports, objects without their namespaces.
    pub fn names(&self, labels: &Labels) -> Vec<String> {
        let of_labels = IDENTITY_LABELS.iter().filter_map(|name| self.label(labels, name));
        let mut names: Vec<String> = of_labels.map(|value| host(&value).to_owned()).collect();
        if !self.name.is_empty() {
            names.push(self.name.clone());
            if let Some((_, object)) = self.name.split_once('/').filter(|_| !self.name.contains("://")) {
                names.push(object.to_owned());
            }
        }
        names.extend(
            self.workload.as_deref().and_then(|workload| workload.rsplit('/').next()).map(str::to_owned),
        );
        names.retain(|name| !name.is_empty());
        names
    }

    /// In which cluster it is, as far as the labels say.
    pub fn in_cluster(labels: &Labels) -> InCluster {
        InCluster::read(|name| labels.get(name).map(|value| value.for_people()))
    }

    /// The subject with its part, as a title ends: `billing (orders)`; empty when none of the labels says.
    pub fn words(&self) -> String {
        match (self.name.as_str(), self.part.as_str()) {
            ("", _) => String::new(),
            (name, "") => name.to_owned(),
            (name, part) => format!("{name} ({part})"),
        }
    }
}

/// An address without its port: `[::1]:9090` and `host:9090` lose it, `::1` has none. An address with a scheme that people open stays
/// whole; of any other (`redis://cache-1:6379`) the host is meant.
pub fn host(address: &str) -> &str {
    let address = match address.split_once("://") {
        Some(("http" | "https", _)) => return address,
        Some((scheme, rest))
            if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            let rest = rest.split(['/', '?', ',']).next().unwrap_or(rest);
            // What stands before an @ is a user and their password.
            rest.rsplit('@').next().unwrap_or(rest)
        }
        _ => address,
    };
    match address.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => address,
    }
}
