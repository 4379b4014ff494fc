//! The localisation engines over gathered evidence: which service its series and lines point at, beside what the declarative rules say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use quell_incident::report::Subject;

use crate::candidate::{Cited, Draft};
use crate::gathered::{Evidences, Gathered, host};
use crate::localise::{
    Alerting, Calibration, Candidate, Counted, Observed, Outcome, Phase, Quantity, Record, Sample,
    ServiceSeries, Source, Statistic, localise,
};
use crate::relation::Concern;
use crate::rules::sentence::name_of;
use crate::series::{Level, SeriesKind, levels, seconds};
use crate::stats::median;
use crate::template::{cleaned, head, template};

/// Labels that name the service of a series, the most telling first.
const SERVICE_LABELS: [&str; 6] = ["service", "app", "deployment", "container", "pod", "consumergroup"];
/// Samples closer than this are one: what has to be held is held for longer than a scrape.
const STEP_SECONDS: f64 = 30.0;
/// Values just before the fault, by which a drift is told from a fault.
const BEFORE: usize = 2;
/// Of a message so much is looked at.
const MESSAGE_BYTES: usize = 1_000;
/// A candidate below this is not worth a line.
const CONFIDENCE_MIN: f64 = 0.2;
/// Candidates at the most.
const LOCATED_MAX: usize = 5;
/// Claims of one candidate at the most.
const CLAIMS_MAX: usize = 5;

/// A service that the engines point at.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) cause: &'static str,
    pub(crate) subject: Subject,
    pub(crate) statement: String,
    pub(crate) confidence: f64,
    pub(crate) calibrated: bool,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) onset: Option<Timestamp>,
    pub(crate) because: String,
    /// By which names it is known: its own, and the hosts of its series.
    names: BTreeSet<String>,
}

impl Located {
    /// Whether a rule's subject is this service, or is on its host.
    pub(crate) fn is_about(&self, subject: &Subject) -> bool {
        let Subject { service, instance, part } = subject;
        [service.as_str(), host(instance), part]
            .iter()
            .any(|name| !name.is_empty() && self.names.contains(*name))
    }

    /// Whether it rests on evidence that the other has read as well.
    pub(crate) fn shares_with(&self, drafts: &[Draft]) -> bool {
        let own: BTreeSet<&Cited> = self.drafts.iter().flat_map(|draft| &draft.cited).collect();
        drafts.iter().flat_map(|draft| &draft.cited).any(|cited| own.contains(cited))
    }

    /// Whether it rests on lines or on series of its own, of which the other has none.
    pub(crate) fn adds_to(&self, drafts: &[Draft]) -> bool {
        let has = |drafts: &[Draft], lines: bool| {
            drafts
                .iter()
                .flat_map(|draft| &draft.cited)
                .any(|cited| matches!(cited, Cited::Lines { .. }) == lines)
        };
        [true, false].iter().any(|lines| has(&self.drafts, *lines) && !has(drafts, *lines))
    }
}

/// The services that the evidence points at, the likeliest first.
pub(crate) fn locate(evidences: &Evidences, concern: &Concern, calibration: &Calibration) -> Vec<Located> {
    let gathered = Gathering::of(evidences, concern);
    let found = localise(&gathered.observed, calibration);
    let listed = found.candidates.iter().filter(|candidate| candidate.confidence >= CONFIDENCE_MIN);
    listed
        .take(LOCATED_MAX)
        .filter_map(|candidate| gathered.located(candidate, evidences, found.calibrated))
        .collect()
}

/// What the engines said of the first service, and whether it is the one of this subject; `None` where they say nothing.
pub(crate) fn pointed(evidences: &Evidences, concern: &Concern, subject: &Subject) -> Option<Outcome> {
    let gathered = Gathering::of(evidences, concern);
    let found = localise(&gathered.observed, &Calibration::prior());
    let first = gathered.located(found.candidates.first()?, evidences, false)?;
    Some(Outcome { features: found.features, right: first.is_about(subject) })
}

/// What the engines look at, and where in the evidence it is from.
struct Gathering {
    observed: Observed,
    /// By series of the engines: the series of the evidence.
    series: Vec<usize>,
    /// By record: the line.
    lines: Vec<usize>,
}

impl Gathering {
    fn of(evidences: &Evidences, concern: &Concern) -> Self {
        let mut gathering = Self {
            observed: Observed { step_seconds: STEP_SECONDS, ..Observed::default() },
            series: Vec::new(),
            lines: Vec::new(),
        };
        let mut places: HashMap<String, usize> = HashMap::new();
        let services = &mut gathering.observed.services;
        let mut place = |name: &str| {
            *places.entry(name.to_owned()).or_insert_with(|| {
                services.push(name.to_owned());
                services.len() - 1
            })
        };
        let fault_from = seconds(evidences.split.fault_from);
        for (index, one) in evidences.series.iter().enumerate() {
            let (Some(name), Some(quantity)) = (service_of(one), quantity_of(one)) else { continue };
            let binned = binned(&levels(&one.points, SeriesKind::of(&one.metric)), fault_from);
            let (normal, fault): (Vec<Sample>, Vec<Sample>) =
                binned.into_iter().partition(|sample| sample.at < fault_from);
            let normal: Vec<f64> = normal.into_iter().map(|sample| sample.value).collect();
            let before = normal.iter().rev().take(BEFORE).rev().copied().collect();
            let (service, metric) = (place(name), one.metric.clone());
            gathering.observed.series.push(ServiceSeries {
                service,
                metric,
                quantity,
                normal,
                before,
                fault,
            });
            gathering.series.push(index);
        }
        for (index, line) in evidences.lines.iter().enumerate().filter(|(_, line)| !line.service.is_empty()) {
            let is_fault = line.at >= evidences.split.fault_from;
            gathering.observed.records.push(Record {
                service: place(&line.service),
                phase: if is_fault { Phase::Fault } else { Phase::Normal },
                trace: None,
                is_error: matches!(line.level.as_str(), "error" | "fatal" | "critical"),
                message: head(&line.message, MESSAGE_BYTES).to_owned(),
            });
            gathering.lines.push(index);
        }
        gathering.observed.calls =
            evidences.calls.iter().map(|(caller, callee)| (place(caller), place(callee))).collect();
        let mut named =
            gathering.observed.services.iter().enumerate().filter(|(_, name)| concern.names(name));
        // An alert that names several services is of none of them alone.
        gathering.observed.alerting = match (named.next(), named.next()) {
            (Some((service, _)), None) => Some(Alerting { service, symptom: None }),
            _ => None,
        };
        gathering
    }

    fn located(&self, candidate: &Candidate, evidences: &Evidences, calibrated: bool) -> Option<Located> {
        let name = self.observed.services.get(candidate.service)?;
        let mut names = BTreeSet::from([name.clone()]);
        let mut instance = String::new();
        let mut drafts = Vec::new();
        for finding in candidate.findings.iter().take(CLAIMS_MAX) {
            let mut cited = Vec::new();
            for source in &finding.sources {
                match source {
                    Source::Series(index) => {
                        let index = *self.series.get(*index)?;
                        let label = evidences.series.get(index).and_then(|series| series.label("instance"));
                        if let Some(label) = label {
                            names.insert(host(label).to_owned());
                            if instance.is_empty() {
                                instance = label.to_owned();
                            }
                        }
                        cited.push(Cited::Series(index));
                    }
                    Source::Record(index) => {
                        let line = *self.lines.get(*index)?;
                        cited.extend(same_lines(evidences, line).filter(|lines| !cited.contains(lines)));
                    }
                    Source::Span(_) => {}
                }
            }
            if !cited.is_empty() {
                let by = format!("localise/{}", finding.rule.name());
                drafts.push(Draft { by, statement: cleaned(&finding.statement, 300), cited });
            }
        }
        let told = name_of(name, "an unknown service");
        (!drafts.is_empty()).then(|| Located {
            cause: candidate.fault.name(),
            subject: Subject { service: cleaned(name, 200), instance, part: String::new() },
            statement: candidate.fault.sentence(&told),
            confidence: candidate.confidence,
            calibrated,
            drafts,
            onset: candidate
                .onset
                .and_then(|at| Timestamp::from_millisecond((at * 1000.0).round() as i64).ok()),
            because: candidate.because.clone(),
            names,
        })
    }
}

/// All lines of the fault that are like this one, with how many there were before.
fn same_lines(evidences: &Evidences, line: usize) -> Option<Cited> {
    let first = evidences.lines.get(line)?;
    let wanted = template(&first.message);
    let alike = evidences.lines.iter().enumerate().filter(|(_, line)| {
        line.service == first.service && line.level == first.level && template(&line.message) == wanted
    });
    let (mut fault, mut before) = (Vec::new(), 0);
    for (index, line) in alike {
        if line.at >= evidences.split.fault_from {
            fault.push(index);
        } else {
            before += 1;
        }
    }
    (!fault.is_empty()).then(|| Cited::Lines { pattern: String::new(), fault, before })
}

fn service_of(series: &Gathered) -> Option<&str> {
    let named = SERVICE_LABELS.iter().find_map(|label| series.label(label));
    named.or_else(|| series.label("instance").map(host)).filter(|name| !name.is_empty())
}

/// What a series measures once it is read as a level: counters are rates by then.
fn quantity_of(series: &Gathered) -> Option<Quantity> {
    // Parts of a histogram say nothing by themselves.
    let name = series.metric.as_str();
    let counter = SeriesKind::of(name) == SeriesKind::Counter;
    if ["_bucket", "_sum"].iter().any(|suffix| name.ends_with(suffix)) {
        return None;
    }
    let status = ["status", "code", "status_code"].iter().find_map(|label| series.label(label));
    let failed = status.is_some_and(|status| status.starts_with('5'));
    let quantity = match Quantity::of(name) {
        Quantity::Traffic(_) if failed && counter => Quantity::Errors(Counted::PerSecond),
        Quantity::Traffic(_) if counter => Quantity::Traffic(Counted::PerSecond),
        // A gauge of requests is of those under way.
        Quantity::Traffic(_) => Quantity::Other,
        Quantity::Errors(_) if counter => Quantity::Errors(Counted::PerSecond),
        Quantity::Latency(side, statistic) => {
            Quantity::Latency(side, quantile_of(series).unwrap_or(statistic))
        }
        other => other,
    };
    // Time that is counted up is no latency.
    (!(counter && matches!(quantity, Quantity::Latency(..)))).then_some(quantity)
}

fn quantile_of(series: &Gathered) -> Option<Statistic> {
    let quantile: f64 = series.label("quantile")?.parse().ok()?;
    Some(match quantile {
        quantile if quantile <= 0.5 => Statistic::P50,
        quantile if quantile <= 0.9 => Statistic::P90,
        quantile if quantile <= 0.95 => Statistic::P95,
        _ => Statistic::Tail,
    })
}

/// The medians of half minutes, counted from the fault's beginning, so that none of them is of both sides.
fn binned(levels: &[Level], fault_from: f64) -> Vec<Sample> {
    let mut bins: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for level in levels {
        let bin = ((level.at - fault_from) / STEP_SECONDS).floor();
        bins.entry(bin as i64).or_default().push(level.value);
    }
    let sample = |(bin, values): (i64, Vec<f64>)| {
        Some(Sample { at: fault_from + bin as f64 * STEP_SECONDS, value: median(&values)? })
    };
    bins.into_iter().filter_map(sample).collect()
}
