//! Whether a data folder, or a database, is what was written: nothing changed, removed or inserted.
//!
//! Everything here reads only and takes no lock, so it may run beside coordinators. The chain alone finds edits in place; who can
//! rewrite the whole of it can make a chain that holds. [`Anchor`]s that were signed with a key and kept elsewhere find that too.

mod anchor;
mod beside;
mod database;
mod export;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quell_incident::ids::IncidentId;
pub use quell_journal::DurableMark;
use quell_journal::{Damage, DamageReason, Entry, Error as JournalError, Head};
use uuid::Uuid;

pub use quell_sign::KeyError;

pub use self::anchor::{Anchor, AnchorError, AnchorFile, Anchors, PublicKey, SigningKey};
pub use self::beside::Beside;
pub use self::database::{export_database, verify_database};
pub use self::export::{ExportError, Exported, export};
use crate::embedded::record::{APPENDED, LOST, RETAINED, decode_loss, decode_retained};
use crate::embedded::witness;
pub use crate::embedded::witness::IndexState;
use crate::embedded::{DOCUMENTS_FOLDER, INDEX_FOLDER, JOURNAL_FOLDER};
use crate::error::StoreError;

/// The folder or the database could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is no journal in it.
    #[error("{} has no journal: name the data folder of a coordinator", .folder.display())]
    NoJournal {
        /// The data folder.
        folder: PathBuf,
    },
    /// The journal cannot be read.
    #[error("the journal in {} cannot be read", .folder.display())]
    Journal {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The database cannot be read. The error does not have its address, which has the password.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// No coordinator has ever used the database.
    #[error(
        "the database has no journal: name the one that a coordinator keeps its data in (`coordinator.database_url`)"
    )]
    EmptyDatabase,
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// The identity of the journal; none when it could not be told.
    pub journal_id: Option<Uuid>,
    /// How many segment files there are; a database has none.
    pub segments: usize,
    /// The last sound record.
    pub head: Option<Head>,
    /// How many records' payloads retention has dropped.
    pub dropped: u64,
    /// How many retention records there are.
    pub retention_records: u64,
    /// Losses that the journal itself notes.
    pub losses: Vec<Loss>,
    /// What stands beside the journal of a data folder and knows of it.
    pub beside: Option<Beside>,
    /// How many anchors agree.
    pub anchors_agreeing: usize,
    /// Bytes at the end that nobody was told are durable.
    pub torn_tail_bytes: u64,
    /// The first record that is not what was written; none if all is well.
    pub finding: Option<Finding>,
    /// Which anchor tells of the finding, and what the journal has there, in words; none when no anchor was needed to find it.
    pub finding_by_anchor: Option<String>,
}

/// The first record that was changed, removed or inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its sequence.
    pub sequence: u64,
    /// The file that holds it, or should.
    pub segment: Option<PathBuf>,
    /// The byte in that file at which it begins.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// A loss that a record of the journal notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The record that notes it.
    pub record: u64,
    /// The record after which others were lost, or may be.
    pub ended_at: u64,
    /// What was known of it.
    pub lost: String,
    /// Who gave them up and why; none where the store could only note that it cannot tell.
    pub accepted: Option<String>,
}

/// Reads everything in a data folder and compares it with the anchors.
///
/// # Errors
/// [`AuditError`] when the folder cannot be judged. What is wrong in it is a finding and no error.
pub fn verify(folder: &Path, anchors: &[Anchor]) -> Result<AuditReport, AuditError> {
    let report = verify_once(folder, anchors)?;
    let evidence_alone = report.finding.as_ref().is_some_and(|finding| finding.segment.is_none());
    // Retention may have taken evidence away between the two readings: then its record is there by now.
    if evidence_alone { verify_once(folder, anchors) } else { Ok(report) }
}

fn verify_once(folder: &Path, anchors: &[Anchor]) -> Result<AuditReport, AuditError> {
    let notes = beside::Notes::read(folder);
    let mut gathered = Gathered { unaccounted: notes.with_evidence.clone(), ..Gathered::default() };
    let wanted = notes.sequences();
    let mut chain = Vec::new();
    let mut report = walk(folder, anchors, &mut |entry| {
        if wanted.contains(&entry.sequence) {
            chain.push(Head { sequence: entry.sequence, chain_hash: entry.chain_hash });
        }
        gathered.take(&entry);
    })?;
    gathered.sort();
    let cited: Vec<_> = gathered
        .cited
        .iter()
        .filter(|cited| gathered.retention_of(cited.sequence).is_none())
        .copied()
        .collect();
    let unaccounted = std::mem::take(&mut gathered.unaccounted);
    gathered.finish(&mut report, Some(folder));
    let chain_of = |sequence| chain.iter().find(|head| head.sequence == sequence).copied();
    beside::compare(folder, &notes, (&cited, &unaccounted), &chain_of, &mut report);
    Ok(report)
}

impl AuditReport {
    /// Before anything was read.
    fn empty(journal_id: Option<Uuid>) -> Self {
        Self {
            journal_id,
            segments: 0,
            head: None,
            dropped: 0,
            retention_records: 0,
            losses: Vec::new(),
            beside: None,
            anchors_agreeing: 0,
            torn_tail_bytes: 0,
            finding: None,
            finding_by_anchor: None,
        }
    }
}

/// An anchor of another journal tells that this one has taken its place.
fn replaced(journal_id: Uuid, anchors: &[Anchor]) -> Option<Finding> {
    let other = anchors.iter().find(|anchor| anchor.journal_id != journal_id)?;
    let what =
        format!("the whole journal was replaced: this is {journal_id}, anchored was {}", other.journal_id);
    Some(Finding { sequence: 1, segment: None, offset: 0, what })
}

/// Shows each sound record; the report is without what follows from their payloads.
fn walk(folder: &Path, anchors: &[Anchor], visit: &mut dyn FnMut(Entry)) -> Result<AuditReport, AuditError> {
    let journal = folder.join(JOURNAL_FOLDER);
    if !journal.is_dir() {
        let traces = [INDEX_FOLDER, DOCUMENTS_FOLDER].into_iter().find(|name| folder.join(name).is_dir());
        let Some(trace) = traces else { return Err(AuditError::NoJournal { folder: folder.to_owned() }) };
        let what = format!("the whole journal was removed: there is `{trace}` and no `{JOURNAL_FOLDER}`");
        let finding = Some(Finding { sequence: 1, segment: Some(journal), offset: 0, what });
        return Ok(AuditReport { finding, ..AuditReport::empty(None) });
    }
    let heads: Vec<Head> = anchors.iter().map(|anchor| anchor.head).collect();
    let mut report = AuditReport::empty(None);
    match quell_journal::verify_each(&journal, &heads, visit) {
        Ok(found) => {
            report.journal_id = Some(found.journal_id);
            report.segments = found.segments;
            report.head = Some(found.head);
            report.anchors_agreeing = found.anchors_agreeing;
            report.torn_tail_bytes = found.torn_tail_bytes;
            report.finding = replaced(found.journal_id, anchors);
            if let Some(damage) = found.first_bad.filter(|_| report.finding.is_none()) {
                report.finding_by_anchor = by_anchor(&journal, &damage, found.head, anchors);
                report.finding = Some(of_damage(damage));
            }
            Ok(report)
        }
        Err(error) => {
            let finding = of_error(&error);
            if finding.is_none() {
                return Err(AuditError::Journal { folder: folder.to_owned(), source: error });
            }
            report.finding = finding;
            Ok(report)
        }
    }
}

/// Which anchor tells of the damage. Read once more without anchors, the journal says what it has itself at that record, so that what
/// `durable.mark` alone knows is not said of an anchor, and whether it notes that records were lost: an anchor of before goes on telling of
/// those after somebody has given them up.
fn by_anchor(journal: &Path, damage: &Damage, end: Head, anchors: &[Anchor]) -> Option<String> {
    if anchors.is_empty() || !matches!(damage.reason, DamageReason::Missing | DamageReason::Anchor) {
        return None;
    }
    let (mut here, mut losses) = (None, Vec::new());
    // As far as it can be read.
    let _ = quell_journal::verify_each(journal, &[], &mut |entry| {
        if entry.sequence == damage.sequence {
            here = Some(entry.chain_hash);
        }
        if entry.kind == LOST {
            losses.extend(loss_of(&entry));
        }
    });
    let (anchor, mut words) = if damage.reason == DamageReason::Missing {
        let anchor = anchor_beyond(end, anchors)?;
        (anchor, ends_before(anchor, end))
    } else {
        let here = Head { sequence: damage.sequence, chain_hash: here? };
        let anchor = anchor_against(here, anchors)?;
        (anchor, has_other_chain(anchor, here))
    };
    if let Some(loss) = losses.iter().rfind(|loss| loss.ended_at < anchor.head.sequence) {
        let by = loss.accepted.as_deref().unwrap_or("nobody was asked");
        words.push_str(&format!(
            "; its record {} notes that what stood after record {} was lost, or may have been: {by}",
            loss.record, loss.ended_at
        ));
    }
    Some(words)
}

/// The anchor that goes furthest, if the journal ends before it.
fn anchor_beyond(end: Head, anchors: &[Anchor]) -> Option<&Anchor> {
    let furthest = anchors.iter().max_by_key(|anchor| anchor.head.sequence);
    furthest.filter(|anchor| anchor.head.sequence > end.sequence)
}

/// The first anchor of that record that has another chain.
fn anchor_against(here: Head, anchors: &[Anchor]) -> Option<&Anchor> {
    anchors.iter().find(|anchor| anchor.head.sequence == here.sequence && anchor.head != here)
}

fn ends_before(anchor: &Anchor, end: Head) -> String {
    let Anchor { head, at, .. } = anchor;
    format!(
        "the anchor of {at} goes up to record {}, and the journal ends at record {}",
        head.sequence, end.sequence
    )
}

fn has_other_chain(anchor: &Anchor, here: Head) -> String {
    let Anchor { head, at, .. } = anchor;
    format!(
        "the anchor of {at} has chain hash {} for record {}, and the journal has {}",
        head.chain_hash, here.sequence, here.chain_hash
    )
}

fn of_damage(damage: Damage) -> Finding {
    let Damage { segment, offset, sequence, reason } = damage;
    let what = match reason {
        DamageReason::Sequence { found } if found > sequence => match found - sequence {
            1 => format!("record {sequence} was removed: record {found} stands in its place"),
            _ => format!(
                "records {sequence} to {} were removed: record {found} stands in their place",
                found - 1
            ),
        },
        DamageReason::Sequence { found } => {
            format!("a record was inserted: record {found} stands here once more, where {sequence} should")
        }
        DamageReason::Chain => {
            format!("record {sequence} was changed or inserted, or the one before it: {reason}")
        }
        DamageReason::Missing => {
            format!(
                "records from {sequence} on were removed: they were acknowledged or anchored and are not there"
            )
        }
        DamageReason::Anchor => {
            format!(
                "the journal was rewritten: up to record {sequence} it is not what was noted of it elsewhere"
            )
        }
        DamageReason::SegmentHeader | DamageReason::SegmentChain => {
            format!(
                "the beginning of the file was changed, or records were removed before {sequence}: {reason}"
            )
        }
        reason => format!("record {sequence} was changed: {reason}"),
    };
    Finding { sequence, segment: Some(segment), offset, what }
}

/// What is not there, or belongs elsewhere, was removed or exchanged.
fn of_error(error: &JournalError) -> Option<Finding> {
    match error {
        JournalError::Corrupt(damage) => Some(of_damage(damage.clone())),
        JournalError::SegmentMissing { sequence, .. } => Some(Finding {
            sequence: *sequence,
            segment: None,
            offset: 0,
            what: format!("records from {sequence} on were removed: there is no file that holds them"),
        }),
        JournalError::ForeignFile { path, expected, found } => Some(Finding {
            sequence: 0,
            segment: Some(path.clone()),
            offset: 0,
            what: format!("the file was exchanged: it belongs to journal {found}, not to {expected}"),
        }),
        _ => None,
    }
}

fn loss_of(entry: &Entry) -> Option<Loss> {
    let loss = decode_loss(&entry.payload).ok()?;
    let (record, ended_at) = (entry.sequence, loss.ended_at());
    let accepted = loss.accepted.map(|accepted| {
        format!("given up by {} at {}: {} (in {})", accepted.by, accepted.at, accepted.why, accepted.aside)
    });
    Some(Loss { record, ended_at, lost: loss.lost, accepted })
}

/// Records in a row whose payloads are not there.
#[derive(Debug)]
struct DroppedPlace {
    first: u64,
    last: u64,
    segment: u64,
    offset: u64,
}

/// What is learned from records on the way.
#[derive(Debug, Default)]
struct Gathered {
    dropped: Vec<DroppedPlace>,
    /// First, last, and the retention record that names them.
    given_up: Vec<(u64, u64, u64)>,
    retention_records: u64,
    losses: Vec<Loss>,
    cited: Vec<beside::Cited>,
    /// Incidents that have evidence, and of which no record was met so far.
    unaccounted: BTreeSet<IncidentId>,
}

impl Gathered {
    fn take(&mut self, entry: &Entry) {
        let sequence = entry.sequence;
        witness::take_out(entry, &mut self.unaccounted);
        if entry.dropped {
            match self.dropped.last_mut() {
                Some(place) if place.last + 1 == sequence && place.segment == entry.position.segment => {
                    place.last = sequence;
                }
                _ => self.dropped.push(DroppedPlace {
                    first: sequence,
                    last: sequence,
                    segment: entry.position.segment,
                    offset: entry.position.offset,
                }),
            }
        } else if entry.kind == RETAINED {
            self.retention_records += 1;
            let ranges = decode_retained(&entry.payload).and_then(|record| record.ranges());
            let ranges = ranges.unwrap_or_default().into_iter();
            // It can only speak of what was before it.
            let before = ranges.filter(|(_, last)| *last < sequence);
            self.given_up.extend(before.map(|(first, last)| (first, last, sequence)));
        } else if entry.kind == APPENDED {
            self.cited.extend(beside::cited(entry));
        } else if entry.kind == LOST {
            self.losses.extend(loss_of(entry));
        }
    }

    /// Says in the report what retention has dropped, and whether it was retention.
    fn finish(mut self, report: &mut AuditReport, folder: Option<&Path>) {
        report.dropped = self.dropped.iter().map(|place| place.last - place.first + 1).sum();
        report.retention_records = self.retention_records;
        report.losses = std::mem::take(&mut self.losses);
        if report.finding.is_none() {
            report.finding = self.not_given_up(folder);
        }
    }

    /// In order of their first record.
    fn sort(&mut self) {
        self.given_up.sort_unstable();
    }

    /// The retention record that gives up the payload of a record, after [`sort`](Self::sort).
    fn retention_of(&self, sequence: u64) -> Option<u64> {
        let at = self.given_up.partition_point(|(first, ..)| *first <= sequence).checked_sub(1)?;
        // A payload is given up once, so ranges do not overlap.
        self.given_up.get(at).filter(|(_, last, _)| *last >= sequence).map(|(.., by)| *by)
    }

    /// The first payload that is gone and that no retention record gives up. A database has no files.
    fn not_given_up(&mut self, folder: Option<&Path>) -> Option<Finding> {
        self.sort();
        for place in &self.dropped {
            let missing = (place.first..=place.last).find(|sequence| self.retention_of(*sequence).is_none());
            if let Some(sequence) = missing {
                let name = format!("{:020}.journal", place.segment);
                return Some(Finding {
                    sequence,
                    segment: folder.map(|folder| folder.join(JOURNAL_FOLDER).join(name)),
                    offset: if sequence == place.first { place.offset } else { 0 },
                    what: format!(
                        "the payload of record {sequence} was removed, and no retention record says so"
                    ),
                });
            }
        }
        None
    }
}
