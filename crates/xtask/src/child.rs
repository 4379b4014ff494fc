//! Processes that are never left behind.

use std::ffi::OsString;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::interrupt::Interrupt;

/// How long a process may take to end by itself after it was asked to.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Short, since start-up times are measured by it.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A process in a group of its own; killed when this is dropped.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a program with its output in `<folder>/<name>.log`.
    ///
    /// In a group of its own a Ctrl-C on the terminal does not reach it: whoever started it ends it, in order. Should that one be
    /// killed, the system ends it, where `setpriv` is there to ask for that.
    pub(crate) fn start(name: &str, program: &Path, arguments: &[String], folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = bound_to_us(program);
        command
            .args(arguments)
            // What is set for the daemons of this machine is not meant for these.
            .env_clear()
            .envs(inherited())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// The first line of its output.
    pub(crate) fn wait_for_line(&mut self, within: Duration, interrupt: &Interrupt) -> Result<String> {
        let log = self.log.clone();
        let line = || {
            let text = std::fs::read_to_string(&log).ok()?;
            Some(text.split_once('\n')?.0.to_owned())
        };
        self.wait_for("first line", within, interrupt, line)
    }

    /// An error when it has ended, which nobody wanted.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended: {status}; its last words:\n{}", self.name, tail(&self.log, 10));
        }
        Ok(())
    }

    /// Waits until something is there.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        within: Duration,
        interrupt: &Interrupt,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            self.check()?;
            if started.elapsed() > within {
                let (name, last) = (&self.name, tail(&self.log, 10));
                bail!("{name}: no {what} within {} s; its last words:\n{last}", within.as_secs());
            }
            interrupt.pause(LOOK_EVERY)?;
        }
    }

    /// Its number, by which the system knows it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes, as the system counts it.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().split(' ').next()?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    fn ask_to_stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may have ended just now.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks them to end, the last one that was started first, and kills those that do not. Returns the names of the killed.
pub(crate) fn stop_all(processes: &mut Vec<Process>) -> Vec<String> {
    let mut stubborn = Vec::new();
    for process in processes.iter_mut().rev() {
        let started = Instant::now();
        process.ask_to_stop();
        while started.elapsed() < STOP_WITHIN && matches!(process.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_EVERY);
        }
        if matches!(process.child.try_wait(), Ok(None)) {
            stubborn.push(process.name.clone());
            process.kill();
        }
    }
    processes.clear();
    stubborn
}

/// The last lines of a file.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| format!("    {line}\n")).collect()
}

/// Ports below those that the system hands out by itself: one of those could be given to somebody else while the process that it was
/// chosen for is down.
const PORT_FIRST: u16 = 20_000;
const PORTS: u32 = 12_000;

/// Different free ports of the loopback address. Held together while they are chosen, and free again when this returns.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes are numbered one after another; each begins well behind the one before.
    let begin = std::process::id().wrapping_mul(97);
    let mut listeners = Vec::with_capacity(N);
    for _ in 0..PORTS {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = PORT_FIRST + u16::try_from(offset).unwrap_or_default();
        listeners.extend(TcpListener::bind(("127.0.0.1", port)));
        if listeners.len() == N {
            break;
        }
    }
    if listeners.len() < N {
        return Err(anyhow::anyhow!("no free ports on 127.0.0.1"));
    }
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    const NAMES: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "RUST_BACKTRACE"];
    std::env::vars_os().filter(|(name, _)| NAMES.iter().any(|kept| name == kept))
}

/// Where a program of the system is.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "where programs are found is this variable's meaning")]
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn bound_to_us(program_file: &Path) -> Command {
    match program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program_file);
            command
        }
        None => Command::new(program_file),
    }
}
