//! `quell selftest crash` on each store, and with two coordinators.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{self, Profile};

/// What is run, after `quell selftest crash`.
const RUNS: [&[&str]; 3] =
    [&["--store", "embedded"], &["--store", "postgres"], &["--store", "postgres", "--coordinators", "2"]];

pub(crate) fn run(rounds: u64) -> Result<()> {
    let binaries = workspace::build(Profile::Release)?;
    let quell = binaries.get("quell").context("cargo built no quell")?;
    RUNS.iter().try_for_each(|flags| selftest(quell, rounds, flags))
}

fn selftest(quell: &Path, rounds: u64, flags: &[&str]) -> Result<()> {
    println!("\n== selftest crash {}", flags.join(" "));
    let mut command = Command::new(quell);
    command.args(["selftest", "crash", "--rounds", &rounds.to_string()]).args(flags);
    let status = command.status().with_context(|| format!("{} cannot be run", quell.display()))?;
    ensure!(status.success(), "selftest crash {} ended with {status}", flags.join(" "));
    Ok(())
}
