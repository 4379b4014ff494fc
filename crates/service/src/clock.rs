//! Time and ids as inputs.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use uuid::{ContextV7, Uuid};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> Timestamp;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is moved; clones show the same time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Sets the time, also back.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves the time on; stops at the end of what a timestamp can hold.
    pub fn advance(&self, by: SignedDuration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.checked_add(by).unwrap_or(Timestamp::MAX);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes ids: UUIDs of version 7, which sort by the time at which they were made.
pub trait IdSource: Send + Sync {
    /// A new id; written in its 36-character form.
    fn new_id(&self) -> Uuid;
}

/// Ids by a clock and randomness; those of one source increase even within a millisecond.
pub struct SystemIds {
    clock: Arc<dyn Clock>,
    context: Mutex<ContextV7>,
}

impl SystemIds {
    /// Ids by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, context: Mutex::new(ContextV7::new()) }
    }
}

impl IdSource for SystemIds {
    fn new_id(&self) -> Uuid {
        let (seconds, nanoseconds) = unix_time(self.clock.now());
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*context, seconds, nanoseconds))
    }
}

/// Ids without randomness: the clock's time and a counter, the same in every run of a test.
pub struct CountingIds {
    clock: Arc<dyn Clock>,
    count: Mutex<u64>,
}

impl CountingIds {
    /// Ids by this clock, counted from 1.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, count: Mutex::new(0) }
    }
}

impl IdSource for CountingIds {
    fn new_id(&self) -> Uuid {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        let (seconds, nanoseconds) = unix_time(self.clock.now());
        let milliseconds = seconds.saturating_mul(1000).saturating_add(u64::from(nanoseconds / 1_000_000));
        let [_, _, _, _, _, _, counted @ ..] = u128::from(*count).to_be_bytes();
        uuid::Builder::from_unix_timestamp_millis(milliseconds, &counted).into_uuid()
    }
}

/// Seconds and nanoseconds since 1970; times before count as 1970.
fn unix_time(now: Timestamp) -> (u64, u32) {
    (u64::try_from(now.as_second()).unwrap_or(0), u32::try_from(now.subsec_nanosecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(NOW);
        let seen = clock.clone();
        assert_eq!(seen.now(), NOW);
        clock.advance(SignedDuration::from_secs(5));
        assert_eq!(seen.now(), Timestamp::constant(1_800_000_005, 0));
        clock.set(NOW);
        assert_eq!(seen.now(), NOW);
    }

    #[test]
    fn the_system_clock_goes_forward() {
        assert!(SystemClock.now() > NOW.checked_sub(SignedDuration::from_hours(24 * 3650)).unwrap());
    }

    #[test]
    fn ids_carry_the_time_and_increase() {
        let clock = ManualClock::at(NOW);
        let sources: [Box<dyn IdSource>; 2] = [
            Box::new(SystemIds::new(Arc::new(clock.clone()))),
            Box::new(CountingIds::new(Arc::new(clock.clone()))),
        ];
        for source in sources {
            clock.set(NOW);
            let mut last = Uuid::nil();
            for step in 0..500 {
                if step % 100 == 0 {
                    clock.advance(SignedDuration::from_millis(1));
                }
                let id = source.new_id();
                assert!(id > last, "{id} after {last}");
                assert_eq!(id.get_version_num(), 7);
                assert_eq!(id.get_timestamp().map(|time| time.to_unix().0), Some(1_800_000_000));
                assert_eq!(id.to_string().len(), 36);
                last = id;
            }
        }
    }

    #[test]
    fn counted_ids_repeat_from_run_to_run() {
        let ids = || CountingIds::new(Arc::new(ManualClock::at(NOW)));
        assert_eq!(ids().new_id(), ids().new_id());
        assert_eq!(ids().new_id().to_string(), "01a3185c-5000-7000-8000-000000000001");
    }
}
