//! Of the labels that are the patient's, the one that says most.

use super::pods::{workload_of_job, workload_of_pod};
use super::scrape::{Scrape, Target};
use super::{Kind, SiteLabels, host};

/// Labels that name a service, the most telling first.
pub(super) const SERVICE: &[&str] = &[
    "service.name",
    "service_name",
    "service",
    "destination_service_name",
    "destination_workload",
    "application",
    "app",
    "k8s_app",
];

const CONSUMER_GROUP: &[&str] = &[
    "consumergroup",
    "consumer_group",
    "consumerGroup",
    "consumer.group",
    "messaging.consumer.group.name",
    "group_id",
];
const TOPIC: &[&str] = &["topic", "topic_name", "messaging.destination.name", "topic_id"];
const POD: &[&str] = &["pod", "k8s.pod.name", "k8s_pod_name", "pod_name", "kubernetes_pod_name", "kube_pod"];
const NAMESPACE: &[&str] = &[
    "namespace",
    "k8s.namespace.name",
    "k8s_namespace_name",
    "destination_workload_namespace",
    "kubernetes_namespace",
    "kube_namespace",
];
const NODE: &[&str] = &["node", "k8s.node.name", "k8s_node_name", "kubernetes_node", "node_name"];
const HOST: &[&str] = &[
    "vm_name",
    "vm",
    "nodename",
    "host.name",
    "host_name",
    "hostname",
    "Hostname",
    "machine",
    "computer",
    "computer_name",
    "host",
    "server_name",
];
const JOB: &[&str] = &["job_name", "k8s.job.name", "k8s_job_name"];
const CRON_JOB: &[&str] = &["cronjob", "k8s.cronjob.name", "k8s_cronjob_name"];
const CLAIM: &[&str] =
    &["persistentvolumeclaim", "k8s.persistentvolumeclaim.name", "k8s_persistentvolumeclaim_name"];
const VOLUME: &[&str] = &["persistentvolume", "persistent_volume"];
const WORKLOAD: &[&str] = &[
    "deployment",
    "k8s.deployment.name",
    "k8s_deployment_name",
    "statefulset",
    "k8s.statefulset.name",
    "k8s_statefulset_name",
    "daemonset",
    "k8s.daemonset.name",
    "k8s_daemonset_name",
    "replicaset",
    "replicationcontroller",
    "rollout",
    "workload",
];
const OBJECT: &[&str] = &[
    "horizontalpodautoscaler",
    "hpa",
    "k8s.hpa.name",
    "scaledobject",
    "scaledObject",
    "poddisruptionbudget",
    "ingress",
    "certificate",
];
const CONTAINER: &[&str] = &[
    "container_label_com_docker_compose_service",
    "container_label_com_docker_swarm_service_name",
    "container_name",
    "container.name",
    "container",
];
const PROXY: &[&str] = &["proxy", "backend", "haproxy_backend", "upstream", "listener"];
const QUEUE: &[&str] = &["queue", "queue_name", "dimension_QueueName", "subscription_id", "subscription"];
const ADDRESS: &[&str] = &["target", "probe_target", "url", "monitor_url"];
const CLOUD: &[&str] = &[
    "dimension_DBInstanceIdentifier",
    "dimension_DBClusterIdentifier",
    "dimension_InstanceId",
    "dimension_CacheClusterId",
    "dimension_ClusterName",
    "dimension_FunctionName",
    "dimension_LoadBalancer",
    "dimension_BucketName",
    "dimension_TableName",
    "dbinstance_identifier",
    "dbcluster_identifier",
    "db_instance_identifier",
    "cache_cluster_id",
    "function_name",
    "load_balancer",
    "load_balancer_name",
    "bucket_name",
    "table_name",
    "database_id",
    "instance_id",
    "instance_name",
    "resource_name",
    "resource_id",
    "resourceName",
    "ds_name",
    "cluster_name",
    "ceph_daemon",
];
const DATABASE: &[&str] = &["datname", "database", "db", "dbname", "schema"];
/// How `addr` begins where redis_exporter wrote it: whatever the target is called, it speaks of that server.
const REDIS: [&str; 3] = ["redis://", "rediss://", "valkey://"];
/// Which part of a host.
const PART_OF_HOST: &[&str] =
    &["mountpoint", "volume", "device", "ifName", "ifDescr", "interface", "disk", "sensor", "name"];

/// What was chosen.
pub(super) struct Chosen {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) part: String,
    pub(super) workload: Option<String>,
}

pub(super) struct Chooser<'a> {
    pub(super) scrape: &'a Scrape<'a>,
    pub(super) site: &'a SiteLabels,
}

impl Chooser<'_> {
    pub(super) fn choose(&self) -> Chosen {
        let steps = [
            Self::of_site,
            Self::consumers,
            Self::volume,
            Self::job,
            Self::object,
            Self::pod_or_workload,
            Self::backend,
            Self::queue,
            Self::asked_server,
            Self::machine,
            Self::resource,
            Self::instance,
            Self::service,
            Self::rest,
        ];
        let nothing =
            Chosen { kind: Kind::Nothing, name: String::new(), part: String::new(), workload: None };
        let named = |chosen: &Chosen| !chosen.name.is_empty();
        steps.iter().find_map(|step| step(self).filter(named)).unwrap_or(nothing)
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        self.scrape.first(names)
    }

    fn found(&self, kind: Kind, name: impl Into<String>) -> Chosen {
        Chosen { kind, name: name.into(), part: String::new(), workload: None }
    }

    /// `namespace/name`.
    fn in_namespace(&self, name: &str) -> String {
        self.first(NAMESPACE).map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
    }

    /// A workload, told from others of its name by namespace and cluster. Without a namespace it is not told from them.
    fn workload(&self, name: &str) -> Option<String> {
        let namespace = self.first(NAMESPACE)?;
        let cluster = self.first(&["cluster", "k8s.cluster.name", "k8s_cluster_name"]).unwrap_or_default();
        Some(format!("{cluster}/{namespace}/{name}"))
    }

    fn of_site(&self) -> Option<Chosen> {
        let named = self.site.subject_labels.iter().find_map(|name| self.scrape.raw(name));
        named.map(|name| self.found(Kind::Own, host(&name)))
    }

    fn consumers(&self) -> Option<Chosen> {
        let topic = self.first(TOPIC);
        let named = self.first(CONSUMER_GROUP);
        let group = named.or_else(|| topic.as_ref().and_then(|_| self.scrape.get("group")))?;
        Some(Chosen { part: topic.unwrap_or_default(), ..self.found(Kind::ConsumerGroup, group) })
    }

    fn volume(&self) -> Option<Chosen> {
        let claim = self.first(CLAIM).map(|claim| self.in_namespace(&claim));
        claim.or_else(|| self.first(VOLUME)).map(|name| self.found(Kind::Volume, name))
    }

    fn job(&self) -> Option<Chosen> {
        let cron_job = self.first(CRON_JOB);
        let job = self.first(JOB).or_else(|| cron_job.clone())?;
        let workload = self.workload(cron_job.as_deref().unwrap_or_else(|| workload_of_job(&job)));
        Some(Chosen { workload, ..self.found(Kind::Job, self.in_namespace(&job)) })
    }

    /// An object that another one looks after or speaks of, by `name` where the speaker is one that means objects by it.
    fn object(&self) -> Option<Chosen> {
        let scrape = self.scrape;
        let means_objects = match scrape.target {
            Target::Controller => true,
            _ => {
                scrape.has("customresource_kind")
                    || (scrape.has("exported_namespace") && !scrape.has("exported_pod"))
            }
        };
        let by_name = means_objects.then(|| scrape.get("name")).flatten();
        if by_name.is_some()
            && (scrape.has("dest_namespace") || scrape.has("dest_server") || scrape.has("sync_status"))
        {
            // An application of Argo CD: where it runs is said apart from where it is declared.
            return by_name.map(|name| self.found(Kind::Object, name));
        }
        if let Some(name) = self.first(&["schedule"]) {
            return Some(self.found(Kind::Object, name));
        }
        let name = by_name.or_else(|| self.first(OBJECT))?;
        Some(self.found(Kind::Object, self.in_namespace(&name)))
    }

    fn pod_or_workload(&self) -> Option<Chosen> {
        if self.scrape.is_of_node() && self.scrape.target == Target::ClusterState {
            return self.node();
        }
        let pod = || {
            let pod = self.first(POD)?;
            let owner = self.first(WORKLOAD);
            let workload = self.workload(owner.as_deref().unwrap_or_else(|| workload_of_pod(&pod)));
            Some(Chosen { workload, ..self.found(Kind::Pod, self.in_namespace(&pod)) })
        };
        let workload = || {
            let name = self.first(WORKLOAD)?;
            let workload = self.workload(&name);
            Some(Chosen { workload, ..self.found(Kind::Workload, self.in_namespace(&name)) })
        };
        let mesh = || {
            let name = self.first(&["destination_workload", "destination_service_name"])?;
            Some(Chosen { workload: self.workload(&name), ..self.found(Kind::Service, name) })
        };
        mesh().or_else(pod).or_else(workload)
    }

    fn node(&self) -> Option<Chosen> {
        let node = self.first(NODE)?;
        // An Erlang node is called `rabbit@host`.
        let name = node.rsplit('@').next().unwrap_or(&node);
        Some(Chosen { part: self.part_of_host(), ..self.found(Kind::Host, host(name)) })
    }

    fn part_of_host(&self) -> String {
        self.first(PART_OF_HOST).unwrap_or_default()
    }

    fn backend(&self) -> Option<Chosen> {
        let (proxy, server) = (self.first(PROXY), self.scrape.get("server"));
        match (proxy, server) {
            (Some(proxy), Some(server)) => Some(self.found(Kind::Backend, format!("{proxy}/{server}"))),
            (Some(proxy), None) => Some(self.found(Kind::Backend, proxy)),
            (None, Some(server)) => {
                let part = self.first(DATABASE).unwrap_or_default();
                Some(Chosen { part, ..self.found(Kind::Host, host(&server)) })
            }
            (None, None) => None,
        }
    }

    fn queue(&self) -> Option<Chosen> {
        let queue = self.first(QUEUE)?;
        Some(Chosen { part: self.scrape.get("vhost").unwrap_or_default(), ..self.found(Kind::Queue, queue) })
    }

    /// The server that an exporter asked, where it says so by `addr` as redis_exporter does. Its own machine is no name for people.
    fn asked_server(&self) -> Option<Chosen> {
        let address = self.scrape.get("addr")?;
        if self.scrape.target != Target::Other && !REDIS.iter().any(|scheme| address.starts_with(scheme)) {
            // An application may call the address that it listens on so.
            return None;
        }
        let name = host(address.trim());
        let is_own_machine = name == "localhost" || name.starts_with("127.") || name == "[::1]";
        // `:6379` has no host.
        let is_named = !is_own_machine && !name.starts_with([':', '/']);
        let part = self.first(DATABASE).unwrap_or_default();
        is_named.then(|| Chosen { part, ..self.found(Kind::Host, name) })
    }

    /// A container without a pod, a machine by its name, or what a probe looks at.
    fn machine(&self) -> Option<Chosen> {
        let scrape = self.scrape;
        if scrape.target == Target::Containers || scrape.has("image") {
            let by_name = || scrape.get("name").map(|name| name.trim_start_matches('/').to_owned());
            if let Some(container) = self.first(CONTAINER).or_else(by_name) {
                return Some(self.found(Kind::Container, container));
            }
        }
        if let Some(address) = self.first(ADDRESS) {
            return Some(self.found(Kind::Address, host(&address)));
        }
        if let Some(named) = self.first(HOST) {
            return Some(Chosen { part: self.part_of_host(), ..self.found(Kind::Host, host(&named)) });
        }
        self.node()
    }

    /// What a provider or a cluster of a database calls its own things, where what was scraped is only their messenger.
    fn resource(&self) -> Option<Chosen> {
        if let Some(service) = self.scrape.get("service").filter(|service| service.contains('@')) {
            return Some(self.found(Kind::Service, service));
        }
        let search = ["Elasticsearch", "ElasticSearch", "Opensearch", "OpenSearch"];
        if search.iter().any(|word| self.scrape.alert_name.contains(word))
            || self.scrape.exporter_is_called(&["elasticsearch", "opensearch"])
        {
            let node = self.scrape.get("name").map(|name| self.found(Kind::Host, name));
            return node.or_else(|| self.scrape.get("cluster").map(|name| self.found(Kind::Cluster, name)));
        }
        let arn = || {
            let name = self.scrape.get("name").filter(|name| name.starts_with("arn:"))?;
            Some(name.rsplit([':', '/']).next().unwrap_or(&name).to_owned())
        };
        let other_dimension = || self.scrape.first_with_prefix("dimension_");
        let named = self.first(CLOUD).or_else(other_dimension).or_else(arn)?;
        Some(self.found(Kind::CloudResource, named))
    }

    fn instance(&self) -> Option<Chosen> {
        let instance = self.scrape.get("instance")?;
        let name = host(&instance);
        if name.contains("://") {
            return Some(self.found(Kind::Address, name));
        }
        let part = self.first(DATABASE).unwrap_or_else(|| self.part_of_host());
        Some(Chosen { part, ..self.found(Kind::Host, name) })
    }

    fn service(&self) -> Option<Chosen> {
        let service = self.first(&["service", "service.name", "service_name", "application"])?;
        Some(self.found(Kind::Service, service))
    }

    /// What is left says less, and something.
    fn rest(&self) -> Option<Chosen> {
        let scrape = self.scrape;
        let of = |kind, name: Option<String>| name.map(|name| self.found(kind, name));
        of(Kind::Database, self.first(DATABASE))
            .or_else(|| of(Kind::Queue, self.first(TOPIC)))
            .or_else(|| of(Kind::Service, self.first(&["destination_service", "app", "k8s_app"])))
            .or_else(|| of(Kind::Container, self.first(CONTAINER)))
            .or_else(|| of(Kind::Object, scrape.get("name").map(|name| host(&name).to_owned())))
            .or_else(|| of(Kind::Job, scrape.raw("exported_job")))
            .or_else(|| of(Kind::Job, self.named_job()))
            // What mongodb_exporter calls a replica set.
            .or_else(|| of(Kind::Cluster, scrape.get("rs_nm")))
            .or_else(|| of(Kind::Namespace, self.first(NAMESPACE)))
            .or_else(|| of(Kind::Cluster, self.first(&["cluster", "k8s.cluster.name", "k8s_cluster_name"])))
    }

    /// A scrape's job is what is broken where nothing else says so; a job of a cluster's control plane is only where it was asked.
    fn named_job(&self) -> Option<String> {
        let job = self.scrape.get("job")?;
        let control = ["apiserver", "kube-", "kubelet", "kubernetes-"];
        let of_cluster =
            self.scrape.alert_name.starts_with("Kube") || control.iter().any(|word| job.contains(word));
        (!of_cluster).then_some(job)
    }
}
