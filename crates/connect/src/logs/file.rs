//! Log files on this machine, read backwards from their end within a budget of bytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::evidence::{LogLine, LogLines, LogQuery};
use quell_tool::CallContext;

use super::fields::FieldMap;
use super::gathered::{Gathered, Lacking};
use super::parse::{Parsed, Reader};
use super::{LogSource, MESSAGE_CHARACTERS_MAX, check, clock, cut, shown, text_level};
use crate::source::SourceError;

/// What is kept of one line and what belongs to it to look for a text in, in bytes.
const WHOLE_BYTES_MAX: usize = 32 << 10;

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
        let (options, asked, words) = (self.options.clone(), query.clone(), self.words(query));
        let reading = tokio::task::spawn_blocking(move || read_all(&options, &asked, words));
        let read = tokio::time::timeout(context.remaining(), reading).await;
        let read = read.map_err(|_elapsed| SourceError::TimedOut)?;
        read.map_err(|error| SourceError::Malformed { why: format!("reading failed: {error}") })?
    }
}

fn read_all(options: &FileLogsOptions, query: &LogQuery, mut words: String) -> Result<LogLines, SourceError> {
    let mut gathered = Gathered::new(query);
    let (mut readable, mut fault) = (false, None);
    for path in &options.paths {
        match tail(path, options.file_bytes_max) {
            Ok((bytes, whole)) => {
                readable = true;
                let tail = Tail { bytes: &bytes, whole, written: written(path) };
                let begins_before = select(&tail, path, options, query, &mut gathered);
                // The budget cut something off only if what was read does not reach back to the range's beginning.
                gathered.truncated |= !whole && !begins_before;
            }
            Err(error) => {
                let (path, why) = (path.display().to_string(), error.to_string());
                tracing::warn!(path, why, "cannot read a log file");
                words.push_str(&format!(" (cannot read {path}: {why})"));
                gathered.truncated = true;
                fault = fault.or(Some((path, why)));
            }
        }
    }
    match fault {
        Some((what, why)) if !readable => Err(SourceError::Unreachable { what, why }),
        _ => Ok(gathered.answer("file", words)),
    }
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

/// When a file was written to last.
fn written(path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(std::fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// What was read of a file.
struct Tail<'a> {
    bytes: &'a [u8],
    whole: bool,
    written: Option<Timestamp>,
}

/// Adds the lines that match; whether the file was read back to before the range.
fn select(
    tail: &Tail<'_>,
    path: &Path,
    options: &FileLogsOptions,
    query: &LogQuery,
    gathered: &mut Gathered<'_>,
) -> bool {
    let service = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut reader = Reader::new(&options.fields, query.to);
    let mut begins_before = false;
    let mut current: Option<Entry> = None;
    let lines: Vec<&[u8]> =
        tail.bytes.split(|byte| *byte == b'\n').filter(|raw| !raw.trim_ascii().is_empty()).collect();
    let days = match tail.written {
        Some(written) => clock::instants(lines.iter().copied(), written, &options.fields.zone),
        None => Vec::new(),
    };
    for (index, raw) in lines.into_iter().enumerate() {
        reader.missing.day = days.get(index).copied().flatten();
        let raw = raw.get(..options.line_bytes_max).unwrap_or(raw);
        let text = String::from_utf8_lossy(raw);
        for parsed in reader.lines(&text, &service) {
            match &mut current {
                Some(entry) if entry.goes_on_with(&parsed, &text) => entry.add(parsed, &text),
                _ => {
                    let before = current.take();
                    let after = before.as_ref().map(|entry| entry.at);
                    if let Some(entry) = before {
                        gathered.take(Some(entry.at), entry.line, &entry.whole);
                    }
                    // A line without a time was written when the one before it was; before all others nobody knows when.
                    match parsed.at.or(after) {
                        Some(at) => current = Some(Entry::new(at, parsed, &text)),
                        // What was cut off is the beginning of this one.
                        None if !tail.whole && is_continuation(&text) => {}
                        None => gathered.leave_out(Lacking::Time, &text),
                    }
                }
            }
            begins_before |= current.as_ref().is_some_and(|entry| entry.at < query.from);
        }
    }
    if let Some(entry) = current {
        gathered.take(Some(entry.at), entry.line, &entry.whole);
    }
    begins_before
}

/// A line with what follows it and belongs to it: a stack trace, or the rest that a container runtime split off.
struct Entry {
    at: Timestamp,
    line: LogLine,
    whole: String,
    partial: bool,
    has_more: bool,
}

impl Entry {
    fn new(at: Timestamp, parsed: Parsed, text: &str) -> Self {
        let partial = parsed.partial;
        Self { at, line: parsed.line, whole: text.trim_end().to_owned(), partial, has_more: false }
    }

    fn goes_on_with(&self, parsed: &Parsed, text: &str) -> bool {
        if self.partial {
            return true;
        }
        match parsed.at {
            // A container runtime gives every line of a trace a time of its own.
            Some(_) => parsed.wrapped && is_continuation(&parsed.line.message),
            None => {
                is_continuation(text)
                    || (self.has_more && parsed.line.level.is_empty())
                    || self.level_in_second_line(text).is_some()
            }
        }
    }

    /// java.util.logging says who on its first line, and what on its second.
    fn level_in_second_line(&self, text: &str) -> Option<&'static str> {
        let lacks_it = self.line.level.is_empty() && !self.has_more;
        (lacks_it && text_level::is_of_java(&self.line.message))
            .then(|| text_level::of_second_line(text))
            .flatten()
    }

    fn add(&mut self, parsed: Parsed, text: &str) {
        if let Some(level) = self.level_in_second_line(text).filter(|_| !self.partial) {
            level.clone_into(&mut self.line.level);
        }
        let said = if parsed.at.is_some() { parsed.line.message.as_str() } else { text.trim_end() };
        if !self.partial {
            self.line.message.push('\n');
            self.has_more = true;
        }
        self.line.message.push_str(said);
        self.line.message = cut(&self.line.message, MESSAGE_CHARACTERS_MAX);
        if self.whole.len() < WHOLE_BYTES_MAX {
            self.whole.push('\n');
            self.whole.push_str(said);
        }
        self.partial = parsed.partial;
    }
}

/// Whether a line is written like one that goes on: indented, or the beginning of a trace.
fn is_continuation(text: &str) -> bool {
    const BEGINNINGS: [&str; 9] = [
        "Caused by:",
        "Suppressed:",
        "Traceback (most recent call last)",
        "During handling of the above exception",
        "The above exception was the direct cause",
        "goroutine ",
        "stack backtrace:",
        "note: run with `RUST_BACKTRACE",
        "--- End of ",
    ];
    text.starts_with([' ', '\t', '}', ')']) || BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}
