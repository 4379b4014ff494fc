//! What is written is for its owner alone, whatever the umask, and whatever was there before.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use quell_store::{EmbeddedStore, IncidentStore};

use crate::embedded::{fill, options};
use crate::fixtures::*;

fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.is_dir() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn used(folder: &Path) {
    let store = EmbeddedStore::open(folder, options()).unwrap();
    fill(&store).await;
    store.put_document(incident_id(4), b"evidence".to_vec()).await.unwrap();
}

/// As a process makes them whose umask closes nothing.
fn open_all(folder: &Path) {
    for path in everything(folder) {
        let open = if path.is_dir() { 0o777 } else { 0o666 };
        fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
    }
}

fn assert_closed(folder: &Path) {
    let all = everything(folder);
    assert!(all.len() > 8, "{all:?}");
    for path in all {
        let closed = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), closed, "{}", path.display());
    }
}

#[tokio::test]
async fn new_files_and_folders_are_closed() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("not/yet/there");
    used(&folder).await;
    assert_closed(&folder);
}

#[tokio::test]
async fn open_ones_are_closed_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    used(folder.path()).await;
    open_all(folder.path());
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    store.put_document(incident_id(4), b"more".to_vec()).await.unwrap();
    drop(store);
    for path in everything(folder.path()) {
        // A document that was written before is behind a closed folder.
        let is_document = path.is_file() && path.components().any(|part| part.as_os_str() == "documents");
        let closed = if path.is_dir() { 0o700 } else { 0o600 };
        assert!(is_document || mode(&path) == closed, "{}: {:o}", path.display(), mode(&path));
    }
}

#[tokio::test]
async fn a_folder_that_is_not_ours_alone_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), b"not ours").unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    used(folder.path()).await;
    assert_eq!(mode(folder.path()), 0o755);
    for name in ["journal", "index", "documents"] {
        assert_eq!(mode(&folder.path().join(name)), 0o700, "{name}");
    }
}
