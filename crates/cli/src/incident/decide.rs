//! `quell incident approve` and `deny`: an answer to the question whether a plan may be carried out. It names the digest of the
//! plan that was shown, so that a plan that changed meanwhile is not approved by it.

use jiff::Timestamp;
use serde_json::Value;

use crate::a2a::Responder;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Page, Stream};
use crate::plan::Proposal;
use crate::view::{both, short_id, text, time};

pub(crate) async fn approve(
    context: &mut Context<'_>,
    given: &str,
    yes: bool,
    pinned: Option<&str>,
) -> Result<()> {
    if !yes && !context.terminal {
        return Err(Failure::usage("standard input is not a terminal, so nobody can be asked")
            .next("run it on a terminal, or add --yes, best together with --digest"));
    }
    let id = super::find::id(context, given).await?;
    let view = super::fetch_one(context, &id).await?;
    let asked = asked_digest(&view, pinned)?.to_owned();
    let proposal = match Proposal::read(&view)? {
        Some(proposal) if proposal.digest == asked => proposal,
        _ => {
            return Err(Failure::not_possible(format!(
                "the plan {asked} that waits for approval is not the one shown"
            ))
            .next("it is being replaced; look again with quell incident show"));
        }
    };
    // Before the question: what cannot be answered need not be asked.
    let responder = Responder::find(context).await?;
    let now = context.now();
    let mut page = head(&view, now);
    page.line("");
    page.0.extend(proposal.page(now).0);
    page.line("");
    context.output.page(Stream::Error, &page)?;
    if !yes {
        context.output.ask(Stream::Error, "Approve exactly this plan? [y/N] ")?;
        let answer = context.read_answer()?;
        if !matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") {
            return Err(Failure::failed("not approved; nothing was sent")
                .next(format!("quell incident deny {} --why ... says no for good", short_id(&id))));
        }
    }
    responder.decide(&id, true, &proposal.digest, "").await?;
    after(context, &id, "the approval was sent").await
}

pub(crate) async fn deny(
    context: &mut Context<'_>,
    given: &str,
    why: &str,
    pinned: Option<&str>,
) -> Result<()> {
    let id = super::find::id(context, given).await?;
    let view = super::fetch_one(context, &id).await?;
    let asked = asked_digest(&view, pinned)?.to_owned();
    let responder = Responder::find(context).await?;
    responder.decide(&id, false, &asked, why).await?;
    after(context, &id, "the plan was denied").await
}

async fn after(context: &mut Context<'_>, id: &str, done: &str) -> Result<()> {
    let view = super::fetch_one(context, id).await.map_err(|failure| failure.after(done))?;
    super::answer(context, &view)
}

/// The digest of the plan that waits for an answer.
fn asked_digest<'a>(view: &'a Value, pinned: Option<&str>) -> Result<&'a str> {
    let id = short_id(text(view, "/id"));
    if text(view, "/question/kind") != "approval" {
        let (status, summary) = (text(view, "/status"), text(view, "/summary"));
        return Err(Failure::not_possible(format!(
            "incident {id} does not wait for an approval: {status}, {summary}"
        ))
        .next(format!("quell incident show {id} tells more")));
    }
    let asked = text(view, "/question/plan_digest");
    match pinned {
        Some(pinned) if !asked.starts_with(pinned) => {
            Err(Failure::not_possible(format!("the plan that waits is {asked}, not {pinned}"))
                .next(format!("look at it with quell incident show {id}, then decide again")))
        }
        _ => Ok(asked),
    }
}

/// What the question is about.
fn head(view: &Value, now: Timestamp) -> Page {
    let mut page = Page::default();
    page.line(super::headline(view));
    let cause = text(view, "/diagnostics/root_cause");
    if !cause.is_empty() {
        let statement = text(view, "/diagnostics/statement");
        page.field(
            2,
            "cause",
            format!("{cause}, {}: {statement}", super::show::confidence(&view["diagnostics"])),
        );
    }
    let (needed, given) =
        (view["question"]["approvals_needed"].as_u64(), view["question"]["approvals_given"].as_array());
    if let Some(needed) = needed.filter(|needed| *needed > 1) {
        page.field(2, "approvals", format!("{} of {needed} so far", given.map_or(0, Vec::len)));
    }
    page.field(
        2,
        "answer",
        format!("until {}; no answer is a no", both(time(view, "/question/expires_at"), now)),
    );
    page
}
