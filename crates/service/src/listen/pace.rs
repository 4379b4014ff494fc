//! How far somebody has fallen behind the least that is expected of them.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that come or go, and the time in which they are waited for. Each byte earns its share of a second and waiting spends it, so that
/// one byte now and then is no progress. No more can be saved than at the beginning: whoever was quick before may not stand still for
/// hours.
#[derive(Debug)]
pub(super) struct Pace {
    rate_min: u64,
    behind_max: Duration,
    left: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(rate_min: u64, behind_max: Duration) -> Self {
        Self { rate_min: rate_min.max(1), behind_max, left: behind_max, waiting_since: None }
    }

    /// It is the other side's turn.
    pub(super) fn wait(&mut self) {
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// The other side has taken or given so many bytes, and nothing is waited for.
    pub(super) fn went_on(&mut self, bytes: usize) {
        let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let earned = Duration::from_millis((bytes as u64).saturating_mul(1_000) / self.rate_min);
        self.left = (self.left.saturating_sub(waited) + earned).min(self.behind_max);
    }

    /// All that there was is done: what comes next is counted from the beginning.
    pub(super) fn done(&mut self) {
        (self.left, self.waiting_since) = (self.behind_max, None);
    }

    /// When they will have fallen too far behind if nothing happens until then; none while nothing is waited for.
    pub(super) fn too_late_at(&self) -> Option<Instant> {
        Some(self.waiting_since? + self.left)
    }

    /// Since when it has been waited for them, if it is.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn one_byte_now_and_then_is_no_progress() {
        let mut pace = Pace::new(1_000, 10 * SECOND);
        assert!(pace.too_late_at().is_none());
        for _ in 0..9 {
            pace.wait();
            tokio::time::advance(SECOND).await;
            pace.went_on(1);
        }
        pace.wait();
        let left = pace.too_late_at().unwrap() - Instant::now();
        assert!(left > SECOND && left < 2 * SECOND, "{left:?}");
        // Whoever keeps to the rate has all the time it takes, and saves up none.
        for bytes in [1_000_000, 1_000] {
            pace.went_on(bytes);
            pace.wait();
            assert_eq!(pace.too_late_at(), Some(Instant::now() + 10 * SECOND));
            tokio::time::advance(SECOND).await;
        }
        pace.done();
        pace.wait();
        assert_eq!(pace.too_late_at(), Some(Instant::now() + 10 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_is_waited_for_does_not_count() {
        let mut pace = Pace::new(1_000, SECOND);
        pace.wait();
        pace.went_on(0);
        tokio::time::advance(100 * SECOND).await;
        pace.wait();
        assert_eq!(pace.too_late_at(), Some(Instant::now() + SECOND));
    }
}
