//! The evidence, put in order: each series once, every line in the order of time, and the window in which the fault is looked for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use quell_incident::evidence::{EvidenceSet, LogLine, Point, Unavailable};
use quell_incident::surroundings::EDGES_MAX;

use crate::about;
use crate::rules::{MetricSignal, RuleSet, Signal};
use crate::series::{ONSET_LEAD_SECONDS, Reading, SeriesKind, Window, usable};
use crate::surroundings::Surroundings;
use crate::template::{MESSAGE_BYTES_MAX, Split, cleaned, head};

/// Series looked at in one diagnosis at the most.
const SERIES_MAX: usize = 10_000;
/// Lines looked at in one diagnosis at the most; the newest ones.
const LINES_MAX: usize = 50_000;
/// What is said of lines that were left out at the most, in characters.
const LEFT_OUT_CHARACTERS_MAX: usize = 300;
/// How long before an alert its fault is taken to have begun when no series shows it: about the range and the `for` of a rule.
const ALERT_DELAY: SignedDuration = SignedDuration::from_secs(120);

/// One series with the query that brought it.
pub(crate) struct Gathered {
    pub(crate) source: String,
    pub(crate) query: String,
    pub(crate) metric: String,
    /// What it is about.
    pub(crate) labels: BTreeMap<String, String>,
    /// As it was stored, which is what people look for.
    pub(crate) own: BTreeMap<String, String>,
    pub(crate) points: Vec<Point>,
}

impl Gathered {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    pub(crate) fn is_read_by(&self, signal: &MetricSignal) -> bool {
        let stored = |name: &str| self.own.get(name).map(String::as_str);
        let has = |name: &str, value: &str| self.label(name) == Some(value) || stored(name) == Some(value);
        signal.names().any(|name| name == self.metric)
            && signal.labels.iter().all(|(name, value)| has(name, value))
            && signal
                .matching
                .iter()
                .all(|(name, fits)| self.label(name).is_some_and(|label| fits.is_match(label)))
            && !signal
                .excluding
                .iter()
                .any(|(name, fits)| fits.is_match(self.label(name).unwrap_or_default()))
    }
}

/// All evidence of one diagnosis.
pub(crate) struct Evidences {
    pub(crate) window: Window,
    pub(crate) split: Split,
    pub(crate) series: Vec<Gathered>,
    pub(crate) lines: Vec<LogLine>,
    /// By line: which log source brought it.
    pub(crate) line_sources: Vec<usize>,
    /// Source and query of each answer of a log source.
    pub(crate) log_sources: Vec<(String, String)>,
    pub(crate) around: Surroundings,
    /// Sources that did not answer, and answers that were cut: what is not in those may exist all the same.
    pub(crate) unavailable: Vec<Unavailable>,
    platform_was_cut: bool,
    /// Whether one of the log sources did not answer, or not in full. Lines that were left out of an answer are not missing from it.
    a_log_source_failed: bool,
    /// Whether a log source had lines, and none that could be used: then nothing follows from what was not found. A few lines that were
    /// left out beside many others, such as a banner, do not make an answer worthless.
    a_source_had_no_usable_line: bool,
    /// Who calls whom.
    pub(crate) calls: Vec<(String, String)>,
}

impl Evidences {
    pub(crate) fn gather(evidence: &EvidenceSet, rules: &RuleSet, window: Window) -> Self {
        let series = series(evidence, window.reference);
        let (lines, line_sources) = lines(evidence, window.reference);
        let points = series.iter().flat_map(|one| one.points.first()).map(|point| point.at);
        let from = points.chain(lines.first().map(|line| line.at)).min().unwrap_or(window.reference);
        let fault_from = fault_from(&series, rules, window).max(from).min(window.reference);
        let log_sources: Vec<(String, String)> =
            evidence.logs.iter().map(|set| (set.source.clone(), set.query.clone())).collect();
        let a_log_source_failed = evidence.logs.iter().any(|set| set.truncated)
            || evidence.unavailable.iter().any(|one| is_of_logs(one, &log_sources));
        Self {
            window,
            split: Split { from, fault_from, to: window.reference },
            series,
            lines,
            line_sources,
            around: Surroundings::gather(evidence, window, fault_from),
            log_sources,
            a_log_source_failed,
            unavailable: unavailable(evidence),
            calls: evidence
                .topology
                .edges
                .iter()
                .take(EDGES_MAX)
                .map(|edge| (edge.caller.clone(), edge.callee.clone()))
                .collect(),
            a_source_had_no_usable_line: evidence
                .logs
                .iter()
                .any(|set| set.lines.is_empty() && !set.left_out.is_empty()),
            platform_was_cut: evidence.platform.iter().any(|set| set.truncated),
        }
    }

    /// Whether series of this metric were asked for and may be missing.
    pub(crate) fn may_miss_metric(&self, metric: &str) -> bool {
        self.unavailable.iter().filter(|one| !is_of_logs(one, &self.log_sources)).any(|one| {
            one.query.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with(['{', '[']))
        })
    }

    /// Whether objects or events of a platform may be missing.
    pub(crate) fn may_miss_platform(&self) -> bool {
        !self.around.has_platform || self.did_not_answer(PLATFORM_SOURCE) || self.platform_was_cut
    }

    /// Whether health checks may be missing.
    pub(crate) fn may_miss_health(&self) -> bool {
        !self.around.has_health || self.did_not_answer(HEALTH_SOURCE)
    }

    fn did_not_answer(&self, source: &str) -> bool {
        self.unavailable.iter().any(|one| one.source == source)
    }

    /// Whether lines may be missing, because one of the log sources did not answer in full.
    pub(crate) fn may_miss_lines(&self) -> bool {
        self.log_sources.is_empty() || self.a_source_had_no_usable_line || self.a_log_source_failed
    }
}

/// Metrics, platforms and health are asked for by one tool each, under these names; all other sources are of logs.
const METRIC_SOURCE: &str = "query-metrics";
const PLATFORM_SOURCE: &str = "platform-state";
const HEALTH_SOURCE: &str = "health-check";

fn is_of_logs(one: &Unavailable, log_sources: &[(String, String)]) -> bool {
    let of_a_source = log_sources.iter().any(|(source, query)| *source == one.source && *query == one.query);
    of_a_source
        || (one.why != CUT && ![METRIC_SOURCE, PLATFORM_SOURCE, HEALTH_SOURCE].contains(&one.source.as_str()))
}

/// Why an answer is only a part.
const CUT: &str = "the answer was cut at its limit, there is more than was looked at";

fn unavailable(evidence: &EvidenceSet) -> Vec<Unavailable> {
    let metrics = evidence.metrics.iter().map(|set| (set.truncated, &set.source, &set.query));
    let logs = evidence.logs.iter().map(|set| (set.truncated, &set.source, &set.query));
    let platform = evidence.platform.iter().map(|set| (set.truncated, &set.source, &set.query));
    let cut = metrics.chain(logs).chain(platform).filter(|(truncated, _, _)| *truncated).map(
        |(_, source, query)| Unavailable {
            source: source.clone(),
            query: query.clone(),
            why: CUT.to_owned(),
        },
    );
    let left_out = evidence.logs.iter().flat_map(|set| {
        set.left_out.iter().map(|lines| Unavailable {
            source: set.source.clone(),
            query: set.query.clone(),
            why: cleaned(&lines.told(), LEFT_OUT_CHARACTERS_MAX),
        })
    });
    evidence.unavailable.iter().cloned().chain(cut).chain(left_out).collect()
}

/// Each series once: two rules may have asked for it, the longer answer is kept.
fn series(evidence: &EvidenceSet, reference: Timestamp) -> Vec<Gathered> {
    let mut found: BTreeMap<(String, BTreeMap<String, String>), Gathered> = BTreeMap::new();
    for set in &evidence.metrics {
        for one in &set.series {
            let points = usable(&one.points, reference);
            let own: BTreeMap<String, String> =
                one.labels.iter().map(|(name, value)| (name.to_owned(), value.for_people())).collect();
            let key = (one.metric.clone(), own.clone());
            let known = found.get(&key).map(|known| known.points.len());
            let full = known.is_none() && found.len() >= SERIES_MAX;
            if points.is_empty() || full || known.is_some_and(|known| known >= points.len()) {
                continue;
            }
            let (source, query) = (set.source.clone(), set.query.clone());
            let (metric, labels) = (one.metric.clone(), about::labels(&one.metric, &own));
            found.insert(key, Gathered { source, query, metric, labels, own, points });
        }
    }
    found.into_values().collect()
}

fn lines(evidence: &EvidenceSet, reference: Timestamp) -> (Vec<LogLine>, Vec<usize>) {
    let mut all: Vec<(LogLine, usize)> = Vec::new();
    for (index, set) in evidence.logs.iter().enumerate() {
        for line in set.lines.iter().filter(|line| line.at <= reference) {
            let short = |text: &str| head(text, 200).to_owned();
            let line = LogLine {
                at: line.at,
                level: short(&line.level).to_lowercase(),
                service: short(&line.service),
                instance: short(&line.instance),
                message: head(&line.message, MESSAGE_BYTES_MAX).to_owned(),
            };
            all.push((line, index));
        }
    }
    let key = |(line, index): &(LogLine, usize)| {
        (line.at, line.service.clone(), line.instance.clone(), line.message.clone(), *index)
    };
    all.sort_by_cached_key(key);
    let surplus = all.len().saturating_sub(LINES_MAX);
    all.drain(..surplus);
    all.into_iter().unzip()
}

/// The earliest onset in what the rules read, since it is where the fault began; an alert comes later.
fn fault_from(series: &[Gathered], rules: &RuleSet, window: Window) -> Timestamp {
    let mut wanted: BTreeSet<(usize, bool)> = BTreeSet::new();
    for signal in rules.rules.iter().flat_map(|rule| rule.signals.values()) {
        if let Signal::Metric(signal) = signal {
            let read = series.iter().enumerate().filter(|(_, one)| one.is_read_by(signal));
            wanted.extend(read.map(|(index, _)| (index, signal.kind == SeriesKind::Counter)));
        }
    }
    let onsets = wanted.into_iter().filter_map(|(index, counter)| {
        let kind = if counter { SeriesKind::Counter } else { SeriesKind::Gauge };
        let reading = Reading::of(&series.get(index)?.points, kind, window)?;
        reading.changed().then_some(reading.onset).flatten()
    });
    let lead = SignedDuration::from_secs(ONSET_LEAD_SECONDS as i64);
    let earliest = window.started_at.checked_sub(lead).unwrap_or(Timestamp::MIN);
    let onset = onsets.filter(|onset| *onset >= earliest).min();
    let assumed = window.started_at.checked_sub(ALERT_DELAY).unwrap_or(Timestamp::MIN);
    onset.map_or(assumed, |onset| onset.min(window.started_at))
}

/// An instance without its port.
pub(crate) fn host(instance: &str) -> &str {
    match instance.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && !port.is_empty()
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => instance,
    }
}
