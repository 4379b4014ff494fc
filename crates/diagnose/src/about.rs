//! What a series is about. A scraper adds labels of its own, and where a target has the same names Prometheus keeps the target's as
//! `exported_pod` and so on, unless it was told to honour them. An exporter that speaks of others must not be taken for the patient.

use std::collections::BTreeMap;

/// What Prometheus puts before a label of the target's that the scrape has as well.
const EXPORTED: &str = "exported_";
/// Labels that a scrape on Kubernetes adds: they name the exporter.
const SCRAPES: [&str; 8] =
    ["instance", "job", "service", "endpoint", "namespace", "pod", "container", "node"];
/// Objects of Kubernetes that belong to no namespace.
const OF_NO_NAMESPACE: [&str; 3] = ["kube_node_", "kube_persistentvolume_", "kube_storageclass_"];
type Labels = BTreeMap<String, String>;

/// The labels of a series that say what it is about, under their usual names.
pub(crate) fn labels(metric: &str, own: &Labels) -> Labels {
    let mut labels = own.clone();
    let exported: Vec<String> =
        own.keys().filter_map(|name| name.strip_prefix(EXPORTED)).map(str::to_owned).collect();
    for name in &exported {
        if let Some(value) = labels.remove(&format!("{EXPORTED}{name}")) {
            labels.insert(name.clone(), value);
        }
    }
    if metric.starts_with("kube_") {
        let is_own = |name: &str| exported.iter().any(|one| one == name);
        let is_objects = |name: &str| exported.is_empty() && belongs_to_object(metric, name);
        labels.retain(|name, _| !SCRAPES.contains(&name.as_str()) || is_own(name) || is_objects(name));
    } else if metric.starts_with("container_") {
        of_container(&mut labels);
    } else if metric.starts_with("probe_") {
        // Without the usual relabelling the instance is the prober.
        rename(&mut labels, "target", "instance");
    } else if metric.starts_with("pg_") {
        // One exporter may read several servers.
        rename(&mut labels, "server", "instance");
    } else if metric.starts_with("redis_") {
        rename(&mut labels, "addr", "instance");
        if let Some(instance) = labels.get_mut("instance")
            && let Some((_, address)) = instance.split_once("://")
        {
            *instance = address.to_owned();
        }
    } else if metric.starts_with("kafka_consumergroup_") || metric.starts_with("kafka_topic_") {
        // The exporter asks all brokers. Its address is all there is to reach them by, and what alerts on these series carry.
        for name in ["pod", "container", "endpoint"] {
            labels.remove(name);
        }
    }
    labels
}

/// Whether a label of kube-state-metrics, whose own were honoured or do not collide, is of the object that is spoken of.
fn belongs_to_object(metric: &str, name: &str) -> bool {
    match name {
        "namespace" => !OF_NO_NAMESPACE.iter().any(|kind| metric.starts_with(kind)),
        "pod" => metric.starts_with("kube_pod_"),
        "container" => {
            metric.starts_with("kube_pod_container_") || metric.starts_with("kube_pod_init_container_")
        }
        "service" => metric.starts_with("kube_service_"),
        "endpoint" => metric.starts_with("kube_endpoint"),
        "node" => metric.starts_with("kube_node_") || metric == "kube_pod_info",
        _ => false,
    }
}

/// cAdvisor's: the kubelet that was asked is not the container, and older ones have other names.
fn of_container(labels: &mut Labels) {
    for (old, new) in [
        ("pod_name", "pod"),
        ("container_name", "container"),
        ("container_label_io_kubernetes_pod_name", "pod"),
    ] {
        if !labels.contains_key(new) {
            rename(labels, old, new);
        }
    }
    if labels.contains_key("pod") {
        for name in ["instance", "job", "service", "endpoint"] {
            labels.remove(name);
        }
    }
}

/// Gives what is called `from` the name `to`, where there is any.
fn rename(labels: &mut Labels, from: &str, to: &str) {
    if let Some(value) = labels.get(from).filter(|value| !value.is_empty()).cloned() {
        labels.insert(to.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(metric: &str, own: &[(&str, &str)]) -> Vec<String> {
        let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        labels(metric, &own).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn an_exporter_is_not_what_its_series_are_about() {
        let ksm = [
            ("namespace", "kube-system"),
            ("pod", "kube-state-metrics-1"),
            ("container", "kube-state-metrics"),
        ];
        let exported = [
            ("exported_namespace", "shop"),
            ("exported_pod", "a-1"),
            ("exported_container", "a"),
            ("reason", "x"),
        ];
        let both: Vec<(&str, &str)> = ksm.iter().chain(&exported).copied().collect();
        let metric = "kube_pod_container_status_waiting_reason";
        assert_eq!(about(metric, &both), ["container=a", "namespace=shop", "pod=a-1", "reason=x"]);
        let honoured = [
            ("namespace", "shop"),
            ("pod", "a-1"),
            ("container", "a"),
            ("instance", "10.0.0.1:8080"),
            ("job", "ksm"),
        ];
        assert_eq!(about(metric, &honoured), ["container=a", "namespace=shop", "pod=a-1"]);
        // A pod's own series has no container, so the one that is there is the exporter's.
        let phase =
            [("exported_pod", "a-1"), ("exported_namespace", "shop"), ("pod", "ksm-1"), ("container", "ksm")];
        assert_eq!(about("kube_pod_status_phase", &phase), ["namespace=shop", "pod=a-1"]);
        let node: Vec<(&str, &str)> =
            ksm.iter().copied().chain([("node", "w1"), ("condition", "Ready")]).collect();
        assert_eq!(about("kube_node_status_condition", &node), ["condition=Ready", "node=w1"]);
        let deployment: Vec<(&str, &str)> =
            [("namespace", "shop"), ("deployment", "a"), ("pod", "ksm-1"), ("container", "ksm")].to_vec();
        assert_eq!(about("kube_deployment_status_replicas", &deployment), ["deployment=a", "namespace=shop"]);
    }

    #[test]
    fn one_exporter_speaks_of_several_servers() {
        assert_eq!(
            about("pg_up", &[("instance", "exporter:9187"), ("server", "db:5432")]),
            ["instance=db:5432", "server=db:5432"]
        );
        assert_eq!(about("pg_up", &[("instance", "db:9187")]), ["instance=db:9187"]);
        assert_eq!(about("redis_up", &[("instance", "redis://cache:6379")]), ["instance=cache:6379"]);
        assert_eq!(
            about("probe_success", &[("instance", "blackbox:9115"), ("target", "https://x")]),
            ["instance=https://x", "target=https://x"]
        );
        assert_eq!(
            about(
                "kafka_consumergroup_lag",
                &[
                    ("instance", "exporter:9308"),
                    ("pod", "exporter-1"),
                    ("consumergroup", "g"),
                    ("topic", "t")
                ]
            ),
            ["consumergroup=g", "instance=exporter:9308", "topic=t"]
        );
        assert_eq!(
            about(
                "container_memory_rss",
                &[("instance", "w1:10250"), ("pod_name", "a-1"), ("container_name", "a")]
            ),
            ["container=a", "container_name=a", "pod=a-1", "pod_name=a-1"]
        );
        assert_eq!(about("up", &[("instance", "a:1"), ("job", "b")]), ["instance=a:1", "job=b"]);
    }
}
