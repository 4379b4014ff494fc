//! Giving up what is lost: explicit, noted in the journal with who and why, and done once however often it is asked for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use quell_incident::ids::{FencingToken, IncidentId};
use quell_journal::{Head, Journal, MissingMark, Options, Record};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::documents::{self, Documents, sync_folders, write_whole};
use super::record::{self, decode, encode};
use super::witness::ACCEPTANCE;
use super::{DOCUMENTS_FOLDER, INDEX_FOLDER, JOURNAL_FOLDER, from_journal, replay, witness};
use crate::error::StoreError;

/// What cannot be kept is put into a folder of this name and a number.
pub(super) const ASIDE_PREFIX: &str = "journal.lost-";
/// The index is opened only to be compared.
const CACHE_BYTES: u64 = 1 << 20;

/// How far the tokens of all locks jump at a loss, at the least: one token takes one record, and no journal has lost so many.
const TOKENS_STEP: u64 = 1 << 40;

/// What the journal itself says about a loss.
///
/// **Tokens.** The lost records may have given out tokens of locks. An agent that has seen one refuses every lower one for that target,
/// so after this record all locks, also of targets that the journal has never named, are taken with tokens above
/// [`tokens_above`](Self::tokens_above), which follows from the loss records alone. Retention never drops those, so the bound is the
/// same whenever the journal is replayed. It is above what the records before this one and those that were lost can have given
/// out: tokens grow by one with each taking, and [`TOKENS_STEP`] is more than that. Should an earlier loss record be among what
/// was lost, its bound is not known any more, but it came from an earlier time, and tokens grow far slower than by one in a
/// millisecond. That needs the time of an acceptance: it does not hold for a loss that nobody accepted, since none was noticed, or if the
/// clock was put back in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LossRecord {
    /// The record after which the loss was. Text, as all whole numbers of 64 bits are.
    ended_at: String,
    /// What was known of the loss.
    pub(crate) lost: String,
    /// Who gave it up; none where the store could only note that it cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<Accepted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) by: String,
    pub(crate) why: String,
    pub(crate) at: Timestamp,
    /// The folder in the data folder where what could not be kept was put.
    pub(crate) aside: String,
}

impl LossRecord {
    pub(crate) fn ended_at(&self) -> u64 {
        self.ended_at.parse().unwrap_or(0)
    }

    /// Above which token all locks are taken after this record, if it was `before` until here.
    pub(crate) fn tokens_above(&self, before: FencingToken) -> FencingToken {
        let at = self.accepted.as_ref().map_or(0, |accepted| accepted.at.as_millisecond());
        FencingToken(before.0.saturating_add(TOKENS_STEP).max(u64::try_from(at).unwrap_or(0)))
    }

    /// Nobody could tell whether the end was cut off.
    pub(super) fn not_known(head: Head) -> Self {
        let lost = "the journal was opened without its durable mark and without an index: whether records after it were \
                    removed cannot be told without anchors";
        Self { ended_at: head.sequence.to_string(), lost: lost.to_owned(), accepted: None }
    }

    pub(super) fn into_record(self) -> Result<Record, StoreError> {
        Ok(Record::new(record::LOST, encode(&self)?))
    }
}

pub(crate) fn decode_loss(payload: &[u8]) -> Result<LossRecord, String> {
    decode(payload)
}

/// An acceptance that was begun.
pub(super) struct Begun {
    pub(super) ended_at: u64,
    loss: LossRecord,
    accepted: Accepted,
}

pub(super) fn begun(folder: &Path) -> Result<Option<Begun>, StoreError> {
    let path = folder.join(ACCEPTANCE);
    let failed = |why: String| {
        StoreError::unsound(format!("{} cannot be read ({why}); remove it and begin anew", path.display()))
    };
    match fs::read(&path) {
        Ok(json) => {
            let loss: LossRecord = decode(&json).map_err(failed)?;
            let accepted =
                loss.accepted.clone().ok_or_else(|| failed("it does not say who began".to_owned()))?;
            Ok(Some(Begun { ended_at: loss.ended_at(), loss, accepted }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Who gives up what is lost, and why.
#[derive(Clone, Debug)]
pub struct LossAcceptance {
    /// The record that the journal ends at: what stands after it, or should, is given up.
    pub ended_at: u64,
    /// Who decides it.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
    /// The identity of a new journal, where nothing is left of the old one.
    pub new_journal_id: Uuid,
}

/// A loss that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// Who gave it up, as the record says. What was given up or begun before stands, whoever asks again and for whatever reason.
    pub by: String,
    /// Why, as the record says.
    pub why: String,
    /// When, as the record says.
    pub at: Timestamp,
    /// The journal's end: the record that notes the loss, or a later one.
    pub head: Head,
    /// The number of the record that notes it.
    pub record: u64,
    /// Where what could not be kept was put.
    pub aside: PathBuf,
    /// It had been given up before.
    pub already: bool,
}

/// Gives up what a data folder has lost after a record, and notes it in the journal. Nothing is deleted: what cannot be kept is put
/// aside, the index is made anew at the next start. Killed in between, the folder is refused until this was repeated.
///
/// Where neither the durable mark nor an index says how far the journal went, nobody knows whether something is lost: going on from its end
/// is decided and noted in the same way, and nothing is changed until it is.
///
/// # Errors
/// [`StoreError::NoJournal`], with nothing written, for a folder that never had one; [`StoreError::Unsound`] without a reason;
/// [`StoreError::NothingLost`]; [`StoreError::Lost`] with the record at which the journal ends, when that is another one;
/// [`StoreError::Locked`].
pub fn accept_loss(folder: &Path, acceptance: &LossAcceptance) -> Result<AcceptedLoss, StoreError> {
    let failed = |error: io::Error| StoreError::Open { folder: folder.to_owned(), source: error.into() };
    if acceptance.why.trim().is_empty() {
        return Err(StoreError::unsound("why the loss is given up has to be said"));
    }
    let begun = match begun(folder)? {
        Some(begun) if begun.ended_at == acceptance.ended_at => begun,
        Some(begun) => {
            let what = format!("giving up what was lost after record {} was begun before", begun.ended_at);
            return Err(StoreError::Lost { folder: folder.to_owned(), at: begun.ended_at, what });
        }
        None if !has_traces(folder)? => return Err(StoreError::NoJournal { folder: folder.to_owned() }),
        None => match begin(folder, acceptance)? {
            Beginning::Begun(begun) => begun,
            Beginning::Already(accepted) => return Ok(accepted),
        },
    };
    let aside = folder.join(&begun.accepted.aside);
    let journal_folder = folder.join(JOURNAL_FOLDER);
    match quell_journal::give_up_after(&journal_folder, begun.ended_at, &aside) {
        // It was noted already, and only the end of this was not reached.
        Err(quell_journal::Error::NotTheEnd { found, .. }) if found == begun.ended_at + 1 => {}
        given_up => drop(given_up.map_err(|error| from_journal("give up what is lost", error))?),
    }
    put_evidence_aside(folder, begun.ended_at, &aside)?;
    let index = folder.join(INDEX_FOLDER);
    if index.exists() {
        replay::put_aside(&index).map_err(failed)?;
    }
    sync_folders(folder).map_err(failed)?;
    let (head, number) = note(&journal_folder, acceptance.new_journal_id, &begun)?;
    // It says more than that the end was not known.
    witness::forget_unknown_end(folder)?;
    fs::remove_file(folder.join(ACCEPTANCE)).map_err(failed)?;
    sync_folders(folder).map_err(failed)?;
    let Accepted { by, why, at, .. } = begun.accepted;
    Ok(AcceptedLoss { by, why, at, head, record: number, aside, already: false })
}

/// Whether there is a journal, or something that knows of one. Opening a folder without any makes a journal in it.
fn has_traces(folder: &Path) -> Result<bool, StoreError> {
    let failed = |error: io::Error| StoreError::Open { folder: folder.to_owned(), source: error.into() };
    if folder.join(INDEX_FOLDER).exists() || !Documents::new(folder).incidents()?.is_empty() {
        return Ok(true);
    }
    let entries = match fs::read_dir(folder.join(JOURNAL_FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        // A lock alone says nothing.
        let name = entry.map_err(failed)?.file_name();
        let name = Path::new(&name);
        if name.extension().is_some_and(|extension| extension == "journal" || extension == "mark") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Evidence of incidents that were lost is put aside: left where it is it would prove the same loss at every start.
fn put_evidence_aside(folder: &Path, ended_at: u64, aside: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::Open { folder: folder.to_owned(), source: error.into() };
    let mut lost: BTreeSet<IncidentId> = Documents::new(folder).incidents()?.into_iter().collect();
    // Without a record there is nothing to be read, and all is lost.
    if ended_at > 0 && !lost.is_empty() {
        let read = witness::take_out_known(&folder.join(JOURNAL_FOLDER), &mut lost);
        let read = read.map_err(|error| from_journal("look for incidents", error))?;
        if let Some(damage) = read.first_bad {
            return Err(from_journal("look for incidents", quell_journal::Error::Corrupt(damage)));
        }
    }
    for incident in lost {
        documents::put_aside(&folder.join(DOCUMENTS_FOLDER), incident, aside).map_err(failed)?;
    }
    Ok(())
}

/// Writes the record, if it is not there.
fn note(journal_folder: &Path, new_journal_id: Uuid, begun: &Begun) -> Result<(Head, u64), StoreError> {
    let failed = |error| from_journal("note what is lost", error);
    let (journal, _) = Journal::open(journal_folder, Options::new(new_journal_id)).map_err(failed)?;
    let number = begun.ended_at + 1;
    if journal.last().sequence < number {
        journal.append_blocking(vec![begun.loss.clone().into_record()?]).map_err(failed)?;
    }
    Ok((journal.close().map_err(failed)?, number))
}

enum Beginning {
    Begun(Begun),
    Already(AcceptedLoss),
}

fn begin(folder: &Path, acceptance: &LossAcceptance) -> Result<Beginning, StoreError> {
    // A mark that was made anew here would make a journal whose end nobody knows look whole, without anybody's word.
    let options = Options { missing_mark: MissingMark::Refuse, ..Options::new(acceptance.new_journal_id) };
    let what = match witness::open(folder, options, CACHE_BYTES) {
        Ok(opened) => {
            let next = opened.journal.iter_from(acceptance.ended_at + 1).next();
            let noted = next.and_then(Result::ok).filter(|entry| entry.kind == record::LOST);
            let noted =
                noted.and_then(|entry| decode_loss(&entry.payload).ok()).and_then(|loss| loss.accepted);
            let Some(accepted) = noted else {
                let head = opened.journal.last().sequence;
                return Err(StoreError::NothingLost { folder: folder.to_owned(), head });
            };
            return Ok(Beginning::Already(AcceptedLoss {
                by: accepted.by,
                why: accepted.why,
                at: accepted.at,
                head: opened.journal.last(),
                record: acceptance.ended_at + 1,
                aside: folder.join(accepted.aside),
                already: true,
            }));
        }
        Err(StoreError::Lost { at, what, .. }) if at == acceptance.ended_at => what,
        Err(error) => return Err(error),
    };
    let LossAcceptance { ended_at, by, why, at, .. } = acceptance.clone();
    let aside = free_name(folder);
    let accepted = Accepted { by, why, at, aside };
    let loss = LossRecord { ended_at: ended_at.to_string(), lost: what, accepted: Some(accepted.clone()) };
    let written = write_whole(folder, ACCEPTANCE, &encode(&loss)?).and_then(|()| sync_folders(folder));
    written.map_err(|error| StoreError::Open { folder: folder.to_owned(), source: error.into() })?;
    Ok(Beginning::Begun(Begun { ended_at, loss, accepted }))
}

fn free_name(folder: &Path) -> String {
    let names = (1_u64..).map(|number| format!("{ASIDE_PREFIX}{number}"));
    let mut free = names.filter(|name| !folder.join(name).exists());
    free.next().unwrap_or_else(|| ASIDE_PREFIX.to_owned())
}
