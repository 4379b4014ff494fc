//! Reading the signals of a rule: first everything that a signal is about, then for each candidate what of it counts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use quell_incident::evidence::LogLine;

use crate::candidate::{Cited, Key};
use crate::gathered::{Evidences, host};
use crate::over;
use crate::rules::condition::{Number, Values};
use crate::rules::file::{About, Combine};
use crate::rules::filter::Filter;
use crate::rules::{ItemSignal, LogSignal, MetricSignal, Signal};
use crate::series::{Level, Reading, SeriesKind, sum};
use crate::surroundings::{Data, Item};
use crate::template::cleaned;

/// Series or items that one signal cites at the most.
const CITED_MAX: usize = 5;
/// A name in a message has to be at least this long to be found there.
const NAME_BYTES_MIN: usize = 4;
/// A name that is read from telemetry at the most, in characters.
const NAME_CHARACTERS_MAX: usize = 200;

/// Everything that a signal is about, for all candidates.
pub(crate) struct Found<'a> {
    signal: &'a Signal,
    series: Vec<(usize, Option<Read>)>,
    lines: Vec<usize>,
    /// Items that fit, in the order in which they are cited.
    items: Vec<usize>,
    /// Items of the kind that is looked for.
    of_kind: Vec<usize>,
}

/// A series as it was read; its levels only where they are summed.
type Read = (Reading, Vec<Level>);

/// A signal as it was read for one candidate.
#[derive(Default)]
pub(crate) struct Seen<'a> {
    pub(crate) values: Values,
    pub(crate) cited: Vec<Cited>,
    pub(crate) onset: Option<Timestamp>,
    /// Whether its source did not answer.
    pub(crate) unavailable: bool,
    names: Names<'a>,
}

/// Where the subject's names are read from.
#[derive(Default)]
enum Names<'a> {
    #[default]
    None,
    Labels(&'a BTreeMap<String, String>),
    Lines(&'a LogSignal, Vec<usize>, &'a [LogLine]),
    Item(&'a Filter, &'a Item),
}

impl Seen<'_> {
    /// The value of a label or of a named group, if there is one.
    pub(crate) fn name(&self, name: &str) -> Option<String> {
        let value = match &self.names {
            Names::None => None,
            Names::Labels(labels) => labels.get(name).cloned(),
            Names::Lines(signal, fault, lines) => most_frequent(signal, name, fault, lines),
            Names::Item(filter, item) => {
                let captured = filter.captured(name, item);
                captured.or_else(|| item.labels.get(name).map(String::as_str)).map(str::to_owned)
            }
        };
        value.filter(|value| !value.is_empty()).map(|value| cleaned(&value, NAME_CHARACTERS_MAX))
    }
}

impl<'a> Found<'a> {
    pub(crate) fn look(signal: &'a Signal, evidences: &Evidences) -> Self {
        let mut found =
            Self { signal, series: Vec::new(), lines: Vec::new(), items: Vec::new(), of_kind: Vec::new() };
        match signal {
            Signal::Metric(signal) => {
                let read = evidences.series.iter().enumerate().filter(|(_, one)| one.is_read_by(signal));
                found.series = read
                    .map(|(index, one)| {
                        let read = over::read(one, signal, evidences);
                        // The levels are kept only where they are summed.
                        let summed = |(reading, levels)| match signal.combine {
                            Combine::Sum => (reading, levels),
                            Combine::Highest | Combine::Lowest => (reading, Vec::new()),
                        };
                        (index, read.map(summed))
                    })
                    .collect();
            }
            Signal::Log(signal) => found.lines = matching_lines(signal, &evidences.lines),
            Signal::Item(signal) => {
                let pick = |fits: fn(&Filter, &Item) -> bool| {
                    let items = evidences.around.items.iter().enumerate();
                    items
                        .filter(|(_, item)| fits(&signal.filter, item))
                        .map(|(index, _)| index)
                        .collect::<Vec<_>>()
                };
                found.items = pick(Filter::fits);
                found.of_kind = pick(Filter::is_for);
            }
        }
        found
    }

    /// The labels of its items, where they say what a candidate is about.
    pub(crate) fn items<'e>(
        &self,
        evidences: &'e Evidences,
    ) -> impl Iterator<Item = &'e BTreeMap<String, String>> {
        let subject = matches!(self.signal, Signal::Item(signal) if signal.about == About::Subject);
        let items = self.items.iter().filter(move |_| subject);
        items
            .filter_map(|index| Some(&evidences.around.items.get(*index)?.labels))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The labels of its series.
    pub(crate) fn series<'e>(
        &self,
        evidences: &'e Evidences,
    ) -> impl Iterator<Item = &'e BTreeMap<String, String>> {
        let series = self.series.iter();
        series
            .filter_map(|(index, _)| Some(&evidences.series.get(*index)?.labels))
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub(crate) fn read<'e>(&self, evidences: &'e Evidences, key: &Key) -> Seen<'e>
    where
        'a: 'e,
    {
        match self.signal {
            Signal::Metric(signal) => self.read_metric(signal, evidences, key),
            Signal::Log(signal) => self.read_log(signal, evidences, key),
            Signal::Item(signal) => self.read_items(signal, evidences, key),
        }
    }

    fn read_metric<'e>(&self, signal: &MetricSignal, evidences: &'e Evidences, key: &Key) -> Seen<'e> {
        let of_key = |index: usize| {
            evidences.series.get(index).is_some_and(|one| {
                key.iter().all(|(name, value)| one.label(name).is_none_or(|label| label == value))
            })
        };
        let read: Vec<(usize, &Reading, &[Level])> = self
            .series
            .iter()
            .filter(|(index, _)| of_key(*index))
            .filter_map(|(index, read)| read.as_ref().map(|(reading, parts)| (*index, reading, &parts[..])))
            .collect();
        let Some((first, reading)) = combined(signal, &read, evidences) else {
            let unavailable = signal.names().any(|name| evidences.may_miss_metric(name));
            return Seen { values: absent(), unavailable, ..Seen::default() };
        };
        // The series that was chosen is cited first, for its labels name the subject.
        let mut series: Vec<usize> = match signal.combine {
            Combine::Sum => read.iter().map(|(index, _, _)| *index).collect(),
            Combine::Highest | Combine::Lowest => vec![first],
        };
        series.sort_by_key(|index| *index != first);
        let names = evidences.series.get(first).map_or(Names::None, |one| Names::Labels(&one.labels));
        let onset = if reading.changed() { reading.onset } else { None };
        let cited = series.into_iter().take(CITED_MAX).map(Cited::Series).collect();
        Seen { values: metric_values(&reading), cited, onset, names, unavailable: false }
    }

    fn read_log<'e>(&self, signal: &'e LogSignal, evidences: &'e Evidences, key: &Key) -> Seen<'e> {
        if evidences.log_sources.is_empty() {
            return Seen { values: absent(), unavailable: true, ..Seen::default() };
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
        let (mut fault_lines, mut before) = (Vec::new(), 0);
        for index in &self.lines {
            let Some(line) = evidences.lines.get(*index).filter(|line| about(line)) else { continue };
            if line.at >= split.fault_from {
                fault_lines.push(*index);
            } else {
                before += 1;
            }
        }
        let count = fault_lines.len() as f64;
        let values = Values::from([
            ("count", Number::Double(count)),
            ("before", Number::Double(before as f64)),
            ("per_minute", Number::Double(count / split.fault_seconds() * 60.0)),
            ("burst", Number::Double(count / split.expected(before))),
            ("present", Number::Flag(true)),
        ]);
        let onset = fault_lines.first().and_then(|index| evidences.lines.get(*index)).map(|line| line.at);
        // Another source that did not answer may have what this one has not.
        let unavailable = fault_lines.is_empty() && evidences.may_miss_lines();
        let mut cited = Vec::new();
        if !fault_lines.is_empty() {
            let pattern = signal.regex.as_str().to_owned();
            cited.push(Cited::Lines { pattern, fault: fault_lines.clone(), before });
        }
        Seen { values, cited, onset, unavailable, names: Names::Lines(signal, fault_lines, &evidences.lines) }
    }

    fn read_items<'e>(&self, signal: &'e ItemSignal, evidences: &'e Evidences, key: &Key) -> Seen<'e> {
        let around = &evidences.around;
        let pick = |indexes: &[usize]| -> Vec<(usize, &'e Item)> {
            let items = indexes.iter().filter_map(|index| Some((*index, around.items.get(*index)?)));
            items.filter(|(_, item)| around.concerns(item, signal.about, key)).collect()
        };
        let (fitting, of_kind) = (pick(&self.items), pick(&self.of_kind));
        let missing = match signal.filter {
            Filter::Event { .. } | Filter::Object { .. } => evidences.may_miss_platform(),
            Filter::Health { .. } => evidences.may_miss_health(),
            // A site without any record of a change most likely keeps none.
            Filter::Change { .. } => !around.items.iter().any(|item| matches!(item.data, Data::Change(_))),
        };
        if of_kind.is_empty() && missing {
            return Seen { values: absent(), unavailable: true, ..Seen::default() };
        }
        let (counted, mut numbers) = match &signal.filter {
            Filter::Event { .. } => events(fitting, around.events_from),
            Filter::Object { .. } => objects(fitting, &of_kind),
            Filter::Health { .. } => checks(&of_kind, &signal.filter),
            Filter::Change { within, .. } => changes(fitting, *within, evidences),
        };
        let newest = counted.iter().filter_map(|(_, item)| item.at()).max();
        let minutes = |from: Timestamp| newest.map(|at| from.duration_since(at).as_secs_f64() / 60.0);
        match signal.filter {
            Filter::Health { .. } => {}
            Filter::Change { .. } => {
                numbers.extend(minutes(evidences.split.fault_from).map(|value| ("minutes_before", value)));
                numbers.extend(minutes(evidences.window.reference).map(|value| ("minutes_ago", value)));
            }
            _ => numbers.extend(minutes(evidences.window.reference).map(|value| ("minutes_ago", value))),
        }
        let mut values: Values =
            numbers.into_iter().map(|(name, value)| (name, Number::Double(value))).collect();
        values.insert("present", Number::Flag(!counted.is_empty()));
        let onset = match signal.filter {
            Filter::Event { .. } => counted.iter().filter_map(|(_, item)| item.at()).min(),
            _ => None,
        };
        // That nothing failed is said by the checks that were made.
        let cited = match signal.filter {
            Filter::Health { .. } if counted.is_empty() => &of_kind,
            _ => &counted,
        };
        Seen {
            cited: cited.iter().take(CITED_MAX).map(|(index, _)| Cited::Item(*index)).collect(),
            names: cited.first().map_or(Names::None, |(_, item)| Names::Item(&signal.filter, item)),
            values,
            onset,
            unavailable: counted.is_empty() && missing,
        }
    }
}

type Counted<'e> = (Vec<(usize, &'e Item)>, Vec<(&'static str, f64)>);

/// The values of a signal that has nothing: a number that is not there makes no condition hold.
fn absent() -> Values {
    Values::from([("present", Number::Flag(false))])
}

fn events(fitting: Vec<(usize, &Item)>, fault_from: Timestamp) -> Counted<'_> {
    let times = |items: &[(usize, &Item)]| -> f64 {
        let counts = items.iter().map(|(_, item)| match &item.data {
            Data::Event(one) => f64::from(one.count.max(1)),
            _ => 0.0,
        });
        counts.sum()
    };
    let (fault, before): (Vec<_>, Vec<_>) =
        fitting.into_iter().partition(|(_, item)| item.at().is_some_and(|at| at >= fault_from));
    let objects: BTreeSet<_> = fault
        .iter()
        .map(|(_, item)| ["kind", "namespace", "name"].map(|name| item.labels.get(name)))
        .collect();
    let numbers =
        vec![("count", times(&fault)), ("before", times(&before)), ("objects", objects.len() as f64)];
    (fault, numbers)
}

fn objects<'e>(fitting: Vec<(usize, &'e Item)>, of_kind: &[(usize, &'e Item)]) -> Counted<'e> {
    let restarts = fitting.iter().map(|(_, item)| match &item.data {
        Data::Object(one) => one.restarts,
        _ => 0,
    });
    let unready = of_kind.iter().filter(|(_, item)| matches!(&item.data, Data::Object(one) if !one.ready));
    let numbers = vec![
        ("count", fitting.len() as f64),
        ("total", of_kind.len() as f64),
        ("unready", unready.count() as f64),
        ("restarts", restarts.max().map_or(0.0, f64::from)),
    ];
    (fitting, numbers)
}

/// The newest check of each dependency counts.
fn checks<'e>(asked: &[(usize, &'e Item)], filter: &Filter) -> Counted<'e> {
    let mut newest: BTreeMap<&str, (usize, &'e Item)> = BTreeMap::new();
    for (index, item) in asked {
        let Some(name) = item.labels.get("name") else { continue };
        if newest.get(name.as_str()).is_none_or(|(_, known)| known.at() < item.at()) {
            newest.insert(name, (*index, item));
        }
    }
    let seconds = newest.values().map(|(_, item)| match &item.data {
        Data::Health(one) => one.seconds,
        _ => 0.0,
    });
    let slowest = seconds.fold(0.0, f64::max);
    let asked = newest.len() as f64;
    let failed: Vec<_> = newest.into_values().filter(|(_, item)| filter.fits(item)).collect();
    let numbers = vec![("count", asked), ("failed", failed.len() as f64), ("seconds", slowest)];
    (failed, numbers)
}

fn changes<'e>(
    fitting: Vec<(usize, &'e Item)>,
    within: SignedDuration,
    evidences: &Evidences,
) -> Counted<'e> {
    let from = evidences.split.fault_from.checked_sub(within).unwrap_or(Timestamp::MIN);
    // What was changed afterwards was done about it.
    let to = evidences.window.started_at;
    let before: Vec<_> = fitting
        .into_iter()
        .filter(|(_, item)| item.at().is_some_and(|at| (from..=to).contains(&at)))
        .collect();
    let numbers = vec![("count", before.len() as f64)];
    (before, numbers)
}

fn matching_lines(signal: &LogSignal, lines: &[LogLine]) -> Vec<usize> {
    let fits = |line: &LogLine| {
        (signal.level.is_empty() || signal.level.contains(&line.level))
            && signal.regex.is_match(&line.message)
    };
    lines.iter().enumerate().filter(|(_, line)| fits(line)).map(|(index, _)| index).collect()
}

fn combined(
    signal: &MetricSignal,
    read: &[(usize, &Reading, &[Level])],
    evidences: &Evidences,
) -> Option<(usize, Reading)> {
    let size = |reading: &Reading| reading.rate.unwrap_or(reading.last);
    // Of equal ones the first in the order of labels.
    let highest = read.iter().rev().max_by(|one, other| size(one.1).total_cmp(&size(other.1)))?;
    let chosen = match signal.combine {
        Combine::Highest => highest,
        Combine::Lowest => read.iter().min_by(|one, other| size(one.1).total_cmp(&size(other.1)))?,
        Combine::Sum if read.len() == 1 => highest,
        Combine::Sum => {
            let parts: Vec<Vec<Level>> = read.iter().map(|(_, _, levels)| levels.to_vec()).collect();
            let last = read.iter().map(|(_, reading, _)| reading.last).sum();
            let samples = read.iter().map(|(_, reading, _)| reading.samples).sum();
            let total = Reading::of_levels(&sum(&parts), last, samples, highest.1.kind, evidences.window)?;
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

fn speaks_of(line: &LogLine, name: &str) -> bool {
    if line.service == name || host(&line.service) == name || host(&line.instance) == name {
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
    Some(best.0.to_owned())
}
