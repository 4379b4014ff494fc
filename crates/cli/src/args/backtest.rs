//! What can be typed after `quell backtest`.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

/// Which incidents, by which rules.
#[derive(Debug, Args)]
pub(crate) struct BacktestArgs {
    /// Incidents from this instant on, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<Timestamp>,
    /// Incidents before this instant
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
    /// Files of rules over the shipped ones; without any, the shipped ones alone
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) rules: Vec<PathBuf>,
    /// Cases in a folder, as `quell incident evidence --out` writes them, rather than the coordinator's
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cases: Option<PathBuf>,
    /// Show also what would not change
    #[arg(long)]
    pub(crate) all: bool,
}

impl BacktestArgs {
    /// Whether that instant is asked for.
    pub(crate) fn admits(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }
}
