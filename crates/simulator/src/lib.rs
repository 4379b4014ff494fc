//! A small fake infrastructure whose faults can be triggered, and which really heals only by the right action.
//!
//! It serves Prometheus metrics on three ports (database, application and gateway exporters) and a control interface on
//! the first: `GET /scenarios`, `POST /trigger/{scenario}`, `POST /resolve`, `GET /targets[/{name}]`, the operations
//! below `/targets/{name}/`, `GET /actions`, `GET /logs`, `GET /health`, `GET /live`. With `--alerts` it also evaluates the shipped
//! alert rules over itself and posts Alertmanager webhooks, so that a demonstration needs nothing else.
//!
//! | fault | cause | healed by |
//! |---|---|---|
//! | `database_timeout` | connection_timeout and pool_size of db-server-01 are 10 | both raised to 30 and 20, then order_service restarted |
//! | `memory_leak` | order_service never evicts | restart of order_service |
//! | `high_cpu` | a runaway job in order_service | 4 replicas or more, or the job stopped |
//! | `api_503` | catalog_service hangs | restart of catalog_service, or 4 replicas of the gateway |
//! | `disk_full` | old logs on /data of storage-node-01 | clean-up of /data |
//! | `certificate_expiry` | api.example.com was not renewed | renewal |
//! | `kafka_lag` | one worker of email-service | 6 replicas or more |
//! | `postgres_connections` | idle sessions | ending them |
//!
//! [`world`] is the infrastructure, deterministic and without IO; everything else here is a thin layer around it. All
//! state is in memory and ends with the process.

mod alerts;
mod exposition;
mod http;
mod logfile;
pub mod settings;
mod simulation;
pub mod world;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quell_web::Endpoint;
use secrecy::SecretString;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use simulation::{Shared, Simulation};
use world::Exporter;

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The shortest tick.
pub const TICK_MIN: Duration = Duration::from_millis(10);
/// The longest tick.
pub const TICK_MAX: Duration = Duration::from_secs(300);

/// How long a stop waits for requests under way.
const DRAIN_SECONDS_MAX: u64 = 5;

/// What a simulator is started with.
#[derive(Clone)]
pub struct Config {
    /// The address of all three listeners. Without a token it must be a loopback address.
    pub listen: IpAddr,
    /// The first port; the next two follow. 0 takes three free ones.
    pub metrics_port: u16,
    /// How often the world moves, 10 ms to 5 min.
    pub tick: Duration,
    /// Makes the world's randomness repeatable.
    pub seed: Option<u64>,
    /// What control requests must carry as a bearer token.
    pub token: Option<SecretString>,
    /// Names by which it is called, beside those of loopback and IP addresses.
    pub allowed_hosts: Vec<String>,
    /// A file that log lines are appended to, as JSON lines.
    pub log_file: Option<PathBuf>,
    /// A file that the bound addresses are written to, as JSON.
    pub address_file: Option<PathBuf>,
    /// How long an operation takes, half of it before its effect and half after; at most 5 s.
    pub operation_time: Duration,
    /// Posts alerts like an Alertmanager.
    pub alerts: Option<AlertsConfig>,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Config {
    /// The defaults: loopback, ports 8000 to 8002, a tick of five seconds.
    #[must_use]
    pub fn new(clock: Clock) -> Config {
        Config {
            listen: IpAddr::from([127, 0, 0, 1]),
            metrics_port: 8000,
            tick: Duration::from_secs(5),
            seed: None,
            token: None,
            allowed_hosts: Vec::new(),
            log_file: None,
            address_file: None,
            operation_time: Duration::ZERO,
            alerts: None,
            clock,
        }
    }
}

/// How the simulator raises alerts by itself.
#[derive(Clone, Debug)]
pub struct AlertsConfig {
    /// Receives the webhooks, `http` or `https`.
    pub url: String,
    /// Sent as a bearer token.
    pub token: Option<SecretString>,
    /// How long a threshold must hold. It is also the look-back window of rates, which is never less than four
    /// evaluations and six ticks.
    pub hold: Duration,
    /// Time between two evaluations.
    pub interval: Duration,
    /// After this a firing alert is posted again.
    pub repeat: Duration,
}

impl AlertsConfig {
    /// The defaults for a receiver: hold 60 s, evaluation every 15 s, repeated every 12 h.
    #[must_use]
    pub fn new(url: String) -> AlertsConfig {
        AlertsConfig {
            url,
            token: None,
            hold: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            repeat: Duration::from_secs(12 * 3600),
        }
    }
}

/// Why a simulator did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting makes no sense.
    #[error("{setting} is invalid: {reason}")]
    Setting {
        /// The flag.
        setting: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Everyone could control the simulator.
    #[error(
        "refusing to listen on {listen} without a token: set --token (SIMULATOR_TOKEN) or listen on 127.0.0.1"
    )]
    Unprotected {
        /// The address.
        listen: IpAddr,
    },
    /// A port is taken or not allowed.
    #[error(
        "cannot listen on {address}: {cause}; choose other ports with --metrics-port (0 takes free ones)"
    )]
    Bind {
        /// The address with the port.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {} ({setting}): {cause}", path.display())]
    File {
        /// The flag.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The HTTP client for alerts cannot be made.
    #[error("cannot prepare the alert webhook client (--alerts): {0}")]
    Client(String),
}

/// A running simulator. Dropping it stops it without waiting.
pub struct Handle {
    addresses: [SocketAddr; 3],
    tasks: JoinSet<()>,
    stopping: DropGuard,
}

impl Handle {
    /// The bound addresses: database with the control interface, application, gateway.
    #[must_use]
    pub fn addresses(&self) -> [SocketAddr; 3] {
        self.addresses
    }

    /// Stops taking requests, lets those under way finish for at most five seconds, and ends.
    pub async fn stop(mut self) {
        self.stopping.disarm().cancel();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(DRAIN_SECONDS_MAX), drained).await.is_err() {
            tracing::warn!(seconds = DRAIN_SECONDS_MAX, "requests are still under way, stopping anyway");
            self.tasks.shutdown().await;
        }
    }
}

/// What each of the three ports answers to.
#[must_use]
pub fn endpoints() -> [Vec<Endpoint>; 3] {
    Exporter::ALL.map(|exporter| match exporter {
        Exporter::Database => http::control_routes().into_endpoints(),
        Exporter::Application | Exporter::Gateway => http::exporter_routes(exporter).into_endpoints(),
    })
}

/// Starts a simulator: checks the settings, binds all ports, then lets the world run.
///
/// # Errors
///
/// [`StartError`] names the setting or the port and what to do. Nothing is left running then.
pub async fn start(config: Config) -> Result<Handle, StartError> {
    check(&config)?;
    let listeners = bind(config.listen, config.metrics_port).await?;
    let mut addresses = [SocketAddr::new(config.listen, 0); 3];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        let bound = listener.local_addr();
        *address = bound.map_err(|cause| StartError::Bind { address: *address, cause })?;
    }
    let log_file = match &config.log_file {
        Some(path) => {
            Some(logfile::LogFile::open(path).await.map_err(|cause| file("--log-file", path, cause))?)
        }
        None => None,
    };
    let notifier = match &config.alerts {
        Some(alerts) => Some(alerts::Notifier::new(alerts, config.tick, addresses[0])?),
        None => None,
    };
    let simulation = Simulation::new(&config.clock, config.seed);
    let shared = Arc::new(Shared::new(simulation, &config));
    if let Some(path) = &config.address_file {
        write_addresses(path, &addresses).map_err(|cause| file("--address-file", path, cause))?;
    }

    let stopping = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for (listener, exporter) in listeners.into_iter().zip(Exporter::ALL) {
        let routes = match exporter {
            Exporter::Database => http::control_routes(),
            Exporter::Application | Exporter::Gateway => http::exporter_routes(exporter),
        };
        let router = http::guarded(routes, Arc::clone(&shared), &config.allowed_hosts);
        let stop = stopping.clone().cancelled_owned();
        tasks.spawn(async move {
            quell_service::serve(listener, router, stop).await;
        });
    }
    tasks.spawn(simulation::run(Arc::clone(&shared), config.tick, log_file, stopping.clone()));
    if let Some(notifier) = notifier {
        tasks.spawn(notifier.run(shared, stopping.clone()));
    }
    Ok(Handle { addresses, tasks, stopping: stopping.drop_guard() })
}

fn check(config: &Config) -> Result<(), StartError> {
    if config.token.is_none() && !config.listen.is_loopback() {
        return Err(StartError::Unprotected { listen: config.listen });
    }
    let wrong = |setting, reason: &str| Err(StartError::Setting { setting, reason: reason.to_owned() });
    if !(TICK_MIN..=TICK_MAX).contains(&config.tick) {
        return wrong("--tick", "it must be between 10ms and 5m");
    }
    if config.metrics_port > u16::MAX - 2 {
        return wrong("--metrics-port", "two more ports must follow it, so 65533 is the highest");
    }
    if let Some(alerts) = &config.alerts
        && alerts.interval < TICK_MIN
    {
        return wrong("--alerts-interval", "it must be 10ms or more");
    }
    Ok(())
}

async fn bind(listen: IpAddr, first: u16) -> Result<[TcpListener; 3], StartError> {
    let bound = async |follows: u16| {
        let port = if first == 0 { 0 } else { first + follows };
        let address = SocketAddr::new(listen, port);
        TcpListener::bind(address).await.map_err(|cause| StartError::Bind { address, cause })
    };
    Ok([bound(0).await?, bound(1).await?, bound(2).await?])
}

fn file(setting: &'static str, path: &Path, cause: std::io::Error) -> StartError {
    StartError::File { setting, path: path.to_owned(), cause }
}

/// Writes beside the file and renames, so that a reader that waits for the file never sees half of it.
fn write_addresses(path: &Path, addresses: &[SocketAddr; 3]) -> std::io::Result<()> {
    let content = json!({ "control": format!("http://{}", addresses[0]), "addresses": addresses });
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, format!("{content}\n"))?;
    std::fs::rename(&beside, path)
}
