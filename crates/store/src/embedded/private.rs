//! What a store writes is for its owner alone, whatever the process' umask and whatever was there before: alerts and evidence say a
//! lot about a site.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use quell_journal::{FILE_MODE, FOLDER_MODE};

use super::loss::ASIDE_PREFIX;
use super::{DOCUMENTS_FOLDER, INDEX_FOLDER, JOURNAL_FOLDER, change_records, witness};

/// What a coordinator keeps beside its store, in the same folder.
const PERMIT_KEY: &str = "permit.key";

/// Creates a folder and its parents, or closes one that is there.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
    close(path, FOLDER_MODE)
}

/// Creates a file that is to be written.
pub(super) fn file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    close(path, FILE_MODE)?;
    Ok(file)
}

/// Closes what another program has written into a folder of the store.
pub(super) fn close_content(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => {
                close(&entry.path(), FOLDER_MODE)?;
                close_content(&entry.path())?;
            }
            kind if kind.is_file() => close(&entry.path(), FILE_MODE)?,
            _ => {}
        }
    }
    Ok(())
}

/// Closes the data folder and what is directly in it. A folder that has other things in it as well may be somebody's home: then it is
/// left as it is, and its parts are closed.
pub(super) fn close_data_folder(data_folder: &Path) -> io::Result<()> {
    let mut foreign = None;
    for entry in fs::read_dir(data_folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = [
            JOURNAL_FOLDER,
            INDEX_FOLDER,
            DOCUMENTS_FOLDER,
            change_records::FOLDER,
            witness::ACCEPTANCE,
            witness::UNKNOWN_END,
            PERMIT_KEY,
        ];
        let prefixes = [ASIDE_PREFIX, "index.bad-"];
        if ours.contains(&&*name) || prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            // A folder may be a symbolic link to one on another disk, and what is closed is what it leads to.
            let is_folder = match fs::metadata(&path) {
                Ok(metadata) => metadata.is_dir(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            close(&path, if is_folder { FOLDER_MODE } else { FILE_MODE })?;
        } else {
            foreign = Some(name.into_owned());
        }
    }
    match foreign {
        None => close(data_folder, FOLDER_MODE),
        Some(name) if is_open(data_folder)? => {
            tracing::warn!(
                folder = %data_folder.display(), other = name,
                "the data folder is open to other users and has other things in it: it is left so; `chmod go= ` closes it"
            );
            Ok(())
        }
        Some(_) => Ok(()),
    }
}

fn is_open(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}

fn close(path: &Path, mode: u32) -> io::Result<()> {
    match is_open(path) {
        Ok(false) => Ok(()),
        // The index's files come and go.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(true) => fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|error| {
            let why = format!(
                "{} is open to other users and cannot be closed ({error}): `chmod go=` it",
                path.display()
            );
            io::Error::new(error.kind(), why)
        }),
    }
}
