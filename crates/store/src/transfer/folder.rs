//! The data folder of an embedded store as source and target.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use quell_incident::ids::{Digest, IncidentId};
use quell_journal::{Error, Head, Importer, Journal, Options, StoredRecord};
use tokio::task::block_in_place;
use uuid::Uuid;

use super::{Beside, RecordSink, RecordSource, TransferError, in_words};
use crate::embedded::{ChangeRecords, Documents, JOURNAL_FOLDER};
use crate::error::StoreError;

/// What one reading returns, unless one record alone is larger.
const BYTES_MAX: usize = 8 << 20;
/// The index is opened only to be compared.
const INDEX_CACHE_BYTES: u64 = 1 << 20;

/// Reads a data folder. It holds the journal's lock, so that nothing is added meanwhile.
pub struct FolderSource {
    journal: Journal,
    documents: Documents,
    changes: ChangeRecords,
    /// What is still to be read beside the journal, the next one last; `None` before it was looked for.
    left: Option<Vec<Left>>,
}

/// Where something beside the journal is.
enum Left {
    Document(IncidentId, Digest),
    Change(String),
}

impl FolderSource {
    /// Opens a data folder. Blocks.
    ///
    /// # Errors
    /// [`TransferError::Source`]: there is none, it is in use, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self, TransferError> {
        let journal = folder.join(JOURNAL_FOLDER);
        if !journal.is_dir() {
            let why = format!("{} has no journal: name the data folder of a coordinator", folder.display());
            return Err(TransferError::Source(why));
        }
        let opened = crate::embedded::witness::open(folder, Options::new(Uuid::nil()), INDEX_CACHE_BYTES);
        let journal = opened.map_err(|error| TransferError::Source(in_words(&error)))?.journal;
        let (documents, changes) = (Documents::new(folder), ChangeRecords::new(folder));
        Ok(Self { journal, documents, changes, left: None })
    }

    fn all_left(&self) -> Result<Vec<Left>, StoreError> {
        let mut all: Vec<Left> = self.changes.files()?.into_iter().map(Left::Change).collect();
        for incident in self.documents.incidents()? {
            let of_incident = self.documents.digests(incident)?.into_iter();
            all.extend(of_incident.map(|digest| Left::Document(incident, digest)));
        }
        Ok(all)
    }

    fn read_beside(&mut self) -> Result<Option<Beside>, StoreError> {
        if self.left.is_none() {
            self.left = Some(self.all_left()?);
        }
        while let Some(next) = self.left.as_mut().and_then(Vec::pop) {
            let found = match next {
                Left::Change(file) => self.changes.read(&file)?.map(Beside::Change),
                Left::Document(incident, digest) => {
                    let content = self.documents.get(incident, digest)?;
                    content.map(|content| Beside::Document { incident, digest, content })
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl RecordSource for FolderSource {
    async fn journal_id(&mut self) -> Result<Uuid, TransferError> {
        Ok(self.journal.id())
    }

    async fn head(&mut self) -> Result<Head, TransferError> {
        Ok(self.journal.last())
    }

    async fn records_after(
        &mut self,
        sequence: u64,
        records_max: usize,
    ) -> Result<Vec<StoredRecord>, TransferError> {
        let read = || {
            let mut records = Vec::new();
            let mut bytes = 0;
            for entry in self.journal.iter_from(sequence + 1).take(records_max) {
                let entry = entry.map_err(|error| TransferError::Source(in_words(&error)))?;
                bytes += entry.payload.len();
                records.push(entry.into());
                if bytes >= BYTES_MAX {
                    break;
                }
            }
            Ok(records)
        };
        block_in_place(read)
    }

    async fn next_beside(&mut self) -> Result<Option<Beside>, TransferError> {
        block_in_place(|| self.read_beside()).map_err(|error| TransferError::Source(in_words(&error)))
    }
}

/// Fills an empty data folder.
#[derive(Debug)]
pub struct FolderSink {
    folder: PathBuf,
    importer: Option<Importer>,
}

impl FolderSink {
    /// A data folder, which need not exist. Nothing is done yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), importer: None }
    }

    fn refused(&self, error: Error) -> TransferError {
        match error {
            Error::NotEmpty { .. } => TransferError::NotEmpty { what: self.folder.display().to_string() },
            Error::NotTheChain { sequence, why } => TransferError::NotTheChain { sequence, why },
            error => TransferError::Target(in_words(&error)),
        }
    }

    fn not_begun() -> TransferError {
        TransferError::Target("the copy was not begun".to_owned())
    }
}

#[async_trait]
impl RecordSink for FolderSink {
    async fn begin(&mut self, journal_id: Uuid) -> Result<(), TransferError> {
        let journal = self.folder.join(JOURNAL_FOLDER);
        let index = self.folder.join(crate::embedded::INDEX_FOLDER);
        let begun = block_in_place(|| Importer::begin(&journal, Options::new(journal_id), journal_id));
        self.importer = Some(begun.map_err(|error| self.refused(error))?);
        // An index of something else would be found out when it is opened; there is no use in leaving it.
        let removed =
            block_in_place(|| if index.exists() { std::fs::remove_dir_all(&index) } else { Ok(()) });
        removed.map_err(|error| TransferError::Target(format!("cannot remove {}: {error}", index.display())))
    }

    async fn append(&mut self, records: Vec<StoredRecord>) -> Result<(), TransferError> {
        let importer = self.importer.as_mut().ok_or_else(Self::not_begun)?;
        let appended = block_in_place(|| records.iter().try_for_each(|record| importer.append(record)));
        appended.map_err(|error| self.refused(error))
    }

    async fn add_beside(&mut self, beside: Beside) -> Result<(), TransferError> {
        if self.importer.is_none() {
            return Err(Self::not_begun());
        }
        let added = block_in_place(|| match &beside {
            Beside::Document { incident, digest, content } => {
                Documents::new(&self.folder).put(*incident, *digest, content)
            }
            Beside::Change(change) => {
                ChangeRecords::new(&self.folder).put(std::slice::from_ref(change)).map(drop)
            }
        });
        added.map_err(|error| TransferError::Target(in_words(&error)))
    }

    async fn finish(&mut self, head: Head) -> Result<(), TransferError> {
        let importer = self.importer.take().ok_or_else(Self::not_begun)?;
        block_in_place(|| importer.finish(head)).map(|_| ()).map_err(|error| self.refused(error))
    }
}
