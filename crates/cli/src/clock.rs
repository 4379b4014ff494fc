//! The time now, for "3m ago".

use jiff::Timestamp;

/// The machine's clock, or one that stands still for tests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    System,
    Fixed(Timestamp),
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    pub(crate) fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Fixed(now) => now,
        }
    }
}
