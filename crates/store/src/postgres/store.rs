//! The trait over the parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::event::{EVENT_VERSION, Envelope};
use quell_incident::gate::{CoolDown, LockState, SiteGates, Throw};
use quell_incident::ids::{Digest, FencingToken, GateEpoch, IncidentId, TargetName};
use quell_incident::{AlertKey, Incident};
use tokio::sync::{broadcast, oneshot};
use uuid::Uuid;

use super::batch::Asked;
use super::read::failed;
use super::{PostgresStore, commit, database, load};
use crate::append::{Append, MessageKey, MessageRecord, Received, ReceivedPosition};
use crate::change_record::{ChangeQuery, ReceivedChange};
use crate::embedded::record;
use crate::embedded::state::Known;
use crate::error::StoreError;
use crate::lease::{CoordinatorId, Lease, Work};
use crate::ledger::{Ledger, raised};
use crate::list::{ListQuery, Page};
use crate::retention::{ChainHead, Retained, Retention, RetentionBudget};
use crate::store::{Changed, IncidentStore, check_document, no_such_incident};

const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// What the functions of the schema raise for a coordinator that is not alive.
const NOT_ALIVE: &str = "QL001";
/// SQLSTATE foreign_key_violation.
const FOREIGN_KEY_VIOLATION: &str = "23503";

async fn answered<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.await.unwrap_or(Err(StoreError::Closed))
}

impl PostgresStore {
    async fn leases(
        &self,
        coordinator: CoordinatorId,
        claim: sqlx::query::QueryAs<'_, sqlx::Postgres, (Uuid, i64), sqlx::postgres::PgArguments>,
    ) -> Result<Vec<Lease>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let mut rows = match claim.fetch_all(&mut *connection).await {
            Ok(rows) => rows,
            Err(error) if database::code(&error).as_deref() == Some(NOT_ALIVE) => {
                return Err(StoreError::LeaseLost { coordinator, work: None });
            }
            Err(error) => return Err(database::of("claim work", &error)),
        };
        // Tokens of what was just taken grow in the order in which it was asked for.
        rows.sort_by_key(|(_, token)| *token);
        Ok(rows.into_iter().map(|(work, token)| load::lease_of(work, coordinator, token)).collect())
    }
}

#[async_trait]
impl IncidentStore for PostgresStore {
    async fn receive(&self, received: Received) -> Result<ReceivedPosition, StoreError> {
        let payload = record::encode_received(&received)?;
        let (answer, receiver) = oneshot::channel();
        let bytes = payload.len();
        self.ask(Asked::Receive { at: received.at, payload: payload.into(), answer }, bytes)?;
        answered(receiver).await
    }

    async fn received_after(
        &self,
        after: ReceivedPosition,
        batches_max: usize,
    ) -> Result<Vec<(ReceivedPosition, Received)>, StoreError> {
        self.shared.received_after(after, batches_max).await
    }

    async fn correlated(&self) -> Result<ReceivedPosition, StoreError> {
        Ok(self.shared.head().await?.correlated)
    }

    async fn set_correlated(&self, up_to: ReceivedPosition, fence: Option<&Lease>) -> Result<(), StoreError> {
        let (answer, receiver) = oneshot::channel();
        self.ask(Asked::Correlated { up_to, fence: fence.copied(), answer }, 0)?;
        answered(receiver).await
    }

    async fn append(&self, append: Append) -> Result<Arc<Incident>, StoreError> {
        append.check()?;
        let payload = record::encode_append(&append)?;
        let (answer, receiver) = oneshot::channel();
        let bytes = payload.len();
        let append = Box::new(append);
        self.ask(Asked::Append { append, payload: payload.into(), answer }, bytes)?;
        answered(receiver).await
    }

    async fn incident(&self, id: IncidentId) -> Result<Option<Arc<Incident>>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let found = load::incidents(&mut connection, &[id], &self.shared.cache).await;
        let mut found = found.map_err(failed("read an incident"))?;
        found.remove(&id).as_ref().map(Known::readable).transpose().map(|incident| incident.cloned())
    }

    async fn log(&self, id: IncidentId) -> Result<Vec<Envelope>, StoreError> {
        self.shared.log(id).await
    }

    async fn put_document(&self, incident: IncidentId, document: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = check_document(&document)?;
        let mut connection = self.shared.reader().await?;
        let sql = "INSERT INTO documents (incident_id, digest, document) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let digest_bytes = digest.as_bytes().as_slice();
        let stored = sqlx::query(sql)
            .bind(incident.0)
            .bind(digest_bytes)
            .bind(document)
            .execute(&mut *connection)
            .await;
        match stored {
            Ok(_) => Ok(digest),
            Err(error) if database::code(&error).as_deref() == Some(FOREIGN_KEY_VIOLATION) => {
                Err(no_such_incident(incident))
            }
            Err(error) => Err(database::of("write a document", &error)),
        }
    }

    async fn document(&self, incident: IncidentId, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let sql = "SELECT document FROM documents WHERE incident_id = $1 AND digest = $2";
        let found: Option<(Vec<u8>,)> = sqlx::query_as(sql)
            .bind(incident.0)
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| database::of("read a document", &error))?;
        match found {
            Some((document,)) if Digest::of_bytes(&document) != digest => {
                let why = format!("document {digest} is not what was written");
                Err(StoreError::Damaged { incident_id: incident, why })
            }
            found => Ok(found.map(|(document,)| document)),
        }
    }

    async fn put_change_records(&self, changes: Vec<ReceivedChange>) -> Result<usize, StoreError> {
        self.shared.put_change_records(&changes).await
    }

    async fn change_records(&self, query: &ChangeQuery) -> Result<Vec<ReceivedChange>, StoreError> {
        self.shared.change_records(query).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.shared.list(query).await
    }

    async fn incident_of_alert(&self, key: &AlertKey) -> Result<Option<IncidentId>, StoreError> {
        self.shared.incident_of_alert(key).await
    }

    async fn incidents_of_alerts(&self, keys: &[AlertKey]) -> Result<Vec<Option<IncidentId>>, StoreError> {
        self.shared.incidents_of_alerts(keys).await
    }

    async fn unfinished(&self) -> Result<Vec<IncidentId>, StoreError> {
        self.shared.unfinished().await
    }

    async fn site_gates(&self) -> Result<SiteGates, StoreError> {
        self.shared.site().await
    }

    async fn set_kill_switch(&self, expected: GateEpoch, throw: Throw) -> Result<SiteGates, StoreError> {
        let (answer, receiver) = oneshot::channel();
        self.ask(Asked::Switch { expected, throw, answer }, 0)?;
        answered(receiver).await
    }

    async fn locks(&self, targets: &[TargetName]) -> Result<BTreeMap<TargetName, LockState>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let names: Vec<&str> = targets.iter().map(TargetName::as_str).collect();
        let mut found = load::locks(&mut connection, &names).await.map_err(failed("read locks"))?;
        let sql = "SELECT tokens_above FROM journal_head";
        let row = sqlx::query_as(sql).fetch_one(&mut *connection).await;
        let (tokens_above,): (i64,) = row.map_err(failed("read locks"))?;
        let tokens_above = FencingToken(tokens_above as u64);
        let lock = |target: &TargetName| {
            (target.clone(), raised(found.remove(target).unwrap_or_default(), tokens_above))
        };
        Ok(targets.iter().map(lock).collect())
    }

    async fn cool_downs(
        &self,
        class: &str,
        targets: &[TargetName],
        now: Timestamp,
    ) -> Result<Vec<CoolDown>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let stored =
            load::cool_downs_of(&mut connection, targets).await.map_err(failed("read cool-downs"))?;
        let mut ledger = Ledger::default();
        for cool_down in &stored {
            ledger.set_cool_down(cool_down);
        }
        Ok(ledger.cool_downs(class, targets, now))
    }

    async fn message(&self, key: &MessageKey) -> Result<Option<MessageRecord>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let found = load::messages(&mut connection, std::iter::once(key)).await;
        Ok(found.map_err(failed("look for a message"))?.remove(key))
    }

    async fn retain(
        &self,
        retention: &Retention,
        now: Timestamp,
        budget: &RetentionBudget,
    ) -> Result<Retained, StoreError> {
        Box::pin(self.retain_within(retention, now, budget)).await
    }

    async fn chain_head(&self) -> Result<Option<ChainHead>, StoreError> {
        Ok(Some(ChainHead { journal_id: self.journal_id(), head: self.head().await? }))
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn renew(&self, coordinator: CoordinatorId, for_: Duration) -> Result<(), StoreError> {
        let mut connection = self.shared.reader().await?;
        let sql = "INSERT INTO coordinators AS c (id, until) \
                   VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond') \
                   ON CONFLICT (id) DO UPDATE SET until = excluded.until WHERE c.until > clock_timestamp() RETURNING id";
        // A century is as good as for ever, and no date overflows.
        let milliseconds = for_.as_millis().min(3_155_760_000_000) as i64;
        let renewed: Option<(Uuid,)> = sqlx::query_as(sql)
            .bind(coordinator.0)
            .bind(milliseconds)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("renew leases"))?;
        renewed.map(|_| ()).ok_or(StoreError::LeaseLost { coordinator, work: None })
    }

    async fn claim(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<Vec<Lease>, StoreError> {
        let work: Vec<Uuid> = work.iter().map(|work| load::work_id(*work)).collect();
        let claim = sqlx::query_as("SELECT leased_work, leased_token FROM claim_work($1, $2)");
        self.leases(coordinator, claim.bind(coordinator.0).bind(work)).await
    }

    async fn claim_unfinished(
        &self,
        coordinator: CoordinatorId,
        max: usize,
    ) -> Result<Vec<Lease>, StoreError> {
        let claim = sqlx::query_as("SELECT leased_work, leased_token FROM claim_unfinished($1, $2, $3)");
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        self.leases(coordinator, claim.bind(coordinator.0).bind(max).bind(i32::from(EVENT_VERSION))).await
    }

    async fn give_back(&self, coordinator: CoordinatorId, work: &[Work]) -> Result<(), StoreError> {
        let mut connection = self.shared.reader().await?;
        let work: Vec<Uuid> = work.iter().map(|work| load::work_id(*work)).collect();
        let sql = "DELETE FROM leases WHERE coordinator = $1 AND work = ANY($2)";
        sqlx::query(sql)
            .bind(coordinator.0)
            .bind(work)
            .execute(&mut *connection)
            .await
            .map_err(failed("give leases back"))?;
        Ok(())
    }

    async fn release(&self, coordinator: CoordinatorId) -> Result<(), StoreError> {
        let mut connection = self.shared.reader().await?;
        sqlx::query("DELETE FROM coordinators WHERE id = $1")
            .bind(coordinator.0)
            .execute(&mut *connection)
            .await
            .map_err(failed("release leases"))?;
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Changed> {
        self.shared.changed.subscribe()
    }

    async fn health(&self) -> Result<(), StoreError> {
        if self.shared.away.load(Ordering::SeqCst) {
            return Err(commit::away());
        }
        let looking = async {
            let mut connection = self.shared.pool.acquire().await?;
            sqlx::query_as::<_, (bool,)>("SELECT pg_is_in_recovery()").fetch_one(&mut *connection).await
        };
        let (is_standby,) =
            database::within(HEALTH_TIMEOUT, looking).await.map_err(failed("ask the database"))?;
        match is_standby {
            true => Err(StoreError::Unavailable("the server is a standby".into())),
            false => Ok(()),
        }
    }
}
