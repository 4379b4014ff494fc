//! A load generator: threads with one connection each, as many Alertmanagers would have, until a count or a time is reached.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jiff::Timestamp;

use crate::http::Connection;
use crate::interrupt::Interrupt;

/// Answers "try again" in a row before a connection gives up.
const REFUSED_MAX: u32 = 1_000;

/// What is sent, and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Alerts in one webhook.
    pub(super) batch: u64,
    /// Connections, each with one request under way.
    pub(super) connections: u64,
    /// Webhooks per second over all connections; as many as are answered where there is none.
    pub(super) webhooks_per_second: Option<f64>,
    /// The number of the first alert; every alert has a fingerprint of its own.
    pub(super) first: u64,
    /// Alerts at the most.
    pub(super) alerts_max: u64,
    /// Seconds at the most.
    pub(super) within: Duration,
    /// Alerts that share one group key.
    pub(super) group: u64,
    /// When the alerts began.
    pub(super) at: Timestamp,
    /// Each webhook is followed by one with the end of its alerts.
    pub(super) resolved: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Alerts whose webhook was answered with success.
    pub(super) alerts: u64,
    /// From the first request to the last answer.
    pub(super) took: Duration,
    /// From a request to its answer, in milliseconds, successes only.
    pub(super) milliseconds: Vec<f64>,
    /// Webhooks that were answered "try again" and sent again.
    pub(super) refused: u64,
}

impl Loaded {
    pub(super) fn alerts_per_second(&self) -> f64 {
        self.alerts as f64 / self.took.as_secs_f64()
    }
}

/// Sends it.
pub(super) fn run(server: SocketAddr, path: &str, load: Load, interrupt: &Interrupt) -> Result<Loaded> {
    let webhooks = load.alerts_max.div_ceil(load.batch);
    let (next, started) = (AtomicU64::new(0), Instant::now());
    let all = Mutex::new(Loaded::default());
    let one = || -> Result<()> {
        let mut connection = Connection::open(server)?;
        let mut own = Loaded::default();
        loop {
            interrupt.check()?;
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= webhooks || started.elapsed() >= load.within {
                break;
            }
            if let Some(rate) = load.webhooks_per_second {
                let due = Duration::from_secs_f64(number as f64 / rate);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
            let first = load.first + number * load.batch;
            for resolved in [false, true].into_iter().take(1 + usize::from(load.resolved)) {
                let body = super::payload::payload(first, load.batch, load.group, load.at, resolved);
                post(&mut connection, path, &body, &mut own)?;
            }
            own.alerts += load.batch;
        }
        let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.alerts += own.alerts;
        all.refused += own.refused;
        all.milliseconds.extend(own.milliseconds);
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections).map(|_| scope.spawn(one)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a connection's thread ended by a panic")))
        })
    })?;
    let mut loaded = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    loaded.took = started.elapsed();
    ensure!(loaded.alerts > 0, "no webhook was answered within {} s", load.within.as_secs());
    Ok(loaded)
}

fn post(connection: &mut Connection, path: &str, body: &str, own: &mut Loaded) -> Result<()> {
    for _ in 0..REFUSED_MAX {
        let clock = Instant::now();
        let answer = connection.post(path, body)?;
        if answer.status == 503 {
            // As Alertmanager does: again, a little later.
            own.refused += 1;
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        ensure!(answer.status == 200, "POST {path} answered {}: {}", answer.status, answer.body);
        own.milliseconds.push(clock.elapsed().as_secs_f64() * 1000.0);
        return Ok(());
    }
    anyhow::bail!("POST {path} was answered 503 {REFUSED_MAX} times in a row")
}
