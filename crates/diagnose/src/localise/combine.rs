//! From findings to candidates: a noisy-OR over groups of evidence for each service and fault, an explicit "none of these", and how sure
//! that is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Calibration, Discount, Fault, Finding, Group, Rule, Symptom, System};

/// No combination of rules is surer than this.
const CONFIDENCE_MAX: f64 = 0.97;
/// The odds of "none of these", as parts of the threshold, when the service of the alert shows what the alert says, so that something
/// that it depends on is at fault; and when it does not, so that nothing may be.
const NONE_PART_CONFIRMED: f64 = 0.4;
const NONE_PART_UNCONFIRMED: f64 = 1.5;
/// A group that has this much to say agrees.
const AGREES_FROM: f64 = 0.2;
/// Scores are compared in steps of this, so that the order does not hang on the last bit of a sum.
const STEP: f64 = 1e-6;

/// A service with the fault that it may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Index of the service.
    pub service: usize,
    /// What is wrong with it.
    pub fault: Fault,
    /// 0 to 1; with "none of these" the confidences of all candidates add up to 1 at the most.
    pub confidence: f64,
    /// What its own evidence says, before the other candidates were looked at.
    pub strength: f64,
    /// The groups of evidence that agree, by how much they say.
    pub groups: BTreeMap<Group, f64>,
    /// When it began, in seconds.
    pub onset: Option<f64>,
    /// What speaks for it, the strongest first, with what was taken back of it and why.
    pub findings: Vec<Finding>,
    /// Why it is where it is, for people.
    pub because: String,
}

/// What a calibration looks at, of the first candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Features {
    /// Its confidence before calibration.
    pub first: f64,
    /// The one of the second candidate; 0 without one.
    pub second: f64,
    /// How many groups of evidence agree on it.
    pub groups: usize,
}

/// The answer: candidates, best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Localisation {
    /// One candidate for each service with evidence; empty when there is none.
    pub candidates: Vec<Candidate>,
    /// What the calibration looked at.
    pub features: Features,
    /// Whether the confidence was fitted to outcomes; otherwise it is what the rules' priors say.
    pub calibrated: bool,
}

impl Localisation {
    /// The confidence in the first candidate; 0 without one.
    pub fn confidence(&self) -> f64 {
        self.candidates.first().map_or(0.0, |first| first.confidence)
    }

    /// That of "none of these".
    pub fn none_of_these(&self) -> f64 {
        (1.0 - self.candidates.iter().map(|candidate| candidate.confidence).sum::<f64>()).max(0.0)
    }
}

/// Whether evidence of this rule fits a fault: a symptom fits every fault, the sign of another fault does not.
fn fits(rule: Rule, fault: Fault) -> bool {
    let symptom = matches!(
        rule,
        Rule::SlowAnswers
            | Rule::FailingRequests
            | Rule::CallsMissing
            | Rule::NotCalled
            | Rule::NewErrors
            | Rule::NamedInErrors
            | Rule::UnusualMetric
    );
    // Who waits for CPU is late at both ends of its calls.
    let starved = rule == Rule::CallGap && fault == Fault::CpuSaturation;
    symptom || starved || rule.fault() == fault
}

pub(crate) fn combine(
    system: &System<'_>,
    findings: Vec<Finding>,
    calibration: &Calibration,
) -> Localisation {
    let none_odds = none_odds(system, &findings);
    let mut of_service: BTreeMap<usize, Vec<Finding>> = BTreeMap::new();
    for finding in findings.into_iter().filter(|finding| finding.strength > 0.0) {
        of_service.entry(finding.service).or_default().push(finding);
    }
    let mut candidates: Vec<Candidate> =
        of_service.into_iter().filter_map(|(service, findings)| best_fault(service, findings)).collect();
    let odds = |strength: f64| strength / (1.0 - strength.min(CONFIDENCE_MAX));
    let total: f64 = none_odds + candidates.iter().map(|one| odds(one.strength)).sum::<f64>();
    for candidate in &mut candidates {
        candidate.confidence = odds(candidate.strength) / total;
    }
    let step = |candidate: &Candidate| (candidate.confidence / STEP).round() as i64;
    candidates.sort_by(|one, other| {
        let onset = |candidate: &Candidate| candidate.onset.unwrap_or(f64::MAX);
        step(other)
            .cmp(&step(one))
            .then(onset(one).total_cmp(&onset(other)))
            .then_with(|| system.name(one.service).cmp(system.name(other.service)))
    });
    let at = |place: usize| candidates.get(place).map_or(0.0, |candidate| candidate.confidence);
    let groups = candidates
        .first()
        .map_or(0, |first| first.groups.values().filter(|says| **says >= AGREES_FROM).count());
    let features = Features { first: at(0), second: at(1), groups };
    let sure = if candidates.is_empty() { 0.0 } else { calibration.apply(&features) };
    // What is calibrated is the first one; the others keep their places behind it.
    let factor = if features.first > 0.0 { sure / features.first } else { 0.0 };
    let rest: f64 = candidates.iter().skip(1).map(|one| one.confidence).sum();
    let others = factor.min(if rest > 0.0 { (1.0 - sure).max(0.0) / rest } else { 1.0 });
    for (place, candidate) in candidates.iter_mut().enumerate() {
        candidate.confidence *= if place == 0 { factor } else { others };
    }
    let first = candidates.first().map(|first| (first.service, first.strength));
    for candidate in &mut candidates {
        candidate.because = because(system, candidate, first);
    }
    Localisation { candidates, features, calibrated: calibration.is_fitted() }
}

fn none_odds(system: &System<'_>, findings: &[Finding]) -> f64 {
    let alerting = system.observed.alerting;
    let Some((alerting, symptom)) = alerting.and_then(|alerting| Some((alerting.service, alerting.symptom?)))
    else {
        return system.thresholds.none_odds;
    };
    let rule = match symptom {
        Symptom::Latency => Rule::SlowAnswers,
        Symptom::Errors => Rule::FailingRequests,
    };
    let confirmed = findings.iter().any(|finding| finding.service == alerting && finding.rule == rule);
    system.thresholds.none_odds * if confirmed { NONE_PART_CONFIRMED } else { NONE_PART_UNCONFIRMED }
}

/// The fault that a service's findings speak for most; of equal ones the most specific.
fn best_fault(service: usize, mut findings: Vec<Finding>) -> Option<Candidate> {
    let says = |finding: &Finding| finding.left() * finding.rule.precision();
    findings.sort_by(|one, other| {
        let order = says(other).total_cmp(&says(one)).then(one.rule.cmp(&other.rule));
        order.then_with(|| one.statement.cmp(&other.statement))
    });
    let possible: BTreeSet<Fault> = findings.iter().map(|finding| finding.rule.fault()).collect();
    let mut best: Option<(f64, Fault, BTreeMap<Group, f64>)> = None;
    for fault in possible {
        let mut groups: BTreeMap<Group, f64> = BTreeMap::new();
        for finding in findings.iter().filter(|finding| fits(finding.rule, fault)) {
            let most = groups.entry(finding.rule.group()).or_default();
            *most = most.max(says(finding));
        }
        let missed: f64 = groups.values().map(|says| 1.0 - says).product();
        let strength = (1.0 - missed).min(CONFIDENCE_MAX);
        if best.as_ref().is_none_or(|(most, _, _)| strength > most + STEP) {
            best = Some((strength, fault, groups));
        }
    }
    let (strength, fault, groups) = best?;
    let onset = findings.iter().filter_map(|finding| finding.onset).reduce(f64::min);
    let because = String::new();
    Some(Candidate { service, fault, confidence: 0.0, strength, groups, onset, findings, because })
}

fn because(system: &System<'_>, candidate: &Candidate, first: Option<(usize, f64)>) -> String {
    let groups = candidate.groups.values().filter(|says| **says >= AGREES_FROM).count();
    let agree = match groups {
        0 => "little speaks for it".to_owned(),
        1 => "one group of evidence speaks for it".to_owned(),
        many => format!("{many} groups of evidence agree on it"),
    };
    let strongest = candidate.findings.first().and_then(|finding| finding.discounts.first());
    let discount = match strongest {
        Some(Discount::PassedOn { callee, share }) if *share > 0.0 => {
            Some(format!("{} shows the same and explains {:.0} % of it", system.name(*callee), share * 100.0))
        }
        Some(Discount::NotReached) => Some("the service of the alert does not depend on it".to_owned()),
        Some(Discount::OtherSymptom) => Some("the alert is about something else".to_owned()),
        Some(Discount::SmallPart(share)) => {
            Some(format!("others show far more of it, this has {:.0} % of that", share * 100.0))
        }
        _ => None,
    };
    let against = match first {
        Some((service, strength)) if service != candidate.service => Some(format!(
            "more speaks for {}: {strength:.2} against {:.2}",
            system.name(service),
            candidate.strength
        )),
        _ => None,
    };
    std::iter::once(agree).chain(discount).chain(against).collect::<Vec<_>>().join("; ")
}
