//! `quell sim`: the simulated infrastructure and its faults.

mod menu;
mod rules;

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::{SimCommand, SimOptions};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Line, Look, Output, Page, Stream, Table};
use crate::rest::{Rest, Service};
use crate::view::{bare, list, relative, text, time, utc};

pub(crate) async fn run(
    context: &mut Context<'_>,
    options: SimOptions,
    command: Option<SimCommand>,
) -> Result<()> {
    let simulator = Rest::new(Service::Simulator, &options.simulator_url, options.simulator_token)?;
    let Some(command) = command else {
        if !context.terminal || context.output.is_json() {
            return Err(Failure::usage("the menu needs a terminal")
                .next("name what to do: quell sim list, trigger, resolve or actions"));
        }
        return menu::run(context, &simulator).await;
    };
    match command {
        SimCommand::List => {
            let scenarios = simulator.get(&["scenarios"], &[]).await?.body;
            result(context, &scenarios, status)
        }
        SimCommand::Trigger { scenario, duration } => {
            let triggered = trigger(context.output, &simulator, &scenario, duration).await?;
            result(context, &triggered, |_, triggered| said(triggered_line(triggered)))
        }
        SimCommand::Resolve => {
            let ended = simulator.post(&["resolve"], None).await?;
            result(context, &ended, |_, ended| said(ended_line(ended)))
        }
        SimCommand::Actions => {
            let actions = simulator.get(&["actions"], &[]).await?.body;
            result(context, &actions, |_, actions| action_page(actions))
        }
    }
}

/// The document as it came, or as a page.
fn result(
    context: &mut Context<'_>,
    document: &Value,
    page: impl FnOnce(&Context<'_>, &Value) -> Page,
) -> Result<()> {
    if context.output.is_json() {
        return Ok(context.output.json(document)?);
    }
    let page = page(context, document);
    Ok(context.output.page(Stream::Out, &page)?)
}

fn said(line: Line) -> Page {
    Page(vec![line])
}

/// Triggers a scenario, and says so when its alert will not come of it.
async fn trigger(
    output: &mut Output,
    simulator: &Rest,
    scenario: &str,
    duration: Option<Duration>,
) -> Result<Value> {
    let body = duration.map(|duration| json!({"duration": duration.as_secs_f64()}));
    let triggered = simulator.post(&["trigger", scenario], body.as_ref()).await?;
    if let Some(warning) = duration.and_then(|duration| rules::too_short(scenario, duration)) {
        output.note(warning)?;
    }
    Ok(triggered)
}

fn triggered_line(scenario: &Value) -> Line {
    let until = match time(scenario, "/until") {
        Some(until) => format!("until {} at most", utc(until)),
        None => "until the right action heals it".to_owned(),
    };
    Line::new().bold(text(scenario, "/name")).plain(format!(": {}, {until}", text(scenario, "/title")))
}

fn ended_line(answer: &Value) -> Line {
    let ended: Vec<&str> = list(answer, "/ended").iter().filter_map(Value::as_str).collect();
    if ended.is_empty() {
        return "nothing was broken".into();
    }
    Line::new().plain(format!("ended by hand: {}", ended.join(", ")))
}

/// The scenarios and how they stand.
fn status(context: &Context<'_>, scenarios: &Value) -> Page {
    let now = context.now();
    let mut table = Table::new(&["SCENARIO", "STATE", "SUGGESTED", "LAST", "TITLE"]);
    for scenario in list(scenarios, "") {
        let active = scenario["active"] == true;
        let state = match (active, text(scenario, "/ended")) {
            (true, _) => "active",
            (false, "") => "-",
            (false, ended) => ended,
        };
        let last = if active { time(scenario, "/triggered_at") } else { time(scenario, "/ended_at") };
        let last = last.map(|at| relative(at, now)).unwrap_or_default();
        let until = time(scenario, "/until").filter(|_| active);
        let until = until.map(|until| format!(", ends {}", relative(until, now))).unwrap_or_default();
        let cells = [
            text(scenario, "/name").to_owned(),
            state.to_owned(),
            format!("{}s", scenario["suggested_seconds"]),
            format!("{last}{until}"),
            text(scenario, "/title").to_owned(),
        ];
        table.row(if active { Look::Warn } else { Look::Plain }, cells.to_vec());
    }
    table.page()
}

fn action_page(actions: &Value) -> Page {
    let actions = list(actions, "");
    if actions.is_empty() {
        return said("nothing was done yet".into());
    }
    let mut table = Table::new(&["NO", "AT", "OPERATION", "TARGET", "FROM", "TO", "HEALED"]);
    for action in actions {
        let healed =
            list(action, "/healed_all").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        let look = if healed.is_empty() { Look::Plain } else { Look::Good };
        let cells = [
            bare(&action["id"]),
            time(action, "/at").map(utc).unwrap_or_default(),
            text(action, "/operation").to_owned(),
            text(action, "/target").to_owned(),
            bare(&action["from"]),
            bare(&action["to"]),
            healed,
        ];
        table.row(look, cells.to_vec());
    }
    table.page()
}
