//! `quell incident show`: all that is known of one incident.

use jiff::Timestamp;
use quell_diagnose::similar::Cited;
use serde_json::Value;

use super::similar;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Line, Look, Page, Stream};
use crate::plan::Proposal;
use crate::view::{bare, both, joined, list, short_id, text, time, utc};

/// Similar incidents that are shown, and closed ones that are compared for them: the latest.
const SIMILAR_MAX: usize = 3;
const COMPARED_MAX: usize = 200;

pub(crate) async fn run(context: &mut Context<'_>, given: &str) -> Result<()> {
    let id = super::find::id(context, given).await?;
    let view = super::fetch_one(context, &id).await?;
    if context.output.is_json() {
        return Ok(context.output.json(&view)?);
    }
    let cited = match view["diagnostics"].is_null() {
        true => Vec::new(),
        // What is shown of this incident does not hang on what is known of others.
        false => similar::to(context, &view, SIMILAR_MAX, COMPARED_MAX)
            .await
            .map_or_else(|_| Vec::new(), |(cited, _)| cited),
    };
    let page = page(&view, &cited, context.now());
    Ok(context.output.page(Stream::Out, &page)?)
}

fn page(view: &Value, cited: &[Cited], now: Timestamp) -> Page {
    let mut page = Page::default();
    head(&mut page, view, now);
    question(&mut page, view, now);
    cause(&mut page, &view["diagnostics"]);
    alternatives(&mut page, &view["diagnostics"]);
    second_opinion(&mut page, &view["diagnostics"]["second_opinion"]);
    similar_ones(&mut page, cited);
    actions(&mut page, view);
    match Proposal::read(view) {
        Ok(None) => {}
        Ok(Some(proposal)) => {
            page.line("");
            page.0.extend(proposal.page(now).0);
        }
        // The rest can still be read; the approval will say the same and stop.
        Err(failure) => page.heading(Line::new().bad(format!("PLAN  {}", failure.what()))),
    }
    timeline(&mut page, view);
    post_mortem(&mut page, view);
    page
}

fn head(page: &mut Page, view: &Value, now: Timestamp) {
    page.line(Line::new().bold(text(view, "/title")));
    page.line(
        Line::new()
            .bold(format!("{} {}", text(view, "/priority"), text(view, "/severity")))
            .plain("  ")
            .with(super::look(view), format!("{} ({})", text(view, "/status"), text(view, "/phase")))
            .plain(format!("  {}", text(view, "/summary"))),
    );
    page.line("");
    page.field(2, "id", text(view, "/id"));
    let (name, firing, total) = (text(view, "/alert_name"), &view["alerts_firing"], &view["alerts_total"]);
    let alerts = if total.as_u64().is_some_and(|total| total > 0) {
        format!(" ({firing} of {total} firing)")
    } else {
        String::new()
    };
    page.field(2, "alert", format!("{name}{alerts}").trim());
    page.field(2, "affected", joined(view, "/affected_systems"));
    page.field(2, "service", text(view, "/service"));
    page.field(2, "component", text(view, "/component"));
    page.field(2, "tags", joined(view, "/tags"));
    page.field(2, "began", both(time(view, "/started_at"), now));
    let origin = text(view, "/origin");
    let by = if origin.is_empty() { String::new() } else { format!(" by {origin}") };
    page.field(2, "opened", format!("{}{by}", both(time(view, "/created_at"), now)));
    page.field(2, "changed", both(time(view, "/updated_at"), now));
    page.field(2, "resolved", both(time(view, "/resolved_at"), now));
    page.field(2, "closed", both(time(view, "/closed_at"), now));
    page.field(2, "continues", text(view, "/linked_to"));
    page.field(2, "seen by", joined(view, "/acknowledged_by"));
    if let Some(times) = view["reopened"].as_u64().filter(|times| *times > 0) {
        page.field(2, "came back", if times == 1 { "once".to_owned() } else { format!("{times} times") });
    }
    for link in list(view, "/links") {
        page.field(2, text(link, "/kind"), text(link, "/url"));
    }
    let description = text(view, "/description");
    if !description.is_empty() && description != text(view, "/title") {
        page.line("");
        page.paragraph(2, description);
    }
}

fn question(page: &mut Page, view: &Value, now: Timestamp) {
    let question = &view["question"];
    if question.is_null() {
        return;
    }
    page.heading(Line::new().with(Look::Warn, "QUESTION"));
    page.paragraph(2, text(question, "/text"));
    let id = short_id(text(view, "/id"));
    if text(question, "/kind") == "approval" {
        let given = list(question, "/approvals_given").len();
        let needed = question["approvals_needed"].as_u64().unwrap_or(1);
        page.field(2, "approvals", format!("{given} of {needed}"));
        page.field(
            2,
            "answer",
            format!("until {}; no answer is a no", both(time(question, "/expires_at"), now)),
        );
        page.field(2, "yes", format!("quell incident approve {id}"));
        page.field(2, "no", format!("quell incident deny {id} --why ..."));
    }
    if !question["unknown_step"].is_null() {
        let step = &question["unknown_step"];
        let (title, target) = (text(step, "/title"), text(step, "/lock/target"));
        page.field(2, "in doubt", format!("{title} on {target}: {}", text(step, "/why")));
        page.field(2, "first", format!("quell incident settle {id} --happened|--not-happened --why ..."));
    }
}

/// `confidence 0.92`, and whether that number was fitted to outcomes where the API says so.
pub(crate) fn confidence(of: &Value) -> String {
    let number =
        of["confidence"].as_f64().map_or_else(|| "unknown".to_owned(), |number| format!("{number:.2}"));
    match of["calibrated"].as_bool() {
        Some(true) => format!("confidence {number} (calibrated)"),
        Some(false) => format!("confidence {number} (not calibrated)"),
        None => format!("confidence {number}"),
    }
}

fn cause(page: &mut Page, diagnostics: &Value) {
    if diagnostics.is_null() {
        return;
    }
    let cause = text(diagnostics, "/root_cause");
    if cause.is_empty() {
        page.heading(Line::new().bold("CAUSE").plain("  not found"));
        page.paragraph(2, text(diagnostics, "/abstained"));
    } else {
        page.heading(Line::new().bold("CAUSE").plain(format!("  {cause}, {}", confidence(diagnostics))));
        page.paragraph(2, text(diagnostics, "/statement"));
        for claim in list(diagnostics, "/claims") {
            page.line(format!("  - {}", text(claim, "/statement")));
            for evidence in list(claim, "/evidence").iter().filter_map(Value::as_str) {
                add_evidence(page, diagnostics, evidence);
            }
        }
        page.field(2, "suggests", joined(diagnostics, "/recommended_actions"));
    }
    for missing in list(diagnostics, "/unavailable") {
        let missing =
            format!("{} ({}): {}", text(missing, "/source"), text(missing, "/query"), text(missing, "/why"));
        page.field(2, "not seen", missing);
    }
}

/// The evidence of that id: what it says, and the query with which it can be looked at again.
fn add_evidence(page: &mut Page, diagnostics: &Value, id: &str) {
    let kinds = ["metrics", "logs", "pods", "dependencies", "changes", "traces"];
    let found = kinds.into_iter().find_map(|kind| diagnostics[kind].get(id));
    let Some(evidence) = found else {
        return page.line(Line::new().dim(format!("      {id}")));
    };
    page.line(Line::new().dim(format!("      {id}  ")).plain(text(evidence, "/summary")));
    let (source, query) = (text(evidence, "/source"), text(evidence, "/query"));
    let range = match (time(evidence, "/from"), time(evidence, "/to")) {
        (Some(from), Some(to)) => format!("  {} to {}", from.strftime("%H:%M:%S"), to.strftime("%H:%M:%S")),
        _ => String::new(),
    };
    page.line(Line::new().dim(format!("          {source}: {query}{range}")));
}

fn alternatives(page: &mut Page, diagnostics: &Value) {
    let alternatives = list(diagnostics, "/alternatives");
    if alternatives.is_empty() {
        return;
    }
    page.heading(Line::new().bold("ALTERNATIVES"));
    for other in alternatives {
        page.line(format!(
            "  {}, {}: {}",
            text(other, "/cause"),
            confidence(other),
            text(other, "/statement")
        ));
        let because = text(other, "/not_first_because");
        if !because.is_empty() {
            page.line(Line::new().dim(format!("      not the first because {because}")));
        }
    }
}

fn second_opinion(page: &mut Page, opinion: &Value) {
    if opinion.is_null() {
        return;
    }
    let confidence = opinion["confidence"].as_f64().unwrap_or_default();
    page.heading(
        Line::new()
            .bold("BY THIS SITE'S INCIDENTS")
            .plain(format!("  {}, confidence {confidence:.2}", text(opinion, "/cause"))),
    );
    page.paragraph(2, text(opinion, "/why"));
}

/// Closed incidents that looked like this one: to look at, since a likeness is no evidence.
fn similar_ones(page: &mut Page, cited: &[Cited]) {
    if cited.is_empty() {
        return;
    }
    page.heading(Line::new().bold("SIMILAR"));
    for one in cited {
        let [cause, helped, shared] = similar::told(one);
        page.line(format!(
            "  {}, likeness {:.2}: was wrong: {cause}; helped: {helped}",
            short_id(&one.incident),
            one.likeness
        ));
        page.line(Line::new().dim(format!("      in common: {shared}")));
    }
}

fn actions(page: &mut Page, view: &Value) {
    let actions = list(view, "/remediation_actions");
    if actions.is_empty() {
        return;
    }
    page.heading(Line::new().bold("ACTIONS"));
    for action in actions {
        let (look, result) = match action["success"].as_bool() {
            Some(true) => (Look::Good, "done"),
            Some(false) => (Look::Bad, "failed"),
            None if action["ended_at"].is_null() => (Look::Warn, "running"),
            None => (Look::Warn, "not known"),
        };
        let undo = if action["undo"] == true { " (undo)" } else { "" };
        let at = time(action, "/timestamp").map(utc).unwrap_or_default();
        let what = format!("{}{undo} on {}", text(action, "/action"), text(action, "/target"));
        let error = text(action, "/error");
        let error = if error.is_empty() { String::new() } else { format!(": {error}") };
        let changed = changes(&action["from"], &action["to"]);
        page.line(
            Line::new()
                .dim(format!("  {at}  "))
                .with(look, format!("{result:<9}"))
                .plain(format!("  {what}{changed}{error}")),
        );
    }
}

/// One change is a bare value, several are objects by what changed.
fn changes(from: &Value, to: &Value) -> String {
    match (from.as_object(), to.as_object()) {
        (Some(from), Some(to)) => {
            let each = from.iter().map(|(what, before)| {
                format!("{what} {} -> {}", bare(before), bare(to.get(what).unwrap_or(&Value::Null)))
            });
            format!(": {}", each.collect::<Vec<_>>().join(", "))
        }
        _ if from.is_null() && to.is_null() => String::new(),
        _ => format!(": {} -> {}", bare(from), bare(to)),
    }
}

fn timeline(page: &mut Page, view: &Value) {
    let entries = list(view, "/timeline");
    if entries.is_empty() {
        return;
    }
    page.heading(Line::new().bold("TIMELINE"));
    let width = entries.iter().map(|entry| text(entry, "/actor").chars().count()).max().unwrap_or(0).min(24);
    for entry in entries {
        let at = time(entry, "/at").map(utc).unwrap_or_default();
        let actor = text(entry, "/actor");
        page.line(
            Line::new().dim(format!("  {at}  ")).plain(format!("{actor:<width$}  {}", text(entry, "/text"))),
        );
    }
}

fn post_mortem(page: &mut Page, view: &Value) {
    let written = text(view, "/post_mortem");
    if !written.is_empty() {
        page.heading(Line::new().bold("POST-MORTEM"));
        page.paragraph(2, written);
    }
}
