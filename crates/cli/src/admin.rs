//! Agents, the kill switch, completions.

use clap::CommandFactory as _;
use clap_complete::Shell;
use quell_service::config::shown_address;
use serde_json::{Value, json};

use crate::args::{Cli, KillSwitchCommand};
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Line, Look, Output, Page, Stream, Table};
use crate::view::{joined, list, text, time, utc};

pub(crate) fn completions(shell: Shell, output: &mut Output) -> Result<()> {
    // Into memory first: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "quell", &mut script);
    Ok(output.raw(&script)?)
}

pub(crate) async fn agents(context: &mut Context<'_>) -> Result<()> {
    let agents = context.coordinator.get(&["api", "agents"], &[]).await?.body;
    if context.output.is_json() {
        return Ok(context.output.json(&agents)?);
    }
    let mut table = Table::new(&["ROLE", "NAME", "VERSION", "REACHABLE", "URL", "SKILLS", "ERROR"]);
    for agent in list(&agents, "") {
        let reachable = agent["reachable"] == true;
        let cells = [text(agent, "/role"), text(agent, "/name"), text(agent, "/version")];
        let mut cells: Vec<String> = cells.map(str::to_owned).to_vec();
        cells.push(if reachable { "yes" } else { "no" }.to_owned());
        cells.push(shown_address(text(agent, "/url")));
        cells.push(joined(agent, "/skills"));
        cells.push(text(agent, "/error").to_owned());
        table.row(if reachable { Look::Plain } else { Look::Bad }, cells);
    }
    Ok(context.output.page(Stream::Out, &table.page())?)
}

pub(crate) async fn kill_switch(context: &mut Context<'_>, command: KillSwitchCommand) -> Result<()> {
    const PATH: [&str; 2] = ["api", "kill-switch"];
    let state = match command {
        KillSwitchCommand::Status => context.coordinator.get(&PATH, &[]).await?.body,
        KillSwitchCommand::On { why } => {
            context.coordinator.put(&PATH, &json!({"engaged": true, "why": why})).await?
        }
        KillSwitchCommand::Off { why } => {
            context.coordinator.put(&PATH, &json!({"engaged": false, "why": why})).await?
        }
    };
    if context.output.is_json() {
        return Ok(context.output.json(&state)?);
    }
    Ok(context.output.page(Stream::Out, &switch_page(&state))?)
}

fn switch_page(state: &Value) -> Page {
    let mut line = match state["engaged"].as_bool() {
        Some(true) => Line::new().bad("engaged").plain(": nothing is carried out"),
        Some(false) => Line::new().with(Look::Good, "not engaged").plain(": plans may be carried out"),
        None => Line::new().bad("not known").plain(": the coordinator does not say"),
    };
    let why = text(state, "/why");
    if !why.is_empty() {
        line = line.plain(format!(" ({why})"));
    }
    let mut page = Page::default();
    if state["changed"] == false {
        // The coordinator records no release of what was not engaged, and what it tells of one below was another time.
        page.line("nothing was changed: the kill switch was not engaged, and what was said now is not noted");
    }
    page.line(line);
    for (thrown, word) in [("engaged", state), ("released", &state["released"])] {
        let by = text(word, "/by");
        if by.is_empty() {
            continue;
        }
        let at = time(word, "/at").map(|at| format!(" at {}", utc(at))).unwrap_or_default();
        let why = Some(text(word, "/why")).filter(|why| thrown == "released" && !why.is_empty());
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        page.field(2, thrown, format!("by {by}{at}{why}"));
    }
    page
}
