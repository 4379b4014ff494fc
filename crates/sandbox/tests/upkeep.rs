//! What the coordinator does for its store beside the work.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::time::Duration;

use quell_sandbox::{Options, Sandbox};
use quell_store::audit::{self, Anchors, SigningKey};
use serde_json::json;
use tokio::time::{Instant, sleep};

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_incident_is_dropped_and_anchors_are_written() {
    let kept = tempfile::tempdir().unwrap();
    let (key_file, anchor_file) = (kept.path().join("audit.key"), kept.path().join("anchors.jsonl"));
    let key = SigningKey::generate().unwrap();
    key.write_new(&key_file).unwrap();
    let settings = format!(
        "  autonomy: auto\n  retention: {{closed_incidents: 2s, received: 1s}}\n  audit: {{anchor_interval: 100ms, anchor_file: \"{}\", signing_key_file: \"{}\"}}\n",
        anchor_file.display(),
        key_file.display()
    );
    let options = Options::default().coordinator_alone().replacing("  autonomy: auto\n", &settings);
    let sandbox = Sandbox::start(options).await.unwrap();
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
        let anchors = Anchors::read(&anchor_file, Some(&key.public())).unwrap().anchors;
        if listed == [json!(ids[1])] && anchors.len() >= 2 {
            break;
        }
        assert!(begun.elapsed() < WITHIN, "{listed:?}, {} anchors", anchors.len());
        sleep(Duration::from_millis(20)).await;
    }
    let error = sandbox.get(&format!("/api/incidents/{}", ids[0])).await.unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
    // While the coordinator runs.
    let anchors = Anchors::read(&anchor_file, Some(&key.public())).unwrap().anchors;
    let report = audit::verify(&sandbox.folder().join("coordinator"), &anchors).unwrap();
    assert_eq!((report.finding, report.anchors_agreeing), (None, anchors.len()));
    assert!(report.retention_records >= 1);
}
