//! The targets as they are read back.

use serde_json::{Value, json};

use super::World;
use super::parts::{Kind, Workload};
use super::scenario::Scenario;

/// Everything that can be looked at and operated on; the last two services are never at fault.
pub const TARGET_NAMES: [&str; 10] = [
    "db-server-01",
    "order_service",
    "catalog_service",
    "api-gateway-01",
    "storage-node-01",
    "postgres-01",
    "email-service",
    "api.example.com",
    "payment_service",
    "search_service",
];

impl World {
    /// The kind of a target, if there is one of that name.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<Kind> {
        match name {
            "db-server-01" => Some(Kind::Database),
            "storage-node-01" => Some(Kind::Storage),
            "postgres-01" => Some(Kind::Postgres),
            "api.example.com" => Some(Kind::Certificate),
            _ => self.workloads().into_iter().find(|one| one.name == name).map(|one| one.kind),
        }
    }

    /// One target as JSON: name, kind, host and the state that its kind has.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<Value> {
        let kind = self.kind(name)?;
        let view = match kind {
            Kind::Database => json!({
                "name": "db-server-01",
                "kind": kind,
                "host": "db-server-01",
                "started_at": self.database.started_at,
                "config": self.database.config,
            }),
            Kind::Storage => json!({
                "name": "storage-node-01",
                "kind": kind,
                "host": "storage-node-01",
                "filesystems": self.filesystems,
            }),
            Kind::Postgres => json!({
                "name": "postgres-01",
                "kind": kind,
                "host": "postgres-01",
                "sessions": self.postgres.sessions,
                "idle_ended_at": self.postgres.idle_ended_at,
            }),
            Kind::Certificate => json!({
                "name": "api.example.com",
                "kind": kind,
                "host": "api-gateway-01",
                "not_before": self.certificate.not_before,
                "not_after": self.certificate.not_after,
            }),
            Kind::Service | Kind::Gateway | Kind::Consumer => {
                let workload = self.workloads().into_iter().find(|one| one.name == name)?;
                json!({
                    "name": workload.name,
                    "kind": kind,
                    "host": workload.host,
                    "replicas": workload.replicas,
                    "ready_replicas": self.ready_replicas(workload),
                    "started_at": workload.started_at,
                    "config": workload.config,
                    "jobs": workload.jobs,
                })
            }
        };
        Some(view)
    }

    /// Replicas that answer. Those of the catalog service hang while the gateway answers 503.
    pub(crate) fn ready_replicas(&self, workload: &Workload) -> u32 {
        let hangs = workload.name == self.catalog.name && self.is_active(Scenario::Api503);
        if hangs { 0 } else { workload.replicas }
    }
}
