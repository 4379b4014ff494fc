//! A Loki: `query_range`, `query` and `series` over streams, with the part of LogQL that selects lines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::server::{Mood, Server, lock};

/// `max_entries_limit_per_query`
const ENTRIES_MAX: usize = 5_000;
const DEFAULT_LIMIT: usize = 100;

type Labels = BTreeMap<String, String>;
type Streams = BTreeMap<Labels, Vec<(i128, String)>>;

#[derive(Default)]
struct Inside {
    tenants: BTreeMap<String, Streams>,
    several_tenants: bool,
}

type Shared = Arc<Mutex<Inside>>;
type Parameters = Query<BTreeMap<String, String>>;

/// It runs until it is dropped.
pub struct FakeLoki {
    server: Server,
    inside: Shared,
}

impl FakeLoki {
    /// Starts an empty one with a single tenant.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let inside = Shared::default();
        let routes = Router::new()
            .route("/loki/api/v1/query_range", get(query_range))
            .route("/loki/api/v1/query", get(query))
            .route("/loki/api/v1/series", get(series))
            .with_state(Arc::clone(&inside));
        Ok(Self { server: Server::start(routes).await?, inside })
    }

    /// Its base address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// How it answers from now on.
    pub fn feels(&self, mood: Mood) {
        self.server.feels(mood);
    }

    /// What was asked: method and path.
    pub fn asked(&self) -> Vec<String> {
        self.server.asked()
    }

    /// Adds a line to a stream of a tenant; the one of a server with a single tenant is `fake`, as there.
    pub fn add(&self, tenant: &str, labels: &[(&str, &str)], nanoseconds: i128, line: &str) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut inside = lock(&self.inside);
        let streams = inside.tenants.entry(tenant.to_owned()).or_default();
        streams.entry(labels).or_default().push((nanoseconds, line.to_owned()));
    }

    /// From now on a tenant has to be named (`auth_enabled`).
    pub fn has_several_tenants(&self) {
        lock(&self.inside).several_tenants = true;
    }
}

/// Refusals are plain text there.
type Refused = (StatusCode, String);

fn bad(why: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, why.into())
}

fn streams<'a>(inside: &'a Inside, headers: &HeaderMap) -> Result<Option<&'a Streams>, Refused> {
    let named = headers.get("x-scope-orgid").and_then(|value| value.to_str().ok());
    match named {
        None if inside.several_tenants => Err((StatusCode::UNAUTHORIZED, "no org id".to_owned())),
        named => {
            let tenant = named.filter(|_| inside.several_tenants).unwrap_or("fake");
            Ok(inside.tenants.get(tenant))
        }
    }
}

fn nanoseconds(parameters: &BTreeMap<String, String>, name: &str) -> Result<Option<i128>, Refused> {
    let Some(text) = parameters.get(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| bad(format!("could not parse '{name}' parameter: {text}")))
}

async fn query_range(
    State(inside): State<Shared>,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Result<Response, Refused> {
    let inside = lock(&inside);
    let streams = streams(&inside, &headers)?;
    let selection = Selection::of(parameters.get("query").map_or("", String::as_str))?;
    let limit = match parameters.get("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| bad("limit must be a positive value"))?,
    };
    if limit > ENTRIES_MAX {
        let why = format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {ENTRIES_MAX})"
        );
        return Err(bad(why));
    }
    let start = nanoseconds(&parameters, "start")?.unwrap_or(i128::MIN);
    let end = nanoseconds(&parameters, "end")?.unwrap_or(i128::MAX);
    if end < start {
        return Err(bad("end timestamp must not be before or equal to start time"));
    }
    let backward = match parameters.get("direction").map(String::as_str) {
        None | Some("backward") => true,
        Some("forward") => false,
        Some(other) => return Err(bad(format!("invalid direction '{other}'"))),
    };
    let mut entries: Vec<(i128, &Labels, &String)> = streams
        .into_iter()
        .flatten()
        .filter(|(labels, _)| selection.selects(labels))
        .flat_map(|(labels, lines)| lines.iter().map(move |(at, line)| (*at, labels, line)))
        .filter(|(at, _, line)| (start..end).contains(at) && selection.keeps(line))
        .collect();
    entries.sort_by_key(|(at, ..)| if backward { -*at } else { *at });
    entries.truncate(limit);
    let mut result: BTreeMap<&Labels, Vec<Value>> = BTreeMap::new();
    for (at, labels, line) in entries {
        result.entry(labels).or_default().push(json!([at.to_string(), line]));
    }
    let result: Vec<Value> =
        result.into_iter().map(|(labels, values)| json!({"stream": labels, "values": values})).collect();
    Ok(success(json!({"resultType": "streams", "result": result, "stats": {}})))
}

/// Instant queries select metrics; one for lines is refused, as there.
async fn query(
    State(inside): State<Shared>,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Result<Response, Refused> {
    let inside = lock(&inside);
    let streams = streams(&inside, &headers)?;
    let text = parameters.get("query").map_or("", String::as_str);
    let inner = text.strip_prefix("sum(count_over_time(").and_then(|rest| rest.strip_suffix("))"));
    let Some((inner, _range)) = inner.and_then(|inner| inner.rsplit_once('[')) else {
        Selection::of(text)?;
        return Err(bad(
            "log queries are not supported as an instant query type, please change your query to a range query type",
        ));
    };
    let selection = Selection::of(inner.trim())?;
    let selected = streams.into_iter().flatten().filter(|(labels, _)| selection.selects(labels));
    let count = selected.flat_map(|(_, lines)| lines).filter(|(_, line)| selection.keeps(line)).count();
    let vector = json!([{"metric": {}, "value": [0.0, count.to_string()]}]);
    Ok(success(json!({"resultType": "vector", "result": vector, "stats": {}})))
}

async fn series(
    State(inside): State<Shared>,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Result<Response, Refused> {
    let inside = lock(&inside);
    let streams = streams(&inside, &headers)?;
    let selection = match parameters.get("match[]").or_else(|| parameters.get("match")) {
        Some(text) => Selection::of(text)?,
        None => return Err(bad("0 matcher groups supplied")),
    };
    let selected: Vec<&Labels> = streams
        .into_iter()
        .flatten()
        .map(|(labels, _)| labels)
        .filter(|labels| selection.selects(labels))
        .collect();
    Ok(success(json!(selected)))
}

fn success(data: Value) -> Response {
    Json(json!({"status": "success", "data": data})).into_response()
}

/// `{a="b", c=~".+"} |= "text" |~ "(?i)text"`
struct Selection {
    matchers: Vec<(String, String, String)>,
    filters: Vec<(String, String)>,
}

impl Selection {
    fn of(text: &str) -> Result<Self, Refused> {
        let mut reader = Reader { rest: text.trim() };
        reader.expect("{")?;
        let mut matchers = Vec::new();
        while !reader.rest.starts_with('}') {
            if !matchers.is_empty() {
                reader.expect(",")?;
            }
            let name = reader.name()?;
            let operator = reader.one_of(&["=~", "!~", "!=", "="])?;
            matchers.push((name, operator, reader.literal()?));
        }
        reader.expect("}")?;
        let matches_nothing = |operator: &str, value: &str| match operator {
            "=" => !value.is_empty(),
            "=~" => !matches_whole(value, ""),
            _ => false,
        };
        if !matchers.iter().any(|(_, operator, value)| matches_nothing(operator, value)) {
            return Err(bad(
                "parse error : queries require at least one regexp or equality matcher that does not have an empty-compatible value",
            ));
        }
        let mut filters = Vec::new();
        while !reader.rest.is_empty() {
            let operator = reader.one_of(&["|=", "|~", "!=", "!~"])?;
            filters.push((operator, reader.literal()?));
        }
        Ok(Self { matchers, filters })
    }

    fn selects(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|(name, operator, value)| {
            let label = labels.get(name).map_or("", String::as_str);
            match operator.as_str() {
                "=" => label == value,
                "!=" => label != value,
                "=~" => matches_whole(value, label),
                _ => !matches_whole(value, label),
            }
        })
    }

    fn keeps(&self, line: &str) -> bool {
        self.filters.iter().all(|(operator, value)| match operator.as_str() {
            "|=" => line.contains(value.as_str()),
            "!=" => !line.contains(value.as_str()),
            "|~" => found(value, line),
            _ => !found(value, line),
        })
    }
}

/// The regular expressions that are met here: `.+`, `.*`, alternatives of plain words.
fn matches_whole(pattern: &str, text: &str) -> bool {
    match pattern {
        ".+" => !text.is_empty(),
        ".*" => true,
        words => words.split('|').any(|word| word == text),
    }
}

/// `(?i)` and a text in which signs are quoted.
fn found(pattern: &str, line: &str) -> bool {
    let (text, ignores_case) = match pattern.strip_prefix("(?i)") {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    match ignores_case {
        true => line.to_lowercase().contains(&plain.to_lowercase()),
        false => line.contains(&plain),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn unexpected(&self) -> Refused {
        let at: String = self.rest.chars().take(12).collect();
        bad(format!("parse error at line 1, col 1: syntax error: unexpected {at:?}"))
    }

    fn expect(&mut self, word: &str) -> Result<(), Refused> {
        self.one_of(&[word]).map(drop)
    }

    fn one_of(&mut self, words: &[&str]) -> Result<String, Refused> {
        let found = words.iter().find_map(|word| Some((*word, self.rest.strip_prefix(word)?)));
        let (word, rest) = found.ok_or_else(|| self.unexpected())?;
        self.rest = rest.trim_start();
        Ok(word.to_owned())
    }

    fn name(&mut self) -> Result<String, Refused> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(self.unexpected());
        }
        self.rest = rest.trim_start();
        Ok(name.to_owned())
    }

    fn literal(&mut self) -> Result<String, Refused> {
        // Literals of Go and of JSON are written alike as far as they are used here.
        let mut stream = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let text = match stream.next() {
            Some(Ok(text)) => text,
            _ => return Err(self.unexpected()),
        };
        let read = stream.byte_offset();
        self.rest = self.rest.get(read..).unwrap_or_default().trim_start();
        Ok(text)
    }
}
