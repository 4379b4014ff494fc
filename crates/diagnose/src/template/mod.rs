//! Templates of log messages, and which of them are new, more frequent than before, or gone.

mod mask;
mod miner;

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_incident::evidence::LogLine;
use serde::Serialize;

use crate::series::seconds;

pub(crate) use mask::MESSAGE_BYTES_MAX;
pub use miner::{Mined, Miner};

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

/// The lines of one service at one level: what an error says is never taken for what is said all day.
#[derive(Default)]
struct Writer {
    miner: Miner,
    /// Lines by their index, each with its handle.
    lines: Vec<(usize, usize)>,
}

/// Which templates changed, the most surprising first. Lines may come in any order: they are mined in the order of time, and
/// those of one instant in the order of their text, so the answer does not depend on it.
pub fn changes(lines: &[LogLine], split: Split) -> Vec<TemplateChange> {
    let mut ordered: Vec<(usize, &LogLine)> =
        lines.iter().enumerate().filter(|(_, line)| line.at <= split.to).collect();
    ordered.sort_by(|(_, one), (_, other)| {
        let by_writer = one.at.cmp(&other.at).then_with(|| one.service.cmp(&other.service));
        by_writer
            .then_with(|| one.level.cmp(&other.level))
            .then_with(|| one.message.cmp(&other.message))
            .then_with(|| one.instance.cmp(&other.instance))
    });
    let mut writers: BTreeMap<(&str, String), Writer> = BTreeMap::new();
    let mut templates = 0;
    for (index, line) in ordered {
        let writer = writers.entry((&line.service, line.level.to_lowercase())).or_default();
        let before = writer.miner.len();
        if let Some(handle) = writer.miner.add(&line.message, templates < TEMPLATES_MAX) {
            writer.lines.push((index, handle));
        }
        templates += writer.miner.len() - before;
    }
    let mut tallies: BTreeMap<(String, String, String), Tally> = BTreeMap::new();
    for ((service, level), writer) in writers {
        let mined = writer.miner.finish();
        for (index, handle) in writer.lines {
            let Some(text) = mined.group(handle).and_then(|group| mined.texts().get(group)) else { continue };
            let Some(line) = lines.get(index) else { continue };
            let key = (service.to_owned(), level.clone(), told(text));
            let tally = tallies.entry(key).or_default();
            let (count, kept) = if line.at >= split.fault_from {
                (&mut tally.count, &mut tally.fault_lines)
            } else {
                (&mut tally.before, &mut tally.before_lines)
            };
            *count += 1;
            kept.push(index);
        }
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

/// One message with what changes from line to line masked: numbers, ids, addresses, times, quoted text. What lines have in
/// common beyond that only a [`Miner`] sees, that has read them all.
pub fn template(message: &str) -> String {
    told(&mask::masked(message))
}

/// A template of bounded length.
fn told(text: &str) -> String {
    text.chars().take(TEMPLATE_CHARACTERS_MAX).collect()
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
        let told = |mut changes: Vec<TemplateChange>| {
            changes.iter_mut().for_each(|change| change.lines.clear());
            changes
        };
        assert_eq!(told(changes(&lines, split)), told(found));
    }
}
