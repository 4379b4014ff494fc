//! The fake infrastructure itself: a deterministic machine that knows nothing of HTTP, clocks or files.
//!
//! Time and randomness come in as arguments, so the same seed and the same calls give the same world. [`World::tick`]
//! moves it forward, [`World::trigger`] breaks something, [`World::operate`] does to it what an operator could do. Only
//! the right operation heals a fault; a wrong one has its own effect and leaves the fault where it is.

mod journal;
mod metrics;
mod operate;
mod parts;
mod physics;
mod scenario;
mod stories;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use serde_json::Value;

pub use journal::{ACTIONS_MAX, Action, ActionList, LOG_LINES_MAX, Level, LogLine, LogRing};
pub use metrics::{Exporter, Family, FamilyKind, Sample};
pub use operate::{Operation, Refusal};
pub use parts::{Kind, RUNAWAY_JOB};
pub use scenario::{Ending, Scenario, ScenarioStatus};
pub use view::TARGET_NAMES;

use parts::{
    Certificate, DATA_AVAILABLE_FULL_BYTES, DATA_AVAILABLE_NORMAL_BYTES, DATA_PATH, Database, Filesystem,
    HARMLESS_JOB, Job, Latency, MEMORY_FRESH_BYTES, MEMORY_LEAKING_BYTES, POSTGRES_SESSIONS_MAX, Pool,
    Postgres, Sessions, Traffic, Workload, later,
};

/// A fault cannot be given a longer duration than this.
pub const DURATION_SECONDS_MAX: u32 = 7 * 86_400;

/// The whole infrastructure with its faults, logs and the record of what was done to it.
#[derive(Clone, Debug)]
pub struct World {
    now: Timestamp,
    database: Database,
    orders: Workload,
    catalog: Workload,
    gateway: Workload,
    email: Workload,
    payment: Workload,
    search: Workload,
    filesystems: BTreeMap<&'static str, Filesystem>,
    postgres: Postgres,
    certificate: Certificate,
    consumer_lag: f64,
    traffic: Traffic,
    scenarios: [ScenarioStatus; 8],
    actions: ActionList,
    logs: LogRing,
    resets: u64,
}

impl World {
    /// A healthy world that has just started.
    #[must_use]
    pub fn new(now: Timestamp, rng: &mut StdRng) -> World {
        let workload = |name, kind, place, replicas| Workload::new((name, kind), place, replicas, now);
        let first = ("app-server-01", "app-server-01:9090");
        let second = ("app-server-02", "app-server-02:9090");
        let mut world = World {
            now,
            database: Database {
                config: Database::small_settings(),
                started_at: now,
                loaded: Pool { connection_timeout_seconds: 10, size: 10 },
                timeouts: 0.0,
                connections_active: 0.0,
                waiting: 0.0,
                queries: Latency::default(),
            },
            orders: workload("order_service", Kind::Service, first, 2),
            catalog: workload("catalog_service", Kind::Service, first, 2),
            gateway: workload("api-gateway-01", Kind::Gateway, ("api-gateway-01", "api-gateway-01:9090"), 2),
            email: workload("email-service", Kind::Consumer, ("worker-01", "worker-01:9090"), 1),
            payment: workload("payment_service", Kind::Service, second, 3),
            search: workload("search_service", Kind::Service, second, 2),
            filesystems: BTreeMap::from([
                (DATA_PATH, filesystem(5_000_000_000, DATA_AVAILABLE_NORMAL_BYTES)),
                ("/var/log", filesystem(2_000_000_000, 1_400_000_000)),
            ]),
            postgres: Postgres {
                sessions: Sessions { active: 8, idle: 14, max: POSTGRES_SESSIONS_MAX },
                idle_ended_at: None,
            },
            certificate: Certificate {
                not_before: later(now, -30 * 86_400),
                not_after: later(now, 60 * 86_400),
            },
            consumer_lag: 40.0,
            traffic: Traffic::default(),
            scenarios: Scenario::ALL.map(ScenarioStatus::new),
            actions: ActionList::default(),
            logs: LogRing::default(),
            resets: 0,
        };
        world.orders.jobs.push(Job { name: HARMLESS_JOB, started_at: now });
        // Gauges have a value from the first scrape on.
        world.tick(now, Duration::ZERO, rng);
        world
    }

    /// Moves the world to `now`. Amounts grow for `elapsed`, whatever the clock did in between.
    pub fn tick(&mut self, now: Timestamp, elapsed: Duration, rng: &mut StdRng) {
        self.now = now;
        self.expire();
        self.advance(elapsed.as_secs_f64(), rng);
        self.tell(elapsed.as_secs_f64(), rng);
    }

    /// Breaks something, for ever or for `duration_seconds`. An active fault only has its clock restarted.
    pub fn trigger(
        &mut self,
        now: Timestamp,
        scenario: Scenario,
        duration_seconds: Option<f64>,
    ) -> &ScenarioStatus {
        self.now = now;
        self.expire();
        let until = duration_seconds.map(|seconds| {
            let seconds = seconds.min(f64::from(DURATION_SECONDS_MAX));
            let duration = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::ZERO);
            now.checked_add(duration).unwrap_or(Timestamp::MAX)
        });
        if !self.is_active(scenario) {
            self.break_down(scenario);
        }
        let status = &mut self.scenarios[scenario as usize];
        status.start(now, until);
        status
    }

    /// Ends every active fault, as a person who plays with the simulator would, and names the ended ones.
    pub fn resolve_all(&mut self, now: Timestamp) -> Vec<Scenario> {
        self.now = now;
        self.expire();
        let active: Vec<Scenario> = Scenario::ALL.into_iter().filter(|one| self.is_active(*one)).collect();
        for scenario in &active {
            self.end(*scenario, now, Ending::Reset, None);
        }
        self.resets += 1;
        active
    }

    /// Whether the fault is present.
    #[must_use]
    pub fn is_active(&self, scenario: Scenario) -> bool {
        self.scenarios[scenario as usize].active
    }

    /// Every scenario with its last occurrence.
    #[must_use]
    pub fn scenarios(&self) -> &[ScenarioStatus] {
        &self.scenarios
    }

    /// What was done to the world.
    #[must_use]
    pub fn actions(&self) -> &ActionList {
        &self.actions
    }

    /// What its programs have logged.
    #[must_use]
    pub fn logs(&self) -> &LogRing {
        &self.logs
    }

    /// How often [`World::resolve_all`] was used: a test of healing fails if it is not 0.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Ends the faults whose time has passed. It comes before everything else, so that an action that is late by a
    /// moment does not take the credit.
    fn expire(&mut self) {
        for scenario in Scenario::ALL {
            let status = &self.scenarios[scenario as usize];
            if let (true, Some(until)) = (status.active, status.until)
                && until <= self.now
            {
                self.end(scenario, until, Ending::Expired, None);
            }
        }
    }

    /// Puts the cause of a fault in place, also where an earlier repair had removed it.
    fn break_down(&mut self, scenario: Scenario) {
        let now = self.now;
        match scenario {
            Scenario::DatabaseTimeout => {
                self.database.config = Database::small_settings();
                self.database.loaded = self.database.pool();
                let told = "configuration reset to connection_timeout=10 pool_size=10 by the nightly template roll-out";
                self.log(Level::Warn, "db-server-01", "db-server-01", told.to_owned());
            }
            Scenario::MemoryLeak => self.orders.memory_bytes = MEMORY_LEAKING_BYTES,
            Scenario::HighCpu => {
                self.orders.replicas = 2;
                self.orders.jobs =
                    [HARMLESS_JOB, RUNAWAY_JOB].map(|name| Job { name, started_at: now }).to_vec();
                let told = format!("scaled to 2 replicas for the night; job {RUNAWAY_JOB} started");
                self.log(Level::Info, "order_service", "app-server-01", told);
            }
            Scenario::Api503 => {
                self.gateway.replicas = 2;
                let told = "scaled to 2 replicas after the campaign".to_owned();
                self.log(Level::Info, "api-gateway-01", "api-gateway-01", told);
            }
            Scenario::DiskFull => self.set_available(DATA_AVAILABLE_FULL_BYTES),
            Scenario::CertificateExpiry => {
                // Three days, less than the seven that the alert rule allows.
                let not_after = later(now, 3 * 86_400);
                let not_before = later(not_after, -parts::CERTIFICATE_LIFETIME_SECONDS);
                self.certificate = Certificate { not_before, not_after };
            }
            Scenario::KafkaLag => {
                self.email.replicas = 1;
                self.consumer_lag = 18_000.0;
                let told = "consumer group rebalanced: 1 member after scale-down to 1 replica".to_owned();
                self.log(Level::Info, "email-service", "worker-01", told);
            }
            Scenario::PostgresConnections => {
                self.postgres.sessions.active = 9;
                self.postgres.sessions.idle = 86;
            }
        }
    }

    /// Takes the cause of a fault away and records how it ended.
    fn end(&mut self, scenario: Scenario, at: Timestamp, ending: Ending, healed_by: Option<u64>) {
        self.scenarios[scenario as usize].end(at, ending, healed_by);
        match scenario {
            // The load is gone or the settings suffice; the configuration stays as it is.
            Scenario::DatabaseTimeout | Scenario::Api503 | Scenario::KafkaLag => {}
            Scenario::MemoryLeak => self.orders.memory_bytes = MEMORY_FRESH_BYTES,
            Scenario::HighCpu => self.orders.jobs.retain(|job| job.name != RUNAWAY_JOB),
            Scenario::DiskFull => self.set_available(DATA_AVAILABLE_NORMAL_BYTES),
            // A renewal has set a new certificate already.
            Scenario::CertificateExpiry if ending == Ending::Healed => {}
            Scenario::CertificateExpiry => self.certificate = Certificate::issued(self.now),
            Scenario::PostgresConnections => self.postgres.sessions.idle = 0,
        }
        let told = match ending {
            Ending::Healed => return,
            Ending::Expired => "conditions are back to normal by themselves",
            Ending::Reset => "conditions were reset by hand",
        };
        let (service, host) = stories::voice(scenario);
        self.log(Level::Info, service, host, told.to_owned());
    }

    fn set_available(&mut self, bytes: u64) {
        if let Some(data) = self.filesystems.get_mut(DATA_PATH) {
            data.avail_bytes = bytes;
        }
    }

    fn log(&mut self, level: Level, service: &'static str, instance: &'static str, message: String) {
        self.logs.push(LogLine { time: self.now, level, service, instance, message });
    }

    fn workloads(&self) -> [&Workload; 6] {
        [&self.orders, &self.catalog, &self.gateway, &self.email, &self.payment, &self.search]
    }

    fn workload_mut(&mut self, name: &str) -> Option<&mut Workload> {
        [
            &mut self.orders,
            &mut self.catalog,
            &mut self.gateway,
            &mut self.email,
            &mut self.payment,
            &mut self.search,
        ]
        .into_iter()
        .find(|workload| workload.name == name)
    }

    /// All targets as JSON, for reading back what an operation has done.
    #[must_use]
    pub fn targets(&self) -> Vec<Value> {
        TARGET_NAMES.into_iter().filter_map(|name| self.target(name)).collect()
    }
}

fn filesystem(size_bytes: u64, avail_bytes: u64) -> Filesystem {
    Filesystem { size_bytes, avail_bytes, cleaned_at: None }
}
