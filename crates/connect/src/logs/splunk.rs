//! Splunk: `search/jobs/export`, which streams JSON lines, newest first.
//!
//! A search language has quotes, pipes, macros and subsearches, so no text is put into it as it is. What is sent are the words of a
//! text, each quoted and made of harmless characters; that finds a superset, and the question as it was meant is asked of the lines here.
//! Splunk finds whole words, so a part of a word finds nothing there.

use async_trait::async_trait;
use quell_incident::evidence::{LogLines, LogQuery};
use quell_tool::CallContext;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::FieldMap;
use super::gathered::{Gathered, Lacking};
use super::parse::Reader;
use super::{LogSource, check};
use crate::http::{Answer, Endpoint, answered, sentence};
use crate::source::SourceError;

/// Lines that are asked for of each line that is wanted, since what is found is a superset where something is searched.
const SURPLUS: u32 = 2;
/// Words of one text that are sent at the most.
const WORDS_MAX: usize = 20;
const WORD_BYTES_MAX: usize = 100;

/// Where the lines are.
#[derive(Clone, Debug)]
pub struct SplunkOptions {
    /// The beginning of every search, such as `index=main`.
    pub search: String,
    /// Where the parts of a line stand.
    pub fields: FieldMap,
    /// What is read of one answer at the most, in bytes; the oldest lines, which come last, are left out.
    pub answer_bytes_max: usize,
}

impl Default for SplunkOptions {
    fn default() -> Self {
        Self { search: "index=*".to_owned(), fields: FieldMap::default(), answer_bytes_max: 64 << 20 }
    }
}

/// A Splunk, at its management port.
pub struct SplunkLogs {
    endpoint: Endpoint,
    options: SplunkOptions,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    result: Option<Map<String, Value>>,
    #[serde(default)]
    lastrow: bool,
    #[serde(default)]
    preview: Option<bool>,
    #[serde(default)]
    messages: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

impl Row {
    fn says_something(&self) -> bool {
        self.result.is_some() || self.lastrow || self.preview.is_some() || !self.messages.is_empty()
    }
}

impl SplunkLogs {
    /// The server at that address.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for a beginning of searches that is none, or names of fields that cannot be searched.
    pub fn new(endpoint: impl Into<Endpoint>, options: SplunkOptions) -> Result<Self, SourceError> {
        let invalid = |why: String| Err(SourceError::Invalid { why });
        let search = options.search.trim();
        if search.is_empty() || search.contains(['|', '\n', '`', '[']) {
            return invalid(format!(
                "`{}` is not the beginning of a search; write terms such as `index=main sourcetype=app`",
                search.escape_debug()
            ));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
        if let Some(name) = options.fields.service.iter().find(|name| !name.bytes().all(fits)) {
            return invalid(format!("`{}` is not the name of a field", name.escape_debug()));
        }
        Ok(Self { endpoint: endpoint.into(), options })
    }

    fn search(&self, query: &LogQuery) -> String {
        let mut words = format!("search {}", self.options.search.trim());
        if let Some(service) = &query.service {
            let value = wildcarded(service);
            let fields = self.options.fields.service.iter().map(|field| format!("\"{field}\"={value}"));
            words.push_str(&format!(" ({})", fields.collect::<Vec<_>>().join(" OR ")));
        }
        for word in query.contains.iter().flat_map(|text| searched(text)) {
            words.push_str(&format!(" \"{word}\""));
        }
        words.push_str(&format!(" | head {}", self.rows_max(query)));
        words
    }

    fn rows_max(&self, query: &LogQuery) -> u32 {
        match (&query.service, &query.contains) {
            (None, None) => query.lines_max,
            _ => query.lines_max.saturating_mul(SURPLUS),
        }
    }
}

#[async_trait]
impl LogSource for SplunkLogs {
    fn name(&self) -> &str {
        "splunk"
    }

    fn words(&self, query: &LogQuery) -> String {
        format!("{} from {} to {}", self.search(query), query.from, query.to)
    }

    async fn lines(&self, query: &LogQuery, context: &CallContext) -> Result<LogLines, SourceError> {
        check(query)?;
        let access = &self.endpoint.access;
        // The latest time is exclusive there, and ours is not.
        let latest = query.to.as_microsecond().saturating_add(1);
        let form = [
            ("search", self.search(query)),
            ("earliest_time", seconds(query.from.as_microsecond())),
            ("latest_time", seconds(latest)),
            ("output_mode", "json".to_owned()),
            ("preview", "false".to_owned()),
        ];
        let request = access.post(access.url("services/search/jobs/export")?).form(&form);
        let Answer { status, body, is_cut: cut } =
            self.endpoint.ask_beginning(request, self.options.answer_bytes_max, context).await?;
        if !status.is_success() {
            return Err(answered(status, &body));
        }
        let reader = Reader::new(&self.options.fields, query.to);
        let mut gathered = Gathered::new(query);
        gathered.truncated |= cut;
        let (mut rows, mut whole) = (0_u32, false);
        let mut lines =
            body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).peekable();
        while let Some(line) = lines.next() {
            let row = match serde_json::from_slice::<Row>(line) {
                Ok(row) if line.trim_ascii_start().starts_with(b"{") && row.says_something() => row,
                Ok(_) => {
                    return Err(SourceError::Malformed { why: format!("row {} is none", rows + 1) });
                }
                // The last line of what was cut is half a line.
                Err(_) if cut && lines.peek().is_none() => break,
                Err(error) => {
                    return Err(SourceError::Malformed { why: format!("row {}: {error}", rows + 1) });
                }
            };
            let refused = |told: &Told| matches!(told.kind.as_str(), "FATAL" | "ERROR");
            if let Some(told) = row.messages.iter().find(|told| refused(told)) {
                return Err(SourceError::Answered { status: status.as_u16(), body: sentence(&told.text) });
            }
            whole |= row.lastrow || row.result.is_none();
            let Some(result) = row.result else { continue };
            rows += 1;
            let parsed = reader.record(&result, "");
            let whole = Value::Object(result).to_string();
            match parsed.line.message.is_empty() {
                true => gathered.leave_out(Lacking::Message, &whole),
                false => gathered.take(parsed.at, parsed.line, &whole),
            }
        }
        if rows > 0 && !whole && !cut {
            // The stream ended as if it were whole, and its last row did not come.
            gathered.truncated = true;
        }
        gathered.truncated |= rows >= self.rows_max(query);
        Ok(gathered.answer(self.name(), self.words(query)))
    }
}

/// A time as Splunk takes it, seconds since 1970.
fn seconds(microseconds: i64) -> String {
    format!("{}.{:06}", microseconds.div_euclid(1_000_000), microseconds.rem_euclid(1_000_000))
}

fn is_harmless(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '.' | ':' | '/' | '@')
}

/// A value, quoted; whatever could mean something stands as "anything".
fn wildcarded(value: &str) -> String {
    let harmless = value.chars().map(|character| if is_harmless(character) { character } else { '*' });
    format!("\"{}\"", harmless.take(WORD_BYTES_MAX).collect::<String>())
}

/// The words of a text that are sent.
fn searched(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|character: char| !character.is_alphanumeric() && character != '_');
    let words = words.filter(|word| !word.is_empty() && word.len() <= WORD_BYTES_MAX);
    words.take(WORDS_MAX).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn source() -> SplunkLogs {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let access = crate::Access::new(reqwest::Client::new(), "https://127.0.0.1:8089").unwrap();
        SplunkLogs::new(access, SplunkOptions::default()).unwrap()
    }

    fn query(service: Option<String>, contains: Option<String>) -> LogQuery {
        let at = Timestamp::UNIX_EPOCH;
        LogQuery { from: at, to: at, service, contains, lines_max: 10 }
    }

    #[test]
    fn words_are_searched_and_values_compared() {
        let asked = query(Some("order service".to_owned()), Some("pool exhausted: active=20".to_owned()));
        let search = source().search(&asked);
        assert!(
            search.starts_with("search index=* (\"service\"=\"order*service\" OR \"service.name\"="),
            "{search}"
        );
        assert!(search.ends_with(") \"pool\" \"exhausted\" \"active\" \"20\" | head 20"), "{search}");
        assert_eq!(seconds(-1), "-1.999999");
        assert_eq!(seconds(1_500_000), "1.500000");
    }

    #[test]
    fn a_beginning_that_is_more_than_terms_is_refused() {
        for search in ["", "index=a | delete", "`macro`", "[search x]"] {
            let options = SplunkOptions { search: search.to_owned(), ..SplunkOptions::default() };
            assert!(SplunkLogs::new(source().endpoint, options).is_err(), "{search}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Outside of quotes stands what we wrote, whatever was asked, and inside of them nothing that has a meaning.
        #[test]
        fn text_never_leaves_its_quotes(service in any::<String>(), text in "\\PC*|[|\"\\\\`\\[\\]$% a-z]{0,40}") {
            let search = source().search(&query(Some(service), Some(text)));
            let pieces: Vec<&str> = search.split('"').collect();
            prop_assert_eq!(pieces.len() % 2, 1, "every quote is closed: {}", search);
            for (index, piece) in pieces.iter().enumerate() {
                match index % 2 {
                    0 => prop_assert!(
                        ["search index=* (", "=", " OR ", ")", ") ", " ", " | head 20", ") | head 20"].contains(piece),
                        "{}", search
                    ),
                    _ => prop_assert!(
                        piece.chars().all(|character| is_harmless(character) || character == '*'),
                        "{}", search
                    ),
                }
            }
        }
    }
}
