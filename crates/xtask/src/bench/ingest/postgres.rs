//! A PostgreSQL of its own for one measurement, and its floor: rows that `pgbench` inserts.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::geteuid;

/// A cluster that ends with this value.
pub(super) struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
}

/// Rows per second that a bare table takes.
pub(super) struct Floor {
    pub(super) rows_per_second: f64,
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

    /// Bytes of its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A bare table with so many rows in a transaction, over so many connections, for a few seconds.
    pub(super) fn floor(&self, name: &str, rows: u64, connections: u64, seconds: u64) -> Result<Floor> {
        let database = format!("floor_{}", name.replace('-', "_"));
        self.database(&database)?;
        let table =
            "create table received (id bigserial primary key, payload bytea not null, digest bytea not null)";
        run(self.client("psql").args(["-q", "-d", &database, "-c", table]))?;
        // As many bytes as an alert of the load has.
        let row = format!(
            "(decode(repeat('5a', {PAYLOAD_BYTES}), 'hex'), sha256(decode(repeat('5a', 64), 'hex')))"
        );
        let values = vec![row; rows as usize].join(",");
        let script = self.folder.join(format!("{database}.sql"));
        std::fs::write(
            &script,
            format!("begin;\ninsert into received (payload, digest) values {values};\ncommit;\n"),
        )?;
        let (clients, time) = (connections.to_string(), seconds.to_string());
        let mut bench = self.client("pgbench");
        bench
            .args(["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &time, "-f"])
            .arg(script)
            .arg(&database);
        let output = bench.output().context("pgbench cannot be run")?;
        ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        let rate =
            said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        let transactions_per_second = rate.context("pgbench named no rate")?;
        Ok(Floor { rows_per_second: transactions_per_second * rows as f64 })
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
    if let Some(file) = quell_child::find("initdb") {
        return file.parent().map(Path::to_path_buf);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            folder.join("initdb").is_file().then_some((version, folder))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, folder)| folder)
}
