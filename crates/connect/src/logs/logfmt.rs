//! logfmt: names and values, `level=error msg="pool exhausted"`.

use serde_json::{Map, Value};

/// Pairs of one line of logfmt at the most.
const PAIRS_MAX: usize = 200;

/// The pairs of a line of logfmt: at least two, from its first word on.
pub(super) fn pairs(text: &str) -> Option<Map<String, Value>> {
    let mut pairs = Map::new();
    let (mut rest, mut words) = (text.trim(), 0);
    while !rest.is_empty() && words < PAIRS_MAX {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end)?;
        let is_name = !name.is_empty()
            && name.chars().all(|c| c.is_alphanumeric() || "_.-@/".contains(c))
            && !name.starts_with(|c: char| c.is_ascii_digit());
        let Some(value) = after.strip_prefix('=').filter(|_| is_name) else {
            if words < 2 {
                return None;
            }
            // A word without a value among the pairs.
            rest = after.trim_start_matches('=').trim_start();
            words += 1;
            continue;
        };
        let (value, after) = value_of(value);
        pairs.entry(name.to_owned()).or_insert(Value::String(value));
        rest = after.trim_start();
        words += 1;
    }
    (pairs.len() >= 2).then_some(pairs)
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        return (value.to_owned(), rest);
    };
    let (mut value, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other)) => value.push(other),
                None => {}
            },
            other => value.push(other),
        }
    }
    (value, "")
}
