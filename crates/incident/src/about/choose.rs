//! Of the labels that are the patient's, the one that says most.

use super::cluster::CLUSTER;
use super::names::{
    ADDRESS, CLOUD, CONSUMER_GROUP, CONTAINER, CRON_JOB, DATABASE, HOST, JOB, NAMESPACE, NODE, OBJECT,
    PART_OF_HOST, POD, PROXY, QUEUE, RESOURCE_GROUP, TOPIC, WORKLOAD,
};
use super::pods::{workload_of_job, workload_of_pod};
use super::scrape::{Scrape, Target};
use super::{Kind, SiteLabels, host};

/// How `addr` begins where redis_exporter wrote it: whatever the target is called, it speaks of that server.
const REDIS: [&str; 3] = ["redis://", "rediss://", "valkey://"];
/// Whom a proxy beside a pod calls.
const MESH: &[&str] = &[
    "destination_workload",
    "destination_service_name",
    "destination_canonical_service",
    "dst_deployment",
    "dst_statefulset",
    "dst_service",
];

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
            Self::own,
            Self::guest,
            Self::of_system,
            Self::consumers,
            Self::volume,
            Self::job,
            Self::object,
            Self::pod_or_workload,
            Self::backend,
            Self::queue,
            Self::asked_server,
            Self::search_engine,
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

    pub(super) fn first(&self, names: &[&str]) -> Option<String> {
        self.scrape.first(names)
    }

    pub(super) fn found(&self, kind: Kind, name: impl Into<String>) -> Chosen {
        Chosen { kind, name: name.into(), part: String::new(), workload: None }
    }

    /// `namespace/name`.
    pub(super) fn in_namespace(&self, name: &str) -> String {
        self.first(NAMESPACE).map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
    }

    /// A workload, told from others of its name by namespace and cluster. Without a namespace it is not told from them.
    fn workload(&self, name: &str) -> Option<String> {
        let namespace = self.first(NAMESPACE)?;
        let cluster = self.first(CLUSTER).unwrap_or_default();
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
            let name = self.first(MESH)?;
            Some(Chosen { workload: self.workload(&name), ..self.found(Kind::Service, name) })
        };
        mesh().or_else(pod).or_else(workload)
    }

    pub(super) fn node(&self) -> Option<Chosen> {
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
        // A subscription to a queue has a name; one that is paid for has an id.
        let queue = self.first(QUEUE).filter(|queue| !is_uuid(queue))?;
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
        let addresses = ADDRESS.iter().filter_map(|name| scrape.get(name));
        // A domain has a dot; what has none is a domain of something else.
        let domain = scrape.get("domain").filter(|domain| domain.contains('.'));
        if let Some(address) = addresses.chain(domain).find(|address| names_something(address)) {
            return Some(self.found(Kind::Address, host(&address)));
        }
        if let Some(named) = self.first(HOST) {
            // A worker of Celery is called `celery@host`.
            let named = named.rsplit('@').next().unwrap_or(&named);
            return Some(Chosen { part: self.part_of_host(), ..self.found(Kind::Host, host(named)) });
        }
        self.node()
    }

    /// A node or cluster of a search engine, which its exporter knows by names of its own.
    fn search_engine(&self) -> Option<Chosen> {
        let search = ["Elasticsearch", "ElasticSearch", "Opensearch", "OpenSearch"];
        if search.iter().any(|word| self.scrape.alert_name.contains(word))
            || self.scrape.exporter_is_called(&["elasticsearch", "opensearch"])
        {
            let node = self.scrape.get("name").map(|name| self.found(Kind::Host, name));
            return node.or_else(|| self.scrape.get("cluster").map(|name| self.found(Kind::Cluster, name)));
        }
        None
    }

    /// What a provider or a cluster of a database calls its own things, where what was scraped is only their messenger.
    fn resource(&self) -> Option<Chosen> {
        if let Some(service) = self.scrape.get("service").filter(|service| service.contains('@')) {
            return Some(self.found(Kind::Service, service));
        }
        let arn = || {
            let name = self.scrape.get("name").filter(|name| name.starts_with("arn:"))?;
            Some(name.rsplit([':', '/']).next().unwrap_or(&name).to_owned())
        };
        // What a scanner says of an object of a cluster.
        if self.scrape.has("resource_kind")
            && let Some(name) = self.scrape.get("resource_name")
        {
            return Some(self.found(Kind::Object, self.in_namespace(&name)));
        }
        // A provider's service; `service_name` is an application's word.
        let service = || self.first(&["dimension_ServiceName", "ServiceName"]);
        let other_dimension = || self.scrape.first_with_prefix("dimension_");
        let alike = || self.scrape.first_alike(CLOUD, "dimension");
        let named = service().or_else(alike).or_else(other_dimension).or_else(arn)?;
        Some(self.found(Kind::CloudResource, last_of_path(&named)))
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
        let service = self.first(&["service", "service.name", "service_name", "application", "app_name"])?;
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
            .or_else(|| of(Kind::Service, self.first(&["slo", "slo_name", "objective"])))
            .or_else(|| of(Kind::Address, scrape.get("domain")))
            .or_else(|| {
                of(Kind::Object, self.first(&["friendly_name", "entity", "entity_id", "monitor_name"]))
            })
            .or_else(|| of(Kind::Object, scrape.get("name").map(|name| host(&name).to_owned())))
            .or_else(|| of(Kind::Object, self.first(&["policy_name", "policy", "project"])))
            .or_else(|| of(Kind::Host, self.first(&["service.instance.id", "service_instance_id"])))
            .or_else(|| of(Kind::Job, scrape.raw("exported_job")))
            .or_else(|| of(Kind::Job, self.named_job()))
            // What mongodb_exporter calls a replica set.
            .or_else(|| of(Kind::Cluster, self.first(&["rs_nm", "rs_name", "replset"])))
            .or_else(|| of(Kind::CloudResource, self.first(RESOURCE_GROUP)))
            .or_else(|| of(Kind::Namespace, self.first(NAMESPACE)))
            .or_else(|| of(Kind::Cluster, self.first(CLUSTER)))
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

/// Whether an address names anything: some senders write `https://` or `null` where there is none.
fn names_something(address: &str) -> bool {
    let address = address.trim();
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    !rest.is_empty() && rest != "null"
}

/// The resource's own name at the end of a provider's path to it.
fn last_of_path(name: &str) -> &str {
    let is_path = name.starts_with('/') || name.starts_with("projects/") || name.starts_with("arn:");
    let last = || name.rsplit([':', '/']).find(|part| !part.is_empty());
    if is_path { last().unwrap_or(name) } else { name }
}

fn is_uuid(text: &str) -> bool {
    let parts = || text.split('-');
    parts().map(str::len).eq([8, 4, 4, 4, 12])
        && parts().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}
