//! The store as one life of a coordinator sees it: slow, at times overloaded, and gone with the process at any instant. What it keeps
//! outlives the process, as a disk does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::event::Envelope;
use quell_incident::gate::{CoolDown, KillSwitch, LockState, SiteGates, Throw};
use quell_incident::ids::{Digest, GateEpoch, IncidentId, TargetName};
use quell_incident::{AlertKey, Event, Incident};
use quell_store::{
    Append, ChangeQuery, Changed, CoordinatorId, IncidentStore, Lease, ListQuery, MemoryStore, MessageKey,
    MessageRecord, Page, Received, ReceivedChange, ReceivedPosition, StoreError, Work,
};
use tokio::sync::broadcast;

use super::life::Life;
use super::world::World;

/// A life's way to the disk.
pub(super) struct Disk {
    world: Arc<World>,
    life: Arc<Life>,
    /// Its own and short, so that a listener misses changes and has to read anew.
    changed: broadcast::Sender<Changed>,
}

impl Disk {
    pub(super) fn of(world: Arc<World>, life: Arc<Life>) -> Self {
        let kept = world.draw(|dice| if dice.percent(30) { 1 } else { 64 });
        Self { world, life, changed: broadcast::channel(kept).0 }
    }

    fn disk(&self) -> &MemoryStore {
        // Leases run out by its clock.
        self.world.disk.set_now(self.world.now());
        &self.world.disk
    }

    /// Before something is read or written.
    async fn before(&self, what: &str) {
        self.life.point(what).await;
        self.world.note(|| format!("life {}: {what}", self.life.number));
    }

    /// It happened, and its caller may never hear of it.
    async fn after<T>(&self, what: &str, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.life.point(what).await;
        answer
    }

    /// Another coordinator's person is faster, by an instant.
    async fn pull_kill_switch(&self) -> Result<(), StoreError> {
        let gates = self.disk().site_gates().await?;
        let (by, why, at) = ("bob".to_owned(), "a test".to_owned(), self.world.now());
        self.world.note(|| "the kill switch is engaged at the last instant".to_owned());
        self.disk().set_kill_switch(gates.epoch, Throw::Engage(KillSwitch { by, why, at })).await.map(drop)
    }

    /// Refused before anything happened.
    fn overloaded(&self) -> Result<(), StoreError> {
        if self.world.mishap(3) { Err(StoreError::Overloaded) } else { Ok(()) }
    }
}

#[async_trait]
impl IncidentStore for Disk {
    async fn receive(&self, received: Received) -> Result<ReceivedPosition, StoreError> {
        self.before("receive").await;
        self.overloaded()?;
        let answer = self.disk().receive(received).await;
        self.after("received", answer).await
    }

    async fn received_after(
        &self,
        after: ReceivedPosition,
        batches_max: usize,
    ) -> Result<Vec<(ReceivedPosition, Received)>, StoreError> {
        self.before("received_after").await;
        self.overloaded()?;
        let batches_max = batches_max.min(self.world.draw(|dice| dice.between(1, 64)) as usize);
        let answer = self.disk().received_after(after, batches_max).await;
        self.after("received_after done", answer).await
    }

    async fn correlated(&self) -> Result<ReceivedPosition, StoreError> {
        self.before("correlated").await;
        self.disk().correlated().await
    }

    async fn set_correlated(&self, up_to: ReceivedPosition, fence: Option<&Lease>) -> Result<(), StoreError> {
        self.before("set_correlated").await;
        self.overloaded()?;
        // The mark may lag after a crash: it is kept in memory for a while.
        if self.world.mishap(10) {
            return Ok(());
        }
        let answer = self.disk().set_correlated(up_to, fence).await;
        self.after("set_correlated done", answer).await
    }

    async fn append(&self, append: Append) -> Result<Arc<Incident>, StoreError> {
        self.before("append").await;
        self.overloaded()?;
        let starts =
            append.envelopes.iter().any(|envelope| matches!(envelope.event, Event::StepStarted { .. }));
        if starts && self.world.mishap(3) {
            self.pull_kill_switch().await?;
        }
        let stopped = self.disk().site_gates().await?.kill_switch.is_some();
        let kinds: Vec<_> = append.envelopes.iter().map(|envelope| envelope.event.kind()).collect();
        let (id, expected) = (append.incident_id, append.expected);
        let answer = self.disk().append(append).await;
        match &answer {
            Ok(incident) => {
                let revision = incident.revision;
                self.world.note(|| format!("{id} at {revision}: {kinds:?}"));
                if starts && stopped {
                    self.world.violated(format!("{id} started a step while the kill switch was engaged"));
                }
                // Nobody may be listening.
                let _ = self.changed.send(Changed { incident_id: id, revision });
            }
            Err(error) => self.world.note(|| format!("{id} from {expected}: {kinds:?} refused: {error}")),
        }
        self.after("appended", answer).await
    }

    async fn incident(&self, id: IncidentId) -> Result<Option<Arc<Incident>>, StoreError> {
        self.before("incident").await;
        self.overloaded()?;
        let answer = self.disk().incident(id).await;
        // What was read is old by the time that it is there.
        self.after("incident read", answer).await
    }

    async fn log(&self, id: IncidentId) -> Result<Vec<Envelope>, StoreError> {
        self.before("log").await;
        self.disk().log(id).await
    }

    async fn put_document(&self, incident: IncidentId, document: Vec<u8>) -> Result<Digest, StoreError> {
        self.before("put_document").await;
        self.overloaded()?;
        let answer = self.disk().put_document(incident, document).await;
        self.after("document put", answer).await
    }

    async fn document(&self, incident: IncidentId, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.before("document").await;
        self.disk().document(incident, digest).await
    }

    async fn put_change_records(&self, changes: Vec<ReceivedChange>) -> Result<usize, StoreError> {
        self.before("put_change_records").await;
        self.overloaded()?;
        let answer = self.disk().put_change_records(changes).await;
        self.after("changes put", answer).await
    }

    async fn change_records(&self, query: &ChangeQuery) -> Result<Vec<ReceivedChange>, StoreError> {
        self.before("change_records").await;
        self.disk().change_records(query).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.before("list").await;
        self.disk().list(query).await
    }

    async fn incident_of_alert(&self, key: &AlertKey) -> Result<Option<IncidentId>, StoreError> {
        self.before("incident_of_alert").await;
        self.overloaded()?;
        let answer = self.disk().incident_of_alert(key).await;
        self.after("incident_of_alert read", answer).await
    }

    async fn unfinished(&self) -> Result<Vec<IncidentId>, StoreError> {
        self.before("unfinished").await;
        let answer = self.disk().unfinished().await;
        self.after("unfinished read", answer).await
    }

    async fn site_gates(&self) -> Result<SiteGates, StoreError> {
        self.before("site_gates").await;
        self.overloaded()?;
        let answer = self.disk().site_gates().await;
        self.after("site_gates read", answer).await
    }

    async fn set_kill_switch(&self, expected: GateEpoch, throw: Throw) -> Result<SiteGates, StoreError> {
        self.before("set_kill_switch").await;
        let answer = self.disk().set_kill_switch(expected, throw).await;
        self.after("kill switch set", answer).await
    }

    async fn locks(&self, targets: &[TargetName]) -> Result<BTreeMap<TargetName, LockState>, StoreError> {
        self.before("locks").await;
        let answer = self.disk().locks(targets).await;
        self.after("locks read", answer).await
    }

    async fn cool_downs(
        &self,
        class: &str,
        targets: &[TargetName],
        now: Timestamp,
    ) -> Result<Vec<CoolDown>, StoreError> {
        self.before("cool_downs").await;
        self.overloaded()?;
        let answer = self.disk().cool_downs(class, targets, now).await;
        self.after("cool_downs read", answer).await
    }

    async fn message(&self, key: &MessageKey) -> Result<Option<MessageRecord>, StoreError> {
        self.before("message").await;
        self.disk().message(key).await
    }

    async fn renew(&self, coordinator: CoordinatorId, for_: Duration) -> Result<(), StoreError> {
        self.before("renew").await;
        self.overloaded()?;
        self.disk().renew(coordinator, for_).await
    }

    async fn claim(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<Vec<Lease>, StoreError> {
        self.before("claim").await;
        self.overloaded()?;
        let answer = self.disk().claim(coordinator, work).await;
        self.after("claimed", answer).await
    }

    async fn claim_unfinished(
        &self,
        coordinator: CoordinatorId,
        max: usize,
    ) -> Result<Vec<Lease>, StoreError> {
        self.before("claim_unfinished").await;
        self.overloaded()?;
        let max = max.min(self.world.draw(|dice| dice.between(1, 16)) as usize);
        let answer = self.disk().claim_unfinished(coordinator, max).await;
        self.after("unfinished claimed", answer).await
    }

    async fn give_back(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<(), StoreError> {
        self.before("give_back").await;
        self.disk().give_back(coordinator, work).await
    }

    async fn release(&self, coordinator: CoordinatorId) -> Result<(), StoreError> {
        self.before("release").await;
        self.disk().release(coordinator).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn changes(&self) -> broadcast::Receiver<Changed> {
        self.changed.subscribe()
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.before("health").await;
        Ok(())
    }
}
