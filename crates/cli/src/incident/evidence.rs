//! `quell incident evidence`.

use std::fs;
use std::path::Path;

use quell_diagnose::Case;
use quell_incident::evidence::{EvidenceSet, Unavailable};
use serde_json::json;

use super::{INCIDENTS, find};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Look, Page, Stream, Table};

/// What the latest diagnosis of an incident rests on.
pub(crate) async fn fetch(context: &Context<'_>, id: &str) -> Result<Case> {
    let [api, incidents] = INCIDENTS;
    let answer = context.coordinator.get(&[api, incidents, id, "evidence"], &[]).await?;
    serde_json::from_value(answer.body).map_err(|error| {
        Failure::failed(format!("the evidence of {id} cannot be read: {error}"))
            .next("is `quell` of the same version as the agents?")
    })
}

pub(super) async fn run(context: &mut Context<'_>, id: &str, out: Option<&Path>) -> Result<()> {
    let id = find::id(context, id).await?;
    let case = fetch(context, &id).await?;
    if let Some(file) = out {
        let wrong = |why: String| Failure::failed(format!("{}: {why}", file.display()));
        let packed = file.extension().is_some_and(|extension| extension == "gz");
        let bytes = if packed {
            case.pack().map_err(|error| wrong(error.to_string()))?
        } else {
            serde_json::to_vec(&case).map_err(|error| wrong(error.to_string()))?
        };
        fs::write(file, bytes).map_err(|error| wrong(error.to_string()))?;
        return Ok(context.output.note(format!("written to {}", file.display()))?);
    }
    if context.output.is_json() {
        return Ok(context.output.json(&json!(case))?);
    }
    Ok(context.output.page(Stream::Out, &page(&case.evidence))?)
}

fn page(evidence: &EvidenceSet) -> Page {
    let mut table = Table::new(&["KIND", "SOURCE", "FOUND", "ASKED"]);
    let mut row = |look, kind: &str, source: &str, found: String, asked: &str| {
        table.row(look, vec![kind.to_owned(), source.to_owned(), found, asked.to_owned()]);
    };
    for set in &evidence.metrics {
        let points: usize = set.series.iter().map(|series| series.points.len()).sum();
        let found = format!("{} series, {points} points", set.series.len());
        row(Look::Plain, "metric", &set.source, found, &set.query);
    }
    for set in &evidence.logs {
        row(Look::Plain, "log", &set.source, format!("{} lines", set.lines.len()), &set.query);
    }
    for set in &evidence.platform {
        let found = format!("{} objects, {} events", set.objects.len(), set.events.len());
        row(Look::Plain, "platform", &set.source, found, &set.query);
    }
    for set in &evidence.health {
        row(Look::Plain, "health", &set.source, format!("{} checks", set.checks.len()), &set.query);
    }
    if !evidence.changes.is_empty() {
        row(Look::Plain, "change", "coordinator", format!("{} changes", evidence.changes.len()), "");
    }
    for Unavailable { source, query, why } in &evidence.unavailable {
        row(Look::Bad, "missing", source, why.clone(), query);
    }
    table.page()
}
