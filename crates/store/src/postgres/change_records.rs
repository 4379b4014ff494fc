//! Changes of the site as rows of `changes`.

use jiff::Timestamp;
use sqlx::Connection as _;
use sqlx::types::Json;

use super::{Shared, database};
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

impl Shared {
    /// All of them or none; those that are too old go.
    pub(super) async fn put_change_records(&self, changes: &[ReceivedChange]) -> Result<usize, StoreError> {
        let failed = |error: sqlx::Error| database::of("write a change", &error);
        let Some(newest) = changes.iter().max_by_key(|change| change.received_at) else { return Ok(0) };
        let mut connection = self.reader().await?;
        let mut transaction = connection.begin().await.map_err(failed)?;
        let mut new = 0;
        for change in changes {
            let written = sqlx::query(INSERT)
                .bind(change.digest()?.as_bytes().as_slice())
                .bind(micros(change.record.at))
                .bind(micros(change.received_at))
                .bind(Json(change))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
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
