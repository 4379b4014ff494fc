//! The command line of Quell: `quell`.
//!
//! It talks A2A to the coordinator as any client would where A2A has a word for it (opening, approving, denying, following an
//! incident), and REST for the rest. It holds no state and decides nothing: the coordinator says what is possible. A data folder is
//! opened by `quell audit`, which reads only, and by `quell store`, which moves one. `quell rule` needs no daemon.
//!
//! Text that came from telemetry is shown on a terminal only through `output`, which takes out what a terminal would obey.

mod a2a;
mod admin;
mod args;
mod audit;
mod backtest;
mod clock;
mod context;
mod eval;
mod failure;
mod incident;
mod output;
mod plan;
mod rest;
mod rule;
mod selftest;
mod sim;
mod store;
mod tool;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use context::Context;
use failure::Result;
use output::Output;

/// Runs the command that these arguments name, the program's own name first, and says how it ended: 0 well, 1 failed, 2 the
/// command cannot be used so, 3 not found or not possible now, 4 the audit found tampering or damage.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(help_or_error) => {
            // A closed output is all that can go wrong here, and then nobody reads it.
            let _ = help_or_error.print();
            return ExitCode::from(u8::try_from(help_or_error.exit_code()).unwrap_or(2));
        }
    };
    let mut output = Output::to_process(cli.global.output);
    match dispatch(cli, &mut output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(&mut output);
            failure.exit_code()
        }
    }
}

async fn dispatch(cli: Cli, output: &mut Output) -> Result<()> {
    let Cli { command, global } = cli;
    let mut context = Context::new(global, output)?;
    match command {
        Command::Incident { command } => Box::pin(incident::run(&mut context, command)).await,
        Command::Sim { options, command } => Box::pin(sim::run(&mut context, options, command)).await,
        Command::Agent { command: args::AgentCommand::List } => admin::agents(&mut context).await,
        Command::Tool { options, command } => Box::pin(tool::run(&mut context, options, command)).await,
        Command::KillSwitch { command } => admin::kill_switch(&mut context, command).await,
        Command::Selftest { command } => Box::pin(selftest::run(&mut context, command)).await,
        Command::Audit { command } => Box::pin(audit::run(&mut context, command)).await,
        Command::Store { command } => Box::pin(store::run(&mut context, command)).await,
        Command::Eval { command } => eval::run(&mut context, command).await,
        Command::Backtest(arguments) => backtest::run(&mut context, &arguments).await,
        Command::Rule { command } => rule::run(&mut context, command),
        Command::Completions { shell } => admin::completions(shell, context.output),
    }
}
