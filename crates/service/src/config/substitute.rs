//! `${NAME}` in the configuration file.
//!
//! The YAML reader substitutes by itself, with the rules of compose files, which are right in plain and in quoted values
//! but too lenient for a configuration in two points: an unset variable becomes an empty text, and a bare `$name`, as it
//! occurs in passwords, is taken for a variable. So the text is prepared: `${NAME}` becomes `${NAME?}`, which must be set,
//! and a lone `$` becomes `$$`, which stays a `$`. Substitution itself stays where the values are, so that a value can
//! never become YAML.

/// A prepared text, and where characters were added to it.
pub(super) struct Prepared {
    pub(super) text: String,
    /// (line, column) from 1 of every character that was added, in the coordinates of the prepared text.
    added: Vec<(u64, u64)>,
}

impl Prepared {
    /// The column in the original text of a place in the prepared one.
    pub(super) fn original_column(&self, line: u64, column: u64) -> u64 {
        let before = self.added.iter().filter(|(at, added)| *at == line && *added < column).count();
        column.saturating_sub(before as u64)
    }
}

/// Prepares `text` for substitution.
pub(super) fn prepare(text: &str) -> Prepared {
    let mut prepared =
        Writer { text: String::with_capacity(text.len() + 64), added: Vec::new(), line: 1, column: 1 };
    let mut rest = text.char_indices().peekable();
    while let Some((at, character)) = rest.next() {
        prepared.push(character);
        if character != '$' {
            continue;
        }
        match rest.peek() {
            Some((_, '$')) => {
                rest.next();
                prepared.push('$');
            }
            Some((_, '{')) => {
                let name_bytes = text[at + 2..]
                    .bytes()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                    .count();
                // The brace and the name; each is one byte.
                for _ in 0..=name_bytes {
                    if let Some((_, character)) = rest.next() {
                        prepared.push(character);
                    }
                }
                if name_bytes > 0 && rest.peek().is_some_and(|(_, next)| *next == '}') {
                    prepared.add('?');
                }
            }
            _ => prepared.add('$'),
        }
    }
    Prepared { text: prepared.text, added: prepared.added }
}

struct Writer {
    text: String,
    added: Vec<(u64, u64)>,
    line: u64,
    column: u64,
}

impl Writer {
    fn push(&mut self, character: char) {
        self.text.push(character);
        if character == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
    }

    fn add(&mut self, character: char) {
        self.added.push((self.line, self.column));
        self.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_required_and_lone_dollars_stay() {
        for (text, prepared) in [
            ("a: ${NAME}", "a: ${NAME?}"),
            ("a: ${NAME:-x}", "a: ${NAME:-x}"),
            ("a: ${A:-${B}}", "a: ${A:-${B?}}"),
            ("a: pa$word$", "a: pa$$word$$"),
            ("a: $${NAME}", "a: $${NAME}"),
            ("a: $$", "a: $$"),
            ("a: ${}", "a: ${}"),
            ("a: ${é}", "a: ${é}"),
            ("a: ${", "a: ${"),
            ("ä: $é", "ä: $$é"),
        ] {
            assert_eq!(prepare(text).text, prepared);
        }
    }

    #[test]
    fn columns_are_those_of_the_original() {
        let text = "x: 1\na: {b: \"${ONE}\", c: \"${TWO}\", d: 1}\ne: 1\n";
        let prepared = prepare(text);
        let column_of_d =
            |text: &str| text.lines().nth(1).and_then(|line| line.find('d')).unwrap() as u64 + 1;
        assert_eq!(column_of_d(&prepared.text), column_of_d(text) + 2);
        assert_eq!(prepared.original_column(2, column_of_d(&prepared.text)), column_of_d(text));
        assert_eq!(prepared.original_column(3, 1), 1);
    }
}
