//! The journal as JSON Lines, for people and for other tools.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use quell_journal::Entry;
use serde_json::{Value, json};

use super::{AuditError, AuditReport, Gathered, walk};
use crate::embedded::JOURNAL_FOLDER;
use crate::embedded::record::{APPENDED, CORRELATED, LOST, RECEIVED, RETAINED, SWITCHED};

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The folder or the database cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The output cannot be written.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// How many records.
    pub records: u64,
    /// What was found on the way; the export ends before a finding.
    pub report: AuditReport,
}

/// Writes each durable record as a JSON object: all, or those from an instant on. One that has no time of its own, or no payload
/// any more, counts as of the time of the one before it.
pub fn export<'a>(
    folder: &Path,
    since: Option<Timestamp>,
    write: &'a mut (dyn FnMut(Value) -> io::Result<()> + Send + 'a),
) -> Result<Exported, ExportError> {
    let journal = folder.join(JOURNAL_FOLDER);
    if !journal.is_dir() {
        return Err(AuditError::NoJournal { folder: folder.to_owned() }.into());
    }
    // What is written after this may not be durable yet.
    let durable = quell_journal::durable_head(&journal)
        .map_err(|source| AuditError::Journal { folder: folder.to_owned(), source })?;
    let end = durable.map_or(u64::MAX, |head| head.sequence);
    // Retention records stand after what they give up.
    let mut gathered = Gathered::default();
    walk(folder, &[], &mut |entry| gathered.take(&entry))?;
    gathered.sort();
    let mut export = Export::new(gathered, since, write);
    let report = walk(folder, &[], &mut |entry| {
        if entry.sequence <= end {
            export.take(&entry);
        }
    })?;
    export.finish(report)
}

/// Takes one line.
pub(super) type Write<'a> = dyn FnMut(Value) -> io::Result<()> + Send + 'a;

/// An export that is under way.
pub(super) struct Export<'a> {
    gathered: Gathered,
    since: Option<Timestamp>,
    write: &'a mut Write<'a>,
    records: u64,
    outcome: io::Result<()>,
    last_time: Timestamp,
}

impl<'a> Export<'a> {
    pub(super) fn new(gathered: Gathered, since: Option<Timestamp>, write: &'a mut Write<'a>) -> Self {
        Self { gathered, since, write, records: 0, outcome: Ok(()), last_time: Timestamp::MIN }
    }

    pub(super) fn take(&mut self, entry: &Entry) {
        if self.outcome.is_err() {
            return;
        }
        let (time, line) = line_of(entry, &self.gathered);
        self.last_time = time.unwrap_or(self.last_time).max(self.last_time);
        if self.since.is_none_or(|since| self.last_time >= since) {
            self.outcome = (self.write)(line);
            self.records += 1;
        }
    }

    pub(super) fn finish(self, report: AuditReport) -> Result<Exported, ExportError> {
        self.outcome?;
        Ok(Exported { records: self.records, report })
    }
}

fn line_of(entry: &Entry, gathered: &Gathered) -> (Option<Timestamp>, Value) {
    let kind = match entry.kind {
        RECEIVED => "received",
        APPENDED => "appended",
        SWITCHED => "switched",
        CORRELATED => "correlated",
        RETAINED => "retained",
        LOST => "lost",
        _ => "unknown",
    };
    let content = if entry.dropped { Content::default() } else { Content::of(entry) };
    let line = json!({
        "sequence": entry.sequence.to_string(),
        "time": content.time,
        "kind": kind,
        "incident_id": content.incident_id,
        "actor": content.actor,
        "event_types": content.event_types,
        "payload": content.payload,
        "payload_dropped_by": entry.dropped.then(|| gathered.retention_of(entry.sequence).map(|by| by.to_string())),
        "payload_digest": hex::encode(entry.payload_digest),
        "chain_hash": entry.chain_hash.to_string(),
    });
    (content.time, line)
}

/// What can be told of a payload.
#[derive(Default)]
struct Content {
    time: Option<Timestamp>,
    incident_id: Value,
    actor: Value,
    event_types: Vec<Value>,
    payload: Value,
}

impl Content {
    fn of(entry: &Entry) -> Self {
        let lines = entry.payload.split(|byte| *byte == b'\n');
        let documents: Result<Vec<Value>, _> = lines.map(serde_json::from_slice).collect();
        let Ok(mut documents) = documents else {
            // Not what this program writes: shown as it is.
            return Self {
                payload: Value::String(String::from_utf8_lossy(&entry.payload).into_owned()),
                ..Self::default()
            };
        };
        let head = if documents.is_empty() { Value::Null } else { documents.remove(0) };
        // Who answers for a record that no incident's event is in: whoever accepted a loss, or threw the kill switch last, in either direction.
        let parts: &[&str] = if entry.kind == LOST { &["accepted"] } else { &["kill_switch", "released"] };
        let answered = parts.iter().map(|part| &head[*part]).find(|part| part.is_object());
        let answered = answered.unwrap_or(&Value::Null);
        let at = head["at"].as_str().or_else(|| answered["at"].as_str());
        let time = at.and_then(|at| at.parse().ok());
        let actors = || documents.iter().map(|event| event["actor"].clone());
        let by_itself = answered["by"].clone();
        Self {
            time,
            incident_id: head["incident_id"].clone(),
            actor: actors().next().unwrap_or(by_itself),
            event_types: documents.iter().map(|event| event["type"].clone()).collect(),
            payload: if entry.kind == APPENDED { json!({"append": head, "events": documents}) } else { head },
        }
    }
}
