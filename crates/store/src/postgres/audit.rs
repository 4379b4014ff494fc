//! The journal as the audit reads it: rows as they are, on a connection that cannot write and at one moment.

use quell_journal::{ChainHash, Head};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use uuid::Uuid;

use super::database::{self, KNOWN_SCHEMA, within};
use super::load::{self, Trouble};
use crate::error::StoreError;

/// What is held at once, unless one record alone is larger.
const PAGE_BYTES: i64 = 8 << 20;
const PAGE_RECORDS: i64 = 2_000;
/// The first schema in which a payload may be gone.
const SCHEMA_WITH_RETENTION: i64 = 2;

/// A record as its row says it is. Nothing of it is believed yet.
pub(crate) struct RawRecord {
    pub(crate) sequence: i64,
    pub(crate) kind: i16,
    pub(crate) flags: i16,
    pub(crate) payload: Option<Vec<u8>>,
    /// The length of a payload that is gone.
    pub(crate) payload_bytes: Option<i32>,
    pub(crate) digest: Vec<u8>,
    pub(crate) chain_hash: Vec<u8>,
}

/// Reads a journal in the state that it had when this was opened, whatever is written meanwhile.
pub(crate) struct JournalReader {
    connection: PgConnection,
    schema: i64,
    /// The identity of the journal and its end, as the database says; none for a database that nobody has used.
    pub(crate) end: Option<(Uuid, Head)>,
    after: i64,
}

impl JournalReader {
    /// Nothing is migrated, locked or written; a standby will do.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::NewerSchema`], [`StoreError::Database`].
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let options = database::for_purpose(&database::connect_options(url)?, "audit").options([
            ("default_transaction_read_only", "on"),
            // Whoever takes the lines of an export may be slow.
            ("idle_in_transaction_session_timeout", "0"),
        ]);
        let opened = async {
            let mut connection = within(database::CONNECT_TIMEOUT, options.connect()).await?;
            sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                .execute(&mut connection)
                .await?;
            let schema = schema(&mut connection).await?;
            let end = if schema == 0 { None } else { end(&mut connection).await? };
            Ok(Self { connection, schema, end, after: i64::MIN })
        };
        let reader: Self = opened.await.map_err(|error| database::of("open the database", &error))?;
        match reader.schema {
            found if found > KNOWN_SCHEMA => Err(StoreError::NewerSchema { found, known: KNOWN_SCHEMA }),
            _ => Ok(reader),
        }
    }

    /// From the first record on again.
    pub(crate) fn rewind(&mut self) {
        self.after = i64::MIN;
    }

    /// The next records in the order of their sequences; none at the end.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Database`].
    pub(crate) async fn next(&mut self) -> Result<Vec<RawRecord>, StoreError> {
        // Before it there was no column for the length.
        let bytes = if self.schema < SCHEMA_WITH_RETENTION { "NULL::integer" } else { "payload_bytes" };
        let sql = format!(
            "SELECT sequence, kind, flags, payload, {bytes}, payload_digest, chain_hash FROM (
                SELECT *, sum(octet_length(payload)) OVER (ORDER BY sequence) - octet_length(payload) AS before
                FROM (SELECT * FROM journal WHERE sequence > $1 ORDER BY sequence LIMIT $2) AS next
            ) AS sized WHERE before IS NULL OR before < $3 ORDER BY sequence"
        );
        type Row = (i64, i16, i16, Option<Vec<u8>>, Option<i32>, Vec<u8>, Vec<u8>);
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(self.after)
            .bind(PAGE_RECORDS)
            .bind(PAGE_BYTES)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|error| database::of("read the journal", &error))?;
        self.after = rows.last().map_or(self.after, |last| last.0);
        let raw = |(sequence, kind, flags, payload, payload_bytes, digest, chain_hash): Row| RawRecord {
            sequence,
            kind,
            flags,
            payload,
            payload_bytes,
            digest,
            chain_hash,
        };
        Ok(rows.into_iter().map(raw).collect())
    }

    /// Ends the session in good order.
    pub(crate) async fn close(self) {
        // It was only read.
        let _ = self.connection.close().await;
    }
}

/// The version that the database was brought to; 0 for one that nobody has used.
async fn schema(connection: &mut PgConnection) -> Result<i64, Trouble> {
    let sql =
        "SELECT to_regclass('_sqlx_migrations') IS NOT NULL AND to_regclass('journal_head') IS NOT NULL";
    let (is_there,): (bool,) = sqlx::query_as(sql).fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(0);
    }
    let sql = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success";
    let (version,): (i64,) = sqlx::query_as(sql).fetch_one(connection).await?;
    Ok(version)
}

async fn end(connection: &mut PgConnection) -> Result<Option<(Uuid, Head)>, Trouble> {
    let sql = "SELECT journal_id, sequence, chain_hash FROM journal_head";
    let row: Option<(Uuid, i64, Vec<u8>)> = sqlx::query_as(sql).fetch_optional(connection).await?;
    let Some((journal_id, sequence, chain)) = row else { return Ok(None) };
    // One that is none is as wrong as another one: the audit finds the difference.
    let chain_hash = load::chain_hash(&chain).unwrap_or(ChainHash::from_bytes([0; 32]));
    Ok(Some((journal_id, Head { sequence: sequence as u64, chain_hash })))
}
