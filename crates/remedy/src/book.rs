//! All runbooks that an agent has: those that Quell ships, and those of a site's folder, where the same name replaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use quell_incident::RunbookName;
use quell_tool::ActionRegistry;

use crate::inventory::Inventory;
use crate::runbook::{self, Runbook};
use crate::yaml::{FILE_BYTES_MAX, Mistake, Mistakes};

/// Runbooks in one folder at the most.
pub const RUNBOOKS_MAX: usize = 1_000;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$((concat!($name, ".yaml"), include_str!(concat!("../runbooks/", $name, ".yaml")))),*]
    };
}

const SHIPPED: &[(&str, &str)] = shipped![
    "api-503-restart-upstream",
    "api-503-scale-gateway",
    "certificate-renew",
    "cpu-scale-out",
    "cpu-stop-runaway-job",
    "database-raise-limits",
    "disk-clean-logs",
    "disk-clean-system-logs",
    "kafka-scale-consumers",
    "kafka-restart-consumers",
    "memory-restart-service",
    "postgres-end-idle-sessions",
];

/// Why runbooks or an inventory could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder or a file in it cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder has more files than that.
    #[error("{} has more than {RUNBOOKS_MAX} runbooks", .folder.display())]
    TooMany {
        /// Which.
        folder: PathBuf,
    },
    /// Mistakes in the files.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// Runbooks by name.
#[derive(Clone, Debug, Default)]
pub struct Runbooks {
    by_name: BTreeMap<RunbookName, Runbook>,
}

impl Runbooks {
    /// Loads the shipped runbooks and, over them, those of `folder`: every `*.yaml` and `*.yml` in it.
    ///
    /// A shipped runbook about targets that this site's inventory lacks is left out rather than a mistake; [`Runbooks::left_out`]
    /// names them.
    ///
    /// # Errors
    /// [`LoadError`] with every mistake in the folder's files; nothing is loaded then.
    pub fn load(
        folder: Option<&Path>,
        inventory: &Inventory,
        actions: &ActionRegistry,
    ) -> Result<Self, LoadError> {
        let mut by_name = BTreeMap::new();
        let mut mistakes = Vec::new();
        for (file, text) in SHIPPED {
            if let Ok(runbook) = runbook::parse(file, text, inventory, actions) {
                by_name.insert(runbook.name.clone(), runbook);
            }
        }
        let mut own = BTreeMap::new();
        for (file, text) in folder.map(read_folder).transpose()?.unwrap_or_default() {
            match runbook::parse(&file, &text, inventory, actions) {
                Ok(runbook) => {
                    if let Some(first) = own.get(&runbook.name) {
                        mistakes.push(name_twice(&file, &text, &runbook, first));
                    }
                    own.insert(runbook.name.clone(), runbook);
                }
                Err(found) => mistakes.extend(found.0),
            }
        }
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes).into());
        }
        by_name.extend(own);
        Ok(Self { by_name })
    }

    /// Reads runbooks from texts, each with the name of its file.
    ///
    /// # Errors
    /// All [`Mistakes`] that were found.
    pub fn from_texts(
        texts: &[(&str, &str)],
        inventory: &Inventory,
        actions: &ActionRegistry,
    ) -> Result<Self, Mistakes> {
        let mut by_name: BTreeMap<RunbookName, Runbook> = BTreeMap::new();
        let mut mistakes = Vec::new();
        for (file, text) in texts {
            match runbook::parse(file, text, inventory, actions) {
                Ok(runbook) => {
                    if let Some(first) = by_name.get(&runbook.name) {
                        mistakes.push(name_twice(file, text, &runbook, first));
                    }
                    by_name.insert(runbook.name.clone(), runbook);
                }
                Err(found) => mistakes.extend(found.0),
            }
        }
        if mistakes.is_empty() { Ok(Self { by_name }) } else { Err(Mistakes(mistakes)) }
    }

    /// The shipped runbooks, each with the name of its file.
    pub fn shipped_texts() -> &'static [(&'static str, &'static str)] {
        SHIPPED
    }

    /// The files of shipped runbooks that are not loaded: their targets or tools are not there, or a site's own of the same name
    /// stands in their place.
    pub fn left_out(&self) -> Vec<&'static str> {
        let loaded: BTreeSet<_> = self.by_name.values().map(|runbook| runbook.file.as_str()).collect();
        SHIPPED.iter().map(|(file, _)| *file).filter(|file| !loaded.contains(file)).collect()
    }

    /// The runbook of this name.
    pub fn get(&self, name: &RunbookName) -> Option<&Runbook> {
        self.by_name.get(name)
    }

    /// All of them in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Runbook> {
        self.by_name.values()
    }

    /// Those for a cause: by priority, then by name, so that the same question has the same answer everywhere.
    pub fn for_cause(&self, cause: &str) -> Vec<&Runbook> {
        let mut fitting: Vec<_> =
            self.by_name.values().filter(|runbook| runbook.causes.iter().any(|one| one == cause)).collect();
        fitting.sort_by_key(|runbook| (runbook.priority, &runbook.name));
        fitting
    }
}

fn name_twice(file: &str, text: &str, runbook: &Runbook, first: &Runbook) -> Mistake {
    let line = text.lines().position(|line| line.starts_with("name:")).map_or(0, |index| index as u64 + 1);
    Mistake {
        file: file.to_owned(),
        line,
        column: if line == 0 { 0 } else { 7 },
        field: "name".to_owned(),
        why: format!("{} is called `{}` already", first.file, runbook.name),
    }
}

/// The runbook files of a folder in the order of their names.
fn read_folder(folder: &Path) -> Result<Vec<(String, String)>, LoadError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Unreadable { path, source }
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if is_yaml {
            paths.push(path);
        }
        if paths.len() > RUNBOOKS_MAX {
            return Err(LoadError::TooMany { folder: folder.to_owned() });
        }
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        // One byte over the limit is enough for the reader to refuse the file.
        let file = fs::File::open(&path).map_err(unreadable(&path))?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(unreadable(&path))?;
        files.push((path.display().to_string(), text));
    }
    Ok(files)
}
