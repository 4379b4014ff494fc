//! Conditional logistic regression: the candidates of one incident share a probability of 1, by the exponential of their scores.
//!
//! That is what ranking asks for: only what tells candidates of the same incident apart counts, and the confidence needs no further
//! scaling. Whether something is of one class or not is the same with two candidates, one of them nothing but zeros.

use serde::{Deserialize, Serialize};

/// How strongly weights are pulled to 0.
const SHRINKAGE: f64 = 10.0;
/// Steps of the search for the weights.
const STEPS: usize = 300;

/// A weight for each column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Regression {
    pub(crate) means: Vec<f64>,
    /// One over the standard deviation; 0 for a column that is constant.
    pub(crate) scales: Vec<f64>,
    pub(crate) weights: Vec<f64>,
}

/// The rows of one incident's candidates, and which of them it was.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) rows: Vec<Vec<f64>>,
    pub(crate) chosen: usize,
}

impl Regression {
    pub(crate) fn train(choices: &[Choice], column_count: usize) -> Self {
        let rows = || choices.iter().flat_map(|choice| &choice.rows);
        let count = rows().count().max(1) as f64;
        let mut means = vec![0.0; column_count];
        for row in rows() {
            means.iter_mut().zip(row).for_each(|(mean, value)| *mean += damped(*value) / count);
        }
        let mut scales = vec![0.0; column_count];
        for row in rows() {
            for ((scale, value), mean) in scales.iter_mut().zip(row).zip(&means) {
                *scale += (damped(*value) - mean).powi(2) / count;
            }
        }
        scales.iter_mut().for_each(|scale| *scale = if *scale > 1e-12 { scale.sqrt().recip() } else { 0.0 });
        let mut regression = Self { means, scales, weights: Vec::new() };
        let scaled: Vec<Choice> = choices
            .iter()
            .map(|choice| Choice {
                rows: choice.rows.iter().map(|row| regression.scaled(row)).collect(),
                chosen: choice.chosen,
            })
            .collect();
        regression.weights = weights(&scaled, column_count);
        regression
    }

    fn scaled(&self, row: &[f64]) -> Vec<f64> {
        let values = row.iter().zip(&self.means).zip(&self.scales);
        values.map(|((value, mean), scale)| (damped(*value) - mean) * scale).collect()
    }

    /// Each column's part in the score.
    pub(crate) fn parts(&self, row: &[f64]) -> Vec<f64> {
        self.scaled(row).iter().zip(&self.weights).map(|(value, weight)| value * weight).collect()
    }
}

/// Counts have long tails: the tenth event says less than the first one.
fn damped(value: f64) -> f64 {
    value.signum() * value.abs().ln_1p()
}

/// The shares of 1 that scores get.
pub(crate) fn shares(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Gradient descent with the step of Barzilai and Borwein, which takes from the last two gradients how curved the way is.
fn weights(choices: &[Choice], column_count: usize) -> Vec<f64> {
    let mut weights = vec![0.0; column_count];
    let mut slope = gradient(choices, &weights);
    let mut step = 1.0 / (SHRINKAGE + choices.len() as f64 * column_count.max(1) as f64);
    let mut best = (f64::INFINITY, weights.clone());
    for _ in 0..STEPS {
        if slope.loss < best.0 {
            best = (slope.loss, weights.clone());
        }
        let next: Vec<f64> =
            weights.iter().zip(&slope.by_column).map(|(weight, slope)| weight - step * slope).collect();
        let next_slope = gradient(choices, &next);
        if !next_slope.loss.is_finite() || next_slope.loss > best.0 * 1.5 + 1.0 {
            // Too far: from the best point on with a smaller step.
            weights = best.1.clone();
            slope = gradient(choices, &weights);
            step /= 10.0;
            continue;
        }
        let (mut moved, mut bent) = (0.0, 0.0);
        for (((from, to), before), after) in
            weights.iter().zip(&next).zip(&slope.by_column).zip(&next_slope.by_column)
        {
            moved += (to - from).powi(2);
            bent += (to - from) * (after - before);
        }
        (weights, slope) = (next, next_slope);
        if moved < 1e-18 {
            break;
        }
        if bent > 0.0 {
            step = moved / bent;
        }
    }
    if slope.loss < best.0 { weights } else { best.1 }
}

struct Slope {
    loss: f64,
    by_column: Vec<f64>,
}

fn gradient(choices: &[Choice], weights: &[f64]) -> Slope {
    let mut by_column: Vec<f64> = weights.iter().map(|weight| SHRINKAGE * weight).collect();
    let mut loss = weights.iter().map(|weight| SHRINKAGE / 2.0 * weight * weight).sum();
    for choice in choices {
        let score = |row: &Vec<f64>| row.iter().zip(weights).map(|(value, weight)| value * weight).sum();
        let scores: Vec<f64> = choice.rows.iter().map(score).collect();
        let shares = shares(&scores);
        loss -= shares.get(choice.chosen).copied().unwrap_or(1.0).max(1e-300).ln();
        for (index, (row, share)) in choice.rows.iter().zip(&shares).enumerate() {
            let off = share - if index == choice.chosen { 1.0 } else { 0.0 };
            by_column.iter_mut().zip(row).for_each(|(slope, value)| *slope += off * value);
        }
    }
    Slope { loss, by_column }
}
