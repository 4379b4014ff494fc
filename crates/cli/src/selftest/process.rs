//! One process of a site, which is never left behind.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Result};

/// What is shown of a log.
const LAST_LINES: usize = 8;

/// A process; killed when this is dropped, and by the system when the thread that started it ends.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a program with an empty environment in `folder`, its output added to `<folder>/<name>.log`.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        folder: &Path,
        user: Option<&str>,
    ) -> Result<Self> {
        let failed =
            |error: std::io::Error| Failure::failed(format!("{} does not start: {error}", program.display()));
        let log = folder.join(format!("{name}.log"));
        let output: File = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
        let mut command = bound(program, user);
        command
            .args(arguments)
            .env_clear()
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it with SIGKILL; it is gone when this returns.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it with this signal, and waits.
    pub(crate) fn end_by(&mut self, signal: Signal) {
        self.signal(signal);
        let _ = self.child.wait();
    }

    /// Sends a signal. One that has ended takes none, which is no failure.
    pub(crate) fn signal(&mut self, signal: Signal) {
        let running = self.ended().is_none();
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id.filter(|_| running) {
            let _ = kill_process(id, signal);
        }
    }

    /// Its name and the last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        format!("{} said last: {}", self.name, lines[lines.len().saturating_sub(LAST_LINES)..].join(" | "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that the system kills when the thread that starts it ends, where `setpriv` is there to ask for that; as another user if
/// one is named.
fn bound(program: &Path, user: Option<&str>) -> Command {
    let Some(setpriv) = find("setpriv") else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Where a program of the system is.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "where programs are is what this variable says")]
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Ports below those that the system hands out by itself: one of those could be given to somebody else while the process that it was
/// chosen for is down.
const PORT_FIRST: u16 = 20_000;
const PORTS: u32 = 12_000;

/// Different free ports of the loopback address. Held together while they are chosen, and free again when this returns.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let failed = |error: std::io::Error| Failure::failed(format!("no free port: {error}"));
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
        return Err(Failure::failed("no free ports on 127.0.0.1"));
    }
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr().map_err(failed)?;
    }
    Ok(addresses)
}
