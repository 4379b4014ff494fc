//! Opening the journal against what else stands in the data folder: the journal is the truth, but it cannot tell that its end was cut
//! off, or that it was exchanged. The index and the documents can, since they only ever know what was durable before.
//!
//! The index is written after the journal's sync and never before, so it is behind the journal after every crash and power cut, and
//! agrees with it. One that is ahead, or has another chain, proves that acknowledged records are gone: then nothing is opened.
//! Evidence is written only for an incident that is durable, and it goes only after a retention record that names its incident: evidence
//! of an incident that the journal neither has nor dropped proves the same.
//!
//! Opening a journal makes its durable mark anew. Where nobody else knew the end that would make a cut journal look whole from then on, so
//! before it a note is left in the folder ([`UNKNOWN_END`]), which goes only when the journal itself notes that its end was not known.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quell_incident::ids::IncidentId;
use quell_journal::{Entry, Error, Head, Journal, MissingMark, OpenReport, Options, VerifyReport, Witness};
use serde::{Deserialize, Serialize};

use super::documents::{Documents, sync_folders, write_whole};
use super::index::{self, Index};
use super::replay::{Obstacle, guarded};
use super::{INDEX_FOLDER, JOURNAL_FOLDER, record};
use crate::error::StoreError;

/// An acceptance of a loss stands here from before its first change until after its last.
pub(super) const ACCEPTANCE: &str = "accept-loss.json";

/// Stands here from before a journal is opened whose end nobody knows, until the journal notes it itself.
pub(super) const UNKNOWN_END: &str = "end-not-known.json";

/// What is in [`UNKNOWN_END`].
#[derive(Serialize, Deserialize)]
struct UnknownEnd {
    /// The record that the journal ended at. Text, as all whole numbers of 64 bits are.
    ended_at: String,
}

/// A journal that nobody contradicts.
pub(crate) struct Witnessed {
    pub(crate) journal: Journal,
    pub(crate) report: OpenReport,
    /// The index, or what is wrong with it; none when there is none.
    pub(super) index: Option<Result<Index, Obstacle>>,
    /// Neither the durable mark nor an index is there, or was when the mark was made anew, and the journal does not note it yet: whether the
    /// end was cut off cannot be told.
    pub(crate) unwitnessed: bool,
}

/// Opens the journal of a data folder. Options that refuse a missing mark are for who decides about a loss: then an end that nobody knows
/// is an error, and nothing is changed.
pub(crate) fn open(folder: &Path, options: Options, cache_bytes: u64) -> Result<Witnessed, StoreError> {
    let journal_folder = folder.join(JOURNAL_FOLDER);
    if folder.join(ACCEPTANCE).exists() {
        return Err(unfinished(folder));
    }
    let decides = options.missing_mark == MissingMark::Refuse;
    let mut index = None;
    let careful = Options { missing_mark: MissingMark::Refuse, ..options.clone() };
    let opened = match Journal::open_against(&journal_folder, careful, || {
        witnesses(folder, &mut index, cache_bytes)
    }) {
        Err(Error::MarkMissing { end, .. }) => {
            if !index.iter().flatten().any(has_noted) {
                if decides {
                    return Err(not_known(folder, end));
                }
                write_unknown_end(folder, end)?;
            }
            let options = Options { missing_mark: MissingMark::Report, ..options };
            Journal::open_against(&journal_folder, options, || witnesses(folder, &mut index, cache_bytes))
        }
        opened => opened,
    };
    let (journal, report) = opened.map_err(|error| refusal(folder, error))?;
    let unwitnessed = is_unwitnessed(folder, &journal)?;
    if unwitnessed && decides {
        return Err(not_known(folder, journal.last()));
    }
    Ok(Witnessed { journal, report, index, unwitnessed })
}

/// What is known of the journal beside its mark. The index is opened once.
fn witnesses(folder: &Path, index: &mut Option<Result<Index, Obstacle>>, cache_bytes: u64) -> Vec<Witness> {
    let index_folder = folder.join(INDEX_FOLDER);
    if index.is_none() && index_folder.exists() {
        *index = Some(guarded(|| Ok(Index::open(&index_folder, cache_bytes)?)));
    }
    let noted = index.iter().flatten().flat_map(Index::notes).collect::<Vec<_>>();
    noted.into_iter().chain(evidence(folder, index.iter().flatten().next())).collect()
}

/// Whether the index has noted a record, and not only that there is a journal.
fn has_noted(index: &Index) -> bool {
    index.notes().iter().any(|note| note.sequence > 0)
}

fn not_known(folder: &Path, end: Head) -> StoreError {
    let what = format!(
        "the journal in {} ends at record {} (chain hash {}), and neither `durable.mark` nor an index says how far it went: whether \
         acknowledged records are gone cannot be told without anchors (`quell audit verify --anchor FILE`)",
        folder.display(),
        end.sequence,
        end.chain_hash
    );
    StoreError::Lost { folder: folder.to_owned(), at: end.sequence, what }
}

fn write_unknown_end(folder: &Path, end: Head) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::Open { folder: folder.to_owned(), source: error.into() };
    let unknown = UnknownEnd { ended_at: end.sequence.to_string() };
    let bytes = record::encode(&unknown)?;
    std::fs::create_dir_all(folder).map_err(failed)?;
    let written = write_whole(folder, UNKNOWN_END, &bytes).and_then(|()| sync_folders(folder));
    written.map_err(failed)
}

/// Whether a note stands beside a journal that does not say it itself. One that outlived its end, as when the process was killed, is
/// taken away.
fn is_unwitnessed(folder: &Path, journal: &Journal) -> Result<bool, StoreError> {
    let Some(noted) = read_unknown_end(folder) else { return Ok(false) };
    let next = noted.and_then(|ended_at| journal.iter_from(ended_at + 1).next()?.ok());
    if next.is_some_and(|entry| entry.kind == record::LOST) {
        forget_unknown_end(folder)?;
        return Ok(false);
    }
    Ok(true)
}

/// Whether somebody has opened the journal without knowing its end, and it does not note that yet; with the end if that can be read.
pub(crate) fn read_unknown_end(folder: &Path) -> Option<Option<u64>> {
    let path = folder.join(UNKNOWN_END);
    let json = path.exists().then(|| std::fs::read(path).unwrap_or_default())?;
    Some(serde_json::from_slice(&json).ok().and_then(|UnknownEnd { ended_at }| ended_at.parse().ok()))
}

/// The journal notes it by now.
pub(super) fn forget_unknown_end(folder: &Path) -> Result<(), StoreError> {
    let forgotten = match std::fs::remove_file(folder.join(UNKNOWN_END)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        forgotten => forgotten.and_then(|()| sync_folders(folder)),
    };
    forgotten.map_err(|error| StoreError::Open { folder: folder.to_owned(), source: error.into() })
}

/// Evidence of incidents that the journal does not have. The index is asked first: what it says of the journal is compared as well, and
/// without it the whole journal is read.
fn evidence(folder: &Path, index: Option<&Index>) -> Option<Witness> {
    let with_documents = Documents::new(folder).incidents().unwrap_or_default().into_iter();
    let is_indexed =
        |id: &IncidentId| index.is_some_and(|index| index.places(*id).is_ok_and(|places| !places.is_empty()));
    let mut unknown: BTreeSet<_> = with_documents.filter(|id| !is_indexed(id)).collect();
    if unknown.is_empty() {
        return None;
    }
    let sequence = match take_out_known(&folder.join(JOURNAL_FOLDER), &mut unknown) {
        // Opening finds the damage itself.
        Ok(VerifyReport { first_bad: Some(_), .. }) => return None,
        Ok(report) => report.head.sequence + 1,
        // There is no record at all, or opening finds what is wrong.
        Err(_) => 1,
    };
    let who = || {
        format!(
            "the evidence in `documents` of {}, which the journal does not have,",
            incidents_in_words(&unknown)
        )
    };
    (!unknown.is_empty()).then(|| Witness { who: who(), journal_id: None, sequence, chain_hash: None })
}

/// Reads a journal, and takes out the incidents that it has, or that retention has dropped from it.
pub(super) fn take_out_known(
    journal_folder: &Path,
    incidents: &mut BTreeSet<IncidentId>,
) -> Result<VerifyReport, Error> {
    quell_journal::verify_each(journal_folder, &[], &mut |entry| take_out(&entry, incidents))
}

/// Takes out the incidents that a record is of, or that it says were dropped.
pub(crate) fn take_out(entry: &Entry, incidents: &mut BTreeSet<IncidentId>) {
    if entry.dropped || incidents.is_empty() {
        return;
    }
    match entry.kind {
        record::APPENDED => {
            record::incident_of(&entry.payload).map(|id| incidents.remove(&id));
        }
        record::RETAINED => {
            // One that cannot be read is found by whoever replays it.
            for id in record::decode_retained(&entry.payload).iter().flat_map(|retained| &retained.incidents)
            {
                incidents.remove(id);
            }
        }
        _ => {}
    }
}

pub(crate) fn incidents_in_words(incidents: &BTreeSet<IncidentId>) -> String {
    match incidents.first() {
        Some(first) if incidents.len() == 1 => format!("incident {first}"),
        Some(first) => format!("{} incidents such as {first}", incidents.len()),
        None => "no incident".to_owned(),
    }
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
    /// A process has it in use, which compared it when it started.
    InUse,
    /// It has noted nothing of a journal that has records, as a new one or one that was emptied.
    NothingNoted,
    /// It is there and cannot be read.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// What the index of a data folder noted of the journal.
pub(crate) enum IndexNotes {
    Missing,
    InUse,
    Unreadable(String),
    Read(Vec<Witness>),
}

/// Reads a copy of the index, since opening one changes it.
pub(crate) fn read_notes(folder: &Path) -> IndexNotes {
    let index = folder.join(INDEX_FOLDER);
    if !index.is_dir() {
        return IndexNotes::Missing;
    }
    if in_use(&index.join("db")) {
        return IndexNotes::InUse;
    }
    let copied = tempfile::tempdir().and_then(|copy| copy_folder(&index, copy.path()).map(|()| copy));
    let copy = match copied {
        Ok(copy) => copy,
        Err(error) => return IndexNotes::Unreadable(format!("it cannot be copied: {error}")),
    };
    match guarded(|| Ok(Index::open(copy.path(), 1 << 20)?.notes())) {
        Ok(notes) => IndexNotes::Read(notes),
        Err(Obstacle::Index(trouble)) => IndexNotes::Unreadable(index::in_words(&trouble)),
        Err(Obstacle::Journal(error)) => IndexNotes::Unreadable(error.to_string()),
    }
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
