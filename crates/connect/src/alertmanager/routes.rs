//! The routing tree of Alertmanager's configuration: by which routes an alert goes to whom, and which of them are quiet at times.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use quell_incident::Untrusted;
use quell_incident::alert::Labels;
use regex::Regex;
use serde::Deserialize;

use crate::duration;

/// What Alertmanager assumes where no route says otherwise.
const GROUP_WAIT: SignedDuration = SignedDuration::from_secs(30);
const GROUP_INTERVAL: SignedDuration = SignedDuration::from_mins(5);
/// Routes of a tree at the most, and how deep it may be.
const ROUTES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 64;

/// By which routes alerts go to whom.
#[derive(Clone, Debug)]
pub struct Routes {
    root: Node,
    any_interval: bool,
}

/// A route that an alert takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// Who is told by it.
    pub receiver: &'a str,
    /// Whether it has mute or active time intervals. They count for this route alone and are not handed down.
    pub has_intervals: bool,
    /// How long the first notification of a group waits.
    pub group_wait: SignedDuration,
    /// How long what joins a group may wait.
    pub group_interval: SignedDuration,
}

#[derive(Clone, Debug)]
struct Node {
    receiver: String,
    matchers: Vec<Matcher>,
    goes_on: bool,
    has_intervals: bool,
    group_wait: SignedDuration,
    group_interval: SignedDuration,
    children: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Matcher {
    label: String,
    value: Value,
    equal: bool,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Expression(Regex),
}

/// A route as the configuration file has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireRoute {
    receiver: Option<String>,
    r#match: Option<BTreeMap<String, String>>,
    match_re: Option<BTreeMap<String, String>>,
    matchers: Option<OneOrMany>,
    r#continue: bool,
    mute_time_intervals: Option<Vec<String>>,
    active_time_intervals: Option<Vec<String>>,
    group_wait: Option<String>,
    group_interval: Option<String>,
    routes: Option<Vec<WireRoute>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Routes {
    pub(super) fn read(root: WireRoute) -> Result<Self, String> {
        let mut left = ROUTES_MAX;
        let parent = Node {
            receiver: String::new(),
            matchers: Vec::new(),
            goes_on: false,
            has_intervals: false,
            group_wait: GROUP_WAIT,
            group_interval: GROUP_INTERVAL,
            children: Vec::new(),
        };
        let root = node(root, &parent, 0, &mut left)?;
        let any_interval = any_interval(&root);
        Ok(Self { root, any_interval })
    }

    /// Whether any route is quiet at times.
    pub fn have_intervals(&self) -> bool {
        self.any_interval
    }

    /// The routes that an alert with these labels takes, at least one: those of the deepest nodes that match, as Alertmanager goes.
    pub fn taken_by(&self, labels: &Labels) -> Vec<Route<'_>> {
        let mut taken = Vec::new();
        take(&self.root, labels, &mut taken);
        if taken.is_empty() {
            taken.push(self.root.route());
        }
        taken
    }
}

impl Node {
    fn route(&self) -> Route<'_> {
        Route {
            receiver: &self.receiver,
            has_intervals: self.has_intervals,
            group_wait: self.group_wait,
            group_interval: self.group_interval,
        }
    }
}

fn any_interval(node: &Node) -> bool {
    node.has_intervals || node.children.iter().any(any_interval)
}

/// Whether the node, or something below it, takes it.
fn take<'a>(node: &'a Node, labels: &Labels, taken: &mut Vec<Route<'a>>) -> bool {
    if !node.matchers.iter().all(|matcher| matcher.fits(labels)) {
        return false;
    }
    let before = taken.len();
    for child in &node.children {
        if take(child, labels, taken) && !child.goes_on {
            break;
        }
    }
    if taken.len() == before {
        taken.push(node.route());
    }
    true
}

fn node(wire: WireRoute, parent: &Node, depth: usize, left: &mut usize) -> Result<Node, String> {
    if depth > DEPTH_MAX || *left == 0 {
        return Err(format!(
            "it has more than {ROUTES_MAX} routes, or they are nested deeper than {DEPTH_MAX}"
        ));
    }
    *left -= 1;
    let span = |text: Option<String>, inherited: SignedDuration| match text {
        None => Ok(inherited),
        Some(text) => duration::parse(&text).ok_or_else(|| format!("`{text}` is no duration")),
    };
    let named = |intervals: &Option<Vec<String>>| intervals.as_ref().is_some_and(|named| !named.is_empty());
    let has_intervals = named(&wire.mute_time_intervals) || named(&wire.active_time_intervals);
    let mut matchers = Vec::new();
    for (label, value) in wire.r#match.into_iter().flatten() {
        matchers.push(Matcher { label, value: Value::Text(value), equal: true });
    }
    for (label, value) in wire.match_re.into_iter().flatten() {
        matchers.push(Matcher { label, value: expression(&value)?, equal: true });
    }
    let written = match wire.matchers {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one],
        Some(OneOrMany::Many(many)) => many,
    };
    for text in &written {
        matchers.extend(matchers_of(text)?);
    }
    let mut node = Node {
        receiver: wire.receiver.filter(|name| !name.is_empty()).unwrap_or_else(|| parent.receiver.clone()),
        matchers,
        goes_on: wire.r#continue,
        has_intervals,
        group_wait: span(wire.group_wait, parent.group_wait)?,
        group_interval: span(wire.group_interval, parent.group_interval)?,
        children: Vec::new(),
    };
    for child in wire.routes.into_iter().flatten() {
        let child = self::node(child, &node, depth + 1, left)?;
        node.children.push(child);
    }
    Ok(node)
}

impl Matcher {
    fn fits(&self, labels: &Labels) -> bool {
        // A label that is not there is an empty one.
        let value = labels.get(&self.label).unwrap_or(Untrusted::new(""));
        let same = match &self.value {
            Value::Text(text) => value.is(text),
            Value::Expression(expression) => value.fits(|text| expression.is_match(text)),
        };
        same == self.equal
    }
}

fn expression(text: &str) -> Result<Value, String> {
    let anchored = Regex::new(&format!("^(?:{text})$"));
    anchored
        .map(Value::Expression)
        .map_err(|error| format!("the expression `{text}` cannot be read: {error}"))
}

/// One matcher, or several as `{a="b",c=~"d"}` or `a="b",c=~"d"`.
fn matchers_of(text: &str) -> Result<Vec<Matcher>, String> {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(trimmed);
    parts(inner).into_iter().filter(|part| !part.trim().is_empty()).map(|part| matcher(part.trim())).collect()
}

/// Split at commas that are not within quotes.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn matcher(text: &str) -> Result<Matcher, String> {
    let bad = || format!("the matcher `{text}` cannot be read");
    // The name may be quoted, and then have any character.
    let (label, rest) = if text.starts_with('"') {
        let end = end_of_quoted(text).ok_or_else(bad)?;
        (unquoted(&text[..end]).ok_or_else(bad)?, text[end..].trim_start())
    } else {
        let at = text.find(['=', '!', '~']).ok_or_else(bad)?;
        (text[..at].trim().to_owned(), &text[at..])
    };
    let operators = [("=~", true, true), ("!~", true, false), ("!=", false, false), ("=", false, true)];
    let (by_expression, equal, value) = operators
        .into_iter()
        .find_map(|(sign, by_expression, equal)| Some((by_expression, equal, rest.strip_prefix(sign)?)))
        .ok_or_else(bad)?;
    let value = value.trim();
    let value = if value.starts_with('"') { unquoted(value).ok_or_else(bad)? } else { value.to_owned() };
    let value = if by_expression { expression(&value)? } else { Value::Text(value) };
    if label.is_empty() { Err(bad()) } else { Ok(Matcher { label, value, equal }) }
}

/// The place after the closing quote of a text that begins with one.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// What a quoted text means; `None` if it does not end with its quote. Alertmanager knows these three escapes and leaves others alone.
fn unquoted(text: &str) -> Option<String> {
    if end_of_quoted(text) != Some(text.len()) {
        return None;
    }
    let (mut plain, mut characters) = (String::new(), text[1..text.len() - 1].chars());
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next()? {
                'n' => plain.push('\n'),
                known @ ('"' | '\\') => plain.push(known),
                other => plain.extend(['\\', other]),
            },
            (other, false) => plain.push(other),
        }
    }
    Some(plain)
}
