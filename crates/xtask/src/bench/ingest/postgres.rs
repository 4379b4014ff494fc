//! A PostgreSQL of its own for one measurement, and its floor: rows that `pgbench` inserts.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::geteuid;

use super::Measured;
use super::measure::processor_milliseconds;

/// A cluster that ends with this value.
pub(super) struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
}

impl Cluster {
    /// Makes a cluster in the folder and starts it on a free port of 127.0.0.1, with `fsync` on and else as it comes.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let programs = programs().context(
            "no PostgreSQL server: install Debian's `postgresql`, or bench without `--store postgres`",
        )?;
        let folder = folder.join("postgres");
        std::fs::create_dir(&folder)?;
        if geteuid().is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder))?;
            // Its own user has to come through the folder above.
            let above = folder.parent().context("the folder is a root")?;
            std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755))?;
        }
        let [address] = quell_child::free_addresses()?;
        let cluster = Self { programs, folder, address };
        let data = cluster.folder.join("data");
        run(cluster.command("initdb").arg("-D").arg(&data).args([
            "-A",
            "trust",
            "-U",
            "quell",
            "-E",
            "UTF8",
            "--no-locale",
        ]))?;
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c shared_buffers=128MB",
            address.port(),
            cluster.folder.display()
        );
        let log = cluster.folder.join("log");
        let mut start = cluster.command("pg_ctl");
        run(start.arg("-D").arg(&data).arg("-l").arg(log).args(["-w", "-t", "30", "-o", &options, "start"]))?;
        Ok(cluster)
    }

    /// The address of a new, empty database.
    pub(super) fn database(&self, name: &str) -> Result<String> {
        run(self.client("createdb").arg(name))?;
        Ok(format!("postgres://quell@{}/{name}", self.address))
    }

    /// The process that all others of the server come from.
    pub(super) fn pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.folder.join("data/postmaster.pid"))?;
        Ok(text.lines().next().unwrap_or_default().parse()?)
    }

    /// Where its tables are: the log of changes beside them is as large as it was set to be, whatever is stored.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.join("data/base")
    }

    /// A bare table that takes so many rows in each transaction, one for an alert, over as many connections as the load has; with the
    /// server's own processor time, without that of whoever sends the rows.
    pub(super) fn floor(&self, name: &str, rows: u64, connections: u64, seconds: u64) -> Result<Measured> {
        let database = format!("floor_{}", name.replace('-', "_"));
        self.database(&database)?;
        let table =
            "create table received (id bigserial primary key, payload bytea not null, digest bytea not null)";
        run(self.client("psql").args(["-q", "-d", &database, "-c", table]))?;
        // As many bytes as an alert of the load has, which the server makes by itself: nothing is sent or parsed.
        let row = format!(
            "(decode(repeat('5a', {PAYLOAD_BYTES}), 'hex'), sha256(decode(repeat('5a', 64), 'hex')))"
        );
        let values = vec![row; rows as usize].join(",");
        let script = self.folder.join(format!("{database}.sql"));
        std::fs::write(
            &script,
            format!("begin;\ninsert into received (payload, digest) values {values};\ncommit;\n"),
        )?;
        // What it costs to connect is no part of it: once with one transaction for each connection.
        let times = self.folder.join(format!("{database}.times"));
        let pgbench = |limit: [&str; 2]| -> Result<(String, f64)> {
            let before = processor_milliseconds(self.pid()?)?;
            let mut bench = self.client("pgbench");
            bench.args(["-n", "-M", "prepared", "-j", "2", "-c", &connections.to_string()]).args(limit);
            bench.arg("--log").arg(format!("--log-prefix={}", times.display()));
            let output =
                bench.arg("-f").arg(&script).arg(&database).output().context("pgbench cannot be run")?;
            ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
            let used = processor_milliseconds(self.pid()?)? - before;
            Ok((String::from_utf8_lossy(&output.stdout).into_owned(), used))
        };
        let (_, to_connect) = pgbench(["-t", "1"])?;
        self.milliseconds_logged(&times)?;
        let (said, used) = pgbench(["-T", &seconds.to_string()])?;
        let milliseconds = self.milliseconds_logged(&times)?;
        run(self.client("dropdb").arg(&database))?;
        let rate =
            said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        let transactions_per_second = rate.context("pgbench named no rate")?;
        let transactions = milliseconds.len() as u64;
        Ok(Measured {
            alerts_per_second: transactions_per_second * rows as f64,
            processor_milliseconds_per_alert: (used - to_connect) / (transactions * rows) as f64,
            milliseconds,
            behind_seconds: 0.0,
        })
    }

    /// How long each transaction took, by the logs that pgbench wrote, which are removed.
    fn milliseconds_logged(&self, prefix: &Path) -> Result<Vec<f64>> {
        let prefix = prefix.file_name().and_then(OsStr::to_str).context("no name")?;
        let mut milliseconds = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
                continue;
            }
            // client_id transaction_no time script_no time_epoch time_us
            let text = std::fs::read_to_string(entry.path())?;
            let microseconds = text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok());
            milliseconds.extend(microseconds.map(|one| one / 1000.0));
            std::fs::remove_file(entry.path())?;
        }
        ensure!(!milliseconds.is_empty(), "pgbench logged no transaction");
        Ok(milliseconds)
    }

    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string(), "-U", "quell"]);
        command
    }

    /// The server refuses to run as root.
    fn command(&self, name: impl AsRef<OsStr>) -> Command {
        let file = self.programs.join(name.as_ref());
        let mut command = match geteuid().is_root() {
            true => {
                let mut runuser = Command::new("runuser");
                runuser.args(["-u", "postgres", "--"]).arg(file);
                runuser
            }
            false => Command::new(file),
        };
        command.current_dir("/");
        command
    }
}

/// The JSON of an alert of the load, give or take some bytes.
const PAYLOAD_BYTES: usize = 560;

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.folder.join("data");
        let mut stop = self.command("pg_ctl");
        if let Err(error) = run(stop.arg("-D").arg(data).args(["-w", "-m", "immediate", "stop"])) {
            eprintln!("PostgreSQL in {} was not stopped: {error:#}", self.folder.display());
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    // Its own output would hold a pipe open for as long as the server runs.
    let status = command
        .stdout(std::process::Stdio::null())
        .status()
        .with_context(|| format!("{name} cannot be run"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}

/// Where the server's programs are: on the path, or where Debian has them.
fn programs() -> Option<PathBuf> {
    // What is on the path may be a link to one of them, with the others beside it.
    let on_path = quell_child::find("initdb").and_then(|file| file.canonicalize().ok());
    let on_path = on_path.and_then(|file| file.parent().map(Path::to_path_buf));
    if let Some(folder) = on_path.filter(|folder| folder.join("pgbench").is_file()) {
        return Some(folder);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            folder.join("pgbench").is_file().then_some((version, folder))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, folder)| folder)
}
