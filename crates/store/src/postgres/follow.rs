//! Telling of changes, also of those that other coordinators made.
//!
//! A notification in each commit wakes the follower, and so does the clock: what counts is what it then reads. The committer tells
//! of its own appends, and of others' before them, so that whoever appended finds the change told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quell_incident::ids::{IncidentId, Revision};
use sqlx::PgConnection;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use uuid::Uuid;

use super::Shared;
use super::commit::jittered;
use super::load::Trouble;
use crate::store::{CHANGES_KEPT_MAX, Changed};

pub(super) const CHANNEL: &str = "quell_changes";
const POLL: Duration = Duration::from_secs(1);
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// A change and the record that made it.
pub(super) type Told = (u64, Changed);

/// Appends in records after one up to another. Of too many only the last: a listener has missed the others anyway.
pub(super) async fn appended_between(
    connection: &mut PgConnection,
    after: u64,
    up_to: u64,
) -> Result<Vec<Told>, Trouble> {
    let sql = "SELECT sequence, incident_id, revision + events - 1 FROM incident_events \
               WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence DESC LIMIT $3";
    let rows: Vec<(i64, Uuid, i64)> = sqlx::query_as(sql)
        .bind(after as i64)
        .bind(up_to as i64)
        .bind(CHANGES_KEPT_MAX as i64 + 1)
        .fetch_all(connection)
        .await?;
    let told = |(sequence, id, revision): (i64, Uuid, i64)| {
        let changed = Changed { incident_id: IncidentId(id), revision: Revision(revision as u64) };
        (sequence as u64, changed)
    };
    Ok(rows.into_iter().rev().map(told).collect())
}

/// Tells of changes in the journal's order, each once. `changes` are all in records after `from` up to `up_to`, or, where this
/// store has told of more meanwhile, at least those it has not told of.
pub(super) async fn tell(shared: &Shared, from: u64, up_to: u64, changes: impl Iterator<Item = Told>) {
    let _turn = shared.telling.lock().await;
    let told = shared.told.load(Ordering::SeqCst);
    debug_assert!(from <= up_to, "records come after the end before them");
    for (_, changed) in changes.filter(|(sequence, _)| *sequence > told) {
        // Nobody may be listening.
        let _ = shared.changed.send(changed);
    }
    shared.told.fetch_max(up_to, Ordering::SeqCst);
}

/// Looks for changes of others whenever it is woken, and every second.
pub(super) async fn run(shared: Arc<Shared>, wake: Arc<Notify>) {
    loop {
        // Also when nobody notifies: a notification is only ever a hint.
        let _ = tokio::time::timeout(POLL, wake.notified()).await;
        if let Err(trouble) = look(&shared).await {
            tracing::debug!(error = %trouble, "cannot look for changes of others");
        }
    }
}

async fn look(shared: &Shared) -> Result<(), Trouble> {
    let told = shared.told.load(Ordering::SeqCst);
    let mut connection = shared.pool.acquire().await?;
    let (head,): (i64,) =
        sqlx::query_as("SELECT sequence FROM journal_head").fetch_one(&mut *connection).await?;
    let head = head as u64;
    if head > told {
        let changes = appended_between(&mut connection, told, head).await?;
        tell(shared, told, head, changes.into_iter()).await;
    }
    Ok(())
}

/// Wakes the follower by notifications, for as long as the store is open.
pub(super) async fn listen(shared: Arc<Shared>, wake: Arc<Notify>) {
    let mut back_off = BACK_OFF_FIRST;
    loop {
        match listen_once(&shared, &wake, &mut back_off).await {
            Ok(()) => tracing::warn!("notifications were interrupted"),
            Err(trouble) => tracing::debug!(error = %trouble, "no notifications"),
        }
        tokio::time::sleep(jittered(back_off)).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

async fn listen_once(shared: &Shared, wake: &Notify, back_off: &mut Duration) -> Result<(), Trouble> {
    let mut listener = PgListener::connect_with(&shared.pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    *back_off = BACK_OFF_FIRST;
    // What came before it listened.
    wake.notify_one();
    while listener.try_recv().await?.is_some() {
        wake.notify_one();
    }
    wake.notify_one();
    Ok(())
}
