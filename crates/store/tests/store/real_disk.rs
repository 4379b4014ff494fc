//! A file system that is really full: a small tmpfs, for which one has to be root.

use std::time::{Duration, Instant};

use quell_store::testing::SmallDisk;
use quell_store::{EmbeddedStore, IncidentStore, ReceivedPosition, StoreError};

use crate::embedded::options;
use crate::fixtures::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_try_again_and_heals_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        #[allow(clippy::print_stdout, reason = "counted by `cargo xtask test`")]
        {
            println!("skipped: a store on a full tmpfs: mounting one takes root");
        }
        return;
    };
    let folder = disk.folder().join("data");
    let store = EmbeddedStore::open(&folder, options()).unwrap();
    let mut acknowledged = Vec::new();
    let mut refusals = 0;
    for round in 0..3_u64 {
        for number in 0..20 {
            acknowledged.push(store.receive(received(round * 1_000 + number)).await.unwrap());
        }
        disk.fill().unwrap();
        for number in 0..200 {
            match store.receive(received(round * 1_000 + 100 + number)).await {
                Ok(position) => acknowledged.push(position),
                Err(error) => {
                    assert!(error.is_retryable(), "answered by 503: {error}");
                    refusals += u64::from(matches!(error, StoreError::Full(_)));
                }
            }
        }
        disk.clear().unwrap();
        let begun = Instant::now();
        loop {
            match store.receive(received(round * 1_000 + 999)).await {
                Ok(position) => {
                    acknowledged.push(position);
                    break;
                }
                Err(error) => assert!(
                    error.is_retryable() && begun.elapsed() < Duration::from_secs(20),
                    "it goes on by itself: {error}"
                ),
            }
        }
    }
    assert!(refusals > 100, "the disk was full: {refusals}");
    drop(store);
    let store = EmbeddedStore::open(&folder, options()).unwrap();
    let found = store.received_after(ReceivedPosition::default(), 10_000).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|(position, _)| position).collect();
    assert_eq!(found, acknowledged, "what was acknowledged, and nothing else");
}
