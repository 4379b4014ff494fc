//! The same for a PostgreSQL database: the chain over its journal, beside coordinators that run.

use quell_journal::{ChainHash, Entry, Head, Link, Position};
use sha2::{Digest as _, Sha256};

use super::export::Export;
use super::{
    Anchor, AuditError, AuditReport, ExportError, Exported, Finding, Gathered, anchor_against, anchor_beyond,
    ends_before, has_other_chain, replaced,
};
use crate::postgres::{JournalReader, RawRecord};

/// Reads every record of a database and compares it with the anchors. Reads only: nothing is migrated, and nobody is held up.
///
/// # Errors
/// [`AuditError::Database`] when the database cannot be judged. What is wrong in it is a finding and no error.
pub async fn verify_database(url: &str, anchors: &[Anchor]) -> Result<AuditReport, AuditError> {
    let mut reader = JournalReader::open(url).await?;
    let mut gathered = Gathered::default();
    let mut report = walk(&mut reader, anchors, &mut |entry| gathered.take(entry)).await?;
    reader.close().await;
    gathered.finish(&mut report, None);
    Ok(report)
}

/// Writes each record of a database as a JSON object, as [`export`](super::export) does for a folder.
///
/// # Errors
/// [`ExportError`] when the database cannot be read, or the output not be written.
pub async fn export_database<'a>(
    url: &str,
    since: Option<jiff::Timestamp>,
    write: &'a mut (dyn FnMut(serde_json::Value) -> std::io::Result<()> + Send + 'a),
) -> Result<Exported, ExportError> {
    let mut reader = JournalReader::open(url).await.map_err(AuditError::from)?;
    // Retention records stand after what they give up.
    let mut gathered = Gathered::default();
    walk(&mut reader, &[], &mut |entry| gathered.take(entry)).await?;
    gathered.sort();
    reader.rewind();
    let mut export = Export::new(gathered, since, write);
    let report = walk(&mut reader, &[], &mut |entry| export.take(entry)).await?;
    reader.close().await;
    export.finish(report)
}

/// Shows each sound record.
async fn walk(
    reader: &mut JournalReader,
    anchors: &[Anchor],
    visit: &mut (dyn FnMut(&Entry) + Send),
) -> Result<AuditReport, AuditError> {
    let Some((journal_id, end)) = reader.end else { return Err(AuditError::EmptyDatabase) };
    let mut walk = Walk {
        head: Head { sequence: 0, chain_hash: ChainHash::genesis(journal_id) },
        anchors,
        by_anchor: None,
        agreeing: 0,
        end,
    };
    let mut finding = walk.anchored();
    while finding.is_none() {
        let records = reader.next().await?;
        if records.is_empty() {
            finding = walk.ended();
            break;
        }
        for record in records {
            match walk.step(record) {
                Ok(entry) => visit(&entry),
                Err(what) => {
                    finding = Some(what);
                    break;
                }
            }
        }
    }
    let mut report = AuditReport::empty(Some(journal_id));
    report.head = Some(walk.head);
    report.anchors_agreeing = walk.agreeing;
    report.finding = replaced(journal_id, anchors);
    if report.finding.is_none() {
        (report.finding, report.finding_by_anchor) = (finding, walk.by_anchor);
    }
    Ok(report)
}

/// Where the chain stands after the records so far.
struct Walk<'a> {
    head: Head,
    anchors: &'a [Anchor],
    /// Which anchor tells of what was found.
    by_anchor: Option<String>,
    agreeing: usize,
    /// Where the database says that the journal ends.
    end: Head,
}

impl Walk<'_> {
    /// The next record, if it is the one that follows.
    fn step(&mut self, record: RawRecord) -> Result<Entry, Finding> {
        let sequence = self.head.sequence + 1;
        let found = |what: String| Finding { sequence, segment: None, offset: 0, what };
        if record.sequence != sequence as i64 {
            return Err(found(misplaced(sequence, record.sequence)));
        }
        if sequence > self.end.sequence {
            return Err(found(format!(
                "record {sequence} was inserted: by what the database says the journal ends with record {}",
                self.end.sequence
            )));
        }
        let changed = |why: &str| found(format!("record {sequence} was changed: {why}"));
        let digest: [u8; 32] =
            record.digest.try_into().map_err(|_| changed("its digest is not one of 32 bytes"))?;
        let payload_bytes = match (&record.payload, record.payload_bytes) {
            (Some(payload), _) => {
                if <[u8; 32]>::from(Sha256::digest(payload)) != digest {
                    return Err(changed("the payload does not match its digest"));
                }
                payload.len() as u32
            }
            (None, Some(bytes)) => bytes as u32,
            (None, None) => return Err(changed("its payload is gone without its length")),
        };
        let link = Link {
            sequence,
            kind: record.kind as u16,
            flags: record.flags as u16,
            payload_length: payload_bytes,
            payload_digest: digest,
        };
        let chain_hash = self.head.chain_hash.next(&link);
        if record.chain_hash != chain_hash.as_bytes() {
            return Err(found(format!(
                "record {sequence} was changed or inserted, or the one before it: the chain hash does not follow"
            )));
        }
        self.head = Head { sequence, chain_hash };
        if let Some(finding) = self.anchored() {
            return Err(finding);
        }
        Ok(Entry {
            sequence,
            kind: link.kind,
            dropped: record.payload.is_none(),
            payload: record.payload.unwrap_or_default(),
            payload_digest: digest,
            payload_bytes,
            position: Position { segment: 0, offset: 0 },
            chain_hash,
            last_of_request: link.flags & 1 == 1,
        })
    }

    /// Compares the record that the chain stands at with what was noted of it elsewhere.
    fn anchored(&mut self) -> Option<Finding> {
        if let Some(anchor) = anchor_against(self.head, self.anchors) {
            self.by_anchor = Some(has_other_chain(anchor, self.head));
            let sequence = self.head.sequence;
            let what = format!(
                "the journal was rewritten: up to record {sequence} it is not what was noted of it elsewhere"
            );
            return Some(Finding { sequence, segment: None, offset: 0, what });
        }
        self.agreeing += self.anchors.iter().filter(|anchor| anchor.head == self.head).count();
        None
    }

    /// After the last record.
    fn ended(&mut self) -> Option<Finding> {
        let beyond = anchor_beyond(self.head, self.anchors);
        self.by_anchor = beyond.map(|anchor| ends_before(anchor, self.head));
        let sequence = self.head.sequence + 1;
        let found = |sequence, what| Some(Finding { sequence, segment: None, offset: 0, what });
        if self.head.sequence < self.end.sequence || beyond.is_some() {
            let what = format!(
                "records from {sequence} on were removed: they were acknowledged or anchored and are not there"
            );
            return found(sequence, what);
        }
        if self.head != self.end {
            let sequence = self.head.sequence;
            let what = format!(
                "what the database says of the journal's end was changed: it is not the chain hash of record {sequence}"
            );
            return found(sequence, what);
        }
        None
    }
}

fn misplaced(sequence: u64, found: i64) -> String {
    match found - sequence as i64 {
        1 => format!("record {sequence} was removed: record {found} stands in its place"),
        2.. => {
            format!("records {sequence} to {} were removed: record {found} stands in their place", found - 1)
        }
        _ => format!("a record was inserted: record {found} stands here, where {sequence} should"),
    }
}
