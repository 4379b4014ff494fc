//! What the callers, the settler and the indexer of an embedded store share, and the decisions.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::Duration;

use quell_incident::Incident;
use quell_journal::{Journal, Record, Ticket};
use tokio::sync::{Semaphore, broadcast, oneshot, watch};

use super::change_records::ChangeRecords;
use super::documents::Documents;
use super::firing::AlertsHeld;
use super::handover::Handover;
use super::index::{self, Index, Trouble, Work};
use super::state::{AppendedChange, Change, Known, Listed, State};
use super::{Options, from_journal, record, replay};
use crate::append::{Append, MessageRecord, check_message, decide};
use crate::error::StoreError;
use crate::lease::Leases;
use crate::store::{CHANGES_KEPT_MAX, Changed};

/// By estimate.
pub(super) const READ_INCIDENTS_BYTES_MAX: usize = 8 << 20;

/// What blocks at once at the most: a thread more for each incident that is looked up in a storm costs memory and is no faster.
const QUERIES_MAX: usize = 8;

pub(super) struct Shared {
    pub(super) journal: Journal,
    pub(super) index_folder: PathBuf,
    pub(super) index_cache_bytes: u64,
    pub(super) held_bytes_max: usize,
    pub(super) rests_after: Duration,
    index_lag_changes_max: usize,
    /// Below this size nobody asks whether the index is larger than it has to be.
    pub(super) index_bloat_bytes_min: u64,
    /// How large it was when that was asked last.
    pub(super) index_bytes_looked_at: AtomicU64,
    /// None while it is being made anew.
    index: RwLock<Option<Arc<Index>>>,
    decisions: Mutex<Decisions>,
    /// Locked after the decisions. Its clock stands: a coordinator of this process dies with it.
    leases: Mutex<Leases>,
    durable: RwLock<State>,
    pub(super) settled: watch::Sender<Settled>,
    /// The last record that is in the index.
    pub(super) indexed: watch::Sender<u64>,
    pub(super) changed: broadcast::Sender<Changed>,
    pub(super) work: WorkQueue,
    /// A few that are not held and were asked for last.
    pub(super) read_incidents: Mutex<VecDeque<Arc<Incident>>>,
    /// For [`QUERIES_MAX`].
    pub(super) queries: Arc<Semaphore>,
    /// Where the alerts of held incidents fired.
    pub(super) alerts: AlertsHeld,
    pub(super) documents: Documents,
    pub(super) change_records: ChangeRecords,
    /// Received alerts that correlation has not taken yet.
    pub(super) handover: Handover,
    /// No batch was received after the first of these records up to the second: so that asking again and again does not read
    /// the same records again and again.
    pub(super) nothing_received: Mutex<(u64, u64)>,
    /// The same as in [`Decisions`], for those who do not decide.
    generation: AtomicU64,
}

/// The state ahead of the disk.
pub(super) struct Decisions {
    pub(super) state: State,
    /// Grows whenever what was in flight was given up.
    pub(super) generation: u64,
    /// The last record that a decision was submitted as.
    submitted: u64,
    /// Set when the journal failed for good.
    pub(super) failed: Option<quell_journal::Error>,
    /// None once the store is being closed.
    to_settle: Option<mpsc::Sender<ToSettle>>,
}

/// How far answers have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) generation: u64,
    pub(super) sequence: u64,
    pub(super) failed: bool,
}

/// What the settler is to do, in the journal's order.
pub(super) enum ToSettle {
    Submitted(Submitted),
    /// The journal is full: give up what is in flight, if that was not done since this generation.
    GiveUp(u64),
}

pub(super) struct Submitted {
    pub(super) ticket: Ticket,
    pub(super) generation: u64,
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<(), quell_journal::Error>>,
}

/// The answer to a decision, once it is durable.
pub(super) type Answer = oneshot::Receiver<Result<(), quell_journal::Error>>;

/// Why a decision was not submitted.
pub(super) struct Refusal {
    pub(super) error: StoreError,
    /// What was in flight: the refusal holds once that is settled and nothing was given up since.
    pub(super) generation: u64,
    pub(super) submitted: u64,
}

pub(super) enum Verdict {
    Submitted(Answer, Arc<Incident>),
    Refused(Refusal),
    /// The incident is not held, and it was not looked up or has changed since.
    LookUp,
}

impl Decisions {
    pub(super) fn submitted(&self) -> u64 {
        self.submitted
    }
}

impl Shared {
    pub(super) fn new(
        journal: Journal,
        index: Index,
        state: State,
        index_folder: PathBuf,
        options: &Options,
    ) -> (Self, mpsc::Receiver<ToSettle>) {
        let head = journal.last().sequence;
        let (to_settle, receiver) = mpsc::channel();
        let alerts = AlertsHeld::of(&state);
        let decisions = Decisions {
            state: state.clone(),
            generation: 0,
            submitted: head,
            failed: None,
            to_settle: Some(to_settle),
        };
        let shared = Self {
            journal,
            // The index is one of the store's folders.
            documents: Documents::new(index_folder.parent().unwrap_or(&index_folder)),
            change_records: ChangeRecords::new(index_folder.parent().unwrap_or(&index_folder)),
            index_folder,
            index_cache_bytes: options.index_cache_bytes,
            held_bytes_max: options.held_bytes_max,
            rests_after: options.rests_after,
            index_lag_changes_max: options.index_lag_changes_max,
            index_bloat_bytes_min: options.index_bloat_bytes_min,
            index_bytes_looked_at: AtomicU64::new(0),
            index: RwLock::new(Some(Arc::new(index))),
            decisions: Mutex::new(decisions),
            leases: Mutex::default(),
            durable: RwLock::new(state),
            settled: watch::Sender::new(Settled { generation: 0, sequence: head, failed: false }),
            indexed: watch::Sender::new(head),
            changed: broadcast::channel(CHANGES_KEPT_MAX).0,
            work: WorkQueue::default(),
            read_incidents: Mutex::default(),
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
            alerts,
            handover: Handover::new(head),
            nothing_received: Mutex::default(),
            generation: AtomicU64::new(0),
        };
        (shared, receiver)
    }

    pub(super) fn decisions(&self) -> MutexGuard<'_, Decisions> {
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn durable(&self) -> RwLockReadGuard<'_, State> {
        self.durable.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only the settler makes changes, and the indexer forgets.
    pub(super) fn change_durable<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.durable.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn index(&self) -> Option<Arc<Index>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_index(&self, index: Option<Index>) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index.map(Arc::new);
    }

    /// Reads the index; trouble with it has it made anew.
    pub(super) fn with_index<T>(
        &self,
        read: impl FnOnce(&Index) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let index = self.index().ok_or(StoreError::IndexAway)?;
        let result = replay::guarded(|| read(&index).map_err(replay::Obstacle::Index));
        result.map_err(|obstacle| self.overcome(obstacle))
    }

    pub(super) fn overcome(&self, obstacle: replay::Obstacle) -> StoreError {
        match obstacle {
            replay::Obstacle::Journal(error) => error,
            replay::Obstacle::Index(trouble) => {
                tracing::error!(
                    error = index::in_words(&trouble),
                    "the index is damaged and will be rebuilt"
                );
                self.work.suspect(trouble);
                StoreError::IndexAway
            }
        }
    }

    pub(super) fn close_submissions(&self) {
        self.decisions().to_settle = None;
    }

    /// Decides on an append and submits it.
    pub(super) fn decide(&self, append: &Append, payload: &[u8], looked_up: Option<&Known>) -> Verdict {
        let mut decisions = self.decisions();
        let (generation, submitted) = (decisions.generation, decisions.submitted);
        let refused = |error| Verdict::Refused(Refusal { error, generation, submitted });
        if let Err(error) = self.may_submit(&decisions) {
            return refused(error);
        }
        if let Err(error) = self.leases().check(append.fence.as_ref()) {
            return refused(error);
        }
        let stored = match self.stored(&decisions, append, looked_up) {
            Ok(Stored::Incident(known)) => known,
            Ok(Stored::NotAtHand) => return Verdict::LookUp,
            Err(error) => return refused(error),
        };
        let stored = match stored.as_ref().map(Known::readable).transpose() {
            Ok(stored) => stored,
            Err(error) => return refused(error),
        };
        let decided = match decide(append, stored, &decisions.state.ledger) {
            Ok(decided) => decided,
            Err(error) => return refused(error),
        };
        let incident_id = append.incident_id;
        let change = AppendedChange {
            known: Known::Readable(Arc::clone(&decided.incident)),
            first_revision: append.expected.next(),
            events: append.envelopes.len() as u64,
            before: stored.map(|incident| Listed::of(incident)),
            alerts_fired: append.alerts_fired(),
            message: append
                .message
                .clone()
                .map(|(key, content)| (key, MessageRecord { incident_id, content })),
            ledger: decided.ledger,
        };
        let change = Change::Appended(Box::new(change));
        match self.submit(&mut decisions, Record::new(record::APPENDED, payload), change) {
            Ok(answer) => Verdict::Submitted(answer, decided.incident),
            Err(error) => refused(error),
        }
    }

    /// The incident that an append is for, after the check that its message is new.
    fn stored(
        &self,
        decisions: &Decisions,
        append: &Append,
        looked_up: Option<&Known>,
    ) -> Result<Stored, StoreError> {
        if let Some((key, _)) = &append.message {
            let taken = match decisions.state.message(key) {
                Some(taken) => Some(taken),
                None => self.with_index(|index| index.message(key))?,
            };
            check_message(append.message.as_ref(), taken)?;
        }
        if let Some(known) = decisions.state.incident(append.incident_id) {
            return Ok(Stored::Incident(Some(known.clone())));
        }
        if decisions.state.is_dropped(append.incident_id) {
            return Ok(Stored::Incident(None));
        }
        // What is not held is in the index, or there is no such incident.
        let places = self.with_index(|index| index.places(append.incident_id))?;
        match (places.last(), looked_up) {
            (None, _) => Ok(Stored::Incident(None)),
            (Some(_), Some(Known::LeftAlone(left))) => Err(left.error()),
            (Some(last), Some(Known::Readable(incident))) if incident.revision.0 == last.last_revision() => {
                Ok(Stored::Incident(looked_up.cloned()))
            }
            (Some(_), _) => Ok(Stored::NotAtHand),
        }
    }

    pub(super) fn may_submit(&self, decisions: &Decisions) -> Result<(), StoreError> {
        if let Some(failed) = &decisions.failed {
            return Err(StoreError::Failed(failed.clone().into()));
        }
        if self.work.len() >= self.index_lag_changes_max { Err(StoreError::Overloaded) } else { Ok(()) }
    }

    /// Submits what was just decided; the mutex is still held, so that the journal has the order of the decisions.
    pub(super) fn submit(
        &self,
        decisions: &mut Decisions,
        record: Record,
        change: Change,
    ) -> Result<Answer, StoreError> {
        self.submit_with(decisions, record, |_| change).map(|(answer, _)| answer)
    }

    /// The same with a change that depends on the record's sequence, which is returned too.
    pub(super) fn submit_with(
        &self,
        decisions: &mut Decisions,
        record: Record,
        change: impl FnOnce(u64) -> Change,
    ) -> Result<(Answer, u64), StoreError> {
        let Some(to_settle) = &decisions.to_settle else { return Err(StoreError::Closed) };
        let ticket = match self.journal.submit(vec![record]) {
            Ok(ticket) => ticket,
            Err(error) => {
                if matches!(error, quell_journal::Error::Full { .. }) {
                    // The settler ends only after this sender is gone.
                    let _ = to_settle.send(ToSettle::GiveUp(decisions.generation));
                }
                return Err(from_journal("write to the journal", error));
            }
        };
        let sequence = ticket.first_sequence();
        let change = change(sequence);
        let (answer, receiver) = oneshot::channel();
        decisions.state.apply(sequence, &change);
        decisions.submitted = sequence;
        let submitted = Submitted { ticket, generation: decisions.generation, change, answer };
        if to_settle.send(ToSettle::Submitted(submitted)).is_err() {
            return Err(StoreError::Closed);
        }
        Ok((receiver, sequence))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// For the settler, under the mutex of the decisions.
    pub(super) fn next_generation(&self, decisions: &mut Decisions) -> u64 {
        decisions.generation += 1;
        // Not the head of the journal: received alerts are no decisions, and nobody settles them.
        decisions.submitted = self.settled.borrow().sequence;
        self.generation.store(decisions.generation, Ordering::SeqCst);
        decisions.generation
    }

    /// Somebody who does not decide has heard that the journal is full.
    pub(super) fn give_up(&self, generation: u64) {
        if let Some(to_settle) = &self.decisions().to_settle {
            let _ = to_settle.send(ToSettle::GiveUp(generation));
        }
    }
}

enum Stored {
    Incident(Option<Known>),
    /// It is to be looked up.
    NotAtHand,
}

/// Durable changes that wait for the index.
#[derive(Default)]
pub(super) struct WorkQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    suspect: Option<Trouble>,
    closed: bool,
}

/// What the indexer is to do next.
pub(super) enum Next {
    Apply(Vec<Work>),
    /// Nothing has come for a while.
    Nothing,
    Rebuild(Trouble),
    End,
}

impl WorkQueue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().work.len()
    }

    pub(super) fn push(&self, work: Work) {
        self.waiting().work.push_back(work);
        self.changed.notify_one();
    }

    pub(super) fn suspect(&self, trouble: Trouble) {
        self.waiting().suspect.get_or_insert(trouble);
        self.changed.notify_one();
    }

    /// Lets the indexer finish what waits and end.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_one();
    }

    /// Waits for something to do, not longer than this, and takes at most so many changes.
    pub(super) fn next(&self, changes_max: usize, within: Duration) -> Next {
        let mut waiting = self.waiting();
        loop {
            if let Some(trouble) = waiting.suspect.take() {
                return Next::Rebuild(trouble);
            }
            if !waiting.work.is_empty() {
                let changes = waiting.work.len().min(changes_max);
                return Next::Apply(waiting.work.drain(..changes).collect());
            }
            if waiting.closed {
                return Next::End;
            }
            let waited = self.changed.wait_timeout(waiting, within);
            let (again, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            waiting = again;
            if waited.timed_out() {
                return Next::Nothing;
            }
        }
    }

    /// Waits until the time is over or the queue is closed; whether it is closed.
    pub(super) fn closed_within(&self, time: Duration) -> bool {
        let waiting = self.waiting();
        let waited = self.changed.wait_timeout_while(waiting, time, |waiting| !waiting.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}
