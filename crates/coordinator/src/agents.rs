//! The diagnostic and the resolution agent, as the coordinator calls them: by A2A, with the duty's key as the message id, so that
//! asking again finds the same task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use quell_a2a::{A2aError, Client, ClientError, ErrorKind, Message, Part, PartContent, Task, TaskState};
use quell_incident::contract::{
    DiagnoseRequest, Introduced, Introduction, PlanAnswer, PlanRequest, ProbeAnswer, StepAnswer, StepRequest,
    VerificationReport, VerifyRequest,
};
use quell_incident::document::{self, Document};
use quell_incident::ids::Digest;
use quell_incident::plan::PLAN_SCHEMA;
use quell_incident::report::EVIDENCE_MAX;
use quell_incident::{IncidentId, Priority, Report};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::site::traceparent;

/// Requests under way to one agent, whatever their priority.
const IN_FLIGHT_MAX: usize = 32;
/// Of these, how many only a P0 may take.
const IN_FLIGHT_FOR_P0: usize = 8;

/// Why an agent gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// It could not be asked, or did not answer in time.
    #[error("the {agent} agent did not answer: {source}")]
    Call {
        /// Which agent.
        agent: &'static str,
        /// Why.
        source: ClientError,
    },
    /// It failed at it.
    #[error("the {agent} agent failed at `{skill}`: {why}")]
    Failed {
        /// Which agent.
        agent: &'static str,
        /// The skill.
        skill: &'static str,
        /// In its words.
        why: String,
    },
    /// It does not want the request.
    #[error("the {agent} agent rejected the request for `{skill}`: {why}")]
    Rejected {
        /// Which agent.
        agent: &'static str,
        /// The skill.
        skill: &'static str,
        /// In its words.
        why: String,
    },
    /// Too many requests to it are under way.
    #[error("the {agent} agent was not asked for `{skill}` in time: too many requests to it are under way")]
    Busy {
        /// Which agent.
        agent: &'static str,
        /// The skill.
        skill: &'static str,
    },
    /// Its answer is nonsense.
    #[error("the {agent} agent's answer to `{skill}` cannot be used: {why}")]
    Nonsense {
        /// Which agent.
        agent: &'static str,
        /// The skill.
        skill: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl AgentError {
    /// Whether the same request brings the same again: the agent does not want it, or what it answers cannot be used.
    pub(crate) fn is_for_good(&self) -> bool {
        match self {
            Self::Rejected { .. } | Self::Nonsense { .. } => true,
            Self::Failed { .. } | Self::Busy { .. } => false,
            Self::Call { source: ClientError::Call(error), .. } => refuses_for_good(error),
            Self::Call { source: ClientError::NotATask { .. }, .. } => true,
            Self::Call { .. } => false,
        }
    }
}

/// Whether the agent understood the call and will not have it. A key that it knows with another content is not among that: the next
/// request has another key.
fn refuses_for_good(error: &A2aError) -> bool {
    let key_is_taken = || error.violations().iter().any(|wrong| wrong.field == "message.message_id");
    match error.kind() {
        ErrorKind::Invalid => !key_is_taken(),
        ErrorKind::UnsupportedOperation
        | ErrorKind::ContentTypeNotSupported
        | ErrorKind::InvalidAgentResponse
        | ErrorKind::ExtensionSupportRequired
        | ErrorKind::VersionNotSupported
        | ErrorKind::Forbidden => true,
        // A token that is being changed, a bug that the next try may not meet, a load that passes.
        _ => false,
    }
}

/// One agent.
#[derive(Debug, Clone)]
pub(crate) struct AgentClient {
    role: &'static str,
    client: Client,
    any: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
}

impl AgentClient {
    /// An agent with this role.
    pub(crate) fn new(role: &'static str, client: Client) -> Self {
        let any = Arc::new(Semaphore::new(IN_FLIGHT_MAX - IN_FLIGHT_FOR_P0));
        Self { role, client, any, urgent: Arc::new(Semaphore::new(IN_FLIGHT_FOR_P0)) }
    }

    /// Asks once there is room.
    async fn ask<Request: Serialize, Answer: DeserializeOwned>(
        &self,
        incident: IncidentId,
        priority: Priority,
        skill: &'static str,
        message_id: String,
        request: &Request,
        within: Duration,
    ) -> Result<Answer, AgentError> {
        let task = self.ask_for_task(incident, priority, skill, message_id, request, within).await?;
        answer_of(&task).map_err(|why| AgentError::Nonsense { agent: self.role, skill, why })
    }

    /// The task, completed, with all of its artifacts; asked for once there is room.
    async fn ask_for_task<Request: Serialize>(
        &self,
        incident: IncidentId,
        priority: Priority,
        skill: &'static str,
        message_id: String,
        request: &Request,
        within: Duration,
    ) -> Result<Task, AgentError> {
        let deadline = Instant::now() + within;
        let _room = self.room(skill, priority, within).await?;
        let within = deadline.saturating_duration_since(Instant::now());
        self.run(incident, skill, message_id, request, within).await
    }

    /// The task, completed, with all of its artifacts.
    async fn run<Request: Serialize>(
        &self,
        incident: IncidentId,
        skill: &'static str,
        message_id: String,
        request: &Request,
        within: Duration,
    ) -> Result<Task, AgentError> {
        let nonsense = |why: String| AgentError::Nonsense { agent: self.role, skill, why };
        let data = serde_json::to_value(request).map_err(|error| nonsense(error.to_string()))?;
        let message = Message::user(message_id, vec![Part::data(data)]).with_skill(skill);
        let client = self.client.with_traceparent(&traceparent(incident));
        let task = Box::pin(client.run(message, within))
            .await
            .map_err(|source| AgentError::Call { agent: self.role, source })?;
        if task.state() != TaskState::Completed {
            let said = task.status.message.as_ref().map(Message::text).unwrap_or_default();
            if task.state() == TaskState::Rejected {
                return Err(AgentError::Rejected { agent: self.role, skill, why: said });
            }
            let why = format!("{} {said}", task.state());
            return Err(AgentError::Failed { agent: self.role, skill, why });
        }
        Ok(task)
    }

    /// Says by which key this coordinator signs.
    pub(crate) async fn introduce(
        &self,
        id: uuid::Uuid,
        introduction: &Introduction,
        within: Duration,
    ) -> Result<Introduced, AgentError> {
        // It belongs to no incident, and its trace is one of its own.
        let (trace, message_id) = (IncidentId(id), format!("introduce/{id}"));
        self.ask(trace, Priority::P3, "introduce", message_id, introduction, within).await
    }

    /// A place among the requests under way, within this time; P0 has places of its own besides.
    async fn room(
        &self,
        skill: &'static str,
        priority: Priority,
        within: Duration,
    ) -> Result<Room, AgentError> {
        let (any, urgent) = (Arc::clone(&self.any), Arc::clone(&self.urgent));
        let permit = async {
            if priority == Priority::P0 {
                tokio::select! { biased; permit = any.acquire_owned() => permit, permit = urgent.acquire_owned() => permit }
            } else {
                any.acquire_owned().await
            }
        };
        match tokio::time::timeout(within, permit).await {
            Ok(permit) => Ok(Room { _permit: permit.ok() }),
            Err(_) => Err(AgentError::Busy { agent: self.role, skill }),
        }
    }
}

/// A place among the requests that are under way to an agent, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// A place where there is no lack of them.
    #[cfg(test)]
    pub(crate) fn without_bound() -> Self {
        Self { _permit: None }
    }
}

/// What an incident may wait long for, since many wait for it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A diagnosis, of the diagnostic agent.
    Diagnosis,
    /// A plan, of the resolution agent.
    Plan,
}

/// The first JSON document of a task's artifacts.
fn answer_of<Answer: DeserializeOwned>(task: &Task) -> Result<Answer, String> {
    document::object(data_of(task)?).map_err(|unfit| unfit.to_string())
}

/// The same of a document that names its schema: one of another schema is refused by name.
fn document_of<Answer: Document>(task: &Task) -> Result<Answer, String> {
    document::read(data_of(task)?).map_err(|unfit| unfit.to_string())
}

fn data_of(task: &Task) -> Result<&Value, String> {
    task.artifacts.iter().find_map(|artifact| artifact.data()).ok_or_else(|| "no data".to_owned())
}

/// Why a report cannot be relied on, if it cannot: what Quell's own agent cannot write, another one can.
fn unsound(report: &Report, incident: IncidentId) -> Option<String> {
    if report.incident_id != incident {
        return Some(format!("the report is of incident {}", report.incident_id));
    }
    if report.evidence.len() > EVIDENCE_MAX {
        return Some(format!(
            "{} pieces of evidence, expected at most {EVIDENCE_MAX}",
            report.evidence.len()
        ));
    }
    let known: BTreeSet<_> = report.evidence.iter().map(|evidence| evidence.id.as_str()).collect();
    report.root_cause.iter().chain(&report.alternatives).find_map(|cause| {
        let name: String = cause.cause.chars().take(80).collect();
        let cited = |id: &String| known.contains(id.as_str());
        if !(0.0..=1.0).contains(&cause.confidence) {
            Some(format!("the confidence in {name} is {}, expected 0 to 1", cause.confidence))
        } else if cause.claims.is_empty() {
            Some(format!("nothing is said to speak for {name}"))
        } else if cause
            .claims
            .iter()
            .any(|claim| claim.evidence.is_empty() || !claim.evidence.iter().all(cited))
        {
            Some(format!("a claim for {name} cites no evidence, or evidence that is not in the report"))
        } else {
            None
        }
    })
}

/// A report, and the document that it cites.
#[derive(Clone, Debug)]
pub(crate) struct Diagnosis {
    pub(crate) report: Report,
    /// From which the report can be made again; an agent need not give one.
    pub(crate) case: Option<Vec<u8>>,
}

/// The document that a report cites, among a task's artifacts; or why it is not there.
fn case_of(report: &Report, task: &Task) -> Result<Option<Vec<u8>>, String> {
    let Some(cited) = report.case else { return Ok(None) };
    let parts = task.artifacts.iter().flat_map(|artifact| &artifact.parts);
    let mut documents = parts.filter_map(|part| match &part.content {
        PartContent::Raw(bytes) => Some(bytes),
        _ => None,
    });
    match documents.find(|document| Digest::of_bytes(document) == cited) {
        Some(document) => Ok(Some(document.clone())),
        None => Err(format!("the report cites document {cited}, which did not come with it")),
    }
}

/// Who carries out what the workflow says is due. What is asked for again under the same key is the same request.
#[async_trait]
pub(crate) trait Workers: Send + Sync {
    /// Waits for a place among the requests under way. Only who has one makes its request: a thousand that wait would fill the memory.
    async fn room(&self, wanted: Wanted, priority: Priority, within: Duration) -> Result<Room, AgentError>;

    /// Asks for a diagnosis, having a place.
    async fn diagnose(
        &self,
        room: &Room,
        key: &str,
        request: &DiagnoseRequest,
        within: Duration,
    ) -> Result<Diagnosis, AgentError>;

    /// Asks for a plan that can be started at `now` or later, having a place.
    async fn plan(
        &self,
        room: &Room,
        key: &str,
        request: &PlanRequest,
        within: Duration,
        now: Timestamp,
    ) -> Result<PlanAnswer, AgentError>;

    /// Tells to do, or undo, a step.
    async fn step(
        &self,
        priority: Priority,
        request: &StepRequest,
        within: Duration,
    ) -> Result<StepAnswer, AgentError>;

    /// Asks whether a step took effect. Each look is a question of its own, so it has an id of its own.
    async fn probe(
        &self,
        priority: Priority,
        message_id: String,
        request: &StepRequest,
        within: Duration,
    ) -> Result<ProbeAnswer, AgentError>;

    /// Reads the checks. Each reading is a question of its own, so it has an id of its own.
    async fn verify(
        &self,
        priority: Priority,
        message_id: String,
        request: &VerifyRequest,
        within: Duration,
    ) -> Result<VerificationReport, AgentError>;
}

/// Both agents.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    /// Finds causes.
    pub diagnostic: AgentClient,
    /// The only one with power.
    pub resolution: AgentClient,
}

#[async_trait]
impl Workers for Agents {
    async fn room(&self, wanted: Wanted, priority: Priority, within: Duration) -> Result<Room, AgentError> {
        match wanted {
            Wanted::Diagnosis => self.diagnostic.room("diagnose", priority, within).await,
            Wanted::Plan => self.resolution.room("plan", priority, within).await,
        }
    }

    async fn diagnose(
        &self,
        _room: &Room,
        key: &str,
        request: &DiagnoseRequest,
        within: Duration,
    ) -> Result<Diagnosis, AgentError> {
        let (brief, skill, agent) = (&request.incident, "diagnose", &self.diagnostic);
        let nonsense = |why: String| AgentError::Nonsense { agent: agent.role, skill, why };
        let task = agent.run(brief.id, skill, key.to_owned(), request, within).await?;
        let report: Report = document_of(&task).map_err(nonsense)?;
        if let Some(why) = unsound(&report, brief.id) {
            return Err(nonsense(why));
        }
        let case = case_of(&report, &task).map_err(nonsense)?;
        Ok(Diagnosis { report, case })
    }

    async fn plan(
        &self,
        _room: &Room,
        key: &str,
        request: &PlanRequest,
        within: Duration,
        now: Timestamp,
    ) -> Result<PlanAnswer, AgentError> {
        let (brief, skill, agent) = (&request.incident, "plan", self.resolution.role);
        let task = self.resolution.run(brief.id, skill, key.to_owned(), request, within).await?;
        let answer: PlanAnswer =
            answer_of(&task).map_err(|why| AgentError::Nonsense { agent, skill, why })?;
        let why = match &answer {
            PlanAnswer::Plan { plan } if plan.schema != PLAN_SCHEMA => {
                let given: String = plan.schema.chars().take(80).collect();
                format!("the plan's `schema` is `{given}`, expected `{PLAN_SCHEMA}`")
            }
            PlanAnswer::Plan { plan } if plan.incident_id != brief.id => {
                format!("the plan is for incident {}", plan.incident_id)
            }
            // Taken, it would be planned anew at once, again and again.
            PlanAnswer::Plan { plan } if plan.valid_until <= now => {
                let why = format!("the plan was valid until {}; do the clocks agree?", plan.valid_until);
                return Err(AgentError::Failed { agent, skill, why });
            }
            _ => return Ok(answer),
        };
        Err(AgentError::Nonsense { agent, skill, why })
    }

    async fn step(
        &self,
        priority: Priority,
        request: &StepRequest,
        within: Duration,
    ) -> Result<StepAnswer, AgentError> {
        let skill = if request.undo { "undo" } else { "execute" };
        self.resolution
            .ask(request.incident_id, priority, skill, request.key.to_string(), request, within)
            .await
    }

    async fn probe(
        &self,
        priority: Priority,
        message_id: String,
        request: &StepRequest,
        within: Duration,
    ) -> Result<ProbeAnswer, AgentError> {
        self.resolution.ask(request.incident_id, priority, "probe", message_id, request, within).await
    }

    async fn verify(
        &self,
        priority: Priority,
        message_id: String,
        request: &VerifyRequest,
        within: Duration,
    ) -> Result<VerificationReport, AgentError> {
        let (agent, skill) = (&self.resolution, "verify");
        let task =
            agent.ask_for_task(request.incident_id, priority, skill, message_id, request, within).await?;
        document_of(&task).map_err(|why| AgentError::Nonsense { agent: agent.role, skill, why })
    }
}
