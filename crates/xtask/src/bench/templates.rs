//! `cargo xtask bench templates`: lines of logs per second, beside `logdrain` in the same run.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{self, Profile};

/// Flags of the templates' measurement.
#[derive(clap::Args)]
pub(crate) struct TemplatesArgs {
    /// A folder of `*.log`, one message on each line; without it lines are made up
    folder: Option<PathBuf>,
    /// How often each of both is measured, in turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Runs it, always as it is shipped: without optimisation the two are not slower by the same factor.
pub(crate) fn run(args: &TemplatesArgs) -> Result<()> {
    let further = ["--package", "quell-xtask", "--features", "templates"];
    let built = workspace::build_these(Profile::Release, &["quell-templates"], &further)?;
    let mut command = Command::new(&built["quell-templates"]);
    command.args(["--rounds", &args.rounds.to_string()]).args(&args.folder);
    ensure!(command.status().context("quell-templates cannot be run")?.success(), "the measurement failed");
    Ok(())
}
