//! What stands around series and lines, put in order: platform objects and events, health checks, changes, who calls whom. All of it
//! is telemetry's text, cleaned once, here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use quell_incident::evidence::EvidenceSet;
use quell_incident::report::{EvidenceData, EvidenceKind};
use quell_incident::surroundings::{
    CHANGES_MAX, ChangeRecord, EDGES_MAX, HealthCheck, PLATFORM_EVENTS_MAX, PLATFORM_OBJECTS_MAX,
    PlatformEvent, PlatformObject,
};

use crate::gathered::host;
use crate::rules::file::About;
use crate::series::{ONSET_LEAD_SECONDS, Window};
use crate::template::cleaned;

/// Health checks looked at in one diagnosis at the most.
const CHECKS_MAX: usize = 1_000;
/// A name at the most, in characters.
const NAME_CHARACTERS_MAX: usize = 200;
/// A message at the most, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 1_000;
/// The source of changes, which the coordinator tells with the request.
const CHANGES_SOURCE: &str = "changes";
/// Labels that name a workload, whose pods are called after it.
const WORKLOADS: [&str; 4] = ["service", "deployment", "statefulset", "daemonset"];

/// One thing with the query that brought it.
pub(crate) struct Item {
    pub(crate) source: String,
    pub(crate) query: String,
    pub(crate) data: Data,
    /// What it is about, by label; only what is known.
    pub(crate) labels: BTreeMap<String, String>,
}

/// The thing itself, its text cleaned.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Object(PlatformObject),
    Event(PlatformEvent),
    Health(HealthCheck),
    Change(ChangeRecord),
}

/// All of them, each once, in an order that does not hang on that of the answers.
#[derive(Default)]
pub(crate) struct Surroundings {
    pub(crate) items: Vec<Item>,
    pub(crate) has_platform: bool,
    pub(crate) has_health: bool,
    /// From when on the platform's events are of the fault: an alert waits for minutes before it fires.
    pub(crate) events_from: Timestamp,
    calls: BTreeMap<String, BTreeSet<String>>,
}

impl Surroundings {
    pub(crate) fn gather(evidence: &EvidenceSet, window: Window, fault_from: Timestamp) -> Self {
        let reference = window.reference;
        let mut items = Vec::new();
        for set in &evidence.platform {
            let mut add = |data| items.push(Item::new(&set.source, &set.query, data));
            set.objects.iter().take(PLATFORM_OBJECTS_MAX).for_each(|one| add(Data::Object(object(one))));
            let past = set.events.iter().rev().filter(|one| one.at <= reference);
            past.take(PLATFORM_EVENTS_MAX).for_each(|one| add(Data::Event(event(one))));
        }
        for set in &evidence.health {
            let past = set.checks.iter().filter(|one| one.at <= reference);
            items.extend(
                past.take(CHECKS_MAX)
                    .map(|one| Item::new(&set.source, &set.query, Data::Health(health(one)))),
            );
        }
        let past = evidence.changes.iter().rev().filter(|one| one.at <= reference);
        items.extend(past.take(CHANGES_MAX).map(|one| {
            let query = format!("changes until {reference}");
            Item::new(CHANGES_SOURCE, &query, Data::Change(change(one)))
        }));
        items.sort_by_cached_key(|item| (item.rank(reference), format!("{:?}", item.data)));
        items.dedup_by_key(|item| format!("{:?}", item.data));
        let mut calls: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for edge in evidence.topology.edges.iter().take(EDGES_MAX) {
            calls.entry(plain(&edge.caller)).or_default().insert(plain(&edge.callee));
        }
        let lead = SignedDuration::from_secs(ONSET_LEAD_SECONDS as i64);
        let earliest = window.started_at.checked_sub(lead).unwrap_or(Timestamp::MIN);
        Self {
            items,
            has_platform: !evidence.platform.is_empty(),
            has_health: !evidence.health.is_empty(),
            events_from: earliest.min(fault_from),
            calls,
        }
    }

    /// Whether an item counts for the candidate of `key`.
    pub(crate) fn concerns(&self, item: &Item, about: About, key: &BTreeMap<String, String>) -> bool {
        match about {
            About::Any => true,
            About::Subject => item.is_about(key),
            About::Dependencies => {
                let callees = key.get("service").and_then(|service| self.calls.get(&plain(service)));
                let name = item.labels.get("service").map(|service| plain(service));
                callees.is_none_or(|callees| name.is_some_and(|name| callees.contains(&name)))
            }
        }
    }
}

impl Item {
    fn new(source: &str, query: &str, data: Data) -> Self {
        let labels = labels(&data);
        Self { source: source.to_owned(), query: query.to_owned(), data, labels }
    }

    /// Those that are wrong first, then the newest: in this order they are cited.
    fn rank(&self, reference: Timestamp) -> (u8, bool, Reverse<u32>, i64) {
        let age = |at: Timestamp| reference.as_millisecond().saturating_sub(at.as_millisecond());
        match &self.data {
            Data::Object(one) => (0, one.ready, Reverse(one.restarts), one.changed_at.map_or(i64::MAX, age)),
            Data::Event(one) => (1, !one.warning, Reverse(0), age(one.at)),
            Data::Health(one) => (2, one.healthy, Reverse(0), age(one.at)),
            Data::Change(one) => (3, false, Reverse(0), age(one.at)),
        }
    }

    /// Whether it is about what the key names: no label says otherwise, and one that is more than a namespace says so.
    fn is_about(&self, key: &BTreeMap<String, String>) -> bool {
        let found: Vec<(&str, bool)> =
            key.iter().filter_map(|(name, value)| Some((name.as_str(), self.fits(name, value)?))).collect();
        let told = found.iter().any(|(name, _)| *name != "namespace") || key.keys().all(|n| n == "namespace");
        key.is_empty() || (told && !found.is_empty() && found.iter().all(|(_, fits)| *fits))
    }

    /// Whether a label of a series is about this; `None` when nothing is known of that.
    fn fits(&self, name: &str, value: &str) -> Option<bool> {
        if let Some(label) = self.labels.get(name) {
            return Some(plain(label) == plain(value) || self.is_pod_of(name, value));
        }
        if WORKLOADS.contains(&name) && self.labels.contains_key("pod") {
            let service = self.labels.get("service").is_some_and(|label| plain(label) == plain(value));
            return Some(service || self.is_pod_of(name, value));
        }
        if name == "pod" {
            // A change or a check names a service, whose pods are called after it.
            let service = self.labels.get("service").filter(|_| !self.labels.contains_key("namespace"));
            return service.map(|service| is_called_after(value, service));
        }
        if name == "instance" {
            let value = plain(host(value));
            let names = ["node", "pod", "service"].iter().filter_map(|name| self.labels.get(*name));
            let names: Vec<String> = names.map(|name| plain(name)).collect();
            return (!names.is_empty()).then(|| names.contains(&value));
        }
        None
    }

    fn is_pod_of(&self, name: &str, workload: &str) -> bool {
        WORKLOADS.contains(&name) && self.labels.get("pod").is_some_and(|pod| is_called_after(pod, workload))
    }

    /// The letter that its id in a report begins with.
    pub(crate) fn letter(&self) -> char {
        match self.data {
            Data::Object(_) | Data::Event(_) => 'p',
            Data::Health(_) => 'h',
            Data::Change(_) => 'c',
        }
    }

    pub(crate) fn kind(&self) -> EvidenceKind {
        match self.data {
            Data::Object(_) | Data::Event(_) => EvidenceKind::Platform,
            Data::Health(_) => EvidenceKind::Health,
            Data::Change(_) => EvidenceKind::Change,
        }
    }

    /// When it happened; `None` for what simply is.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        match &self.data {
            Data::Object(one) => one.changed_at,
            Data::Event(one) => Some(one.at),
            Data::Health(one) => Some(one.at),
            Data::Change(one) => Some(one.at),
        }
    }

    pub(crate) fn evidence(&self) -> EvidenceData {
        match self.data.clone() {
            Data::Object(one) => EvidenceData::Object(one),
            Data::Event(one) => EvidenceData::Event(one),
            Data::Health(one) => EvidenceData::Health(one),
            Data::Change(one) => EvidenceData::Change(one),
        }
    }

    /// One sentence with its values.
    pub(crate) fn summary(&self) -> String {
        let of = |service: &str| if service.is_empty() { String::new() } else { format!(" of {service}") };
        match &self.data {
            Data::Object(one) => {
                let ready = if one.ready { "ready" } else { "not ready" };
                let mut text =
                    format!("{} {}{} is {} and {ready}", one.kind, one.name, of(&one.service), one.state);
                if one.restarts > 0 {
                    text += &format!(", {} restarts", one.restarts);
                }
                if !one.last_exit.is_empty() {
                    text += &format!(", last ended by {}", one.last_exit);
                }
                text
            }
            Data::Event(one) => {
                let (times, told) = (one.count.max(1), cleaned(&one.message, NAME_CHARACTERS_MAX));
                format!("{} of {} {} {times} times until {}: {told}", one.reason, one.kind, one.name, one.at)
            }
            Data::Health(one) => {
                let state = if one.healthy { "well" } else { "not well" };
                let told = cleaned(&one.message, NAME_CHARACTERS_MAX);
                format!("{} was {state} at {} after {:.2} s: {told}", one.name, one.at, one.seconds)
            }
            Data::Change(one) => {
                let told = cleaned(&one.summary, NAME_CHARACTERS_MAX);
                format!("{}{} at {} {} {told}", one.kind, of(&one.service), one.at, one.version)
                    .trim_end()
                    .to_owned()
            }
        }
    }
}

/// A name as it is compared: a workload cannot have the underscores that its metrics' labels have.
fn plain(name: &str) -> String {
    name.replace('_', "-")
}

/// Whether a pod is called after a workload.
fn is_called_after(pod: &str, workload: &str) -> bool {
    plain(pod).strip_prefix(&plain(workload)).is_some_and(|rest| rest.starts_with('-'))
}

fn labels(data: &Data) -> BTreeMap<String, String> {
    let pairs: Vec<(&str, &str)> = match data {
        Data::Object(one) => vec![
            ("kind", &one.kind),
            ("namespace", &one.namespace),
            ("name", &one.name),
            ("service", &one.service),
            ("node", &one.node),
            ("state", &one.state),
            ("last_exit", &one.last_exit),
            ("revision", &one.revision),
        ],
        Data::Event(one) => vec![
            ("kind", &one.kind),
            ("namespace", &one.namespace),
            ("name", &one.name),
            ("service", &one.service),
            ("reason", &one.reason),
        ],
        Data::Health(one) => vec![("name", &one.name), ("service", &one.name)],
        Data::Change(one) => {
            vec![("kind", &one.kind), ("service", &one.service), ("version", &one.version), ("by", &one.by)]
        }
    };
    let mut labels: BTreeMap<String, String> = pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Data::Object(PlatformObject { kind, name, .. }) | Data::Event(PlatformEvent { kind, name, .. }) =
        data
    {
        labels.insert(kind.to_lowercase(), name.clone());
    }
    labels
}

fn name(text: &str) -> String {
    cleaned(text, NAME_CHARACTERS_MAX)
}

fn message(text: &str) -> String {
    cleaned(text, MESSAGE_CHARACTERS_MAX)
}

fn object(one: &PlatformObject) -> PlatformObject {
    PlatformObject {
        kind: name(&one.kind),
        namespace: name(&one.namespace),
        name: name(&one.name),
        service: name(&one.service),
        node: name(&one.node),
        ready: one.ready,
        state: name(&one.state),
        restarts: one.restarts,
        last_exit: name(&one.last_exit),
        revision: name(&one.revision),
        changed_at: one.changed_at,
    }
}

fn event(one: &PlatformEvent) -> PlatformEvent {
    PlatformEvent {
        at: one.at,
        kind: name(&one.kind),
        namespace: name(&one.namespace),
        name: name(&one.name),
        service: name(&one.service),
        reason: name(&one.reason),
        message: message(&one.message),
        count: one.count,
        warning: one.warning,
    }
}

fn health(one: &HealthCheck) -> HealthCheck {
    HealthCheck {
        at: one.at,
        name: name(&one.name),
        healthy: one.healthy,
        seconds: if one.seconds.is_finite() { one.seconds.max(0.0) } else { 0.0 },
        message: message(&one.message),
    }
}

fn change(one: &ChangeRecord) -> ChangeRecord {
    ChangeRecord {
        at: one.at,
        kind: name(&one.kind),
        service: name(&one.service),
        version: name(&one.version),
        by: name(&one.by),
        summary: message(&one.summary),
        link: message(&one.link),
    }
}
