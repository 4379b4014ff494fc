//! Everything that is written goes through here: text is cleaned of what a terminal would obey, colours are left out where they
//! are not wanted, and a closed pipe is an error that ends the command quietly.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use comfy_table::{ContentArrangement, Table as Grid, presets};
use serde_json::Value;

use crate::args::Format;

/// Where a line goes: results to standard output, questions, notes and errors to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
        }
    }
}

/// One line of text in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Vec<(Look, String)>);

impl Line {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, look: Look, text: impl AsRef<str>) -> Self {
        self.0.push((look, text.as_ref().to_owned()));
        self
    }

    pub(crate) fn plain(self, text: impl AsRef<str>) -> Self {
        self.with(Look::Plain, text)
    }

    pub(crate) fn bold(self, text: impl AsRef<str>) -> Self {
        self.with(Look::Bold, text)
    }

    pub(crate) fn dim(self, text: impl AsRef<str>) -> Self {
        self.with(Look::Dim, text)
    }

    pub(crate) fn bad(self, text: impl AsRef<str>) -> Self {
        self.with(Look::Bad, text)
    }

    fn write(&self, colour: bool, to: &mut dyn Write) -> io::Result<()> {
        for (look, text) in &self.0 {
            let text = clean(text);
            match look {
                Look::Plain => to.write_all(text.as_bytes())?,
                _ if !colour || text.is_empty() => to.write_all(text.as_bytes())?,
                look => write!(to, "{}{text}\x1b[0m", look.code())?,
            }
        }
        to.write_all(b"\n")
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::new().plain(text)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self::new().plain(text)
    }
}

/// Lines that belong together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page(pub(crate) Vec<Line>);

impl Page {
    pub(crate) fn line(&mut self, line: impl Into<Line>) {
        self.0.push(line.into());
    }

    /// A heading with an empty line before it.
    pub(crate) fn heading(&mut self, line: Line) {
        if !self.0.is_empty() {
            self.line("");
        }
        self.0.push(line);
    }

    /// A name and its value; nothing when the value is empty.
    pub(crate) fn field(&mut self, indent: usize, name: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            let name = format!("{:indent$}{name:<10} ", "");
            self.0.push(Line::new().dim(name).plain(value));
        }
    }

    /// Text that may have several lines; empty ones are left out.
    pub(crate) fn paragraph(&mut self, indent: usize, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.line(format!("{:indent$}{}", "", line.trim_end()));
        }
    }
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<(Look, Vec<String>)>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, look: Look, cells: Vec<String>) {
        self.rows.push((look, cells.iter().map(|cell| clean(cell)).collect()));
    }

    pub(crate) fn page(&self) -> Page {
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        grid.set_header(&self.header);
        for (_, cells) in &self.rows {
            grid.add_row(cells);
        }
        grid.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        let looks = std::iter::once(Look::Bold).chain(self.rows.iter().map(|(look, _)| *look));
        let lines = grid.lines().zip(looks);
        Page(lines.map(|(line, look)| Line::new().with(look, line.trim_end())).collect())
    }
}

/// Where a command writes.
pub(crate) struct Output {
    out: Box<dyn Write + Send>,
    error: Box<dyn Write + Send>,
    out_colour: bool,
    error_colour: bool,
    format: Format,
}

impl Output {
    /// Standard output and standard error of this process, in colours where they are terminals and nobody objects (`NO_COLOR`).
    pub(crate) fn to_process(format: Format) -> Self {
        let (out, error) = (io::stdout(), io::stderr());
        Self {
            out_colour: AutoStream::choice(&out) != ColorChoice::Never,
            error_colour: AutoStream::choice(&error) != ColorChoice::Never,
            out: Box::new(out),
            error: Box::new(error),
            format,
        }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    fn of(&mut self, stream: Stream) -> (&mut dyn Write, bool) {
        match stream {
            Stream::Out => (&mut *self.out, self.out_colour),
            Stream::Error => (&mut *self.error, self.error_colour),
        }
    }

    pub(crate) fn line(&mut self, stream: Stream, line: &Line) -> io::Result<()> {
        let (to, colour) = self.of(stream);
        line.write(colour, to)
    }

    pub(crate) fn page(&mut self, stream: Stream, page: &Page) -> io::Result<()> {
        let (to, colour) = self.of(stream);
        // One write: a reader that goes away in the middle is noticed, and lines of two processes do not mix.
        let mut text = Vec::new();
        page.0.iter().try_for_each(|line| line.write(colour, &mut text))?;
        to.write_all(&text)?;
        to.flush()
    }

    /// A note beside the result.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.line(Stream::Error, &Line::new().with(Look::Warn, "note: ").plain(text))
    }

    /// A question, which stays on its line.
    pub(crate) fn ask(&mut self, stream: Stream, question: &str) -> io::Result<()> {
        let (to, _) = self.of(stream);
        to.write_all(clean(question).as_bytes())?;
        to.flush()
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// A document as the API gave it, over several lines.
    pub(crate) fn json(&mut self, document: &Value) -> io::Result<()> {
        self.raw(format!("{}\n", harmless_json(&format!("{document:#}"))).as_bytes())
    }

    /// A document on one line, for a stream of them.
    pub(crate) fn json_line(&mut self, document: &Value) -> io::Result<()> {
        self.raw(format!("{}\n", harmless_json(&document.to_string())).as_bytes())
    }
}

/// What a terminal obeys, what makes text look like another text, and what nobody sees: control and format characters, soft hyphens, tags,
/// those that turn the direction, fillers and selectors of variants. The standard library knows most of them by their category.
fn is_harmful(character: char) -> bool {
    let is_selector =
        matches!(character, '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}');
    let is_filler = matches!(
        character,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}'
    );
    if is_selector || is_filler || character.is_control() {
        return true;
    }
    if character.is_ascii() || (character.is_whitespace() && !matches!(character, '\u{2028}' | '\u{2029}')) {
        return false;
    }
    // A letter before it, since a mark that stands alone is escaped although it is seen.
    ['a', character].iter().collect::<String>().escape_debug().count() > 2
}

/// Text for a terminal, on one line: blanks become spaces, harmful characters go.
pub(crate) fn clean(text: &str) -> String {
    let is_blank = |character: char| {
        matches!(character, '\n' | '\r' | '\t') || (character.is_whitespace() && !character.is_control())
    };
    let tamed = text.chars().map(|character| if is_blank(character) { ' ' } else { character });
    tamed.filter(|character| !is_harmful(*character)).collect()
}

/// The same JSON, in which harmful characters are written as escapes. Outside of texts JSON has none but line ends.
fn harmless_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && is_harmful(character) {
            // Beyond the first plane JSON has two halves.
            for half in character.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{half:04x}"));
            }
        } else {
            safe.push(character);
        }
    }
    safe
}

/// The text, cut with an ellipsis when it is longer than `characters_max`.
pub(crate) fn shorten(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(characters_max.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_terminal_is_given_nothing_to_obey() {
        let hostile = "disk\x1b]0;owned\x07 full\u{9b}31m\u{202e}lluf\r\nnext\tword\x7f";
        assert_eq!(clean(hostile), "disk]0;owned full31mlluf  next word");
        let mut written = Vec::new();
        Line::new().bad(hostile).write(true, &mut written).unwrap();
        assert_eq!(written.iter().filter(|byte| **byte == 0x1b).count(), 2, "only our own codes");
    }

    #[test]
    fn json_stays_the_same_document_without_harmful_characters() {
        let document = json!({"title": "a\u{9b}31m \u{7f} \x1b[2J \u{202e} ü", "lines": "one\ntwo"});
        let text = harmless_json(&format!("{document:#}"));
        assert!(!text.chars().any(|character| character != '\n' && is_harmful(character)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
    }

    /// Every character that is not seen or that changes what is seen, by the ranges of Unicode's own tables.
    #[test]
    fn nothing_that_is_not_seen_reaches_a_terminal() {
        let ranges = [
            (0x0, 0x1f),
            (0x7f, 0x9f),
            (0xad, 0xad),
            (0x34f, 0x34f),
            (0x600, 0x605),
            (0x61c, 0x61c),
            (0x6dd, 0x6dd),
            (0x115f, 0x1160),
            (0x17b4, 0x17b5),
            (0x180b, 0x180f),
            (0x200b, 0x200f),
            (0x2028, 0x202e),
            (0x2060, 0x206f),
            (0x3164, 0x3164),
            (0xfe00, 0xfe0f),
            (0xfeff, 0xfeff),
            (0xffa0, 0xffa0),
            (0xfff9, 0xfffb),
            (0x110bd, 0x110bd),
            (0x1d173, 0x1d17a),
            (0xe0000, 0xe01ef),
        ];
        for character in ranges.into_iter().flat_map(|(first, last)| first..=last).filter_map(char::from_u32)
        {
            let text = format!("disk{character}full");
            assert!(matches!(clean(&text).as_str(), "diskfull" | "disk full"), "{:x}", u32::from(character));
            let json = harmless_json(&json!({"title": text}).to_string());
            assert!(!json.contains(character), "{:x}", u32::from(character));
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["title"], text);
        }
        for seen in
            ["größer", "日本語", "e\u{301}", "Ελλάδα", "हिन्दी", "ภาษาไทย", "😀 ok", "a b", "→ …", "العربية"]
        {
            assert_eq!(clean(seen), seen);
        }
        assert_eq!(clean("a\u{a0}b\u{3000}c"), "a b c");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("größer", 6), "größer");
        assert_eq!(shorten("größer als", 6), "größe…");
        assert_eq!(shorten("two words", 5), "two…");
    }

    #[test]
    fn a_row_keeps_its_look_and_its_line() {
        let mut table = Table::new(&["ID", "TITLE"]);
        table.row(Look::Dim, vec!["1".to_owned(), "first\nsecond".to_owned()]);
        table.row(Look::Plain, vec!["22".to_owned(), String::new()]);
        let mut text = Vec::new();
        table.page().0.iter().for_each(|line| line.write(false, &mut text).unwrap());
        assert_eq!(String::from_utf8(text).unwrap(), "ID  TITLE\n1   first second\n22\n");
    }
}
