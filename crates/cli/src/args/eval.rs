//! What can be typed about measuring the diagnosis.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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
    /// Fit what a confidence means to what turned out to be right or wrong
    #[command(after_help = "\
Examples:
  quell eval calibrate predictions.jsonl --score truth/ --out calibration.json
      Says what it is worth on outcomes that it has not seen, and writes a model for the diagnostic agent.
  quell eval calibrate --out learned.json
      From this site's own resolved incidents, at the coordinator: what a confidence means here, and which causes deserve to be
      believed. For the diagnostic agent's ml_model_path, with SIGHUP; once a night is often enough.")]
    Calibrate(CalibrateArgs),
    /// Log templates: how well lines are grouped, and how many in a second
    #[command(after_help = "\
Examples:
  quell eval logs loghub2k/ --truth truth/
      For each system how many of its lines are in exactly the groups that people made.
  quell eval logs logs/
      How many templates there are, and how fast they were found.")]
    Logs(LogsArgs),
    /// A model of resolved incidents: how often it names the service at fault, from alert events
    #[command(after_help = "\
Examples:
  quell eval alerts --train shop.jsonl --truth shop-truth.jsonl --cross-validate 5
      Each case is predicted by a model that learned from the other four fifths.
  quell eval alerts --train shop.jsonl --test later.jsonl --truth shop-truth.jsonl --truth later-truth.jsonl -o json
      Learned from one file, measured on another.")]
    Alerts(AlertsArgs),
}

/// Flags of the learned model's measurement.
#[derive(Debug, Args)]
pub(crate) struct AlertsArgs {
    /// Cases to learn from: on each line `id`, `metrics`, `logs`, `traces`, `nodes` and `edges`
    #[arg(long, value_name = "FILE")]
    pub(crate) train: PathBuf,
    /// Cases to predict
    #[arg(long, value_name = "FILE")]
    pub(crate) test: Option<PathBuf>,
    /// What was really at fault, in any of the cases: on each line `case`, `root_cause_service` and perhaps `fault`
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Vec<PathBuf>,
    /// Predict the cases to learn from: cut into so many parts, each predicted by a model of the others
    #[arg(long, value_name = "PARTS", conflicts_with = "test", value_parser = clap::value_parser!(u8).range(2..=50))]
    pub(crate) cross_validate: Option<u8>,
    /// Which model; a mixture if there are 60 incidents to learn from, otherwise a regression
    #[arg(long, value_enum)]
    pub(crate) model: Option<LearnedKind>,
    /// What the forest's chance starts from: the same number gives the same model
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where the predictions go, one line of JSON for each case
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Which model is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LearnedKind {
    /// Conditional logistic regression
    Regression,
    /// Extremely randomised trees
    Forest,
    /// Both, and trees over the whole incident, weighed by what each is worth on incidents that it has not seen
    Mixture,
}

/// Flags of the templates' measurement.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// A folder of `<system>.log`, one message on each line
    pub(crate) folder: PathBuf,
    /// A folder of `<system>.ids`: which message each line is, by an id on the line of the same number
    #[arg(long, value_name = "FOLDER")]
    pub(crate) truth: Option<PathBuf>,
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
    /// Also say what a calibration, and thresholds, that were chosen on all other suites make of each
    #[arg(long, requires = "score")]
    pub(crate) leave_one_out: bool,
    /// Where a calibration goes that is fitted to these cases and to their windows without a fault
    #[arg(long, requires = "score", value_name = "FILE")]
    pub(crate) fit: Option<PathBuf>,
}

/// Flags of the calibration.
#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    /// Predictions of quell eval rca; without any the coordinator's own resolved incidents
    pub(crate) predictions: Option<PathBuf>,
    /// What was really at fault: a file of lines with `case` and `root_cause_service`, or a folder of such files
    #[arg(long, value_name = "TRUTH", requires = "predictions")]
    pub(crate) score: Option<PathBuf>,
    /// Where the model goes
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Also say what a fit on all other suites makes of each
    #[arg(long, requires = "predictions")]
    pub(crate) leave_one_out: bool,
    /// Rules of the site, by which its incidents are diagnosed again
    #[arg(long, value_name = "FILE", conflicts_with = "predictions")]
    pub(crate) rules: Vec<PathBuf>,
}
