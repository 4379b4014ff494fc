//! This coordinator's place among those that share a store. It stays alive by renewing in time; whoever is late has lost all its leases and
//! begins anew under another id. Losing a place costs nothing but time: duties follow from the state, and whoever takes over finds them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quell_service::IdSource;
use quell_store::{CoordinatorId, IncidentStore, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// A lease is renewed so many times within its length, so that one lost heart-beat costs nothing.
const BEATS_PER_LEASE: u32 = 3;
/// Before a place is taken anew after an error of the store.
const PAUSE: Duration = Duration::from_millis(500);

/// One term of a coordinator: from a first heart-beat until it came too late, or the process stops.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    /// Under which name its leases are held.
    pub coordinator: CoordinatorId,
    /// Cancelled when the term is over: nothing of it goes on.
    pub over: CancellationToken,
    /// Until when its leases are surely held, by this process's clock, which counts on while the process is stopped.
    alive_until: watch::Receiver<Instant>,
}

impl Term {
    /// Whether its leases are surely held now. What has an effect outside is asked only then: a process that was stopped for long and
    /// wakes learns here that others may have taken over.
    pub(crate) fn is_surely_held(&self) -> bool {
        !self.over.is_cancelled() && Instant::now() < *self.alive_until.borrow()
    }
}

/// The present term.
#[derive(Clone, Debug)]
pub(crate) struct Tenure(Arc<Present>);

#[derive(Debug)]
struct Present {
    term: Mutex<Term>,
    /// Told of each new term. Not a watch channel, which wakes those who wait in an order of its own.
    begun: Notify,
    stop: CancellationToken,
}

impl Tenure {
    /// Takes a place in the store, and keeps it until `stop`.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn start(
        store: Arc<dyn IncidentStore>,
        ids: Arc<dyn IdSource>,
        lease: Duration,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, StoreError> {
        let keeper = Keeper { store, ids, lease, stop: stop.clone() };
        let (term, alive) = keeper.begin().await?;
        let present = Arc::new(Present { term: Mutex::new(term), begun: Notify::new(), stop });
        let kept = Arc::clone(&present);
        tasks.spawn(async move { keeper.keep(&kept, alive).await });
        Ok(Self(present))
    }

    /// Waits for a term that is not over; `None` when none will come.
    pub(crate) async fn begun(&self) -> Option<Term> {
        loop {
            let begun = self.0.begun.notified();
            let term = self.0.term();
            if !term.over.is_cancelled() {
                return Some(term);
            }
            self.0.stop.run_until_cancelled(begun).await?;
        }
    }
}

impl Present {
    fn term(&self) -> Term {
        self.term.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Keeper {
    store: Arc<dyn IncidentStore>,
    ids: Arc<dyn IdSource>,
    lease: Duration,
    stop: CancellationToken,
}

impl Keeper {
    /// A first heart-beat under a new id.
    async fn begin(&self) -> Result<(Term, watch::Sender<Instant>), StoreError> {
        let coordinator = CoordinatorId(self.ids.new_id());
        // Counted from before the question: the store's own count begins later.
        let sent = Instant::now();
        self.store.renew(coordinator, self.lease).await?;
        let (alive, alive_until) = watch::channel(sent + self.lease);
        info!(%coordinator, "this coordinator has a place in the store");
        Ok((Term { coordinator, over: self.stop.child_token(), alive_until }, alive))
    }

    async fn keep(self, present: &Present, mut alive: watch::Sender<Instant>) {
        loop {
            let term = present.term();
            if self.stop.run_until_cancelled(self.renew(&term, &alive)).await.is_none() {
                break;
            }
            term.over.cancel();
            let begun = loop {
                match self.stop.run_until_cancelled(self.begin()).await {
                    None => break None,
                    Some(Ok(begun)) => break Some(begun),
                    Some(Err(error)) => {
                        error!(%error, "no place in the store, trying again");
                        self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                    }
                }
            };
            let Some((term, next)) = begun else { break };
            alive = next;
            *present.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
            present.begun.notify_waiters();
        }
        let coordinator = present.term().coordinator;
        // Others need not wait for the end of the lease. If this fails they do, and that is all.
        if let Ok(Err(error)) = tokio::time::timeout(self.lease, self.store.release(coordinator)).await {
            warn!(%coordinator, %error, "the leases were not given back");
        }
    }

    /// Renews until that comes too late.
    async fn renew(&self, term: &Term, alive: &watch::Sender<Instant>) {
        let coordinator = term.coordinator;
        let beat = self.lease / BEATS_PER_LEASE;
        loop {
            tokio::select! {
                biased;
                // Somebody was refused for a lost lease.
                () = term.over.cancelled() => return,
                () = tokio::time::sleep(beat) => {}
            }
            let sent = Instant::now();
            let until = *alive.borrow();
            match tokio::time::timeout_at(until.max(sent + beat), self.store.renew(coordinator, self.lease))
                .await
            {
                Ok(Ok(())) => {
                    alive.send_replace(sent + self.lease);
                    continue;
                }
                Ok(Err(error @ StoreError::LeaseLost { .. })) => {
                    warn!(%coordinator, %error, "the leases are lost; beginning anew");
                    return;
                }
                Ok(Err(error)) => warn!(%coordinator, %error, "the leases could not be renewed"),
                Err(_) => warn!(%coordinator, "the store did not answer in time"),
            }
            if Instant::now() >= until {
                warn!(%coordinator, "the leases have run out; beginning anew");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quell_service::{SystemClock, SystemIds};
    use quell_store::{MemoryStore, Work};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_renewal_ends_the_term_and_another_begins() {
        let store = Arc::new(MemoryStore::new());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds::new(Arc::new(SystemClock)));
        let keeping: Arc<dyn IncidentStore> = Arc::clone(&store) as Arc<dyn IncidentStore>;
        let lease = Duration::from_secs(6);
        let tenure = Tenure::start(keeping, ids, lease, stop.clone(), &tasks).await.unwrap();
        let first = tenure.begun().await.unwrap();
        assert!(first.is_surely_held());
        assert_eq!(store.claim(first.coordinator, &[Work::Correlation]).await.unwrap().len(), 1);
        // Nobody could renew for longer than the lease, by the store's clock.
        store.set_now(jiff::Timestamp::UNIX_EPOCH + lease * 2);
        first.over.cancelled().await;
        assert!(!first.is_surely_held());
        let second = tenure.begun().await.unwrap();
        assert_ne!(first.coordinator, second.coordinator);
        assert_eq!(store.claim(second.coordinator, &[Work::Correlation]).await.unwrap().len(), 1);
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
