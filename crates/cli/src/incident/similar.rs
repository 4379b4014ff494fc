//! `quell incident similar`.

use std::collections::BTreeSet;

use quell_diagnose::similar::{Cited, Fingerprint, Past, similar};
use serde_json::{Value, json};

use super::{fetch_one, find, list};
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Look, Stream, Table, shorten};
use crate::view::{self, short_id, text};

/// Incidents of the past that are compared at the most: the latest.
const COMPARED_MAX: usize = 1_000;
const SHARED_CHARACTERS_MAX: usize = 60;

pub(super) async fn run(context: &mut Context<'_>, id: &str, count: usize) -> Result<()> {
    let id = find::id(context, id).await?;
    let now = fetch_one(context, &id).await?;
    let (cited, compared) = to(context, &now, count, COMPARED_MAX).await?;
    if context.output.is_json() {
        return Ok(context.output.json(&json!(cited))?);
    }
    if cited.is_empty() {
        return Ok(context.output.line(Stream::Error, &format!("none of {compared} is like it").into())?);
    }
    Ok(context.output.page(Stream::Out, &table(&cited).page())?)
}

/// The closed incidents most like this one, and how many were compared.
pub(super) async fn to(
    context: &Context<'_>,
    incident: &Value,
    count: usize,
    compared_max: usize,
) -> Result<(Vec<Cited>, usize)> {
    let found = list::closed(context, compared_max).await?;
    let others = found.iter().filter(|one| text(one, "/id") != text(incident, "/id"));
    let past: Vec<Past> = others.map(past).collect();
    Ok((similar(&fingerprint(incident), &past, count), past.len()))
}

/// What was wrong, what helped, and what is in common, as people are told.
pub(super) fn told(one: &Cited) -> [String; 3] {
    let shared: Vec<&str> = one.shared.iter().map(|shared| shared.name.as_str()).collect();
    [
        one.cause.clone().unwrap_or_else(|| "not known".to_owned()),
        if one.helped.is_empty() { "not known".to_owned() } else { one.helped.join(", ") },
        shorten(&shared.join(", "), SHARED_CHARACTERS_MAX),
    ]
}

fn table(cited: &[Cited]) -> Table {
    let mut table = Table::new(&["ID", "LIKENESS", "WAS WRONG", "HELPED", "IN COMMON"]);
    for one in cited {
        let [cause, helped, shared] = told(one);
        let likeness = format!("{:.2}", one.likeness);
        table.row(Look::Plain, vec![short_id(&one.incident).to_owned(), likeness, cause, helped, shared]);
    }
    table
}

/// What was wrong is known when its repair was verified, and only then.
fn past(incident: &Value) -> Past {
    let repaired = text(incident, "/resolution/by") == "runbook";
    let cause = Some(text(incident, "/diagnostics/root_cause")).filter(|cause| repaired && !cause.is_empty());
    let done = view::list(incident, "/remediation_actions").iter().filter(|action| action["success"] == true);
    let helped: Vec<String> = done.map(|action| text(action, "/action").to_owned()).collect();
    Past {
        incident: text(incident, "/id").to_owned(),
        fingerprint: fingerprint(incident),
        cause: cause.map(str::to_owned),
        helped: if repaired { helped } else { Vec::new() },
    }
}

fn fingerprint(incident: &Value) -> Fingerprint {
    let strings = |pointer: &str| view::list(incident, pointer).iter().filter_map(Value::as_str);
    let evidence = |kind: &str| {
        let found = incident.pointer(&format!("/diagnostics/{kind}")).and_then(Value::as_object);
        found.into_iter().flat_map(|found| found.values())
    };
    let named = |kind: &str, pointer: &str| -> BTreeSet<String> {
        evidence(kind).filter_map(|one| one.pointer(pointer)?.as_str().map(str::to_owned)).collect()
    };
    let mut services: BTreeSet<String> = strings("/affected_systems").map(str::to_owned).collect();
    services.extend(Some(text(incident, "/service").to_owned()).filter(|service| !service.is_empty()));
    let kinds = ["metrics", "logs", "pods", "dependencies", "changes"];
    Fingerprint {
        alerts: strings("/alert_names").map(str::to_owned).collect(),
        services,
        metrics: named("metrics", "/data/metric"),
        templates: named("logs", "/data/template"),
        evidence: kinds
            .into_iter()
            .filter(|kind| evidence(kind).next().is_some())
            .map(str::to_owned)
            .collect(),
    }
}
