//! What those who call a service notice: it is slow, it fails, it is not called any more, or it no longer calls.

use std::collections::{BTreeMap, BTreeSet};

use super::deviation::{Deviation, Floor, Sample, USUAL_SHARE};
use super::{Counted, Finding, Quantity, Rule, ServiceSeries, Side, Source, Statistic, System};
use crate::stats::{median, quantile};

/// Requests that have to fail beyond those that usually do: one or two fail by chance.
const FAILED_MIN: f64 = 3.0;
/// Requests in a step where they are not counted.
const UNCOUNTED_REQUESTS: f64 = 100.0;
/// Samples that are looked at together, since one wild value is no fault.
const PAIR: usize = 2;
/// Values needed to know what is usual.
const USUAL_MIN: usize = 4;
/// Fewer than this are expected at the least.
const EXPECTED_FLOOR: f64 = 0.1;
/// Part of the calls that have to be missing.
const MISSING_MIN: f64 = 0.4;
/// Noise of latencies at the least, as a part of what is usual in the system: what nobody can notice is no symptom.
const LATENCY_PART: f64 = 0.05;

pub(crate) fn find(system: &System<'_>, findings: &mut Vec<Finding>) {
    let floors = latency_floors(system);
    for service in system.services() {
        findings.extend(slow_answers(system, service, &floors));
        findings.extend(failing_requests(system, service));
    }
    missing_calls(system, findings);
}

/// By side and statistic: the least that counts as noise.
pub(crate) type LatencyFloors = BTreeMap<Statistic, f64>;

pub(crate) fn latency_floors(system: &System<'_>) -> LatencyFloors {
    let mut usual: BTreeMap<Statistic, Vec<f64>> = BTreeMap::new();
    for service in system.services().filter(|service| system.trust(*service) > 0.0) {
        let answers = |quantity| matches!(quantity, Quantity::Latency(Side::Server, _));
        for (_, series, quantity) in system.measuring(service, answers) {
            if let (Quantity::Latency(_, statistic), Some(level)) = (quantity, median(&series.normal)) {
                usual.entry(statistic).or_default().push(level);
            }
        }
    }
    usual
        .into_iter()
        .filter_map(|(statistic, levels)| Some((statistic, LATENCY_PART * median(&levels)?)))
        .collect()
}

/// How a latency of one side changed, by the statistic that shows it best.
pub(crate) struct Slowed {
    pub(crate) series: usize,
    pub(crate) statistic: Statistic,
    pub(crate) deviation: Deviation,
    /// Seconds, or whatever the unit is, that all requests of a step take longer.
    pub(crate) amount: f64,
}

pub(crate) fn slowed(
    system: &System<'_>,
    service: usize,
    side: Side,
    floors: &LatencyFloors,
) -> Option<Slowed> {
    let of_side = |quantity| matches!(quantity, Quantity::Latency(of, statistic) if of == side && statistic != Statistic::Tail);
    let requests =
        system.traffic.get(service).copied().flatten().map_or(1.0, |traffic| traffic.now.max(traffic.normal));
    let mut best: Option<Slowed> = None;
    let mut mean: Option<f64> = None;
    for (index, series, quantity) in system.measuring(service, of_side) {
        let Quantity::Latency(_, statistic) = quantity else { continue };
        let floor = Floor { relative: 0.1, absolute: floors.get(&statistic).copied().unwrap_or(0.0) };
        let Some(deviation) = Deviation::of(&series.normal, &series.before, &series.fault, floor) else {
            continue;
        };
        let amount = (deviation.now - deviation.normal).max(0.0) * requests;
        if statistic == Statistic::Mean {
            mean = Some(amount);
        }
        if best.as_ref().is_none_or(|best| deviation.score > best.deviation.score) {
            best = Some(Slowed { series: index, statistic, deviation, amount });
        }
    }
    // Only means add up along calls: a quantile of the caller speaks of other requests than one of the callee.
    best.map(|best| Slowed { amount: mean.unwrap_or(best.amount), ..best })
}

fn slow_answers(system: &System<'_>, service: usize, floors: &LatencyFloors) -> Option<Finding> {
    let slowed = slowed(system, service, Side::Server, floors)?;
    let deviation = slowed.deviation;
    let strength = system.thresholds.symptom(deviation.score * system.trust(service));
    (strength > 0.0).then(|| Finding {
        service,
        rule: Rule::SlowAnswers,
        strength,
        amount: slowed.amount,
        statement: format!(
            "its answers take {} times as long ({})",
            times(deviation.now, deviation.normal),
            metric(system, slowed.series)
        ),
        sources: vec![Source::Series(slowed.series)],
        onset: Some(deviation.onset),
        discounts: Vec::new(),
    })
}

pub(crate) fn metric<'a>(system: &'a System<'_>, series: usize) -> &'a str {
    system.observed.series.get(series).map_or("", |one| one.metric.as_str())
}

pub(crate) fn times(now: f64, normal: f64) -> String {
    let times = now / normal;
    if times.is_finite() { format!("{times:.1}") } else { "many".to_owned() }
}

fn failing_requests(system: &System<'_>, service: usize) -> Option<Finding> {
    let wanted =
        |quantity| matches!(quantity, Quantity::ErrorShare | Quantity::SuccessShare | Quantity::Errors(_));
    let found = system
        .measuring(service, wanted)
        .filter_map(|(index, series, quantity)| failing(system, service, index, series, quantity));
    found.max_by(|one, other| one.strength.total_cmp(&other.strength))
}

/// Requests that fail, in each step: counted as they are, since two of a hundred are no accident where none ever failed, and are one where
/// there are three requests.
fn failing(
    system: &System<'_>,
    service: usize,
    index: usize,
    series: &ServiceSeries,
    quantity: Quantity,
) -> Option<Finding> {
    let step = system.observed.step_seconds.max(1.0);
    let traffic = system.traffic.get(service).copied().flatten();
    let requests = traffic.map_or(UNCOUNTED_REQUESTS, |traffic| traffic.now.max(traffic.normal));
    let percent = system.percent(&series.metric);
    let failed = |value: f64| match quantity {
        Quantity::ErrorShare => value * percent / 100.0 * requests,
        Quantity::SuccessShare => (1.0 - value * percent / 100.0).max(0.0) * requests,
        Quantity::Errors(Counted::PerSecond) => value * step,
        _ => value,
    };
    let usual: Vec<f64> = series.normal.iter().copied().filter(|v| v.is_finite()).map(failed).collect();
    let now: Vec<Sample> =
        series.fault.iter().map(|one| Sample { value: failed(one.value), ..*one }).collect();
    let before: Vec<f64> = series.before.iter().copied().filter(|v| v.is_finite()).map(failed).collect();
    let counted = Counting::of(&usual, &before, &now)?;
    let strength = system.thresholds.surprise(counted.surprise);
    let enough = counted.observed - counted.expected >= FAILED_MIN;
    (counted.observed > counted.expected && enough && strength > 0.0).then(|| Finding {
        service,
        rule: Rule::FailingRequests,
        strength,
        amount: counted.observed - counted.expected,
        statement: format!(
            "{:.0} of its requests fail in {} samples, where {:.1} are usual ({})",
            counted.observed, counted.steps, counted.expected, series.metric
        ),
        sources: vec![Source::Series(index)],
        onset: Some(counted.onset),
        discounts: Vec::new(),
    })
}

/// What was counted in the part of the fault window that is furthest from the usual.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counting {
    observed: f64,
    expected: f64,
    /// Twice the log-likelihood ratio of the one against the other; 0 when the normal is as far away now and then.
    surprise: f64,
    steps: usize,
    onset: f64,
}

impl Counting {
    /// Looks at all pairs of neighbouring samples, and at the pairs of the normal to know how far those usually go.
    fn of(usual: &[f64], before: &[f64], now: &[Sample]) -> Option<Self> {
        if usual.len() < USUAL_MIN || now.len() < PAIR {
            return None;
        }
        let total: f64 = usual.iter().sum();
        // What was never seen may be about to be seen for the first time.
        let each = (total + 0.5) / usual.len() as f64;
        let before = before.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let expected = (PAIR as f64 * each.max(if before > each { before } else { 0.0 })).max(EXPECTED_FLOOR);
        let far = |count: f64| {
            let logs = if count > 0.0 { count * (count / expected).ln() } else { 0.0 };
            2.0 * (logs - (count - expected))
        };
        let mut best: Option<Self> = None;
        for pair in now.windows(PAIR) {
            let observed: f64 = pair.iter().map(|sample| sample.value.max(0.0)).sum();
            let surprise = far(observed);
            if best.is_none_or(|best| surprise > best.surprise) {
                let onset = pair.first()?.at;
                best = Some(Self { observed, expected, surprise, steps: PAIR, onset });
            }
        }
        let best = best?;
        let more = best.observed > best.expected;
        let pairs = usual.windows(PAIR).map(|pair| pair.iter().map(|value| value.max(0.0)).sum::<f64>());
        let same_way: Vec<f64> =
            pairs.map(|count| if (count > expected) == more { far(count) } else { 0.0 }).collect();
        let usual = quantile(&same_way, USUAL_SHARE)?;
        let surprise = if best.surprise > usual { best.surprise - usual } else { 0.0 };
        surprise.is_finite().then_some(Self { surprise, ..best })
    }
}

/// The smallest difference between values, which is what one request makes: a rate over a quarter of a minute says less than its number
/// of requests in a minute would. Differences under a hundredth of the level are rounding.
fn grain(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let least = 0.01 * median(&sorted)?.abs();
    let gaps = sorted.iter().zip(sorted.iter().skip(1)).map(|(one, next)| next - one);
    gaps.filter(|gap| *gap > least && *gap > 0.0).reduce(f64::min)
}

/// How the number of requests fell.
struct Fallen {
    series: usize,
    counted: Counting,
    /// What is left of it.
    left: f64,
}

fn fallen(system: &System<'_>, service: usize) -> Option<Fallen> {
    let traffic = system.traffic.get(service).copied().flatten()?;
    let series = system.observed.series.get(traffic.series)?;
    let factor = match series.quantity {
        Quantity::Traffic(Counted::PerStep) => 1.0,
        _ => system.observed.step_seconds.max(1.0),
    };
    let factor = factor.min(1.0 / grain(&series.normal)?);
    let usual: Vec<f64> = series.normal.iter().filter(|v| v.is_finite()).map(|v| v * factor).collect();
    let now: Vec<Sample> =
        series.fault.iter().map(|one| Sample { value: one.value * factor, ..*one }).collect();
    let counted = Counting::of(&usual, &[], &now)?;
    let left = counted.observed / counted.expected;
    Some(Fallen { series: traffic.series, counted, left })
}

/// A callee that is called less although its callers have as much to do as before: either they no longer call it, or it cannot be
/// called. Where several callees of one caller are missed the caller is meant.
fn missing_calls(system: &System<'_>, findings: &mut Vec<Finding>) {
    // Traces say of each kind of request what is missing in it; how many requests of a kind come is chance.
    if !system.observed.spans.is_empty() {
        return;
    }
    let complaining: BTreeSet<usize> = findings.iter().map(|finding| finding.service).collect();
    let changes: Vec<Option<Fallen>> = system.services().map(|service| fallen(system, service)).collect();
    let left =
        |service: usize| changes.get(service).and_then(Option::as_ref).map_or(1.0, |change| change.left);
    let mut missed: BTreeMap<usize, Vec<(usize, f64)>> = BTreeMap::new();
    for callee in system.services() {
        let Some(change) = changes.get(callee).and_then(Option::as_ref) else { continue };
        let callers = system.callers.get(callee).map(Vec::as_slice).unwrap_or_default();
        // The caller that has lost least says how much is to be expected.
        let Some(expected) = callers.iter().map(|caller| left(*caller).min(1.0)).reduce(f64::max) else {
            continue;
        };
        let missing = 1.0 - change.left / expected.max(1e-9);
        let strength = system.thresholds.surprise(change.counted.surprise) * missing.clamp(0.0, 1.0);
        if missing < MISSING_MIN || strength <= 0.0 {
            continue;
        }
        // Whoever cannot be called lets its callers wait or fail.
        let complained = callers.iter().any(|caller| complaining.contains(caller));
        findings.push(Finding {
            service: callee,
            rule: Rule::NotCalled,
            strength: if complained { strength } else { 0.5 * strength },
            amount: missing,
            statement: format!(
                "{:.0} % of the calls that its callers' load lets expect are missing",
                missing * 100.0
            ),
            sources: vec![Source::Series(change.series)],
            onset: Some(change.counted.onset),
            discounts: Vec::new(),
        });
        for caller in callers {
            missed.entry(*caller).or_default().push((callee, strength));
        }
    }
    for (caller, callees) in missed {
        let sources = callees.iter().filter_map(|(callee, _)| changes.get(*callee)?.as_ref());
        let sources: Vec<Source> = sources.map(|change| Source::Series(change.series)).collect();
        let most = callees.iter().map(|(_, strength)| *strength).fold(0.0, f64::max);
        // One callee alone may as well be the one that cannot be called.
        let strength = if callees.len() >= 2 || !complaining.contains(&caller) { most } else { 0.5 * most };
        let names: Vec<&str> = callees.iter().map(|(callee, _)| system.name(*callee)).collect();
        let onset = callees
            .iter()
            .filter_map(|(callee, _)| Some(changes.get(*callee)?.as_ref()?.counted.onset))
            .reduce(f64::min);
        findings.push(Finding {
            service: caller,
            rule: Rule::CallsMissing,
            strength,
            amount: callees.len() as f64,
            statement: format!("it no longer calls {} as it did", names.join(", ")),
            sources,
            onset,
            discounts: Vec::new(),
        });
    }
}
