//! Kubernetes' objects in the words of evidence: one state for each, the one that explains most.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use quell_incident::surroundings::{PlatformEvent, PlatformObject, PlatformQuery};
use quell_tool::truncate;

const NAME_BYTES_MAX: usize = 253;
const STATE_BYTES_MAX: usize = 100;
const MESSAGE_BYTES_MAX: usize = 1_000;
/// Labels that name the service, the first that an object has.
const SERVICE_LABELS: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "service"];
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Conditions of a node that are bad when they are true.
const NODE_TROUBLES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

/// What was listed.
#[derive(Default)]
pub(super) struct World {
    pub(super) pods: Vec<Pod>,
    pub(super) deployments: Vec<Deployment>,
    pub(super) replica_sets: Vec<ReplicaSet>,
    pub(super) nodes: Vec<Node>,
    pub(super) events: Vec<Event>,
}

impl World {
    /// Objects, and events in the order of time, of what was asked for.
    pub(super) fn told(self, query: &PlatformQuery) -> (Vec<PlatformObject>, Vec<PlatformEvent>) {
        let mut objects: Vec<PlatformObject> = self.pods.iter().map(pod).collect();
        objects.extend(self.deployments.iter().map(|one| deployment(one, &self.replica_sets)));
        objects.extend(self.replica_sets.iter().filter_map(replica_set));
        if let Some(service) = &query.service {
            objects.retain(|object| object.service == *service);
        }
        // The nodes of a service are those that it runs on.
        let hosts: BTreeSet<&str> = objects.iter().map(|object| object.node.as_str()).collect();
        let nodes = self.nodes.iter().map(node);
        let nodes: Vec<PlatformObject> =
            nodes.filter(|node| query.service.is_none() || hosts.contains(node.name.as_str())).collect();
        objects.extend(nodes);

        let services: BTreeMap<(&str, &str, &str), &str> = objects
            .iter()
            .map(|object| ((&*object.kind, &*object.namespace, &*object.name), &*object.service))
            .collect();
        let mut events: Vec<PlatformEvent> = Vec::new();
        for event in &self.events {
            let Some(mut told) = self::event(event) else { continue };
            let known = services.get(&(&*told.kind, &*told.namespace, &*told.name));
            // The pod of an event may be gone, and its name still says whose it was.
            let of_pod = || pod_owner(&told.name).filter(|_| told.kind == "Pod");
            told.service = match known {
                Some(service) => (*service).to_owned(),
                None => of_pod()
                    .and_then(|owner| services.get(&("Deployment", &*told.namespace, owner)))
                    .map_or_else(String::new, |service| (*service).to_owned()),
            };
            let belongs = match &query.service {
                None => true,
                Some(service) => told.service == *service || (told.kind == "Node" && known.is_some()),
            };
            if belongs && told.at >= query.from && told.at <= query.to {
                events.push(told);
            }
        }
        events.sort_by_key(|event| event.at);
        (objects, events)
    }
}

fn text(value: Option<&String>, bytes_max: usize) -> String {
    value.map(|value| truncate(value, bytes_max).to_owned()).unwrap_or_default()
}

/// An object with what its metadata says.
fn object(kind: &str, metadata: &ObjectMeta) -> PlatformObject {
    let labels = metadata.labels.as_ref();
    let service = SERVICE_LABELS.iter().find_map(|label| labels?.get(*label));
    let revision = metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    PlatformObject {
        kind: kind.to_owned(),
        namespace: text(metadata.namespace.as_ref(), NAME_BYTES_MAX),
        name: text(metadata.name.as_ref(), NAME_BYTES_MAX),
        service: text(service, NAME_BYTES_MAX),
        revision: text(revision, STATE_BYTES_MAX),
        changed_at: metadata.creation_timestamp.as_ref().map(|time| time.0),
        ..PlatformObject::default()
    }
}

fn pod(pod: &Pod) -> PlatformObject {
    let mut told = object("Pod", &pod.metadata);
    let owner = pod.metadata.owner_references.iter().flatten().next();
    if let (true, Some(owner)) = (told.service.is_empty(), owner) {
        let name = match owner.kind.as_str() {
            "ReplicaSet" => owner.name.rsplit_once('-').map_or(&*owner.name, |(name, _)| name),
            _ => &owner.name,
        };
        told.service = truncate(name, NAME_BYTES_MAX).to_owned();
    }
    told.node = text(pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()), NAME_BYTES_MAX);
    let Some(status) = &pod.status else {
        told.state = "Unknown".to_owned();
        return told;
    };
    let conditions = || status.conditions.iter().flatten();
    let ready = conditions().find(|condition| condition.type_ == "Ready");
    told.ready = ready.is_some_and(|condition| condition.status == "True");
    let containers: Vec<&ContainerStatus> =
        status.init_container_statuses.iter().chain(&status.container_statuses).flatten().collect();
    let restarts: i64 = containers.iter().map(|container| i64::from(container.restart_count.max(0))).sum();
    told.restarts = u32::try_from(restarts).unwrap_or(u32::MAX);
    let ended = |state: Option<&ContainerState>| {
        let ended = state?.terminated.as_ref()?;
        Some((ended.finished_at.as_ref().map(|time| time.0), ended.reason.clone().unwrap_or_default()))
    };
    let last = containers.iter().filter_map(|container| ended(container.last_state.as_ref())).max();
    let now = containers.iter().filter_map(|container| ended(container.state.as_ref())).max();
    told.last_exit = text(now.as_ref().max(last.as_ref()).map(|(_, reason)| reason), STATE_BYTES_MAX);
    let waiting = containers.iter().find_map(|container| {
        container
            .state
            .as_ref()?
            .waiting
            .as_ref()?
            .reason
            .as_ref()
            .filter(|reason| *reason != "ContainerCreating")
    });
    let failed =
        now.as_ref().map(|(_, reason)| reason).filter(|reason| !matches!(reason.as_str(), "" | "Completed"));
    let unscheduled = conditions()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .and_then(|condition| condition.reason.as_ref());
    let phase = status.phase.clone().unwrap_or_else(|| "Unknown".to_owned());
    let state = waiting
        .or(failed)
        .or(status.reason.as_ref())
        .or(unscheduled)
        .cloned()
        .or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|_| "Terminating".to_owned()))
        .unwrap_or_else(|| if phase == "Running" && !told.ready { "NotReady".to_owned() } else { phase });
    told.state = truncate(&state, STATE_BYTES_MAX).to_owned();
    let started = containers
        .iter()
        .filter_map(|container| Some(container.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0));
    let turned = ready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
    let ended_at = now.and_then(|(at, _)| at);
    told.changed_at = started.chain(turned).chain(ended_at).max().or(told.changed_at);
    told
}

fn deployment(deployment: &Deployment, replica_sets: &[ReplicaSet]) -> PlatformObject {
    let mut told = object("Deployment", &deployment.metadata);
    if told.service.is_empty() {
        told.service.clone_from(&told.name);
    }
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.as_ref();
    let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
    let updated = status.and_then(|status| status.updated_replicas).unwrap_or(0);
    told.ready = available >= wanted && updated >= wanted;
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let trouble = |kind: &str, bad: &str| {
        let condition = conditions?.iter().find(|one| one.type_ == kind && one.status == bad)?;
        Some(condition.reason.clone().unwrap_or_else(|| kind.to_owned()))
    };
    let state = trouble("ReplicaFailure", "True")
        .or_else(|| trouble("Progressing", "False"))
        .or_else(|| trouble("Available", "False"))
        .unwrap_or_else(|| if told.ready { "Available".to_owned() } else { "Progressing".to_owned() });
    told.state = format!("{} ({available} of {wanted})", truncate(&state, STATE_BYTES_MAX));
    // A revision is as old as the replica set that was made for it, or turned back to.
    let of_revision = replica_sets.iter().filter_map(|set| {
        let owner =
            set.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Deployment")?;
        let theirs = object("ReplicaSet", &set.metadata);
        let same =
            owner.name == told.name && theirs.namespace == told.namespace && theirs.revision == told.revision;
        theirs.changed_at.filter(|_| same)
    });
    told.changed_at = of_revision.max().or(told.changed_at);
    told
}

/// One revision of a rollout; those of nothing else are told by what owns them.
fn replica_set(set: &ReplicaSet) -> Option<PlatformObject> {
    let owner = set.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Deployment")?;
    let mut told = object("ReplicaSet", &set.metadata);
    if told.service.is_empty() {
        told.service = truncate(&owner.name, NAME_BYTES_MAX).to_owned();
    }
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    told.ready = ready >= wanted;
    told.state = match wanted {
        0 => "ScaledDown".to_owned(),
        wanted => format!("Active ({ready} of {wanted})"),
    };
    Some(told)
}

fn node(node: &Node) -> PlatformObject {
    let mut told = object("Node", &node.metadata);
    // A node runs services and is part of none.
    told.service = String::new();
    let conditions = || node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions().find(|condition| condition.type_ == "Ready");
    told.ready = ready.is_some_and(|condition| condition.status == "True");
    let trouble = conditions()
        .find(|condition| NODE_TROUBLES.contains(&condition.type_.as_str()) && condition.status == "True");
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    told.state = match trouble {
        Some(trouble) => trouble.type_.clone(),
        None if !told.ready => "NotReady".to_owned(),
        None if cordoned => "SchedulingDisabled".to_owned(),
        None => "Ready".to_owned(),
    };
    let turned = trouble.or(ready).and_then(|condition| condition.last_transition_time.as_ref());
    told.changed_at = turned.map(|time| time.0).or(told.changed_at);
    told
}

fn event(event: &Event) -> Option<PlatformEvent> {
    let series = event.series.as_ref();
    let at: Option<Timestamp> = series
        .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0))
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let involved = &event.involved_object;
    let count = series.and_then(|series| series.count).or(event.count).unwrap_or(1);
    Some(PlatformEvent {
        at: at?,
        kind: text(involved.kind.as_ref(), STATE_BYTES_MAX),
        namespace: text(involved.namespace.as_ref(), NAME_BYTES_MAX),
        name: text(involved.name.as_ref(), NAME_BYTES_MAX),
        service: String::new(),
        reason: text(event.reason.as_ref(), STATE_BYTES_MAX),
        message: text(event.message.as_ref(), MESSAGE_BYTES_MAX),
        count: u32::try_from(count).unwrap_or(1),
        warning: event.type_.as_deref() == Some("Warning"),
    })
}

/// `orders` of the pod `orders-7c9f8d6b5-x2x7k`.
fn pod_owner(name: &str) -> Option<&str> {
    let (replica_set, _) = name.rsplit_once('-')?;
    Some(replica_set.rsplit_once('-')?.0)
}
