//! `quell eval rca`: the localisation engines over the cases of suites, scored beside chance and a published baseline.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use quell_diagnose::localise::{Calibration, Localisation, Observed, localise, robust_scorer};
use serde::Serialize;
use serde_json::json;

use super::calibrate::{self, Known};
use super::choose::{self, Chosen, Material};
use super::lines::{read_truth, write_lines};
use super::page;
use super::score::{CONFIDENT, Outcome, Prediction, Score, Share, Told, Truth};
use super::suite::{Case, Reader, case_folders};
use crate::args::RcaArgs;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::Stream;

/// The alert is moved so many seconds to see what a late or an early one does.
const SHIFTS: [f64; 2] = [-60.0, 60.0];
/// Sentences that say why the first one is first.
const BECAUSE_MAX: usize = 4;

/// What was measured of one suite.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) suite: String,
    pub(super) milliseconds: Milliseconds,
    pub(super) calm: Calm,
    /// Without truth there is none.
    pub(super) score: Option<Score>,
    /// The same with the alert moved.
    pub(super) moved: Vec<Moved>,
    /// BARO's RobustScorer on the same windows; its confidence is none.
    pub(super) baseline: Option<Score>,
    /// With the confidence calibrated on all other suites.
    pub(super) calibrated_on_others: Option<calibrate::Compared>,
    /// With thresholds that were chosen on all other suites.
    pub(super) chosen_on_others: Option<Chosen>,
}

/// Time of the engines for one case.
#[derive(Debug, Serialize)]
pub(super) struct Milliseconds {
    pub(super) mean: f64,
    pub(super) most: f64,
}

/// Windows without a fault.
#[derive(Debug, Serialize)]
pub(super) struct Calm {
    pub(super) windows: usize,
    /// The share of windows without a confident answer.
    pub(super) specificity: Option<Share>,
}

#[derive(Debug, Serialize)]
pub(super) struct Moved {
    pub(super) seconds: f64,
    pub(super) score: Score,
}

/// The predictions of one suite, in each of the ways in which they were made.
#[derive(Default)]
struct Predicted {
    lines: Vec<Prediction>,
    moved: Vec<Vec<Prediction>>,
    baseline: Vec<Prediction>,
    /// What was said of windows without a fault, and whether it was confident.
    calm: Vec<(Known, bool)>,
    seen: BTreeSet<Vec<u64>>,
    /// Kept only where thresholds are chosen by it.
    material: Material,
}

pub(super) fn run(context: &mut Context<'_>, args: &RcaArgs) -> Result<()> {
    let calibration = calibration(args.model.as_deref())?;
    let truth = args.score.as_deref().map(read_truth).transpose()?;
    let mut suites: BTreeMap<String, Predicted> = BTreeMap::new();
    let mut reader = Reader::default();
    for folder in case_folders(&args.folder)? {
        let case = reader.read(&folder)?;
        let predicted = suites.entry(case.description.suite.clone()).or_default();
        let known = truth.as_ref().and_then(|truth| truth.get(&case.description.case));
        let kept_for = known.filter(|_| args.leave_one_out);
        predict(&case, &calibration, truth.is_some(), kept_for, predicted);
    }
    write_lines(&args.out, suites.values().flat_map(|suite| &suite.lines))?;
    let mut measured = measure(&suites, truth.as_ref(), args.leave_one_out)?;
    if let (Some(out), Some(truth)) = (&args.fit, &truth) {
        calibrate::written(&known(&suites, truth), out)?;
    }
    if args.leave_one_out {
        let materials = suites.into_iter().map(|(name, suite)| (name, suite.material)).collect();
        let mut chosen = choose::by_suite(&materials);
        measured.iter_mut().for_each(|one| one.chosen_on_others = chosen.remove(&one.suite));
    }
    if context.output.is_json() {
        let document = json!({
            "schema": "quell/eval-rca/v1",
            "calibrated": calibration.is_fitted(),
            "suites": measured,
        });
        context.output.json(&document)?;
    } else {
        context.output.page(Stream::Out, &page::suites(&measured, args))?;
    }
    Ok(())
}

fn calibration(model: Option<&Path>) -> Result<Calibration> {
    let Some(path) = model else { return Ok(Calibration::prior()) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("{} cannot be read: {error}", path.display())))?;
    Calibration::read(&text).map_err(|error| {
        Failure::failed(format!("{}: {error}", path.display())).next("make one with quell eval calibrate")
    })
}

/// With a truth to choose thresholds by, what was observed is kept for that.
fn predict(
    case: &Case,
    calibration: &Calibration,
    is_scored: bool,
    kept_for: Option<&Truth>,
    predicted: &mut Predicted,
) {
    let observed = case.observed(0.0);
    let (found, seconds) = timed(&observed, calibration);
    predicted.lines.push(prediction(case, &observed, &found, Some(seconds)));
    if !is_scored {
        return;
    }
    predicted.moved.resize_with(SHIFTS.len(), Vec::new);
    for (lines, shift) in predicted.moved.iter_mut().zip(SHIFTS) {
        let moved = case.observed(shift);
        let (found, _) = timed(&moved, calibration);
        lines.push(prediction(case, &moved, &found, None));
    }
    let name = |service: &usize| observed.services.get(*service).cloned();
    let first = predicted.lines.last().map(|line| line.n_candidates);
    predicted.baseline.push(Prediction {
        case: case.description.case.clone(),
        suite: case.description.suite.clone(),
        ranked: robust_scorer(&observed).iter().filter_map(name).collect(),
        confidence: 0.0,
        fault: None,
        seconds: None,
        n_candidates: first.flatten(),
        features: None,
        because: Vec::new(),
    });
    for calm in case.calm() {
        // Cases of one day share their normal minutes, and what happened in one of those minutes happened once.
        let minutes = minutes(&calm);
        if minutes.iter().all(|minute| !predicted.seen.contains(minute)) {
            let found = localise(&calm, calibration);
            let known = Known::calm(&case.description.case, &case.description.suite, found.features);
            predicted.calm.push((known, found.confidence() >= CONFIDENT));
            predicted.seen.extend(minutes);
            predicted.material.calm.extend(kept_for.map(|_| calm));
        }
    }
    if let Some(truth) = kept_for {
        predicted.material.cases.push((observed, truth.root_cause_service.clone()));
    }
}

/// What was measured in each step of a window; by that a step is known again under another time.
fn minutes(window: &Observed) -> Vec<Vec<u64>> {
    let mut minutes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for sample in window.series.iter().flat_map(|series| &series.fault) {
        minutes.entry(sample.at.to_bits()).or_default().push(sample.value.to_bits());
    }
    minutes.into_values().collect()
}

#[allow(clippy::disallowed_methods, reason = "how long the engines take is what is measured")]
fn timed(observed: &Observed, calibration: &Calibration) -> (Localisation, f64) {
    let started = Instant::now();
    let found = localise(observed, calibration);
    (found, started.elapsed().as_secs_f64())
}

fn prediction(case: &Case, observed: &Observed, found: &Localisation, seconds: Option<f64>) -> Prediction {
    let name = |service: usize| observed.services.get(service).cloned();
    let first = found.candidates.first();
    let statements = first.into_iter().flat_map(|first| &first.findings).take(BECAUSE_MAX);
    let because = statements.map(|finding| format!("{}: {}", finding.rule.name(), finding.statement));
    Prediction {
        case: case.description.case.clone(),
        suite: case.description.suite.clone(),
        ranked: found.candidates.iter().filter_map(|candidate| name(candidate.service)).collect(),
        confidence: found.confidence(),
        fault: first.map(|first| first.fault.name().to_owned()),
        seconds,
        n_candidates: Some(observed.services.len()),
        features: Some(Told {
            first: found.features.first,
            second: found.features.second,
            groups: found.features.groups,
        }),
        because: because.collect(),
    }
}

/// Every answer that is known to be right or wrong, of cases and of windows without a fault.
fn known(suites: &BTreeMap<String, Predicted>, truth: &BTreeMap<String, Truth>) -> Vec<Known> {
    let lines = suites.values().flat_map(|suite| &suite.lines);
    let cases = lines.filter_map(|line| Known::of(line, truth.get(&line.case)));
    let calm = suites.values().flat_map(|suite| &suite.calm).map(|(known, _)| known.clone());
    cases.chain(calm).collect()
}

fn measure(
    suites: &BTreeMap<String, Predicted>,
    truth: Option<&BTreeMap<String, Truth>>,
    leave_one_out: bool,
) -> Result<Vec<Measured>> {
    let outcomes = |lines: &[Prediction]| -> Option<Vec<Outcome>> {
        let truth = truth?;
        let known = lines.iter().filter_map(|line| Some((truth.get(&line.case)?, line)));
        Some(known.map(|(truth, line)| Outcome::of(truth, Some(line))).collect())
    };
    if let Some(truth) = truth {
        let unknown =
            suites.values().flat_map(|suite| &suite.lines).find(|line| !truth.contains_key(&line.case));
        if let Some(line) = unknown {
            return Err(Failure::failed(format!("the truth says nothing of the case {}", line.case))
                .next("name the truth of these suites with --score"));
        }
    }
    let mut held_out = BTreeMap::new();
    if let (true, Some(truth)) = (leave_one_out, truth) {
        held_out = calibrate::by_suite(&known(suites, truth));
    }
    let measured = suites.iter().map(|(name, suite)| {
        let seconds: Vec<f64> = suite.lines.iter().filter_map(|line| line.seconds).collect();
        let moved = suite
            .moved
            .iter()
            .zip(SHIFTS)
            .filter_map(|(lines, seconds)| Some(Moved { seconds, score: Score::of(&outcomes(lines)?) }));
        Measured {
            suite: name.clone(),
            milliseconds: Milliseconds {
                mean: 1000.0 * seconds.iter().sum::<f64>() / seconds.len().max(1) as f64,
                most: 1000.0 * seconds.iter().copied().fold(0.0, f64::max),
            },
            calm: Calm {
                windows: suite.calm.len(),
                specificity: Share::of(
                    suite.calm.iter().filter(|(_, is_confident)| !is_confident).count(),
                    suite.calm.len(),
                ),
            },
            score: outcomes(&suite.lines).map(|outcomes| Score::of(&outcomes)),
            moved: moved.collect(),
            baseline: outcomes(&suite.baseline).map(|outcomes| Score::of(&outcomes)),
            calibrated_on_others: held_out.remove(name),
            chosen_on_others: None,
        }
    });
    Ok(measured.collect())
}
