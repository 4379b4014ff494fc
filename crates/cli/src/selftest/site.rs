//! A site of the real programs in a temporary folder, on free ports of the loopback address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quell_child::{Manner, Process, free_addresses};
use reqwest::{Client, Method};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::database::Database;
use crate::args::{CrashArgs, StoreKind};
use crate::failure::{Failure, Result};

/// How long a process may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What a daemon ends with when something has its address, which is over in a moment.
const ADDRESS_TAKEN: i32 = 3;
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Incidents in one answer.
const PAGE: usize = 1_000;
const SIMULATOR: &str = "quell-simulator";
/// Long enough to be killed in.
const OPERATION_TIME: &str = "400ms";

/// A part that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Diagnostic,
    Resolution,
    /// The first or the second one.
    Coordinator(usize),
    Database,
}

impl Part {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Diagnostic => "quell-diagnostic",
            Self::Resolution => "quell-resolution",
            Self::Coordinator(_) => "quell-coordinator",
            Self::Database => "postgres",
        }
    }

    fn name(self) -> String {
        match self {
            Self::Coordinator(number) => format!("{}-{}", self.kind(), number + 1),
            _ => self.kind().to_owned(),
        }
    }
}

/// A site that runs. Dropping it kills all of it, and removes its folder unless it is to be kept.
pub(crate) struct Site {
    programs: PathBuf,
    client: Client,
    coordinators: Vec<SocketAddr>,
    simulator: SocketAddr,
    parts: BTreeMap<Part, Process>,
    _world: Process,
    database: Option<Database>,
    folder: TempDir,
}

impl Site {
    /// Starts everything and waits until it listens. Actions are switched on and need no approval.
    ///
    /// # Errors
    /// When a program is missing, or does not start.
    pub(crate) async fn start(args: &CrashArgs) -> Result<Self> {
        let programs = programs()?;
        let ground = |error: std::io::Error| Failure::failed(format!("no temporary folder: {error}"));
        let folder = TempDir::with_prefix("quell-selftest-").map_err(ground)?;
        let database = match args.store {
            StoreKind::Embedded => None,
            StoreKind::Postgres => Some(Database::start().await?),
        };
        let all: [SocketAddr; 6] = free_addresses()?;
        let [first, first_grpc, second, second_grpc, diagnostic, resolution] = all;
        let mut world = start_simulator(&programs, folder.path(), first)?;
        let exporters = simulator_addresses(&mut world, folder.path()).await?;
        let coordinators = [(first, first_grpc), (second, second_grpc)];
        for (number, listen) in coordinators.into_iter().take(args.coordinators).enumerate() {
            let url = database.as_ref().map(Database::url);
            let text = config(folder.path(), exporters, listen, [diagnostic, resolution], url);
            std::fs::write(folder.path().join(config_name(number)), format!("{text:#}\n")).map_err(ground)?;
        }
        let client = Client::builder().timeout(ANSWER_WITHIN).build();
        let mut site = Self {
            programs,
            client: client.map_err(|error| Failure::failed(format!("no HTTP client: {error}")))?,
            coordinators: vec![first, second].into_iter().take(args.coordinators).collect(),
            simulator: exporters[0],
            parts: BTreeMap::new(),
            _world: world,
            database,
            folder,
        };
        for part in site.all_parts() {
            site.launch(part)?;
        }
        site.ready().await?;
        Ok(site)
    }

    /// Every part but the database.
    fn all_parts(&self) -> Vec<Part> {
        let coordinators = (0..self.coordinators.len()).map(Part::Coordinator);
        [Part::Diagnostic, Part::Resolution].into_iter().chain(coordinators).collect()
    }

    /// Whom to kill, those that keep something more often than those that do not.
    pub(crate) fn victims(&self) -> Vec<Part> {
        let mut victims = self.all_parts();
        victims.extend((0..self.coordinators.len()).map(Part::Coordinator));
        victims.push(Part::Resolution);
        victims.extend(self.database.iter().map(|_| Part::Database));
        victims
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder with its logs.
    pub(crate) fn keep(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// Where webhooks go.
    pub(crate) fn coordinators(&self) -> &[SocketAddr] {
        &self.coordinators
    }

    /// Kills a part with SIGKILL, the database as a crash does; it is gone when this returns.
    pub(crate) fn kill(&mut self, part: Part) {
        match (part, &mut self.database) {
            (Part::Database, Some(database)) => database.crash(),
            _ => drop(self.parts.remove(&part)),
        }
    }

    /// Starts a part on its data and addresses, without waiting for it to be ready. One that runs is killed before.
    pub(crate) fn launch(&mut self, part: Part) -> Result<()> {
        if let (Part::Database, Some(database)) = (part, &mut self.database) {
            return database.launch();
        }
        self.kill(part);
        let (name, listening) = (part.name(), self.address_file(part));
        // The one that was killed could not remove it.
        let _ = std::fs::remove_file(&listening);
        let config = match part {
            Part::Coordinator(number) => config_name(number),
            _ => config_name(0),
        };
        let address_file = listening.display().to_string();
        let arguments = ["--config", &config, "--log-format", "human", "--address-file", &address_file]
            .map(str::to_owned);
        let program = self.programs.join(part.kind());
        let process = Process::start(&name, &program, &arguments, self.folder.path(), Manner::default())?;
        self.parts.insert(part, process);
        Ok(())
    }

    /// Lets a part stand still, or go on.
    pub(crate) fn signal(&mut self, part: Part, signal: Signal) {
        if let Some(process) = self.parts.get_mut(&part) {
            process.signal(signal);
        }
    }

    /// Waits until every part listens. One that ended by itself because something it needs was away is started again, as a
    /// supervisor would.
    ///
    /// # Errors
    /// With the last words of the one that does not come up.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        if let Some(database) = &mut self.database {
            database.answers().await?;
        }
        let begun = Instant::now();
        for part in self.all_parts() {
            let listening = self.address_file(part);
            while !listening.is_file() {
                let late = begun.elapsed() > LISTENS_WITHIN;
                let ended = self.parts.get_mut(&part).map(Process::ended);
                let words = self.parts.get(&part).map(Process::last_words).unwrap_or_default();
                match ended {
                    Some(None) if !late => {}
                    // Somebody's connection may go out from the very port, which was free while the part was down.
                    Some(Some(status))
                        if !late && (status.code() == Some(ADDRESS_TAKEN) || self.database.is_some()) =>
                    {
                        self.launch(part)?;
                    }
                    Some(Some(status)) => {
                        return Err(Failure::failed(format!("{} ended with {status}: {words}", part.name())));
                    }
                    _ => return Err(Failure::failed(format!("{} does not listen: {words}", part.name()))),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Triggers a fault, which lasts until it is healed.
    pub(crate) async fn trigger(&self, scenario: &str) -> Result<()> {
        let url = format!("http://{}/trigger/{scenario}", self.simulator);
        self.ask(Method::POST, &url, Some(&json!({}))).await.map(drop)
    }

    /// The next operation on a target is refused, so that what was done before it is undone.
    pub(crate) async fn refuse_next(&self, target: &str) -> Result<()> {
        let body = json!({"target": target, "times": 1});
        self.ask(Method::POST, &format!("http://{}/refuse", self.simulator), Some(&body)).await.map(drop)
    }

    /// The simulated infrastructure is well again.
    pub(crate) async fn heal(&self) -> Result<()> {
        self.ask(Method::POST, &format!("http://{}/resolve", self.simulator), None).await.map(drop)
    }

    /// What was done to the simulated infrastructure.
    pub(crate) async fn actions(&self) -> Result<Vec<Value>> {
        let actions = self.ask(Method::GET, &format!("http://{}/actions", self.simulator), None).await?;
        Ok(actions.as_array().cloned().unwrap_or_default())
    }

    /// Every incident that was opened since then, from the first coordinator that answers.
    pub(crate) async fn incidents(&self, since: &str) -> Result<Vec<Value>> {
        let mut incidents = Vec::new();
        let mut path = format!("/api/incidents?since={}&limit={PAGE}&view=full", since.replace('+', "%2B"));
        loop {
            let (page, next) = self.page(&path).await?;
            incidents.extend(page.as_array().into_iter().flatten().cloned());
            match next {
                Some(next) => path = next,
                None => return Ok(incidents),
            }
        }
    }

    /// A word on an incident, from a person.
    pub(crate) async fn say(&self, incident: &str, word: &str, body: &Value) -> Result<()> {
        let mut last = Failure::failed("no coordinator");
        for address in &self.coordinators {
            let url = format!("http://{address}/api/incidents/{incident}/{word}");
            match self.ask(Method::POST, &url, Some(body)).await {
                Ok(_) => return Ok(()),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn page(&self, path: &str) -> Result<(Value, Option<String>)> {
        let mut last = Failure::failed("no coordinator");
        for address in &self.coordinators {
            match self.send(Method::GET, &format!("http://{address}{path}"), None).await {
                Ok((document, link)) => {
                    let next = link.as_deref().and_then(|link| link.strip_prefix('<')?.split_once('>'));
                    return Ok((document, next.map(|(path, _)| path.to_owned())));
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn ask(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Value> {
        self.send(method, url, body).await.map(|(document, _)| document)
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<(Value, Option<String>)> {
        let what = format!("{method} {url}");
        let failed = |error: reqwest::Error| Failure::failed(format!("{what}: {error}"));
        let mut request = self.client.request(method.clone(), url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let link = response.headers().get("link").and_then(|link| link.to_str().ok()).map(str::to_owned);
        let text = response.text().await.map_err(failed)?;
        if !status.is_success() {
            return Err(Failure::failed(format!("{what}: {status} {text}")));
        }
        // Some words are answered without a document.
        Ok((serde_json::from_str(&text).unwrap_or(Value::Null), link))
    }

    fn address_file(&self, part: Part) -> PathBuf {
        self.folder.path().join(format!("{}.json", part.name()))
    }
}

/// The folder of this program, in which the others are as well.
fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe();
    let own =
        own.map_err(|error| Failure::failed(format!("where this program is cannot be read: {error}")))?;
    let folder = own.parent().unwrap_or(Path::new("")).to_owned();
    let needed = ["quell-coordinator", "quell-diagnostic", "quell-resolution", SIMULATOR];
    let missing: Vec<_> = needed.into_iter().filter(|name| !folder.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(folder);
    }
    Err(Failure::not_possible(format!("no {} in {}", missing.join(", no "), folder.display()))
        .next("put all programs of Quell into one folder; from the sources: cargo build --bins"))
}

fn start_simulator(programs: &Path, folder: &Path, coordinator: SocketAddr) -> Result<Process> {
    let alerts = format!("http://{coordinator}/webhooks/alertmanager");
    let arguments = [
        "--metrics-port",
        "0",
        "--tick",
        "100ms",
        "--address-file",
        "quell-simulator.json",
        "--log-file",
        "world.jsonl",
        "--alerts",
        &alerts,
        "--alerts-for",
        "1s",
        "--alerts-interval",
        "100ms",
        "--operation-time",
        OPERATION_TIME,
    ];
    let arguments = arguments.map(str::to_owned);
    Ok(Process::start(SIMULATOR, &programs.join(SIMULATOR), &arguments, folder, Manner::default())?)
}

async fn simulator_addresses(world: &mut Process, folder: &Path) -> Result<[SocketAddr; 3]> {
    let file = folder.join("quell-simulator.json");
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let told: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let address =
            |index: usize| -> Option<SocketAddr> { told["addresses"][index].as_str()?.parse().ok() };
        if let (Some(database), Some(application), Some(gateway)) = (address(0), address(1), address(2)) {
            return Ok([database, application, gateway]);
        }
        if begun.elapsed() > LISTENS_WITHIN || world.ended().is_some() {
            return Err(Failure::failed(format!("the simulator does not listen: {}", world.last_words())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn config_name(coordinator: usize) -> String {
    format!("quell-{}.yaml", coordinator + 1)
}

/// The configuration; JSON is YAML as well. Most alerts of the load are over before their incident has settled, so that the diagnoses
/// of the others leave room for that of the fault. There is no cool-down: the same faults come again and again, and are to be acted on;
/// and what is held goes to a person soon, while the round lasts.
fn config(
    folder: &Path,
    exporters: [SocketAddr; 3],
    (http, grpc): (SocketAddr, SocketAddr),
    [diagnostic, resolution]: [SocketAddr; 2],
    database_url: Option<String>,
) -> Value {
    let url = |address: SocketAddr| format!("http://{address}");
    let mut config = json!({
        "agents": {"resolution": {"execute_real_commands": true, "require_approval": false, "dry_run": false}},
        "simulator": {
            "url": url(exporters[0]),
            "metrics_urls": exporters.map(|address| format!("{}/metrics", url(address))),
        },
        "coordinator": {
            "listen": http, "grpc_listen": grpc, "diagnostic_url": url(diagnostic),
            "resolution_url": url(resolution), "autonomy": "auto",
            // Both coordinators sign with one key.
            "signing_key_file": folder.join("permit.key"),
            "workflow": {
                "settle": "1s", "verify_interval": "200ms", "quiet_before_close": "500ms",
                "hold_look_again": "200ms", "hold_max": "15s", "check_patience": "10s", "agent_backoff": "200ms",
                "agent_retries_max": 10, "verification_grace": "60s", "step_grace": "2s", "probe": "30s",
                "cool_down": "10ms",
            },
            // The same few faults come again and again: their alerts would flap, and nothing would be done for a quarter of an hour.
            "correlation": {"flapping": {"transitions": 0}},
        },
        "diagnostic": {"listen": diagnostic, "scrape_interval": "200ms", "history": "2m"},
        "resolution": {"listen": resolution, "data_dir": folder.join("resolution")},
    });
    let coordinator = &mut config["coordinator"];
    match database_url {
        Some(url) => coordinator["database_url"] = json!(url),
        None => coordinator["data_dir"] = json!(folder.join("coordinator")),
    }
    config
}
