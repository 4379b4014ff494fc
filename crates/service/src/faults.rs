//! Named points at which a test can make a process "crash".
//!
//! Code that must survive being killed at any instant calls [`FaultPoints::reach`] between its effects. In a daemon the
//! handle is disabled and a call costs one comparison. A test arms it: at the chosen reach the test's callback is called
//! and the task never goes on, as if the process were gone; from then on no task that shares the handle gets past any
//! point. The test then drops the tasks and starts the daemon again on what is on disk.
//!
//! [`FaultPoints::stall`] is the other kind: the process stands still at the point, for as long as the test's callback takes, and
//! then goes on as if nothing had been, as one that was stopped and continued does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handle on the fault points of one process; clones share it. The default is disabled.
#[derive(Clone, Default)]
pub struct FaultPoints(Option<Arc<Mutex<State>>>);

#[derive(Default)]
struct State {
    counts: BTreeMap<&'static str, u64>,
    total: u64,
    armed: Option<Armed>,
    stall: Option<Armed>,
    crashed_at: Option<Crashed>,
}

struct Armed {
    /// None: any point.
    name: Option<&'static str>,
    /// From 1, counted from the beginning of the process.
    nth: u64,
    on_reach: Box<dyn FnOnce(Crashed) + Send>,
}

impl Armed {
    fn is_meant(&self, name: &'static str, nth: u64, total: u64) -> bool {
        match self.name {
            Some(wanted) => wanted == name && self.nth == nth,
            None => self.nth == total,
        }
    }
}

/// The point at which a process "crashed".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("crashed on purpose at fault point `{name}`, reach {nth}")]
pub struct Crashed {
    /// The point's name.
    pub name: &'static str,
    /// Which reach of this point it was, from 1.
    pub nth: u64,
}

impl FaultPoints {
    /// Points that do nothing and count nothing.
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Points that count, and can be armed.
    pub fn counting() -> Self {
        Self(Some(Arc::default()))
    }

    /// Arms the `nth` reach (from 1, counted from the beginning) of the point `name`. Replaces what was armed before.
    pub fn arm(&self, name: &'static str, nth: u64, on_crash: impl FnOnce(Crashed) + Send + 'static) {
        self.set_armed(Armed { name: Some(name), nth, on_reach: Box::new(on_crash) });
    }

    /// Arms the `nth` reach (from 1, counted from the beginning) of all points together.
    pub fn arm_any(&self, nth: u64, on_crash: impl FnOnce(Crashed) + Send + 'static) {
        self.set_armed(Armed { name: None, nth, on_reach: Box::new(on_crash) });
    }

    /// Lets the process stand still once, at the `nth` reach (from 1, counted from the beginning) of the point `name`, until the
    /// callback returns. The callback blocks its thread: a daemon whose runtime has one thread does nothing at all meanwhile.
    pub fn stall(&self, name: &'static str, nth: u64, until: impl FnOnce() + Send + 'static) {
        if let Some(state) = &self.0 {
            let on_reach = Box::new(move |_| until());
            lock(state).stall = Some(Armed { name: Some(name), nth, on_reach });
        }
    }

    /// Says that the point `name` is reached. Never returns if this is the armed reach, or if the process has "crashed".
    pub async fn reach(&self, name: &'static str) {
        if self.reach_blocking(name).is_err() {
            std::future::pending().await
        }
    }

    /// The same for code that cannot wait: an error tells it to return at once without any further effect.
    pub fn reach_blocking(&self, name: &'static str) -> Result<(), Crashed> {
        let Some(state) = &self.0 else { return Ok(()) };
        let (stall, crash) = {
            let mut state = lock(state);
            if let Some(crashed) = state.crashed_at {
                return Err(crashed);
            }
            state.total += 1;
            let total = state.total;
            let count = state.counts.entry(name).or_default();
            *count += 1;
            let nth = *count;
            let is_meant = |armed: &mut Armed| armed.is_meant(name, nth, total);
            let (stall, armed) = (state.stall.take_if(is_meant), state.armed.take_if(is_meant));
            let crashed = Crashed { name, nth };
            let crash = armed.map(|armed| (crashed, armed.on_reach));
            if crash.is_some() {
                state.crashed_at = Some(crashed);
            }
            (stall.map(|stall| (crashed, stall.on_reach)), crash)
        };
        // Outside the lock: the callbacks may look at the counts.
        if let Some((at, stand_still)) = stall {
            stand_still(at);
        }
        let Some((crashed, on_crash)) = crash else { return Ok(()) };
        on_crash(crashed);
        Err(crashed)
    }

    /// How often each point was reached.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.as_ref().map(|state| lock(state).counts.clone()).unwrap_or_default()
    }

    /// How often any point was reached: the number of places at which this run can be made to crash.
    pub fn total(&self) -> u64 {
        self.0.as_ref().map(|state| lock(state).total).unwrap_or_default()
    }

    /// The point at which the process "crashed", if it did.
    pub fn crashed_at(&self) -> Option<Crashed> {
        self.0.as_ref().and_then(|state| lock(state).crashed_at)
    }

    fn set_armed(&self, armed: Armed) {
        if let Some(state) = &self.0 {
            lock(state).armed = Some(armed);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for FaultPoints {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FaultPoints").field("is_enabled", &self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    async fn is_stuck(points: &FaultPoints, name: &'static str) -> bool {
        tokio::time::timeout(Duration::from_secs(60), points.reach(name)).await.is_err()
    }

    #[tokio::test]
    async fn disabled_points_do_nothing() {
        let points = FaultPoints::default();
        points.arm_any(1, |_| unreachable!("it is disabled"));
        points.reach("append").await;
        assert_eq!(points.total(), 0);
        assert_eq!(points.crashed_at(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_armed_reach_of_a_point_never_returns() {
        let points = FaultPoints::counting();
        let (sender, receiver) = mpsc::channel();
        points.arm("append", 2, move |crashed| sender.send(crashed).unwrap());
        points.reach("append").await;
        points.reach("send").await;
        assert!(receiver.try_recv().is_err());

        assert!(is_stuck(&points, "append").await);
        let crashed = receiver.try_recv().unwrap();
        assert_eq!(crashed, Crashed { name: "append", nth: 2 });
        assert_eq!(points.crashed_at(), Some(crashed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crashed_process_does_nothing_more_anywhere() {
        let points = FaultPoints::counting();
        points.arm_any(1, |_| ());
        assert!(is_stuck(&points, "append").await);
        assert!(is_stuck(&points.clone(), "send").await);
        assert!(points.reach_blocking("send").is_err());
        assert_eq!(points.total(), 1);
    }

    #[tokio::test]
    async fn a_process_that_stood_still_goes_on() {
        let points = FaultPoints::counting();
        let (sender, receiver) = mpsc::channel();
        points.stall("append", 2, move || sender.send("stands").unwrap());
        points.reach("append").await;
        assert!(receiver.try_recv().is_err());
        points.reach("append").await;
        assert_eq!(receiver.try_recv(), Ok("stands"));
        points.reach("append").await;
        assert_eq!((points.total(), points.crashed_at()), (3, None));
        assert!(receiver.try_recv().is_err(), "once");
    }

    #[tokio::test]
    async fn any_reach_can_be_armed_by_its_number() {
        let run = async |points: &FaultPoints| {
            for name in ["append", "send", "append"] {
                points.reach_blocking(name)?;
            }
            Ok::<_, Crashed>(())
        };
        let dry = FaultPoints::counting();
        run(&dry).await.unwrap();
        assert_eq!(dry.total(), 3);
        assert_eq!(dry.counts(), BTreeMap::from([("append", 2), ("send", 1)]));

        let mut seen = Vec::new();
        for nth in 1..=dry.total() {
            let points = FaultPoints::counting();
            points.arm_any(nth, |_| ());
            seen.push(run(&points).await.unwrap_err());
        }
        let expected = [("append", 1), ("send", 1), ("append", 2)].map(|(name, nth)| Crashed { name, nth });
        assert_eq!(seen, expected);
    }
}
