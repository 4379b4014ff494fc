//! Reading recorded failures: one folder for each case, in the format of the suites.
//!
//! A case is `case.json` (`case`, `suite`, `inject_time` in seconds, `step_s`; optionally `normal`, `reference`, `topology`, `target`) and
//! `metrics.csv` with the columns `time` and `<service>_<metric>`; an empty cell is a missing value. `logs.csv` (`time`, `service`,
//! `trace`, `message`) and `traces.csv` (`time`, `trace`, `span`, `parent`, `service`, `operation`, `duration_us`) may be there. The
//! suite's folder may hold `topology.csv` (`caller`, `callee`), a normal file that all its cases share, and reference folders with logs
//! and traces of a day without faults.
//!
//! Whatever is wrong in a file is told with its name and line.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserialize;

use crate::failure::{Failure, Result};

/// The file that makes a folder a case.
pub(crate) const CASE_FILE: &str = "case.json";

/// What `case.json` says.
#[derive(Debug, Deserialize)]
pub(crate) struct Description {
    pub(crate) case: String,
    pub(crate) suite: String,
    pub(crate) inject_time: f64,
    pub(crate) step_s: f64,
    normal: Option<String>,
    reference: Option<String>,
    topology: Option<String>,
    pub(crate) target: Option<Target>,
}

/// The service that the alert is of, and what it is about.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) node: String,
    pub(crate) metric: Option<String>,
}

/// Values by column, missing ones as NaN.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) times: Vec<f64>,
    /// Service and metric.
    pub(crate) columns: Vec<(String, String)>,
    pub(crate) values: Vec<Vec<f64>>,
}

#[derive(Debug)]
pub(crate) struct LogRow {
    pub(crate) at: f64,
    pub(crate) service: String,
    pub(crate) trace: Option<u64>,
    pub(crate) message: String,
}

#[derive(Debug)]
pub(crate) struct SpanRow {
    pub(crate) at: f64,
    pub(crate) service: String,
    pub(crate) trace: u64,
    pub(crate) id: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) operation: String,
    pub(crate) milliseconds: f64,
}

/// Log lines and spans of one folder.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    pub(crate) logs: Vec<LogRow>,
    pub(crate) spans: Vec<SpanRow>,
}

/// One recorded failure.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) description: Description,
    pub(crate) metrics: Metrics,
    /// From when nothing was wrong, when that is not in `metrics`.
    pub(crate) normal: Option<Rc<Metrics>>,
    pub(crate) calls: Rc<Vec<(String, String)>>,
    pub(crate) own: Telling,
    pub(crate) reference: Option<Rc<Telling>>,
}

/// Reads cases; what several of them share is read once.
#[derive(Default)]
pub(crate) struct Reader {
    normals: HashMap<PathBuf, Rc<Metrics>>,
    topologies: HashMap<PathBuf, Rc<Vec<(String, String)>>>,
    references: HashMap<PathBuf, Rc<Telling>>,
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

impl Reader {
    /// Reads one case.
    pub(crate) fn read(&mut self, folder: &Path) -> Result<Case> {
        let description = describe(&folder.join(CASE_FILE))?;
        let suite = folder.parent().unwrap_or(folder);
        let topology = suite.join(description.topology.as_deref().unwrap_or("topology.csv"));
        // A file that the case names has to be there; the usual ones may.
        let calls = if description.topology.is_some() || topology.is_file() {
            shared(&mut self.topologies, topology, topology_file)?
        } else {
            Rc::default()
        };
        let names: Vec<&str> = calls.iter().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
        let read_metrics = |path: &Path| metrics_file(path, &names);
        let metrics = read_metrics(&folder.join("metrics.csv"))?;
        let normal = description.normal.as_ref().map(|name| suite.join(name));
        let normal = normal.map(|path| shared(&mut self.normals, path, read_metrics)).transpose()?;
        let reference = description.reference.as_ref().map(|name| suite.join(name));
        let reference = reference.map(|path| shared(&mut self.references, path, telling)).transpose()?;
        Ok(Case { own: telling(folder)?, description, metrics, normal, calls, reference })
    }
}

fn shared<T>(
    known: &mut HashMap<PathBuf, Rc<T>>,
    path: PathBuf,
    read: impl Fn(&Path) -> Result<T>,
) -> Result<Rc<T>> {
    if let Some(known) = known.get(&path) {
        return Ok(Rc::clone(known));
    }
    let read = Rc::new(read(&path)?);
    known.insert(path, Rc::clone(&read));
    Ok(read)
}

fn describe(path: &Path) -> Result<Description> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("{} cannot be read: {error}", path.display())))?;
    let described: Description = serde_json::from_str(&text).map_err(|error| {
        Failure::failed(format!(
            "{}:{}: it is no description of a case: {error}",
            path.display(),
            error.line()
        ))
    })?;
    let usable = described.inject_time.is_finite() && described.step_s.is_finite() && described.step_s > 0.0;
    let wrong = || {
        Failure::failed(format!(
            "{}: inject_time and step_s have to be numbers, step_s over 0",
            path.display()
        ))
    };
    if usable { Ok(described) } else { Err(wrong()) }
}

/// One CSV file as it is read: columns are found by name, and every mistake names file and line.
struct Table<'a> {
    path: &'a Path,
    header: csv::StringRecord,
    reader: csv::Reader<File>,
}

impl<'a> Table<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|error| Failure::failed(format!("{} cannot be read: {error}", path.display())))?;
        let mut reader = csv::ReaderBuilder::new().from_reader(file);
        let header = reader.headers().map_err(|error| broken(path, &error))?.clone();
        Ok(Self { path, header, reader })
    }

    /// Where the first of these columns is.
    fn column(&self, names: &[&str]) -> Result<usize> {
        let place = names.iter().find_map(|name| self.header.iter().position(|column| column == *name));
        place.ok_or_else(|| {
            Failure::failed(format!(
                "{}:1: the column `{}` is missing",
                self.path.display(),
                names.join("` or `")
            ))
        })
    }

    fn rows(mut self, mut take: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
        let mut record = csv::StringRecord::new();
        while self.reader.read_record(&mut record).map_err(|error| broken(self.path, &error))? {
            let line = record.position().map_or(0, csv::Position::line);
            take(&Row { path: self.path, line, record: &record, header: &self.header })?;
        }
        Ok(())
    }
}

fn broken(path: &Path, error: &csv::Error) -> Failure {
    let line = error.position().map_or(1, csv::Position::line);
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} columns where the first line has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    Failure::failed(format!("{}:{line}: {what}", path.display()))
}

struct Row<'a> {
    path: &'a Path,
    line: u64,
    record: &'a csv::StringRecord,
    header: &'a csv::StringRecord,
}

impl Row<'_> {
    fn text(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default()
    }

    fn wrong(&self, column: usize, wanted: &str) -> Failure {
        let name = self.header.get(column).unwrap_or_default();
        let text: String = self.text(column).chars().take(40).collect();
        Failure::failed(format!(
            "{}:{}: `{name}` is `{text}`, expected {wanted}",
            self.path.display(),
            self.line
        ))
    }

    /// A number; `None` for an empty cell.
    fn number(&self, column: usize) -> Result<Option<f64>> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number
            .map(Some)
            .ok_or_else(|| self.wrong(column, "a finite number, or nothing where there is no value"))
    }

    fn needed(&self, column: usize) -> Result<f64> {
        self.number(column)?.ok_or_else(|| self.wrong(column, "a finite number"))
    }
}

fn metrics_file(path: &Path, names: &[&str]) -> Result<Metrics> {
    let table = Table::open(path)?;
    let time = table.column(&["time"])?;
    let mut places = Vec::new();
    let mut columns = Vec::new();
    for (place, column) in table.header.iter().enumerate().filter(|(place, _)| *place != time) {
        let (service, metric) = split_column(column, names).ok_or_else(|| {
            Failure::failed(format!(
                "{}:1: the column `{column}` is not `<service>_<metric>`",
                path.display()
            ))
        })?;
        places.push(place);
        columns.push((service.to_owned(), metric.to_owned()));
    }
    let mut metrics = Metrics { times: Vec::new(), values: vec![Vec::new(); columns.len()], columns };
    table.rows(|row| {
        metrics.times.push(row.needed(time)?);
        for (values, place) in metrics.values.iter_mut().zip(&places) {
            values.push(row.number(*place)?.unwrap_or(f64::NAN));
        }
        Ok(())
    })?;
    Ok(metrics)
}

/// A service's name may hold an underscore when the topology knows it; otherwise it ends at the first one.
fn split_column<'a>(column: &'a str, names: &[&str]) -> Option<(&'a str, &'a str)> {
    let known =
        names.iter().filter(|name| column.strip_prefix(**name).is_some_and(|rest| rest.starts_with('_')));
    let longest = known.map(|name| name.len()).max();
    let at = longest.or_else(|| column.find('_'))?;
    let (service, metric) = (column.get(..at)?, column.get(at + 1..)?);
    (!service.is_empty() && !metric.is_empty()).then_some((service, metric))
}

fn topology_file(path: &Path) -> Result<Vec<(String, String)>> {
    let table = Table::open(path)?;
    let (caller, callee) = (table.column(&["caller", "Source"])?, table.column(&["callee", "Target"])?);
    let mut calls = Vec::new();
    table.rows(|row| {
        calls.push((row.text(caller).to_owned(), row.text(callee).to_owned()));
        Ok(())
    })?;
    Ok(calls)
}

fn telling(folder: &Path) -> Result<Telling> {
    let (logs, traces) = (folder.join("logs.csv"), folder.join("traces.csv"));
    let mut numbers = Numbers::default();
    let spans = if traces.is_file() { spans_file(&traces, &mut numbers)? } else { Vec::new() };
    let logs = if logs.is_file() { logs_file(&logs, &mut numbers)? } else { Vec::new() };
    Ok(Telling { logs, spans })
}

/// Ids of traces and spans as numbers, whatever they look like.
#[derive(Default)]
struct Numbers(BTreeMap<String, u64>);

impl Numbers {
    fn of(&mut self, id: &str) -> Option<u64> {
        if id.is_empty() {
            return None;
        }
        if let Some(known) = self.0.get(id) {
            return Some(*known);
        }
        let number = self.0.len() as u64;
        self.0.insert(id.to_owned(), number);
        Some(number)
    }
}

fn logs_file(path: &Path, traces: &mut Numbers) -> Result<Vec<LogRow>> {
    let table = Table::open(path)?;
    let [time, service, message] =
        [table.column(&["time"])?, table.column(&["service"])?, table.column(&["message"])?];
    let trace = table.column(&["trace"]).ok();
    let mut rows = Vec::new();
    table.rows(|row| {
        rows.push(LogRow {
            at: row.needed(time)?,
            service: row.text(service).to_owned(),
            trace: trace.and_then(|column| traces.of(row.text(column))),
            message: row.text(message).to_owned(),
        });
        Ok(())
    })?;
    Ok(rows)
}

fn spans_file(path: &Path, traces: &mut Numbers) -> Result<Vec<SpanRow>> {
    let table = Table::open(path)?;
    let [time, trace, span, parent] = [
        table.column(&["time"])?,
        table.column(&["trace"])?,
        table.column(&["span"])?,
        table.column(&["parent"])?,
    ];
    let [service, operation, duration] =
        [table.column(&["service"])?, table.column(&["operation"])?, table.column(&["duration_us"])?];
    let mut spans = Numbers::default();
    let mut rows = Vec::new();
    table.rows(|row| {
        rows.push(SpanRow {
            at: row.needed(time)?,
            trace: traces.of(row.text(trace)).ok_or_else(|| row.wrong(trace, "an id"))?,
            id: spans.of(row.text(span)).ok_or_else(|| row.wrong(span, "an id"))?,
            parent: spans.of(row.text(parent)),
            service: row.text(service).to_owned(),
            operation: row.text(operation).to_owned(),
            milliseconds: row.needed(duration)? / 1000.0,
        });
        Ok(())
    })?;
    Ok(rows)
}
