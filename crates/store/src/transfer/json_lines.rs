//! A store as JSON Lines: a first line that says whose it is and where its journal ends, a line for each record, one for everything beside
//! the journal, and a last line, so that a cut file is recognised.

use std::io::{BufRead, Write};

use async_trait::async_trait;
use quell_incident::ids::{Digest, IncidentId};
use quell_journal::{ChainHash, Head, StoredContent, StoredRecord};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;
use uuid::Uuid;

use super::{Beside, RecordSink, RecordSource, TransferError};
use crate::change_record::ReceivedChange;

const SCHEMA: &str = "quell/journal/v2";
/// No record is larger, with all of its payload escaped.
const LINE_BYTES_MAX: u64 = 200 << 20;
const BYTES_MAX: usize = 8 << 20;

#[derive(Serialize, Deserialize)]
struct First {
    schema: String,
    journal_id: Uuid,
    /// Text, as all whole numbers of 64 bits are.
    records: String,
    chain_hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sequence: String,
    kind: u16,
    last_of_request: bool,
    chain_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// In place of `payload` when it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dropped: Option<DroppedPayload>,
}

#[derive(Serialize, Deserialize)]
struct DroppedPayload {
    digest: String,
    bytes: u32,
}

/// A line after the records.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum After {
    Document {
        incident: IncidentId,
        digest: Digest,
        content_hex: String,
    },
    Change(ReceivedChange),
    /// The last one: how many there were before it.
    End {
        beside: String,
    },
}

impl From<Beside> for After {
    fn from(beside: Beside) -> Self {
        match beside {
            Beside::Document { incident, digest, content } => {
                Self::Document { incident, digest, content_hex: hex::encode(content) }
            }
            Beside::Change(change) => Self::Change(change),
        }
    }
}

impl From<StoredRecord> for Line {
    fn from(record: StoredRecord) -> Self {
        let mut line = Self {
            sequence: record.sequence.to_string(),
            kind: record.kind,
            last_of_request: record.last_of_request,
            chain_hash: record.chain_hash.to_string(),
            payload: None,
            payload_hex: None,
            dropped: None,
        };
        match record.content {
            StoredContent::Payload(payload) => match String::from_utf8(payload) {
                Ok(text) => line.payload = Some(text),
                Err(bytes) => line.payload_hex = Some(hex::encode(bytes.into_bytes())),
            },
            StoredContent::Dropped { digest, bytes } => {
                line.dropped = Some(DroppedPayload { digest: hex::encode(digest), bytes });
            }
        }
        line
    }
}

impl Line {
    fn record(self) -> Option<StoredRecord> {
        let content = match (self.payload, self.payload_hex, self.dropped) {
            (Some(text), None, None) => StoredContent::Payload(text.into_bytes()),
            (None, Some(digits), None) => StoredContent::Payload(hex::decode(digits).ok()?),
            (None, None, Some(dropped)) => {
                let digest = hex::decode(dropped.digest).ok()?.try_into().ok()?;
                StoredContent::Dropped { digest, bytes: dropped.bytes }
            }
            _ => return None,
        };
        Some(StoredRecord {
            sequence: self.sequence.parse().ok()?,
            kind: self.kind,
            last_of_request: self.last_of_request,
            content,
            chain_hash: self.chain_hash.parse().ok()?,
        })
    }
}

/// Reads a journal from JSON Lines.
pub struct JsonLinesSource<R> {
    from: R,
    journal_id: Uuid,
    head: Head,
    line: u64,
    records: u64,
    beside: u64,
}

impl<R: BufRead + Send> JsonLinesSource<R> {
    /// Reads the first line. Blocks.
    ///
    /// # Errors
    /// [`TransferError::Source`] when it is not the first line of an export.
    pub fn open(mut from: R) -> Result<Self, TransferError> {
        let text = next_line(&mut from, 1)?;
        let first: Option<First> = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let first = first.filter(|first| first.schema == SCHEMA);
        let head = first.and_then(|first| {
            let (sequence, chain_hash) = (first.records.parse().ok()?, first.chain_hash.parse().ok()?);
            Some((first.journal_id, Head { sequence, chain_hash }))
        });
        let wrong = || {
            format!(
                "line 1 is not the beginning of an export (`{SCHEMA}`): make one with `quell store export`"
            )
        };
        let (journal_id, head) = head.ok_or_else(|| TransferError::Source(wrong()))?;
        Ok(Self { from, journal_id, head, line: 1, records: 0, beside: 0 })
    }
}

fn next_line(from: &mut impl BufRead, number: u64) -> Result<Option<String>, TransferError> {
    let mut line = String::new();
    let read = std::io::Read::take(&mut *from, LINE_BYTES_MAX).read_line(&mut line);
    read.map_err(|error| TransferError::Source(format!("line {number} cannot be read: {error}")))?;
    Ok((!line.is_empty()).then_some(line))
}

#[async_trait]
impl<R: BufRead + Send> RecordSource for JsonLinesSource<R> {
    async fn journal_id(&mut self) -> Result<Uuid, TransferError> {
        Ok(self.journal_id)
    }

    async fn head(&mut self) -> Result<Head, TransferError> {
        Ok(self.head)
    }

    async fn records_after(
        &mut self,
        _sequence: u64,
        records_max: usize,
    ) -> Result<Vec<StoredRecord>, TransferError> {
        block_in_place(|| {
            let mut records = Vec::new();
            let mut bytes = 0;
            while records.len() < records_max && bytes < BYTES_MAX && self.records < self.head.sequence {
                self.line += 1;
                let Some(text) = next_line(&mut self.from, self.line)? else { break };
                bytes += text.len();
                let line: Option<Line> = serde_json::from_str(&text).ok();
                let wrong = || format!("line {} is no record; the file was cut or changed", self.line);
                records.push(line.and_then(Line::record).ok_or_else(|| TransferError::Source(wrong()))?);
                self.records += 1;
            }
            Ok(records)
        })
    }

    async fn next_beside(&mut self) -> Result<Option<Beside>, TransferError> {
        block_in_place(|| {
            self.line += 1;
            let text = next_line(&mut self.from, self.line)?;
            let line: Option<After> = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let found = match line {
                Some(After::End { beside }) if beside == self.beside.to_string() => return Ok(None),
                Some(After::Change(change)) => Some(Beside::Change(change)),
                Some(After::Document { incident, digest, content_hex }) => {
                    let content = hex::decode(content_hex).ok();
                    let content = content.filter(|content| Digest::of_bytes(content) == digest);
                    content.map(|content| Beside::Document { incident, digest, content })
                }
                _ => None,
            };
            let wrong = || {
                let why = "is neither evidence nor a change nor the end; the file was cut or changed";
                TransferError::Source(format!("line {} {why}", self.line))
            };
            self.beside += 1;
            found.ok_or_else(wrong).map(Some)
        })
    }
}

/// Writes a journal as JSON Lines.
pub struct JsonLinesSink<W> {
    to: W,
    head: Head,
    beside: u64,
}

impl<W: Write + Send> JsonLinesSink<W> {
    /// Where the journal ends has to be known: it stands in the first line, so that a cut file is recognised.
    pub fn new(to: W, head: Head) -> Self {
        Self { to, head, beside: 0 }
    }

    fn line<T: Serialize>(&mut self, line: &T) -> Result<(), TransferError> {
        let written = serde_json::to_vec(line).map_err(std::io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.to.write_all(&bytes)
        });
        written.map_err(|error| TransferError::Target(format!("the output cannot be written: {error}")))
    }
}

#[async_trait]
impl<W: Write + Send> RecordSink for JsonLinesSink<W> {
    async fn begin(&mut self, journal_id: Uuid) -> Result<(), TransferError> {
        let Head { sequence, chain_hash } = self.head;
        let first = First {
            schema: SCHEMA.to_owned(),
            journal_id,
            records: sequence.to_string(),
            chain_hash: ChainHash::to_string(&chain_hash),
        };
        block_in_place(|| self.line(&first))
    }

    async fn append(&mut self, records: Vec<StoredRecord>) -> Result<(), TransferError> {
        block_in_place(|| records.into_iter().try_for_each(|record| self.line(&Line::from(record))))
    }

    async fn add_beside(&mut self, beside: Beside) -> Result<(), TransferError> {
        self.beside += 1;
        block_in_place(|| self.line(&After::from(beside)))
    }

    async fn finish(&mut self, _head: Head) -> Result<(), TransferError> {
        let end = After::End { beside: self.beside.to_string() };
        block_in_place(|| self.line(&end))?;
        let flushed = block_in_place(|| self.to.flush());
        flushed.map_err(|error| TransferError::Target(format!("the output cannot be written: {error}")))
    }
}
