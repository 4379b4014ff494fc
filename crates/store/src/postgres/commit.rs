//! The committer: one task that carries all that waits in one transaction after the other.
//!
//! While one transaction runs the next requests gather. There are never two in flight, so requests that wait at the same time
//! share a commit, and a store never waits for itself.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quell_journal::ChainHash;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::mpsc;

use super::batch::{Attempt, Decided, Request, attempt};
use super::database::{connect, is_away, of, within};
use super::load::{self, Trouble};
use super::world::Head;
use super::{Shared, follow};
use crate::error::StoreError;

const BATCH_REQUESTS_MAX: usize = 1_024;
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How often a transaction is tried again when its connection was lost before the commit.
const ATTEMPTS_MAX: u32 = 3;
/// For so many transactions after one that found another end than this store had left.
const OTHERS_WRITE_TRANSACTIONS: u32 = 16;
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// The transaction that is looked for may still hold the journal's end until the server notices that its client has gone.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Request>,
    pub(super) options: PgConnectOptions,
    pub(super) connection: Option<PgConnection>,
    /// The journal's end after the last transaction of this store.
    pub(super) head: Option<Head>,
    /// Its sequence, kept also when that is not known for sure any more.
    pub(super) last: u64,
    /// In so many transactions nothing is made of it, as others write as well.
    pub(super) others_write: u32,
}

impl Committer {
    /// Runs until nobody can ask any more and everything is answered.
    pub(super) async fn run(mut self) {
        let mut held_over = None;
        loop {
            let first = match held_over.take() {
                Some(request) => Some(request),
                None => self.queue.recv().await,
            };
            let Some(first) = first else { return };
            let mut bytes = first.bytes;
            let mut batch = vec![first];
            while batch.len() < BATCH_REQUESTS_MAX
                && let Ok(request) = self.queue.try_recv()
            {
                bytes += request.bytes;
                if bytes > BATCH_BYTES_MAX {
                    held_over = Some(request);
                    break;
                }
                batch.push(request);
            }
            self.carry(batch).await;
        }
    }

    async fn carry(&mut self, batch: Vec<Request>) {
        let shared = Arc::clone(&self.shared);
        for attempts in 1.. {
            // Whatever goes wrong, it is to be looked up again.
            let known = self.head.take().filter(|_| self.others_write == 0 && attempts == 1);
            let connection = match self.connected().await {
                Ok(connection) => connection,
                Err(trouble) => {
                    tracing::error!(error = %trouble, "the database is away");
                    refuse(batch, &trouble);
                    self.come_back().await;
                    return;
                }
            };
            let told = shared.told.load(Ordering::SeqCst);
            let attempt = Box::pin(attempt(connection, &batch, &shared.cache, told, known.as_ref())).await;
            let trouble = match attempt {
                Attempt::Committed(decided) => {
                    self.learn(&decided);
                    return self.answer(batch, decided).await;
                }
                Attempt::Failed(trouble) => {
                    self.connection = None;
                    trouble
                }
                Attempt::Unknown(decided, trouble) => {
                    self.connection = None;
                    tracing::warn!(error = %trouble, "the answer to a commit never came; looking whether it was made");
                    // There may have been nothing to be stored.
                    let Some((sequence, chain_hash)) = decided.last else {
                        return self.answer(batch, decided).await;
                    };
                    let stored = match self.look(sequence, chain_hash).await {
                        Ok(stored) => stored,
                        // Whoever sends alerts sends them again, and taking them twice changes nothing: nobody waits for a database.
                        Err(trouble) if batch.iter().all(Request::is_received) => {
                            tracing::error!(error = %trouble, "the database is away");
                            refuse(batch, &trouble);
                            return self.come_back().await;
                        }
                        Err(_) => self.is_stored(sequence, chain_hash).await,
                    };
                    if stored {
                        return self.answer(batch, decided).await;
                    }
                    trouble
                }
            };
            if is_away(&trouble) && attempts < ATTEMPTS_MAX {
                tracing::warn!(error = %trouble, "a transaction was lost and is tried again");
                continue;
            }
            if !is_away(&trouble) && batch.len() > 1 {
                // One of them may be what the database does not take: the others are not to suffer.
                for request in batch {
                    Box::pin(self.carry(vec![request])).await;
                }
                return;
            }
            tracing::error!(error = %trouble, requests = batch.len(), "a transaction failed");
            return refuse(batch, &trouble);
        }
    }

    /// Notes where the journal ends now. Where others write too, it is seldom still so when it is needed.
    fn learn(&mut self, decided: &Decided) {
        self.others_write = match self.last == decided.after {
            true => self.others_write.saturating_sub(1),
            false => OTHERS_WRITE_TRANSACTIONS,
        };
        self.last = decided.head.sequence;
        self.head = Some(decided.head.clone());
    }

    async fn answer(&self, batch: Vec<Request>, decided: Decided) {
        decided.keep(&self.shared.cache);
        let Decided { outcomes, writes, last, after, by_others, .. } = decided;
        if let Some((last, _)) = last
            && !writes.changed.is_empty()
        {
            let own = writes.changed.into_iter();
            follow::tell(&self.shared, after, last, by_others.into_iter().chain(own)).await;
        }
        for (request, outcome) in batch.into_iter().zip(outcomes) {
            request.answer(outcome);
        }
    }

    async fn connected(&mut self) -> Result<&mut PgConnection, Trouble> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.options).await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Connects again, for as long as it takes; what is asked meanwhile is refused at once.
    async fn come_back(&mut self) {
        self.shared.away.store(true, Ordering::SeqCst);
        let mut back_off = BACK_OFF_FIRST;
        loop {
            let pause = tokio::time::sleep(jittered(back_off));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    request = self.queue.recv() => match request {
                        Some(request) => request.refuse(away()),
                        // The store is closed: there is nobody left to come back for.
                        None => return,
                    },
                }
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
            match self.connected().await {
                Ok(_) => break,
                Err(trouble) => tracing::debug!(error = %trouble, "the database is still away"),
            }
        }
        tracing::info!("the database is back");
        self.shared.away.store(false, Ordering::SeqCst);
    }

    /// Whether a record of which nobody knows is stored, for as long as it takes.
    async fn is_stored(&mut self, sequence: u64, chain_hash: ChainHash) -> bool {
        loop {
            self.come_back().await;
            if self.connection.is_none() {
                // Closed before it was known: nobody waits for the answer any more.
                return false;
            }
            if let Ok(stored) = self.look(sequence, chain_hash).await {
                return stored;
            }
        }
    }

    /// The same, once. The journal's end is locked first: the transaction that wrote it holds that until it is over, one way or the
    /// other.
    async fn look(&mut self, sequence: u64, chain_hash: ChainHash) -> Result<bool, Trouble> {
        let connection = self.connected().await?;
        let found = within(LOOK_TIMEOUT, look(connection, sequence, chain_hash)).await;
        found.inspect_err(|trouble| {
            tracing::warn!(error = %trouble, "cannot look for the commit");
            self.connection = None;
        })
    }
}

async fn look(connection: &mut PgConnection, sequence: u64, chain_hash: ChainHash) -> Result<bool, Trouble> {
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
    load::lock_head(connection).await?;
    let sql = "SELECT chain_hash FROM journal WHERE sequence = $1";
    let found: Option<(Vec<u8>,)> =
        sqlx::query_as(sql).bind(sequence as i64).fetch_optional(&mut *connection).await?;
    sqlx::raw_sql("ROLLBACK").execute(connection).await?;
    Ok(found.is_some_and(|(found,)| found == chain_hash.as_bytes()))
}

pub(super) fn away() -> StoreError {
    StoreError::Unavailable("it cannot be connected to".into())
}

/// One failure is told to many.
fn refuse(batch: Vec<Request>, trouble: &Trouble) {
    for request in batch {
        request.refuse(of("write to the database", trouble));
    }
}

/// Between half of it and all of it, so that not all come back at the same instant.
pub(super) fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let share = RandomState::new().hash_one(0_u8) % 1_000;
    half + half.mul_f64(share as f64 / 1_000.0)
}
