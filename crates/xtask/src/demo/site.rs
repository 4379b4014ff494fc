//! Everything that a demonstration runs, as separate processes on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::settings::{Addresses, quell_yaml};
use crate::child::{Process, stop_all};
use crate::http;
use crate::interrupt::Interrupt;
use crate::monitoring::{FAST, Place, TOKEN_COMMENT, fast_rules};
use crate::workspace;

/// Where the simulator writes its log lines.
pub(crate) const SIMULATOR_LOG_LINES: &str = "simulator-lines.jsonl";
const START_WITHIN: Duration = Duration::from_secs(30);

/// A site that runs. Dropping it kills everything.
pub(crate) struct Site {
    pub(crate) coordinator: SocketAddr,
    pub(crate) simulator: SocketAddr,
    pub(crate) prometheus: Option<SocketAddr>,
    /// Program, port, and where it is.
    listeners: Vec<(&'static str, &'static str, SocketAddr)>,
    processes: Vec<Process>,
}

impl Site {
    /// Starts everything, with data, configuration and logs in `folder`.
    pub(crate) fn start(
        binaries: &BTreeMap<String, PathBuf>,
        folder: &Path,
        real: bool,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let [http, grpc, diagnostic, resolution, prometheus, alertmanager] = quell_child::free_addresses()?;
        let mut processes = Vec::new();
        let mut simulator = start_simulator(binaries, folder, (!real).then_some(http))?;
        let exporters = simulator_addresses(&mut simulator, folder, interrupt)?;
        processes.push(simulator);
        let monitoring = real.then_some((prometheus, alertmanager));
        let addresses = Addresses { http, grpc, diagnostic, resolution, simulator: exporters, monitoring };
        let config = folder.join("quell.yaml");
        std::fs::write(&config, quell_yaml(&addresses, folder)).context("cannot write quell.yaml")?;
        if let Some(pair) = monitoring {
            processes.extend(start_monitoring(&addresses, pair, folder)?);
        }
        for name in ["quell-diagnostic", "quell-resolution", "quell-coordinator"] {
            let file = folder.join(format!("{name}.json"));
            let arguments =
                ["--config", &path(&config), "--address-file", &path(&file), "--log-format", "human"]
                    .map(str::to_owned);
            processes.push(Process::start(name, binary(binaries, name)?, &arguments, folder)?);
        }
        for process in &mut processes {
            let listening = folder.join(format!("{}.json", process.name()));
            match process.name() {
                "prometheus" | "alertmanager" => {
                    let address = if process.name() == "prometheus" { prometheus } else { alertmanager };
                    let ready = || {
                        http::request(address, "GET", "/-/ready", None)
                            .ok()
                            .filter(|answer| answer.status == 200)
                    };
                    process.wait_for("readiness", START_WITHIN, interrupt, ready)?;
                }
                _ => {
                    let there = || listening.is_file().then_some(());
                    process.wait_for("address file", START_WITHIN, interrupt, there)?;
                }
            }
        }
        Ok(Self {
            coordinator: http,
            simulator: exporters[0],
            prometheus: real.then_some(prometheus),
            listeners: vec![
                ("quell-coordinator", "http", http),
                ("quell-coordinator", "grpc", grpc),
                ("quell-diagnostic", "grpc", diagnostic),
                ("quell-resolution", "grpc", resolution),
                ("quell-simulator", "control", exporters[0]),
            ],
            processes,
        })
    }

    /// Where this port of this program is.
    pub(crate) fn listener(&self, program: &str, port: &str) -> Option<SocketAddr> {
        let found = self.listeners.iter().find(|(of, name, _)| (*of, *name) == (program, port));
        found.map(|(_, _, address)| *address)
    }

    /// An error when a process has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// Name and resident memory in bytes of every process.
    pub(crate) fn resident_bytes(&self) -> Vec<(String, Option<u64>)> {
        self.processes.iter().map(|process| (process.name().to_owned(), process.resident_bytes())).collect()
    }

    /// Name and log of every process.
    pub(crate) fn logs(&self) -> Vec<(String, PathBuf)> {
        self.processes.iter().map(|process| (process.name().to_owned(), process.log().to_owned())).collect()
    }

    /// Ends everything; returns the names of those that had to be killed.
    pub(crate) fn stop(mut self) -> Vec<String> {
        stop_all(&mut self.processes)
    }
}

fn start_simulator(
    binaries: &BTreeMap<String, PathBuf>,
    folder: &Path,
    alerts_to: Option<SocketAddr>,
) -> Result<Process> {
    let file = path(&folder.join("quell-simulator.json"));
    let lines = path(&folder.join(SIMULATOR_LOG_LINES));
    let mut arguments: Vec<String> =
        ["--metrics-port", "0", "--tick", "200ms", "--address-file", &file, "--log-file", &lines]
            .map(str::to_owned)
            .to_vec();
    if let Some(coordinator) = alerts_to {
        let url = format!("http://{coordinator}/webhooks/alertmanager");
        arguments.extend(
            ["--alerts", &url, "--alerts-for", "1s", "--alerts-interval", "250ms"].map(str::to_owned),
        );
    }
    Process::start("quell-simulator", binary(binaries, "quell-simulator")?, &arguments, folder)
}

fn simulator_addresses(
    simulator: &mut Process,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<[SocketAddr; 3]> {
    let file = folder.join("quell-simulator.json");
    let text = simulator
        .wait_for("address file", START_WITHIN, interrupt, || std::fs::read_to_string(&file).ok())?;
    let addresses: Value = serde_json::from_str(&text).context("the simulator's address file")?;
    let address = |index: usize| -> Result<SocketAddr> {
        let text = addresses["addresses"][index].as_str().context("the simulator names too few addresses")?;
        Ok(text.parse()?)
    };
    Ok([address(0)?, address(1)?, address(2)?])
}

/// Prometheus and Alertmanager with the shipped files, faster and on other ports.
fn start_monitoring(
    addresses: &Addresses,
    (prometheus, alertmanager): (SocketAddr, SocketAddr),
    folder: &Path,
) -> Result<Vec<Process>> {
    let missing = "is not installed; `apt-get install --no-install-recommends prometheus prometheus-alertmanager`, or \
                   leave out --real";
    let find = |name: &str| quell_child::find(name).with_context(|| format!("--real: `{name}` {missing}"));
    let place = Place {
        prometheus_start: "# For a demonstration.".to_owned(),
        alertmanager_start: "# For a demonstration.".to_owned(),
        prometheus: prometheus.to_string(),
        alertmanager: alertmanager.to_string(),
        coordinator: addresses.http.to_string(),
        exporters: addresses.simulator.map(|address| address.to_string()),
        pace: FAST,
        webhook_token: TOKEN_COMMENT,
    };
    let shipped = workspace::root().join("monitoring/rules.yml");
    let rules = std::fs::read_to_string(&shipped).context("monitoring/rules.yml")?;
    for (file, text) in [
        ("prometheus.yml", place.prometheus_yml()?),
        ("alertmanager.yml", place.alertmanager_yml()?),
        ("rules.yml", fast_rules(&rules)?),
    ] {
        std::fs::write(folder.join(file), text).with_context(|| format!("cannot write {file}"))?;
    }
    let alertmanager_program =
        quell_child::find("prometheus-alertmanager").map_or_else(|| find("alertmanager"), Ok)?;
    let (data, alertmanager_data) = (path(&folder.join("prometheus")), path(&folder.join("alertmanager")));
    Ok(vec![
        Process::start(
            "alertmanager",
            &alertmanager_program,
            &[
                "--config.file=alertmanager.yml".to_owned(),
                format!("--storage.path={alertmanager_data}"),
                format!("--web.listen-address={alertmanager}"),
                // Empty: no gossip with other Alertmanagers.
                "--cluster.listen-address=".to_owned(),
            ],
            folder,
        )?,
        Process::start(
            "prometheus",
            &find("prometheus")?,
            &[
                "--config.file=prometheus.yml".to_owned(),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={prometheus}"),
                // Tells Alertmanager at every evaluation, so that an alert does not end by silence.
                "--rules.alert.resend-delay=1s".to_owned(),
            ],
            folder,
        )?,
    ])
}

fn binary<'a>(binaries: &'a BTreeMap<String, PathBuf>, name: &str) -> Result<&'a Path> {
    binaries.get(name).map(PathBuf::as_path).with_context(|| format!("there is no {name}"))
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
