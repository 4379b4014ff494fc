//! Log files on this machine, read backwards from their end within a budget of bytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::evidence::{LogLine, LogLines, LogQuery};
use quell_tool::CallContext;

use super::fields::FieldMap;
use super::parse::parse_line;
use super::{LogSource, check, shown};
use crate::source::SourceError;

/// How files are read.
#[derive(Clone, Debug)]
pub struct FileLogsOptions {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// What is read of one file at the most, from its end, in bytes.
    pub file_bytes_max: usize,
    /// What is looked at of one line at the most, in bytes; the rest of it is left out.
    pub line_bytes_max: usize,
    /// Where the parts of a line stand in JSON objects.
    pub fields: FieldMap,
}

impl FileLogsOptions {
    /// The defaults: 16 MiB of a file, 16 KiB of a line.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, file_bytes_max: 16 << 20, line_bytes_max: 16 << 10, fields: FieldMap::default() }
    }
}

/// Plain and JSON-lines files. A file that cannot be read is named in the answer's query, as long as another one can be.
pub struct FileLogs {
    options: FileLogsOptions,
}

impl FileLogs {
    /// The source over these files, which need not exist yet.
    pub fn new(options: FileLogsOptions) -> Self {
        Self { options }
    }
}

#[async_trait]
impl LogSource for FileLogs {
    fn name(&self) -> &str {
        "file"
    }

    fn words(&self, query: &LogQuery) -> String {
        let paths: Vec<String> = self.options.paths.iter().map(|path| path.display().to_string()).collect();
        format!("{} {}", paths.join(" "), shown(query))
    }

    async fn lines(&self, query: &LogQuery, context: &CallContext) -> Result<LogLines, SourceError> {
        check(query)?;
        let (options, asked) = (self.options.clone(), query.clone());
        let reading = tokio::task::spawn_blocking(move || read_all(&options, &asked));
        let read = tokio::time::timeout(context.remaining(), reading)
            .await
            .map_err(|_elapsed| SourceError::TimedOut)?;
        let mut read =
            read.map_err(|error| SourceError::Malformed { why: format!("reading failed: {error}") })?;
        if let (true, Some((path, why))) = (read.readable == 0, read.faults.first()) {
            return Err(SourceError::Unreachable { what: path.clone(), why: why.clone() });
        }
        let mut words = self.words(query);
        for (path, why) in &read.faults {
            tracing::warn!(path, why, "cannot read a log file");
            words.push_str(&format!(" (cannot read {path}: {why})"));
        }
        // Stable, so that lines of one instant stay in the order of their file.
        read.lines.sort_by_key(|line| line.at);
        let surplus = read.lines.len().saturating_sub(query.lines_max as usize);
        read.lines.drain(..surplus);
        let truncated = read.truncated || surplus > 0 || !read.faults.is_empty();
        Ok(LogLines { source: self.name().to_owned(), query: words, lines: read.lines, truncated })
    }
}

#[derive(Default)]
struct Gathered {
    lines: Vec<LogLine>,
    truncated: bool,
    readable: usize,
    faults: Vec<(String, String)>,
}

fn read_all(options: &FileLogsOptions, query: &LogQuery) -> Gathered {
    let mut all = Gathered::default();
    for path in &options.paths {
        match tail(path, options.file_bytes_max) {
            Ok((bytes, whole)) => {
                all.readable += 1;
                let begins_before = select(&bytes, path, options, query, &mut all);
                // The budget cut something off only if what was read does not reach back to the range's beginning.
                all.truncated |= !whole && !begins_before;
            }
            Err(error) => all.faults.push((path.display().to_string(), error.to_string())),
        }
    }
    all
}

/// The end of a file, and whether that is all of it. Cut between lines.
pub(super) fn tail(path: &Path, bytes_max: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let skipped = metadata.len().saturating_sub(bytes_max as u64);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    if skipped > 0 {
        let first_line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..first_line);
    }
    Ok((bytes, skipped == 0))
}

/// Adds the lines that match; whether the file was read back to before the range.
fn select(
    bytes: &[u8],
    path: &Path,
    options: &FileLogsOptions,
    query: &LogQuery,
    all: &mut Gathered,
) -> bool {
    let service = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let wanted = query.contains.as_ref().map(|text| text.to_lowercase());
    let mut begins_before = false;
    let mut current: Option<Timestamp> = None;
    for raw in bytes.split(|byte| *byte == b'\n').filter(|raw| !raw.is_empty()) {
        let raw = raw.get(..options.line_bytes_max).unwrap_or(raw);
        let text = String::from_utf8_lossy(raw);
        let parsed = parse_line(&text, &service, &options.fields);
        // A line without a time belongs to the one before it: a stack trace, a wrapped message.
        let Some(at) = parsed.at.or(current) else { continue };
        current = Some(at);
        begins_before |= at < query.from;
        let mut line = parsed.line;
        line.at = at;
        let fits = at >= query.from
            && at <= query.to
            && query.service.as_ref().is_none_or(|service| *service == line.service)
            && wanted.as_ref().is_none_or(|text| line.message.to_lowercase().contains(text));
        if fits {
            all.lines.push(line);
            // Kept within twice what is asked for, so that a file of one instant cannot fill the memory.
            if all.lines.len() > 2 * query.lines_max as usize {
                all.lines.sort_by_key(|line| line.at);
                all.lines.drain(..query.lines_max as usize);
                all.truncated = true;
            }
        }
    }
    begins_before
}
