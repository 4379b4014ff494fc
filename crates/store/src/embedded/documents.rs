//! Documents as files: `documents/<incident>/<digest>`, each written and synced under another name first, so that what is there under
//! its name is whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quell_incident::ids::{Digest, IncidentId};

use super::private;
use crate::error::StoreError;

pub(crate) const FOLDER: &str = "documents";

pub(crate) struct Documents {
    folder: PathBuf,
    /// Incidents are gone whose documents are not.
    some_to_drop: AtomicBool,
}

impl Documents {
    pub(crate) fn new(store: &Path) -> Self {
        Self { folder: store.join(FOLDER), some_to_drop: AtomicBool::new(false) }
    }

    fn of(&self, incident: IncidentId) -> PathBuf {
        self.folder.join(incident.to_string())
    }

    /// Durable when this returns.
    pub(crate) fn put(
        &self,
        incident: IncidentId,
        digest: Digest,
        document: &[u8],
    ) -> Result<(), StoreError> {
        self.write(&self.of(incident), digest, document).map_err(failed("write a document"))
    }

    fn write(&self, folder: &Path, digest: Digest, document: &[u8]) -> io::Result<()> {
        let file = digest.to_string();
        // It may be there under its name and its name not yet on disk.
        private::folder(&self.folder)?;
        private::folder(folder)?;
        if !fs::read(folder.join(&file)).is_ok_and(|known| Digest::of_bytes(&known) == digest) {
            write_whole(folder, &file, document)?;
        }
        sync_folders(folder)?;
        sync_folders(&self.folder)
    }

    /// A document; one that is not what it was written as counts as damaged.
    pub(crate) fn get(&self, incident: IncidentId, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(self.of(incident).join(digest.to_string())) {
            Ok(document) if Digest::of_bytes(&document) == digest => Ok(Some(document)),
            Ok(_) => {
                let why = format!("document {digest} is not what was written");
                Err(StoreError::Damaged { incident_id: incident, why })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read a document")(error)),
        }
    }

    /// Says whether there are documents of incidents that are gone, and tells what was said before.
    pub(super) fn swap_some_to_drop(&self, some: bool) -> bool {
        self.some_to_drop.swap(some, Ordering::SeqCst)
    }

    /// The incidents that have documents.
    pub(crate) fn incidents(&self) -> Result<Vec<IncidentId>, StoreError> {
        let failed = failed("list the documents");
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(&failed)?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<IncidentId>().ok()));
        }
        found.sort();
        Ok(found)
    }

    /// The names of an incident's documents.
    pub(crate) fn digests(&self, incident: IncidentId) -> Result<Vec<Digest>, StoreError> {
        let failed = failed("list the documents");
        let mut found = Vec::new();
        for entry in fs::read_dir(self.of(incident)).map_err(&failed)? {
            // Others are not finished.
            let name = entry.map_err(&failed)?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<Digest>().ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Removes the documents of an incident that is not known any more.
    pub(super) fn remove(&self, incident: IncidentId) -> Result<(), StoreError> {
        match fs::remove_dir_all(self.of(incident)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove documents")(error)),
            _ => Ok(()),
        }
    }
}

/// Two writers of one file each have one of their own until one of them renames it.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Writes a file that is there whole or not at all, into a folder that is there. Its name is durable after [`sync_folders`].
pub(super) fn write_whole(folder: &Path, file: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!(".{file}.{}", WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let written = private::file(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&unfinished, folder.join(file))) {
        // It would take space that may be what is missing.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    Ok(())
}

/// Makes the names in a folder durable, and its own.
pub(super) fn sync_folders(folder: &Path) -> io::Result<()> {
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Puts what is in the folder of an incident into another folder of the store. One that is on another disk, as behind a symbolic link,
/// stays there under another name, by which nobody finds it.
pub(super) fn put_aside(documents: &Path, incident: IncidentId, aside: &Path) -> io::Result<()> {
    let (from, name) = (documents.join(incident.to_string()), aside.file_name().unwrap_or_default());
    let to = aside.join(FOLDER);
    private::folder(&to)?;
    match fs::rename(&from, to.join(incident.to_string())) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let beside = documents.join(name);
            private::folder(&beside)?;
            fs::rename(&from, beside.join(incident.to_string()))?;
            sync_folders(&beside)
        }
        renamed => renamed,
    }?;
    sync_folders(&to)?;
    sync_folders(documents)
}

/// What went wrong with a file, for people.
pub(super) fn failed(action: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(error.into()),
        _ => StoreError::Read { action, source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> IncidentId {
        IncidentId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn what_was_not_finished_is_not_there_and_what_was_changed_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let documents = Documents::new(folder.path());
        assert_eq!(documents.incidents().unwrap(), []);
        let digest = Digest::of_bytes(b"evidence");
        let place = documents.of(id(1));
        fs::create_dir_all(&place).unwrap();
        // As a crash leaves it.
        fs::write(place.join(format!(".{digest}.0")), b"evi").unwrap();
        assert_eq!(documents.get(id(1), digest).unwrap(), None);
        documents.put(id(1), digest, b"evidence").unwrap();
        documents.put(id(1), digest, b"evidence").unwrap();
        assert_eq!(documents.get(id(1), digest).unwrap().as_deref(), Some(&b"evidence"[..]));
        fs::write(place.join(digest.to_string()), b"evidencf").unwrap();
        assert!(matches!(documents.get(id(1), digest), Err(StoreError::Damaged { .. })));
        // Written once more it is whole again.
        documents.put(id(1), digest, b"evidence").unwrap();
        assert!(documents.get(id(1), digest).unwrap().is_some());
        assert_eq!(documents.incidents().unwrap(), [id(1)]);
        documents.remove(id(1)).unwrap();
        documents.remove(id(1)).unwrap();
        assert_eq!(documents.get(id(1), digest).unwrap(), None);
    }
}
