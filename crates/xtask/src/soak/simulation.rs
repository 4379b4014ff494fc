//! Simulated histories, as many as fit into the time, of seeds that the tests do not use.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// Histories of one run: what the time is looked at after.
const HISTORIES: u64 = 2_000;
/// The tests begin at 1.
const SEED_FIRST: u64 = 1_000_000;

pub(crate) fn run(minutes: u64) -> Result<()> {
    let (begun, within) = (Instant::now(), Duration::from_secs(minutes * 60));
    let mut seed = SEED_FIRST;
    while seed == SEED_FIRST || begun.elapsed() < within {
        let status = workspace::cargo([
            "test",
            "--quiet",
            "--package",
            "quell-coordinator",
            "--lib",
            "histories_lose_nothing",
            "--",
            "--nocapture",
        ])
        .env("QUELL_SIM_SEED", seed.to_string())
        .env("QUELL_SIM_HISTORIES", HISTORIES.to_string())
        .status()
        .context("cargo cannot be run")?;
        ensure!(status.success(), "a history failed: its seed is said above");
        seed += HISTORIES;
    }
    println!("simulation: {} histories in {:.0} s", seed - SEED_FIRST, begun.elapsed().as_secs_f64());
    Ok(())
}
