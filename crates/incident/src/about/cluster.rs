//! In which cluster something is. The same names are in many of them.

use std::collections::BTreeSet;

/// Labels that name a cluster, the most usual first.
pub(super) const CLUSTER: &[&str] = &[
    "cluster",
    "k8s.cluster.name",
    "k8s_cluster_name",
    "kubernetes_cluster",
    "kubernetes_cluster_name",
    "kubernetes.cluster.name",
    "kube_cluster_name",
    "kube_cluster",
    "k8s_cluster",
    "k8scluster",
    "cluster_name",
    "clusterName",
    "clustername",
    "exported_cluster",
    "eks_cluster_name",
    "gke_cluster_name",
    "aks_cluster_name",
];
/// Labels that have a cluster's id: a name and an id cannot be compared with each other.
pub(super) const CLUSTER_ID: &[&str] = &[
    "cluster_id",
    "clusterid",
    "clusterID",
    "clusterId",
    "cluster_uid",
    "k8s.cluster.uid",
    "k8s_cluster_uid",
    "openshift_cluster_id",
    "openshift_clusterid",
    "openshift.cluster.id",
    "openshift_io_cluster_id",
    "_id",
];

/// The cluster in which something is, as far as its labels say.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InCluster {
    names: BTreeSet<String>,
    ids: BTreeSet<String>,
}

impl InCluster {
    /// Reads it by a function that knows the values of labels.
    pub fn read<V: AsRef<str>>(label: impl Fn(&str) -> Option<V>) -> Self {
        let all = |names: &[&str]| {
            let values = names.iter().filter_map(|name| label(name));
            let values = values.map(|value| value.as_ref().trim().to_lowercase());
            values.filter(|value| !value.is_empty()).collect()
        };
        Self { names: all(CLUSTER), ids: all(CLUSTER_ID) }
    }

    /// Whether the labels say nothing of it.
    pub fn is_unknown(&self) -> bool {
        self.names.is_empty() && self.ids.is_empty()
    }

    /// Whether both may be of one cluster: they are not when both say where they are, and that differs. Ids are surer than names.
    pub fn may_be(&self, other: &Self) -> bool {
        let differ = |own: &BTreeSet<String>, others: &BTreeSet<String>| own.is_disjoint(others);
        if !self.ids.is_empty() && !other.ids.is_empty() {
            return !differ(&self.ids, &other.ids);
        }
        self.names.is_empty() || other.names.is_empty() || !differ(&self.names, &other.names)
    }
}
