//! A plan as people see it before they approve it: everything that would run, nothing shortened.

use jiff::Timestamp;
use quell_incident::plan::{ActionCall, Change, Check, Reduce, Step};
use quell_incident::{Digest, Plan, Undo};
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::output::{Line, Page};
use crate::view::{bare, both};

/// A plan and the digest that an approval of it names.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) digest: String,
    plan: Plan,
}

impl Proposal {
    /// Reads the plan of an incident's view, and makes sure that its digest is the digest of what will be shown: what is approved is
    /// what was seen, whatever stands between the coordinator and this terminal.
    pub(crate) fn read(view: &Value) -> Result<Option<Self>> {
        let (Some(digest), Some(document)) =
            (view.pointer("/plan/digest").and_then(Value::as_str), view.pointer("/plan/plan"))
        else {
            return Ok(None);
        };
        let unreadable = |error: serde_json::Error| {
            Failure::failed(format!("the plan {digest} cannot be read: {error}")).next(
                "this quell may be older than the coordinator; update it, or look at the plan with -o json",
            )
        };
        let computed = Digest::of(document).map_err(unreadable)?.to_string();
        if computed != digest {
            return Err(Failure::failed(format!(
                "the plan does not have the digest {digest} but {computed}"
            ))
            .next("do not approve it: something between here and the coordinator changes what you see"));
        }
        let plan: Plan = serde_json::from_value(document.clone()).map_err(unreadable)?;
        Ok(Some(Self { digest: digest.to_owned(), plan }))
    }

    /// All of it.
    pub(crate) fn page(&self, now: Timestamp) -> Page {
        let plan = &self.plan;
        let mut page = Page::default();
        let short: String = self.digest.chars().take(12).collect();
        page.line(
            Line::new()
                .bold(format!("PLAN {short}"))
                .dim(format!("  runbook {}, for {}", plan.runbook, plan.cause)),
        );
        page.paragraph(2, &plan.summary);
        for (number, step) in (1..).zip(&plan.steps) {
            add_step(&mut page, number, step);
        }
        page.line(Line::new().dim("  must hold afterwards"));
        for check in &plan.checks {
            page.line(format!("     {}: {}", check.name, condition(check)));
        }
        if let Some(why) = plan.needs_person() {
            page.line(Line::new().with(crate::output::Look::Warn, format!("  {why}")));
        }
        page.field(2, "made", both(Some(plan.made_at), now));
        page.field(2, "valid", format!("until {}", both(Some(plan.valid_until), now)));
        page.field(2, "by", format!("{} (ledger {})", plan.agent.instance, plan.agent.ledger));
        page.field(2, "digest", &self.digest);
        page
    }
}

fn add_step(page: &mut Page, number: usize, step: &Step) {
    let again = if step.idempotent { "" } else { "; not tried twice" };
    page.line(
        Line::new()
            .plain(format!("  {number}. "))
            .bold(&step.title)
            .dim(format!("  on {}, at most {:#}{again}", step.target, step.timeout)),
    );
    page.field(5, "runs", call(&step.call));
    match step.preview.changes.split_first() {
        None => page.field(5, "changes", &step.preview.summary),
        Some((first, others)) => {
            page.field(5, "changes", change(first));
            others.iter().for_each(|other| page.field(5, "", change(other)));
        }
    }
    page.field(5, "not known", step.preview.limits.as_deref().unwrap_or_default());
    match &step.undo {
        Undo::Inverse { call: inverse } => page.field(5, "undo", call(inverse)),
        Undo::NotNeeded { why } => page.field(5, "undo", format!("not needed: {why}")),
        Undo::Irreversible { why } => page.field(5, "undo", format!("IMPOSSIBLE: {why}")),
    }
}

fn call(call: &ActionCall) -> String {
    let arguments: Vec<String> =
        call.arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} {} on {} {}", call.tool, call.action, call.target, arguments.join(" ")).trim_end().to_owned()
}

fn change(change: &Change) -> String {
    format!("{} {} -> {}", change.what, bare(&change.from), bare(&change.to))
}

/// The check in the words of its source, such as `rate of db_connection_timeout_total{instance="..."} < 0.5`.
fn condition(check: &Check) -> String {
    let labels: Vec<String> =
        check.labels.iter().map(|(name, value)| format!("{name}={:?}", value.for_people())).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let metric = format!("{}{labels}", check.metric);
    let by = check.divide_by.as_deref().unwrap_or("nothing");
    let number = match check.reduce {
        Reduce::Last => metric,
        Reduce::Rate => format!("rate of {metric}"),
        Reduce::RatioTo => format!("{metric} / {by}"),
        Reduce::SecondsUntil => format!("seconds until {metric}"),
        Reduce::Sum => format!("sum of {metric}"),
        Reduce::SumRatioTo => format!("sum of {metric} / {by}"),
    };
    let sign = serde_json::to_value(check.holds_if).unwrap_or_default();
    format!("{number} {} {}", bare(&sign), check.value)
}
