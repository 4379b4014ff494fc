//! The trait that every backend implements.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::event::Envelope;
use quell_incident::gate::{CoolDown, LockState, SiteGates, Throw};
use quell_incident::ids::{Digest, GateEpoch, IncidentId, Revision, TargetName};
use quell_incident::{AlertKey, Incident};
use tokio::sync::broadcast;

use crate::append::{Append, MessageKey, MessageRecord, Received, ReceivedPosition};
use crate::change_record::{ChangeQuery, ReceivedChange};
use crate::error::StoreError;
use crate::lease::{CoordinatorId, Lease, Work};
use crate::list::{ListQuery, Page};
use crate::retention::{ChainHead, Retained, Retention, RetentionBudget};

/// How many changes a slow listener of [`IncidentStore::changes`] may be behind before it misses some.
pub const CHANGES_KEPT_MAX: usize = 4_096;

/// A document at the most, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;

pub(crate) fn check_document(document: &[u8]) -> Result<Digest, StoreError> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(StoreError::TooLarge { bytes: document.len(), bytes_max: DOCUMENT_BYTES_MAX });
    }
    Ok(Digest::of_bytes(document))
}

pub(crate) fn no_such_incident(incident: IncidentId) -> StoreError {
    StoreError::unsound(format!("there is no incident {incident} that a document could belong to"))
}

/// An incident has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub incident_id: IncidentId,
    /// Its revision now.
    pub revision: Revision,
}

/// Keeps incidents, received alerts, locks, cool-downs and the site's switches.
///
/// # Flow
///
/// Alerts are [received](Self::receive) before their sender is answered, read by correlation
/// ([`received_after`](Self::received_after)) and marked done ([`set_correlated`](Self::set_correlated)). Whoever decides on an
/// incident reads it, decides, and [appends](Self::append) against the revision that was read.
///
/// # Guarantees
///
/// - What was answered with success is durable: it survives a killed process and a power cut.
/// - An append is all or nothing: events, claims and message together. Between two appends that rely on the same revision,
///   lock or epoch, one is refused.
/// - Reading shows only what is durable, and shows an append from the moment that its caller was told of it.
/// - Events pass through the workflow's fold before they are stored: an illegal one changes nothing.
/// - A refusal is final as of its answer: what it was refused for is durable by then.
/// - A piece of work has one living holder. What a lost lease guards changes nothing any more, from before the next holder has its
///   own: so what that one reads first is final.
///
/// # Assumptions
///
/// - Ids are never reused. Claims that follow from events ([`quell_incident::workflow::claims`]) are all made.
///
/// # Caveats
///
/// - Dropping the future of a write does not take the write back.
/// - After a crash the correlated mark may lag, never lead: correlation is idempotent.
/// - A listener of [`changes`](Self::changes) that is too slow misses some and must read anew; a write whose future was dropped
///   is announced all the same.
#[async_trait]
pub trait IncidentStore: Send + Sync {
    /// Makes received alerts durable. Calls that wait at the same time share one commit.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] and [`StoreError::Full`] are to be answered "try again" (503), never "no" (4xx).
    async fn receive(&self, received: Received) -> Result<ReceivedPosition, StoreError>;

    /// Batches after a position in the order in which they were received. May be fewer than asked for, to bound memory; empty
    /// only when there is none.
    async fn received_after(
        &self,
        after: ReceivedPosition,
        batches_max: usize,
    ) -> Result<Vec<(ReceivedPosition, Received)>, StoreError>;

    /// Up to where correlation is done.
    async fn correlated(&self) -> Result<ReceivedPosition, StoreError>;

    /// Notes that correlation is done up to here, if the lease is still held. A position before the present mark changes nothing.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]; [`StoreError::Unsound`] for a position beyond all that was received.
    async fn set_correlated(&self, up_to: ReceivedPosition, fence: Option<&Lease>) -> Result<(), StoreError>;

    /// Appends events to an incident, if it is still at the expected revision and every claim can be made. Returns the incident
    /// after them, once they are durable.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::ClaimRefused`]: decide anew. [`StoreError::LeaseLost`]: stop that work.
    /// [`StoreError::MessageTaken`]: the incident exists.
    /// [`StoreError::Illegal`], [`StoreError::Unsound`]: the caller is wrong. [`StoreError::UnknownEvent`],
    /// [`StoreError::Damaged`]: leave it alone.
    async fn append(&self, append: Append) -> Result<Arc<Incident>, StoreError>;

    /// An incident.
    async fn incident(&self, id: IncidentId) -> Result<Option<Arc<Incident>>, StoreError>;

    /// All events of an incident in order; none when it is not known.
    async fn log(&self, id: IncidentId) -> Result<Vec<Envelope>, StoreError>;

    /// Keeps a document of an incident: what is too large for an event, and is cited by one afterwards. Durable when this returns; the
    /// same document again changes nothing. It goes when its incident goes.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond [`DOCUMENT_BYTES_MAX`]; [`StoreError::Unsound`] for an incident that is not known.
    async fn put_document(&self, incident: IncidentId, document: Vec<u8>) -> Result<Digest, StoreError>;

    /// A document of an incident by its digest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not what was written.
    async fn document(&self, incident: IncidentId, digest: Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps what was changed on purpose, for [`CHANGE_RECORDS_KEPT`](crate::CHANGE_RECORDS_KEPT). Durable when this returns, which says
    /// how many were not known yet.
    async fn put_change_records(&self, changes: Vec<ReceivedChange>) -> Result<usize, StoreError>;

    /// The latest changes that fit, in the order in which they took effect.
    async fn change_records(&self, query: &ChangeQuery) -> Result<Vec<ReceivedChange>, StoreError>;

    /// A page of incidents, newest first.
    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError>;

    /// The newest incident (by creation) that this alert fired in.
    async fn incident_of_alert(&self, key: &AlertKey) -> Result<Option<IncidentId>, StoreError>;

    /// The same for many alerts, in their order.
    async fn incidents_of_alerts(&self, keys: &[AlertKey]) -> Result<Vec<Option<IncidentId>>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.incident_of_alert(key).await?);
        }
        Ok(found)
    }

    /// Incidents that are not closed, P0 first, the oldest first. Those left alone are not among them.
    async fn unfinished(&self) -> Result<Vec<IncidentId>, StoreError>;

    /// The switches that stand for the whole site.
    async fn site_gates(&self) -> Result<SiteGates, StoreError>;

    /// Engages or releases the kill switch and makes the next epoch; who did so is kept with it.
    ///
    /// # Errors
    /// [`StoreError::SiteChanged`] when the epoch is another one.
    async fn set_kill_switch(&self, expected: GateEpoch, throw: Throw) -> Result<SiteGates, StoreError>;

    /// The locks of targets. One that was never locked is free with token 0.
    async fn locks(&self, targets: &[TargetName]) -> Result<BTreeMap<TargetName, LockState>, StoreError>;

    /// Cool-downs of a class of alert on targets that are not over at `now`, sorted by target and runbook.
    async fn cool_downs(
        &self,
        class: &str,
        targets: &[TargetName],
        now: Timestamp,
    ) -> Result<Vec<CoolDown>, StoreError>;

    /// What a message made, if it was taken before.
    async fn message(&self, key: &MessageKey) -> Result<Option<MessageRecord>, StoreError>;

    /// The heart-beat of a coordinator: what it has claimed is its own for so long from now on, by the store's clock. The first
    /// one makes the coordinator known.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]: it came too late, and others may have taken over. The coordinator forgets all its leases and
    /// begins under a new id.
    async fn renew(&self, coordinator: CoordinatorId, for_: Duration) -> Result<(), StoreError>;

    /// Takes work that nobody living holds. Returns leases of what was taken and of what the coordinator held already.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]: the coordinator has not renewed in time, or never.
    async fn claim(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<Vec<Lease>, StoreError>;

    /// Takes up to so many [unfinished](Self::unfinished) incidents that nobody living holds, the coordinator itself included,
    /// in that order.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]: the coordinator has not renewed in time, or never.
    async fn claim_unfinished(
        &self,
        coordinator: CoordinatorId,
        max: usize,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Frees some of a coordinator's leases, of incidents that are over. What it does not hold is left alone.
    async fn give_back(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<(), StoreError>;

    /// Frees all leases of a coordinator at once, when it stops in good order.
    async fn release(&self, coordinator: CoordinatorId) -> Result<(), StoreError>;

    /// Whether other processes may work on the same store: then received alerts and abandoned work are looked for, since nothing tells
    /// of them.
    fn is_shared(&self) -> bool {
        false
    }

    /// Drops what is not to be kept any longer, as much as the budget allows; to be called again when the answer says that there is
    /// more.
    ///
    /// A backend must, in one commit, note in its log which records' payloads are given up, why, and under the digest of which
    /// policy, and let incidents that have been closed for longer than the policy says be "not found" and in no list, with their
    /// messages and alerts. Payloads of received alerts go when they are correlated and old enough. It must never drop an incident
    /// that is not closed, a lock's token, a cool-down, or the site's switches; and the chain over the log has to hold afterwards.
    /// Only then the payloads themselves are removed.
    ///
    /// # Errors
    /// As for any write. What was begun and not finished is found again by the next call.
    async fn retain(
        &self,
        retention: &Retention,
        now: Timestamp,
        budget: &RetentionBudget,
    ) -> Result<Retained, StoreError> {
        let _ = (retention, now, budget);
        Ok(Retained::default())
    }

    /// The last durable record of the log and the chain up to it: what an anchor notes. None for a backend without a chain.
    async fn chain_head(&self) -> Result<Option<ChainHead>, StoreError> {
        Ok(None)
    }

    /// Changes from now on, each told after its commit, one for each append.
    fn changes(&self) -> broadcast::Receiver<Changed>;

    /// Why the store takes no more changes until it is opened anew; none as long as it may yet take some.
    fn failure(&self) -> Option<StoreError> {
        None
    }

    /// Whether the store takes changes, and has room for more.
    ///
    /// # Errors
    /// Why it does not.
    async fn health(&self) -> Result<(), StoreError>;
}
