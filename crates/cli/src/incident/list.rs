//! `quell incident list`.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::args::{ListArgs, Since};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Stream, Table, shorten};
use crate::view::{joined, relative, short_id, text, time};

/// What one page of the API holds at the most.
const PAGE_INCIDENTS_MAX: usize = 1000;
const TITLE_CHARACTERS_MAX: usize = 48;
const SUMMARY_CHARACTERS_MAX: usize = 44;

/// Incidents, and how many there are in all.
pub(crate) struct Found {
    pub(crate) incidents: Vec<Value>,
    total: Option<u64>,
}

/// The latest closed incidents with all that is known of them, in the order in which they ended.
pub(crate) async fn closed(context: &Context<'_>, incidents_max: usize) -> Result<Vec<Value>> {
    let filter = [("view", "full".to_owned()), ("status", "closed".to_owned())];
    let mut found = fetch(context, &filter, incidents_max).await?.incidents;
    found.sort_by(|one, other| text(one, "/closed_at").cmp(text(other, "/closed_at")));
    Ok(found)
}

/// Reads pages until there are so many or no more.
pub(crate) async fn fetch(
    context: &Context<'_>,
    filter: &[(&str, String)],
    incidents_max: usize,
) -> Result<Found> {
    let mut query = filter.to_vec();
    query.push(("limit", incidents_max.min(PAGE_INCIDENTS_MAX).to_string()));
    let mut answer = context.coordinator.get(&super::INCIDENTS, &query).await?;
    let total = answer.total;
    let mut incidents = Vec::new();
    loop {
        let page = match answer.body {
            Value::Array(page) => page,
            other => {
                let kind = if other.is_object() { "an object" } else { "something else" };
                return Err(Failure::failed(format!("the list of incidents is {kind} instead of an array"))
                    .next("is this the address of a Quell coordinator? --url or QUELL_URL names it"));
            }
        };
        let more = !page.is_empty();
        incidents.extend(page);
        match answer.next {
            Some(next) if more && incidents.len() < incidents_max => {
                answer = context.coordinator.follow(next).await?
            }
            _ => break,
        }
    }
    incidents.truncate(incidents_max);
    Ok(Found { incidents, total })
}

pub(crate) async fn run(context: &mut Context<'_>, arguments: ListArgs) -> Result<()> {
    let mut filter = Vec::new();
    if let Some(status) = &arguments.status {
        filter.push(("status", status.to_ascii_lowercase()));
    }
    if let Some(priority) = &arguments.priority {
        filter.push(("priority", priority.to_ascii_uppercase()));
    }
    let now = context.now();
    if let Some(since) = arguments.since {
        filter.push(("since", instant(since, now)?.to_string()));
    }
    let limit = usize::try_from(arguments.limit.get()).unwrap_or(usize::MAX);
    let found = fetch(context, &filter, limit).await?;
    let shown = found.incidents.len();
    if context.output.is_json() {
        context.output.json(&Value::Array(found.incidents))?;
    } else if shown == 0 {
        context.output.line(Stream::Error, &"no incidents".into())?;
    } else {
        context.output.page(Stream::Out, &table(&found.incidents, now, arguments.wide).page())?;
    }
    if let Some(total) = found.total.filter(|total| u64::try_from(shown).is_ok_and(|shown| shown < *total)) {
        context.output.note(format!("{shown} of {total} incidents are shown; --limit {total} shows all"))?;
    }
    Ok(())
}

fn instant(since: Since, now: Timestamp) -> Result<Timestamp> {
    match since {
        Since::At(at) => Ok(at),
        Since::Ago(ago) => SignedDuration::try_from(ago)
            .and_then(|ago| now.checked_sub(ago))
            .map_err(|_| Failure::usage("--since is longer ago than time goes back")),
    }
}

/// Incidents in rows.
pub(crate) fn table(incidents: &[Value], now: Timestamp, wide: bool) -> Table {
    let cut = |text: &str, characters_max: usize| {
        if wide { text.to_owned() } else { shorten(text, characters_max) }
    };
    let mut header = vec!["ID", "PRI", "STATUS", "OPENED", "TITLE", "NOW"];
    if wide {
        header.extend(["SEVERITY", "SYSTEMS", "SERVICE"]);
    }
    let mut table = Table::new(&header);
    for incident in incidents {
        let id = text(incident, "/id");
        let mut cells = vec![
            if wide { id } else { short_id(id) }.to_owned(),
            text(incident, "/priority").to_owned(),
            text(incident, "/status").to_owned(),
            time(incident, "/created_at").map(|at| relative(at, now)).unwrap_or_default(),
            cut(text(incident, "/title"), TITLE_CHARACTERS_MAX),
            cut(text(incident, "/summary"), SUMMARY_CHARACTERS_MAX),
        ];
        if wide {
            cells.push(text(incident, "/severity").to_owned());
            cells.push(joined(incident, "/affected_systems"));
            cells.push(text(incident, "/service").to_owned());
        }
        table.row(super::look(incident), cells);
    }
    table
}
