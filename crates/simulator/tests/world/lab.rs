//! A world with its time and its randomness, and the names of its series.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_simulator::world::{Action, Exporter, Operation, Refusal, Scenario, World};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;

pub(crate) const TICKS: [Duration; 2] = [Duration::from_secs(5), Duration::from_millis(100)];

/// A world with its time and its randomness.
pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) rng: StdRng,
    pub(crate) now: Timestamp,
    pub(crate) tick: Duration,
}

impl Lab {
    pub(crate) fn new(tick: Duration) -> Lab {
        let mut rng = StdRng::seed_from_u64(42);
        let now: Timestamp = "2026-05-04T12:00:00Z".parse().unwrap();
        Lab { world: World::new(now, &mut rng), rng, now, tick }
    }

    pub(crate) fn broken(scenario: Scenario) -> Lab {
        let mut lab = Lab::new(Duration::from_secs(5));
        lab.world.trigger(lab.now, scenario, None);
        lab.tick();
        lab
    }

    pub(crate) fn tick(&mut self) {
        self.now += SignedDuration::try_from(self.tick).unwrap();
        self.world.tick(self.now, self.tick, &mut self.rng);
    }

    pub(crate) fn run(&mut self, seconds: u64) {
        let ticks = Duration::from_secs(seconds).as_millis() / self.tick.as_millis();
        (0..ticks).for_each(|_| self.tick());
    }

    pub(crate) fn act(&mut self, target: &str, operation: &Operation) -> Result<Action, Refusal> {
        self.world.operate(self.now, target, operation, None)
    }

    pub(crate) fn series(&self) -> BTreeMap<String, f64> {
        Exporter::ALL.into_iter().flat_map(|exporter| series_of(&self.world, exporter)).collect()
    }

    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.series().get(series).unwrap_or_else(|| panic!("no series {series}"))
    }
}

pub(crate) fn series_of(world: &World, exporter: Exporter) -> Vec<(String, f64)> {
    let mut series = Vec::new();
    for family in world.metrics(exporter) {
        for sample in family.samples {
            let labels: Vec<_> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            series.push((format!("{}{}{{{}}}", family.name, sample.suffix, labels.join(",")), sample.value));
        }
    }
    series
}

pub(crate) fn settings(value: Value) -> Operation {
    Operation::Config(value.as_object().cloned().unwrap())
}

pub(crate) fn clean(path: &str) -> Operation {
    Operation::Clean(path.to_owned())
}

pub(crate) fn stop_job(job: &str) -> Operation {
    Operation::StopJob(job.to_owned())
}

pub(crate) const TIMEOUTS: &str =
    "db_connection_timeout_total{instance=db-server-01:9090,database=customer_db}";
pub(crate) const CONNECTIONS: &str = "db_connections_active{instance=db-server-01:9090,database=customer_db}";
pub(crate) const QUERY_P50: &str =
    "db_query_duration_seconds{instance=db-server-01:9090,database=customer_db,quantile=0.5}";
pub(crate) const QUERY_P99: &str =
    "db_query_duration_seconds{instance=db-server-01:9090,database=customer_db,quantile=0.99}";
pub(crate) const MEMORY: &str =
    "process_resident_memory_bytes{instance=app-server-01:9090,service=order_service}";
pub(crate) const CPU: &str = "process_cpu_seconds_total{instance=app-server-01:9090,service=order_service}";
pub(crate) const GET_200: &str = "http_requests_total{instance=api-gateway-01:9090,method=GET,status=200}";
pub(crate) const POST_200: &str = "http_requests_total{instance=api-gateway-01:9090,method=POST,status=200}";
pub(crate) const GET_503: &str = "http_requests_total{instance=api-gateway-01:9090,method=GET,status=503}";
pub(crate) const REQUEST_P50: &str =
    "http_request_duration_seconds{instance=api-gateway-01:9090,method=GET,quantile=0.5}";
pub(crate) const DISK: &str = "node_filesystem_avail_bytes{instance=storage-node-01:9090,mountpoint=/data}";
pub(crate) const DISK_SIZE: &str =
    "node_filesystem_size_bytes{instance=storage-node-01:9090,mountpoint=/data}";
pub(crate) const CERTIFICATE: &str = "probe_ssl_earliest_cert_expiry{instance=api.example.com:443}";
pub(crate) const LAG: &str =
    "kafka_consumergroup_lag{consumergroup=email-service,instance=kafka-01:9308,topic=email-notifications}";
pub(crate) const SESSIONS: [&str; 3] = [
    "pg_stat_activity_count{instance=postgres-01:9187,state=active}",
    "pg_stat_activity_count{instance=postgres-01:9187,state=idle}",
    "pg_stat_activity_count{instance=postgres-01:9187,state=idle in transaction}",
];

/// Which faults the series of one minute show. Every value that is neither healthy nor faulty fails the test.
pub(crate) fn symptoms(lab: &mut Lab) -> BTreeSet<Scenario> {
    let before = lab.series();
    let start = lab.now;
    lab.run(60);
    let after = lab.series();
    let seconds = lab.now.duration_since(start).as_secs_f64();
    // Per five seconds, as the amounts are specified.
    let grown = |series: &str| (after[series] - before[series]) / seconds * 5.0;
    let sessions: f64 = SESSIONS.iter().map(|series| after[*series]).sum();
    let left_days = (after[CERTIFICATE] - lab.now.as_second() as f64) / 86_400.0;
    let checks = [
        (Scenario::DatabaseTimeout, grown(TIMEOUTS), 0.0..=0.1, 2.0..=5.0),
        (Scenario::DatabaseTimeout, after[CONNECTIONS], 20.0..=50.0, 150.0..=200.0),
        (Scenario::DatabaseTimeout, after[QUERY_P50], 0.01..=0.5, 5.0..=30.0),
        (Scenario::DatabaseTimeout, after[QUERY_P99], 0.01..=0.5, 5.0..=30.0),
        (Scenario::MemoryLeak, after[MEMORY], 100e6..=300e6, 500e6 + 600e6..=4e9),
        // The rule's threshold is 0.8 per second, which is 4 per five seconds.
        (Scenario::HighCpu, grown(CPU), 0.1..=0.8, 6.0..=9.0),
        (Scenario::Api503, grown(GET_503), 0.0..=0.0, 9.9..=20.1),
        (Scenario::DiskFull, after[DISK], 3e9..=3e9, 5e8..=5e8),
        (Scenario::CertificateExpiry, left_days, 30.0..=90.0, 0.1..=6.9),
        (Scenario::KafkaLag, after[LAG], 0.0..=1_000.0, 15_001.0..=60_000.0),
        (Scenario::PostgresConnections, sessions, 15.0..=45.0, 91.0..=100.0),
    ];
    let (mut ill, mut well) = (BTreeSet::new(), BTreeSet::new());
    for (scenario, value, healthy, faulty) in checks {
        if healthy.contains(&value) {
            well.insert(scenario);
        } else if faulty.contains(&value) {
            ill.insert(scenario);
        } else {
            panic!("{scenario:?}: {value} is neither healthy nor faulty at tick {:?}", lab.tick);
        }
    }
    assert!(ill.is_disjoint(&well), "{ill:?} shows only in part");
    // The rest is healthy whatever happens.
    for (series, range) in [(GET_200, 9.9..=50.1), (POST_200, 4.9..=20.1)] {
        assert!(range.contains(&grown(series)), "{series} grew {}", grown(series));
    }
    assert!((0.01..=0.5).contains(&after[REQUEST_P50]));
    assert_eq!(after[DISK_SIZE], 5e9);
    for (series, value) in &after {
        if series.starts_with("process_resident_memory_bytes") && series != MEMORY {
            assert!((100e6..=300e6).contains(value), "{series} is {value}");
        }
        if series.starts_with("process_cpu_seconds_total") && series != CPU {
            assert!((0.1..=0.8).contains(&grown(series)), "{series} grew {}", grown(series));
        }
    }
    ill
}
