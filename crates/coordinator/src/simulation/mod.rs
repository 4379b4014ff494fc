//! Deterministic simulation: whole histories of a coordinator in virtual time.
//!
//! The workflow, the runner and correlation are the real ones. The store, the agents, Alertmanager and people are simulated, and
//! between any two awaits of the coordinator time may pass, its process may stand still or die, and messages may be late, doubled,
//! lost or out of order; its clock may be set. All chance comes from one seed and all time from the paused clock of a runtime with one thread, so a seed is
//! a history. After the trouble comes a calm in which everything must come to rest; then [`checks`] looks at what is left.
//!
//! `QUELL_SIM_HISTORIES=n` sets how many histories are run, `QUELL_SIM_SEED=n` the first one's seed; with the seed alone one history
//! is run, and told line by line.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic, and what cannot be set up has failed"
)]

mod agents;
mod alerts;
mod checks;
mod dice;
mod life;
mod people;
mod resolution;
mod store;
mod told;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use quell_incident::Digest;
use quell_incident::mapping::Mapping;
use quell_incident::workflow::{Autonomy, Policy};
use quell_service::{Config, FaultPoints};
use quell_sign::SigningKey;
use quell_store::{IncidentStore as _, Received, ReceivedPosition, StoreError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::correlate;
use crate::observe::AlertSource;
use crate::runner::Runner;
use crate::site::{Settings, Site};
use crate::tenure::Tenure;

use agents::{Agents, Line};
use alerts::Alertmanager;
use life::Life;
use store::Disk;
use world::World;

/// Histories of one run, if nothing else is asked for: less than 40 s of one core without optimisation, for each half less than 25 s.
const HISTORIES: u64 = 2_000;
/// How long things go wrong, in virtual time.
const TROUBLE: Duration = Duration::from_secs(600);
/// How long everything may take to come to rest after that, in virtual time.
const REST_WITHIN: Duration = Duration::from_secs(3_600);
/// How long what a dead coordinator held is kept for it.
const LEASE: Duration = Duration::from_secs(6);
/// Lines of a history that are shown when it fails.
const LINES_SHOWN: usize = 150;

/// A coordinator that runs, as its doors know it.
pub(super) struct Open {
    site: Arc<Site>,
    received: Arc<Notify>,
    stop: CancellationToken,
}

impl Open {
    /// What the webhook's handler does.
    async fn receive(self: Arc<Self>, received: Received) -> Result<ReceivedPosition, StoreError> {
        let receiving = tokio::spawn(async move {
            let position = self.site.store.receive(received).await;
            self.received.notify_one();
            position
        });
        receiving.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// The coordinator of the moment, if one runs.
#[derive(Default)]
pub(super) struct Doors(Mutex<Option<Arc<Open>>>);

impl Doors {
    fn open(&self) -> Option<Arc<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, open: Option<Arc<Open>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }
}

fn settings(world: &World) -> Settings {
    let seconds = SignedDuration::from_secs;
    let policy = world.draw(|dice| Policy {
        execution_enabled: dice.percent(95),
        require_approval: dice.percent(25),
        autonomy: if dice.percent(85) { Autonomy::Auto } else { Autonomy::Approve },
        diagnosis: seconds(20),
        planning: seconds(20),
        approval: seconds(60),
        hold_look_again: seconds(5),
        hold_max: seconds(120),
        step_grace: seconds(5),
        probe: seconds(60),
        check_patience: seconds(30),
        alert_pipeline_delay: seconds(20),
        verification_grace: seconds(60),
        quiet_before_close: seconds(60),
        cool_down: seconds(120),
        ..Policy::default()
    });
    let correlate_by =
        world.draw(|dice| if dice.percent(50) { vec!["instance".to_owned()] } else { Vec::new() });
    let policy_digest = Digest::of(&policy).unwrap();
    let mut config = Config::default();
    config.coordinator.correlate_by = correlate_by;
    let shipped = crate::settings::of(&config).unwrap();
    Settings { policy, policy_digest, mapping: Mapping::default(), ..shipped }
}

/// Starts a coordinator as `start` does, on what is on the disk.
async fn start(world: &Arc<World>, agents: &Arc<Agents>, life: &Arc<Life>, with_source: bool) -> Arc<Open> {
    loop {
        let site = Arc::new(Site::new(
            Arc::new(Disk::of(Arc::clone(world), Arc::clone(life))),
            world.own_clock.clone(),
            world.ids.clone(),
            FaultPoints::disabled(),
            "default".to_owned(),
            settings(world),
            SigningKey::from_seed(&resolution::PERMIT_SEED).unwrap(),
        ));
        let (stop, tasks, received) = (CancellationToken::new(), TaskTracker::new(), Arc::new(Notify::new()));
        let started = async {
            let (store, ids) = (Arc::clone(&site.store), Arc::clone(&site.ids));
            let tenure = Tenure::start(store, ids, LEASE, stop.clone(), &tasks).await?;
            correlate::start(Arc::clone(&site), Arc::clone(&received), tenure.clone(), stop.clone(), &tasks)
                .await?;
            Ok::<_, StoreError>(tenure)
        };
        let Ok(tenure) = started.await else {
            // A supervisor starts it again.
            stop.cancel();
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let workers = Arc::new(Line { agents: Arc::clone(agents), life: Arc::clone(life) });
        let source = with_source.then(|| AlertSource {
            name: alerts::SOURCE.to_owned(),
            reader: Arc::new(Alertmanager { world: Arc::clone(world) }),
        });
        Runner::new(Arc::clone(&site), workers, source, tenure, stop.clone(), tasks).start();
        return Arc::new(Open { site, received, stop });
    }
}

/// One life after another while things go wrong, and the last one until everything is at rest.
async fn live(world: &Arc<World>, agents: &Arc<Agents>, doors: &Arc<Doors>) {
    let with_source = world.draw(|dice| dice.percent(30));
    let trouble_ends = Instant::now() + TROUBLE;
    for number in 1.. {
        world.begin_life();
        let life = Life::begin(number, Arc::clone(world));
        world.note(|| format!("life {number} begins"));
        let lived = async {
            let open = start(world, agents, &life, with_source).await;
            doors.set(Some(Arc::clone(&open)));
            tokio::time::sleep_until(trouble_ends).await;
            world.calm_down();
            come_to_rest(world).await;
        };
        let over = tokio::select! { biased; () = life.died() => false, () = lived => true };
        if over {
            return;
        }
        if let Some(dead) = doors.open() {
            // Only so that tasks without any effect do not pile up.
            dead.stop.cancel();
        }
        doors.set(None);
        sleep(world.draw(|dice| dice.seconds(0, 30))).await;
    }
}

/// Sets the clock of the coordinator's machine forward and back. By less than tells a late message from an alert's return: beyond that
/// a copy that comes late is a return, and that it has ended is seen by comparing with Alertmanager, which is not simulated.
async fn set_clock(world: Arc<World>) {
    loop {
        sleep(world.draw(|dice| dice.seconds(5, 200))).await;
        if world.is_calm() {
            return;
        }
        let seconds = world.draw(|dice| match dice.between(0, 3) {
            0 => 0,
            1 => dice.between(1, 10) as i64,
            _ => dice.between(10, 120) as i64,
        });
        let ahead = if world.draw(|dice| dice.percent(50)) { seconds } else { -seconds };
        world.note(|| format!("the coordinator's clock is {ahead} s ahead"));
        world.own_clock.set(SignedDuration::from_secs(ahead));
    }
}

/// Waits until nothing more is to come, or for too long.
async fn come_to_rest(world: &World) {
    let begun = Instant::now();
    let mut calm_looks = 0;
    while begun.elapsed() < REST_WITHIN && calm_looks < 3 {
        sleep(Duration::from_secs(10)).await;
        let unread = world.disk.received_after(world.disk.correlated().await.unwrap(), 1).await.unwrap();
        let all = checks::incidents(world).await;
        let rests =
            world.undelivered() == 0 && unread.is_empty() && all.iter().all(|one| checks::is_at_rest(one));
        calm_looks = if rests { calm_looks + 1 } else { 0 };
    }
}

/// What a history came to.
struct History {
    violations: BTreeSet<String>,
    lines: Vec<String>,
    deaths: u64,
    incidents: u64,
    actions: u64,
}

thread_local! {
    /// Panics of this thread: those of the coordinator's tasks would otherwise go unseen.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
}

fn history(seed: u64, traced: bool) -> History {
    notice_panics();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let history = runtime.block_on(async {
        let world = World::of(seed, traced);
        let agents = Agents::of(Arc::clone(&world));
        let doors = Arc::new(Doors::default());
        for target in world.targets() {
            tokio::spawn(alerts::break_again_and_again(Arc::clone(&world), Arc::clone(&doors), target));
        }
        if world.draw(|dice| dice.percent(25)) {
            tokio::spawn(set_clock(Arc::clone(&world)));
        }
        tokio::spawn(people::watch(Arc::clone(&world), Arc::clone(&doors)));
        live(&world, &agents, &doors).await;
        checks::look(&world).await;
        PANICS.with_borrow_mut(|panics| {
            panics.drain(..).for_each(|panic| world.violated(format!("a task ended by a panic: {panic}")));
        });
        let actions = |target| world.with_target(target, |target| target.actions.len() as u64).unwrap_or(0);
        let actions = world.targets().iter().map(actions).sum();
        let incidents = checks::incidents(&world).await.len() as u64;
        let (violations, lines, deaths) = world.findings();
        History { violations, lines, deaths, incidents, actions }
    });
    drop(runtime);
    history
}

fn asked_for(name: &str) -> Option<u64> {
    #[allow(clippy::disallowed_methods, reason = "a person replays a history; nothing else depends on it")]
    let given = std::env::var(name).ok()?;
    Some(given.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}

/// Fails with the history told, and how to see it again.
fn fail(seed: u64, found: &BTreeSet<String>) -> ! {
    let told = history(seed, true);
    let shown = told.lines.len().saturating_sub(LINES_SHOWN);
    println!("{}", told.lines[shown..].join("\n"));
    let same = if told.violations == *found { "" } else { "\nand the second run found something else" };
    panic!(
        "seed {seed}: {found:#?}{same}\nreplay: QUELL_SIM_SEED={seed} cargo test -p quell-coordinator --lib simulation -- --nocapture"
    );
}

/// Runs one half of the histories; the other half is another test, so that two cores share them.
fn run_half(half: u64) {
    let (seed, histories) = (asked_for("QUELL_SIM_SEED"), asked_for("QUELL_SIM_HISTORIES"));
    if let (Some(seed), None) = (seed, histories) {
        if half == 0 {
            replay(seed);
        }
        return;
    }
    let (first, histories) = (seed.unwrap_or(1), histories.unwrap_or(HISTORIES));
    let (mut run, mut deaths, mut incidents, mut actions) = (0, 0, 0, 0);
    for seed in (first..first.saturating_add(histories)).filter(|seed| seed % 2 == half) {
        let told = history(seed, false);
        if !told.violations.is_empty() {
            fail(seed, &told.violations);
        }
        run += 1;
        deaths += told.deaths;
        incidents += told.incidents;
        actions += told.actions;
    }
    println!("{run} histories from seed {first}: {deaths} deaths, {incidents} incidents, {actions} actions");
    // Otherwise nothing was tested.
    assert!(run < 50 || (deaths > run && incidents > run && actions > run));
}

/// Tells one history line by line.
fn replay(seed: u64) {
    let told = history(seed, true);
    println!("{}", told.lines.join("\n"));
    println!("{} deaths, {} incidents, {} actions", told.deaths, told.incidents, told.actions);
    assert!(told.violations.is_empty(), "{:#?}", told.violations);
}

#[test]
fn even_histories_lose_nothing_and_do_nothing_twice() {
    run_half(0);
}

#[test]
fn odd_histories_lose_nothing_and_do_nothing_twice() {
    run_half(1);
}

#[test]
fn a_seed_is_a_history() {
    for seed in 1..=20 {
        let (one, other) = (history(seed, true), history(seed, true));
        assert!(one.lines.len() > 100, "seed {seed} has only {} lines", one.lines.len());
        for (number, (line, again)) in one.lines.iter().zip(&other.lines).enumerate() {
            assert_eq!(line, again, "seed {seed}, line {number}");
        }
        assert_eq!(one.lines.len(), other.lines.len(), "seed {seed}");
    }
    assert_ne!(history(1, true).lines, history(2, true).lines);
}
