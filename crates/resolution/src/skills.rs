//! The six skills: JSON in, the agent's word out.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use quell_a2a::{A2aError, Message, Outcome, Skill, SkillError, Work};
use quell_incident::contract::{
    Introduced, Introduction, PlanAnswer, PlanRequest, ProbeVerdict, StepOutcome, StepRequest, Verdict,
    VerifyRequest,
};
use quell_incident::document::{self, Document};
use quell_remedy::{Agent, verify};
use quell_service::Clock;
use quell_sign::{NotAKey, PublicKey};
use quell_tool::ReadRegistry;
use serde::Serialize;

use crate::metrics::Metrics;

/// What all skills share.
pub(crate) struct Shared {
    pub(crate) agent: Arc<Agent>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    reads: RwLock<Arc<ReadRegistry>>,
}

impl Shared {
    pub(crate) fn new(
        agent: Arc<Agent>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        reads: ReadRegistry,
    ) -> Self {
        Self { agent, clock, metrics, reads: RwLock::new(Arc::new(reads)) }
    }

    pub(crate) fn replace_reads(&self, reads: ReadRegistry) {
        *self.reads.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(reads);
    }

    fn reads(&self) -> Arc<ReadRegistry> {
        Arc::clone(&self.reads.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plan,
    Execute,
    Undo,
    Probe,
    Verify,
    Introduce,
}

struct ResolutionSkill {
    kind: Kind,
    shared: Arc<Shared>,
}

/// All skills of the agent.
pub(crate) fn skills(shared: &Arc<Shared>) -> Vec<Arc<dyn Skill>> {
    [Kind::Plan, Kind::Execute, Kind::Undo, Kind::Probe, Kind::Verify, Kind::Introduce]
        .into_iter()
        .map(|kind| Arc::new(ResolutionSkill { kind, shared: Arc::clone(shared) }) as Arc<dyn Skill>)
        .collect()
}

#[async_trait]
impl Skill for ResolutionSkill {
    fn id(&self) -> &str {
        match self.kind {
            Kind::Plan => "plan",
            Kind::Execute => "execute",
            Kind::Undo => "undo",
            Kind::Probe => "probe",
            Kind::Verify => "verify",
            Kind::Introduce => "introduce",
        }
    }

    fn check(&self, message: &Message) -> Result<(), A2aError> {
        match self.kind {
            Kind::Plan => read::<PlanRequest>(message).map(drop),
            Kind::Verify => read::<VerifyRequest>(message).map(drop),
            Kind::Introduce => introduced(message).map(drop),
            Kind::Probe => read::<StepRequest>(message).map(drop),
            Kind::Execute | Kind::Undo => {
                let request: StepRequest = read(message)?;
                if request.undo == (self.kind == Kind::Undo) {
                    return Ok(());
                }
                Err(A2aError::invalid("undo", format!("does not fit the skill `{}`", self.id())))
            }
        }
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        let Shared { agent, clock, metrics, .. } = &*self.shared;
        match self.kind {
            Kind::Plan => {
                let request: PlanRequest = read(&work.message)?;
                let answer = agent.plan(&request).await;
                let answer = answer.map_err(|error| {
                    SkillError::failed_because("the plan could not be recorded in the ledger", error)
                })?;
                let outcome = match &answer {
                    PlanAnswer::Plan { .. } => "plan",
                    PlanAnswer::NoPlan { .. } => "no_plan",
                    PlanAnswer::Taken { .. } => "taken",
                };
                metrics.answered("plan", outcome);
                data("plan", &answer)
            }
            Kind::Execute | Kind::Undo => {
                let request: StepRequest = read(&work.message)?;
                tracing::info!(
                    key = %request.key, incident = %request.incident_id, target = %request.step.target,
                    tool = request.step.call.tool, action = request.step.call.action, undo = request.undo,
                    caller = work.caller.name, "step asked for"
                );
                let answer = agent.execute(request).await;
                let outcome = match &answer.outcome {
                    StepOutcome::Done { .. } => "done",
                    StepOutcome::Failed { .. } => "failed",
                    StepOutcome::Refused { .. } => "refused",
                    StepOutcome::Unknown { .. } => "unknown",
                };
                let why = match &answer.outcome {
                    StepOutcome::Failed { why }
                    | StepOutcome::Refused { why }
                    | StepOutcome::Unknown { why } => Some(why.as_str()),
                    StepOutcome::Done { .. } => None,
                };
                tracing::info!(key = %answer.key, outcome, why, "step answered");
                metrics.answered(if self.kind == Kind::Undo { "undo" } else { "execute" }, outcome);
                data("outcome", &answer)
            }
            Kind::Probe => {
                let answer = agent.probe(read(&work.message)?).await;
                let outcome = match &answer.verdict {
                    ProbeVerdict::Done { .. } => "done",
                    ProbeVerdict::NotDone => "not_done",
                    ProbeVerdict::CannotTell { .. } => "cannot_tell",
                };
                tracing::info!(key = %answer.key, outcome, "step probed");
                metrics.answered("probe", outcome);
                data("verdict", &answer)
            }
            Kind::Verify => {
                let request: VerifyRequest = read(&work.message)?;
                let report = verify(&request, &self.shared.reads(), clock.now()).await;
                let outcome = match report.verdict {
                    Verdict::Passed => "passed",
                    Verdict::Failed => "failed",
                    Verdict::Inconclusive => "inconclusive",
                };
                metrics.answered("verify", outcome);
                data("verification", &report)
            }
            Kind::Introduce => {
                let key = introduced(&work.message)?;
                let answer = match agent.knowledge().coordinator.meet(key) {
                    Ok(()) => Introduced::Accepted,
                    Err(forbidden) => {
                        tracing::warn!(%key, caller = work.caller.name, %forbidden, "a coordinator is not known");
                        Introduced::Refused { why: forbidden.to_string() }
                    }
                };
                let outcome = if answer == Introduced::Accepted { "accepted" } else { "refused" };
                metrics.answered("introduce", outcome);
                data("introduced", &answer)
            }
        }
    }

    /// A step ends by its own timeout, and its caller should learn how.
    fn may_be_dropped(&self) -> bool {
        !matches!(self.kind, Kind::Execute | Kind::Undo)
    }
}

/// The request in a message's data part: of the skill's schema, so that a message of another kind or version is refused by name.
fn read<T: Document>(message: &Message) -> Result<T, A2aError> {
    let data = message.data().ok_or_else(|| A2aError::invalid("message.parts", "needs one data part"))?;
    document::read(data).map_err(|unfit| {
        let point = if unfit.field.is_empty() { "" } else { "." };
        A2aError::invalid(format!("message.parts.data{point}{}", unfit.field), unfit.why)
    })
}

/// The key by which a coordinator introduces itself.
fn introduced(message: &Message) -> Result<PublicKey, A2aError> {
    let Introduction { public_key, .. } = read(message)?;
    public_key
        .parse()
        .map_err(|error: NotAKey| A2aError::invalid("message.parts.data.public_key", error.to_string()))
}

fn data<T: Serialize>(name: &str, answer: &T) -> Result<Outcome, SkillError> {
    let document = serde_json::to_value(answer)
        .map_err(|error| SkillError::failed_because("the answer has no JSON form", error))?;
    Ok(Outcome::data(name, document))
}
