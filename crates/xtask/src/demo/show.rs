//! What is shown on the way: for people on standard output, or JSON lines there and everything else on standard error.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::follow::Followed;
use super::scenario::Scenario;
use super::site::Site;

/// Columns of text before it is broken.
const WIDTH: usize = 88;
/// Columns before the text of a step.
const MARGIN: usize = 26;
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// Where output goes. Colours are removed where there is no terminal.
pub(crate) struct Show {
    json: bool,
}

impl Show {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// A remark.
    pub(crate) fn note(&self, text: &str) {
        self.person(&format!("{DIM}{text}{PLAIN}"));
    }

    fn person(&self, text: &str) {
        if !self.json {
            anstream::println!("{text}");
        }
    }

    pub(crate) fn ask(&self, text: &str) {
        let mut out = anstream::stderr();
        let _ = write!(out, "{BOLD}{text}{PLAIN}");
        let _ = out.flush();
    }

    /// What runs, and where.
    pub(crate) fn site(&self, site: &Site, folder: &Path, took: Duration) {
        let names: Vec<_> = site.logs().into_iter().map(|(name, _)| name).collect();
        self.note(&format!(
            "{} run after {:.1} s; data and logs in {}",
            names.join(", "),
            took.as_secs_f64(),
            folder.display()
        ));
        self.note(&format!(
            "the API is at http://{}/api/incidents, the simulator at http://{}",
            site.coordinator, site.simulator
        ));
        if let Some(prometheus) = site.prometheus {
            self.note(&format!("Prometheus is at http://{prometheus}"));
        }
    }

    pub(crate) fn triggered(&self, scenario: Scenario, title: &str) {
        self.person(&format!("\n{BOLD}{}{PLAIN}  {title}", scenario.name));
        self.step(0.0, "demo", "triggered", "the fault is triggered");
    }

    /// An entry of the timeline, unless it is bookkeeping.
    pub(crate) fn step(&self, seconds: f64, actor: &str, kind: &str, text: &str) {
        let colour = match kind {
            "cool_down_set" | "locks_released" => return,
            "opened" | "alert_fired" | "alerts_joined" | "reopened" => RED,
            "diagnosed" | "planned" => CYAN,
            "approval_asked" | "approved" | "gates_closed" => YELLOW,
            "resolved" | "closed" | "alert_cleared" | "alerts_cleared" => GREEN,
            "escalated" | "task_failed" | "undo_started" | "step_doubted" => RED,
            _ => "",
        };
        let mut lines = wrap(&brief(text), WIDTH).into_iter();
        let first = lines.next().unwrap_or_default();
        let mut shown = format!("{DIM}{seconds:>8.1} s{PLAIN}  {actor:<13} {colour}{first}{PLAIN}");
        for line in lines {
            let _ = write!(shown, "\n{:MARGIN$}{colour}{line}{PLAIN}", "");
        }
        self.person(&shown);
    }

    /// What would be done, as the dry run showed it.
    pub(crate) fn plan(&self, planned: &Value) {
        let plan = &planned["plan"];
        let indent = " ".repeat(MARGIN);
        let mut text = String::new();
        for (number, step) in plan["steps"].as_array().into_iter().flatten().enumerate() {
            let _ = writeln!(
                text,
                "{indent}{}. {} ({})",
                number + 1,
                words(&step["title"]),
                words(&step["target"])
            );
            for change in step["preview"]["changes"].as_array().into_iter().flatten() {
                let _ = writeln!(
                    text,
                    "{indent}   {} {RED}{}{PLAIN} -> {GREEN}{}{PLAIN}",
                    words(&change["what"]),
                    change["from"],
                    change["to"]
                );
            }
            let undo = match words(&step["undo"]["kind"]) {
                "inverse" => "undone by the inverse".to_owned(),
                "not_needed" => format!("no undo needed: {}", words(&step["undo"]["why"])),
                _ => format!("cannot be undone: {}", words(&step["undo"]["why"])),
            };
            for line in wrap(&undo, WIDTH - 3) {
                let _ = writeln!(text, "{indent}   {DIM}{line}{PLAIN}");
            }
        }
        for check in plan["checks"].as_array().into_iter().flatten() {
            let _ = writeln!(text, "{indent}{DIM}then checked: {}{PLAIN}", words(&check["name"]));
        }
        self.person(text.trim_end());
    }

    /// How one scenario ended; the line for scripts.
    pub(crate) fn result(&self, result: &Followed) {
        if self.json {
            println!("{}", result.json());
        } else if result.verified() {
            self.person(&format!("{GREEN}verified and closed{PLAIN} after {:.1} s", result.seconds));
        } else {
            self.person(&format!("{RED}failed{PLAIN}: {}", result.problems.join("; ")));
        }
    }

    /// All of them, and what it took.
    pub(crate) fn summary(&self, results: &[Followed], memory: &[(String, Option<u64>)], took: Duration) {
        if !self.json {
            self.person(&format!(
                "\n{BOLD}{:<21} {:<33} {:>10}  {:<27} {:>7}  {}{PLAIN}",
                "scenario", "root cause", "confidence", "runbook", "seconds", "end"
            ));
            for result in results {
                let (colour, end) =
                    if result.verified() { (GREEN, "verified, closed") } else { (RED, "failed") };
                let diagnostics = &result.incident["diagnostics"];
                self.person(&format!(
                    "{:<21} {:<33} {:>10}  {:<27} {:>7.1}  {colour}{end}{PLAIN}",
                    result.scenario.name,
                    words(&diagnostics["root_cause"]),
                    diagnostics["confidence"]
                        .as_f64()
                        .map_or_else(|| "-".to_owned(), |share| format!("{share:.2}")),
                    words(&result.incident["resolution"]["runbook"]),
                    result.seconds,
                ));
                for action in result.actions() {
                    self.person(&format!("{DIM}  {action}{PLAIN}"));
                }
            }
        }
        let megabytes = |bytes: &Option<u64>| match bytes {
            Some(bytes) => format!("{:.1} MB", *bytes as f64 / 1e6),
            None => "unknown".to_owned(),
        };
        let used: Vec<_> =
            memory.iter().map(|(name, bytes)| format!("{name} {}", megabytes(bytes))).collect();
        let line =
            format!("resident memory: {}; {:.0} s after the build", used.join(", "), took.as_secs_f64());
        if self.json { eprintln!("{line}") } else { self.person(&format!("\n{line}")) }
    }
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Without what only machines need: step keys become the step's name, times end with the second.
fn brief(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let parts: Vec<_> = word.split('/').collect();
        let is_key = parts.len() == 5 && parts[0].len() == 36;
        let word = if is_key { parts[3] } else { word };
        words.push(match word.split_once('.') {
            Some((time, fraction))
                if time.contains('T') && fraction.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                format!("{time}{}", fraction.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            _ => word.to_owned(),
        });
    }
    words.join(" ")
}

/// Breaks at spaces; a longer word stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_times_are_made_short() {
        let key = "01a1fa8c-49f0-75b9-94ba-bf2f5e1b79a6/1/ba248eb219d6/end-idle/1";
        assert_eq!(
            brief(&format!("step {key} done: \"2026-11-20T20:01:02.5462Z\" -> 0.5")),
            "step end-idle done: \"2026-11-20T20:01:02Z\" -> 0.5"
        );
    }

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("a-long-word b", 5), ["a-long-word", "b"]);
        assert!(wrap("", 5).is_empty());
    }
}
