//! `cargo xtask bench ingest`: how many alerts become durable per second, at which cost, beside the floor in the same run.

mod load;
mod measure;
mod payload;
mod postgres;
mod show;
mod stored;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{START_WITHIN, now};
use crate::child::{Process, stop_all};
use crate::http;
use crate::interrupt::{Interrupt, Interrupted};
use crate::workspace::Profile;
use load::{Load, Loaded};
use postgres::Cluster;

/// Flags of the measurement.
#[derive(clap::Args)]
pub(crate) struct IngestArgs {
    /// Where the coordinator keeps its data
    #[arg(long, value_enum, default_value = "embedded")]
    store: Store,
    /// How often each thing is measured; the medians count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=25))]
    runs: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// The largest number of alerts in the table of growth: 1000, and ten times as many again and again up to this
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    growth: u64,
    /// Incidents that are stored when start-up, memory and lists are measured; 0 leaves that out
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    incidents: u64,
    /// Measure what `cargo build` makes: much slower programs, much sooner
    #[arg(long)]
    dev: bool,
}

/// The backend.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    /// The journal on this machine's disk
    Embedded,
    /// A PostgreSQL server that is started for the measurement
    Postgres,
}

/// Webhooks of 20 over 16 connections, and one alert at a time over 64.
const SHAPES: [(u64, u64); 2] = [(20, 16), (1, 64)];
/// Alerts that share a group.
const GROUP: u64 = 1_000;
/// The rate at which the time to an answer is looked at.
const STEADY_PER_SECOND: f64 = 1_000.0;

pub(crate) fn run(args: &IngestArgs) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let profile = if args.dev { Profile::Dev } else { Profile::Release };
    let built = super::build(profile, &["quell-coordinator"]);
    interrupt.check()?;
    let mut folder =
        tempfile::Builder::new().prefix("quell-bench-").tempdir().context("no temporary folder")?;
    let bench = Bench { args, binaries: built?, folder: folder.path().to_owned(), interrupt };
    bench.run().inspect_err(|error| {
        if !error.is::<Interrupted>() {
            folder.disable_cleanup(true);
            eprintln!("data and logs are kept in {}", folder.path().display());
        }
    })
}

struct Bench<'a> {
    args: &'a IngestArgs,
    binaries: BTreeMap<String, PathBuf>,
    folder: PathBuf,
    interrupt: Interrupt,
}

/// One measurement.
struct Measured {
    alerts_per_second: f64,
    milliseconds: Vec<f64>,
    /// Until everything that was answered is part of incidents as well.
    processor_milliseconds_per_alert: f64,
    /// How long after the last answer that is.
    behind_seconds: f64,
}

impl Bench<'_> {
    fn run(&self) -> Result<()> {
        let cluster = match self.args.store {
            Store::Embedded => None,
            Store::Postgres => Some(Cluster::start(&self.folder)?),
        };
        let cluster = cluster.as_ref();
        let mut document = serde_json::Map::new();
        document.insert("bench".to_owned(), json!("ingest"));
        document.insert("store".to_owned(), json!(if cluster.is_some() { "postgres" } else { "embedded" }));
        document.insert("profile".to_owned(), json!(if self.args.dev { "dev" } else { "release" }));

        show::saturation_head(self.args.runs, self.args.seconds);
        let mut saturation = Vec::new();
        for (batch, connections) in SHAPES {
            let (mut floors, mut ours) = (Vec::new(), Vec::new());
            // Turn by turn, so that a slow minute of the machine is everybody's.
            for run in 0..self.args.runs {
                self.interrupt.check()?;
                let name = format!("{batch}-{run}");
                floors.push(match cluster {
                    Some(cluster) => cluster.floor(&name, batch, connections, self.args.seconds)?,
                    None => self.floor(&name, batch, connections)?,
                });
                ours.push(self.coordinator(&name, cluster, batch, connections, None)?);
            }
            saturation.push(show::saturation(batch, &floors, &ours));
        }
        document.insert("saturation".to_owned(), json!(saturation));

        let mut steady = Vec::new();
        for run in 0..self.args.runs {
            let rate = Some(STEADY_PER_SECOND);
            steady.push(self.coordinator(&format!("steady-{run}"), cluster, 1, 16, rate)?);
        }
        document.insert("steady".to_owned(), show::steady(STEADY_PER_SECOND, &steady));

        document.insert("growth".to_owned(), stored::growth(self, cluster)?);
        if self.args.incidents > 0 {
            document.insert("stored".to_owned(), stored::incidents(self, cluster)?);
        }
        println!("\n{}", serde_json::Value::Object(document));
        Ok(())
    }

    fn load(&self, batch: u64, connections: u64, webhooks_per_second: Option<f64>) -> Load {
        Load {
            batch,
            connections,
            webhooks_per_second,
            first: 0,
            alerts_max: u64::MAX / 2,
            within: Duration::from_secs(self.args.seconds),
            group: GROUP,
            at: now(),
            resolved: false,
        }
    }

    fn floor(&self, name: &str, batch: u64, connections: u64) -> Result<Measured> {
        let folder = self.folder.join(format!("floor-{name}"));
        std::fs::create_dir(&folder)?;
        let program = &self.binaries["quell-floor"];
        let mut server = Process::start("quell-floor", program, &["data".to_owned()], &folder)?;
        let line = server.wait_for_line(START_WITHIN, &self.interrupt)?;
        let address = line.parse().context("the floor's address")?;
        let load = self.load(batch, connections, None);
        let pids = [server.id()];
        let measured =
            self.measure(&pids, || Ok((load::run(address, "/", load, &self.interrupt)?, Duration::ZERO)));
        stop_all(&mut vec![server]);
        std::fs::remove_dir_all(&folder)?;
        measured
    }

    fn coordinator(
        &self,
        name: &str,
        cluster: Option<&Cluster>,
        batch: u64,
        connections: u64,
        alerts_per_second: Option<f64>,
    ) -> Result<Measured> {
        let mut server = self.start(name, cluster)?;
        let load = self.load(batch, connections, alerts_per_second.map(|rate| rate / batch as f64));
        let address = server.http;
        let pids = server.pids(cluster)?;
        let measured = self.measure(&pids, || {
            let loaded = load::run(address, WEBHOOK, load, &self.interrupt)?;
            let answered = Instant::now();
            stored::wait(self, &mut server, "alerts are correlated", loaded.alerts, Server::correlated)?;
            Ok((loaded, answered.elapsed()))
        });
        server.process.check()?;
        server.stop()?;
        measured
    }

    /// Measures a load; with it comes how long after the last answer everything was done.
    fn measure(&self, pids: &[u32], load: impl FnOnce() -> Result<(Loaded, Duration)>) -> Result<Measured> {
        let used = || pids.iter().map(|pid| measure::processor_milliseconds(*pid)).sum::<Result<f64>>();
        let before = used()?;
        let (loaded, behind) = load()?;
        let processor_milliseconds = used()? - before;
        Ok(Measured {
            alerts_per_second: loaded.alerts_per_second(),
            processor_milliseconds_per_alert: processor_milliseconds / loaded.alerts as f64,
            milliseconds: loaded.milliseconds,
            behind_seconds: behind.as_secs_f64(),
        })
    }

    /// A coordinator with an empty store. Nobody diagnoses here: what is measured is taking alerts and making incidents of them.
    fn start(&self, name: &str, cluster: Option<&Cluster>) -> Result<Server> {
        let folder = self.folder.join(format!("coordinator-{name}"));
        std::fs::create_dir(&folder)?;
        let database = match cluster {
            Some(cluster) => Some(cluster.database(&format!("quell_{}", name.replace('-', "_")))?),
            None => None,
        };
        let [http, grpc, nobody] = quell_child::free_addresses()?;
        let nobody = format!("http://{nobody}");
        let mut settings = json!({
            "listen": http, "grpc_listen": grpc, "data_dir": folder.join("data"),
            "diagnostic_url": nobody, "resolution_url": nobody,
            "workflow": {"quiet_before_close": "1s"},
        });
        if let Some(database) = database {
            settings["database_url"] = json!(database);
        }
        // YAML takes JSON as it is.
        std::fs::write(folder.join("quell.yaml"), json!({"coordinator": settings}).to_string())?;
        let process = self.start_again(&folder)?;
        Ok(Server { process, http, folder })
    }

    /// Starts a program on a folder that is there, and waits until it listens.
    fn start_again(&self, folder: &Path) -> Result<Process> {
        let file = folder.join("addresses.json");
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
        let arguments = [
            "--config",
            &folder.join("quell.yaml").display().to_string(),
            "--address-file",
            &file.display().to_string(),
        ]
        .map(str::to_owned);
        let program = &self.binaries["quell-coordinator"];
        let mut process = Process::start("quell-coordinator", program, &arguments, folder)?;
        process.wait_for("address file", START_WITHIN, &self.interrupt, || file.is_file().then_some(()))?;
        Ok(process)
    }
}

const WEBHOOK: &str = "/webhooks/alertmanager";

/// A coordinator under measurement.
struct Server {
    process: Process,
    http: SocketAddr,
    folder: PathBuf,
}

impl Server {
    /// Whose processor time counts.
    fn pids(&self, cluster: Option<&Cluster>) -> Result<Vec<u32>> {
        let mut pids = vec![self.process.id()];
        if let Some(cluster) = cluster {
            pids.push(cluster.pid()?);
        }
        Ok(pids)
    }

    fn stop(self) -> Result<()> {
        stop_all(&mut vec![self.process]);
        std::fs::remove_dir_all(&self.folder).context("cannot clean up")
    }

    /// How many of the alerts that were received are part of incidents.
    fn correlated(&self) -> Result<u64> {
        let answer = http::request(self.http, "GET", "/metrics", None)?;
        let line = answer.body.lines().find_map(|line| line.strip_prefix("quell_alerts_correlated_total "));
        Ok(line.context("/metrics says nothing of correlation")?.parse()?)
    }

    /// How many incidents there are.
    fn incidents(&self, query: &str) -> Result<u64> {
        let path = format!("/api/incidents?limit=1{query}");
        let answer = http::request(self.http, "GET", &path, None)?;
        answer.total.with_context(|| format!("GET {path} answered {}: {}", answer.status, answer.body))
    }
}
