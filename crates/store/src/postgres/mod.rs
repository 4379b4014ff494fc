//! The store of several coordinators in one PostgreSQL database.
//!
//! ```text
//! receive, append, ... --> queue --> committer: one transaction for all that waits --> answers, `changes`
//!                                      lock the journal's end, load, decide, write, commit
//! ```
//!
//! **Order.** Whoever writes to the journal locks its end first, so the writers of all coordinators stand in one line, and what a
//! transaction has loaded is as it will be when it commits. Each request is decided by the very functions that the other backends
//! use; one that is refused does not keep the others back.
//!
//! **The journal** has the same records and the same hash chain as the embedded store's: records go from one to the other. All other
//! tables follow from it and change in the same transaction; an incident itself is folded from its records, and kept in memory by
//! the chain hash of the last of them.
//!
//! **Alone.** A store that finds the journal's end where it had left it writes what is received in one statement, on the condition
//! that it is still there; if not, nothing is written and the transaction above is made.
//!
//! **Failure.** A transaction that is lost before its commit is tried again; one whose commit was never answered is looked for,
//! and its requests wait until that is known. While the database is away requests are refused as [`StoreError::Unavailable`].
//!
//! **Leases.** A lease is a row that is held while its coordinator's row is alive, by the database's clock. A fenced append locks the
//! lease's row until its commit, so nobody takes over in between; a claim is one statement, so nobody stops in the middle of one.

mod audit;
mod batch;
mod cache;
mod change_records;
mod commit;
mod database;
mod follow;
mod import;
mod load;
mod read;
mod retain;
mod store;
mod transfer;
mod world;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quell_journal::ChainHash;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) use self::audit::{JournalReader, RawRecord};
use self::batch::{Asked, Request};
use self::cache::Cache;
use self::commit::Committer;
pub use self::import::Import;
pub(crate) use self::transfer::Postgres;
use crate::error::StoreError;
use crate::store::{CHANGES_KEPT_MAX, Changed};

/// Connections for readers and for notifications; the committer has one of its own.
const POOL_CONNECTIONS_MAX: u32 = 7;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
const QUEUE_REQUESTS_MAX: usize = 4_096;
/// What may wait is counted in these.
const PERMIT_BYTES: usize = 1_024;
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// As in the embedded store.
const RECORD_BYTES_MAX: usize = 16 << 20;

struct Shared {
    pool: PgPool,
    cache: Cache,
    changed: broadcast::Sender<Changed>,
    /// Up to which record changes were told; changed only by whoever holds `telling`.
    told: AtomicU64,
    telling: tokio::sync::Mutex<()>,
    /// The committer has no connection.
    away: AtomicBool,
}

/// Keeps everything in one PostgreSQL database, for any number of coordinators.
///
/// Needs a running tokio. What was asked before it is dropped is still carried out.
pub struct PostgresStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
    may_wait: Arc<Semaphore>,
    journal_id: Uuid,
    options: PgConnectOptions,
    followers: [JoinHandle<()>; 2],
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PostgresStore").field("journal_id", &self.journal_id).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, brings the schema up, and gives a new database the identity of its journal. Several may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database does not answer; [`StoreError::NewerSchema`]; [`StoreError::Database`] for all
    /// else that keeps it from being used. No error has the address, which has the password.
    pub async fn open(url: &str, new_journal_id: Uuid) -> Result<Self, StoreError> {
        let options = database::connect_options(url)?;
        database::migrate(&options).await?;
        let committing = database::for_purpose(&options, "commit");
        let not_open = |error| database::of("open the database", &error);
        let mut connection = database::connect(&committing).await.map_err(not_open)?;
        let sql = "INSERT INTO journal_head (journal_id, sequence, chain_hash, correlated, site) \
                   VALUES ($1, 0, $2, 0, $3) ON CONFLICT DO NOTHING";
        let site = serde_json::to_string(&quell_incident::gate::SiteGates::default());
        sqlx::query(sql)
            .bind(new_journal_id)
            .bind(&ChainHash::genesis(new_journal_id).as_bytes()[..])
            .bind(site.map_err(|error| StoreError::unsound(error.to_string()))?)
            .execute(&mut connection)
            .await
            .map_err(not_open)?;
        let sql = "SELECT journal_id, sequence FROM journal_head";
        let (journal_id, sequence): (Uuid, i64) =
            sqlx::query_as(sql).fetch_one(&mut connection).await.map_err(not_open)?;

        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(database::for_purpose(&options, "read"));
        let shared = Arc::new(Shared {
            pool,
            cache: Cache::default(),
            changed: broadcast::channel(CHANGES_KEPT_MAX).0,
            told: AtomicU64::new(sequence as u64),
            telling: tokio::sync::Mutex::default(),
            away: AtomicBool::new(false),
        });
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let committer = Committer {
            shared: Arc::clone(&shared),
            queue: requests,
            options: committing,
            connection: Some(connection),
            head: None,
            last: sequence as u64,
            others_write: 0,
        };
        tokio::spawn(committer.run());
        let wake = Arc::new(Notify::new());
        let followers = [
            tokio::spawn(follow::run(Arc::clone(&shared), Arc::clone(&wake))),
            tokio::spawn(follow::listen(Arc::clone(&shared), wake)),
        ];
        let may_wait = Arc::new(Semaphore::new(QUEUE_BYTES_MAX / PERMIT_BYTES));
        Ok(Self { shared, queue, may_wait, journal_id, options, followers })
    }

    /// The identity of the journal: where its chain begins.
    pub fn journal_id(&self) -> Uuid {
        self.journal_id
    }

    /// Hands a request to the committer.
    fn ask(&self, asked: Asked, bytes: usize) -> Result<(), StoreError> {
        if bytes > RECORD_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes, bytes_max: RECORD_BYTES_MAX });
        }
        if self.shared.away.load(Ordering::SeqCst) {
            return Err(commit::away());
        }
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.may_wait).try_acquire_many_owned(permits);
        let permit = permit.map_err(|_| StoreError::Overloaded)?;
        self.queue.try_send(Request { asked, bytes, _permit: permit }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        for follower in &self.followers {
            follower.abort();
        }
    }
}
