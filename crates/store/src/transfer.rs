//! Moving a journal from one store to another, record by record: sequences, digests and chain stay, so that not one event is lost
//! and the same anchors still hold. What stands beside the journal, evidence and changes, comes after it.

mod beside;
mod folder;
mod json_lines;

use async_trait::async_trait;
use quell_journal::{ChainHash, Head, StoredRecord};
use uuid::Uuid;

pub use self::beside::Beside;
pub use self::folder::{FolderSink, FolderSource};
pub use self::json_lines::{JsonLinesSink, JsonLinesSource};

/// Records that are moved at once.
const RECORDS_MAX: usize = 1_000;

/// Why records could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source cannot be read.
    #[error("{0}")]
    Source(String),
    /// The target cannot be written; it stays unfinished.
    #[error("{0}")]
    Target(String),
    /// There is something in the target already.
    #[error("{what} is not empty: copy into an empty one")]
    NotEmpty {
        /// The target.
        what: String,
    },
    /// The source's records are not a chain.
    #[error("record {sequence} of the source {why}; the target was not finished")]
    NotTheChain {
        /// Which record.
        sequence: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// A journal of records to be read.
#[async_trait]
pub trait RecordSource: Send {
    /// The identity of the journal.
    async fn journal_id(&mut self) -> Result<Uuid, TransferError>;

    /// The last record, as it was when reading began.
    async fn head(&mut self) -> Result<Head, TransferError>;

    /// Records after a sequence, in order; at most so many, possibly fewer to bound memory, and none only at the end.
    async fn records_after(
        &mut self,
        sequence: u64,
        records_max: usize,
    ) -> Result<Vec<StoredRecord>, TransferError>;

    /// The next of what stands beside the journal, each once; asked for when all records are read.
    async fn next_beside(&mut self) -> Result<Option<Beside>, TransferError>;
}

/// A journal of records to be filled.
///
/// From [`begin`](Self::begin) to the end of [`finish`](Self::finish) the target must refuse to be opened as a store, with an
/// error that says that a copy into it was never finished; another copy may begin in it from the start.
#[async_trait]
pub trait RecordSink: Send {
    /// Begins; the target has to be empty, or to have an unfinished copy.
    async fn begin(&mut self, journal_id: Uuid) -> Result<(), TransferError>;

    /// Adds records that follow on those before. Need not be durable yet.
    async fn append(&mut self, records: Vec<StoredRecord>) -> Result<(), TransferError>;

    /// Adds something that stands beside the journal, after all records.
    async fn add_beside(&mut self, beside: Beside) -> Result<(), TransferError>;

    /// Makes all durable and the target a store that can be opened, if it ends with this record.
    async fn finish(&mut self, head: Head) -> Result<(), TransferError>;
}

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The identity of the journal.
    pub journal_id: Uuid,
    /// How many records.
    pub records: u64,
    /// How many of them without their payload, which retention had dropped.
    pub dropped: u64,
    /// The last one.
    pub head: Head,
    /// How many documents, such as the evidence of diagnoses.
    pub documents: u64,
    /// How many changes of the site.
    pub changes: u64,
}

/// Copies all records and what stands beside them, and checks that they are one chain from the first to the last.
///
/// # Errors
/// [`TransferError`]; then the target is unfinished and says so when it is opened.
pub async fn copy(source: &mut dyn RecordSource, sink: &mut dyn RecordSink) -> Result<Copied, TransferError> {
    let journal_id = source.journal_id().await?;
    let head = source.head().await?;
    sink.begin(journal_id).await?;
    let mut at = Head { sequence: 0, chain_hash: ChainHash::genesis(journal_id) };
    let mut dropped = 0;
    while at.sequence < head.sequence {
        let mut records = source.records_after(at.sequence, RECORDS_MAX).await?;
        // Somebody may have added records since the head was asked for.
        records.retain(|record| record.sequence <= head.sequence);
        if records.is_empty() {
            return Err(TransferError::NotTheChain { sequence: at.sequence + 1, why: "is missing" });
        }
        for record in &records {
            let sequence = at.sequence + 1;
            let refused = |why| TransferError::NotTheChain { sequence, why };
            if record.sequence != sequence {
                return Err(refused("is missing"));
            }
            if record.chain_after(at.chain_hash) != Some(record.chain_hash) {
                return Err(refused("does not follow from the one before it"));
            }
            at = Head { sequence, chain_hash: record.chain_hash };
            dropped += u64::from(matches!(record.content, quell_journal::StoredContent::Dropped { .. }));
        }
        sink.append(records).await?;
    }
    if at != head {
        return Err(TransferError::NotTheChain {
            sequence: at.sequence,
            why: "has another chain hash than noted",
        });
    }
    let (mut documents, mut changes) = (0, 0);
    while let Some(beside) = source.next_beside().await? {
        match &beside {
            Beside::Document { .. } => documents += 1,
            Beside::Change(_) => changes += 1,
        }
        sink.add_beside(beside).await?;
    }
    sink.finish(head).await?;
    Ok(Copied { journal_id, records: head.sequence, dropped, head, documents, changes })
}

/// Compares what two journals say of themselves: identity, count of records and chain.
///
/// # Errors
/// [`TransferError::Target`] naming the difference.
pub async fn compare(copied: &Copied, target: &mut dyn RecordSource) -> Result<(), TransferError> {
    let (journal_id, head) = (target.journal_id().await?, target.head().await?);
    if (journal_id, head) == (copied.journal_id, copied.head) {
        return Ok(());
    }
    let why = format!(
        "the target ends at record {} with chain hash {}, the source at {} with {}",
        head.sequence, head.chain_hash, copied.head.sequence, copied.head.chain_hash
    );
    Err(TransferError::Target(why))
}

/// A kind of store that can be named by an address: `postgres://...`.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The address' schemes: `postgres`, `postgresql`.
    fn schemes(&self) -> &'static [&'static str];

    /// The journal at an address, to be read.
    async fn source(&self, address: &str) -> Result<Box<dyn RecordSource>, TransferError>;

    /// The journal at an address, to be filled.
    async fn sink(&self, address: &str) -> Result<Box<dyn RecordSink>, TransferError>;
}

/// The backends that this build has besides folders.
pub fn backends() -> Vec<Box<dyn Backend>> {
    vec![Box::new(crate::postgres::Postgres)]
}

/// An error with its causes, on one line.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}
