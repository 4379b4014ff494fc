//! How the amounts change from one tick to the next.
//!
//! Amounts are given per five seconds and scale with the elapsed time, so that a rate over a window is the same at any
//! tick; gauges do not depend on the tick at all.

use rand::Rng;
use rand::rngs::StdRng;

use super::World;
use super::parts::{
    CERTIFICATE_RENEWAL_SECONDS, Certificate, MEMORY_FRESH_BYTES, MEMORY_LEAKING_BYTES_MAX, Workload,
};
use super::scenario::Scenario;

const LEAK_BYTES_PER_SECOND: f64 = 10_000_000.0;
const LAG_MAX: f64 = 60_000.0;

impl World {
    pub(crate) fn advance(&mut self, elapsed_seconds: f64, rng: &mut StdRng) {
        let share = elapsed_seconds / 5.0;
        self.advance_database(share, rng);
        self.advance_processes(elapsed_seconds, rng);
        self.advance_gateway(share, rng);
        self.advance_consumers(elapsed_seconds, rng);
        self.advance_sessions(rng);
        let left = self.certificate.seconds_left(self.now);
        if left < CERTIFICATE_RENEWAL_SECONDS && !self.is_active(Scenario::CertificateExpiry) {
            self.certificate = Certificate::issued(self.now);
        }
    }

    fn advance_database(&mut self, share: f64, rng: &mut StdRng) {
        let faulty = self.is_active(Scenario::DatabaseTimeout);
        let database = &mut self.database;
        if faulty {
            // The mean of three draws keeps the amount within 2-5 and its rate clearly over the rule's threshold also
            // when a look-back window holds only a few ticks.
            let drawn: f64 = (0..3).map(|_| rng.random_range(2.0..=5.0)).sum::<f64>() / 3.0;
            database.timeouts += share * drawn;
            database.connections_active = f64::from(rng.random_range(150_u32..=200));
            database.waiting = f64::from(rng.random_range(25_u32..=60));
            database.queries.observe(5.0, 30.0, share * 20.0, rng);
        } else {
            database.timeouts += share * rng.random_range(0.0..=0.1);
            database.connections_active = f64::from(rng.random_range(20_u32..=50));
            database.waiting = f64::from(rng.random_range(0_u32..=2));
            database.queries.observe(0.01, 0.5, share * 120.0, rng);
        }
    }

    fn advance_processes(&mut self, elapsed_seconds: f64, rng: &mut StdRng) {
        let leaking = self.is_active(Scenario::MemoryLeak);
        let burning = self.is_active(Scenario::HighCpu);
        let orders = &mut self.orders;
        if leaking {
            let grown = orders.memory_bytes + LEAK_BYTES_PER_SECOND * elapsed_seconds;
            orders.memory_bytes = grown.min(MEMORY_LEAKING_BYTES_MAX);
        } else {
            breathe(orders, elapsed_seconds, rng);
        }
        let cores = if burning { rng.random_range(1.2..=1.8) } else { idle_cores(rng) };
        orders.cpu_seconds += cores * elapsed_seconds;
        for healthy in [&mut self.catalog, &mut self.email, &mut self.payment, &mut self.search] {
            breathe(healthy, elapsed_seconds, rng);
            healthy.cpu_seconds += idle_cores(rng) * elapsed_seconds;
        }
    }

    fn advance_gateway(&mut self, share: f64, rng: &mut StdRng) {
        let faulty = self.is_active(Scenario::Api503);
        let traffic = &mut self.traffic;
        let (gets, posts) = (share * rng.random_range(10.0..=50.0), share * rng.random_range(5.0..=20.0));
        traffic.get_ok += gets;
        traffic.post_ok += posts;
        if faulty {
            traffic.get_unavailable += share * rng.random_range(10.0..=20.0);
        }
        traffic.get_latency.observe(0.01, 0.5, gets, rng);
        traffic.post_latency.observe(0.01, 0.5, posts, rng);
    }

    /// One worker falls behind; six catch up within a few ticks.
    fn advance_consumers(&mut self, elapsed_seconds: f64, rng: &mut StdRng) {
        if self.is_active(Scenario::KafkaLag) {
            let workers = f64::from(self.email.replicas.max(1));
            let behind = rng.random_range(60.0..=120.0) / workers * elapsed_seconds;
            self.consumer_lag = (self.consumer_lag + behind).min(LAG_MAX);
        } else if self.consumer_lag > 600.0 {
            self.consumer_lag *= 0.2;
        } else {
            self.consumer_lag = f64::from(rng.random_range(0_u32..=120));
        }
    }

    fn advance_sessions(&mut self, rng: &mut StdRng) {
        let faulty = self.is_active(Scenario::PostgresConnections);
        let sessions = &mut self.postgres.sessions;
        sessions.active = if faulty { rng.random_range(8..=10) } else { rng.random_range(5..=15) };
        if !faulty {
            sessions.idle = rng.random_range(10..=25);
        }
    }
}

/// Healthy memory wanders between 120 and 280 MB. A step does not depend on the sign of the last one, so that no
/// healthy process looks like a leak.
fn breathe(workload: &mut Workload, elapsed_seconds: f64, rng: &mut StdRng) {
    if !(100e6..=300e6).contains(&workload.memory_bytes) {
        workload.memory_bytes = MEMORY_FRESH_BYTES;
    }
    // A random walk grows with the square root of time; the pull to the middle keeps it in its band at any tick.
    let step = 6e6 * elapsed_seconds.min(60.0).sqrt() * rng.random_range(-1.0..=1.0);
    let pull = (200e6 - workload.memory_bytes) * (elapsed_seconds / 120.0).min(0.5);
    workload.memory_bytes = (workload.memory_bytes + step + pull).clamp(120e6, 280e6).round();
}

/// Processor seconds per second: 0.1-0.8 per five seconds.
fn idle_cores(rng: &mut StdRng) -> f64 {
    rng.random_range(0.1..=0.8) / 5.0
}
