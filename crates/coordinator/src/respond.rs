//! The skill `respond`: every incident is one task, whether it came by webhook, by REST or by a message here.
//!
//! | incident | task state |
//! |---|---|
//! | open, investigating, resolved | working |
//! | waits for approval, escalated, taken over | input required, with the question in the status message |
//! | closed after it was resolved | completed |
//! | withdrawn | canceled |
//! | closed by a person although nothing could be done | failed |

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use quell_a2a::{
    A2aError, Agent, Artifact, Caller, ErrorKind, EventStream, ListTasks, Message, Part, SendReply,
    SendRequest, StreamEvent, Task, TaskPage, TaskState, TaskStatus,
};
use quell_incident::document;
use quell_incident::ids::StepKey;
use quell_incident::incident::{Outcome, Phase, Why};
use quell_incident::severity::Status;
use quell_incident::workflow::{Draft, Input, Refused};
use quell_incident::{Alert, AlertStatus, Digest, Incident, IncidentId, view};
use quell_service::Scope;
use quell_store::{MessageKey, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::alertmanager;
use crate::correlate::ended_at;
use crate::draft::{ManualDraft, TEXT_BYTES_MAX};
use crate::follow::Following;
use crate::secrets::masked_payload;
use crate::site::{ChangeError, Site};
use crate::tasks;

/// The source of an alert that came by a message.
const A2A_SOURCE: &str = "a2a";
/// The id of the only skill.
pub(crate) const SKILL: &str = "respond";
/// What a decision may call itself.
const DECISION_SCHEMA: &str = "quell/decision/v1";

/// The coordinator as an agent.
pub(crate) struct Responder {
    site: Arc<Site>,
}

#[derive(Deserialize)]
struct Decision {
    decision: String,
    plan_digest: Option<String>,
    happened: Option<bool>,
    step: Option<String>,
    #[serde(default)]
    why: String,
}

impl Responder {
    /// Answers for this site.
    pub(crate) fn new(site: Arc<Site>) -> Self {
        Self { site }
    }

    async fn incident(&self, caller: &Caller, id: &str) -> Result<Arc<Incident>, A2aError> {
        may(caller, Scope::Read)?;
        let known: IncidentId = id.parse().map_err(|_| A2aError::task_not_found(id))?;
        let incident = self.site.store.incident(known).await.map_err(store_error)?;
        incident.ok_or_else(|| A2aError::task_not_found(id))
    }

    /// What a message wants: an incident opened, or a question answered.
    async fn take(&self, caller: &Caller, message: &Message) -> Result<Arc<Incident>, A2aError> {
        for_this_skill(message)?;
        let data = message.data().ok_or_else(|| {
            A2aError::invalid(
                "message.parts",
                "expected one data part: an incident draft, an alert, or a decision",
            )
        })?;
        if message.task_id.is_empty() {
            self.open(caller, message, data).await
        } else {
            self.decide(caller, message, data).await
        }
    }

    async fn open(
        &self,
        caller: &Caller,
        message: &Message,
        data: &Value,
    ) -> Result<Arc<Incident>, A2aError> {
        may(caller, Scope::Operate)?;
        let invalid = |why: String| A2aError::invalid("message.parts[0].data", why);
        let content = Digest::of(data).map_err(A2aError::internal)?;
        // Callers without credentials share nothing, so their message ids are not kept.
        let key = (!caller.is_anonymous()).then(|| MessageKey {
            caller: caller.name.clone(),
            tenant: self.site.tenant.clone(),
            message_id: message.message_id.clone(),
        });
        if let Some(key) = &key
            && let Some(taken) = self.site.store.message(key).await.map_err(store_error)?
        {
            return self.taken(message, taken.incident_id, taken.content == content).await;
        }
        let context = Some(message.context_id.clone()).filter(|context| !context.is_empty());
        let draft = if data.get("labels").is_some() {
            let alert = alert_of(data, self.site.now()).map_err(invalid)?;
            let known = self.site.store.incident_of_alert(&alert.key).await.map_err(store_error)?;
            let known = match known {
                Some(id) => self.site.store.incident(id).await.map_err(store_error)?,
                None => None,
            };
            if let Some(known) = known.as_ref().filter(|known| known.status() != Status::Closed) {
                in_its_context(message, known)?;
                return self.heard_again(caller, known.id, alert).await;
            }
            if alert.status == AlertStatus::Resolved {
                return Err(invalid("the end of an alert that is not known here opens nothing".to_owned()));
            }
            // What goes on in a context stays in it.
            let context = context.or_else(|| known.as_ref().and_then(|known| known.context.clone()));
            Draft { context, ..self.draft_of(alert, known.map(|known| known.id)) }
        } else {
            let draft: ManualDraft = document::object(data).map_err(|unfit| invalid(unfit.to_string()))?;
            Draft { context, ..draft.into_draft(&caller.name).map_err(invalid)? }
        };
        match self.site.open(draft, caller.name.as_str(), key.map(|key| (key, content))).await {
            Ok(incident) => Ok(incident),
            Err(StoreError::MessageTaken { incident_id, same_content }) => {
                self.taken(message, incident_id, same_content).await
            }
            Err(error) => Err(store_error(error)),
        }
    }

    /// The incident that the same message opened before.
    async fn taken(
        &self,
        message: &Message,
        id: IncidentId,
        same_content: bool,
    ) -> Result<Arc<Incident>, A2aError> {
        if !same_content {
            let why = format!("this id opened {id} with another content; use a new one");
            return Err(A2aError::invalid("message.message_id", why));
        }
        let incident = self.site.store.incident(id).await.map_err(store_error)?;
        let incident = incident.ok_or_else(|| A2aError::task_not_found(&id.to_string()))?;
        in_its_context(message, &incident)?;
        Ok(incident)
    }

    /// Takes in what an alert says to the incident under way that it is of: sent again, it opens nothing.
    async fn heard_again(
        &self,
        caller: &Caller,
        id: IncidentId,
        alert: Alert,
    ) -> Result<Arc<Incident>, A2aError> {
        let now = self.site.now();
        let input = match alert.status {
            AlertStatus::Firing => Input::AlertFiring(Box::new(alert)),
            AlertStatus::Resolved => Input::AlertCleared { at: ended_at(&alert, now), key: alert.key },
        };
        self.site.change(id, &input, caller.name.as_str()).await.map_err(change_error)
    }

    fn draft_of(&self, alert: Alert, linked_to: Option<IncidentId>) -> Draft {
        let settings = self.site.settings();
        Draft {
            head: settings.mapping.head(&alert),
            affected_systems: settings.mapping.affected_systems(&alert),
            origin: A2A_SOURCE.to_owned(),
            linked_to,
            context: None,
            alert: Some(alert),
        }
    }

    async fn decide(
        &self,
        caller: &Caller,
        message: &Message,
        data: &Value,
    ) -> Result<Arc<Incident>, A2aError> {
        let incident = self.incident(caller, &message.task_id).await?;
        // To say what became of a step approves nothing.
        let settles = data.get("decision").is_some_and(|decision| decision == "settle");
        may(caller, if settles { Scope::Operate } else { Scope::Approve })?;
        in_its_context(message, &incident)?;
        if incident.status() == Status::Closed {
            return Err(A2aError::unsupported("the task is over; open a new incident"));
        }
        let invalid =
            |field: &str, why: String| A2aError::invalid(format!("message.parts[0].data.{field}"), why);
        if data.get("schema").is_some() {
            document::named(data, DECISION_SCHEMA).map_err(|unfit| invalid(unfit.field, unfit.why))?;
        }
        let decision: Decision =
            document::object(data).map_err(|unfit| invalid("decision", unfit.to_string()))?;
        let digest = decision.plan_digest.as_deref().map(str::parse::<Digest>).transpose();
        let digest = digest.map_err(|error| invalid("plan_digest", error.to_string()))?;
        let unfit = |Unfit { field, why }: Unfit| invalid(field, why);
        within_text("why", &decision.why).map_err(unfit)?;
        let by = caller.name.clone();
        let input = match decision.decision.as_str() {
            "approve" => {
                let digest =
                    digest.ok_or_else(|| invalid("plan_digest", "which plan is approved?".to_owned()))?;
                Input::Approve { by, digest }
            }
            "deny" => Input::Deny { by, why: decision.why, digest },
            "settle" => {
                settling(by, decision.step.as_deref(), decision.happened, decision.why).map_err(unfit)?
            }
            other => {
                let other: String = other.chars().take(40).collect();
                let why = format!("`{other}` is none of approve, deny and settle");
                return Err(invalid("decision", why));
            }
        };
        match self.site.change(incident.id, &input, caller.name.as_str()).await {
            // The same no again, because its sender did not hear the answer.
            Err(ChangeError::Refused(_)) if denied_by(&incident, &input) => Ok(incident),
            other => other.map_err(change_error),
        }
    }

    /// Waits until the incident's task is terminal or waits for its caller.
    async fn settled(&self, incident: Arc<Incident>) -> Result<Arc<Incident>, A2aError> {
        let mut changes = self.site.store.changes();
        let id = incident.id;
        let mut incident = self.reread(id, incident).await?;
        while !state_of(&incident).is_settled() {
            match changes.recv().await {
                Ok(changed) if changed.incident_id != id => {}
                Ok(_) | Err(RecvError::Lagged(_)) => incident = self.reread(id, incident).await?,
                Err(RecvError::Closed) => return Err(A2aError::unavailable("the coordinator is stopping")),
            }
        }
        Ok(incident)
    }

    async fn reread(&self, id: IncidentId, before: Arc<Incident>) -> Result<Arc<Incident>, A2aError> {
        Ok(self.site.store.incident(id).await.map_err(store_error)?.unwrap_or(before))
    }

    /// The task as it stands, then for each event of the log its artifacts and its status, in its order, until the task is over.
    async fn follow(&self, incident: Arc<Incident>) -> Result<EventStream, A2aError> {
        // Subscribed before the incident is read, so that nothing falls between.
        let changes = self.site.store.changes();
        let incident = self.reread(incident.id, incident).await?;
        let first = StreamEvent::Task(task_of(&incident, true));
        let over = state_of(&incident).is_terminal();
        let following = Following {
            site: Arc::clone(&self.site),
            changes,
            id: incident.id,
            seen: incident.revision,
            over,
        };
        let rest = stream::unfold(following, Following::next).flat_map(stream::iter);
        Ok(Box::pin(stream::once(async { Ok(first) }).chain(rest)))
    }
}

pub(crate) fn artifact(name: &str, data: Value) -> Artifact {
    Artifact::new(name, vec![Part::data(data)]).with_name(name)
}

/// What was done, and what came of it.
pub(crate) fn outcome(incident: &Incident) -> Option<Artifact> {
    let actions = || view::to_json(incident)["remediation_actions"].take();
    (!incident.actions.is_empty())
        .then(|| artifact("outcome", json!({"actions": actions(), "resolution": incident.how()})))
}

pub(crate) fn post_mortem(incident: &Incident) -> Option<Artifact> {
    let text = incident.post_mortem.clone()?;
    Some(Artifact::new("post-mortem", vec![Part::text(text)]).with_name("post-mortem"))
}

/// The context that its caller named; otherwise incidents of one alert share their context, the first one's id.
pub(crate) fn context_of(incident: &Incident) -> String {
    let own = || incident.linked_to.unwrap_or(incident.id).to_string();
    incident.context.clone().unwrap_or_else(own)
}

/// A caller's context is kept or refused, never replaced.
fn in_its_context(message: &Message, incident: &Incident) -> Result<(), A2aError> {
    let context = context_of(incident);
    if message.context_id.is_empty() || message.context_id == context {
        return Ok(());
    }
    let why = format!("is not the context of task {}, which is {context:?}", incident.id);
    Err(A2aError::invalid("message.context_id", why))
}

/// A message that is meant for another skill is not taken for one that is meant for this one.
fn for_this_skill(message: &Message) -> Result<(), A2aError> {
    match message.metadata.as_ref().and_then(|metadata| metadata.get("skill")) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(skill)) if skill == SKILL => Ok(()),
        Some(Value::String(skill)) => {
            let skill: String = skill.chars().take(80).collect();
            let why = format!("names no skill of this agent: `{skill}`; it has {SKILL}");
            Err(A2aError::invalid("message.metadata.skill", why))
        }
        Some(_) => Err(A2aError::invalid("message.metadata.skill", "is not a string")),
    }
}

pub(crate) fn state_of(incident: &Incident) -> TaskState {
    match &incident.phase {
        Phase::AwaitingApproval { .. } | Phase::Escalated { .. } | Phase::TakenOver { .. } => {
            TaskState::InputRequired
        }
        Phase::Closed { outcome: Outcome::Resolved { .. } } => TaskState::Completed,
        Phase::Closed { outcome: Outcome::ClosedByPerson { .. } } => TaskState::Failed,
        Phase::Closed { outcome: Outcome::Withdrawn { .. } } => TaskState::Canceled,
        _ => TaskState::Working,
    }
}

pub(crate) fn status_of(incident: &Incident, at: Timestamp) -> TaskStatus {
    let mut message = Message::agent(
        format!("{}/{}", incident.id, incident.revision),
        vec![
            Part::text(view::summary(incident)),
            Part::data(json!({
                "status": incident.status(),
                "phase": incident.phase.name(),
                "summary": view::summary(incident),
                "question": view::to_json(incident)["question"],
            })),
        ],
    );
    message.task_id = incident.id.to_string();
    message.context_id = context_of(incident);
    TaskStatus { state: state_of(incident), message: Some(message), timestamp: Some(at) }
}

pub(crate) fn task_of(incident: &Incident, artifacts: bool) -> Task {
    let mut found = Vec::new();
    if artifacts {
        found.extend(incident.report.as_ref().map(|report| artifact("diagnosis", json!(report))));
        let plan = incident.plan.as_ref();
        found.extend(plan.map(|(digest, plan)| artifact("plan", json!({"digest": digest, "plan": plan}))));
        found.extend(outcome(incident));
        found.extend(post_mortem(incident));
    }
    Task {
        id: incident.id.to_string(),
        context_id: context_of(incident),
        status: status_of(incident, incident.updated_at),
        artifacts: found,
        history: Vec::new(),
        metadata: None,
    }
}

fn denied_by(incident: &Incident, input: &Input) -> bool {
    match (&incident.phase, input) {
        (Phase::Escalated { why: Why::Denied { by, because }, .. }, Input::Deny { by: again, why, .. }) => {
            by == again && because == why
        }
        _ => false,
    }
}

/// What is wrong with a field of a person's word, by whichever way it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) field: &'static str,
    /// Goes on after the field's name.
    pub(crate) why: String,
}

/// Refuses a text that is too long to be kept: it stands in the event, in the post-mortem and in every later answer with the incident.
pub(crate) fn within_text(field: &'static str, text: &str) -> Result<(), Unfit> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Unfit { field, why: format!("is longer than {TEXT_BYTES_MAX} bytes") });
    }
    Ok(())
}

/// A person's word on what became of a step whose effect is not known.
pub(crate) fn settling(
    by: String,
    step: Option<&str>,
    happened: Option<bool>,
    why: String,
) -> Result<Input, Unfit> {
    let unfit = |field, why: String| Unfit { field, why };
    let key = step.map(str::parse::<StepKey>).transpose();
    let key = key.map_err(|error| unfit("step", format!("is not a step: {error}")))?;
    let missing = "is missing: did the step take effect, true or false?";
    let happened = happened.ok_or_else(|| unfit("happened", missing.to_owned()))?;
    // Whoever reads the log later has nothing else to go by.
    if why.trim().is_empty() {
        return Err(unfit("why", "is missing: how is that known?".to_owned()));
    }
    Ok(Input::Settle { by, key, happened, why })
}

fn alert_of(data: &Value, now: Timestamp) -> Result<Alert, String> {
    let source = A2A_SOURCE.parse().map_err(|error| format!("{error}"))?;
    let bytes = serde_json::to_vec(data).map_err(|error| error.to_string())?;
    let payload = masked_payload(alertmanager::parse(&bytes, &source, true, now)?);
    payload.alerts.into_iter().next().ok_or_else(|| "there is no alert in it".to_owned())
}

/// Scopes are carried in the caller by name.
fn may(caller: &Caller, scope: Scope) -> Result<(), A2aError> {
    if caller.has_scope(scope.as_str()) {
        return Ok(());
    }
    let who = if caller.is_anonymous() { "a caller without credentials" } else { caller.name.as_str() };
    Err(A2aError::new(ErrorKind::Forbidden, format!("{who} has no scope `{}`", scope.as_str())))
}

pub(crate) fn store_error(error: StoreError) -> A2aError {
    match error {
        StoreError::TooLarge { .. } => A2aError::invalid("message", error.to_string()),
        _ if error.is_for_good() => A2aError::internal(error),
        _ => A2aError::unavailable("the store does not answer now; try again").with_cause(error),
    }
}

fn change_error(error: ChangeError) -> A2aError {
    match error {
        ChangeError::NotFound(id) => A2aError::task_not_found(&id.to_string()),
        ChangeError::Refused(refused @ Refused::OtherPlan { .. }) => {
            A2aError::invalid("message.parts[0].data.plan_digest", refused.to_string())
        }
        ChangeError::Refused(refused) => A2aError::unsupported(refused.to_string()),
        ChangeError::Store(error) => store_error(error),
    }
}

#[async_trait]
impl Agent for Responder {
    async fn send(&self, caller: &Caller, request: SendRequest) -> Result<SendReply, A2aError> {
        let incident = self.take(caller, &request.message).await?;
        let incident =
            if request.configuration.return_immediately { incident } else { self.settled(incident).await? };
        Ok(SendReply::Task(task_of(&incident, true)))
    }

    async fn stream(&self, caller: &Caller, request: SendRequest) -> Result<EventStream, A2aError> {
        let incident = self.take(caller, &request.message).await?;
        self.follow(incident).await
    }

    async fn get_task(
        &self,
        caller: &Caller,
        id: &str,
        _history_length: Option<u32>,
    ) -> Result<Task, A2aError> {
        Ok(task_of(self.incident(caller, id).await?.as_ref(), true))
    }

    async fn list_tasks(&self, caller: &Caller, query: ListTasks) -> Result<TaskPage, A2aError> {
        may(caller, Scope::Read)?;
        tasks::list(&self.site, &query).await
    }

    async fn cancel(&self, caller: &Caller, id: &str) -> Result<Task, A2aError> {
        let incident = self.incident(caller, id).await?;
        may(caller, Scope::Operate)?;
        let input = Input::Withdraw { by: caller.name.clone() };
        match self.site.change(incident.id, &input, caller.name.as_str()).await {
            Ok(incident) => Ok(task_of(&incident, true)),
            Err(ChangeError::Refused(refused)) => {
                Err(A2aError::new(ErrorKind::TaskNotCancelable, refused.to_string()))
            }
            Err(error) => Err(change_error(error)),
        }
    }

    async fn subscribe(&self, caller: &Caller, id: &str) -> Result<EventStream, A2aError> {
        let incident = self.incident(caller, id).await?;
        if state_of(&incident).is_terminal() {
            return Err(A2aError::unsupported("the task is over; get it instead"));
        }
        self.follow(incident).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REST and A2A take a person's word by the same functions.
    #[test]
    fn a_word_on_an_unknown_step_needs_a_verdict_and_a_reason_of_some_length() {
        let field = |refused: Result<Input, Unfit>| refused.unwrap_err().field;
        let by = || "ada".to_owned();
        assert_eq!(field(settling(by(), None, None, "seen".to_owned())), "happened");
        assert_eq!(field(settling(by(), None, Some(true), " \n".to_owned())), "why");
        assert_eq!(field(settling(by(), Some(" "), Some(true), "seen".to_owned())), "step");
        assert!(settling(by(), None, Some(false), "seen".to_owned()).is_ok());
        assert_eq!(within_text("why", &"x".repeat(TEXT_BYTES_MAX)), Ok(()));
        let refused = within_text("why", &"x".repeat(TEXT_BYTES_MAX + 1)).unwrap_err();
        assert_eq!((refused.field, refused.why), ("why", format!("is longer than {TEXT_BYTES_MAX} bytes")));
    }
}
