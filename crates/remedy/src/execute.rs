//! Carrying out steps: once per key, one at a time per target, the intent on disk before anything is touched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_incident::contract::{
    PlanAnswer, PlanRequest, ProbeAnswer, ProbeVerdict, StepAnswer, StepOutcome, StepRequest,
};
use quell_incident::ids::Digest;
use quell_incident::permit::PermittedSkill;
use quell_incident::{IncidentId, TargetName};
use quell_tool::{CallContext, ExecutionGrant, ToolError, redact};
use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::call;
use crate::guard::{self, Allowed, Forbidden, Knowledge};
use crate::ledger::{About, Asked, Begin, Ledger, LedgerError, Likeness, Ticket, ended};
use crate::planner::{Planner, build_plan, outline};

/// What a tool's output may be at the most, in a step's outcome.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How long a probe may take in all; less than the 30 s that the coordinator waits for its answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(25);
/// How long after a step's intent a target that shows no effect is believed.
///
/// A request whose sender died or gave up may still be carried out by the target, so a look that comes too early finds nothing and
/// the step would be tried a second time. A target that takes longer than this to begin what it was sent is not covered.
pub const EFFECT_SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// The time, from outside.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Called at each point where a test may want the process to die.
#[async_trait]
pub trait FaultHook: Send + Sync {
    /// The point is reached. A hook that never returns is a process that died there.
    async fn reached(&self, point: &'static str);
}

/// No faults.
pub struct NoFaults;

#[async_trait]
impl FaultHook for NoFaults {
    async fn reached(&self, _point: &'static str) {}
}

/// All points, in the order in which a step passes them.
pub const FAULT_POINTS: [&str; 6] = [
    "resolution.intent.before",
    "resolution.intent.after",
    "resolution.effect.before",
    "resolution.effect.after",
    "resolution.outcome.before",
    "resolution.outcome.after",
];

/// How plans are made, and when probes are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// How long a plan may wait for its start.
    pub valid_for: jiff::SignedDuration,
    /// How long the dry run of one step may take.
    pub preview_timeout: Duration,
    /// How long after its intent a step in doubt may still take effect, see [`EFFECT_SETTLES_WITHIN`]; at most half of the 25 s that
    /// a probe has.
    pub effect_settles_within: Duration,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            valid_for: jiff::SignedDuration::from_mins(10),
            preview_timeout: Duration::from_secs(10),
            effect_settles_within: EFFECT_SETTLES_WITHIN,
        }
    }
}

/// The agent: plans, executes, undoes and probes steps by its ledger and its guard.
pub struct Agent {
    ledger: Arc<Ledger>,
    knowledge: RwLock<Arc<Knowledge>>,
    clock: Clock,
    faults: Arc<dyn FaultHook>,
    plans: PlanSettings,
    targets: Mutex<HashMap<TargetName, Arc<tokio::sync::Mutex<()>>>>,
    /// Plans that are being made, and for which incident.
    making: Mutex<HashMap<Likeness, IncidentId>>,
    tasks: TaskTracker,
}

/// A plan of this kind is being made. Dropped when it is in the ledger, or nothing came of it.
struct Making<'a> {
    all: &'a Mutex<HashMap<Likeness, IncidentId>>,
    likeness: Likeness,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.likeness);
    }
}

/// What makes two requests with one key the same: what they would do, not when or under which holding of the lock.
#[derive(Serialize)]
struct Content<'a> {
    incident: String,
    plan: Digest,
    step: &'a quell_incident::Step,
    undo: bool,
}

impl Agent {
    /// An agent with this ledger and knowledge.
    pub fn new(
        ledger: Arc<Ledger>,
        knowledge: Knowledge,
        plans: PlanSettings,
        clock: Clock,
        faults: Arc<dyn FaultHook>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            knowledge: RwLock::new(Arc::new(knowledge)),
            clock,
            faults,
            plans,
            targets: Mutex::default(),
            making: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Its ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// What it knows now.
    pub fn knowledge(&self) -> Arc<Knowledge> {
        Arc::clone(&self.knowledge.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what it knows, as a whole. A step under way goes on with what it began with.
    pub fn replace_knowledge(&self, knowledge: Knowledge) {
        *self.knowledge.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(knowledge);
    }

    /// How many steps are under way.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until no step is under way. Steps that come while it waits are waited for as well.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Makes a plan and records it in the ledger.
    ///
    /// # Errors
    /// When it cannot be recorded: a plan that this agent would not know again must not be shown.
    pub async fn plan(&self, request: &PlanRequest) -> Result<PlanAnswer, LedgerError> {
        let knowledge = self.knowledge();
        let planner = Planner {
            runbooks: &knowledge.runbooks,
            inventory: &knowledge.inventory,
            actions: &knowledge.actions,
            agent: self.ledger.identity(),
            valid_for: self.plans.valid_for,
            preview_timeout: self.plans.preview_timeout,
        };
        // What a person chose is made for them, whatever else there is.
        let outline = outline(request, &planner).filter(|_| request.runbook.is_none());
        let _making = match outline {
            None => None,
            Some((runbook, digest, targets)) => match self.claim(request, (digest, targets.clone())) {
                Ok(making) => Some(making),
                Err((incident_id, until)) => {
                    return Ok(PlanAnswer::Taken { incident_id, runbook, targets, until });
                }
            },
        };
        let answer = build_plan(request, &planner, (self.clock)()).await;
        if let PlanAnswer::Plan { plan } = &answer {
            self.ledger.record_plan(plan, (self.clock)()).await?;
        }
        Ok(answer)
    }

    /// The right to make a plan of this kind; or the incident for which one is open or being made, and until when that counts.
    fn claim(
        &self,
        request: &PlanRequest,
        likeness: Likeness,
    ) -> Result<Making<'_>, (IncidentId, Timestamp)> {
        let (own, now) = (request.incident.id, (self.clock)());
        let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = making.get(&likeness).filter(|other| **other != own) {
            return Err((*other, now.saturating_add(self.plans.valid_for).unwrap_or(now)));
        }
        let open = self.ledger.plan_like(&likeness, own, now);
        if let Some(plan) = open.filter(|plan| !request.despite.contains(&plan.incident_id)) {
            return Err((plan.incident_id, plan.valid_until));
        }
        making.insert(likeness.clone(), own);
        Ok(Making { all: &self.making, likeness })
    }

    /// Executes a step, or its inverse when `request.undo`. The same key again gets the recorded outcome; it is never begun twice.
    /// Dropping the returned future does not stop a step that was begun.
    pub async fn execute(self: &Arc<Self>, request: StepRequest) -> StepAnswer {
        let key = request.key.clone();
        let outcome = self.outcome(request).await;
        StepAnswer { key, outcome }
    }

    async fn outcome(self: &Arc<Self>, request: StepRequest) -> StepOutcome {
        if let Err(forbidden) = guard::check_identity(&request, self.ledger.identity()) {
            // Nothing is known here of what another agent, or this one with a ledger that was lost, did under this key.
            return unknown(&forbidden.to_string());
        }
        let skill = if request.undo { PermittedSkill::Undo } else { PermittedSkill::Execute };
        if let Err(forbidden) = self.permitted(&request, skill) {
            // The caller has no valid permit, so the state of the key does not change: a real caller may be waiting for it.
            let seen = self.ledger.has_seen(&request.key);
            return if seen { unknown(&forbidden.to_string()) } else { refused(&forbidden) };
        }
        let about = match self.about(&request) {
            Ok(about) => about,
            Err(why) => return StepOutcome::Refused { why },
        };
        let running = match self.ledger.begin(&request.key, &about, (self.clock)()) {
            Begin::Fresh(ticket) => {
                let running = ticket.watch();
                let agent = Arc::clone(self);
                self.tasks.spawn(async move { agent.run(request, ticket).await });
                running
            }
            Begin::Running(running) => running,
            Begin::Ended(outcome) => return outcome,
            Begin::Lost => {
                return unknown("the agent ended after the step was begun and before its end was recorded");
            }
            Begin::Sealed => {
                let why = "this key was probed before it was executed, and is sealed".to_owned();
                return StepOutcome::Refused { why };
            }
            Begin::OtherContent => {
                return unknown("this key came with another step before; a key stands for one step");
            }
            Begin::OtherKey(key) => {
                let why =
                    format!("this try of the step was asked for as {key}; a try is begun under one key");
                return StepOutcome::Refused { why };
            }
            Begin::Full => {
                return unknown(
                    "the ledger is full of keys of the last days, and begins no other before they are old",
                );
            }
        };
        ended(running).await.unwrap_or_else(|| unknown("the outcome could not be recorded in the ledger"))
    }

    fn permitted(&self, request: &StepRequest, skill: PermittedSkill) -> Result<(), Forbidden> {
        let plan_is_known = self.own_target(request).is_some();
        self.knowledge().coordinator.check(request, skill, plan_is_known)
    }

    /// The target of the requested step, if this agent planned it for this incident.
    fn own_target(&self, request: &StepRequest) -> Option<TargetName> {
        let plan = self.ledger.plan(&request.plan_digest);
        guard::own_step(request, plan.as_deref()).ok().map(|step| step.target.clone())
    }

    /// Runs a key that nobody else runs, and records its end.
    async fn run(&self, request: StepRequest, ticket: Ticket) {
        let target = match self.allow(&request, &self.knowledge()) {
            Ok(allowed) => allowed.step.target,
            Err(forbidden) => return self.finish(ticket, refused(&forbidden)).await,
        };
        let wait = wait_until(request.not_after, (self.clock)());
        let Ok(held) = tokio::time::timeout(wait, self.target_lock(&target).lock_owned()).await else {
            let why = format!("another step ran on `{target}` until this one's time was over");
            return self.finish(ticket, StepOutcome::Refused { why }).await;
        };
        // What was allowed before the wait may be forbidden by now: execution was switched off, or the runbook was edited.
        let knowledge = self.knowledge();
        let outcome = match self.allow(&request, &knowledge) {
            Ok(allowed) => self.carry_out(&request, &allowed, &knowledge, &ticket).await,
            Err(forbidden) => Some(refused(&forbidden)),
        };
        // Without an outcome the intent may be on disk or not: the ticket is dropped, and the key is lost.
        if let Some(outcome) = outcome {
            self.finish(ticket, outcome).await;
        }
        // Held until the outcome is on disk, so that the next step on this target finds the ledger settled.
        drop(held);
    }

    async fn finish(&self, ticket: Ticket, outcome: StepOutcome) {
        self.faults.reached(FAULT_POINTS[4]).await;
        let key = ticket.key().clone();
        if let Err(error) = ticket.end(outcome, (self.clock)()).await {
            tracing::error!(%key, error = &error as &dyn std::error::Error, "the outcome of a step could not be recorded");
        }
        self.faults.reached(FAULT_POINTS[5]).await;
    }

    fn allow(&self, request: &StepRequest, knowledge: &Knowledge) -> Result<Allowed, Forbidden> {
        let plan = self.ledger.plan(&request.plan_digest);
        let begun = self.ledger.begun_steps(&request.plan_digest);
        guard::check(request, plan.as_deref(), &begun, knowledge, (self.clock)())
    }

    /// With the target to itself: token, intent, effect. `None` when the intent could not be made durable.
    async fn carry_out(
        &self,
        request: &StepRequest,
        allowed: &Allowed,
        knowledge: &Knowledge,
        ticket: &Ticket,
    ) -> Option<StepOutcome> {
        if let Err(stale) = self.see_token(request, allowed) {
            return Some(refused(&stale));
        }
        self.faults.reached(FAULT_POINTS[0]).await;
        let began_at = (self.clock)();
        let intent = ticket.intend(request.plan_digest, &allowed.step.name, request.undo, began_at).await;
        if let Err(error) = intent {
            let key = ticket.key();
            tracing::error!(%key, error = &error as &dyn std::error::Error, "the intent of a step could not be recorded; nothing was touched");
            return None;
        }
        self.faults.reached(FAULT_POINTS[1]).await;
        let timeout = Duration::try_from(allowed.step.timeout).unwrap_or_default();
        let context = CallContext::within(timeout)
            .with_output_bytes_max(OUTPUT_BYTES_MAX)
            .for_incident(request.incident_id.to_string())
            .with_idempotency_key(request.key.as_str());
        let grant = ExecutionGrant::issue(request.key.as_str(), allowed.call.clone(), request.not_after)
            .with_fencing_token(request.lock.token.0);
        self.faults.reached(FAULT_POINTS[2]).await;
        // A newer holder of the lock may have shown itself while the intent was written.
        if let Err(stale) = self.see_token(request, allowed) {
            return Some(refused(&stale));
        }
        // The registry looks at the grant's not-after once more, at the last moment.
        let effected = knowledge.actions.execute(grant, (self.clock)(), &context).await;
        self.faults.reached(FAULT_POINTS[3]).await;
        Some(match effected {
            Ok(effected) => StepOutcome::Done {
                changes: call::changes(effected.changes),
                output: effected.output,
                began_at,
                ended_at: (self.clock)(),
            },
            Err(error) => unsuccessful(error),
        })
    }

    fn see_token(&self, request: &StepRequest, allowed: &Allowed) -> Result<(), Forbidden> {
        let (target, given) = (&allowed.step.target, request.lock.token);
        self.ledger.see_token(target, given).map_err(|highest| Forbidden::StaleToken {
            target: target.to_string(),
            given: given.0,
            highest: highest.0,
        })
    }

    /// Says what became of a key. One that was not seen is sealed: it did not happen and never will.
    pub async fn probe(&self, request: StepRequest) -> ProbeAnswer {
        let key = request.key.clone();
        let verdict = self.verdict(request).await.unwrap_or_else(|why| ProbeVerdict::CannotTell { why });
        ProbeAnswer { key, verdict }
    }

    async fn verdict(&self, request: StepRequest) -> Result<ProbeVerdict, String> {
        guard::check_identity(&request, self.ledger.identity()).map_err(|error| error.to_string())?;
        self.permitted(&request, PermittedSkill::Probe).map_err(|error| error.to_string())?;
        let now = (self.clock)();
        if let Some(not_after) = request.permit.as_ref().map(|signed| signed.permit.not_after)
            && now > not_after
        {
            return Err(Forbidden::TooLate { not_after, now }.to_string());
        }
        let about = self.about(&request)?;
        let unwritten = |error: LedgerError| format!("the ledger cannot be written: {error}");
        if let Some(token) = about.token {
            // A probe is also a sign that a newer holder of the lock is there.
            self.ledger.record_token(&about.target, token, now).await.map_err(unwritten)?;
        }
        let asked = match self.ledger.ask(&request.key, &about, now).await.map_err(unwritten)? {
            Asked::Running(running) => {
                // What is under way ends by its own timeout; only then can the target be asked.
                ended(running).await;
                self.ledger.ask(&request.key, &about, (self.clock)()).await.map_err(unwritten)?
            }
            asked => asked,
        };
        match asked {
            Asked::Sealed => Ok(ProbeVerdict::NotDone),
            Asked::Ended(StepOutcome::Done { changes, .. }, _) => Ok(ProbeVerdict::Done { changes }),
            Asked::Ended(StepOutcome::Refused { .. }, _) => Ok(ProbeVerdict::NotDone),
            // The target itself said that it had ended.
            Asked::Ended(StepOutcome::Failed { .. }, began_at) => {
                self.ask_target(&request, began_at, Duration::ZERO).await
            }
            Asked::Ended(StepOutcome::Unknown { .. }, began_at) | Asked::Lost(began_at) => {
                let settles_within = self.plans.effect_settles_within.min(PROBE_TIMEOUT / 2);
                self.ask_target(&request, began_at, settles_within).await
            }
            Asked::Running(_) => Err("the step is still under way".to_owned()),
            Asked::OtherContent => Err("this key came with another step before".to_owned()),
            Asked::OtherKey(key) => Err(format!("this try of the step was asked for as {key}")),
        }
    }

    /// Asks the target. What it does not show is asked for once more when `settles_within` since the beginning was not over.
    async fn ask_target(
        &self,
        request: &StepRequest,
        began_at: Option<Timestamp>,
        settles_within: Duration,
    ) -> Result<ProbeVerdict, String> {
        let knowledge = self.knowledge();
        let plan = self.ledger.plan(&request.plan_digest);
        let step = guard::own_step(request, plan.as_deref()).map_err(|error| error.to_string())?;
        let call =
            guard::call_of(step, request.undo, &knowledge.actions).map_err(|error| error.to_string())?;
        let context = CallContext::within(PROBE_TIMEOUT)
            .with_output_bytes_max(OUTPUT_BYTES_MAX)
            .for_incident(request.incident_id.to_string());
        let began_at = began_at.unwrap_or(request.started_at);
        // Against a clock that was set back the wait is the whole time, never more.
        let elapsed = Duration::try_from((self.clock)().duration_since(began_at)).unwrap_or_default();
        let mut answer = knowledge.actions.probe(&call, began_at, &context).await;
        if matches!(answer, Ok(quell_tool::ProbeVerdict::NotDone)) && elapsed < settles_within {
            tokio::time::sleep(settles_within.saturating_sub(elapsed)).await;
            answer = knowledge.actions.probe(&call, began_at, &context).await;
        }
        match answer {
            Ok(quell_tool::ProbeVerdict::Done { changes }) => {
                Ok(ProbeVerdict::Done { changes: call::changes(changes) })
            }
            Ok(quell_tool::ProbeVerdict::NotDone) => Ok(ProbeVerdict::NotDone),
            Ok(quell_tool::ProbeVerdict::CannotTell { why }) => Ok(ProbeVerdict::CannotTell { why }),
            Err(error) => Err(format!("the target could not be asked: {error}")),
        }
    }

    fn about(&self, request: &StepRequest) -> Result<About, String> {
        let content = Content {
            incident: request.incident_id.to_string(),
            plan: request.plan_digest,
            step: &request.step,
            undo: request.undo,
        };
        let content = Digest::of(&content).map_err(|error| format!("the step has no digest: {error}"))?;
        let target = request.lock.target.clone();
        // A token counts for the target of a step that was planned here, and for nothing else.
        let planned = self.own_target(request).is_some_and(|own| own == target);
        let known = planned && self.knowledge().inventory.get(&target).is_some();
        let token = known.then_some(request.lock.token);
        Ok(About { content, target, token, not_after: request.not_after })
    }

    fn target_lock(&self, target: &TargetName) -> Arc<tokio::sync::Mutex<()>> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(targets.entry(target.clone()).or_default())
    }
}

/// What an error of a tool says of the step. Refused means that nothing happened, so that nothing of it has to be undone.
fn unsuccessful(error: ToolError) -> StepOutcome {
    let why = redact(&match &error {
        ToolError::InDoubt { why } | ToolError::Refused { why } => why.clone(),
        error => error.to_string(),
    });
    match error {
        ToolError::InDoubt { .. } => StepOutcome::Unknown { why },
        ToolError::Refused { .. }
        | ToolError::Unreachable { .. }
        | ToolError::NotFound { .. }
        | ToolError::InvalidInput { .. }
        | ToolError::Upstream { status: 400..=499, .. } => StepOutcome::Refused { why },
        _ => StepOutcome::Failed { why },
    }
}

fn refused(forbidden: &Forbidden) -> StepOutcome {
    StepOutcome::Refused { why: forbidden.to_string() }
}

fn unknown(why: &str) -> StepOutcome {
    StepOutcome::Unknown { why: why.to_owned() }
}

fn wait_until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}
