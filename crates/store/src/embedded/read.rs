//! Reading what is not held in memory. All of it blocks.

use std::sync::{Arc, PoisonError};

use quell_incident::Incident;
use quell_incident::event::Envelope;
use quell_incident::ids::IncidentId;

use super::from_journal;
use super::record;
use super::replay::{self, guarded};
use super::shared::{READ_INCIDENTS_BYTES_MAX, Shared};
use super::state::Known;
use crate::append::{Received, ReceivedPosition};
use crate::error::StoreError;
use crate::weight::estimated_bytes;

/// What one call returns of received alerts, unless one batch alone is larger.
const RECEIVED_BYTES_MAX: usize = 8 << 20;

impl Shared {
    /// An incident by its log.
    pub(super) fn look_up(&self, id: IncidentId) -> Result<Option<Known>, StoreError> {
        if self.durable().is_dropped(id) {
            return Ok(None);
        }
        let places = self.with_index(|index| index.places(id))?;
        let Some(last) = places.last() else { return Ok(None) };
        if let Some(kept) = self.kept(id, last.last_revision()) {
            return Ok(Some(Known::Readable(kept)));
        }
        let read = guarded(|| replay::read_incident(id, &places, &self.journal));
        let known = read.map_err(|obstacle| self.overcome(obstacle))?;
        match &known {
            Some(Known::Readable(incident)) => self.keep(incident),
            // It may have been dropped since its places were looked up.
            Some(Known::LeftAlone(_)) if self.is_gone(id)? => return Ok(None),
            _ => {}
        }
        Ok(known)
    }

    pub(super) fn log(&self, id: IncidentId) -> Result<Vec<Envelope>, StoreError> {
        let places = self.with_index(|index| index.places(id))?;
        let log = replay::read_log(id, &places, &self.journal).map_err(|obstacle| self.overcome(obstacle));
        match log {
            Err(StoreError::Damaged { .. }) if self.is_gone(id)? => Ok(Vec::new()),
            log => log,
        }
    }

    fn is_gone(&self, id: IncidentId) -> Result<bool, StoreError> {
        Ok(self.durable().is_dropped(id) || self.with_index(|index| index.places(id))?.is_empty())
    }

    fn kept(&self, id: IncidentId, revision: u64) -> Option<Arc<Incident>> {
        let kept = self.read_incidents.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|incident| incident.id == id && incident.revision.0 == revision).cloned()
    }

    fn keep(&self, incident: &Arc<Incident>) {
        let mut kept = self.read_incidents.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.id != incident.id);
        kept.push_back(Arc::clone(incident));
        let mut bytes: usize = kept.iter().map(|incident| estimated_bytes(incident)).sum();
        while bytes > READ_INCIDENTS_BYTES_MAX
            && kept.len() > 1
            && let Some(oldest) = kept.pop_front()
        {
            bytes -= estimated_bytes(&oldest);
        }
    }

    /// Reads batches from the journal, and says up to where it has read; those after `enough` only when there are none before.
    pub(super) fn received_after(
        &self,
        after: ReceivedPosition,
        enough: u64,
        batches_max: usize,
    ) -> Result<(Vec<(ReceivedPosition, Received)>, u64), StoreError> {
        if batches_max == 0 {
            return Ok((Vec::new(), after.0));
        }
        let (empty_from, empty_to) = *self.nothing_received.lock().unwrap_or_else(PoisonError::into_inner);
        let in_empty = after.0 >= empty_from && after.0 <= empty_to;
        let read_after = if in_empty { empty_to } else { after.0 };
        let head = self.journal.last().sequence;
        if read_after >= head {
            return Ok((Vec::new(), head.max(after.0)));
        }
        let mut found: Vec<(ReceivedPosition, Received)> = Vec::new();
        let mut bytes = 0;
        for entry in self.journal.iter_from(read_after + 1) {
            let entry = entry.map_err(|error| from_journal("read received alerts", error))?;
            if entry.sequence > enough
                && let Some((last, _)) = found.last()
            {
                let last = last.0.max(enough);
                return Ok((found, last));
            }
            if entry.kind != record::RECEIVED || entry.dropped {
                continue;
            }
            let received = record::decode_received(&entry.payload)
                .map_err(|why| StoreError::Record { sequence: entry.sequence, why })?;
            found.push((ReceivedPosition(entry.sequence), received));
            bytes += entry.payload.len();
            if found.len() >= batches_max || bytes >= RECEIVED_BYTES_MAX {
                return Ok((found, entry.sequence));
            }
        }
        let last = found.last().map(|(position, _)| position.0);
        let from = last.unwrap_or(if in_empty { empty_from } else { after.0 });
        let mut nothing = self.nothing_received.lock().unwrap_or_else(PoisonError::into_inner);
        *nothing = (from, head.max(from));
        // Reading may have gone beyond what was the head before it.
        Ok((found, head.max(from)))
    }
}
