//! From candidates to ranked hypotheses: noisy-OR over groups of evidence, what speaks against, relation, and "none of these".

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use quell_incident::report::Subject;

use crate::candidate::{Candidate, Draft};
use crate::gathered::Evidences;
use crate::locate::Located;
use crate::relation::Concern;
use crate::rules::sentence::name_of;

/// A root cause needs at least this confidence.
pub const CONFIDENCE_MIN: f64 = 0.5;
/// Two different causes closer than this are not told apart.
pub const MARGIN_MIN: f64 = 0.1;
/// No combination of rules is surer than this.
const CONFIDENCE_MAX: f64 = 0.99;
/// Left of the confidence for each group of evidence whose source did not answer: it might have spoken against.
pub(crate) const UNSEEN_FACTOR: f64 = 0.9;
/// Left of the confidence for each group of evidence that was looked at and says nothing.
pub(crate) const SILENT_FACTOR: f64 = 0.7;
/// Left of the confidence of a candidate that has nothing to do with what the alerts speak of.
const UNRELATED_FACTOR: f64 = 0.5;
/// Left of the confidence of a candidate of another component than the alerts', when there is a candidate of theirs.
const OTHER_COMPONENT_FACTOR: f64 = 0.8;
/// Part of what is missing to certainty that is made up for when the engines point at the same subject by evidence of another kind.
const AGREEMENT: f64 = 0.3;
/// Left of the confidence when they point elsewhere and see nothing at the subject.
const CONTRADICTION_FACTOR: f64 = 0.9;
/// Candidates below this are not worth a line.
const CONFIDENCE_TOLD_MIN: f64 = 0.05;
/// Hypotheses in a report at the most.
const HYPOTHESES_MAX: usize = 20;

/// A candidate with its confidence.
pub(crate) struct Ranked {
    pub(crate) cause: String,
    pub(crate) subject: Subject,
    pub(crate) statement: String,
    pub(crate) confidence: f64,
    pub(crate) related: bool,
    of_component: bool,
    /// The confidence before the other candidates were looked at.
    strength: f64,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) recommended_actions: Vec<String>,
    onset: Option<Timestamp>,
    /// Whether its confidence was fitted to outcomes.
    pub(crate) calibrated: bool,
    /// Of one that no rule speaks of: why the engines name it.
    pub(crate) located: Option<String>,
}

/// The candidates, best first, and why the best one is not the root cause, if it is not.
pub(crate) struct Ranking {
    pub(crate) ranked: Vec<Ranked>,
    pub(crate) abstained: Option<String>,
}

pub(crate) fn rank(
    candidates: Vec<Candidate>,
    located: Vec<Located>,
    concern: &Concern,
    evidences: &Evidences,
) -> Ranking {
    let mut merged: BTreeMap<(String, Subject), Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        merged.entry((candidate.cause.clone(), candidate.subject.clone())).or_default().push(candidate);
    }
    let mut ranked: Vec<Ranked> =
        merged.into_values().filter_map(|same| merge(same, concern, evidences)).collect();
    compare(&mut ranked, &located);
    prefer_component(&mut ranked);
    normalise(&mut ranked);
    ranked.retain(|one| one.confidence >= CONFIDENCE_TOLD_MIN);
    // Compared in steps of a millionth, so that the order does not hang on the last bit of a sum.
    let step = |one: &Ranked| (one.confidence * 1e6).round() as i64;
    ranked.sort_by(|one, other| {
        let onset = |one: &Ranked| one.onset.unwrap_or(Timestamp::MAX);
        step(other)
            .cmp(&step(one))
            .then(onset(one).cmp(&onset(other)))
            .then_with(|| (&one.cause, &one.subject).cmp(&(&other.cause, &other.subject)))
    });
    ranked.truncate(HYPOTHESES_MAX);
    let abstained = why_abstain(&ranked);
    append(&mut ranked, located, concern);
    Ranking { ranked, abstained }
}

/// What the rules say beside what the engines say, which read the same evidence in another way.
fn compare(ranked: &mut [Ranked], located: &[Located]) {
    for one in ranked {
        let same = located.iter().find(|located| located.is_about(&one.subject));
        let elsewhere = located.first().filter(|first| first.confidence >= CONFIDENCE_MIN);
        if let Some(same) = same {
            // What both have read counts once.
            if same.adds_to(&one.drafts) {
                let missing = (CONFIDENCE_MAX - one.confidence).max(0.0);
                one.confidence += AGREEMENT * same.confidence * missing;
            }
        } else if elsewhere.is_some_and(|elsewhere| !elsewhere.shares_with(&one.drafts)) {
            // Of what both have read the rule knows what it means.
            one.confidence *= CONTRADICTION_FACTOR;
        }
        one.strength = one.confidence;
    }
}

/// Services that no rule speaks of, behind those of the rules: they have what the rules' causes leave.
fn append(ranked: &mut Vec<Ranked>, located: Vec<Located>, concern: &Concern) {
    let left = 1.0 - ranked.first().map_or(0.0, |first| first.confidence);
    let known: Vec<Subject> = ranked.iter().map(|one| one.subject.clone()).collect();
    for one in located {
        if known.iter().any(|subject| one.is_about(subject)) {
            continue;
        }
        let related = concern.names(&one.subject.service) || concern.names(&one.subject.instance);
        let confidence = one.confidence * left * if related { 1.0 } else { UNRELATED_FACTOR };
        if confidence < CONFIDENCE_TOLD_MIN || ranked.len() >= HYPOTHESES_MAX {
            continue;
        }
        ranked.push(Ranked {
            cause: one.cause.to_owned(),
            subject: one.subject,
            statement: one.statement,
            confidence,
            related,
            of_component: false,
            strength: confidence,
            drafts: one.drafts,
            recommended_actions: Vec::new(),
            onset: one.onset,
            calibrated: one.calibrated,
            located: Some(one.because),
        });
    }
}

/// One hypothesis of all candidates for the same cause and subject: of each group of evidence only the largest contribution counts,
/// since what is of one group is not independent.
fn merge(mut same: Vec<Candidate>, concern: &Concern, evidences: &Evidences) -> Option<Ranked> {
    let mut groups: BTreeMap<String, f64> = BTreeMap::new();
    for (group, strength) in same.iter().flat_map(|candidate| &candidate.groups) {
        let most = groups.entry(group.clone()).or_default();
        *most = most.max(*strength);
    }
    let against = |pick: fn(&Candidate) -> &BTreeSet<String>| {
        let named: BTreeSet<&String> = same.iter().flat_map(pick).collect();
        i32::try_from(named.into_iter().filter(|group| !groups.contains_key(*group)).count())
            .unwrap_or(i32::MAX)
    };
    let missed: f64 = groups.values().map(|strength| 1.0 - strength).product();
    let mut confidence = (1.0 - missed).min(CONFIDENCE_MAX);
    confidence *= UNSEEN_FACTOR.powi(against(|one| &one.unseen));
    confidence *= SILENT_FACTOR.powi(against(|one| &one.silent));
    let related = same.iter().any(|candidate| concern.includes(candidate, evidences));
    if !related {
        confidence *= UNRELATED_FACTOR;
    }
    let of_component = same.iter().any(|candidate| concern.has_component_of(candidate));
    let drafts = same.iter_mut().flat_map(|candidate| std::mem::take(&mut candidate.drafts)).collect();
    let onset = same.iter().filter_map(|candidate| candidate.onset).min();
    let mut recommended_actions: Vec<String> = Vec::new();
    for action in same.iter().flat_map(|candidate| &candidate.recommended_actions) {
        if !recommended_actions.contains(action) {
            recommended_actions.push(action.clone());
        }
    }
    let first = same.into_iter().next()?;
    Some(Ranked {
        cause: first.cause,
        subject: first.subject,
        statement: first.statement,
        confidence,
        related,
        of_component,
        strength: confidence,
        drafts,
        recommended_actions,
        onset,
        calibrated: false,
        located: None,
    })
}

/// Two faults of one service are told apart by what their alerts are about.
fn prefer_component(ranked: &mut [Ranked]) {
    if ranked.iter().any(|one| one.of_component) {
        for one in ranked.iter_mut().filter(|one| one.related && !one.of_component) {
            one.confidence *= OTHER_COMPONENT_FACTOR;
            one.strength = one.confidence;
        }
    }
}

/// Different causes of one incident exclude each other: each one's odds against all others and against "none of these", whose odds
/// are 1. A single candidate keeps its confidence.
fn normalise(ranked: &mut [Ranked]) {
    let odds = |confidence: f64| confidence / (1.0 - confidence.min(CONFIDENCE_MAX));
    let mut best: BTreeMap<String, f64> = BTreeMap::new();
    for one in ranked.iter().filter(|one| one.related) {
        let most = best.entry(one.cause.clone()).or_default();
        *most = most.max(odds(one.confidence));
    }
    for one in ranked.iter_mut().filter(|one| one.related) {
        let others: f64 = best.iter().filter(|(cause, _)| **cause != one.cause).map(|(_, odds)| odds).sum();
        let own = odds(one.confidence);
        one.confidence = (own / (1.0 + own + others)).min(CONFIDENCE_MAX);
    }
}

fn why_abstain(ranked: &[Ranked]) -> Option<String> {
    let Some(best) = ranked.first() else {
        return Some("nothing that was looked at speaks for a known cause".to_owned());
    };
    let confidence = best.confidence;
    if !best.related && confidence < CONFIDENCE_MIN {
        return Some(format!(
            "the strongest candidate, {}, has nothing to do with what the alerts speak of",
            label(best)
        ));
    }
    if let Some(why) = too_close(ranked) {
        return Some(why);
    }
    (confidence < CONFIDENCE_MIN).then(|| {
        format!(
            "the strongest candidate, {}, has a confidence of {confidence:.2}, and {CONFIDENCE_MIN:.2} are needed",
            label(best)
        )
    })
}

/// Two causes that would each do by itself, and between which the evidence does not decide.
fn too_close(ranked: &[Ranked]) -> Option<String> {
    let best = ranked.first()?;
    let rival = ranked.iter().find(|one| one.cause != best.cause && one.related)?;
    let both = best.strength >= CONFIDENCE_MIN && rival.strength >= CONFIDENCE_MIN;
    (both && best.strength - rival.strength < MARGIN_MIN).then(|| {
        format!(
            "two causes are too close to choose: {} with {:.2} and {} with {:.2}, each taken by itself",
            label(best),
            best.strength,
            label(rival),
            rival.strength
        )
    })
}

/// A hypothesis in a few words.
pub(crate) fn label(one: &Ranked) -> String {
    let Subject { service, instance, part } = &one.subject;
    let named = [service, instance, part].into_iter().find(|text| !text.is_empty());
    named.map_or_else(|| one.cause.clone(), |name| format!("{} of {}", one.cause, name_of(name, "")))
}
