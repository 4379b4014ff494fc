//! The text of a body, and that as JSON: encodings, forms, halves of characters and the slips of templates, and in words what is wrong
//! with it where nothing helps.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::DeserializeOwned;

/// Names of fields of a form in which senders put JSON.
const FORM_FIELDS: [&str; 4] = ["payload", "data", "body", "json"];

/// The text of a body: without a byte order mark, and with a replacement for what is not UTF-8. JSON in a field of a form is that JSON.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair)).collect();
        String::from_utf16_lossy(&units).into()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => return utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return utf16(rest, u16::from_be_bytes),
        // JSON begins with an ASCII character, so that a zero beside it tells what a missing mark would.
        [b'{' | b'[', 0, ..] => return utf16(bytes, u16::from_le_bytes),
        [0, b'{' | b'[', ..] => return utf16(bytes, u16::from_be_bytes),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Senders written in C count the zero at the end of a text as part of it.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes));
    match form_field(&text) {
        Some(json) => Cow::Owned(json),
        None => text,
    }
}

/// The JSON in a field of a form: `payload={...}`, percent-encoded or as it is.
fn form_field(text: &str) -> Option<String> {
    let (name, value) = text.trim_start().split_once('=')?;
    if name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        return None;
    }
    if FORM_FIELDS.contains(&name) && value.trim_start().starts_with('{') {
        return Some(value.to_owned());
    }
    // The decoder of addresses is the one of forms.
    let mut address = reqwest::Url::parse("form:/").ok()?;
    address.set_query(Some(text.trim()));
    let mut fields = address.query_pairs();
    let found = fields.find(|(name, value)| {
        FORM_FIELDS.contains(&name.as_ref()) && value.trim_start().starts_with(['{', '['])
    });
    found.map(|(_, value)| value.into_owned())
}

/// A body as JSON. A character that was cut in half (`\ud83d` alone) is replaced and costs nothing else, and the usual slips of templates
/// are mended. The error is that of the text as it came.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| {
        let whole = without_halves(text);
        if let Some(whole) = &whole
            && let Ok(read) = serde_json::from_str(whole)
        {
            return Ok(read);
        }
        serde_json::from_str(&mended(whole.as_deref().unwrap_or(text))).map_err(|_| error)
    })
}

/// The text with the slips mended that templates and encoders make: `NaN` and infinities as values, a comma before a closing bracket, a
/// line break or a tab within a text, and a backslash before what needs none. Nothing is left out: such a value becomes its text.
fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut depth = 0_usize;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => mend_text(rest, &mut mended),
            ',' if rest[1..].trim_start().starts_with([']', '}']) => 1,
            _ if is_structure(first) => {
                match first {
                    '{' | '[' => depth += 1,
                    '}' | ']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                mended.push(first);
                first.len_utf8()
            }
            _ => {
                let end = rest.find(|c| is_structure(c) || c == '"').unwrap_or(rest.len());
                let word = &rest[..end];
                // A body that is one word is no JSON at all.
                mend_word(if depth > 0 { word } else { "" }, word, &mut mended);
                end
            }
        };
        rest = &rest[length..];
    }
    mended
}

fn is_structure(c: char) -> bool {
    c.is_whitespace() || matches!(c, '{' | '}' | '[' | ']' | ',' | ':')
}

/// A text in quotes, and how long it was.
fn mend_text(from: &str, mended: &mut String) -> usize {
    mended.push('"');
    let mut characters = from.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                mended.push('"');
                return at + 1;
            }
            '\\' => {
                let next = characters.peek().map(|(_, next)| *next);
                let is_known = next.is_some_and(|next| "\"\\/bfnrtu".contains(next));
                mended.push_str(if is_known { "\\" } else { "\\\\" });
                if is_known && let Some((_, next)) = characters.next() {
                    mended.push(next);
                }
            }
            control if control < ' ' => {
                let _ = write!(mended, "\\u{:04x}", u32::from(control));
            }
            other => mended.push(other),
        }
    }
    from.len()
}

/// A value without quotes: what is no JSON and yet known becomes a text.
fn mend_word(known: &str, word: &str, mended: &mut String) {
    let unsigned = known.trim_start_matches(['+', '-']);
    let is_no_number = ["nan", "inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
    let looks_like_a_number = known.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && known.bytes().all(|byte| byte.is_ascii_hexdigit() || b"+-.xX".contains(&byte));
    if matches!(known, "undefined" | "None" | "nil") {
        mended.push_str("null");
    } else if matches!(known, "True" | "False") {
        mended.push_str(&known.to_ascii_lowercase());
    } else if is_no_number || (looks_like_a_number && serde_json::from_str::<f64>(known).is_err()) {
        mended.push('"');
        mended.push_str(known);
        mended.push('"');
    } else {
        mended.push_str(word);
    }
}

/// Why a body is not JSON, for people: with the place, the character that stands there, and what to do where that is known. More of the
/// body is not shown, for it may have secrets in it.
pub(super) fn why_not_json(text: &str, error: &serde_json::Error) -> String {
    let trimmed = text.trim_start();
    let looks_like_form = trimmed.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    if trimmed.is_empty() {
        return "the body is not JSON: it is empty; send an object with the list `alerts`".to_owned();
    } else if trimmed.starts_with('<') {
        return "the body is not JSON: it looks like XML or HTML; send the JSON of an Alertmanager webhook"
            .to_owned();
    } else if looks_like_form {
        return "the body is not JSON: it looks like a form; send the JSON by itself, or in the form's field `payload`"
            .to_owned();
    }
    // Positions of lines and columns are in bytes, and columns count from 1.
    let line_begins = match error.line() {
        0 | 1 => Some(0),
        line => text.match_indices('\n').nth(line - 2).map(|(at, _)| at + 1),
    };
    let at = line_begins.map(|begins| begins + error.column().saturating_sub(1)).filter(|_| !error.is_eof());
    let place = at.and_then(|at| {
        let mut begin = at.min(text.len());
        while !text.is_char_boundary(begin) {
            begin -= 1;
        }
        let character = text.get(begin..)?.chars().next()?;
        let shown: String =
            if character.is_control() { character.escape_default().collect() } else { character.to_string() };
        Some(format!(", byte {at}, where `{shown}` stands"))
    });
    let place = place.unwrap_or_else(|| format!(", where its {} bytes end", text.len()));
    let mut why = format!("the body is not JSON: {error}{place}");
    let follows = at.and_then(|at| text.get(at..)).unwrap_or_default();
    if error.to_string().starts_with("trailing") && follows.starts_with(['{', '[']) {
        why.push_str("; more than one JSON document came, send each in a request of its own");
    }
    why
}

/// The text with its lone surrogates replaced; `None` when it has none.
fn without_halves(text: &str) -> Option<String> {
    let mut whole = String::with_capacity(text.len());
    let (mut rest, mut replaced) = (text, false);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        whole.push_str(before);
        let taken = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                replaced = true;
                whole.push_str("\\ufffd");
                rest = escape.get(6..)?;
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (escape, after) = escape.split_at_checked(taken)?;
        whole.push_str(escape);
        rest = after;
    }
    whole.push_str(rest);
    replaced.then_some(whole)
}

/// The code unit of an escape such as `\u00e4` at the beginning.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn halves_of_characters_are_replaced_and_whole_ones_kept() {
        for (text, expected) in [
            (r#""caf\ud83d""#, "caf\u{fffd}"),
            (r#""\udc00 \ud83d\ude00 \\ud83d \u00e4""#, "\u{fffd} 😀 \\ud83d ä"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
        ] {
            assert_eq!(read::<Value>(text).unwrap(), expected, "{text}");
        }
        for broken in [r#""\ud83"#, r#""\"#, r#"{"a":"\ud83d"#] {
            assert!(read::<Value>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn bodies_with_a_byte_order_mark_or_of_another_encoding() {
        assert_eq!(text(b"\xef\xbb\xbf{}"), "{}");
        assert_eq!(text(b"\xff\xfe{\0}\0"), "{}");
        assert_eq!(text(b"\xfe\xff\0{\0}"), "{}");
        assert_eq!(text(b"{\0}\0"), "{}");
        assert_eq!(text(b"\0{\0}"), "{}");
        assert_eq!(text(b"{}\0\0"), "{}");
        assert_eq!(text(b"\"caf\xe9\""), "\"caf\u{fffd}\"");
    }
    #[test]
    fn json_in_a_form_is_that_json() {
        for (form, json) in [
            (r#"payload={"a": "b c"}"#, r#"{"a": "b c"}"#),
            ("payload=%7B%22a%22%3A+%22b%20c%22%7D", r#"{"a": "b c"}"#),
            ("token=x&payload=%7B%22a%22%3A1%7D&z=", r#"{"a":1}"#),
            ("payload=5", "payload=5"),
            ("version=4&alerts=", "version=4&alerts="),
            (r#"{"a": "payload={}"}"#, r#"{"a": "payload={}"}"#),
            (r#"[payload={}"#, r#"[payload={}"#),
        ] {
            assert_eq!(text(form.as_bytes()), json);
        }
    }

    #[test]
    fn the_usual_slips_of_templates_are_mended() {
        for (slip, expected) in [
            (
                r#"{"a": NaN, "b": -Infinity, "c": +Inf, "d": Infinity}"#,
                json!({"a": "NaN", "b": "-Infinity", "c": "+Inf", "d": "Infinity"}),
            ),
            (r#"{"a": undefined, "b": None, "c": True}"#, json!({"a": null, "b": null, "c": true})),
            (r#"{"a": [1, 2, ], "b": {"c": 1,} , }"#, json!({"a": [1, 2], "b": {"c": 1}})),
            ("{\"a\": \"one\ntwo\tthree\"}", json!({"a": "one\ntwo\tthree"})),
            (r#"{"a": "C:\data\.x \"NaN,]\" \\"}"#, json!({"a": "C:\\data\\.x \"NaN,]\" \\"})),
            (
                r#"{"a": 1e999, "b": 007, "c": +5, "d": .5, "e": 0x1F, "f": 1e5}"#,
                json!({"a": "1e999", "b": "007", "c": "+5", "d": ".5", "e": "0x1F", "f": 100000.0}),
            ),
            (r#"{"a": "\ud83d", "b": NaN}"#, json!({"a": "\u{fffd}", "b": "NaN"})),
        ] {
            assert_eq!(read::<Value>(slip).unwrap(), expected, "{slip}");
        }
        for broken in
            [r#"{"a": firing}"#, r#"{"a": "b}"#, "NaN", r#"{"a" 1}"#, "{'a': 1}", "{} {}", r#"{"a": "\"#]
        {
            assert!(read::<Value>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn where_a_body_is_broken_is_said() {
        for (broken, said) in [
            ("{\"a\": 1,\n \"b\": !}", "line 2 column 7, byte 15, where `!` stands"),
            ("{\"a\": é}", "byte 6, where `é` stands"),
            ("{} {}", "byte 3, where `{` stands; more than one JSON document"),
            ("{}\n{}\n", "more than one JSON document"),
            ("{} x", "trailing characters at line 1 column 4, byte 3, where `x` stands"),
            ("{\"a\": [", "EOF while parsing a list at line 1 column 7, where its 7 bytes end"),
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("<xml/>", "XML"),
            ("version=4&alerts=", "a form"),
        ] {
            let error = read::<Value>(broken).unwrap_err();
            let why = why_not_json(broken, &error);
            assert!(why.starts_with("the body is not JSON: ") && why.contains(said), "{broken}: {why}");
        }
    }
}
