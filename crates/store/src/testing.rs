//! Grounds for tests and trials, gone when dropped: a PostgreSQL server of one's own, made by `initdb` and reachable from this machine
//! only, and a disk that is small enough to fill.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where Debian keeps one folder for each major version.
const INSTALLED: &str = "/usr/lib/postgresql";
/// The server refuses to run as root; this is the user that Debian's package makes.
const USER: &str = "postgres";
const STARTS_MAX: usize = 5;

/// A server that runs, with its data in a folder of its own under the system's temporary folder.
#[derive(Debug)]
pub struct PostgresCluster {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// PostgreSQL is not installed.
    #[error(
        "PostgreSQL is not installed: on Debian, as root, apt-get install --no-install-recommends postgresql"
    )]
    Missing,
    /// One of its programs cannot be run.
    #[error("cannot run {program}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// One of its programs failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: String,
        /// What it said.
        said: String,
    },
}

impl PostgresCluster {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// [`ClusterError::Missing`] where a test is to be skipped, and others where it is to fail.
    pub fn start() -> Result<Self, ClusterError> {
        let programs = programs().ok_or(ClusterError::Missing)?;
        let name = format!("quell-postgres-{}", uuid::Uuid::now_v7().simple());
        let folder = std::env::temp_dir().join(name);
        let mut cluster = Self { programs, folder, port: 0 };
        let data = cluster.data();
        // The folder of the socket and the log is made as the user that the server runs as.
        cluster.run("mkdir", [OsStr::new("-m"), OsStr::new("700"), cluster.folder.as_os_str()])?;
        let arguments = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-N", "-D"];
        let arguments = arguments.iter().map(OsStr::new).chain([data.as_os_str()]);
        cluster.run("initdb", arguments)?;
        // A free port may be taken by somebody else before the server has it.
        for _ in 1..STARTS_MAX {
            cluster.port = free_port()?;
            if cluster.restart().is_ok() {
                return Ok(cluster);
            }
        }
        cluster.port = free_port()?;
        cluster.restart()?;
        Ok(cluster)
    }

    /// Starts the server again, on the same port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&self) -> Result<(), ClusterError> {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=on -c max_connections=60 \
             -c shared_buffers=32MB",
            self.port,
            self.folder.display()
        );
        let log = self.folder.join("log");
        let (data, log) = (self.data(), log.as_os_str().to_owned());
        let arguments = ["-w", "-t", "60", "-l"].iter().map(OsStr::new);
        let arguments = arguments.chain([log.as_os_str(), "-o".as_ref(), options.as_ref(), "-D".as_ref()]);
        self.run("pg_ctl", arguments.chain([data.as_os_str(), "start".as_ref()])).map(|_| ())
    }

    /// Stops the server as a crash would: nothing is brought to an end.
    ///
    /// # Errors
    /// When it does not run.
    pub fn crash(&self) -> Result<(), ClusterError> {
        let data = self.data();
        let arguments = ["-m", "immediate", "-w", "-D"].iter().map(OsStr::new);
        self.run("pg_ctl", arguments.chain([data.as_os_str(), "stop".as_ref()])).map(|_| ())
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// When the server does not.
    pub fn create_database(&self, name: &str) -> Result<(), ClusterError> {
        let port = self.port.to_string();
        self.run("createdb", ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", name].map(OsStr::new))
            .map(|_| ())
    }

    /// Runs statements in a database.
    ///
    /// # Errors
    /// When the server refuses one of them.
    pub fn execute(&self, database: &str, statements: &str) -> Result<(), ClusterError> {
        let port = self.port.to_string();
        let on = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", database];
        let how = ["-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", statements];
        self.run("psql", on.iter().chain(&how).map(OsStr::new)).map(|_| ())
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        self.url_by(self.port, database)
    }

    /// The same by another port of this machine, behind which something passes bytes on.
    pub fn url_by(&self, port: u16, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Runs a program, as the server's user where this process is root.
    fn run(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Output, ClusterError> {
        let own = self.programs.join(program);
        let path = if own.exists() { own } else { PathBuf::from(program) };
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", USER, "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // The server inherits what `pg_ctl` has, and must not keep a pipe of ours open.
        let is_control = program == "pg_ctl";
        command.args(arguments).current_dir("/").stdin(Stdio::null());
        if is_control {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let output = command.output();
        let output = output.map_err(|source| ClusterError::Run { program: program.to_owned(), source })?;
        if output.status.success() {
            return Ok(output);
        }
        let mut text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if is_control {
            text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        }
        Err(ClusterError::Failed { program: program.to_owned(), said: text.trim().to_owned() })
    }
}

impl Drop for PostgresCluster {
    fn drop(&mut self) {
        // It may be down already, and what cannot be removed is in the temporary folder.
        let _ = self.crash();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A file system in memory that is full after a little, mounted in a folder of its own under the system's temporary folder.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many bytes; `None` where that cannot be done, since it takes root.
    pub fn mount(bytes: u64) -> Option<Self> {
        let name = format!("quell-disk-{}", uuid::Uuid::now_v7().simple());
        let disk = Self { folder: std::env::temp_dir().join(name) };
        fs::create_dir(&disk.folder).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&disk.folder);
        mount.output().is_ok_and(|output| output.status.success()).then_some(disk)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes all the space that is left.
    ///
    /// # Errors
    /// When the file that takes it cannot be made.
    pub fn fill(&self) -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.filler())?;
        for bytes in [64 << 10, 4 << 10, 512, 1] {
            while file.write_all(&vec![1; bytes]).is_ok() {}
        }
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn clear(&self) -> std::io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open on it ends soon; until then it is only out of sight.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).output();
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A port below those that the system hands out by itself: one of those could be given to somebody else while the server is down.
fn free_port() -> Result<u16, ClusterError> {
    const FIRST: u16 = 10_000;
    const PORTS: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut last = std::io::Error::other("no port was tried");
    for _ in 0..PORTS {
        // Processes are numbered one after another; each begins well behind the one before.
        let next = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(next % PORTS).unwrap_or_default();
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(ClusterError::Run { program: "a listener".to_owned(), source: last })
}

/// The folder with the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(INSTALLED).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter(|path| path.join("bin/initdb").exists()).max_by_key(|path| number(path))?;
    Some(newest.join("bin"))
}

fn is_root() -> bool {
    // The kernel says whose process this is by the owner of its folder.
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
