//! Power cuts of the embedded store: the program `power_cut` of `quell-store` carries them out.

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// The exit code with which it says that it cannot be done here.
const SKIPPED: i32 = 77;
/// Trials with the sync left out, which have to lose something: one for so many real ones.
const REAL_PER_BITING: u32 = 10;

/// Runs the trials, and some with the sync left out to see that the test bites.
pub(crate) fn run(trials: u32) -> Result<()> {
    if trials == 0 {
        return Ok(());
    }
    trial(&["trials", &trials.to_string()])?;
    trial(&["trials", &trials.div_ceil(REAL_PER_BITING).to_string(), "--leave-out-sync"])
}

fn trial(arguments: &[&str]) -> Result<()> {
    let program = ["run", "--quiet", "--package", "quell-store", "--example", "power_cut", "--"];
    let status = workspace::cargo(program.into_iter().chain(arguments.iter().copied()))
        .status()
        .context("cargo cannot be run")?;
    match status.code() {
        Some(0 | SKIPPED) => Ok(()),
        _ => bail!("power cuts: {status}"),
    }
}
