//! The machines and programs of the small infrastructure, each with the state that only it has.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::Value;

/// The job that burns processor time while `high_cpu` lasts.
pub const RUNAWAY_JOB: &str = "invoice-rebuild-batch";

pub(crate) const HARMLESS_JOB: &str = "cache-warmer";
pub(crate) const DATA_PATH: &str = "/data";
pub(crate) const DATA_AVAILABLE_NORMAL_BYTES: u64 = 3_000_000_000;
pub(crate) const DATA_AVAILABLE_FULL_BYTES: u64 = 500_000_000;
pub(crate) const CERTIFICATE_LIFETIME_SECONDS: i64 = 90 * 86_400;
/// Below this a healthy certificate renews itself, so that a simulator that runs for months stays healthy.
pub(crate) const CERTIFICATE_RENEWAL_SECONDS: i64 = 30 * 86_400;
pub(crate) const MEMORY_FRESH_BYTES: f64 = 130_000_000.0;
pub(crate) const MEMORY_LEAKING_BYTES: f64 = 500_000_000.0;
/// The leak stops growing here: the host swaps and nothing more fits.
pub(crate) const MEMORY_LEAKING_BYTES_MAX: f64 = 4_000_000_000.0;
/// What the service is meant to stay under. It is a soft limit: a leak goes past it.
pub(crate) const MEMORY_SOFT_LIMIT_BYTES: f64 = 536_870_912.0;
pub(crate) const POSTGRES_SESSIONS_MAX: u32 = 100;

/// What sort of thing a target is. It decides which operations there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A database server with connection settings.
    Database,
    /// A replicated program.
    Service,
    /// The API gateway.
    Gateway,
    /// A machine with disks.
    Storage,
    /// A PostgreSQL server with sessions.
    Postgres,
    /// The workers of a Kafka consumer group.
    Consumer,
    /// A TLS certificate.
    Certificate,
}

impl Kind {
    /// The operations of this kind, by the last segment of their address.
    #[must_use]
    pub fn operations(self) -> &'static [&'static str] {
        match self {
            Kind::Database => &["config", "restart"],
            Kind::Service => &["config", "restart", "replicas", "stop-job"],
            Kind::Gateway | Kind::Consumer => &["config", "restart", "replicas"],
            Kind::Storage => &["clean"],
            Kind::Postgres => &["end-idle-sessions"],
            Kind::Certificate => &["renew"],
        }
    }

    /// The name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Database => "database",
            Kind::Service => "service",
            Kind::Gateway => "gateway",
            Kind::Storage => "storage",
            Kind::Postgres => "postgres",
            Kind::Consumer => "consumer",
            Kind::Certificate => "certificate",
        }
    }
}

pub(crate) type Settings = BTreeMap<&'static str, Value>;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) started_at: Timestamp,
}

/// A replicated program: service, gateway or consumer group.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) host: &'static str,
    /// The `instance` label of its series.
    pub(crate) instance: &'static str,
    pub(crate) replicas: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) config: Settings,
    pub(crate) jobs: Vec<Job>,
    pub(crate) memory_bytes: f64,
    pub(crate) cpu_seconds: f64,
}

impl Workload {
    pub(crate) fn new(
        (name, kind): (&'static str, Kind),
        (host, instance): (&'static str, &'static str),
        replicas: u32,
        started_at: Timestamp,
    ) -> Workload {
        let config = BTreeMap::from([
            ("log_level", Value::from("info")),
            ("request_timeout", Value::from(30)),
            ("worker_threads", Value::from(8)),
        ]);
        Workload {
            name,
            kind,
            host,
            instance,
            replicas,
            started_at,
            config,
            jobs: Vec::new(),
            memory_bytes: MEMORY_FRESH_BYTES,
            cpu_seconds: 0.0,
        }
    }

    /// A new process: its memory and its processor time begin again, its jobs are scheduled anew.
    pub(crate) fn restart(&mut self, now: Timestamp) {
        self.started_at = now;
        self.memory_bytes = MEMORY_FRESH_BYTES;
        self.cpu_seconds = 0.0;
        for job in &mut self.jobs {
            job.started_at = now;
        }
    }

    pub(crate) fn runs(&self, job: &str) -> bool {
        self.jobs.iter().any(|running| running.name == job)
    }
}

/// Connection settings as one reader of them has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) connection_timeout_seconds: i64,
    pub(crate) size: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) config: Settings,
    pub(crate) started_at: Timestamp,
    /// The settings that order_service read when it last started: a change counts only from its next start.
    pub(crate) loaded: Pool,
    pub(crate) timeouts: f64,
    pub(crate) connections_active: f64,
    pub(crate) waiting: f64,
    pub(crate) queries: Latency,
}

impl Database {
    pub(crate) fn pool(&self) -> Pool {
        let number = |key| self.config.get(key).and_then(Value::as_i64).unwrap_or_default();
        Pool { connection_timeout_seconds: number("connection_timeout"), size: number("pool_size") }
    }

    /// The settings are large enough for the load.
    pub(crate) fn is_sufficient(&self) -> bool {
        let pool = self.pool();
        pool.connection_timeout_seconds >= 30 && pool.size >= 20
    }

    pub(crate) fn small_settings() -> Settings {
        BTreeMap::from([("connection_timeout", Value::from(10)), ("pool_size", Value::from(10))])
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Filesystem {
    pub(crate) size_bytes: u64,
    pub(crate) avail_bytes: u64,
    pub(crate) cleaned_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Certificate {
    pub(crate) fn issued(now: Timestamp) -> Certificate {
        Certificate { not_before: now, not_after: later(now, CERTIFICATE_LIFETIME_SECONDS) }
    }

    pub(crate) fn seconds_left(&self, now: Timestamp) -> i64 {
        self.not_after.duration_since(now).as_secs()
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sessions {
    pub(crate) active: u32,
    pub(crate) idle: u32,
    pub(crate) max: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pub(crate) sessions: Sessions,
    pub(crate) idle_ended_at: Option<Timestamp>,
}

/// What passes through the gateway.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) get_ok: f64,
    pub(crate) post_ok: f64,
    pub(crate) get_unavailable: f64,
    pub(crate) get_latency: Latency,
    pub(crate) post_latency: Latency,
}

/// A summary of durations: the quantiles of the last tick, and the sum and count since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency {
    /// The quantiles 0.5, 0.95 and 0.99, in seconds.
    pub(crate) quantiles_seconds: [f64; 3],
    pub(crate) sum_seconds: f64,
    pub(crate) count: f64,
    carried: f64,
}

impl Latency {
    /// Adds `expected` observations (a fraction is carried over) between two durations in seconds.
    pub(crate) fn observe(&mut self, low: f64, high: f64, expected: f64, rng: &mut StdRng) {
        let mut drawn: [f64; 8] = std::array::from_fn(|_| rng.random_range(low..=high));
        drawn.sort_by(f64::total_cmp);
        self.quantiles_seconds = [drawn[4], drawn[6], drawn[7]];
        let whole = (self.carried + expected).floor();
        self.carried += expected - whole;
        self.count += whole;
        self.sum_seconds += whole * drawn.iter().sum::<f64>() / 8.0;
    }
}

/// The instant that many seconds later; times at the end of the calendar stay there.
pub(crate) fn later(from: Timestamp, seconds: i64) -> Timestamp {
    from.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
