//! What can be typed.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

mod backtest;
mod data;
mod eval;
mod incident;
mod rule;
mod selftest;
mod tool;

pub(crate) use backtest::BacktestArgs;
pub(crate) use data::{AuditCommand, AuditedStore, DataDir, Places, StoreCommand};
pub(crate) use eval::{AlertsArgs, CalibrateArgs, EvalCommand, LearnedKind, LogsArgs, RcaArgs};
pub(crate) use incident::{CreateArgs, IncidentCommand, ListArgs, Template, Until, WatchArgs};
pub(crate) use rule::{ExplainArgs, Files, RuleCommand};
pub(crate) use selftest::{CrashArgs, SelftestCommand, StoreKind};
pub(crate) use tool::{ToolCommand, ToolOptions};

const EXAMPLES: &str = "\
Examples:
  quell incident list --status active
      What is going on now.
  quell incident show 3f2a9c
      All that is known of one incident: cause, plan, actions, timeline. The start or the end of its id is enough.
  quell incident approve 3f2a9c
      See the plan that waits for approval, and approve exactly that plan.
  quell kill-switch on --why \"database move\"
      Nothing is carried out from now on.
  quell sim
      The menu of the simulated infrastructure: break something, and watch it being repaired.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found or not possible now, 4 tampered with or
damaged (quell audit verify).";

/// Incidents, approvals, agents and the simulator of Quell.
#[derive(Debug, Parser)]
#[command(name = "quell", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Settings of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Address of the coordinator
    #[arg(
        long,
        global = true,
        env = "QUELL_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:5000",
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// Bearer token for the coordinator, if it asks for one
    #[arg(long, global = true, env = "QUELL_TOKEN", hide_env_values = true, value_parser = secret)]
    pub(crate) token: Option<SecretString>,
    /// gRPC address of the coordinator, in place of the one that its agent card names
    #[arg(long, global = true, env = "QUELL_GRPC_URL", hide_env_values = true, value_name = "HOST:PORT")]
    pub(crate) grpc_url: Option<String>,
    /// Tables for people, or JSON as the API gave it
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Take standard input for a terminal
    #[arg(long, global = true, hide = true)]
    pub(crate) assume_terminal: bool,
    /// Take this for the time now
    #[arg(long, global = true, hide = true)]
    pub(crate) now: Option<Timestamp>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    #[value(alias = "jsonl")]
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See, open, approve, follow and end incidents
    #[command(visible_alias = "incidents", arg_required_else_help = true)]
    Incident {
        #[command(subcommand)]
        command: IncidentCommand,
    },
    /// Break the simulated infrastructure; without a subcommand a menu
    #[command(after_help = SIM_EXAMPLES)]
    Sim {
        #[command(flatten)]
        options: SimOptions,
        #[command(subcommand)]
        command: Option<SimCommand>,
    },
    /// The agents that the coordinator works with
    #[command(visible_alias = "agents", arg_required_else_help = true)]
    Agent {
        #[command(subcommand)]
        command: AgentCommand,
    },
    /// Look with the diagnostic agent's own tools: metrics, logs, health, platform
    #[command(visible_alias = "tools", arg_required_else_help = true)]
    Tool {
        #[command(flatten)]
        options: ToolOptions,
        #[command(subcommand)]
        command: ToolCommand,
    },
    /// Stop everything that would be carried out
    #[command(arg_required_else_help = true)]
    KillSwitch {
        #[command(subcommand)]
        command: KillSwitchCommand,
    },
    /// Try on this machine that Quell loses nothing and does nothing twice
    #[command(arg_required_else_help = true)]
    Selftest {
        #[command(subcommand)]
        command: SelftestCommand,
    },
    /// Whether a data folder or a database is what was written, and what is in it
    #[command(arg_required_else_help = true)]
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Move a store to another place or backend, record by record
    #[command(arg_required_else_help = true)]
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Measure the diagnosis on recorded failures
    #[command(arg_required_else_help = true)]
    Eval {
        #[command(subcommand)]
        command: EvalCommand,
    },
    /// The rules of the diagnosis: see, explain, check and test them
    #[command(visible_alias = "rules", arg_required_else_help = true)]
    Rule {
        #[command(subcommand)]
        command: RuleCommand,
    },
    /// What edited rules would have said of past incidents
    #[command(after_help = "\
Every incident is diagnosed again from the evidence that was kept of it, and compared with what its report says; nothing is
changed. Give all files that the diagnostic agent has as `rules_file`, edited.

Examples:
  quell backtest --rules site-rules.yaml --from 2026-01-01T00:00:00Z
      What would change, and which of it was repaired as it was.
  quell backtest --rules site-rules.yaml -o json | jq '.incidents[] | select(.change == \"other_cause\")'
  quell backtest --rules site-rules.yaml --cases evidence/
      The same without a coordinator; what was said then is what the shipped rules say.")]
    Backtest(BacktestArgs),
    /// Write the completions of a shell
    #[command(after_help = "\
Examples:
  quell completions bash > ~/.local/share/bash-completion/completions/quell
  quell completions zsh > \"${fpath[1]}/_quell\"")]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Which agents there are, and whether they answer
    #[command(after_help = "\
Examples:
  quell agent list
  quell agent list -o json | jq -r '.[] | select(.reachable | not) | .url'")]
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KillSwitchCommand {
    /// Carry out nothing more; a step that runs ends
    #[command(after_help = "\
Examples:
  quell kill-switch on --why \"database move until noon\"")]
    On {
        /// Why, for the others and for the record
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Allow plans to be carried out again
    #[command(after_help = "\
Examples:
  quell kill-switch off --why \"the move is done\"")]
    Off {
        /// Why, for the record
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
    /// Whether it is engaged
    #[command(after_help = "\
Examples:
  quell kill-switch status
  quell kill-switch status -o json | jq .engaged")]
    Status,
}

const SIM_EXAMPLES: &str = "\
Examples:
  quell sim
      The menu, on a terminal.
  quell sim trigger database_timeout
      Break the database until the right action heals it.
  quell sim trigger disk_full --duration 3m
      The same for a disk, for three minutes at most.";

/// How the simulator is reached.
#[derive(Debug, Args)]
pub(crate) struct SimOptions {
    /// Address of the simulator's control interface
    #[arg(
        long,
        global = true,
        env = "SIMULATOR_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8000",
        value_name = "URL"
    )]
    pub(crate) simulator_url: String,
    /// Bearer token for the simulator, if it asks for one
    #[arg(long, global = true, env = "SIMULATOR_TOKEN", hide_env_values = true, value_parser = secret)]
    pub(crate) simulator_token: Option<SecretString>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// The scenarios, and which of them are active
    #[command(
        visible_alias = "status",
        after_help = "\
Examples:
  quell sim list
  quell sim list -o json | jq -r '.[] | select(.active) | .name'"
    )]
    List,
    /// Break something
    #[command(after_help = "\
Examples:
  quell sim trigger kafka_lag
      Until the right action heals it.
  quell sim trigger database_timeout --duration 3m
      Three minutes at most. Says so when the time is too short for the alert.")]
    Trigger {
        /// Which scenario; `quell sim list` shows them
        scenario: String,
        /// How long it lasts at most, such as 60s or 3m; without it until it is healed
        #[arg(long, value_parser = duration)]
        duration: Option<Duration>,
    },
    /// End every fault by hand; an alert that clears so was not repaired
    #[command(after_help = "\
Examples:
  quell sim resolve")]
    Resolve,
    /// What was done to the simulated infrastructure, and what that healed
    #[command(after_help = "\
Examples:
  quell sim actions
  quell sim actions -o json | jq '.[] | select(.healed)'")]
    Actions,
}

// clap asks value parsers for a result, and wants an error type that displays.
fn secret(text: &str) -> std::result::Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

/// `90s`, `3m`, `1h 30m`; a bare number is seconds.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let text = text.trim();
    let parsed = match text.parse::<u32>() {
        Ok(seconds) => Ok(SignedDuration::from_secs(i64::from(seconds))),
        Err(_) => text.parse::<SignedDuration>(),
    };
    let wrong = || "write it like 90s, 3m or 1h30m".to_owned();
    let duration = Duration::try_from(parsed.map_err(|_| wrong())?).map_err(|_| wrong())?;
    if duration.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(duration) }
}

/// An instant: a time such as `2026-05-01T12:00:00Z`, or how long ago it was, such as `2h`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Since {
    At(Timestamp),
    Ago(Duration),
}

fn since(text: &str) -> std::result::Result<Since, String> {
    if let Ok(at) = text.trim().parse::<Timestamp>() {
        return Ok(Since::At(at));
    }
    duration(text).map(Since::Ago).map_err(|_| "write it like 2h, or 2026-05-01T12:00:00Z".to_owned())
}

fn words(values: &'static [&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(values)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_and_instants() {
        let cases = [("90", Some(90)), ("90s", Some(90)), ("3m", Some(180)), ("1h30m", Some(5400))];
        for (text, seconds) in
            cases.into_iter().chain([("0", None), ("-3s", None), ("soon", None), ("", None)])
        {
            assert_eq!(duration(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(since("2h"), Ok(Since::Ago(Duration::from_secs(7200))));
        assert_eq!(since("1970-01-01T00:00:00Z"), Ok(Since::At(Timestamp::UNIX_EPOCH)));
        assert!(since("yesterday").is_err());
    }

    /// Walks every command: each one that does something shows an example.
    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if !command.has_subcommands() {
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("Examples:\n  quell "), "{path} has no example");
            }
            command.get_subcommands().for_each(|inner| walk(inner, &path));
        }
        walk(&Cli::command(), "");
    }
}
