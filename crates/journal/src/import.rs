//! Filling an empty folder with the records of another journal: same sequences, digests and chain.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::disk::{Access, Disk, DiskFile};
use crate::error::Error;
use crate::format::{
    ChainHash, Head, Mark, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, StoredContent, StoredRecord,
};
use crate::journal::{Lock, hold};
use crate::options::Options;
use crate::recover::{Failure, MARK_NAME, create_segment, list_segments, open_mark, remove_leftovers};

/// Stands in the folder from the first to the last moment of a copy.
const UNFINISHED_NAME: &str = "copy.unfinished";
const CHUNK_BYTES: usize = 4 << 20;

/// A folder that a copy was begun in is not a journal until the copy is finished.
pub(crate) fn refuse_unfinished(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    if has_marker(disk, folder)? { Err(Error::CopyUnfinished { folder: folder.to_owned() }) } else { Ok(()) }
}

fn has_marker(disk: &dyn Disk, folder: &Path) -> Result<bool, Error> {
    match disk.open(&folder.join(UNFINISHED_NAME), Access::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("open", &folder.join(UNFINISHED_NAME), error)),
    }
}

/// Writes a journal from the records of another one.
///
/// Until [`finish`](Self::finish) has succeeded the folder is refused as [`Error::CopyUnfinished`]; a new copy into it begins
/// from the start.
pub struct Importer {
    folder: PathBuf,
    options: Options,
    id: Uuid,
    head: Head,
    ended: bool,
    file: Arc<dyn DiskFile>,
    length: u64,
    buffer: Vec<u8>,
    _lock: Lock,
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Importer")
            .field("folder", &self.folder)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Importer {
    /// Begins a copy of the journal with that identity. The folder is created, or empty, or has an unfinished copy, which is
    /// thrown away. Blocks, as all of this does.
    pub fn begin(folder: &Path, options: Options, id: Uuid) -> Result<Self, Error> {
        let disk = Arc::clone(&options.disk);
        let disk = &*disk;
        disk.create_folder(folder).map_err(|error| Error::io("create", folder, error))?;
        let lock = hold(disk, folder)?;
        let stale = list_segments(disk, folder)?;
        if !has_marker(disk, folder)? {
            if !stale.is_empty() {
                return Err(Error::NotEmpty { folder: folder.to_owned() });
            }
            let path = folder.join(UNFINISHED_NAME);
            let marked = disk.open(&path, Access::Write).and_then(|file| {
                file.write_at(b"a copy into this folder was begun and not finished\n", 0)?;
                file.sync()?;
                disk.sync_folder(folder)
            });
            marked.map_err(|error| Error::io("write", &path, error))?;
        }
        remove_leftovers(disk, folder)?;
        let names = stale.into_iter().map(crate::format::segment_name).chain([MARK_NAME.to_owned()]);
        for path in names.map(|name| folder.join(name)) {
            match disk.remove(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("remove", &path, error)),
            }
        }
        let head = Head { sequence: 0, chain_hash: ChainHash::genesis(id) };
        let header = SegmentHeader { id, first_sequence: 1, chain_hash: head.chain_hash };
        let file = create_segment(disk, folder, header).map_err(|failure| not_written(folder, failure))?;
        Ok(Self {
            folder: folder.to_owned(),
            options,
            id,
            head,
            ended: true,
            file,
            length: SEGMENT_HEADER_BYTES as u64,
            buffer: Vec::new(),
            _lock: lock,
        })
    }

    /// Adds the next record, which has to follow on the one before it.
    pub fn append(&mut self, record: &StoredRecord) -> Result<(), Error> {
        let sequence = self.head.sequence + 1;
        let refused = |why| Error::NotTheChain { sequence, why };
        if record.sequence != sequence {
            return Err(refused("is missing"));
        }
        let header = RecordHeader::of_stored(record, sequence).ok_or(refused("is too long"))?;
        if !header.follows(self.head.chain_hash) {
            return Err(refused("does not follow from the one before it"));
        }
        if self.ended && self.length + self.buffer.len() as u64 >= self.options.segment_bytes_max {
            self.rotate()?;
        }
        header.encode(&mut self.buffer, self.id);
        if let StoredContent::Payload(payload) = &record.content {
            self.buffer.extend_from_slice(payload);
        }
        self.head = Head { sequence, chain_hash: record.chain_hash };
        self.ended = record.last_of_request;
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes the copy durable and a journal that can be opened, if it ends with this record.
    pub fn finish(mut self, head: Head) -> Result<Head, Error> {
        let sequence = self.head.sequence;
        if self.head != head {
            let why = "is the last one, which is not where the source ends";
            return Err(Error::NotTheChain { sequence, why });
        }
        if !self.ended {
            return Err(Error::NotTheChain { sequence, why: "is the last one and its request goes on" });
        }
        self.flush()?;
        self.sync()?;
        let disk = &*self.options.disk;
        let mark_path = self.folder.join(MARK_NAME);
        let mark = open_mark(disk, &self.folder)?;
        let bytes = Mark { id: self.id, head }.encode();
        let marked =
            mark.write_at(&bytes, 0).and_then(|()| mark.sync()).and_then(|()| disk.sync_folder(&self.folder));
        marked.map_err(|error| Error::io("write", &mark_path, error))?;
        // The last thing to be done: from here on it is a journal.
        let path = self.folder.join(UNFINISHED_NAME);
        let removed = disk.remove(&path).and_then(|()| disk.sync_folder(&self.folder));
        removed.map_err(|error| Error::io("remove", &path, error))?;
        Ok(head)
    }

    fn rotate(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.sync()?;
        let first_sequence = self.head.sequence + 1;
        let header = SegmentHeader { id: self.id, first_sequence, chain_hash: self.head.chain_hash };
        let created = create_segment(&*self.options.disk, &self.folder, header);
        self.file = created.map_err(|failure| not_written(&self.folder, failure))?;
        self.length = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.file.write_at(&self.buffer, self.length);
        written.map_err(|error| Error::io("write a segment of", &self.folder, error))?;
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync().map_err(|error| Error::io("sync a segment of", &self.folder, error))
    }
}

fn not_written(folder: &Path, failure: Failure) -> Error {
    Error::io(failure.action, folder, failure.source)
}
