//! The faults: their names, how long people usually watch them, and the record of how each one ended.

use jiff::Timestamp;
use serde::Serialize;

/// A fault that can be triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Scenario {
    /// The database refuses connections because a pool and its waiting time are too small.
    #[serde(rename = "database_timeout")]
    DatabaseTimeout,
    /// The order service leaks memory.
    #[serde(rename = "memory_leak")]
    MemoryLeak,
    /// A runaway job eats the order service's processors.
    #[serde(rename = "high_cpu")]
    HighCpu,
    /// The gateway answers 503 because the catalog service hangs.
    #[serde(rename = "api_503")]
    Api503,
    /// Old logs fill the storage node's data disk.
    #[serde(rename = "disk_full")]
    DiskFull,
    /// The certificate of the public API is about to expire.
    #[serde(rename = "certificate_expiry")]
    CertificateExpiry,
    /// One e-mail worker cannot keep up with its queue.
    #[serde(rename = "kafka_lag")]
    KafkaLag,
    /// Idle sessions use up the connections of PostgreSQL.
    #[serde(rename = "postgres_connections")]
    PostgresConnections,
}

impl Scenario {
    /// All scenarios, in the order in which they are listed.
    pub const ALL: [Scenario; 8] = [
        Scenario::DatabaseTimeout,
        Scenario::MemoryLeak,
        Scenario::HighCpu,
        Scenario::Api503,
        Scenario::DiskFull,
        Scenario::CertificateExpiry,
        Scenario::KafkaLag,
        Scenario::PostgresConnections,
    ];

    /// The name in addresses and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scenario::DatabaseTimeout => "database_timeout",
            Scenario::MemoryLeak => "memory_leak",
            Scenario::HighCpu => "high_cpu",
            Scenario::Api503 => "api_503",
            Scenario::DiskFull => "disk_full",
            Scenario::CertificateExpiry => "certificate_expiry",
            Scenario::KafkaLag => "kafka_lag",
            Scenario::PostgresConnections => "postgres_connections",
        }
    }

    /// A line for a menu.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Scenario::DatabaseTimeout => "Database connection timeouts on db-server-01",
            Scenario::MemoryLeak => "Memory leak in order_service",
            Scenario::HighCpu => "Runaway job burns processor time in order_service",
            Scenario::Api503 => "API gateway answers 503",
            Scenario::DiskFull => "Data disk of storage-node-01 is nearly full",
            Scenario::CertificateExpiry => "Certificate of api.example.com is about to expire",
            Scenario::KafkaLag => "Consumer lag of email-service",
            Scenario::PostgresConnections => "Connections of postgres-01 are nearly used up",
        }
    }

    /// The duration that the menu suggests. Some alert rules need longer than this.
    #[must_use]
    pub fn suggested_seconds(self) -> u32 {
        match self {
            Scenario::DatabaseTimeout | Scenario::DiskFull => 60,
            Scenario::MemoryLeak | Scenario::CertificateExpiry => 120,
            Scenario::HighCpu | Scenario::Api503 | Scenario::KafkaLag | Scenario::PostgresConnections => 90,
        }
    }

    /// The scenario of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|scenario| scenario.name() == name)
    }
}

/// Why a fault is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The right action was carried out.
    Healed,
    /// Its duration passed; no action may take the credit.
    Expired,
    /// A person ended all faults.
    Reset,
}

/// What is known of one scenario since the simulator started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScenarioStatus {
    /// Which one.
    pub name: Scenario,
    /// A line for a menu.
    pub title: &'static str,
    /// The duration that the menu suggests.
    pub suggested_seconds: u32,
    /// Whether the fault is present now.
    pub active: bool,
    /// When it was last triggered.
    pub triggered_at: Option<Timestamp>,
    /// When it will end (or would have ended) by itself.
    pub until: Option<Timestamp>,
    /// When the last occurrence ended.
    pub ended_at: Option<Timestamp>,
    /// How the last occurrence ended.
    pub ended: Option<Ending>,
    /// The action that healed the last occurrence.
    pub healed_by: Option<u64>,
}

impl ScenarioStatus {
    pub(crate) fn new(name: Scenario) -> ScenarioStatus {
        ScenarioStatus {
            name,
            title: name.title(),
            suggested_seconds: name.suggested_seconds(),
            active: false,
            triggered_at: None,
            until: None,
            ended_at: None,
            ended: None,
            healed_by: None,
        }
    }

    pub(crate) fn start(&mut self, now: Timestamp, until: Option<Timestamp>) {
        *self =
            ScenarioStatus { active: true, triggered_at: Some(now), until, ..ScenarioStatus::new(self.name) };
    }

    pub(crate) fn end(&mut self, at: Timestamp, ending: Ending, healed_by: Option<u64>) {
        self.active = false;
        self.ended_at = Some(at);
        self.ended = Some(ending);
        self.healed_by = healed_by;
    }
}
