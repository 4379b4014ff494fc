//! Masking of secrets in what commands, services and logs say, before anyone or anything keeps it.
//!
//! The patterns lean towards masking too much: a masked word costs a second look, a kept password costs far more.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};
use serde_json::Value;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Words that name a secret, as they appear in settings, flags, headers and JSON keys.
const SECRET_WORD: &str = "(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key\
                           |client[_-]?secret|secret[_-]?key(?:[_-]?base)?)";

struct Masker {
    /// All patterns at once: most texts have nothing to mask, and are read only once so.
    any: RegexSet,
    replacements: Vec<(Regex, &'static str)>,
    secret_key: Regex,
}

impl Masker {
    fn new() -> Result<Self, regex::Error> {
        let assignment = format!(
            r#"(?i)([\w.-]*{SECRET_WORD}\\?["']?\s*[:=]\s*)(?:\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|[^\s,;&"'}})\]]+)"#
        );
        let flag = format!(r"(?i)(--?(?:[\w-]*-)?{SECRET_WORD}\s+)[^\s-]\S*");
        let patterns: [(&str, &'static str); 10] = [
            // Without an END line all of the rest is masked: the text was cut inside the key.
            (
                r"(?s)-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
                "-----BEGIN ${1}PRIVATE KEY----- ***",
            ),
            (
                r#"(?i)(\bauthorization\\?["']?\s*[:=]\s*\\?["']?(?:(?:basic|bearer|token|digest|splunk|apikey|genie\w*)\s+)?)[^\s"'\\]+"#,
                "${1}***",
            ),
            (r"(?i)(\b(?:set-)?cookie:\s*)[^\r\n]+", "${1}***"),
            (r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/-]{8,}=*", "${1}***"),
            (r"([A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:)[^\s/]+@", "${1}***@"),
            (r"([A-Za-z][A-Za-z0-9+.-]*://)[A-Za-z0-9_-]{20,}@", "${1}***@"),
            (&assignment, "${1}***"),
            (&flag, "${1}***"),
            (r"\b(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{16}\b", "***"),
            // JSON web tokens, and the tokens that forges and chats mark by a prefix of their own.
            (
                r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*|\bgh[pousr]_[A-Za-z0-9]{20,}|\bxox[abposr]-[A-Za-z0-9-]{10,}|\bglpat-[A-Za-z0-9_-]{20,}",
                "***",
            ),
        ];
        let any = RegexSet::new(patterns.iter().map(|(pattern, _)| pattern))?;
        let replacements = patterns
            .into_iter()
            .map(|(pattern, replacement)| Ok((Regex::new(pattern)?, replacement)))
            .collect::<Result<_, regex::Error>>()?;
        Ok(Self { any, replacements, secret_key: Regex::new(&format!(r"(?i)^[\w.-]*{SECRET_WORD}$"))? })
    }
}

static MASKER: LazyLock<Option<Masker>> = LazyLock::new(|| Masker::new().ok());

/// `text` with secrets masked: bearer tokens and `Authorization` values, passwords in URLs, `password=...` and its like,
/// password flags, cloud access keys, JSON web tokens, PEM private keys, cookies.
pub fn redact(text: &str) -> String {
    // Fail closed: without the patterns nothing can be told to be harmless.
    let Some(masker) = MASKER.as_ref() else { return MASK.to_owned() };
    if !masker.any.is_match(text) {
        return text.to_owned();
    }
    let mut masked = text.to_owned();
    for (pattern, replacement) in &masker.replacements {
        if let std::borrow::Cow::Owned(changed) = pattern.replace_all(&masked, *replacement) {
            masked = changed;
        }
    }
    masked
}

/// Whether what stands under this name is a secret by its name alone.
pub fn names_secret(name: &str) -> bool {
    MASKER.as_ref().is_none_or(|masker| masker.secret_key.is_match(name))
}

/// Masks secrets in every string of `value`, and whole strings under keys that name a secret.
pub fn redact_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact(text),
        Value::Array(items) => items.iter_mut().for_each(redact_value),
        Value::Object(fields) => {
            for (key, field) in fields {
                match (MASKER.as_ref(), &mut *field) {
                    (Some(masker), Value::String(text)) if masker.secret_key.is_match(key) => {
                        *text = MASK.to_owned();
                    }
                    _ => redact_value(field),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The longest beginning of `text` that has at most `bytes_max` bytes and ends between two characters.
pub fn truncate(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert!(Masker::new().is_ok());
    }

    #[test]
    fn secrets_are_masked_and_their_surroundings_kept() {
        for (text, expected) in [
            ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
            ("authorization=Basic dXNlcjpwYXNz", "authorization=Basic ***"),
            ("curl -H 'Authorization: Splunk 0123456'", "curl -H 'Authorization: Splunk ***'"),
            ("sent bearer abcdefgh12345678== on", "sent bearer *** on"),
            ("postgres://quell:hunter2@db:5432/x", "postgres://quell:***@db:5432/x"),
            ("redis://:p@ss:word@cache/0", "redis://:***@cache/0"),
            ("https://0123456789abcdefghij@forge.example/x", "https://***@forge.example/x"),
            ("ssh://git@host/x", "ssh://git@host/x"),
            ("http://host:9090/metrics user@host", "http://host:9090/metrics user@host"),
            ("password=hunter2 user=me", "password=*** user=me"),
            ("PGPASSWORD='two words' psql", "PGPASSWORD=*** psql"),
            ("db.password: hunter2, retries: 3", "db.password: ***, retries: 3"),
            (r#"{"api_key": "abc", "n": 1}"#, r#"{"api_key": ***, "n": 1}"#),
            (r#"{\"token\": \"abc\", \"n\": 1}"#, r#"{\"token\": ***, \"n\": 1}"#),
            ("GET /x?token=abc&page=2", "GET /x?token=***&page=2"),
            ("mysql --password hunter2 --port 3", "mysql --password *** --port 3"),
            ("tool --api-key=abc --verbose", "tool --api-key=*** --verbose"),
            ("key AKIAIOSFODNN7EXAMPLE used", "key *** used"),
            ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = ***"),
            ("Set-Cookie: sid=1; Path=/\nnext", "Set-Cookie: ***\nnext"),
            ("got eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "got ***"),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }

    #[test]
    fn private_keys_are_masked_also_when_cut() {
        let whole = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\nxyz\n-----END RSA PRIVATE KEY-----\nb";
        assert_eq!(redact(whole), "a\n-----BEGIN RSA PRIVATE KEY----- ***\nb");
        assert_eq!(redact("-----BEGIN PRIVATE KEY-----\nMIIBxyz"), "-----BEGIN PRIVATE KEY----- ***");
    }

    #[test]
    fn ordinary_log_lines_stay_as_they_are() {
        for line in [
            "connection timeout after 5s to db-server-01:9090",
            "2026-01-02T03:04:05Z ERROR pool exhausted: active=20 max=20",
            "consumer lag 15000 for group email-service",
            "the password has to be renewed",
            "certificate expires in 6 days",
            "keys: 3, tokens: none",
        ] {
            assert_eq!(redact(line), line);
        }
    }

    #[test]
    fn values_are_masked_by_key_and_by_content() {
        let mut value = json!({"url": "http://a:b@c", "deep": [{"Password": "x", "port": 5, "token": null}]});
        redact_value(&mut value);
        assert_eq!(
            value,
            json!({"url": "http://a:***@c", "deep": [{"Password": "***", "port": 5, "token": null}]})
        );
    }

    #[test]
    fn truncation_keeps_characters_whole() {
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(truncate("aé", 3), "aé");
        assert_eq!(truncate("aé", 99), "aé");
    }

    proptest! {
        #[test]
        fn an_assigned_password_never_survives(before in "[a-z ]{0,20}", secret in "[A-Za-z0-9]{8,20}Z9", after in "[a-z ]{0,20}") {
            let masked = redact(&format!("{before} password={secret} {after}"));
            prop_assert!(!masked.contains(&secret), "{}", masked);
        }

        #[test]
        fn any_text_is_accepted(text in ".{0,200}") {
            let once = redact(&text);
            prop_assert!(once.len() <= text.len() * 4 + 64);
        }
    }
}
