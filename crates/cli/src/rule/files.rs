//! Reading files of rules, of tests and of runbooks.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use quell_diagnose::{RuleMistakes, RuleSet, RuleSource, is_of_tests};
use quell_remedy::Runbooks;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// One file at the most, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files in a folder of runbooks that are looked at, at the most.
const RUNBOOKS_MAX: usize = 1_000;

/// The files, those of rules and those of tests.
pub(super) fn read(files: &[PathBuf]) -> Result<(Vec<RuleSource>, Vec<RuleSource>)> {
    let sources: Vec<RuleSource> = files
        .iter()
        .map(|file| Ok(RuleSource { name: file.display().to_string(), text: text(file)? }))
        .collect::<Result<_>>()?;
    Ok(sources.into_iter().partition(|source| !is_of_tests(source)))
}

/// The shipped rules, and those of the files over them.
pub(super) fn rules(site: &[RuleSource]) -> Result<RuleSet> {
    RuleSet::load(site).map_err(|mistakes| refused(&mistakes))
}

/// Files that cannot be used, with each of their mistakes.
pub(super) fn refused(mistakes: &RuleMistakes) -> Failure {
    let told: Vec<String> = mistakes.0.iter().map(ToString::to_string).collect();
    let count = told.len();
    Failure::failed(format!("{count} {} in the files", if count == 1 { "mistake" } else { "mistakes" }))
        .next(told.join("\n"))
}

fn text(file: &Path) -> Result<String> {
    let wrong = |why: String| Failure::failed(format!("{} cannot be read: {why}", file.display()));
    let opened = fs::File::open(file).map_err(|error| wrong(error.to_string()))?;
    let mut text = String::new();
    let read = opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A runbook as far as its causes are asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Runbook {
    pub(super) name: String,
    pub(super) title: String,
}

#[derive(Deserialize)]
struct RunbookText {
    name: String,
    #[serde(default)]
    title: String,
    #[serde(rename = "for")]
    takes: TakesText,
}

#[derive(Deserialize)]
struct TakesText {
    causes: Vec<String>,
}

/// The runbooks that take a cause: the shipped ones and those of a folder. A file there that is no runbook takes none.
pub(super) fn runbooks(cause: &str, folder: Option<&Path>) -> Result<Vec<Runbook>> {
    let mut texts: Vec<String> =
        Runbooks::shipped_texts().iter().map(|(_, text)| (*text).to_owned()).collect();
    if let Some(folder) = folder {
        let wrong = |error: std::io::Error| {
            Failure::failed(format!("the folder {} cannot be read: {error}", folder.display()))
        };
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).map_err(wrong)?.take(RUNBOOKS_MAX) {
            files.push(entry.map_err(wrong)?.path());
        }
        files.retain(|file| {
            file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
        });
        files.sort();
        for file in files {
            texts.push(text(&file)?);
        }
    }
    let parsed = texts.iter().filter_map(|text| serde_saphyr::from_str::<RunbookText>(text).ok());
    let takes = parsed.filter(|one| one.takes.causes.iter().any(|one| one == cause));
    Ok(takes.map(|one| Runbook { name: one.name, title: one.title }).collect())
}
