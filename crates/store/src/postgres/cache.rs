//! Incidents that were folded already. What is in it can never be wrong, only unused: the key is the chain hash of the last record
//! that made the incident, and whoever looks has read that from the database.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quell_incident::Incident;
use quell_incident::ids::IncidentId;
use quell_journal::ChainHash;

use crate::weight::estimated_bytes;

/// By estimate.
const BYTES_KEPT_MAX: usize = 32 << 20;

#[derive(Default)]
pub(super) struct Cache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    incidents: HashMap<IncidentId, (ChainHash, Arc<Incident>)>,
    /// In the order in which they came.
    order: VecDeque<IncidentId>,
    bytes: usize,
}

impl Cache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: IncidentId, chain_hash: ChainHash) -> Option<Arc<Incident>> {
        let kept = self.kept();
        let (of, incident) = kept.incidents.get(&id)?;
        (*of == chain_hash).then(|| Arc::clone(incident))
    }

    pub(super) fn put(&self, chain_hash: ChainHash, incident: &Arc<Incident>) {
        let mut kept = self.kept();
        kept.bytes += estimated_bytes(incident);
        match kept.incidents.insert(incident.id, (chain_hash, Arc::clone(incident))) {
            Some((_, before)) => kept.bytes -= estimated_bytes(&before),
            None => kept.order.push_back(incident.id),
        }
        while kept.bytes > BYTES_KEPT_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            if let Some((_, gone)) = kept.incidents.remove(&oldest) {
                kept.bytes -= estimated_bytes(&gone);
            }
        }
    }
}
