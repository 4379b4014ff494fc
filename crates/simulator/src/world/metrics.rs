//! The series of the world, by the exporter that serves them.

use super::World;
use super::parts::{Latency, MEMORY_SOFT_LIMIT_BYTES, Workload};

/// Which of the three exporters. Each series is served by exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exporter {
    /// Database server, storage and PostgreSQL: the first port.
    Database,
    /// Application servers and Kafka: the second port.
    Application,
    /// API gateway and certificates: the third port.
    Gateway,
}

impl Exporter {
    /// All three, in the order of their ports.
    pub const ALL: [Exporter; 3] = [Exporter::Database, Exporter::Application, Exporter::Gateway];

    /// The Prometheus job that scrapes it.
    #[must_use]
    pub fn job(self) -> &'static str {
        match self {
            Exporter::Database => "database-server",
            Exporter::Application => "app-server",
            Exporter::Gateway => "api-gateway",
        }
    }
}

/// The type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows, except when its process starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Quantiles, sum and count.
    Summary,
}

/// All series of one name.
#[derive(Clone, Debug)]
pub struct Family {
    /// The metric's name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Its type.
    pub kind: FamilyKind,
    /// Its series.
    pub samples: Vec<Sample>,
}

/// One series at one instant.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Follows the family's name, `_sum` for example; mostly empty.
    pub suffix: &'static str,
    /// The labels, without the name.
    pub labels: Vec<(&'static str, &'static str)>,
    /// The value.
    pub value: f64,
}

type Labels = [(&'static str, &'static str)];

impl World {
    /// The series of one exporter as of the last tick.
    #[must_use]
    pub fn metrics(&self, exporter: Exporter) -> Vec<Family> {
        match exporter {
            Exporter::Database => self.database_metrics(),
            Exporter::Application => self.application_metrics(),
            Exporter::Gateway => self.gateway_metrics(),
        }
    }

    fn database_metrics(&self) -> Vec<Family> {
        let labels = &[("instance", "db-server-01:9090"), ("database", "customer_db")];
        let database = &self.database;
        let pool = database.pool();
        let mut sizes = Vec::new();
        let mut available = Vec::new();
        for (mountpoint, filesystem) in &self.filesystems {
            let labels = &[("instance", "storage-node-01:9090"), ("mountpoint", *mountpoint)];
            sizes.push(sample(labels, filesystem.size_bytes as f64));
            available.push(sample(labels, filesystem.avail_bytes as f64));
        }
        let postgres = ("instance", "postgres-01:9187");
        let sessions = self.postgres.sessions;
        let states = [("active", sessions.active), ("idle", sessions.idle), ("idle in transaction", 1)]
            .map(|(state, count)| sample(&[postgres, ("state", state)], f64::from(count)));
        vec![
            counter(
                "db_connection_timeout_total",
                "Connections that could not be had in time.",
                vec![sample(labels, database.timeouts)],
            ),
            summary("db_query_duration_seconds", "Duration of queries.", &[(labels, &database.queries)]),
            gauge(
                "db_connections_active",
                "Connections in use.",
                vec![sample(labels, database.connections_active)],
            ),
            gauge(
                "db_connections_waiting",
                "Clients that wait for one.",
                vec![sample(labels, database.waiting)],
            ),
            gauge(
                "db_pool_size",
                "Configured size of a client's pool.",
                vec![sample(labels, pool.size as f64)],
            ),
            gauge(
                "db_connection_timeout_seconds",
                "Configured time after which a client gives up.",
                vec![sample(labels, pool.connection_timeout_seconds as f64)],
            ),
            gauge("node_filesystem_size_bytes", "Size of a filesystem.", sizes),
            gauge("node_filesystem_avail_bytes", "Space available on a filesystem.", available),
            gauge("pg_stat_activity_count", "Sessions by state.", states.to_vec()),
            gauge(
                "pg_settings_max_connections",
                "Sessions that the server allows.",
                vec![sample(&[postgres], f64::from(sessions.max))],
            ),
        ]
    }

    fn application_metrics(&self) -> Vec<Family> {
        let workloads = [&self.orders, &self.catalog, &self.email, &self.payment, &self.search];
        let each = |value: &dyn Fn(&Workload) -> f64| {
            workloads.iter().map(|one| sample(&place(one), value(one))).collect::<Vec<_>>()
        };
        let group = [("consumergroup", "email-service"), ("instance", "kafka-01:9308")];
        let lagging = [group[0], group[1], ("topic", "email-notifications")];
        vec![
            gauge("process_resident_memory_bytes", "Memory in use.", each(&|one| one.memory_bytes)),
            gauge(
                "process_memory_soft_limit_bytes",
                "Memory that the process is meant to stay under.",
                each(&|_| MEMORY_SOFT_LIMIT_BYTES),
            ),
            counter("process_cpu_seconds_total", "Processor time used.", each(&|one| one.cpu_seconds)),
            gauge(
                "process_start_time_seconds",
                "When the process started, in Unix time.",
                each(&|one| one.started_at.as_second() as f64),
            ),
            gauge("service_replicas", "Replicas wanted.", each(&|one| f64::from(one.replicas))),
            gauge(
                "service_ready_replicas",
                "Replicas that answer.",
                each(&|one| f64::from(self.ready_replicas(one))),
            ),
            gauge(
                "kafka_consumergroup_lag",
                "Messages that a consumer group is behind.",
                vec![sample(&lagging, self.consumer_lag.round())],
            ),
            gauge(
                "kafka_consumergroup_members",
                "Members of a consumer group.",
                vec![sample(&group, f64::from(self.email.replicas))],
            ),
        ]
    }

    fn gateway_metrics(&self) -> Vec<Family> {
        let instance = ("instance", "api-gateway-01:9090");
        let (get, post) = ([instance, ("method", "GET")], [instance, ("method", "POST")]);
        let traffic = &self.traffic;
        // Requests are counted whole, also at ticks in which only a part of one arrives.
        let requests = [
            sample(&[get[0], get[1], ("status", "200")], traffic.get_ok.floor()),
            sample(&[post[0], post[1], ("status", "200")], traffic.post_ok.floor()),
            sample(&[get[0], get[1], ("status", "503")], traffic.get_unavailable.floor()),
        ];
        let gateway = [instance, ("service", self.gateway.name)];
        vec![
            counter("http_requests_total", "Requests by method and status.", requests.to_vec()),
            summary(
                "http_request_duration_seconds",
                "Duration of requests.",
                &[(&get, &traffic.get_latency), (&post, &traffic.post_latency)],
            ),
            gauge(
                "service_replicas",
                "Replicas wanted.",
                vec![sample(&gateway, f64::from(self.gateway.replicas))],
            ),
            gauge(
                "service_ready_replicas",
                "Replicas that answer.",
                vec![sample(&gateway, f64::from(self.ready_replicas(&self.gateway)))],
            ),
            gauge(
                "probe_ssl_earliest_cert_expiry",
                "When the certificate expires, in Unix time.",
                vec![sample(
                    &[("instance", "api.example.com:443")],
                    self.certificate.not_after.as_second() as f64,
                )],
            ),
        ]
    }
}

fn place(workload: &Workload) -> [(&'static str, &'static str); 2] {
    [("instance", workload.instance), ("service", workload.name)]
}

fn sample(labels: &Labels, value: f64) -> Sample {
    Sample { suffix: "", labels: labels.to_vec(), value }
}

fn counter(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, kind: FamilyKind::Counter, samples }
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, kind: FamilyKind::Gauge, samples }
}

fn summary(name: &'static str, help: &'static str, series: &[(&Labels, &Latency)]) -> Family {
    let mut samples = Vec::new();
    for (labels, latency) in series {
        for (quantile, value) in ["0.5", "0.95", "0.99"].into_iter().zip(latency.quantiles_seconds) {
            let mut labels = labels.to_vec();
            labels.push(("quantile", quantile));
            samples.push(Sample { suffix: "", labels, value });
        }
        samples.push(Sample { suffix: "_sum", labels: labels.to_vec(), value: latency.sum_seconds });
        samples.push(Sample { suffix: "_count", labels: labels.to_vec(), value: latency.count });
    }
    Family { name, help, kind: FamilyKind::Summary, samples }
}
