//! A real Prometheus or Alertmanager alone, with a configuration of the test's own, which can be killed and started again on its data.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quell_child::{Manner, Process, free_addresses};

use crate::SandboxError;
use crate::ask::{Asking, until};
use crate::pair::Programs;

/// How long it may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// One program. Dropping it kills it.
pub struct Server {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

impl Server {
    /// An Alertmanager with this configuration and its data in `folder`; it is not started yet, but where it will be is known.
    ///
    /// # Errors
    /// [`SandboxError::Ground`]
    pub fn alertmanager(programs: &Programs, folder: &Path, config: &str) -> Result<Self, SandboxError> {
        let arguments =
            ["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="];
        Self::new("alertmanager", &programs.alertmanager, &arguments, folder, &[("alertmanager.yml", config)])
    }

    /// The same as a member of a cluster: it gossips at `own`, and knows of `peer`.
    #[must_use]
    pub fn in_cluster(mut self, own: SocketAddr, peer: SocketAddr) -> Self {
        self.arguments.retain(|argument| !argument.starts_with("--cluster.listen-address="));
        self.arguments.extend([format!("--cluster.listen-address={own}"), format!("--cluster.peer={peer}")]);
        self
    }

    /// A Prometheus with this configuration and these rules (`rules.yml`), likewise.
    ///
    /// # Errors
    /// [`SandboxError::Ground`]
    pub fn prometheus(
        programs: &Programs,
        folder: &Path,
        config: &str,
        rules: &str,
    ) -> Result<Self, SandboxError> {
        let arguments =
            ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.enable-lifecycle"];
        let files = [("prometheus.yml", config), ("rules.yml", rules)];
        Self::new("prometheus", &programs.prometheus, &arguments, folder, &files)
    }

    fn new(
        name: &'static str,
        program: &Path,
        arguments: &[&str],
        folder: &Path,
        files: &[(&str, &str)],
    ) -> Result<Self, SandboxError> {
        let ground = |error: std::io::Error| SandboxError::Ground(error.to_string());
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).map_err(ground)?;
        for (file, text) in files {
            std::fs::write(folder.join(file), text).map_err(ground)?;
        }
        let [address] = free_addresses()?;
        let mut arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        arguments.push(format!("--web.listen-address={address}"));
        let program = program.to_owned();
        Ok(Self { name, program, arguments, folder, address, process: None })
    }

    /// Starts it, after killing it where it runs, and waits until it is ready.
    ///
    /// # Errors
    /// [`SandboxError`], with its last words.
    pub async fn start(&mut self) -> Result<(), SandboxError> {
        self.process = None;
        let process =
            Process::start(self.name, &self.program, &self.arguments, &self.folder, Manner::default())?;
        let asking = Asking::new()?;
        let url = format!("{}/-/ready", self.url());
        let ready = until(&url, READY_WITHIN, async || {
            asking.text(&url).await.map(drop).map_err(|error| error.to_string())
        });
        let ready =
            ready.await.map_err(|error| SandboxError::Ground(format!("{error}\n{}", process.last_words())));
        self.process = Some(process);
        ready
    }

    /// Replaces one of its files.
    ///
    /// # Errors
    /// [`SandboxError::Ground`]
    pub fn write(&self, file: &str, text: &str) -> Result<(), SandboxError> {
        std::fs::write(self.folder.join(file), text).map_err(|error| SandboxError::Ground(error.to_string()))
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
