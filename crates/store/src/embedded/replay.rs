//! From the journal to state and index: opening, rebuilding, and reading one incident.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quell_incident::event::Envelope;
use quell_incident::gate::{CoolDown, LockState, SiteGates};
use quell_incident::ids::{FencingToken, IncidentId, TargetName};
use quell_journal::{Entry, Journal};

use super::index::{self, Index, Place, Trouble, Work};
use super::record::{self, Appended};
use super::state::{AppendedChange, Change, Known, LeftAlone, State};
use super::{from_journal, keys};
use crate::append::ReceivedPosition;
use crate::error::StoreError;

/// Records that go into the index at once while replaying.
const REPLAY_BATCH_RECORDS: usize = 512;
/// Damaged indexes that are kept for a look.
const BAD_INDEXES_MAX: usize = 3;
/// Why an incident cannot be read that an index still has which is behind a retention record.
const DROPPED: &str = "retention has dropped its events";

/// Why opening, or reading an incident, did not work: an index can be made anew, a journal cannot.
pub(super) enum Obstacle {
    Index(Trouble),
    Journal(StoreError),
}

impl<E: Into<Trouble>> From<E> for Obstacle {
    fn from(trouble: E) -> Self {
        Self::Index(trouble.into())
    }
}

/// An index that agrees with the journal, and the state that goes with it.
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) state: State,
    /// Why the index had to be made anew, if it had.
    pub(super) rebuilt_because: Option<String>,
    pub(super) records_replayed: u64,
}

/// Opens the index and brings it up to the journal; puts a damaged one aside and makes it anew.
///
/// `index` is what came of opening it, if that was done.
pub(super) fn open(
    folder: &Path,
    cache_bytes: u64,
    journal: &Journal,
    index: Option<Result<Index, Obstacle>>,
) -> Result<Opened, StoreError> {
    let trouble = match attempt(folder, cache_bytes, journal, index) {
        Ok(opened) => return Ok(opened),
        Err(Obstacle::Journal(error)) => return Err(error),
        Err(Obstacle::Index(trouble)) => trouble,
    };
    let failed = |source: Trouble| StoreError::Open { folder: folder.to_owned(), source };
    let aside = put_aside(folder).map_err(|error| failed(error.into()))?;
    let why = index::in_words(&trouble);
    tracing::warn!(error = why, aside = %aside.display(), "the index is put aside and rebuilt from the journal");
    match attempt(folder, cache_bytes, journal, None) {
        Ok(opened) => Ok(Opened { rebuilt_because: Some(why), ..opened }),
        Err(Obstacle::Journal(error)) => Err(error),
        Err(Obstacle::Index(again)) => Err(failed(again)),
    }
}

fn attempt(
    folder: &Path,
    cache_bytes: u64,
    journal: &Journal,
    index: Option<Result<Index, Obstacle>>,
) -> Result<Opened, Obstacle> {
    guarded(|| {
        let index = match index {
            Some(opened) => opened?,
            None => Index::open(folder, cache_bytes)?,
        };
        index.belongs_to(journal.id())?;
        let mut state = load(&index, journal)?;
        let records_replayed = catch_up(&index, &mut state, journal)?;
        index.note_head(journal.last())?;
        Ok(Opened { index, state, rebuilt_because: None, records_replayed })
    })
}

/// sled answers some damage with a panic.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Obstacle>) -> Result<T, Obstacle> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(Obstacle::Index(format!("it panicked: {text}").into()))
    })
}

/// The state as the index has it.
fn load(index: &Index, journal: &Journal) -> Result<State, Obstacle> {
    let mut state = State::default();
    for (target, lock) in index.documents::<(TargetName, LockState)>(keys::LOCKS)? {
        state.ledger.set_lock(target, lock);
    }
    for cool_down in index.documents::<CoolDown>(keys::COOL_DOWNS)? {
        state.ledger.set_cool_down(&cool_down);
    }
    if let Some(site) = index.value(keys::SITE)? {
        state.ledger.site = serde_json::from_slice::<SiteGates>(&site)?;
    }
    if let Some(tokens_above) = index.value(keys::TOKENS_ABOVE)? {
        state.ledger.tokens_above = FencingToken(keys::number_from(&tokens_above)?);
    }
    if let Some(retained) = index.value(keys::RETAINED)? {
        state.received_retained = keys::number_from(&retained)?;
    }
    if let Some(correlated) = index.value(keys::CORRELATED)? {
        state.correlated = ReceivedPosition(keys::number_from(&correlated)?);
    }
    let applied = index.applied().sequence;
    for id in index.to_hold()? {
        let known = read_incident(id, &index.places(id)?, journal)?;
        state.hold(known.ok_or_else(|| format!("incident {id} has no log"))?, applied);
    }
    Ok(state)
}

/// Replays what the index does not have. Returns how many records that was.
fn catch_up(index: &Index, state: &mut State, journal: &Journal) -> Result<u64, Obstacle> {
    let mut batch = Vec::new();
    let mut replayed = 0;
    for entry in journal.iter_from(index.applied().sequence + 1) {
        let entry = entry.map_err(journal_unreadable)?;
        if entry.dropped {
            // Whatever it has done and still counts stands in the retention record that follows.
            continue;
        }
        if entry.kind == record::RETAINED {
            // It removes what the index has.
            flush(&mut batch, index, state, journal)?;
        }
        let Some(change) = change_of(&entry, index, state, journal)? else { continue };
        state.apply(entry.sequence, &change);
        let Entry { sequence, chain_hash, position, .. } = entry;
        batch.push(Work { sequence, chain_hash, position, change });
        replayed += 1;
        if batch.len() >= REPLAY_BATCH_RECORDS {
            flush(&mut batch, index, state, journal)?;
        }
    }
    flush(&mut batch, index, state, journal)?;
    Ok(replayed)
}

fn flush(batch: &mut Vec<Work>, index: &Index, state: &mut State, journal: &Journal) -> Result<(), Obstacle> {
    index.apply(batch, journal.last())?;
    batch.clear();
    state.forget_up_to(index.applied().sequence);
    Ok(())
}

/// What a record has changed; nothing for received alerts, which are read from the journal itself.
fn change_of(
    entry: &Entry,
    index: &Index,
    state: &State,
    journal: &Journal,
) -> Result<Option<Change>, Obstacle> {
    let unreadable = |why| Obstacle::Journal(StoreError::Record { sequence: entry.sequence, why });
    let change = match entry.kind {
        record::RECEIVED => return Ok(None),
        record::LOST => {
            let loss = record::decode_loss(&entry.payload).map_err(unreadable)?;
            Change::Lost(loss.tokens_above(state.ledger.tokens_above))
        }
        record::SWITCHED => Change::Switched(record::decode_switched(&entry.payload).map_err(unreadable)?),
        record::CORRELATED => {
            Change::Correlated(record::decode_correlated(&entry.payload).map_err(unreadable)?)
        }
        record::RETAINED => {
            let retained = record::decode_retained(&entry.payload).map_err(unreadable)?;
            Change::Retained(Box::new(retained.change(entry.sequence)))
        }
        record::APPENDED => {
            let appended = record::decode_append(&entry.payload).map_err(unreadable)?;
            let id = appended.incident_id;
            let stored = match state.incident(id) {
                Some(known) => Some(known.clone()),
                // What is not held is in the index, or new.
                None => read_incident(id, &index.places(id)?, journal)?,
            };
            Change::Appended(Box::new(AppendedChange::replay(appended, stored, &state.ledger)))
        }
        kind => {
            let why = format!("its kind {kind} is not known: run the version that wrote it, or a newer one");
            return Err(unreadable(why));
        }
    };
    Ok(Some(change))
}

/// The incident that a log makes; none without a log.
pub(super) fn read_incident(
    id: IncidentId,
    places: &[Place],
    journal: &Journal,
) -> Result<Option<Known>, Obstacle> {
    let mut known = None;
    for place in places {
        let Some(mut appended) = read_append(id, place, journal)? else {
            known = Some(Known::LeftAlone(Arc::new(LeftAlone::damaged(id, DROPPED))));
            continue;
        };
        known = Some(Known::with(known, &mut appended));
    }
    Ok(known)
}

/// The events of a log.
pub(super) fn read_log(
    id: IncidentId,
    places: &[Place],
    journal: &Journal,
) -> Result<Vec<Envelope>, Obstacle> {
    let mut log = Vec::new();
    for place in places {
        let appended = read_append(id, place, journal)?;
        let dropped = || Obstacle::Journal(LeftAlone::damaged(id, DROPPED).error());
        for event in appended.ok_or_else(dropped)?.events {
            let left_alone = |error| Obstacle::Journal(LeftAlone::undecodable(id, error).error());
            log.push(event.map_err(left_alone)?);
        }
    }
    Ok(log)
}

/// None when its payload was dropped.
fn read_append(id: IncidentId, place: &Place, journal: &Journal) -> Result<Option<Appended>, Obstacle> {
    let entry = match journal.read_sequence(place.position, place.sequence) {
        Err(quell_journal::Error::NoRecord { .. }) => {
            return Err(format!("it has a record of {id} where none begins").into());
        }
        read => read.map_err(journal_unreadable)?,
    };
    if entry.kind != record::APPENDED {
        return Err(format!("it has record {} for one of {id}", entry.sequence).into());
    }
    if entry.dropped {
        return Ok(None);
    }
    let unreadable = |why| Obstacle::Journal(StoreError::Record { sequence: entry.sequence, why });
    let appended = record::decode_append(&entry.payload).map_err(unreadable)?;
    if appended.incident_id != id || appended.expected.0 + 1 != place.first_revision {
        return Err(format!("it has record {} for one of {id}", entry.sequence).into());
    }
    Ok(Some(appended))
}

fn journal_unreadable(error: quell_journal::Error) -> Obstacle {
    Obstacle::Journal(from_journal("read the journal", error))
}

/// Renames the folder to `index.bad-<n>` and removes the oldest of too many.
pub(super) fn put_aside(folder: &Path) -> std::io::Result<PathBuf> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("index");
    let prefix = format!("{name}.bad-");
    let mut numbers: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?.file_name();
        let number = entry.to_str().and_then(|entry| entry.strip_prefix(&prefix)?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    let aside = parent.join(format!("{prefix}{}", numbers.last().map_or(1, |last| last + 1)));
    std::fs::rename(folder, &aside)?;
    let too_many = (numbers.len() + 1).saturating_sub(BAD_INDEXES_MAX);
    for old in numbers.iter().take(too_many) {
        std::fs::remove_dir_all(parent.join(format!("{prefix}{old}")))?;
    }
    Ok(aside)
}
