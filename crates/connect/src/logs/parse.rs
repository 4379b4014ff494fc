//! Lines of text in the forms that are met: JSON objects, logfmt, syslog, what container runtimes wrap around them, and text with a time
//! near its beginning.
//!
//! The forms are told apart by hand. A crate for one of them, such as those for syslog, takes one form as given and calls everything else
//! malformed, while the question here is which of twenty a line has.

use std::borrow::Cow;

use jiff::Timestamp;
use quell_incident::evidence::LogLine;
use serde_json::{Map, Value};

use super::cursor::Cursor;
use super::fields::{FieldMap, Known};
use super::logfmt::pairs;
use super::time::{Missing, compact_short_year, leading, of_line, without_year};
use super::{MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, batch, cut, level, text_level};

/// How deep lines may be wrapped in each other: a JSON object in the text of a runtime's JSON object.
const WRAPPED_MAX: usize = 4;

/// What a line says; without a time it continues the line before it.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) at: Option<Timestamp>,
    pub(crate) line: LogLine,
    /// Whether the message is a part of the line that has a name of its own, rather than all of its text.
    pub(crate) structured: bool,
    /// Whether the line's rest comes with the next one, as container runtimes split what is long.
    pub(crate) partial: bool,
    /// Whether a container runtime wrote it, which gives each line of a trace a time of its own.
    pub(crate) wrapped: bool,
}

/// Reads lines and records: where their parts stand, and what completes their times.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    known: Known,
    pub(super) missing: Missing,
}

impl Reader {
    /// For an answer that ends at that instant.
    pub(crate) fn new(fields: &FieldMap, latest: Timestamp) -> Self {
        let missing = Missing { zone: fields.zone.clone(), latest, day: None };
        Self { known: Known::of(fields), missing }
    }

    /// What one line says; a line of OpenTelemetry's file exporter holds several records.
    pub(crate) fn lines(&self, text: &str, service: &str) -> Vec<Parsed> {
        if batch::may_be_one(text)
            && let Ok(Value::Object(whole)) = serde_json::from_str::<Value>(text.trim())
        {
            let records = batch::records_of(&whole);
            if !records.is_empty() {
                let read = records.iter().map(|record| (record, self.record(record, service)));
                return read
                    .map(|(record, mut parsed)| {
                        if parsed.line.message.is_empty() {
                            let whole = Value::Object(record.clone()).to_string();
                            parsed.line.message = cut(&whole, MESSAGE_CHARACTERS_MAX);
                        }
                        parsed
                    })
                    .collect();
            }
        }
        vec![self.line(text, service)]
    }

    /// Reads one line; `service` is what it is of where it does not say.
    pub(crate) fn line(&self, text: &str, service: &str) -> Parsed {
        self.wrapped(text, service, WRAPPED_MAX)
    }

    /// Reads one record, without a message where it has none.
    pub(crate) fn record(&self, fields: &Map<String, Value>, service: &str) -> Parsed {
        self.record_within(fields, service, WRAPPED_MAX)
    }

    fn record_within(&self, fields: &Map<String, Value>, service: &str, depth: usize) -> Parsed {
        let mut parsed = self.known.read(fields, service, &self.missing);
        parsed.wrapped = fields.contains_key("stream") && fields.get("log").is_some_and(Value::is_string);
        let line = &mut parsed.line;
        if depth == 0 || line.message.is_empty() {
            return parsed;
        }
        // What a shipper calls the message is the line as it was written: text with a level, or JSON.
        let inner = self.wrapped(&line.message, "", depth - 1);
        if line.level.is_empty() {
            line.level = inner.line.level;
        }
        if line.service.is_empty() {
            line.service = inner.line.service;
        }
        if line.instance.is_empty() {
            line.instance = inner.line.instance;
        }
        if inner.structured {
            line.message = inner.line.message;
        }
        parsed.at = parsed.at.or(inner.at);
        line.at = parsed.at.unwrap_or_default();
        parsed
    }

    pub(super) fn wrapped(&self, text: &str, service: &str, depth: usize) -> Parsed {
        let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        let plain = without_colours(text);
        let text: &str = &plain;
        if text.starts_with('{')
            && let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text)
            && depth > 0
        {
            let first = batch::records_of(&fields).into_iter().next();
            let mut parsed = self.record_within(first.as_ref().unwrap_or(&fields), service, depth - 1);
            if parsed.line.message.is_empty() {
                parsed.line.message = cut(text, MESSAGE_CHARACTERS_MAX);
            }
            return parsed;
        }
        let shapes = [
            Self::of_compose,
            Self::of_postgres,
            Self::runtime,
            Self::prioritised,
            Self::initialled,
            Self::of_redis,
            Self::of_pairs,
            Self::of_daemon,
        ];
        if depth > 0
            && let Some(parsed) = shapes.iter().find_map(|shape| shape(self, text, service, depth - 1))
        {
            return parsed;
        }
        self.text(text, service)
    }

    /// Text with a time near its beginning, or none.
    fn text(&self, text: &str, service: &str) -> Parsed {
        match of_line(text, &self.missing) {
            Some((at, rest)) => {
                let rest = rest.trim_start_matches(['-', ':', '|', ';', ' ', '\t']);
                parsed(Some(at), text_level::of_text(rest), service, rest)
            }
            None => parsed(None, text_level::of_text(text), service, text),
        }
    }

    /// The container runtime interface's form: `2026-11-30T14:00:00Z stderr F ERROR pool exhausted`.
    fn runtime(&self, text: &str, service: &str, depth: usize) -> Option<Parsed> {
        let (at, rest) = leading(text, &self.missing)?;
        let (stream, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
        matches!(stream, "stdout" | "stderr").then_some(())?;
        let (tags, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let partial = tags.split(':').next() == Some("P");
        (partial || tags.split(':').next() == Some("F")).then_some(())?;
        let inner = self.wrapped(rest, service, depth);
        let message = if inner.structured { inner.line.message.clone() } else { rest.to_owned() };
        let line = LogLine { at, message: cut(&message, MESSAGE_CHARACTERS_MAX), ..inner.line };
        Some(Parsed { at: Some(at), line, structured: inner.structured, partial, wrapped: true })
    }

    /// What docker compose prints before each line: `checkout-1  | ERROR pool exhausted`.
    fn of_compose(&self, text: &str, service: &str, depth: usize) -> Option<Parsed> {
        let (name, message) = text.split_once(" | ")?;
        let name = name.trim_end();
        let (_, number) = name.rsplit_once(['-', '_'])?;
        let is_name =
            name.len() <= 100 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
        (is_name && is_number && begins).then_some(())?;
        let mut read = self.wrapped(message, service, depth);
        if read.line.instance.is_empty() {
            read.line.instance = name.to_owned();
        }
        Some(read)
    }

    /// PostgreSQL's own table of its log, `log_destination = csvlog`: the twelfth column is the severity, the fourteenth the message.
    fn of_postgres(&self, text: &str, service: &str, _depth: usize) -> Option<Parsed> {
        let (at, rest) = leading(text, &self.missing)?;
        let columns = columns(rest.strip_prefix(',')?);
        let (severity, code, message) = (columns.get(10)?, columns.get(11)?, columns.get(12)?);
        let is_code = code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_code && !message.is_empty()).then_some(())?;
        let level = level::of_field("error_severity", &Value::String(severity.clone()))?;
        let mut read = parsed(Some(at), Some(&level), service, message);
        read.structured = true;
        Some(read)
    }

    /// klog and glog: `E1130 14:00:00.123456       1 file.go:147] message`, newer ones with the year.
    fn initialled(&self, text: &str, service: &str, _depth: usize) -> Option<Parsed> {
        let severity =
            level::of_letter(text.get(..1)?).filter(|_| text.starts_with(['F', 'E', 'W', 'I', 'D']))?;
        let mut cursor = Cursor { rest: text.get(1..)? };
        let digits = cursor.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (at, rest) = match digits {
            4 => {
                let (month, day) = (cursor.digits(2)?, cursor.digits(2)?);
                cursor.rest = cursor.rest.strip_prefix(' ')?;
                let time = cursor.time(false)?;
                without_year(i8::try_from(month).ok()?, i8::try_from(day).ok()?, time, cursor, &self.missing)?
            }
            6 => compact_short_year(cursor, &self.missing)?,
            8 => leading(cursor.rest, &self.missing)?,
            _ => return None,
        };
        let rest = rest.trim_start();
        let (thread, message) = rest.split_once(' ')?;
        let is_thread = thread.bytes().all(|byte| byte.is_ascii_digit());
        let mut read = parsed(Some(at), Some(severity), service, if is_thread { message } else { rest });
        read.structured = true;
        Some(read)
    }

    /// Redis: `1:M 30 Nov 2026 14:00:00.123 # message`, whose sign is the level.
    fn of_redis(&self, text: &str, service: &str, _depth: usize) -> Option<Parsed> {
        let (process, rest) = text.split_once(':')?;
        process.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        let rest = rest.strip_prefix(['M', 'S', 'C', 'X'])?.strip_prefix(' ')?;
        let (at, rest) = leading(rest, &self.missing)?;
        let rest = rest.trim_start();
        let level = match rest.chars().next()? {
            '#' => level::WARN,
            '*' => level::INFO,
            '-' | '.' => level::DEBUG,
            _ => return None,
        };
        Some(parsed(Some(at), Some(level), service, rest.get(1..)?))
    }

    /// logfmt, from the first word on or after a time: `ts=... level=error msg="pool exhausted"`.
    fn of_pairs(&self, text: &str, service: &str, depth: usize) -> Option<Parsed> {
        let (at, rest) = match leading(text, &self.missing) {
            Some((at, rest)) => (Some(at), rest.trim_start()),
            None => (None, text),
        };
        let pairs = pairs(rest)?;
        let mut read = self.record_within(&pairs, service, depth);
        // What an access log's pairs say beside method, path and status is as good as a message.
        read.structured = self.known.has_message(&pairs);
        if !read.structured {
            // Without a message that has a name all of the pairs are one.
            (read.at.is_some() || !read.line.level.is_empty()).then_some(())?;
            read.line.message = cut(rest, MESSAGE_CHARACTERS_MAX);
        }
        read.at = at.or(read.at);
        read.line.at = read.at.unwrap_or_default();
        Some(read)
    }
}

pub(super) fn parsed(at: Option<Timestamp>, level: Option<&str>, service: &str, message: &str) -> Parsed {
    let line = LogLine {
        at: at.unwrap_or_default(),
        level: cut(level.unwrap_or_default(), NAME_CHARACTERS_MAX),
        service: cut(service, NAME_CHARACTERS_MAX),
        instance: String::new(),
        message: cut(message.trim(), MESSAGE_CHARACTERS_MAX),
    };
    Parsed { at, line, structured: false, partial: false, wrapped: false }
}

/// The columns of a line of CSV, as far as they are looked at.
fn columns(text: &str) -> Vec<String> {
    const COLUMNS_MAX: usize = 16;
    let (mut columns, mut column, mut quoted) = (Vec::new(), String::new(), false);
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '"' if quoted && signs.peek() == Some(&'"') => column.extend(signs.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => {
                columns.push(std::mem::take(&mut column));
                if columns.len() >= COLUMNS_MAX {
                    return columns;
                }
            }
            other => column.push(other),
        }
    }
    columns.push(column);
    columns
}

/// The text without the sequences that colour a terminal.
pub(super) fn without_colours(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = match after.strip_prefix('[') {
            Some(sequence) => {
                let end =
                    sequence.find(|c: char| c.is_ascii_alphabetic()).map_or(sequence.len(), |end| end + 1);
                sequence.get(end..).unwrap_or_default()
            }
            None => after,
        };
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader() -> Reader {
        Reader::new(&FieldMap::default(), "2026-12-01T00:00:00Z".parse().unwrap())
    }

    fn read(text: &str) -> Parsed {
        reader().line(text, "file")
    }

    /// Level, service, instance and message.
    fn said(line: &LogLine) -> [&str; 4] {
        [&line.level, &line.service, &line.instance, &line.message]
    }

    #[test]
    fn lines_are_read_in_the_forms_of_their_writers() {
        for (text, wanted) in [
            ("2026-11-30T14:00:00Z ERROR pool exhausted", ["error", "file", "", "ERROR pool exhausted"]),
            (
                "ts=2026-11-30T14:00:00Z caller=x.go:1 level=error msg=\"pool \\\"a\\\" exhausted\" err=timeout",
                ["error", "file", "", "pool \"a\" exhausted: timeout"],
            ),
            ("2026-11-30T14:00:00Z level=warn msg=slow a=b", ["warn", "file", "", "slow"]),
            (
                "level=info ts=2026-11-30T14:00:00Z component=querier latency=fast",
                ["info", "file", "", "level=info ts=2026-11-30T14:00:00Z component=querier latency=fast"],
            ),
            ("Nov 30 14:00:00 vm1 checkout[42]: pool exhausted", ["", "checkout", "vm1", "pool exhausted"]),
            ("Nov 30 14:00:00 vm1 kernel: Out of memory: x", ["", "kernel", "vm1", "Out of memory: x"]),
            ("<11>Nov 30 14:00:00 vm1 checkout: failed", ["error", "checkout", "vm1", "failed"]),
            (
                "2026-11-30T15:00:00.000000+01:00 vm1 checkout[42]: ERROR failed",
                ["error", "checkout", "vm1", "ERROR failed"],
            ),
            (
                "<11>1 2026-11-30T14:00:00Z vm1 checkout 42 - - pool exhausted",
                ["error", "checkout", "vm1", "pool exhausted"],
            ),
            (
                "<14>1 2026-11-30T14:00:00Z - - - - [a b=\"\\]\"][c] \u{feff}said",
                ["info", "file", "", "said"],
            ),
            (
                "E1130 14:00:00.000000       1 reflector.go:147] failed to list",
                ["error", "file", "", "reflector.go:147] failed to list"],
            ),
            ("W20261130 14:00:00.000000 17 x.cc:1] deprecated", ["warn", "file", "", "x.cc:1] deprecated"]),
            ("1:M 30 Nov 2026 14:00:00.000 # Out Of Memory", ["warn", "file", "", "Out Of Memory"]),
            (
                "2026-11-30T14:00:00Z stderr F ERROR pool exhausted",
                ["error", "file", "", "ERROR pool exhausted"],
            ),
            (
                "2026-11-30T14:00:00Z stdout F {\"level\":\"warn\",\"msg\":\"slow\",\"service\":\"a\"}",
                ["warn", "a", "", "slow"],
            ),
            (
                "2026-11-30T14:00:00Z \u{1b}[31mERROR\u{1b}[0m app::pool: pool exhausted",
                ["error", "file", "", "ERROR app::pool: pool exhausted"],
            ),
            (
                "E, [2026-11-30T14:00:00.000000 #42] ERROR -- : failed",
                ["error", "file", "", "E, [ #42] ERROR -- : failed"],
            ),
        ] {
            let parsed = read(text);
            assert_eq!(parsed.at.map(|at| at.to_string()).as_deref(), Some("2026-11-30T14:00:00Z"), "{text}");
            assert_eq!(said(&parsed.line), wanted, "{text}");
        }
        assert!(read("2026-11-30T14:00:00Z stderr P half of").partial);
        for text in ["   at com.example.Main(Main.java:7)", "2026 orders", "12:00 lunch", "", "a=b"] {
            assert_eq!(read(text).at, None, "{text}");
        }
    }

    #[test]
    fn json_lines_are_read_by_their_usual_keys() {
        for text in [
            r#"{"time":"2026-03-01T09:00:00Z","level":"ERROR","service":"a","instance":"h","message":"m"}"#,
            r#"{"@timestamp":"2026-03-01T09:00:00.000Z","log.level":"error","service":{"name":"a"},"host":{"name":"h"},"message":"m"}"#,
            r#"{"ts":1772355600,"severity":"error","app":"a","hostname":"h","msg":"m"}"#,
            r#"{"ts":1772355600000,"lvl":"error","app":"a","node":"h","msg":"m"}"#,
            r#"{"t":{"$date":"2026-03-01T09:00:00Z"},"s":"E","id":1,"app":"a","host":"h","msg":"m"}"#,
            r#"{"Timestamp":"2026-03-01T09:00:00Z","LogLevel":"Error","Application":"a","HostName":"h","Message":"m"}"#,
            r#"{"@t":"2026-03-01T09:00:00Z","@l":"Error","@mt":"{What}","What":"m","Service":"a","Host":"h"}"#,
            r#"{"log":"{\"level\":\"error\",\"message\":\"m\"}\n","stream":"stderr","time":"2026-03-01T09:00:00Z","service":"a","pod":"h"}"#,
            r#"{"timeUnixNano":"1772355600000000000","severityNumber":17,"body":{"stringValue":"m"},"attributes":[{"key":"service.name","value":{"stringValue":"a"}},{"key":"host.name","value":{"stringValue":"h"}}]}"#,
        ] {
            let Parsed { at, line, .. } = read(text);
            assert_eq!(at.map(|at| at.to_string()).as_deref(), Some("2026-03-01T09:00:00Z"), "{text}");
            assert_eq!(said(&line), ["error", "a", "h", "m"], "{text}");
        }
        assert_eq!(read("{broken").line.message, "{broken");
    }

    #[test]
    fn a_line_of_the_file_exporter_holds_several_records() {
        let text = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},
            "scopeLogs":[{"logRecords":[
                {"timeUnixNano":"1772355600000000000","severityText":"ERROR","body":{"stringValue":"one"}},
                {"timeUnixNano":"1772355601000000000","severityText":"INFO","body":{"stringValue":"two"}}]}]}]}"#;
        let read = reader().lines(text, "file");
        let lines: Vec<[&str; 4]> = read.iter().map(|parsed| said(&parsed.line)).collect();
        assert_eq!(lines, [["error", "a", "", "one"], ["info", "a", "", "two"]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_line_is_read(
            text in "[0-9:/TZ,. \\[\\]+-]{0,40}|.{0,100}|<[0-9]{1,3}>(1 )?[0-9A-Za-z :\\[\\]\"=-]{0,60}|[A-Za-z=\" \\\\]{0,60}|\\{[\"a-z:,\\[\\]{}0-9]{0,40}"
        ) {
            for parsed in reader().lines(&text, "file") {
                prop_assert!(parsed.line.message.chars().count() <= MESSAGE_CHARACTERS_MAX);
            }
        }
    }
}
