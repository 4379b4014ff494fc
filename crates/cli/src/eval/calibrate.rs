//! `quell eval calibrate`: fits what a confidence means to outcomes, and says whether that helps on outcomes that it has not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quell_diagnose::localise::{Calibration, Features, FitError, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::lines::{read_lines, read_truth, write_json};
use super::page;
use super::score::{CONFIDENT, Outcome as Placed, Prediction, Share, Told, Truth};
use crate::args::CalibrateArgs;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::Stream;

/// Parts of a cross-validation.
const FOLDS: usize = 5;

/// A prediction that is known to be right or wrong.
#[derive(Clone, Debug)]
pub(super) struct Known {
    case: String,
    suite: String,
    outcome: Outcome,
    /// Nothing was wrong, so that any answer is a wrong one.
    is_calm: bool,
}

/// A line of a site's own record: a prediction, and whether it turned out to be right.
#[derive(Deserialize)]
struct Resolved {
    #[serde(flatten)]
    prediction: Prediction,
    right: Option<bool>,
}

/// Brier's score of what the engines said, and of what a calibration made of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Compared {
    pub(super) outcomes: usize,
    pub(super) before: f64,
    /// `None` when the other outcomes are too few for a fit.
    pub(super) after: Option<f64>,
    /// The share of windows without a fault in which the calibrated answer is no confident one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) specificity: Option<Share>,
}

impl Known {
    /// `None` for a prediction without what a calibration looks at.
    pub(super) fn of(prediction: &Prediction, truth: Option<&Truth>) -> Option<Self> {
        let right = Placed::of(truth?, Some(prediction)).is_within(1);
        Self::resolved(prediction, right)
    }

    fn resolved(prediction: &Prediction, right: bool) -> Option<Self> {
        let Told { first, second, groups } = prediction.features?;
        let outcome = Outcome { features: Features { first, second, groups }, right };
        let (case, suite) = (prediction.case.clone(), prediction.suite.clone());
        Some(Self { case, suite, outcome, is_calm: false })
    }

    /// What was said of a window without a fault.
    pub(super) fn calm(case: &str, suite: &str, features: Features) -> Self {
        let outcome = Outcome { features, right: false };
        Self { case: case.to_owned(), suite: suite.to_owned(), outcome, is_calm: true }
    }

    /// The confidence; who says nothing is not sure of it.
    fn said(&self, calibration: &Calibration) -> f64 {
        if self.is_answer() { calibration.apply(&self.outcome.features) } else { 0.0 }
    }

    fn is_answer(&self) -> bool {
        self.outcome.features.first > 0.0
    }
}

/// A calibration by all answers: what nothing was said about says nothing of what a confidence means.
pub(super) fn fit(known: &[&Known]) -> std::result::Result<Calibration, FitError> {
    let answers = known.iter().filter(|one| one.is_answer());
    Calibration::fit(&answers.map(|one| one.outcome).collect::<Vec<_>>())
}

pub(super) fn run(context: &mut Context<'_>, args: &CalibrateArgs, predictions: &Path) -> Result<()> {
    let truth = args.score.as_deref().map(read_truth).transpose()?;
    let lines: Vec<Resolved> = read_lines(predictions, "a prediction with `case`, `ranked` and `features`")?;
    let known: Vec<Known> = lines
        .iter()
        .filter_map(|line| match (line.right, &truth) {
            (Some(right), _) => Known::resolved(&line.prediction, right),
            (None, Some(truth)) => Known::of(&line.prediction, truth.get(&line.prediction.case)),
            (None, None) => None,
        })
        .collect();
    if known.is_empty() {
        return Err(Failure::not_possible("no prediction is known to be right or wrong")
            .next("name what was really at fault with --score, or write `\"right\": true` or `false` into the lines"));
    }
    let model = written(&known, &args.out)?;
    let validated = cross_validated(&known);
    let suites = if args.leave_one_out { by_suite(&known) } else { BTreeMap::new() };
    if context.output.is_json() {
        let document = json!({"model": model, "cross_validated": validated, "calibrated_on_others": suites});
        context.output.json(&document)?;
    } else {
        context.output.page(Stream::Out, &page::calibration(&model, validated, &suites, &args.out))?;
    }
    Ok(())
}

/// Fits a calibration and writes it.
pub(super) fn written(known: &[Known], out: &Path) -> Result<Calibration> {
    let model = fit(&known.iter().collect::<Vec<_>>()).map_err(|error| {
        Failure::not_possible(error.to_string())
            .next("until there are more, the engines' prior is used as it is")
    })?;
    write_json(out, &model)?;
    Ok(model)
}

fn brier(known: &[&Known], calibration: &Calibration) -> f64 {
    let off = known.iter().map(|one| {
        let right = if one.outcome.right { 1.0 } else { 0.0 };
        (one.said(calibration) - right).powi(2)
    });
    off.sum::<f64>() / known.len().max(1) as f64
}

/// What a fit on the others makes of these.
fn compared(held_out: &[&Known], others: &[&Known]) -> Compared {
    let (calm, cases): (Vec<&Known>, Vec<&Known>) = held_out.iter().partition(|one| one.is_calm);
    let fitted = fit(others).ok();
    let specificity = fitted.as_ref().and_then(|fitted| {
        let quiet = calm.iter().filter(|one| one.said(fitted) < CONFIDENT).count();
        Share::of(quiet, calm.len())
    });
    Compared {
        outcomes: cases.len(),
        before: brier(&cases, &Calibration::prior()),
        after: fitted.map(|fitted| brier(&cases, &fitted)),
        specificity,
    }
}

/// Each fifth of the outcomes by a fit on the other four.
fn cross_validated(known: &[Known]) -> Compared {
    let mut sorted: Vec<&Known> = known.iter().collect();
    // In the order of names, so that the parts do not hang on the order of lines.
    sorted.sort_by(|one, other| (&one.suite, &one.case).cmp(&(&other.suite, &other.case)));
    let parts = (0..FOLDS).map(|fold| {
        let numbered = || sorted.iter().copied().enumerate();
        let held_out: Vec<&Known> =
            numbered().filter(|(place, _)| place % FOLDS == fold).map(|(_, one)| one).collect();
        let others: Vec<&Known> =
            numbered().filter(|(place, _)| place % FOLDS != fold).map(|(_, one)| one).collect();
        compared(&held_out, &others)
    });
    let none = Compared { outcomes: 0, before: 0.0, after: Some(0.0), specificity: None };
    parts.fold(none, |sum, part| {
        let all = (sum.outcomes + part.outcomes).max(1) as f64;
        let mean = |one: f64, other: f64| (one * sum.outcomes as f64 + other * part.outcomes as f64) / all;
        Compared {
            outcomes: sum.outcomes + part.outcomes,
            before: mean(sum.before, part.before),
            after: sum.after.zip(part.after).map(|(one, other)| mean(one, other)),
            specificity: None,
        }
    })
}

/// Each suite by a fit on all others: what a calibration is worth on a system that it has not seen.
pub(super) fn by_suite(known: &[Known]) -> BTreeMap<String, Compared> {
    let suites: BTreeSet<&String> = known.iter().map(|one| &one.suite).collect();
    suites
        .into_iter()
        .map(|suite| {
            let (held_out, others): (Vec<&Known>, Vec<&Known>) =
                known.iter().partition(|one| one.suite == *suite);
            (suite.clone(), compared(&held_out, &others))
        })
        .collect()
}
