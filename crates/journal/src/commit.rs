//! The queue and the one thread that empties it onto the disk.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use uuid::Uuid;

use crate::disk::{Access, DiskFile};
use crate::error::Error;
use crate::format::{
    Head, Mark, Prepared, RECORD_HEADER_BYTES, Record, SEGMENT_HEADER_BYTES, SegmentHeader, encode_record,
};
use crate::options::Options;
use crate::recover::{Failure, SegmentView, create_segment};
use crate::scan::note_waypoint;
use crate::ticket::{AppendAck, Position, Slot, Ticket};

/// Where it is tried whether there is room.
pub(crate) const ROOM_NAME: &str = "room.probe";
/// Room for some ordinary requests.
const ROOM_BYTES: usize = 64 << 10;
/// Once there was none: what failed may have been larger than an ordinary request.
const ROOM_AGAIN_BYTES: usize = 1 << 20;

/// What the callers, the committer and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: Uuid,
    pub(crate) folder: PathBuf,
    pub(crate) options: Options,
    queue: Mutex<Queue>,
    changed: Condvar,
    view: RwLock<View>,
    pub(crate) read_files: Mutex<VecDeque<(u64, Arc<dyn DiskFile>)>>,
    /// Held while a closed segment is written anew.
    pub(crate) rewriting: Mutex<()>,
}

/// What is durable, for readers.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) segments: Vec<SegmentView>,
    pub(crate) head: Head,
}

#[derive(Debug)]
struct Queue {
    requests: VecDeque<Request>,
    bytes: usize,
    next_sequence: u64,
    /// Requests the committer is writing, so that its death cannot leave anyone waiting.
    in_flight: Vec<Arc<Slot>>,
    state: State,
    /// The last write found no space, and none has succeeded since.
    full: Option<Error>,
    stats: Stats,
}

#[derive(Debug, Clone)]
enum State {
    Open,
    /// No space; waits for `resume`.
    Stalled(Error),
    Failed(Error),
    Closing,
}

/// Records that are within the limits, with their digests: what takes time of a request before it is in the queue.
#[derive(Debug)]
pub struct PreparedRequest {
    records: Vec<Prepared>,
    bytes: usize,
}

#[derive(Debug)]
struct Request {
    records: Vec<Prepared>,
    bytes: usize,
    slot: Arc<Slot>,
}

/// Counters since opening, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests made durable.
    pub requests: u64,
    /// Records made durable.
    pub records: u64,
    /// Bytes made durable, headers included.
    pub bytes: u64,
    /// Writes, each followed by one sync.
    pub writes: u64,
    /// Requests waiting now.
    pub queue_requests: usize,
    /// Bytes waiting now.
    pub queue_bytes: usize,
}

impl Shared {
    pub(crate) fn new(id: Uuid, folder: PathBuf, options: Options, view: View) -> Self {
        let queue = Queue {
            requests: VecDeque::new(),
            bytes: 0,
            next_sequence: view.head.sequence + 1,
            in_flight: Vec::new(),
            state: State::Open,
            full: None,
            stats: Stats::default(),
        };
        Self {
            id,
            folder,
            options,
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            view: RwLock::new(view),
            read_files: Mutex::new(VecDeque::new()),
            rewriting: Mutex::new(()),
        }
    }

    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn submit(&self, request: PreparedRequest) -> Result<Ticket, Error> {
        let PreparedRequest { records, bytes } = request;
        let mut queue = self.queue();
        match &queue.state {
            State::Open => {}
            State::Stalled(error) | State::Failed(error) => return Err(error.clone()),
            State::Closing => return Err(Error::Closed),
        }
        let waiting = queue.requests.len();
        let too_many_bytes = waiting > 0 && queue.bytes.saturating_add(bytes) > self.options.queue_bytes_max;
        if waiting >= self.options.queue_requests_max.max(1) || too_many_bytes {
            return Err(Error::Overloaded { requests: waiting, bytes: queue.bytes });
        }
        let slot = Slot::new();
        let ticket = Ticket::new(Arc::clone(&slot), queue.next_sequence);
        queue.next_sequence += records.len() as u64;
        queue.bytes += bytes;
        queue.requests.push_back(Request { records, bytes, slot });
        drop(queue);
        self.changed.notify_one();
        Ok(ticket)
    }

    /// Checks the limits and computes the digests, outside of the queue's lock.
    pub(crate) fn prepare(&self, records: Vec<Record>) -> Result<PreparedRequest, Error> {
        if records.is_empty() {
            return Err(Error::EmptyRequest);
        }
        let mut request_bytes = 0_usize;
        let mut lengths = Vec::with_capacity(records.len());
        for record in &records {
            let bytes = record.payload.len();
            let bytes_max = self.options.record_bytes_max;
            match u32::try_from(bytes) {
                Ok(length) if length <= bytes_max => lengths.push(length),
                _ => return Err(Error::RecordTooLarge { bytes, bytes_max }),
            }
            request_bytes = request_bytes.saturating_add(RECORD_HEADER_BYTES + bytes);
        }
        let bytes_max = self.options.request_bytes_max;
        if request_bytes > bytes_max {
            return Err(Error::RequestTooLarge { bytes: request_bytes, bytes_max });
        }
        let prepared = records.into_iter().zip(lengths).map(|(record, length)| Prepared::new(record, length));
        Ok(PreparedRequest { records: prepared.collect(), bytes: request_bytes })
    }

    pub(crate) fn resume(&self) -> Result<Head, Error> {
        // The lock first: between the two another call could resume, and what follows it move the head.
        let mut queue = self.queue();
        let head = self.view().head;
        match &queue.state {
            State::Open => return Ok(head),
            State::Stalled(_) => {}
            State::Failed(error) => return Err(error.clone()),
            State::Closing => return Err(Error::Closed),
        }
        // The queue is empty and nothing is in flight: stalling answered everyone.
        queue.state = State::Open;
        queue.next_sequence = head.sequence + 1;
        Ok(head)
    }

    /// Lets the committer finish what is waiting and end.
    pub(crate) fn close(&self) {
        let mut queue = self.queue();
        if !matches!(queue.state, State::Failed(_)) {
            queue.state = State::Closing;
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// The error that poisoned the journal, if one did.
    pub(crate) fn failure(&self) -> Option<Error> {
        match &self.queue().state {
            State::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Writes a little beside the segments and takes it away again; more after a write that found no space.
    pub(crate) fn check_room(&self) -> Result<(), Error> {
        let was_full = self.queue().full.clone();
        let bytes = if was_full.is_some() { ROOM_AGAIN_BYTES } else { ROOM_BYTES };
        let (disk, path) = (&*self.options.disk, self.folder.join(ROOM_NAME));
        let written = disk.open(&path, Access::Write).and_then(|file| file.write_at(&vec![0x51; bytes], 0));
        let removed = match disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        match written.and(removed) {
            Ok(()) => {
                self.queue().full = None;
                Ok(())
            }
            Err(error) if is_full(&error) => Err(was_full
                .unwrap_or_else(|| Error::Full { folder: self.folder.clone(), source: Arc::new(error) })),
            Err(error) => Err(Error::io("write", &path, error)),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let queue = self.queue();
        Stats { queue_requests: queue.requests.len(), queue_bytes: queue.bytes, ..queue.stats }
    }

    /// Waits for requests and takes as many as one write may have; none when it is time to end.
    fn next_batch(&self) -> Option<Vec<Request>> {
        let mut queue = self.queue();
        while queue.requests.is_empty() {
            if matches!(queue.state, State::Closing | State::Failed(_)) {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch: Vec<Request> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = queue.requests.front() {
            if !batch.is_empty() && bytes + next.bytes > self.options.write_bytes_max {
                break;
            }
            bytes += next.bytes;
            batch.extend(queue.requests.pop_front());
        }
        queue.bytes -= bytes;
        queue.in_flight = batch.iter().map(|request| Arc::clone(&request.slot)).collect();
        Some(batch)
    }

    fn published(&self, batch: &[Request], bytes: usize) {
        let mut queue = self.queue();
        queue.in_flight.clear();
        queue.full = None;
        queue.stats.requests += batch.len() as u64;
        queue.stats.records += batch.iter().map(|request| request.records.len() as u64).sum::<u64>();
        queue.stats.bytes += bytes as u64;
        queue.stats.writes += 1;
    }

    /// Refuses what comes, then answers all that was taken: in that order, so that nobody who has heard of the
    /// failure can submit on top of it.
    fn refuse(&self, state: State, error: &Error) {
        let mut queue = self.queue();
        if let State::Stalled(error) = &state {
            queue.full = Some(error.clone());
        }
        if !(matches!(state, State::Stalled(_)) && matches!(queue.state, State::Closing)) {
            queue.state = state;
        }
        queue.bytes = 0;
        let mut slots = mem::take(&mut queue.in_flight);
        slots.extend(mem::take(&mut queue.requests).into_iter().map(|request| request.slot));
        drop(queue);
        for slot in slots {
            slot.answer(Err(error.clone()));
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The only writer.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) active: Arc<dyn DiskFile>,
    pub(crate) mark: Arc<dyn DiskFile>,
    /// First sequence of the active segment.
    pub(crate) segment: u64,
    /// Its length so far: all of it is durable.
    pub(crate) length: u64,
    pub(crate) head: Head,
}

impl Committer {
    /// Commits until the journal is closed or fails.
    pub(crate) fn run(mut self) {
        let guard = AnswerAll(Arc::clone(&self.shared));
        let mut buffer = Vec::new();
        while let Some(batch) = self.shared.next_batch() {
            match self.commit(&batch, &mut buffer) {
                Ok(acks) => {
                    self.shared.published(&batch, buffer.len());
                    for (request, ack) in batch.iter().zip(acks) {
                        request.slot.answer(Ok(ack));
                    }
                }
                Err(failure) => self.fail(failure),
            }
            buffer.clear();
            buffer.shrink_to(self.shared.options.write_bytes_max);
        }
        if self.shared.failure().is_none() {
            self.write_mark();
            if let Err(error) = self.mark.sync() {
                tracing::warn!(folder = %self.shared.folder.display(), %error, "cannot sync the durable mark");
            }
        }
        drop(guard);
    }

    /// One write, one sync, and only then the acknowledgements.
    fn commit(&mut self, batch: &[Request], buffer: &mut Vec<u8>) -> Result<Vec<AppendAck>, Failure> {
        let bytes: usize = batch.iter().map(|request| request.bytes).sum();
        let segment_is_empty = self.length == SEGMENT_HEADER_BYTES as u64;
        if !segment_is_empty && self.length + bytes as u64 > self.shared.options.segment_bytes_max {
            self.rotate()?;
        }
        buffer.reserve(bytes);
        let mut head = self.head;
        let write_first_sequence = head.sequence + 1;
        let mut acks = Vec::with_capacity(batch.len());
        for request in batch {
            let first_sequence = head.sequence + 1;
            let mut positions = Vec::with_capacity(request.records.len());
            for (index, record) in request.records.iter().enumerate() {
                positions.push(Position { segment: self.segment, offset: self.length + buffer.len() as u64 });
                let last = index + 1 == request.records.len();
                encode_record(buffer, self.shared.id, &mut head, write_first_sequence, record, last);
            }
            acks.push(AppendAck { first_sequence, positions, head });
        }
        self.active.write_at(buffer, self.length).map_err(Failure::write("write records"))?;
        if !self.shared.options.leave_out_sync {
            self.active.sync().map_err(Failure::sync("sync records"))?;
        }
        self.head = head;
        self.length += buffer.len() as u64;
        self.publish(&acks);
        self.write_mark();
        Ok(acks)
    }

    fn rotate(&mut self) -> Result<(), Failure> {
        let first_sequence = self.head.sequence + 1;
        let header = SegmentHeader { id: self.shared.id, first_sequence, chain_hash: self.head.chain_hash };
        self.active = create_segment(&*self.shared.options.disk, &self.shared.folder, header)?;
        self.segment = first_sequence;
        self.length = SEGMENT_HEADER_BYTES as u64;
        let view = SegmentView { first_sequence, length: self.length, waypoints: Vec::new() };
        self.shared.view.write().unwrap_or_else(PoisonError::into_inner).segments.push(view);
        Ok(())
    }

    fn publish(&self, acks: &[AppendAck]) {
        let mut view = self.shared.view.write().unwrap_or_else(PoisonError::into_inner);
        view.head = self.head;
        if let Some(segment) = view.segments.last_mut() {
            segment.length = self.length;
            for ack in acks {
                for (sequence, position) in (ack.first_sequence..).zip(&ack.positions) {
                    note_waypoint(&mut segment.waypoints, sequence, position.offset);
                }
            }
        }
    }

    /// Not synced: a mark that reaches the disk speaks the truth, an older one says less.
    fn write_mark(&self) {
        let mark = Mark { id: self.shared.id, head: self.head };
        if let Err(error) = self.mark.write_at(&mark.encode(), 0) {
            tracing::warn!(folder = %self.shared.folder.display(), %error, "cannot write the durable mark");
        }
    }

    /// A full disk can be undone, anything else is final: after a failed sync nobody knows what is on the disk.
    fn fail(&self, failure: Failure) {
        let folder = self.shared.folder.clone();
        let is_full = is_full(&failure.source);
        let undone = || self.active.set_length(self.length).and_then(|()| self.active.sync());
        let source = Arc::new(failure.source);
        if is_full && !failure.in_sync && undone().is_ok() {
            tracing::error!(folder = %folder.display(), action = failure.action, "no space left for the journal");
            let error = Error::Full { folder, source };
            return self.shared.refuse(State::Stalled(error.clone()), &error);
        }
        tracing::error!(
            folder = %folder.display(), action = failure.action, error = %source,
            "journal failed and takes no more records"
        );
        let error = Error::Failed { folder, action: failure.action, source };
        self.shared.refuse(State::Failed(error.clone()), &error);
    }
}

/// Sees to it that nobody waits for a committer that is gone.
struct AnswerAll(Arc<Shared>);

impl Drop for AnswerAll {
    fn drop(&mut self) {
        if thread::panicking() {
            let source = Arc::new(io::Error::other("the committer stopped"));
            let error =
                Error::Failed { folder: self.0.folder.clone(), action: "keep the committer alive", source };
            self.0.refuse(State::Failed(error.clone()), &error);
        } else if self.0.failure().is_none() {
            self.0.refuse(State::Closing, &Error::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::TryLockError;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn resuming_reads_the_head_under_the_lock_of_the_queue() {
        let disk = crate::simulated::SimulatedDisk::new();
        let options = Options { disk: Arc::new(disk), ..Options::new(Uuid::from_u128(1)) };
        let (journal, _) = crate::Journal::open(std::path::Path::new("/journal"), options.clone()).unwrap();
        let view = View { segments: Vec::new(), head: journal.last() };
        let shared = Shared::new(Uuid::from_u128(1), PathBuf::from("/journal"), options, view);
        let source = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
        let full = Error::Full { folder: shared.folder.clone(), source };
        shared.refuse(State::Stalled(full.clone()), &full);
        // Whoever resumes cannot read the head yet, and holds the lock while it waits for it.
        let mut view = shared.view.write().unwrap();
        thread::scope(|scope| {
            let resumed = scope.spawn(|| shared.resume());
            let begun = Instant::now();
            let mut locked = false;
            while !locked && begun.elapsed() < Duration::from_secs(10) {
                locked = matches!(shared.queue.try_lock(), Err(TryLockError::WouldBlock));
                thread::yield_now();
            }
            view.head.sequence = 5;
            drop(view);
            assert_eq!(resumed.join().unwrap().unwrap().sequence, 5);
            assert!(locked, "the head is read before the lock is taken");
        });
        let ticket = shared.submit(shared.prepare(vec![Record::new(1, "x")]).unwrap()).unwrap();
        assert_eq!(ticket.first_sequence(), 6);
    }
}
