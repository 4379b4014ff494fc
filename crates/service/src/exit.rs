//! How a daemon ends, for service managers and scripts.

use std::process::ExitCode;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to do, or was stopped by a signal and drained in time.
    Ok = 0,
    /// It failed while it ran, or did not drain in time.
    Failure = 1,
    /// The command line or the configuration cannot be used.
    Usage = 2,
    /// An address to listen on is taken or not available.
    Address = 3,
    /// The data folder is in use by another process.
    DataLocked = 4,
    /// The data cannot be read or written.
    Data = 5,
    /// Something that it cannot work without is not reachable.
    Dependency = 6,
    /// Acknowledged data are gone or were exchanged: a person has to put them back, or to give them up.
    DataLost = 7,
    /// Writing failed for good while it ran: what of the last writes is on the disk is known only after a new start.
    Storage = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with all its causes, on one line.
#[must_use]
pub fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

/// An error that ends a daemon.
pub trait Failure: std::error::Error {
    /// The exit code that it ends with.
    fn exit(&self) -> Exit {
        Exit::Failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Chain(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn every_cause_is_told() {
        let disk = Chain("no space", None);
        assert_eq!(in_words(&disk), "no space");
        let write = Chain("cannot write", Some(Box::new(disk)));
        assert_eq!(in_words(&Chain("no key", Some(Box::new(write)))), "no key: cannot write: no space");
    }
}
