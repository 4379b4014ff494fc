//! How a command fails: what went wrong, what to do next, and the exit code.

use std::io;
use std::process::ExitCode;

use crate::output::{Line, Output, Stream};

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// The exit code of a command that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nobody reads the output any more: no failure.
    Unread = 0,
    /// It failed.
    Failed = 1,
    /// It cannot be used so.
    Usage = 2,
    /// There is no such thing, or it is not possible now.
    NotPossible = 3,
    /// An audit found that something is not what was written.
    Tampered = 4,
}

impl From<quell_child::ChildError> for Failure {
    fn from(error: quell_child::ChildError) -> Self {
        Self::failed(error.to_string())
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    what: String,
    next: Option<String>,
}

impl Failure {
    fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: None }
    }

    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub(crate) fn tampered(what: impl Into<String>) -> Self {
        Self::new(Exit::Tampered, what)
    }

    pub(crate) fn not_possible(what: impl Into<String>) -> Self {
        Self::new(Exit::NotPossible, what)
    }

    /// The same failure with what to do about it.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The same failure with something more to do about it.
    pub(crate) fn and_next(self, more: impl Into<String>) -> Self {
        match &self.next {
            Some(next) => {
                let both = format!("{next}\n{}", more.into());
                self.next(both)
            }
            None => self.next(more),
        }
    }

    /// The same failure, after something that did succeed.
    pub(crate) fn after(mut self, done: &str) -> Self {
        self.what = format!("{done}: {}", self.what);
        self
    }

    /// What went wrong.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }

    /// Writes it to standard error.
    pub(crate) fn report(&self, output: &mut Output) {
        if self.exit == Exit::Unread {
            return;
        }
        // When standard error is closed as well there is nobody left to tell.
        let _ = output.line(Stream::Error, &Line::new().bad("error: ").plain(&self.what));
        for line in self.next.iter().flat_map(|next| next.lines()) {
            let _ = output.line(Stream::Error, &Line::new().plain("  ").plain(line));
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Unread, "nobody reads the output"),
            _ => Self::failed(format!("the output cannot be written: {error}")),
        }
    }
}
