//! Templates of log messages, and which of them are new, more frequent than before, or gone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_incident::evidence::LogLine;
use serde::Serialize;

use crate::series::seconds;

/// Of one message at the most so many bytes are looked at.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2_000;
/// A template at the most, in characters.
const TEMPLATE_CHARACTERS_MAX: usize = 200;
/// Different templates at the most; lines of further ones are not counted.
const TEMPLATES_MAX: usize = 2_000;
/// A sample line at the most, in characters.
const SAMPLE_CHARACTERS_MAX: usize = 300;
/// Sample lines of one template.
pub(crate) const SAMPLES_MAX: usize = 3;
/// How surprising a count has to be to be called a burst: twice the log-likelihood ratio; 10.8 is one chance in a thousand.
const SURPRISE_MIN: f64 = 10.8;
/// Lines that would have been expected for their absence to be told.
const VANISHED_EXPECTED_MIN: f64 = 5.0;

/// What became of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateClass {
    /// It did not occur before.
    New,
    /// It occurs more often than before.
    Burst,
    /// It occurred before and does so no more.
    Vanished,
}

impl TemplateClass {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Burst => "burst",
            Self::Vanished => "vanished",
        }
    }
}

/// A template whose frequency changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TemplateChange {
    /// New, burst or vanished.
    pub class: TemplateClass,
    /// The service that wrote it; telemetry's text.
    pub service: String,
    /// The level of its lines in lower case.
    pub level: String,
    /// The message with its changing parts masked; telemetry's text.
    pub template: String,
    /// Lines in the fault window.
    pub count: u64,
    /// Lines before it.
    pub before: u64,
    /// Lines that the time before lets expect in the fault window.
    pub expected: f64,
    /// How surprising that is; templates are sorted by it. Errors count double.
    pub surprise: f64,
    /// Some of the lines, cleaned for people.
    pub samples: Vec<String>,
    /// Where its lines are among those that were given.
    #[serde(skip)]
    pub(crate) lines: Vec<usize>,
}

/// The time before the fault and the fault window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// The first instant that was looked at.
    pub from: Timestamp,
    /// When the fault began.
    pub fault_from: Timestamp,
    /// The last instant.
    pub to: Timestamp,
}

impl Split {
    /// Seconds before the fault; 0 when nothing before it was looked at.
    pub fn before_seconds(&self) -> f64 {
        (seconds(self.fault_from) - seconds(self.from)).max(0.0)
    }

    /// Seconds of the fault window, at least one.
    pub fn fault_seconds(&self) -> f64 {
        (seconds(self.to) - seconds(self.fault_from)).max(1.0)
    }

    /// How many lines are to be expected in the fault window, from how many there were before it. At least half a line, so that
    /// one line after silence is no surprise.
    pub fn expected(&self, before: u64) -> f64 {
        let before_seconds = self.before_seconds();
        if before_seconds <= 0.0 {
            return 0.5;
        }
        (before as f64 / before_seconds * self.fault_seconds()).max(0.5)
    }
}

#[derive(Default)]
struct Tally {
    count: u64,
    before: u64,
    fault_lines: Vec<usize>,
    before_lines: Vec<usize>,
}

/// Which templates changed, the most surprising first. Lines may come in any order; the answer does not depend on it.
pub fn changes(lines: &[LogLine], split: Split) -> Vec<TemplateChange> {
    let mut tallies: BTreeMap<(String, String, String), Tally> = BTreeMap::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.at <= split.to) {
        let key = (line.service.clone(), line.level.to_lowercase(), template(&line.message));
        if tallies.len() >= TEMPLATES_MAX && !tallies.contains_key(&key) {
            continue;
        }
        let tally = tallies.entry(key).or_default();
        let (count, kept) = if line.at >= split.fault_from {
            (&mut tally.count, &mut tally.fault_lines)
        } else {
            (&mut tally.before, &mut tally.before_lines)
        };
        *count += 1;
        kept.push(index);
    }
    let mut changes: Vec<TemplateChange> = tallies
        .into_iter()
        .filter_map(|((service, level, template), tally)| {
            change(service, level, template, tally, lines, split)
        })
        .collect();
    changes.sort_by(|one, other| {
        let key = |change: &TemplateChange| (change.service.clone(), change.template.clone());
        other.surprise.total_cmp(&one.surprise).then_with(|| key(one).cmp(&key(other)))
    });
    changes
}

fn change(
    service: String,
    level: String,
    template: String,
    tally: Tally,
    lines: &[LogLine],
    split: Split,
) -> Option<TemplateChange> {
    let expected = split.expected(tally.before);
    let observed = tally.count as f64;
    let logs = if tally.count > 0 { observed * (observed / expected).ln() } else { 0.0 };
    let ratio = 2.0 * (logs - (observed - expected));
    let severe = matches!(level.as_str(), "error" | "fatal" | "critical");
    let surprise = if severe { 2.0 * ratio } else { ratio };
    let class = if tally.count == 0 {
        (split.before_seconds() > 0.0 && expected >= VANISHED_EXPECTED_MIN).then_some(TemplateClass::Vanished)
    } else if tally.before == 0 && split.before_seconds() > 0.0 {
        (tally.count >= 2 || severe).then_some(TemplateClass::New)
    } else {
        (observed > 2.0 * expected && surprise >= SURPRISE_MIN).then_some(TemplateClass::Burst)
    }?;
    let kept = if tally.count > 0 { tally.fault_lines } else { tally.before_lines };
    let samples = kept.iter().filter_map(|index| lines.get(*index)).take(SAMPLES_MAX);
    let samples = samples.map(|line| cleaned(&line.message, SAMPLE_CHARACTERS_MAX)).collect();
    Some(TemplateChange {
        class,
        service,
        level,
        template,
        count: tally.count,
        before: tally.before,
        expected,
        surprise,
        samples,
        lines: kept,
    })
}

/// A message with what changes from line to line masked: quoted text, numbers, long ids.
pub fn template(message: &str) -> String {
    let message = head(message, MESSAGE_BYTES_MAX);
    let mut masked = String::with_capacity(message.len().min(256));
    let mut characters = message.chars().peekable();
    let mut word = String::new();
    while let Some(character) = characters.next() {
        if character.is_alphanumeric() || matches!(character, '_' | '-' | '.' | ':' | '/') {
            word.push(character);
            continue;
        }
        mask_word(&mut word, &mut masked);
        match character {
            '"' | '\'' => {
                // A quote that is never closed is an apostrophe.
                let quoted: String = characters.clone().take_while(|next| *next != character).collect();
                let closed = characters.clone().nth(quoted.chars().count()) == Some(character);
                if closed {
                    masked.push_str("<text>");
                    characters.by_ref().take(quoted.chars().count() + 1).for_each(drop);
                } else {
                    masked.push(character);
                }
            }
            _ if character.is_whitespace() || character.is_control() => {
                if !masked.ends_with(' ') {
                    masked.push(' ');
                }
            }
            _ => masked.push(character),
        }
    }
    mask_word(&mut word, &mut masked);
    masked.trim().chars().take(TEMPLATE_CHARACTERS_MAX).collect()
}

fn mask_word(word: &mut String, masked: &mut String) {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hexadecimal = |c: char| c.is_ascii_hexdigit() || c == '-';
    if digits == 0 {
        masked.push_str(word);
    } else if word.len() >= 8 && digits >= 2 && word.chars().all(hexadecimal) {
        masked.push_str("<id>");
    } else {
        let mut in_number = false;
        for (index, character) in word.char_indices() {
            let rest = word.get(index + character.len_utf8()..).unwrap_or_default();
            let point = in_number && character == '.' && rest.starts_with(|c: char| c.is_ascii_digit());
            if character.is_ascii_digit() || point {
                if !in_number {
                    masked.push_str("<n>");
                }
                in_number = true;
            } else {
                in_number = false;
                masked.push(character);
            }
        }
    }
    word.clear();
}

/// Telemetry's text for people: control characters replaced, cut.
pub(crate) fn cleaned(text: &str, characters_max: usize) -> String {
    text.chars().take(characters_max).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A line of samples, cleaned for people.
pub(crate) fn sample(message: &str) -> String {
    cleaned(message, SAMPLE_CHARACTERS_MAX)
}

/// The beginning of a text, cut between characters.
pub(crate) fn head(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn line(second: i64, level: &str, message: &str) -> LogLine {
        LogLine {
            at: at(second),
            level: level.to_owned(),
            service: "orders".to_owned(),
            instance: String::new(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn what_changes_is_masked() {
        for (message, expected) in [
            ("order 12345 accepted in 8.5 ms", "order <n> accepted in <n> ms"),
            ("user 'eve' from 10.0.0.7:443", "user <text> from <n>:<n>"),
            ("trace 0af7651916cd43dd8448eb211c80319c done", "trace <id> done"),
            ("don't know  db-server-01", "don't know db-server-<n>"),
            ("size=10 active=10", "size=<n> active=<n>"),
            ("\u{1b}[31mred\nline", "[<n>mred line"),
            ("", ""),
        ] {
            assert_eq!(template(message), expected, "{message}");
        }
    }

    #[test]
    fn new_more_frequent_and_vanished_templates_are_told_apart() {
        let split = Split { from: at(0), fault_from: at(600), to: at(720) };
        let mut lines = Vec::new();
        for second in (0..720).step_by(10) {
            lines.push(line(second, "info", &format!("order {second} accepted")));
            if second < 600 {
                lines.push(line(second, "info", "heartbeat"));
            }
        }
        lines.push(line(100, "warn", "retry 1"));
        for second in 600..640 {
            lines.push(line(second, "warn", &format!("retry {second}")));
            lines.push(line(second, "error", "connection timeout after 10000 ms"));
        }
        let found = changes(&lines, split);
        let classes: Vec<(TemplateClass, &str)> =
            found.iter().map(|change| (change.class, change.template.as_str())).collect();
        assert_eq!(
            classes,
            [
                (TemplateClass::New, "connection timeout after <n> ms"),
                (TemplateClass::Burst, "retry <n>"),
                (TemplateClass::Vanished, "heartbeat"),
            ]
        );
        lines.reverse();
        let again = changes(&lines, split);
        let counts = |changes: &[TemplateChange]| {
            changes.iter().map(|one| (one.count, one.before)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&again), counts(&found));
    }
}
