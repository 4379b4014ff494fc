//! The trait over the parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::event::Envelope;
use quell_incident::gate::{CoolDown, LockState, SiteGates, Throw};
use quell_incident::ids::{Digest, GateEpoch, IncidentId, TargetName};
use quell_incident::{AlertKey, Incident};
use quell_journal::Record;
use tokio::sync::broadcast;

use super::handover::Found;
use super::shared::{Answer, Refusal, Shared, Verdict};
use super::state::{Change, State};
use super::{EmbeddedStore, from_journal, record};
use crate::append::{Append, MessageKey, MessageRecord, Received, ReceivedPosition};
use crate::change_record::{ChangeQuery, ReceivedChange};
use crate::error::StoreError;
use crate::lease::{CoordinatorId, Lease, Work};
use crate::list::{Cursor, ListQuery, Page};
use crate::memory::switched;
use crate::retention::{ChainHead, Retained, Retention, RetentionBudget};
use crate::store::{Changed, IncidentStore, check_document, no_such_incident};

/// How often an append is decided anew because what it was decided on was given up or has changed meanwhile.
const DECISIONS_MAX: usize = 16;

impl EmbeddedStore {
    /// Removes the documents of incidents that are gone. A process that dies before it leaves them for the next time that any goes.
    async fn drop_documents(&self) -> Result<(), StoreError> {
        let not_indexed = self.blocking(|shared| {
            let incidents = shared.documents.incidents()?;
            shared.with_index(|index| {
                let mut not_indexed = Vec::new();
                for incident in incidents {
                    if index.places(incident)?.is_empty() {
                        not_indexed.push(incident);
                    }
                }
                Ok(not_indexed)
            })
        });
        for incident in not_indexed.await? {
            match self.incident(incident).await {
                Ok(None) => self.blocking(move |shared| shared.documents.remove(incident)).await?,
                // The index has not come to it yet; or it is left alone, and is there all the same.
                Ok(Some(_)) | Err(StoreError::UnknownEvent { .. } | StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Runs what blocks where it may.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Read {
            action: "run the query",
            source,
        };
        let shared = Arc::clone(&self.shared);
        let permit =
            Arc::clone(&shared.queries).acquire_owned().await.map_err(|error| failed(error.into()))?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&shared)
        });
        done.await.map_err(|error| failed(error.into()))?
    }

    /// Waits until the index has what readers may have heard of.
    async fn index_is_current(&self) -> Result<(), StoreError> {
        let wanted = self.shared.settled.borrow().sequence;
        let mut indexed = self.shared.indexed.subscribe();
        let waited = indexed.wait_for(|indexed| *indexed >= wanted || self.shared.index().is_none());
        let indexed = *waited.await.map_err(|_| StoreError::Closed)?;
        if indexed >= wanted { Ok(()) } else { Err(StoreError::IndexAway) }
    }

    pub(super) async fn answer(&self, answer: Answer) -> Result<(), StoreError> {
        let settled = answer.await.map_err(|_| StoreError::Closed)?;
        settled.map_err(|error| from_journal("write to the journal", error))
    }

    /// Waits until what was in flight when something was refused is settled. False when it was given up instead: the refusal
    /// may have been for nothing then.
    async fn holds(&self, refusal: &Refusal) -> Result<bool, StoreError> {
        let mut settled = self.shared.settled.subscribe();
        let settled = settled.wait_for(|settled| {
            settled.failed
                || settled.generation != refusal.generation
                || settled.sequence >= refusal.submitted
        });
        let settled = *settled.await.map_err(|_| StoreError::Closed)?;
        if settled.generation != refusal.generation {
            return Ok(false);
        }
        if settled.sequence < refusal.submitted {
            self.shared.may_submit(&self.shared.decisions())?;
        }
        Ok(true)
    }

    /// After the answer that the disk is full: the next request finds the journal taking records again.
    async fn given_up(&self, generation: u64) {
        let mut settled = self.shared.settled.subscribe();
        let gone_on = settled.wait_for(|settled| settled.failed || settled.generation > generation);
        let _ = gone_on.await;
    }

    /// Decides on something that concerns the whole store, and submits it.
    fn submit_site(
        &self,
        decide: impl FnOnce(&State) -> Result<Option<(Record, Change)>, StoreError>,
    ) -> Result<Option<Answer>, Refusal> {
        let mut decisions = self.shared.decisions();
        let (generation, submitted) = (decisions.generation, decisions.submitted());
        let submit = || {
            self.shared.may_submit(&decisions)?;
            let Some((record, change)) = decide(&decisions.state)? else { return Ok(None) };
            self.shared.submit(&mut decisions, record, change).map(Some)
        };
        submit().map_err(|error| Refusal { error, generation, submitted })
    }

    /// Whether a refusal is to be told as it is; otherwise it is to be decided anew.
    async fn is_final(&self, refusal: &Refusal) -> Result<bool, StoreError> {
        let for_other_reasons = refusal.error.is_retryable()
            || matches!(refusal.error, StoreError::Failed(_) | StoreError::Closed);
        Ok(for_other_reasons || self.holds(refusal).await?)
    }

    async fn refused(&self, refusal: Refusal) -> StoreError {
        if matches!(refusal.error, StoreError::Full(_)) {
            self.given_up(refusal.generation).await;
        }
        refusal.error
    }
}

#[async_trait]
impl IncidentStore for EmbeddedStore {
    async fn receive(&self, received: Received) -> Result<ReceivedPosition, StoreError> {
        let payload = record::encode_received(&received)?;
        let bytes = payload.len();
        let Shared { journal, handover, .. } = &*self.shared;
        let generation = self.shared.generation();
        // Before the lock: hashing is what takes time.
        let submitted = journal
            .prepare(vec![Record::new(record::RECEIVED, payload)])
            .and_then(|request| handover.submit(received, bytes, || journal.submit_prepared(request)));
        let answer = match submitted {
            Ok(ticket) => ticket.await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(ack) => Ok(ReceivedPosition(ack.first_sequence)),
            Err(error) => {
                if matches!(error, quell_journal::Error::Full { .. }) {
                    self.shared.give_up(generation);
                    self.given_up(generation).await;
                }
                Err(from_journal("write to the journal", error))
            }
        }
    }

    async fn received_after(
        &self,
        after: ReceivedPosition,
        batches_max: usize,
    ) -> Result<Vec<(ReceivedPosition, Received)>, StoreError> {
        let take = |after, batches_max| {
            self.shared.handover.take(after, self.shared.journal.last().sequence, batches_max)
        };
        let enough = match take(after.0, batches_max) {
            Found::Here(batches) => return Ok(batches),
            Found::InJournal(enough) => enough,
        };
        let read = self.blocking(move |shared| shared.received_after(after, enough, batches_max));
        let (mut found, read_up_to) = read.await?;
        if let Found::Here(others) = take(read_up_to, batches_max.saturating_sub(found.len())) {
            found.extend(others);
        }
        Ok(found)
    }

    async fn correlated(&self) -> Result<ReceivedPosition, StoreError> {
        Ok(self.shared.durable().correlated)
    }

    async fn set_correlated(&self, up_to: ReceivedPosition, fence: Option<&Lease>) -> Result<(), StoreError> {
        if up_to.0 > self.shared.journal.last().sequence {
            return Err(StoreError::unsound(format!("nothing was received at position {}", up_to.0)));
        }
        let payload = record::encode_correlated(up_to)?;
        let submitted = self.submit_site(|state| {
            self.shared.leases().check(fence)?;
            let record = || (Record::new(record::CORRELATED, payload), Change::Correlated(up_to));
            Ok((up_to > state.correlated).then(record))
        });
        match submitted {
            Ok(Some(answer)) => self.answer(answer).await,
            Ok(None) => Ok(()),
            Err(refusal) => Err(self.refused(refusal).await),
        }
    }

    async fn append(&self, append: Append) -> Result<Arc<Incident>, StoreError> {
        append.check()?;
        let payload = record::encode_append(&append)?;
        // Only incidents that are finished or rest are not held, and few of them are appended to.
        let mut looked_up = None;
        for _ in 0..DECISIONS_MAX {
            let refusal = match self.shared.decide(&append, &payload, looked_up.as_ref()) {
                Verdict::Submitted(answer, incident) => {
                    return self.answer(answer).await.map(|()| incident);
                }
                Verdict::LookUp => {
                    let id = append.incident_id;
                    looked_up = self.blocking(move |shared| shared.look_up(id)).await?;
                    continue;
                }
                Verdict::Refused(refusal) => refusal,
            };
            if self.is_final(&refusal).await? {
                return Err(self.refused(refusal).await);
            }
        }
        Err(StoreError::Overloaded)
    }

    async fn incident(&self, id: IncidentId) -> Result<Option<Arc<Incident>>, StoreError> {
        let held = self.shared.durable().incident(id).cloned();
        let known = match held {
            Some(known) => Some(known),
            None => self.blocking(move |shared| shared.look_up(id)).await?,
        };
        // Something may have happened to it while it was read.
        let known = self.shared.durable().incident(id).cloned().or(known);
        known.map(|known| known.readable().cloned()).transpose()
    }

    async fn log(&self, id: IncidentId) -> Result<Vec<Envelope>, StoreError> {
        self.index_is_current().await?;
        self.blocking(move |shared| shared.log(id)).await
    }

    async fn put_document(&self, incident: IncidentId, document: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = check_document(&document)?;
        if self.incident(incident).await?.is_none() {
            return Err(no_such_incident(incident));
        }
        self.blocking(move |shared| shared.documents.put(incident, digest, &document).map(|()| digest)).await
    }

    async fn document(&self, incident: IncidentId, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.blocking(move |shared| shared.documents.get(incident, digest)).await
    }

    async fn put_change_records(&self, changes: Vec<ReceivedChange>) -> Result<usize, StoreError> {
        self.blocking(move |shared| shared.change_records.put(&changes)).await
    }

    async fn change_records(&self, query: &ChangeQuery) -> Result<Vec<ReceivedChange>, StoreError> {
        let query = *query;
        self.blocking(move |shared| shared.change_records.find(&query)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.index_is_current().await?;
        let query = query.clone();
        self.blocking(move |shared| shared.with_index(|index| index.list(&query))).await
    }

    async fn incident_of_alert(&self, key: &AlertKey) -> Result<Option<IncidentId>, StoreError> {
        Ok(self.incidents_of_alerts(std::slice::from_ref(key)).await?.pop().flatten())
    }

    async fn incidents_of_alerts(&self, keys: &[AlertKey]) -> Result<Vec<Option<IncidentId>>, StoreError> {
        let keys = keys.to_vec();
        let find = move |shared: &Shared| {
            // Memory first: what is forgotten there in between is in the index by then.
            let held = shared.alerts.find(&keys);
            let find_all = |index: &super::index::Index| -> Result<Vec<_>, super::index::Trouble> {
                keys.iter().map(|key| index.place_of_alert(key)).collect()
            };
            let over = shared.with_index(find_all)?;
            let newest = |(held, over): (Option<Cursor>, Option<Cursor>)| {
                held.into_iter().chain(over).min_by_key(Cursor::order).map(|place| place.id)
            };
            Ok(held.into_iter().zip(over).map(newest).collect())
        };
        self.blocking(find).await
    }

    async fn unfinished(&self) -> Result<Vec<IncidentId>, StoreError> {
        Ok(self.shared.durable().unfinished())
    }

    async fn site_gates(&self) -> Result<SiteGates, StoreError> {
        Ok(self.shared.durable().ledger.site.clone())
    }

    async fn set_kill_switch(&self, expected: GateEpoch, throw: Throw) -> Result<SiteGates, StoreError> {
        for _ in 0..DECISIONS_MAX {
            let mut site = SiteGates::default();
            let submitted = self.submit_site(|state| {
                site = switched(&state.ledger.site, expected, throw.clone())?;
                let record = Record::new(record::SWITCHED, record::encode_switched(&site)?);
                Ok(Some((record, Change::Switched(site.clone()))))
            });
            match submitted {
                Ok(Some(answer)) => return self.answer(answer).await.map(|()| site),
                Ok(None) => return Ok(site),
                Err(refusal) if self.is_final(&refusal).await? => return Err(self.refused(refusal).await),
                Err(_) => {}
            }
        }
        Err(StoreError::Overloaded)
    }

    async fn locks(&self, targets: &[TargetName]) -> Result<BTreeMap<TargetName, LockState>, StoreError> {
        Ok(self.shared.durable().ledger.locks(targets))
    }

    async fn cool_downs(
        &self,
        class: &str,
        targets: &[TargetName],
        now: Timestamp,
    ) -> Result<Vec<CoolDown>, StoreError> {
        Ok(self.shared.durable().ledger.cool_downs(class, targets, now))
    }

    async fn message(&self, key: &MessageKey) -> Result<Option<MessageRecord>, StoreError> {
        if let Some(record) = self.shared.durable().message(key) {
            return Ok(Some(record));
        }
        let key = key.clone();
        self.blocking(move |shared| shared.with_index(|index| index.message(&key))).await
    }

    async fn renew(&self, coordinator: CoordinatorId, for_: Duration) -> Result<(), StoreError> {
        self.shared.leases().renew(coordinator, for_)
    }

    async fn claim(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<Vec<Lease>, StoreError> {
        self.shared.leases().claim(coordinator, work)
    }

    async fn claim_unfinished(
        &self,
        coordinator: CoordinatorId,
        max: usize,
    ) -> Result<Vec<Lease>, StoreError> {
        let unfinished = self.shared.durable().unfinished();
        self.shared.leases().claim_unfinished(coordinator, unfinished, max)
    }

    async fn give_back(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<(), StoreError> {
        self.shared.leases().give_back(coordinator, work);
        Ok(())
    }

    async fn release(&self, coordinator: CoordinatorId) -> Result<(), StoreError> {
        self.shared.leases().release(coordinator);
        Ok(())
    }

    async fn retain(
        &self,
        retention: &Retention,
        now: Timestamp,
        budget: &RetentionBudget,
    ) -> Result<Retained, StoreError> {
        let retained = self.retain_within(retention, now, budget).await?;
        if retained.incidents > 0 {
            self.shared.documents.swap_some_to_drop(true);
        }
        // Once for all parts of a round.
        if !retained.more && self.shared.documents.swap_some_to_drop(false) {
            self.drop_documents().await?;
        }
        Ok(retained)
    }

    async fn chain_head(&self) -> Result<Option<ChainHead>, StoreError> {
        let head = self.shared.journal.last();
        Ok(Some(ChainHead { journal_id: self.shared.journal.id(), head }))
    }

    fn changes(&self) -> broadcast::Receiver<Changed> {
        self.shared.changed.subscribe()
    }

    fn failure(&self) -> Option<StoreError> {
        self.shared.journal.failure().map(|error| StoreError::Failed(error.into()))
    }

    async fn health(&self) -> Result<(), StoreError> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let failed = |error| from_journal("write to the data folder", error);
        self.blocking(move |shared| shared.journal.check_room().map_err(failed)).await?;
        match self.shared.index() {
            Some(_) => Ok(()),
            None => Err(StoreError::IndexAway),
        }
    }
}
