//! Opening the journal against what else stands in the data folder: the journal is the truth, but it cannot tell that its end was cut
//! off, or that it was exchanged. The index and the documents can, since they only ever know what was durable before.
//!
//! The index is written after the journal's sync and never before, so it is behind the journal after every crash and power cut, and
//! agrees with it. One that is ahead, or has another chain, proves that acknowledged records are gone: then nothing is opened.

use std::path::{Path, PathBuf};

use quell_journal::{Error, Journal, OpenReport, Options, Witness};

use super::documents::Documents;
use super::index::Index;
use super::replay::{Obstacle, guarded};
use super::{INDEX_FOLDER, JOURNAL_FOLDER, record};
use crate::error::StoreError;

/// An acceptance of a loss stands here from before its first change until after its last.
pub(super) const ACCEPTANCE: &str = "accept-loss.json";

/// A journal that nobody contradicts.
pub(crate) struct Witnessed {
    pub(crate) journal: Journal,
    pub(crate) report: OpenReport,
    /// The index, or what is wrong with it; none when there is none.
    pub(super) index: Option<Result<Index, Obstacle>>,
    /// Neither the durable mark nor an index is there: whether the end was cut off cannot be told.
    pub(crate) unwitnessed: bool,
}

/// Opens the journal of a data folder.
pub(crate) fn open(folder: &Path, options: Options, cache_bytes: u64) -> Result<Witnessed, StoreError> {
    let journal_folder = folder.join(JOURNAL_FOLDER);
    if folder.join(ACCEPTANCE).exists() {
        return Err(unfinished(folder));
    }
    let mut index = None;
    let witnesses = || {
        let index_folder = folder.join(INDEX_FOLDER);
        if index_folder.exists() {
            index = Some(guarded(|| Ok(Index::open(&index_folder, cache_bytes)?)));
        }
        let noted = index.iter().flatten().flat_map(Index::notes).collect::<Vec<_>>();
        noted.into_iter().chain(documents(folder)).collect()
    };
    let opened = Journal::open_against(&journal_folder, options, witnesses);
    let (journal, report) = opened.map_err(|error| refusal(folder, error))?;
    let noted = |index: &Index| index.notes().iter().any(|note| note.sequence > 0);
    let unwitnessed = report.mark_missing && !index.iter().flatten().any(noted);
    Ok(Witnessed { journal, report, index, unwitnessed })
}

/// A document belongs to an incident that was durable before it was written.
fn documents(folder: &Path) -> Option<Witness> {
    let incidents = Documents::new(folder).incidents().unwrap_or_default().len();
    let who = format!("the evidence of {incidents} incidents in `documents`");
    (incidents > 0).then_some(Witness { who, journal_id: None, sequence: 1, chain_hash: None })
}

fn refusal(folder: &Path, error: Error) -> StoreError {
    let failed = |error: Error| StoreError::Open { folder: folder.to_owned(), source: error.into() };
    match error {
        Error::Locked { pid, .. } => StoreError::Locked { folder: folder.to_owned(), pid },
        Error::Contradicted(_)
        | Error::SegmentMissing { .. }
        | Error::ForeignFile { .. }
        | Error::Corrupt(_) => match quell_journal::sound_end(&folder.join(JOURNAL_FOLDER)) {
            Ok(end) => StoreError::Lost {
                folder: folder.to_owned(),
                at: end.head.sequence,
                what: format!("{error}{}", last_written(folder, end.head.sequence)),
            },
            Err(_) => failed(error),
        },
        error => failed(error),
    }
}

fn unfinished(folder: &Path) -> StoreError {
    let at = super::loss::begun(folder).ok().flatten().map_or(0, |begun| begun.ended_at);
    let what = format!("giving up what was lost after record {at} was begun and not finished");
    StoreError::Lost { folder: folder.to_owned(), at, what }
}

/// When the last record that has a time was written, as far as that can be told.
fn last_written(folder: &Path, end: u64) -> String {
    let mut last = None;
    // As far as it can be read.
    let _ = quell_journal::verify_each(&folder.join(JOURNAL_FOLDER), &[], &mut |entry| {
        if entry.sequence <= end {
            last = record::time_of(&entry).or(last);
        }
    });
    last.map_or_else(String::new, |at| format!("; what is left was written until {at}"))
}

/// How the index of a data folder compares with its journal, for an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// There is none.
    Missing,
    /// Its last note agrees with the journal.
    Agrees {
        /// Up to this record.
        sequence: u64,
    },
    /// It was not compared.
    NotCompared {
        /// Why.
        why: String,
    },
}

/// What the index of a data folder noted of the journal. Reads a copy of it, since opening an index changes it.
pub(crate) fn read_notes(folder: &Path) -> Result<Option<Vec<Witness>>, String> {
    let index = folder.join(INDEX_FOLDER);
    if !index.is_dir() {
        return Ok(None);
    }
    if in_use(&index.join("db")) {
        return Err("a process has it in use, which compared it when it started".to_owned());
    }
    let copy = tempfile::tempdir().map_err(|error| error.to_string())?;
    copy_folder(&index, copy.path()).map_err(|error| format!("it cannot be copied: {error}"))?;
    let opened = guarded(|| Ok(Index::open(copy.path(), 1 << 20)?.notes()));
    opened.map(Some).map_err(|obstacle| match obstacle {
        Obstacle::Index(trouble) => trouble.to_string(),
        Obstacle::Journal(error) => error.to_string(),
    })
}

fn in_use(file: &Path) -> bool {
    std::fs::File::open(file)
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
