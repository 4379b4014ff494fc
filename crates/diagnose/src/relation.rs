//! Whether a candidate has to do with what the alerts speak of.

use std::collections::{BTreeMap, BTreeSet};

use quell_incident::about::{About, InCluster};
use quell_incident::contract::IncidentBrief;
use quell_incident::report::Subject;

use crate::candidate::{Candidate, Cited};
use crate::gathered::{Evidences, host};

/// Labels that say what a series is about, as opposed to how bad it is or who collected it.
const IDENTITY_LABELS: [&str; 17] = [
    "app",
    "consumergroup",
    "container",
    "database",
    "deployment",
    "device",
    "domain",
    "host",
    "hostname",
    "instance",
    "node",
    "pod",
    "server",
    "service",
    "target",
    "topic",
    "upstream",
];
/// What stands for "no instance" in an incident.
const UNKNOWN: &str = "unknown";

/// What the alerts of an incident name, each with the clusters in which they say that it is: what has the same name in another one is
/// another thing.
pub(crate) struct Concern {
    names: BTreeMap<String, BTreeSet<InCluster>>,
    components: BTreeMap<String, BTreeSet<InCluster>>,
}

/// The name of an object of a cluster, without its namespace.
fn object(system: &str) -> Option<&str> {
    system.split_once('/').map(|(_, object)| object).filter(|_| !system.contains("://"))
}

impl Concern {
    pub(crate) fn of(incident: &IncidentBrief) -> Self {
        let mut concern = Self { names: BTreeMap::new(), components: BTreeMap::new() };
        let labels = incident.alerts.iter().map(|alert| &alert.labels).chain([&incident.labels]);
        for labels in labels {
            // What an exporter says of itself names nothing that is broken.
            let about = About::of(labels);
            let cluster = About::in_cluster(labels);
            for name in about.names(labels) {
                concern.names.entry(host(&name).to_owned()).or_default().insert(cluster.clone());
            }
            if !about.component.is_empty() {
                concern.components.entry(about.component).or_default().insert(cluster);
            }
        }
        for system in &incident.affected_systems {
            let names = [Some(host(system)), object(system)];
            for name in names.into_iter().flatten() {
                // One that no alert names any more is wherever it may be.
                let is_new = !concern.names.contains_key(name);
                if is_new {
                    concern.names.insert(name.to_owned(), BTreeSet::from([InCluster::default()]));
                }
            }
        }
        concern.names.remove(UNKNOWN);
        concern.names.remove("");
        concern
    }

    /// Whether the alerts name this service or host.
    pub(crate) fn names(&self, name: &str) -> bool {
        !name.is_empty() && self.names.contains_key(host(name))
    }

    /// Whether the alerts are about the component that the candidate's rule is for.
    pub(crate) fn has_component_of(&self, candidate: &Candidate) -> bool {
        candidate.components.iter().any(|component| self.components.contains_key(component))
    }

    /// Whether the candidate's subject, its evidence or its component is named by the alerts, in a cluster in which it may be. Alerts
    /// that name nothing exclude nothing.
    pub(crate) fn includes(&self, candidate: &Candidate, evidences: &Evidences) -> bool {
        if self.names.is_empty() && self.components.is_empty() {
            return true;
        }
        let Subject { service, instance, part } = &candidate.subject;
        let clusters = clusters_of(candidate, evidences);
        let is_in = |places: &BTreeSet<InCluster>, cluster: &InCluster| {
            places.iter().any(|place| place.may_be(cluster))
        };
        let named_in = |text: &str, cluster: &InCluster| {
            !text.is_empty() && self.names.get(host(text)).is_some_and(|places| is_in(places, cluster))
        };
        let named = |text: &str| clusters.iter().any(|cluster| named_in(text, cluster));
        let is_component = |component: &String| {
            let places = self.components.get(component);
            places.is_some_and(|places| clusters.iter().any(|cluster| is_in(places, cluster)))
        };
        named(service)
            || named(instance)
            || named(part)
            || candidate.components.iter().any(is_component)
            || candidate.drafts.iter().flat_map(|draft| &draft.cited).any(|cited| match cited {
                Cited::Series(index) => evidences.series.get(*index).is_some_and(|series| {
                    let cluster = InCluster::read(|label| series.label(label));
                    let labels = IDENTITY_LABELS.iter().filter_map(|label| series.label(label));
                    labels.into_iter().any(|name| named_in(name, &cluster))
                }),
                Cited::Item(index) => evidences.around.items.get(*index).is_some_and(|item| {
                    let cluster = InCluster::read(|label| item.labels.get(label));
                    let labels = IDENTITY_LABELS.iter().filter_map(|label| item.labels.get(*label));
                    labels.into_iter().any(|name| named_in(name, &cluster))
                }),
                Cited::Lines { fault, .. } => fault
                    .iter()
                    .filter_map(|index| evidences.lines.get(*index))
                    .any(|line| named(&line.service) || named(&line.instance)),
            })
    }
}

/// The clusters that a candidate's evidence speaks of; one that is not known where none of it says any.
fn clusters_of(candidate: &Candidate, evidences: &Evidences) -> BTreeSet<InCluster> {
    let cited = candidate.drafts.iter().flat_map(|draft| &draft.cited);
    let read = cited.filter_map(|cited| match cited {
        Cited::Series(index) => {
            evidences.series.get(*index).map(|series| InCluster::read(|label| series.label(label)))
        }
        Cited::Item(index) => {
            evidences.around.items.get(*index).map(|item| InCluster::read(|label| item.labels.get(label)))
        }
        Cited::Lines { .. } => None,
    });
    let mut clusters: BTreeSet<InCluster> = read.filter(|cluster| !cluster.is_unknown()).collect();
    if clusters.is_empty() {
        clusters.insert(InCluster::default());
    }
    clusters
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use quell_incident::IncidentId;
    use quell_incident::alert::Labels;
    use quell_incident::evidence::{EvidenceSet, Series, SeriesSet};
    use quell_incident::severity::{Priority, Severity};

    use super::*;
    use crate::candidate::Draft;
    use crate::rules::RuleSet;
    use crate::series::Window;

    fn labels(text: &str) -> Labels {
        text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect()
    }

    fn brief(text: &str) -> IncidentBrief {
        let labels = labels(text);
        let affected_systems = vec![About::of(&labels).name];
        IncidentBrief {
            id: IncidentId(uuid::Uuid::from_u128(7)),
            title: "A".to_owned(),
            alert_name: "A".to_owned(),
            priority: Priority::P1,
            severity: Severity::High,
            affected_systems,
            started_at: Timestamp::UNIX_EPOCH,
            alerts: Vec::new(),
            labels,
        }
    }

    fn candidate(subject: Subject, components: &[&str], cited: Vec<Cited>) -> Candidate {
        let draft = Draft { by: String::new(), statement: String::new(), cited };
        Candidate {
            cause: "c".to_owned(),
            subject,
            statement: String::new(),
            groups: BTreeMap::new(),
            unseen: BTreeSet::new(),
            silent: BTreeSet::new(),
            drafts: vec![draft],
            onset: None,
            components: components.iter().map(|one| (*one).to_owned()).collect(),
            recommended_actions: Vec::new(),
        }
    }

    /// By an alert's labels, a series' labels and a component of the rule: whether they speak of one thing.
    #[test]
    fn the_same_name_in_another_cluster_is_another_thing() {
        for (alert, series, component, related) in [
            ("namespace=shop pod=cart-1 cluster=eu", "namespace=shop pod=cart-1 cluster=eu", "", true),
            ("namespace=shop pod=cart-1 cluster=eu", "namespace=shop pod=cart-1 cluster=us", "", false),
            ("namespace=shop pod=cart-1 cluster=eu", "namespace=shop pod=cart-1", "", true),
            ("namespace=shop pod=cart-1", "namespace=shop pod=cart-1 cluster=us", "", true),
            (
                "namespace=shop pod=cart-1 cluster=eu",
                "namespace=shop pod=cart-1 k8s_cluster_name=us",
                "",
                false,
            ),
            (
                "namespace=shop pod=cart-1 cluster=eu",
                "namespace=shop pod=cart-1 k8s.cluster.name=EU",
                "",
                true,
            ),
            (
                "k8s.namespace.name=shop k8s.pod.name=cart-1 k8s.cluster.name=eu",
                "pod=cart-1 cluster=us",
                "",
                false,
            ),
            (
                "deployment=cart namespace=shop kubernetes_cluster=eu",
                "deployment=cart cluster_name=us",
                "",
                false,
            ),
            (
                "deployment=cart namespace=shop kubernetes_cluster=eu",
                "deployment=cart cluster_name=eu",
                "",
                true,
            ),
            ("pod=cart-1 namespace=shop cluster_id=11", "pod=cart-1 openshift_cluster_id=22", "", false),
            ("pod=cart-1 namespace=shop cluster_id=11", "pod=cart-1 clusterID=11 cluster=us", "", true),
            // A name and an id cannot be compared.
            ("pod=cart-1 namespace=shop cluster=eu", "pod=cart-1 cluster_id=22", "", true),
            ("node=w1 cluster=eu", "node=w1 cluster=us", "", false),
            ("service=cart cluster=eu", "service=cart cluster=us", "", false),
            ("service=cart cluster=eu component=db", "instance=db-1 cluster=us", "db", false),
            ("service=cart cluster=eu component=db", "instance=db-1 cluster=eu", "db", true),
            ("service=cart cluster=eu component=db", "instance=db-1", "db", true),
            ("service=cart cluster=eu", "service=mail cluster=eu", "", false),
        ] {
            let of_series = Series { metric: "up".to_owned(), labels: labels(series), points: points() };
            let set = SeriesSet { series: vec![of_series], ..SeriesSet::default() };
            let evidence = EvidenceSet { metrics: vec![set], ..EvidenceSet::default() };
            let window = Window { started_at: Timestamp::UNIX_EPOCH, reference: Timestamp::UNIX_EPOCH };
            let evidences = Evidences::gather(&evidence, &RuleSet::empty(), window);
            assert_eq!(evidences.series.len(), 1, "{series}");
            let label = |name: &str| evidences.series[0].label(name).unwrap_or_default().to_owned();
            let subject =
                Subject { service: label("service"), instance: label("instance"), part: String::new() };
            let components: Vec<&str> = [component].into_iter().filter(|one| !one.is_empty()).collect();
            let concern = Concern::of(&brief(&format!("alertname=A {alert}")));
            for subject in [subject, Subject::default()] {
                let candidate = candidate(subject, &components, vec![Cited::Series(0)]);
                assert_eq!(concern.includes(&candidate, &evidences), related, "{alert} and {series}");
            }
            // Without any evidence that says where it is, a name is a name.
            let named = Subject { service: "cart".to_owned(), ..Subject::default() };
            let told = concern.includes(&candidate(named, &[], Vec::new()), &evidences);
            assert_eq!(told, concern.names("cart"), "{alert}");
        }
    }

    fn points() -> Vec<quell_incident::evidence::Point> {
        vec![quell_incident::evidence::Point { at: Timestamp::UNIX_EPOCH, value: 1.0 }]
    }
}
