//! A PostgreSQL database as one end of a copy: the same records with the same chain as in a folder.

use async_trait::async_trait;
use quell_incident::ids::{Digest, IncidentId};
use quell_journal::{Head, StoredRecord};
use uuid::Uuid;

use super::{Import, PostgresStore};
use crate::error::StoreError;
use crate::transfer::{Backend, Beside, RecordSink, RecordSource, TransferError, in_words};

/// `postgres://...` and `postgresql://...`.
pub(crate) struct Postgres;

#[async_trait]
impl Backend for Postgres {
    fn schemes(&self) -> &'static [&'static str] {
        &super::database::SCHEMES
    }

    async fn source(&self, address: &str) -> Result<Box<dyn RecordSource>, TransferError> {
        // An empty database gets an identity by being opened; it has no records to copy either way.
        let store = PostgresStore::open(address, Uuid::now_v7()).await.map_err(source)?;
        Ok(Box::new(Source { store, documents: None, changes: None }))
    }

    async fn sink(&self, address: &str) -> Result<Box<dyn RecordSink>, TransferError> {
        let store = PostgresStore::open(address, Uuid::now_v7()).await.map_err(target)?;
        Ok(Box::new(Sink { store, import: None }))
    }
}

fn source(error: StoreError) -> TransferError {
    TransferError::Source(in_words(&error))
}

fn target(error: StoreError) -> TransferError {
    match error {
        StoreError::NotEmpty { .. } => TransferError::NotEmpty { what: "the database".to_owned() },
        error => TransferError::Target(in_words(&error)),
    }
}

struct Source {
    store: PostgresStore,
    /// The last document that was read, and the last change.
    documents: Option<(IncidentId, Digest)>,
    changes: Option<Digest>,
}

#[async_trait]
impl RecordSource for Source {
    async fn journal_id(&mut self) -> Result<Uuid, TransferError> {
        Ok(self.store.journal_id())
    }

    async fn head(&mut self) -> Result<Head, TransferError> {
        self.store.head().await.map_err(source)
    }

    async fn records_after(
        &mut self,
        sequence: u64,
        records_max: usize,
    ) -> Result<Vec<StoredRecord>, TransferError> {
        self.store.records_after(sequence, records_max).await.map_err(source)
    }

    async fn next_beside(&mut self) -> Result<Option<Beside>, TransferError> {
        if let Some((incident, digest, content)) =
            self.store.document_after(self.documents).await.map_err(source)?
        {
            self.documents = Some((incident, digest));
            if Digest::of_bytes(&content) != digest {
                let why = format!("document {digest} of incident {incident} is not what was written");
                return Err(TransferError::Source(why));
            }
            return Ok(Some(Beside::Document { incident, digest, content }));
        }
        let found = self.store.change_after(self.changes).await.map_err(source)?;
        Ok(found.map(|(digest, change)| {
            self.changes = Some(digest);
            Beside::Change(change)
        }))
    }
}

struct Sink {
    store: PostgresStore,
    /// One transaction: as long as it is not finished the database stays empty.
    import: Option<Import>,
}

impl Sink {
    fn begun(&mut self) -> Result<&mut Import, TransferError> {
        self.import.as_mut().ok_or_else(|| TransferError::Target("the copy was not begun".to_owned()))
    }
}

#[async_trait]
impl RecordSink for Sink {
    async fn begin(&mut self, journal_id: Uuid) -> Result<(), TransferError> {
        self.import = Some(self.store.begin_import(journal_id).await.map_err(target)?);
        Ok(())
    }

    async fn append(&mut self, records: Vec<StoredRecord>) -> Result<(), TransferError> {
        self.begun()?.write(&records).await.map_err(target)
    }

    async fn add_beside(&mut self, beside: Beside) -> Result<(), TransferError> {
        self.begun()?.add_beside(&beside).await.map_err(target)
    }

    async fn finish(&mut self, head: Head) -> Result<(), TransferError> {
        self.begun()?;
        let Some(import) = self.import.take() else { return Ok(()) };
        let (sequence, chain_hash) = import.finish().await.map_err(target)?;
        if (Head { sequence, chain_hash }) != head {
            let why = format!("it ends with record {sequence}, and the source with {}", head.sequence);
            return Err(TransferError::Target(why));
        }
        Ok(())
    }
}
