//! A PostgreSQL of our own, from the system's programs: made, crashed and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quell_child::{Manner, Process, find, free_addresses};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::failure::{Failure, Result};

/// How long the server may take until it answers, also when it recovers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Where Debian puts the programs that its users do not call themselves.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The server refuses to run as root; the package makes this user.
const USER: &str = "postgres";

/// A server with one empty database. Dropping it ends it.
pub(crate) struct Database {
    programs: PathBuf,
    folder: TempDir,
    address: SocketAddr,
    as_user: Option<&'static str>,
    server: Option<Process>,
}

impl Database {
    /// Makes a cluster, starts it and creates the database.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start.
    pub(crate) async fn start() -> Result<Self> {
        let programs = programs()?;
        let [address] = free_addresses()?;
        let failed = |error: std::io::Error| Failure::failed(format!("no folder for PostgreSQL: {error}"));
        let folder = TempDir::with_prefix("quell-selftest-postgres-").map_err(failed)?;
        let as_user = rustix::process::getuid().is_root().then_some(USER);
        if let Some(user) = as_user {
            run(Command::new("chown").arg(user).arg(folder.path())).await?;
        }
        let mut database = Self { programs, folder, address, as_user, server: None };
        let data = database.data();
        let arguments = ["-A", "trust", "-U", USER, "-E", "UTF8", "--no-locale", "-N", "-D"];
        run(database.program("initdb").args(arguments).arg(&data)).await?;
        database.launch()?;
        database.answers().await?;
        let address = database.where_it_is();
        run(database.program("createdb").args(address).arg("quell")).await?;
        Ok(database)
    }

    /// What a coordinator is given.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}@{}/quell", self.address)
    }

    /// Ends it as a crash does: without a checkpoint, every connection broken.
    pub(crate) fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.end_by(Signal::QUIT);
        }
    }

    /// Starts it on its data, which it recovers.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub(crate) fn launch(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let settings = [
            format!("port={}", self.address.port()),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", folder.display()),
            "fsync=on".to_owned(),
            "max_connections=60".to_owned(),
        ];
        let mut arguments = vec!["-D".to_owned(), self.data().display().to_string()];
        for setting in settings {
            arguments.extend(["-c".to_owned(), setting]);
        }
        let manner = Manner { user: self.as_user, ..Manner::default() };
        let server = Process::start("postgres", &self.programs.join("postgres"), &arguments, folder, manner)?;
        self.server = Some(server);
        Ok(())
    }

    /// Waits until it answers. One that could not start, since the parts of its crashed predecessor were not gone yet, is started again.
    ///
    /// # Errors
    /// With its last words.
    pub(crate) async fn answers(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let address = self.where_it_is();
            if run(self.program("pg_isready").args(address)).await.is_ok() {
                return Ok(());
            }
            let words = self.server.as_ref().map(Process::last_words).unwrap_or_default();
            if begun.elapsed() > ANSWERS_WITHIN {
                return Err(Failure::failed(format!("PostgreSQL does not answer: {words}")));
            }
            if self.server.as_mut().is_none_or(|server| server.ended().is_some()) {
                self.launch()?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn where_it_is(&self) -> [String; 6] {
        ["-h", "127.0.0.1", "-p", &self.address.port().to_string(), "-U", USER].map(str::to_owned)
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match self.as_user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command
    }
}

async fn run(command: &mut Command) -> Result<()> {
    let what = command.as_std().get_program().display().to_string();
    let output =
        command.output().await.map_err(|error| Failure::failed(format!("{what} does not start: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::failed(format!("{what} ended with {}: {said}", output.status)))
}

/// The folder of the newest server's programs.
fn programs() -> Result<PathBuf> {
    // The PATH may have links to some of them only.
    let initdb = find("initdb").and_then(|file| file.canonicalize().ok());
    if let Some(folder) = initdb.as_deref().and_then(Path::parent) {
        return Ok(folder.to_owned());
    }
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let version = |folder: &PathBuf| {
        folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok())
    };
    let newest = versions.map(|entry| entry.path()).max_by_key(version);
    newest.map(|folder| folder.join("bin")).filter(|folder| folder.join("initdb").is_file()).ok_or_else(
        || {
            Failure::not_possible(format!(
                "no PostgreSQL server: neither `initdb` in the PATH nor one in {DEBIAN}"
            ))
            .next("install it (on Debian the package postgresql), or use --store embedded")
        },
    )
}
