//! Evidence as a small infrastructure would leave it: half an hour of noise, then one fault whose alert comes 110 s late.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::contract::{DiagnoseRequest, IncidentBrief};
use quell_incident::evidence::{EvidenceSet, LogLine, LogLines, Point, Series, SeriesSet};
use quell_incident::ids::{IncidentId, SourceName};
use quell_incident::severity::{Priority, Severity};

pub(crate) const STEP_SECONDS: i64 = 10;
pub(crate) const BEFORE_SECONDS: i64 = 1_800;
pub(crate) const ALERT_SECONDS: i64 = 110;
pub(crate) const FAULT_SECONDS: i64 = 130;

/// A repeatable source of noise between 0 and 1.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next()
    }
}

pub(crate) fn start() -> Timestamp {
    "2026-03-01T09:00:00Z".parse().unwrap()
}

pub(crate) fn at(second: i64) -> Timestamp {
    start() + SignedDuration::from_secs(second)
}

/// When the fault begins.
pub(crate) fn fault() -> i64 {
    BEFORE_SECONDS
}

pub(crate) fn reference() -> Timestamp {
    at(BEFORE_SECONDS + FAULT_SECONDS)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Healthy,
    DatabaseTimeout,
    MemoryLeak,
    HighCpu,
    Api503,
    DiskFull,
    CertificateExpiry,
    KafkaLag,
    PostgresConnections,
}

impl Scenario {
    pub(crate) const FAULTS: [Self; 8] = [
        Self::DatabaseTimeout,
        Self::MemoryLeak,
        Self::HighCpu,
        Self::Api503,
        Self::DiskFull,
        Self::CertificateExpiry,
        Self::KafkaLag,
        Self::PostgresConnections,
    ];

    /// The alert that a site would have for it: name and labels.
    pub(crate) fn alert(self) -> (&'static str, Vec<(&'static str, &'static str)>) {
        match self {
            Self::Healthy => ("TestIncident", vec![("service", "email"), ("severity", "critical")]),
            Self::DatabaseTimeout => (
                "DatabaseConnectionTimeout",
                vec![
                    ("instance", "db-server-01:9090"),
                    ("component", "database"),
                    ("database", "customer_db"),
                ],
            ),
            Self::MemoryLeak => (
                "HighMemoryUsage",
                vec![
                    ("instance", "app-server-01:9090"),
                    ("component", "memory"),
                    ("service", "order_service"),
                ],
            ),
            Self::HighCpu => (
                "HighCPUUsage",
                vec![("instance", "app-server-01:9090"), ("component", "cpu"), ("service", "order_service")],
            ),
            Self::Api503 => (
                "APIGateway503Errors",
                vec![("instance", "api-gateway-01:9090"), ("component", "api_gateway"), ("status", "503")],
            ),
            Self::DiskFull => (
                "DiskSpaceCritical",
                vec![("instance", "storage-node-01:9090"), ("component", "disk"), ("mountpoint", "/data")],
            ),
            Self::CertificateExpiry => ("CertificateExpiringSoon", vec![("instance", "api.example.com:443")]),
            Self::KafkaLag => ("KafkaConsumerLagHigh", vec![("consumergroup", "email-service")]),
            Self::PostgresConnections => {
                ("PostgreSQLConnectionsHigh", vec![("instance", "postgres-01:9187")])
            }
        }
    }

    pub(crate) fn cause(self) -> Option<&'static str> {
        match self {
            Self::Healthy => None,
            Self::DatabaseTimeout => Some("connection_pool_exhausted"),
            Self::MemoryLeak => Some("memory_leak"),
            Self::HighCpu => Some("runaway_cpu"),
            Self::Api503 => Some("upstream_unavailable"),
            Self::DiskFull => Some("disk_filled_by_logs"),
            Self::CertificateExpiry => Some("certificate_expiring"),
            Self::KafkaLag => Some("consumer_group_too_small"),
            Self::PostgresConnections => Some("idle_sessions_exhaust_connections"),
        }
    }
}

pub(crate) fn request(scenario: Scenario) -> DiagnoseRequest {
    let (name, labels) = scenario.alert();
    request_for(name, &labels)
}

pub(crate) fn request_for(name: &str, labels: &[(&str, &str)]) -> DiagnoseRequest {
    let started_at = at(fault() + ALERT_SECONDS);
    let mut labels: Labels = labels.iter().copied().collect();
    labels.insert("alertname", name);
    let alert = Alert {
        key: AlertKey {
            source: SourceName::declared("alertmanager").unwrap(),
            fingerprint: Fingerprint::of(&labels),
        },
        status: AlertStatus::Firing,
        labels: labels.clone(),
        annotations: Labels::default(),
        starts_at: started_at,
        ends_at: None,
        generator_url: None,
    };
    DiagnoseRequest {
        schema: "quell/diagnose/v1".to_owned(),
        incident: IncidentBrief {
            id: IncidentId(uuid::Uuid::from_u128(7)),
            title: format!("{name} on {}", alert.about().name),
            alert_name: name.to_owned(),
            priority: Priority::P1,
            severity: Severity::High,
            affected_systems: vec![alert.about().name],
            started_at,
            alerts: vec![alert],
            labels,
        },
        reference_time: reference(),
        changes: Vec::new(),
    }
}

struct Recorder {
    series: Vec<Series>,
    noise: Noise,
}

impl Recorder {
    /// A series from a function of (second, seconds of fault, noise).
    fn gauge(&mut self, metric: &str, labels: &[(&str, &str)], value: impl Fn(i64, f64) -> f64) {
        let noise = &mut self.noise;
        let points = (0..=BEFORE_SECONDS + FAULT_SECONDS)
            .step_by(STEP_SECONDS as usize)
            .map(|second| Point { at: at(second), value: value(second, noise.next()) })
            .collect();
        let labels = labels.iter().copied().collect();
        self.series.push(Series { metric: metric.to_owned(), labels, points });
    }

    /// A counter from its growth in five seconds.
    fn counter(&mut self, metric: &str, labels: &[(&str, &str)], growth: impl Fn(i64, f64) -> f64) {
        self.gauge(metric, labels, growth);
        let mut total = 0.0;
        for point in &mut self.series.last_mut().unwrap().points {
            total += point.value * STEP_SECONDS as f64 / 5.0;
            point.value = total;
        }
    }
}

/// Metrics and logs with that fault in them.
pub(crate) fn evidence(scenario: Scenario, seed: u64) -> EvidenceSet {
    evidence_of(&[scenario], seed)
}

pub(crate) fn evidence_of(scenarios: &[Scenario], seed: u64) -> EvidenceSet {
    EvidenceSet {
        metrics: vec![SeriesSet {
            source: "prometheus".to_owned(),
            query: "all metrics".to_owned(),
            series: series(scenarios, seed),
            truncated: false,
        }],
        logs: vec![LogLines {
            source: "simulator".to_owned(),
            query: "all lines".to_owned(),
            lines: lines(scenarios, seed),
            truncated: false,
            left_out: Vec::new(),
        }],
        ..EvidenceSet::default()
    }
}

fn series(scenarios: &[Scenario], seed: u64) -> Vec<Series> {
    let on = |scenario: Scenario, second: i64| scenarios.contains(&scenario) && second > fault();
    let pick = |on: bool, noise: f64, bad: (f64, f64), good: (f64, f64)| {
        let (low, high) = if on { bad } else { good };
        low + (high - low) * noise
    };
    let mut all = Recorder { series: Vec::new(), noise: Noise::new(seed) };
    let database = [("instance", "db-server-01:9090"), ("database", "customer_db")];
    let timeouts = |second| on(Scenario::DatabaseTimeout, second);
    all.counter("db_connection_timeout_total", &database, |s, n| {
        pick(timeouts(s), n, (2.0, 5.0), (0.0, 0.1))
    });
    for quantile in ["0.5", "0.95"] {
        let labels = [database[0], database[1], ("quantile", quantile)];
        all.gauge("db_query_duration_seconds", &labels, |s, n| {
            pick(timeouts(s), n, (5.0, 30.0), (0.01, 0.5))
        });
    }
    all.gauge("db_connections_active", &database, |s, n| pick(timeouts(s), n, (150.0, 200.0), (20.0, 50.0)));
    for service in ["order_service", "catalog_service"] {
        let place = [("instance", "app-server-01:9090"), ("service", service)];
        let faulty = service == "order_service";
        all.gauge("process_resident_memory_bytes", &place, |s, n| {
            if faulty && on(Scenario::MemoryLeak, s) {
                500e6 + 10e6 * (s - fault()) as f64
            } else {
                150e6 + 80e6 * n
            }
        });
        all.gauge("process_memory_soft_limit_bytes", &place, |_, _| 536_870_912.0);
        all.counter("process_cpu_seconds_total", &place, |s, n| {
            pick(faulty && on(Scenario::HighCpu, s), n, (6.0, 9.0), (0.1, 0.8))
        });
    }
    for (method, status) in [("GET", "200"), ("POST", "200"), ("GET", "503")] {
        let labels = [("instance", "api-gateway-01:9090"), ("method", method), ("status", status)];
        all.counter("http_requests_total", &labels, |s, n| match (status, on(Scenario::Api503, s)) {
            ("503", true) => 10.0 + 10.0 * n,
            ("503", false) => 0.0,
            _ => 10.0 + 40.0 * n,
        });
    }
    let data = [("instance", "storage-node-01:9090"), ("mountpoint", "/data")];
    all.gauge("node_filesystem_size_bytes", &data, |_, _| 5e9);
    all.gauge("node_filesystem_avail_bytes", &data, |s, _| if on(Scenario::DiskFull, s) { 5e8 } else { 3e9 });
    let expiry = start().as_second() as f64;
    all.gauge("probe_ssl_earliest_cert_expiry", &[("instance", "api.example.com:443")], |s, _| {
        expiry + if on(Scenario::CertificateExpiry, s) { 3.0 * 86_400.0 } else { 60.0 * 86_400.0 }
    });
    let group = [("consumergroup", "email-service"), ("instance", "kafka-01:9308")];
    all.gauge("kafka_consumergroup_lag", &[group[0], group[1], ("topic", "mails")], |s, n| {
        if on(Scenario::KafkaLag, s) { 18_000.0 + 90.0 * (s - fault()) as f64 } else { (120.0 * n).round() }
    });
    all.gauge("kafka_consumergroup_members", &group, |_, _| 1.0);
    let idle = |s| on(Scenario::PostgresConnections, s);
    let postgres = ("instance", "postgres-01:9187");
    all.gauge("pg_stat_activity_count", &[postgres, ("state", "active")], |_, n| (5.0 + 5.0 * n).round());
    all.gauge("pg_stat_activity_count", &[postgres, ("state", "idle")], |s, n| {
        if idle(s) { 86.0 } else { (10.0 + 15.0 * n).round() }
    });
    all.gauge("pg_settings_max_connections", &[postgres], |_, _| 100.0);
    all.series
}

pub(crate) fn line(second: i64, level: &str, service: &str, instance: &str, message: String) -> LogLine {
    let (service, instance, level) = (service.to_owned(), instance.to_owned(), level.to_owned());
    LogLine { at: at(second), level, service, instance, message }
}

fn lines(scenarios: &[Scenario], seed: u64) -> Vec<LogLine> {
    let mut noise = Noise::new(seed + 1);
    let mut lines = Vec::new();
    for second in (0..BEFORE_SECONDS + FAULT_SECONDS).step_by(5) {
        let number = noise.between(1_000.0, 99_999.0) as u32;
        lines.push(match number % 9 {
            0 => line(
                second,
                "warn",
                "payment_service",
                "app-server-02",
                format!("provider slow, attempt 2 of 5 for payment {number}"),
            ),
            1 => line(
                second,
                "error",
                "search_service",
                "app-server-02",
                format!("query {number} rejected: unbalanced quotes"),
            ),
            2 => line(
                second,
                "info",
                "order_service",
                "app-server-01",
                format!("order {number} accepted in 12 ms"),
            ),
            3 => line(
                second,
                "warn",
                "api-gateway-01",
                "api-gateway-01",
                "client closed the connection before the answer".to_owned(),
            ),
            _ => line(
                second,
                "info",
                "api-gateway-01",
                "api-gateway-01",
                format!("POST /orders -> 200 in {} ms", number % 200),
            ),
        });
        if second > fault() {
            for scenario in scenarios {
                lines.extend(told(*scenario, second, number));
            }
        }
    }
    lines
}

/// What the programs write while a fault lasts.
fn told(scenario: Scenario, second: i64, number: u32) -> Vec<LogLine> {
    let orders =
        |level: &str, message: String| line(second, level, "order_service", "app-server-01", message);
    match scenario {
        Scenario::Healthy => Vec::new(),
        Scenario::DatabaseTimeout => vec![
            orders("error", "connection timeout after 10000 ms acquiring connection from pool (size=10 active=10 waiting=44)".to_owned()),
            line(second, "warn", "db-server-01", "db-server-01", format!("slow query took 12.4 s in customer_db: SELECT * FROM orders WHERE customer_id = {number}")),
        ],
        Scenario::MemoryLeak => vec![
            orders("warn", "GC pause 1800 ms (full collection): resident memory 910 MB, 170 % of the limit, freed 0.4 %".to_owned()),
            orders("error", format!("OutOfMemoryError: cannot allocate buffer in OrderCache, {number} entries never evicted")),
        ],
        Scenario::HighCpu => vec![
            orders("warn", format!("job invoice-rebuild-batch exceeds its budget: running for {second} s, 7 of 8 worker threads at 100 % cpu")),
            orders("warn", format!("request waited {number} ms for a worker thread, cpu saturated")),
        ],
        Scenario::Api503 => vec![
            line(second, "error", "api-gateway-01", "api-gateway-01", format!("upstream connect error or reset before headers: catalog_service answered nothing, GET /catalog/{number} -> 503")),
            line(second, "error", "catalog_service", "app-server-01", format!("readiness check failed: worker pool deadlocked, {number} requests queued, 0 replicas ready")),
        ],
        Scenario::DiskFull => vec![
            line(second, "error", "storage-node-01", "storage-node-01", format!("write /data/ingest/segment-{number}.log failed: No space left on device (reserved blocks only)")),
            line(second, "warn", "storage-node-01", "storage-node-01", "filesystem /data is 90 % full; 2.4 GB are rotated logs older than 7 days in /data/logs".to_owned()),
        ],
        Scenario::CertificateExpiry => vec![line(second, "warn", "api.example.com", "api-gateway-01", "certificate expires in 2 days 23 hours (not_after=2026-03-04T09:00:00Z), renewal has not run".to_owned())],
        Scenario::KafkaLag => vec![line(second, "warn", "email-service", "worker-01", format!("consumer lag {number} on topic mails and growing, group has 1 members for 12 partitions"))],
        Scenario::PostgresConnections => vec![
            line(second, "error", "postgres-01", "postgres-01", "FATAL: remaining connection slots are reserved for non-replication superuser connections".to_owned()),
            line(second, "warn", "postgres-01", "postgres-01", "86 sessions idle for more than 600 s, application_name=report-ui".to_owned()),
        ],
    }
}
