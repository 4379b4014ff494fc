//! Loki: `query_range`, newest first, page by page.
//!
//! Text comes into LogQL as string literals only, a text to be looked for as a regular expression in which every sign is quoted.

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::evidence::{LogLine, LogLines, LogQuery};
use quell_tool::CallContext;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::FieldMap;
use super::gathered::{Gathered, Lacking};
use super::parse::{Reader, without_colours};
use super::{LogSource, MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, check, cut};
use crate::http::Endpoint;
use crate::source::SourceError;

/// One page at the most unless it is set, in bytes.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// Lines of a page; servers allow 5,000 unless they are told otherwise.
const PAGE_LINES_MAX: usize = 1_000;
const PAGE_SHRINKS_BY: usize = 10;
/// Pages at the most; a server that never comes to an end is left then.
const PAGES_MAX: usize = 64;

/// Where the lines are.
#[derive(Clone, Debug)]
pub struct LokiOptions {
    /// The streams that are searched where no service is asked for: matchers of LogQL without the braces.
    pub selector: String,
    /// The label that names the service.
    pub service_label: String,
    /// Where the parts of a line stand: in its labels, or in lines that are JSON.
    pub fields: FieldMap,
    /// One page at the most, in bytes; pages are made smaller where lines are long.
    pub page_bytes_max: usize,
}

impl Default for LokiOptions {
    fn default() -> Self {
        Self {
            selector: "service_name=~\".+\"".to_owned(),
            service_label: "service_name".to_owned(),
            fields: FieldMap::default(),
            page_bytes_max: PAGE_BYTES_MAX,
        }
    }
}

/// A Loki.
pub struct LokiLogs {
    endpoint: Endpoint,
    options: LokiOptions,
}

#[derive(Deserialize)]
struct Envelope {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    #[serde(default)]
    stream: Map<String, Value>,
    /// Nanoseconds and a line; newer servers may add the line's own labels.
    #[serde(default)]
    values: Vec<Vec<Value>>,
}

impl LokiLogs {
    /// The server at that address.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for a label or a selector that is none.
    pub fn new(endpoint: impl Into<Endpoint>, options: LokiOptions) -> Result<Self, SourceError> {
        let invalid = |why: String| Err(SourceError::Invalid { why });
        if !is_label(&options.service_label) {
            return invalid(format!("`{}` is not the name of a label", options.service_label.escape_debug()));
        }
        let selector = options.selector.trim();
        if selector.is_empty() || selector.starts_with('{') || selector.contains('\n') {
            return invalid(format!(
                "`{}` is not a selector; write matchers without braces, such as `job=\"app\"`",
                selector.escape_debug()
            ));
        }
        Ok(Self { endpoint: endpoint.into(), options })
    }

    fn log_ql(&self, query: &LogQuery) -> String {
        let mut words = match &query.service {
            Some(service) => format!("{{{}={}}}", self.options.service_label, literal(service)),
            None => format!("{{{}}}", self.options.selector.trim()),
        };
        if let Some(text) = &query.contains {
            words.push_str(&format!(" |~ {}", literal(&format!("(?i){}", pattern(text)))));
        }
        words
    }

    async fn page(
        &self,
        query: &LogQuery,
        end: i128,
        lines: usize,
        context: &CallContext,
    ) -> Result<Vec<Stream>, SourceError> {
        let access = &self.endpoint.access;
        let parameters = [
            ("query", self.log_ql(query)),
            ("start", query.from.as_nanosecond().to_string()),
            ("end", end.to_string()),
            ("limit", lines.to_string()),
            ("direction", "backward".to_owned()),
        ];
        let request = access.get(access.url("loki/api/v1/query_range")?).query(&parameters);
        let envelope: Envelope =
            self.endpoint.ask_json(request, self.options.page_bytes_max, context).await?;
        match envelope.data.result_type.as_str() {
            "streams" => Ok(envelope.data.result),
            other => Err(SourceError::Malformed { why: format!("streams were expected, not `{other}`") }),
        }
    }

    /// The instant, the lines (one, unless it is an export of several), and the text as it was written.
    fn lines_of<'a>(
        &self,
        reader: &Reader,
        stream: &Map<String, Value>,
        entry: &'a [Value],
    ) -> Option<(i128, Vec<LogLine>, &'a str)> {
        let nanoseconds: i128 = entry.first()?.as_str()?.parse().ok()?;
        let text = entry.get(1)?.as_str()?;
        // Newer servers tell what belongs to the line alone beside it.
        let mut labels = stream.clone();
        if let Some(Value::Object(own)) = entry.get(2) {
            labels.extend(own.clone());
        }
        let of_labels = reader.record(&labels, "").line;
        let service = match labels.get(&self.options.service_label).and_then(Value::as_str) {
            Some(service) => service.to_owned(),
            None => of_labels.service.clone(),
        };
        let read = reader.lines(text, &service).into_iter().map(|parsed| {
            let mut line = parsed.line;
            if !parsed.structured {
                // The time is known better than from the text, which is kept whole.
                line.message = cut(without_colours(text).trim_end(), MESSAGE_CHARACTERS_MAX);
            }
            // What the server was asked by counts, whatever the line says of itself.
            if !service.is_empty() {
                line.service = cut(&service, NAME_CHARACTERS_MAX);
            }
            if !of_labels.level.is_empty() {
                line.level.clone_from(&of_labels.level);
            }
            if !of_labels.instance.is_empty() {
                line.instance.clone_from(&of_labels.instance);
            }
            line
        });
        Some((nanoseconds, read.collect(), text))
    }
}

#[async_trait]
impl LogSource for LokiLogs {
    fn name(&self) -> &str {
        "loki"
    }

    fn words(&self, query: &LogQuery) -> String {
        format!("{} from {} to {}", self.log_ql(query), query.from, query.to)
    }

    async fn lines(&self, query: &LogQuery, context: &CallContext) -> Result<LogLines, SourceError> {
        check(query)?;
        let lines_max = query.lines_max as usize;
        let reader = Reader::new(&self.options.fields, query.to);
        let mut gathered = Gathered::new(query);
        // The end is exclusive there, and ours is not.
        let mut end = query.to.as_nanosecond() + 1;
        let mut page_lines = PAGE_LINES_MAX;
        // What the last page ended with comes again, since other lines may be of the same instant.
        let mut at_border: Vec<(String, String)> = Vec::new();
        for page in 0.. {
            if page == PAGES_MAX {
                gathered.truncated = true;
                break;
            }
            let size = page_lines.min(lines_max + at_border.len());
            let streams = match self.page(query, end, size, context).await {
                Ok(streams) => streams,
                Err(SourceError::TooLarge { .. }) if size > 1 => {
                    page_lines = size.div_ceil(PAGE_SHRINKS_BY);
                    continue;
                }
                Err(_) if gathered.len() > 0 => {
                    gathered.truncated = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            let (mut entries, mut oldest) = (0, end);
            let mut of_oldest = Vec::new();
            for stream in &streams {
                let labels = Value::Object(stream.stream.clone()).to_string();
                for entry in &stream.values {
                    entries += 1;
                    let Some((nanoseconds, read, text)) = self.lines_of(&reader, &stream.stream, entry)
                    else {
                        gathered.leave_out(Lacking::Form, &Value::Array(entry.clone()).to_string());
                        continue;
                    };
                    let key = (labels.clone(), text.to_owned());
                    if nanoseconds < oldest {
                        oldest = nanoseconds;
                        of_oldest.clear();
                    }
                    if nanoseconds == oldest {
                        of_oldest.push(key.clone());
                    }
                    if nanoseconds + 1 == end && at_border.contains(&key) {
                        continue;
                    }
                    for line in read {
                        gathered.take(Timestamp::from_nanosecond(nanoseconds).ok(), line, text);
                    }
                }
            }
            if entries < size {
                break;
            }
            if gathered.len() >= lines_max {
                gathered.truncated = true;
                break;
            }
            // A page full of one instant: the rest of that instant is out of reach.
            let stuck = oldest + 1 >= end;
            gathered.truncated |= stuck;
            end = if stuck { oldest } else { oldest + 1 };
            at_border = if stuck { Vec::new() } else { of_oldest };
            if end <= query.from.as_nanosecond() {
                break;
            }
        }
        Ok(gathered.answer(self.name(), self.words(query)))
    }
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A string literal of LogQL, which are those of Go.
fn literal(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + 2);
    words.push('"');
    for character in text.chars() {
        match character {
            '"' => words.push_str("\\\""),
            '\\' => words.push_str("\\\\"),
            '\n' => words.push_str("\\n"),
            '\r' => words.push_str("\\r"),
            '\t' => words.push_str("\\t"),
            control if control.is_control() => words.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => words.push(other),
        }
    }
    words.push('"');
    words
}

/// A regular expression (RE2) that matches just this text: every sign of ASCII may be quoted there.
fn pattern(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a literal of Go at the beginning of `words`: its text, and what follows.
    fn read_literal(words: &str) -> Option<(String, &str)> {
        let mut rest = words.strip_prefix('"')?.char_indices();
        let mut text = String::new();
        while let Some((at, character)) = rest.next() {
            match character {
                '"' => return Some((text, words.get(at + 2..)?)),
                '\n' => return None,
                '\\' => match rest.next()?.1 {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'u' => {
                        let hex: String = rest.by_ref().take(4).map(|(_, digit)| digit).collect();
                        text.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
                    }
                    quoted @ ('"' | '\\') => text.push(quoted),
                    _ => return None,
                },
                other => text.push(other),
            }
        }
        None
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn text_stays_inside_its_literal(service in any::<String>(), text in any::<String>()) {
            let access = crate::Access::new(reqwest_client(), "http://127.0.0.1/").unwrap();
            let source = LokiLogs::new(access, LokiOptions::default()).unwrap();
            let query = LogQuery {
                from: Timestamp::UNIX_EPOCH,
                to: Timestamp::UNIX_EPOCH,
                service: Some(service.clone()),
                contains: Some(text.clone()),
                lines_max: 1,
            };
            let words = source.log_ql(&query);
            let (read, rest) = read_literal(words.strip_prefix("{service_name=").unwrap()).unwrap();
            prop_assert_eq!(&read, &service);
            let (read, rest) = read_literal(rest.strip_prefix("} |~ ").unwrap()).unwrap();
            prop_assert_eq!(rest, "");
            // Without the quoting of signs it is the text again, and no sign stands unquoted.
            let mut plain = String::new();
            let mut characters = read.strip_prefix("(?i)").unwrap().chars();
            while let Some(character) = characters.next() {
                prop_assert!(character == '\\' || !character.is_ascii_punctuation());
                plain.push(if character == '\\' { characters.next().unwrap() } else { character });
            }
            prop_assert_eq!(plain, text);
        }
    }

    fn reqwest_client() -> reqwest::Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        reqwest::Client::new()
    }

    #[test]
    fn settings_that_are_none_are_refused() {
        for (selector, label) in
            [("", "a"), ("{a=\"b\"}", "a"), ("a=\"b\"", "a b"), ("a=\"b\"", "1a"), ("a", "")]
        {
            let options = LokiOptions {
                selector: selector.to_owned(),
                service_label: label.to_owned(),
                ..LokiOptions::default()
            };
            let access = crate::Access::new(reqwest_client(), "http://127.0.0.1/").unwrap();
            assert!(LokiLogs::new(access, options).is_err(), "{selector} {label}");
        }
    }
}
