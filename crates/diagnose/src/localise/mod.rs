//! Which service is at fault: engines over metrics, logs and traces of a system whose services call each other.
//!
//! Flow. Each engine turns what it can read into [`Finding`]s: this service shows that, so strongly, and here is the evidence. An
//! engine that cannot read anything, or sees nothing unusual, says nothing. `topology` then takes back what a service merely passes
//! on: the latency, the errors and the missing calls that an unusual callee explains. `combine` makes candidates of it.
//!
//! Guarantees. Pure and deterministic: no clock, no randomness, and neither the order of services nor of series or lines changes the
//! answer. Values that are not finite count as missing.
//!
//! Assumptions. The normal of a series was recorded when nothing was wrong; a few wild minutes in it do no harm. `calls` is a
//! topology that somebody knows (from traces or a mesh): causal graphs that are learned from the metrics themselves were measured to
//! be about as good as chance.
//!
//! Thresholds have a unit or are in units of noise, and there is one set of them for all systems.

mod baro;
mod behaviour;
mod calls;
mod combine;
mod deviation;
mod network;
mod paired;
mod platt;
mod quantity;
mod resources;
mod rule;
mod symptoms;
mod thresholds;
mod topology;
mod unusual;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use baro::robust_scorer;
pub use combine::{Candidate, Features, Localisation};
pub use deviation::Sample;
pub use platt::{Calibration, FitError, MODEL_SCHEMA, OUTCOMES_MIN, Outcome};
pub use quantity::{Counted, Quantity, Side, Statistic};
pub use rule::{Fault, Group, Rule};
pub use thresholds::Thresholds;

/// One metric of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceSeries {
    /// Index of the service.
    pub service: usize,
    /// The metric's name without the service's.
    pub metric: String,
    /// What it measures; [`Quantity::of`] the name, if nothing else is known.
    pub quantity: Quantity,
    /// Values from when nothing was wrong.
    pub normal: Vec<f64>,
    /// The last values before the fault window, oldest first.
    pub before: Vec<f64>,
    /// The fault window.
    pub fault: Vec<Sample>,
}

/// When a line or a span was written, against the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// When nothing was wrong.
    Normal,
    /// In the fault window.
    Fault,
}

/// One log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Index of the service that wrote it.
    pub service: usize,
    /// Normal or fault.
    pub phase: Phase,
    /// The trace that it belongs to, if it is known; of a phase of its own.
    pub trace: Option<u64>,
    /// Whether its level is error or worse.
    pub is_error: bool,
    /// The message.
    pub message: String,
}

/// One span of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Index of the service.
    pub service: usize,
    /// Normal or fault.
    pub phase: Phase,
    /// Its trace.
    pub trace: u64,
    /// Its own number, unique in its phase.
    pub id: u64,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// What was done.
    pub operation: String,
    /// How long it took, in milliseconds.
    pub milliseconds: f64,
}

/// What the alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// Requests are slow.
    Latency,
    /// Requests fail.
    Errors,
}

/// The service that the alert is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alerting {
    /// Index of the service.
    pub service: usize,
    /// What is wrong with it, if the alert says so.
    pub symptom: Option<Symptom>,
}

/// What was observed of a system before and during a fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The names of the services; others refer to them by index.
    pub services: Vec<String>,
    /// Metrics.
    pub series: Vec<ServiceSeries>,
    /// Who calls whom: caller and callee. Empty when it is not known.
    pub calls: Vec<(usize, usize)>,
    /// Which service the alert is of, if it is of one.
    pub alerting: Option<Alerting>,
    /// Seconds between samples.
    pub step_seconds: f64,
    /// Log lines.
    pub records: Vec<Record>,
    /// Spans.
    pub spans: Vec<Span>,
}

/// What a finding rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A series by its index.
    Series(usize),
    /// A log line by its index.
    Record(usize),
    /// A span by its index.
    Span(usize),
}

/// Why a finding does not count in full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Discount {
    /// A service that it calls shows the same, and explains this share of it.
    PassedOn {
        /// The callee.
        callee: usize,
        /// The share, 0 to 1.
        share: f64,
    },
    /// The service that the alert is of does not depend on it.
    NotReached,
    /// The alert is about something else.
    OtherSymptom,
    /// Another service shows so much more of the same that this one has only this share of it.
    SmallPart(f64),
}

/// One observation that speaks for a fault of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Index of the service.
    pub service: usize,
    /// Which rule found it.
    pub rule: Rule,
    /// How strongly the evidence shows it, 0 to 1, before discounts.
    pub strength: f64,
    /// How much of it there is, in the same unit for all findings of a rule, so that a callee's can be compared with its caller's.
    pub amount: f64,
    /// One sentence for people, without the service's name.
    pub statement: String,
    /// What it rests on.
    pub sources: Vec<Source>,
    /// When it began, in seconds.
    pub onset: Option<f64>,
    /// What was taken back of it and why.
    pub discounts: Vec<Discount>,
}

/// Finds which service is at fault.
pub fn localise(observed: &Observed, calibration: &Calibration) -> Localisation {
    localise_by(observed, calibration, &Thresholds::default())
}

/// The same with other thresholds than the shipped ones.
pub fn localise_by(observed: &Observed, calibration: &Calibration, thresholds: &Thresholds) -> Localisation {
    let system = System::of(observed, thresholds);
    let mut findings = Vec::new();
    resources::find(&system, &mut findings);
    symptoms::find(&system, &mut findings);
    network::find(&system, &mut findings);
    behaviour::find(&system, &mut findings);
    unusual::find(&system, &mut findings);
    topology::discount(&system, &mut findings);
    combine::combine(&system, findings, calibration)
}

/// What was observed, in the order in which the engines look it up.
pub(crate) struct System<'a> {
    pub(crate) observed: &'a Observed,
    pub(crate) thresholds: &'a Thresholds,
    /// By service: its series with what they measure.
    pub(crate) series: Vec<Vec<(usize, Quantity)>>,
    pub(crate) callees: Vec<Vec<usize>>,
    pub(crate) callers: Vec<Vec<usize>>,
    /// By service: requests in one step, before the fault and at it, if they are counted.
    pub(crate) traffic: Vec<Option<Traffic>>,
    /// By metric: the highest value that any service has.
    highest: BTreeMap<&'a str, f64>,
}

/// How many requests a service has in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Traffic {
    pub(crate) series: usize,
    pub(crate) normal: f64,
    pub(crate) now: f64,
}

impl<'a> System<'a> {
    fn of(observed: &'a Observed, thresholds: &'a Thresholds) -> Self {
        let count = observed.services.len();
        let mut series: Vec<Vec<(usize, Quantity)>> = vec![Vec::new(); count];
        for (index, one) in observed.series.iter().enumerate() {
            if let Some(of_service) = series.get_mut(one.service) {
                of_service.push((index, one.quantity));
            }
        }
        let by_name = |index: &usize| observed.series.get(*index).map(|one| one.metric.as_str());
        for of_service in &mut series {
            of_service.sort_by(|one, other| by_name(&one.0).cmp(&by_name(&other.0)));
        }
        let mut callees: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut callers: Vec<Vec<usize>> = vec![Vec::new(); count];
        let seen = seen_calls(&observed.spans);
        for (caller, callee) in observed.calls.iter().chain(&seen) {
            if caller != callee && *caller < count && *callee < count {
                callees[*caller].push(*callee);
                callers[*callee].push(*caller);
            }
        }
        for list in callees.iter_mut().chain(&mut callers) {
            list.sort_by(|one, other| observed.services[*one].cmp(&observed.services[*other]));
            list.dedup();
        }
        let mut highest: BTreeMap<&str, f64> = BTreeMap::new();
        for one in &observed.series {
            let values = one.normal.iter().copied().chain(one.fault.iter().map(|sample| sample.value));
            let most = values.filter(|value| value.is_finite()).fold(0.0_f64, f64::max);
            let known = highest.entry(&one.metric).or_default();
            *known = known.max(most);
        }
        let mut system =
            Self { observed, thresholds, series, callees, callers, traffic: Vec::new(), highest };
        system.traffic = (0..count).map(|service| system.count_traffic(service)).collect();
        system
    }

    pub(crate) fn services(&self) -> std::ops::Range<usize> {
        0..self.observed.services.len()
    }

    pub(crate) fn name(&self, service: usize) -> &str {
        self.observed.services.get(service).map_or("", String::as_str)
    }

    /// The series of a service that measure what is asked for.
    pub(crate) fn measuring(
        &self,
        service: usize,
        wanted: impl Fn(Quantity) -> bool,
    ) -> impl Iterator<Item = (usize, &ServiceSeries, Quantity)> {
        self.series
            .get(service)
            .into_iter()
            .flatten()
            .filter(move |(_, quantity)| wanted(*quantity))
            .filter_map(|(index, quantity)| Some((*index, self.observed.series.get(*index)?, *quantity)))
    }

    fn count_traffic(&self, service: usize) -> Option<Traffic> {
        let counts = self.measuring(service, |quantity| matches!(quantity, Quantity::Traffic(_)));
        counts
            .filter_map(|(series, one, quantity)| {
                let normal = crate::stats::median(&one.normal)?;
                let fault: Vec<f64> = one.fault.iter().map(|sample| sample.value).collect();
                let now = crate::stats::median(&fault).unwrap_or(normal);
                let factor = match quantity {
                    Quantity::Traffic(Counted::PerStep) => 1.0,
                    _ => self.observed.step_seconds.max(1.0),
                };
                Some(Traffic { series, normal: normal * factor, now: now * factor })
            })
            .max_by(|one, other| one.normal.total_cmp(&other.normal))
    }

    /// How much a latency or a share of a service's requests can be trusted: a mean of few requests moves by chance. 1 from thirty
    /// requests on, nothing below ten; where requests are not counted, nearly in full.
    pub(crate) fn trust(&self, service: usize) -> f64 {
        const UNCOUNTED: f64 = 0.8;
        const REQUESTS_MIN: f64 = 10.0;
        const REQUESTS_FULL: f64 = 30.0;
        match self.traffic.get(service).copied().flatten() {
            None => UNCOUNTED,
            Some(traffic) => {
                let requests = traffic.normal.max(traffic.now);
                if requests < REQUESTS_MIN { 0.0 } else { (requests / REQUESTS_FULL).min(1.0).sqrt() }
            }
        }
    }

    /// What makes percents of this metric's values: 100 when nobody has more than about one of it. Told from all services together, since
    /// one that is idle never has more.
    pub(crate) fn percent(&self, metric: &str) -> f64 {
        const FRACTION_MAX: f64 = 1.5;
        let highest = self.highest.get(metric).copied().unwrap_or(0.0);
        if highest <= FRACTION_MAX { 100.0 } else { 1.0 }
    }
}

/// Who calls whom in the traces.
fn seen_calls(spans: &[Span]) -> BTreeSet<(usize, usize)> {
    let by_id: HashMap<(Phase, u64), usize> =
        spans.iter().map(|span| ((span.phase, span.id), span.service)).collect();
    let call = |span: &Span| Some((*by_id.get(&(span.phase, span.parent?))?, span.service));
    spans.iter().filter_map(call).filter(|(caller, callee)| caller != callee).collect()
}
