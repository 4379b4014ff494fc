//! Starting, killing and asking a site.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quell_child::{ChildError, free_addresses};
use quell_service::{Config, Environment, FaultPoints, Handle, Loading, SystemClock, SystemIds};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::options::{Options, Part};

/// How long a part may take to start.
const START_WITHIN: Duration = Duration::from_secs(20);
/// Metrics pages that the agents have read before a fault may be triggered: about fifteen of each exporter.
const SCRAPES_BEFORE: u64 = 90;
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a site, or a part of it, did not start or do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A part did not start.
    #[error("the {part:?} did not start: {why}")]
    Start {
        /// Which.
        part: Part,
        /// Why.
        why: String,
    },
    /// The ground under it.
    #[error("the sandbox could not be laid out: {0}")]
    Ground(String),
    /// A request failed.
    #[error("{what}: {why}")]
    Request {
        /// What was asked.
        what: String,
        /// What went wrong.
        why: String,
    },
    /// Something that was waited for did not happen.
    #[error("waited {} s for {what}; last seen: {last}", within.as_secs())]
    Late {
        /// For what.
        what: String,
        /// How long.
        within: Duration,
        /// What was there instead.
        last: String,
    },
}

impl From<ChildError> for SandboxError {
    fn from(error: ChildError) -> Self {
        Self::Ground(error.to_string())
    }
}

/// A site that runs. Dropping it kills everything and removes its folder.
pub struct Sandbox {
    folder: TempDir,
    options: Options,
    config: String,
    coordinator: SocketAddr,
    grpc: SocketAddr,
    agents: HashMap<Part, SocketAddr>,
    simulator: Option<Runtime>,
    control: SocketAddr,
    parts: HashMap<Part, Runtime>,
    client: reqwest::Client,
}

impl Sandbox {
    /// Starts a site.
    ///
    /// # Errors
    /// [`SandboxError`] when a part does not start; then nothing is left running.
    pub async fn start(options: Options) -> Result<Self, SandboxError> {
        let ground = |error: &dyn std::fmt::Display| SandboxError::Ground(error.to_string());
        let folder = TempDir::new().map_err(|error| ground(&error))?;
        let [http, grpc, diagnostic, resolution] = free_addresses()?;
        let simulator = runtime("simulator").map_err(|error| ground(&error))?;
        let control = start_simulator(&simulator, &options, http).await?;
        let config = config(&options, folder.path(), &control, [http, grpc, diagnostic, resolution]);
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build();
        let client = client.map_err(|error| ground(&error))?;
        let mut sandbox = Self {
            folder,
            options,
            config,
            coordinator: http,
            grpc,
            agents: HashMap::from([(Part::Diagnostic, diagnostic), (Part::Resolution, resolution)]),
            simulator: Some(simulator),
            control: control[0],
            parts: HashMap::new(),
            client,
        };
        for part in sandbox.options.parts.clone() {
            sandbox.restart(part).await?;
        }
        if sandbox.parts.contains_key(&Part::Diagnostic) {
            sandbox.until_there_is_a_before().await?;
        }
        Ok(sandbox)
    }

    /// A diagnosis compares with the time before the fault, so there must have been one.
    async fn until_there_is_a_before(&self) -> Result<(), SandboxError> {
        let started = Instant::now();
        loop {
            let scrapes = self.simulator("/health").await?["scrapes"].as_u64().unwrap_or(0);
            if scrapes >= SCRAPES_BEFORE {
                return Ok(());
            }
            if started.elapsed() > START_WITHIN {
                let what = "the diagnostic agent to scrape".to_owned();
                return Err(SandboxError::Late {
                    what,
                    within: START_WITHIN,
                    last: format!("{scrapes} scrapes"),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Kills a part where it stands.
    pub fn kill(&mut self, part: Part) {
        if let Some(runtime) = self.parts.remove(&part) {
            runtime.shutdown_background();
        }
    }

    /// Lets a part stand still, as a stopped process does, until what this returns is dropped: the one thread that does its work is
    /// blocked. It stands when this returns.
    ///
    /// # Errors
    /// [`SandboxError::Ground`] when it does not run.
    pub async fn stop(&self, part: Part) -> Result<Stopped, SandboxError> {
        let ground = || SandboxError::Ground(format!("the {part:?} does not run"));
        let runtime = self.parts.get(&part).ok_or_else(ground)?;
        let (until, dropped) = std::sync::mpsc::channel();
        let (told, stands) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let _ = told.send(());
            // Ends by the other end's being dropped: nothing is ever sent.
            let _ = dropped.recv();
        });
        stands.await.map_err(|_| ground())?;
        Ok(Stopped { _until: until })
    }

    /// Starts a part that was killed, on its data and address, without fault points from then on if it had crashed at one.
    ///
    /// # Errors
    /// [`SandboxError::Start`]
    pub async fn restart(&mut self, part: Part) -> Result<(), SandboxError> {
        self.kill(part);
        let faults = self.options.faults.get(&part).cloned().unwrap_or_default();
        let faults = if faults.crashed_at().is_some() { FaultPoints::disabled() } else { faults };
        let failed = |why: String| SandboxError::Start { part, why };
        let started = Instant::now();
        loop {
            let runtime = runtime("quell").map_err(|error| failed(error.to_string()))?;
            match self.start_part(&runtime, part, faults.clone()).await {
                Ok(()) => {
                    self.parts.insert(part, runtime);
                    return Ok(());
                }
                // The killed one may hold its folder or address for a moment longer.
                Err(why) if started.elapsed() > START_WITHIN => {
                    runtime.shutdown_background();
                    return Err(failed(why));
                }
                Err(_) => {
                    runtime.shutdown_background();
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    async fn start_part(&self, runtime: &Runtime, part: Part, faults: FaultPoints) -> Result<(), String> {
        let loading =
            Loading { daemon: Some(part.daemon()), file: None, environment: Environment::default() };
        let config = loading.load_text(&self.config, |_| ()).map_err(|error| error.to_string())?;
        let (told, started) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            // The daemon lives as long as this task, which ends with the runtime.
            let _daemon: Box<dyn std::any::Any + Send> =
                match Box::pin(start_daemon(part, config, faults)).await {
                    Ok(daemon) => daemon,
                    Err(why) => {
                        let _ = told.send(Err(why));
                        return;
                    }
                };
            let _ = told.send(Ok(()));
            std::future::pending::<()>().await;
        });
        started.await.unwrap_or_else(|_| Err("it panicked".to_owned()))
    }

    /// Where the API is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.coordinator)
    }

    /// Where the simulator's control interface is.
    pub fn simulator_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// Where A2A is.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where an agent of this site is.
    ///
    /// # Errors
    /// [`SandboxError::Ground`] for the coordinator, which is none.
    pub fn agent(&self, part: Part) -> Result<SocketAddr, SandboxError> {
        let none = || SandboxError::Ground(format!("the {part:?} is no agent"));
        self.agents.get(&part).copied().ok_or_else(none)
    }

    /// The site's folder, for what a test wants to put or see there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The client that requests are made with.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    async fn request(&self, what: String, request: reqwest::RequestBuilder) -> Result<Value, SandboxError> {
        let failed =
            |error: reqwest::Error| SandboxError::Request { what: what.clone(), why: error.to_string() };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let text = response.text().await.map_err(failed)?;
        if !status.is_success() {
            return Err(SandboxError::Request { what, why: format!("{status} {text}") });
        }
        serde_json::from_str(&text).map_err(|error| SandboxError::Request { what, why: error.to_string() })
    }

    /// `GET` of the coordinator.
    ///
    /// # Errors
    /// [`SandboxError::Request`]
    pub async fn get(&self, path: &str) -> Result<Value, SandboxError> {
        self.request(format!("GET {path}"), self.client.get(self.url(path))).await
    }

    /// `POST` to the coordinator.
    ///
    /// # Errors
    /// [`SandboxError::Request`]
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, SandboxError> {
        self.request(format!("POST {path}"), self.client.post(self.url(path)).json(body)).await
    }

    /// `GET` of the simulator.
    ///
    /// # Errors
    /// [`SandboxError::Request`]
    pub async fn simulator(&self, path: &str) -> Result<Value, SandboxError> {
        let url = format!("http://{}{path}", self.control);
        self.request(format!("GET {path} of the simulator"), self.client.get(url)).await
    }

    /// Triggers a fault, which ends by itself after `seconds` if they are given.
    ///
    /// # Errors
    /// [`SandboxError::Request`]
    pub async fn trigger(&self, scenario: &str, seconds: Option<f64>) -> Result<(), SandboxError> {
        let url = format!("http://{}/trigger/{scenario}", self.control);
        let body = seconds.map_or_else(|| json!({}), |seconds| json!({"duration": seconds}));
        self.request(format!("trigger {scenario}"), self.client.post(url).json(&body)).await.map(drop)
    }

    /// What was done to the simulator, without what a person did to play with it.
    ///
    /// # Errors
    /// [`SandboxError::Request`]
    pub async fn actions(&self) -> Result<Vec<Value>, SandboxError> {
        let actions = self.simulator("/actions").await?;
        Ok(actions.as_array().cloned().unwrap_or_default())
    }

    /// Waits until an incident is as wanted, and returns it with its timeline.
    ///
    /// # Errors
    /// [`SandboxError::Late`], with what was there instead.
    pub async fn incident(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, SandboxError> {
        let started = Instant::now();
        loop {
            // A coordinator that is down at the moment answers later.
            let incidents = self.get("/api/incidents?view=full").await.ok();
            let incidents = incidents.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(found) = incidents.iter().find(|incident| wanted(incident)) {
                let id = found["id"].as_str().unwrap_or_default();
                if let Ok(incident) = self.get(&format!("/api/incidents/{id}")).await {
                    return Ok(incident);
                }
            }
            if started.elapsed() > within {
                return Err(SandboxError::Late {
                    what: what.to_owned(),
                    within,
                    last: self.last_seen(&incidents).await,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn last_seen(&self, incidents: &[Value]) -> String {
        let mut seen = Vec::new();
        for incident in incidents {
            let id = incident["id"].as_str().unwrap_or_default();
            let whole = self.get(&format!("/api/incidents/{id}")).await.unwrap_or(Value::Null);
            let lines = whole["timeline"].as_array().cloned().unwrap_or_default();
            let lines: Vec<_> = lines
                .iter()
                .map(|line| {
                    format!(
                        "    {} {}",
                        line["at"].as_str().unwrap_or_default(),
                        line["text"].as_str().unwrap_or_default()
                    )
                })
                .collect();
            let looked_at = &whole["diagnostics"];
            seen.push(format!(
                "\n  {} {} {}\n{}\n    claims {}\n    unavailable {}",
                incident["title"],
                incident["phase"],
                incident["summary"],
                lines.join("\n"),
                looked_at["claims"],
                looked_at["unavailable"],
            ));
        }
        seen.join("")
    }
}

/// A part that stands still. Dropping this lets it go on.
#[must_use]
pub struct Stopped {
    _until: std::sync::mpsc::Sender<()>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for part in Part::ALL {
            self.kill(part);
        }
        if let Some(simulator) = self.simulator.take() {
            simulator.shutdown_background();
        }
    }
}

async fn start_daemon(
    part: Part,
    config: Config,
    faults: FaultPoints,
) -> Result<Box<dyn std::any::Any + Send>, String> {
    fn boxed<H: Handle + 'static, E: std::error::Error>(
        started: Result<H, E>,
    ) -> Result<Box<dyn std::any::Any + Send>, String> {
        started
            .map(|daemon| Box::new(daemon) as Box<dyn std::any::Any + Send>)
            .map_err(|error| error.to_string())
    }
    let clock = Arc::new(SystemClock);
    let ids = Arc::new(SystemIds::new(clock.clone()));
    match part {
        Part::Coordinator => {
            boxed(quell_coordinator::start(quell_coordinator::Setup { config, clock, ids, faults }).await)
        }
        // It keeps nothing and changes nothing, so it has no points of its own.
        Part::Diagnostic => {
            boxed(quell_diagnostic::start(quell_diagnostic::Setup { config, clock, ids }).await)
        }
        Part::Resolution => {
            boxed(quell_resolution::start(quell_resolution::Setup { config, clock, ids, faults }).await)
        }
    }
}

fn runtime(name: &str) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        // One, so that blocking it stops all of the part.
        .worker_threads(1)
        .max_blocking_threads(8)
        .thread_name(name)
        .enable_all()
        .build()
}

async fn start_simulator(
    runtime: &Runtime,
    options: &Options,
    coordinator: SocketAddr,
) -> Result<[SocketAddr; 3], SandboxError> {
    use quell_service::Clock as _;

    let mut config = quell_simulator::Config::new(Arc::new(|| SystemClock.now()));
    config.metrics_port = 0;
    config.tick = options.tick;
    let mut alerts =
        quell_simulator::AlertsConfig::new(format!("http://{coordinator}/webhooks/alertmanager"));
    alerts.hold = options.alerts_hold;
    alerts.interval = options.tick;
    config.alerts = Some(alerts);
    let (told, started) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        match quell_simulator::start(config).await {
            Ok(handle) => {
                let _ = told.send(Ok(handle.addresses()));
                std::future::pending::<()>().await;
            }
            Err(error) => {
                let _ = told.send(Err(error.to_string()));
            }
        }
    });
    let started = started.await.unwrap_or_else(|_| Err("it panicked".to_owned()));
    started.map_err(|why| SandboxError::Ground(format!("the simulator did not start: {why}")))
}

fn config(options: &Options, folder: &Path, control: &[SocketAddr; 3], ports: [SocketAddr; 4]) -> String {
    let [http, grpc, diagnostic, resolution] = ports;
    let metrics: Vec<_> = control.iter().map(|address| format!("\"http://{address}/metrics\"")).collect();
    let data = |name: &str| -> PathBuf { folder.join(name) };
    let url_of = |part: Part, own: SocketAddr| {
        options.agent_urls.get(&part).cloned().unwrap_or_else(|| format!("http://{own}"))
    };
    let (diagnostic_url, resolution_url) =
        (url_of(Part::Diagnostic, diagnostic), url_of(Part::Resolution, resolution));
    let automatic = options.automatic;
    let autonomy = if automatic { "auto" } else { "approve" };
    let switches = if automatic {
        "agents: {resolution: {execute_real_commands: true, require_approval: false, dry_run: false}}\n"
    } else {
        ""
    };
    let own = format!(
        "simulator: {{url: \"http://{}\", metrics_urls: [{}]}}
coordinator:
  listen: {http}
  grpc_listen: {grpc}
  data_dir: \"{}\"
  diagnostic_url: \"{diagnostic_url}\"
  resolution_url: \"{resolution_url}\"
  autonomy: {autonomy}
  workflow: {{settle: 200ms, verify_interval: 200ms, quiet_before_close: 500ms, hold_look_again: 200ms, check_patience: 10s,
    agent_backoff: 200ms, agent_retries_max: 10, verification_grace: 60s, step_grace: 2s, probe: 30s}}
diagnostic: {{listen: \"{diagnostic}\", scrape_interval: 100ms, history: 5m}}
resolution: {{listen: \"{resolution}\", data_dir: \"{}\"}}
",
        control[0],
        metrics.join(", "),
        data("coordinator").display(),
        data("resolution").display(),
    );
    let mut config = format!("{own}{switches}");
    for (text, by) in &options.replacements {
        config = config.replace(text, by);
    }
    config
}
