//! What a level is called: one vocabulary for all sources. A level is a field of its own, a word at the beginning of a text, or what the
//! status of an access log says.

use serde_json::Value;

/// Words at the beginning of a text among which its level is looked for.
const WORDS_MAX: usize = 8;
/// Bytes of a text in which they are looked for.
const HEAD_BYTES_MAX: usize = 240;

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
    Some(match word.to_ascii_lowercase().as_str() {
        "error" | "err" | "eror" | "erro" | "severe" | "failure" => ERROR,
        "warn" | "warning" | "wrn" => WARN,
        "info" | "inf" | "information" | "informational" | "notice" | "note" | "ntc" | "config"
        | "system" => INFO,
        "debug" | "dbg" | "debg" | "dbug" | "fine" => DEBUG,
        "trace" | "trc" | "trce" | "verbose" | "vrb" | "finer" | "finest" => TRACE,
        "fatal" | "ftl" | "critical" | "crit" | "panic" | "dpanic" | "emerg" | "emergency" | "alert" => FATAL,
        _ => return None,
    })
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
    if !(0.0..1000.0).contains(&number) {
        return None;
    }
    let number = number as u64;
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    if name.ends_with("severitynumber") {
        return of_open_telemetry(number);
    }
    if name.ends_with("priority") {
        return Some(of_syslog(number));
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

/// The level of a text: what its access log's status says, or the first word near its beginning that is written like a level. A word of
/// a sentence is none: "no error found" is not an error.
pub(super) fn of_text(text: &str) -> Option<&'static str> {
    if let Some(status) = access_status(text) {
        return of_status(status);
    }
    let mut end = HEAD_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = text.get(..end).unwrap_or_default();
    let mut only_numbers = true;
    for (index, token) in tokens(head).take(WORDS_MAX).enumerate() {
        if let Some(level) = of_token(&token, index == 0, only_numbers) {
            return Some(level);
        }
        only_numbers &= token.word.bytes().all(|byte| byte.is_ascii_digit());
    }
    None
}

struct Token<'a> {
    word: &'a str,
    bracketed: bool,
}

/// The words of a text, and whether each stands alone between brackets, bars or angles.
fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let is_border = |c: char| c.is_whitespace() || "[]<>|(){}\",".contains(c);
    let bytes = text.as_bytes();
    text.split(is_border).filter(|word| !word.is_empty()).map(move |word| {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        let before = start.checked_sub(1).and_then(|at| bytes.get(at));
        let after = bytes.get(start + word.len());
        let opens = before.is_some_and(|byte| b"[<|(".contains(byte));
        let closes = after.is_none_or(|byte| b"]>|) ".contains(byte));
        Token { word, bracketed: opens && closes }
    })
}

fn of_token(token: &Token<'_>, is_first: bool, only_numbers: bool) -> Option<&'static str> {
    let word = token.word;
    if let Some((name, value)) = word.split_once('=') {
        let is_level = ["level", "lvl", "severity", "loglevel", "log.level"].contains(&name);
        return is_level.then(|| of_word(value)).flatten();
    }
    let bare = word.trim_end_matches([':', '!']);
    // `core:error` of Apache, `production.ERROR:` of Laravel.
    let last = bare.rsplit(['.', ':']).next().unwrap_or(bare);
    let is_upper = |word: &str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    if token.bracketed {
        return of_word(bare).or_else(|| of_word(last)).or_else(|| of_letter(bare));
    }
    if is_upper(bare) && bare == "LOG" && word.ends_with(':') {
        // PostgreSQL's ordinary messages.
        return Some(INFO);
    }
    let is_written_like_one = is_upper(bare) || is_first || (word.ends_with(':') && bare == last);
    if is_written_like_one && let Some(level) = of_word(bare) {
        return Some(level);
    }
    if is_upper(last) && word.ends_with(':') {
        return of_word(last);
    }
    // A lone letter is a level only where nothing but numbers stands before it.
    (only_numbers && bare == word).then(|| of_letter(bare)).flatten()
}

/// The status in a line of an access log: after the quoted request, or where HAProxy and Squid write it.
pub(super) fn access_status(text: &str) -> Option<u16> {
    after_request(text).or_else(|| of_proxy(text))
}

fn after_request(text: &str) -> Option<u16> {
    let protocol = text.find(" HTTP/")?;
    let rest = text.get(protocol..)?;
    // The request ends with its version: what is quoted after other text is not this line's own request.
    let (version, rest) = rest.split_once('"')?;
    (version.len() <= " HTTP/1.1".len()).then_some(())?;
    status(rest.split_ascii_whitespace().next()?)
}

/// `0/-1/-1/-1/0 503` of HAProxy and `TCP_MISS/502` of Squid.
fn of_proxy(text: &str) -> Option<u16> {
    let mut words = text.split_ascii_whitespace().take(24).peekable();
    while let Some(word) = words.next() {
        let timers = word.trim_start_matches('+');
        let is_timer = |part: &str| {
            let part = part.strip_prefix(['-', '+']).unwrap_or(part);
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if timers.matches('/').count() == 4 && timers.split('/').all(is_timer) {
            return status(words.peek()?);
        }
        if let Some((result, code)) = word.split_once('/')
            && result.starts_with("TCP_")
        {
            return status(code);
        }
    }
    None
}

fn status(word: &str) -> Option<u16> {
    let status: u16 = (word.len() == 3).then(|| word.parse().ok()).flatten()?;
    (100..600).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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
    fn a_text_has_the_level_that_it_is_written_with() {
        for (text, level) in [
            ("ERROR pool exhausted", Some("error")),
            ("[main] WARN c.e.Pool - slow", Some("warn")),
            ("INFO --- [scheduling-1] c.e.Inv : no error found", Some("info")),
            ("[1][critical][main] [source/server.cc:117] error initializing", Some("fatal")),
            ("[42] FATAL:  remaining connection slots are reserved", Some("fatal")),
            ("[42] LOG:  checkpoint starting: time", Some("info")),
            ("0 [ERROR] [MY-010187] [Server] Could not open file", Some("error")),
            (
                "[error] 31#31: *1 connect() failed, request: \"GET / HTTP/1.1\", upstream: \"x\"",
                Some("error"),
            ),
            ("[core:error] [pid 35708:tid 1] AH00124: too many redirects", Some("error")),
            ("production.ERROR: SQLSTATE[HY000]", Some("error")),
            ("[ 42 ] {} <Error> Application: disk", Some("error")),
            ("- app.pool - ERROR - pool exhausted", Some("error")),
            ("E NETWORK  [conn1] end connection", Some("error")),
            ("1234  5678 E Tag: gone", Some("error")),
            ("level=error msg=x", Some("error")),
            ("error: cannot open", Some("error")),
            ("npm ERR! code 1", Some("error")),
            ("the pool has no error in it", None),
            ("10.1.2.3 - - \"GET /info?debug=error HTTP/1.1\" 502 157 \"-\" \"curl/8\"", Some("error")),
            ("10.1.2.3 - - \"GET /ERROR HTTP/1.1\" 200 157 \"-\" \"ERROR\"", None),
            (
                "10.1.2.3:5 fe be/<NOSRV> 0/-1/-1/-1/0 503 213 - - SC-- 1/1/0/0/3 0/0 \"GET / HTTP/1.1\"",
                Some("error"),
            ),
            ("57 10.1.2.3 TCP_MISS/502 4412 GET http://x", Some("error")),
            ("pool exhausted", None),
            ("", None),
        ] {
            assert_eq!(of_text(text), level, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_looked_at(text in "\\PC{0,80}|[A-Z\\[\\]<>|:/0-9 \"]{0,300}") {
            let _ = of_text(&text);
        }
    }
}
