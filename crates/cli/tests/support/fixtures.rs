//! Incidents as the API shows them.

use quell_incident::{Digest, Plan};
use serde_json::{Value, json};

pub const DATABASE: &str = "01969000-1111-7000-8000-0000003f2a9c";
pub const MEMORY: &str = "01969000-2222-7000-8000-0000007b44d1";
pub const DISK: &str = "01969000-3333-7000-8000-000000c05e77";

/// Just opened.
pub fn opened(id: &str, draft: &Value) -> Value {
    json!({
        "id": id,
        "title": draft["title"],
        "description": draft["description"],
        "alert_name": draft["alert_name"],
        "priority": draft["priority"],
        "severity": draft["severity"],
        "status": "open",
        "phase": "settling",
        "affected_systems": draft["affected_systems"],
        "tags": draft["tags"],
        "component": draft["component"],
        "service": draft["service"],
        "fingerprints": [],
        "alerts_total": 0,
        "alerts_firing": 0,
        "origin": "ada",
        "linked_to": null,
        "started_at": "2026-05-01T12:09:30Z",
        "created_at": "2026-05-01T12:09:30Z",
        "updated_at": "2026-05-01T12:09:30Z",
        "resolved_at": null,
        "closed_at": null,
        "acknowledged_by": [],
        "reopened": 0,
        "resolution": null,
        "summary": "taken; waits a moment for what belongs to it",
        "diagnostics": null,
        "remediation_actions": [],
        "plan": null,
        "question": null,
        "post_mortem": null,
        "revision": "1",
        "timeline": [],
    })
}

/// One with everything: a diagnosis, a plan that waits for approval, and a hostile title.
pub fn database() -> Value {
    let mut incident = opened(
        DATABASE,
        &json!({
            "title": "Database connection timeout on db-server-01\u{1b}[2J", "description": "Clients of customer_db run into timeouts.",
            "alert_name": "DatabaseConnectionTimeout", "priority": "P0", "severity": "high", "component": "database",
            "service": "", "tags": ["database", "timeout"], "affected_systems": ["db-server-01"],
        }),
    );
    let (plan, digest) = plan();
    let more = json!({
        "status": "investigating", "phase": "awaiting_approval", "origin": "alertmanager",
        "alerts_total": 1, "alerts_firing": 1,
        "started_at": "2026-05-01T12:04:30Z", "created_at": "2026-05-01T12:05:00Z", "updated_at": "2026-05-01T12:05:20Z",
        "summary": "waits for approval: raise the connection pool",
        "diagnostics": {
            "metrics": {"m1": {
                "id": "m1", "kind": "metric", "source": "prometheus", "query": "db_connection_timeout_total[5m]",
                "from": "2026-05-01T12:00:00Z", "to": "2026-05-01T12:05:00Z", "summary": "0.71 timeouts per second, 0.01 before",
            }},
            "logs": {}, "pods": {}, "dependencies": {},
            "root_cause": "connection_pool_exhausted",
            "statement": "the connection pool of db-server-01 is exhausted",
            "claims": [{"by": "rules", "statement": "connections wait longer than the timeout", "evidence": ["m1"]}],
            "confidence": 0.92,
            "abstained": null,
            "alternatives": [{
                "cause": "slow_queries", "statement": "queries are slow by themselves", "confidence": 0.4, "calibrated": false,
                "not_first_because": "the queries were fast before",
            }],
            "recommended_actions": ["update_config", "restart_service"],
            "unavailable": [{"source": "loki", "query": "{host=\"db-server-01\"}", "why": "connection refused"}],
            "reference_time": "2026-05-01T12:05:00Z", "engine": "rules/1",
        },
        "plan": {"digest": digest, "plan": plan},
        "question": {
            "kind": "approval", "text": "approve: raise the connection pool", "plan_digest": digest,
            "asked_at": "2026-05-01T12:05:20Z", "expires_at": "2026-05-01T12:15:00Z", "approvals_needed": 1, "approvals_given": [],
        },
        "timeline": [
            {"at": "2026-05-01T12:05:00Z", "actor": "alertmanager", "type": "opened", "text": "opened by alertmanager: Database connection timeout", "revision": "1"},
            {"at": "2026-05-01T12:05:10Z", "actor": "diagnostic", "type": "diagnosed", "text": "root cause connection_pool_exhausted", "revision": "2"},
            {"at": "2026-05-01T12:05:20Z", "actor": "workflow", "type": "approval_asked", "text": "approval of the plan asked", "revision": "3"},
        ],
    });
    incident.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    incident
}

/// Under way, nothing known yet.
pub fn memory() -> Value {
    let mut incident = opened(
        MEMORY,
        &json!({
            "title": "High memory usage on app-server-01", "description": "order_service grows.", "alert_name": "HighMemoryUsage",
            "priority": "P2", "severity": "warning", "component": "memory", "service": "order_service",
            "tags": ["memory"], "affected_systems": ["app-server-01"],
        }),
    );
    incident["status"] = json!("investigating");
    incident["phase"] = json!("diagnosing");
    incident["summary"] = json!("looking for the root cause");
    incident
}

/// Over.
pub fn disk() -> Value {
    let mut incident = opened(
        DISK,
        &json!({
            "title": "Disk space critical on storage-node-01", "description": "/data is full.", "alert_name": "DiskSpaceCritical",
            "priority": "P1", "severity": "critical", "component": "disk", "service": "",
            "tags": ["disk"], "affected_systems": ["storage-node-01"],
        }),
    );
    let more = json!({
        "status": "closed", "phase": "closed", "created_at": "2026-04-28T08:00:00Z",
        "resolved_at": "2026-04-28T08:06:00Z", "closed_at": "2026-04-28T08:16:00Z",
        "summary": "resolved by runbook disk-clean-up",
        "remediation_actions": [
            {"action": "clean", "target": "storage-node-01", "from": 500, "to": 3000, "undo": false,
             "timestamp": "2026-04-28T08:02:00Z", "ended_at": "2026-04-28T08:02:05Z", "success": true, "error": null, "key": "k1"},
            {"action": "update_config", "target": "storage-node-01", "from": {"keep_days": 30, "size": "1G"},
             "to": {"keep_days": 7, "size": "1G"}, "undo": false,
             "timestamp": "2026-04-28T08:03:00Z", "ended_at": "2026-04-28T08:03:05Z", "success": false, "error": "read-only", "key": "k2"},
        ],
        "post_mortem": "# Disk space critical\n\n- resolved by runbook disk-clean-up\n",
        "timeline": [{"at": "2026-04-28T08:16:00Z", "actor": "workflow", "type": "closed", "text": "closed; it was resolved", "revision": "9"}],
    });
    incident.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    incident
}

/// A plan, as the API shows it, and its digest as the domain computes it.
pub fn plan() -> (Value, String) {
    let call = |action: &str, target: &str, arguments: Value| json!({"tool": "deployment-system", "action": action, "target": target, "arguments": arguments});
    let plan = json!({
        "schema": "quell/plan/v1",
        "incident_id": DATABASE,
        "runbook": "database-pool",
        "runbook_digest": Digest::of_bytes(b"runbook"),
        "cause": "connection_pool_exhausted",
        "summary": "raise the connection pool",
        "steps": [
            {
                "name": "raise-pool", "title": "raise timeout and pool", "target": "db-server-01",
                "call": call("update_config", "db-server-01", json!({"connection_timeout": 30, "pool_size": 20})),
                "preview": {"summary": "two values change", "changes": [
                    {"what": "connection_timeout", "from": 10, "to": 30}, {"what": "pool_size", "from": 10, "to": 20},
                ]},
                "undo": {"kind": "inverse", "call": call("update_config", "db-server-01", json!({"connection_timeout": 10, "pool_size": 10}))},
                "timeout": "PT2M", "idempotent": true,
            },
            {
                "name": "restart", "title": "restart order_service", "target": "order_service",
                "call": call("restart_service", "order_service", json!({})),
                "preview": {"summary": "one process restarts", "changes": [], "limits": "how long the restart takes"},
                "undo": {"kind": "not_needed", "why": "a restart leaves nothing behind"},
                "timeout": "PT1M", "idempotent": false,
            },
        ],
        "checks": [{
            "name": "no timeouts", "metric": "db_connection_timeout_total", "labels": {"instance": "db-server-01:9090"},
            "reduce": "rate", "holds_if": "<", "value": 0.5,
        }],
        "alert_look_back": "PT1M",
        "made_at": "2026-05-01T12:05:18Z",
        "valid_until": "2026-05-01T12:35:18Z",
        "agent": {"instance": "resolution-1", "ledger": "ledger-1"},
    });
    let typed: Plan = serde_json::from_value(plan).unwrap();
    let digest = typed.digest().unwrap().to_string();
    (serde_json::to_value(&typed).unwrap(), digest)
}
