//! A Splunk: `search/jobs/export` with the part of its language that finds words and compares fields.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::server::{Mood, Server, lock, shown};

#[derive(Default)]
struct Inside {
    events: Vec<(Timestamp, BTreeMap<String, String>)>,
    credentials: Vec<String>,
    message: Option<(String, String)>,
}

type Shared = Arc<Mutex<Inside>>;

/// It runs until it is dropped.
pub struct FakeSplunk {
    server: Server,
    inside: Shared,
}

impl FakeSplunk {
    /// Starts an empty one.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let inside = Shared::default();
        let routes =
            Router::new().route("/services/search/jobs/export", post(export)).with_state(Arc::clone(&inside));
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

    /// Adds an event with these fields, `_raw` among them.
    pub fn add(&self, at: Timestamp, fields: &[(&str, &str)]) {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        lock(&self.inside).events.push((at, fields));
    }

    /// From now on it wants to be shown these credentials, such as `Bearer abc`.
    pub fn wants(&self, credentials: &str) {
        lock(&self.inside).credentials.push(credentials.to_owned());
    }

    /// From now on it says this in the middle of its answers, such as `FATAL`.
    pub fn says(&self, kind: &str, text: &str) {
        lock(&self.inside).message = Some((kind.to_owned(), text.to_owned()));
    }
}

type Refused = (StatusCode, Json<Value>);

fn refused(status: StatusCode, kind: &str, text: impl Into<String>) -> Refused {
    (status, Json(json!({"messages": [{"type": kind, "text": text.into()}]})))
}

fn bad(text: impl Into<String>) -> Refused {
    refused(StatusCode::BAD_REQUEST, "FATAL", text)
}

async fn export(
    State(inside): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> Result<Response, Refused> {
    let inside = lock(&inside);
    if !inside.credentials.is_empty() && !inside.credentials.iter().any(|known| known == shown(&headers)) {
        return Err(refused(StatusCode::UNAUTHORIZED, "WARN", "call not properly authenticated"));
    }
    if form.get("output_mode").map(String::as_str) != Some("json") {
        return Err(bad("output_mode must be json here"));
    }
    let time = |name: &str, otherwise: Timestamp| match form.get(name) {
        None => Ok(otherwise),
        Some(text) => text
            .parse::<f64>()
            .ok()
            .and_then(|seconds| Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok())
            .ok_or_else(|| bad(format!("Invalid {name}."))),
    };
    let (earliest, latest) = (time("earliest_time", Timestamp::MIN)?, time("latest_time", Timestamp::MAX)?);
    let search = Search::of(form.get("search").map_or("", String::as_str))?;
    let mut events: Vec<_> = inside
        .events
        .iter()
        .filter(|(at, fields)| *at >= earliest && *at < latest && search.finds(fields))
        .collect();
    events.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    events.truncate(search.head);
    let mut rows = String::new();
    if let Some((kind, text)) = &inside.message {
        rows.push_str(&format!("{}\n", json!({"messages": [{"type": kind, "text": text}]})));
    }
    if events.is_empty() {
        rows.push_str(&format!("{}\n", json!({"preview": false, "offset": 0, "lastrow": true})));
    }
    for (offset, (at, fields)) in events.iter().enumerate() {
        let mut result = json!(fields);
        result["_time"] = json!(at.to_string());
        let mut row = json!({"preview": false, "offset": offset, "result": result});
        if offset + 1 == events.len() {
            row["lastrow"] = json!(true);
        }
        rows.push_str(&format!("{row}\n"));
    }
    Ok(rows.into_response())
}

enum Term {
    Word(String),
    /// One of these fields has this value.
    Fields(Vec<(String, String)>),
}

struct Search {
    terms: Vec<Term>,
    head: usize,
}

impl Search {
    fn of(text: &str) -> Result<Self, Refused> {
        let tokens = tokens(text)?;
        let mut tokens = tokens.iter().map(String::as_str).peekable();
        if tokens.next() != Some("search") {
            return Err(bad("Unknown search command: the search has to begin with a command."));
        }
        let (mut terms, mut head) = (Vec::new(), usize::MAX);
        while let Some(token) = tokens.next() {
            match token {
                "|" => {
                    match (tokens.next(), tokens.next().and_then(|count| count.parse().ok()), tokens.next()) {
                        (Some("head"), Some(count), None) => head = count,
                        (command, ..) => {
                            return Err(bad(format!(
                                "Unknown search command '{}'.",
                                command.unwrap_or_default()
                            )));
                        }
                    }
                }
                "(" => {
                    let mut fields = Vec::new();
                    loop {
                        fields.push(comparison(&mut tokens)?);
                        match tokens.next() {
                            Some("OR") => {}
                            Some(")") => break,
                            _ => {
                                return Err(bad(
                                    "Error in 'search' command: Unable to parse the search: unbalanced parentheses.",
                                ));
                            }
                        }
                    }
                    terms.push(Term::Fields(fields));
                }
                word if tokens.peek() == Some(&"=") => {
                    tokens.next();
                    let value = tokens.next().map(unquoted).unwrap_or_default();
                    terms.push(Term::Fields(vec![(unquoted(word), value)]));
                }
                word => terms.push(Term::Word(unquoted(word))),
            }
        }
        Ok(Self { terms, head })
    }

    fn finds(&self, fields: &BTreeMap<String, String>) -> bool {
        let raw = fields.get("_raw").map(|raw| raw.to_lowercase()).unwrap_or_default();
        let words: Vec<&str> = raw.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        self.terms.iter().all(|term| match term {
            Term::Word(word) => words.contains(&word.to_lowercase().as_str()),
            Term::Fields(any) => any.iter().any(|(name, value)| {
                let has = |given: &String| fits(&value.to_lowercase(), &given.to_lowercase());
                // Every event has an index.
                (name == "index" && value == "*") || fields.get(name).is_some_and(has)
            }),
        })
    }
}

fn comparison<'a>(tokens: &mut impl Iterator<Item = &'a str>) -> Result<(String, String), Refused> {
    match (tokens.next(), tokens.next(), tokens.next()) {
        (Some(name), Some("="), Some(value)) => Ok((unquoted(name), unquoted(value))),
        _ => Err(bad(
            "Error in 'search' command: Unable to parse the search: Comparator '=' is missing a term.",
        )),
    }
}

fn unquoted(token: &str) -> String {
    token.trim_matches('"').to_owned()
}

/// Whether a text is of a pattern, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let places = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            places.filter_map(|at| rest.get(at..)).any(|rest| fits(after, rest))
        }),
    }
}

/// Quoted texts, signs and words. What would start a macro or a subsearch is refused, since nothing of ours may.
fn tokens(text: &str) -> Result<Vec<String>, Refused> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => match rest.get(1..).and_then(|inner| inner.find('"')) {
                Some(end) => end + 2,
                None => {
                    return Err(bad(
                        "Error in 'search' command: Unable to parse the search: unbalanced quotes.",
                    ));
                }
            },
            '(' | ')' | '|' | '=' => 1,
            '`' | '[' | ']' => return Err(bad("Error in 'SearchParser': unexpected macro or subsearch.")),
            _ => rest.find(|c: char| c.is_whitespace() || "()|=\"`[]".contains(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    Ok(tokens)
}
