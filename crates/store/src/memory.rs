//! The store in memory: the plainest statement of what a store does.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::event::Envelope;
use quell_incident::gate::{CoolDown, LockState, SiteGates, Throw};
use quell_incident::ids::{Digest, GateEpoch, IncidentId, TargetName};
use quell_incident::severity::{Priority, Status};
use quell_incident::{AlertKey, Incident};
use tokio::sync::broadcast;

use crate::append::{Append, MessageKey, MessageRecord, Received, ReceivedPosition, check_message, decide};
use crate::change_record::{ChangeQuery, ReceivedChange};
use crate::error::StoreError;
use crate::lease::{CoordinatorId, Lease, Leases, Work};
use crate::ledger::Ledger;
use crate::list::{Cursor, ListQuery, Page, Row};
use crate::retention::{Retained, Retention, RetentionBudget};
use crate::store::{CHANGES_KEPT_MAX, Changed, IncidentStore, check_document, no_such_incident};

/// Keeps everything in memory and forgets it with the process. Without limits: for tests and for trying things out.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    changed: broadcast::Sender<Changed>,
}

#[derive(Debug, Default)]
struct State {
    /// What retention dropped is none; positions stay.
    received: Vec<Option<Received>>,
    correlated: ReceivedPosition,
    incidents: BTreeMap<IncidentId, Stored>,
    messages: HashMap<MessageKey, MessageRecord>,
    alerts: HashMap<AlertKey, (Timestamp, IncidentId)>,
    ledger: Ledger,
    leases: Leases,
    documents: HashMap<(IncidentId, Digest), Vec<u8>>,
    change_records: BTreeMap<(Timestamp, Digest), ReceivedChange>,
}

#[derive(Debug)]
struct Stored {
    incident: Arc<Incident>,
    log: Vec<Envelope>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { state: Mutex::default(), changed: broadcast::channel(CHANGES_KEPT_MAX).0 }
    }

    /// Sets the clock by which leases end. It stands until then, and no lease ends.
    pub fn set_now(&self, now: Timestamp) {
        self.state().leases.set_now(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, append: Append) -> Result<Arc<Incident>, StoreError> {
        self.leases.check(append.fence.as_ref())?;
        let taken = append.message.as_ref().and_then(|(key, _)| self.messages.get(key).copied());
        check_message(append.message.as_ref(), taken)?;
        let stored = self.incidents.get(&append.incident_id).map(|stored| &stored.incident);
        let decided = decide(&append, stored, &self.ledger)?;
        self.ledger.apply(&decided.ledger);
        let incident = decided.incident;
        for key in append.alerts_fired() {
            let place = (incident.created_at, incident.id);
            let newest = self.alerts.entry(key).or_insert(place);
            *newest = place.max(*newest);
        }
        if let Some((key, content)) = append.message {
            self.messages.insert(key, MessageRecord { incident_id: incident.id, content });
        }
        let fresh = || Stored { incident: Arc::clone(&incident), log: Vec::new() };
        let stored = self.incidents.entry(incident.id).or_insert_with(fresh);
        stored.incident = Arc::clone(&incident);
        stored.log.extend(append.envelopes);
        Ok(incident)
    }

    /// Drops what was received before an instant and is correlated; how many batches.
    fn drop_received(&mut self, before: Option<Timestamp>) -> u64 {
        let correlated = usize::try_from(self.correlated.0).unwrap_or(usize::MAX);
        let over = |received: &Option<Received>| {
            received.as_ref().is_none_or(|received| before.is_some_and(|before| received.at < before))
        };
        let over = self.received.iter_mut().take(correlated).take_while(|received| over(received));
        over.filter_map(Option::take).count() as u64
    }

    fn list(&self, query: &ListQuery) -> Page {
        let wanted = |incident: &&Arc<Incident>| {
            query.wants(incident.status(), incident.priority)
                && query.since.is_none_or(|since| incident.created_at >= since)
        };
        let found = self.incidents.values().map(|stored| &stored.incident).filter(wanted);
        let mut found: Vec<_> = found.map(|incident| (Cursor::of(incident), incident)).collect();
        let total = found.len() as u64;
        found.sort_by_key(|(place, _)| place.order());
        found.retain(|(place, _)| query.cursor.is_none_or(|cursor| place.order() > cursor.order()));
        let more = found.len() > query.limit();
        found.truncate(query.limit());
        let next = found.last().map(|(place, _)| *place).filter(|_| more);
        let rows = found.into_iter().map(|(_, incident)| Row::of(incident)).collect();
        Page { rows, total, next }
    }
}

#[async_trait]
impl IncidentStore for MemoryStore {
    async fn receive(&self, received: Received) -> Result<ReceivedPosition, StoreError> {
        let mut state = self.state();
        state.received.push(Some(received));
        Ok(ReceivedPosition(state.received.len() as u64))
    }

    async fn received_after(
        &self,
        after: ReceivedPosition,
        batches_max: usize,
    ) -> Result<Vec<(ReceivedPosition, Received)>, StoreError> {
        let state = self.state();
        let places = (1..).map(ReceivedPosition).zip(&state.received);
        let there = places.filter_map(|(position, received)| Some((position, received.clone()?)));
        Ok(there.filter(|(position, _)| *position > after).take(batches_max).collect())
    }

    async fn correlated(&self) -> Result<ReceivedPosition, StoreError> {
        Ok(self.state().correlated)
    }

    async fn set_correlated(&self, up_to: ReceivedPosition, fence: Option<&Lease>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.leases.check(fence)?;
        if up_to.0 > state.received.len() as u64 {
            return Err(StoreError::unsound(format!("nothing was received at position {}", up_to.0)));
        }
        state.correlated = state.correlated.max(up_to);
        Ok(())
    }

    async fn append(&self, append: Append) -> Result<Arc<Incident>, StoreError> {
        append.check()?;
        let mut state = self.state();
        let incident = state.append(append)?;
        // Under the mutex, so that changes are told in the order in which they were made. Nobody may be listening.
        let _ = self.changed.send(Changed { incident_id: incident.id, revision: incident.revision });
        Ok(incident)
    }

    async fn incident(&self, id: IncidentId) -> Result<Option<Arc<Incident>>, StoreError> {
        Ok(self.state().incidents.get(&id).map(|stored| Arc::clone(&stored.incident)))
    }

    async fn log(&self, id: IncidentId) -> Result<Vec<Envelope>, StoreError> {
        Ok(self.state().incidents.get(&id).map(|stored| stored.log.clone()).unwrap_or_default())
    }

    async fn put_document(&self, incident: IncidentId, document: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = check_document(&document)?;
        let mut state = self.state();
        if !state.incidents.contains_key(&incident) {
            return Err(no_such_incident(incident));
        }
        state.documents.insert((incident, digest), document);
        Ok(digest)
    }

    async fn document(&self, incident: IncidentId, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().documents.get(&(incident, digest)).cloned())
    }

    async fn put_change_records(&self, changes: Vec<ReceivedChange>) -> Result<usize, StoreError> {
        let mut state = self.state();
        let mut new = 0;
        for change in changes {
            let (key, horizon) = ((change.record.at, change.digest()?), change.horizon());
            if let Entry::Vacant(place) = state.change_records.entry(key) {
                place.insert(change);
                new += 1;
            }
            state.change_records.retain(|(at, _), _| *at >= horizon);
        }
        Ok(new)
    }

    async fn change_records(&self, query: &ChangeQuery) -> Result<Vec<ReceivedChange>, StoreError> {
        let state = self.state();
        let fitting = state.change_records.values().rev().filter(|change| query.admits(change));
        let mut found: Vec<ReceivedChange> = fitting.take(query.limit).cloned().collect();
        found.reverse();
        Ok(found)
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        Ok(self.state().list(query))
    }

    async fn incident_of_alert(&self, key: &AlertKey) -> Result<Option<IncidentId>, StoreError> {
        Ok(self.state().alerts.get(key).map(|(_, id)| *id))
    }

    async fn unfinished(&self) -> Result<Vec<IncidentId>, StoreError> {
        let state = self.state();
        Ok(in_turn(state.incidents.values().filter_map(|stored| turn(&stored.incident))))
    }

    async fn site_gates(&self) -> Result<SiteGates, StoreError> {
        Ok(self.state().ledger.site.clone())
    }

    async fn set_kill_switch(&self, expected: GateEpoch, throw: Throw) -> Result<SiteGates, StoreError> {
        let mut state = self.state();
        state.ledger.site = switched(&state.ledger.site, expected, throw)?;
        Ok(state.ledger.site.clone())
    }

    async fn locks(&self, targets: &[TargetName]) -> Result<BTreeMap<TargetName, LockState>, StoreError> {
        Ok(self.state().ledger.locks(targets))
    }

    async fn cool_downs(
        &self,
        class: &str,
        targets: &[TargetName],
        now: Timestamp,
    ) -> Result<Vec<CoolDown>, StoreError> {
        Ok(self.state().ledger.cool_downs(class, targets, now))
    }

    async fn message(&self, key: &MessageKey) -> Result<Option<MessageRecord>, StoreError> {
        Ok(self.state().messages.get(key).copied())
    }

    async fn renew(&self, coordinator: CoordinatorId, for_: Duration) -> Result<(), StoreError> {
        self.state().leases.renew(coordinator, for_)
    }

    async fn claim(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<Vec<Lease>, StoreError> {
        self.state().leases.claim(coordinator, work)
    }

    async fn claim_unfinished(
        &self,
        coordinator: CoordinatorId,
        max: usize,
    ) -> Result<Vec<Lease>, StoreError> {
        let mut state = self.state();
        let unfinished = in_turn(state.incidents.values().filter_map(|stored| turn(&stored.incident)));
        state.leases.claim_unfinished(coordinator, unfinished, max)
    }

    async fn give_back(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<(), StoreError> {
        self.state().leases.give_back(coordinator, work);
        Ok(())
    }

    async fn release(&self, coordinator: CoordinatorId) -> Result<(), StoreError> {
        self.state().leases.release(coordinator);
        Ok(())
    }

    async fn retain(
        &self,
        retention: &Retention,
        now: Timestamp,
        budget: &RetentionBudget,
    ) -> Result<Retained, StoreError> {
        let mut state = self.state();
        let payloads_given_up = state.drop_received(retention.received_before(now));
        let Some(before) = retention.closed_before(now) else {
            return Ok(Retained { payloads_given_up, ..Retained::default() });
        };
        let over = |stored: &Stored| is_finished(&stored.incident) && stored.incident.updated_at < before;
        let over: Vec<_> =
            state.incidents.iter().filter(|(_, stored)| over(stored)).map(|(id, _)| *id).collect();
        let more = over.len() > budget.incidents_max;
        let dropped: Vec<_> = over.into_iter().take(budget.incidents_max).collect();
        for id in &dropped {
            state.incidents.remove(id);
            state.messages.retain(|_, message| message.incident_id != *id);
            state.alerts.retain(|_, (_, incident)| incident != id);
            state.documents.retain(|(incident, _), _| incident != id);
        }
        Ok(Retained { incidents: dropped.len() as u64, payloads_given_up, more, ..Retained::default() })
    }

    fn changes(&self) -> broadcast::Receiver<Changed> {
        self.changed.subscribe()
    }

    async fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Whether nothing more is to be done for an incident.
pub(crate) fn is_finished(incident: &Incident) -> bool {
    incident.status() == Status::Closed
}

/// By what unfinished incidents are ordered: P0 first, the oldest first.
pub(crate) type Turn = (Priority, Timestamp, IncidentId);

/// Its turn among the unfinished; none when it is finished.
pub(crate) fn turn(incident: &Incident) -> Option<Turn> {
    (!is_finished(incident)).then_some((incident.priority, incident.created_at, incident.id))
}

/// The ids in order.
pub(crate) fn in_turn(turns: impl Iterator<Item = Turn>) -> Vec<IncidentId> {
    let mut turns: Vec<_> = turns.collect();
    turns.sort_unstable();
    turns.into_iter().map(|(_, _, id)| id).collect()
}

/// The switches after a change, if it relied on those in force.
pub(crate) fn switched(site: &SiteGates, expected: GateEpoch, throw: Throw) -> Result<SiteGates, StoreError> {
    if site.epoch != expected {
        return Err(StoreError::SiteChanged { expected, found: site.epoch });
    }
    Ok(site.thrown(throw))
}
