//! Changes of the site as files: `changes/<milliseconds since 1970>-<digest>.json`. There are few of them, and each is read by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::documents::{failed, sync_folders, write_whole};
use super::private;
use crate::change_record::{ChangeQuery, ReceivedChange};
use crate::error::StoreError;

pub(super) const FOLDER: &str = "changes";

pub(crate) struct ChangeRecords {
    folder: PathBuf,
}

/// Sorts as the instants do; what lies before 1970 counts as 1970.
fn stamp(at: Timestamp) -> String {
    format!("{:015}", at.as_millisecond().max(0))
}

impl ChangeRecords {
    pub(crate) fn new(store: &Path) -> Self {
        Self { folder: store.join(FOLDER) }
    }

    /// Durable when this returns; says how many were new. Those that are too old go.
    pub(crate) fn put(&self, changes: &[ReceivedChange]) -> Result<usize, StoreError> {
        let Some(newest) = changes.iter().max_by_key(|change| change.received_at) else { return Ok(0) };
        private::folder(&self.folder).map_err(failed("write a change"))?;
        let mut new = 0;
        for change in changes {
            let file = format!("{}-{}.json", stamp(change.record.at), change.digest()?);
            let json = serde_json::to_vec(change).map_err(|error| StoreError::unsound(error.to_string()))?;
            let there = self.folder.join(&file).try_exists().map_err(failed("look for a change"))?;
            if !there {
                write_whole(&self.folder, &file, &json).map_err(failed("write a change"))?;
                new += 1;
            }
        }
        sync_folders(&self.folder).map_err(failed("write a change"))?;
        self.drop_before(&stamp(newest.horizon()))?;
        Ok(new)
    }

    fn drop_before(&self, horizon: &str) -> Result<(), StoreError> {
        for file in self.files()?.iter().take_while(|file| file.as_str() < horizon) {
            match fs::remove_file(self.folder.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove a change")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The names in the order of their instants.
    pub(crate) fn files(&self) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list the changes")(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list the changes"))?.file_name();
            // Others are not finished.
            names.extend(name.to_str().filter(|name| name.ends_with(".json")).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// In the order of their instants.
    pub(crate) fn find(&self, query: &ChangeQuery) -> Result<Vec<ReceivedChange>, StoreError> {
        let (from, to) = (stamp(query.from), stamp(query.to));
        let files = self.files()?;
        let within = files.iter().rev().filter(|file| {
            let at = file.split('-').next().unwrap_or_default();
            from.as_str() <= at && at <= to.as_str()
        });
        let mut found = Vec::new();
        for file in within {
            if found.len() >= query.limit {
                break;
            }
            found.extend(self.read(file)?.filter(|change| query.admits(change)));
        }
        found.reverse();
        Ok(found)
    }

    /// The change of a file; `None` when it has just become too old.
    pub(crate) fn read(&self, file: &str) -> Result<Option<ReceivedChange>, StoreError> {
        let json = match fs::read(self.folder.join(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read a change"))?,
        };
        serde_json::from_slice(&json).map(Some).map_err(|error| {
            StoreError::unsound(format!("changes/{file} is not a change ({error}); remove the file"))
        })
    }
}
