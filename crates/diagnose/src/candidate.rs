//! One rule over the evidence: a candidate for each value of its `per` labels for which any of its conditions holds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use quell_incident::evidence::LogLine;
use quell_incident::report::Subject;

use crate::gathered::{Evidences, Gathered, host};
use crate::rules::condition::{Number, Values};
use crate::rules::file::{About, Combine};
use crate::rules::sentence::Fill;
use crate::rules::{LogSignal, MetricSignal, Rule, RuleSet, Signal};
use crate::series::{Level, Reading, SeriesKind, levels, seconds, sum};

/// Candidates of one rule at the most.
const KEYS_MAX: usize = 200;
/// Series that one claim cites at the most.
const SERIES_CITED_MAX: usize = 5;
/// A name in a message has to be at least this long to be found there.
const NAME_BYTES_MIN: usize = 4;

/// A piece of evidence before it has an id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cited {
    Series(usize),
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

/// A signal as it was read for one key.
#[derive(Default)]
struct Seen {
    values: Values,
    series: Vec<usize>,
    labels: BTreeMap<String, String>,
    fault_lines: Vec<usize>,
    before_lines: u64,
    pattern: String,
    onset: Option<Timestamp>,
    unavailable: bool,
}

type Key = BTreeMap<String, String>;

pub(crate) fn candidates(rules: &RuleSet, rule: &Rule, evidences: &Evidences) -> Vec<Candidate> {
    let matched: BTreeMap<&str, Vec<usize>> = rule
        .signals
        .iter()
        .filter_map(|(name, signal)| match signal {
            Signal::Log(signal) => Some((name.as_str(), matching_lines(signal, &evidences.lines))),
            Signal::Metric(_) => None,
        })
        .collect();
    let keys = keys(rule, evidences);
    keys.iter().filter_map(|key| candidate(rules, rule, evidences, &matched, key)).collect()
}

/// The values of the `per` labels that occur; one without any when there are none, so that logs alone can speak.
fn keys(rule: &Rule, evidences: &Evidences) -> Vec<Key> {
    let signals: Vec<&MetricSignal> = rule.signals.values().filter_map(metric).collect();
    let mut keys = BTreeSet::new();
    for one in &evidences.series {
        if !signals.iter().any(|signal| one.is_read_by(signal)) {
            continue;
        }
        let key: Option<Key> =
            rule.per.iter().map(|name| Some((name.clone(), one.label(name)?.to_owned()))).collect();
        keys.extend(key.filter(|key| !key.is_empty()));
        if keys.len() >= KEYS_MAX {
            break;
        }
    }
    if keys.is_empty() {
        keys.insert(Key::new());
    }
    keys.into_iter().collect()
}

fn metric(signal: &Signal) -> Option<&MetricSignal> {
    match signal {
        Signal::Metric(signal) => Some(signal),
        Signal::Log(_) => None,
    }
}

fn matching_lines(signal: &LogSignal, lines: &[LogLine]) -> Vec<usize> {
    let fits = |line: &LogLine| {
        (signal.level.is_empty() || signal.level.contains(&line.level))
            && signal.regex.is_match(&line.message)
    };
    lines.iter().enumerate().filter(|(_, line)| fits(line)).map(|(index, _)| index).collect()
}

fn candidate(
    rules: &RuleSet,
    rule: &Rule,
    evidences: &Evidences,
    matched: &BTreeMap<&str, Vec<usize>>,
    key: &Key,
) -> Option<Candidate> {
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for (name, signal) in &rule.signals {
        let read = match signal {
            Signal::Metric(signal) => read_metric(signal, evidences, key),
            Signal::Log(signal) => {
                let lines = matched.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
                read_log(signal, lines, evidences, key)
            }
        };
        seen.insert(name, read);
    }
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
        service: first_source(rule, &seen, evidences, &rule.subject.service),
        instance: first_source(rule, &seen, evidences, &rule.subject.instance),
        part: first_source(rule, &seen, evidences, &rule.subject.part),
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
            .flat_map(cite)
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

fn cite(read: &Seen) -> Vec<Cited> {
    if !read.fault_lines.is_empty() {
        let (pattern, fault) = (read.pattern.clone(), read.fault_lines.clone());
        return vec![Cited::Lines { pattern, fault, before: read.before_lines }];
    }
    read.series.iter().take(SERIES_CITED_MAX).map(|index| Cited::Series(*index)).collect()
}

fn read_metric(signal: &MetricSignal, evidences: &Evidences, key: &Key) -> Seen {
    let of_key =
        |one: &Gathered| key.iter().all(|(name, value)| one.label(name).is_none_or(|label| label == value));
    let window = evidences.window;
    let mut read: Vec<(usize, Reading, Vec<Level>)> = Vec::new();
    for (index, one) in evidences.series.iter().enumerate() {
        if one.is_read_by(signal)
            && of_key(one)
            && let Some(reading) = Reading::of(&one.points, signal.kind, window)
        {
            read.push((index, reading, levels(&one.points, signal.kind)));
        }
    }
    let Some((first, reading)) = combined(signal, &read, evidences) else {
        let unavailable = evidences.may_miss_metric(&signal.metric);
        let values = Values::from([("present", Number::Flag(false))]);
        return Seen { values, unavailable, ..Seen::default() };
    };
    // The series that was chosen is cited first, for its labels name the subject.
    let mut series: Vec<usize> = match signal.combine {
        Combine::Sum => read.iter().map(|(index, _, _)| *index).collect(),
        Combine::Highest | Combine::Lowest => vec![first],
    };
    series.sort_by_key(|index| *index != first);
    let labels = evidences.series.get(first).map(|one| one.labels.clone()).unwrap_or_default();
    let onset = if reading.changed() { reading.onset } else { None };
    Seen { values: metric_values(&reading), series, labels, onset, ..Seen::default() }
}

fn combined(
    signal: &MetricSignal,
    read: &[(usize, Reading, Vec<Level>)],
    evidences: &Evidences,
) -> Option<(usize, Reading)> {
    let size = |reading: &Reading| reading.rate.unwrap_or(reading.last);
    // Of equal ones the first in the order of labels.
    let highest = read.iter().rev().max_by(|one, other| size(&one.1).total_cmp(&size(&other.1)))?;
    let chosen = match signal.combine {
        Combine::Highest => highest,
        Combine::Lowest => read.iter().min_by(|one, other| size(&one.1).total_cmp(&size(&other.1)))?,
        Combine::Sum if read.len() == 1 => highest,
        Combine::Sum => {
            let parts: Vec<Vec<Level>> = read.iter().map(|(_, _, levels)| levels.clone()).collect();
            let last = read.iter().map(|(_, reading, _)| reading.last).sum();
            let samples = read.iter().map(|(_, reading, _)| reading.samples).sum();
            let total = Reading::of_levels(&sum(&parts), last, samples, signal.kind, evidences.window)?;
            return Some((highest.0, total));
        }
    };
    Some((chosen.0, chosen.1.clone()))
}

fn metric_values(reading: &Reading) -> Values {
    let mut values = Values::new();
    let mut set = |field, value: f64| {
        if value.is_finite() {
            values.insert(field, Number::Double(value));
        }
    };
    set("last", reading.last);
    set("level", reading.level);
    set("slope", reading.slope);
    set("highest", reading.highest);
    set("lowest", reading.lowest);
    set("score", reading.score);
    if reading.kind == SeriesKind::Counter
        && let Some(rate) = reading.rate
    {
        set("rate", rate);
    }
    if let Some(before) = reading.before {
        set("before", before);
        set("change", reading.level - before);
        set("ratio", reading.level / before);
    }
    values.insert("compared", Number::Flag(reading.before.is_some()));
    values.insert("present", Number::Flag(true));
    values
}

fn read_log(signal: &LogSignal, matched: &[usize], evidences: &Evidences, key: &Key) -> Seen {
    let pattern = signal.regex.as_str().to_owned();
    if evidences.log_sources.is_empty() {
        let values = Values::from([("present", Number::Flag(false))]);
        return Seen { values, pattern, unavailable: true, ..Seen::default() };
    }
    let names: Vec<&str> = key.values().map(|value| host(value)).collect();
    // A machine runs many services: what one of them writes is not about its neighbour.
    let service = key.get("service").map(String::as_str);
    let about = |line: &LogLine| match service {
        _ if signal.about == About::Any || names.is_empty() => true,
        Some(service) if !line.service.is_empty() => speaks_of(line, service),
        _ => names.iter().any(|name| speaks_of(line, name)),
    };
    let split = evidences.split;
    let (mut fault_lines, mut before_lines) = (Vec::new(), 0);
    for index in matched {
        let Some(line) = evidences.lines.get(*index).filter(|line| about(line)) else { continue };
        if line.at >= split.fault_from {
            fault_lines.push(*index);
        } else {
            before_lines += 1;
        }
    }
    let count = fault_lines.len() as f64;
    let values = Values::from([
        ("count", Number::Double(count)),
        ("before", Number::Double(before_lines as f64)),
        ("per_minute", Number::Double(count / split.fault_seconds() * 60.0)),
        ("burst", Number::Double(count / split.expected(before_lines))),
        ("present", Number::Flag(true)),
    ]);
    let onset = fault_lines.first().and_then(|index| evidences.lines.get(*index)).map(|line| line.at);
    // Another source that did not answer may have what this one has not.
    let unavailable = fault_lines.is_empty() && evidences.may_miss_lines();
    Seen { values, fault_lines, before_lines, pattern, onset, unavailable, ..Seen::default() }
}

fn speaks_of(line: &LogLine, name: &str) -> bool {
    if line.service == name || host(&line.instance) == name {
        return true;
    }
    let in_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    name.len() >= NAME_BYTES_MIN
        && line.message.match_indices(name).any(|(at, _)| {
            let before = line.message.get(..at).and_then(|text| text.chars().next_back());
            let after = line.message.get(at + name.len()..).and_then(|text| text.chars().next());
            !before.is_some_and(in_name) && !after.is_some_and(in_name)
        })
}

/// The first of the sources that has a value.
fn first_source(
    rule: &Rule,
    seen: &BTreeMap<&str, Seen>,
    evidences: &Evidences,
    sources: &[(String, String)],
) -> String {
    let value = |(signal, name): &(String, String)| {
        let read = seen.get(signal.as_str())?;
        match rule.signals.get(signal)? {
            Signal::Metric(_) => read.labels.get(name).cloned(),
            Signal::Log(log) => most_frequent(log, name, &read.fault_lines, &evidences.lines),
        }
        .filter(|value| !value.is_empty())
    };
    sources.iter().find_map(value).unwrap_or_default()
}

/// The most frequent value of a named group, or of the lines' own service or instance; of equal ones the first by name.
fn most_frequent(log: &LogSignal, name: &str, indexes: &[usize], lines: &[LogLine]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in indexes.iter().filter_map(|index| lines.get(*index)) {
        let captured =
            log.regex.captures(&line.message).and_then(|found| found.name(name)).map(|text| text.as_str());
        let value = match name {
            "service" => captured.unwrap_or(&line.service),
            "instance" => captured.unwrap_or(&line.instance),
            _ => captured.unwrap_or_default(),
        };
        if !value.is_empty() {
            *counts.entry(value).or_default() += 1;
        }
    }
    let best = counts.into_iter().rev().max_by_key(|(_, count)| *count)?;
    Some(crate::template::cleaned(best.0, 200))
}
