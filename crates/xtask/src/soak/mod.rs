//! `cargo xtask soak`: what `ci` takes a short share of, for as long as one likes.

mod kills;
mod simulation;

use anyhow::Result;

/// Flags.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long histories are simulated
    #[arg(long, default_value_t = 10, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Rounds of kills on each store
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rounds: u64,
}

/// Runs all of it, one after another; the first failure ends it.
pub(crate) fn run(args: &Args) -> Result<()> {
    simulation::run(args.minutes)?;
    kills::run(args.rounds)
}
