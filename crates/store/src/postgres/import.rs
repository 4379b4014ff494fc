//! Records of the journal as they are, to be copied from one backend to another.

use std::collections::HashMap;

use jiff::Timestamp;
use quell_incident::ids::IncidentId;
use quell_journal::ChainHash;
use sqlx::PgConnection;
use uuid::Uuid;

use super::load::{self, chain_hash};
use super::read::failed;
use super::world::{Head, NewRecord, World, Writes, link};
use super::{Cache, PostgresStore, database, write};
use crate::append::ReceivedPosition;
use crate::embedded::record;
use crate::embedded::state::{AppendedChange, Known};
use crate::error::StoreError;
use crate::memory::is_finished;

/// What one call returns of the journal, unless one record alone is larger.
const RECORDS_BYTES_MAX: i64 = 8 << 20;
const RECORDS_MAX: usize = 4_096;
/// Flags that a record may have: whether the request it came with ends with it.
const FLAGS: [u16; 2] = [1, 0];

/// A record of the journal, of whatever backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// What it is, by the store's own numbers.
    pub kind: u16,
    /// What it says.
    pub payload: Vec<u8>,
    /// The chain with this record included.
    pub chain_hash: ChainHash,
}

/// An import that is under way: one transaction, so that an interrupted one leaves nothing.
pub struct Import {
    connection: PgConnection,
    world: World,
    cache: Cache,
}

impl PostgresStore {
    /// Records after a sequence, in order. May be fewer than asked for, to bound memory; empty only when there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or another failure of the database.
    pub async fn records_after(
        &self,
        sequence: u64,
        records_max: usize,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let sql = "SELECT sequence, kind, payload, chain_hash FROM (
                SELECT sequence, kind, payload, chain_hash,
                    sum(octet_length(payload)) OVER (ORDER BY sequence) - octet_length(payload) AS before
                FROM (SELECT * FROM journal WHERE sequence > $1 ORDER BY sequence LIMIT $2) AS next
            ) AS sized WHERE before < $3 ORDER BY sequence";
        let rows: Vec<(i64, i16, Vec<u8>, Vec<u8>)> = sqlx::query_as(sql)
            .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
            .bind(records_max.min(RECORDS_MAX) as i64)
            .bind(RECORDS_BYTES_MAX)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("read the journal"))?;
        let record = |(sequence, kind, payload, chain): (i64, i16, Vec<u8>, Vec<u8>)| {
            let chain_hash = chain_hash(&chain).map_err(failed("read the journal"))?;
            Ok(JournalRecord { sequence: sequence as u64, kind: kind as u16, payload, chain_hash })
        };
        rows.into_iter().map(record).collect()
    }

    /// The last record.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or another failure of the database.
    pub async fn head(&self) -> Result<quell_journal::Head, StoreError> {
        let action = "read the end of the journal";
        let mut connection = self.shared.reader().await?;
        let sql = "SELECT sequence, chain_hash FROM journal_head";
        let row = sqlx::query_as(sql).fetch_one(&mut *connection).await;
        let (sequence, chain): (i64, Vec<u8>) = row.map_err(failed(action))?;
        let chain_hash = chain_hash(&chain).map_err(failed(action))?;
        Ok(quell_journal::Head { sequence: sequence as u64, chain_hash })
    }

    /// The chain up to a record; 0 is before the first.
    pub(super) async fn head_at(&self, sequence: u64) -> Result<quell_journal::Head, StoreError> {
        if sequence == 0 {
            let chain_hash = ChainHash::genesis(self.journal_id());
            return Ok(quell_journal::Head { sequence, chain_hash });
        }
        let action = "read a record of the journal";
        let mut connection = self.shared.reader().await?;
        let sql = "SELECT chain_hash FROM journal WHERE sequence = $1";
        let query = sqlx::query_as(sql).bind(i64::try_from(sequence).unwrap_or(i64::MAX));
        let row: (Vec<u8>,) = query.fetch_one(&mut *connection).await.map_err(failed(action))?;
        let chain_hash = chain_hash(&row.0).map_err(failed(action))?;
        Ok(quell_journal::Head { sequence, chain_hash })
    }

    /// Begins to write another journal's records into this empty database. Nobody else can write until that is finished or dropped.
    /// This store itself is to be opened anew after it.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`], [`StoreError::Unavailable`].
    pub async fn begin_import(&self, journal_id: Uuid) -> Result<Import, StoreError> {
        let options = database::for_purpose(&self.options, "import")
            .options([("idle_in_transaction_session_timeout", "0"), ("statement_timeout", "0")]);
        let action = "begin the import";
        let mut connection = database::connect(&options).await.map_err(failed(action))?;
        sqlx::raw_sql("BEGIN").execute(&mut connection).await.map_err(failed(action))?;
        let head = load::lock_head(&mut connection).await.map_err(failed(action))?;
        if head.sequence != 0 {
            return Err(StoreError::NotEmpty { records: head.sequence });
        }
        sqlx::query("UPDATE journal_head SET journal_id = $1")
            .bind(journal_id)
            .execute(&mut connection)
            .await
            .map_err(failed(action))?;
        let head = Head { chain_hash: ChainHash::genesis(journal_id), ..head };
        Ok(Import { connection, world: World::new(head), cache: Cache::default() })
    }
}

impl Import {
    /// Takes the next records, with all that follows from them.
    ///
    /// # Errors
    /// [`StoreError::Record`] for one that does not follow on the one before, or that this program cannot read: nothing is
    /// imported then.
    pub async fn write(&mut self, records: &[JournalRecord]) -> Result<(), StoreError> {
        for some in records.chunks(512) {
            self.load_for(some).await?;
            for record in some {
                let unreadable = |why| StoreError::Record { sequence: record.sequence, why };
                take(&mut self.world, record).map_err(unreadable)?;
            }
            let writes = std::mem::take(&mut self.world.writes);
            write_some(&mut self.connection, &writes, &self.world.head).await?;
            // What is finished seldom comes again; the others are as many as are open.
            self.world
                .incidents
                .retain(|_, known| known.readable().is_ok_and(|incident| !is_finished(incident)));
            self.world.messages.clear();
        }
        Ok(())
    }

    /// Makes it durable and returns the end of the journal.
    ///
    /// # Errors
    /// When the database does not take it; whether it has is then to be looked up.
    pub async fn finish(mut self) -> Result<(u64, ChainHash), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.map_err(failed("finish the import"))?;
        Ok((self.world.head.sequence, self.world.head.chain_hash))
    }

    /// Incidents that records go on with and that are not at hand.
    async fn load_for(&mut self, records: &[JournalRecord]) -> Result<(), StoreError> {
        let appends = records.iter().filter(|record| record.kind == record::APPENDED);
        let ids = appends.filter_map(|record| record::decode_append(&record.payload).ok());
        let mut ids: Vec<IncidentId> = ids.map(|appended| appended.incident_id).collect();
        ids.sort();
        ids.dedup();
        ids.retain(|id| !self.world.incidents.contains_key(id));
        let loaded: HashMap<_, _> = load::incidents(&mut self.connection, &ids, &self.cache)
            .await
            .map_err(failed("read what was imported"))?;
        self.world.incidents.extend(loaded);
        Ok(())
    }
}

async fn write_some(connection: &mut PgConnection, writes: &Writes, head: &Head) -> Result<(), StoreError> {
    write::write(connection, writes, head).await.map_err(failed("write the records"))
}

fn take(world: &mut World, given: &JournalRecord) -> Result<(), String> {
    if given.sequence != world.head.sequence + 1 {
        return Err(format!("it comes after record {}", world.head.sequence));
    }
    let (link, chain_hash) = FLAGS
        .iter()
        .filter_map(|flags| link(given.sequence, given.kind, *flags, &given.payload).ok())
        .map(|link| (link, world.head.chain_hash.next(&link)))
        .find(|(_, chain_hash)| *chain_hash == given.chain_hash)
        .ok_or("it is not the record that the chain leads to: it was changed, or one before it")?;
    let mut at = None;
    let mut appended = None;
    match given.kind {
        record::RECEIVED => at = Some(record::decode_received(&given.payload)?.at),
        record::SWITCHED => world.set_site(record::decode_switched(&given.payload)?),
        record::CORRELATED => {
            let up_to: ReceivedPosition = record::decode_correlated(&given.payload)?;
            world.head.correlated = world.head.correlated.max(up_to);
        }
        record::APPENDED => {
            let decoded = record::decode_append(&given.payload)?;
            at = Some::<Timestamp>(decoded.at);
            let before = world.incidents.get(&decoded.incident_id).cloned();
            let change = AppendedChange::replay(decoded, before.clone(), &world.ledger);
            if let Known::LeftAlone(left) = &change.known {
                return Err(left.error().to_string());
            }
            appended = Some((before, change));
        }
        kind => {
            return Err(format!(
                "its kind {kind} is not known: run the version that wrote it, or a newer one"
            ));
        }
    }
    world.take_record(NewRecord { link, at, payload: given.payload.as_slice().into(), chain_hash });
    if let Some((before, change)) = appended {
        world.make(given.sequence, before, change);
    }
    Ok(())
}
