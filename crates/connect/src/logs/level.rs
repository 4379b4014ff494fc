//! What a level is called: one vocabulary for all sources. Where one stands in a text is another matter: see `text_level`.

use serde_json::Value;

use super::names::alike;

pub(super) const TRACE: &str = "trace";
pub(super) const DEBUG: &str = "debug";
pub(super) const INFO: &str = "info";
pub(super) const WARN: &str = "warn";
pub(super) const ERROR: &str = "error";
pub(super) const FATAL: &str = "fatal";

/// The level that a word means, in whatever case it is written.
pub(super) fn of_word(word: &str) -> Option<&'static str> {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
    if word.is_empty() || word.len() > 16 {
        return None;
    }
    // With the words of Java's and PostgreSQL's translations that are no words of English.
    Some(match word.to_ascii_lowercase().as_str() {
        "error" | "err" | "eror" | "erro" | "severe" | "failure" | "fail" | "fehler" | "erreur"
        | "errore" | "schwerwiegend" | "grave" => ERROR,
        "warn" | "warning" | "wrn" | "warnung" | "avertissement" | "advertencia" | "avvertenza" => WARN,
        "info" | "inf" | "information" | "informational" | "notice" | "note" | "ntc" | "config"
        | "system" | "infos" => INFO,
        "debug" | "dbg" | "debg" | "dbug" | "fine" => DEBUG,
        "trace" | "trc" | "trce" | "verbose" | "vrb" | "finer" | "finest" | "silly" => TRACE,
        "fatal" | "ftl" | "fatl" | "critical" | "crit" | "crt" | "panic" | "dpanic" | "emerg"
        | "emergency" | "alert" => FATAL,
        _ => return None,
    })
}

/// A level where a word may mean something else as well: only what is a level and hardly anything else.
pub(super) fn perhaps_of_field(name: &str, value: &Value) -> Option<&'static str> {
    let is_priority = name.starts_with("prio");
    let text = match value {
        Value::String(text) => text.trim(),
        Value::Number(number) if is_priority => return number.as_u64().filter(is_of_syslog).map(of_syslog),
        Value::Array(values) => return values.iter().find_map(|value| perhaps_of_field(name, value)),
        _ => return None,
    };
    if let Ok(number) = text.parse() {
        return Some(number).filter(|number| is_priority && is_of_syslog(number)).map(of_syslog);
    }
    const SURE: [&str; 14] = [
        "error",
        "err",
        "warn",
        "warning",
        "info",
        "information",
        "notice",
        "debug",
        "crit",
        "critical",
        "fatal",
        "emerg",
        "emergency",
        "panic",
    ];
    let is_sure = SURE.iter().any(|word| text.eq_ignore_ascii_case(word));
    // An event of the type `alert` is anything, and one of the type `trace` a trace.
    let is_known = is_sure || (name != "type" && name != "eventtype" && text.eq_ignore_ascii_case("alert"));
    is_known.then(|| of_word(text)).flatten()
}

/// A priority of syslog, which is a facility and a severity in one number.
fn is_of_syslog(number: &u64) -> bool {
    *number < 192
}

/// A level by one letter, as klog, MongoDB, logcat and Ruby write it.
pub(super) fn of_letter(letter: &str) -> Option<&'static str> {
    Some(match letter {
        "F" | "C" => FATAL,
        "E" => ERROR,
        "W" => WARN,
        "I" | "N" => INFO,
        "D" => DEBUG,
        "T" | "V" => TRACE,
        _ => return None,
    })
}

/// A severity of syslog, 0 to 7; of a priority the last three bits.
pub(super) fn of_syslog(severity: u64) -> &'static str {
    match severity & 7 {
        0..=2 => FATAL,
        3 => ERROR,
        4 => WARN,
        5 | 6 => INFO,
        _ => DEBUG,
    }
}

/// The level in a field of this name: a word, a letter, or a number of one of the scales in use. A word that is none of ours is kept.
pub(super) fn of_field(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            if let Ok(number) = text.parse::<f64>() {
                return of_number(name, number).map(str::to_owned);
            }
            if text.eq_ignore_ascii_case("log") {
                // PostgreSQL's ordinary messages.
                return Some(INFO.to_owned());
            }
            // `ERROR2` of OpenTelemetry, `SEVERITY_NUMBER_ERROR`, `D3` of MongoDB.
            let bare = text.trim_end_matches(|c: char| c.is_ascii_digit());
            let last = bare.rsplit(['_', '.', ':']).next().unwrap_or(bare);
            let known =
                of_word(bare).or_else(|| of_word(last)).or_else(|| of_letter(&bare.to_ascii_uppercase()));
            match known {
                Some(level) => Some(level.to_owned()),
                None if text.is_empty() || is_no_level(text) => None,
                None => Some(text.to_lowercase()),
            }
        }
        Value::Number(number) => of_number(name, number.as_f64()?).map(str::to_owned),
        // A field that several rows or shippers have written says the same thing several times.
        Value::Array(values) => values.iter().find_map(|value| of_field(name, value)),
        // `{"name": "ERROR", "no": 40}` of loguru, `{"text": "Error", "number": 17}` of OpenTelemetry in Elastic's form.
        Value::Object(parts) => {
            ["name", "text", "label", "displayName"].iter().find_map(|part| of_field(name, parts.get(*part)?))
        }
        _ => None,
    }
}

fn is_no_level(text: &str) -> bool {
    ["unknown", "none", "unspecified", "unset", "default", "-", "null"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word) || text.to_ascii_lowercase().ends_with("_unspecified"))
}

/// Each family of loggers counts otherwise: the field's name and the size of the number tell which one it is.
fn of_number(name: &str, number: f64) -> Option<&'static str> {
    if !(0.0..=50_000.0).contains(&number) {
        return None;
    }
    let number = number as u64;
    let name = alike(name);
    if name.ends_with("severitynumber") {
        return of_open_telemetry(number);
    }
    if name.ends_with("priority") || name.ends_with("pri") {
        return is_of_syslog(&number).then(|| of_syslog(number));
    }
    if name.ends_with("severitylevel") {
        // Application Insights counts upwards.
        return [TRACE, INFO, WARN, ERROR, FATAL].get(usize::try_from(number).ok()?).copied();
    }
    Some(match (number, name.as_str()) {
        (0..=7, _) => of_syslog(number),
        // Python's own numbers: 10, 20, 30, 40, 50 from debug to critical.
        (10..=19, "levelno") => DEBUG,
        (20..=29, "levelno") => INFO,
        (30..=39, "levelno") => WARN,
        (40..=49, "levelno") => ERROR,
        (50..=59, "levelno") => FATAL,
        // bunyan and pino: 10 to 60 from trace to fatal.
        (10..=19, _) => TRACE,
        (20..=29, _) => DEBUG,
        (30..=39, _) => INFO,
        (40..=49, _) => WARN,
        (50..=59, _) => ERROR,
        (60..=69, _) => FATAL,
        // Google's severities.
        (100, _) => DEBUG,
        (200 | 300, "severity") => INFO,
        (400, "severity") => WARN,
        (500, "severity") => ERROR,
        (600..=800, "severity") | (600, _) => FATAL,
        // Monolog's levels.
        (200 | 250, _) => INFO,
        (300, _) => WARN,
        (400, _) => ERROR,
        (500..=599, _) => FATAL,
        // java.util.logging.
        (700 | 800, _) => INFO,
        (900, _) => WARN,
        (1000, _) => ERROR,
        // log4j and logback.
        (5000, _) => TRACE,
        (10_000, _) => DEBUG,
        (20_000, _) => INFO,
        (30_000, _) => WARN,
        (40_000, _) => ERROR,
        (50_000, _) => FATAL,
        _ => return None,
    })
}

fn of_open_telemetry(number: u64) -> Option<&'static str> {
    Some(match number {
        1..=4 => TRACE,
        5..=8 => DEBUG,
        9..=12 => INFO,
        13..=16 => WARN,
        17..=20 => ERROR,
        21..=24 => FATAL,
        _ => return None,
    })
}

/// What an access log's status says where nothing else does.
pub(super) fn of_status(status: u16) -> Option<&'static str> {
    (500..600).contains(&status).then_some(ERROR)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn levels_are_known_in_every_spelling() {
        for (name, value, level) in [
            ("level", json!("E"), "error"),
            ("level", json!("W"), "warn"),
            ("level", json!("ERR"), "error"),
            ("level", json!("err"), "error"),
            ("level", json!("SEVERE"), "error"),
            ("level", json!("alert"), "fatal"),
            ("level", json!("emergency"), "fatal"),
            ("level", json!("Verbose"), "trace"),
            ("level", json!("F"), "fatal"),
            ("level", json!("critical"), "fatal"),
            ("level", json!("NOTICE"), "info"),
            ("level", json!("Warning"), "warn"),
            ("level", json!("ERROR2"), "error"),
            ("severityNumber", json!("SEVERITY_NUMBER_ERROR"), "error"),
            ("severity_number", json!(17), "error"),
            ("SeverityNumber", json!("21"), "fatal"),
            ("level", json!(50), "error"),
            ("level", json!(3), "error"),
            ("level", json!("4"), "warn"),
            ("levelno", json!(40), "error"),
            ("level", json!(400), "error"),
            ("severity", json!(500), "error"),
            ("log.syslog.priority", json!(11), "error"),
            ("level", json!(["ERROR", "ERROR"]), "error"),
            ("level", json!("odd"), "odd"),
            ("level", json!({"name": "ERROR", "no": 40}), "error"),
            ("error_severity", json!("LOG"), "info"),
            ("syslog5424_pri", json!("11"), "error"),
            ("severityLevel", json!(3), "error"),
            ("level_value", json!(40_000), "error"),
            ("level", json!("fail"), "error"),
            ("level", json!("SCHWERWIEGEND"), "error"),
        ] {
            assert_eq!(of_field(name, &value).as_deref(), Some(level), "{name}: {value}");
        }
        for value in [
            json!("unknown"),
            json!(""),
            json!("SEVERITY_NUMBER_UNSPECIFIED"),
            json!(null),
            json!(true),
            json!(-1),
        ] {
            assert_eq!(of_field("level", &value), None, "{value}");
        }
    }

    #[test]
    fn where_other_things_stand_as_well_only_levels_are_levels() {
        for (name, value, level) in [
            ("status", json!("error"), Some("error")),
            ("status", json!("Alert"), Some("fatal")),
            ("type", json!("Warning"), Some("warn")),
            ("priority", json!("Critical"), Some("fatal")),
            ("priority", json!(11), Some("error")),
            ("priority", json!("3"), Some("error")),
            ("priority", json!("high"), None),
            ("priority", json!(500), None),
            ("status", json!(503), None),
            ("status", json!("3"), None),
            ("status", json!("failure"), None),
            ("status", json!("ok"), None),
            ("type", json!("Normal"), None),
            ("type", json!("alert"), None),
            ("type", json!("trace"), None),
            ("type", json!("system"), None),
        ] {
            assert_eq!(perhaps_of_field(name, &value), level, "{name}: {value}");
        }
    }
}
