//! Plans that were shown and have not begun: a file each beside the journal, so that a storm of plans which come to nothing leaves nothing
//! behind. With its first step a plan goes into the journal, together with the step's intent, and its file goes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use quell_incident::Plan;
use quell_incident::ids::Digest;
use quell_journal::{Access, Disk};

/// A plan's file is smaller; what is larger was not written here.
const FILE_BYTES_MAX: u64 = 4 << 20;
const EXTENSION: &str = ".json";

/// The folder of the plans.
#[derive(Clone, Debug)]
pub(super) struct PlanFiles {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

/// A file of a plan cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be {done}", .path.display())]
pub struct PlanFileError {
    path: PathBuf,
    done: &'static str,
    source: io::Error,
}

impl PlanFiles {
    /// The plans in a folder, which is made where there is none.
    pub(super) fn open(disk: Arc<dyn Disk>, folder: PathBuf) -> Result<Self, PlanFileError> {
        let files = Self { disk, folder };
        files.disk.create_folder(&files.folder).map_err(|source| files.failed("created", source))?;
        Ok(files)
    }

    fn failed(&self, done: &'static str, source: io::Error) -> PlanFileError {
        PlanFileError { path: self.folder.clone(), done, source }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}{EXTENSION}"))
    }

    /// Writes a plan: whole and durable when this returns, or not at all. Blocks.
    pub(super) fn write(&self, digest: &Digest, plan: &[u8]) -> Result<(), PlanFileError> {
        let path = self.path(digest);
        let beside = path.with_extension("new");
        let write = || {
            let file = self.disk.open(&beside, Access::Write)?;
            file.set_length(0)?;
            file.write_at(plan, 0)?;
            file.sync()?;
            self.disk.rename(&beside, &path)?;
            self.disk.sync_folder(&self.folder)
        };
        write().map_err(|source| PlanFileError { path: path.clone(), done: "written", source })
    }

    /// Takes files away. One that stays is taken away at the next start.
    pub(super) fn remove(&self, digests: &[Digest]) {
        for digest in digests {
            let path = self.path(digest);
            if let Err(error) = self.disk.remove(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %path.display(), %error, "a plan that is over could not be removed");
            }
        }
    }

    /// All plans that are there. What is no whole plan of its name cannot have been shown, or was changed since: it is taken away. What
    /// cannot be read now may be one that a person has approved: that is an error, and it stays.
    pub(super) fn read(&self) -> Result<Vec<(Digest, Plan)>, PlanFileError> {
        let mut plans = Vec::new();
        for name in self.disk.list(&self.folder).map_err(|source| self.failed("read", source))? {
            match self.plan_in(&name) {
                Ok(Ok(found)) => plans.push(found),
                Err(source) => {
                    return Err(PlanFileError { path: self.folder.join(&name), done: "read", source });
                }
                Ok(Err(why)) => {
                    let path = self.folder.join(&name);
                    tracing::warn!(file = %path.display(), why, "no plan of this agent, removed");
                    let removed = self.disk.remove(&path);
                    removed.map_err(|source| PlanFileError { path, done: "removed", source })?;
                }
            }
        }
        Ok(plans)
    }

    /// The plan in a file, or why it is none.
    fn plan_in(&self, name: &str) -> io::Result<Result<(Digest, Plan), String>> {
        let Some(stem) = name.strip_suffix(EXTENSION) else {
            return Ok(Err("it was never finished".to_owned()));
        };
        let Ok(named) = stem.parse::<Digest>() else { return Ok(Err("its name is no digest".to_owned())) };
        let read = || -> io::Result<Vec<u8>> {
            let file = self.disk.open(&self.folder.join(name), Access::Read)?;
            let mut text = vec![0; file.length()?.min(FILE_BYTES_MAX) as usize];
            let mut read = 0;
            while read < text.len() {
                match file.read_at(&mut text[read..], read as u64)? {
                    0 => break,
                    bytes => read += bytes,
                }
            }
            text.truncate(read);
            Ok(text)
        };
        let text = read()?;
        Ok(whole_plan(named, &text))
    }
}

fn whole_plan(named: Digest, text: &[u8]) -> Result<(Digest, Plan), String> {
    let plan: Plan = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match plan.digest() {
        Ok(digest) if digest == named => Ok((digest, plan)),
        Ok(digest) => Err(format!("its digest is {digest}")),
        Err(error) => Err(error.to_string()),
    }
}
