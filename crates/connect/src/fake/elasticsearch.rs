//! An Elasticsearch: `_search` over documents by index, as far as sources of logs use it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::server::{Mood, Server, lock, shown};

/// How far a server pages: `index.max_result_window`.
const RESULT_WINDOW: u64 = 10_000;
const KNOWN_KEYS: [&str; 9] =
    ["query", "sort", "from", "size", "search_after", "_source", "track_total_hits", "timeout", "fields"];

#[derive(Default)]
struct Inside {
    documents: BTreeMap<String, Vec<(u64, Value)>>,
    count: u64,
    /// Of `Authorization`; anyone may ask while there is none.
    credentials: Vec<String>,
    shards_failed: u64,
}

type Shared = Arc<Mutex<Inside>>;

/// It runs until it is dropped. It takes absolute times only, as some servers with this interface do.
pub struct FakeElasticsearch {
    server: Server,
    inside: Shared,
}

impl FakeElasticsearch {
    /// Starts an empty one.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let inside = Shared::default();
        let routes = Router::new()
            .route("/{indices}/_search", post(search).get(search))
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

    /// What was asked: method, path and body.
    pub fn asked(&self) -> Vec<String> {
        self.server.asked()
    }

    /// Adds a document to an index.
    pub fn add(&self, index: &str, document: Value) {
        let mut inside = lock(&self.inside);
        inside.count += 1;
        let id = inside.count;
        inside.documents.entry(index.to_owned()).or_default().push((id, document));
    }

    /// From now on it wants to be shown these credentials, such as `ApiKey abc`.
    pub fn wants(&self, credentials: &str) {
        lock(&self.inside).credentials.push(credentials.to_owned());
    }

    /// From now on so many of its three shards fail.
    pub fn fails_shards(&self, shards: u64) {
        lock(&self.inside).shards_failed = shards.min(3);
    }
}

/// A refusal as the real one words it.
struct Refused(StatusCode, &'static str, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, kind, reason) = self;
        let cause = json!({"type": kind, "reason": reason});
        let error = json!({"root_cause": [cause], "type": kind, "reason": reason});
        (status, Json(json!({"error": error, "status": status.as_u16()}))).into_response()
    }
}

fn parsing(reason: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, "parsing_exception", reason.into())
}

async fn search(
    State(inside): State<Shared>,
    Path(indices): Path<String>,
    RawQuery(parameters): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
    let inside = lock(&inside);
    if !inside.credentials.is_empty() && !inside.credentials.iter().any(|known| known == shown(&headers)) {
        let reason = "missing authentication credentials for REST request";
        return Err(Refused(StatusCode::UNAUTHORIZED, "security_exception", reason.to_owned()));
    }
    let body: Value = serde_json::from_slice(&body)
        .map_err(|error| Refused(StatusCode::BAD_REQUEST, "x_content_parse_exception", error.to_string()))?;
    let wanted = Search::of(&body)?;
    let lenient = parameters.unwrap_or_default().contains("ignore_unavailable=true");
    let mut found = Vec::new();
    for pattern in indices.split(',') {
        let names: Vec<&String> = inside.documents.keys().filter(|name| fits(pattern, name)).collect();
        if names.is_empty() && !pattern.contains('*') && !lenient {
            let reason = format!("no such index [{pattern}]");
            return Err(Refused(StatusCode::NOT_FOUND, "index_not_found_exception", reason));
        }
        for name in names {
            for (id, document) in inside.documents.get(name).into_iter().flatten() {
                if matches(&wanted.query, document)? {
                    found.push((wanted.key(document), name, *id, document));
                }
            }
        }
    }
    found.sort_by(|one, other| {
        let order = one.0.cmp(&other.0).then(one.2.cmp(&other.2));
        if wanted.descending { order.reverse() } else { order }
    });
    let total = found.len();
    let after = |key: &i64| match wanted.search_after {
        Some(last) => {
            if wanted.descending {
                *key < last
            } else {
                *key > last
            }
        }
        None => true,
    };
    let hits: Vec<Value> = found
        .into_iter()
        .filter(|(key, ..)| after(key))
        .skip(wanted.from as usize)
        .take(wanted.size as usize)
        .map(|(key, index, id, document)| {
            let mut hit = json!({"_index": index, "_id": id.to_string(), "_score": null, "sort": [key]});
            if let Some(source) = wanted.source.of(document) {
                hit["_source"] = source;
            }
            hit
        })
        .collect();
    let failed = inside.shards_failed;
    let hits = if failed == 3 { Vec::new() } else { hits };
    Ok(Json(json!({
        "took": 3,
        "timed_out": false,
        "_shards": {"total": 3, "successful": 3 - failed, "skipped": 0, "failed": failed},
        "hits": {"total": {"value": total, "relation": "eq"}, "max_score": null, "hits": hits},
    })))
}

/// Whether a name is of a pattern, in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| rest.get(at..).is_some_and(|rest| fits(after, rest)))
        }),
    }
}

struct Search {
    query: Value,
    sort_field: String,
    descending: bool,
    from: u64,
    size: u64,
    search_after: Option<i64>,
    source: SourceFilter,
}

impl Search {
    fn of(body: &Value) -> Result<Self, Refused> {
        let fields = body.as_object().ok_or_else(|| parsing("Expected [START_OBJECT]"))?;
        if let Some(unknown) = fields.keys().find(|key| !KNOWN_KEYS.contains(&key.as_str())) {
            return Err(parsing(format!("Unknown key for a VALUE in [{unknown}].")));
        }
        let number = |name: &str, otherwise: u64| match fields.get(name) {
            None => Ok(otherwise),
            Some(value) => value.as_u64().ok_or_else(|| parsing(format!("[{name}] must be a number"))),
        };
        let (from, size) = (number("from", 0)?, number("size", 10)?);
        if from + size > RESULT_WINDOW {
            let reason = format!(
                "Result window is too large, from + size must be less than or equal to: [{RESULT_WINDOW}] but was [{}]",
                from + size
            );
            return Err(Refused(StatusCode::BAD_REQUEST, "illegal_argument_exception", reason));
        }
        let (mut sort_field, mut descending) = ("@timestamp".to_owned(), false);
        if let Some(sort) = fields.get("sort") {
            let first = sort.get(0).and_then(Value::as_object).and_then(|first| first.iter().next());
            let (field, order) = first.ok_or_else(|| parsing("malformed sort format"))?;
            sort_field.clone_from(field);
            descending = order.get("order").and_then(Value::as_str) == Some("desc");
        }
        let search_after = fields.get("search_after").and_then(|after| after.get(0)).and_then(Value::as_i64);
        let query = fields.get("query").cloned().unwrap_or_else(|| json!({"match_all": {}}));
        let source = SourceFilter::read(fields.get("_source"))?;
        Ok(Self { query, sort_field, descending, from, size, search_after, source })
    }

    fn key(&self, document: &Value) -> i64 {
        field(document, &self.sort_field).and_then(instant).map_or(i64::MIN, Timestamp::as_millisecond)
    }
}

/// What of a document is answered with: `_source`. Names are compared sign by sign, `*` stands for anything, and a name of an object means
/// all that is in it.
enum SourceFilter {
    Nothing,
    Parts { includes: Vec<String>, excludes: Vec<String> },
}

impl SourceFilter {
    fn read(said: Option<&Value>) -> Result<Self, Refused> {
        let names = |value: Option<&Value>| match value {
            None => Ok(Vec::new()),
            Some(Value::String(name)) => Ok(vec![name.clone()]),
            Some(Value::Array(list)) => {
                let names: Option<Vec<String>> =
                    list.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                names.ok_or_else(|| parsing("Unknown key for a START_OBJECT in [_source]."))
            }
            Some(_) => Err(parsing("Expected one of [VALUE_STRING, START_ARRAY] in [_source].")),
        };
        match said {
            Some(Value::Bool(false)) => Ok(Self::Nothing),
            None | Some(Value::Bool(true)) => Ok(Self::Parts { includes: Vec::new(), excludes: Vec::new() }),
            Some(Value::Object(parts)) => Ok(Self::Parts {
                includes: names(parts.get("includes").or_else(|| parts.get("include")))?,
                excludes: names(parts.get("excludes").or_else(|| parts.get("exclude")))?,
            }),
            several => Ok(Self::Parts { includes: names(several)?, excludes: Vec::new() }),
        }
    }

    fn of_path(&self, path: &str) -> bool {
        let Self::Parts { includes, excludes } = self else { return false };
        // A pattern means what is of that name, and all that is below it.
        let any = |patterns: &[String]| {
            let mut paths = path.match_indices('.').filter_map(|(dot, _)| path.get(..dot)).chain([path]);
            paths.any(|path| patterns.iter().any(|pattern| fits(pattern, path)))
        };
        (includes.is_empty() || any(includes)) && !any(excludes)
    }

    fn of(&self, document: &Value) -> Option<Value> {
        match self {
            Self::Nothing => None,
            Self::Parts { .. } => Some(self.part(document, "").unwrap_or_else(|| json!({}))),
        }
    }

    fn part(&self, value: &Value, path: &str) -> Option<Value> {
        match value {
            Value::Object(fields) => {
                let kept: serde_json::Map<String, Value> = fields
                    .iter()
                    .filter_map(|(name, value)| {
                        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                        Some((name.clone(), self.part(value, &path)?))
                    })
                    .collect();
                (!kept.is_empty() || (fields.is_empty() && self.of_path(path))).then_some(Value::Object(kept))
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                let kept: Vec<Value> = list.iter().filter_map(|value| self.part(value, path)).collect();
                (!kept.is_empty()).then_some(Value::Array(kept))
            }
            value => self.of_path(path).then(|| value.clone()),
        }
    }
}

/// A field of a document, by its path or by its name with dots.
fn field<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    if let Some(value) = document.get(name) {
        return Some(value);
    }
    name.match_indices('.').find_map(|(dot, _)| field(document.get(name.get(..dot)?)?, name.get(dot + 1..)?))
}

fn instant(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => Timestamp::from_millisecond(number.as_i64()?).ok(),
        _ => None,
    }
}

fn matches(query: &Value, document: &Value) -> Result<bool, Refused> {
    let one = query.as_object().filter(|query| query.len() == 1).and_then(|query| query.iter().next());
    let (kind, inner) =
        one.ok_or_else(|| parsing("[bool] malformed query, expected [END_OBJECT] but found [FIELD_NAME]"))?;
    match kind.as_str() {
        "match_all" => Ok(true),
        "bool" => of_bool(inner, document),
        "range" => of_range(inner, document),
        "exists" => {
            Ok(inner.get("field").and_then(Value::as_str).is_some_and(|name| field(document, name).is_some()))
        }
        "match" | "match_phrase" | "term" => {
            let (name, wanted) = first(inner, kind)?;
            let wanted = wanted.get("query").or_else(|| wanted.get("value")).unwrap_or(wanted);
            let wanted = wanted
                .as_str()
                .ok_or_else(|| parsing(format!("[{kind}] query does not support this value")))?;
            let Some(text) = field(document, name).and_then(Value::as_str) else { return Ok(false) };
            Ok(match kind.as_str() {
                "term" => text == wanted,
                "match" => words(wanted).iter().any(|word| words(text).contains(word)),
                _ => phrase(&words(text), &words(wanted)),
            })
        }
        unknown => Err(parsing(format!("unknown query [{unknown}]"))),
    }
}

fn of_bool(inner: &Value, document: &Value) -> Result<bool, Refused> {
    let clauses = inner
        .as_object()
        .ok_or_else(|| parsing("[bool] query malformed, no start_object after query name"))?;
    let mut fits = true;
    for (name, clause) in clauses {
        let several: Vec<&Value> =
            clause.as_array().map_or_else(|| vec![clause], |list| list.iter().collect());
        match name.as_str() {
            "filter" | "must" => {
                for clause in several {
                    fits &= matches(clause, document)?;
                }
            }
            "must_not" => {
                for clause in several {
                    fits &= !matches(clause, document)?;
                }
            }
            "should" => {
                let mut any = several.is_empty();
                for clause in several {
                    any |= matches(clause, document)?;
                }
                fits &= any;
            }
            "minimum_should_match" => {}
            unknown => return Err(parsing(format!("[bool] query does not support [{unknown}]"))),
        }
    }
    Ok(fits)
}

fn of_range(inner: &Value, document: &Value) -> Result<bool, Refused> {
    let (name, bounds) = first(inner, "range")?;
    let bounds = bounds
        .as_object()
        .ok_or_else(|| parsing("[range] query malformed, no start_object after query name"))?;
    let at = field(document, name).and_then(instant);
    let mut fits = at.is_some();
    for (bound, value) in bounds {
        let given = instant(value).ok_or_else(|| {
            // The words of a server that was recorded.
            parsing(format!(
                "invalid query: expected `tantivy_common::datetime::DateTime` boundary for field `{name}`"
            ))
        });
        fits &= match (bound.as_str(), at) {
            ("format" | "time_zone", _) => true,
            ("gte", Some(at)) => at >= given?,
            ("gt", Some(at)) => at > given?,
            ("lte", Some(at)) => at <= given?,
            ("lt", Some(at)) => at < given?,
            ("gte" | "gt" | "lte" | "lt", None) => given.map(|_| false)?,
            (unknown, _) => return Err(parsing(format!("[range] query does not support [{unknown}]"))),
        };
    }
    Ok(fits)
}

fn first<'a>(inner: &'a Value, kind: &str) -> Result<(&'a str, &'a Value), Refused> {
    let first = inner.as_object().and_then(|fields| fields.iter().next());
    first
        .map(|(name, value)| (name.as_str(), value))
        .ok_or_else(|| parsing(format!("[{kind}] query malformed, no field")))
}

/// The words of a text, as the standard analyser finds them, more or less.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|character: char| !character.is_alphanumeric() && character != '_');
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn phrase(text: &[String], wanted: &[String]) -> bool {
    !wanted.is_empty() && text.windows(wanted.len()).any(|part| part == wanted)
}
