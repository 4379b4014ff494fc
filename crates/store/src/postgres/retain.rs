//! Retention: one transaction notes what is given up and forgets it, then payloads go in small parts.
//!
//! Between the two, and between the parts, a coordinator may be killed: what is given up stands in a table until its payloads are gone,
//! and whoever is next goes on there. Several may be at it at once: the first transaction stands in the writers' line and looks again
//! at what it has read, and a part locks what it takes.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use quell_incident::AlertKey;
use quell_incident::event::EVENT_VERSION;
use quell_incident::gate::SiteGates;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::database::microseconds;
use super::load::{self, Trouble, damaged};
use super::read::failed;
use super::world::World;
use super::{PostgresStore, commit, database, write};
use crate::append::{MessageKey, alerts_fired};
use crate::embedded::keys;
use crate::embedded::record::{self, RetainedRecord};
use crate::error::StoreError;
use crate::ledger::Ledger;
use crate::retention::{Retained, Retention, RetentionBudget};

/// Records that one retention record names at most: the other writers wait while it is written.
const RECORDS_MAX: usize = 10_000;
/// Payloads that go in one transaction.
const PART_RECORDS_MAX: u64 = 2_000;
/// Ranges that are looked at for one part.
const PART_RANGES_MAX: i64 = 500;
/// Incidents whose records are read at once, as some have long logs.
const INCIDENTS_AT_ONCE: usize = 64;
const ACTION: &str = "drop what is over";

/// What could be given up, as it was read without holding anybody up.
#[derive(Default)]
struct Candidates {
    incidents: Vec<Over>,
    received: Vec<u64>,
    received_from: u64,
    received_up_to: u64,
    more: bool,
}

/// A closed incident, with all that is found by it.
struct Over {
    id: Uuid,
    revision: i64,
    records: usize,
    alerts: Vec<AlertKey>,
    messages: Vec<MessageKey>,
}

impl PostgresStore {
    pub(super) async fn retain_within(
        &self,
        retention: &Retention,
        now: Timestamp,
        budget: &RetentionBudget,
    ) -> Result<Retained, StoreError> {
        if self.shared.away.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(commit::away());
        }
        // One of its own: after an error in the middle of a transaction it is of no use any more.
        let options = database::for_purpose(&self.options, "retain");
        let mut connection = database::connect(&options).await.map_err(failed(ACTION))?;
        let candidates = candidates(&mut connection, retention, now, budget).await.map_err(failed(ACTION))?;
        let mut retained = Retained { more: candidates.more, ..Retained::default() };
        if candidates.incidents.is_empty() && candidates.received.is_empty() {
            // What was found could not be read, and would be found again.
            retained.more = false;
        } else {
            give_up(&mut connection, retention, now, candidates, &mut retained).await?;
        }
        loop {
            let Some(part) = next_part(&mut connection).await? else { break };
            if retained.segments >= budget.segments_max as u64 {
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.map_err(failed(ACTION))?;
                retained.more = true;
                break;
            }
            retained.bytes_freed += drop_payloads(&mut connection, &part).await.map_err(failed(ACTION))?;
            retained.segments += 1;
        }
        Ok(retained)
    }
}

async fn candidates(
    connection: &mut PgConnection,
    policy: &Retention,
    now: Timestamp,
    budget: &RetentionBudget,
) -> Result<Candidates, Trouble> {
    let mut candidates = Candidates::default();
    if let Some(before) = policy.received_before(now) {
        received(connection, before, &mut candidates).await?;
    }
    if let Some(before) = policy.closed_before(now) {
        incidents(connection, before, budget.incidents_max, &mut candidates).await?;
    }
    Ok(candidates)
}

/// Received alerts that are correlated and old, and marks of correlation, which the retention record has.
async fn received(
    connection: &mut PgConnection,
    before: Timestamp,
    candidates: &mut Candidates,
) -> Result<(), Trouble> {
    let sql = "SELECT received_retained, correlated FROM journal_head";
    let (from, correlated): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut *connection).await?;
    (candidates.received_from, candidates.received_up_to) = (from as u64, from as u64);
    if from >= correlated {
        return Ok(());
    }
    let sql = "SELECT sequence, kind = $1, at >= 'epoch'::timestamptz + $2 * interval '1 microsecond' FROM journal \
               WHERE sequence > $3 AND sequence <= $4 AND kind IN ($1, $5) AND payload IS NOT NULL ORDER BY sequence LIMIT $6";
    let rows: Vec<(i64, bool, bool)> = sqlx::query_as(sql)
        .bind(record::RECEIVED as i16)
        .bind(microseconds(before))
        .bind(from)
        .bind(correlated)
        .bind(record::CORRELATED as i16)
        .bind(RECORDS_MAX as i64)
        .fetch_all(connection)
        .await?;
    let found = rows.len();
    let over: Vec<_> =
        rows.into_iter().take_while(|(_, is_received, is_young)| !(*is_received && *is_young)).collect();
    // Marks alone are not worth a record.
    if !over.iter().any(|(_, is_received, _)| *is_received) {
        return Ok(());
    }
    let all = over.len() == found;
    candidates.more = all && found >= RECORDS_MAX;
    candidates.received = over.into_iter().map(|(sequence, ..)| sequence as u64).collect();
    candidates.received_up_to = match candidates.received.last() {
        Some(last) if !all || candidates.more => *last,
        _ => correlated as u64,
    };
    Ok(())
}

async fn incidents(
    connection: &mut PgConnection,
    before: Timestamp,
    incidents_max: usize,
    candidates: &mut Candidates,
) -> Result<(), Trouble> {
    // What only a newer program can read is left to it.
    let sql = "SELECT id, revision FROM incidents WHERE status = 'closed' AND event_version <= $1 \
               AND updated_at < 'epoch'::timestamptz + $2 * interval '1 microsecond' ORDER BY updated_at LIMIT $3";
    let closed: Vec<(Uuid, i64)> = sqlx::query_as(sql)
        .bind(i32::from(EVENT_VERSION))
        .bind(microseconds(before))
        .bind(i64::try_from(incidents_max).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await?;
    candidates.more |= closed.len() >= incidents_max;
    let mut records = candidates.received.len();
    for some in closed.chunks(INCIDENTS_AT_ONCE) {
        for over in read(connection, some).await? {
            records += over.records;
            if !candidates.incidents.is_empty() && records > RECORDS_MAX {
                candidates.more = true;
                return Ok(());
            }
            candidates.incidents.push(over);
        }
    }
    Ok(())
}

/// Alerts and messages have no index by their incident, which every alert would pay for: its own records name them.
async fn read(connection: &mut PgConnection, closed: &[(Uuid, i64)]) -> Result<Vec<Over>, Trouble> {
    let ids: Vec<Uuid> = closed.iter().map(|(id, _)| *id).collect();
    let sql = "SELECT e.incident_id, j.payload FROM incident_events e JOIN journal j USING (sequence) \
               WHERE e.incident_id = ANY($1) AND j.payload IS NOT NULL";
    let rows: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(sql).bind(ids).fetch_all(connection).await?;
    let over = |(id, revision): &(Uuid, i64)| {
        let (alerts, messages) = (Vec::new(), Vec::new());
        (*id, Over { id: *id, revision: *revision, records: 0, alerts, messages })
    };
    let mut found: BTreeMap<Uuid, Over> = closed.iter().map(over).collect();
    for (id, payload) in rows {
        let decoded = record::decode_append(&payload).and_then(|appended| {
            let events: Result<Vec<_>, _> = appended.events.into_iter().collect();
            Ok((alerts_fired(&events.map_err(|error| error.to_string())?), appended.message))
        });
        match (decoded, found.get_mut(&id)) {
            (Ok((alerts, message)), Some(over)) => {
                over.records += 1;
                over.alerts.extend(alerts);
                over.messages.extend(message.map(|(key, _)| key));
            }
            (Err(why), Some(_)) => {
                tracing::warn!(incident_id = %id, why, "a closed incident cannot be read and is not dropped");
                found.remove(&id);
            }
            (_, None) => {}
        }
    }
    Ok(found.into_values().collect())
}

/// Notes what is given up and forgets it, all at once.
async fn give_up(
    connection: &mut PgConnection,
    policy: &Retention,
    now: Timestamp,
    candidates: Candidates,
    retained: &mut Retained,
) -> Result<(), StoreError> {
    begin(connection).await.map_err(failed(ACTION))?;
    let head = load::lock_head(connection).await.map_err(failed(ACTION))?;
    let Candidates { incidents, received: mut sequences, received_from, mut received_up_to, .. } = candidates;
    let found = still_over(connection, &incidents).await.map_err(failed(ACTION))?;
    if found.received_retained != received_from {
        // Somebody else was quicker; the next call looks from there on.
        sequences.clear();
        received_up_to = found.received_retained;
        retained.more = true;
    }
    let over: Vec<Over> = incidents.into_iter().filter(|over| found.incidents.contains(&over.id)).collect();
    sequences.extend(forget(connection, &over).await.map_err(failed(ACTION))?);
    if sequences.is_empty() {
        sqlx::raw_sql("ROLLBACK").execute(connection).await.map_err(failed(ACTION))?;
        return Ok(());
    }
    let ledger = ledger(connection, &head.site).await.map_err(failed(ACTION))?;
    let payloads = sequences.len() as u64;
    let ids = over.iter().map(|over| quell_incident::IncidentId(over.id)).collect();
    let record =
        RetainedRecord::new(now, *policy, ids, sequences, received_up_to, (head.correlated, &ledger));
    let ranges = record.ranges().map_err(StoreError::unsound)?;
    let mut world = World::new(head);
    let sequence = world.record(record::RETAINED, Some(now), record.encode()?.into())?;
    let written = async {
        write::write(connection, &world.writes, &world.head).await?;
        note(connection, sequence, received_up_to, &ranges).await?;
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await
    };
    written.await.map_err(failed(ACTION))?;
    retained.record = Some(sequence);
    retained.incidents = over.len() as u64;
    retained.payloads_given_up = payloads;
    Ok(())
}

async fn begin(connection: &mut PgConnection) -> Result<(), Trouble> {
    sqlx::raw_sql("BEGIN ISOLATION LEVEL READ COMMITTED").execute(connection).await?;
    Ok(())
}

struct Found {
    received_retained: u64,
    incidents: HashSet<Uuid>,
}

/// What of it is as it was read. The journal's end is locked, so it stays so.
async fn still_over(connection: &mut PgConnection, incidents: &[Over]) -> Result<Found, Trouble> {
    let (received_retained,): (i64,) =
        sqlx::query_as("SELECT received_retained FROM journal_head").fetch_one(&mut *connection).await?;
    let ids: Vec<Uuid> = incidents.iter().map(|over| over.id).collect();
    let revisions: Vec<i64> = incidents.iter().map(|over| over.revision).collect();
    let sql = "SELECT i.id FROM incidents i JOIN unnest($1::uuid[], $2::bigint[]) AS c (id, revision) \
               ON i.id = c.id AND i.revision = c.revision WHERE i.status = 'closed'";
    let rows: Vec<(Uuid,)> =
        sqlx::query_as(sql).bind(ids).bind(revisions).fetch_all(&mut *connection).await?;
    let incidents = rows.into_iter().map(|(id,)| id).collect();
    Ok(Found { received_retained: received_retained as u64, incidents })
}

/// Takes incidents out of all tables but the journal. Returns the records that are theirs.
async fn forget(connection: &mut PgConnection, over: &[Over]) -> Result<Vec<u64>, Trouble> {
    if over.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = over.iter().map(|over| over.id).collect();
    let sql = "DELETE FROM incident_events WHERE incident_id = ANY($1) RETURNING sequence";
    let sequences: Vec<(i64,)> = sqlx::query_as(sql).bind(&ids).fetch_all(&mut *connection).await?;
    // A lease that was not given back would stay for ever; nobody asks for it again.
    for sql in ["DELETE FROM incidents WHERE id = ANY($1)", "DELETE FROM leases WHERE work = ANY($1)"] {
        sqlx::query(sql).bind(&ids).execute(&mut *connection).await?;
    }
    let alerts = || over.iter().flat_map(|over| &over.alerts);
    let sources: Vec<&str> = alerts().map(|key| key.source.as_str()).collect();
    let fingerprints: Vec<&str> = alerts().map(|key| key.fingerprint.as_str()).collect();
    // An alert may have become a newer incident's.
    let sql = "DELETE FROM alerts a USING unnest($1::text[], $2::text[]) AS f (source, fingerprint) \
               WHERE a.source = f.source AND a.fingerprint = f.fingerprint AND a.incident_id = ANY($3)";
    sqlx::query(sql).bind(sources).bind(fingerprints).bind(&ids).execute(&mut *connection).await?;
    let messages: Vec<Vec<u8>> = over.iter().flat_map(|over| &over.messages).map(keys::message).collect();
    let sql = "DELETE FROM messages WHERE key = ANY($1) AND incident_id = ANY($2)";
    sqlx::query(sql).bind(messages).bind(&ids).execute(connection).await?;
    Ok(sequences.into_iter().map(|(sequence,)| sequence as u64).collect())
}

/// All locks and cool-downs: what of the dropped records still counts.
async fn ledger(connection: &mut PgConnection, site: &SiteGates) -> Result<Ledger, Trouble> {
    let mut ledger = Ledger::default();
    ledger.site = site.clone();
    for (target, lock) in load::all_locks(connection).await? {
        ledger.set_lock(target, lock);
    }
    let documents: Vec<(String,)> =
        sqlx::query_as("SELECT document FROM cool_downs").fetch_all(connection).await?;
    for (document,) in documents {
        ledger.set_cool_down(&serde_json::from_str(&document).map_err(damaged)?);
    }
    Ok(ledger)
}

/// Notes which payloads are to go, and up to where retention has looked.
pub(super) async fn note(
    connection: &mut PgConnection,
    retention: u64,
    received_up_to: u64,
    ranges: &[(u64, u64)],
) -> Result<(), Trouble> {
    let sql = "UPDATE journal_head SET received_retained = greatest(received_retained, $1)";
    sqlx::query(sql).bind(received_up_to as i64).execute(&mut *connection).await?;
    let first: Vec<i64> = ranges.iter().map(|(first, _)| *first as i64).collect();
    let last: Vec<i64> = ranges.iter().map(|(_, last)| *last as i64).collect();
    let sql = "INSERT INTO payloads_given_up (first_sequence, last_sequence, retention)
        SELECT r.first, r.last, $3 FROM unnest($1::bigint[], $2::bigint[]) AS r (first, last)";
    sqlx::query(sql).bind(first).bind(last).bind(retention as i64).execute(connection).await?;
    Ok(())
}

/// Payloads that go in one transaction, which is begun.
struct Part {
    sequences: Vec<i64>,
    /// First sequences of the ranges that it finishes.
    finished: Vec<i64>,
    /// A range that it only begins: where that began, and where it goes on.
    begun: Option<(i64, i64)>,
}

/// Takes the next ones, unless somebody else has them; a part is begun where there are any.
async fn next_part(connection: &mut PgConnection) -> Result<Option<Part>, StoreError> {
    begin(connection).await.map_err(failed(ACTION))?;
    let sql = "SELECT first_sequence, last_sequence, retention FROM payloads_given_up \
               ORDER BY first_sequence LIMIT $1 FOR UPDATE SKIP LOCKED";
    let ranges: Vec<(i64, i64, i64)> = sqlx::query_as(sql)
        .bind(PART_RANGES_MAX)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(ACTION))?;
    if ranges.is_empty() {
        sqlx::raw_sql("ROLLBACK").execute(connection).await.map_err(failed(ACTION))?;
        return Ok(None);
    }
    check_given_up(connection, &ranges).await?;
    let mut part = Part { sequences: Vec::new(), finished: Vec::new(), begun: None };
    for (first, last, _) in ranges {
        let room = PART_RECORDS_MAX.saturating_sub(part.sequences.len() as u64) as i64;
        let end = last.min(first.saturating_add(room - 1));
        part.sequences.extend(first..=end);
        if end < last {
            part.begun = (end >= first).then_some((first, end + 1));
            break;
        }
        part.finished.push(first);
    }
    Ok(Some(part))
}

/// Nothing is dropped on the word of that table alone.
async fn check_given_up(connection: &mut PgConnection, ranges: &[(i64, i64, i64)]) -> Result<(), StoreError> {
    let retentions: HashSet<i64> = ranges.iter().map(|(_, _, retention)| *retention).collect();
    let sql = "SELECT sequence, payload FROM journal WHERE sequence = ANY($1) AND kind = $2 AND payload IS NOT NULL";
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql)
        .bind(retentions.into_iter().collect::<Vec<_>>())
        .bind(record::RETAINED as i16)
        .fetch_all(connection)
        .await
        .map_err(failed(ACTION))?;
    let mut named = BTreeMap::new();
    for (sequence, payload) in rows {
        let ranges = record::decode_retained(&payload).and_then(|record| record.ranges());
        let unreadable = |why| StoreError::Record { sequence: sequence as u64, why };
        named.insert(sequence, ranges.map_err(unreadable)?);
    }
    for (first, last, retention) in ranges {
        let names = |(from, to): &(u64, u64)| *from <= *first as u64 && *last as u64 <= *to;
        if !named.get(retention).is_some_and(|ranges| ranges.iter().any(names)) {
            let why = format!(
                "it does not give up records {first} to {last}, which were to lose their payloads; nothing is dropped: \
                 `quell audit verify` says whether the journal was tampered with"
            );
            return Err(StoreError::Record { sequence: *retention as u64, why });
        }
    }
    Ok(())
}

/// Returns how many bytes went.
async fn drop_payloads(connection: &mut PgConnection, part: &Part) -> Result<u64, Trouble> {
    let sql = "WITH gone AS (
            UPDATE journal SET payload_bytes = octet_length(payload), payload = NULL
            WHERE sequence = ANY($1) AND payload IS NOT NULL AND kind NOT IN ($2, $3, $4) RETURNING payload_bytes
        ) SELECT coalesce(sum(payload_bytes), 0)::bigint FROM gone";
    let (bytes,): (i64,) = sqlx::query_as(sql)
        .bind(&part.sequences)
        .bind(record::RETAINED as i16)
        .bind(record::SWITCHED as i16)
        .bind(record::LOST as i16)
        .fetch_one(&mut *connection)
        .await?;
    let sql = "DELETE FROM payloads_given_up WHERE first_sequence = ANY($1)";
    sqlx::query(sql).bind(&part.finished).execute(&mut *connection).await?;
    if let Some((first, rest)) = part.begun {
        let sql = "UPDATE payloads_given_up SET first_sequence = $2 WHERE first_sequence = $1";
        sqlx::query(sql).bind(first).bind(rest).execute(&mut *connection).await?;
    }
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
    tracing::info!(records = part.sequences.len(), bytes, "payloads were dropped");
    Ok(bytes as u64)
}
