//! The index: what queries need, in sled. All of it follows from the journal, so it is never flushed on purpose, and whenever
//! something about it is odd it is put aside and made anew.
//!
//! One tree, keys by their first byte (see [`keys`]); a batch is atomic and carries how far it has got.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use quell_incident::AlertKey;
use quell_incident::event::EVENT_VERSION;
use quell_incident::ids::IncidentId;
use quell_incident::severity::{Priority, Status};
use quell_journal::{ChainHash, Head, Position, Witness};
use uuid::Uuid;

use super::firing::alerts_of;
use super::keys;
use super::private;
use super::seal::Seal;
use super::state::{AppendedChange, Change, Known, Listed};
use crate::append::{MessageKey, MessageRecord};
use crate::list::{Cursor, ListQuery, Page, Row};
use crate::memory::is_finished;

/// What is wrong with an index. It is never worse than having to make it anew.
pub(super) type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// What is wrong with an index, for people: sled tells of damage in the words of a debugger.
pub(super) fn in_words(trouble: &Trouble) -> String {
    match trouble.downcast_ref::<sled::Error>() {
        Some(sled::Error::Corruption { .. }) => "its files are damaged".to_owned(),
        Some(sled::Error::ReportableBug(why) | sled::Error::Unsupported(why)) => {
            format!("its files are damaged: {why}")
        }
        Some(sled::Error::CollectionNotFound(_)) => "a part of it is missing".to_owned(),
        Some(sled::Error::Io(error)) => error.to_string(),
        _ => trouble.to_string(),
    }
}

/// The shape of keys and values. With the version of events in it, a program that knows more events reads all logs anew.
fn format_name() -> String {
    format!("quell-index/6 events/{EVENT_VERSION}")
}

/// How long a handle that was just dropped may keep sled's lock.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(5);
const UNLOCK_INTERVAL: Duration = Duration::from_millis(20);

/// A durable change, on its way into the index.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) sequence: u64,
    pub(super) chain_hash: ChainHash,
    pub(super) position: Position,
    pub(super) change: Change,
}

/// The last record that is in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) sequence: u64,
    pub(super) chain_hash: [u8; 32],
}

/// Where an append of an incident lies in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) first_revision: u64,
    pub(super) events: u64,
    /// The number of the record.
    pub(super) sequence: u64,
}

/// Records whose payloads a retention record has given up, and which may still be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DropRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) retention: u64,
}

impl Place {
    pub(super) fn last_revision(&self) -> u64 {
        self.first_revision + self.events.saturating_sub(1)
    }
}

pub(super) type Counts = BTreeMap<(Status, Priority), u64>;

pub(super) struct Index {
    pub(super) db: sled::Db,
    /// Held for writing while a batch is applied, for reading while a list is read: a list is of one moment.
    view: RwLock<View>,
}

struct View {
    counts: Counts,
    applied: Applied,
    seal: Seal,
}

/// Changes of one batch, readable before they are written. A later change of the same key replaces an earlier one.
pub(super) struct Draft<'a> {
    pub(super) db: &'a sled::Db,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Draft<'_> {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => Ok(self.db.get(key)?.map(|value| value.to_vec())),
        }
    }
}

impl Index {
    /// Opens the folder, or makes an empty index in it. May panic on a damaged one, as sled does.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, Trouble> {
        private::folder(folder)?;
        remove_unfinished_snapshots(folder)?;
        let config = sled::Config::new().path(folder).cache_capacity(cache_bytes);
        let db = open_unlocked(&config)?;
        // sled's files have the modes that the umask gives them.
        private::close_content(folder)?;
        match db.get(keys::FORMAT)? {
            Some(found) if *found == *format_name().as_bytes() => {}
            Some(found) => return Err(format!("it has format `{}`", found.escape_ascii()).into()),
            None if db.is_empty() => {
                db.insert(keys::FORMAT, format_name().as_bytes())?;
            }
            None => return Err("it has no format".into()),
        }
        let applied = db.get(keys::APPLIED)?.map(|applied| keys::applied_from(&applied)).transpose()?;
        let applied = applied.unwrap_or(Applied { sequence: 0, chain_hash: [0; 32] });
        let mut counts = Counts::new();
        for key in db.scan_prefix([keys::LISTED]).keys() {
            let listed = keys::listed_from(&key?)?;
            *counts.entry((listed.status, listed.priority)).or_default() += 1;
        }
        let seal = Seal::of(&db)?;
        let stored = db.get(keys::SEAL)?;
        if stored.as_deref().unwrap_or(Seal::default().as_bytes()) != seal.as_bytes() {
            return Err("its locks, switches or incidents are not what was written".into());
        }
        Ok(Self { db, view: RwLock::new(View { counts, applied, seal }) })
    }

    pub(super) fn applied(&self) -> Applied {
        self.view().applied
    }

    /// Notes whose index this is.
    pub(super) fn belongs_to(&self, journal: Uuid) -> Result<(), Trouble> {
        match self.db.get(keys::JOURNAL)? {
            Some(found) if *found == *journal.as_bytes() => Ok(()),
            Some(_) => Err("it belongs to another journal".into()),
            None => Ok(self.db.insert(keys::JOURNAL, journal.as_bytes()).map(|_| ())?),
        }
    }

    /// Notes how far the journal is durable.
    pub(super) fn note_head(&self, head: Head) -> Result<(), Trouble> {
        self.db.insert(keys::HEAD, keys::applied(applied_of(head)))?;
        Ok(())
    }

    /// What it noted of the journal, which was durable before.
    pub(super) fn notes(&self) -> Vec<Witness> {
        let read = |key| self.db.get(key).ok().flatten();
        let journal_id = read(keys::JOURNAL).and_then(|id| Uuid::from_slice(&id).ok());
        let noted = read(keys::HEAD).and_then(|head| keys::applied_from(&head).ok());
        let note = |noted: Applied| Witness {
            who: "the index".to_owned(),
            journal_id,
            sequence: noted.sequence,
            chain_hash: Some(ChainHash::from_bytes(noted.chain_hash)),
        };
        noted.into_iter().chain(Some(self.applied())).filter(|noted| noted.sequence > 0).map(note).collect()
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds changes in their order, all or none; the journal is durable up to `durable`. Only one thread may do so.
    pub(super) fn apply(&self, work: &[Work], durable: Head) -> Result<(), Trouble> {
        let Some(last) = work.last() else { return Ok(()) };
        let (mut counts, mut seal) = {
            let view = self.view();
            (view.counts.clone(), view.seal)
        };
        let mut draft = Draft { db: &self.db, changes: BTreeMap::new() };
        for work in work {
            match &work.change {
                Change::Appended(appended) => add_append(&mut draft, &mut counts, work, appended)?,
                Change::Switched(site) => draft.put(keys::SITE.to_vec(), serde_json::to_vec(site)?),
                Change::Retained(retained) => super::retained::remove(&mut draft, &mut counts, retained)?,
                Change::Correlated(up_to) => {
                    draft.put(keys::CORRELATED.to_vec(), up_to.0.to_be_bytes().to_vec());
                }
                Change::Lost(tokens_above) => {
                    draft.put(keys::TOKENS_ABOVE.to_vec(), tokens_above.0.to_be_bytes().to_vec());
                }
            }
        }
        let applied = Applied { sequence: last.sequence, chain_hash: *last.chain_hash.as_bytes() };
        draft.put(keys::APPLIED.to_vec(), keys::applied(applied));
        draft.put(keys::HEAD.to_vec(), keys::applied(applied_of(durable)));
        for (key, value) in draft.changes.iter().filter(|(key, _)| Seal::covers(key)) {
            if let Some(before) = self.db.get(key)? {
                seal.toggle(key, &before);
            }
            if let Some(value) = value {
                seal.toggle(key, value);
            }
        }
        draft.put(keys::SEAL.to_vec(), seal.as_bytes().to_vec());
        let mut batch = sled::Batch::default();
        for (key, value) in draft.changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        self.db.apply_batch(batch)?;
        *view = View { counts, applied, seal };
        Ok(())
    }

    /// Where an incident's appends lie, in order.
    pub(super) fn places(&self, id: IncidentId) -> Result<Vec<Place>, Trouble> {
        let found = self.db.scan_prefix(keys::places_of(id));
        found
            .map(|pair| pair.map_err(Trouble::from).and_then(|(key, value)| keys::place_from(&key, &value)))
            .collect()
    }

    /// The newest incident that an alert fired in, of those that are over.
    pub(super) fn place_of_alert(&self, key: &AlertKey) -> Result<Option<Cursor>, Trouble> {
        let Some(value) = self.db.get(keys::alert(key))? else { return Ok(None) };
        keys::alert_place_from(&value).map(Some)
    }

    pub(super) fn message(&self, key: &MessageKey) -> Result<Option<MessageRecord>, Trouble> {
        let Some(value) = self.db.get(keys::message(key))? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&value)?))
    }

    /// The ids of incidents that are not closed, and of those that are left alone.
    pub(super) fn to_hold(&self) -> Result<Vec<IncidentId>, Trouble> {
        let mut ids = Vec::new();
        for key in self.db.scan_prefix([keys::LISTED]).keys() {
            let listed = keys::listed_from(&key?)?;
            if listed.status != Status::Closed {
                ids.push(listed.place.id);
            }
        }
        for key in self.db.scan_prefix([keys::LEFT_ALONE]).keys() {
            ids.push(keys::left_alone_from(&key?)?);
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// Values under a prefix that are JSON.
    pub(super) fn documents<T: serde::de::DeserializeOwned>(&self, prefix: u8) -> Result<Vec<T>, Trouble> {
        let values = self.db.scan_prefix([prefix]).values();
        values.map(|value| Ok(serde_json::from_slice(&value?)?)).collect()
    }

    pub(super) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    pub(super) fn list(&self, query: &ListQuery) -> Result<Page, Trouble> {
        let view = self.view();
        let buckets: Vec<_> =
            view.counts.keys().filter(|(status, priority)| query.wants(*status, *priority)).collect();
        let mut total = 0;
        let mut heads = Vec::new();
        for bucket in buckets {
            let (first, end) = keys::bucket_range(*bucket, None, query.since);
            total += match query.since {
                None => view.counts.get(bucket).copied().unwrap_or(0),
                Some(_) => {
                    self.db.range(first..end.clone()).keys().try_fold(0, |n, key| key.map(|_| n + 1))?
                }
            };
            let (first, _) = keys::bucket_range(*bucket, query.cursor, query.since);
            if first < end {
                let mut rest = self.db.range(first..end).keys();
                if let Some(key) = rest.next() {
                    heads.push((keys::listed_from(&key?)?, rest));
                }
            }
        }
        let mut places: Vec<Cursor> = Vec::new();
        // One more than asked for tells whether there is a next page.
        while places.len() <= query.limit() {
            let first = heads.iter().enumerate().min_by_key(|(_, (listed, _))| listed.place.order());
            let Some((at, (listed, _))) = first else { break };
            places.push(listed.place);
            let next = heads.get_mut(at).and_then(|(_, rest)| rest.next());
            match next {
                Some(key) => {
                    let listed = keys::listed_from(&key?)?;
                    if let Some(head) = heads.get_mut(at) {
                        head.0 = listed;
                    }
                }
                None => drop(heads.swap_remove(at)),
            }
        }
        let more = places.len() > query.limit();
        places.truncate(query.limit());
        let next = places.last().copied().filter(|_| more);
        let rows = places.iter().map(|place| self.row(place.id)).collect::<Result<_, _>>()?;
        Ok(Page { rows, total, next })
    }

    /// Damages it, as a bug of sled might.
    #[cfg(test)]
    pub(super) fn lose_a_row(&self) {
        let listed = self.db.scan_prefix([keys::LISTED]).keys().next().unwrap().unwrap();
        let id = keys::listed_from(&listed).unwrap().place.id;
        self.db.remove(keys::row(id)).unwrap();
    }

    fn row(&self, id: IncidentId) -> Result<Row, Trouble> {
        let value =
            self.db.get(keys::row(id))?.ok_or_else(|| format!("incident {id} is listed without a row"))?;
        Ok(serde_json::from_slice(&value)?)
    }
}

fn applied_of(head: Head) -> Applied {
    Applied { sequence: head.sequence, chain_hash: *head.chain_hash.as_bytes() }
}

fn add_append(
    draft: &mut Draft<'_>,
    counts: &mut Counts,
    work: &Work,
    appended: &AppendedChange,
) -> Result<(), Trouble> {
    let id = appended.known.id();
    let place = Place {
        position: work.position,
        first_revision: appended.first_revision.0,
        events: appended.events,
        sequence: work.sequence,
    };
    draft.put(keys::place(id, place.first_revision), keys::place_value(&place));
    if let Some((key, record)) = &appended.message {
        draft.put(keys::back_reference(id, &keys::message(key)), Vec::new());
        draft.put(keys::message(key), serde_json::to_vec(record)?);
    }
    for (target, lock) in &appended.ledger.locks {
        draft.put(keys::lock(target), serde_json::to_vec(&(target, lock))?);
    }
    for over in &appended.ledger.cool_downs_over {
        draft.remove(keys::cool_down(over));
    }
    for cool_down in &appended.ledger.cool_downs {
        let key = keys::cool_down(&crate::ledger::key_of(cool_down));
        draft.put(key, serde_json::to_vec(cool_down)?);
    }
    let Known::Readable(incident) = &appended.known else {
        // Its row stays as it was when it could still be read.
        draft.put(keys::left_alone(id), Vec::new());
        return Ok(());
    };
    let now = Listed::of(incident);
    if appended.before != Some(now) {
        if let Some(before) = appended.before {
            draft.remove(keys::listed(&before));
            let count = counts.entry((before.status, before.priority)).or_default();
            *count = count.saturating_sub(1);
        }
        draft.put(keys::listed(&now), Vec::new());
        *counts.entry((now.status, now.priority)).or_default() += 1;
    }
    draft.put(keys::row(id), serde_json::to_vec(&Row::of(incident))?);
    if !is_finished(incident) {
        // Until then its alerts are found in memory.
        return Ok(());
    }
    let was_over = appended.before.is_some_and(|before| before.status == now.status);
    let all = (!was_over).then(|| alerts_of(incident, &appended.alerts_fired)).into_iter().flatten();
    for alert in all.chain(appended.alerts_fired.iter().filter(|_| was_over)) {
        let key = keys::alert(alert);
        draft.put(keys::back_reference(id, &key), Vec::new());
        let newest = draft.get(&key)?.map(|value| keys::alert_place_from(&value)).transpose()?;
        if newest.is_none_or(|newest| now.place.order() < newest.order()) {
            draft.put(key, keys::alert_place(&now.place));
        }
    }
    Ok(())
}

/// An open that was interrupted leaves a file after which every open reports corruption.
fn remove_unfinished_snapshots(folder: &Path) -> Result<(), Trouble> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %path.display(), "removing a snapshot of the index that was never finished");
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The data folder is ours already, so sled's own lock can only be held by a handle that is just going away.
fn open_unlocked(config: &sled::Config) -> Result<sled::Db, Trouble> {
    let begun = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && begun.elapsed() < UNLOCK_TIMEOUT =>
            {
                std::thread::sleep(UNLOCK_INTERVAL);
            }
            opened => return Ok(opened?),
        }
    }
}
