//! Which of an alert's labels are those of the target that was scraped, where that target speaks of others.

use super::{SiteLabels, host};
use crate::alert::{Labels, Untrusted};

/// Whom a target speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Itself, or it is not known to speak of others.
    Itself,
    /// Of the objects of a cluster: kube-state-metrics.
    ClusterState,
    /// Of the containers of its node: cAdvisor, the kubelet.
    Containers,
    /// Of its host.
    Host,
    /// Of jobs that have ended, or of other Prometheus servers' targets.
    Pushed,
    /// Of what `instance` names: a probe.
    Probed,
    /// Of objects that it looks after, named by `name`: cert-manager, Argo CD, Flux.
    Controller,
    /// Of a database, a broker, a proxy, a device, a provider's resources.
    Other,
}

/// Labels in which a target's own name stands.
const MARKERS: [&str; 10] = [
    "job",
    "container",
    "service",
    "component",
    "app",
    "app_kubernetes_io_name",
    "app.kubernetes.io/name",
    "k8s_app",
    "kubernetes_name",
    "exporter",
];
/// Words in a marker, compared with `-` for `_`; the first that fits counts.
const TARGETS: [(Target, &[&str]); 6] = [
    (Target::ClusterState, &["kube-state-metrics", "openshift-state-metrics", "state-metrics"]),
    (Target::Containers, &["cadvisor", "kubelet"]),
    (Target::Pushed, &["pushgateway", "push-gateway"]),
    (Target::Host, &["node-exporter", "nodeexporter", "windows-exporter", "wmi-exporter"]),
    (Target::Probed, &["blackbox", "snmp", "ipmi", "smokeping", "ping-exporter", "ssl-exporter"]),
    (
        Target::Controller,
        &[
            "cert-manager",
            "argocd",
            "argo-cd",
            "kustomize-controller",
            "helm-controller",
            "source-controller",
            "flux",
            "velero",
        ],
    ),
];
/// Words of any other exporter.
const EXPORTERS: [&str; 5] = ["exporter", "cloudwatch", "stackdriver", "telegraf", "vmware"];
/// The like, as a whole part of a name only: they are short.
const EXPORTER_PARTS: [&str; 3] = ["yace", "statsd", "ksm"];
/// Jobs of a host's exporter that are called after the host.
const HOST_JOBS: [&str; 8] =
    ["node", "nodes", "windows", "host", "hosts", "linux", "servers", "node-metrics"];

/// What the operator, a chart or a service discovery puts on everything that a target says.
const OF_THE_SCRAPE: [&str; 14] = [
    "instance",
    "job",
    "endpoint",
    "metrics_path",
    "kubernetes_name",
    "kubernetes_namespace",
    "kubernetes_node",
    "kubernetes_pod_name",
    "release",
    "chart",
    "heritage",
    "helm_sh_chart",
    "pod_template_hash",
    "controller_revision_hash",
];

/// What a scrape renames when the target says it itself, unless `honor_labels` is set.
const RENAMED: [(&str, &str); 8] = [
    ("pod", "exported_pod"),
    ("namespace", "exported_namespace"),
    ("instance", "exported_instance"),
    ("service", "exported_service"),
    ("container", "exported_container"),
    ("node", "exported_node"),
    ("job", "exported_job"),
    ("name", "exported_name"),
];

/// Labels of objects that live in a namespace: with one of them the namespace is the object's.
const NAMESPACED: [&str; 17] = [
    "deployment",
    "statefulset",
    "daemonset",
    "replicaset",
    "replicationcontroller",
    "job_name",
    "cronjob",
    "horizontalpodautoscaler",
    "hpa",
    "scaledobject",
    "poddisruptionbudget",
    "persistentvolumeclaim",
    "ingress",
    "resourcequota",
    "configmap",
    "secret",
    "workload",
];

/// The name under which a scrape keeps what the target itself says.
pub(super) fn renamed(name: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(own, _)| *own == name).map(|(_, renamed)| *renamed)
}

/// Which names an alert's labels may have, by a trace of each name. Hundreds of names are asked for and an alert has ten: without this,
/// looking them up took a quarter of the CPU of receiving alerts.
#[derive(Clone, Copy, Default)]
struct Present([u64; 4]);

impl Present {
    fn of(labels: &Labels) -> Self {
        let mut present = Self::default();
        for (name, _) in labels.iter() {
            let (word, bit) = trace(name);
            if let Some(word) = present.0.get_mut(word) {
                *word |= bit;
            }
        }
        present
    }

    fn may_have(&self, name: &str) -> bool {
        let (word, bit) = trace(name);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// One bit of 256, by a name's length, its first and its last letter.
fn trace(name: &str) -> (usize, u64) {
    let bytes = name.as_bytes();
    let letter = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or_default());
    let place = bytes.len() ^ (letter(bytes.first()) * 5) ^ (letter(bytes.last()) * 17);
    ((place >> 6) & 3, 1 << (place & 63))
}

/// An alert's labels, and which of them are the messenger's.
pub(super) struct Scrape<'a> {
    labels: &'a Labels,
    present: Present,
    site: &'a SiteLabels,
    pub(super) target: Target,
    pub(super) alert_name: String,
    /// The alert's name in lower case, the target's own names and where it is, each on a line: looked through for the words of many
    /// systems.
    alert_name_lower: String,
    markers: String,
    places: String,
    is_renamed: bool,
    pod_is_targets: bool,
    namespace_is_targets: bool,
}

impl<'a> Scrape<'a> {
    pub(super) fn of(labels: &'a Labels, site: &'a SiteLabels) -> Self {
        let alert_name = labels.get("alertname").map(|name| name.for_people()).unwrap_or_default();
        let present = Present::of(labels);
        let mut scrape = Self {
            labels,
            site,
            target: Target::Itself,
            alert_name_lower: alert_name.to_lowercase(),
            alert_name,
            markers: lines(labels, &MARKERS),
            places: lines(labels, &["instance", "namespace"]),
            is_renamed: RENAMED
                .iter()
                .any(|(_, renamed)| present.may_have(renamed) && labels.get(renamed).is_some()),
            present,
            pod_is_targets: false,
            namespace_is_targets: false,
        };
        // An alert on a target itself: it is down, missing, or cannot be read.
        let of_target = ["Target", "Exporter", "InstanceDown", "Scrape", "StateMetrics", "JobMissing"];
        if of_target.iter().any(|word| scrape.alert_name.contains(word)) && !scrape.is_renamed {
            return scrape;
        }
        scrape.target = scrape.target_of();
        scrape.pod_is_targets = scrape.pod_is_targets();
        scrape.namespace_is_targets = scrape.namespace_is_targets();
        scrape
    }

    fn label(&self, name: &str) -> Option<Untrusted<'a>> {
        if self.present.may_have(name) { self.labels.get(name) } else { None }
    }

    /// A label as it stands, for people.
    pub(super) fn raw(&self, name: &str) -> Option<String> {
        self.label(name).map(|value| value.for_people())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.label(name).is_some()
    }

    /// A label as far as it is the patient's.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let was_renamed = || renamed(name).and_then(|renamed| self.label(renamed));
        let value = match self.is_renamed.then(was_renamed).flatten() {
            Some(value) => value.for_people(),
            None => self.label(name).filter(|_| !self.is_exporters(name))?.for_people(),
        };
        // What cAdvisor writes for a pod's own sandbox names no container, and some templates write that there is nothing.
        (!value.trim().is_empty() && !matches!(value.as_str(), "POD" | "null" | "<no value>" | "<none>"))
            .then_some(value)
    }

    /// The first of these labels that is there and the patient's.
    pub(super) fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.get(name))
    }

    /// The value of the first label whose name begins so.
    pub(super) fn first_with_prefix(&self, prefix: &str) -> Option<String> {
        let found = self.labels.iter().find(|(name, value)| name.starts_with(prefix) && value.bytes() > 0);
        found.map(|(_, value)| value.for_people())
    }

    /// The value of the first of these names that a label has but for its case, its separators and this word before it.
    pub(super) fn first_alike(&self, names: &[&str], prefix: &str) -> Option<String> {
        let letters = |name: &str| -> String {
            name.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
        };
        let labels: &'a Labels = self.labels;
        let has_value = labels.iter().filter(|(_, value)| value.bytes() > 0);
        let own = |label: &'a str| {
            let all = letters(label);
            let rest = all.strip_prefix(prefix).map(str::to_owned);
            (all, rest, label)
        };
        let labels: Vec<_> = has_value.map(|(label, _)| own(label)).collect();
        names.iter().find_map(|name| {
            let found = labels.iter().find(|(all, rest, _)| all == name || rest.as_deref() == Some(*name));
            found.and_then(|(_, _, label)| self.get(label))
        })
    }

    /// Whether the label is the messenger's.
    pub(super) fn is_exporters(&self, name: &str) -> bool {
        if self.target == Target::Itself && !self.is_renamed {
            return false;
        }
        match name {
            "pod" | "pod_name" => self.pod_is_targets,
            "namespace" => self.namespace_is_targets,
            "container" => self.is_renamed || self.pod_is_targets || self.value_names_target(name),
            "service" | "component" | "app" | "k8s_app" => {
                let by_chart = name == "app" && self.has("chart");
                (self.is_renamed && name == "service") || by_chart || self.value_names_target(name)
            }
            "instance" => self.is_renamed || self.instance_is_targets(),
            "kubernetes_node" => self.is_renamed || self.target == Target::ClusterState,
            "node" => self.is_renamed && self.has("exported_node"),
            // Honoured, it is the job that pushed.
            "job" if self.target == Target::Pushed => self.is_renamed || self.value_names_target(name),
            "job" if self.target == Target::Controller => self.is_renamed,
            other => OF_THE_SCRAPE.contains(&other) || other.starts_with("app_kubernetes_io_"),
        }
    }

    fn target_of(&self) -> Target {
        // The job says most: a kubelet speaks of the container of kube-state-metrics as of any other.
        let by_job = self.raw("job").map(|job| plain(&job));
        if by_job.as_ref().is_some_and(|job| job.contains("kubelet") || job.contains("cadvisor"))
            || self.raw("metrics_path").is_some_and(|path| path.contains("cadvisor"))
        {
            return Target::Containers;
        }
        let values = self.markers.as_str();
        let says = |words: &[&str]| words.iter().any(|word| values.contains(word));
        if let Some((target, _)) = TARGETS.iter().find(|(_, words)| says(words)) {
            return *target;
        }
        let has_part = |part: &str| values.split(['-', '\n']).any(|own| own == part);
        if has_part("ksm") {
            return Target::ClusterState;
        }
        if by_job.is_some_and(|job| HOST_JOBS.contains(&job.as_str())) {
            return Target::Host;
        }
        let at_exporter = || self.raw("instance").is_some_and(|instance| names_exporter(host(&instance)));
        if self.raw("instance").is_some_and(|instance| plain(&instance).contains("pushgateway")) {
            return Target::Pushed;
        }
        let site = || self.site.exporters.iter().any(|word| values.contains(plain(word).as_str()));
        if says(&EXPORTERS) || EXPORTER_PARTS.iter().any(|part| has_part(part)) || site() || at_exporter() {
            return Target::Other;
        }
        Target::Itself
    }

    /// Whether the target is an exporter with one of these words in its name.
    pub(super) fn exporter_is_called(&self, words: &[&str]) -> bool {
        let has_word = |name: &&str| {
            let value = self.raw(name).map(|value| plain(&value)).unwrap_or_default();
            words.iter().any(|word| value.contains(word))
        };
        self.target == Target::Other && MARKERS.iter().chain(&["instance"]).any(has_word)
    }

    /// Whether the target, whatever it is, has one of these words in its names.
    pub(super) fn target_is_called(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.markers.contains(word) || self.places.contains(word))
    }

    /// Whether the alert's name has one of these words in it, in any case.
    pub(super) fn alert_is_called(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.alert_name_lower.contains(word))
    }

    /// Whether a label's value is the target's own name.
    fn value_names_target(&self, name: &str) -> bool {
        let Some(value) = self.raw(name).map(|value| plain(&value)) else { return false };
        let is_job = || self.raw("job").is_some_and(|job| plain(&job) == value);
        names_exporter(&value)
            || self.site.exporters.iter().any(|word| value.contains(plain(word).as_str()))
            || (name != "job" && !matches!(self.target, Target::Itself | Target::Controller) && is_job())
            || (self.target != Target::Itself && (value.ends_with("-metrics") || value == "metrics"))
            || (self.target == Target::Containers && value.ends_with("kubelet"))
            || (self.target == Target::Controller && name == "container")
    }

    fn pod_is_targets(&self) -> bool {
        if self.is_renamed {
            return true;
        }
        let Some(pod) = self.raw("pod").map(|pod| plain(&pod)) else { return self.target == Target::Host };
        let of_pods = ["Pod", "Container"].iter().any(|word| self.alert_name.contains(word));
        match self.target {
            Target::Itself | Target::Containers => false,
            Target::Host | Target::Pushed | Target::Probed => true,
            Target::Controller => self.has("name") || self.has("schedule"),
            Target::ClusterState => {
                let other = NAMESPACED.iter().any(|name| self.has(name)) || self.is_of_node();
                other || (names_exporter(&pod) && !of_pods)
            }
            Target::Other => {
                let at_exporter =
                    self.raw("instance").is_some_and(|instance| names_exporter(host(&instance)));
                names_exporter(&pod) || at_exporter
            }
        }
    }

    fn namespace_is_targets(&self) -> bool {
        if self.is_renamed {
            return true;
        }
        match self.target {
            Target::Itself | Target::Controller | Target::Pushed => false,
            Target::Containers => !self.has("pod") && !self.has("persistentvolumeclaim"),
            Target::Host | Target::Probed => true,
            Target::Other => self.pod_is_targets || self.has("endpoint") && !self.has("pod"),
            Target::ClusterState => {
                let namespaced = NAMESPACED.iter().any(|name| self.has(name));
                let of_namespace = ["Quota", "Namespace"].iter().any(|word| self.alert_name.contains(word));
                !namespaced && !of_namespace && (self.pod_is_targets || self.is_of_node())
            }
        }
    }

    fn instance_is_targets(&self) -> bool {
        match self.target {
            Target::Itself | Target::Host | Target::Probed => false,
            Target::ClusterState | Target::Controller => true,
            Target::Pushed => self.raw("instance").is_some_and(|instance| names_exporter(host(&instance))),
            // Without any other name it says which node.
            Target::Containers => ["pod", "persistentvolumeclaim", "node", "name", "container_name"]
                .iter()
                .any(|name| self.has(name)),
            Target::Other => {
                let at_exporter =
                    self.raw("instance").is_some_and(|instance| names_exporter(host(&instance)));
                at_exporter || self.raw("pod").is_some_and(|pod| names_exporter(&plain(&pod)))
            }
        }
    }

    /// Whether it is about a node, and a pod in it is only where that was told.
    pub(super) fn is_of_node(&self) -> bool {
        self.has("node") && ["Node", "Kubelet"].iter().any(|word| self.alert_name.contains(word))
    }
}

/// Whether a name is that of an exporter.
pub(super) fn names_exporter(name: &str) -> bool {
    let name = plain(name);
    let named =
        TARGETS.iter().filter(|(target, _)| *target != Target::Controller).flat_map(|(_, words)| *words);
    named.chain(&EXPORTERS).any(|word| name.contains(word))
        || name.split('-').any(|part| EXPORTER_PARTS.contains(&part))
}

/// The values of these labels in one text, each on a line: many alerts a second are looked at.
fn lines(labels: &Labels, names: &[&str]) -> String {
    let mut lines = String::new();
    for value in names.iter().filter_map(|name| labels.get(name)) {
        lines.push_str(&plain(&value.for_people()));
        lines.push('\n');
    }
    lines
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}
