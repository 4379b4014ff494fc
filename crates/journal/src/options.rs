//! How a journal is opened, and what opening found.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::disk::{Disk, RealDisk};
use crate::error::DamageReason;
use crate::format::Head;

/// What opening does when there are records and no readable durable mark. No crash leaves a journal so: somebody removed the mark,
/// and perhaps the end of the journal with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingMark {
    /// Say so in the report and go on: for whoever has another witness, or decides by the report.
    Report,
    /// Refuse with `Error::MarkMissing` and change nothing: for whoever must never forget and has no other witness.
    Refuse,
}

/// How much of the past is read when opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenCheck {
    /// Every record of every segment is checked against its checksums and the chain.
    Everything,
    /// Only headers of closed segments and all of the last one; the rest is checked when it is read.
    LastSegment,
}

/// Limits and policies of one journal.
#[derive(Debug, Clone)]
pub struct Options {
    /// The identity a new journal gets; an existing one keeps its own.
    pub new_journal_id: Uuid,
    /// A segment that has reached this size is followed by a new one. One write may exceed it.
    pub segment_bytes_max: u64,
    /// The largest payload of one record.
    pub record_bytes_max: u32,
    /// The largest request, with headers: what has to fit into memory, the queue, and one write.
    pub request_bytes_max: usize,
    /// How much one write takes from the queue, unless one request alone is larger.
    pub write_bytes_max: usize,
    /// How many requests may wait.
    pub queue_requests_max: usize,
    /// How many bytes may wait. An empty queue takes any single request.
    pub queue_bytes_max: usize,
    /// How many segments are kept open for reading.
    pub read_files_max: usize,
    /// How much is checked when opening.
    pub open_check: OpenCheck,
    /// What happens when the durable mark is gone.
    pub missing_mark: MissingMark,
    /// Leaves out the `fdatasync` before an acknowledgement. Only for the test that shows that a power cut then loses data.
    #[doc(hidden)]
    pub leave_out_sync: bool,
    /// The file system. Other than [`RealDisk`] only in tests.
    pub disk: Arc<dyn Disk>,
}

impl Options {
    /// The defaults, with the identity that a new journal shall get.
    pub fn new(new_journal_id: Uuid) -> Self {
        Self {
            new_journal_id,
            segment_bytes_max: 64 << 20,
            record_bytes_max: 16 << 20,
            request_bytes_max: 64 << 20,
            write_bytes_max: 8 << 20,
            queue_requests_max: 16_384,
            queue_bytes_max: 64 << 20,
            read_files_max: 64,
            open_check: OpenCheck::Everything,
            missing_mark: MissingMark::Report,
            leave_out_sync: false,
            disk: Arc::new(RealDisk),
        }
    }
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the journal is new.
    pub created: bool,
    /// The journal's identity.
    pub journal_id: Uuid,
    /// How many segment files there are.
    pub segments: usize,
    /// The last record.
    pub head: Head,
    /// What was cut off at the end, if anything.
    pub torn_tail: Option<TornTail>,
    /// There were records and no readable durable mark: whether the end was cut cannot be told from the journal alone.
    pub mark_missing: bool,
}

/// An end of the last segment that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub segment: PathBuf,
    /// Its length now.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// What was wrong with them.
    pub reason: DamageReason,
}
