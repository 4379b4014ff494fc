//! `quell eval logs`: how well lines are grouped into templates, and how fast.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quell_diagnose::template::Miner;
use serde_json::json;

use crate::args::LogsArgs;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Look, Page, Stream, Table};

/// Templates of one system at the most.
const TEMPLATES_MAX: usize = 10_000;
/// A system is mined again until so much time has passed: two thousand lines alone are over before a clock is sure of it.
const TIMED: Duration = Duration::from_millis(300);

/// What came out for the lines of one system.
struct System {
    name: String,
    lines: usize,
    templates: usize,
    lines_per_second: f64,
    truth: Option<Truth>,
}

struct Truth {
    templates: usize,
    accuracy: f64,
}

pub(crate) fn run(context: &mut Context<'_>, args: &LogsArgs) -> Result<()> {
    let mut systems = Vec::new();
    for path in log_files(&args.folder)? {
        systems.push(system(&path, args.truth.as_deref())?);
    }
    let accuracies: Vec<f64> = systems.iter().filter_map(|one| Some(one.truth.as_ref()?.accuracy)).collect();
    let accuracy = (!accuracies.is_empty()).then(|| accuracies.iter().sum::<f64>() / accuracies.len() as f64);
    let lines: usize = systems.iter().map(|one| one.lines).sum();
    let seconds: f64 = systems.iter().map(|one| one.lines as f64 / one.lines_per_second).sum();
    let rate = lines as f64 / seconds.max(f64::MIN_POSITIVE);
    if context.output.is_json() {
        let rows: Vec<_> = systems.iter().map(document).collect();
        context.output.json(&json!({
            "systems": rows,
            "grouping_accuracy": accuracy,
            "lines": lines,
            "lines_per_second": rate.round(),
        }))?;
        return Ok(());
    }
    let mut table =
        Table::new(&["SYSTEM", "LINES", "TEMPLATES", "TRUE ONES", "GROUPING ACCURACY", "LINES/S"]);
    for one in &systems {
        let truth = one.truth.as_ref();
        table.row(
            Look::Plain,
            vec![
                one.name.clone(),
                one.lines.to_string(),
                one.templates.to_string(),
                truth.map(|truth| truth.templates.to_string()).unwrap_or_default(),
                truth.map(|truth| format!("{:.3}", truth.accuracy)).unwrap_or_default(),
                format!("{:.0}", one.lines_per_second),
            ],
        );
    }
    let accuracy = accuracy.map(|accuracy| format!("{accuracy:.3}")).unwrap_or_default();
    let overall = [
        "overall".to_owned(),
        lines.to_string(),
        String::new(),
        String::new(),
        accuracy,
        format!("{rate:.0}"),
    ];
    table.row(Look::Bold, overall.into());
    let page: Page = table.page();
    context.output.page(Stream::Out, &page)?;
    Ok(())
}

fn document(system: &System) -> serde_json::Value {
    json!({
        "system": system.name,
        "lines": system.lines,
        "templates": system.templates,
        "true_templates": system.truth.as_ref().map(|truth| truth.templates),
        "grouping_accuracy": system.truth.as_ref().map(|truth| truth.accuracy),
        "lines_per_second": system.lines_per_second.round(),
    })
}

fn log_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable =
        |error| Failure::failed(format!("the folder {} cannot be read: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::not_possible(format!("there is no log in {}", folder.display()))
            .next("name a folder of files like Apache.log, one message on each line"));
    }
    Ok(files)
}

fn system(path: &Path, truth: Option<&Path>) -> Result<System> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = read(path)?;
    let lines: Vec<&str> = text.lines().collect();
    let (groups, templates) = groups(&lines);
    let truth = match truth {
        Some(folder) => {
            let path = folder.join(&name).with_extension("ids");
            let text = read(&path)?;
            let ids: Vec<&str> = text.lines().collect();
            if ids.len() != lines.len() {
                let why = format!("{} has {} ids for {} lines", path.display(), ids.len(), lines.len());
                return Err(Failure::failed(why).next("give one id on each line, in the order of the lines"));
            }
            let templates = ids.iter().collect::<BTreeSet<_>>().len();
            Some(Truth { templates, accuracy: grouping_accuracy(&groups, &ids) })
        }
        None => None,
    };
    Ok(System { lines_per_second: rate(&lines), name, lines: lines.len(), templates, truth })
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::failed(format!("the file {} cannot be read: {error}", path.display())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// By line the number of its template, none where there was no room for it, and how many templates there are.
fn groups(lines: &[&str]) -> (Vec<Option<usize>>, usize) {
    let mut miner = Miner::default();
    let handles: Vec<_> = lines.iter().map(|line| add(&mut miner, line)).collect();
    let mined = miner.finish();
    let groups = handles.into_iter().map(|handle| handle.and_then(|handle| mined.group(handle)));
    (groups.collect(), mined.texts().len())
}

fn add(miner: &mut Miner, line: &str) -> Option<usize> {
    let may_grow = miner.len() < TEMPLATES_MAX;
    miner.add(line, may_grow)
}

fn rate(lines: &[&str]) -> f64 {
    let begun = Instant::now();
    let mut mined = 0;
    while mined == 0 || begun.elapsed() < TIMED {
        mined += groups(lines).0.len().max(1);
    }
    mined as f64 / begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
}

/// The share of lines in groups that have exactly the lines of a true one.
fn grouping_accuracy(groups: &[Option<usize>], ids: &[&str]) -> f64 {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    let mut found: BTreeMap<&str, Vec<Option<usize>>> = BTreeMap::new();
    for (group, id) in groups.iter().zip(ids) {
        if let Some(group) = group {
            *sizes.entry(*group).or_default() += 1;
        }
        found.entry(id).or_default().push(*group);
    }
    let right = found.into_values().filter(|found| {
        let first = found.first().copied().flatten();
        first.is_some_and(|group| sizes.get(&group) == Some(&found.len()))
            && found.iter().all(|group| *group == first)
    });
    right.map(|found| found.len()).sum::<usize>() as f64 / groups.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_groups_count() {
        let ids = ["a", "a", "b", "b", "c"];
        let accuracy = |groups: [usize; 5]| grouping_accuracy(&groups.map(Some), &ids);
        assert_eq!(accuracy([7, 7, 1, 1, 2]), 1.0);
        // One of two is elsewhere, and one too many is with them.
        assert_eq!(accuracy([0, 1, 2, 2, 3]), 0.6);
        assert_eq!(accuracy([0, 0, 2, 2, 2]), 0.4);
        assert_eq!(grouping_accuracy(&[None, None, Some(1), Some(1), None], &ids), 0.4);
        assert_eq!(grouping_accuracy(&[], &[]), 0.0);
    }
}
