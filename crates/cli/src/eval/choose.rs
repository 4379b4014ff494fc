//! What the thresholds are worth on a system that they were not chosen on: for each suite they are chosen anew on all others.

use std::collections::BTreeMap;

use quell_diagnose::localise::{Calibration, Observed, Thresholds, localise_by};
use serde::Serialize;

use super::score::{CONFIDENT, Outcome, Score, Share};

/// A choice may move away from the shipped thresholds by so many of them.
const MOVES_MAX: usize = 2;

/// What is looked at to choose: the cases of a suite with what was at fault, and its windows without a fault.
#[derive(Default)]
pub(super) struct Material {
    pub(super) cases: Vec<(Observed, String)>,
    pub(super) calm: Vec<Observed>,
}

/// A suite by thresholds that were chosen on all others.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Chosen {
    /// Those of the thresholds that are other than the shipped ones.
    pub(super) moved: BTreeMap<&'static str, f64>,
    pub(super) score: Score,
    pub(super) specificity: Option<Share>,
}

/// What thresholds make of one suite.
#[derive(Clone)]
struct Worth {
    score: Score,
    specificity: Option<Share>,
}

impl Worth {
    /// Hits, quiet where nothing is wrong, and a confidence that means what it says, in equal parts.
    fn sum(&self) -> f64 {
        let share = |share: Option<Share>| share.map_or(0.0, |share| share.share);
        share(self.score.ac1) + share(self.score.ac3) + share(self.specificity) - self.score.brier
    }
}

/// By suite: what thresholds make of it that were chosen without it.
pub(super) fn by_suite(materials: &BTreeMap<String, Material>) -> BTreeMap<String, Chosen> {
    let mut known: Vec<(Thresholds, BTreeMap<&String, Worth>)> = Vec::new();
    let suites = materials.keys();
    suites
        .filter(|_| materials.len() > 1)
        .filter_map(|held_out| {
            let mut chosen = Thresholds::default();
            let worth = |thresholds: &Thresholds, known: &mut Vec<(Thresholds, _)>| {
                let results = results(thresholds, materials, known);
                results
                    .iter()
                    .filter(|(suite, _)| **suite != held_out)
                    .map(|(_, result): (_, &Worth)| result.sum())
                    .sum::<f64>()
            };
            let mut best = worth(&chosen, &mut known);
            for _ in 0..MOVES_MAX {
                let before = best;
                for moved in chosen.neighbours() {
                    // What is equally good is not worth a change.
                    let of_moved = worth(&moved, &mut known);
                    if of_moved > best + 1e-9 {
                        (best, chosen) = (of_moved, moved);
                    }
                }
                if best <= before {
                    break;
                }
            }
            let results = results(&chosen, materials, &mut known);
            let result = results.get(held_out)?.clone();
            let Worth { score, specificity } = result;
            Some((held_out.clone(), Chosen { moved: moved(&chosen), score, specificity }))
        })
        .collect()
}

/// What thresholds make of each suite; what is known is not looked at again.
fn results<'a, 'b>(
    thresholds: &Thresholds,
    materials: &'a BTreeMap<String, Material>,
    known: &'b mut Vec<(Thresholds, BTreeMap<&'a String, Worth>)>,
) -> &'b BTreeMap<&'a String, Worth> {
    let place = known.iter().position(|(one, _)| one == thresholds).unwrap_or_else(|| {
        let of_suites = materials.iter().map(|(suite, material)| (suite, result(thresholds, material)));
        known.push((*thresholds, of_suites.collect()));
        known.len() - 1
    });
    &known[place].1
}

fn result(thresholds: &Thresholds, material: &Material) -> Worth {
    let prior = Calibration::prior();
    let outcomes = material.cases.iter().map(|(observed, at_fault)| {
        let found = localise_by(observed, &prior, thresholds);
        let name = |service: usize| observed.services.get(service).map(String::as_str);
        let place = found.candidates.iter().position(|one| name(one.service) == Some(at_fault));
        Outcome {
            place: place.map(|place| place + 1),
            confidence: found.confidence(),
            services: Some(observed.services.len()),
        }
    });
    let score = Score::of(&outcomes.collect::<Vec<_>>());
    let is_quiet = |window: &&Observed| localise_by(window, &prior, thresholds).confidence() < CONFIDENT;
    let quiet = material.calm.iter().filter(is_quiet).count();
    Worth { score, specificity: Share::of(quiet, material.calm.len()) }
}

/// The thresholds that are other than the shipped ones.
fn moved(chosen: &Thresholds) -> BTreeMap<&'static str, f64> {
    let named = |of: &Thresholds| {
        [
            ("symptom", of.symptom),
            ("cpu", of.cpu),
            ("surprise", of.surprise),
            ("explains", of.explains),
            ("none_odds", of.none_odds),
        ]
    };
    let shipped = named(&Thresholds::default());
    let pairs = named(chosen).into_iter().zip(shipped);
    pairs.filter(|((_, one), (_, shipped))| one != shipped).map(|(one, _)| one).collect()
}
