//! The handle.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use uuid::Uuid;

use crate::commit::{Committer, PreparedRequest, Shared, Stats, View};
use crate::compact::{Dropped, SegmentInfo};
use crate::disk::{Disk, LockAttempt};
use crate::error::Error;
use crate::format::{Head, Record};
use crate::options::{OpenReport, Options};
use crate::read::{Entries, Entry};
use crate::recover::recover;
use crate::ticket::{AppendAck, Position, Ticket};
use crate::witness::Witness;

const LOCK_NAME: &str = "LOCK";

/// An open journal: the only handle that may append to its folder. Share it by `Arc`.
///
/// Dropping it commits what is waiting, ends the committer and frees the folder.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
    // Dropped after the committer has ended: readers that outlive the handle do not hold it.
    _lock: Lock,
}

/// Takes the folder's lock, which is free again when the value is dropped.
pub(crate) fn hold(disk: &dyn Disk, folder: &Path) -> Result<Lock, Error> {
    let path = folder.join(LOCK_NAME);
    match disk.lock(&path) {
        Ok(LockAttempt::Held(lock)) => Ok(Lock(lock)),
        Ok(LockAttempt::Taken { pid }) => Err(Error::Locked { folder: folder.to_owned(), pid }),
        Err(error) => Err(Error::io("lock", &path, error)),
    }
}

pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] Box<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for Lock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Lock")
    }
}

impl Journal {
    /// Opens the journal in the folder, or creates folder and journal.
    ///
    /// Reads the segments as `options.open_check` says, cuts off a torn tail, and makes durable what a killed process
    /// left in the page cache. Fails without changing anything on damage, a foreign or newer file, or a taken lock.
    pub fn open(folder: &Path, options: Options) -> Result<(Self, OpenReport), Error> {
        Self::open_against(folder, options, Vec::new)
    }

    /// The same for a journal of which others know heads that were durable: asked once the lock is held and before anything is changed.
    /// A journal that is behind one of them, or has another chain, is [`Error::Contradicted`].
    pub fn open_against(
        folder: &Path,
        options: Options,
        witnesses: impl FnOnce() -> Vec<Witness>,
    ) -> Result<(Self, OpenReport), Error> {
        let disk = &*options.disk;
        disk.create_folder(folder).map_err(|error| Error::io("create", folder, error))?;
        let lock = hold(disk, folder)?;
        let recovered = recover(folder, &options, witnesses())?;
        let report = recovered.report;
        let (segment, length) =
            recovered.segments.last().map_or((1, 0), |segment| (segment.first_sequence, segment.length));
        let view = View { segments: recovered.segments, head: report.head };
        let shared = Arc::new(Shared::new(report.journal_id, folder.to_owned(), options, view));
        let committer = Committer {
            shared: Arc::clone(&shared),
            active: recovered.active,
            mark: recovered.mark,
            segment,
            length,
            head: report.head,
        };
        let committer = thread::Builder::new()
            .name("journal-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|error| Error::io("start the committer of", folder, error))?;
        Ok((Self { shared, committer: Some(committer), _lock: lock }, report))
    }

    /// Puts a request into the queue: its records will stand together, in the order of the calls, or not at all.
    ///
    /// Never blocks on the disk. An error means that nothing was taken.
    pub fn submit(&self, records: Vec<Record>) -> Result<Ticket, Error> {
        self.submit_prepared(self.prepare(records)?)
    }

    /// Checks a request's limits and computes its digests: for who submits under a lock of their own and must not do that there.
    pub fn prepare(&self, records: Vec<Record>) -> Result<PreparedRequest, Error> {
        self.shared.prepare(records)
    }

    /// [`Journal::submit`] with a request of this journal's [`Journal::prepare`].
    pub fn submit_prepared(&self, request: PreparedRequest) -> Result<Ticket, Error> {
        self.shared.submit(request)
    }

    /// Submits and waits until the records are durable.
    pub async fn append(&self, records: Vec<Record>) -> Result<AppendAck, Error> {
        self.submit(records)?.await
    }

    /// Submits and blocks until the records are durable; not for async tasks.
    pub fn append_blocking(&self, records: Vec<Record>) -> Result<AppendAck, Error> {
        self.submit(records)?.wait_blocking()
    }

    /// Takes appends again after [`Error::Full`], once the caller's memory agrees with the returned durable head.
    ///
    /// Does nothing on a journal in order; fails on a poisoned one, which must be opened anew.
    pub fn resume(&self) -> Result<Head, Error> {
        self.shared.resume()
    }

    /// The last durable record and the chain up to it: what to anchor elsewhere.
    pub fn last(&self) -> Head {
        self.shared.view().head
    }

    /// The identity given at creation: the ledger id.
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// Reads one durable record and checks it.
    pub fn read(&self, position: Position) -> Result<Entry, Error> {
        self.shared.read(position)
    }

    /// Reads the record of that sequence, which is where it was last seen unless payloads were dropped from its segment since.
    pub fn read_sequence(&self, seen_at: Position, sequence: u64) -> Result<Entry, Error> {
        match self.shared.read(seen_at) {
            Ok(entry) if entry.sequence == sequence => return Ok(entry),
            Ok(_) | Err(Error::NoRecord { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.iter_from(sequence).next() {
            Some(entry) => entry,
            None => Err(Error::NoRecord { segment: seen_at.segment, offset: seen_at.offset }),
        }
    }

    /// The segments in order, the one that is written to last.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.segments()
    }

    /// Writes a closed segment anew without the payloads that `drop` names. Header, digest and chain hash of each record stay,
    /// so that the chain can still be verified. Survives being killed and a power cut at any point: the segment is then as it
    /// was, or as it shall be. What is being read meanwhile is read to its end.
    ///
    /// Blocks. Nothing is written when there is nothing to drop. An error leaves the segment as it was, or, when only the folder
    /// could not be synced, as it shall be.
    pub fn drop_payloads(
        &self,
        segment: u64,
        drop: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<Dropped, Error> {
        self.shared.drop_payloads(segment, drop)
    }

    /// The durable records from that sequence on, up to the present head; none if it lies beyond.
    pub fn iter_from(&self, sequence: u64) -> Entries {
        Entries::new(Arc::clone(&self.shared), sequence)
    }

    /// The error that poisoned the journal, if one did: for health checks.
    pub fn failure(&self) -> Option<Error> {
        self.shared.failure()
    }

    /// Whether there is room for more: tried by a small write beside the segments, so that a full disk is known before the next
    /// request, and that there is space again without one. Blocks.
    pub fn check_room(&self) -> Result<(), Error> {
        self.shared.check_room()
    }

    /// Counters since opening.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Commits what is waiting and closes; fails if the journal was poisoned.
    pub fn close(mut self) -> Result<Head, Error> {
        self.finish();
        match self.shared.failure() {
            Some(error) => Err(error),
            None => Ok(self.last()),
        }
    }

    fn finish(&mut self) {
        self.shared.close();
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!(folder = %self.shared.folder.display(), "the journal's committer panicked");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.finish();
    }
}
