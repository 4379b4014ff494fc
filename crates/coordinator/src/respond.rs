//! The skill `respond`: every incident is one task, whether it came by webhook, by REST or by a message here.
//!
//! | incident | task state |
//! |---|---|
//! | open, investigating, resolved | working |
//! | waits for approval, escalated, taken over | input required, with the question in the status message |
//! | closed after it was resolved | completed |
//! | withdrawn | canceled |
//! | closed by a person although nothing could be done, merged | failed, canceled |

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use quell_a2a::{
    A2aError, Agent, Artifact, Caller, ErrorKind, EventStream, ListTasks, Message, Part, SendReply,
    SendRequest, StreamEvent, Task, TaskPage, TaskState, TaskStatus,
};
use quell_incident::incident::{Outcome, Phase};
use quell_incident::severity::Status;
use quell_incident::workflow::{Input, Refused};
use quell_incident::{Digest, Envelope, Event, Incident, IncidentId, Revision, view};
use quell_service::Scope;
use quell_store::{Cursor, ListQuery, MessageKey, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::alertmanager;
use crate::draft::ManualDraft;
use crate::site::{ChangeError, Site};

/// Pages of the store that one page of tasks may look through.
const PAGES_MAX: usize = 20;

/// The coordinator as an agent.
pub(crate) struct Responder {
    site: Arc<Site>,
}

#[derive(Deserialize)]
struct Decision {
    decision: String,
    plan_digest: Option<String>,
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
        let draft = if data.get("labels").is_some() {
            self.draft_of_alert(data).map_err(invalid)?
        } else {
            let draft: ManualDraft =
                ManualDraft::deserialize(data).map_err(|error| invalid(error.to_string()))?;
            draft.into_draft(&caller.name).map_err(invalid)?
        };
        let content = Digest::of(data).map_err(A2aError::internal)?;
        let key = MessageKey {
            caller: caller.name.clone(),
            tenant: self.site.tenant.clone(),
            message_id: message.message_id.clone(),
        };
        // Callers without credentials share nothing, so their message ids are not kept.
        let key = (!caller.is_anonymous()).then_some((key, content));
        match self.site.open(draft, &caller.name, key).await {
            Ok(incident) => Ok(incident),
            Err(StoreError::MessageTaken { incident_id, same_content: true }) => {
                let incident = self.site.store.incident(incident_id).await.map_err(store_error)?;
                incident.ok_or_else(|| A2aError::task_not_found(&incident_id.to_string()))
            }
            Err(StoreError::MessageTaken { incident_id, .. }) => Err(A2aError::invalid(
                "message.message_id",
                format!("this id opened {incident_id} with another content; use a new one"),
            )),
            Err(error) => Err(store_error(error)),
        }
    }

    fn draft_of_alert(&self, data: &Value) -> Result<quell_incident::workflow::Draft, String> {
        let source = "a2a".parse().map_err(|error| format!("{error}"))?;
        let bytes = serde_json::to_vec(data).map_err(|error| error.to_string())?;
        let payload = alertmanager::parse(&bytes, &source, true, self.site.now())?;
        let alert = payload.alerts.into_iter().next().ok_or("there is no alert in it")?;
        Ok(quell_incident::workflow::Draft {
            head: self.site.settings().mapping.head(&alert),
            affected_systems: vec![alert.affected_system()],
            origin: "a2a".to_owned(),
            linked_to: None,
            alert: Some(alert),
        })
    }

    async fn decide(
        &self,
        caller: &Caller,
        message: &Message,
        data: &Value,
    ) -> Result<Arc<Incident>, A2aError> {
        let incident = self.incident(caller, &message.task_id).await?;
        may(caller, Scope::Approve)?;
        if !message.context_id.is_empty() && message.context_id != context_of(&incident) {
            return Err(A2aError::invalid("message.context_id", "it is not the task's"));
        }
        if incident.status() == Status::Closed {
            return Err(A2aError::unsupported("the task is over; open a new incident"));
        }
        let invalid =
            |field: &str, why: String| A2aError::invalid(format!("message.parts[0].data.{field}"), why);
        let decision = Decision::deserialize(data).map_err(|error| invalid("decision", error.to_string()))?;
        let digest = decision.plan_digest.as_deref().map(str::parse::<Digest>).transpose();
        let digest = digest.map_err(|error| invalid("plan_digest", error.to_string()))?;
        let by = caller.name.clone();
        let input = match decision.decision.as_str() {
            "approve" => {
                let digest =
                    digest.ok_or_else(|| invalid("plan_digest", "which plan is approved?".to_owned()))?;
                Input::Approve { by, digest }
            }
            "deny" => Input::Deny { by, why: decision.why, digest },
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(invalid("decision", format!("`{other}` is neither approve nor deny")));
            }
        };
        self.site.change(incident.id, &input, &caller.name).await.map_err(change_error)
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

    /// The task as it stands, then one event or two for each event of the log, in its order, until the task is over.
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

struct Following {
    site: Arc<Site>,
    changes: tokio::sync::broadcast::Receiver<quell_store::Changed>,
    id: IncidentId,
    seen: Revision,
    over: bool,
}

impl Following {
    async fn next(mut self) -> Option<(Vec<Result<StreamEvent, A2aError>>, Self)> {
        if self.over {
            return None;
        }
        loop {
            match self.changes.recv().await {
                Ok(changed) if changed.incident_id != self.id || changed.revision <= self.seen => {}
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    let events = self.since_seen().await;
                    self.over |= events.iter().any(|event| event.as_ref().map_or(true, StreamEvent::is_last));
                    if !events.is_empty() {
                        return Some((events, self));
                    }
                }
                Err(RecvError::Closed) => {
                    self.over = true;
                    return Some((vec![Err(A2aError::unavailable("the coordinator is stopping"))], self));
                }
            }
        }
    }

    async fn since_seen(&mut self) -> Vec<Result<StreamEvent, A2aError>> {
        let log = match self.site.store.log(self.id).await {
            Ok(log) => log,
            Err(error) => return vec![Err(store_error(error))],
        };
        let mut events = Vec::new();
        let mut incident = None;
        for envelope in &log {
            incident = match incident {
                None => quell_incident::workflow::opened(envelope).ok(),
                Some(mut known) => {
                    quell_incident::workflow::apply(&mut known, envelope).is_ok().then_some(known)
                }
            };
            let Some(incident) = &incident else {
                return vec![Err(A2aError::internal("the incident's log cannot be folded"))];
            };
            if envelope.revision > self.seen {
                events.extend(events_of(incident, envelope).into_iter().map(Ok));
            }
        }
        self.seen = log.last().map_or(self.seen, |envelope| envelope.revision);
        events
    }
}

fn events_of(incident: &Incident, envelope: &Envelope) -> Vec<StreamEvent> {
    let (task_id, context_id) = (incident.id.to_string(), context_of(incident));
    let artifact = match &envelope.event {
        Event::Diagnosed { report } => Some(artifact("diagnosis", json!(report))),
        Event::Planned { plan, digest, .. } => {
            Some(artifact("plan", json!({"digest": digest, "plan": plan})))
        }
        Event::Closed { .. } => post_mortem(incident),
        _ => None,
    };
    let artifact = artifact.map(|artifact| StreamEvent::ArtifactUpdate {
        task_id: task_id.clone(),
        context_id: context_id.clone(),
        artifact,
        append: false,
        last_chunk: true,
        metadata: None,
    });
    let mut status = status_of(incident, envelope.at);
    if let Some(message) = &mut status.message {
        message.parts = vec![
            Part::text(view::describe(&envelope.event)),
            Part::data(json!({
                "status": incident.status(),
                "phase": incident.phase.name(),
                "summary": view::summary(incident),
                "event": view::timeline(std::slice::from_ref(envelope)).pop(),
            })),
        ];
    }
    let status = StreamEvent::StatusUpdate { task_id, context_id, status, metadata: None };
    artifact.into_iter().chain(std::iter::once(status)).collect()
}

fn artifact(name: &str, data: Value) -> Artifact {
    Artifact::new(name, vec![Part::data(data)]).with_name(name)
}

fn post_mortem(incident: &Incident) -> Option<Artifact> {
    let text = incident.post_mortem.clone()?;
    Some(Artifact::new("post-mortem", vec![Part::text(text)]).with_name("post-mortem"))
}

/// Incidents of one alert share their context: the first one's id.
fn context_of(incident: &Incident) -> String {
    incident.linked_to.unwrap_or(incident.id).to_string()
}

fn state_of(incident: &Incident) -> TaskState {
    match &incident.phase {
        Phase::AwaitingApproval { .. } | Phase::Escalated { .. } | Phase::TakenOver { .. } => {
            TaskState::InputRequired
        }
        Phase::Closed { outcome: Outcome::Resolved { .. } } => TaskState::Completed,
        Phase::Closed { outcome: Outcome::ClosedByPerson { .. } } => TaskState::Failed,
        Phase::Closed { outcome: Outcome::Withdrawn { .. } } | Phase::Merged { .. } => TaskState::Canceled,
        _ => TaskState::Working,
    }
}

fn status_of(incident: &Incident, at: Timestamp) -> TaskStatus {
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

fn task_of(incident: &Incident, artifacts: bool) -> Task {
    let mut found = Vec::new();
    if artifacts {
        found.extend(incident.report.as_ref().map(|report| artifact("diagnosis", json!(report))));
        let plan = incident.plan.as_ref();
        found.extend(plan.map(|(digest, plan)| artifact("plan", json!({"digest": digest, "plan": plan}))));
        if !incident.actions.is_empty() {
            let actions = view::to_json(incident)["remediation_actions"].take();
            found.push(artifact("outcome", json!({"actions": actions, "resolution": incident.how()})));
        }
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

/// Scopes are carried in the caller by name.
fn may(caller: &Caller, scope: Scope) -> Result<(), A2aError> {
    if caller.has_scope(scope.as_str()) {
        return Ok(());
    }
    let who = if caller.is_anonymous() { "a caller without credentials" } else { caller.name.as_str() };
    Err(A2aError::new(ErrorKind::Forbidden, format!("{who} has no scope `{}`", scope.as_str())))
}

fn store_error(error: StoreError) -> A2aError {
    if error.is_retryable() {
        return A2aError::unavailable("the store does not answer now; try again").with_cause(error);
    }
    A2aError::internal(error)
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
        let page_size = query.page_size.unwrap_or(50);
        let cursor = match query.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .parse::<Cursor>()
                    .map_err(|error| A2aError::invalid("page_token", format!("{error}")))?,
            ),
        };
        let filtered =
            query.status.is_some() || !query.context_id.is_empty() || query.status_timestamp_after.is_some();
        let mut ask = ListQuery { limit: page_size as usize, cursor, ..ListQuery::default() };
        let mut tasks = Vec::new();
        let mut next_page_token = String::new();
        let mut total = 0;
        for _ in 0..PAGES_MAX {
            let page = self.site.store.list(&ask).await.map_err(store_error)?;
            total = page.total;
            for row in &page.rows {
                let Some(incident) = self.site.store.incident(row.id).await.map_err(store_error)? else {
                    continue;
                };
                let wanted = query.status.is_none_or(|state| state == state_of(&incident))
                    && (query.context_id.is_empty() || query.context_id == context_of(&incident))
                    && query.status_timestamp_after.is_none_or(|after| incident.updated_at >= after);
                if wanted {
                    tasks.push(task_of(&incident, query.include_artifacts));
                }
            }
            next_page_token = page.next.map(|next| next.to_string()).unwrap_or_default();
            ask.cursor = page.next;
            if !filtered || next_page_token.is_empty() || tasks.len() >= page_size as usize {
                break;
            }
            ask.limit = (page_size as usize - tasks.len()).max(1);
        }
        tasks.sort_by_key(|task| std::cmp::Reverse(task.status.timestamp));
        let total = if filtered && next_page_token.is_empty() && query.page_token.is_empty() {
            tasks.len() as u64
        } else {
            total
        };
        Ok(TaskPage {
            tasks,
            next_page_token,
            page_size,
            total_size: u32::try_from(total).unwrap_or(u32::MAX),
        })
    }

    async fn cancel(&self, caller: &Caller, id: &str) -> Result<Task, A2aError> {
        let incident = self.incident(caller, id).await?;
        may(caller, Scope::Operate)?;
        let input = Input::Withdraw { by: caller.name.clone() };
        match self.site.change(incident.id, &input, &caller.name).await {
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
