//! Exports of systemd's journal: files of `journalctl -o json`, or of the export format, which also carries what is no text.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::evidence::{LogLine, LogLines, LogQuery};
use quell_tool::CallContext;
use serde_json::{Map, Value};

use super::file::tail;
use super::gathered::{Gathered, Lacking};
use super::{LogSource, MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, check, cut, level, shown, text_level};
use crate::source::SourceError;

/// An entry of the export format begins with this field.
const ENTRY_BEGINS: &[u8] = b"__CURSOR=";

/// Of a line that is no entry at the most, in bytes.
const SAMPLE_BYTES_MAX: usize = 400;

/// How exports are read.
#[derive(Clone, Debug)]
pub struct JournalLogsOptions {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// What is read of one file at the most, from its end, in bytes.
    pub file_bytes_max: usize,
}

impl JournalLogsOptions {
    /// The default: 16 MiB of a file.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, file_bytes_max: 16 << 20 }
    }
}

/// Exported journals. A file that cannot be read is named in the answer's query, as long as another one can be.
pub struct JournalLogs {
    options: JournalLogsOptions,
}

impl JournalLogs {
    /// The source over these files, which need not exist yet.
    pub fn new(options: JournalLogsOptions) -> Self {
        Self { options }
    }
}

#[async_trait]
impl LogSource for JournalLogs {
    fn name(&self) -> &str {
        "journal"
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

fn read_all(
    options: &JournalLogsOptions,
    query: &LogQuery,
    mut words: String,
) -> Result<LogLines, SourceError> {
    let mut gathered = Gathered::new(query);
    let (mut readable, mut fault) = (false, None);
    for path in &options.paths {
        match read_file(path, options.file_bytes_max, query, &mut gathered) {
            Ok(()) => readable = true,
            Err(why) => {
                let path = path.display().to_string();
                tracing::warn!(path, why, "cannot read an exported journal");
                words.push_str(&format!(" (cannot read {path}: {why})"));
                gathered.truncated = true;
                fault = fault.or(Some((path, why)));
            }
        }
    }
    match fault {
        Some((what, why)) if !readable => Err(SourceError::Unreachable { what, why }),
        _ => Ok(gathered.answer("journal", words)),
    }
}

fn read_file(
    path: &Path,
    bytes_max: usize,
    query: &LogQuery,
    gathered: &mut Gathered<'_>,
) -> Result<(), String> {
    let (bytes, whole) = tail(path, bytes_max).map_err(|error| error.to_string())?;
    let mut begins_before = false;
    let mut take = |fields: &Map<String, Value>| {
        let (at, line) = line(fields);
        begins_before |= at.is_some_and(|at| at < query.from);
        gathered.take(at, line, "");
    };
    let (mut entries, mut broken) = (0_usize, Vec::new());
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') {
        for raw in bytes.split(|byte| *byte == b'\n').filter(|raw| !raw.is_empty()) {
            let Ok(Value::Object(fields)) = serde_json::from_slice(raw) else {
                broken.push(raw);
                continue;
            };
            entries += 1;
            take(&fields);
        }
    } else {
        let mut rest = beginning(&bytes, whole);
        while let Some((fields, after)) = entry(rest) {
            entries += 1;
            take(&fields);
            rest = after;
        }
    }
    if entries == 0 && first.is_some() {
        return Err("it is neither of `journalctl -o json` nor of `journalctl -o export`".to_owned());
    }
    // The last line may be in the middle of being written.
    if broken.last().is_some_and(|last| bytes.ends_with(last)) {
        broken.pop();
    }
    for raw in broken {
        gathered
            .leave_out(Lacking::Form, &String::from_utf8_lossy(raw.get(..SAMPLE_BYTES_MAX).unwrap_or(raw)));
    }
    gathered.truncated |= !whole && !begins_before;
    Ok(())
}

/// Where the first whole entry of an export begins: what was cut may begin within bytes that look like anything.
fn beginning(bytes: &[u8], whole: bool) -> &[u8] {
    if whole {
        return bytes;
    }
    let begins = |at: &usize| {
        let entry = bytes.get(*at..).unwrap_or_default().strip_prefix(b"\n\n").unwrap_or_default();
        entry.starts_with(ENTRY_BEGINS)
    };
    let at = (0..bytes.len()).find(begins).map_or(bytes.len(), |at| at + 2);
    bytes.get(at..).unwrap_or_default()
}

/// One entry of an export, which ends with an empty line, and what follows it. `None` when none is whole.
fn entry(mut bytes: &[u8]) -> Option<(Map<String, Value>, &[u8])> {
    while let Some(rest) = bytes.strip_prefix(b"\n") {
        bytes = rest;
    }
    let mut fields = Map::new();
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (field, rest) = (bytes.get(..end)?, bytes.get(end + 1..)?);
        if field.is_empty() {
            return Some((fields, rest));
        }
        let (name, value, rest) = match field.iter().position(|byte| *byte == b'=') {
            Some(equals) => (field.get(..equals)?, field.get(equals + 1..)?, rest),
            // A value that is no text: its length in eight bytes, the least first, and the bytes.
            None => {
                let (length, rest) = rest.split_first_chunk::<8>()?;
                let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
                let value = rest.get(..length)?;
                (field, value, rest.get(length..)?.strip_prefix(b"\n")?)
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.insert(text(name), Value::String(text(value)));
        bytes = rest;
    }
}

fn line(fields: &Map<String, Value>) -> (Option<Timestamp>, LogLine) {
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => text.clone(),
        // What is no text is a list of its bytes.
        Some(Value::Array(bytes)) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    };
    let at =
        text("__REALTIME_TIMESTAMP").parse().ok().and_then(|time| Timestamp::from_microsecond(time).ok());
    let message = text("MESSAGE");
    let severity = text("PRIORITY").parse().ok().map(level::of_syslog);
    // What a service writes to its output has the priority that its unit gives to all of it, so the text knows better.
    let of_output = text("_TRANSPORT") == "stdout";
    let own = (of_output || severity.is_none()).then(|| text_level::of_text(&message)).flatten();
    let level = own.or(severity).unwrap_or_default();
    let unit = text("_SYSTEMD_UNIT");
    let service = match unit.strip_suffix(".service").unwrap_or(&unit) {
        "" => text("SYSLOG_IDENTIFIER"),
        unit => unit.to_owned(),
    };
    let line = LogLine {
        at: at.unwrap_or_default(),
        level: level.to_owned(),
        service: cut(&service, NAME_CHARACTERS_MAX),
        instance: cut(&text("_HOSTNAME"), NAME_CHARACTERS_MAX),
        message: cut(message.trim_end(), MESSAGE_CHARACTERS_MAX),
    };
    (at, line)
}
