//! What this agent itself forbids, whatever the coordinator says.

use std::collections::BTreeSet;

use jiff::Timestamp;
use quell_incident::contract::StepRequest;
use quell_incident::ids::Digest;
use quell_incident::plan::{AgentIdentity, Step, Undo};
use quell_incident::workflow::Autonomy;
use quell_incident::{Plan, TargetName};
use quell_tool::ActionRegistry;

use crate::book::Runbooks;
use crate::call;
use crate::inventory::Inventory;
use crate::permit::CoordinatorKeys;

/// The schema of a step request.
pub const STEP_SCHEMA: &str = "quell/step/v1";

/// The switches and lists of the guard. The default forbids everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// Actions may take effect.
    pub execute_real_commands: bool,
    /// Plans are only shown.
    pub dry_run: bool,
    /// A person must have approved exactly the plan.
    pub require_approval: bool,
    /// The targets that may be touched; without a list, those of the inventory.
    pub allowed_targets: Option<BTreeSet<TargetName>>,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self { execute_real_commands: false, dry_run: true, require_approval: true, allowed_targets: None }
    }
}

/// What an agent knows and may do, replaced as a whole when it is loaded anew.
pub struct Knowledge {
    /// Targets.
    pub inventory: Inventory,
    /// Runbooks.
    pub runbooks: Runbooks,
    /// Tools.
    pub actions: ActionRegistry,
    /// Switches.
    pub guard: GuardSettings,
    /// Whose permits count.
    pub coordinator: CoordinatorKeys,
}

/// Why the guard forbids a step. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The site has not switched execution on.
    #[error(
        "execution is switched off: set agents.resolution.execute_real_commands to true and agents.resolution.dry_run to false"
    )]
    SwitchedOff,
    /// The request is of another version.
    #[error("the request is of schema `{given}`, this agent takes `{STEP_SCHEMA}`")]
    Schema {
        /// What it says.
        given: String,
    },
    /// Nobody permits it.
    #[error("the request carries no permit of the coordinator")]
    NoPermit,
    /// What it carries is no permit that was signed as it stands.
    #[error("the permit's signature is not one of its key over what it says")]
    BadSignature,
    /// It is permitted by somebody else.
    #[error("the permit is signed with the key {given}, {change}")]
    ForeignKey {
        /// The key.
        given: String,
        /// Which count, and what to change if it should.
        change: String,
    },
    /// The first coordinator's key cannot be kept.
    #[error("the coordinator's key cannot be pinned: {why}")]
    Unpinned {
        /// Why.
        why: String,
    },
    /// Something else is permitted.
    #[error("the permit is for something else than the request: they differ in `{field}`")]
    OtherPermit {
        /// Where.
        field: &'static str,
    },
    /// No person agreed to the plan.
    #[error(
        "the permit names nobody who approved plan {digest}, and agents.resolution.require_approval is true here"
    )]
    NotApproved {
        /// The plan.
        digest: String,
    },
    /// It is meant for another agent or another ledger.
    #[error("the step belongs to agent `{instance}` with ledger {ledger}, this is another")]
    OtherAgent {
        /// Whom it is meant for.
        instance: String,
        /// Which ledger.
        ledger: String,
    },
    /// No plan of this digest was made here.
    #[error("no plan {digest} was made by this agent, or it is forgotten")]
    UnknownPlan {
        /// The digest that was given.
        digest: String,
    },
    /// The step is not the one of that plan.
    #[error("step `{step}` is not the one that plan {digest} has under this name")]
    OtherStep {
        /// The step.
        step: String,
        /// The plan.
        digest: String,
    },
    /// It names another incident than its plan.
    #[error("plan {digest} is for another incident")]
    OtherIncident {
        /// The plan.
        digest: String,
    },
    /// The lock is on another target.
    #[error("the lock is on `{locked}`, the step acts on `{target}`")]
    OtherLock {
        /// What is locked.
        locked: String,
        /// What the step acts on.
        target: String,
    },
    /// The runbook is gone, was edited, or no longer declares the call.
    #[error("runbook `{runbook}` {why} since the plan was made; make a new plan")]
    RunbookChanged {
        /// The runbook.
        runbook: String,
        /// What happened to it.
        why: &'static str,
    },
    /// The target is not in the inventory any more.
    #[error("target `{target}` is not in the inventory")]
    UnknownTarget {
        /// The target.
        target: String,
    },
    /// The target is not on the allow-list.
    #[error("target `{target}` is not on the list resolution.allowed_targets")]
    TargetNotAllowed {
        /// The target.
        target: String,
    },
    /// The inventory or the runbook declares a level at which nothing is carried out.
    #[error("{what} declares the level {level}: a person carries it out, not this agent")]
    Level {
        /// What declares it.
        what: String,
        /// The level.
        level: Autonomy,
    },
    /// The inventory or the runbook asks for a person, and the permit names none.
    #[error("{what} declares the level approve, and the permit names nobody who approved plan {digest}")]
    LevelNotApproved {
        /// What declares it.
        what: String,
        /// The plan.
        digest: String,
    },
    /// The tool does not take the call.
    #[error("the call is not one that the tools take: {why}")]
    BadCall {
        /// Why.
        why: String,
    },
    /// An undo was asked for a step that has none.
    #[error("step `{step}` has no inverse")]
    NoInverse {
        /// The step.
        step: String,
    },
    /// An undo was asked for a step that this agent never began.
    #[error("step `{step}` was never begun here, so there is nothing to undo")]
    NeverBegun {
        /// The step.
        step: String,
    },
    /// It comes too late.
    #[error("the step was not to begin after {not_after}, it is {now} now")]
    TooLate {
        /// The end of its time.
        not_after: Timestamp,
        /// Now.
        now: Timestamp,
    },
    /// The plan was too old to start.
    #[error("plan {digest} was to be started by {valid_until}; make a new one")]
    PlanTooOld {
        /// The plan.
        digest: String,
        /// The end of its time.
        valid_until: Timestamp,
    },
    /// The plan has begun, and too long ago to go on.
    #[error("plan {digest} has begun, and no further step of it was to start after {until}; make a new one")]
    BegunPlanTooOld {
        /// The plan.
        digest: String,
        /// The end of its time.
        until: Timestamp,
    },
    /// A newer holder of the target's lock was seen.
    #[error("the lock's token {given} on `{target}` is lower than {highest}, which was seen already")]
    StaleToken {
        /// The target.
        target: String,
        /// The token that was given.
        given: u64,
        /// The highest that was seen.
        highest: u64,
    },
}

/// A step that the guard lets through: this agent's own copy of it, and the call to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowed {
    /// The step, as this agent planned it.
    pub step: Step,
    /// The call as the registry takes it: the step's, or that of its inverse.
    pub call: quell_tool::ActionCall,
}

/// Checks that the request is for this agent; one that is not is none of its keys.
///
/// # Errors
/// [`Forbidden::OtherAgent`].
pub fn check_identity(request: &StepRequest, own: &AgentIdentity) -> Result<(), Forbidden> {
    if request.agent == *own {
        return Ok(());
    }
    let AgentIdentity { instance, ledger } = request.agent.clone();
    Err(Forbidden::OtherAgent { instance, ledger })
}

/// This agent's own copy of the requested step, out of the plan that it made. What runs is this copy, not what was sent.
///
/// # Errors
/// [`Forbidden`] when there is no such plan, or the step that was sent is another.
pub fn own_step<'a>(request: &StepRequest, plan: Option<&'a Plan>) -> Result<&'a Step, Forbidden> {
    let digest = request.plan_digest.short();
    let plan = plan.ok_or_else(|| Forbidden::UnknownPlan { digest: digest.clone() })?;
    if plan.incident_id != request.incident_id {
        return Err(Forbidden::OtherIncident { digest });
    }
    let sent = Digest::of(&request.step).ok();
    let own = plan.steps.iter().find(|step| step.name == request.step.name);
    match own {
        // Compared by canonical JSON: on its way a number may have become a double.
        Some(own) if sent.is_some() && Digest::of(own).ok() == sent => Ok(own),
        _ => Err(Forbidden::OtherStep { step: request.step.name.to_string(), digest }),
    }
}

/// The call that a request means: the step's own, or its inverse.
///
/// # Errors
/// [`Forbidden`] when an undo is asked for a step without an inverse, or the tools do not take the call.
pub fn call_of(
    step: &Step,
    undo: bool,
    actions: &ActionRegistry,
) -> Result<quell_tool::ActionCall, Forbidden> {
    let call = match (&step.undo, undo) {
        (_, false) => &step.call,
        (Undo::Inverse { call }, true) => call,
        (_, true) => return Err(Forbidden::NoInverse { step: step.name.to_string() }),
    };
    let tool_call =
        call::to_tool(call, actions).map_err(|error| Forbidden::BadCall { why: error.to_string() })?;
    actions.check(&tool_call).map_err(|error| Forbidden::BadCall { why: error.to_string() })?;
    Ok(tool_call)
}

fn is_approved(request: &StepRequest) -> bool {
    request.permit.as_ref().is_some_and(|signed| signed.permit.is_approved())
}

/// Everything that can be judged of a permitted request without the lock and the ledger's keys. `begun` says which steps of the plan were begun here.
///
/// # Errors
/// The first reason to forbid it.
pub fn check(
    request: &StepRequest,
    plan: Option<&Plan>,
    begun: &BTreeSet<quell_incident::ids::StepName>,
    knowledge: &Knowledge,
    now: Timestamp,
) -> Result<Allowed, Forbidden> {
    let settings = &knowledge.guard;
    if !settings.execute_real_commands || settings.dry_run {
        return Err(Forbidden::SwitchedOff);
    }
    if request.schema != STEP_SCHEMA {
        return Err(Forbidden::Schema { given: request.schema.chars().take(80).collect() });
    }
    let step = own_step(request, plan)?;
    if settings.require_approval && !is_approved(request) {
        return Err(Forbidden::NotApproved { digest: request.plan_digest.short() });
    }
    if request.lock.target != step.target || step.call.target != step.target {
        let (locked, target) = (request.lock.target.to_string(), step.target.to_string());
        return Err(Forbidden::OtherLock { locked, target });
    }
    if knowledge.inventory.get(&step.target).is_none() {
        return Err(Forbidden::UnknownTarget { target: step.target.to_string() });
    }
    if settings.allowed_targets.as_ref().is_some_and(|allowed| !allowed.contains(&step.target)) {
        return Err(Forbidden::TargetNotAllowed { target: step.target.to_string() });
    }
    let call = call_of(step, request.undo, &knowledge.actions)?;
    if call.target != step.target.as_str() {
        return Err(Forbidden::BadCall { why: "its target is not the step's".to_owned() });
    }
    if let Some(plan) = plan {
        if request.undo {
            // The inverse was made by this agent and is in its ledger; the runbook may have changed since.
            if !begun.contains(&step.name) {
                return Err(Forbidden::NeverBegun { step: step.name.to_string() });
            }
        } else {
            check_runbook(plan, step, &knowledge.runbooks)?;
            check_levels(request, plan, step, knowledge)?;
            if begun.is_empty() && now > plan.valid_until {
                let digest = request.plan_digest.short();
                return Err(Forbidden::PlanTooOld { digest, valid_until: plan.valid_until });
            }
            let until = plan.steps_until();
            if !begun.is_empty() && now > until {
                return Err(Forbidden::BegunPlanTooOld { digest: request.plan_digest.short(), until });
            }
        }
    }
    if now > request.not_after {
        return Err(Forbidden::TooLate { not_after: request.not_after, now });
    }
    Ok(Allowed { step: step.clone(), call })
}

/// The levels that the target and the runbook declare here and now. What was begun may always be undone.
fn check_levels(
    request: &StepRequest,
    plan: &Plan,
    step: &Step,
    knowledge: &Knowledge,
) -> Result<(), Forbidden> {
    let target = knowledge.inventory.get(&step.target).and_then(|target| target.level);
    let runbook = knowledge.runbooks.get(&plan.runbook).and_then(|runbook| runbook.level);
    let declared =
        [(target, format!("target `{}`", step.target)), (runbook, format!("runbook `{}`", plan.runbook))];
    for (level, what) in declared {
        match level {
            Some(level @ (Autonomy::Observe | Autonomy::Suggest)) => {
                return Err(Forbidden::Level { what, level });
            }
            Some(Autonomy::Approve) if !is_approved(request) => {
                let digest = request.plan_digest.short();
                return Err(Forbidden::LevelNotApproved { what, digest });
            }
            Some(Autonomy::Approve | Autonomy::Auto) | None => {}
        }
    }
    Ok(())
}

/// The loaded runbook still is the one that the plan was made from, and declares the step's call.
fn check_runbook(plan: &Plan, step: &Step, runbooks: &Runbooks) -> Result<(), Forbidden> {
    let changed = |why| Forbidden::RunbookChanged { runbook: plan.runbook.to_string(), why };
    let runbook = runbooks.get(&plan.runbook).ok_or_else(|| changed("was removed"))?;
    if runbook.digest != plan.runbook_digest {
        return Err(changed("was edited"));
    }
    let declared = runbook.steps.iter().any(|own| own.name == step.name && own.declares(&step.call));
    if declared { Ok(()) } else { Err(changed("does not declare this call")) }
}
