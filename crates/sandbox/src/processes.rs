//! A whole site of real processes: what people run, with a generated configuration, killed with SIGKILL and started again on the same
//! data and addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use quell_child::{Manner, Process, bound, free_addresses};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ask::{Asking, until};
use crate::pair::{Also, Pair, Programs};
use crate::{Part, SandboxError};

/// How long a process may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);
/// What a daemon ends with when something has its address, which is over in a moment.
const ADDRESS_TAKEN: i32 = quell_service::Exit::Address as i32;
/// Metrics pages that the agents read until there is something to compare a fault with: about fifteen of each exporter by both.
const PAGES_READ: u64 = 90;
const SIMULATOR: &str = "quell-simulator";
/// The log lines of the simulated infrastructure, in the site's folder.
const WORLD_LOG: &str = "world.jsonl";

/// What a site of processes is started with.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions {
    /// A real Prometheus, which the agents then read, and a real Alertmanager, at which the coordinator then reads alerts again.
    /// Without them the simulator raises its alerts itself, and the agents scrape it.
    pub pair: Option<Programs>,
    /// An exporter for the pair to scrape beside the simulator's.
    pub also: Option<Also>,
    /// Texts of the generated configuration to be replaced by others, in order.
    pub replacements: Vec<(&'static str, &'static str)>,
}

/// A site that runs. Dropping it kills all of it and removes its folder.
pub struct Processes {
    binaries: &'static Path,
    asking: Asking,
    coordinator: SocketAddr,
    simulator: SocketAddr,
    pair: Option<Pair>,
    parts: BTreeMap<Part, Process>,
    world: Process,
    folder: TempDir,
}

impl Processes {
    /// Starts a site and waits until all of it listens and has something to compare a fault with. Actions are switched on and need no approval.
    ///
    /// # Errors
    /// [`SandboxError`]; then nothing is left running.
    pub async fn start(options: &ProcessOptions) -> Result<Self, SandboxError> {
        let ground = |error: std::io::Error| SandboxError::Ground(error.to_string());
        let binaries = binaries()?;
        let folder = TempDir::new().map_err(ground)?;
        let addresses: [SocketAddr; 4] = free_addresses()?;
        let coordinator = addresses[0];
        let webhook_url = format!("http://{coordinator}/webhooks/alertmanager");
        let own_alerts = options.pair.is_none().then_some(webhook_url.as_str());
        let mut world = start_simulator(binaries, folder.path(), own_alerts)?;
        let exporters = simulator_addresses(&mut world, folder.path()).await?;
        let pair = match &options.pair {
            Some(programs) => {
                let also = options.also.as_ref();
                Some(Pair::start(programs, folder.path(), exporters, also, &webhook_url).await?)
            }
            None => None,
        };
        let mut config = config(folder.path(), exporters, addresses, pair.as_ref());
        for (text, instead) in &options.replacements {
            if !config.contains(text) {
                return Err(SandboxError::Ground(format!("the configuration has no `{text}` to replace")));
            }
            config = config.replace(text, instead);
        }
        std::fs::write(folder.path().join("quell.yaml"), config).map_err(ground)?;
        let mut site = Self {
            binaries,
            asking: Asking::new()?,
            coordinator,
            simulator: exporters[0],
            pair,
            parts: BTreeMap::new(),
            world,
            folder,
        };
        for part in Part::ALL {
            site.launch(part)?;
        }
        site.ready().await?;
        if site.pair.is_none() {
            site.watched().await?;
        }
        Ok(site)
    }

    /// Kills a part with SIGKILL; it is gone when this returns.
    pub fn kill(&mut self, part: Part) {
        self.parts.remove(&part);
    }

    /// Starts a part on its data and addresses, without waiting for it to be ready. One that runs is killed before.
    ///
    /// # Errors
    /// [`SandboxError::Ground`]
    pub fn launch(&mut self, part: Part) -> Result<(), SandboxError> {
        self.kill(part);
        let name = name(part);
        let listening = self.address_file(part);
        // The one that was killed could not remove it.
        let _ = std::fs::remove_file(&listening);
        let arguments =
            ["--config", "quell.yaml", "--log-format", "human", "--address-file"].map(str::to_owned);
        let mut arguments = arguments.to_vec();
        arguments.push(listening.display().to_string());
        let program = self.binaries.join(name);
        let process = Process::start(name, &program, &arguments, self.folder.path(), Manner::default())?;
        self.parts.insert(part, process);
        Ok(())
    }

    /// Waits until every part listens.
    ///
    /// # Errors
    /// [`SandboxError::Start`] with its last words for a part that ended by itself, or does not listen in time.
    pub async fn ready(&mut self) -> Result<(), SandboxError> {
        let started = Instant::now();
        for part in Part::ALL {
            let listening = self.address_file(part);
            while !listening.is_file() {
                let Some(process) = self.parts.get_mut(&part) else {
                    return Err(SandboxError::Start {
                        part,
                        why: "it was killed and not launched".to_owned(),
                    });
                };
                let late = started.elapsed() > LISTENS_WITHIN;
                match process.ended() {
                    // Somebody's connection goes out from the very port, which was free while the part was down.
                    Some(status) if status.code() == Some(ADDRESS_TAKEN) && !late => self.launch(part)?,
                    Some(status) => {
                        let why = format!("it ended by itself, {status}; {}", process.last_words());
                        return Err(SandboxError::Start { part, why });
                    }
                    None if late => return Err(SandboxError::Start { part, why: process.last_words() }),
                    None => {}
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// Waits until the agents, where they scrape the simulator themselves, have done so a few times more: one that was killed has
    /// forgotten what was before, and a diagnosis compares with that.
    ///
    /// # Errors
    /// [`SandboxError::Late`]
    pub async fn watched(&self) -> Result<(), SandboxError> {
        let url = self.simulator_url("/health");
        let read = async || -> Result<u64, String> {
            let health = self.asking.get(&url).await.map_err(|error| error.to_string())?;
            health["scrapes"].as_u64().ok_or_else(|| health.to_string())
        };
        let before = until("the simulator's health", LISTENS_WITHIN, read).await?;
        let enough = async || {
            let since = read().await? - before;
            if since >= PAGES_READ { Ok(()) } else { Err(format!("{since} pages were read")) }
        };
        until("the agents to scrape", LISTENS_WITHIN, enough).await
    }

    /// Asks this site's programs.
    pub fn asking(&self) -> &Asking {
        &self.asking
    }

    /// The coordinator's address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.coordinator)
    }

    /// The simulator's address of a path.
    pub fn simulator_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.simulator)
    }

    /// The real Prometheus and Alertmanager.
    pub fn pair(&self) -> Option<&Pair> {
        self.pair.as_ref()
    }

    /// Triggers a fault, which lasts until it is healed.
    ///
    /// # Errors
    /// [`SandboxError::Request`]
    pub async fn trigger(&self, scenario: &str) -> Result<(), SandboxError> {
        let url = self.simulator_url(&format!("/trigger/{scenario}"));
        self.asking.json(reqwest::Method::POST, &url, Some(&json!({}))).await.map(drop)
    }

    /// What was done to the simulated infrastructure, without what a person did to play with it.
    ///
    /// # Errors
    /// [`SandboxError::Request`]
    pub async fn actions(&self) -> Result<Vec<Value>, SandboxError> {
        let actions = self.asking.get(&self.simulator_url("/actions")).await?;
        Ok(actions.as_array().cloned().unwrap_or_default())
    }

    /// Every incident with its timeline.
    ///
    /// # Errors
    /// [`SandboxError::Request`], also while the coordinator is down.
    pub async fn incidents(&self) -> Result<Vec<Value>, SandboxError> {
        let listed = self.asking.get(&self.url("/api/incidents")).await?;
        let mut incidents = Vec::new();
        for incident in listed.as_array().into_iter().flatten() {
            let id = incident["id"].as_str().unwrap_or_default();
            incidents.push(self.asking.get(&self.url(&format!("/api/incidents/{id}"))).await?);
        }
        Ok(incidents)
    }

    /// Waits until an incident is as wanted.
    ///
    /// # Errors
    /// What was waited for, and what the incidents were like at last.
    pub async fn incident(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, SandboxError> {
        until(what, within, async || {
            let incidents = self.incidents().await.map_err(|error| error.to_string())?;
            incidents.iter().find(|one| wanted(one)).cloned().ok_or_else(|| told(&incidents))
        })
        .await
    }

    fn address_file(&self, part: Part) -> PathBuf {
        self.folder.path().join(format!("{}.json", name(part)))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in self.parts.values().chain([&self.world]) {
                #[allow(
                    clippy::print_stderr,
                    reason = "the test has failed, and the logs go with the folder"
                )]
                {
                    eprintln!("{}", process.last_words());
                }
            }
        }
    }
}

/// Incidents as lines for people: title, phase, summary, timeline.
pub fn told(incidents: &[Value]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    for incident in incidents {
        let (id, title) = (text(&incident["id"]), text(&incident["title"]));
        lines.push(format!("{id} {title}: {}, {}", text(&incident["phase"]), text(&incident["summary"])));
        for line in incident["timeline"].as_array().into_iter().flatten() {
            lines.push(format!("    {} {}", text(&line["at"]), text(&line["text"])));
        }
    }
    lines.join("\n")
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Coordinator => "quell-coordinator",
        Part::Diagnostic => "quell-diagnostic",
        Part::Resolution => "quell-resolution",
    }
}

/// The folder of the binaries, which are built before: once per process, and nothing when they are fresh. A test must not speak of
/// yesterday's programs.
fn binaries() -> Result<&'static Path, SandboxError> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(build).as_deref().map_err(|why| SandboxError::Ground(why.clone()))
}

fn build() -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    // <target>/<profile>/deps/<this test>
    let [_, profile_folder, target] = [0, 1, 2].map(|up| executable.ancestors().nth(up + 1));
    let (Some(profile_folder), Some(target)) = (profile_folder, target) else {
        return Err(format!("{} is in no target folder", executable.display()));
    };
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut command = bound(Path::new(env!("CARGO")), None);
    command.args(["build", "--quiet", "--profile", profile, "--target-dir"]).arg(target);
    for binary in Part::ALL.map(name).iter().chain([&SIMULATOR]) {
        command.args(["--bin", binary]);
    }
    // Chosen by binary and not by package: these are the same builds as those of the whole workspace.
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let output = command.output().map_err(|error| format!("{} does not start: {error}", env!("CARGO")))?;
    if !output.status.success() {
        return Err(format!("the binaries do not build: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(profile_folder.to_owned())
}

fn start_simulator(binaries: &Path, folder: &Path, alerts_to: Option<&str>) -> Result<Process, SandboxError> {
    let mut arguments =
        vec!["--metrics-port", "0", "--tick", "100ms", "--address-file", "quell-simulator.json"];
    arguments.extend(["--log-file", WORLD_LOG]);
    if let Some(url) = alerts_to {
        arguments.extend(["--alerts", url, "--alerts-for", "1s", "--alerts-interval", "100ms"]);
    }
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    Ok(Process::start(SIMULATOR, &binaries.join(SIMULATOR), &arguments, folder, Manner::default())?)
}

async fn simulator_addresses(world: &mut Process, folder: &Path) -> Result<[SocketAddr; 3], SandboxError> {
    let file = folder.join("quell-simulator.json");
    let addresses = until("the simulator to listen", LISTENS_WITHIN, async || {
        let text = std::fs::read_to_string(&file).map_err(|_| world.last_words())?;
        let told: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let address =
            |index: usize| -> Option<SocketAddr> { told["addresses"][index].as_str()?.parse().ok() };
        match (address(0), address(1), address(2)) {
            (Some(database), Some(application), Some(gateway)) => Ok([database, application, gateway]),
            _ => Err(text),
        }
    });
    addresses.await
}

fn config(
    folder: &Path,
    exporters: [SocketAddr; 3],
    [http, grpc, diagnostic, resolution]: [SocketAddr; 4],
    pair: Option<&Pair>,
) -> String {
    let pages: Vec<_> = exporters.iter().map(|address| format!("\"http://{address}/metrics\"")).collect();
    let data = |name: &str| json!(folder.join(name)).to_string();
    let (sources, log_files) = match pair {
        Some(pair) => (
            format!(
                "use_real_data: true
infrastructure: {{monitoring: {{prometheus: {{url: \"http://{}\", alert_manager_url: \"http://{}\"}}}}}}\n",
                pair.prometheus(),
                pair.alertmanager(),
            ),
            format!(", log_files: [{}]", data(WORLD_LOG)),
        ),
        None => (String::new(), String::new()),
    };
    format!(
        "{sources}agents: {{resolution: {{execute_real_commands: true, require_approval: false, dry_run: false}}}}
simulator: {{url: \"http://{}\", metrics_urls: [{}]}}
coordinator:
  listen: \"{http}\"
  grpc_listen: \"{grpc}\"
  data_dir: {}
  diagnostic_url: \"http://{diagnostic}\"
  resolution_url: \"http://{resolution}\"
  autonomy: auto
  workflow: {{settle: 200ms, verify_interval: 200ms, quiet_before_close: 500ms, hold_look_again: 200ms, check_patience: 10s,
    agent_backoff: 200ms, agent_retries_max: 10, verification_grace: 60s, step_grace: 2s, probe: 30s}}
diagnostic: {{listen: \"{diagnostic}\", scrape_interval: 200ms, history: 5m{log_files}}}
resolution: {{listen: \"{resolution}\", data_dir: {}}}
",
        exporters[0],
        pages.join(", "),
        data("coordinator"),
        data("resolution"),
    )
}
