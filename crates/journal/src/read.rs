//! Reading what is durable, alongside the committer.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crate::commit::Shared;
use crate::disk::{Access, DiskFile, read_full};
use crate::error::Error;
use crate::format::{
    ChainHash, Head, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, StoredContent, StoredRecord,
    segment_name,
};
use crate::scan::{Scanner, Step, Waypoint};
use crate::ticket::Position;

/// Read at once with the header, so that a usual record takes one system call.
const FIRST_READ_BYTES: u64 = 4 << 10;

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// The caller's type number.
    pub kind: u16,
    /// The caller's bytes; empty when they were dropped.
    pub payload: Vec<u8>,
    /// The SHA-256 of the payload, also of one that was dropped.
    pub payload_digest: [u8; 32],
    /// The length of the payload, also of one that was dropped.
    pub payload_bytes: u32,
    /// Whether the payload was dropped.
    pub dropped: bool,
    /// Where it lies.
    pub position: Position,
    /// The chain with this record included.
    pub chain_hash: ChainHash,
    /// Whether the request it came with ends here.
    pub last_of_request: bool,
}

impl Entry {
    pub(crate) fn new(header: &RecordHeader, payload: &[u8], position: Position) -> Self {
        Self {
            sequence: header.sequence,
            kind: header.kind,
            payload: payload.to_vec(),
            payload_digest: header.payload_digest,
            payload_bytes: header.payload_length,
            dropped: header.is_dropped(),
            position,
            chain_hash: header.chain_hash,
            last_of_request: header.last_of_request(),
        }
    }
}

/// A segment's file, its durable length, and a known place in it.
type OpenSegment = (Arc<dyn DiskFile>, u64, Waypoint);

impl From<Entry> for StoredRecord {
    fn from(entry: Entry) -> Self {
        let content = if entry.dropped {
            StoredContent::Dropped { digest: entry.payload_digest, bytes: entry.payload_bytes }
        } else {
            StoredContent::Payload(entry.payload)
        };
        Self {
            sequence: entry.sequence,
            kind: entry.kind,
            last_of_request: entry.last_of_request,
            content,
            chain_hash: entry.chain_hash,
        }
    }
}

impl Shared {
    pub(crate) fn segment_path(&self, segment: u64) -> PathBuf {
        self.folder.join(segment_name(segment))
    }

    /// A cached handle; the least recently used one is closed when there are too many.
    fn read_file(&self, segment: u64) -> Result<Arc<dyn DiskFile>, Error> {
        let mut files = self.read_files.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = files.iter().position(|(cached, _)| *cached == segment).and_then(|at| files.remove(at));
        let file = match cached {
            Some((_, file)) => file,
            None => {
                let path = self.segment_path(segment);
                let opened = self.options.disk.open(&path, Access::Read);
                opened.map_err(|error| Error::io("open", &path, error))?
            }
        };
        while files.len() >= self.options.read_files_max.max(1) {
            files.pop_front();
        }
        files.push_back((segment, Arc::clone(&file)));
        Ok(file)
    }

    /// A segment's file, its durable length, and a known place in it at or before the one `before` looks for. All under one
    /// look at the view, since a closed segment may be written anew.
    fn open_segment(
        &self,
        segment: u64,
        before: impl Fn(&Waypoint) -> bool,
    ) -> Result<Option<OpenSegment>, Error> {
        let view = self.view();
        let index = view.segments.binary_search_by_key(&segment, |view| view.first_sequence);
        let Some(view) = index.ok().and_then(|index| view.segments.get(index)) else { return Ok(None) };
        let file = self.read_file(segment)?;
        let known = view.waypoints.partition_point(before).checked_sub(1);
        let start = Waypoint { sequence: segment, offset: SEGMENT_HEADER_BYTES as u64 };
        let waypoint = known.and_then(|index| view.waypoints.get(index)).copied().unwrap_or(start);
        Ok(Some((file, view.length, waypoint)))
    }

    pub(crate) fn read(&self, position: Position) -> Result<Entry, Error> {
        let absent = Error::NoRecord { segment: position.segment, offset: position.offset };
        let known = self.open_segment(position.segment, |waypoint| waypoint.offset <= position.offset)?;
        let Some((file, length, waypoint)) = known else { return Err(absent) };
        let available = length.saturating_sub(position.offset);
        if position.offset < SEGMENT_HEADER_BYTES as u64 || available < RECORD_HEADER_BYTES as u64 {
            return Err(absent);
        }
        let failed = |error| Error::io("read", &self.segment_path(position.segment), error);
        let mut buffer = vec![0; available.min(FIRST_READ_BYTES) as usize];
        let read = read_full(&*file, &mut buffer, position.offset).map_err(failed)?;
        buffer.truncate(read);
        let mut bytes = [0; RECORD_HEADER_BYTES];
        if read >= RECORD_HEADER_BYTES {
            bytes.copy_from_slice(&buffer[..RECORD_HEADER_BYTES]);
        }
        let header = RecordHeader::decode(&bytes, self.id);
        let Some(header) = header.filter(|header| u64::from(header.stored_length()) <= available) else {
            return Err(self.explain(position, file, waypoint, length)?.unwrap_or(absent));
        };
        let total = RECORD_HEADER_BYTES + header.stored_length() as usize;
        let buffered = buffer.len().min(total);
        buffer.resize(total, 0);
        let rest = position.offset + buffered as u64;
        let read = read_full(&*file, &mut buffer[buffered..], rest).map_err(failed)?;
        let payload = &buffer[RECORD_HEADER_BYTES..];
        if buffered + read < total || header.check_payload(payload, false).is_err() {
            return Err(self.explain(position, file, waypoint, length)?.unwrap_or(absent));
        }
        Ok(Entry::new(&header, payload, position))
    }

    /// Why no sound record was found: damage at or before the position, or nothing at all if none begins there.
    fn explain(
        &self,
        position: Position,
        file: Arc<dyn DiskFile>,
        waypoint: Waypoint,
        length: u64,
    ) -> Result<Option<Error>, Error> {
        let path = self.segment_path(position.segment);
        let mut scanner = Scanner::new(file, path, self.id, waypoint, length);
        while scanner.offset <= position.offset {
            match scanner.step()? {
                Step::Record { .. } => {}
                Step::End => return Ok(None),
                Step::Damaged(reason) => return Ok(Some(Error::Corrupt(scanner.damage(reason)))),
            }
        }
        Ok(None)
    }
}

/// The durable records from some sequence on, in order, up to the head at the time of asking. Ends after an error.
pub struct Entries {
    shared: Arc<Shared>,
    from: u64,
    head: Head,
    /// First sequences of the segments still to be read.
    segments: VecDeque<u64>,
    current: Option<(u64, Scanner)>,
    /// Sequence and chain hash before the next record, once known.
    before: Option<Head>,
    /// With what the next segment must begin, once one was read to its end.
    continues_at: Option<u64>,
}

impl fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, head, .. } = self;
        formatter.debug_struct("Entries").field("from", from).field("head", head).finish_non_exhaustive()
    }
}

impl Entries {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        let from = from.max(1);
        let (head, segments) = {
            let view = shared.view();
            let begins = view.segments.partition_point(|segment| segment.first_sequence <= from);
            let wanted = view.segments.iter().skip(begins.saturating_sub(1));
            (view.head, wanted.map(|segment| segment.first_sequence).collect())
        };
        Self { shared, from, head, segments, current: None, before: None, continues_at: None }
    }

    fn advance(&mut self) -> Result<Option<Entry>, Error> {
        let wanted = self.before.map_or(self.from, |before| before.sequence + 1);
        if wanted > self.head.sequence {
            return Ok(None);
        }
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Err(self.gap());
            }
            let Some((segment, scanner)) = &mut self.current else { return Err(self.gap()) };
            match scanner.step()? {
                Step::Record { header, offset } => {
                    if header.sequence < wanted {
                        continue;
                    }
                    self.before = Some(Head { sequence: header.sequence, chain_hash: header.chain_hash });
                    let position = Position { segment: *segment, offset };
                    return Ok(Some(Entry::new(&header, scanner.payload(), position)));
                }
                Step::End => {
                    self.continues_at = Some(scanner.next_sequence);
                    self.current = None;
                }
                Step::Damaged(reason) => return Err(Error::Corrupt(scanner.damage(reason))),
            }
        }
    }

    fn open_next(&mut self) -> Result<bool, Error> {
        let Some(segment) = self.segments.pop_front() else { return Ok(false) };
        let from = self.from;
        let known = self.shared.open_segment(segment, |waypoint| waypoint.sequence <= from)?;
        let Some((file, length, waypoint)) = known else { return Ok(false) };
        if self.continues_at.is_some_and(|sequence| sequence != segment) {
            return Err(self.gap());
        }
        let path = self.shared.segment_path(segment);
        let start = if self.before.is_some() {
            Waypoint { sequence: segment, offset: SEGMENT_HEADER_BYTES as u64 }
        } else {
            waypoint
        };
        let mut scanner = Scanner::new(file, path, self.shared.id, start, length);
        if let Some(before) = self.before {
            scanner = scanner.with_chain(before.chain_hash);
        }
        self.current = Some((segment, scanner));
        Ok(true)
    }

    fn gap(&self) -> Error {
        let folder = self.shared.folder.clone();
        Error::SegmentMissing { folder, sequence: self.continues_at.unwrap_or(self.from) }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            // Beyond every head, so that an error is not followed by records after it.
            self.from = u64::MAX;
            self.before = None;
        }
        next
    }
}
