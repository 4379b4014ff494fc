//! Questions: each sees what is committed, on a connection of the pool.

use std::sync::atomic::Ordering;

use quell_incident::AlertKey;
use quell_incident::event::{EVENT_VERSION, Envelope};
use quell_incident::gate::SiteGates;
use quell_incident::ids::IncidentId;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::database::of;
use super::load::{self, Trouble, damaged};
use super::world::Head;
use super::{Shared, commit, write};
use crate::append::{Received, ReceivedPosition};
use crate::embedded::state::LeftAlone;
use crate::embedded::{keys, record};
use crate::error::StoreError;
use crate::list::{ListQuery, Page, Row};

/// What one call returns of received alerts, unless one batch alone is larger.
const RECEIVED_BYTES_MAX: i64 = 8 << 20;
const RECEIVED_BATCHES_MAX: usize = 4_096;

/// For `map_err`: which question it was.
pub(super) fn failed(action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| of(action, &error)
}

impl Shared {
    pub(super) async fn reader(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        // The pool would try for as long as it may; what is known to be away need not be waited for.
        if self.away.load(Ordering::SeqCst) {
            return Err(commit::away());
        }
        self.pool.acquire().await.map_err(failed("connect to the database"))
    }

    pub(super) async fn head(&self) -> Result<Head, StoreError> {
        let mut connection = self.reader().await?;
        let sql = "SELECT sequence, chain_hash, correlated, site, tokens_above FROM journal_head";
        let row = sqlx::query_as(sql).fetch_one(&mut *connection).await;
        row.and_then(load::head_of).map_err(failed("read the journal's end"))
    }

    pub(super) async fn site(&self) -> Result<SiteGates, StoreError> {
        Ok(self.head().await?.site)
    }

    pub(super) async fn received_after(
        &self,
        after: ReceivedPosition,
        batches_max: usize,
    ) -> Result<Vec<(ReceivedPosition, Received)>, StoreError> {
        let mut connection = self.reader().await?;
        // The sizes before a batch are those of all that are asked for, so few are read that are not returned.
        let sql = "SELECT sequence, payload FROM (
                SELECT sequence, payload, sum(octet_length(payload)) OVER (ORDER BY sequence) - octet_length(payload) AS before
                FROM (SELECT sequence, payload FROM journal
                    WHERE kind = 1 AND sequence > $1 AND payload IS NOT NULL ORDER BY sequence LIMIT $2) AS next
            ) AS sized WHERE before < $3 ORDER BY sequence";
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql)
            .bind(i64::try_from(after.0).unwrap_or(i64::MAX))
            .bind(batches_max.min(RECEIVED_BATCHES_MAX) as i64)
            .bind(RECEIVED_BYTES_MAX)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("read received alerts"))?;
        let decode = |(sequence, payload): (i64, Vec<u8>)| {
            let sequence = sequence as u64;
            let received =
                record::decode_received(&payload).map_err(|why| StoreError::Record { sequence, why })?;
            Ok((ReceivedPosition(sequence), received))
        };
        rows.into_iter().map(decode).collect()
    }

    pub(super) async fn log(&self, id: IncidentId) -> Result<Vec<Envelope>, StoreError> {
        let mut connection = self.reader().await?;
        let sql = "SELECT j.sequence, j.payload FROM incident_events e JOIN journal j USING (sequence) \
                   WHERE e.incident_id = $1 AND j.payload IS NOT NULL ORDER BY e.revision";
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql)
            .bind(id.0)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("read an incident's log"))?;
        let mut log = Vec::new();
        for (sequence, payload) in rows {
            let appended = record::decode_append(&payload)
                .map_err(|why| StoreError::Record { sequence: sequence as u64, why })?;
            for event in appended.events {
                log.push(event.map_err(|error| LeftAlone::undecodable(id, error).error())?);
            }
        }
        Ok(log)
    }

    pub(super) async fn incident_of_alert(&self, key: &AlertKey) -> Result<Option<IncidentId>, StoreError> {
        let mut connection = self.reader().await?;
        let sql = "SELECT incident_id FROM alerts WHERE source = $1 AND fingerprint = $2";
        let row: Option<(Uuid,)> = sqlx::query_as(sql)
            .bind(key.source.as_str())
            .bind(key.fingerprint.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("look for an alert's incident"))?;
        Ok(row.map(|(id,)| IncidentId(id)))
    }

    pub(super) async fn incidents_of_alerts(
        &self,
        keys: &[AlertKey],
    ) -> Result<Vec<Option<IncidentId>>, StoreError> {
        let mut connection = self.reader().await?;
        let sources: Vec<&str> = keys.iter().map(|key| key.source.as_str()).collect();
        let fingerprints: Vec<&str> = keys.iter().map(|key| key.fingerprint.as_str()).collect();
        let sql = "SELECT w.place, a.incident_id
            FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (source, fingerprint, place)
            JOIN alerts a ON a.source = w.source AND a.fingerprint = w.fingerprint";
        let rows: Vec<(i64, Uuid)> = sqlx::query_as(sql)
            .bind(sources)
            .bind(fingerprints)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("look for alerts' incidents"))?;
        let mut found = vec![None; keys.len()];
        for (place, id) in rows {
            // Places begin with 1.
            if let Some(of_key) = found.get_mut((place - 1) as usize) {
                *of_key = Some(IncidentId(id));
            }
        }
        Ok(found)
    }

    pub(super) async fn unfinished(&self) -> Result<Vec<IncidentId>, StoreError> {
        let mut connection = self.reader().await?;
        let sql = "SELECT id FROM incidents WHERE status <> 'closed' AND event_version <= $1 ORDER BY priority, place DESC";
        let rows: Vec<(Uuid,)> = sqlx::query_as(sql)
            .bind(i32::from(EVENT_VERSION))
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("look for unfinished incidents"))?;
        Ok(rows.into_iter().map(|(id,)| IncidentId(id)).collect())
    }

    pub(super) async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let mut connection = self.reader().await?;
        list(&mut connection, query).await.map_err(failed("list incidents"))
    }
}

async fn list(connection: &mut PgConnection, query: &ListQuery) -> Result<Page, Trouble> {
    let mut counting = QueryBuilder::<Postgres>::new("SELECT count(*) FROM incidents WHERE true");
    wanted(&mut counting, query);
    let (total,): (i64,) = counting.build_query_as().fetch_one(&mut *connection).await?;

    let mut listing = QueryBuilder::<Postgres>::new("SELECT list_row FROM incidents WHERE true");
    wanted(&mut listing, query);
    if let Some(cursor) = &query.cursor {
        listing.push(" AND place > ").push_bind(write::place(cursor));
    }
    // One more than asked for tells whether there is a next page.
    listing.push(" ORDER BY place LIMIT ").push_bind(query.limit() as i64 + 1);
    let found: Vec<(String,)> = listing.build_query_as().fetch_all(connection).await?;
    let more = found.len() > query.limit();
    let rows = found.iter().take(query.limit()).map(|(row,)| serde_json::from_str(row).map_err(damaged));
    let rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
    let last = rows.last().map(|row| crate::list::Cursor { created_at: row.created_at, id: row.id });
    Ok(Page { rows, total: total as u64, next: last.filter(|_| more) })
}

fn wanted(statement: &mut QueryBuilder<Postgres>, query: &ListQuery) {
    use quell_incident::severity::Status;
    if let Some(filter) = query.status {
        let wanted = Status::ALL.iter().filter(|status| filter.matches(**status));
        let wanted: Vec<&str> = wanted.map(|status| status.as_str()).collect();
        statement.push(" AND status = ANY(").push_bind(wanted).push(")");
    }
    if let Some(priority) = query.priority {
        statement.push(" AND priority = ").push_bind(priority.as_str());
    }
    if let Some(since) = query.since {
        let oldest = keys::descending(keys::created_bytes(since));
        let end = [&oldest[..], &[0xff; keys::PLACE_BYTES - 16], &[0xff]].concat();
        statement.push(" AND place < ").push_bind(end);
    }
}
