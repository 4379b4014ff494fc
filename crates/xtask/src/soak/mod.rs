//! `cargo xtask soak`: what `ci` takes a short share of, for as long as one likes.

mod kills;
mod power_cuts;
mod simulation;

use anyhow::Result;

/// Flags.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long histories are simulated; 0 leaves them out
    #[arg(long, default_value_t = 10, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    minutes: u64,
    /// Rounds of kills on each store; 0 leaves them out
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    rounds: u64,
    /// Power cuts of the embedded store, on ext4 in a loop image, which takes root; 0 leaves them out
    #[arg(long, default_value_t = 100, value_name = "N")]
    power_cuts: u32,
}

/// Runs all of it, one after another; the first failure ends it.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.minutes > 0 {
        simulation::run(args.minutes)?;
    }
    power_cuts::run(args.power_cuts)?;
    if args.rounds > 0 {
        kills::run(args.rounds)?;
    }
    Ok(())
}
