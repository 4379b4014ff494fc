//! What the world writes down: its log lines and the actions that were carried out on it.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::scenario::Scenario;

/// How many log lines are kept for reading back.
pub const LOG_LINES_MAX: usize = 20_000;
/// How many actions are kept for reading back.
pub const ACTIONS_MAX: usize = 10_000;

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// All is well.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// The level's name as it is written in a line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        }
    }
}

/// One line that a program of the world has logged.
#[derive(Clone, Debug, Serialize)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// Its level.
    pub level: Level,
    /// The program, by its name in the target list.
    pub service: &'static str,
    /// The machine that it runs on.
    pub instance: &'static str,
    /// What it says.
    pub message: String,
}

/// The newest log lines, in the order in which they were written.
#[derive(Clone, Debug, Default)]
pub struct LogRing {
    lines: VecDeque<LogLine>,
    written: u64,
}

impl LogRing {
    pub(crate) fn push(&mut self, line: LogLine) {
        if self.lines.len() == LOG_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        self.written += 1;
    }

    /// The lines that are still kept, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &LogLine> {
        self.lines.iter()
    }

    /// How many lines have been written since the start.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The kept lines after the first `position` ones that were ever written.
    pub fn after(&self, position: u64) -> impl Iterator<Item = &LogLine> {
        let forgotten = self.written - self.lines.len() as u64;
        let skipped = usize::try_from(position.saturating_sub(forgotten)).unwrap_or(usize::MAX);
        self.lines.iter().skip(skipped)
    }
}

/// Something that was done to the world, right or wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Action {
    /// Counts from 1.
    pub id: u64,
    /// When it was done.
    pub at: Timestamp,
    /// Which operation, by the last segment of its address.
    pub operation: &'static str,
    /// What it was done to.
    pub target: &'static str,
    /// The operation's arguments.
    pub arguments: Value,
    /// The caller's idempotency key. It is only recorded: a second request is done a second time.
    pub key: Option<String>,
    /// What it changed, before.
    pub from: Value,
    /// What it changed, after.
    pub to: Value,
    /// The fault that it healed, the first one if several.
    pub healed: Option<Scenario>,
    /// All faults that it healed: one restart can end two.
    pub healed_all: Vec<Scenario>,
}

/// The newest actions, oldest first.
#[derive(Clone, Debug, Default)]
pub struct ActionList {
    actions: VecDeque<Action>,
    last_id: u64,
}

impl ActionList {
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id + 1
    }

    pub(crate) fn push(&mut self, action: Action) {
        if self.actions.len() == ACTIONS_MAX {
            self.actions.pop_front();
        }
        self.last_id = action.id;
        self.actions.push_back(action);
    }

    /// The actions that are still kept, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Action> {
        self.actions.iter()
    }
}
