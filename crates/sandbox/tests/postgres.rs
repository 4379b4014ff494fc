//! A site whose coordinator keeps everything in PostgreSQL, on a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::time::Duration;

use quell_sandbox::{Options, Part, Sandbox};
use quell_store::testing::{ClusterError, PostgresCluster};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(30);

async fn health(sandbox: &Sandbox) -> (u16, serde_json::Value) {
    let answer = sandbox.client().get(sandbox.url("/health")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn until_health_is(sandbox: &Sandbox, status: u16) {
    let asking = async {
        while health(sandbox).await.0 != status {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(WITHIN, asking).await.is_ok(), "health never answered {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_healed_on_postgresql_also_after_the_database_and_the_coordinator_were_gone() {
    let cluster = match PostgresCluster::start() {
        Ok(cluster) => cluster,
        Err(missing @ ClusterError::Missing) => {
            println!("skipped: a site on PostgreSQL: {missing}");
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    cluster.create_database("site").unwrap();
    let setting = format!("coordinator:\n  database_url: \"{}\"\n", cluster.url("site"));
    let mut sandbox = Sandbox::start(Options::default().replacing("coordinator:\n", &setting)).await.unwrap();
    assert_eq!(health(&sandbox).await, (200, json!({"status": "healthy", "database": "connected"})));
    sandbox.trigger("memory_leak", None).await.unwrap();
    let is_closed = |incident: &serde_json::Value| incident["status"] == "closed";
    let incident = sandbox.incident("the incident to be closed", WITHIN, is_closed).await.unwrap();
    assert_eq!(incident["resolution"]["by"], "runbook", "{incident:#}");

    cluster.crash().unwrap();
    until_health_is(&sandbox, 503).await;
    let late = json!({"title": "While it was away", "description": "x", "priority": "P3"});
    let refused = sandbox.client().post(sandbox.url("/api/incidents")).json(&late).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 503, "{}", refused.text().await.unwrap());
    cluster.restart().unwrap();
    until_health_is(&sandbox, 200).await;
    sandbox.kill(Part::Coordinator);
    sandbox.restart(Part::Coordinator).await.unwrap();
    let path = format!("/api/incidents/{}", incident["id"].as_str().unwrap());
    let again = sandbox.get(&path).await.unwrap();
    assert_eq!(again["revision"], incident["revision"]);
    assert!(!sandbox.folder().join("coordinator/journal").exists(), "nothing is kept in the data folder");
}
