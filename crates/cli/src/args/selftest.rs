//! What can be typed after `quell selftest`.

use std::fmt;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum SelftestCommand {
    /// Kill the real programs at random instants and in the middle of steps, and count what was lost or done twice
    #[command(after_help = "\
Examples:
  quell selftest crash
      Ten rounds in a temporary folder; nothing of your site is touched.
  quell selftest crash --rounds 50 --store postgres
      The same on a PostgreSQL of its own, which is crashed as well.
  quell selftest crash --seed 42 --keep -o json
      The same instants again; the folder with all logs stays.

Exit codes: 0 nothing was lost, doubled, stuck or done twice; 1 something was; 3 a program is missing.")]
    Crash(CrashArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CrashArgs {
    /// How often a fault and a load of alerts meet kills
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000), value_name = "N")]
    pub(crate) rounds: u64,
    /// Who is killed when; a random one if not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// What keeps the incidents
    #[arg(long, value_enum, default_value_t = StoreKind::Embedded)]
    pub(crate) store: StoreKind,
    /// Coordinators on one PostgreSQL, which are also stopped and go on
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = coordinators)]
    pub(crate) coordinators: usize,
    /// Leave the folder with configuration, data and logs
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// The coordinator's own, in a folder.
    Embedded,
    /// A PostgreSQL server, made for the test from the system's programs.
    Postgres,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Embedded => "embedded",
            Self::Postgres => "postgres",
        })
    }
}

fn coordinators(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "2" => Ok(2),
        _ => Err("expected 1 or 2".to_owned()),
    }
}
