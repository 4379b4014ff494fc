//! What the coordinator does for its store beside the work.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::path::PathBuf;
use std::time::Duration;

use quell_sandbox::{Options, Sandbox, until};
use quell_store::audit::{self, Anchor, Anchors, SigningKey};
use quell_store::testing::{ClusterError, PostgresCluster};
use serde_json::json;
use tokio::time::{Instant, sleep};

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_incident_is_dropped_and_anchors_are_written() {
    let kept = Kept::new();
    let options = Options::default().coordinator_alone().replacing("  autonomy: auto\n", &kept.settings);
    let sandbox = Sandbox::start(options).await.unwrap();
    kept.until_one_is_dropped(&sandbox).await;
    // While the coordinator runs.
    let anchors = kept.anchors();
    let report = audit::verify(&sandbox.folder().join("coordinator"), &anchors).unwrap();
    assert_eq!((report.finding, report.anchors_agreeing), (None, anchors.len()));
    assert!(report.retention_records >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_postgresql() {
    let cluster = match PostgresCluster::start() {
        Ok(cluster) => cluster,
        Err(missing @ ClusterError::Missing) => {
            println!("skipped: upkeep on PostgreSQL: {missing}");
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    cluster.create_database("site").unwrap();
    let kept = Kept::new();
    let database = format!("  database_url: \"{}\"\n{}", cluster.url("site"), kept.settings);
    let options = Options::default().coordinator_alone().replacing("  autonomy: auto\n", &database);
    let sandbox = Sandbox::start(options).await.unwrap();
    kept.until_one_is_dropped(&sandbox).await;
    // The record that says so comes first, and then the payloads go.
    let gone = until("the payloads to be given up", WITHIN, async || {
        let anchors = kept.anchors();
        let report = audit::verify_database(&cluster.url("site"), &anchors).await.unwrap();
        assert_eq!((report.finding, report.anchors_agreeing), (None, anchors.len()));
        let is_done = report.retention_records >= 1 && report.dropped >= 1;
        is_done.then_some(()).ok_or_else(|| format!("{:?}", report.head))
    });
    gone.await.unwrap_or_else(|error| panic!("{error}"));
}

/// What is kept elsewhere, and the settings with it.
struct Kept {
    _folder: tempfile::TempDir,
    anchor_file: PathBuf,
    key: SigningKey,
    settings: String,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key_file, anchor_file) = (folder.path().join("audit.key"), folder.path().join("anchors.jsonl"));
        let key = SigningKey::generate().unwrap();
        key.write_new(&key_file).unwrap();
        let settings = format!(
            "  autonomy: auto\n  retention: {{closed_incidents: 2s, received: 1s}}\n  audit: {{anchor_interval: 100ms, anchor_file: \"{}\", signing_key_file: \"{}\"}}\n",
            anchor_file.display(),
            key_file.display()
        );
        Self { _folder: folder, anchor_file, key, settings }
    }

    fn anchors(&self) -> Vec<Anchor> {
        Anchors::read(&self.anchor_file, Some(&self.key.public())).unwrap().anchors
    }

    /// Opens two incidents, closes one, and waits for that to be dropped.
    async fn until_one_is_dropped(&self, sandbox: &Sandbox) {
        let mut ids = Vec::new();
        for title in ["closed", "open"] {
            let draft = json!({"title": title, "severity": "high"});
            let opened = sandbox.post("/api/incidents", &draft).await.unwrap();
            ids.push(opened["id"].as_str().unwrap().to_owned());
        }
        sandbox.post(&format!("/api/incidents/{}/close", ids[0]), &json!({"why": "done"})).await.unwrap();
        let begun = Instant::now();
        loop {
            let listed = sandbox.get("/api/incidents").await.unwrap();
            let listed: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
            let anchors = self.anchors().len();
            if listed == [json!(ids[1])] && anchors >= 2 {
                break;
            }
            assert!(begun.elapsed() < WITHIN, "{listed:?}, {anchors} anchors");
            sleep(Duration::from_millis(20)).await;
        }
        let error = sandbox.get(&format!("/api/incidents/{}", ids[0])).await.unwrap_err().to_string();
        assert!(error.contains("404"), "{error}");
    }
}
