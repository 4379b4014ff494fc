//! From evidence to a report: which cause the rules support, how sure that is, and what it rests on.
//!
//! Pure: nothing here does IO or reads a clock, and the same request, evidence and rules give the same report byte for byte, so that
//! any past incident can be diagnosed again.
//!
//! How a confidence comes about. Each condition of a rule belongs to a group of evidence (metrics, logs, what the platform
//! says, health, changes). A group contributes once,
//! by its strongest condition that holds; groups are combined by a noisy-OR that reaches the rule's base confidence when all are
//! complete. A group whose source did not answer, or that was looked at and says nothing, takes some of it away. A candidate that
//! has nothing to do with what the alerts speak of counts half, and one of another component a fifth less when there is one of theirs.
//! Different causes then share what is left besides "none of these".
//! Under [`CONFIDENCE_MIN`], or with two causes closer than [`MARGIN_MIN`], the report names no root cause and says why.
//!
//! Beside the rules the [`localise`] engines say which service the evidence points at, whatever the cause. Where they point at a rule's
//! subject with evidence that the rule has not read, its confidence rises; where they point elsewhere and see nothing at the subject, it
//! falls. A service that no rule speaks of is an alternative and never the root cause, since no runbook is chosen by it.
//!
//! Deliberately absent: the alert's name is never looked at. The same evidence under another name has the same cause.

mod about;
mod aids;
mod candidate;
pub mod case;
mod gathered;
pub mod learned;
pub mod localise;
mod locate;
mod over;
mod rank;
mod relation;
mod report;
mod rules;
mod seen;
pub mod series;
pub mod similar;
mod stats;
mod surroundings;
pub mod template;

use quell_incident::Report;
use quell_incident::contract::DiagnoseRequest;
use quell_incident::evidence::EvidenceSet;

use localise::Outcome;
use quell_incident::report::Subject;

pub use aids::{Aids, READING_CLAIMS_MAX, READING_CONFIDENCE_MAX, READINGS_MAX, Reading, ReadingClaim};
pub use case::Case;
pub use rank::{CONFIDENCE_MIN, MARGIN_MIN};
pub use rules::{
    ConditionExplanation, MetricRead, RULE_TESTS_SCHEMA, RULES_SCHEMA, RuleExplanation, RuleMistake,
    RuleMistakes, RuleSet, RuleSource, RuleSummary, RuleTestResult, RuleTests, check_files, is_of_tests,
};

/// Diagnoses an incident from what was gathered for it.
pub fn diagnose(request: &DiagnoseRequest, evidence: &EvidenceSet, rules: &RuleSet) -> Report {
    diagnose_with(request, evidence, rules, &Aids::default())
}

/// The same with what helps besides the rules.
pub fn diagnose_with(
    request: &DiagnoseRequest,
    evidence: &EvidenceSet,
    rules: &RuleSet,
    aids: &Aids,
) -> Report {
    let evidences = gathered(request, evidence, rules);
    let candidates =
        rules.rules.iter().flat_map(|rule| candidate::candidates(rules, rule, &evidences)).collect();
    let concern = relation::Concern::of(&request.incident);
    // Without any rule nothing is to be said.
    let located = if rules.rules.is_empty() {
        Vec::new()
    } else {
        locate::locate(&evidences, &concern, &aids.calibration)
    };
    let ranking = rank::rank(candidates, located, &concern, &evidences);
    let related = ranking.ranked.iter().filter(|one| one.related);
    let related = related.map(|one| (one.cause.clone(), one.subject.clone())).collect();
    let mut report = report::write(request, &evidences, rules, ranking);
    if let Some(ranking) = &aids.ranking {
        ranking.apply(&mut report, &related);
    }
    aids::append(&mut report, &aids.readings);
    report
}

fn gathered(request: &DiagnoseRequest, evidence: &EvidenceSet, rules: &RuleSet) -> gathered::Evidences {
    let reference = request.reference_time;
    let started_at = request.incident.started_at.min(reference);
    gathered::Evidences::gather(evidence, rules, series::Window { started_at, reference })
}

/// What the engines said, and whether they pointed at this subject.
fn pointed(
    request: &DiagnoseRequest,
    evidence: &EvidenceSet,
    rules: &RuleSet,
    subject: &Subject,
) -> Option<Outcome> {
    let concern = relation::Concern::of(&request.incident);
    locate::pointed(&gathered(request, evidence, rules), &concern, subject)
}
