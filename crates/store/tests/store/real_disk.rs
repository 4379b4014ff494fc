//! A file system that is really full: a small tmpfs, for which one has to be root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quell_store::{EmbeddedStore, IncidentStore, ReceivedPosition, StoreError};

use crate::embedded::options;
use crate::fixtures::*;

/// Unmounted when it is dropped.
struct Mounted {
    folder: PathBuf,
    _under: tempfile::TempDir,
}

impl Mounted {
    fn tmpfs(size: &str) -> Option<Self> {
        let under = tempfile::tempdir().unwrap();
        let folder = under.path().to_owned();
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { folder, _under: under })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.folder).status();
    }
}

fn filler(folder: &Path) -> PathBuf {
    folder.join("filler")
}

/// Takes all the space that is left.
fn fill_up(folder: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(filler(folder)).unwrap();
    for bytes in [64 << 10, 4 << 10, 512, 1] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_try_again_and_heals_when_there_is_space() {
    let Some(disk) = Mounted::tmpfs("24m") else {
        #[allow(clippy::print_stdout, reason = "counted by `cargo xtask test`")]
        {
            println!("skipped: a store on a full tmpfs: mounting one takes root");
        }
        return;
    };
    let folder = disk.folder.join("data");
    let store = EmbeddedStore::open(&folder, options()).unwrap();
    let mut acknowledged = Vec::new();
    let mut refusals = 0;
    for round in 0..3_u64 {
        for number in 0..20 {
            acknowledged.push(store.receive(received(round * 1_000 + number)).await.unwrap());
        }
        fill_up(&disk.folder);
        for number in 0..200 {
            match store.receive(received(round * 1_000 + 100 + number)).await {
                Ok(position) => acknowledged.push(position),
                Err(error) => {
                    assert!(error.is_retryable(), "answered by 503: {error}");
                    refusals += u64::from(matches!(error, StoreError::Full(_)));
                }
            }
        }
        std::fs::remove_file(filler(&disk.folder)).unwrap();
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
