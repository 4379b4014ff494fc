//! Three ways to tell which candidate is at fault, each weighed by what it was worth on incidents that it had not seen.
//!
//! A regression over the candidates, trees over the candidates, and trees over the whole incident: a fault of one service may show best at
//! another, as no candidate's own features can tell. Which of them is right about a site depends on the site; the weights are chosen by a
//! cross-validation within what there is to learn from (Wolpert, "Stacked generalization", Neural Networks 5, 1992, with shares that sum
//! up to one as in Breiman, "Stacked regressions", Machine Learning 24, 1996).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::encode::{COLUMNS_MAX, NAME_BYTES_MAX, columns, row};
use super::forest::{CLASSES_MAX, Forest, Rows};
use super::regression::{Choice, Regression, shares};
use super::{CANDIDATES_MAX, Candidate, Example};

/// Parts of the cross-validation that weighs them.
const FOLDS: usize = 4;
/// Weights are multiples of one in so many.
const STEPS: usize = 4;
/// Nobody is as sure as never to be wrong.
const SHARE_MIN: f64 = 1e-3;
/// Between a candidate's name and its feature's.
const BETWEEN: char = '\u{1f}';

/// The three, and their weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mixture {
    pub(crate) regression: Regression,
    pub(crate) forest: Forest,
    pub(crate) services: Services,
    /// Of regression, forest and services; they sum up to 1.
    pub(crate) weights: [f64; 3],
}

/// Which service is at fault, told from all candidates together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Services {
    pub(crate) columns: Vec<String>,
    /// Sorted.
    pub(crate) names: Vec<String>,
    pub(crate) forest: Forest,
}

/// What all three learn from, by incident.
pub(crate) struct Lessons<'a> {
    pub(crate) choices: &'a [Choice],
    pub(crate) examples: &'a [&'a Example],
    pub(crate) column_count: usize,
    pub(crate) seed: u64,
}

impl Mixture {
    pub(crate) fn train(lessons: &Lessons<'_>) -> Self {
        let all: Vec<usize> = (0..lessons.choices.len()).collect();
        let weights = weights(lessons);
        let (regression, forest, services) = lessons.train(&all);
        Self { regression, forest, services, weights }
    }

    /// By candidate.
    pub(crate) fn shares(&self, rows: &[Vec<f64>], candidates: &[Candidate]) -> Vec<f64> {
        let three = three(&self.regression, &self.forest, &self.services, rows, candidates);
        mixed(&three, &self.weights)
    }

    pub(crate) fn has_sound_weights(&self) -> bool {
        let sum: f64 = self.weights.iter().sum();
        self.weights.iter().all(|weight| (0.0..=1.0).contains(weight)) && (sum - 1.0).abs() < 1e-6
    }
}

impl Lessons<'_> {
    fn train(&self, places: &[usize]) -> (Regression, Forest, Services) {
        let choices: Vec<Choice> =
            places.iter().filter_map(|place| self.choices.get(*place)).cloned().collect();
        let examples: Vec<&Example> =
            places.iter().filter_map(|place| self.examples.get(*place)).copied().collect();
        let regression = Regression::train(&choices, self.column_count);
        (regression, candidates_forest(&choices, self.seed), Services::train(&examples, self.seed))
    }
}

/// Trees that tell the candidate at fault from the others.
pub(crate) fn candidates_forest(choices: &[Choice], seed: u64) -> Forest {
    let classes: Vec<usize> = choices
        .iter()
        .flat_map(|choice| (0..choice.rows.len()).map(|at| usize::from(at == choice.chosen)))
        .collect();
    let rows: Vec<&Vec<f64>> = choices.iter().flat_map(|choice| &choice.rows).collect();
    Forest::train(&Rows::new(&rows, &classes, 2), seed)
}

/// By candidate: its part of what the trees say of all.
pub(crate) fn forest_shares(forest: &Forest, rows: &[Vec<f64>]) -> Vec<f64> {
    let score = |row: &Vec<f64>| forest.predict(row, 2, 1).0.get(1).copied().unwrap_or_default();
    of_all(rows.iter().map(score).collect())
}

/// No tree has ever seen anything like these: then none of them is likelier than another.
fn of_all(scores: Vec<f64>) -> Vec<f64> {
    let (sum, even): (f64, f64) = (scores.iter().sum(), 1.0 / scores.len().max(1) as f64);
    scores.iter().map(|score| if sum > 0.0 { score / sum } else { even }).collect()
}

fn three(
    regression: &Regression,
    forest: &Forest,
    services: &Services,
    rows: &[Vec<f64>],
    candidates: &[Candidate],
) -> [Vec<f64>; 3] {
    let scores: Vec<f64> = rows.iter().map(|row| regression.parts(row).iter().sum()).collect();
    [shares(&scores), forest_shares(forest, rows), services.shares(candidates)]
}

fn mixed(three: &[Vec<f64>; 3], weights: &[f64; 3]) -> Vec<f64> {
    let count = three.iter().map(Vec::len).min().unwrap_or_default();
    let of = |place: usize| {
        let parts = three.iter().zip(weights);
        parts.map(|(shares, weight)| weight * shares.get(place).copied().unwrap_or_default()).sum()
    };
    (0..count).map(of).collect()
}

/// The weights under which what happened was likeliest, each incident judged by what was learned from other parts.
fn weights(lessons: &Lessons<'_>) -> [f64; 3] {
    let mut judged: Vec<[f64; 3]> = Vec::new();
    for fold in 0..FOLDS {
        let (unseen, seen): (Vec<usize>, Vec<usize>) =
            (0..lessons.choices.len()).partition(|place| place % FOLDS == fold);
        let (regression, forest, services) = lessons.train(&seen);
        for place in unseen {
            let (Some(choice), Some(example)) = (lessons.choices.get(place), lessons.examples.get(place))
            else {
                continue;
            };
            let three = three(&regression, &forest, &services, &choice.rows, &example.candidates);
            judged.push(three.map(|shares| shares.get(choice.chosen).copied().unwrap_or_default()));
        }
    }
    let likely = |weights: &[f64; 3]| -> f64 {
        let of = |shares: &[f64; 3]| shares.iter().zip(weights).map(|(share, weight)| share * weight).sum();
        judged.iter().map(|shares| f64::max(of(shares), SHARE_MIN).ln()).sum()
    };
    let mut best = (f64::NEG_INFINITY, [1.0, 0.0, 0.0]);
    for one in 0..=STEPS {
        for other in 0..=STEPS - one {
            let weights = [one, other, STEPS - one - other].map(|part| part as f64 / STEPS as f64);
            let likelihood = likely(&weights);
            if likelihood > best.0 {
                best = (likelihood, weights);
            }
        }
    }
    best.1
}

impl Services {
    fn train(examples: &[&Example], seed: u64) -> Self {
        let names: BTreeSet<&String> = examples.iter().map(|example| &example.cause).collect();
        let short = names.into_iter().filter(|name| name.len() <= NAME_BYTES_MAX).take(CLASSES_MAX);
        let names: Vec<String> = short.cloned().collect();
        let known: Vec<(&&Example, usize)> = examples
            .iter()
            .filter_map(|example| Some((example, names.binary_search(&example.cause).ok()?)))
            .collect();
        let whole: Vec<Candidate> = known.iter().map(|(example, _)| whole(&example.candidates)).collect();
        let columns = columns(whole.iter());
        let rows: Vec<Vec<f64>> = whole.iter().map(|one| row(&columns, one)).collect();
        let rows: Vec<&Vec<f64>> = rows.iter().collect();
        let classes: Vec<usize> = known.iter().map(|(_, class)| *class).collect();
        let forest = Forest::train(&Rows::new(&rows, &classes, names.len()), seed);
        Self { columns, names, forest }
    }

    /// By candidate.
    fn shares(&self, candidates: &[Candidate]) -> Vec<f64> {
        let row = row(&self.columns, &whole(candidates));
        let (shares, _) = self.forest.predict(&row, self.names.len(), 0);
        let of = |candidate: &Candidate| {
            let place = self.names.binary_search(&candidate.name).ok()?;
            shares.get(place).copied()
        };
        let scores =
            candidates.iter().take(CANDIDATES_MAX).map(|candidate| of(candidate).unwrap_or_default());
        of_all(scores.collect())
    }

    /// Whether names and columns are as few, as short and as sorted as a prediction relies on.
    pub(crate) fn has_sound_names(&self) -> bool {
        let short = |names: &[String]| names.iter().all(|name| name.len() <= NAME_BYTES_MAX);
        let few = self.columns.len() <= COLUMNS_MAX && self.names.len() <= CLASSES_MAX;
        few && short(&self.columns) && short(&self.names) && self.names.is_sorted()
    }
}

/// An incident as one row: what each candidate shows, by its name.
fn whole(candidates: &[Candidate]) -> Candidate {
    let features = candidates.iter().take(CANDIDATES_MAX).flat_map(|candidate| {
        let name = &candidate.name;
        candidate.features.iter().map(move |(feature, value)| (format!("{name}{BETWEEN}{feature}"), *value))
    });
    Candidate { name: String::new(), features: features.collect() }
}
