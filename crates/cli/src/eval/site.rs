//! `quell eval calibrate` without a file: what this site's own resolved incidents teach.
//!
//! An incident teaches when a repair of its cause was verified and its evidence is kept: it is diagnosed again by the rules alone, and what
//! they and the engines say is held against the cause that was repaired.

use quell_diagnose::learned::{LEARNED_SCHEMA, Learned, ModelError, Resolved, SiteRanking};
use quell_diagnose::localise::{Calibration, OUTCOMES_MIN, Outcome};
use serde_json::json;

use super::lines::write_json;
use crate::args::CalibrateArgs;
use crate::context::Context;
use crate::failure::{Exit, Failure, Result};
use crate::incident;
use crate::output::{Page, Stream};
use crate::rule;
use crate::view::text;

/// The latest incidents that are looked at.
const INCIDENTS_MAX: usize = 2_000;

pub(super) async fn run(context: &mut Context<'_>, args: &CalibrateArgs) -> Result<()> {
    let rules = rule::with_site_rules(&args.rules)?;
    let closed = incident::closed(context, INCIDENTS_MAX).await?;
    let (mut resolved, mut outcomes, mut without_evidence) = (Vec::new(), Vec::new(), 0_usize);
    for one in closed.iter().filter(|one| text(one, "/resolution/by") == "runbook") {
        let cause = text(one, "/plan/plan/cause");
        match incident::evidence_of(context, text(one, "/id")).await {
            Ok(case) => {
                let (known, outcome) = case.known(&rules, cause);
                resolved.push(known);
                outcomes.extend(outcome);
            }
            Err(failure) if failure.exit == Exit::NotPossible => without_evidence += 1,
            Err(failure) => return Err(failure),
        }
    }
    let (learned, mut told) = learn(&resolved, &outcomes);
    told.insert(0, format!("resolved by a repair that was verified: {}", resolved.len()));
    let next = "until there are more, confidences are the rules' priors";
    let Some(learned) = learned else {
        return Err(Failure::not_possible(told.join("; ")).next(next));
    };
    write_json(&args.out, &learned)?;
    if context.output.is_json() {
        let ranking = learned.ranking.as_ref();
        let document = json!({
            "resolved": resolved.len(), "without_evidence": without_evidence,
            "calibration": learned.calibration, "ranking": ranking.map(|ranking| &ranking.switch),
        });
        return Ok(context.output.json(&document)?);
    }
    let mut page = Page::default();
    told.into_iter().for_each(|line| page.line(line));
    if without_evidence > 0 {
        page.line(format!("left out, since their evidence is not kept: {without_evidence}"));
    }
    page.line(format!(
        "written to {}; the diagnostic agent reads it as agents.diagnostic.ml_model_path",
        args.out.display()
    ));
    Ok(context.output.page(Stream::Out, &page)?)
}

/// What can be learned, and a line on each part of it.
fn learn(resolved: &[Resolved], outcomes: &[Outcome]) -> (Option<Learned>, Vec<String>) {
    let calibration = Calibration::fit(outcomes);
    let ranking = SiteRanking::learn(resolved);
    let told = vec![
        match &calibration {
            Ok(_) => format!("the engines' confidence is fitted to {} outcomes", outcomes.len()),
            Err(error) => {
                format!("the engines' confidence is not fitted: {error} ({OUTCOMES_MIN} at the least)")
            }
        },
        match &ranking {
            Ok(ranking) => {
                format!("causes are ranked by {} incidents; {}", ranking.incidents(), ranking.switch.told())
            }
            Err(ModelError::TooFew { usable }) => {
                format!(
                    "causes are not ranked: {usable} incidents have two candidates or more, {} are needed",
                    Learned::INCIDENTS_MIN
                )
            }
            Err(error) => format!("causes are not ranked: {error}"),
        },
    ];
    let (calibration, ranking) = (calibration.ok(), ranking.ok());
    let is_empty = calibration.is_none() && ranking.is_none();
    let learned = Learned { schema: LEARNED_SCHEMA.to_owned(), calibration, ranking };
    ((!is_empty).then_some(learned), told)
}
