//! Lines of log files in the forms that are met: JSON objects, and text that begins with a time.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use quell_incident::evidence::LogLine;
use serde_json::{Map, Value};

use super::{MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, cut};

/// Numbers above this are milliseconds, above its thousandfold microseconds, and so on: seconds reach it in the year 5138.
const SECONDS_MAX: f64 = 1e11;
/// Words at the beginning of a text line among which its level is looked for.
const LEVEL_WORDS_MAX: usize = 6;
const TIME_KEYS: [&str; 6] = ["time", "@timestamp", "timestamp", "ts", "date", "datetime"];
const LEVEL_KEYS: [&str; 5] = ["level", "severity", "lvl", "log.level", "levelname"];
const SERVICE_KEYS: [&str; 7] =
    ["service", "service.name", "app", "application", "program", "logger", "name"];
const INSTANCE_KEYS: [&str; 6] = ["instance", "host", "hostname", "host.name", "node", "pod"];
const MESSAGE_KEYS: [&str; 5] = ["message", "msg", "log", "text", "event"];

/// What a line of a file says; without a time it continues the line before it.
pub(crate) struct Parsed {
    pub(crate) at: Option<Timestamp>,
    pub(crate) line: LogLine,
}

/// Reads one line; `service` is what the file is called.
pub(crate) fn parse_line(text: &str, service: &str) -> Parsed {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.starts_with('{')
        && let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text)
    {
        return json(&fields, text, service);
    }
    let (at, rest) = leading_time(text);
    let level = level_of(rest).unwrap_or_default();
    Parsed { at, line: line(at, &level, service, "", rest.trim_start()) }
}

fn json(fields: &Map<String, Value>, text: &str, service: &str) -> Parsed {
    let at = TIME_KEYS.iter().find_map(|key| instant(fields.get(*key)?));
    let level = first(fields, &LEVEL_KEYS).unwrap_or_default().to_lowercase();
    let service = first(fields, &SERVICE_KEYS).unwrap_or_else(|| service.to_owned());
    let instance = first(fields, &INSTANCE_KEYS).unwrap_or_default();
    let message = first(fields, &MESSAGE_KEYS).unwrap_or_else(|| text.to_owned());
    Parsed { at, line: line(at, &level, &service, &instance, &message) }
}

fn line(at: Option<Timestamp>, level: &str, service: &str, instance: &str, message: &str) -> LogLine {
    LogLine {
        at: at.unwrap_or_default(),
        level: cut(level, NAME_CHARACTERS_MAX),
        service: cut(service, NAME_CHARACTERS_MAX),
        instance: cut(instance, NAME_CHARACTERS_MAX),
        message: cut(message, MESSAGE_CHARACTERS_MAX),
    }
}

fn first(fields: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match fields.get(*key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        // `{"host": {"name": "db-1"}}`, as collectors write it.
        Value::Object(inner) => inner.get("name").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    })
}

fn instant(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => time_of(text.trim()),
        Value::Number(number) => {
            let mut seconds = number.as_f64().filter(|number| *number > 0.0)?;
            while seconds > SECONDS_MAX {
                seconds /= 1000.0;
            }
            Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
        }
        _ => None,
    }
}

/// The time at the beginning of a line, and the rest of it.
fn leading_time(text: &str) -> (Option<Timestamp>, &str) {
    let start = text.trim_start_matches(['[', ' ']);
    // One word (`2026-03-01T09:00:00Z`) or two (`2026-03-01 09:00:00,123`, `01/Mar/2026:09:00:00 +0000`).
    let one = start.find([' ', ']', '\t']).unwrap_or(start.len());
    let two = start.get(one + 1..).and_then(|rest| rest.find([' ', ']', '\t']).map(|end| one + 1 + end));
    for end in [two.unwrap_or(start.len()), one] {
        let Some((word, rest)) = start.split_at_checked(end) else { continue };
        if word.len() <= 64
            && let Some(at) = time_of(word)
        {
            return (Some(at), rest.trim_start_matches([']', ' ', '\t']));
        }
    }
    (None, text)
}

/// RFC 3339, the same without a zone (taken as UTC) and with a comma or a blank, and the form of web servers.
fn time_of(word: &str) -> Option<Timestamp> {
    let word = word.trim();
    if !word.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Ok(at) = word.parse::<Timestamp>() {
        return Some(at);
    }
    let dotted = word.replace(',', ".").replace('/', "-");
    if let Ok(at) = dotted.parse::<Timestamp>() {
        return Some(at);
    }
    if let Ok(civil) = dotted.parse::<DateTime>()
        && dotted.len() >= 16
    {
        return civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    }
    Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", word).ok()
}

fn level_of(text: &str) -> Option<String> {
    let known = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_ascii_lowercase();
        let level = match word.as_str() {
            "warning" | "wrn" => "warn",
            "err" => "error",
            "critical" | "crit" | "panic" | "emerg" => "fatal",
            "information" | "notice" => "info",
            "error" | "warn" | "info" | "debug" | "trace" | "fatal" => word.as_str(),
            _ => return None,
        };
        Some(level.to_owned())
    };
    text.split_ascii_whitespace().take(LEVEL_WORDS_MAX).find_map(known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_forms_of_time_are_read() {
        for text in [
            "2026-03-01T09:00:00Z ERROR x",
            "2026-03-01T10:00:00+01:00 ERROR x",
            "2026-03-01 09:00:00,000 ERROR x",
            "[2026-03-01 09:00:00.000] ERROR x",
            "2026-03-01 09:00:00 [main] ERROR x",
            "2026/03/01 09:00:00 ERROR x",
            "[01/Mar/2026:09:00:00 +0000] ERROR x",
            "2026-03-01T09:00:00 ERROR x",
        ] {
            let parsed = parse_line(text, "svc");
            assert_eq!(parsed.at.map(|at| at.to_string()).as_deref(), Some("2026-03-01T09:00:00Z"), "{text}");
            assert_eq!(parsed.line.level, "error", "{text}");
            assert!(parsed.line.message.ends_with("ERROR x"), "{}", parsed.line.message);
        }
        for text in ["   at com.example.Main(Main.java:7)", "2026 orders", "12:00 lunch", ""] {
            assert_eq!(parse_line(text, "svc").at, None, "{text}");
        }
    }

    #[test]
    fn json_lines_are_read_by_their_usual_keys() {
        for text in [
            r#"{"time":"2026-03-01T09:00:00Z","level":"ERROR","service":"a","instance":"h","message":"m"}"#,
            r#"{"@timestamp":"2026-03-01T09:00:00.000Z","log.level":"error","service":{"name":"a"},"host":{"name":"h"},"message":"m"}"#,
            r#"{"ts":1772355600,"severity":"error","app":"a","hostname":"h","msg":"m"}"#,
            r#"{"ts":1772355600000,"lvl":"error","app":"a","node":"h","msg":"m"}"#,
        ] {
            let Parsed { at, line } = parse_line(text, "file");
            assert_eq!(at.map(|at| at.to_string()).as_deref(), Some("2026-03-01T09:00:00Z"), "{text}");
            let read =
                (line.level.as_str(), line.service.as_str(), line.instance.as_str(), line.message.as_str());
            assert_eq!(read, ("error", "a", "h", "m"), "{text}");
        }
        assert_eq!(parse_line("{broken", "file").line.message, "{broken");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_line_is_read(text in "[0-9:/TZ,. \\[\\]+-]{0,40}|.{0,100}") {
            let parsed = parse_line(&text, "file");
            prop_assert!(parsed.line.message.chars().count() <= MESSAGE_CHARACTERS_MAX);
        }
    }
}
