//! Changes of the site as rows of `changes`.

use jiff::Timestamp;
use quell_incident::ids::{Digest, IncidentId};
use sqlx::Connection as _;
use sqlx::types::Json;
use uuid::Uuid;

use super::{PostgresStore, Shared, database};
use crate::change_record::{ChangeQuery, ReceivedChange};
use crate::error::StoreError;

const INSERT: &str = "
    INSERT INTO changes (digest, at, received_at, record)
    VALUES ($1, 'epoch'::timestamptz + $2 * interval '1 microsecond', 'epoch'::timestamptz + $3 * interval '1 microsecond', $4)
    ON CONFLICT DO NOTHING";
const DELETE: &str = "DELETE FROM changes WHERE at < 'epoch'::timestamptz + $1 * interval '1 microsecond'";
const SELECT: &str = "
    SELECT record FROM changes
    WHERE at BETWEEN 'epoch'::timestamptz + $1 * interval '1 microsecond' AND 'epoch'::timestamptz + $2 * interval '1 microsecond'
        AND received_at <= 'epoch'::timestamptz + $3 * interval '1 microsecond'
    ORDER BY at DESC, digest DESC LIMIT $4";

fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

type Insert<'a> = sqlx::query::Query<'a, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Does nothing when it is there already.
pub(super) fn insert<'a>(change: &'a ReceivedChange, digest: &'a Digest) -> Insert<'a> {
    let insert = sqlx::query(INSERT).bind(digest.as_bytes().as_slice());
    insert.bind(micros(change.record.at)).bind(micros(change.received_at)).bind(Json(change))
}

impl PostgresStore {
    /// The next document in the order of incidents and digests.
    pub(super) async fn document_after(
        &self,
        last: Option<(IncidentId, Digest)>,
    ) -> Result<Option<(IncidentId, Digest, Vec<u8>)>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let sql = "SELECT incident_id, digest, document FROM documents
            WHERE $1::uuid IS NULL OR (incident_id, digest) > ($1, $2) ORDER BY incident_id, digest LIMIT 1";
        let row: Option<(Uuid, Vec<u8>, Vec<u8>)> = sqlx::query_as(sql)
            .bind(last.map(|(incident, _)| incident.0))
            .bind(last.map(|(_, digest)| digest.as_bytes().to_vec()))
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| database::of("read the documents", &error))?;
        row.map(|(incident, digest, document)| Ok((IncidentId(incident), digest_of(&digest)?, document)))
            .transpose()
    }

    /// The next change in the order of digests.
    pub(super) async fn change_after(
        &self,
        last: Option<Digest>,
    ) -> Result<Option<(Digest, ReceivedChange)>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let sql = "SELECT digest, record FROM changes WHERE $1::bytea IS NULL OR digest > $1 ORDER BY digest LIMIT 1";
        let row: Option<(Vec<u8>, Json<ReceivedChange>)> = sqlx::query_as(sql)
            .bind(last.map(|digest| digest.as_bytes().to_vec()))
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| database::of("read the changes", &error))?;
        row.map(|(digest, Json(change))| Ok((digest_of(&digest)?, change))).transpose()
    }
}

fn digest_of(bytes: &[u8]) -> Result<Digest, StoreError> {
    let text = hex::encode(bytes);
    text.parse().map_err(|_| StoreError::unsound(format!("`{text}` is not a digest")))
}

impl Shared {
    /// All of them or none; those that are too old go.
    pub(super) async fn put_change_records(&self, changes: &[ReceivedChange]) -> Result<usize, StoreError> {
        let failed = |error: sqlx::Error| database::of("write a change", &error);
        let Some(newest) = changes.iter().max_by_key(|change| change.received_at) else { return Ok(0) };
        let mut connection = self.reader().await?;
        let mut transaction = connection.begin().await.map_err(failed)?;
        let mut new = 0;
        for change in changes {
            let digest = change.digest()?;
            let written = insert(change, &digest).execute(&mut *transaction).await.map_err(failed)?;
            new += usize::from(written.rows_affected() > 0);
        }
        let old = sqlx::query(DELETE).bind(micros(newest.horizon()));
        old.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(new)
    }

    pub(super) async fn change_records(
        &self,
        query: &ChangeQuery,
    ) -> Result<Vec<ReceivedChange>, StoreError> {
        let mut connection = self.reader().await?;
        let rows: Vec<(Json<ReceivedChange>,)> = sqlx::query_as(SELECT)
            .bind(micros(query.from))
            .bind(micros(query.to))
            .bind(micros(query.received_until))
            .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| database::of("read the changes", &error))?;
        Ok(rows.into_iter().rev().map(|(Json(change),)| change).collect())
    }
}
