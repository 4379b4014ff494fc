//! The life of a daemon, from start to exit code.

#![allow(clippy::unwrap_used, reason = "a test may panic; the exemption does not reach its helpers")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quell_service::Listening;
use quell_service::{
    BindError, Config, ConfigError, Environment, Exit, Failure, Handle, Loading, RunOptions, Signal, Signals,
    bind, run_until_signal,
};
use tokio::sync::{mpsc, oneshot};

const DRAIN: Duration = Duration::from_secs(10);

/// What a test daemon was asked to do.
#[derive(Default)]
struct Seen {
    reloads: Mutex<Vec<Config>>,
    stops: AtomicUsize,
}

struct Daemon {
    listener: Listening,
    seen: Arc<Seen>,
    fail: Option<oneshot::Receiver<(Exit, String)>>,
    is_stuck: bool,
    reload_is_stuck: bool,
}

impl Daemon {
    async fn start(seen: Arc<Seen>) -> Result<Self, BindError> {
        let listener = bind("127.0.0.1:0".parse().unwrap(), "test.listen").await?;
        Ok(Self { listener, seen, fail: None, is_stuck: false, reload_is_stuck: false })
    }
}

impl Handle for Daemon {
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![("http", self.listener.local_addr().unwrap())]
    }

    async fn failed(&mut self) -> (Exit, String) {
        match &mut self.fail {
            Some(fail) => fail.await.unwrap(),
            None => std::future::pending().await,
        }
    }

    async fn reload(&mut self, config: Config) -> Result<(), String> {
        if self.reload_is_stuck {
            std::future::pending().await
        }
        self.seen.reloads.lock().unwrap().push(config);
        Ok(())
    }

    async fn stop(self, _drain: Duration) {
        self.seen.stops.fetch_add(1, Ordering::SeqCst);
        if self.is_stuck {
            std::future::pending().await
        }
    }
}

fn defaults() -> Result<Config, ConfigError> {
    Ok(Config::default())
}

fn options(address_file: Option<&Path>) -> RunOptions<'_> {
    RunOptions { drain: DRAIN, address_file, reload: &defaults }
}

/// Waits until the file is there; the daemon writes it when everything listens.
async fn read_when_written(file: &Path) -> serde_json::Value {
    tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match std::fs::read(file) {
                Ok(bytes) => return serde_json::from_slice(&bytes).unwrap(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_stop_signal_drains_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("addresses.json");
    let seen = Arc::new(Seen::default());
    let (sender, mut signals) = Signals::channel();
    let run = {
        let (seen, file) = (seen.clone(), file.clone());
        tokio::spawn(async move {
            run_until_signal(Daemon::start(seen), &mut signals, options(Some(&file))).await
        })
    };

    let document = read_when_written(&file).await;
    let address: SocketAddr = document["addresses"]["http"].as_str().unwrap().parse().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    assert_eq!(document["pid"], std::process::id());

    sender.send(Signal::Stop).await.unwrap();
    assert_eq!(run.await.unwrap(), Exit::Ok);
    assert_eq!(seen.stops.load(Ordering::SeqCst), 1);
    assert!(!file.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_does_not_end_is_bounded() {
    let (sender, mut signals) = Signals::channel();
    let start = async {
        let mut daemon = Daemon::start(Arc::default()).await?;
        daemon.is_stuck = true;
        Ok::<_, BindError>(daemon)
    };
    sender.send(Signal::Reload).await.unwrap();
    let begun = tokio::time::Instant::now();
    let run = run_until_signal(start, &mut signals, options(None));
    let stop = async {
        // The queue holds eight signals: this one is taken after the daemon has started.
        tokio::time::sleep(Duration::from_secs(1)).await;
        sender.send(Signal::Stop).await.unwrap();
    };
    let (exit, ()) = tokio::join!(run, stop);
    assert_eq!(exit, Exit::Failure);
    assert_eq!(begun.elapsed(), DRAIN + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_at_once() {
    let (sender, mut signals) = Signals::channel();
    let (started, is_started) = oneshot::channel();
    let start = async {
        let mut daemon = Daemon::start(Arc::default()).await?;
        daemon.is_stuck = true;
        started.send(()).unwrap();
        Ok::<_, BindError>(daemon)
    };
    let begun = tokio::time::Instant::now();
    let two_signals = async {
        is_started.await.unwrap();
        sender.send(Signal::Stop).await.unwrap();
        sender.send(Signal::Stop).await.unwrap();
    };
    let (exit, ()) = tokio::join!(run_until_signal(start, &mut signals, options(None)), two_signals);
    assert_eq!(exit, Exit::Failure);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_signal_during_the_start_drops_it() {
    let (sender, mut signals) = Signals::channel();
    sender.send(Signal::Stop).await.unwrap();
    let start = std::future::pending::<Result<Daemon, BindError>>();
    assert_eq!(run_until_signal(start, &mut signals, options(None)).await, Exit::Ok);
}

#[tokio::test]
async fn a_start_that_fails_has_the_exit_code_of_its_error() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let start = async {
        bind(address, "coordinator.listen").await?;
        Daemon::start(Arc::default()).await
    };
    let (_sender, mut signals) = Signals::channel();
    assert_eq!(run_until_signal(start, &mut signals, options(None)).await, Exit::Address);
}

#[tokio::test]
async fn a_daemon_that_cannot_go_on_is_stopped_and_ends_with_its_code() {
    let seen = Arc::new(Seen::default());
    let (fail, is_failing) = oneshot::channel();
    let start = async {
        let mut daemon = Daemon::start(seen.clone()).await?;
        daemon.fail = Some(is_failing);
        Ok::<_, BindError>(daemon)
    };
    fail.send((Exit::Storage, "the disk failed".to_owned())).unwrap();
    let (_sender, mut signals) = Signals::channel();
    assert_eq!(run_until_signal(start, &mut signals, options(None)).await, Exit::Storage);
    assert_eq!(seen.stops.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_address_file_that_cannot_be_written_stops_the_daemon() {
    let seen = Arc::new(Seen::default());
    let (_sender, mut signals) = Signals::channel();
    let file = Path::new("no-such-folder/addresses.json");
    let exit = run_until_signal(Daemon::start(seen.clone()), &mut signals, options(Some(file))).await;
    assert_eq!(exit, Exit::Failure);
    assert_eq!(seen.stops.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_reload_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (config_file, address_file) =
        (folder.path().join("quell.yaml"), folder.path().join("addresses.json"));
    std::fs::write(&config_file, "tenant: before\n").unwrap();
    let loading =
        Loading { daemon: None, file: Some(config_file.clone()), environment: Environment::default() };
    let seen = Arc::new(Seen::default());
    let (sender, mut signals) = Signals::channel();
    let reads = Arc::new(AtomicUsize::new(0));
    let run = {
        let (seen, reads, address_file) = (seen.clone(), reads.clone(), address_file.clone());
        tokio::spawn(async move {
            let reload = || {
                let config = loading.load(|_| ());
                reads.fetch_add(1, Ordering::SeqCst);
                config
            };
            let options = RunOptions { drain: DRAIN, address_file: Some(&address_file), reload: &reload };
            run_until_signal(Daemon::start(seen), &mut signals, options).await
        })
    };
    read_when_written(&address_file).await;

    let reload = async |text: &str, sender: &mpsc::Sender<Signal>| {
        let before = reads.load(Ordering::SeqCst);
        std::fs::write(&config_file, text).unwrap();
        sender.send(Signal::Reload).await.unwrap();
        let read = async {
            while reads.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), read).await.unwrap();
    };
    reload("tenat: wrong\n", &sender).await;
    reload("tenant: after\n", &sender).await;
    sender.send(Signal::Stop).await.unwrap();
    assert_eq!(run.await.unwrap(), Exit::Ok);
    let tenants: Vec<_> = seen.reloads.lock().unwrap().iter().map(|config| config.tenant.clone()).collect();
    assert_eq!(tenants, ["after"]);
}

#[tokio::test]
async fn a_reload_that_does_not_end_can_be_stopped() {
    let seen = Arc::new(Seen::default());
    let (started, is_started) = oneshot::channel();
    let start = async {
        let mut daemon = Daemon::start(seen.clone()).await?;
        daemon.reload_is_stuck = true;
        started.send(()).unwrap();
        Ok::<_, BindError>(daemon)
    };
    let (sender, mut signals) = Signals::channel();
    let send = async {
        is_started.await.unwrap();
        sender.send(Signal::Reload).await.unwrap();
        sender.send(Signal::Stop).await.unwrap();
    };
    let (exit, ()) = tokio::join!(run_until_signal(start, &mut signals, options(None)), send);
    assert_eq!(exit, Exit::Ok);
    assert_eq!(seen.stops.load(Ordering::SeqCst), 1);
    assert!(seen.reloads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_signals_of_the_process_arrive() {
    let mut signals = Signals::of_process().unwrap();
    for (name, expected) in [("HUP", Signal::Reload), ("TERM", Signal::Stop), ("INT", Signal::Stop)] {
        let status = std::process::Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", std::process::id())])
            .status()
            .unwrap();
        assert!(status.success());
        let seen = tokio::time::timeout(Duration::from_secs(30), signals.next()).await.unwrap();
        assert_eq!(seen, expected, "{name}");
    }
}

#[test]
fn exit_codes_are_distinct_and_stable() {
    let codes = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::Address,
        Exit::DataLocked,
        Exit::Data,
        Exit::Dependency,
        Exit::DataLost,
        Exit::Storage,
    ];
    assert_eq!(codes.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let error = Config { tenant: String::new(), ..Config::default() };
    assert_eq!(error.coordinator_data_dir().unwrap_err().exit(), Exit::Usage);
}
