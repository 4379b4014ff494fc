//! The store of one process in one folder: the journal is the truth, sled its index.
//!
//! ```text
//! append --> decide (one mutex, state ahead of the disk) --> journal --> settler --> durable state, answer, `changes`
//!                                                                           |
//!                                                                           +--> indexer --> sled (in batches)
//! ```
//!
//! **Order.** Deciding and submitting to the journal happen under one mutex, so the order in the journal is the order of the
//! decisions, and many are in flight while one sync runs. Received alerts need no decision and go to the journal directly.
//!
//! **What readers see.** Two states are kept: one ahead of the disk, which only decisions look at, and one as durable as the
//! journal, which only the settler changes, in the journal's order. A decision may rely on an append that is still in flight:
//! then it stands behind that one in the journal and cannot become durable without it. A refusal because of something in
//! flight is given only once that is durable, so whoever is refused finds the reason when reading.
//!
//! **Failure.** A full disk answers everything in flight with an error; the settler sets the state of decisions back to the
//! durable one and resumes the journal. Any other failure of the journal is final until the store is opened again.
//!
//! **Memory.** Held are incidents that are not finished, and finished ones until the index has them. Finished ones are replayed
//! from their log when asked for. Received alerts are held, a few megabytes of them, until correlation takes them (`handover`).
//!
//! **The index** is behind the journal by what the indexer has not done yet; queries that need it wait for it. It is never
//! flushed on purpose. Alerts of incidents that are not over are found in memory (`firing`) and come into it when those are
//! over. When it is odd in any way it is made anew from the journal, also while running; queries of it are then refused as [`StoreError::IndexAway`].
//!
//! **Retention** gives up payloads in two steps: a record in the journal says which and why, and carries what of them still counts
//! (locks, cool-downs, switches); the index forgets the incidents with it. Then closed segments are written anew without those
//! payloads. Killed in between, the second step is found again in the index, which follows from the record.

mod change_records;
mod documents;
mod firing;
mod handover;
mod index;
mod indexer;
pub(crate) mod keys;
mod loss;
mod private;
mod read;
pub(crate) mod record;
mod replay;
mod retain;
mod retained;
mod seal;
mod settle;
mod shared;
pub(crate) mod state;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod witness;

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quell_incident::ids::IncidentId;
use uuid::Uuid;

pub(crate) use self::change_records::ChangeRecords;
pub(crate) use self::documents::{Documents, FOLDER as DOCUMENTS_FOLDER};
pub use self::loss::{AcceptedLoss, LossAcceptance, accept_loss};
use self::shared::Shared;
use crate::error::StoreError;

pub(crate) const JOURNAL_FOLDER: &str = "journal";
pub(crate) const INDEX_FOLDER: &str = "index";

/// Limits of an embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The journal's limits, and its disk: tests inject faults there.
    pub journal: quell_journal::Options,
    /// How much of the index is kept in memory.
    pub index_cache_bytes: u64,
    /// From this size on the index is made anew when it is several times as large as what is in it.
    pub index_bloat_bytes_min: u64,
    /// How many changes may wait for the index before appends are refused as overloaded.
    pub index_lag_changes_max: usize,
    /// Unfinished incidents may take so much memory, by estimate, before those that nothing has happened to for
    /// [`Options::rests_after`] are let go, the longest first; they are read from the journal again when they are wanted.
    pub held_bytes_max: usize,
    /// A storm goes back and forth between its incidents: what had a change within this time is likely to have another.
    pub rests_after: Duration,
}

impl Options {
    /// The defaults, with the identity that a new journal shall get.
    pub fn new(new_journal_id: Uuid) -> Self {
        Self {
            journal: quell_journal::Options::new(new_journal_id),
            index_cache_bytes: 8 << 20,
            index_bloat_bytes_min: 64 << 20,
            index_lag_changes_max: 16_384,
            held_bytes_max: 16 << 20,
            rests_after: Duration::from_secs(15),
        }
    }
}

/// What opening found and did.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// Of the journal.
    pub journal: quell_journal::OpenReport,
    /// Neither the durable mark nor an index was there: whether the end was cut off cannot be told. The journal notes it.
    pub unwitnessed: bool,
    /// Why the index had to be made anew, if it had; the old one stands beside it as `index.bad-<n>`.
    pub index_rebuilt_because: Option<String>,
    /// Records that the index did not have.
    pub records_replayed: u64,
    /// Incidents that this program must leave alone; each is logged with the reason.
    pub left_alone: Vec<IncidentId>,
}

/// Keeps everything in one folder, for one process.
///
/// Dropping it finishes what was submitted and frees the folder.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    settler: Option<JoinHandle<()>>,
    indexer: Option<JoinHandle<()>>,
    report: OpenReport,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EmbeddedStore").field("report", &self.report).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the folder, or creates it. Blocks: it reads the journal, and replays what the index does not have.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it; [`StoreError::Lost`] when the index, the durable mark or the documents
    /// know more than the journal, or another one; [`StoreError::Open`] and [`StoreError::Record`] when the journal is of a newer
    /// program. A damaged index is no error.
    pub fn open(folder: &Path, options: Options) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { folder: folder.to_owned(), source };
        // The journal first: it creates the folder durably, and it holds the lock.
        let opened = witness::open(folder, options.journal.clone(), options.index_cache_bytes)?;
        let witness::Witnessed { journal, report: journal_report, index, unwitnessed } = opened;
        note_missing_mark(folder, &journal, journal_report.mark_missing, unwitnessed)?;
        // The journal made it; over a journal of a test's disk it is made here.
        std::fs::create_dir_all(folder).map_err(|error| failed(error.into()))?;
        private::close_data_folder(folder).map_err(|error| failed(error.into()))?;
        let index_folder = folder.join(INDEX_FOLDER);
        let opened = replay::open(&index_folder, options.index_cache_bytes, &journal, index)?;
        let mut left_alone = Vec::new();
        for (id, error) in opened.state.left_alone() {
            tracing::error!(incident = %id, %error, "an incident is left alone");
            left_alone.push(id);
        }
        left_alone.sort();
        let report = OpenReport {
            journal: journal_report,
            unwitnessed,
            index_rebuilt_because: opened.rebuilt_because,
            records_replayed: opened.records_replayed,
            left_alone,
        };
        let (shared, to_settle) = Shared::new(journal, opened.index, opened.state, index_folder, &options);
        let shared = Arc::new(shared);
        let mut store = Self { shared: Arc::clone(&shared), settler: None, indexer: None, report };
        // A store whose second thread cannot be started is dropped, which ends the first.
        let settling = Arc::clone(&shared);
        store.settler = Some(start("store-settle", folder, move || settle::run(&settling, &to_settle))?);
        store.indexer = Some(start("store-index", folder, move || indexer::run(&shared))?);
        Ok(store)
    }

    /// What opening found and did.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }
}

/// No crash takes the durable mark away, so it is said; and where nobody else knew the journal's end, it is written down.
fn note_missing_mark(
    folder: &Path,
    journal: &quell_journal::Journal,
    missing: bool,
    unwitnessed: bool,
) -> Result<(), StoreError> {
    let head = journal.last();
    if unwitnessed {
        tracing::error!(
            records = head.sequence,
            "the journal's `durable.mark` is missing or cannot be read, and no index says how far it went: whether acknowledged records are gone cannot be \
             told; compare with anchors by `quell audit verify --anchor FILE`"
        );
        let record = record::LossRecord::not_known(head).into_record()?;
        let noted = journal.append_blocking(vec![record]);
        noted.map_err(|error| from_journal("note the missing mark", error))?;
        witness::forget_unknown_end(folder)?;
    } else if missing {
        tracing::warn!(
            records = head.sequence,
            "the journal's `durable.mark` is missing or cannot be read; the index agrees with the journal, and the mark is written anew"
        );
    }
    Ok(())
}

fn start(
    name: &str,
    folder: &Path,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| StoreError::Open { folder: folder.to_owned(), source: error.into() })
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // In this order: the settler still makes work for the indexer.
        self.shared.close_submissions();
        join(self.settler.take());
        self.shared.work.close();
        join(self.indexer.take());
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread
        && thread.join().is_err()
    {
        tracing::error!("a thread of the store panicked");
    }
}

/// The store's word for a failure of the journal.
fn from_journal(action: &'static str, error: quell_journal::Error) -> StoreError {
    use quell_journal::Error;
    match error {
        Error::Overloaded { .. } => StoreError::Overloaded,
        Error::Full { .. } => StoreError::Full(error.into()),
        Error::Failed { .. } => StoreError::Failed(error.into()),
        Error::Closed => StoreError::Closed,
        Error::RecordTooLarge { bytes, bytes_max } => {
            StoreError::TooLarge { bytes, bytes_max: bytes_max as usize }
        }
        Error::RequestTooLarge { bytes, bytes_max } => StoreError::TooLarge { bytes, bytes_max },
        error => StoreError::Read { action, source: error.into() },
    }
}
