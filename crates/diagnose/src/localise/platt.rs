//! How sure the first candidate is: a logistic curve over what the engines say, fitted to outcomes where there are some.

use serde::{Deserialize, Serialize};

use super::combine::Features;

/// The schema that a model file names.
pub const MODEL_SCHEMA: &str = "quell/calibration/v1";
/// Outcomes that a fit needs: fewer say more about chance than about the engines.
pub const OUTCOMES_MIN: usize = 30;
/// Numbers that a calibration looks at.
const INPUTS: usize = 3;
/// How strongly coefficients are held towards the prior, as if so many outcomes had spoken for it.
const PRIOR_WEIGHT: f64 = 1.0;
/// Steps of the fit at the most; it needs about six.
const STEPS_MAX: usize = 50;
/// Confidences stay this far from 0 and 1: nothing is certain.
const EDGE: f64 = 0.01;

/// Coefficients of the curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`MODEL_SCHEMA`].
    pub schema: String,
    /// What is added.
    pub intercept: f64,
    /// Of the log-odds of the first candidate.
    pub log_odds: f64,
    /// Of its distance to the second.
    pub margin: f64,
    /// Of the number of groups of evidence that agree.
    pub groups: f64,
    /// How many outcomes it was fitted to; 0 for the prior, which is not calibrated.
    pub outcomes: usize,
}

/// What the engines said once, and whether the first candidate was at fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// What they said.
    pub features: Features,
    /// Whether that was right.
    pub right: bool,
}

/// Why a calibration cannot be fitted or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Too few outcomes.
    #[error("{0} outcomes are too few to fit a calibration, {OUTCOMES_MIN} are needed")]
    TooFew(usize),
    /// All are right, or all are wrong.
    #[error("all outcomes are the same, so that nothing tells the right ones from the wrong ones")]
    AllTheSame,
    /// The file is of something else.
    #[error("the model is not a {MODEL_SCHEMA}: {0}")]
    NotAModel(String),
}

impl Default for Calibration {
    fn default() -> Self {
        Self::prior()
    }
}

impl Calibration {
    /// What is used before there are outcomes: what the rules' priors say, and the surer the further the first is ahead of the second. It
    /// is not calibrated: no site's failures are like another's.
    pub fn prior() -> Self {
        Self {
            schema: MODEL_SCHEMA.to_owned(),
            intercept: 0.0,
            log_odds: 1.0,
            margin: 1.0,
            groups: 0.0,
            outcomes: 0,
        }
    }

    /// Whether it was fitted to outcomes.
    pub fn is_fitted(&self) -> bool {
        self.outcomes >= OUTCOMES_MIN
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// The text is not a model, or one of its numbers is not finite.
    pub fn read(text: &str) -> Result<Self, FitError> {
        let model: Self =
            serde_json::from_str(text).map_err(|error| FitError::NotAModel(error.to_string()))?;
        if model.schema != MODEL_SCHEMA {
            return Err(FitError::NotAModel(format!("it names the schema `{}`", model.schema)));
        }
        model.check()?;
        Ok(model)
    }

    /// # Errors
    /// A coefficient is not finite.
    pub(crate) fn check(&self) -> Result<(), FitError> {
        let numbers = [self.intercept, self.log_odds, self.margin, self.groups];
        if !numbers.iter().all(|number| number.is_finite()) {
            return Err(FitError::NotAModel("a coefficient is not a finite number".to_owned()));
        }
        Ok(())
    }

    /// The confidence, 0 to 1.
    pub fn apply(&self, features: &Features) -> f64 {
        let inputs = inputs(features);
        let sum: f64 = self.intercept
            + self.weights().iter().zip(inputs).map(|(weight, input)| weight * input).sum::<f64>();
        logistic(sum).clamp(EDGE, 1.0 - EDGE)
    }

    fn weights(&self) -> [f64; INPUTS] {
        [self.log_odds, self.margin, self.groups]
    }

    /// Fits it to outcomes by penalised maximum likelihood: with few outcomes it stays near the prior.
    ///
    /// # Errors
    /// There are too few outcomes, or they are all the same.
    pub fn fit(outcomes: &[Outcome]) -> Result<Self, FitError> {
        if outcomes.len() < OUTCOMES_MIN {
            return Err(FitError::TooFew(outcomes.len()));
        }
        let right = outcomes.iter().filter(|outcome| outcome.right).count();
        if right == 0 || right == outcomes.len() {
            return Err(FitError::AllTheSame);
        }
        let rows: Vec<([f64; INPUTS + 1], f64)> = outcomes
            .iter()
            .map(|outcome| {
                let [log_odds, margin, groups] = inputs(&outcome.features);
                ([1.0, log_odds, margin, groups], if outcome.right { 1.0 } else { 0.0 })
            })
            .collect();
        let Self { intercept, log_odds, margin, groups, .. } = Self::prior();
        let prior = [intercept, log_odds, margin, groups];
        let mut found = prior;
        for _ in 0..STEPS_MAX {
            let Some(step) = newton_step(&rows, &found, &prior) else { break };
            // A whole step may overshoot where the curve is flat: the first part of it that does not make the fit worse is taken.
            let at = |part: f64| {
                let mut next = found;
                next.iter_mut().zip(step).for_each(|(one, by)| *one += part * by);
                next
            };
            let now = likelihood(&rows, &found, &prior);
            let parts = (0..STEPS_MAX).map(|halvings| at(0.5_f64.powi(halvings as i32)));
            let Some(next) = parts.into_iter().find(|next| likelihood(&rows, next, &prior) >= now) else {
                break;
            };
            found = next;
            if step.iter().all(|by| by.abs() < 1e-9) {
                break;
            }
        }
        let [intercept, log_odds, margin, groups] = found;
        let schema = MODEL_SCHEMA.to_owned();
        Ok(Self { schema, intercept, log_odds, margin, groups, outcomes: outcomes.len() })
    }
}

fn inputs(features: &Features) -> [f64; INPUTS] {
    let first = features.first.clamp(EDGE, 1.0 - EDGE);
    [(first / (1.0 - first)).ln(), features.first - features.second, features.groups.min(4) as f64]
}

fn logistic(sum: f64) -> f64 {
    1.0 / (1.0 + (-sum).exp())
}

type Row = [f64; INPUTS + 1];

/// The penalised log-likelihood.
fn likelihood(rows: &[(Row, f64)], at: &Row, prior: &Row) -> f64 {
    let said = rows.iter().map(|(row, right)| {
        let sum: f64 = row.iter().zip(at).map(|(input, weight)| input * weight).sum();
        // The logarithm of the logistic curve, which does not overflow.
        let sum = if *right > 0.5 { sum } else { -sum };
        -((-sum.abs()).exp().ln_1p() + (-sum).max(0.0))
    });
    let held: f64 = at.iter().zip(prior).map(|(one, prior)| (one - prior).powi(2)).sum();
    said.sum::<f64>() - 0.5 * PRIOR_WEIGHT * held
}

/// One step of Newton's method on the penalised log-likelihood; `None` when it cannot be solved.
fn newton_step(rows: &[(Row, f64)], at: &Row, prior: &Row) -> Option<Row> {
    const SIZE: usize = INPUTS + 1;
    let mut slope = [0.0; SIZE];
    let mut bend = [[0.0; SIZE]; SIZE];
    for (row, right) in rows {
        let said = logistic(row.iter().zip(at).map(|(input, weight)| input * weight).sum());
        let weight = said * (1.0 - said);
        for (i, one) in row.iter().enumerate() {
            slope[i] += (right - said) * one;
            for (j, other) in row.iter().enumerate() {
                bend[i][j] += weight * one * other;
            }
        }
    }
    for i in 0..SIZE {
        slope[i] -= PRIOR_WEIGHT * (at[i] - prior[i]);
        bend[i][i] += PRIOR_WEIGHT;
    }
    solve(bend, slope)
}

/// Gauss's elimination with pivots.
fn solve<const SIZE: usize>(mut left: [[f64; SIZE]; SIZE], mut right: [f64; SIZE]) -> Option<[f64; SIZE]> {
    for column in 0..SIZE {
        let pivot = (column..SIZE)
            .max_by(|one, other| left[*one][column].abs().total_cmp(&left[*other][column].abs()))?;
        if left[pivot][column].abs() < 1e-12 || !left[pivot][column].is_finite() {
            return None;
        }
        left.swap(column, pivot);
        right.swap(column, pivot);
        let (pivot_row, pivot_right) = (left[column], right[column]);
        for (row, value) in left.iter_mut().zip(&mut right).skip(column + 1) {
            let factor = row[column] / pivot_row[column];
            row.iter_mut().zip(pivot_row).for_each(|(one, pivot)| *one -= factor * pivot);
            *value -= factor * pivot_right;
        }
    }
    let mut solved = [0.0; SIZE];
    for row in (0..SIZE).rev() {
        let known: f64 = (row + 1..SIZE).map(|inner| left[row][inner] * solved[inner]).sum();
        solved[row] = (right[row] - known) / left[row][row];
    }
    Some(solved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(first: f64, second: f64, groups: usize, right: bool) -> Outcome {
        Outcome { features: Features { first, second, groups }, right }
    }

    #[test]
    fn a_fit_learns_that_the_engines_are_too_sure() {
        let mut outcomes = Vec::new();
        for index in 0..200 {
            // Nine in ten are said, six in ten are right.
            outcomes.push(outcome(0.9, 0.05, 1, index % 10 < 6));
            outcomes.push(outcome(0.4, 0.3, 1, index % 10 < 2));
        }
        let fitted = Calibration::fit(&outcomes).unwrap();
        assert!((fitted.apply(&outcomes[0].features) - 0.6).abs() < 0.03, "{fitted:?}");
        assert!((fitted.apply(&outcomes[1].features) - 0.2).abs() < 0.03, "{fitted:?}");
        assert!(fitted.is_fitted() && !Calibration::prior().is_fitted());
    }

    #[test]
    fn what_cannot_be_fitted_is_said() {
        let same = vec![outcome(0.9, 0.0, 1, true); 40];
        assert_eq!(Calibration::fit(&same), Err(FitError::AllTheSame));
        assert_eq!(Calibration::fit(&same[..3]), Err(FitError::TooFew(3)));
        assert!(Calibration::read("{}").is_err());
        let text = serde_json::to_string(&Calibration::prior()).unwrap();
        assert_eq!(Calibration::read(&text), Ok(Calibration::prior()));
        let other = text.replace("calibration", "rules");
        assert!(matches!(Calibration::read(&other), Err(FitError::NotAModel(_))));
    }

    #[test]
    fn the_prior_is_surer_of_one_that_is_far_ahead() {
        let said = |first, second| Calibration::prior().apply(&Features { first, second, groups: 2 });
        assert!((said(0.3, 0.3) - 0.3).abs() < 1e-9);
        assert!(said(0.45, 0.0) > 0.5 && said(0.45, 0.4) < 0.5);
        assert!(said(0.0, 0.0) < 0.02 && said(1.0, 0.0) > 0.98 && said(1.0, 0.0) < 1.0);
    }
}
