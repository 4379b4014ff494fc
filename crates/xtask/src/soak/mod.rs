//! `cargo xtask soak`: for long what CI runs for a short time.

mod power_cuts;

use anyhow::Result;

/// Flags.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Cut the power of the embedded store so many times, on ext4 in a loop image; takes root
    #[arg(long, value_name = "N", default_value_t = 100)]
    power_cuts: u32,
}

/// Runs all parts.
pub(crate) fn run(args: &Args) -> Result<()> {
    power_cuts::run(args.power_cuts)
}
