//! A data folder that is not what was left: named, and left as it is.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quell_store::{EmbeddedStore, StoreError};

use crate::embedded::{fill, options, reopened};

async fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fill(&reopened(folder.path())).await;
    folder
}

fn segment(folder: &Path) -> PathBuf {
    folder.join("journal/00000000000000000001.journal")
}

/// Why the folder cannot be opened.
fn refusal(folder: &Path) -> String {
    let before = fs::read(segment(folder)).unwrap();
    let error = EmbeddedStore::open(folder, options()).unwrap_err();
    assert!(
        matches!(error, StoreError::Open { .. } | StoreError::Lost { .. }) && !error.is_retryable(),
        "{error}"
    );
    assert_eq!(fs::read(segment(folder)).unwrap(), before);
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

#[tokio::test]
async fn each_has_its_name() {
    let changed = |change: fn(&mut Vec<u8>)| async move {
        let folder = filled().await;
        let mut content = fs::read(segment(folder.path())).unwrap();
        change(&mut content);
        fs::write(segment(folder.path()), content).unwrap();
        refusal(folder.path())
    };
    let newer = changed(|content| content[8] = 9).await;
    assert!(
        newer.ends_with("has format version 9, this program knows up to 2; use the newer program"),
        "{newer}"
    );
    let damaged = changed(|content| content[3_000] ^= 1).await;
    assert!(
        damaged.contains("journal is damaged") && damaged.contains("quell store accept-loss"),
        "{damaged}"
    );
    let cut = changed(|content| content.truncate(content.len() - 400)).await;
    assert!(cut.contains("acknowledged records are gone; "), "{cut}");
}

#[tokio::test]
async fn a_folder_of_another_process_is_refused_by_its_pid() {
    let folder = filled().await;
    let journal = folder.path().join("journal/LOCK");
    // `flock` holds it as another process of ours would.
    let mut held = Command::new("flock");
    held.arg(&journal).args(["sh", "-c", "echo held; read end"]);
    let mut holder = match held.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Ok(holder) => holder,
        Err(_) => {
            #[allow(clippy::print_stdout, reason = "counted by `cargo xtask test`")]
            {
                println!("skipped: a folder held by another process: there is no flock");
            }
            return;
        }
    };
    let mut said = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
    let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { pid: Some(_), .. }), "{error}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    reopened(folder.path());
}
