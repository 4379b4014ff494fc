//! Small helpers: a journal on a simulated disk, and what is in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quell_journal::{Contradiction, Found, Journal, OpenReport, Options, Record, SimulatedDisk, Uuid};

pub(crate) const FOLDER: &str = "journal";

pub(crate) fn id() -> Uuid {
    Uuid::from_u128(0x0190_aaaa_bbbb_7ccc_8ddd_eeee_ffff_0001)
}

pub(crate) fn on(disk: &SimulatedDisk) -> Options {
    Options { disk: Arc::new(disk.clone()), ..Options::new(id()) }
}

pub(crate) fn open(options: Options) -> (Journal, OpenReport) {
    Journal::open(Path::new(FOLDER), options).unwrap()
}

pub(crate) fn segment(first_sequence: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{first_sequence:020}.journal"))
}

pub(crate) fn mark() -> PathBuf {
    Path::new(FOLDER).join("durable.mark")
}

pub(crate) fn records(texts: &[&str]) -> Vec<Record> {
    texts.iter().map(|text| Record::new(7, *text)).collect()
}

pub(crate) fn texts(journal: &Journal) -> Vec<String> {
    journal.iter_from(1).map(|entry| String::from_utf8(entry.unwrap().payload).unwrap()).collect()
}

/// What was noted and where the journal ends before it.
pub(crate) fn ends_before(contradiction: &Contradiction) -> Option<(u64, u64)> {
    match contradiction.found {
        Found::EndsBefore(end) => Some((contradiction.witness.sequence, end.sequence)),
        _ => None,
    }
}

/// A disk with these files, durable, under the names that `support` gives them.
pub(crate) fn disk_with(files: &[(PathBuf, Vec<u8>)]) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    for (path, content) in files {
        disk.set_content(path, content.clone());
    }
    disk
}

/// All files but the lock.
pub(crate) fn files(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().map(|path| (path.clone(), disk.content(&path).unwrap())).collect()
}
