//! The bytes on disk. All integers are little endian; nothing is aligned or padded.
//!
//! Segment header, 80 bytes, at the start of each `<20-digit first sequence>.journal`:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `QUELLJRN` |
//! | 8 | 4 | format version, now 2 |
//! | 12 | 4 | zero |
//! | 16 | 16 | journal id (UUID) |
//! | 32 | 8 | sequence of the first record in this file |
//! | 40 | 32 | chain hash before that record |
//! | 72 | 4 | zero |
//! | 76 | 4 | CRC-32 of bytes 0..76 |
//!
//! Record: header of 100 bytes, then the payload unless it was dropped, then at once the next record:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `F5 71 6A F6` (never part of UTF-8 text) |
//! | 4 | 4 | payload length, also of one that was dropped |
//! | 8 | 8 | sequence, from 1, without gaps |
//! | 16 | 8 | sequence of the first record of the same write: all before it was durable when this was written |
//! | 24 | 2 | kind, the caller's |
//! | 26 | 2 | flags: bit 0 = last record of its request; bit 1 = the payload was dropped; others zero |
//! | 28 | 4 | CRC-32 of the payload |
//! | 32 | 32 | SHA-256 of the payload |
//! | 64 | 32 | chain hash, this record included |
//! | 96 | 4 | CRC-32 of journal id + bytes 0..96 |
//!
//! The chain hash is SHA-256 over `quell-journal chain v1\n`, the previous chain hash, sequence, kind, flags (bit 0
//! alone), payload length, and payload SHA-256, so it stays checkable when a payload is dropped: dropping changes bit 1,
//! the header's CRC, and nothing else of the header. The chain begins with SHA-256 over
//! `quell-journal genesis v1\n` and the journal id. The journal id in the header's CRC keeps a payload that happens to
//! contain records of another journal from ever looking like a record of this one.
//!
//! Durable mark, 80 bytes, overwritten in place in `durable.mark` after each sync:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `QUELLMRK` |
//! | 8 | 4 | format version |
//! | 12 | 4 | zero |
//! | 16 | 16 | journal id |
//! | 32 | 8 | last sequence known to be durable |
//! | 40 | 32 | chain hash of that record |
//! | 72 | 4 | zero |
//! | 76 | 4 | CRC-32 of bytes 0..76 |

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::DamageReason;

/// The only format this crate reads, and the one it writes. Version 1 could not say that a payload was dropped.
pub const FORMAT_VERSION: u32 = 2;
pub(crate) const SEGMENT_HEADER_BYTES: usize = 80;
/// What a record takes on disk besides its payload.
pub const RECORD_HEADER_BYTES: usize = 100;
pub(crate) const MARK_BYTES: usize = 80;
const SEGMENT_MAGIC: [u8; 8] = *b"QUELLJRN";
const MARK_MAGIC: [u8; 8] = *b"QUELLMRK";
pub(crate) const RECORD_MAGIC: [u8; 4] = [0xF5, b'q', b'j', 0xF6];
const FLAG_LAST_OF_REQUEST: u16 = 1;
const FLAG_PAYLOAD_DROPPED: u16 = 2;

/// The hash over all records up to one of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    /// Takes a hash that was kept elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The chain of a journal without records.
    pub fn genesis(id: Uuid) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"quell-journal genesis v1\n");
        hasher.update(id.as_bytes());
        Self(hasher.finalize().into())
    }

    /// The chain with one more record, for journals that are kept elsewhere than in files.
    pub fn next(&self, link: &Link) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"quell-journal chain v1\n");
        hasher.update(self.0);
        hasher.update(link.sequence.to_le_bytes());
        hasher.update(link.kind.to_le_bytes());
        hasher.update(link.flags.to_le_bytes());
        hasher.update(link.payload_length.to_le_bytes());
        hasher.update(link.payload_digest);
        Self(hasher.finalize().into())
    }
}

/// What the chain hash covers of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// The caller's type number.
    pub kind: u16,
    /// Bit 0: the last record of its request.
    pub flags: u16,
    /// The payload's length in bytes.
    pub payload_length: u32,
    /// The payload's SHA-256.
    pub payload_digest: [u8; 32],
}

impl fmt::Display for ChainHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ChainHash({self})")
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a chain hash is 64 hexadecimal digits")]
pub struct ParseChainHashError;

impl FromStr for ChainHash {
    type Err = ParseChainHashError;

    fn from_str(text: &str) -> Result<Self, ParseChainHashError> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseChainHashError);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(index * 2..index * 2 + 2).ok_or(ParseChainHashError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ParseChainHashError)?;
        }
        Ok(Self(bytes))
    }
}

/// How far the journal goes: what an anchor notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sequence of the last record; 0 if there is none yet.
    pub sequence: u64,
    /// Chain hash with that record included.
    pub chain_hash: ChainHash,
}

/// One record as the caller gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The caller's own type number.
    pub kind: u16,
    /// The caller's bytes, at most `record_bytes_max`.
    pub payload: Vec<u8>,
}

impl Record {
    /// A record of that kind.
    pub fn new(kind: u16, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, payload: payload.into() }
    }
}

/// A record as it stands in a journal, with its place in the chain: what copies are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number.
    pub sequence: u64,
    /// The caller's own type number.
    pub kind: u16,
    /// Whether the request it came with ends here.
    pub last_of_request: bool,
    /// Its payload, or what is left of it.
    pub content: StoredContent,
    /// The chain with this record included.
    pub chain_hash: ChainHash,
}

/// The payload of a stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredContent {
    /// It is there.
    Payload(Vec<u8>),
    /// It was dropped.
    Dropped {
        /// Its SHA-256.
        digest: [u8; 32],
        /// How long it was.
        bytes: u32,
    },
}

impl StoredRecord {
    /// The chain hash that this record has after the one before it, whatever [`chain_hash`](Self::chain_hash) says; none when the
    /// payload is longer than a journal can have.
    pub fn chain_after(&self, previous: ChainHash) -> Option<ChainHash> {
        RecordHeader::of_stored(self, self.sequence).map(|header| next_chain(previous, &header))
    }

    /// The SHA-256 of its payload.
    pub fn payload_digest(&self) -> [u8; 32] {
        match &self.content {
            StoredContent::Payload(payload) => Sha256::digest(payload).into(),
            StoredContent::Dropped { digest, .. } => *digest,
        }
    }
}

/// A record with what can be computed before its place is known.
#[derive(Debug)]
pub(crate) struct Prepared {
    record: Record,
    length: u32,
    crc: u32,
    digest: [u8; 32],
}

impl Prepared {
    pub(crate) fn new(record: Record, length: u32) -> Self {
        let crc = crc32fast::hash(&record.payload);
        let digest = Sha256::digest(&record.payload).into();
        Self { record, length, crc, digest }
    }
}

/// A decoded record header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordHeader {
    pub(crate) payload_length: u32,
    pub(crate) sequence: u64,
    pub(crate) write_first_sequence: u64,
    pub(crate) kind: u16,
    flags: u16,
    payload_crc: u32,
    pub(crate) payload_digest: [u8; 32],
    pub(crate) chain_hash: ChainHash,
}

impl RecordHeader {
    /// The header of a record that was stored elsewhere; its chain hash is what the caller says and is not checked here.
    pub(crate) fn of_stored(record: &StoredRecord, write_first_sequence: u64) -> Option<Self> {
        let last = if record.last_of_request { FLAG_LAST_OF_REQUEST } else { 0 };
        let (payload_length, flags, payload_crc, payload_digest) = match &record.content {
            StoredContent::Payload(payload) => {
                let length = u32::try_from(payload.len()).ok()?;
                (length, last, crc32fast::hash(payload), Sha256::digest(payload).into())
            }
            StoredContent::Dropped { digest, bytes } => (*bytes, last | FLAG_PAYLOAD_DROPPED, 0, *digest),
        };
        Some(Self {
            payload_length,
            sequence: record.sequence,
            write_first_sequence,
            kind: record.kind,
            flags,
            payload_crc,
            payload_digest,
            chain_hash: record.chain_hash,
        })
    }

    /// The same record without its payload.
    pub(crate) fn without_payload(mut self) -> Self {
        self.flags |= FLAG_PAYLOAD_DROPPED;
        self.payload_crc = 0;
        self
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.flags & FLAG_PAYLOAD_DROPPED != 0
    }

    /// How many bytes follow the header.
    pub(crate) fn stored_length(&self) -> u32 {
        if self.is_dropped() { 0 } else { self.payload_length }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>, id: Uuid) {
        let start = out.len();
        out.extend_from_slice(&RECORD_MAGIC);
        out.extend_from_slice(&self.payload_length.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.write_first_sequence.to_le_bytes());
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        out.extend_from_slice(&self.payload_digest);
        out.extend_from_slice(self.chain_hash.as_bytes());
        let crc = header_crc(&out[start..], id);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES], id: Uuid) -> Option<Self> {
        let header = Self {
            payload_length: u32_at(bytes, 4),
            sequence: u64_at(bytes, 8),
            write_first_sequence: u64_at(bytes, 16),
            kind: u16_at(bytes, 24),
            flags: u16_at(bytes, 26),
            payload_crc: u32_at(bytes, 28),
            payload_digest: array_at(bytes, 32),
            chain_hash: ChainHash(array_at(bytes, 64)),
        };
        let checks = bytes.starts_with(&RECORD_MAGIC)
            && header_crc(&bytes[..96], id) == u32_at(bytes, 96)
            && header.flags & !(FLAG_LAST_OF_REQUEST | FLAG_PAYLOAD_DROPPED) == 0
            && header.write_first_sequence <= header.sequence;
        checks.then_some(header)
    }

    pub(crate) fn last_of_request(&self) -> bool {
        self.flags & FLAG_LAST_OF_REQUEST != 0
    }

    /// Whether this is the record that the previous chain hash leads to.
    pub(crate) fn follows(&self, previous: ChainHash) -> bool {
        next_chain(previous, self) == self.chain_hash
    }

    pub(crate) fn check_payload(&self, payload: &[u8], digest: bool) -> Result<(), DamageReason> {
        if self.is_dropped() {
            return Ok(());
        }
        if crc32fast::hash(payload) != self.payload_crc {
            return Err(DamageReason::PayloadChecksum);
        }
        if digest && <[u8; 32]>::from(Sha256::digest(payload)) != self.payload_digest {
            return Err(DamageReason::PayloadDigest);
        }
        Ok(())
    }
}

/// Appends one record's bytes to `out` and moves the head on to it.
pub(crate) fn encode_record(
    out: &mut Vec<u8>,
    id: Uuid,
    head: &mut Head,
    write_first_sequence: u64,
    prepared: &Prepared,
    last_of_request: bool,
) {
    let mut header = RecordHeader {
        payload_length: prepared.length,
        sequence: head.sequence + 1,
        write_first_sequence,
        kind: prepared.record.kind,
        flags: if last_of_request { FLAG_LAST_OF_REQUEST } else { 0 },
        payload_crc: prepared.crc,
        payload_digest: prepared.digest,
        chain_hash: head.chain_hash,
    };
    header.chain_hash = next_chain(head.chain_hash, &header);
    *head = Head { sequence: header.sequence, chain_hash: header.chain_hash };
    header.encode(out, id);
    out.extend_from_slice(&prepared.record.payload);
}

fn next_chain(previous: ChainHash, header: &RecordHeader) -> ChainHash {
    previous.next(&Link {
        sequence: header.sequence,
        kind: header.kind,
        // What retention marks later is not part of it.
        flags: header.flags & FLAG_LAST_OF_REQUEST,
        payload_length: header.payload_length,
        payload_digest: header.payload_digest,
    })
}

fn header_crc(bytes: &[u8], id: Uuid) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id.as_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Why a segment header or a mark was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Damaged,
    Newer(u32),
    Older(u32),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentHeader {
    pub(crate) id: Uuid,
    pub(crate) first_sequence: u64,
    pub(crate) chain_hash: ChainHash,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        put(&mut bytes, 0, &SEGMENT_MAGIC);
        put(&mut bytes, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 16, self.id.as_bytes());
        put(&mut bytes, 32, &self.first_sequence.to_le_bytes());
        put(&mut bytes, 40, self.chain_hash.as_bytes());
        let crc = crc32fast::hash(&bytes[..76]);
        put(&mut bytes, 76, &crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        check(bytes, &SEGMENT_MAGIC, SEGMENT_HEADER_BYTES)?;
        Ok(Self {
            id: Uuid::from_bytes(array_at(bytes, 16)),
            first_sequence: u64_at(bytes, 32),
            chain_hash: ChainHash(array_at(bytes, 40)),
        })
    }
}

/// What is known to be durable: a lower bound, since the mark itself is not synced on each write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) id: Uuid,
    pub(crate) head: Head,
}

impl Mark {
    pub(crate) fn encode(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        put(&mut bytes, 0, &MARK_MAGIC);
        put(&mut bytes, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 16, self.id.as_bytes());
        put(&mut bytes, 32, &self.head.sequence.to_le_bytes());
        put(&mut bytes, 40, self.head.chain_hash.as_bytes());
        let crc = crc32fast::hash(&bytes[..76]);
        put(&mut bytes, 76, &crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        check(bytes, &MARK_MAGIC, MARK_BYTES)?;
        let head = Head { sequence: u64_at(bytes, 32), chain_hash: ChainHash(array_at(bytes, 40)) };
        Ok(Self { id: Uuid::from_bytes(array_at(bytes, 16)), head })
    }
}

/// The version is looked at before the checksum, whose place a newer format may have moved.
fn check(bytes: &[u8], magic: &[u8; 8], length: usize) -> Result<(), Unreadable> {
    if bytes.len() < length || !bytes.starts_with(magic) {
        return Err(Unreadable::Damaged);
    }
    let version = u32_at(bytes, 8);
    let crc_matches = crc32fast::hash(&bytes[..length - 4]) == u32_at(bytes, length - 4);
    match version {
        FORMAT_VERSION if crc_matches => Ok(()),
        newer if newer > FORMAT_VERSION => Err(Unreadable::Newer(newer)),
        older if older > 0 && crc_matches => Err(Unreadable::Older(older)),
        _ => Err(Unreadable::Damaged),
    }
}

/// The name of the segment that begins with that sequence.
pub(crate) fn segment_name(first_sequence: u64) -> String {
    format!("{first_sequence:020}.journal")
}

/// The first sequence that a segment's name states; none for other files.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}
