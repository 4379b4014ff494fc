//! `cargo xtask bench`: how fast it is, with the floor measured in the same run.

mod alerts;
mod diagnose;
mod ingest;
mod load;
mod recorded;
mod report;
mod start_up;
mod templates;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::child::{Process, stop_all};
use crate::interrupt::{Interrupt, Interrupted};
use crate::workspace::{self, Profile};
use recorded::Recorded;

/// What can be measured.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// From an alert's webhook to the plan of its incident, through all daemons; start-up times; memory
    Loop(LoopArgs),
    /// Alerts per second that become durable, their cost, memory and growth, beside a bare server
    Ingest(ingest::IngestArgs),
    /// The localisation engines alone: time, how it grows with series and lines, memory of the largest case
    Diagnose(diagnose::DiagnoseArgs),
    /// The learned model over alert events: how often it names the service at fault, beside a forest of scikit-learn
    Alerts(alerts::AlertsArgs),
    /// Lines of logs that are grouped into templates per second, beside another miner
    Templates(templates::TemplatesArgs),
}

/// Flags of the loop's measurement.
#[derive(clap::Args)]
pub(crate) struct LoopArgs {
    /// How many alerts, each of a fingerprint of its own, so that each opens an incident
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    incidents: u32,
    /// How many are posted per second
    #[arg(long, default_value_t = 20.0, value_name = "PER_SECOND", value_parser = rate)]
    rate: f64,
    /// Measure what `cargo build` makes: much slower programs, much sooner
    #[arg(long)]
    dev: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 100_000.0 => Ok(rate),
        _ => Err("expected a number over 0, up to 100000".to_owned()),
    }
}

const START_WITHIN: Duration = Duration::from_secs(30);

/// Runs it.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Loop(args) => run_loop(args),
        Bench::Ingest(args) => ingest::run(args),
        Bench::Diagnose(args) => diagnose::run(args),
        Bench::Alerts(args) => alerts::run(args),
        Bench::Templates(args) => templates::run(args),
    }
}

fn run_loop(args: &LoopArgs) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let profile = if args.dev { Profile::Dev } else { Profile::Release };
    let built = build(profile, &workspace::BINARIES);
    interrupt.check()?;
    let binaries = built?;
    let mut folder =
        tempfile::Builder::new().prefix("quell-bench-").tempdir().context("no temporary folder")?;
    measure(args, &binaries, folder.path(), &interrupt).inspect_err(|error| {
        if !error.is::<Interrupted>() {
            folder.disable_cleanup(true);
            eprintln!("data and logs are kept in {}", folder.path().display());
        }
    })
}

fn measure(
    args: &LoopArgs,
    binaries: &BTreeMap<String, PathBuf>,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    let recorded = recorded::record(binaries, folder, interrupt)?;
    let starts = start_up::measure(binaries, folder, interrupt)?;
    let floor = {
        let mut server =
            Process::start("quell-floor", &binaries["quell-floor"], &["floor.data".to_owned()], folder)?;
        let address =
            server.wait_for_line(START_WITHIN, interrupt)?.parse().context("the floor's address")?;
        load::floor(address, args.incidents, args.rate, interrupt)?
    };
    let mut site = Site::start(binaries, folder, recorded, interrupt)?;
    let idle = site.resident_bytes();
    let started = Instant::now();
    let measured = load::run(site.coordinator, args.incidents, args.rate, interrupt, || site.check())?;
    let took = started.elapsed();
    let busy = site.resident_bytes();
    stop_all(&mut site.processes);

    let profile = if args.dev { "dev" } else { "release" };
    println!(
        "{} alerts at {} per second, {profile} build, {:.1} s in all\n",
        args.incidents,
        args.rate,
        took.as_secs_f64()
    );
    let latencies = [
        ("floor: POST, append, sync", &floor),
        ("webhook: sent to answered", &measured.answered),
        ("planned: since answered", &measured.planned_since_answered),
        ("planned: since sent", &measured.planned_since_sent),
    ];
    report::latencies(&latencies);
    report::programs(&starts, &idle, &busy);
    let document = json!({
        "bench": "loop",
        "profile": profile,
        "incidents": args.incidents,
        "per_second": args.rate,
        "seconds": took.as_secs_f64(),
        "milliseconds": latencies.iter().map(|(name, values)| (*name, report::json(values))).collect::<BTreeMap<_, _>>(),
        "start_up_milliseconds": starts,
        "resident_bytes_before": idle,
        "resident_bytes_after": busy,
    });
    println!("\n{document}");
    Ok(())
}

/// These programs and the floor.
fn build(profile: Profile, binaries: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut binaries = workspace::build_these(profile, binaries, &[])?;
    let floor = ["--package", "quell-xtask", "--features", "floor"];
    binaries.extend(workspace::build_these(profile, &["quell-floor"], &floor)?);
    Ok(binaries)
}

/// The three daemons, with sources that answer from memory.
struct Site {
    coordinator: SocketAddr,
    processes: Vec<Process>,
    _sources: recorded::Server,
}

impl Site {
    fn start(
        binaries: &BTreeMap<String, PathBuf>,
        folder: &Path,
        recorded: Recorded,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let sources = recorded::serve(recorded)?;
        let [http, grpc, diagnostic, resolution] = quell_child::free_addresses()?;
        let config = folder.join("quell.yaml");
        let data = |name: &str| json!(folder.join(name)).to_string();
        let address = sources.address;
        // Nothing is executed; everything up to the plan is as it ships, but that nothing settles and that each alert opens an incident.
        let text = format!(
            "simulator:\n  url: \"http://{address}\"\n  metrics_urls: [\"http://{address}/metrics/0\", \
             \"http://{address}/metrics/1\", \"http://{address}/metrics/2\"]\ncoordinator:\n  listen: \"{http}\"\n  \
             grpc_listen: \"{grpc}\"\n  data_dir: {}\n  diagnostic_url: \"http://{diagnostic}\"\n  resolution_url: \
             \"http://{resolution}\"\n  correlate_by: []\n  workflow:\n    settle: 0s\n    approval: 1h\ndiagnostic:\n  listen: \
             \"{diagnostic}\"\nresolution:\n  listen: \"{resolution}\"\n  data_dir: {}\n",
            data("coordinator"),
            data("resolution"),
        );
        std::fs::write(&config, text).context("cannot write quell.yaml")?;
        let mut processes = Vec::new();
        for name in ["quell-diagnostic", "quell-resolution", "quell-coordinator"] {
            let file = folder.join(format!("{name}.json"));
            let arguments =
                ["--config", &config.display().to_string(), "--address-file", &file.display().to_string()]
                    .map(str::to_owned);
            let mut process = Process::start(name, &binaries[name], &arguments, folder)?;
            process.wait_for("address file", START_WITHIN, interrupt, || file.is_file().then_some(()))?;
            processes.push(process);
        }
        Ok(Self { coordinator: http, processes, _sources: sources })
    }

    fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    fn resident_bytes(&self) -> BTreeMap<String, Option<u64>> {
        self.processes.iter().map(|process| (process.name().to_owned(), process.resident_bytes())).collect()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "compared with the times in timelines, which are this machine's too"
)]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
