//! What the readers of remote logs have in common: the last word on what belongs to an answer, and limits.

use jiff::Timestamp;
use quell_incident::evidence::{LogLine, LogLines, LogQuery};

/// Lines of one answer, in whatever order they come.
pub(super) struct Gathered<'a> {
    query: &'a LogQuery,
    contains: Option<String>,
    lines: Vec<LogLine>,
    /// Whether something is missing.
    pub(super) truncated: bool,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(query: &'a LogQuery) -> Self {
        let contains = query.contains.as_ref().map(|text| text.to_lowercase());
        Self { query, contains, lines: Vec::new(), truncated: false }
    }

    /// Takes a line if it is what was asked for. Sources search by words, in fields of several names, and by clocks of their own; what
    /// they find is a superset, and this is the question as it was meant.
    pub(super) fn take(&mut self, at: Option<Timestamp>, mut line: LogLine) {
        let Some(at) = at else { return };
        line.at = at;
        let fits = at >= self.query.from
            && at <= self.query.to
            && self.query.service.as_ref().is_none_or(|service| *service == line.service)
            && self.contains.as_ref().is_none_or(|text| line.message.to_lowercase().contains(text));
        if fits {
            self.lines.push(line);
        }
        if self.lines.len() > 2 * self.query.lines_max as usize {
            self.settle();
        }
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

    /// The newest lines in the order of time.
    pub(super) fn answer(mut self, source: &str, words: String) -> LogLines {
        self.settle();
        LogLines { source: source.to_owned(), query: words, lines: self.lines, truncated: self.truncated }
    }
}
