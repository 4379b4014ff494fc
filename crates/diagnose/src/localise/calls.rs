//! How many calls a request of a caller makes to each callee, told from how the traffic of both went up and down.
//!
//! Requests are counted where they arrive, and not by who sends them. A callee's requests are the sum of what each caller's requests make:
//! so many for each of them. That is a least-squares problem whose solution cannot be negative (Lawson and Hanson, "Solving Least Squares
//! Problems", 1974), of a handful of unknowns each; held towards "every request of any caller makes as many", which is all that is known
//! where traffic does not vary. Solved by coordinate descent in a few lines: crates for it bring linear algebra for far larger ones.

use std::collections::BTreeMap;

use super::System;
use crate::stats::median;

/// Steps that are needed to tell callers apart.
const STEPS_MIN: usize = 8;
/// As if so many steps had said that every caller calls as often.
const PRIOR_STEPS: f64 = 1.0;
/// Rounds of the descent; a few unknowns settle in a dozen.
const ROUNDS: usize = 100;
/// Parts of an even share under which nothing moves any more.
const SETTLED: f64 = 1e-6;

/// By caller: which part of its calls goes to each callee.
pub(super) fn shares(system: &System<'_>) -> Vec<BTreeMap<usize, f64>> {
    let mut shares: Vec<BTreeMap<usize, f64>> = vec![BTreeMap::new(); system.services().len()];
    for callee in system.services() {
        for (caller, calls) in calls_of(system, callee) {
            if let Some(of_caller) = shares.get_mut(caller) {
                of_caller.insert(callee, calls);
            }
        }
    }
    for of_caller in &mut shares {
        let total: f64 = of_caller.values().sum();
        of_caller.retain(|_, _| total > 0.0);
        of_caller.values_mut().for_each(|calls| *calls /= total);
    }
    shares
}

/// By caller: the calls that a callee gets from it in one step.
fn calls_of(system: &System<'_>, callee: usize) -> Vec<(usize, f64)> {
    let Some(traffic) = system.traffic.get(callee).copied().flatten() else { return Vec::new() };
    let callers = system.callers.get(callee).map(Vec::as_slice).unwrap_or_default();
    let known: Vec<(usize, f64)> = callers
        .iter()
        .filter_map(|caller| Some((*caller, system.traffic.get(*caller).copied().flatten()?.normal)))
        .filter(|(_, requests)| *requests > 0.0)
        .collect();
    let all: f64 = known.iter().map(|(_, requests)| requests).sum();
    if all <= 0.0 {
        return Vec::new();
    }
    let even = traffic.normal / all;
    let each = fitted(system, callee, &known, even).unwrap_or_else(|| vec![even; known.len()]);
    known.iter().zip(each).map(|((caller, requests), each)| (*caller, each * requests)).collect()
}

/// How many calls each request of a caller makes; `None` where the traffic cannot tell.
fn fitted(system: &System<'_>, callee: usize, callers: &[(usize, f64)], even: f64) -> Option<Vec<f64>> {
    let of = |service: usize| {
        let traffic = system.traffic.get(service).copied().flatten()?;
        let series = system.observed.series.get(traffic.series)?;
        // All in one unit, whatever the series count.
        let scale = traffic.normal / median(&series.normal).filter(|level| *level > 0.0)?;
        Some(series.normal.iter().map(|value| value * scale).collect::<Vec<f64>>())
    };
    let of_callee = of(callee)?;
    let of_callers: Vec<Vec<f64>> = callers.iter().map(|(caller, _)| of(*caller)).collect::<Option<_>>()?;
    if of_callers.iter().any(|values| values.len() != of_callee.len()) {
        return None;
    }
    let is_known = |step: &usize| {
        let at = |values: &Vec<f64>| values.get(*step).is_some_and(|value| value.is_finite());
        at(&of_callee) && of_callers.iter().all(at)
    };
    let steps: Vec<usize> = (0..of_callee.len()).filter(is_known).collect();
    if steps.len() < STEPS_MIN {
        return None;
    }
    let at = |values: &[f64], step: usize| values.get(step).copied().unwrap_or_default();
    let mut each = vec![even; callers.len()];
    for _ in 0..ROUNDS {
        let before = each.clone();
        for (place, own) in of_callers.iter().enumerate() {
            let (mut explained, mut squares) = (0.0, 0.0);
            for step in &steps {
                let others: f64 = of_callers
                    .iter()
                    .zip(&each)
                    .enumerate()
                    .filter(|(other, _)| *other != place)
                    .map(|(_, (values, each))| at(values, *step) * each)
                    .sum();
                explained += at(own, *step) * (at(&of_callee, *step) - others);
                squares += at(own, *step).powi(2);
            }
            let prior = PRIOR_STEPS * squares / steps.len() as f64;
            let best = (explained + prior * even) / (squares + prior);
            if let Some(each) = each.get_mut(place) {
                *each = if best.is_finite() { best.max(0.0) } else { even };
            }
        }
        let moved = each.iter().zip(&before).map(|(now, before)| (now - before).abs());
        if moved.fold(0.0, f64::max) <= SETTLED * even {
            break;
        }
    }
    Some(each)
}

#[cfg(test)]
mod tests {
    use super::super::{Observed, Quantity, ServiceSeries, Thresholds};
    use super::*;

    const WEB: usize = 0;
    const SHOP: usize = 1;
    const STOCK: usize = 2;

    /// Both call the stock; the traffic of both goes up and down, each in its own way.
    fn observed(of_web: f64, of_shop: f64, varies: bool) -> Observed {
        let swing = |step: usize, period: usize| if varies { (step % period) as f64 } else { 0.0 };
        let series = |service: usize, value: &dyn Fn(usize) -> f64| ServiceSeries {
            service,
            metric: "workload".to_owned(),
            quantity: Quantity::of("workload"),
            normal: (0..20).map(value).collect(),
            ..ServiceSeries::default()
        };
        let web = |step: usize| 50.0 + 10.0 * swing(step, 3);
        let shop = |step: usize| 2.0 + 6.0 * swing(step, 4);
        Observed {
            services: ["web", "shop", "stock"].map(str::to_owned).to_vec(),
            series: vec![
                series(WEB, &web),
                series(SHOP, &shop),
                series(STOCK, &|step| of_web * web(step) + of_shop * shop(step)),
            ],
            calls: vec![(WEB, STOCK), (SHOP, STOCK)],
            step_seconds: 60.0,
            ..Observed::default()
        }
    }

    fn each(observed: &Observed) -> [f64; 2] {
        let thresholds = Thresholds::default();
        let system = System::of(observed, &thresholds);
        let calls: BTreeMap<usize, f64> = calls_of(&system, STOCK).into_iter().collect();
        let requests = |service: usize| system.traffic[service].unwrap().normal;
        [calls[&WEB] / requests(WEB), calls[&SHOP] / requests(SHOP)]
    }

    #[test]
    fn who_calls_how_often_follows_from_how_traffic_varies() {
        let [web, shop] = each(&observed(0.1, 3.0, true));
        // Held towards an even share, and far from it.
        assert!(web < 0.25 && shop > 2.2, "{web} {shop}");
        let [web, shop] = each(&observed(1.0, 0.0, true));
        assert!((web - 1.0).abs() < 0.1 && shop < 0.5, "{web} {shop}");
    }

    #[test]
    fn traffic_that_does_not_vary_tells_nothing() {
        let [web, shop] = each(&observed(0.1, 3.0, false));
        assert!((web - shop).abs() < 1e-6, "{web} {shop}");
        let mut gaps = observed(0.1, 3.0, true);
        gaps.series[SHOP].normal.iter_mut().skip(5).for_each(|value| *value = f64::NAN);
        let [web, shop] = each(&gaps);
        assert!((web - shop).abs() < 1e-6, "{web} {shop}");
        gaps.series[SHOP].normal.truncate(3);
        let [web, shop] = each(&gaps);
        assert!((web - shop).abs() < 1e-6, "{web} {shop}");
    }
}
