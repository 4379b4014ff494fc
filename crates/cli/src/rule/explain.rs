//! `quell rule explain`: one rule in sentences.

use quell_diagnose::RuleExplanation;
use serde_json::json;

use super::files::{self, Runbook};
use crate::args::ExplainArgs;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Line, Page, Stream};

pub(super) fn run(context: &mut Context<'_>, args: &ExplainArgs) -> Result<()> {
    let (site, _) = files::read(&args.rules)?;
    let rules = files::rules(&site)?;
    let Some(rule) = rules.explain(&args.name) else {
        return Err(Failure::not_possible(format!("there is no rule {}", args.name))
            .next("`quell rule list` shows the shipped ones; give a file of your own with --rules"));
    };
    let runbooks = files::runbooks(&rule.summary.cause, args.runbooks.as_deref())?;
    if context.output.is_json() {
        let mut document = json!(rule);
        if let Some(fields) = document.as_object_mut() {
            fields.insert("runbooks".to_owned(), json!(runbooks));
        }
        return Ok(context.output.json(&document)?);
    }
    Ok(context.output.page(Stream::Out, &page(&rule, &runbooks))?)
}

fn page(rule: &RuleExplanation, runbooks: &[Runbook]) -> Page {
    let mut page = Page::default();
    let summary = &rule.summary;
    page.line(Line::new().bold(&summary.name).plain(format!(" speaks for the cause {}", summary.cause)));
    page.paragraph(2, &rule.root_cause);
    page.field(2, "file", &summary.file);
    page.field(2, "alerts of", rule.components.join(", "));
    page.field(2, "one per", rule.per.join(" and "));
    page.heading(Line::new().bold("It reads"));
    for (name, what) in &rule.reads {
        page.field(2, name, what);
    }
    page.heading(Line::new().bold("It holds"));
    for one in &rule.conditions {
        page.line(
            Line::new()
                .plain("  ")
                .dim(format!("{} {:.2}", one.group, one.strength))
                .plain(format!(" if {}", one.holds_if)),
        );
        page.paragraph(6, &one.says);
    }
    page.heading(Line::new().bold("How sure it is"));
    for sentence in &rule.arithmetic {
        page.paragraph(2, sentence);
    }
    page.heading(Line::new().bold("What is done"));
    let none = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
    page.field(2, "actions", none(summary.recommended_actions.join(", ")));
    if runbooks.is_empty() {
        page.field(2, "runbooks", "none of the known ones takes this cause: a person decides");
    }
    for runbook in runbooks {
        page.field(2, "runbook", format!("{}: {}", runbook.name, runbook.title));
    }
    page
}
