//! The world in motion: shared by the listeners, moved by one task.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::logfile::LogFile;
use crate::world::{LogLine, World};
use crate::{Clock, Config};

/// Requests that are worked on at the same time; more are told to come back.
pub(crate) const REQUESTS_MAX: usize = 64;
/// Half of the time that a request may take.
const OPERATION_TIME_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Simulation {
    pub(crate) world: World,
    rng: StdRng,
}

impl Simulation {
    pub(crate) fn new(clock: &Clock, seed: Option<u64>) -> Simulation {
        let seed = seed.unwrap_or_else(|| rand::rng().random());
        tracing::debug!(seed, "world created");
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(clock(), &mut rng);
        Simulation { world, rng }
    }
}

/// What every listener and task has a part in.
pub(crate) struct Shared {
    simulation: Mutex<Simulation>,
    clock: Clock,
    pub(crate) token: Option<SecretString>,
    pub(crate) requests: Semaphore,
    /// Metrics pages served, on all ports together.
    pub(crate) scrapes: AtomicU64,
    /// How long an operation takes.
    pub(crate) operation_time: Duration,
    /// How many of the next operations on a target are refused.
    refusals: Mutex<BTreeMap<String, u32>>,
}

impl Shared {
    pub(crate) fn new(simulation: Simulation, config: &Config) -> Shared {
        Shared {
            simulation: Mutex::new(simulation),
            clock: Arc::clone(&config.clock),
            token: config.token.clone(),
            requests: Semaphore::new(REQUESTS_MAX),
            scrapes: AtomicU64::new(0),
            operation_time: config.operation_time.min(OPERATION_TIME_MAX),
            refusals: Mutex::default(),
        }
    }

    /// Has the next operations on a target refused; zero takes that back.
    pub(crate) fn refuse_next(&self, target: &str, times: u32) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        match times {
            0 => refusals.remove(target),
            times => refusals.insert(target.to_owned(), times),
        };
    }

    /// Nothing is refused any more.
    pub(crate) fn refuse_nothing(&self) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether this operation on a target is to be refused.
    pub(crate) fn is_refused(&self, target: &str) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = refusals.get_mut(target) else { return false };
        *left -= 1;
        if *left == 0 {
            refusals.remove(target);
        }
        true
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Looks at the world or changes it. No world is half changed where a panic could leave it, so a poisoned lock is
    /// as good as any.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        let mut simulation = self.simulation.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut simulation.world)
    }

    fn tick(&self, elapsed: Duration) {
        let now = self.now();
        let mut simulation = self.simulation.lock().unwrap_or_else(PoisonError::into_inner);
        let Simulation { world, rng } = &mut *simulation;
        world.tick(now, elapsed, rng);
    }

    fn lines_after(&self, position: u64) -> (Vec<LogLine>, u64) {
        self.with(|world| (world.logs().after(position).cloned().collect(), world.logs().written()))
    }
}

/// Moves the world every tick until it is told to stop. Ticks that were missed are made up for, so that amounts per
/// second stay right on a busy machine.
pub(crate) async fn run(
    shared: Arc<Shared>,
    tick: Duration,
    mut log_file: Option<LogFile>,
    stopping: CancellationToken,
) {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + tick, tick);
    let mut position = 0;
    loop {
        let stopped = tokio::select! {
            () = stopping.cancelled() => true,
            _ = interval.tick() => {
                shared.tick(tick);
                false
            }
        };
        if let Some(log_file) = &mut log_file {
            let (lines, written) = shared.lines_after(position);
            position = written;
            log_file.append(&lines).await;
        }
        if stopped {
            return;
        }
    }
}
