//! Records of the journal as they are, to be copied from one backend to another.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use quell_incident::ids::IncidentId;
use quell_journal::{ChainHash, Link, StoredContent, StoredRecord};
use sqlx::PgConnection;
use uuid::Uuid;

use super::load::{self, Trouble, chain_hash};
use super::read::failed;
use super::world::{Head, NewRecord, World, Writes, link};
use super::{Cache, PostgresStore, change_records, database, retain, write};
use crate::append::ReceivedPosition;
use crate::embedded::record::{self, RetainedRecord};
use crate::embedded::state::{AppendedChange, Known};
use crate::error::StoreError;
use crate::ledger::LedgerChange;
use crate::memory::is_finished;
use crate::transfer::Beside;

/// What one call returns of the journal, unless one record alone is larger.
const RECORDS_BYTES_MAX: i64 = 8 << 20;
const RECORDS_MAX: usize = 4_096;

/// An import that is under way: one transaction, so that an interrupted one leaves nothing.
pub struct Import {
    connection: PgConnection,
    world: World,
    cache: Cache,
    /// Incidents of which retention has dropped records, until its own record comes: where they were first met, and why they cannot
    /// be read.
    incomplete: BTreeMap<IncidentId, (u64, String)>,
    /// Whether any record came without its payload.
    dropped: bool,
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
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let mut connection = self.shared.reader().await?;
        let sql = "SELECT sequence, kind, flags, payload, payload_bytes, payload_digest, chain_hash FROM (
                SELECT *, sum(octet_length(payload)) OVER (ORDER BY sequence) - octet_length(payload) AS before
                FROM (SELECT * FROM journal WHERE sequence > $1 ORDER BY sequence LIMIT $2) AS next
            ) AS sized WHERE before IS NULL OR before < $3 ORDER BY sequence";
        let rows: Vec<RecordRow> = sqlx::query_as(sql)
            .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
            .bind(records_max.min(RECORDS_MAX) as i64)
            .bind(RECORDS_BYTES_MAX)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("read the journal"))?;
        rows.into_iter().map(|row| record_of(row).map_err(failed("read the journal"))).collect()
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
        let (world, cache) = (World::new(head), Cache::default());
        Ok(Import { connection, world, cache, incomplete: BTreeMap::new(), dropped: false })
    }
}

impl Import {
    /// Takes the next records, with all that follows from them.
    ///
    /// # Errors
    /// [`StoreError::Record`] for one that does not follow on the one before, or that this program cannot read: nothing is
    /// imported then.
    ///
    pub async fn write(&mut self, records: &[StoredRecord]) -> Result<(), StoreError> {
        for some in records.chunks(512) {
            self.load_for(some).await?;
            for record in some {
                let unreadable = |why| StoreError::Record { sequence: record.sequence, why };
                if let Some(retained) = self.take(record).map_err(unreadable)? {
                    // What it gives up has to be there.
                    self.write_taken().await?;
                    self.forget(record.sequence, &retained).await?;
                }
            }
            self.write_taken().await?;
            // What is finished seldom comes again; the others are as many as are open.
            let incomplete = &self.incomplete;
            self.world.incidents.retain(|id, known| match known.readable() {
                Ok(incident) => !is_finished(incident),
                Err(_) => incomplete.contains_key(id),
            });
            self.world.messages.clear();
        }
        Ok(())
    }

    async fn write_taken(&mut self) -> Result<(), StoreError> {
        let writes = std::mem::take(&mut self.world.writes);
        if writes.records.is_empty() {
            return Ok(());
        }
        write_some(&mut self.connection, &writes, &self.world.head).await
    }

    /// Takes what stands beside the journal. A document of an incident that is gone is left out, as retention would drop it.
    ///
    /// # Errors
    /// When the database does not take it.
    pub(super) async fn add_beside(&mut self, beside: &Beside) -> Result<(), StoreError> {
        let written = match beside {
            Beside::Document { incident, digest, content } => {
                let sql = "INSERT INTO documents (incident_id, digest, document)
                    SELECT $1, $2, $3 WHERE EXISTS (SELECT FROM incidents WHERE id = $1) ON CONFLICT DO NOTHING";
                let insert =
                    sqlx::query(sql).bind(incident.0).bind(digest.as_bytes().as_slice()).bind(content);
                insert.execute(&mut self.connection).await
            }
            Beside::Change(change) => {
                let digest = change.digest()?;
                change_records::insert(change, &digest).execute(&mut self.connection).await
            }
        };
        written.map(drop).map_err(failed("write what stands beside the journal"))
    }

    /// Makes it durable and returns the end of the journal.
    ///
    /// # Errors
    /// When the database does not take it; whether it has is then to be looked up.
    pub async fn finish(mut self) -> Result<(u64, ChainHash), StoreError> {
        if let Some((sequence, why)) = self.incomplete.into_values().min() {
            return Err(StoreError::Record { sequence, why });
        }
        sqlx::query("UPDATE journal_head SET tokens_above = $1")
            .bind(self.world.head.tokens_above.0 as i64)
            .execute(&mut self.connection)
            .await
            .map_err(failed("finish the import"))?;
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.map_err(failed("finish the import"))?;
        Ok((self.world.head.sequence, self.world.head.chain_hash))
    }

    /// Incidents that records go on with and that are not at hand.
    async fn load_for(&mut self, records: &[StoredRecord]) -> Result<(), StoreError> {
        let appends = records.iter().filter(|record| record.kind == record::APPENDED);
        let ids = appends.filter_map(|record| match &record.content {
            StoredContent::Payload(payload) => record::decode_append(payload).ok(),
            StoredContent::Dropped { .. } => None,
        });
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

    /// Takes one record; what it gives up, if it is a retention record.
    fn take(&mut self, given: &StoredRecord) -> Result<Option<RetainedRecord>, String> {
        let world = &mut self.world;
        if given.sequence != world.head.sequence + 1 {
            return Err(format!("it comes after record {}", world.head.sequence));
        }
        let link = link_of(given).map_err(|error| error.to_string())?;
        let chain_hash = world.head.chain_hash.next(&link);
        if chain_hash != given.chain_hash {
            return Err(
                "it is not the record that the chain leads to: it was changed, or one before it".to_owned()
            );
        }
        let StoredContent::Payload(payload) = &given.content else {
            self.dropped = true;
            world.take_record(NewRecord { link, at: None, payload: None, chain_hash });
            return Ok(None);
        };
        let (mut at, mut appended, mut retained) = (None, None, None);
        match given.kind {
            record::LOST => {
                let loss = record::decode_loss(payload)?;
                world.set_tokens_above(loss.tokens_above(world.head.tokens_above));
                at = loss.accepted.map(|accepted| accepted.at);
            }
            record::RECEIVED => at = Some(record::decode_received(payload)?.at),
            record::SWITCHED => world.set_site(record::decode_switched(payload)?),
            record::CORRELATED => {
                let up_to: ReceivedPosition = record::decode_correlated(payload)?;
                world.head.correlated = world.head.correlated.max(up_to);
            }
            record::APPENDED => {
                let decoded = record::decode_append(payload)?;
                at = Some::<Timestamp>(decoded.at);
                let before = world.incidents.get(&decoded.incident_id).cloned();
                let change = AppendedChange::replay(decoded, before.clone(), &world.ledger);
                if let Known::LeftAlone(left) = &change.known {
                    let why = left.error().to_string();
                    if !self.dropped {
                        return Err(why);
                    }
                    // Its beginning may have been dropped: then a record that gives it up is still to come.
                    self.incomplete.entry(change.known.id()).or_insert((given.sequence, why));
                }
                appended = Some((before, change));
            }
            record::RETAINED => {
                let decoded = record::decode_retained(payload)?;
                at = Some(decoded.at);
                world.head.correlated = world.head.correlated.max(decoded.correlated());
                world.set_site(decoded.site.clone());
                retained = Some(decoded);
            }
            kind => {
                return Err(format!(
                    "its kind {kind} is not known: run the version that wrote it, or a newer one"
                ));
            }
        }
        let payload = Some(payload.as_slice().into());
        world.take_record(NewRecord { link, at, payload, chain_hash });
        if let Some((before, change)) = appended {
            world.make(given.sequence, before, change);
        }
        Ok(retained)
    }

    /// Takes out what a retention record gives up, and sets what it says of locks and cool-downs.
    async fn forget(&mut self, sequence: u64, retained: &RetainedRecord) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = retained.incidents.iter().map(|id| id.0).collect();
        for id in &retained.incidents {
            self.world.incidents.remove(id);
            self.incomplete.remove(id);
        }
        let forgetting = async {
            for sql in [
                "DELETE FROM incidents WHERE id = ANY($1)",
                "DELETE FROM incident_events WHERE incident_id = ANY($1)",
                "DELETE FROM alerts WHERE incident_id = ANY($1)",
                "DELETE FROM messages WHERE incident_id = ANY($1)",
            ] {
                sqlx::query(sql).bind(&ids).execute(&mut self.connection).await?;
            }
            let ranges = retained.ranges().map_err(load::damaged)?;
            retain::note(&mut self.connection, sequence, retained.received_up_to(), &ranges).await
        };
        forgetting.await.map_err(failed("forget what retention dropped"))?;
        let change = LedgerChange {
            locks: retained.locks.iter().cloned().collect(),
            cool_downs: retained.cool_downs.clone(),
            cool_downs_over: Vec::new(),
        };
        self.world.change_ledger(&change);
        Ok(())
    }
}

async fn write_some(connection: &mut PgConnection, writes: &Writes, head: &Head) -> Result<(), StoreError> {
    write::write(connection, writes, head).await.map_err(failed("write the records"))
}

/// What the chain covers of a record.
fn link_of(record: &StoredRecord) -> Result<Link, StoreError> {
    let flags = u16::from(record.last_of_request);
    let link = |payload: &[u8]| link(record.sequence, record.kind, flags, payload);
    match &record.content {
        StoredContent::Payload(payload) => link(payload),
        StoredContent::Dropped { digest, bytes } => {
            let link = link(&[])?;
            Ok(Link { payload_length: *bytes, payload_digest: *digest, ..link })
        }
    }
}

/// Sequence, kind, flags, payload, its length once it is gone, its digest, chain hash.
type RecordRow = (i64, i16, i16, Option<Vec<u8>>, Option<i32>, Vec<u8>, Vec<u8>);

fn record_of(row: RecordRow) -> Result<StoredRecord, Trouble> {
    let (sequence, kind, flags, payload, bytes, digest, chain) = row;
    let content = match payload {
        Some(payload) => StoredContent::Payload(payload),
        None => {
            let digest = digest.try_into().map_err(|_| load::damaged("a digest has 32 bytes"))?;
            let bytes = bytes.ok_or_else(|| load::damaged("a dropped payload has no length"))?;
            StoredContent::Dropped { digest, bytes: bytes as u32 }
        }
    };
    Ok(StoredRecord {
        sequence: sequence as u64,
        kind: kind as u16,
        last_of_request: flags & 1 == 1,
        content,
        chain_hash: chain_hash(&chain)?,
    })
}
