//! A coordinator whose disk is full: senders are told to try again, nothing that was acknowledged is lost, and it goes on by itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic, and what was skipped is said"
)]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{firing, payload, post, still};
use quell_sandbox::{Part, Sandbox, until};
use quell_store::testing::SmallDisk;
use serde_json::Value;

const DISK_BYTES: u64 = 24 << 20;
/// Alerts that are sent again and again while the disk is full.
const SENT_WHEN_FULL: usize = 60;
const HEALS_WITHIN: Duration = Duration::from_secs(30);

/// One webhook with one alert of its own; whether it was acknowledged. Anything else than "try again later" is a failure.
async fn send(sandbox: &Sandbox, name: &str) -> bool {
    let alert = firing(name, &[("instance", name)]);
    let answer = post(sandbox, "/webhooks/alertmanager", payload(&[alert]).to_string()).await;
    if answer.status == 200 {
        return true;
    }
    answer.is_problem(name, 503, &["send them again"]);
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{answer:?}");
    false
}

async fn names(sandbox: &Sandbox) -> Result<BTreeSet<String>, String> {
    let all = sandbox.get("/api/incidents?view=full").await.map_err(|error| error.to_string())?;
    let name = |incident: &Value| incident["alert_name"].as_str().unwrap().to_owned();
    Ok(all.as_array().unwrap().iter().map(name).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_try_again_nothing_is_lost_and_it_heals() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else {
        println!("skipped: a coordinator on a full tmpfs: mounting one takes root");
        return;
    };
    // The rest of that line becomes a comment.
    let setting = format!("\n  data_dir: \"{}\" # ", disk.folder().join("data").display());
    let options = still().replacing("\n  data_dir: ", &setting);
    let mut sandbox = Sandbox::start(options).await.unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut refused = 0;
    for round in 0..2 {
        for number in 0..20 {
            let name = format!("Before{round}No{number}");
            assert!(send(&sandbox, &name).await, "{name}: there is space");
            acknowledged.insert(name);
        }
        let refused_before = refused;
        for number in 0..SENT_WHEN_FULL {
            // Again, since the index gives space back meanwhile.
            disk.fill().unwrap();
            let name = format!("Full{round}No{number}");
            if send(&sandbox, &name).await {
                acknowledged.insert(name);
            } else {
                refused += 1;
            }
        }
        // Some find room in the last page of a file.
        let refused_now = refused - refused_before;
        assert!(refused_now >= SENT_WHEN_FULL / 2, "the disk was hardly full: {refused_now}");
        disk.clear().unwrap();
        let begun = Instant::now();
        let name = format!("After{round}");
        until("the coordinator to take alerts again by itself", HEALS_WITHIN, async || {
            if send(&sandbox, &name).await { Ok(()) } else { Err("503".to_owned()) }
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"));
        println!("taken again {:.2} s after there was space", begun.elapsed().as_secs_f64());
        acknowledged.insert(name);
        until("all that was acknowledged to be in incidents", HEALS_WITHIN, async || {
            let names = names(&sandbox).await?;
            let missing: Vec<_> = acknowledged.difference(&names).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"));
        let health = common::get(&sandbox, "/health").await;
        assert_eq!(health.status, 200, "{health:?}");
    }
    println!("{} acknowledged, {refused} told to try again", acknowledged.len());
    sandbox.kill(Part::Coordinator);
    sandbox.restart(Part::Coordinator).await.unwrap();
    assert_eq!(names(&sandbox).await.unwrap(), acknowledged, "what was acknowledged, and nothing else");
}
