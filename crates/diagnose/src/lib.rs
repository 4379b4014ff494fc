//! From evidence to a report: which cause the rules support, how sure that is, and what it rests on.
//!
//! Pure: nothing here does IO or reads a clock, and the same request, evidence and rules give the same report byte for byte, so that
//! any past incident can be diagnosed again.
//!
//! How a confidence comes about. Each condition of a rule belongs to a group of evidence (metrics, logs). A group contributes once,
//! by its strongest condition that holds; groups are combined by a noisy-OR that reaches the rule's base confidence when all are
//! complete. A group whose source did not answer, or that was looked at and says nothing, takes some of it away. A candidate that
//! has nothing to do with what the alerts speak of counts half, and one of another component a fifth less when there is one of theirs.
//! Different causes then share what is left besides "none of these".
//! Under [`CONFIDENCE_MIN`], or with two causes closer than [`MARGIN_MIN`], the report names no root cause and says why.
//!
//! Deliberately absent: the alert's name is never looked at. The same evidence under another name has the same cause.

mod candidate;
mod gathered;
pub mod learned;
mod rank;
mod relation;
mod report;
mod rules;
pub mod series;
pub mod similar;
mod stats;
pub mod template;

use quell_incident::Report;
use quell_incident::contract::DiagnoseRequest;
use quell_incident::evidence::EvidenceSet;

pub use rank::{CONFIDENCE_MIN, MARGIN_MIN};
pub use rules::{MetricRead, RULES_SCHEMA, RuleMistake, RuleMistakes, RuleSet, RuleSource};

/// Diagnoses an incident from what was gathered for it.
pub fn diagnose(request: &DiagnoseRequest, evidence: &EvidenceSet, rules: &RuleSet) -> Report {
    let reference = request.reference_time;
    let started_at = request.incident.started_at.min(reference);
    let window = series::Window { started_at, reference };
    let evidences = gathered::Evidences::gather(evidence, rules, window);
    let candidates =
        rules.rules.iter().flat_map(|rule| candidate::candidates(rules, rule, &evidences)).collect();
    let concern = relation::Concern::of(&request.incident);
    let ranking = rank::rank(candidates, &concern, &evidences);
    report::write(request, &evidences, rules, ranking)
}
