//! `cargo xtask demo`: the whole loop on the simulator, from a fault to a verified, closed incident, in separate processes.
//!
//! It succeeds only if every fault was ended by the action of a runbook: verified, and closed. What ended by itself, by a person or by
//! the simulator's reset does not count.

mod follow;
mod scenario;
mod settings;
mod show;
mod site;

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::interrupt::{Interrupt, Interrupted};
use crate::workspace::{self, Profile};
use follow::{Ending, Followed};
use scenario::Scenario;
use show::Show;
pub(crate) use site::Site;

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo
      One fault, and you are asked to approve the plan.
  cargo xtask demo --yes --scenario all
      All eight, approved as soon as the plan was shown.
  cargo xtask demo --yes --real
      Through a real Prometheus and Alertmanager, with the rules of monitoring/ made faster.
  cargo xtask demo --yes --scenario all --json | jq -e .verified
      For scripts.

Exit code 0 only when every incident was verified and closed by a runbook's action; 130 when interrupted.";

/// Flags of the demonstration.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which fault, by its name; or all, one after another
    #[arg(long, default_value = "database_timeout", value_name = "NAME")]
    scenario: String,
    /// Approve every plan as soon as it was shown
    #[arg(long)]
    yes: bool,
    /// One line of JSON per scenario on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// With a real Prometheus and Alertmanager, in place of the alerts that the simulator raises itself
    #[arg(long)]
    real: bool,
    /// Keep the folder with configuration, data and logs, also when all went well
    #[arg(long)]
    keep: bool,
}

/// How long sources are watched before the first fault: a diagnosis compares with the time before.
const BEFORE: Duration = Duration::from_secs(4);
const BEFORE_REAL: Duration = Duration::from_secs(6);

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let scenarios = scenario::chosen(&args.scenario).map_err(anyhow::Error::msg)?;
    if !args.yes && !std::io::stdin().is_terminal() {
        bail!(
            "every plan needs a person's approval, and there is no terminal to ask on: give --yes to approve what is shown"
        );
    }
    let interrupt = Interrupt::install()?;
    let show = Show::new(args.json);
    show.note("building in the dev profile: on a fresh machine that is minutes sooner than a release build");
    let binaries = workspace::build(Profile::Dev);
    // Cargo gets the same Ctrl-C, and then fails.
    interrupt.check()?;
    let binaries = binaries?;

    let mut folder =
        tempfile::Builder::new().prefix("quell-demo-").tempdir().context("no temporary folder")?;
    let started = Instant::now();
    let mut site = Site::start(&binaries, folder.path(), args.real, &interrupt)
        .inspect_err(|error| keep_after(&mut folder, error, &show))?;
    show.site(&site, folder.path(), started.elapsed());
    let done = run_all(args, &scenarios, &mut site, &show, &interrupt);
    let memory = site.resident_bytes();
    let logs = site.logs();
    let stubborn = site.stop();
    let results = match done {
        Ok(results) => results,
        Err(error) => {
            keep_after(&mut folder, &error, &show);
            return Err(error);
        }
    };
    show.summary(&results, &memory, started.elapsed());
    if args.keep {
        folder.disable_cleanup(true);
        show.note(&format!("configuration, data and logs are in {}", folder.path().display()));
    }
    let failed: Vec<_> = results.iter().filter(|result| !result.verified()).collect();
    if failed.is_empty() && stubborn.is_empty() {
        return Ok(());
    }
    folder.disable_cleanup(true);
    for result in &failed {
        eprintln!("{}: {}", result.scenario.name, result.problems.join("; "));
    }
    eprintln!("configuration, data and logs are kept in {}", folder.path().display());
    for (name, log) in logs {
        let warnings = complaints(&log);
        if !warnings.is_empty() {
            eprintln!("  {name} said last:\n{warnings}");
        }
    }
    if !stubborn.is_empty() {
        eprintln!("did not stop when asked and had to be killed: {}", stubborn.join(", "));
    }
    if failed.is_empty() {
        bail!("everything was healed, but not everything stopped");
    }
    bail!("{} of {} scenarios did not end as they should", failed.len(), results.len());
}

fn run_all(
    args: &Args,
    scenarios: &[Scenario],
    site: &mut Site,
    show: &Show,
    interrupt: &Interrupt,
) -> Result<Vec<Followed>> {
    show.note("watching the healthy site for a moment, to have something to compare with");
    interrupt.pause(if args.real { BEFORE_REAL } else { BEFORE })?;
    let mut results = Vec::with_capacity(scenarios.len());
    for scenario in scenarios {
        let result = follow::run(*scenario, args.yes, args.real, site, show, interrupt)?;
        show.result(&result);
        let denied = result.ending == Ending::Denied;
        results.push(result);
        if denied {
            break;
        }
    }
    Ok(results)
}

/// After an error the folder stays, unless a person just wanted the end.
fn keep_after(folder: &mut tempfile::TempDir, error: &anyhow::Error, show: &Show) {
    if error.is::<Interrupted>() {
        show.note("stopped; nothing is left running");
    } else {
        folder.disable_cleanup(true);
        eprintln!("configuration, data and logs are kept in {}", folder.path().display());
    }
}

/// The last warnings and errors of a log.
fn complaints(log: &Path) -> String {
    let all = quell_child::tail(log, 2_000);
    let found: Vec<_> = all.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    found[found.len().saturating_sub(5)..].iter().map(|line| format!("{line}\n")).collect()
}
