//! One rule over the evidence: a candidate for each value of its `per` labels for which any of its conditions holds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use quell_incident::report::Subject;

use crate::gathered::Evidences;
use crate::rules::condition::Values;
use crate::rules::sentence::Fill;
use crate::rules::{Rule, RuleSet};
use crate::seen::{Found, Seen};
use crate::series::seconds;

/// Candidates of one rule at the most.
const KEYS_MAX: usize = 1_000;

/// A piece of evidence before it has an id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cited {
    Series(usize),
    /// An object, event, health check or change by its index.
    Item(usize),
    /// Lines by their index, and what they have in common.
    Lines {
        pattern: String,
        fault: Vec<usize>,
        before: u64,
    },
}

/// A claim before its evidence has ids.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) by: String,
    pub(crate) statement: String,
    pub(crate) cited: Vec<Cited>,
}

/// What one rule says of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) cause: String,
    pub(crate) subject: Subject,
    pub(crate) statement: String,
    /// The largest contribution of each group of evidence.
    pub(crate) groups: BTreeMap<String, f64>,
    /// Groups that could not be looked at, since their source did not answer.
    pub(crate) unseen: BTreeSet<String>,
    /// Groups that were looked at and say nothing.
    pub(crate) silent: BTreeSet<String>,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) onset: Option<Timestamp>,
    pub(crate) components: Vec<String>,
    pub(crate) recommended_actions: Vec<String>,
}

/// Labels and their values.
pub(crate) type Key = BTreeMap<String, String>;

pub(crate) fn candidates(rules: &RuleSet, rule: &Rule, evidences: &Evidences) -> Vec<Candidate> {
    let found: BTreeMap<&str, Found<'_>> =
        rule.signals.iter().map(|(name, signal)| (name.as_str(), Found::look(signal, evidences))).collect();
    let keys = keys(rule, evidences, &found);
    keys.iter().filter_map(|key| candidate(rules, rule, evidences, &found, key)).collect()
}

/// The values of the `per` labels that occur, those of what is wrong on a platform first; one without any when there are none, so that
/// logs alone can speak.
fn keys(rule: &Rule, evidences: &Evidences, found: &BTreeMap<&str, Found<'_>>) -> BTreeSet<Key> {
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    let items = found.values().flat_map(|found| found.items(evidences));
    let series = found.values().flat_map(|found| found.series(evidences));
    for labels in items.chain(series) {
        if keys.len() >= KEYS_MAX {
            break;
        }
        keys.extend(key_of(rule, labels));
    }
    if rule.per.iter().any(|per| per.optional) {
        // Where one thing of an instance is told apart, the instance as a whole is nothing more.
        let is_part = |key: &Key, of: &Key| {
            key.len() < of.len() && key.iter().all(|(name, value)| of.get(name) == Some(value))
        };
        let whole: Vec<Key> = keys.iter().cloned().collect();
        keys.retain(|key| !whole.iter().any(|other| is_part(key, other)));
    }
    if keys.is_empty() {
        keys.insert(Key::new());
    }
    keys
}

fn key_of(rule: &Rule, labels: &BTreeMap<String, String>) -> Option<Key> {
    let mut key = Key::new();
    for per in &rule.per {
        match labels.get(&per.label) {
            Some(value) => key.insert(per.label.clone(), value.clone()),
            None if per.optional => continue,
            None => return None,
        };
    }
    (!key.is_empty()).then_some(key)
}

fn candidate(
    rules: &RuleSet,
    rule: &Rule,
    evidences: &Evidences,
    found: &BTreeMap<&str, Found<'_>>,
    key: &Key,
) -> Option<Candidate> {
    let seen: BTreeMap<&str, Seen> =
        found.iter().map(|(name, found)| (*name, found.read(evidences, key))).collect();
    let values: BTreeMap<&str, Values> =
        seen.iter().map(|(name, read)| (*name, read.values.clone())).collect();
    let now = seconds(evidences.window.reference);
    let mut holding: Vec<_> = rule
        .conditions
        .iter()
        .filter(|condition| condition.condition.holds(&rules.env, &values, now))
        .collect();
    if holding.is_empty() {
        return None;
    }
    // The strongest of each group first: it is what the group contributes, and what people read.
    holding.sort_by(|one, other| other.share.total_cmp(&one.share));
    let subject = Subject {
        service: first_source(&seen, &rule.subject.service),
        instance: first_source(&seen, &rule.subject.instance),
        part: first_source(&seen, &rule.subject.part),
    };
    let fill = Fill { subject: &subject, values: &values, units: &rule.units };
    let mut groups: BTreeMap<String, f64> = BTreeMap::new();
    let mut drafts: Vec<Draft> = Vec::new();
    let mut told: BTreeSet<Cited> = BTreeSet::new();
    for condition in holding {
        let cited: Vec<Cited> = condition
            .condition
            .signals()
            .iter()
            .filter_map(|name| seen.get(name.as_str()))
            .flat_map(|read| read.cited.clone())
            .collect();
        let strength = 1.0 - (1.0 - rule.base_confidence).powf(condition.share);
        let first_of_group = !groups.contains_key(&condition.group);
        // A weaker condition of a group is told only when it brings something that was not told yet.
        if cited.is_empty() || (!first_of_group && cited.iter().all(|one| told.contains(one))) {
            continue;
        }
        told.extend(cited.iter().cloned());
        groups.entry(condition.group.clone()).or_insert(strength);
        drafts.push(Draft { by: rule.name.clone(), statement: condition.says.fill(&fill), cited });
    }
    let (mut unseen, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for condition in rule.conditions.iter().filter(|one| !groups.contains_key(&one.group)) {
        let mut reads = condition.condition.signals().iter().filter_map(|name| seen.get(name.as_str()));
        let set = if reads.any(|read| read.unavailable) { &mut unseen } else { &mut silent };
        set.insert(condition.group.clone());
    }
    silent.retain(|group| !unseen.contains(group));
    Some(Candidate {
        cause: rule.cause.clone(),
        statement: rule.root_cause.fill(&fill),
        groups,
        unseen,
        silent,
        drafts,
        onset: seen.values().filter_map(|read| read.onset).min(),
        components: rule.components.clone(),
        recommended_actions: rule.recommended_actions.clone(),
        subject,
    })
    .filter(|candidate| !candidate.drafts.is_empty())
}

/// The first of the sources that has a value.
fn first_source(seen: &BTreeMap<&str, Seen>, sources: &[(String, String)]) -> String {
    let value = |(signal, name): &(String, String)| seen.get(signal.as_str())?.name(name);
    sources.iter().find_map(value).unwrap_or_default()
}
