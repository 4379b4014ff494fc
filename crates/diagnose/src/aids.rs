//! What helps a diagnosis besides the rules: what a site's outcomes taught, and what a reader of the finished evidence made of it.

use std::collections::BTreeSet;

use quell_incident::Report;
use quell_incident::report::{Claim, Hypothesis, Subject};
use serde::{Deserialize, Serialize};

use crate::learned::SiteRanking;
use crate::localise::Calibration;

/// Readings that are taken of one diagnosis at the most.
pub const READINGS_MAX: usize = 3;
/// Claims of one reading at the most.
pub const READING_CLAIMS_MAX: usize = 10;
/// A sentence of a reading at the most, in characters.
const READING_TEXT_MAX: usize = 500;
/// A reader is never believed more than this: it has seen no more than the rules have, and its words may be another's.
pub const READING_CONFIDENCE_MAX: f64 = 0.4;
/// By what the claims of a reading are said to be made.
const READER: &str = "language-model";

/// Everything that a report follows from besides request, evidence and rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Aids {
    /// What the confidence of the localisation engines means.
    pub calibration: Calibration,
    /// What the site's resolved incidents teach of causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<SiteRanking>,
    /// What a reader of the finished evidence made of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<Reading>,
}

/// A hypothesis that was written by a reader of a report, such as a language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The kind of fault in a few words, as `snake_case`.
    pub cause: String,
    /// The service that is at fault, if it is known.
    #[serde(default)]
    pub service: String,
    /// One sentence.
    pub statement: String,
    /// How sure the reader is, 0 to 1.
    pub confidence: f64,
    /// What speaks for it, each by ids of the report's evidence.
    pub claims: Vec<ReadingClaim>,
}

/// One sentence of a reading, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingClaim {
    /// The sentence.
    pub statement: String,
    /// Ids of the report's evidence.
    pub evidence: Vec<String>,
}

/// Puts readings behind what the rules and engines say: they get their share of what those leave, and are never the root cause.
///
/// A claim that cites no evidence of this report is left out, and with its last claim the reading.
pub(crate) fn append(report: &mut Report, readings: &[Reading]) {
    let known: BTreeSet<String> = report.evidence.iter().map(|evidence| evidence.id.clone()).collect();
    for reading in readings.iter().take(READINGS_MAX) {
        let taken: f64 = report.root_cause.iter().chain(&report.alternatives).map(|one| one.confidence).sum();
        let claims = reading.claims.iter().take(READING_CLAIMS_MAX).filter_map(|claim| {
            let cited = claim.evidence.iter().filter(|id| known.contains(*id)).cloned().collect();
            Claim::new(READER, bounded(&claim.statement), cited)
        });
        let confidence = reading.confidence.clamp(0.0, READING_CONFIDENCE_MAX) * (1.0 - taken).max(0.0);
        let subject = Subject { service: bounded(&reading.service), ..Subject::default() };
        let hypothesis = Hypothesis::new(
            &cause(&reading.cause),
            subject,
            bounded(&reading.statement),
            (confidence * 1e4).round() / 1e4,
            claims.collect(),
            Vec::new(),
        );
        if let Some(mut hypothesis) = hypothesis.filter(|_| reading.confidence.is_finite()) {
            hypothesis.not_first_because =
                Some("a language model reads the evidence so; that is never the root cause".to_owned());
            report.alternatives.push(hypothesis);
        }
    }
}

fn bounded(text: &str) -> String {
    crate::template::cleaned(text, READING_TEXT_MAX)
}

/// A name like those of rules, and never the name of one: nothing is to be taken for what a rule found.
fn cause(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = text.trim().chars().take(CHARACTERS_MAX).map(word).collect();
    format!("read_{}", name.trim_matches('_'))
}
