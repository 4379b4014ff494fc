//! The silhouette that all daemons share: parse, load, bind, work, drain, end with a code.
//!
//! A daemon's `main` parses its flags and calls [`run_daemon`]. What happens between start and end is
//! [`run_until_signal`], which takes the signals as a value and can be tested without any.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{Config, ConfigError, Daemon, Environment, Loading};
use crate::exit::{Exit, Failure, in_words};
use crate::telemetry::{LogFormat, LogOptions};

/// How long a daemon may take to end after the first signal.
pub const DRAIN: Duration = Duration::from_secs(10);

/// The flags that every daemon has; flatten them into its own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ArgsCommon {
    /// Configuration file; without it QUELL_CONFIG, then ./quell.yaml if it exists, then defaults that run the demo
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration, print it as it is in effect with secrets hidden, and end
    #[arg(long)]
    pub check: bool,
    /// What is logged: error, warn, info, debug, trace, or directives; also QUELL_LOG
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Form of the log; by default human on a terminal and json elsewhere; also QUELL_LOG_FORMAT
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// Write the addresses as JSON to this file when everything listens
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
}

/// A daemon that has started.
pub trait Handle: Send {
    /// What it listens on, by name: `http`, `grpc`.
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)>;

    /// Returns when the daemon cannot go on by itself, with the exit code and the reason; by default never. It is dropped and
    /// called again whenever a signal comes, so what it waits for has to outlive it.
    fn failed(&mut self) -> impl Future<Output = (Exit, String)> + Send {
        std::future::pending()
    }

    /// Takes over another configuration, all or nothing; the error says why not. A stop signal drops it midway.
    fn reload(&mut self, config: Config) -> impl Future<Output = Result<(), String>> + Send;

    /// Takes nothing new, finishes what it can within `drain`, and ends.
    fn stop(self, drain: Duration) -> impl Future<Output = ()> + Send;
}

/// What a person or a service manager wants of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT or SIGTERM: end; the second time at once.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Where signals come from.
pub struct Signals(Source);

enum Source {
    Process {
        interrupt: tokio::signal::unix::Signal,
        terminate: tokio::signal::unix::Signal,
        hangup: tokio::signal::unix::Signal,
    },
    Channel(mpsc::Receiver<Signal>),
}

impl Signals {
    /// The signals of this process; has to be called in a runtime.
    pub fn of_process() -> std::io::Result<Self> {
        Ok(Self(Source::Process {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        }))
    }

    /// Signals that a test sends.
    pub fn channel() -> (mpsc::Sender<Signal>, Self) {
        let (sender, receiver) = mpsc::channel(8);
        (sender, Self(Source::Channel(receiver)))
    }

    /// The next signal; waits for ever where none can come any more.
    pub async fn next(&mut self) -> Signal {
        match &mut self.0 {
            Source::Process { interrupt, terminate, hangup } => tokio::select! {
                _ = interrupt.recv() => Signal::Stop,
                _ = terminate.recv() => Signal::Stop,
                _ = hangup.recv() => Signal::Reload,
            },
            Source::Channel(receiver) => match receiver.recv().await {
                Some(signal) => signal,
                None => std::future::pending().await,
            },
        }
    }
}

/// How [`run_until_signal`] goes about it.
pub struct RunOptions<'a> {
    /// How long stopping may take.
    pub drain: Duration,
    /// Where to write the addresses.
    pub address_file: Option<&'a Path>,
    /// Reads the configuration again.
    pub reload: &'a (dyn Fn() -> Result<Config, ConfigError> + Send + Sync),
}

/// Starts a daemon and keeps it until a signal ends it or it fails.
///
/// The first stop signal begins a drain that takes at most `drain`; the second one ends at once. A stop signal during the
/// start drops the start. A reload that fails is logged, and the daemon goes on as it was.
pub async fn run_until_signal<H: Handle, E: Failure>(
    start: impl Future<Output = Result<H, E>>,
    signals: &mut Signals,
    options: RunOptions<'_>,
) -> Exit {
    let mut handle = {
        let mut start = pin!(start);
        loop {
            tokio::select! {
                started = &mut start => match started {
                    Ok(handle) => break handle,
                    Err(error) => {
                        tracing::error!(error = %in_words(&error), "cannot start");
                        return error.exit();
                    }
                },
                signal = signals.next() => if signal == Signal::Stop {
                    tracing::info!("stopped before it had started");
                    return Exit::Ok;
                }
            }
        }
    };
    let addresses = handle.addresses();
    if let Some(file) = options.address_file
        && let Err(error) = write_addresses(file, &addresses)
    {
        tracing::error!(file = %file.display(), %error, "cannot write the address file");
        return drain(handle, signals, options.drain, Exit::Failure).await;
    }
    for (name, address) in &addresses {
        tracing::info!(name, %address, "listening");
    }
    let exit = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => {
                    tracing::info!(drain_seconds = options.drain.as_secs(), "stopping; a second signal ends at once");
                    break Exit::Ok;
                }
                Signal::Reload => if reload(&mut handle, signals, options.reload).await == Signal::Stop {
                    break Exit::Ok;
                },
            },
            (exit, reason) = handle.failed() => {
                tracing::error!(reason, exit = exit as u8, "cannot go on");
                break exit;
            }
        }
    };
    let exit = drain(handle, signals, options.drain, exit).await;
    if let Some(file) = options.address_file {
        // It may have been removed already; what matters is that it does not outlive the daemon.
        let _ = std::fs::remove_file(file);
    }
    exit
}

/// Returns `Stop` if that came in the middle, else `Reload`. Further reload signals meanwhile add nothing.
async fn reload<H: Handle>(
    handle: &mut H,
    signals: &mut Signals,
    read: &(dyn Fn() -> Result<Config, ConfigError> + Send + Sync),
) -> Signal {
    let config = match read() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "the new configuration is not used");
            return Signal::Reload;
        }
    };
    let mut reloaded = pin!(handle.reload(config));
    loop {
        tokio::select! {
            result = &mut reloaded => {
                match result {
                    Ok(()) => tracing::info!("the new configuration is in effect"),
                    Err(why) => tracing::error!(why, "the new configuration is not used"),
                }
                return Signal::Reload;
            }
            signal = signals.next() => if signal == Signal::Stop {
                tracing::info!("stopping in the middle of a reload; a second signal ends at once");
                return Signal::Stop;
            }
        }
    }
}

async fn drain<H: Handle>(handle: H, signals: &mut Signals, within: Duration, exit: Exit) -> Exit {
    let mut stop = pin!(tokio::time::timeout(within, handle.stop(within)));
    loop {
        tokio::select! {
            stopped = &mut stop => return match stopped {
                Ok(()) => exit,
                Err(_) => {
                    tracing::error!(drain_seconds = within.as_secs(), "did not finish in time");
                    // What it ends for says more than how.
                    if exit == Exit::Ok { Exit::Failure } else { exit }
                }
            },
            signal = signals.next() => if signal == Signal::Stop {
                tracing::warn!("ended at once by a second signal");
                return Exit::Failure;
            }
        }
    }
}

/// Written beside and renamed, so that whoever waits for the file never reads half of it.
fn write_addresses(file: &Path, addresses: &[(&'static str, SocketAddr)]) -> std::io::Result<()> {
    let addresses: serde_json::Map<_, _> =
        addresses.iter().map(|(name, address)| ((*name).to_owned(), address.to_string().into())).collect();
    let document = serde_json::json!({"pid": std::process::id(), "addresses": addresses});
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    std::fs::write(&beside, format!("{document}\n"))?;
    // Others may wait for it.
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&beside, file)
}

/// Everything that `main` does after it has parsed its flags.
///
/// `flags` puts the daemon's own flags into the configuration, on every load. `sound` says what a start would refuse that the types do not
/// say, such as a window, a rule or a runbook: `--check` asks it, and a start finds it itself. Log lines go to standard error; only `--check`
/// prints.
pub fn run_daemon<H, E, F>(
    daemon: Daemon,
    version: &str,
    args: &ArgsCommon,
    environment: Environment,
    flags: impl Fn(&mut Config) + Send + Sync,
    sound: impl FnOnce(&Config) -> Result<(), E>,
    start: impl FnOnce(Config) -> F,
) -> ExitCode
where
    H: Handle,
    E: Failure,
    F: Future<Output = Result<H, E>>,
{
    let log = match LogOptions::resolve(args.log_level.as_deref(), args.log_format, &environment) {
        Ok(log) => log,
        Err(error) => return refuse(daemon, &error),
    };
    let loading = Loading { daemon: Some(daemon), file: args.config.clone(), environment };
    let config = match loading.load(&flags) {
        Ok(config) => config,
        Err(error) => return refuse(daemon, &error),
    };
    if args.check {
        return match sound(&config) {
            Ok(()) => check(daemon, &loading, &config),
            Err(error) => refuse(daemon, &error),
        };
    }
    if let Err(error) = log.install() {
        return refuse(daemon, &error);
    }
    // Whatever is written from here on is for the owner alone, unless it is meant for others.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    log_panics();
    crate::listen::raise_open_files();
    let file = loading.path();
    tracing::info!(
        version,
        config = file.as_deref().map(|path| tracing::field::display(path.display())),
        "{}",
        daemon.name()
    );
    for notice in loading.notices(&config) {
        tracing::warn!("{notice}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return Exit::Failure.into();
        }
    };
    let exit = runtime.block_on(async {
        let mut signals = match Signals::of_process() {
            Ok(signals) => signals,
            Err(error) => {
                tracing::error!(%error, "cannot listen for signals");
                return Exit::Failure;
            }
        };
        let reload = || loading.load(&flags);
        let options =
            RunOptions { drain: DRAIN, address_file: args.address_file.as_deref(), reload: &reload };
        run_until_signal(start(config), &mut signals, options).await
    });
    // Waits for nothing: the drain is over, or somebody asked for the end at once.
    runtime.shutdown_background();
    tracing::info!(exit = exit as u8, "ended");
    exit.into()
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what `--check` is for")]
fn check(daemon: Daemon, loading: &Loading, config: &Config) -> ExitCode {
    match config.render_effective() {
        Ok(text) => {
            for notice in loading.notices(config) {
                eprintln!("note: {notice}");
            }
            print!("{text}");
            Exit::Ok.into()
        }
        Err(error) => refuse(daemon, &error),
    }
}

#[allow(clippy::print_stderr, reason = "there is no log yet")]
fn refuse(daemon: Daemon, error: &dyn Failure) -> ExitCode {
    eprintln!("{}: {error}", daemon.name());
    error.exit().into()
}

/// A panic in a task is a log line like any other error.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, message, "a task panicked");
    }));
}
