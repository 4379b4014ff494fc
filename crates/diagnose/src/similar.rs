//! Past incidents that looked like this one, to cite: what was wrong then, and what helped.
//!
//! Only to cite. A likeness never raises a confidence: incidents of one site look alike for reasons that have nothing to do with
//! their cause, and what helped once is for people and runbooks to weigh.
//!
//! The measure is a weighted Jaccard index. Each aspect (alerts, services, metrics, templates, kinds of evidence) is a set of names;
//! a name counts the more, the fewer of the past incidents have it (its inverse document frequency), so that what fires in every
//! incident makes none alike; and aspects in which neither incident has anything do not count. The cause is not part of it: the
//! incident at hand has none yet.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Past incidents compared at the most; the last ones given.
pub const PAST_MAX: usize = 5_000;
/// Incidents that are cited at the most.
pub const CITED_MAX: usize = 10;
/// An incident less alike than this is not cited.
pub const LIKENESS_MIN: f64 = 0.2;
/// Names of one aspect at the most; the first ones by name.
const NAMES_MAX: usize = 200;
/// Shared names that are told for each cited incident.
const SHARED_MAX: usize = 8;

/// What an incident looked like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Names of its alerts.
    #[serde(default)]
    pub alerts: BTreeSet<String>,
    /// Services that were affected.
    #[serde(default)]
    pub services: BTreeSet<String>,
    /// Metrics that changed.
    #[serde(default)]
    pub metrics: BTreeSet<String>,
    /// Templates of log lines that are new, more frequent or gone.
    #[serde(default)]
    pub templates: BTreeSet<String>,
    /// Kinds of evidence, such as `metric`, `log`, `trace`, `change`.
    #[serde(default)]
    pub evidence: BTreeSet<String>,
}

/// An incident that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Its id.
    pub incident: String,
    /// What it looked like.
    pub fingerprint: Fingerprint,
    /// What was wrong, as it was confirmed; none when nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What was done and verified.
    #[serde(default)]
    pub helped: Vec<String>,
}

/// A past incident worth a look.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cited {
    /// Its id.
    pub incident: String,
    /// How alike it is, between 0 and 1.
    pub likeness: f64,
    /// What both have, the most telling first.
    pub shared: Vec<Shared>,
    /// What was wrong.
    pub cause: Option<String>,
    /// What was done and verified.
    pub helped: Vec<String>,
}

/// Something that two incidents have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// `alert`, `service`, `metric`, `template` or `evidence`.
    pub aspect: &'static str,
    /// Its name; telemetry's text.
    pub name: String,
}

/// An aspect, how much of the likeness it is, and its names.
type Aspect<'a> = (&'static str, f64, &'a BTreeSet<String>);

impl Fingerprint {
    /// What makes incidents alike counts most: the messages and alerts of a fault are its own, while many faults touch one service.
    fn aspects(&self) -> [Aspect<'_>; 5] {
        [
            ("alert", 3.0, &self.alerts),
            ("template", 3.0, &self.templates),
            ("service", 2.0, &self.services),
            ("metric", 2.0, &self.metrics),
            ("evidence", 0.5, &self.evidence),
        ]
    }
}

/// How many of the past incidents have each name, by aspect.
struct Frequencies<'a> {
    counts: BTreeMap<(&'static str, &'a str), usize>,
    incidents: usize,
}

impl<'a> Frequencies<'a> {
    fn of(past: &'a [Past]) -> Self {
        let mut counts = BTreeMap::new();
        for (aspect, _, names) in past.iter().flat_map(|one| one.fingerprint.aspects()) {
            for name in names.iter().take(NAMES_MAX) {
                *counts.entry((aspect, name.as_str())).or_default() += 1;
            }
        }
        Self { counts, incidents: past.len() }
    }

    /// Always above 0, also for a name that every incident has.
    fn weight(&self, aspect: &'static str, name: &str) -> f64 {
        let count = self.counts.get(&(aspect, name)).copied().unwrap_or_default();
        ((2.0 + self.incidents as f64) / (1.0 + count as f64)).ln()
    }
}

/// The past incidents most like this one, the most alike first; of equal ones those that were given later. At most `count` and at
/// most [`CITED_MAX`]. Past incidents come in the order in which they ended.
pub fn similar(now: &Fingerprint, past: &[Past], count: usize) -> Vec<Cited> {
    let past = past.get(past.len().saturating_sub(PAST_MAX)..).unwrap_or_default();
    let frequencies = Frequencies::of(past);
    let mut alike: Vec<(f64, usize)> = past
        .iter()
        .enumerate()
        .map(|(place, one)| (likeness(now, &one.fingerprint, &frequencies), place))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .collect();
    alike.sort_by(|one, other| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
    alike.truncate(count.min(CITED_MAX));
    let cited = alike.into_iter().filter_map(|(likeness, place)| {
        let one = past.get(place)?;
        Some(Cited {
            incident: one.incident.clone(),
            likeness,
            shared: shared(now, &one.fingerprint, &frequencies),
            cause: one.cause.clone(),
            helped: one.helped.clone(),
        })
    });
    cited.collect()
}

fn likeness(one: &Fingerprint, other: &Fingerprint, frequencies: &Frequencies<'_>) -> f64 {
    let (mut sum, mut most) = (0.0, 0.0);
    for ((aspect, part, names), (.., others)) in one.aspects().into_iter().zip(other.aspects()) {
        let (names, others): (BTreeSet<&str>, BTreeSet<&str>) = (bounded(names), bounded(others));
        let weigh = |names: &mut dyn Iterator<Item = &&str>| -> f64 {
            names.map(|name| frequencies.weight(aspect, name)).sum()
        };
        let all = weigh(&mut names.union(&others));
        if all > 0.0 {
            sum += part * weigh(&mut names.intersection(&others)) / all;
            most += part;
        }
    }
    if most > 0.0 { sum / most } else { 0.0 }
}

fn bounded(names: &BTreeSet<String>) -> BTreeSet<&str> {
    names.iter().take(NAMES_MAX).map(String::as_str).collect()
}

fn shared(one: &Fingerprint, other: &Fingerprint, frequencies: &Frequencies<'_>) -> Vec<Shared> {
    let mut weighed = Vec::new();
    for ((aspect, part, names), (.., others)) in one.aspects().into_iter().zip(other.aspects()) {
        for name in bounded(names).intersection(&bounded(others)) {
            let shared = Shared { aspect, name: (*name).to_owned() };
            weighed.push((part * frequencies.weight(aspect, name), shared));
        }
    }
    weighed.sort_by(|one, other| {
        let by_weight = other.0.total_cmp(&one.0);
        by_weight.then_with(|| (one.1.aspect, &one.1.name).cmp(&(other.1.aspect, &other.1.name)))
    });
    weighed.into_iter().map(|(_, shared)| shared).take(SHARED_MAX).collect()
}
