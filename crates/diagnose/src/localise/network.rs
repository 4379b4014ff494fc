//! A network that delays: callers wait longer than the called service says that it works.

use std::collections::BTreeMap;

use super::deviation::{Deviation, Floor, Sample};
use super::symptoms::{Slowed, latency_floors, metric, slowed, times};
use super::{Finding, Phase, Rule, Side, Source, Span, Statistic, System, Thresholds, calls};
use crate::stats::{median, quantile};

/// A callee that takes this part of what its caller waits longer explains it.
const EXPLAINED_FROM: f64 = 0.3;
/// A caller cannot wait longer for a call than its own answers take, but for the coarseness of histograms.
const WAIT_MAX: f64 = 1.5;
/// A callee whose calls are too few to be seen in a quantile does not explain it.
const SEEN_MIN: f64 = 0.05;
/// A share of the calls from which on it would be seen in the quantiles that are looked at.
const SHOWS_FROM: f64 = 0.1;
/// Calls of an edge that are needed before and during the fault.
const CALLS_MIN: usize = 3;
/// The quantile of an edge's gaps that is compared: a fault that begins late in the window, or ends early, still shows.
const GAP_QUANTILE: f64 = 0.7;
/// Gaps that are shorter are the network's and the libraries' own.
const GAP_MILLISECONDS: f64 = 5.0;
/// Spans that one finding cites at the most.
const SPANS_CITED_MAX: usize = 3;

pub(crate) fn find(system: &System<'_>, findings: &mut Vec<Finding>) {
    waits_of_callers(system, findings);
    gaps(system, findings);
}

/// From metrics alone: a caller's calls take longer, and none of those whom it calls says so. Which of them it is follows from how
/// many of the calls are slow, since a callee that gets a third of them moves another quantile than one that gets a twentieth.
fn waits_of_callers(system: &System<'_>, findings: &mut Vec<Finding>) {
    let floors = latency_floors(system);
    let answers: Vec<_> =
        system.services().map(|service| slowed(system, service, Side::Server, &floors)).collect();
    let waits: Vec<_> =
        system.services().map(|service| slowed(system, service, Side::Client, &floors)).collect();
    let strength = |caller: usize| {
        let Some(Some(wait)) = waits.get(caller) else { return 0.0 };
        system.thresholds.symptom(wait.deviation.score * system.trust(caller))
    };
    let shares = calls::shares(system);
    let waiting: Vec<usize> = system
        .services()
        .filter(|caller| strength(*caller) > 0.0)
        .filter(|caller| is_unexplained(system, *caller, &shares, &waits, &answers))
        .collect();
    let share = |caller: usize, callee: usize| shares.get(caller)?.get(&callee).copied();
    // How likely it is of each callee that what is seen at all callers would be seen if it were this one.
    let mut likely: BTreeMap<usize, f64> = BTreeMap::new();
    for callee in system.services() {
        let callers = system.callers.get(callee).map(Vec::as_slice).unwrap_or_default();
        if !callers.iter().any(|caller| waiting.contains(caller)) {
            continue;
        }
        let mut likelihood = 1.0;
        for caller in callers {
            let Some(Some(wait)) = waits.get(*caller) else { continue };
            let share = share(*caller, callee);
            likelihood *= if waiting.contains(caller) {
                share.map_or(1.0, |share| shows_in(wait.statistic, share))
            } else if system.trust(*caller) > 0.0 && share.is_none_or(|share| share >= SHOWS_FROM) {
                0.5
            } else {
                0.8
            };
        }
        let others = waiting.iter().filter(|caller| !callers.contains(caller)).count();
        likelihood *= 0.5_f64.powi(i32::try_from(others).unwrap_or(i32::MAX));
        likely.insert(callee, likelihood);
    }
    let total: f64 = likely.values().sum();
    let best = likely.values().copied().fold(0.0, f64::max);
    for (callee, likelihood) in likely {
        let callers =
            system.callers.get(callee).into_iter().flatten().filter(|caller| waiting.contains(caller));
        let most = callers.max_by(|one, other| strength(**one).total_cmp(&strength(**other)));
        let Some((caller, Some(wait))) =
            most.and_then(|caller| Some((*caller, waits.get(*caller)?.as_ref())))
        else {
            continue;
        };
        // Evidence for one of several: each has its part, and the likeliest one at least half of it, so that it stands out.
        let part = (likelihood / total).max(0.5 * likelihood / best);
        if !part.is_finite() || part <= 0.0 {
            continue;
        }
        findings.push(Finding {
            service: callee,
            rule: Rule::WaitOfCallers,
            strength: strength(caller) * part,
            amount: wait.deviation.now - wait.deviation.normal,
            statement: format!(
                "{} waits {} times as long for its calls ({}), and no callee says that it works longer",
                system.name(caller),
                times(wait.deviation.now, wait.deviation.normal),
                metric(system, wait.series)
            ),
            sources: vec![Source::Series(wait.series)],
            onset: Some(wait.deviation.onset),
            discounts: Vec::new(),
        });
    }
}

/// Whether a caller waits for calls, and none of those whom it calls says that it works longer.
fn is_unexplained(
    system: &System<'_>,
    caller: usize,
    shares: &[BTreeMap<usize, f64>],
    waits: &[Option<Slowed>],
    answers: &[Option<Slowed>],
) -> bool {
    let Some(Some(wait)) = waits.get(caller) else { return false };
    let answer = |service: usize| answers.get(service).and_then(Option::as_ref);
    // A connection that is kept open for long is no call: nobody waits for it longer than for the answer.
    let longest = |own: &Slowed| WAIT_MAX * own.deviation.now.max(own.deviation.normal);
    if answer(caller).is_some_and(|own| wait.deviation.now > longest(own)) {
        return false;
    }
    let rise = wait.deviation.now - wait.deviation.normal;
    let explains = |callee: usize| {
        answer(callee).is_some_and(|slower| {
            let seen = shares
                .get(caller)
                .and_then(|shares| shares.get(&callee))
                .is_none_or(|share| shows_in(wait.statistic, *share) >= SEEN_MIN);
            seen && slower.deviation.score * system.trust(callee) >= system.thresholds.symptom
                && slower.deviation.now - slower.deviation.normal >= EXPLAINED_FROM * rise
        })
    };
    let callees = system.callees.get(caller).map(Vec::as_slice).unwrap_or_default();
    !callees.is_empty() && !callees.iter().any(|callee| explains(*callee))
}

/// How likely it is that this statistic is the one that shows best what happens to a share of the calls.
fn shows_in(statistic: Statistic, share: f64) -> f64 {
    let typical: f64 = match statistic {
        Statistic::Mean => return 1.0,
        Statistic::P50 => 0.6,
        Statistic::P90 => 0.25,
        Statistic::P95 => 0.1,
        Statistic::Tail => 0.02,
    };
    // The shares are a guess that may well be wrong by a factor of three.
    let apart = (share.max(1e-3) / typical).ln() / 3.0_f64.ln();
    (-0.5 * apart * apart).exp()
}

type Edge = (usize, usize);

#[derive(Default)]
struct Gaps {
    normal: Vec<f64>,
    fault: Vec<(f64, usize)>,
}

/// From traces: what a call takes longer than the called service works on it. When all calls from and to a service have become slower it
/// is that service's network, when only some of them have it is the other end's.
fn gaps(system: &System<'_>, findings: &mut Vec<Finding>) {
    let edges = edges(&system.observed.spans);
    let slower: BTreeMap<Edge, (f64, f64, Vec<usize>)> =
        edges.iter().filter_map(|(edge, gaps)| Some((*edge, slower(gaps, system.thresholds)?))).collect();
    for service in system.services() {
        let mut own = Lateness::default();
        let mut incoming = Lateness::default();
        for ((from, to), (strength, milliseconds, cited)) in &slower {
            if *from == service || *to == service {
                own.add(*strength, *milliseconds, cited);
            }
            if *to == service {
                // A caller that is late with most of its other calls as well is late itself.
                let others = slower.iter().filter(|((caller, callee), _)| *caller == *from && callee != to);
                let mut late = Lateness::default();
                others.for_each(|(_, (strength, milliseconds, _))| late.add(*strength, *milliseconds, &[]));
                incoming.add(*strength * (1.0 - late.part()), *milliseconds, cited);
            }
        }
        // A service whose answers are late, or everything from and to it. Where only some of those whom it calls are late, it is they.
        let late = if incoming.part() >= own.part() { incoming } else { own };
        let strength = late.part().powi(2);
        if strength <= 0.0 || late.spans.is_empty() {
            continue;
        }
        let mut spans = late.spans;
        spans.sort_unstable();
        spans.truncate(SPANS_CITED_MAX);
        findings.push(Finding {
            service,
            rule: Rule::CallGap,
            strength,
            amount: late.milliseconds,
            statement: format!(
                "on {} of {} kinds of calls up to {:.0} ms are lost between the two ends",
                late.some, late.all, late.milliseconds
            ),
            sources: spans.into_iter().map(Source::Span).collect(),
            onset: None,
            discounts: Vec::new(),
        });
    }
}

/// How late the calls of some edges are.
#[derive(Default)]
struct Lateness {
    strength: f64,
    all: usize,
    some: usize,
    milliseconds: f64,
    spans: Vec<usize>,
}

impl Lateness {
    fn add(&mut self, strength: f64, milliseconds: f64, cited: &[usize]) {
        self.all += 1;
        self.strength += strength;
        if strength > 0.0 {
            self.some += 1;
            self.milliseconds = self.milliseconds.max(milliseconds);
            self.spans.extend(cited.iter().take(SPANS_CITED_MAX));
        }
    }

    /// The part of the edges that is late.
    fn part(&self) -> f64 {
        self.strength / self.all.max(1) as f64
    }
}

fn edges(spans: &[Span]) -> BTreeMap<Edge, Gaps> {
    let by_id: BTreeMap<(Phase, u64), usize> =
        spans.iter().enumerate().map(|(index, span)| ((span.phase, span.id), index)).collect();
    let mut edges: BTreeMap<Edge, Gaps> = BTreeMap::new();
    for (index, span) in spans.iter().enumerate() {
        let parent = span.parent.and_then(|id| spans.get(*by_id.get(&(span.phase, id))?));
        let Some(parent) = parent.filter(|parent| parent.service != span.service) else { continue };
        // A caller that does not wait for the answer has a shorter span than the callee.
        let gap = (parent.milliseconds - span.milliseconds).max(0.0);
        let gaps = edges.entry((parent.service, span.service)).or_default();
        match span.phase {
            Phase::Normal => gaps.normal.push(gap),
            Phase::Fault => gaps.fault.push((gap, index)),
        }
    }
    edges
}

/// How strongly an edge has become slower, by how many milliseconds, and the slowest spans. `None` for an edge with too few calls.
fn slower(gaps: &Gaps, thresholds: &Thresholds) -> Option<(f64, f64, Vec<usize>)> {
    if gaps.normal.len() < CALLS_MIN || gaps.fault.len() < CALLS_MIN {
        return None;
    }
    let values: Vec<f64> = gaps.fault.iter().map(|(gap, _)| *gap).collect();
    let now = quantile(&values, GAP_QUANTILE)?;
    let held = [Sample { at: 0.0, value: now }, Sample { at: 1.0, value: now }];
    let floor = Floor { relative: 0.5, absolute: GAP_MILLISECONDS };
    let normal = quantile(&gaps.normal, GAP_QUANTILE)?.max(median(&gaps.normal)?);
    let deviation = Deviation::of(&vec![normal; gaps.normal.len().max(4)], &[], &held, floor)?;
    let mut slowest: Vec<(f64, usize)> = gaps.fault.clone();
    slowest.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let cited = slowest.into_iter().take(SPANS_CITED_MAX).map(|(_, index)| index).collect();
    Some((thresholds.symptom(deviation.score), now - normal, cited))
}
