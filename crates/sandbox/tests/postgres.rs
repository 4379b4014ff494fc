//! A site whose coordinator keeps everything in PostgreSQL, on a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quell_incident::alert::{AlertKey, Fingerprint};
use quell_incident::ids::SourceName;
use quell_sandbox::{Options, Part, Sandbox};
use quell_store::testing::{ClusterError, PostgresCluster};
use quell_store::{IncidentStore as _, PostgresStore};
use serde_json::json;
use tokio::task::JoinSet;

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

/// Webhooks go on whatever happens to the database, as many senders would, and remember what they were told.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_answered_503_while_the_database_is_away_and_nothing_acknowledged_is_lost() {
    let cluster = match PostgresCluster::start() {
        Ok(cluster) => cluster,
        Err(missing @ ClusterError::Missing) => {
            println!("skipped: webhooks without a database: {missing}");
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    cluster.create_database("site").unwrap();
    let setting = format!("coordinator:\n  database_url: \"{}\"\n", cluster.url("site"));
    let options = Options::default().coordinator_alone().replacing("coordinator:\n", &setting);
    let sandbox = Sandbox::start(options).await.unwrap();
    let (stop, gone_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut senders = JoinSet::new();
    for sender in 0..4_u64 {
        let (client, url) = (sandbox.client().clone(), sandbox.url("/webhooks/alertmanager"));
        let (stop, gone_on) = (Arc::clone(&stop), Arc::clone(&gone_on));
        senders.spawn(async move {
            let (mut acknowledged, mut refused) = (Vec::new(), 0);
            for number in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let fingerprint = format!("{:016x}", sender << 32 | number);
                let answer = client.post(&url).json(&webhook(&fingerprint)).send().await.unwrap();
                match answer.status().as_u16() {
                    200 => acknowledged.push(fingerprint),
                    503 => {
                        assert!(answer.headers().contains_key("retry-after"));
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    other => panic!("{other}: {}", answer.text().await.unwrap()),
                }
                gone_on.fetch_add(1, Ordering::SeqCst);
            }
            (acknowledged, refused)
        });
    }
    for _ in 0..2 {
        cluster.crash().unwrap();
        until_health_is(&sandbox, 503).await;
        // Every sender is answered meanwhile, and none waits for the database.
        let before = gone_on.load(Ordering::SeqCst);
        let answered = async {
            while gone_on.load(Ordering::SeqCst) < before + 40 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(WITHIN, answered).await.is_ok(), "webhooks are not answered");
        cluster.restart().unwrap();
        until_health_is(&sandbox, 200).await;
    }
    stop.store(true, Ordering::SeqCst);
    let told = senders.join_all().await;
    assert!(told.iter().all(|(acknowledged, refused)| !acknowledged.is_empty() && *refused > 0));
    // It healed by itself: all that was acknowledged becomes part of incidents.
    let store = PostgresStore::open(&cluster.url("site"), uuid::Uuid::nil()).await.unwrap();
    for fingerprint in told.into_iter().flat_map(|(acknowledged, _)| acknowledged) {
        let key = AlertKey {
            source: SourceName::declared("alertmanager").unwrap(),
            fingerprint: Fingerprint::given(&fingerprint).unwrap(),
        };
        let correlated = async {
            while store.incident_of_alert(&key).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(WITHIN, correlated).await.is_ok(), "{fingerprint} was lost");
    }
}

fn webhook(fingerprint: &str) -> serde_json::Value {
    json!({
        "version": "4", "status": "firing", "groupKey": format!("{{}}:{{alertname=\"HighMemoryUsage\", instance=\"{fingerprint}\"}}"),
        "alerts": [{
            "status": "firing", "labels": {"alertname": "HighMemoryUsage", "severity": "warning", "instance": fingerprint},
            "annotations": {"summary": "memory nearly full"}, "startsAt": "2026-05-01T12:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z", "fingerprint": fingerprint
        }]
    })
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
