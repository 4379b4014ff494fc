//! Walking through a segment: the one place where stored records are judged.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::disk::{Access, Disk, DiskFile, read_full};
use crate::error::{Damage, DamageReason, Error};
use crate::format::{
    ChainHash, Head, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader,
    Unreadable, segment_name,
};

const CHUNK_BYTES: u64 = 256 << 10;
/// Every so many bytes a record's place is remembered, so that a sequence is found without reading the segment.
const WAYPOINT_BYTES: u64 = 256 << 10;

/// Where a record lies in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waypoint {
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
}

/// Adds a waypoint if the last one is far enough behind.
pub(crate) fn note_waypoint(waypoints: &mut Vec<Waypoint>, sequence: u64, offset: u64) {
    if waypoints.last().is_none_or(|last| offset - last.offset >= WAYPOINT_BYTES) {
        waypoints.push(Waypoint { sequence, offset });
    }
}

/// One look at the next record.
#[derive(Debug)]
pub(crate) enum Step {
    Record { header: RecordHeader, offset: u64 },
    End,
    Damaged(DamageReason),
}

/// Reads the records of a segment one by one, up to a given end.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    id: Uuid,
    pub(crate) offset: u64,
    end: u64,
    pub(crate) next_sequence: u64,
    /// Unknown when the scan begins in the middle: then the first record's own hash is believed.
    chain: Option<ChainHash>,
    check_digests: bool,
    buffer: Vec<u8>,
    buffer_offset: u64,
    payload: Range<usize>,
}

impl Scanner {
    pub(crate) fn new(file: Arc<dyn DiskFile>, path: PathBuf, id: Uuid, from: Waypoint, end: u64) -> Self {
        Self {
            file,
            path,
            id,
            offset: from.offset,
            end,
            next_sequence: from.sequence,
            chain: None,
            check_digests: false,
            buffer: Vec::new(),
            buffer_offset: 0,
            payload: 0..0,
        }
    }

    pub(crate) fn with_chain(mut self, chain: ChainHash) -> Self {
        self.chain = Some(chain);
        self
    }

    pub(crate) fn with_digests(mut self) -> Self {
        self.check_digests = true;
        self
    }

    /// The payload of the record that the last step returned.
    pub(crate) fn payload(&self) -> &[u8] {
        self.buffer.get(self.payload.clone()).unwrap_or_default()
    }

    pub(crate) fn damage(&self, reason: DamageReason) -> Damage {
        Damage { segment: self.path.clone(), offset: self.offset, sequence: self.next_sequence, reason }
    }

    pub(crate) fn step(&mut self) -> Result<Step, Error> {
        let available = self.end.saturating_sub(self.offset);
        if available == 0 {
            return Ok(Step::End);
        }
        let Some(start) = self.load(RECORD_HEADER_BYTES as u64)? else {
            return Ok(Step::Damaged(DamageReason::HeaderShort));
        };
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes.copy_from_slice(&self.buffer[start..start + RECORD_HEADER_BYTES]);
        let Some(header) = RecordHeader::decode(&bytes, self.id) else {
            return Ok(Step::Damaged(DamageReason::Header));
        };
        if header.sequence != self.next_sequence {
            return Ok(Step::Damaged(DamageReason::Sequence { found: header.sequence }));
        }
        let length = RECORD_HEADER_BYTES as u64 + u64::from(header.stored_length());
        let Some(start) = self.load(length)? else {
            return Ok(Step::Damaged(DamageReason::PayloadShort));
        };
        let payload =
            start + RECORD_HEADER_BYTES..start + RECORD_HEADER_BYTES + header.stored_length() as usize;
        if let Err(reason) = header.check_payload(&self.buffer[payload.clone()], self.check_digests) {
            return Ok(Step::Damaged(reason));
        }
        if self.chain.is_some_and(|chain| !header.follows(chain)) {
            return Ok(Step::Damaged(DamageReason::Chain));
        }
        let offset = self.offset;
        self.payload = payload;
        self.offset += length;
        self.next_sequence += 1;
        self.chain = Some(header.chain_hash);
        Ok(Step::Record { header, offset })
    }

    /// Has `length` bytes from the current offset in the buffer; returns where they begin, none if the file is short.
    fn load(&mut self, length: u64) -> Result<Option<usize>, Error> {
        if length > self.end - self.offset {
            return Ok(None);
        }
        let buffered_end = self.buffer_offset + self.buffer.len() as u64;
        if self.offset >= self.buffer_offset && self.offset + length <= buffered_end {
            return Ok(Some((self.offset - self.buffer_offset) as usize));
        }
        let want = length.max(CHUNK_BYTES).min(self.end - self.offset);
        self.buffer.resize(want as usize, 0);
        let read = read_full(&*self.file, &mut self.buffer, self.offset)
            .map_err(|error| Error::io("read", &self.path, error))?;
        self.buffer.truncate(read);
        self.buffer_offset = self.offset;
        Ok((read as u64 >= length).then_some(0))
    }
}

/// An opened segment whose header was checked.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) length: u64,
}

impl Segment {
    pub(crate) fn open(
        disk: &dyn Disk,
        folder: &Path,
        first_sequence: u64,
        access: Access,
    ) -> Result<Self, Error> {
        let path = folder.join(segment_name(first_sequence));
        let file = disk.open(&path, access).map_err(|error| Error::io("open", &path, error))?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let read = read_full(&*file, &mut bytes, 0).map_err(|error| Error::io("read", &path, error))?;
        let length = file.length().map_err(|error| Error::io("measure", &path, error))?;
        match SegmentHeader::decode(&bytes[..read]) {
            Ok(header) if header.first_sequence == first_sequence => Ok(Self { file, path, header, length }),
            Err(Unreadable::Older(found)) => {
                Err(Error::OlderFormat { path, found, known: crate::format::FORMAT_VERSION })
            }
            Err(Unreadable::Newer(found)) => {
                Err(Error::NewerFormat { path, found, known: crate::format::FORMAT_VERSION })
            }
            Ok(_) | Err(Unreadable::Damaged) => Err(Error::Corrupt(Damage {
                segment: path,
                offset: 0,
                sequence: first_sequence,
                reason: DamageReason::SegmentHeader,
            })),
        }
    }

    /// The segment belongs to this journal and begins where the one before it ended.
    pub(crate) fn check_continues(&self, id: Uuid, before: Head) -> Result<(), Error> {
        if self.header.id != id {
            let path = self.path.clone();
            return Err(Error::ForeignFile { path, expected: id, found: self.header.id });
        }
        if self.header.first_sequence != before.sequence + 1 || self.header.chain_hash != before.chain_hash {
            return Err(Error::Corrupt(Damage {
                segment: self.path.clone(),
                offset: 0,
                sequence: self.header.first_sequence,
                reason: DamageReason::SegmentChain,
            }));
        }
        Ok(())
    }

    pub(crate) fn scanner(&self) -> Scanner {
        let from = Waypoint { sequence: self.header.first_sequence, offset: SEGMENT_HEADER_BYTES as u64 };
        Scanner::new(Arc::clone(&self.file), self.path.clone(), self.header.id, from, self.length)
            .with_chain(self.header.chain_hash)
    }
}

/// What a walk through one segment found.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The last record that ends a whole request; the segment's start if there is none.
    pub(crate) head: Head,
    /// The byte after that record.
    pub(crate) good_length: u64,
    /// Where the write that holds that record begins.
    pub(crate) last_write_offset: u64,
    pub(crate) waypoints: Vec<Waypoint>,
    pub(crate) damage: Option<Damage>,
    /// Where reading stopped: the first byte of a bad record, or the end.
    pub(crate) stopped: u64,
}

/// Walks to the end or the first damage, showing each sound record and its offset.
pub(crate) fn walk(
    mut scanner: Scanner,
    start: Head,
    visit: &mut dyn FnMut(&RecordHeader, u64, &[u8]),
) -> Result<Walk, Error> {
    let mut walk = Walk {
        head: start,
        good_length: scanner.offset,
        last_write_offset: scanner.offset,
        waypoints: Vec::new(),
        damage: None,
        stopped: scanner.offset,
    };
    let mut write_offset = scanner.offset;
    loop {
        walk.stopped = scanner.offset;
        match scanner.step()? {
            Step::Record { header, offset } => {
                if header.write_first_sequence == header.sequence {
                    write_offset = offset;
                }
                visit(&header, offset, scanner.payload());
                if header.last_of_request() {
                    walk.head = Head { sequence: header.sequence, chain_hash: header.chain_hash };
                    walk.good_length = scanner.offset;
                    walk.last_write_offset = write_offset;
                }
                note_waypoint(&mut walk.waypoints, header.sequence, offset);
            }
            Step::End => {
                if walk.good_length < scanner.offset {
                    walk.damage = Some(Damage {
                        segment: scanner.path,
                        offset: walk.good_length,
                        sequence: walk.head.sequence + 1,
                        reason: DamageReason::UnfinishedRequest,
                    });
                }
                return Ok(walk);
            }
            Step::Damaged(reason) => {
                walk.damage = Some(scanner.damage(reason));
                return Ok(walk);
            }
        }
    }
}

/// Sound record headers after a damaged place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Followers {
    /// Some record follows.
    pub(crate) any: bool,
    /// A record follows whose write began after `sequence`, so `sequence` had been synced before.
    pub(crate) later_write: bool,
}

/// Looks at every byte from `from` on for headers of records after `sequence`.
pub(crate) fn followers(segment: &Segment, from: u64, sequence: u64) -> Result<Followers, Error> {
    let mut found = Followers::default();
    let mut buffer = Vec::new();
    let mut offset = from;
    while offset + RECORD_HEADER_BYTES as u64 <= segment.length {
        buffer.resize((segment.length - offset).min(CHUNK_BYTES) as usize, 0);
        let read = read_full(&*segment.file, &mut buffer, offset)
            .map_err(|error| Error::io("read", &segment.path, error))?;
        buffer.truncate(read);
        for window in buffer.windows(RECORD_HEADER_BYTES) {
            if !window.starts_with(&RECORD_MAGIC) {
                continue;
            }
            let mut bytes = [0; RECORD_HEADER_BYTES];
            bytes.copy_from_slice(window);
            if let Some(header) = RecordHeader::decode(&bytes, segment.header.id)
                && header.sequence > sequence
            {
                found.any = true;
                found.later_write |= header.write_first_sequence > sequence;
            }
        }
        if found.later_write || read < RECORD_HEADER_BYTES {
            break;
        }
        offset += (read - RECORD_HEADER_BYTES + 1) as u64;
    }
    Ok(found)
}
