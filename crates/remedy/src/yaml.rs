//! Reading YAML in a way that finds mistakes: each one with its file, line, column and field, and the nearest known name.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location, Options};

/// A file larger than this is refused: runbooks and inventories are written by people.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// One mistake in a runbook or an inventory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: `{field}`: {why}")]
pub struct Mistake {
    /// The file, by the name that it was given as.
    pub file: String,
    /// Its line, from 1; 0 when the mistake is in the file as a whole.
    pub line: u64,
    /// Its column, from 1; 0 when the mistake is in the file as a whole.
    pub column: u64,
    /// The field.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

/// All mistakes that were found, so that they can be mended in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            write!(formatter, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

/// Collects the mistakes of one file.
pub(crate) struct Faults<'a> {
    file: &'a str,
    found: Vec<Mistake>,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(file: &'a str) -> Self {
        Self { file, found: Vec::new() }
    }

    pub(crate) fn add(&mut self, at: Location, field: impl Into<String>, why: impl Into<String>) {
        self.found.push(Mistake {
            file: self.file.to_owned(),
            line: at.line(),
            column: at.column(),
            field: field.into(),
            why: why.into(),
        });
    }

    /// `value`, unless a mistake was found.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Mistakes> {
        if self.found.is_empty() { Ok(value) } else { Err(Mistakes(self.found)) }
    }
}

/// Reads a document; unknown keys are mistakes where its type says so.
pub(crate) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Mistake> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Mistake {
            file: file.to_owned(),
            line: 0,
            column: 0,
            field: ".".to_owned(),
            why: format!("the file is larger than {FILE_BYTES_MAX} bytes"),
        });
    }
    let mut options = Options::default();
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| mistake(file, text, &error))
}

fn mistake(file: &str, text: &str, error: &Error) -> Mistake {
    let error = error.without_snippet();
    let at = error.location().unwrap_or(Location::UNKNOWN);
    let (field, why) = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            (field.clone(), unknown("key", field, expected.iter().copied()))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            (key_of_line(text, at), unknown("value", variant, expected.iter().copied()))
        }
        Error::SerdeMissingField { field, .. } => {
            ((*field).to_owned(), "is missing; it has no default".to_owned())
        }
        Error::DuplicateMappingKey { key, .. } => {
            (key.clone().unwrap_or_else(|| key_of_line(text, at)), "is there twice".to_owned())
        }
        other => (key_of_line(text, at), first_line(&other.to_string())),
    };
    Mistake { file: file.to_owned(), line: at.line(), column: at.column(), field, why }
}

/// The first line of a message, without the place, which is said in front of it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("cannot be read");
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

/// The key that stands before the place of a mistake; `.` where there is none.
fn key_of_line(text: &str, at: Location) -> String {
    let line = usize::try_from(at.line()).ok().and_then(|line| line.checked_sub(1));
    let line = line.and_then(|line| text.lines().nth(line)).unwrap_or_default();
    let before: String = line.chars().take(usize::try_from(at.column()).unwrap_or(0)).collect();
    let before = before.rsplit_once(": ").map_or(line, |(before, _)| before);
    let key = before.rsplit([',', '{', ' ']).next().unwrap_or_default();
    let key = key.split(':').next().unwrap_or_default();
    if key.is_empty() { ".".to_owned() } else { key.chars().take(60).collect() }
}

/// Says that a name is not known, and which known one is nearest or, failing that, which there are.
pub(crate) fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let shown: String = given.chars().take(80).collect();
    match nearest(given, known.clone()) {
        Some(nearest) => format!("unknown {what} `{shown}`; did you mean `{nearest}`?"),
        None => {
            let all: Vec<_> = known.take(20).collect();
            format!("unknown {what} `{shown}`; known are: {}", all.join(", "))
        }
    }
}

fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance_max = (given.chars().count() / 3).max(2);
    known
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, name)| name)
}
