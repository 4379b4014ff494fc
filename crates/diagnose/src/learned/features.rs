//! What was observed of an incident, as numbers for each service that may be at fault.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{CANDIDATES_MAX, Candidate};

/// Events looked at in one incident at the most; the first ones given.
const EVENTS_MAX: usize = 20_000;
/// Calls between services at the most.
const CALLS_MAX: usize = 10_000;
/// What one feature says of an event at the most, in characters.
const NAME_CHARACTERS_MAX: usize = 80;

/// What an event was seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A series that left its usual range.
    Metric,
    /// A template of log lines that is new or more frequent.
    Log,
    /// A call that failed or was slow.
    Trace,
}

/// Something out of the ordinary, about one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What it was seen in.
    pub kind: EventKind,
    /// Whose it is; of a call the one who called.
    pub service: String,
    /// Of a call the one who was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callee: Option<String>,
    /// The metric, the template, the operation.
    pub what: String,
    /// What became of it: `up`, `down`, `error`, `slow`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
}

/// What was observed of one incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// In the order in which they began, as far as that is known.
    pub events: Vec<Event>,
    /// The services that may be at fault.
    pub services: Vec<String>,
    /// Who calls whom.
    #[serde(default)]
    pub calls: Vec<(String, String)>,
}

/// Counts that are compared between services.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    metrics: f64,
    logs: f64,
    calls: f64,
    up: f64,
    down: f64,
}

impl Totals {
    fn all(&self) -> [(&'static str, f64); 6] {
        [
            ("events", self.metrics + self.logs + self.calls),
            ("metrics", self.metrics),
            ("logs", self.logs),
            ("calls", self.calls),
            ("metrics up", self.up),
            ("metrics down", self.down),
        ]
    }
}

/// One service while events are counted.
#[derive(Debug, Default)]
struct Counted {
    totals: Totals,
    features: BTreeMap<String, f64>,
}

/// A candidate for each of the observed services, in their order and each once.
pub fn features(observation: &Observation) -> Vec<Candidate> {
    let mut counted: BTreeMap<&str, Counted> = BTreeMap::new();
    let mut names = Vec::new();
    for name in &observation.services {
        if names.len() < CANDIDATES_MAX && counted.insert(name, Counted::default()).is_none() {
            names.push(name.as_str());
        }
    }
    let mut places = BTreeMap::new();
    for event in observation.events.iter().take(EVENTS_MAX) {
        let place: &mut f64 = places.entry(event.kind).or_default();
        *place += 1.0;
        count(&mut counted, event, 1.0 / *place);
    }
    let neighbours = Neighbours::of(observation);
    names.iter().map(|name| candidate(name, &counted, &neighbours)).collect()
}

fn count<'a>(counted: &mut BTreeMap<&'a str, Counted>, event: &'a Event, earliness: f64) {
    let what = general(&event.service, &event.what);
    match event.kind {
        EventKind::Metric => {
            let one = counted.entry(&event.service).or_default();
            one.totals.metrics += 1.0;
            match event.how.as_str() {
                "up" => one.totals.up += 1.0,
                "down" => one.totals.down += 1.0,
                _ => {}
            }
            one.add(format!("metric {what} {}", short(&event.how)), 1.0);
            one.first("metric", earliness);
        }
        EventKind::Log => {
            let one = counted.entry(&event.service).or_default();
            one.totals.logs += 1.0;
            one.add(format!("log {what}"), 1.0);
            one.first("log", earliness);
        }
        EventKind::Trace => {
            let how = short(&event.how);
            let caller = counted.entry(&event.service).or_default();
            caller.totals.calls += 1.0;
            caller.add(format!("calls made {how}"), 1.0);
            caller.first("call made", earliness);
            let Some(callee) = &event.callee else { return };
            if *callee == event.service {
                caller.add(format!("calls to itself {how}"), 1.0);
            }
            let called = counted.entry(callee).or_default();
            called.totals.calls += 1.0;
            called.add(format!("calls taken {how}"), 1.0);
            let operation: String =
                event.what.chars().filter(|character| !character.is_ascii_digit()).collect();
            called.add(format!("call {} {how}", short(&operation)), 1.0);
            called.first("call taken", earliness);
        }
    }
}

impl Counted {
    fn add(&mut self, name: String, by: f64) {
        *self.features.entry(name).or_default() += by;
    }

    fn first(&mut self, what: &str, earliness: f64) {
        self.features.entry(format!("how early: {what}")).or_insert(earliness);
    }
}

fn candidate(name: &str, counted: &BTreeMap<&str, Counted>, neighbours: &Neighbours<'_>) -> Candidate {
    let own = counted.get(name);
    let mut features = own.map(|own| own.features.clone()).unwrap_or_default();
    let kind = without_number(name);
    let others = || counted.iter().filter(|(other, _)| **other != name);
    let of = |place: usize, one: &Counted| one.totals.all().get(place).map_or(0.0, |(_, count)| *count);
    for (place, (what, count)) in own.map(|own| own.totals).unwrap_or_default().all().into_iter().enumerate()
    {
        let total: f64 = counted.values().map(|one| of(place, one)).sum();
        let most = others().map(|(_, other)| of(place, other)).fold(0.0, f64::max);
        features.insert(what.to_owned(), count);
        features.insert(format!("share of {what}"), count / total.max(1.0));
        features.insert(
            format!("services with more {what}"),
            others().filter(|(_, other)| of(place, other) > count).count() as f64,
        );
        features.insert(format!("{what} beyond any other service"), count - most);
        features.insert(format!("{what} of all services"), total);
        let peers = others().filter(|(other, _)| without_number(other) == kind);
        let most = peers.map(|(_, peer)| of(place, peer)).fold(0.0, f64::max);
        features.insert(format!("{what} beyond its other instances"), count - most);
        for (whose, names) in [
            ("services it calls", neighbours.called.get(name)),
            ("services that call it", neighbours.calling.get(name)),
        ] {
            let Some(names) = names.filter(|names| !names.is_empty()) else { continue };
            let sum: f64 = names.iter().filter_map(|name| counted.get(name)).map(|one| of(place, one)).sum();
            features.insert(format!("{what} of {whose}"), sum / names.len() as f64);
            features.insert(format!("number of {whose}"), names.len() as f64);
        }
    }
    let silent = counted.values().filter(|one| of(0, one) == 0.0).count();
    features.insert("services without any event".to_owned(), silent as f64);
    features.insert(format!("is {}", short(name)), 1.0);
    features.insert(format!("is an instance of {}", short(kind)), 1.0);
    features.retain(|_, value| *value != 0.0);
    Candidate { name: name.to_owned(), features }
}

/// Who calls whom, both ways round.
struct Neighbours<'a> {
    called: BTreeMap<&'a str, BTreeSet<&'a str>>,
    calling: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Neighbours<'a> {
    fn of(observation: &'a Observation) -> Self {
        let mut neighbours = Self { called: BTreeMap::new(), calling: BTreeMap::new() };
        for (from, to) in observation.calls.iter().take(CALLS_MAX).filter(|(from, to)| from != to) {
            neighbours.called.entry(from).or_default().insert(to);
            neighbours.calling.entry(to).or_default().insert(from);
        }
        neighbours
    }
}

/// `carts` for `carts-1` and `carts1`: what instances have in common.
fn without_number(name: &str) -> &str {
    let kind = name.trim_end_matches(|character: char| character.is_ascii_digit());
    let kind = kind.strip_suffix('-').unwrap_or(kind);
    if kind.is_empty() { name } else { kind }
}

/// Without the service's name, which some sources put before the name of a template or a metric.
fn general(service: &str, what: &str) -> String {
    let rest = what.strip_prefix(service).and_then(|rest| rest.strip_prefix(['-', '_', '.', '/', ':']));
    short(rest.unwrap_or(what))
}

fn short(text: &str) -> String {
    text.chars().take(NAME_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, service: &str, callee: Option<&str>, what: &str, how: &str) -> Event {
        let [service, what, how] = [service, what, how].map(str::to_owned);
        Event { kind, service, callee: callee.map(str::to_owned), what, how }
    }

    #[test]
    fn what_was_seen_is_counted_and_compared() {
        let observation = Observation {
            events: vec![
                event(EventKind::Metric, "carts-1", None, "cpu", "up"),
                event(EventKind::Metric, "carts-0", None, "cpu", "up"),
                event(EventKind::Metric, "carts-1", None, "memory", "down"),
                event(EventKind::Log, "carts-1", None, "carts-1-34", ""),
                event(EventKind::Trace, "front", Some("carts-1"), "/items/5", "slow"),
                event(EventKind::Metric, "elsewhere", None, "load", "up"),
            ],
            services: ["carts-0", "carts-1", "front", "carts-0"].map(str::to_owned).to_vec(),
            calls: vec![("front".to_owned(), "carts-1".to_owned()), ("front".to_owned(), "front".to_owned())],
        };
        let found = features(&observation);
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["carts-0", "carts-1", "front"]);
        let value = |place: usize, name: &str| found[place].features.get(name).copied().unwrap_or_default();
        for (name, zero, one, front) in [
            ("metric cpu up", 1.0, 1.0, 0.0),
            ("log 34", 0.0, 1.0, 0.0),
            ("calls taken slow", 0.0, 1.0, 0.0),
            ("calls made slow", 0.0, 0.0, 1.0),
            ("call /items/ slow", 0.0, 1.0, 0.0),
            ("events", 1.0, 4.0, 1.0),
            ("share of metrics", 0.25, 0.5, 0.0),
            ("services with more events", 1.0, 0.0, 1.0),
            ("events beyond its other instances", -3.0, 3.0, 1.0),
            ("events of services it calls", 0.0, 0.0, 4.0),
            ("number of services that call it", 0.0, 1.0, 0.0),
            ("how early: metric", 0.5, 1.0, 0.0),
            ("is carts-1", 0.0, 1.0, 0.0),
            ("is an instance of carts", 1.0, 1.0, 0.0),
        ] {
            assert_eq!([value(0, name), value(1, name), value(2, name)], [zero, one, front], "{name}");
        }
    }
}
