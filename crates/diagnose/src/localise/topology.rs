//! What a service merely passes on, and what the alert cannot be about.

use std::collections::{BTreeMap, BTreeSet};

use super::{Discount, Finding, Rule, Symptom, System};

/// Left of a finding that a callee explains in full.
const PASSED_ON_LEFT: f64 = 0.2;
/// Left of a finding of a service on which the alert's does not depend.
const NOT_REACHED_LEFT: f64 = 0.3;
/// Left of a finding of another symptom than the alert's.
const OTHER_SYMPTOM_LEFT: f64 = 0.6;
/// A wait of the callers of this strength explains why they answer late.
const WAIT_MIN: f64 = 0.1;
/// Part of what is missing to full strength that is made up for by explaining all of the alert.
const CONFIRMED: f64 = 0.5;
/// An unusual callee with evidence of this strength explains what has no amount that could be compared.
const STRENGTH_MIN: f64 = 0.3;

pub(crate) fn discount(system: &System<'_>, findings: &mut [Finding]) {
    confirm(system, findings);
    let passed_on = passed_on(system, findings);
    let parts = small_parts(findings, &passed_on);
    let reached = reached(system);
    let symptom = system.observed.alerting.and_then(|alerting| alerting.symptom);
    for ((finding, passed_on), part) in findings.iter_mut().zip(passed_on).zip(parts) {
        finding.discounts.extend(passed_on);
        finding.discounts.extend(part);
        if reached.as_ref().is_some_and(|reached| !reached.contains(&finding.service)) {
            finding.discounts.push(Discount::NotReached);
        }
        let of = match finding.rule {
            Rule::SlowAnswers | Rule::WaitOfCallers => Some(Symptom::Latency),
            Rule::FailingRequests => Some(Symptom::Errors),
            _ => None,
        };
        if symptom.is_some_and(|symptom| of.is_some_and(|of| of != symptom)) {
            finding.discounts.push(Discount::OtherSymptom);
        }
    }
}

impl Finding {
    /// The strength after discounts.
    pub fn left(&self) -> f64 {
        let left: f64 = self
            .discounts
            .iter()
            .map(|discount| match discount {
                Discount::PassedOn { share, .. } => 1.0 - (1.0 - PASSED_ON_LEFT) * share.clamp(0.0, 1.0),
                Discount::NotReached => NOT_REACHED_LEFT,
                Discount::OtherSymptom => OTHER_SYMPTOM_LEFT,
                Discount::SmallPart(share) => share.clamp(0.0, 1.0),
            })
            .product();
        self.strength * left
    }
}

/// What explains all that the service of the alert shows says more than its own strength does.
fn confirm(system: &System<'_>, findings: &mut [Finding]) {
    let Some(alerting) = system.observed.alerting else { return };
    for rule in [Rule::SlowAnswers, Rule::FailingRequests] {
        let of_alert = |finding: &&Finding| finding.service == alerting.service && finding.rule == rule;
        let Some(amount) = findings.iter().find(of_alert).map(|finding| finding.amount) else { continue };
        let same =
            findings.iter_mut().filter(|finding| finding.rule == rule && finding.service != alerting.service);
        for finding in same {
            let covered = (finding.amount / (system.thresholds.explains * amount).max(1e-12)).min(1.0);
            finding.strength += (1.0 - finding.strength) * CONFIRMED * covered;
        }
    }
}

/// By finding: which callee explains how much of it.
fn passed_on(system: &System<'_>, findings: &[Finding]) -> Vec<Option<Discount>> {
    let mut known: BTreeMap<(usize, Rule), (f64, f64)> = BTreeMap::new();
    let mut own: BTreeMap<usize, f64> = BTreeMap::new();
    for finding in findings {
        let (amount, strength) = known.entry((finding.service, finding.rule)).or_default();
        *amount = amount.max(finding.amount);
        *strength = strength.max(finding.strength);
        if !finding.rule.is_passed_on() || matches!(finding.rule, Rule::StepsMissing | Rule::NewErrors) {
            let most = own.entry(finding.service).or_default();
            *most = most.max(finding.strength * finding.rule.precision());
        }
    }
    findings
        .iter()
        .map(|finding| {
            if !finding.rule.is_passed_on() {
                return None;
            }
            let callees = system.callees.get(finding.service)?;
            let shares = callees.iter().map(|callee| {
                let same = known.get(&(*callee, finding.rule)).copied();
                let share = match finding.rule {
                    // Amounts of latency and of failures add up along calls.
                    Rule::SlowAnswers | Rule::FailingRequests => same.map_or(0.0, |(amount, _)| {
                        amount / (system.thresholds.explains * finding.amount).max(1e-12)
                    }),
                    Rule::CallsMissing | Rule::NotCalled => 0.0,
                    _ => same.map_or(0.0, |(_, strength)| if strength >= STRENGTH_MIN { 1.0 } else { 0.0 }),
                };
                // A callee with a fault of its own explains whatever its callers show.
                let by_fault = own.get(callee).copied().unwrap_or(0.0);
                let by_fault = if by_fault >= STRENGTH_MIN { by_fault } else { 0.0 };
                (*callee, share.max(by_fault).clamp(0.0, 1.0))
            });
            let mut best: Option<(usize, f64)> = None;
            for (callee, share) in shares {
                if share > best.map_or(0.0, |(_, share)| share) {
                    best = Some((callee, share));
                }
            }
            let waited = || {
                let waits = findings.iter().filter(|other| other.rule == Rule::WaitOfCallers);
                let waits = waits.filter(|wait| callees.contains(&wait.service) && wait.strength >= WAIT_MIN);
                waits.max_by(|one, other| one.strength.total_cmp(&other.strength))
            };
            // Who waits longer for its calls answers later, whichever of them it is.
            if finding.rule == Rule::SlowAnswers
                && let Some(wait) = waited()
            {
                return Some(Discount::PassedOn { callee: wait.service, share: 1.0 });
            }
            best.map(|(callee, share)| Discount::PassedOn { callee, share })
        })
        .collect()
}

/// The services on which the alerting one depends, itself among them; `None` when that is not known.
fn reached(system: &System<'_>) -> Option<BTreeSet<usize>> {
    let alerting = system.observed.alerting?.service;
    if system.callees.get(alerting).is_none_or(Vec::is_empty) {
        return None;
    }
    let mut reached = BTreeSet::from([alerting]);
    let mut open = vec![alerting];
    while let Some(service) = open.pop() {
        for callee in system.callees.get(service).into_iter().flatten() {
            if reached.insert(*callee) {
                open.push(*callee);
            }
        }
    }
    Some(reached)
}

/// By finding: its share of what the service shows that has most of it and cannot pass it on. Time that requests wait, and requests that
/// fail, are the same for all who look at them: who sees a tenth of it, such as the few requests through one balancer, is not where it is
/// lost.
fn small_parts(findings: &[Finding], passed_on: &[Option<Discount>]) -> Vec<Option<Discount>> {
    let adds_up = |rule: Rule| matches!(rule, Rule::SlowAnswers | Rule::FailingRequests);
    let mut most: BTreeMap<Rule, f64> = BTreeMap::new();
    for (finding, passed_on) in findings.iter().zip(passed_on).filter(|(finding, _)| adds_up(finding.rule)) {
        let own = match passed_on {
            Some(Discount::PassedOn { share, .. }) => finding.amount * (1.0 - share),
            _ => finding.amount,
        };
        let known = most.entry(finding.rule).or_default();
        *known = known.max(own);
    }
    let part = |finding: &Finding| {
        let most = most.get(&finding.rule).filter(|_| adds_up(finding.rule))?;
        (finding.amount < *most).then_some(Discount::SmallPart(finding.amount / most))
    };
    findings.iter().map(part).collect()
}
