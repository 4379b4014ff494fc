//! What a site's own resolved incidents teach: in which order the rules' causes deserve to be believed there.
//!
//! A rule's confidence is a prior that is the same everywhere. Some sites have a rule that is nearly always right, and one that fires with
//! every deployment and is nearly always wrong. [`SiteRanking`] learns that from incidents whose cause is confirmed, since a repair for it
//! was verified, and says beside each diagnosis what it thinks. It counts only while it is better than the rules over the last incidents,
//! each judged by what could be learned before it ([`switch`]).

use std::collections::{BTreeMap, BTreeSet};

use quell_incident::Report;
use quell_incident::report::{Evidence, EvidenceKind, Hypothesis, SecondOpinion, Subject};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Candidate, EXAMPLES_MIN, Example, Judged, Kind, Model, ModelError, Prediction, SWITCH_INCIDENTS,
    Switch, switch,
};
use crate::localise::Fault;
use crate::rank::CONFIDENCE_MIN;

/// The schema that a file of what was learned names.
pub const LEARNED_SCHEMA: &str = "quell/learned/v1";
/// A confidence is taken this far from 0 and 1.
const EDGE: f64 = 0.01;
/// The seed of a training; the regression draws nothing.
const SEED: u64 = 0;

/// An incident whose cause is confirmed, and what the rules said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The report by the rules alone.
    pub report: Report,
    /// The cause whose repair was verified.
    pub cause: String,
}

/// How often a cause was named at the first place, and how often it was the one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Times that it was named.
    pub named: u32,
    /// Times that it was right.
    pub right: u32,
}

impl Record {
    /// How often it will be right, as a mean of a beta distribution that begins with two of each.
    fn precision(self) -> f64 {
        (f64::from(self.right) + 2.0) / (f64::from(self.named) + 4.0)
    }
}

/// The order of causes as a site's incidents teach it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteRanking {
    model: Model,
    /// By cause.
    records: BTreeMap<String, Record>,
    /// How often none of the named causes was the one.
    none: f64,
    /// Whether its answer counts.
    pub switch: Switch,
}

impl SiteRanking {
    /// Learns from resolved incidents, in the order in which they were resolved.
    ///
    /// # Errors
    /// [`ModelError::TooFew`]
    pub fn learn(resolved: &[Resolved]) -> Result<Self, ModelError> {
        let judged: Vec<Judged> = (0..resolved.len())
            .rev()
            .take(SWITCH_INCIDENTS)
            .rev()
            .filter_map(|place| {
                let one = resolved.get(place)?;
                let before = Self::of(resolved.get(..place)?, Switch::TooFew { incidents: 0 }).ok();
                let rules = rules_answer(&one.report);
                // Before there was a model the rules spoke alone.
                let model = match before.map(|before| before.answer(&one.report)) {
                    Some(answer) => Answer {
                        cause: answer.as_ref().map(|(hypothesis, _)| hypothesis.cause.clone()),
                        confidence: answer.map_or(0.0, |(_, confidence)| confidence),
                    },
                    None => rules.clone(),
                };
                Some(Judged { rules, model, cause: one.cause.clone() })
            })
            .collect();
        Self::of(resolved, switch(&judged))
    }

    fn of(resolved: &[Resolved], switch: Switch) -> Result<Self, ModelError> {
        let mut records: BTreeMap<String, Record> = BTreeMap::new();
        let mut examples = Vec::new();
        let mut missed = 0_u32;
        for one in resolved {
            // What is known of a cause is what was known before this incident.
            let candidates = candidates(&one.report, &records);
            let cause = hypotheses(&one.report).find(|hypothesis| hypothesis.cause == one.cause);
            missed += u32::from(cause.is_none());
            if let Some(cause) = cause {
                examples.push(Example { candidates, cause: name(cause), fault: None });
            }
            if let Some(first) = hypotheses(&one.report).next() {
                let record = records.entry(first.cause.clone()).or_default();
                record.named += 1;
                record.right += u32::from(first.cause == one.cause);
            }
        }
        let model = Model::train(&examples, Kind::Regression, SEED)?;
        let none = (f64::from(missed) + 1.0) / (resolved.len() as f64 + 2.0);
        Ok(Self { model, records, none, switch })
    }

    /// How many incidents it learned from.
    pub fn incidents(&self) -> usize {
        self.model.examples()
    }

    /// # Errors
    /// What a diagnosis relies on does not hold.
    pub fn check(&self) -> Result<(), ModelError> {
        self.model.check()?;
        if (0.0..=1.0).contains(&self.none) {
            Ok(())
        } else {
            Err(ModelError::Unusable { why: "the share of unknown causes is none".to_owned() })
        }
    }

    fn predict(&self, report: &Report) -> Prediction {
        self.model.predict(&candidates(report, &self.records))
    }

    /// The hypothesis that it would name first, and how sure it is.
    fn answer<'a>(&self, report: &'a Report) -> Option<(&'a Hypothesis, f64)> {
        let prediction = self.predict(report);
        let first = prediction.ranked.first()?;
        let hypothesis = hypotheses(report).find(|hypothesis| name(hypothesis) == first.name)?;
        Some((hypothesis, first.confidence * (1.0 - self.none)))
    }

    /// Says beside a report what it thinks, and where that counts puts the causes in its order. Only causes that have to do with what the
    /// alerts speak of can become the root cause.
    pub(crate) fn apply(&self, report: &mut Report, related: &BTreeSet<(String, Subject)>) {
        let prediction = self.predict(report);
        let Some((first, confidence)) = self.answer(report) else { return };
        let (cause, subject) = (first.cause.clone(), first.subject.clone());
        let is_related = related.contains(&(cause.clone(), subject.clone()));
        let counts = self.switch.is_on() && is_related;
        let reasons = prediction.ranked.first().map(|first| &first.reasons);
        let reasons: Vec<String> = reasons
            .into_iter()
            .flatten()
            .map(|reason| format!("{} {:+.2}", reason.feature, reason.weight))
            .collect();
        report.second_opinion = Some(SecondOpinion {
            cause,
            subject,
            confidence: rounded(confidence),
            counts,
            why: format!(
                "learned from {} resolved incidents; {}; what moved it: {}",
                self.incidents(),
                self.switch.told(),
                reasons.join(", ")
            ),
        });
        if counts {
            self.put_in_order(report, &prediction);
        }
    }

    fn put_in_order(&self, report: &mut Report, prediction: &Prediction) {
        let by_rules = report.root_cause.as_ref().map(name);
        let mut all: Vec<Hypothesis> = report.root_cause.take().into_iter().collect();
        all.append(&mut report.alternatives);
        let place = |hypothesis: &Hypothesis| {
            let known = prediction.ranked.iter().position(|scored| scored.name == name(hypothesis));
            known.unwrap_or(usize::MAX)
        };
        all.sort_by_key(place);
        for hypothesis in &mut all {
            let Some(scored) = prediction.ranked.get(place(hypothesis)) else { continue };
            let before = hypothesis.confidence;
            hypothesis.confidence = rounded(scored.confidence * (1.0 - self.none));
            hypothesis.calibrated = true;
            hypothesis.not_first_because = Some(format!(
                "this site's resolved incidents give it {:.2}, the rules {before:.2}",
                hypothesis.confidence
            ));
        }
        let is_enough = all.first().is_some_and(|first| first.confidence >= CONFIDENCE_MIN);
        if !is_enough {
            let best = all.first().map_or(0.0, |first| first.confidence);
            report.abstained = Some(format!(
                "by this site's resolved incidents the strongest candidate has a confidence of {best:.2}, and {CONFIDENCE_MIN:.2} are needed"
            ));
            report.alternatives = all;
            return;
        }
        let mut first = all.remove(0);
        first.not_first_because = None;
        if by_rules.as_ref() != Some(&name(&first)) {
            first.statement = format!("{} (put first by this site's resolved incidents)", first.statement);
        }
        report.abstained = None;
        report.root_cause = Some(first);
        report.alternatives = all;
    }
}

fn rounded(confidence: f64) -> f64 {
    (confidence * 1e4).round() / 1e4
}

fn rules_answer(report: &Report) -> Answer {
    let cause = report.root_cause.as_ref().map(|cause| cause.cause.clone());
    Answer { cause, confidence: report.confidence() }
}

/// What rules say; services that the engines point at have no cause that could be confirmed.
fn hypotheses(report: &Report) -> impl Iterator<Item = &Hypothesis> {
    let all = report.root_cause.iter().chain(&report.alternatives);
    all.filter(|hypothesis| Fault::ALL.iter().all(|fault| fault.name() != hypothesis.cause))
}

fn name(hypothesis: &Hypothesis) -> String {
    let Subject { service, instance, part } = &hypothesis.subject;
    format!("{} {service} {instance} {part}", hypothesis.cause)
}

fn candidates(report: &Report, records: &BTreeMap<String, Record>) -> Vec<Candidate> {
    let kinds: BTreeMap<&str, EvidenceKind> =
        report.evidence.iter().map(|Evidence { id, kind, .. }| (id.as_str(), *kind)).collect();
    let log_odds = |share: f64| {
        let share = share.clamp(EDGE, 1.0 - EDGE);
        (share / (1.0 - share)).ln()
    };
    hypotheses(report)
        .enumerate()
        .map(|(place, hypothesis)| {
            let record = records.get(&hypothesis.cause).copied().unwrap_or_default();
            let mut features = BTreeMap::from([
                ("rules' log-odds".to_owned(), log_odds(hypothesis.confidence)),
                ("right before, log-odds".to_owned(), log_odds(record.precision())),
                ("claims".to_owned(), hypothesis.claims.len() as f64),
            ]);
            if place == 0 {
                features.insert("first by the rules".to_owned(), 1.0);
            }
            for claim in &hypothesis.claims {
                features.insert(format!("rule {}", claim.by), 1.0);
                for kind in claim.evidence.iter().filter_map(|id| kinds.get(id.as_str())) {
                    features.insert(format!("evidence {kind:?}").to_lowercase(), 1.0);
                }
            }
            Candidate { name: name(hypothesis), features }
        })
        .collect()
}

/// What is read from a file: both parts may be there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// [`LEARNED_SCHEMA`].
    pub schema: String,
    /// What the confidence of the localisation engines means here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<crate::localise::Calibration>,
    /// The order of causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<SiteRanking>,
}

impl Learned {
    /// Resolved incidents that a ranking needs at the least.
    pub const INCIDENTS_MIN: usize = EXAMPLES_MIN;

    /// Reads a file of what was learned, or a calibration alone.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Schema {
            schema: String,
        }
        let Schema { schema } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if schema == crate::localise::MODEL_SCHEMA {
            let calibration = crate::localise::Calibration::read(text).map_err(|error| error.to_string())?;
            let schema = LEARNED_SCHEMA.to_owned();
            return Ok(Self { schema, calibration: Some(calibration), ranking: None });
        }
        if schema != LEARNED_SCHEMA {
            return Err(format!("it names the schema `{schema}`, expected `{LEARNED_SCHEMA}`"));
        }
        let learned: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if let Some(calibration) = &learned.calibration {
            calibration.check().map_err(|error| error.to_string())?;
        }
        if let Some(ranking) = &learned.ranking {
            ranking.check().map_err(|error| error.to_string())?;
        }
        Ok(learned)
    }
}
