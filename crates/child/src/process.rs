//! One process.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::ChildError;

/// What is shown of a log.
const LAST_LINES: usize = 12;

/// What becomes of the log of a process of the same name before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// The new one writes behind it.
    #[default]
    Added,
    /// It is gone.
    Anew,
}

/// In which manner a process is started; by default with an empty environment, as the user and in the group of whoever starts it.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// As another user, where `setpriv` is there.
    pub user: Option<&'static str>,
    /// In a group of its own a Ctrl-C on the terminal does not reach it: whoever started it ends it, in order.
    pub own_group: bool,
    /// All that it finds in its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its log.
    pub log: Log,
}

/// A process; killed when this is dropped, and [bound] to the thread that starts it.
pub struct Process {
    name: String,
    log: PathBuf,
    own_group: bool,
    child: Child,
}

impl Process {
    /// Starts a program in `folder`, its output in `<folder>/<name>.log`.
    ///
    /// # Errors
    /// [`ChildError::Start`]
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        folder: &Path,
        manner: Manner,
    ) -> Result<Self, ChildError> {
        let failed = |why| ChildError::Start { program: program.display().to_string(), why };
        let log = folder.join(format!("{name}.log"));
        let output: File = match manner.log {
            Log::Added => OpenOptions::new().create(true).append(true).open(&log),
            Log::Anew => File::create(&log),
        }
        .map_err(failed)?;
        let mut command = bound(program, manner.user);
        command
            .args(arguments)
            // What is set for the programs of this machine is not meant for these.
            .env_clear()
            .envs(manner.environment)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output);
        if manner.own_group {
            command.process_group(0);
        }
        let child = command.spawn().map_err(failed)?;
        Ok(Self { name: name.to_owned(), log, own_group: manner.own_group, child })
    }

    /// As which it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its number, by which the system knows it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it, and its group if that is its own, as a power cut would; it is gone when this returns.
    pub fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        if self.own_group {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        // It may have ended just now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it with this signal, and waits.
    pub fn end_by(&mut self, signal: Signal) {
        self.signal(signal);
        let _ = self.child.wait();
    }

    /// Sends a signal. One that has ended takes none, which is no failure.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Its name and the last lines of its log.
    pub fn last_words(&self) -> String {
        format!("{} said last:\n{}", self.name, tail(&self.log, LAST_LINES))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a file, for people.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| format!("    {line}\n")).collect()
}

/// A program that the system kills when the thread that starts it ends, where `setpriv` is there to ask for that; as another user if
/// one is named.
pub fn bound(program: &Path, user: Option<&str>) -> Command {
    let Some(setpriv) = find("setpriv") else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Where a program of the system is.
pub fn find(name: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "where programs are is what this variable says")]
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_there(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn one_that_is_dropped_is_gone_and_has_said_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let shell = find("sh").unwrap();
        let arguments = ["-c", "echo \"first $GIVEN $HOME\"; exec sleep 1000"].map(str::to_owned);
        let environment = vec![("GIVEN".into(), "given".into())];
        let manner = Manner { environment, own_group: true, ..Manner::default() };
        let mut process = Process::start("shell", &shell, &arguments, folder.path(), manner).unwrap();
        while process.last_words().lines().count() < 2 {
            assert!(process.ended().is_none(), "{}", process.last_words());
            std::thread::yield_now();
        }
        assert_eq!(process.last_words(), "shell said last:\n    first given \n");
        let id = process.id();
        assert!(is_there(id));
        drop(process);
        assert!(!is_there(id));
    }

    #[test]
    fn a_log_is_added_to_or_begun_anew_and_a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let echo = find("echo").unwrap();
        let say = |word: &str, log| {
            let manner = Manner { log, ..Manner::default() };
            let started = Process::start("echo", &echo, &[word.to_owned()], folder.path(), manner);
            let mut process = started.unwrap();
            process.child.wait().unwrap();
            tail(process.log(), 9)
        };
        assert_eq!(say("one", Log::Added), "    one\n");
        assert_eq!(say("two", Log::Added), "    one\n    two\n");
        assert_eq!(say("three", Log::Anew), "    three\n");
        let nowhere = Path::new("/nowhere/at/all");
        let folder = folder.path().join("absent");
        let error = Process::start("x", nowhere, &[], &folder, Manner::default()).err().unwrap();
        assert!(error.to_string().starts_with("/nowhere/at/all does not start: "), "{error}");
    }
}
