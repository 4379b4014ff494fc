//! What stands beside the journal in a data folder and knows of it: the durable mark, the index, and the evidence that events cite.

use std::collections::BTreeSet;
use std::path::Path;

use quell_incident::event::Event;
use quell_incident::ids::{Digest, IncidentId};
use quell_journal::{DurableMark, Entry, Head, Witness};
use uuid::Uuid;

use super::{AuditReport, Finding};
use crate::embedded::witness::{IndexNotes, IndexState, incidents_in_words, read_notes, read_unknown_end};
use crate::embedded::{Documents, JOURNAL_FOLDER, record};

/// What an audit found beside the journal; a database has none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// How far `durable.mark` says that the journal is durable; when it does not say so, a cut end would be seen by the index or by
    /// anchors alone.
    pub mark: DurableMark,
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
    (cited, unaccounted): (&[Cited], &BTreeSet<IncidentId>),
    chain_of: &dyn Fn(u64) -> Option<Head>,
    report: &mut AuditReport,
) {
    let index = match &notes.index {
        IndexNotes::Missing => IndexState::Missing,
        IndexNotes::InUse => IndexState::InUse,
        IndexNotes::Unreadable(why) => IndexState::Unreadable { why: why.clone() },
        IndexNotes::Read(noted) => {
            let sequence = noted.iter().map(|note| note.sequence).max().unwrap_or(0);
            let wrong = noted.iter().find_map(|note| contradicted(note, chain_of, report));
            report.finding = report.finding.take().or(wrong);
            let nothing_noted = sequence == 0 && report.head.is_some_and(|head| head.sequence > 0);
            if nothing_noted { IndexState::NothingNoted } else { IndexState::Agrees { sequence } }
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
    if report.finding.is_none() {
        report.finding =
            of_nobody(unaccounted, report.head).or_else(|| nothing_compared(notes, &index, report.head));
    }
    report.beside = Some(Beside { mark: notes.mark, index, evidence });
}

/// Evidence is written after its incident is durable, and was listed before the journal was read.
fn of_nobody(unaccounted: &BTreeSet<IncidentId>, head: Option<Head>) -> Option<Finding> {
    let head = head.filter(|_| !unaccounted.is_empty())?;
    let what = format!(
        "records from {} on were removed: the journal ends at record {} (chain hash {}), but there is evidence in `documents` of {}, \
         which the journal does not have",
        head.sequence + 1,
        head.sequence,
        head.chain_hash,
        incidents_in_words(unaccounted)
    );
    Some(Finding { sequence: head.sequence + 1, segment: None, offset: 0, what })
}

/// Somebody would know whether the end was cut off, and not one of them can be read.
fn nothing_compared(notes: &Notes, index: &IndexState, head: Option<Head>) -> Option<Finding> {
    let mark = match notes.mark {
        DurableMark::UpTo(_) => return None,
        DurableMark::Missing => "`durable.mark` is missing",
        DurableMark::Unreadable => "`durable.mark` cannot be read",
    };
    let index = match index {
        IndexState::Agrees { .. } | IndexState::InUse => return None,
        IndexState::Missing if notes.mark == DurableMark::Missing => return None,
        IndexState::Missing => "the index is missing".to_owned(),
        IndexState::NothingNoted => "the index has noted nothing".to_owned(),
        IndexState::Unreadable { why } => format!("the index cannot be read ({why})"),
    };
    let sequence = head?.sequence + 1;
    let what = format!(
        "whether records from {sequence} on were removed cannot be told: {mark}, and {index}; anchors that were kept elsewhere tell"
    );
    Some(Finding { sequence, segment: None, offset: 0, what })
}

/// What was noted, read before the journal: notes that are older than it only say less.
pub(super) struct Notes {
    mark: DurableMark,
    index: IndexNotes,
    /// The incidents that have evidence.
    pub(super) with_evidence: BTreeSet<IncidentId>,
}

impl Notes {
    pub(super) fn read(folder: &Path) -> Self {
        let mark = match read_unknown_end(folder) {
            // One that was made anew by who did not know the end says nothing.
            Some(_) => Ok(DurableMark::Missing),
            None => quell_journal::durable_mark(&folder.join(JOURNAL_FOLDER)),
        };
        let with_evidence = Documents::new(folder).incidents().unwrap_or_default();
        Self {
            // One that is of another format, or cannot be opened, is an error of the journal's own check.
            mark: mark.unwrap_or(DurableMark::Unreadable),
            index: read_notes(folder),
            with_evidence: with_evidence.into_iter().collect(),
        }
    }

    /// The records whose chain has to be looked at.
    pub(super) fn sequences(&self) -> Vec<u64> {
        match &self.index {
            IndexNotes::Read(noted) => noted.iter().map(|note| note.sequence).collect(),
            _ => Vec::new(),
        }
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
