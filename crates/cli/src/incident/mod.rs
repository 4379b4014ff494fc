//! `quell incident`.

mod create;
mod decide;
mod evidence;
mod find;
mod list;
mod show;
mod similar;
mod watch;

use serde_json::{Value, json};

use crate::args::IncidentCommand;
use crate::context::Context;
use crate::failure::{Exit, Result};
use crate::output::{Line, Look, Page, Stream};
use crate::view::{short_id, text};

pub(crate) use evidence::fetch as evidence_of;
pub(crate) use list::{closed, fetch, table};

const INCIDENTS: [&str; 2] = ["api", "incidents"];

pub(crate) async fn run(context: &mut Context<'_>, command: IncidentCommand) -> Result<()> {
    let (target, verb, body) = match command {
        IncidentCommand::List(arguments) => return list::run(context, arguments).await,
        IncidentCommand::Show { target } => return show::run(context, &target.id).await,
        IncidentCommand::Evidence { target, out } => {
            return evidence::run(context, &target.id, out.as_deref()).await;
        }
        IncidentCommand::Similar { target, count } => return similar::run(context, &target.id, count).await,
        IncidentCommand::Watch(arguments) => return watch::run(context, arguments).await,
        IncidentCommand::Create(arguments) => return create::run(context, arguments).await,
        IncidentCommand::Approve { target, yes, digest } => {
            return decide::approve(context, &target.id, yes, digest.as_deref()).await;
        }
        IncidentCommand::Deny { target, reason, digest } => {
            return decide::deny(context, &target.id, &reason.why, digest.as_deref()).await;
        }
        IncidentCommand::Ack { target } => (target, "acknowledge", None),
        IncidentCommand::Resolve { target } => (target, "resolve", None),
        IncidentCommand::Close { target, reason } => (target, "close", Some(json!({"why": reason.why}))),
        IncidentCommand::Reopen { target, reason } => (target, "reopen", Some(json!({"why": reason.why}))),
        IncidentCommand::TakeOver { target } => (target, "take-over", None),
        IncidentCommand::HandBack { target } => (target, "hand-back", None),
        IncidentCommand::Settle { target, verdict, reason, step } => {
            let mut body = json!({"happened": verdict.happened, "why": reason.why});
            if let Some(step) = step {
                body["step"] = json!(step);
            }
            (target, "settle", Some(body))
        }
        IncidentCommand::Diagnose { target } => (target, "diagnose", None),
        IncidentCommand::Run { target, runbook } => (target, "run", Some(json!({"runbook": runbook}))),
        IncidentCommand::Note { target, text } => (target, "notes", Some(json!({"text": text.join(" ")}))),
    };
    let id = find::id(context, &target.id).await?;
    let [api, incidents] = INCIDENTS;
    // The API takes JSON; an action without particulars is an empty object.
    let body = body.unwrap_or_else(|| json!({}));
    let view = context.coordinator.post(&[api, incidents, &id, verb], Some(&body)).await?;
    answer(context, &view)
}

/// One incident as the API shows it.
async fn fetch_one(context: &Context<'_>, id: &str) -> Result<Value> {
    let [api, incidents] = INCIDENTS;
    let answer = context.coordinator.get(&[api, incidents, id], &[]).await;
    let answer = answer.map_err(|failure| match failure.exit {
        Exit::NotPossible => failure.and_next("quell incident list shows what there is"),
        _ => failure,
    });
    Ok(answer?.body)
}

/// What became of the incident: its view as JSON, or a line.
fn answer(context: &mut Context<'_>, view: &Value) -> Result<()> {
    if context.output.is_json() {
        return Ok(context.output.json(view)?);
    }
    let mut page = Page::default();
    page.line(headline(view));
    Ok(context.output.page(Stream::Out, &page)?)
}

/// Id, priority, status, title and where it stands.
fn headline(view: &Value) -> Line {
    Line::new()
        .plain(short_id(text(view, "/id")))
        .plain("  ")
        .bold(format!("{} {}", text(view, "/priority"), text(view, "/title")))
        .plain(": ")
        .with(look(view), text(view, "/status"))
        .plain(format!(", {}", text(view, "/summary")))
}

/// How an incident stands out among others: a question most, what is over least.
fn look(view: &Value) -> Look {
    match (text(view, "/status"), view["question"].is_null()) {
        ("resolved" | "closed", _) => Look::Dim,
        (_, false) => Look::Warn,
        _ => Look::Plain,
    }
}
