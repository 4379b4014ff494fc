//! What stands beside the journal in a data folder and knows of it: the durable mark, the index, and the evidence that events cite.

use std::path::Path;

use quell_incident::event::Event;
use quell_incident::ids::{Digest, IncidentId};
use quell_journal::{Entry, Head, Witness};
use uuid::Uuid;

use super::{AuditReport, Finding};
use crate::embedded::witness::{IndexState, read_notes};
use crate::embedded::{Documents, JOURNAL_FOLDER, record};

/// What an audit found beside the journal; a database has none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The record up to which `durable.mark` says that the journal is durable; none when the mark is missing, so that a cut end
    /// would be seen by the index or by anchors alone.
    pub mark: Option<u64>,
    /// What the index noted of the journal.
    pub index: IndexState,
    /// Pieces of evidence that events cite and that are there.
    pub evidence: u64,
}

/// Evidence that an event cites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cited {
    pub(super) sequence: u64,
    incident: IncidentId,
    digest: Digest,
}

/// The evidence that a record cites.
pub(super) fn cited(entry: &Entry) -> Vec<Cited> {
    let Ok(appended) = record::decode_append(&entry.payload) else { return Vec::new() };
    let incident = appended.incident_id;
    let events = appended.events.into_iter().flatten();
    let digests = events.filter_map(|envelope| match envelope.event {
        Event::Diagnosed { report, .. } => report.case,
        _ => None,
    });
    digests.map(|digest| Cited { sequence: entry.sequence, incident, digest }).collect()
}

/// Compares, and says in the report what does not agree.
pub(super) fn compare(
    folder: &Path,
    notes: &Notes,
    cited: &[Cited],
    chain_of: &dyn Fn(u64) -> Option<Head>,
    report: &mut AuditReport,
) {
    let index = match &notes.index {
        Err(why) => IndexState::NotCompared { why: why.clone() },
        Ok(None) => IndexState::Missing,
        Ok(Some(noted)) => {
            let sequence = noted.iter().map(|note| note.sequence).max().unwrap_or(0);
            let wrong = noted.iter().find_map(|note| contradicted(note, chain_of, report));
            report.finding = report.finding.take().or(wrong);
            IndexState::Agrees { sequence }
        }
    };
    let documents = Documents::new(folder);
    let mut evidence = 0;
    for cited in cited {
        match missing(&documents, cited) {
            None => evidence += 1,
            Some(what) => {
                report.finding.get_or_insert(Finding {
                    sequence: cited.sequence,
                    segment: None,
                    offset: 0,
                    what,
                });
            }
        }
    }
    report.beside = Some(Beside { mark: notes.mark, index, evidence });
}

/// What was noted, read before the journal: notes that are older than it only say less.
pub(super) struct Notes {
    mark: Option<u64>,
    pub(super) index: Result<Option<Vec<Witness>>, String>,
}

impl Notes {
    pub(super) fn read(folder: &Path) -> Self {
        // What is wrong with the mark is found by the journal's own check.
        let mark = quell_journal::durable_head(&folder.join(JOURNAL_FOLDER)).ok().flatten();
        Self { mark: mark.map(|head| head.sequence), index: read_notes(folder) }
    }

    /// The records whose chain has to be looked at.
    pub(super) fn sequences(&self) -> Vec<u64> {
        let noted = self.index.iter().flatten().flatten();
        noted.map(|note| note.sequence).collect()
    }
}

fn contradicted(
    note: &Witness,
    chain_of: &dyn Fn(u64) -> Option<Head>,
    report: &AuditReport,
) -> Option<Finding> {
    let (id, head) = (report.journal_id?, report.head?);
    let found = |sequence, what| Some(Finding { sequence, segment: None, offset: 0, what });
    if let Some(other) = note.journal_id.filter(|noted: &Uuid| *noted != id) {
        return found(1, format!("the journal was exchanged: it is {id}, and the index belongs to {other}"));
    }
    if note.sequence > head.sequence {
        let what = format!(
            "records from {} on were removed: the journal ends at record {} (chain hash {}), but {note}",
            head.sequence + 1,
            head.sequence,
            head.chain_hash
        );
        return found(head.sequence + 1, what);
    }
    let here = chain_of(note.sequence)?;
    if note.chain_hash.is_some_and(|noted| noted != here.chain_hash) {
        let what = format!(
            "the journal was rewritten: its record {} has chain hash {}, but {note}",
            here.sequence, here.chain_hash
        );
        return found(note.sequence, what);
    }
    None
}

fn missing(documents: &Documents, cited: &Cited) -> Option<String> {
    let Cited { sequence, incident, digest } = cited;
    match documents.get(*incident, *digest) {
        Ok(Some(_)) => None,
        Ok(None) => Some(format!(
            "the evidence {digest} of incident {incident}, which record {sequence} cites, was removed"
        )),
        Err(error) => Some(format!("the evidence that record {sequence} cites was changed: {error}")),
    }
}
