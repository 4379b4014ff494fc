//! Cases of alert events as they are recorded: one on each line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quell_diagnose::learned::{Candidate, Event, EventKind, Example, Observation, features};
use serde::Deserialize;

use crate::failure::{Failure, Result};

/// One case with what its events say of each service.
pub(super) struct Case {
    pub(super) id: String,
    pub(super) candidates: Vec<Candidate>,
    /// The service that was at fault, where that is known.
    pub(super) cause: Option<String>,
    pub(super) fault: Option<String>,
}

impl Case {
    pub(super) fn example(&self) -> Option<Example> {
        Some(Example {
            candidates: self.candidates.clone(),
            cause: self.cause.clone()?,
            fault: self.fault.clone(),
        })
    }
}

#[derive(Deserialize)]
struct Recorded {
    id: String,
    /// Service, perhaps its host, metric, direction.
    #[serde(default)]
    metrics: Vec<Vec<String>>,
    /// Service, template.
    #[serde(default)]
    logs: Vec<Vec<String>>,
    /// Caller, callee, operation, what became of it.
    #[serde(default)]
    traces: Vec<Vec<String>>,
    nodes: Vec<String>,
    /// Who calls whom, by their places among the nodes.
    #[serde(default)]
    edges: Vec<(usize, usize)>,
}

/// What was really at fault in one case.
#[derive(Deserialize)]
pub(super) struct Truth {
    case: String,
    root_cause_service: String,
    #[serde(default)]
    fault: Option<String>,
}

fn lines_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("the file {} cannot be read: {error}", path.display())))
}

/// Every line of a file, none of them empty.
fn parsed<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>> {
    let text = lines_of(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| {
            Failure::failed(format!("{} line {}: {error}", path.display(), number + 1))
                .next("give one object of JSON on each line")
        })
    });
    parsed.collect()
}

/// By case, from all of the files.
pub(super) fn truths(paths: &[PathBuf]) -> Result<BTreeMap<String, Truth>> {
    let mut truths = BTreeMap::new();
    for path in paths {
        truths.extend(parsed::<Truth>(path)?.into_iter().map(|truth| (truth.case.clone(), truth)));
    }
    Ok(truths)
}

pub(super) fn read(path: &Path, truths: &BTreeMap<String, Truth>) -> Result<Vec<Case>> {
    let recorded: Vec<Recorded> = parsed(path)?;
    let cases = recorded.into_iter().map(|recorded| {
        let truth = truths.get(&recorded.id);
        Case {
            cause: truth.map(|truth| truth.root_cause_service.clone()),
            fault: truth.and_then(|truth| truth.fault.clone()),
            id: recorded.id.clone(),
            candidates: features(&observation(recorded)),
        }
    });
    Ok(cases.collect())
}

fn observation(recorded: Recorded) -> Observation {
    let mut events = Vec::new();
    for one in &recorded.metrics {
        if let [service, .., metric, direction] = one.as_slice() {
            events.push(event(EventKind::Metric, service, None, metric, direction));
        }
    }
    for one in &recorded.logs {
        if let [service, template] = one.as_slice() {
            events.push(event(EventKind::Log, service, None, template, ""));
        }
    }
    for one in &recorded.traces {
        if let [caller, callee, operation, outcome] = one.as_slice() {
            events.push(event(EventKind::Trace, caller, Some(callee), operation, outcome));
        }
    }
    let node = |place: usize| recorded.nodes.get(place).cloned();
    let calls = recorded.edges.iter().filter_map(|(from, to)| Some((node(*from)?, node(*to)?))).collect();
    Observation { events, calls, services: recorded.nodes }
}

fn event(kind: EventKind, service: &str, callee: Option<&String>, what: &str, how: &str) -> Event {
    let [service, what, how] = [service, what, how].map(str::to_owned);
    Event { kind, service, callee: callee.cloned(), what, how }
}
