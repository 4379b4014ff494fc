//! The menu of `quell sim`.

use std::io::BufRead;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::failure::{Exit, Result};
use crate::output::{Line, Look, Page, Stream, Table};
use crate::rest::Rest;
use crate::view::{list, text, utc};

use super::{ended_line, status, trigger, triggered_line};

const LINES_WAITING_MAX: usize = 16;
/// Between two looks at the active incidents.
const MONITOR_MILLISECONDS: u64 = 2_000;
const MONITOR_INCIDENTS_MAX: usize = 50;

/// What can be chosen besides the scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Scenario(usize),
    Resolve,
    Status,
    Monitor,
    Quit,
}

/// Lines that a person types, read on a thread of their own so that something else can go on meanwhile.
struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(mut input: impl BufRead + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
        std::thread::spawn(move || {
            let mut line = String::new();
            while matches!(input.read_line(&mut line), Ok(1..)) {
                if sender.blocking_send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next line, `None` at the end.
    async fn next(&mut self) -> Option<String> {
        self.0.recv().await.map(|line| line.trim().to_owned())
    }
}

pub(crate) async fn run(context: &mut Context<'_>, simulator: &Rest) -> Result<()> {
    let mut lines = Lines::of(std::io::BufReader::new(std::io::stdin()));
    let scenarios = simulator.get(&["scenarios"], &[]).await?.body;
    let scenarios = list(&scenarios, "").to_vec();
    let menu = menu_page(simulator, &scenarios);
    context.output.page(Stream::Out, &menu)?;
    loop {
        context.output.line(Stream::Out, &"".into())?;
        context.output.ask(Stream::Out, "choose (Enter shows the menu): ")?;
        let Some(line) = lines.next().await else {
            context.output.line(Stream::Out, &"".into())?;
            return Ok(());
        };
        let done = match chosen(&line, scenarios.len()) {
            None if line.is_empty() => Ok(context.output.page(Stream::Out, &menu)?),
            None => {
                let last = scenarios.len() + 3;
                context.output.line(
                    Stream::Out,
                    &format!("there is no {line:?}: choose a number from 0 to {last}").into(),
                )?;
                continue;
            }
            Some(Choice::Quit) => return Ok(()),
            Some(Choice::Scenario(index)) => {
                break_something(context, simulator, &scenarios[index], &mut lines).await
            }
            Some(Choice::Resolve) => match simulator.post(&["resolve"], None).await {
                Ok(ended) => Ok(context.output.line(Stream::Out, &ended_line(&ended))?),
                Err(failure) => Err(failure),
            },
            Some(Choice::Status) => match simulator.get(&["scenarios"], &[]).await {
                Ok(answer) => {
                    let page = status(context, &answer.body);
                    Ok(context.output.page(Stream::Out, &page)?)
                }
                Err(failure) => Err(failure),
            },
            Some(Choice::Monitor) => monitor(context, &mut lines).await,
        };
        match done {
            Ok(()) => {}
            Err(failure) if failure.exit == Exit::Unread => return Err(failure),
            // A person at a menu wants to go on.
            Err(failure) => failure.report(context.output),
        }
    }
}

/// What the line chooses, by its number or first letter.
fn chosen(line: &str, scenarios: usize) -> Option<Choice> {
    match line.to_ascii_lowercase().as_str() {
        "q" | "quit" | "0" => return Some(Choice::Quit),
        "r" | "resolve" => return Some(Choice::Resolve),
        "s" | "status" => return Some(Choice::Status),
        "m" | "monitor" => return Some(Choice::Monitor),
        _ => {}
    }
    let number: usize = line.parse().ok()?;
    match number.checked_sub(1)? {
        index if index < scenarios => Some(Choice::Scenario(index)),
        index => [Choice::Resolve, Choice::Status, Choice::Monitor].get(index - scenarios).copied(),
    }
}

fn menu_page(simulator: &Rest, scenarios: &[Value]) -> Page {
    let mut page = Page::default();
    page.line(Line::new().bold("Simulated infrastructure").dim(format!(" at {}", simulator.shown())));
    let mut table = Table::new(&["", "BREAK", "SUGGESTED", ""]);
    for (number, scenario) in (1..).zip(scenarios) {
        let cells = [
            format!("{number:>2}"),
            text(scenario, "/title").to_owned(),
            format!("{} s", scenario["suggested_seconds"]),
            text(scenario, "/name").to_owned(),
        ];
        table.row(Look::Plain, cells.to_vec());
    }
    page.0.extend(table.page().0);
    let others = ["resolve: end every fault by hand", "status of the scenarios", "monitor active incidents"];
    for (number, other) in (scenarios.len() + 1..).zip(others) {
        page.line(format!("{number:>2}  {other}"));
    }
    page.line(" 0  quit");
    page
}

/// Asks for how long, then triggers.
async fn break_something(
    context: &mut Context<'_>,
    simulator: &Rest,
    scenario: &Value,
    lines: &mut Lines,
) -> Result<()> {
    let suggested = scenario["suggested_seconds"].as_u64().unwrap_or(60);
    let question = format!("for how many seconds? [{suggested}, 0: until it is healed] ");
    let duration = loop {
        context.output.ask(Stream::Out, &question)?;
        match lines.next().await.as_deref() {
            None => return Ok(()),
            Some("") => break Some(Duration::from_secs(suggested)),
            Some("0") => break None,
            Some(given) => match given.trim_end_matches('s').parse::<u32>() {
                Ok(seconds) => break Some(Duration::from_secs(u64::from(seconds))),
                Err(_) => context
                    .output
                    .line(Stream::Out, &format!("{given:?} is not a number of seconds").into())?,
            },
        }
    };
    let triggered = trigger(context.output, simulator, text(scenario, "/name"), duration).await?;
    Ok(context.output.line(Stream::Out, &triggered_line(&triggered))?)
}

/// Shows the active incidents whenever they change, until Enter is pressed.
async fn monitor(context: &mut Context<'_>, lines: &mut Lines) -> Result<()> {
    context.output.line(Stream::Out, &Line::new().dim("active incidents; Enter goes back to the menu"))?;
    let filter = [("status", "active".to_owned())];
    let mut before = None;
    loop {
        let incidents = crate::incident::fetch(context, &filter, MONITOR_INCIDENTS_MAX).await?.incidents;
        let now = context.now();
        let state: Vec<String> = incidents
            .iter()
            .map(|incident| format!("{} {}", text(incident, "/id"), text(incident, "/summary")))
            .collect();
        if before.as_ref() != Some(&state) {
            let count = match state.len() {
                0 => "no active incident".to_owned(),
                1 => "1 active incident".to_owned(),
                count => format!("{count} active incidents"),
            };
            let mut page = Page(vec![Line::new().bold(format!("{}  {count}", utc(now)))]);
            if !incidents.is_empty() {
                page.0.extend(crate::incident::table(&incidents, now, false).page().0);
            }
            context.output.page(Stream::Out, &page)?;
            before = Some(state);
        }
        tokio::select! {
            _ = lines.next() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(MONITOR_MILLISECONDS)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_letters() {
        let cases = [
            ("1", Some(Choice::Scenario(0))),
            ("8", Some(Choice::Scenario(7))),
            ("9", Some(Choice::Resolve)),
            ("10", Some(Choice::Status)),
            ("11", Some(Choice::Monitor)),
            ("0", Some(Choice::Quit)),
            ("Q", Some(Choice::Quit)),
            ("m", Some(Choice::Monitor)),
            ("12", None),
            ("-1", None),
            ("database", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(chosen(line, 8), expected, "{line:?}");
        }
    }

    #[tokio::test]
    async fn lines_come_in_order_and_end() {
        let mut lines = Lines::of(std::io::Cursor::new("one\n\n two "));
        assert_eq!(lines.next().await.as_deref(), Some("one"));
        assert_eq!(lines.next().await.as_deref(), Some(""));
        assert_eq!(lines.next().await.as_deref(), Some("two"));
        assert_eq!(lines.next().await, None);
    }
}
