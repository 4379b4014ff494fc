//! What the programs of the world log: the symptoms of each fault, and noise from those that are well.

use rand::Rng;
use rand::rngs::StdRng;

use super::World;
use super::journal::Level::{Error, Info, Warn};
use super::parts::{MEMORY_SOFT_LIMIT_BYTES, RUNAWAY_JOB};
use super::scenario::Scenario;

/// The program that speaks of a fault, and its machine.
pub(crate) fn voice(scenario: Scenario) -> (&'static str, &'static str) {
    match scenario {
        Scenario::DatabaseTimeout => ("db-server-01", "db-server-01"),
        Scenario::MemoryLeak | Scenario::HighCpu => ("order_service", "app-server-01"),
        Scenario::Api503 => ("api-gateway-01", "api-gateway-01"),
        Scenario::DiskFull => ("storage-node-01", "storage-node-01"),
        Scenario::CertificateExpiry => ("api.example.com", "api-gateway-01"),
        Scenario::KafkaLag => ("email-service", "worker-01"),
        Scenario::PostgresConnections => ("postgres-01", "postgres-01"),
    }
}

impl World {
    pub(crate) fn tell(&mut self, elapsed_seconds: f64, rng: &mut StdRng) {
        for scenario in Scenario::ALL {
            if self.is_active(scenario) {
                self.tell_fault(scenario, rng);
            }
        }
        // About one line of noise per second, whatever the tick.
        let expected = elapsed_seconds.min(10.0);
        let whole = expected.floor();
        let lines = whole as u32 + u32::from(rng.random_bool(expected - whole));
        for _ in 0..lines {
            self.tell_noise(rng);
        }
    }

    fn tell_fault(&mut self, scenario: Scenario, rng: &mut StdRng) {
        let (service, host) = voice(scenario);
        match scenario {
            Scenario::DatabaseTimeout => {
                let pool = self.database.loaded;
                let waiting = self.database.waiting;
                let (timeout, size) = (pool.connection_timeout_seconds * 1000, pool.size);
                self.log(Error, "order_service", "app-server-01", format!(
                    "connection timeout after {timeout} ms acquiring connection from pool (size={size} active={size} waiting={waiting})"
                ));
                let seconds = rng.random_range(5.0..30.0);
                let order = rng.random_range(10_000..99_999);
                self.log(Warn, service, host, format!(
                    "slow query took {seconds:.1} s in customer_db: SELECT * FROM orders WHERE customer_id = {order}"
                ));
            }
            Scenario::MemoryLeak => {
                let used = self.orders.memory_bytes / 1e6;
                let share = 100.0 * self.orders.memory_bytes / MEMORY_SOFT_LIMIT_BYTES;
                let pause = rng.random_range(900..2_600);
                self.log(Warn, service, host, format!(
                    "GC pause {pause} ms (full collection): resident memory {used:.0} MB, {share:.0} % of the limit, freed 0.4 %"
                ));
                if rng.random_bool(0.5) {
                    let entries = rng.random_range(200_000..900_000);
                    self.log(Error, service, host, format!(
                        "OutOfMemoryError: cannot allocate buffer in OrderCache, {entries} entries never evicted"
                    ));
                }
            }
            Scenario::HighCpu => {
                let started = self.orders.jobs.iter().find(|job| job.name == RUNAWAY_JOB);
                let running = started.map_or(0, |job| self.now.duration_since(job.started_at).as_secs());
                let threads = rng.random_range(6..=8);
                self.log(Warn, service, host, format!(
                    "job {RUNAWAY_JOB} exceeds its budget: running for {running} s, {threads} of 8 worker threads at 100 % cpu"
                ));
                let wait = rng.random_range(1_200..4_800);
                self.log(
                    Warn,
                    service,
                    host,
                    format!("request waited {wait} ms for a worker thread, cpu saturated"),
                );
            }
            Scenario::Api503 => {
                let sku = rng.random_range(1_000..9_999);
                self.log(Error, service, host, format!(
                    "upstream connect error or reset before headers: catalog_service answered nothing, GET /catalog/{sku} -> 503"
                ));
                let queued = rng.random_range(150..400);
                self.log(Error, "catalog_service", "app-server-01", format!(
                    "readiness check failed: worker pool deadlocked, {queued} requests queued, 0 replicas ready"
                ));
            }
            Scenario::DiskFull => {
                let segment = rng.random_range(100..999);
                self.log(Error, service, host, format!(
                    "write /data/ingest/segment-{segment}.log failed: No space left on device (reserved blocks only)"
                ));
                self.log(
                    Warn,
                    service,
                    host,
                    "filesystem /data is 90 % full; 2.4 GB are rotated logs older than 7 days in /data/logs"
                        .to_owned(),
                );
            }
            Scenario::CertificateExpiry => {
                let left = self.certificate.seconds_left(self.now);
                let (days, hours) = (left / 86_400, left % 86_400 / 3_600);
                let not_after = self.certificate.not_after;
                self.log(Warn, service, host, format!(
                    "certificate expires in {days} days {hours} hours (not_after={not_after}), renewal has not run"
                ));
            }
            Scenario::KafkaLag => {
                let (lag, members) = (self.consumer_lag, self.email.replicas);
                self.log(Warn, service, host, format!(
                    "consumer lag {lag:.0} on topic email-notifications and growing, group has {members} members for 12 partitions"
                ));
            }
            Scenario::PostgresConnections => {
                let idle = self.postgres.sessions.idle;
                self.log(Error, service, host,
                    "FATAL: remaining connection slots are reserved for non-replication superuser connections".to_owned());
                self.log(
                    Warn,
                    service,
                    host,
                    format!("{idle} sessions idle for more than 600 s, application_name=report-ui"),
                );
            }
        }
    }

    /// Lines that mean nothing. Some are warnings or errors: a reader must not take every one of them for the cause.
    fn tell_noise(&mut self, rng: &mut StdRng) {
        let (number, ms) = (rng.random_range(1_000..99_999_u32), rng.random_range(8..240_u32));
        let (level, service, host, message) = match rng.random_range(0..40_u32) {
            0 => (
                Warn,
                "payment_service",
                "app-server-02",
                format!("provider slow, attempt 2 of 5 for payment {number}"),
            ),
            1 => (
                Warn,
                "search_service",
                "app-server-02",
                format!("cache miss ratio {} % after index refresh", ms % 20),
            ),
            2 => (
                Error,
                "payment_service",
                "app-server-02",
                format!("card declined by issuer for payment {number}"),
            ),
            3 => (
                Warn,
                "api-gateway-01",
                "api-gateway-01",
                "client closed the connection before the answer".to_owned(),
            ),
            4 => (
                Error,
                "search_service",
                "app-server-02",
                format!("query {number} rejected: unbalanced quotes"),
            ),
            5 => (
                Warn,
                "catalog_service",
                "app-server-01",
                "deprecated header X-Api-Version in request".to_owned(),
            ),
            6..=15 => {
                (Info, "payment_service", "app-server-02", format!("payment {number} captured in {ms} ms"))
            }
            16..=25 => {
                (Info, "search_service", "app-server-02", format!("query {number} answered in {ms} ms"))
            }
            26..=32 => (Info, "api-gateway-01", "api-gateway-01", format!("POST /orders -> 200 in {ms} ms")),
            33..=36 => {
                (Info, "order_service", "app-server-01", format!("order {number} accepted in {ms} ms"))
            }
            _ => (Info, "email-service", "worker-01", format!("mail {number} handed over in {ms} ms")),
        };
        self.log(level, service, host, message);
    }
}
