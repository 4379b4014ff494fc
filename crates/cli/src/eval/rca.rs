//! `quell eval rca`: the localisation engines over the cases of suites.

use std::path::{Path, PathBuf};

use crate::args::RcaArgs;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Page, Stream};

/// The file that makes a folder a case.
const CASE_FILE: &str = "case.json";

pub(crate) fn run(context: &mut Context<'_>, args: &RcaArgs) -> Result<()> {
    let cases = case_folders(&args.folder)?;
    let mut page = Page::default();
    page.line(format!("{} cases in {}", cases.len(), args.folder.display()));
    context.output.page(Stream::Out, &page)?;
    Ok(())
}

/// The folders of cases, sorted: the folder itself, those in it, or those one deeper.
pub(crate) fn case_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut level = vec![folder.to_path_buf()];
    for _ in 0..3 {
        let mut deeper = Vec::new();
        for folder in level {
            if folder.join(CASE_FILE).is_file() {
                found.push(folder);
            } else {
                deeper.extend(folders_in(&folder)?);
            }
        }
        level = deeper;
    }
    found.sort();
    if found.is_empty() {
        return Err(Failure::not_possible(format!("there is no case in {}", folder.display()))
            .next(format!("name the folder of a suite: its cases are folders with a {CASE_FILE}")));
    }
    Ok(found)
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable =
        |error| Failure::failed(format!("the folder {} cannot be read: {error}", folder.display()));
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}
