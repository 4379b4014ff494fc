//! The resolution agent: a model of the real one in `quell-remedy`, whose ledger writes to a disk on threads of its own. It keeps the
//! same rules: an intent is durable before anything is touched, a probe seals a key that was not seen, a token lower than one that was
//! seen is refused, a begun key without an end is lost when the process dies, and what is lost is asked of the target.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::{
    PlanAnswer, PlanRequest, ProbeAnswer, ProbeVerdict, StepAnswer, StepOutcome, StepRequest,
};
use quell_incident::ids::{RunbookName, StepName, TargetName};
use quell_incident::permit::PermittedSkill;
use quell_incident::plan::{ActionCall, AgentIdentity, Check, Comparison, PLAN_SCHEMA, Reduce, StepPreview};
use quell_incident::{Digest, FencingToken, Labels, Plan, Step, StepKey, Undo};
use quell_sign::SigningKey;
use tokio::time::sleep;

use super::told::Told;
use super::world::{Action, World};

/// What a target has been sent it does within this, or never.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(4);
/// As in the real agent: a target that shows no effect is believed after this.
const EFFECT_SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// The coordinator's key is that of this seed in every history.
pub(super) const PERMIT_SEED: [u8; 32] = [7; 32];

/// How a key ended, or that its process died before it was recorded.
#[derive(Clone, Debug)]
enum End {
    NotYet,
    With(StepOutcome),
    Died,
}

type Running = Arc<Told<End>>;

enum Phase {
    Running(Running),
    Lost,
    Ended(StepOutcome),
    Sealed,
}

struct Entry {
    content: (Digest, StepName, bool),
    phase: Phase,
    /// When the intent was written.
    began_at: Option<Timestamp>,
}

#[derive(Default)]
struct Ledger {
    keys: BTreeMap<StepKey, Entry>,
    tokens: BTreeMap<TargetName, FencingToken>,
    plans: BTreeMap<String, PlanAnswer>,
    targets: BTreeMap<TargetName, Arc<tokio::sync::Mutex<()>>>,
    /// Grows with every start: what an older process still does has no effect.
    life: u64,
}

/// The agent with its ledger.
pub(super) struct Resolution {
    world: Arc<World>,
    ledger: Mutex<Ledger>,
}

fn identity() -> AgentIdentity {
    AgentIdentity { instance: "simulated".to_owned(), ledger: "1".to_owned() }
}

fn content(request: &StepRequest) -> (Digest, StepName, bool) {
    (request.plan_digest, request.step.name.clone(), request.undo)
}

fn unknown(why: &str) -> StepOutcome {
    StepOutcome::Unknown { why: why.to_owned() }
}

fn refused(why: &str) -> StepOutcome {
    StepOutcome::Refused { why: why.to_owned() }
}

impl Resolution {
    pub(super) fn of(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { world, ledger: Mutex::default() })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process dies, and another one reads the ledger: what was intended and not ended is lost, the rest was never seen.
    pub(super) fn die(&self) {
        self.world.note(|| "the resolution agent dies".to_owned());
        let mut ledger = self.ledger();
        ledger.life += 1;
        ledger.targets.clear();
        ledger.keys.retain(|_, entry| match entry.phase {
            Phase::Running(ref running) => {
                running.set(End::Died);
                entry.phase = Phase::Lost;
                entry.began_at.is_some()
            }
            _ => true,
        });
    }

    /// An instant at which this process may be killed; then nothing of it happens any more.
    async fn point(&self, life: u64) {
        self.world.linger().await;
        if self.world.mishap(2) {
            self.die();
        }
        if self.ledger().life != life {
            std::future::pending::<()>().await;
        }
    }

    /// The plan for a request; the same message finds the same one.
    pub(super) fn plan(&self, key: &str, request: &PlanRequest) -> PlanAnswer {
        if let Some(answer) = self.ledger().plans.get(key) {
            return answer.clone();
        }
        let answer = self.make_plan(request);
        self.ledger().plans.insert(key.to_owned(), answer.clone());
        answer
    }

    fn make_plan(&self, request: &PlanRequest) -> PlanAnswer {
        let affected = request.incident.affected_systems.first().cloned().unwrap_or_default();
        let all = self.world.targets();
        let Some(target) = all.iter().find(|target| target.as_str() == affected).cloned() else {
            return PlanAnswer::NoPlan { why: format!("{affected} is not in the inventory") };
        };
        let chosen = request.runbook.iter().map(|runbook| runbook.as_str());
        let known = ["restart", "enlarge"].into_iter();
        let fits = |name: &&str| request.exclude.iter().all(|excluded| excluded.as_str() != *name);
        let Some(runbook) = chosen.chain(known.filter(fits)).next() else {
            return PlanAnswer::NoPlan { why: "no other runbook fits".to_owned() };
        };
        let steps = self.world.draw(|dice| dice.between(1, 3));
        let elsewhere = all.last().filter(|_| self.world.draw(|dice| dice.percent(25)));
        let step = |number: u64| {
            // What heals is done last, on the target itself; something on another one may come before.
            let target = if number < steps { elsewhere.unwrap_or(&target) } else { &target };
            let call = ActionCall {
                tool: "tool".to_owned(),
                action: runbook.to_owned(),
                target: target.clone(),
                arguments: serde_json::Map::default(),
            };
            let undo = self.world.draw(|dice| match dice.between(0, 9) {
                0..=5 => Undo::Inverse { call: call.clone() },
                6..=8 => Undo::NotNeeded { why: "a restart".to_owned() },
                _ => Undo::Irreversible { why: "it deletes".to_owned() },
            });
            Step {
                name: StepName::declared(&format!("{runbook}-{number}")).unwrap(),
                title: format!("{runbook} {number}"),
                target: target.clone(),
                call,
                preview: StepPreview::default(),
                undo,
                timeout: SignedDuration::from_secs(30),
                idempotent: self.world.draw(|dice| dice.percent(50)),
            }
        };
        let now = self.world.now();
        let valid_for = self.world.draw(|dice| dice.between(30, 600));
        let plan = Plan {
            schema: PLAN_SCHEMA.to_owned(),
            incident_id: request.incident.id,
            runbook: RunbookName::declared(runbook).unwrap(),
            runbook_digest: Digest::of_bytes(runbook.as_bytes()),
            cause: "slow".to_owned(),
            summary: runbook.to_owned(),
            steps: (1..=steps).map(step).collect(),
            declared: BTreeMap::new(),
            level: None,
            checks: vec![Check {
                name: "fast".to_owned(),
                metric: target.to_string(),
                labels: Labels::default(),
                reduce: Reduce::Last,
                divide_by: None,
                holds_if: Comparison::Less,
                value: 1.0,
            }],
            alert_look_back: SignedDuration::ZERO,
            made_at: now,
            valid_until: now.saturating_add(SignedDuration::from_secs(valid_for.cast_signed())).unwrap(),
            agent: identity(),
        };
        PlanAnswer::Plan { plan: Box::new(plan) }
    }

    /// Executes a step or its inverse; the same key again gets the recorded outcome.
    pub(super) async fn execute(self: Arc<Self>, request: StepRequest) -> StepAnswer {
        let mut key = request.key.clone();
        let outcome = self.outcome(request).await;
        if self.world.mishap(2) {
            key = StepKey::of(
                quell_incident::IncidentId(uuid::Uuid::nil()),
                1,
                &Digest::of_bytes(b""),
                &StepName::declared("other").unwrap(),
                1,
                false,
            );
        }
        StepAnswer { key, outcome }
    }

    /// Every request comes with a permit for exactly it.
    fn must_be_permitted(&self, request: &StepRequest, skill: PermittedSkill) {
        let key = SigningKey::from_seed(&PERMIT_SEED).unwrap().public();
        let why = match &request.permit {
            None => Some("carries no permit".to_owned()),
            Some(signed) => {
                let bytes = signed.permit.signed_bytes().unwrap();
                let fits =
                    signed.permit.differs_in(request, skill).map(|field| format!("differs in {field}"));
                let signs = key.has_signed(&bytes, &signed.signature);
                fits.or_else(|| (!signs).then(|| "has a signature that is wrong".to_owned()))
            }
        };
        if let Some(why) = why {
            self.world.violated(format!("{} {why}", request.key));
        }
    }

    async fn outcome(self: &Arc<Self>, request: StepRequest) -> StepOutcome {
        let skill = if request.undo { PermittedSkill::Undo } else { PermittedSkill::Execute };
        self.must_be_permitted(&request, skill);
        if request.agent != identity() {
            return unknown("another agent's step");
        }
        let life = self.ledger().life;
        let begun = {
            let mut ledger = self.ledger();
            match ledger.keys.get(&request.key) {
                Some(entry) if entry.content != content(&request) => return unknown("another step's key"),
                Some(Entry { phase: Phase::Running(running), .. }) => running.clone(),
                Some(Entry { phase: Phase::Lost, .. }) => {
                    return unknown("begun, and its end was not recorded");
                }
                Some(Entry { phase: Phase::Ended(outcome), .. }) => return outcome.clone(),
                Some(Entry { phase: Phase::Sealed, .. }) => return refused("the key is sealed"),
                None => {
                    let running = Arc::new(Told::of(End::NotYet));
                    let (answer, phase) = (Arc::clone(&running), Phase::Running(Arc::clone(&running)));
                    let entry = Entry { content: content(&request), phase, began_at: None };
                    ledger.keys.insert(request.key.clone(), entry);
                    let agent = Arc::clone(self);
                    tokio::spawn(async move { agent.run(request, life, answer).await });
                    running
                }
            }
        };
        ended(&begun).await.unwrap_or_else(|| unknown("the connection broke"))
    }

    async fn run(self: Arc<Self>, request: StepRequest, life: u64, answer: Running) {
        let target = request.step.target.clone();
        let lock = Arc::clone(self.ledger().targets.entry(target.clone()).or_default());
        let left = request.not_after.duration_since(self.world.now());
        let held = tokio::time::timeout(left.unsigned_abs(), lock.lock_owned()).await;
        let outcome = match held {
            Ok(_) => self.carry_out(&request, &target, life).await,
            Err(_) => refused("another step ran until this one's time was over"),
        };
        self.point(life).await;
        if let Some(entry) = self.ledger().keys.get_mut(&request.key) {
            entry.phase = Phase::Ended(outcome.clone());
        }
        self.world.note(|| format!("ledger: {} ended {outcome:?}", request.key));
        answer.set(End::With(outcome));
    }

    /// Whether the token is not lower than one that was seen; it is seen now.
    fn see_token(&self, request: &StepRequest) -> bool {
        let mut ledger = self.ledger();
        let seen = ledger.tokens.entry(request.lock.target.clone()).or_default();
        let fresh = request.lock.token >= *seen;
        *seen = (*seen).max(request.lock.token);
        fresh
    }

    async fn carry_out(&self, request: &StepRequest, target: &TargetName, life: u64) -> StepOutcome {
        if self.world.now() > request.not_after {
            return refused("too late");
        }
        if !self.see_token(request) {
            return refused("a newer holder was seen");
        }
        self.point(life).await;
        let began_at = self.world.now();
        if let Some(entry) = self.ledger().keys.get_mut(&request.key) {
            entry.began_at = Some(began_at);
        }
        self.world.note(|| format!("ledger: {} is intended", request.key));
        self.point(life).await;
        if !self.see_token(request) {
            return refused("a newer holder was seen");
        }
        if self.world.now() > request.not_after {
            return refused("too late");
        }
        self.send(request, target, began_at, life).await
    }

    /// The request leaves for the target: from here on nobody can take it back.
    async fn send(
        &self,
        request: &StepRequest,
        target: &TargetName,
        began_at: Timestamp,
        life: u64,
    ) -> StepOutcome {
        if self.world.mishap(1) {
            // The target took it, and its answer never comes.
            std::future::pending::<()>().await;
        }
        if self.world.mishap(4) {
            return StepOutcome::Failed { why: "the target says no".to_owned() };
        }
        let in_flight =
            self.world.draw(|dice| Duration::from_millis(dice.between(0, IN_FLIGHT_MAX.as_millis() as u64)));
        let arrives = !self.world.mishap(4);
        let (world, target, incident) = (Arc::clone(&self.world), target.clone(), request.incident_id);
        let cures = (!request.undo).then(|| request.step.call.action.clone());
        let last = request.step.target.as_str() == request.step.call.target.as_str();
        let action = Action {
            key: request.key.clone(),
            plan: request.plan_digest,
            step: request.step.name.to_string(),
            undo: request.undo,
            token: request.lock.token,
        };
        let effect = tokio::spawn(async move {
            sleep(in_flight).await;
            if arrives {
                world.act(&target, incident, action, cures.as_deref().filter(|_| last));
            }
        });
        let breaks = self.world.mishap(6);
        if breaks || !arrives {
            sleep(self.world.draw(|dice| dice.seconds(0, 4))).await;
            return unknown("the connection to the target broke");
        }
        // The task of the target does not panic, and nobody aborts it.
        let _ = effect.await;
        self.point(life).await;
        StepOutcome::Done {
            changes: Vec::new(),
            output: "done".to_owned(),
            began_at,
            ended_at: self.world.now(),
        }
    }

    /// Says what became of a key; one that was not seen is sealed.
    pub(super) async fn probe(self: Arc<Self>, request: StepRequest) -> ProbeAnswer {
        let verdict = self.verdict(&request).await;
        self.world.note(|| format!("probe of {}: {verdict:?}", request.key));
        if verdict == ProbeVerdict::NotDone {
            self.world.deny(&request.key);
        }
        ProbeAnswer { key: request.key, verdict }
    }

    async fn verdict(&self, request: &StepRequest) -> ProbeVerdict {
        self.must_be_permitted(request, PermittedSkill::Probe);
        let life = self.ledger().life;
        self.see_token(request);
        self.point(life).await;
        let running = match self.ledger().keys.get(&request.key) {
            Some(Entry { phase: Phase::Running(running), .. }) => Some(running.clone()),
            _ => None,
        };
        if let Some(running) = running {
            ended(&running).await;
        }
        let (settles_within, began_at) = {
            let mut ledger = self.ledger();
            let fresh = || Entry { content: content(request), phase: Phase::Sealed, began_at: None };
            let entry = ledger.keys.entry(request.key.clone()).or_insert_with(fresh);
            if entry.content != content(request) {
                return ProbeVerdict::CannotTell { why: "another step's key".to_owned() };
            }
            match &entry.phase {
                Phase::Sealed | Phase::Ended(StepOutcome::Refused { .. }) => return ProbeVerdict::NotDone,
                Phase::Ended(StepOutcome::Done { changes, .. }) => {
                    return ProbeVerdict::Done { changes: changes.clone() };
                }
                Phase::Ended(StepOutcome::Failed { .. }) => (Duration::ZERO, entry.began_at),
                Phase::Ended(StepOutcome::Unknown { .. }) | Phase::Lost => {
                    (EFFECT_SETTLES_WITHIN, entry.began_at)
                }
                Phase::Running(_) => {
                    return ProbeVerdict::CannotTell { why: "the step is still under way".to_owned() };
                }
            }
        };
        let elapsed = self.world.now().duration_since(began_at.unwrap_or(request.started_at));
        if !self.shows(request) {
            sleep(settles_within.saturating_sub(elapsed.unsigned_abs())).await;
        }
        match self.shows(request) {
            _ if self.world.mishap(8) => ProbeVerdict::CannotTell { why: "the target is away".to_owned() },
            true => ProbeVerdict::Done { changes: Vec::new() },
            false => ProbeVerdict::NotDone,
        }
    }

    fn shows(&self, request: &StepRequest) -> bool {
        self.world.has_happened(&request.step.target, &request.key)
    }
}

/// The outcome of a key that runs; `None` when its process died.
async fn ended(running: &Told<End>) -> Option<StepOutcome> {
    match running.wait_for(|end| !matches!(end, End::NotYet)).await {
        End::With(outcome) => Some(outcome),
        End::NotYet | End::Died => None,
    }
}
