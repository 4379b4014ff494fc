//! What the readers of logs have in common: the last word on what belongs to an answer, limits, and the count of what could not be read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_incident::evidence::{LeftOut, LogLine, LogLines, LogQuery};

use super::cut;

/// Of one line that was left out at the most, in characters.
const SAMPLE_CHARACTERS_MAX: usize = 200;

/// Why lines were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lacking {
    /// Nobody can say whether it belongs to what was asked for.
    Time,
    /// It says nothing.
    Message,
    /// It is not what the source answers with.
    Form,
    /// A range of time never finds it.
    TimeField,
    /// It alone is larger than an answer may be.
    Size,
}

impl Lacking {
    fn words(self) -> &'static str {
        match self {
            Self::Time => "without a time",
            Self::Message => "without a message",
            Self::Form => "that are no entries",
            Self::TimeField => "without the field of the time that is searched by",
            Self::Size => "larger than an answer may be",
        }
    }
}

/// Lines of one answer, in whatever order they come.
pub(super) struct Gathered<'a> {
    query: &'a LogQuery,
    contains: Option<String>,
    lines: Vec<LogLine>,
    left_out: BTreeMap<Lacking, (u64, String)>,
    /// Whether something is missing.
    pub(super) truncated: bool,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(query: &'a LogQuery) -> Self {
        let contains = query.contains.as_ref().map(|text| text.to_lowercase());
        Self { query, contains, lines: Vec::new(), left_out: BTreeMap::new(), truncated: false }
    }

    /// Takes a line if it is what was asked for. Sources search by words, in fields of several names, and by clocks of their own; what
    /// they find is a superset, and this is the question as it was meant. `whole` is the line as it was written, since a text that is
    /// looked for may stand in a part of it that is no part of the message.
    pub(super) fn take(&mut self, at: Option<Timestamp>, mut line: LogLine, whole: &str) {
        let Some(at) = at else {
            let sample = if whole.is_empty() { line.message } else { whole.to_owned() };
            return self.leave_out(Lacking::Time, &sample);
        };
        line.at = at;
        let contains =
            |text: &String| line.message.to_lowercase().contains(text) || whole.to_lowercase().contains(text);
        let fits = at >= self.query.from
            && at <= self.query.to
            && self.query.service.as_ref().is_none_or(|service| *service == line.service)
            && self.contains.as_ref().is_none_or(contains);
        if fits {
            self.lines.push(line);
        }
        // Kept within twice what is asked for, so that lines of one instant cannot fill the memory.
        if self.lines.len() > 2 * self.query.lines_max as usize {
            self.settle();
        }
    }

    /// Counts a line that cannot be used; the first of each kind is kept to be shown.
    pub(super) fn leave_out(&mut self, lacking: Lacking, sample: &str) {
        self.leave_out_many(lacking, 1, sample);
    }

    pub(super) fn leave_out_many(&mut self, lacking: Lacking, count: u64, sample: &str) {
        let (counted, _) =
            self.left_out.entry(lacking).or_insert_with(|| (0, cut(sample.trim(), SAMPLE_CHARACTERS_MAX)));
        *counted += count;
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    fn settle(&mut self) {
        // Stable, so that lines of one instant stay in the order of their source.
        self.lines.sort_by_key(|line| line.at);
        let surplus = self.lines.len().saturating_sub(self.query.lines_max as usize);
        self.truncated |= surplus > 0;
        self.lines.drain(..surplus);
    }

    /// The newest lines in the order of time, and what was left out.
    pub(super) fn answer(mut self, source: &str, words: String) -> LogLines {
        self.settle();
        let left_out = self.left_out.into_iter().map(|(lacking, (count, sample))| LeftOut {
            count,
            what: lacking.words().to_owned(),
            sample,
        });
        LogLines {
            source: source.to_owned(),
            query: words,
            lines: self.lines,
            truncated: self.truncated,
            left_out: left_out.collect(),
        }
    }
}
