//! The [`Agent`] over skills.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream;
use jiff::Timestamp;
use prost::Message as _;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::convert;
use crate::error::{A2aError, ErrorKind};
use crate::server::{Agent, Caller, EventStream};
use crate::types::{
    Artifact, ListTasks, Message, Part, SendReply, SendRequest, StreamEvent, Task, TaskPage, TaskState,
};

use super::registry::{self, Admission, Registry, RunId, Subscription};
use super::run::{self, Room};
use super::skill::Skill;
use super::{TaskLimits, TaskOptions, page};

/// An [`Agent`] whose work is a set of [`Skill`]s.
///
/// A message makes a task, and the task runs by itself, whoever is still listening. Tasks live in memory:
/// after a restart they are unknown, and a caller sends its message again. The key `skill` in the message's
/// metadata chooses the skill; without it the only skill or the default one is meant. The same message id
/// with the same content is the same message: it meets its task, also when that has ended.
#[derive(Clone)]
pub struct TaskManager {
    shared: Arc<Shared>,
    skills: Arc<BTreeMap<String, Arc<dyn Skill>>>,
    default_skill: Option<String>,
    new_id: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What a run needs of its manager.
pub(super) struct Shared {
    pub(super) limits: TaskLimits,
    pub(super) running: Arc<Semaphore>,
    /// Runs at work or waiting for it.
    admitted: Arc<Semaphore>,
    registry: Mutex<Registry>,
    stopping: CancellationToken,
    tracker: TaskTracker,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    new_id: Arc<dyn Fn() -> String + Send + Sync>,
}

impl TaskManager {
    /// A manager of these skills.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when there is no skill, two have the same id, or the default skill is none of
    /// them.
    pub fn new(skills: Vec<Arc<dyn Skill>>, options: TaskOptions) -> Result<Self, A2aError> {
        let mut by_id = BTreeMap::new();
        for skill in skills {
            let id = skill.id().to_owned();
            if by_id.insert(id.clone(), skill).is_some() {
                return Err(A2aError::invalid("skills", format!("two skills have the id {id:?}")));
            }
        }
        if by_id.is_empty() {
            return Err(A2aError::invalid("skills", "an agent needs at least one skill"));
        }
        let only = if by_id.len() == 1 { by_id.keys().next().cloned() } else { None };
        let default_skill = options.default_skill.or(only);
        if let Some(id) = default_skill.as_ref().filter(|id| !by_id.contains_key(*id)) {
            return Err(A2aError::invalid("default_skill", format!("no skill has the id {id:?}")));
        }
        let limits = options.limits;
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let shared = Shared {
            running: semaphore(limits.running_tasks_max.max(1)),
            admitted: semaphore(limits.running_tasks_max.max(1).saturating_add(limits.queued_tasks_max)),
            registry: Mutex::new(Registry::new(limits.clone())),
            limits,
            stopping: CancellationToken::new(),
            tracker: TaskTracker::new(),
            now: options.now,
            new_id: Arc::clone(&options.new_id),
        };
        Ok(Self { shared: Arc::new(shared), skills: Arc::new(by_id), default_skill, new_id: options.new_id })
    }

    /// Takes no more messages, lets the tasks at work end within `wait`, then asks them to stop and waits for
    /// the grace time. Returns how many are still at work, which are those that must not be dropped.
    pub async fn shutdown(&self, wait: Duration) -> usize {
        let shared = &self.shared;
        shared.admitted.close();
        shared.tracker.close();
        if tokio::time::timeout(wait, shared.tracker.wait()).await.is_err() {
            shared.stopping.cancel();
            let last = shared.limits.cancel_grace.saturating_mul(2).max(Duration::from_millis(100));
            let _ = tokio::time::timeout(last, shared.tracker.wait()).await;
        }
        shared.tracker.len()
    }

    /// Tasks at work or waiting for their turn, as a gauge.
    #[must_use]
    pub fn tasks_in_flight(&self) -> usize {
        self.shared.tracker.len()
    }

    /// The skill that a message asks for, where it asks.
    fn asked_skill(message: &Message) -> Result<Option<&str>, A2aError> {
        match message.metadata.as_ref().and_then(|metadata| metadata.get("skill")) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) => Ok(Some(id)),
            Some(_) => Err(A2aError::invalid("message.metadata.skill", "is not a string")),
        }
    }

    fn skill(&self, asked: Option<&str>) -> Result<&Arc<dyn Skill>, A2aError> {
        let id = asked.or(self.default_skill.as_deref());
        id.and_then(|id| self.skills.get(id)).ok_or_else(|| {
            let known: Vec<&str> = self.skills.keys().map(String::as_str).collect();
            let known = known.join(", ");
            let description = match asked {
                Some(asked) => format!("names no skill of this agent: {asked:?}; it has {known}"),
                None => format!("is required, since this agent has several skills: {known}"),
            };
            A2aError::invalid("message.metadata.skill", description)
        })
    }

    /// Takes the message in and starts its run, unless it came before. Returns the task as it stands right
    /// after that.
    fn take(&self, caller: &Caller, message: Message) -> Result<Subscription, A2aError> {
        let now = self.shared.now();
        let (content, _) = registry::content_of(&message)?;
        {
            let mut registry = self.shared.registry();
            registry.evict(now);
            if let Some(task_id) = registry.known(caller, &message, &content)? {
                return registry.subscribe_own(&task_id);
            }
        }
        let asked = Self::asked_skill(&message)?.map(str::to_owned);
        let resumes = !message.task_id.is_empty();
        if !resumes {
            self.skill(asked.as_deref())?.check(&message)?;
        }
        let room = self.room()?;

        let mut registry = self.shared.registry();
        let stopping = &self.shared.stopping;
        let admission = if resumes {
            registry.resume(caller, asked.as_deref(), message, now, stopping)?
        } else {
            let skill = self.skill(asked.as_deref())?;
            registry.begin(caller, skill.id(), message, now, stopping, self.new_id.as_ref())?
        };
        let start = match admission {
            Admission::Known { task_id } => return registry.subscribe_own(&task_id),
            Admission::Start(start) => start,
        };
        let subscription = registry.subscribe_own(&start.run.task_id)?;
        drop(registry);
        let skill = Arc::clone(self.skill(Some(&start.skill_id))?);
        let drive = run::drive(Arc::clone(&self.shared), skill, *start, caller.clone(), room);
        self.shared.tracker.spawn(drive);
        Ok(subscription)
    }

    fn room(&self) -> Result<Room, A2aError> {
        Arc::clone(&self.shared.admitted).try_acquire_owned().map_err(|_| {
            if self.shared.admitted.is_closed() {
                return A2aError::unavailable("the agent is shutting down");
            }
            let limits = &self.shared.limits;
            let (running, queued) = (limits.running_tasks_max, limits.queued_tasks_max);
            A2aError::unavailable(format!(
                "the agent works on {running} tasks and {queued} wait; try again later"
            ))
        })
    }

    /// The task once it has settled.
    async fn settled(&self, mut subscription: Subscription, within: Duration) -> Result<Task, A2aError> {
        let task_id = subscription.task.id;
        let settled = subscription.state.wait_for(|state| state.is_settled());
        match tokio::time::timeout(within, settled).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(A2aError::task_not_found(&task_id)),
            Err(_) => {
                let message =
                    format!("task {task_id:?} goes on after {} s; subscribe to it", within.as_secs());
                return Err(A2aError::new(ErrorKind::Timeout, message).with_metadata("taskId", &task_id));
            }
        }
        Ok(self.shared.registry().subscribe_own(&task_id)?.task)
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        // The registry is never left half changed: nothing in it panics between two changes that belong
        // together.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        (self.now)()
    }

    fn words(&self, parts: Vec<Part>) -> Option<Message> {
        (!parts.is_empty()).then(|| Message::agent((self.new_id)(), parts))
    }

    pub(super) fn begin(&self, run: &RunId) -> bool {
        self.registry().set_working(run, self.now())
    }

    pub(super) fn finish(&self, run: &RunId, state: TaskState, words: Vec<Part>) {
        let mut state = state;
        let mut message = self.words(words);
        if let Some(Err(error)) = message.clone().map(convert::message_to_proto) {
            tracing::warn!(task_id = %run.task_id, error = %error, "the skill's words cannot be sent");
            state = if state.is_terminal() { state } else { TaskState::Failed };
            message = self.words(vec![Part::text(format!("the agent's words cannot be sent: {error}"))]);
        }
        let now = self.now();
        let mut registry = self.registry();
        if registry.set_status(run, state, message, now) {
            registry.evict(now);
        }
    }

    /// A run that stopped before its end: on request, or because the agent goes.
    pub(super) fn finish_stopped(&self, run: &RunId) {
        if self.stopping.is_cancelled() {
            let words = "the agent shut down before the work was done";
            return self.finish(run, TaskState::Failed, vec![Part::text(words)]);
        }
        self.finish(run, TaskState::Canceled, Vec::new());
    }

    pub(super) fn report_status(&self, run: &RunId, words: Vec<Part>) -> Result<(), A2aError> {
        let message = self.words(words);
        if let Some(message) = message.clone() {
            convert::message_to_proto(message)?;
        }
        if self.registry().set_status(run, TaskState::Working, message, self.now()) {
            return Ok(());
        }
        Err(A2aError::unsupported("the task has ended and takes no status"))
    }

    pub(super) fn report_artifact(
        &self,
        run: &RunId,
        artifact: Artifact,
        append: bool,
        last_chunk: bool,
    ) -> Result<(), A2aError> {
        if artifact.artifact_id.is_empty() {
            return Err(A2aError::invalid("artifact_id", "is required"));
        }
        if artifact.parts.is_empty() {
            return Err(A2aError::invalid("parts", "needs at least one part"));
        }
        let bytes = convert::artifact_to_proto(artifact.clone())?.encoded_len();
        self.registry().put_artifact(run, artifact, append, last_chunk, bytes)
    }
}

/// The task first, then every change, until it has ended.
fn events(mut subscription: Subscription, history_length: Option<u32>) -> EventStream {
    subscription.task.trim_history(history_length);
    let first = StreamEvent::Task(subscription.task);
    Box::pin(stream::unfold((Some(first), subscription.events), async |(first, receiver)| {
        if let Some(first) = first {
            return Some((Ok(first), (None, receiver)));
        }
        let mut receiver = receiver?;
        match receiver.recv().await {
            Ok(event) => Some((Ok(Arc::unwrap_or_clone(event)), (None, Some(receiver)))),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(missed)) => {
                let message =
                    format!("the subscriber fell behind and missed {missed} events; subscribe again");
                Some((Err(A2aError::unavailable(message)), (None, None)))
            }
        }
    }))
}

#[async_trait]
impl Agent for TaskManager {
    async fn send(&self, caller: &Caller, request: SendRequest) -> Result<SendReply, A2aError> {
        let subscription = self.take(caller, request.message)?;
        let mut task = match request.configuration.return_immediately {
            true => subscription.task,
            false => self.settled(subscription, self.shared.limits.send_wait_max).await?,
        };
        task.trim_history(request.configuration.history_length);
        Ok(SendReply::Task(task))
    }

    async fn stream(&self, caller: &Caller, request: SendRequest) -> Result<EventStream, A2aError> {
        let subscription = self.take(caller, request.message)?;
        Ok(events(subscription, request.configuration.history_length))
    }

    async fn get_task(
        &self,
        caller: &Caller,
        id: &str,
        history_length: Option<u32>,
    ) -> Result<Task, A2aError> {
        let mut task = self.shared.registry().subscribe(caller, id)?.task;
        task.trim_history(history_length);
        Ok(task)
    }

    async fn list_tasks(&self, caller: &Caller, query: ListTasks) -> Result<TaskPage, A2aError> {
        let now = self.shared.now();
        let mut registry = self.shared.registry();
        registry.evict(now);
        page::paginate(registry.all_visible(caller), &query, self.shared.limits.page_bytes_max)
    }

    async fn cancel(&self, caller: &Caller, id: &str) -> Result<Task, A2aError> {
        let (run, cancelled, state) = self.shared.registry().run_of(caller, id)?;
        if state.is_terminal() {
            let error =
                A2aError::new(ErrorKind::TaskNotCancelable, format!("task {id:?} is {state} already"));
            return Err(error.with_metadata("taskId", id));
        }
        cancelled.cancel();
        if state.is_interrupted() {
            // Nothing is at work that could stop.
            self.shared.finish(&run, TaskState::Canceled, Vec::new());
        }
        let subscription = self.shared.registry().subscribe(caller, id)?;
        let within = self.shared.limits.cancel_grace.saturating_add(Duration::from_secs(1));
        match self.settled(subscription, within).await {
            // The work goes on to a point where it can stop: the answer tells how it stands now.
            Err(error) if error.kind() == ErrorKind::Timeout => self.get_task(caller, id, None).await,
            settled => settled,
        }
    }

    async fn subscribe(&self, caller: &Caller, id: &str) -> Result<EventStream, A2aError> {
        let subscription = self.shared.registry().subscribe(caller, id)?;
        let state = subscription.task.state();
        if state.is_terminal() {
            let message = format!("task {id:?} is {state} and changes no more; get it instead");
            return Err(A2aError::unsupported(message).with_metadata("taskId", id));
        }
        Ok(events(subscription, None))
    }
}
