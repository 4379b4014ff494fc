//! Giving up what is lost: the way out of [`Error::Contradicted`](crate::Error::Contradicted) and of damage. Nothing is deleted: what
//! cannot be kept is put aside.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::disk::{Access, Disk as _, FOLDER_MODE, RealDisk};
use crate::error::Error;
use crate::format::{ChainHash, Head, segment_name};
use crate::journal::hold;
use crate::recover::{MARK_NAME, list_segments};
use crate::scan::{Segment, walk};

/// How far a journal can be read from its first record on, whatever was noted of it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoundEnd {
    /// The journal's identity; none when its beginning is gone.
    pub journal_id: Option<Uuid>,
    /// The last record of the last whole request; sequence 0 when there is none.
    pub head: Head,
    /// The segment that holds it and its length up to there, if more stands in it.
    cut: Option<(u64, u64)>,
    /// Segments after it.
    beyond: Vec<u64>,
}

/// Reads a folder as far as it is sound. Takes no lock and changes nothing.
pub fn sound_end(folder: &Path) -> Result<SoundEnd, Error> {
    let none = Head { sequence: 0, chain_hash: ChainHash::from_bytes([0; 32]) };
    if !folder.is_dir() {
        return Ok(SoundEnd { journal_id: None, head: none, cut: None, beyond: Vec::new() });
    }
    let sequences = list_segments(&RealDisk, folder)?;
    let mut end = SoundEnd { journal_id: None, head: none, cut: None, beyond: Vec::new() };
    for (index, sequence) in sequences.iter().enumerate() {
        let segment = match Segment::open(&RealDisk, folder, *sequence, Access::Read) {
            Ok(segment) => segment,
            Err(error @ (Error::NewerFormat { .. } | Error::OlderFormat { .. } | Error::Io { .. })) => {
                return Err(error);
            }
            Err(_) => return Ok(end.without(&sequences, index)),
        };
        let id = end.journal_id.unwrap_or(segment.header.id);
        let before = match end.journal_id {
            Some(_) => end.head,
            None => Head { sequence: 0, chain_hash: ChainHash::genesis(id) },
        };
        if segment.check_continues(id, before).is_err() {
            return Ok(end.without(&sequences, index));
        }
        end.journal_id = Some(id);
        let found = walk(segment.scanner().with_digests(), before, &mut |_, _, _| {})?;
        end.head = found.head;
        if found.damage.is_some() {
            end.cut = (found.good_length < segment.length).then_some((*sequence, found.good_length));
            return Ok(end.without(&sequences, index + 1));
        }
    }
    Ok(end)
}

impl SoundEnd {
    fn without(mut self, sequences: &[u64], from: usize) -> Self {
        self.beyond = sequences.get(from..).unwrap_or_default().to_vec();
        self
    }
}

/// Makes the journal end at a record, which has to be where its sound part ends: what stands after it, and the durable mark, go into
/// the folder `aside`. The journal can be opened afterwards. Blocks; killed in between it is done again.
pub fn give_up_after(folder: &Path, sequence: u64, aside: &Path) -> Result<SoundEnd, Error> {
    RealDisk.create_folder(folder).map_err(|error| Error::io("create", folder, error))?;
    let _lock = hold(&RealDisk, folder)?;
    let end = sound_end(folder)?;
    if end.head.sequence != sequence {
        return Err(Error::NotTheEnd {
            folder: folder.to_owned(),
            asked: sequence,
            found: end.head.sequence,
        });
    }
    put_aside(folder, &end, aside).map_err(|(path, error)| Error::io("put aside", &path, error))?;
    Ok(end)
}

fn put_aside(folder: &Path, end: &SoundEnd, aside: &Path) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(aside).map_err(at(aside))?;
    if let Some((segment, length)) = end.cut {
        let (path, copy) = (folder.join(segment_name(segment)), aside.join(segment_name(segment)));
        // First the copy, then the cut.
        fs::copy(&path, &copy).and_then(|_| File::open(&copy)?.sync_all()).map_err(at(&copy))?;
        sync(aside).map_err(at(aside))?;
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| {
            file.set_len(length)?;
            file.sync_all()
        });
        cut.map_err(at(&path))?;
    }
    let names = end.beyond.iter().map(|sequence| segment_name(*sequence)).chain([MARK_NAME.to_owned()]);
    for name in names {
        let path = folder.join(&name);
        match fs::rename(&path, aside.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((path, error)),
            _ => {}
        }
    }
    sync(aside).map_err(at(aside))?;
    sync(folder).map_err(at(folder))?;
    match folder.parent() {
        Some(parent) => sync(parent).map_err(at(parent)),
        None => Ok(()),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    RealDisk.sync_folder(folder)
}
