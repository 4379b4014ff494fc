//! Retention: first it is noted, then the index forgets, then payloads go.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use quell_incident::ids::IncidentId;
use quell_journal::{Record, SegmentInfo};

use super::index::DropRange;
use super::record;
use super::retained::{RetainedRecord, folder_bytes};
use super::shared::{Answer, Shared};
use super::state::Change;
use super::{EmbeddedStore, from_journal};
use crate::error::StoreError;
use crate::retention::{Retained, Retention, RetentionBudget};

/// A segment is written anew once this part of its records is to lose the payload.
const WORTH_WHILE_PART: u64 = 8;
/// Records that one retention record names at most, so that it stays small.
const RECORDS_MAX: usize = 50_000;

/// What could be given up, as it was looked up without holding anybody up.
struct Candidates {
    incidents: Vec<(IncidentId, u64)>,
    received: Vec<u64>,
    received_up_to: u64,
    more: bool,
}

impl EmbeddedStore {
    pub(super) async fn retain_within(
        &self,
        retention: &Retention,
        now: Timestamp,
        budget: &RetentionBudget,
    ) -> Result<Retained, StoreError> {
        let (policy, limits) = (*retention, *budget);
        let submitted = self
            .blocking(move |shared| {
                let candidates = shared.candidates(&policy, now, &limits)?;
                let more = candidates.more;
                Ok((shared.give_up_payloads(&policy, now, candidates)?, more))
            })
            .await?;
        let mut retained = Retained { more: submitted.1, ..Retained::default() };
        if let Some(given_up) = submitted.0 {
            self.answer(given_up.answer).await?;
            retained.record = Some(given_up.sequence);
            retained.incidents = given_up.incidents;
            retained.payloads_given_up = given_up.payloads;
            let mut indexed = self.shared.indexed.subscribe();
            let waited = indexed
                .wait_for(|indexed| *indexed >= given_up.sequence || self.shared.index().is_none())
                .await;
            if *waited.map_err(|_| StoreError::Closed)? < given_up.sequence {
                return Err(StoreError::IndexAway);
            }
        }
        self.blocking(move |shared| {
            shared.drop_given_up(&limits, &mut retained)?;
            shared.look_for_bloat()?;
            Ok(retained)
        })
        .await
    }
}

struct GivenUp {
    answer: Answer,
    sequence: u64,
    incidents: u64,
    payloads: u64,
}

impl Shared {
    fn candidates(
        &self,
        policy: &Retention,
        now: Timestamp,
        budget: &RetentionBudget,
    ) -> Result<Candidates, StoreError> {
        let mut incidents = Vec::new();
        if let Some(before) = policy.closed_before(now) {
            incidents = self.with_index(|index| index.closed_before(before, budget.incidents_max))?;
        }
        let (from, correlated) = {
            let state = self.durable();
            (state.received_retained, state.correlated.0)
        };
        let mut candidates = Candidates {
            more: incidents.len() >= budget.incidents_max,
            incidents,
            received: Vec::new(),
            received_up_to: from,
        };
        let Some(before) = policy.received_before(now) else { return Ok(candidates) };
        if from >= correlated {
            return Ok(candidates);
        }
        let mut bytes = 0;
        for entry in self.journal.iter_from(from + 1) {
            let entry = entry.map_err(|error| from_journal("read received alerts", error))?;
            if entry.sequence > correlated {
                break;
            }
            bytes += u64::from(entry.payload_bytes);
            if bytes > budget.read_bytes_max || candidates.received.len() >= RECORDS_MAX {
                candidates.more = true;
                break;
            }
            let goes = match entry.kind {
                _ if entry.dropped => false,
                record::RECEIVED => {
                    let received = record::decode_received(&entry.payload)
                        .map_err(|why| StoreError::Record { sequence: entry.sequence, why })?;
                    if received.at >= before {
                        break;
                    }
                    true
                }
                // The retention record says how far correlation is.
                record::CORRELATED => true,
                _ => false,
            };
            if goes {
                candidates.received.push(entry.sequence);
            }
            candidates.received_up_to = entry.sequence;
        }
        Ok(candidates)
    }

    /// Decides what is given up, and submits that; nothing when there is nothing.
    fn give_up_payloads(
        &self,
        policy: &Retention,
        now: Timestamp,
        candidates: Candidates,
    ) -> Result<Option<GivenUp>, StoreError> {
        let Candidates { incidents, received: mut sequences, received_up_to, .. } = candidates;
        if incidents.is_empty() && sequences.is_empty() {
            return Ok(None);
        }
        let mut decisions = self.decisions();
        self.may_submit(&decisions)?;
        let mut dropped = Vec::new();
        for (id, revision) in incidents {
            // What is held was appended to a moment ago, or the index does not have it yet: the next call looks again.
            if decisions.state.incident(id).is_some() || decisions.state.is_dropped(id) {
                continue;
            }
            let places = self.with_index(|index| index.places(id))?;
            if places.last().is_none_or(|last| last.last_revision() != revision) {
                continue;
            }
            if !dropped.is_empty() && sequences.len() + places.len() > RECORDS_MAX {
                break;
            }
            sequences.extend(places.iter().map(|place| place.sequence));
            dropped.push(id);
        }
        if sequences.is_empty() {
            return Ok(None);
        }
        let (incidents, payloads) = (dropped.len() as u64, sequences.len() as u64);
        let stands = (decisions.state.correlated, &decisions.state.ledger);
        let given_up = RetainedRecord::new(now, *policy, dropped, sequences, received_up_to, stands);
        let payload = given_up.encode()?;
        // Nobody else submits while the mutex is held, but received alerts do: the sequence is known only afterwards.
        let mut change = given_up.change(0);
        let record = Record::new(record::RETAINED, payload);
        let (answer, sequence) = self.submit_with(&mut decisions, record, |sequence| {
            for range in &mut change.ranges {
                range.retention = sequence;
            }
            Change::Retained(Box::new(change))
        })?;
        Ok(Some(GivenUp { answer, sequence, incidents, payloads }))
    }

    /// Writes closed segments anew without what was given up in them.
    fn drop_given_up(&self, budget: &RetentionBudget, retained: &mut Retained) -> Result<(), StoreError> {
        for segment in self.journal.segments() {
            if !segment.closed {
                break;
            }
            let SegmentInfo { first_sequence: first, end_sequence: end, .. } = segment;
            let ranges = self.with_index(|index| index.drop_ranges(first, end))?;
            let inside = |range: &DropRange| range.last.min(end - 1) + 1 - range.first.max(first);
            let records: u64 = ranges.iter().map(inside).sum();
            if records == 0 || records * WORTH_WHILE_PART < end - first {
                continue;
            }
            if retained.segments >= budget.segments_max as u64 {
                retained.more = true;
                break;
            }
            self.check_given_up(&ranges)?;
            let given_up = |sequence: u64| {
                let before = ranges.partition_point(|range| range.first <= sequence).checked_sub(1);
                before.and_then(|at| ranges.get(at)).is_some_and(|range| range.last >= sequence)
            };
            let dropped = self.journal.drop_payloads(first, &mut |entry| {
                !matches!(entry.kind, record::RETAINED | record::SWITCHED | record::LOST)
                    && given_up(entry.sequence)
            });
            let dropped = dropped.map_err(not_dropped)?;
            self.with_index(|index| index.forget_drops(first, end))?;
            retained.segments += 1;
            retained.bytes_freed += dropped.bytes;
            tracing::info!(
                segment = first,
                payloads = dropped.payloads,
                bytes = dropped.bytes,
                "payloads were dropped"
            );
        }
        Ok(())
    }

    /// Nothing is dropped on the word of the index alone.
    fn check_given_up(&self, ranges: &[DropRange]) -> Result<(), StoreError> {
        let mut records: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        for range in ranges {
            let sequence = range.retention;
            let named = match records.entry(sequence) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.given_up_by(sequence)?),
            };
            if !named.iter().any(|(first, last)| *first <= range.first && range.last <= *last) {
                let why =
                    format!("record {sequence} does not give up records {} to {}", range.first, range.last);
                self.work.suspect(why.into());
                return Err(StoreError::IndexAway);
            }
        }
        Ok(())
    }

    /// What a retention record names; nothing when there is no such record.
    fn given_up_by(&self, sequence: u64) -> Result<Vec<(u64, u64)>, StoreError> {
        let entry = self.journal.iter_from(sequence).next().transpose();
        let entry = entry.map_err(|error| from_journal("read a retention record", error))?;
        let Some(entry) = entry.filter(|entry| entry.kind == record::RETAINED) else { return Ok(Vec::new()) };
        let named = record::decode_retained(&entry.payload).and_then(|record| record.ranges());
        named.map_err(|why| StoreError::Record { sequence, why })
    }

    /// sled does not always give back what it no longer needs. Then it is made anew, if that is worth while.
    fn look_for_bloat(&self) -> Result<(), StoreError> {
        let bytes = folder_bytes(&self.index_folder).unwrap_or(0);
        let looked_at = self.index_bytes_looked_at.load(Ordering::Relaxed);
        if bytes < self.index_bloat_bytes_min || bytes < looked_at.saturating_add(looked_at / 2) {
            return Ok(());
        }
        match self.with_index(|index| index.bloat(bytes))? {
            Some(bloated) => {
                self.index_bytes_looked_at.store(0, Ordering::Relaxed);
                self.work.suspect(bloated.into());
            }
            None => self.index_bytes_looked_at.store(bytes, Ordering::Relaxed),
        }
        Ok(())
    }
}

fn not_dropped(error: quell_journal::Error) -> StoreError {
    let is_full = |source: &io::Error| {
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    };
    match &error {
        quell_journal::Error::Io { source, .. } if is_full(source) => StoreError::Full(error.into()),
        _ => from_journal("drop payloads", error),
    }
}
