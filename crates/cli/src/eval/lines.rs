//! Files of one JSON document in each line.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::score::Truth;
use crate::failure::{Failure, Result};

/// The documents of a file; empty lines are left out.
pub(super) fn read_lines<T: DeserializeOwned>(path: &Path, what: &str) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("{} cannot be read: {error}", path.display())))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| {
                Failure::failed(format!("{}:{}: it is not {what}: {error}", path.display(), number + 1))
            })
        })
        .collect()
}

/// Writes the documents, one in each line, replacing the file.
pub(super) fn write_lines<'a, T: Serialize + 'a>(
    path: &Path,
    documents: impl Iterator<Item = &'a T>,
) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("{} cannot be written: {error}", path.display()))
    };
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).map_err(|error| failed(&error))?);
    for document in documents {
        let line = serde_json::to_string(document).map_err(|error| failed(&error))?;
        writeln!(file, "{line}").map_err(|error| failed(&error))?;
    }
    file.flush().map_err(|error| failed(&error))
}

/// Writes one document that people may look into, replacing the file.
pub(super) fn write_json<T: Serialize>(path: &Path, document: &T) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("{} cannot be written: {error}", path.display()))
    };
    let text = serde_json::to_string_pretty(document).map_err(|error| failed(&error))?;
    std::fs::write(path, format!("{text}\n")).map_err(|error| failed(&error))
}

/// What was really at fault, by case: of one file, or of all `*.jsonl` of a folder whose lines say so.
pub(super) fn read_truth(path: &Path) -> Result<BTreeMap<String, Truth>> {
    const WHAT: &str = "a truth with `case` and `root_cause_service`";
    if !path.is_dir() {
        return Ok(by_case(read_lines(path, WHAT)?));
    }
    let unreadable = |error: std::io::Error| {
        Failure::failed(format!("the folder {} cannot be read: {error}", path.display()))
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "jsonl") {
            files.push(file);
        }
    }
    files.sort();
    let mut truth = BTreeMap::new();
    for file in files {
        // Other measurements keep their truth in the same folder.
        let lines: Vec<serde_json::Value> = read_lines(&file, "JSON")?;
        let of_ours = lines.first().is_some_and(|line| line.get("root_cause_service").is_some());
        if of_ours {
            truth.extend(by_case(read_lines(&file, WHAT)?));
        }
    }
    Ok(truth)
}

fn by_case(lines: Vec<Truth>) -> BTreeMap<String, Truth> {
    lines.into_iter().map(|line| (line.case.clone(), line)).collect()
}
