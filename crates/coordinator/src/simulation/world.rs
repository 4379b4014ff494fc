//! The world outside of a coordinator: the disk, the targets with their faults and a record of every action, and what is known for the
//! checks at the end. One mutex, never held over an await.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use quell_incident::ids::TargetName;
use quell_incident::{Alert, Digest, FencingToken, IncidentId, StepKey};
use quell_service::{Clock, CountingIds};
use quell_store::{IncidentStore as _, MemoryStore};

use super::dice::Dice;
use super::life::Fate;

/// When every history begins.
const BEGAN: Timestamp = Timestamp::constant(1_800_000_000, 0);
/// A process that is killed is killed within so many points of its life.
const POINTS_MAX: u64 = 700;

/// The time of a history: that of the paused runtime.
#[derive(Clone, Copy)]
pub(super) struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.0.elapsed()).unwrap_or(SignedDuration::MAX);
        BEGAN.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

/// The clock of the coordinator's machine, which somebody sets wrong and right again.
pub(super) struct SetClock {
    time: Arc<VirtualClock>,
    ahead: Mutex<SignedDuration>,
}

impl SetClock {
    /// From now on it is ahead of the time by so much, or behind it.
    pub(super) fn set(&self, ahead: SignedDuration) {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = ahead;
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        let ahead = *self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        self.time.now().saturating_add(ahead).unwrap_or(Timestamp::MAX)
    }
}

/// Something that is acted on.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// The runbook whose last step heals it, while it is broken.
    pub(super) cure: Option<String>,
    /// Counts its faults.
    pub(super) faults: u64,
    /// Everything that was done to it.
    pub(super) actions: Vec<Action>,
}

/// Something that was done.
#[derive(Clone, Debug)]
pub(super) struct Action {
    pub(super) key: StepKey,
    pub(super) plan: Digest,
    pub(super) step: String,
    pub(super) undo: bool,
    pub(super) token: FencingToken,
}

/// An alert's message that was answered with success.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    pub(super) alert: Alert,
}

struct State {
    dice: Dice,
    /// Nothing goes wrong any more.
    calm: bool,
    /// Points that the process that lives still passes.
    points_left: Option<u64>,
    targets: BTreeMap<TargetName, Target>,
    acknowledged: Vec<Acknowledged>,
    /// Keys of which a probe said that they did not happen, and so never will.
    denied: BTreeSet<StepKey>,
    /// Messages that their sender still has to deliver.
    undelivered: u64,
    violations: BTreeSet<String>,
    trace: Option<Vec<String>>,
    deaths: u64,
}

/// Everything but the coordinator and the agents.
pub(super) struct World {
    /// What outlives every process.
    pub(super) disk: MemoryStore,
    clock: Arc<VirtualClock>,
    /// As the coordinator's machine tells the time.
    pub(super) own_clock: Arc<SetClock>,
    pub(super) ids: Arc<CountingIds>,
    state: Mutex<State>,
}

impl World {
    pub(super) fn of(seed: u64, traced: bool) -> Arc<Self> {
        let clock = Arc::new(VirtualClock(tokio::time::Instant::now()));
        let mut dice = Dice::of(seed);
        let count = dice.between(1, 3);
        let targets =
            (1..=count).map(|number| (target_name(&format!("host-{number}")), Target::default())).collect();
        let state = State {
            dice,
            calm: false,
            points_left: None,
            targets,
            acknowledged: Vec::new(),
            denied: BTreeSet::new(),
            undelivered: 0,
            violations: BTreeSet::new(),
            trace: traced.then(Vec::new),
            deaths: 0,
        };
        let ids = Arc::new(CountingIds::new(clock.clone()));
        let own_clock = Arc::new(SetClock { time: Arc::clone(&clock), ahead: Mutex::default() });
        Arc::new(Self { disk: MemoryStore::new(), clock, own_clock, ids, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn draw<T>(&self, what: impl FnOnce(&mut Dice) -> T) -> T {
        what(&mut self.state().dice)
    }

    /// Whether something goes wrong that does in so many of a hundred cases; never once it is calm.
    pub(super) fn mishap(&self, percent: u64) -> bool {
        let mut state = self.state();
        !state.calm && state.dice.percent(percent)
    }

    /// Lets some time pass, or none, but lets the others go first then.
    pub(super) async fn linger(&self) {
        let span = {
            let mut state = self.state();
            let calm = state.calm;
            match state.dice.between(0, 999) {
                0..=499 => None,
                500..=699 => Some(Duration::ZERO),
                700..=989 => Some(Duration::from_millis(state.dice.between(1, 30))),
                _ if calm => Some(Duration::from_millis(50)),
                990..=998 => Some(Duration::from_millis(state.dice.between(30, 2_000))),
                _ => Some(state.dice.seconds(2, 40)),
            }
        };
        match span {
            None => {}
            Some(Duration::ZERO) => tokio::task::yield_now().await,
            Some(span) => tokio::time::sleep(span).await,
        }
    }

    /// The way to an agent and back, or what an agent needs: mostly quick, at times beyond every deadline.
    pub(super) async fn travel(&self) {
        let span = {
            let mut state = self.state();
            let calm = state.calm;
            match state.dice.between(0, 99) {
                0..=29 => Duration::ZERO,
                30..=84 => Duration::from_millis(state.dice.between(1, 400)),
                _ if calm => Duration::from_millis(500),
                85..=95 => state.dice.seconds(1, 8),
                _ => state.dice.seconds(8, 90),
            }
        };
        tokio::time::sleep(span).await;
    }

    /// A new process begins, and when it ends is decided.
    pub(super) fn begin_life(&self) {
        let mut state = self.state();
        let points = state.dice.between(1, POINTS_MAX);
        state.points_left = (!state.calm).then_some(points);
    }

    /// What happens to the process at its next point.
    pub(super) fn fate(&self) -> Fate {
        let mut state = self.state();
        let Some(points) = state.points_left.filter(|_| !state.calm) else { return Fate::GoesOn };
        state.points_left = points.checked_sub(1);
        if points == 0 {
            state.deaths += 1;
            return Fate::Dies;
        }
        match state.dice.between(0, 1_999) {
            0 => Fate::StandsStill(state.dice.seconds(1, 90)),
            _ => Fate::GoesOn,
        }
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn calm_down(&self) {
        self.state().calm = true;
        self.own_clock.set(SignedDuration::ZERO);
        self.note(|| "calm".to_owned());
    }

    pub(super) fn is_calm(&self) -> bool {
        self.state().calm
    }

    /// A line of the history, for people and for comparing two runs.
    pub(super) fn note(&self, text: impl FnOnce() -> String) {
        let now = self.now();
        let mut state = self.state();
        if let Some(trace) = &mut state.trace {
            let at = now.duration_since(BEGAN);
            trace.push(format!("{:>9.3} {}", at.as_secs_f64(), text()));
        }
    }

    /// Something that must never be.
    pub(super) fn violated(&self, what: String) {
        self.note(|| format!("VIOLATION: {what}"));
        self.state().violations.insert(what);
    }

    /// What was found, and the lines of the history.
    pub(super) fn findings(&self) -> (BTreeSet<String>, Vec<String>, u64) {
        let mut state = self.state();
        (std::mem::take(&mut state.violations), state.trace.take().unwrap_or_default(), state.deaths)
    }

    pub(super) fn targets(&self) -> Vec<TargetName> {
        self.state().targets.keys().cloned().collect()
    }

    pub(super) fn with_target<T>(&self, name: &TargetName, look: impl FnOnce(&mut Target) -> T) -> Option<T> {
        self.state().targets.get_mut(name).map(look)
    }

    /// Whether the target shows that it was acted on under this key.
    pub(super) fn has_happened(&self, name: &TargetName, key: &StepKey) -> bool {
        let shows = |target: &mut Target| target.actions.iter().any(|action| action.key == *key);
        self.with_target(name, shows).unwrap_or(false)
    }

    pub(super) fn is_broken(&self, name: &TargetName) -> bool {
        self.with_target(name, |target| target.cure.is_some()).unwrap_or(false)
    }

    /// A target is acted on. The last step of the right runbook heals it.
    pub(super) fn act(&self, name: &TargetName, incident: IncidentId, action: Action, cures: Option<&str>) {
        let locks = self.disk.locks(std::slice::from_ref(name)).now_or_never();
        let lock = locks.and_then(Result::ok).and_then(|mut locks| locks.remove(name)).unwrap_or_default();
        if lock.holder.is_some_and(|holder| holder != incident) {
            let holder = lock.holder;
            self.violated(format!("{} was done to {name} while {holder:?} held its lock", action.key));
        }
        if self.state().denied.contains(&action.key) {
            self.violated(format!("{} was done after a probe said that it never will be", action.key));
        }
        self.note(|| format!("{name}: {} is done", action.key));
        let highest = self.with_target(name, |target| {
            let highest = target.actions.iter().map(|action| action.token).max();
            if cures.is_some() && target.cure.as_deref() == cures {
                target.cure = None;
            }
            target.actions.push(action.clone());
            highest.unwrap_or_default()
        });
        if highest.is_some_and(|highest| highest > action.token) {
            self.violated(format!("{} was done to {name} after a newer holder's action", action.key));
        }
    }

    /// A probe says that a key did not happen.
    pub(super) fn deny(&self, key: &StepKey) {
        self.state().denied.insert(key.clone());
    }

    pub(super) fn acknowledge(&self, alert: Alert) {
        self.state().acknowledged.push(Acknowledged { alert });
    }

    pub(super) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.state().acknowledged.clone()
    }

    /// A message more, or one less, is on its way.
    pub(super) fn under_way(&self, more: bool) {
        let mut state = self.state();
        state.undelivered = if more { state.undelivered + 1 } else { state.undelivered.saturating_sub(1) };
    }

    pub(super) fn undelivered(&self) -> u64 {
        self.state().undelivered
    }
}

/// A declared name.
pub(super) fn target_name(text: &str) -> TargetName {
    TargetName::declared(text).unwrap()
}
