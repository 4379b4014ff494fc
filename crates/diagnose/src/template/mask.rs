//! What changes from line to line is masked, and the line is cut into the tokens that the miner compares.
//!
//! One pass over the bytes, one configuration for every kind of log: digits are what gives a value away, so a word without any
//! is left as it is. A path keeps its words (`/orders/<n>/items` still says which part of a program was called). A mark is one
//! control byte until somebody reads the template, so that marks of different names compare as equal: an id that happens to
//! have no letter in it is still the same place of the same message.

/// Of one message at the most so many bytes are looked at.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2_000;
/// Tokens of one message at the most.
const TOKENS_MAX: usize = 256;

/// What stands where something was masked, by its mark less one.
const NAMES: [&str; 7] = ["<n>", "<id>", "<ip>", "<time>", "<text>", "<none>", "<*>"];
const NUMBER: u8 = 1;
const ID: u8 = 2;
const ADDRESS: u8 = 3;
const TIME: u8 = 4;
const TEXT: u8 = 5;
const NONE: u8 = 6;
/// Stands for any token; made by the miner only.
pub(crate) const ANY: u8 = 7;

/// One token of a masked line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    start: usize,
    end: usize,
    /// Of its bytes, with all marks alike.
    pub(crate) hash: u64,
    /// Something in it was masked.
    pub(crate) masked: bool,
    /// There is a space before it.
    pub(crate) spaced: bool,
}

/// A masked line; kept and filled again, so that a line costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Masked {
    bytes: Vec<u8>,
    pub(crate) tokens: Vec<Token>,
    start: usize,
    masked: bool,
    spaced: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Space,
    Word,
    Quote,
    Open,
    Close,
    /// Ends a token and belongs to it.
    Separator,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Word; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            0..=b' ' | 0x7f => Class::Space,
            b'"' | b'\'' => Class::Quote,
            b'(' | b'[' | b'{' => Class::Open,
            b')' | b']' | b'}' => Class::Close,
            b'=' | b',' | b';' | b'|' | b'<' | b'>' => Class::Separator,
            _ => Class::Word,
        };
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Word)
}

impl Masked {
    /// Masks a line in the place of the one before.
    pub(crate) fn read(&mut self, line: &str) {
        self.bytes.clear();
        self.tokens.clear();
        (self.start, self.masked, self.spaced) = (0, false, false);
        let line = line.as_bytes();
        let mut rest = line.get(..line.len().min(MESSAGE_BYTES_MAX)).unwrap_or_default();
        // A quote that closes nothing is looked for once: without this a line of apostrophes costs the square of its length.
        let mut closable = [true; 2];
        while let Some(&byte) = rest.first()
            && self.tokens.len() < TOKENS_MAX
        {
            let mut taken = 1;
            match class(byte) {
                Class::Space => {
                    self.end_token();
                    self.spaced = true;
                }
                Class::Word => {
                    let end = rest.iter().position(|byte| class(*byte) != Class::Word).unwrap_or(rest.len());
                    self.word(rest.get(..end).unwrap_or_default());
                    taken = end.max(1);
                }
                Class::Quote => taken = self.quote(rest, &mut closable),
                Class::Open => {
                    let alone = self.bytes.len() == self.start && (self.spaced || self.tokens.is_empty());
                    self.end_token();
                    self.bytes.push(byte);
                    self.end_token();
                    if alone && rest.get(1).is_some_and(|next| class(*next) == Class::Close) {
                        // What could not be found out, such as the name of an address, is often written as nothing.
                        self.mark(NONE);
                        self.end_token();
                    }
                }
                Class::Close => {
                    self.end_token();
                    self.bytes.push(byte);
                    self.end_token();
                }
                Class::Separator => {
                    self.bytes.push(byte);
                    self.end_token();
                }
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.end_token();
    }

    fn end_token(&mut self) {
        let end = self.bytes.len();
        if end == self.start {
            return;
        }
        let bytes = self.bytes.get(self.start..end).unwrap_or_default();
        self.tokens.push(Token {
            start: self.start,
            end,
            hash: if self.masked { hash_masked(bytes) } else { hash(bytes) },
            masked: self.masked,
            spaced: self.spaced,
        });
        (self.start, self.masked, self.spaced) = (end, false, false);
    }

    fn mark(&mut self, mark: u8) {
        self.bytes.push(mark);
        self.masked = true;
    }

    /// How many bytes the quoted text takes; one for a quote that is an apostrophe or never closed.
    fn quote(&mut self, rest: &[u8], closable: &mut [bool; 2]) -> usize {
        let quote = rest.first().copied().unwrap_or_default();
        let which = closable.get_mut(usize::from(quote == b'\''));
        // An apostrophe stands inside of a word, a quote does not.
        let begins = self
            .bytes
            .get(self.start..)
            .and_then(<[u8]>::last)
            .is_none_or(|last| !last.is_ascii_alphanumeric());
        if begins
            && let Some(which) = which
            && *which
        {
            let closes = |at: &usize| {
                rest.get(*at) == Some(&quote)
                    && !rest.get(at + 1).is_some_and(|next| next.is_ascii_alphanumeric())
            };
            match (1..rest.len()).find(closes) {
                Some(end) => {
                    self.mark(TEXT);
                    return end + 1;
                }
                None => *which = false,
            }
        }
        self.bytes.push(quote);
        1
    }

    fn word(&mut self, word: &[u8]) {
        if !word.iter().any(u8::is_ascii_digit) {
            self.bytes.extend_from_slice(word);
            return;
        }
        let end =
            word.iter().rposition(|byte| !matches!(byte, b'.' | b':' | b'?' | b'!')).map_or(0, |at| at + 1);
        let (core, tail) = word.split_at(end);
        for (index, part) in core.split(|byte| *byte == b'/').enumerate() {
            if index > 0 {
                self.bytes.push(b'/');
            }
            self.part(part);
        }
        self.bytes.extend_from_slice(tail);
    }

    /// What stands between two slashes.
    fn part(&mut self, part: &[u8]) {
        if let Some(mark) = whole(part) {
            self.mark(mark);
            return;
        }
        let mut rest = part;
        while let Some(&byte) = rest.first() {
            if !byte.is_ascii_digit() {
                self.bytes.push(byte);
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            // The sign belongs to the number where nothing stands before it that it could join: `id=-1`, `blk_-1`.
            let before = self.bytes.get(self.start..).unwrap_or_default();
            if matches!(before, [b'-']) || matches!(before, [.., b, b'-'] if !b.is_ascii_alphanumeric()) {
                self.bytes.pop();
            }
            self.mark(NUMBER);
            let mut end = 1;
            while rest.get(end).is_some_and(|byte| {
                let joins =
                    matches!(byte, b'.' | b':' | b'-') && rest.get(end + 1).is_some_and(u8::is_ascii_digit);
                byte.is_ascii_digit() || joins
            }) {
                end += 1;
            }
            rest = rest.get(end..).unwrap_or_default();
        }
    }

    /// The bytes of a token, marks in them.
    pub(crate) fn bytes_of(&self, token: &Token) -> &[u8] {
        self.bytes.get(token.start..token.end).unwrap_or_default()
    }
}

/// What a word with a digit in it is as a whole.
fn whole(word: &[u8]) -> Option<u8> {
    let count = |wanted: u8| word.iter().filter(|byte| **byte == wanted).count();
    let all = |also: &[u8]| word.iter().all(|byte| byte.is_ascii_digit() || also.contains(byte));
    if all(b".:") && count(b'.') == 3 && count(b':') <= 1 {
        return Some(ADDRESS);
    }
    if all(b"-:.TZ+")
        && word.first().is_some_and(u8::is_ascii_digit)
        && (count(b':') >= 2 || count(b'-') == 2)
    {
        return Some(TIME);
    }
    let hexadecimal = |also: u8| word.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == also);
    if count(b':') >= 2 && hexadecimal(b':') {
        return Some(ADDRESS);
    }
    if let [b'0', b'x' | b'X', digits @ ..] = word
        && !digits.is_empty()
        && digits.iter().all(u8::is_ascii_hexdigit)
    {
        return Some(ID);
    }
    let letters = word.iter().any(u8::is_ascii_alphabetic);
    (word.len() >= 6 && letters && hexadecimal(b'-')).then_some(ID)
}

/// Not for keys that somebody else may choose a collision for: two tokens taken for one cost a wrong template and no more.
fn mix(state: u64, value: u64) -> u64 {
    let product = u128::from(state ^ value) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ (product >> 64) as u64
}

fn hash(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut state = 0x243f_6a88_85a3_08d3 ^ bytes.len() as u64;
    for chunk in chunks {
        state = mix(state, u64::from_le_bytes(*chunk));
    }
    let last = rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte));
    mix(state, last)
}

fn hash_masked(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |state, byte| {
        mix(state, u64::from(if *byte <= ANY { NUMBER } else { *byte }))
    })
}

/// Two hashes as one.
pub(crate) fn joined(one: u64, other: u64) -> u64 {
    mix(one.rotate_left(23), other)
}

/// Appends a token as people read it.
pub(crate) fn write(text: &mut String, token: &[u8], spaced: bool) {
    if spaced && !text.is_empty() {
        text.push(' ');
    }
    for piece in token.utf8_chunks() {
        for character in piece.valid().chars() {
            match NAMES.get((character as usize).wrapping_sub(1)) {
                Some(name) => text.push_str(name),
                None if character.is_control() => text.push(' '),
                None => text.push(character),
            }
        }
    }
}

/// One line as people read it.
pub(crate) fn masked(line: &str) -> String {
    let mut masked = Masked::default();
    masked.read(line);
    let mut text = String::new();
    for token in &masked.tokens {
        write(&mut text, masked.bytes_of(token), token.spaced);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_masked() {
        for (line, expected) in [
            ("order 12345 accepted in 8.5 ms", "order <n> accepted in <n> ms"),
            ("user 'eve' from 10.0.0.7:443", "user <text> from <ip>"),
            ("src: /10.0.0.7:443 dest: fe80::1:2", "src: /<ip> dest: <ip>"),
            ("trace 0af7651916cd43dd8448eb211c80319c done", "trace <id> done"),
            ("550e8400-e29b-41d4-a716-446655440000", "<id>"),
            ("at 0xffea4c8, flags=0x1;", "at <id>, flags=<id>;"),
            ("don't know  db-server-01, can't", "don't know db-server-<n>, can't"),
            ("size=10 id=-7 blk_-123", "size=<n> id=<n> blk_<n>"),
            (
                "2026-11-29T01:39:00.123Z GET /api/v1/orders/17/items 200",
                "<time> GET /api/v<n>/orders/<n>/items <n>",
            ),
            ("https://shop.example/cart?id=5.", "https://shop.example/cart?id=<n>."),
            ("took 12ms of 1,024KB", "took <n>ms of <n>,<n>KB"),
            ("from 10.0.0.7 () at", "from <ip> (<none>) at"),
            ("init() ok", "init() ok"),
            ("\u{1b}[31mred\nline", "[<n>mred line"),
            ("größe 5 „x“ \u{85}", "größe <n> „x“  "),
            ("\"never closed 5", "\"never closed <n>"),
            ("", ""),
            (" \t\n", ""),
        ] {
            assert_eq!(masked(line), expected, "{line}");
        }
    }

    #[test]
    fn marks_of_different_names_are_alike() {
        let hashes = |line: &str| {
            let mut masked = Masked::default();
            masked.read(line);
            masked.tokens.iter().map(|token| token.hash).collect::<Vec<_>>()
        };
        assert_eq!(hashes("session 0af765 of 10.0.0.1"), hashes("session 123456 of 7"));
        assert_ne!(hashes("session 5"), hashes("session <n>"));
        assert_ne!(hashes("abcdefgh"), hashes("abcdefgi"));
        assert_ne!(hashes("ab"), hashes("ba"));
    }

    #[test]
    fn a_line_is_bounded() {
        let mut masked = Masked::default();
        for line in ["'".repeat(1_000_000), "=".repeat(1_000_000), "1/".repeat(500_000), "é".repeat(500_000)]
        {
            masked.read(&line);
            assert!(masked.tokens.len() <= TOKENS_MAX + 2);
            assert!(masked.bytes.len() <= MESSAGE_BYTES_MAX + 1);
        }
    }
}
