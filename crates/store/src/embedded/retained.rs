//! Retention records: their form, and what they take from the index.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use quell_incident::gate::{CoolDown, LockState, SiteGates};
use quell_incident::ids::{Digest, IncidentId, TargetName};
use serde::{Deserialize, Serialize};

use super::index::{Counts, Draft, DropRange, Index, Trouble};
use super::keys;
use super::record::{decode, encode};
use super::state::{Listed, RetainedChange};
use crate::append::ReceivedPosition;
use crate::error::StoreError;
use crate::ledger::{Ledger, key_of};
use crate::list::{Cursor, Row};
use crate::retention::Retention;

/// An index that is larger than this many times its content is made anew.
const BLOAT_FACTOR: u64 = 6;

/// The content of a retention record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RetainedRecord {
    pub(crate) at: Timestamp,
    pub(crate) policy: Retention,
    pub(crate) policy_digest: Digest,
    pub(crate) why: String,
    pub(crate) incidents: Vec<IncidentId>,
    /// The records whose payloads are given up: `3-7,9`.
    pub(crate) records: String,
    /// Text, as all whole numbers of 64 bits are.
    received_up_to: String,
    correlated: String,
    pub(crate) locks: Vec<(TargetName, LockState)>,
    pub(crate) cool_downs: Vec<CoolDown>,
    pub(crate) site: SiteGates,
}

impl RetainedRecord {
    /// What is given up, with all that still counts of the records before.
    pub(crate) fn new(
        at: Timestamp,
        policy: Retention,
        incidents: Vec<IncidentId>,
        sequences: Vec<u64>,
        received_up_to: u64,
        (correlated, ledger): (ReceivedPosition, &Ledger),
    ) -> Self {
        let (locks, cool_downs) = ledger.all();
        Self {
            at,
            policy_digest: policy.digest(),
            policy,
            why: "kept for as long as the policy says".to_owned(),
            incidents,
            records: in_words(sequences),
            received_up_to: received_up_to.to_string(),
            correlated: correlated.0.to_string(),
            locks,
            cool_downs,
            site: ledger.site.clone(),
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        encode(self)
    }

    /// First and last sequences of what is given up.
    pub(crate) fn ranges(&self) -> Result<Vec<(u64, u64)>, String> {
        let wrong = || format!("`{}` does not name records", self.records);
        let mut ranges = Vec::new();
        for part in self.records.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            ranges.push((first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?));
        }
        Ok(ranges)
    }

    /// Up to where retention had looked at received alerts. It was checked when the record was decoded.
    pub(crate) fn received_up_to(&self) -> u64 {
        self.received_up_to.parse().unwrap_or(0)
    }

    /// Up to where correlation was done.
    pub(crate) fn correlated(&self) -> ReceivedPosition {
        ReceivedPosition(self.correlated.parse().unwrap_or(0))
    }

    /// What it changes; `sequence` is its own.
    pub(super) fn change(self, sequence: u64) -> RetainedChange {
        // It was checked when it was decoded.
        let ranges = self.ranges().unwrap_or_default();
        let (received_up_to, correlated) = (self.received_up_to(), self.correlated());
        let ranges = ranges.into_iter().map(|(first, last)| DropRange { first, last, retention: sequence });
        let mut ledger = Ledger::default();
        ledger.site = self.site;
        for (target, lock) in self.locks {
            ledger.set_lock(target, lock);
        }
        for cool_down in &self.cool_downs {
            ledger.set_cool_down(cool_down);
        }
        RetainedChange {
            incidents: self.incidents,
            ranges: ranges.collect(),
            received_up_to,
            correlated,
            ledger,
        }
    }
}

pub(crate) fn decode_retained(payload: &[u8]) -> Result<RetainedRecord, String> {
    let record: RetainedRecord = decode(payload)?;
    record.ranges()?;
    for number in [&record.received_up_to, &record.correlated] {
        number.parse::<u64>().map_err(|_| format!("`{number}` is not a position"))?;
    }
    Ok(record)
}

fn in_words(mut sequences: Vec<u64>) -> String {
    sequences.sort_unstable();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 >= sequence => *last = sequence,
            _ => ranges.push((sequence, sequence)),
        }
    }
    let words: Vec<_> = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    words.join(",")
}

/// Takes out of the index what a retention record gives up.
pub(super) fn remove(
    draft: &mut Draft<'_>,
    counts: &mut Counts,
    retained: &RetainedChange,
) -> Result<(), Trouble> {
    for &id in &retained.incidents {
        if let Some(row) = draft.get(&keys::row(id))? {
            let row: Row = serde_json::from_slice(&row)?;
            let place = Cursor { created_at: row.created_at, id };
            let listed = keys::listed(&Listed { status: row.status, priority: row.priority, place });
            if draft.get(&listed)?.is_some() {
                let count = counts.entry((row.status, row.priority)).or_default();
                *count = count.saturating_sub(1);
            }
            draft.remove(listed);
            draft.remove(keys::row(id));
        }
        draft.remove(keys::left_alone(id));
        for key in draft.db.scan_prefix(keys::places_of(id)).keys() {
            draft.remove(key?.to_vec());
        }
        for key in draft.db.scan_prefix(keys::back_references_of(id)).keys() {
            let key = key?;
            let to = keys::back_reference_to(&key);
            let is_alert = to.first() == Some(&b'A');
            let is_of_another = match draft.get(to)? {
                Some(value) if is_alert => keys::alert_place_from(&value)?.id != id,
                _ => false,
            };
            if !is_of_another {
                draft.remove(to.to_vec());
            }
            draft.remove(key.to_vec());
        }
    }
    for range in &retained.ranges {
        let (key, value) = keys::drop_range(range);
        draft.put(key, value);
    }
    let (locks, cool_downs) = retained.ledger.all();
    for (target, lock) in locks {
        draft.put(keys::lock(&target), serde_json::to_vec(&(&target, lock))?);
    }
    for cool_down in cool_downs {
        draft.put(keys::cool_down(&key_of(&cool_down)), serde_json::to_vec(&cool_down)?);
    }
    draft.put(keys::SITE.to_vec(), serde_json::to_vec(&retained.ledger.site)?);
    draft.put(keys::CORRELATED.to_vec(), retained.correlated.0.to_be_bytes().to_vec());
    draft.put(keys::RETAINED.to_vec(), retained.received_up_to.to_be_bytes().to_vec());
    Ok(())
}

/// The index has grown far beyond what is in it: not wrong, but large.
#[derive(Debug, thiserror::Error)]
#[error("it takes {bytes} bytes for a content of {content_bytes}")]
pub(super) struct Bloated {
    bytes: u64,
    content_bytes: u64,
}

impl Index {
    /// Closed incidents with their last event before an instant, the oldest first: id and revision.
    pub(super) fn closed_before(
        &self,
        before: Timestamp,
        max: usize,
    ) -> Result<Vec<(IncidentId, u64)>, Trouble> {
        let mut found = BTreeMap::new();
        for key in self.closed_listed() {
            let listed = keys::listed_from(&key?)?;
            if listed.place.created_at >= before {
                continue;
            }
            let Some(row) = self.value(&keys::row(listed.place.id))? else { continue };
            let row: Row = serde_json::from_slice(&row)?;
            if row.updated_at < before {
                found.insert((listed.place.created_at, row.id), row.revision.0);
            }
            if found.len() > max {
                found.pop_last();
            }
        }
        Ok(found.into_iter().map(|((_, id), revision)| (id, revision)).collect())
    }

    fn closed_listed(&self) -> impl Iterator<Item = sled::Result<sled::IVec>> {
        keys::closed_prefixes().into_iter().flat_map(|prefix| self.db.scan_prefix(prefix).keys())
    }

    /// What is to be dropped and lies at least in part in these records.
    pub(super) fn drop_ranges(&self, first: u64, end: u64) -> Result<Vec<DropRange>, Trouble> {
        let (from, _) = keys::drop_range(&DropRange { first, last: 0, retention: 0 });
        let (to, _) = keys::drop_range(&DropRange { first: end, last: 0, retention: 0 });
        let before = self.db.range([keys::DROPS].to_vec()..from.clone()).next_back();
        let mut ranges = Vec::new();
        for pair in before.into_iter().chain(self.db.range(from..to)) {
            let (key, value) = pair?;
            let range = keys::drop_range_from(&key, &value)?;
            if range.last >= first {
                ranges.push(range);
            }
        }
        Ok(ranges)
    }

    /// Forgets about what was dropped from these records. Beside the indexer, which never changes such entries once made.
    pub(super) fn forget_drops(&self, first: u64, end: u64) -> Result<(), Trouble> {
        let mut batch = sled::Batch::default();
        for range in self.drop_ranges(first, end)? {
            batch.remove(keys::drop_range(&range).0);
            let before = DropRange { last: first.saturating_sub(1), ..range };
            let after = DropRange { first: end, ..range };
            for rest in [before, after].into_iter().filter(|rest| rest.first <= rest.last) {
                if rest.first >= range.first && rest.last <= range.last {
                    let (key, value) = keys::drop_range(&rest);
                    batch.insert(key, value);
                }
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    /// Whether the folder is several times as large as what is in it.
    pub(super) fn bloat(&self, bytes: u64) -> Result<Option<Bloated>, Trouble> {
        let mut content_bytes = 0;
        for pair in self.db.iter() {
            let (key, value) = pair?;
            content_bytes += (key.len() + value.len()) as u64;
            if content_bytes.saturating_mul(BLOAT_FACTOR) >= bytes {
                return Ok(None);
            }
        }
        Ok(Some(Bloated { bytes, content_bytes }))
    }
}

/// The bytes of all files in a folder and its folders.
pub(super) fn folder_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A file that goes away while it is looked at takes no space.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
