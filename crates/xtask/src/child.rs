//! Waiting for processes, and ending them in order.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use quell_child::{Log, Manner, tail};
use rustix::process::Signal;

use crate::interrupt::Interrupt;

/// How long a process may take to end by itself after it was asked to.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Short, since start-up times are measured by it.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A process in a group of its own; killed when this is dropped.
pub(crate) struct Process(quell_child::Process);

impl Process {
    /// Starts a program with its output in `<folder>/<name>.log`.
    pub(crate) fn start(name: &str, program: &Path, arguments: &[String], folder: &Path) -> Result<Self> {
        let environment = inherited().collect();
        let manner = Manner { own_group: true, environment, log: Log::Anew, user: None };
        Ok(Self(quell_child::Process::start(name, program, arguments, folder, manner)?))
    }

    /// The first line of its output.
    pub(crate) fn wait_for_line(&mut self, within: Duration, interrupt: &Interrupt) -> Result<String> {
        let log = self.0.log().to_owned();
        let line = || {
            let text = std::fs::read_to_string(&log).ok()?;
            Some(text.split_once('\n')?.0.to_owned())
        };
        self.wait_for("first line", within, interrupt, line)
    }

    /// An error when it has ended, which nobody wanted.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.0.ended() {
            bail!("{} ended: {status}; its last words:\n{}", self.0.name(), tail(self.0.log(), 10));
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
                let (name, last) = (self.0.name(), tail(self.0.log(), 10));
                bail!("{name}: no {what} within {} s; its last words:\n{last}", within.as_secs());
            }
            interrupt.pause(LOOK_EVERY)?;
        }
    }

    /// Its number, by which the system knows it.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Resident memory in bytes, as the system counts it.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().split(' ').next()?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// As which it was started.
    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    /// Where its output is.
    pub(crate) fn log(&self) -> &Path {
        self.0.log()
    }
}

/// Asks them to end, the last one that was started first, and kills those that do not. Returns the names of the killed.
pub(crate) fn stop_all(processes: &mut Vec<Process>) -> Vec<String> {
    let mut stubborn = Vec::new();
    for process in processes.iter_mut().rev() {
        let started = Instant::now();
        process.0.signal(Signal::TERM);
        while started.elapsed() < STOP_WITHIN && process.0.ended().is_none() {
            std::thread::sleep(LOOK_EVERY);
        }
        if process.0.ended().is_none() {
            stubborn.push(process.name().to_owned());
            process.0.kill();
        }
    }
    processes.clear();
    stubborn
}

/// What is kept of this process's environment.
fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    const NAMES: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "RUST_BACKTRACE"];
    std::env::vars_os().filter(|(name, _)| NAMES.iter().any(|kept| name == kept))
}
