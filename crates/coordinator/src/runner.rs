//! Sees to what should be under way. Each incident that is not over and whose lease this coordinator holds has a worker: it looks at the
//! incident's duties, carries them out, tells the workflow what came of them, and waits for the next change or deadline. It keeps
//! nothing that a restart, or another coordinator, would miss: duties follow from the state.

mod carry_out;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use quell_incident::IncidentId;
use quell_incident::contract::{ProbeVerdict, StepOutcome};
use quell_incident::severity::Status;
use quell_incident::workflow::{self, Input};
use quell_store::{Lease, StoreError, Work};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::agents::Workers;
use crate::observe::AlertSource;
use crate::site::{By, ChangeError, Site};
use crate::tenure::{Tenure, Term};

/// After an error of the store, or of an agent that is asked again under the same key.
const PAUSE: Duration = Duration::from_millis(500);
/// After a worker ended by a panic.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(10);
/// How often incidents are looked for that nobody works on: their coordinator has died or stopped.
const CLAIM_EVERY: Duration = Duration::from_secs(1);
/// The same where nobody else works: only what this process could not claim while the store did not answer.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Incidents that are claimed at once.
const CLAIMS_MAX: usize = 1_024;

/// What is told instead of an answer that can never be stored, such as one that is too large. Asked again, the agent would say the
/// same.
fn cannot_be_stored(input: &Input, error: &StoreError) -> Option<Input> {
    let why = format!("the answer cannot be stored: {error}");
    match input {
        Input::Report { task, .. } | Input::Plan { task, .. } => {
            Some(Input::TaskFailed { task: task.clone(), why, for_good: true })
        }
        Input::StepOutcome { key, outcome } if !matches!(outcome, StepOutcome::Unknown { .. }) => {
            Some(Input::StepOutcome { key: key.clone(), outcome: StepOutcome::Unknown { why } })
        }
        Input::Probed { key, verdict } if !matches!(verdict, ProbeVerdict::CannotTell { .. }) => {
            Some(Input::Probed { key: key.clone(), verdict: ProbeVerdict::CannotTell { why } })
        }
        _ => None,
    }
}

/// By which right an incident's worker works.
#[derive(Clone)]
struct Holder {
    term: Term,
    lease: Lease,
}

/// Everything that carrying out needs.
pub(crate) struct Runner {
    site: Arc<Site>,
    agents: Arc<dyn Workers>,
    alertmanager: Option<AlertSource>,
    tenure: Tenure,
    /// In an order that is the same in every run, since they are woken in it.
    workers: Mutex<BTreeMap<IncidentId, Arc<Notify>>>,
    /// Incidents that have changed and have no worker here.
    unclaimed: Mutex<BTreeSet<IncidentId>>,
    to_claim: Notify,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Runner {
    /// A runner that works once [`Runner::start`] is called.
    pub(crate) fn new(
        site: Arc<Site>,
        agents: Arc<dyn Workers>,
        alertmanager: Option<AlertSource>,
        tenure: Tenure,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let (workers, unclaimed, to_claim) = (Mutex::default(), Mutex::default(), Notify::new());
        Arc::new(Self { site, agents, alertmanager, tenure, workers, unclaimed, to_claim, stop, tasks })
    }

    /// Takes up every incident that is not over and that nobody works on, now and from now on.
    pub(crate) fn start(self: &Arc<Self>) {
        let runner = Arc::clone(self);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let terms = async {
                while let Some(term) = runner.tenure.begun().await {
                    term.over.run_until_cancelled(runner.dispatch(&term)).await;
                }
            };
            stop.run_until_cancelled(terms).await;
        });
    }

    async fn dispatch(self: &Arc<Self>, term: &Term) {
        // Subscribed before anything is claimed, so that nothing falls between.
        let mut changes = self.site.store.changes();
        let every = if self.site.store.is_shared() { CLAIM_EVERY } else { LOOK_EVERY };
        let mut look = tokio::time::interval(every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Ok(changed) => self.wake(changed.incident_id),
                    Err(RecvError::Lagged(_)) => self.wake_workers(),
                    Err(RecvError::Closed) => return,
                },
                () = self.to_claim.notified() => self.claim_changed(term).await,
                _ = look.tick() => self.claim_unfinished(term).await,
            }
        }
    }

    /// After changes were missed; also those that closed meanwhile have to hear of it. What has no worker is found by looking.
    fn wake_workers(&self) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.values().for_each(|changed| changed.notify_one());
    }

    fn wake(&self, id: IncidentId) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = workers.get(&id) {
            return changed.notify_one();
        }
        drop(workers);
        self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.to_claim.notify_one();
    }

    async fn claim_changed(self: &Arc<Self>, term: &Term) {
        let changed = std::mem::take(&mut *self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut work = Vec::with_capacity(changed.len());
        for id in changed {
            match self.site.store.incident(id).await {
                Ok(Some(incident)) if incident.status() != Status::Closed => work.push(Work::Incident(id)),
                Ok(_) => {}
                // Looking for what nobody works on will find it.
                Err(error) => warn!(incident_id = %id, %error, "the incident could not be read"),
            }
        }
        if work.is_empty() {
            return;
        }
        let claimed = self.site.store.claim(term.coordinator, &work).await;
        self.employ_all(term, claimed);
    }

    async fn claim_unfinished(self: &Arc<Self>, term: &Term) {
        loop {
            let claimed = self.site.store.claim_unfinished(term.coordinator, CLAIMS_MAX).await;
            let more = claimed.as_ref().is_ok_and(|leases| leases.len() == CLAIMS_MAX);
            self.employ_all(term, claimed);
            if !more {
                return;
            }
        }
    }

    fn employ_all(self: &Arc<Self>, term: &Term, claimed: Result<Vec<Lease>, StoreError>) {
        match claimed {
            Ok(leases) => leases.into_iter().for_each(|lease| self.employ(term, lease)),
            Err(error @ StoreError::LeaseLost { .. }) => {
                warn!(%error, "the leases are lost");
                term.over.cancel();
            }
            Err(error) => error!(%error, "the runner waits for the store"),
        }
    }

    /// Lets a worker see to an incident.
    fn employ(self: &Arc<Self>, term: &Term, lease: Lease) {
        let Work::Incident(id) = lease.work else { return };
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = workers.get(&id) {
            // It ends, or goes on; either way it looks once more.
            return changed.notify_one();
        }
        let changed = Arc::new(Notify::new());
        workers.insert(id, Arc::clone(&changed));
        let (runner, term) = (Arc::clone(self), term.clone());
        self.tasks.spawn(async move {
            let worked = AssertUnwindSafe(runner.work(&term, lease, &changed)).catch_unwind();
            if let Some(Err(_)) = term.over.run_until_cancelled(worked).await {
                // The panic itself is in the log. It is taken up again, not at once.
                error!(incident_id = %id, "the incident's worker ended by a panic");
                term.over.run_until_cancelled(tokio::time::sleep(PAUSE_AFTER_PANIC)).await;
            }
            // A change between the last look and here finds no worker only after this line, and so starts a new one.
            runner.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if runner.stop.is_cancelled() {
                return;
            }
            match runner.site.store.incident(id).await {
                Ok(Some(incident)) if incident.status() == Status::Closed => {
                    if let Err(error) = runner.site.store.give_back(term.coordinator, &[lease.work]).await {
                        info!(incident_id = %id, %error, "the lease of a closed incident runs out by itself");
                    }
                }
                Ok(Some(_)) => runner.wake(id),
                _ => {}
            }
        });
    }

    /// Sees to one incident until it is over.
    async fn work(self: &Arc<Self>, term: &Term, lease: Lease, changed: &Notify) {
        let Work::Incident(id) = lease.work else { return };
        let holder = Holder { term: term.clone(), lease };
        let mut under_way: HashMap<String, AbortHandle> = HashMap::new();
        let mut carried_out: JoinSet<()> = JoinSet::new();
        // Duties that ended and may still be due: the store refused what they brought, or they panicked.
        let mut ended: HashSet<String> = HashSet::new();
        loop {
            let incident = match self.site.store.incident(id).await {
                Ok(Some(incident)) => incident,
                Ok(None) => return,
                Err(error @ (StoreError::UnknownEvent { .. } | StoreError::Damaged { .. })) => {
                    error!(incident_id = %id, %error, "the incident is left alone");
                    return;
                }
                Err(error) => {
                    warn!(incident_id = %id, %error, "waiting for the store");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if incident.status() == Status::Closed {
                return;
            }
            let duties = workflow::duties(&incident);
            let due = |key: &String| duties.iter().any(|duty| duty.key == *key);
            ended.retain(|key| due(key));
            under_way.retain(|key, task| {
                if !due(key) {
                    task.abort();
                }
                due(key)
            });
            for duty in duties {
                if under_way.contains_key(&duty.key) {
                    continue;
                }
                let (runner, key) = (Arc::clone(self), duty.key.clone());
                let again = ended.remove(&duty.key);
                let holder = holder.clone();
                let task = carried_out.spawn(async move {
                    if again {
                        tokio::time::sleep(PAUSE).await;
                    }
                    runner.wait_until(duty.not_before).await;
                    runner.carry_out(&holder, id, &duty).await;
                });
                under_way.insert(key, task);
            }
            let deadline = workflow::next_deadline(&incident);
            // Between two changes the store decides whether it stays in memory.
            drop(incident);
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = self.sleep_until(deadline) => self.tell(&holder, id, Input::Deadline, "workflow").await,
                Some(_) = carried_out.join_next() => {
                    ended.extend(under_way.extract_if(|_, task| task.is_finished()).map(|(key, _)| key));
                }
            }
        }
    }

    async fn sleep_until(&self, at: Option<Timestamp>) {
        let Some(at) = at else { return std::future::pending().await };
        loop {
            let span = at.duration_since(self.site.now());
            if !span.is_positive() {
                return;
            }
            // Clocks may be moved: look again at least every minute.
            tokio::time::sleep(span.unsigned_abs().min(Duration::from_secs(60))).await;
        }
    }

    /// Tells the workflow what happened. What does not fit is noted and changes nothing.
    async fn tell(&self, holder: &Holder, id: IncidentId, input: Input, actor: &str) {
        // A worker waits for most of its life: what is done meanwhile has its memory only while it is done.
        let mut told = Box::pin(self.site.change(id, &input, By::lease(actor, holder.lease))).await;
        if let Err(ChangeError::Store(error)) = &told
            && error.is_for_good()
            && let Some(instead) = cannot_be_stored(&input, error)
        {
            warn!(incident_id = %id, %error, "an answer is rejected for good");
            told = Box::pin(self.site.change(id, &instead, By::lease(actor, holder.lease))).await;
        }
        match told {
            Ok(_) => {}
            Err(ChangeError::Refused(refused)) => {
                info!(incident_id = %id, %refused, "noted, and nothing changed")
            }
            Err(ChangeError::Store(error @ StoreError::ClaimRefused { .. })) => {
                info!(incident_id = %id, %error, "another one came first, looking again");
            }
            Err(ChangeError::Store(error @ StoreError::LeaseLost { .. })) => {
                warn!(incident_id = %id, %error, "another coordinator sees to what this one had");
                holder.term.over.cancel();
            }
            Err(error) => {
                error!(incident_id = %id, %error, "what happened could not be stored, doing it again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
