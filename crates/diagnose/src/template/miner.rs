//! Drain: a tree of fixed depth over masked tokens, one miner for the lines of one writer.
//!
//! A line is compared only with templates of as many tokens that begin like it (depth 4: the root, the number of tokens, the
//! first two of them); the most similar one takes it if half of the tokens are equal, and what differs becomes `<*>`. Lines that
//! differ in one of the first two tokens would never meet, so templates that are told apart by nothing else are joined at the
//! end where that place has many values: a name of a user at the beginning of a message is not an event of its own.
//!
//! The crate `logdrain` does the same online. It reads the clock, takes its masks as regular expressions over the whole line, and
//! with them was slower and less accurate than this with masks over bytes; `cargo xtask bench templates` measures both.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::mask::{ANY, Masked, joined, write};

/// Tokens that the tree tells apart, besides the number of tokens.
const PREFIX_TOKENS: usize = 2;
/// Share of equal tokens from which a line belongs to a template, in hundredths.
const SIMILARITY_PERCENT: usize = 50;
/// Templates that begin alike at the most; a further one is any line that begins so. Bounds the time for one line.
const ALIKE_MAX: usize = 100;
/// Values of one of the first tokens from which it is taken for a variable.
const VALUES_MIN: usize = 8;

/// One template while lines are added.
#[derive(Debug)]
struct Template {
    /// By token; 0 where any token may stand.
    hashes: Vec<u64>,
    tokens: Vec<Box<[u8]>>,
    spaced: Vec<bool>,
    /// Tokens that may be any.
    open: usize,
    lines: u64,
    /// Takes every line that begins like it.
    rest: bool,
}

/// Mines templates from the lines of one writer. Deterministic: the same lines in the same order give the same templates.
#[derive(Debug, Default)]
pub struct Miner {
    // Never iterated, so its order decides nothing. Keyed by the standard hash, since lines are telemetry's text.
    leaves: HashMap<u64, Vec<usize>>,
    templates: Vec<Template>,
    line: Masked,
}

/// What was mined.
#[derive(Debug)]
pub struct Mined {
    groups: Vec<usize>,
    texts: Vec<String>,
}

impl Miner {
    /// Adds a line and tells which template it belongs to for now: a handle for [`Mined`]. None when it would need a further
    /// template and may not have one.
    pub fn add(&mut self, line: &str, may_grow: bool) -> Option<usize> {
        self.line.read(line);
        let leaf = self.leaves.entry(leaf_of(&self.line)).or_default();
        let found = most_similar(&self.templates, leaf, &self.line);
        let index = match found {
            Some(index) => index,
            None if leaf.len() >= ALIKE_MAX => leaf.last().copied()?,
            None if !may_grow => return None,
            None => {
                leaf.push(self.templates.len());
                let rest = leaf.len() == ALIKE_MAX;
                self.templates.push(Template::of(&self.line, rest));
                self.templates.len() - 1
            }
        };
        self.templates.get_mut(index)?.take(&self.line);
        Some(index)
    }

    /// Templates so far.
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether no line was added.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// Joins what is one template after all, and writes the templates for people.
    pub fn finish(mut self) -> Mined {
        for place in 0..PREFIX_TOKENS {
            self.open_variable(place);
        }
        let mut group_of_key: BTreeMap<u64, usize> = BTreeMap::new();
        let mut mined = Mined { groups: Vec::new(), texts: Vec::new() };
        let mut most = Vec::new();
        for template in &self.templates {
            let group = *group_of_key.entry(template.key()).or_insert_with(|| {
                mined.texts.push(String::new());
                most.push(0);
                mined.texts.len() - 1
            });
            mined.groups.push(group);
            // The one with the most lines speaks for all; of equal ones the first.
            if let (Some(most), Some(text)) = (most.get_mut(group), mined.texts.get_mut(group))
                && template.lines > *most
            {
                *most = template.lines;
                *text = template.text();
            }
        }
        mined
    }

    /// Opens a place of the beginning where templates that are equal otherwise have many values.
    fn open_variable(&mut self, place: usize) {
        let mut alike: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, template) in self.templates.iter().enumerate() {
            let constant = template
                .tokens
                .iter()
                .enumerate()
                .filter(|(at, token)| *at != place && token.iter().any(u8::is_ascii_alphabetic));
            // Short messages have little else that could be equal.
            if template.hashes.get(place).is_some_and(|hash| *hash != 0) && constant.count() >= 2 {
                alike.entry(template.key_without(place)).or_default().push(index);
            }
        }
        let values = |indexes: &Vec<usize>| {
            let hashes = indexes.iter().filter_map(|index| self.templates.get(*index)?.hashes.get(place));
            hashes.collect::<BTreeSet<_>>().len()
        };
        alike.retain(|_, indexes| values(indexes) >= VALUES_MIN);
        for index in alike.into_values().flatten() {
            if let Some(template) = self.templates.get_mut(index) {
                template.open_at(place);
            }
        }
    }
}

impl Mined {
    /// The number of the template that a handle of [`Miner::add`] belongs to in the end.
    pub fn group(&self, handle: usize) -> Option<usize> {
        self.groups.get(handle).copied()
    }

    /// The templates by their numbers, for people.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

fn leaf_of(line: &Masked) -> u64 {
    let first = line.tokens.iter().take(PREFIX_TOKENS);
    first.fold(line.tokens.len() as u64, |key, token| joined(key, if token.masked { 1 } else { token.hash }))
}

fn most_similar(templates: &[Template], leaf: &[usize], line: &Masked) -> Option<usize> {
    let count = line.tokens.len();
    let mut best: Option<(usize, usize, usize)> = None;
    for index in leaf {
        let Some(template) = templates.get(*index).filter(|template| template.hashes.len() == count) else {
            continue;
        };
        let equal =
            template.hashes.iter().zip(&line.tokens).filter(|(hash, token)| **hash == token.hash).count();
        if best.is_none_or(|(most, open, _)| (equal, template.open) > (most, open)) {
            best = Some((equal, template.open, *index));
        }
        if equal == count {
            break;
        }
    }
    best.filter(|(equal, ..)| equal * 100 >= count * SIMILARITY_PERCENT).map(|(.., index)| index)
}

impl Template {
    fn of(line: &Masked, rest: bool) -> Self {
        let mut template = Self {
            hashes: line.tokens.iter().map(|token| token.hash).collect(),
            tokens: line.tokens.iter().map(|token| line.bytes_of(token).into()).collect(),
            spaced: line.tokens.iter().map(|token| token.spaced).collect(),
            open: 0,
            lines: 0,
            rest,
        };
        if template.rest {
            (PREFIX_TOKENS..template.tokens.len()).for_each(|place| template.open_at(place));
        }
        template
    }

    fn take(&mut self, line: &Masked) {
        self.lines += 1;
        for (place, token) in line.tokens.iter().enumerate() {
            if self.hashes.get(place).is_some_and(|hash| *hash != 0 && *hash != token.hash) {
                self.open_at(place);
            }
        }
    }

    fn open_at(&mut self, place: usize) {
        if let (Some(hash), Some(token)) = (self.hashes.get_mut(place), self.tokens.get_mut(place)) {
            self.open += usize::from(*hash != 0);
            *hash = 0;
            *token = Box::from([ANY]);
        }
    }

    /// Equal for templates that say the same: places without text of their own in a row are one, so that lists of different
    /// lengths are the same template.
    fn key(&self) -> u64 {
        let mut key = 0;
        let mut in_row = false;
        for (hash, token) in self.hashes.iter().zip(&self.tokens) {
            let free = token.iter().all(|byte| *byte <= ANY);
            if !(free && in_row) {
                key = joined(key, if free { 1 } else { *hash });
            }
            in_row = free;
        }
        key
    }

    fn key_without(&self, place: usize) -> u64 {
        self.hashes.iter().enumerate().fold(self.hashes.len() as u64, |key, (at, hash)| {
            joined(key, if at == place { 1 } else { *hash })
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (token, spaced) in self.tokens.iter().zip(&self.spaced) {
            write(&mut text, token, *spaced);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mined(lines: impl IntoIterator<Item = String>) -> (Vec<Option<usize>>, Vec<String>) {
        let mut miner = Miner::default();
        let handles: Vec<_> = lines.into_iter().map(|line| miner.add(&line, true).unwrap()).collect();
        let mined = miner.finish();
        (handles.into_iter().map(|handle| mined.group(handle)).collect(), mined.texts().to_vec())
    }

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn lines_of_one_message_are_one_template() {
        let (groups, texts) = mined(owned(&[
            "Failed password for root from 10.0.0.1 port 4242 ssh2",
            "session opened for user root",
            "Failed password for admin from 10.0.0.2 port 17 ssh2",
            "session closed for user root",
            "Failed password for eve from 10.0.0.3 port 18 ssh2",
        ]));
        assert_eq!(groups, [Some(0), Some(1), Some(0), Some(2), Some(0)]);
        assert_eq!(
            texts,
            [
                "Failed password for <*> from <ip> port <n> ssh<n>",
                "session opened for user root",
                "session closed for user root"
            ]
        );
    }

    #[test]
    fn a_name_at_the_beginning_is_a_variable_once_it_has_many_values() {
        let lines = |count: usize| {
            (0..count).map(|at| {
                let name = char::from(b'a' + at as u8);
                format!("{name}{name} has been locked out of the system")
            })
        };
        let (groups, texts) = mined(lines(20));
        assert!(groups.iter().all(|group| *group == Some(0)), "{groups:?}");
        assert_eq!(texts, ["<*> has been locked out of the system"]);
        assert_eq!(mined(lines(5)).1.len(), 5);
        // Nothing else says that these are one.
        assert_eq!(mined((0..20).map(|at| format!("{}", char::from(b'a' + at)))).1.len(), 20);
    }

    #[test]
    fn lists_of_different_lengths_are_one_template() {
        let (groups, texts) = mined(owned(&["delete blocks 1", "delete blocks 1 2 3", "delete blocks 1 2"]));
        assert_eq!(groups, [Some(0), Some(0), Some(0)]);
        assert_eq!(texts, ["delete blocks <n>"]);
    }

    #[test]
    fn a_miner_is_bounded_and_says_so() {
        let word = |number: usize| {
            let digits = [number / 676 % 26, number / 26 % 26, number % 26];
            digits.iter().map(|digit| char::from(b'a' + *digit as u8)).collect::<String>()
        };
        let mut miner = Miner::default();
        for number in 0..10_000 {
            let may_grow = miner.len() < 50;
            let line = [word(number), word(number / 7), word(number / 3), word(number * 31)].join(" ");
            let taken = miner.add(&line, may_grow).is_some();
            assert!(taken || !may_grow);
        }
        assert_eq!(miner.len(), 50);
        assert_eq!(miner.add("of another kind", false), None);
        // What begins alike shares templates, however much of it there is.
        let mut miner = Miner::default();
        for number in 0..10_000 {
            let tail = [word(number), word(number * 31), word(number * 57), word(number * 91)].join(" ");
            miner.add(&format!("begins alike {tail}"), true).unwrap();
        }
        assert!(miner.len() <= ALIKE_MAX, "{}", miner.len());
    }
}
