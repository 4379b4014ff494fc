//! Loading, within the transaction and for readers.

use std::collections::{BTreeMap, HashMap};

use quell_incident::gate::{CoolDown, LockState};
use quell_incident::ids::{FencingToken, IncidentId, TargetName};
use quell_journal::ChainHash;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::cache::Cache;
use super::world::{Head, Needs, World};
use crate::append::{MessageKey, MessageRecord, ReceivedPosition};
use crate::embedded::state::{Known, LeftAlone};
use crate::embedded::{keys, record};
use crate::lease::{CoordinatorId, Lease, Work};

/// Why something could not be loaded.
pub(super) type Trouble = sqlx::Error;

pub(super) fn damaged(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Trouble {
    sqlx::Error::Decode(why.into())
}

pub(super) fn chain_hash(bytes: &[u8]) -> Result<ChainHash, Trouble> {
    let bytes = bytes.try_into().map_err(|_| damaged("a chain hash has 32 bytes"))?;
    Ok(ChainHash::from_bytes(bytes))
}

type HeadRow = (i64, Vec<u8>, i64, String, i64);

pub(super) fn head_of((sequence, chain, correlated, site, tokens_above): HeadRow) -> Result<Head, Trouble> {
    Ok(Head {
        sequence: sequence as u64,
        chain_hash: chain_hash(&chain)?,
        correlated: ReceivedPosition(correlated as u64),
        site: serde_json::from_str(&site).map_err(damaged)?,
        tokens_above: FencingToken(tokens_above as u64),
    })
}

/// Locks the journal's end until the transaction is over: nobody else writes.
pub(super) async fn lock_head(connection: &mut PgConnection) -> Result<Head, Trouble> {
    let sql = "SELECT sequence, chain_hash, correlated, site, tokens_above FROM journal_head FOR UPDATE";
    head_of(sqlx::query_as(sql).fetch_one(connection).await?)
}

/// The same in a transaction that begins with it: the server is asked once.
pub(super) async fn begin_and_lock_head(connection: &mut PgConnection) -> Result<Head, Trouble> {
    let sql = "BEGIN ISOLATION LEVEL READ COMMITTED; \
               SELECT sequence, chain_hash, correlated, site, tokens_above FROM journal_head FOR UPDATE";
    let row = sqlx::raw_sql(sql).fetch_one(connection).await?;
    head_of((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
}

/// Loads what requests need. The head is locked, so all of it is as it will be when the transaction commits.
pub(super) async fn load(
    connection: &mut PgConnection,
    world: &mut World,
    needs: &Needs,
    cache: &Cache,
) -> Result<(), Trouble> {
    if !needs.leases.is_empty() {
        world.leases = leases(connection, &needs.leases).await?.into_iter().collect();
    }
    if !needs.messages.is_empty() {
        world.messages = messages(connection, needs.messages.iter()).await?;
    }
    if !needs.targets.is_empty() {
        let targets: Vec<_> = needs.targets.iter().map(TargetName::as_str).collect();
        for (target, lock) in locks(connection, &targets).await? {
            world.ledger.set_lock(target, lock);
        }
    }
    if needs.cool_downs {
        for (document,) in sqlx::query_as::<_, (String,)>("SELECT document FROM cool_downs")
            .fetch_all(&mut *connection)
            .await?
        {
            world.ledger.set_cool_down(&serde_json::from_str(&document).map_err(damaged)?);
        }
    }
    if !needs.incidents.is_empty() {
        let ids: Vec<_> = needs.incidents.iter().copied().collect();
        world.incidents = incidents(connection, &ids, cache).await?;
    }
    Ok(())
}

/// Those of the leases that are held. Their rows are locked, so that nobody takes them over before the transaction is over.
async fn leases(connection: &mut PgConnection, wanted: &[Lease]) -> Result<Vec<Lease>, Trouble> {
    let mut work: Vec<_> = wanted.iter().map(|lease| work_id(lease.work)).collect();
    work.sort_unstable();
    work.dedup();
    let sql = "SELECT l.work, l.coordinator, l.token FROM leases l JOIN coordinators c ON c.id = l.coordinator \
               WHERE l.work = ANY($1) AND c.until > clock_timestamp() ORDER BY l.work FOR SHARE OF l";
    let rows: Vec<(Uuid, Uuid, i64)> = sqlx::query_as(sql).bind(work).fetch_all(connection).await?;
    let lease = |(work, coordinator, token)| lease_of(work, CoordinatorId(coordinator), token);
    Ok(rows.into_iter().map(lease).collect())
}

pub(super) fn work_id(work: Work) -> Uuid {
    match work {
        Work::Correlation => Uuid::nil(),
        Work::Retention => Uuid::max(),
        Work::Incident(id) => id.0,
    }
}

pub(super) fn lease_of(work: Uuid, coordinator: CoordinatorId, token: i64) -> Lease {
    let work = match work {
        nil if nil.is_nil() => Work::Correlation,
        max if max.is_max() => Work::Retention,
        id => Work::Incident(IncidentId(id)),
    };
    Lease { work, coordinator, token: token as u64 }
}

pub(super) async fn messages(
    connection: &mut PgConnection,
    wanted: impl Iterator<Item = &MessageKey>,
) -> Result<HashMap<MessageKey, MessageRecord>, Trouble> {
    let by_key: HashMap<Vec<u8>, &MessageKey> = wanted.map(|key| (keys::message(key), key)).collect();
    let wanted: Vec<Vec<u8>> = by_key.keys().cloned().collect();
    let sql = "SELECT key, incident_id, content_digest FROM messages WHERE key = ANY($1)";
    let rows: Vec<(Vec<u8>, Uuid, String)> = sqlx::query_as(sql).bind(wanted).fetch_all(connection).await?;
    let mut found = HashMap::new();
    for (key, incident_id, content) in rows {
        let Some(key) = by_key.get(&key) else { continue };
        let content = content.parse().map_err(damaged)?;
        found.insert((*key).clone(), MessageRecord { incident_id: IncidentId(incident_id), content });
    }
    Ok(found)
}

pub(super) async fn locks(
    connection: &mut PgConnection,
    targets: &[&str],
) -> Result<BTreeMap<TargetName, LockState>, Trouble> {
    let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
    let sql = "SELECT target, token, holder FROM locks WHERE target = ANY($1)";
    let rows: Vec<LockRow> = sqlx::query_as(sql).bind(targets).fetch_all(connection).await?;
    rows.into_iter().map(lock_of).collect()
}

pub(super) async fn all_locks(
    connection: &mut PgConnection,
) -> Result<BTreeMap<TargetName, LockState>, Trouble> {
    let rows: Vec<LockRow> =
        sqlx::query_as("SELECT target, token, holder FROM locks").fetch_all(connection).await?;
    rows.into_iter().map(lock_of).collect()
}

type LockRow = (String, i64, Option<Uuid>);

fn lock_of((target, token, holder): LockRow) -> Result<(TargetName, LockState), Trouble> {
    let target = TargetName::declared(&target).map_err(damaged)?;
    let token = FencingToken(token as u64);
    Ok((target, LockState { token, holder: holder.map(IncidentId) }))
}

pub(super) async fn cool_downs_of(
    connection: &mut PgConnection,
    targets: &[TargetName],
) -> Result<Vec<CoolDown>, Trouble> {
    let targets: Vec<String> = targets.iter().map(|target| target.as_str().to_owned()).collect();
    let sql = "SELECT document FROM cool_downs WHERE target = ANY($1)";
    let rows: Vec<(String,)> = sqlx::query_as(sql).bind(targets).fetch_all(connection).await?;
    rows.into_iter().map(|(document,)| serde_json::from_str(&document).map_err(damaged)).collect()
}

/// Incidents as they are now: from the cache where it has just that state, else from their logs.
pub(super) async fn incidents(
    connection: &mut PgConnection,
    ids: &[IncidentId],
    cache: &Cache,
) -> Result<HashMap<IncidentId, Known>, Trouble> {
    let wanted: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let sql = "SELECT id, chain_hash FROM incidents WHERE id = ANY($1)";
    let rows: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(sql).bind(wanted).fetch_all(&mut *connection).await?;
    let mut found = HashMap::new();
    let mut to_replay = Vec::new();
    for (id, hash) in rows {
        match cache.get(IncidentId(id), chain_hash(&hash)?) {
            Some(incident) => drop(found.insert(IncidentId(id), Known::Readable(incident))),
            None => to_replay.push(id),
        }
    }
    // Few at once, as some have long logs.
    for some in to_replay.chunks(64) {
        for (known, hash) in replay(connection, some).await? {
            if let Known::Readable(incident) = &known {
                cache.put(hash, incident);
            }
            found.insert(known.id(), known);
        }
    }
    Ok(found)
}

async fn replay(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Known, ChainHash)>, Trouble> {
    let sql = "SELECT e.incident_id, j.payload, j.chain_hash FROM incident_events e JOIN journal j USING (sequence) \
               WHERE e.incident_id = ANY($1) AND j.payload IS NOT NULL ORDER BY e.incident_id, e.revision";
    let rows: Vec<(Uuid, Vec<u8>, Vec<u8>)> = sqlx::query_as(sql).bind(ids).fetch_all(connection).await?;
    let mut replayed: Vec<(Known, ChainHash)> = Vec::new();
    for (id, payload, hash) in rows {
        let id = IncidentId(id);
        let hash = chain_hash(&hash)?;
        let stored = match replayed.last() {
            Some((known, _)) if known.id() == id => replayed.pop().map(|(known, _)| known),
            _ => None,
        };
        let known = match record::decode_append(&payload) {
            Ok(mut appended) if appended.incident_id == id => Known::with(stored, &mut appended),
            Ok(appended) => left(id, format!("it has a record of {}", appended.incident_id)),
            Err(why) => left(id, why),
        };
        replayed.push((known, hash));
    }
    Ok(replayed)
}

fn left(id: IncidentId, why: String) -> Known {
    Known::LeftAlone(std::sync::Arc::new(LeftAlone::damaged(id, why)))
}
