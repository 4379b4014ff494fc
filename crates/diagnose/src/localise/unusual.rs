//! Any metric of a service that is far from its normal: little by itself, but it says where to look when no rule knows the fault.

use std::collections::BTreeSet;

use super::deviation::{Deviation, Floor, grade};
use super::{Finding, Quantity, Rule, Source, System};

/// In units of noise: from where on a metric is unusual, and where it could not be more so.
const UNUSUAL: (f64, f64) = (5.0, 40.0);

pub(crate) fn find(system: &System<'_>, findings: &mut Vec<Finding>) {
    // What another rule has cited is not told twice.
    let cited: BTreeSet<Source> =
        findings.iter().flat_map(|finding| finding.sources.iter().copied()).collect();
    for service in system.services() {
        let mut best: Option<(f64, usize, Deviation)> = None;
        for (index, series, quantity) in system.measuring(service, is_looked_at) {
            if cited.contains(&Source::Series(index)) {
                continue;
            }
            // Requests come and go by themselves.
            let relative = if matches!(quantity, Quantity::Traffic(_)) { 0.25 } else { 0.1 };
            let floor = Floor { relative, absolute: absolute(&series.normal) };
            let Some(deviation) = Deviation::of(&series.normal, &series.before, &series.fault, floor) else {
                continue;
            };
            let score = deviation.score.abs();
            if best.as_ref().is_none_or(|(most, _, _)| score > *most) {
                best = Some((score, index, deviation));
            }
        }
        let Some((score, index, deviation)) = best else { continue };
        let strength = grade(score, UNUSUAL.0, UNUSUAL.1);
        let metric = system.observed.series.get(index).map_or("", |one| one.metric.as_str());
        if strength > 0.0 {
            findings.push(Finding {
                service,
                rule: Rule::UnusualMetric,
                strength,
                amount: score,
                statement: format!("{metric} is {score:.0} times its noise away from its normal"),
                sources: vec![Source::Series(index)],
                onset: Some(deviation.onset),
                discounts: Vec::new(),
            });
        }
    }
}

/// Not the machine's, which is not the service's alone, nor what rules of their own read with what has to be known about it.
fn is_looked_at(quantity: Quantity) -> bool {
    !matches!(
        quantity,
        Quantity::Host
            | Quantity::Latency(..)
            | Quantity::ErrorShare
            | Quantity::SuccessShare
            | Quantity::Errors(_)
            | Quantity::Restarts
    )
}

/// A series that is nearly always at zero has no noise: a hundredth of what it ever reached counts as noise then.
fn absolute(normal: &[f64]) -> f64 {
    let most = normal.iter().copied().filter(|value| value.is_finite()).map(f64::abs).fold(0.0, f64::max);
    if most > 0.0 { 0.01 * most } else { 1.0 }
}
