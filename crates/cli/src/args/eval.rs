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
  quell eval rca suites/ --out predictions.jsonl --score truth/ --leave-one-out
      Also scored against what was really at fault, with the alert a minute early and late, in windows without a fault, and with the
      confidence calibrated on the other suites.
  quell eval rca suites/ --out predictions.jsonl --score truth/ -o json | jq '.suites[] | [.suite, .score.ac1.share]'")]
    Rca(RcaArgs),
    /// Fit what a confidence means to predictions that turned out to be right or wrong
    #[command(after_help = "\
Examples:
  quell eval calibrate predictions.jsonl --score truth/ --out calibration.json
      Says what it is worth on outcomes that it has not seen, and writes a model for the diagnostic agent.
  quell eval calibrate resolved.jsonl --out calibration.json
      From a site's own resolved incidents: lines like those of quell eval rca, with `\"right\": true` or `false`.")]
    Calibrate(CalibrateArgs),
}

/// Flags of the localisation's measurement.
#[derive(Debug, Args)]
pub(crate) struct RcaArgs {
    /// A folder of one suite, or of several: each suite holds cases, each case a `case.json` and a `metrics.csv`
    pub(crate) folder: PathBuf,
    /// Where the predictions go, one line of JSON for each case
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// What was really at fault: a file of lines with `case` and `root_cause_service`, or a folder of such files
    #[arg(long, value_name = "TRUTH")]
    pub(crate) score: Option<PathBuf>,
    /// A calibration that was made with quell eval calibrate
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Also say what a calibration on all other suites makes of each
    #[arg(long, requires = "score")]
    pub(crate) leave_one_out: bool,
}

/// Flags of the calibration.
#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    /// Predictions of quell eval rca, or a site's own
    pub(crate) predictions: PathBuf,
    /// What was really at fault: a file of lines with `case` and `root_cause_service`, or a folder of such files
    #[arg(long, value_name = "TRUTH")]
    pub(crate) score: Option<PathBuf>,
    /// Where the model goes
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Also say what a fit on all other suites makes of each
    #[arg(long)]
    pub(crate) leave_one_out: bool,
}
