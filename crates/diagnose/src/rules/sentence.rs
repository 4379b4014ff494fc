//! Sentences with placeholders, and how values are shown in them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use quell_incident::alert::Untrusted;
use quell_incident::report::Subject;

use super::condition::{Number, SignalKind, Values};
use super::file::Unit;

/// A sentence at the most, in bytes, as it stands in the rule.
const SENTENCE_BYTES_MAX: usize = 500;
/// Telemetry's text in a sentence at the most, in characters.
const NAME_CHARACTERS_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Service,
    Instance,
    Part,
    Value { signal: String, field: String },
}

/// A sentence whose placeholders are known to exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sentence(Vec<Piece>);

/// What fills the placeholders.
pub(crate) struct Fill<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) values: &'a BTreeMap<&'a str, Values>,
    pub(crate) units: &'a BTreeMap<String, Unit>,
}

impl Sentence {
    pub(crate) fn compile(text: &str, signals: &BTreeMap<String, SignalKind>) -> Result<Self, String> {
        if text.trim().is_empty() || text.len() > SENTENCE_BYTES_MAX {
            return Err(format!("must have 1 to {SENTENCE_BYTES_MAX} bytes"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((name, after)) = behind.split_once('}') else {
                return Err("has a `{` without its `}`".to_owned());
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(placeholder(name, signals)?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    pub(crate) fn fill(&self, fill: &Fill<'_>) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Service => name_of(&fill.subject.service, "an unknown service"),
                Piece::Instance => name_of(&fill.subject.instance, "an unknown instance"),
                Piece::Part => name_of(&fill.subject.part, "an unknown part"),
                Piece::Value { signal, field } => {
                    let unit = fill.units.get(signal).copied().unwrap_or_default();
                    let value = fill
                        .values
                        .get(signal.as_str())
                        .and_then(|values| values.get(field.as_str()).copied());
                    value.map_or_else(|| "unknown".to_owned(), |value| shown(value, field, unit))
                }
            })
            .collect()
    }
}

/// As it was written, with its placeholders.
impl fmt::Display for Sentence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => formatter.write_str(text),
            Piece::Service => formatter.write_str("{service}"),
            Piece::Instance => formatter.write_str("{instance}"),
            Piece::Part => formatter.write_str("{part}"),
            Piece::Value { signal, field } => write!(formatter, "{{{signal}.{field}}}"),
        })
    }
}

fn placeholder(name: &str, signals: &BTreeMap<String, SignalKind>) -> Result<Piece, String> {
    match name {
        "service" => Ok(Piece::Service),
        "instance" => Ok(Piece::Instance),
        "part" => Ok(Piece::Part),
        _ => {
            let known = name
                .split_once('.')
                .filter(|(signal, field)| signals.get(*signal).is_some_and(|kind| kind.is_number(field)));
            let Some((signal, field)) = known else {
                return Err(format!(
                    "has the unknown placeholder `{{{name}}}`: use {{service}}, {{instance}}, {{part}} or a field of a signal"
                ));
            };
            Ok(Piece::Value { signal: signal.to_owned(), field: field.to_owned() })
        }
    }
}

/// Telemetry's name for people: control characters replaced, cut.
pub(crate) fn name_of(text: &str, unknown: &str) -> String {
    if text.is_empty() {
        return unknown.to_owned();
    }
    Untrusted::new(text).for_people().chars().take(NAME_CHARACTERS_MAX).collect()
}

fn shown(number: Number, field: &str, unit: Unit) -> String {
    let value = match number {
        Number::Flag(flag) => return flag.to_string(),
        Number::Double(value) => value,
    };
    match field {
        "ratio" | "score" | "burst" | "count" => rounded(value),
        "per_minute" => format!("{} a minute", rounded(value)),
        // A counter of seconds grows by seconds per second, which is how processor time is told.
        "rate" if unit == Unit::Seconds => with_unit(value, unit),
        "rate" | "slope" => format!("{}/s", with_unit(value, unit)),
        _ => with_unit(value, unit),
    }
}

/// A value in its unit, rounded for people.
pub(crate) fn with_unit(value: f64, unit: Unit) -> String {
    match unit {
        Unit::None => rounded(value),
        Unit::Seconds => format!("{} s", rounded(value)),
        Unit::Epoch => Timestamp::from_second(value as i64)
            .map_or_else(|_| rounded(value), |instant| instant.to_string()),
        Unit::Bytes => {
            let steps = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
            let step = steps.into_iter().find(|(size, _)| value.abs() >= *size);
            step.map_or_else(
                || format!("{} B", rounded(value)),
                |(size, name)| format!("{} {name}", rounded(value / size)),
            )
        }
    }
}

/// Three significant digits, and all digits of what is larger.
pub(crate) fn rounded(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    let decimals = usize::try_from(digits.clamp(0, 6)).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if !text.contains('.') {
        return text;
    }
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    if matches!(trimmed, "-0" | "") { "0".to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_for_people() {
        for (value, expected) in [
            (0.0, "0"),
            (0.012345, "0.0123"),
            (1.0, "1"),
            (12.345, "12.3"),
            (123_456.7, "123457"),
            (-0.5, "-0.5"),
            (1e-12, "0"),
            (-1e-12, "0"),
        ] {
            assert_eq!(rounded(value), expected);
        }
        assert_eq!(with_unit(612_345_678.0, Unit::Bytes), "612 MB");
        assert_eq!(with_unit(0.0, Unit::Epoch), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn unknown_placeholders_are_refused() {
        let signals = BTreeMap::from([("memory".to_owned(), SignalKind::Metric)]);
        assert!(Sentence::compile("{service} at {memory.last}", &signals).is_ok());
        for bad in ["{host}", "{memory.lst}", "{memory.present}", "{other.last}", "{service", ""] {
            assert!(Sentence::compile(bad, &signals).is_err(), "{bad}");
        }
    }
}
