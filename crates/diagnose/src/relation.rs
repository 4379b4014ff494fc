//! Whether a candidate has to do with what the alerts speak of.

use std::collections::BTreeSet;

use quell_incident::about::About;
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

/// What the alerts of an incident name.
pub(crate) struct Concern {
    names: BTreeSet<String>,
    components: BTreeSet<String>,
}

/// The name of an object of a cluster, without its namespace.
fn object(system: &str) -> Option<&str> {
    system.split_once('/').map(|(_, object)| object).filter(|_| !system.contains("://"))
}

impl Concern {
    pub(crate) fn of(incident: &IncidentBrief) -> Self {
        let mut concern = Self { names: BTreeSet::new(), components: BTreeSet::new() };
        let labels = incident.alerts.iter().map(|alert| &alert.labels).chain([&incident.labels]);
        for labels in labels {
            // What an exporter says of itself names nothing that is broken.
            let about = About::of(labels);
            concern.names.extend(about.names(labels).into_iter().map(|name| host(&name).to_owned()));
            if !about.component.is_empty() {
                concern.components.insert(about.component);
            }
        }
        for system in &incident.affected_systems {
            concern.names.insert(host(system).to_owned());
            concern.names.extend(object(system).map(str::to_owned));
        }
        concern.names.remove(UNKNOWN);
        concern.names.remove("");
        concern
    }

    /// Whether the alerts name this service or host.
    pub(crate) fn names(&self, name: &str) -> bool {
        !name.is_empty() && self.names.contains(host(name))
    }

    /// Whether the alerts are about the component that the candidate's rule is for.
    pub(crate) fn has_component_of(&self, candidate: &Candidate) -> bool {
        candidate.components.iter().any(|component| self.components.contains(component))
    }

    /// Whether the candidate's subject, its evidence or its component is named by the alerts. Alerts that name nothing exclude
    /// nothing.
    pub(crate) fn includes(&self, candidate: &Candidate, evidences: &Evidences) -> bool {
        if self.names.is_empty() && self.components.is_empty() {
            return true;
        }
        let Subject { service, instance, part } = &candidate.subject;
        let named = |text: &str| !text.is_empty() && self.names.contains(host(text));
        named(service)
            || named(instance)
            || named(part)
            || self.has_component_of(candidate)
            || candidate.drafts.iter().flat_map(|draft| &draft.cited).any(|cited| match cited {
                Cited::Series(index) => evidences.series.get(*index).is_some_and(|series| {
                    IDENTITY_LABELS.iter().filter_map(|label| series.label(label)).any(named)
                }),
                Cited::Item(index) => evidences.around.items.get(*index).is_some_and(|item| {
                    IDENTITY_LABELS.iter().filter_map(|label| item.labels.get(*label)).any(|name| named(name))
                }),
                Cited::Lines { fault, .. } => fault
                    .iter()
                    .filter_map(|index| evidences.lines.get(*index))
                    .any(|line| named(&line.service) || named(&line.instance)),
            })
    }
}
