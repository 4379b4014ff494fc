//! What can go wrong, each with what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::format::Head;
use crate::witness::Contradiction;

/// Every failure of the journal. Clonable, because one failed sync answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another handle, in this or another process, holds the folder.
    #[error(
        "journal folder {} is in use by {}; stop that process or choose another folder",
        .folder.display(), Holder(*.pid)
    )]
    Locked {
        /// The folder that was to be opened.
        folder: PathBuf,
        /// The holder's process id, if it could be read.
        pid: Option<u32>,
    },
    /// A file was written in a format that this version does not know.
    #[error(
        "{} has format version {found}, this program knows up to {known}; use the newer program",
        .path.display()
    )]
    NewerFormat {
        /// The file in question.
        path: PathBuf,
        /// The version it carries.
        found: u32,
        /// The newest version this program reads.
        known: u32,
    },
    /// A file was written in a format that is no longer read.
    #[error(
        "{} has format version {found}, this program reads {known}; use the program that wrote it",
        .path.display()
    )]
    OlderFormat {
        /// The file in question.
        path: PathBuf,
        /// The version it carries.
        found: u32,
        /// The version this program reads.
        known: u32,
    },
    /// A copy into this folder was begun and never finished; what is there is not all of it.
    #[error(
        "a copy into journal folder {} was never finished; copy again from the same source, or remove the folder",
        .folder.display()
    )]
    CopyUnfinished {
        /// The folder.
        folder: PathBuf,
    },
    /// There is a journal already where one was to be copied to.
    #[error("journal folder {} has records already; copy into an empty folder", .folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// A record to be copied does not follow on the one before it.
    #[error(
        "record {sequence} of the copy {why}; nothing can be relied on from here on, copy again from a sound source"
    )]
    NotTheChain {
        /// The record that was expected.
        sequence: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The last segment is still written to.
    #[error("segment {segment} is still written to; payloads are dropped from closed segments only")]
    SegmentInUse {
        /// Its first sequence.
        segment: u64,
    },
    /// Stored bytes are not what was acknowledged; nothing was changed.
    #[error("journal is damaged: {0}")]
    Corrupt(Damage),
    /// The file that should hold a sequence is not there.
    #[error(
        "journal folder {} has no segment that holds record {sequence}, though others are there: the file was removed",
        .folder.display()
    )]
    SegmentMissing {
        /// The journal's folder.
        folder: PathBuf,
        /// The first record that cannot be found.
        sequence: u64,
    },
    /// A file belongs to another journal.
    #[error("{} belongs to journal {found}, not to {expected}; put the right file back", .path.display())]
    ForeignFile {
        /// The file in question.
        path: PathBuf,
        /// The journal that is being opened.
        expected: Uuid,
        /// The journal the file names.
        found: Uuid,
    },
    /// Acknowledged records are gone or were exchanged: a cut file, a disk that lied, a copy taken while in use or put back over a newer
    /// journal. Nothing was changed.
    #[error("{0}")]
    Contradicted(Box<Contradiction>),
    /// The durable mark is gone, and with it perhaps the end of the journal. Nothing was changed.
    #[error(
        "journal folder {} ends at record {} (chain hash {}) and its `durable.mark` is missing or unreadable: whether \
         acknowledged records are gone cannot be told",
        .folder.display(), .end.sequence, .end.chain_hash
    )]
    MarkMissing {
        /// The journal's folder.
        folder: PathBuf,
        /// Where it ends.
        end: Head,
    },
    /// What is to be given up is named by where the journal ends, and that is elsewhere.
    #[error("the sound part of journal folder {} ends at record {found}, not at {asked}", .folder.display())]
    NotTheEnd {
        /// The journal's folder.
        folder: PathBuf,
        /// The record that was named.
        asked: u64,
        /// The last sound record.
        found: u64,
    },
    /// A request without records.
    #[error("an append needs at least one record")]
    EmptyRequest,
    /// One record is larger than the journal takes.
    #[error(
        "record of {bytes} bytes exceeds record_bytes_max of {bytes_max}; store it as a file and cite it"
    )]
    RecordTooLarge {
        /// Size of the payload.
        bytes: usize,
        /// The limit in force.
        bytes_max: u32,
    },
    /// One request is larger than the queue can ever hold.
    #[error("request of {bytes} bytes exceeds request_bytes_max of {bytes_max}; split it")]
    RequestTooLarge {
        /// Size of all the request's records with their headers.
        bytes: usize,
        /// The limit in force.
        bytes_max: usize,
    },
    /// The queue is full; nothing of the request was taken. Try again later.
    #[error("journal queue is full with {requests} requests of {bytes} bytes; try again later")]
    Overloaded {
        /// Requests waiting.
        requests: usize,
        /// Bytes waiting.
        bytes: usize,
    },
    /// No space on the device. Nothing of the request is stored; the journal waits for `resume`.
    #[error("no space left for journal {}; free space, then resume", .folder.display())]
    Full {
        /// The journal's folder.
        folder: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The journal is poisoned: whether the request is stored is unknown until the folder is opened again.
    #[error("journal {} failed to {action} and takes no more records until it is opened again", .folder.display())]
    Failed {
        /// The journal's folder.
        folder: PathBuf,
        /// What it tried to do.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The journal was closed.
    #[error("journal is closed")]
    Closed,
    /// No durable record begins at that position.
    #[error("no durable record begins in segment {segment} at byte {offset}")]
    NoRecord {
        /// First sequence of the segment asked for.
        segment: u64,
        /// Byte offset asked for.
        offset: u64,
    },
    /// The system refused an operation while opening, reading or verifying.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Whether the same request may succeed later on this handle (after `resume` where it was [`Error::Full`]).
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Full { .. })
    }

    /// Whether the records of the failed request may still be found when the journal is opened again.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(formatter, "process {pid}"),
            None => formatter.write_str("another process"),
        }
    }
}

/// Where stored bytes are wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {offset}, record {sequence}: {reason}", .segment.display())]
pub struct Damage {
    /// The file.
    pub segment: PathBuf,
    /// The byte offset in it at which the bad record (or header) begins.
    pub offset: u64,
    /// The sequence of the record that should be there.
    pub sequence: u64,
    /// What is wrong with it.
    pub reason: DamageReason,
}

/// What is wrong with a stored record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageReason {
    /// The segment's own header does not check.
    #[error("the segment header does not check")]
    SegmentHeader,
    /// The segment does not continue the one before it.
    #[error("the segment does not continue the chain of the one before it")]
    SegmentChain,
    /// The file ends inside a record header.
    #[error("the file ends inside a record header")]
    HeaderShort,
    /// No record begins here, or its header was changed.
    #[error("no record header checks here")]
    Header,
    /// A record begins here, but not the one that comes next.
    #[error("record {found} stands here")]
    Sequence {
        /// The sequence that the header carries.
        found: u64,
    },
    /// The file ends inside a payload.
    #[error("the file ends inside the payload")]
    PayloadShort,
    /// The payload does not match its CRC-32.
    #[error("the payload does not match its checksum")]
    PayloadChecksum,
    /// The payload matches its CRC-32 but not its SHA-256: it was changed on purpose.
    #[error("the payload does not match its digest")]
    PayloadDigest,
    /// The chain hash does not follow from the record before it.
    #[error("the chain hash does not follow from the record before")]
    Chain,
    /// A request's records stop before its last one.
    #[error("the request that begins here has no end")]
    UnfinishedRequest,
    /// The chain hash differs from the one noted outside of the segment.
    #[error("the chain hash differs from the one that was noted elsewhere")]
    Anchor,
    /// Records that were acknowledged, or anchored, are not there.
    #[error("acknowledged records are missing from here on")]
    Missing,
}
