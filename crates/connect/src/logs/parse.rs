//! Lines of log files in the forms that are met: JSON objects, and text that begins with a time.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use quell_incident::evidence::LogLine;
use serde_json::Value;

use super::fields::FieldMap;
use super::{MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, cut};

/// Words at the beginning of a text line among which its level is looked for.
const LEVEL_WORDS_MAX: usize = 6;
/// What a line of a file says; without a time it continues the line before it.
pub(crate) struct Parsed {
    pub(crate) at: Option<Timestamp>,
    pub(crate) line: LogLine,
}

/// Reads one line; `service` is what the file is called.
pub(crate) fn parse_line(text: &str, service: &str, map: &FieldMap) -> Parsed {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.starts_with('{')
        && let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text)
    {
        let mut parsed = map.read(&fields, service);
        if parsed.line.message.is_empty() {
            parsed.line.message = cut(text, MESSAGE_CHARACTERS_MAX);
        }
        return parsed;
    }
    let (at, rest) = leading_time(text);
    let level = level_of(rest).unwrap_or_default();
    let line = LogLine {
        at: at.unwrap_or_default(),
        level: level.to_owned(),
        service: cut(service, NAME_CHARACTERS_MAX),
        instance: String::new(),
        message: cut(rest.trim_start(), MESSAGE_CHARACTERS_MAX),
    };
    Parsed { at, line }
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
pub(super) fn time_of(word: &str) -> Option<Timestamp> {
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

fn level_of(text: &str) -> Option<&'static str> {
    text.split_ascii_whitespace().take(LEVEL_WORDS_MAX).find_map(level_word)
}

/// The level that a word means.
pub(super) fn level_word(word: &str) -> Option<&'static str> {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_ascii_lowercase();
    Some(match word.as_str() {
        "error" | "err" | "severe" => "error",
        "warn" | "warning" | "wrn" => "warn",
        "info" | "information" | "notice" => "info",
        "debug" => "debug",
        "trace" => "trace",
        "fatal" | "critical" | "crit" | "panic" | "emerg" => "fatal",
        _ => return None,
    })
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
            let parsed = parse_line(text, "svc", &FieldMap::default());
            assert_eq!(parsed.at.map(|at| at.to_string()).as_deref(), Some("2026-03-01T09:00:00Z"), "{text}");
            assert_eq!(parsed.line.level, "error", "{text}");
            assert!(parsed.line.message.ends_with("ERROR x"), "{}", parsed.line.message);
        }
        for text in ["   at com.example.Main(Main.java:7)", "2026 orders", "12:00 lunch", ""] {
            assert_eq!(parse_line(text, "svc", &FieldMap::default()).at, None, "{text}");
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
            let Parsed { at, line } = parse_line(text, "file", &FieldMap::default());
            assert_eq!(at.map(|at| at.to_string()).as_deref(), Some("2026-03-01T09:00:00Z"), "{text}");
            let read =
                (line.level.as_str(), line.service.as_str(), line.instance.as_str(), line.message.as_str());
            assert_eq!(read, ("error", "a", "h", "m"), "{text}");
        }
        assert_eq!(parse_line("{broken", "file", &FieldMap::default()).line.message, "{broken");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_line_is_read(text in "[0-9:/TZ,. \\[\\]+-]{0,40}|.{0,100}") {
            let parsed = parse_line(&text, "file", &FieldMap::default());
            prop_assert!(parsed.line.message.chars().count() <= MESSAGE_CHARACTERS_MAX);
        }
    }
}
