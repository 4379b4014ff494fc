//! What can be typed about measuring the diagnosis.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Which service was at fault: the engines over recorded failures, scored beside chance and a published baseline
    #[command(after_help = "\
Examples:
  quell eval rca suites/ --out predictions.jsonl
      One line for each case: the services, the likeliest first, and how sure that is.
  quell eval rca suites/ --out predictions.jsonl --score truth/ -o json | jq '.suites[].ac1'
      Also scored against what was really at fault.")]
    Rca(RcaArgs),
}

/// Flags of the localisation's measurement.
#[derive(Debug, Args)]
pub(crate) struct RcaArgs {
    /// A folder of one suite, or of several: each suite holds cases, each case a `case.json` and a `metrics.csv`
    pub(crate) folder: PathBuf,
    /// Where the predictions go, one line of JSON for each case
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// What was really at fault: a file of lines with `case` and `root_cause_service`, or a folder of `<suite>.jsonl`
    #[arg(long, value_name = "TRUTH")]
    pub(crate) score: Option<PathBuf>,
}
