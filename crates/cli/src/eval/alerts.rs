//! `quell eval alerts`: how well a model of resolved incidents names the service at fault, from alert events.

mod cases;

use std::fmt::Write as _;

use quell_diagnose::learned::{Example, Kind, Model, Prediction};
use serde_json::{Value, json};

use crate::args::{AlertsArgs, LearnedKind};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Look, Stream, Table};
use cases::Case;

/// How many services may be named.
const PLACES: [usize; 3] = [1, 3, 5];
/// For an interval that holds the truth 95 times out of 100.
const WILSON_Z: f64 = 1.96;

/// One case that was predicted, and what it really was.
struct Predicted<'a> {
    case: &'a Case,
    prediction: Prediction,
}

pub(crate) fn run(context: &mut Context<'_>, args: &AlertsArgs) -> Result<()> {
    let truths = cases::truths(&args.truth)?;
    let train = cases::read(&args.train, &truths)?;
    let test = args.test.as_ref().map(|path| cases::read(path, &truths)).transpose()?;
    let (predicted, kind) = match (&test, args.cross_validate) {
        (Some(test), _) => {
            let model = trained(train.iter(), args)?;
            (test.iter().map(|case| predict(&model, case)).collect(), model.kind())
        }
        (None, Some(folds)) => cross_validate(&train, usize::from(folds), args)?,
        (None, None) => {
            return Err(Failure::usage("there is nothing to predict")
                .next("name a file with --test, or how many parts --cross-validate makes of --train"));
        }
    };
    if let Some(path) = &args.out {
        let mut lines = String::new();
        for one in &predicted {
            writeln!(lines, "{}", line(one)).unwrap_or_default();
        }
        std::fs::write(path, lines).map_err(|error| {
            Failure::failed(format!("the file {} cannot be written: {error}", path.display()))
        })?;
    }
    show(context, &predicted, kind, train.len())
}

fn trained<'a>(cases: impl Iterator<Item = &'a Case>, args: &AlertsArgs) -> Result<Model> {
    let examples: Vec<Example> = cases.filter_map(Case::example).collect();
    let kind = match args.model {
        Some(LearnedKind::Regression) => Kind::Regression,
        Some(LearnedKind::Forest) => Kind::Forest,
        Some(LearnedKind::Mixture) => Kind::Mixture,
        None => Kind::for_examples(examples.len()),
    };
    Model::train(&examples, kind, args.seed).map_err(|error| {
        Failure::not_possible(error.to_string()).next("give the causes of the cases of --train with --truth")
    })
}

fn predict<'a>(model: &Model, case: &'a Case) -> Predicted<'a> {
    Predicted { case, prediction: model.predict(&case.candidates) }
}

/// Each case is predicted by a model that has not seen it: the file is cut into as many parts, every so-manieth case in one.
fn cross_validate<'a>(
    cases: &'a [Case],
    folds: usize,
    args: &AlertsArgs,
) -> Result<(Vec<Predicted<'a>>, Kind)> {
    let mut predicted = Vec::new();
    let mut kind = Kind::Regression;
    for fold in 0..folds {
        let in_fold = |place: usize| place % folds == fold;
        let seen = cases.iter().enumerate().filter(|(place, _)| !in_fold(*place));
        let model = trained(seen.map(|(_, case)| case), args)?;
        kind = model.kind();
        let unseen = cases.iter().enumerate().filter(|(place, _)| in_fold(*place));
        predicted.extend(unseen.map(|(_, case)| predict(&model, case)));
    }
    Ok((predicted, kind))
}

/// In the form that the predictions of the other measurements have.
fn line(one: &Predicted<'_>) -> Value {
    let ranked: Vec<&str> = one.prediction.ranked.iter().map(|scored| scored.name.as_str()).collect();
    let first = one.prediction.ranked.first();
    json!({
        "case": one.case.id,
        "ranked": ranked,
        "confidence": first.map_or(0.0, |first| first.confidence),
        "fault": one.prediction.fault.as_ref().map(|fault| &fault.name),
        "n_candidates": ranked.len(),
        "reasons": first.map(|first| &first.reasons),
    })
}

/// Sums over the cases whose truth is known.
#[derive(Default)]
struct Sums {
    cases: usize,
    hits: [usize; 3],
    chance: f64,
    squares: f64,
    faults: usize,
    faults_right: usize,
}

impl Sums {
    fn add(&mut self, one: &Predicted<'_>) {
        let Some(truth) = &one.case.cause else { return };
        let ranked = &one.prediction.ranked;
        let place = ranked.iter().position(|scored| scored.name == *truth);
        self.cases += 1;
        for (hits, places) in self.hits.iter_mut().zip(PLACES) {
            *hits += usize::from(place.is_some_and(|place| place < places));
        }
        self.chance += 1.0 / ranked.len().max(1) as f64;
        let right = if place == Some(0) { 1.0 } else { 0.0 };
        self.squares += (ranked.first().map_or(0.0, |first| first.confidence) - right).powi(2);
        if let Some(fault) = &one.case.fault {
            self.faults += 1;
            let said = one.prediction.fault.as_ref().map(|fault| &fault.name);
            self.faults_right += usize::from(said == Some(fault));
        }
    }

    fn brier(&self) -> f64 {
        self.squares / self.cases.max(1) as f64
    }
}

fn show(context: &mut Context<'_>, predicted: &[Predicted<'_>], kind: Kind, examples: usize) -> Result<()> {
    let mut sums = Sums::default();
    predicted.iter().for_each(|one| sums.add(one));
    let kind = match kind {
        Kind::Regression => "regression",
        Kind::Forest => "forest",
        Kind::Mixture => "mixture",
    };
    let mut rows = Vec::new();
    for (hits, places) in sums.hits.into_iter().zip(PLACES) {
        rows.push((format!("HR@{places}"), hits, sums.cases));
    }
    rows.push(("fault type".to_owned(), sums.faults_right, sums.faults));
    rows.retain(|(.., of)| *of > 0);
    if context.output.is_json() {
        let share = |(name, hits, of): &(String, usize, usize)| {
            let (low, high) = wilson(*hits, *of);
            json!({"measure": name, "hits": hits, "of": of, "share": *hits as f64 / *of as f64, "low": low, "high": high})
        };
        let known = sums.cases > 0;
        context.output.json(&json!({
            "model": kind,
            "examples": examples,
            "predicted": predicted.len(),
            "scored": sums.cases,
            "shares": rows.iter().map(share).collect::<Vec<_>>(),
            "chance": known.then(|| sums.chance / sums.cases as f64),
            "brier": known.then(|| sums.brier()),
        }))?;
        return Ok(());
    }
    let mut table = Table::new(&["MEASURE", "SHARE", "95 %", "CASES"]);
    for (name, hits, of) in rows {
        let (low, high) = wilson(hits, of);
        let share = format!("{:.3}", hits as f64 / of as f64);
        table
            .row(Look::Plain, vec![name, share, format!("{low:.3} to {high:.3}"), format!("{hits} of {of}")]);
    }
    let mut page = table.page();
    page.line("");
    page.line(format!("{} cases, predicted by a {kind} of {examples} incidents", predicted.len()));
    if sums.cases > 0 {
        let chance = sums.chance / sums.cases as f64;
        page.line(format!("Brier {:.3}; HR@1 by chance {chance:.3}", sums.brier()));
    } else {
        page.line("what was really at fault is not known: give it with --truth to have a score");
    }
    context.output.page(Stream::Out, &page)?;
    Ok(())
}

/// Where the true share lies, from so many hits: Wilson's interval, which keeps its promise also for few cases.
fn wilson(hits: usize, of: usize) -> (f64, f64) {
    let (count, share) = (of.max(1) as f64, hits as f64 / of.max(1) as f64);
    let square = WILSON_Z * WILSON_Z;
    let middle = share + square / (2.0 * count);
    let half = WILSON_Z * (share * (1.0 - share) / count + square / (4.0 * count * count)).sqrt();
    let whole = 1.0 + square / count;
    (((middle - half) / whole).max(0.0), ((middle + half) / whole).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        let rounded = |(low, high): (f64, f64)| ((low * 1e3).round(), (high * 1e3).round());
        assert_eq!(rounded(wilson(50, 100)), (404.0, 596.0));
        assert_eq!(rounded(wilson(0, 10)), (0.0, 278.0));
        assert_eq!(rounded(wilson(10, 10)), (722.0, 1000.0));
    }
}
