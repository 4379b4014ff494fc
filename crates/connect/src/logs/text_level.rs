//! The level of a text without fields: the word that stands where programs write levels.
//!
//! A word of a sentence is no level: "Error rate is back to normal" is good news. So the words before it count (none of a sentence), how it
//! is written (capitals, brackets, a colon), and what follows (a sentence goes on with a word in small letters).

use super::access;
use super::level::{FATAL, INFO, of_letter, of_status, of_syslog, of_word};
use super::names::alike;

/// Words at the beginning of a text among which its level is looked for.
const WORDS_MAX: usize = 14;
/// Bytes of a text in which they are looked for.
const HEAD_BYTES_MAX: usize = 240;
/// Words of a name in several words that may stand before what is written like a level and like nothing else: `My Shop - ERROR -`.
const NAME_WORDS_MAX: usize = 3;

/// What a level is called before its value.
const KEYS: [&str; 9] = [
    "level",
    "lvl",
    "severity",
    "loglevel",
    "at",
    "errorseverity",
    "severitytext",
    "levelname",
    "severitylevel",
];
/// What stands before a level and is no sentence.
const PREFIXES: [&str; 9] = ["PHP", "npm", "UTC", "GMT", "AM", "PM", "at", "main", "v"];
/// What stands before `error:` and says which one it is.
const KINDS: [&str; 7] = ["Parse", "Syntax", "Runtime", "Uncaught", "Unhandled", "Internal", "Unexpected"];
/// Words of sentences after which a word for a level is one of the sentence, however it is written.
const OF_SENTENCES: [&str; 48] = [
    "a",
    "an",
    "the",
    "no",
    "not",
    "any",
    "all",
    "zero",
    "without",
    "with",
    "of",
    "on",
    "in",
    "to",
    "from",
    "for",
    "by",
    "as",
    "at",
    "after",
    "before",
    "and",
    "or",
    "if",
    "when",
    "is",
    "was",
    "are",
    "were",
    "be",
    "been",
    "has",
    "have",
    "had",
    "got",
    "received",
    "returned",
    "returns",
    "retry",
    "retrying",
    "ignored",
    "ignoring",
    "last",
    "previous",
    "this",
    "that",
    "these",
    "recovered",
];

/// The level of a text: what its access log's status says, or the word that stands where a level stands.
pub(super) fn of_text(text: &str) -> Option<&'static str> {
    if let Some(status) = access::status_of(text) {
        return of_status(status);
    }
    let mut lines = text.lines();
    let first = lines.next()?;
    of_line(first).or_else(|| {
        // java.util.logging says who on its first line and what on its second: `SEVERE: pool exhausted`.
        let second = lines.next().filter(|_| is_of_java(first))?;
        of_second_line(second)
    })
}

/// The level that java.util.logging writes at the beginning of its second line.
pub(super) fn of_second_line(line: &str) -> Option<&'static str> {
    let (word, _) = line.split_once(": ")?;
    is_upper(word).then(|| of_word(word)).flatten()
}

/// Whether a text is a class and a method, which is what java.util.logging has on its first line.
pub(super) fn is_of_java(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let (class, method) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_name =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "._$<>-".contains(c));
    is_name(class) && is_name(method) && words.next().is_none()
}

fn of_line(text: &str) -> Option<&'static str> {
    if text.starts_with("thread '") && text.contains("' panicked at ") {
        return Some(FATAL);
    }
    let mut end = HEAD_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = text.get(..end)?;
    let mut before = Before { only_numbers: true, ..Before::default() };
    for token in tokens(head).take(WORDS_MAX) {
        if let Some(level) = of_token(&token, &before) {
            return Some(level);
        }
        before.add(&token);
    }
    None
}

/// What stands before a word.
#[derive(Default)]
struct Before<'a> {
    last: &'a str,
    /// Words like those of a sentence, outside of brackets.
    words: usize,
    /// Those of them that do not say which error it is.
    other_words: usize,
    /// Words like those of a sentence, in the brackets that the word is in.
    inside: usize,
    is_sentence: bool,
    only_numbers: bool,
    last_is_small: bool,
}

impl<'a> Before<'a> {
    fn add(&mut self, token: &Token<'a>) {
        let word = token.word;
        self.last = word;
        self.only_numbers &= word.bytes().all(|byte| byte.is_ascii_digit());
        // `imap(user):` and `sshd[42]:` are programs.
        let is_program = token.rest.starts_with(['(', '[']);
        let is_word = is_of_sentence(word) && !PREFIXES.contains(&word) && !is_program;
        if token.depth > 0 {
            self.inside = usize::from(is_word) + if token.opens { 0 } else { self.inside };
            return;
        }
        self.inside = 0;
        if is_word {
            self.words += 1;
            self.other_words += usize::from(!KINDS.contains(&word));
            self.last_is_small = word.bytes().all(|byte| byte.is_ascii_lowercase());
            let small = word.trim_end_matches([',', '.', ':']).to_lowercase();
            self.is_sentence |= OF_SENTENCES.contains(&small.as_str());
        }
    }
}

struct Token<'a> {
    word: &'a str,
    /// How many brackets it is in.
    depth: usize,
    /// Whether one opens just before it.
    opens: bool,
    /// Whether it is all that stands between brackets, bars or angles.
    alone: bool,
    /// Whether it stands alone between parentheses, as in a sentence.
    in_parentheses: bool,
    /// Whether what is before and after it only separates.
    separated: bool,
    /// What follows it.
    rest: &'a str,
}

/// The words of a text, and what is around each.
fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let is_border = |c: char| c.is_whitespace() || "[]<>|(){}\",".contains(c);
    let (mut depth, mut seen) = (0_usize, 0_usize);
    text.split(is_border).filter(|word| !word.is_empty()).map(move |word| {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        for sign in text.get(seen..start).unwrap_or_default().chars() {
            match sign {
                '[' | '(' | '<' | '{' => depth += 1,
                ']' | ')' | '>' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        seen = start + word.len();
        let (before, rest) = (text.get(..start).unwrap_or_default(), text.get(seen..).unwrap_or_default());
        let opens = before.ends_with(['[', '<', '(', '{']);
        // Some pad a level to the width of the longest.
        let closes =
            rest.trim_start_matches(' ').starts_with([']', '>', ')', '|']) || (rest.is_empty() && depth > 0);
        let barred = before.trim_end().ends_with('|') && rest.trim_start().starts_with('|');
        let dashed = before.ends_with("- ") && rest.starts_with(" -");
        let alone = (opens || before.ends_with('|')) && closes;
        let in_parentheses = alone && before.ends_with('(');
        Token { word, depth, opens, alone, in_parentheses, separated: barred || dashed, rest }
    })
}

fn of_token(token: &Token<'_>, before: &Before<'_>) -> Option<&'static str> {
    let word = token.word;
    if let Some((name, value)) = word.split_once('=') {
        return KEYS.contains(&alike(name).as_str()).then(|| of_word(value)).flatten();
    }
    if let Some(mnemonic) = word.strip_prefix('%') {
        return of_device(mnemonic);
    }
    let is_begin = before.words == 0 && before.inside == 0;
    if let Some(letter) = word.strip_suffix('!').filter(|letter| letter.len() == 1) {
        // Telegraf.
        return is_begin.then(|| of_letter(letter)).flatten();
    }
    if is_begin && before.last.ends_with(':') && KEYS.contains(&alike(before.last).as_str()) {
        return of_word(word);
    }
    let bare = word.trim_matches([':', '!']);
    let colon = word.ends_with(':');
    let few_words = !before.is_sentence && before.words <= NAME_WORDS_MAX && before.inside == 0;
    if token.alone || token.separated {
        // `core:error` of Apache, `Server thread/WARN` of games.
        let last = bare.rsplit([':', '/']).next().unwrap_or(bare);
        let level = of_word(bare).or_else(|| (!bare.starts_with('/')).then(|| of_word(last)).flatten());
        let fits = if is_upper(last) { few_words } else { few_words && before.words <= 1 };
        let fits = fits && (!token.in_parentheses || is_begin);
        let level = level.or_else(|| of_letter(bare).filter(|_| !token.in_parentheses));
        if level.is_some() {
            return level.filter(|_| fits);
        }
    }
    of_joined(token, bare, colon, before).or_else(|| {
        if is_upper(bare) {
            if bare == "LOG" && colon {
                // PostgreSQL's ordinary messages.
                return Some(INFO);
            }
            let level = of_word(bare)?;
            let is_marked = colon || word.ends_with('!') || token.rest.starts_with('[');
            let is_named = before.words == 1 && before.last_is_small && bare != "ALERT";
            let fits = is_begin || (few_words && (is_marked && bare != "ALERT" || is_named));
            return (fits && !says_there_is_none(colon, token.rest)).then_some(level);
        }
        let level = of_word(bare).filter(|_| !bare.contains(['.', ':', '/']));
        if let Some(level) = level {
            let fits = match colon {
                true => before.other_words == 0 && before.inside == 0,
                false => is_begin && (before.last == "npm" || is_followed_by_no_sentence(bare, token.rest)),
            };
            return (fits && !says_there_is_none(colon, token.rest)).then_some(level);
        }
        // A lone letter is a level only where nothing but numbers stands before it, and no sentence follows.
        let is_letter = before.only_numbers && word.len() == 1 && word != "C";
        let next = token.rest.trim_start().chars().next();
        let follows = next.is_some_and(|next| next.is_uppercase() || !next.is_alphanumeric());
        (is_letter && follows).then(|| of_letter(word)).flatten()
    })
}

/// A level that is joined to a name: `ERROR:app.pool:message` of Python, `ERROR/MainProcess` of Celery, `thread/WARN]` of games,
/// `production.ERROR:` of Laravel, `E/Tag(` of Android.
fn of_joined(token: &Token<'_>, bare: &str, colon: bool, before: &Before<'_>) -> Option<&'static str> {
    if before.words > 0 || before.is_sentence {
        return None;
    }
    if let Some((first, rest)) = bare.split_once([':', '/']) {
        let second = rest.split([':', '/']).next().unwrap_or_default();
        let is_level = is_upper(first) && before.inside == 0 && of_word(second).is_none();
        if is_level && let Some(level) = of_word(first) {
            return Some(level);
        }
        if bare.contains('/') && first.len() == 1 && before.only_numbers && token.rest.starts_with('(') {
            return of_letter(first);
        }
        if token.depth > 0
            && token.rest.starts_with(']')
            && let Some((_, last)) = bare.rsplit_once('/')
            && is_upper(last)
        {
            return of_word(last);
        }
    }
    let last = bare.rsplit(['.', ':']).next().filter(|last| *last != bare)?;
    (is_upper(last) && colon).then(|| of_word(last)).flatten()
}

/// The severity in what network devices begin with: `%LINK-3-UPDOWN` of Cisco and many others, `%%01IFNET/4/LINK_STATE` of Huawei.
fn of_device(mnemonic: &str) -> Option<&'static str> {
    let (parts, is_long) = match mnemonic.strip_prefix('%') {
        Some(rest) => (rest.split('/').collect::<Vec<_>>(), true),
        None => (mnemonic.split('-').collect::<Vec<_>>(), false),
    };
    let facility = parts.first()?;
    let starts = is_long || facility.starts_with(|c: char| c.is_ascii_uppercase());
    let severity = parts.iter().skip(1).take(parts.len().checked_sub(2)?).find_map(|part| {
        let digit: u64 = (part.len() == 1).then(|| part.parse().ok()).flatten()?;
        (digit < 8).then_some(digit)
    })?;
    starts.then(|| of_syslog(severity))
}

fn is_upper(word: &str) -> bool {
    word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether it is written like a word of a sentence: letters only, and what sentences have behind words.
fn is_of_sentence(word: &str) -> bool {
    let word = word.trim_end_matches(['.', '!', '?', ';', '\'']);
    let is_initial = word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    !word.is_empty() && !is_initial && word.chars().all(|c| c.is_alphabetic() || c == '\'' || c == '’')
}

/// Whether what follows a word in small letters is not the rest of its sentence: another column, a separator, the name of a logger, or
/// the beginning of a sentence.
fn is_followed_by_no_sentence(word: &str, rest: &str) -> bool {
    let begins = rest.trim_start();
    let Some(first) = begins.chars().next() else { return true };
    if rest.starts_with('\t') || rest.starts_with("  ") || "-|[<{:".contains(first) {
        return true;
    }
    let next = begins.split_whitespace().next().unwrap_or_default();
    let is_small = word.bytes().all(|byte| byte.is_ascii_lowercase());
    // `Fatal error: ...`
    let is_level_too = next.ends_with(':') && of_word(next).is_some();
    let inner = next.trim_end_matches([':', '.', ',', ';', '!', '?', ')']);
    let is_name = first.is_alphabetic() && inner.contains(['.', '[', '@', '/', ':', '#']);
    is_level_too || is_name || (is_small && first.is_uppercase())
}

/// `error: none`, `Errors: 0`: a report of how many there are, or whether.
fn says_there_is_none(colon: bool, rest: &str) -> bool {
    if !colon {
        return false;
    }
    let said = rest.trim().split([',', ';', '|']).next().unwrap_or_default().trim_end_matches(['.', ' ']);
    let nothing = ["none", "0", "no", "nil", "null", "<nil>", "false", "n/a", "-", "ok", "0%"];
    nothing.iter().any(|word| said.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_has_the_level_that_it_is_written_with() {
        for (text, level) in [
            ("ERROR pool exhausted", "error"),
            ("[main] WARN c.e.Pool - slow", "warn"),
            ("INFO --- [scheduling-1] c.e.Inv : no error found", "info"),
            ("[1][critical][main] [source/server.cc:117] error initializing", "fatal"),
            ("[42] FATAL:  remaining connection slots are reserved", "fatal"),
            ("[42] LOG:  checkpoint starting: time", "info"),
            ("0 [ERROR] [MY-010187] [Server] Could not open file", "error"),
            ("[error] 31#31: *1 connect() failed, request: \"GET / HTTP/1.1\", upstream: \"x\"", "error"),
            ("[core:error] [pid 35708:tid 1] AH00124: too many redirects", "error"),
            ("[Server thread/WARN]: Can't keep up!", "warn"),
            ("production.ERROR: SQLSTATE[HY000]", "error"),
            ("request.CRITICAL: Uncaught PHP Exception {\"a\":1} []", "fatal"),
            ("[ 42 ] {} <Error> Application: disk", "error"),
            ("- app.pool - ERROR - pool exhausted", "error"),
            ("| ERROR    | app.pool:get:12 - pool exhausted", "error"),
            ("|ERROR|Shop.Pool|pool exhausted", "error"),
            ("- My Shop - ERROR - pool exhausted", "error"),
            ("E NETWORK  [conn1] end connection", "error"),
            ("1234  5678 E Tag: gone", "error"),
            ("E/ActivityManager(  585): gone", "error"),
            ("E! [outputs.influxdb] failed", "error"),
            ("level=error msg=x", "error"),
            ("heroku[router]: at=error code=H12", "error"),
            ("LEVEL: Error", "error"),
            ("error: cannot open", "error"),
            ("Warning: deprecated", "warn"),
            ("npm ERR! code 1", "error"),
            ("npm error code E404", "error"),
            ("PHP Fatal error:  Uncaught Exception: boom", "fatal"),
            ("PHP Warning:  Undefined variable", "warn"),
            ("Parse error: unexpected end", "error"),
            ("fail: Shop.Pool[0]\n      pool exhausted", "error"),
            ("crit: Shop.Pool[0]", "fatal"),
            ("warn: Shop.Pool[0]", "warn"),
            ("dbug: Shop.Pool[0]", "debug"),
            ("trce: Shop.Pool[0]", "trace"),
            ("ERROR:app.pool:pool exhausted", "error"),
            ("WARNING:root:slow", "warn"),
            (":WARN:oejs.HttpChannel:qtp-1: slow", "warn"),
            ("ERROR/MainProcess] consumer: Cannot connect", "error"),
            ("[ERROR/ForkPoolWorker-1] failed", "error"),
            ("[myid:1] - ERROR [main:QuorumPeerMain@89] - Unexpected exception", "error"),
            ("main ERROR Unable to locate appender", "error"),
            ("u@db ERROR:  deadlock detected", "error"),
            ("UTC:10.0.0.1(5432):u@db:[42]:FATAL:  too many clients already", "fatal"),
            ("spid51      Error: 1105, Severity: 17, State: 2.", "error"),
            ("error hostd[2099] [Originator@6876 sub=Vimsvc] lost connection", "error"),
            ("error\tads\tADS: failed to push", "error"),
            ("error Pool exhausted", "error"),
            ("kid1| ERROR: no forward proxy ports", "error"),
            ("imap(user): Error: no space", "error"),
            ("com.example.Pool get\nSEVERE: pool exhausted", "error"),
            ("com.example.Pool get\nWARNING: slow", "warn"),
            ("%LINK-3-UPDOWN: Interface Gi0/1, changed state to down", "error"),
            ("123: %ASA-4-106023: Deny tcp", "warn"),
            ("%SYS-SP-2-LOG_MSG: over heated", "fatal"),
            ("%%01IFNET/4/LINK_STATE(l)[1]:The line has gone", "warn"),
            ("panic: runtime error: index out of range", "fatal"),
            ("thread 'main' panicked at src/main.rs:1:2:", "fatal"),
            ("[Error] pool exhausted", "error"),
            ("<Warn> x: slow", "warn"),
            ("WRN slow", "warn"),
            ("[21:50:17 ERR] pool exhausted", "error"),
            ("✖ ERROR pool", "error"),
            ("Info: 0 errors", "info"),
            ("10.1.2.3 - - \"GET /info?debug=error HTTP/1.1\" 502 157 \"-\" \"curl/8\"", "error"),
            ("10.0.0.5 GET /shop/cart - 443 - 10.1.2.3 Mozilla/5.0 - 500 0 0 1234", "error"),
        ] {
            assert_eq!(of_text(text), Some(level), "{text}");
        }
    }

    #[test]
    fn a_word_of_a_sentence_is_no_level() {
        for text in [
            "Error rate is back to normal",
            "error budget is fine",
            "Error rate: 0.1 %",
            "error count=0",
            "Error: none",
            "errors: 0, warnings: 0",
            "Fatal errors: none",
            "the pool has no error in it",
            "retry after ERROR from upstream",
            "Received ERROR frame, recovered",
            "no ERROR found",
            "(no error)",
            "connection closed (no ERROR found)",
            "connect succeeded (error cleared)",
            "user clicked the [error] button",
            "this is not critical at all",
            "Critical section entered",
            "Alert manager started",
            "warning lights are off",
            "Debug mode is off",
            "Failure domain eu-1 is healthy",
            "I think so",
            "C compiler identification is GNU",
            "[error-handler] started",
            "INFO/WARN levels are supported",
            "Errors are logged at ERROR",
            "10.1.2.3 - - \"GET /ERROR HTTP/1.1\" 200 157 \"-\" \"ERROR\"",
            "100 % of the traffic",
            "pool exhausted",
            "",
        ] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_looked_at(text in "\\PC{0,80}|[A-Z\\[\\]<>|:%/0-9 \"\n-]{0,300}") {
            let _ = of_text(&text);
        }
    }
}
