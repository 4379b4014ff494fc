//! The tasks themselves, as plain state: nothing here waits, spawns or reads a clock. Every change and the
//! event that tells of it happen under one lock, so that all subscribers see the same order, and a snapshot
//! fits exactly before the events after it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use sha2::{Digest, Sha256};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::convert;
use crate::error::A2aError;
use crate::server::Caller;
use crate::types::{Artifact, Message, StreamEvent, Task, TaskState, TaskStatus};

use super::TaskLimits;

/// One run of a task's skill. A task that asked for input runs again under the next number, and what the run
/// before still reports is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunId {
    pub(super) task_id: String,
    pub(super) number: u32,
}

/// A message, once for each caller and tenant.
#[derive(Clone, PartialEq, Eq, Hash)]
struct MessageKey {
    caller: String,
    tenant: String,
    message_id: String,
}

struct KnownMessage {
    content: [u8; 32],
    task_id: String,
}

struct Entry {
    task: Task,
    owner: String,
    tenant: String,
    skill_id: String,
    run_number: u32,
    cancelled: CancellationToken,
    /// Gone once the task has ended: subscribers read what is left and then the end.
    events: Option<broadcast::Sender<Arc<StreamEvent>>>,
    state: watch::Sender<TaskState>,
    message_keys: Vec<MessageKey>,
    bytes: usize,
}

/// A run to be started.
pub(super) struct Start {
    pub(super) run: RunId,
    pub(super) skill_id: String,
    pub(super) context_id: String,
    pub(super) message: Message,
    pub(super) earlier: Vec<Message>,
    pub(super) cancelled: CancellationToken,
}

/// What becomes of a message.
pub(super) enum Admission {
    /// It came before; this is its task.
    Known { task_id: String },
    /// There is work to do.
    Start(Box<Start>),
}

/// A task as it stands, and what follows it.
pub(super) struct Subscription {
    pub(super) task: Task,
    pub(super) events: Option<broadcast::Receiver<Arc<StreamEvent>>>,
    pub(super) state: watch::Receiver<TaskState>,
}

pub(super) struct Registry {
    limits: TaskLimits,
    tasks: HashMap<String, Entry>,
    messages: HashMap<MessageKey, KnownMessage>,
    /// Ended tasks, the oldest end first.
    finished: VecDeque<(Timestamp, String)>,
    finished_bytes: usize,
}

/// The message as bytes: the same for the same content, whatever the order of its keys.
pub(super) fn content_of(message: &Message) -> Result<([u8; 32], usize), A2aError> {
    let encoded = convert::message_to_proto(message.clone())?.encode_to_vec();
    Ok((Sha256::digest(&encoded).into(), encoded.len()))
}

impl Registry {
    pub(super) fn new(limits: TaskLimits) -> Self {
        Self {
            limits,
            tasks: HashMap::new(),
            messages: HashMap::new(),
            finished: VecDeque::new(),
            finished_bytes: 0,
        }
    }

    /// The task of a message that came before.
    pub(super) fn known(
        &self,
        caller: &Caller,
        message: &Message,
        content: &[u8; 32],
    ) -> Result<Option<String>, A2aError> {
        let Some(known) = message_key(caller, message).and_then(|key| self.messages.get(&key)) else {
            return Ok(None);
        };
        if known.content != *content {
            let error = A2aError::invalid("message.message_id", "was used before for another content");
            return Err(error.with_metadata("taskId", &known.task_id));
        }
        Ok(Some(known.task_id.clone()))
    }

    /// Makes a task for a message. `new_id` is asked for the task's id and, where the message names none, the
    /// context's.
    pub(super) fn begin(
        &mut self,
        caller: &Caller,
        skill_id: &str,
        mut message: Message,
        now: Timestamp,
        parent: &CancellationToken,
        new_id: &dyn Fn() -> String,
    ) -> Result<Admission, A2aError> {
        let (content, bytes) = content_of(&message)?;
        if let Some(task_id) = self.known(caller, &message, &content)? {
            return Ok(Admission::Known { task_id });
        }
        let open = self.tasks.len() - self.finished.len();
        if open >= self.limits.open_tasks_max {
            return Err(A2aError::unavailable(format!("the agent has {open} open tasks; try again later")));
        }
        let task_id = new_id();
        if message.context_id.is_empty() {
            message.context_id = new_id();
        }
        let key = message_key(caller, &message);
        message.task_id.clone_from(&task_id);
        let context_id = message.context_id.clone();
        let status = TaskStatus { state: TaskState::Submitted, message: None, timestamp: Some(now) };
        let cancelled = parent.child_token();
        let entry = Entry {
            task: Task {
                id: task_id.clone(),
                context_id: context_id.clone(),
                status,
                artifacts: Vec::new(),
                history: vec![message.clone()],
                metadata: None,
            },
            owner: caller.name.clone(),
            tenant: caller.tenant.clone(),
            skill_id: skill_id.to_owned(),
            run_number: 0,
            cancelled: cancelled.clone(),
            events: Some(broadcast::Sender::new(self.limits.subscriber_events_max.max(1))),
            state: watch::Sender::new(TaskState::Submitted),
            message_keys: key.iter().cloned().collect(),
            bytes,
        };
        self.tasks.insert(task_id.clone(), entry);
        if let Some(key) = key {
            self.messages.insert(key, KnownMessage { content, task_id: task_id.clone() });
        }
        Ok(Admission::Start(Box::new(Start {
            run: RunId { task_id, number: 0 },
            skill_id: skill_id.to_owned(),
            context_id,
            message,
            earlier: Vec::new(),
            cancelled,
        })))
    }

    /// Lets a message continue the task that it names. `skill_id` is what the message asks for, where it
    /// asks.
    pub(super) fn resume(
        &mut self,
        caller: &Caller,
        skill_id: Option<&str>,
        mut message: Message,
        now: Timestamp,
        parent: &CancellationToken,
    ) -> Result<Admission, A2aError> {
        let (content, bytes) = content_of(&message)?;
        if let Some(task_id) = self.known(caller, &message, &content)? {
            return Ok(Admission::Known { task_id });
        }
        let history_messages_max = self.limits.history_messages_max;
        let key = message_key(caller, &message);
        let entry = self.visible_mut(caller, &message.task_id)?;
        let state = entry.task.state();
        if !message.context_id.is_empty() && message.context_id != entry.task.context_id {
            return Err(A2aError::invalid("message.context_id", "is not the context of the task"));
        }
        if skill_id.is_some_and(|skill_id| skill_id != entry.skill_id) {
            let description = format!("is not the skill of the task, which is {:?}", entry.skill_id);
            return Err(A2aError::invalid("message.metadata.skill", description));
        }
        if !state.is_interrupted() {
            let message =
                format!("the task is {state} and takes no message; only a task that asks for input does");
            return Err(A2aError::unsupported(message));
        }
        if entry.task.history.len() + 2 > history_messages_max {
            let message = format!("the task has its {history_messages_max} messages and takes no more");
            return Err(A2aError::unsupported(message));
        }
        message.context_id.clone_from(&entry.task.context_id);
        let context_id = message.context_id.clone();
        // The question that is answered here would be lost with the status that it came with.
        entry.task.history.extend(entry.task.status.message.take());
        let earlier = entry.task.history.clone();
        entry.task.history.push(message.clone());
        entry.bytes += bytes;
        entry.run_number += 1;
        entry.cancelled = parent.child_token();
        entry.message_keys.extend(key.clone());
        let start = Start {
            run: RunId { task_id: entry.task.id.clone(), number: entry.run_number },
            skill_id: entry.skill_id.clone(),
            context_id,
            message,
            earlier,
            cancelled: entry.cancelled.clone(),
        };
        entry.change_status(TaskState::Working, None, now);
        if let Some(key) = key {
            self.messages.insert(key, KnownMessage { content, task_id: start.run.task_id.clone() });
        }
        Ok(Admission::Start(Box::new(start)))
    }

    /// Changes a task's status on behalf of one run. False when that run has nothing to say any more.
    pub(super) fn set_status(
        &mut self,
        run: &RunId,
        state: TaskState,
        message: Option<Message>,
        now: Timestamp,
    ) -> bool {
        let Some(entry) = self.tasks.get_mut(&run.task_id).filter(|entry| entry.is_at(run)) else {
            return false;
        };
        let bytes = message.as_ref().map_or(0, message_bytes);
        entry.bytes += if state.is_settled() { bytes } else { 0 };
        entry.change_status(state, message, now);
        if state.is_terminal() {
            entry.events = None;
            self.finished_bytes += entry.bytes;
            self.finished.push_back((entry.task.status.timestamp.unwrap_or(now), run.task_id.clone()));
        }
        true
    }

    /// Marks a run as begun. False when it was cancelled before.
    pub(super) fn set_working(&mut self, run: &RunId, now: Timestamp) -> bool {
        let entry = self.tasks.get(&run.task_id).filter(|entry| entry.is_at(run));
        match entry.map(|entry| entry.task.state()) {
            None => false,
            Some(TaskState::Working) => true,
            Some(_) => self.set_status(run, TaskState::Working, None, now),
        }
    }

    pub(super) fn put_artifact(
        &mut self,
        run: &RunId,
        artifact: Artifact,
        append: bool,
        last_chunk: bool,
        bytes: usize,
    ) -> Result<(), A2aError> {
        let limits = &self.limits;
        let entry = self.tasks.get_mut(&run.task_id).filter(|entry| entry.is_at(run));
        let entry = entry.ok_or_else(|| A2aError::unsupported("the task has ended and takes no artifact"))?;
        let artifacts = &entry.task.artifacts;
        let known = artifacts.iter().any(|known| known.artifact_id == artifact.artifact_id);
        if !known && artifacts.len() >= limits.artifacts_max {
            let description = format!("has its {} artifacts and takes no more", limits.artifacts_max);
            return Err(A2aError::invalid("task", description));
        }
        if entry.bytes.saturating_add(bytes) > limits.task_bytes_max {
            let description = format!("would grow beyond {} bytes", limits.task_bytes_max);
            return Err(A2aError::invalid("task", description));
        }
        entry.bytes += bytes;
        // What continues nothing is sent as new, so that every receiver treats it alike.
        let append = append && known;
        entry.task.put_artifact(artifact.clone(), append);
        entry.publish(StreamEvent::ArtifactUpdate {
            task_id: entry.task.id.clone(),
            context_id: entry.task.context_id.clone(),
            artifact,
            append,
            last_chunk,
            metadata: None,
        });
        Ok(())
    }

    /// The task as it stands with all that follows, as far as the caller may see it.
    pub(super) fn subscribe(&self, caller: &Caller, task_id: &str) -> Result<Subscription, A2aError> {
        self.visible(caller, task_id).map(Entry::subscription)
    }

    /// The same for the task that the caller's own message just made or met, also for a caller without a
    /// name.
    pub(super) fn subscribe_own(&self, task_id: &str) -> Result<Subscription, A2aError> {
        self.tasks.get(task_id).map(Entry::subscription).ok_or_else(|| A2aError::task_not_found(task_id))
    }

    /// The run to cancel, its token, and where the task stands.
    pub(super) fn run_of(
        &self,
        caller: &Caller,
        task_id: &str,
    ) -> Result<(RunId, CancellationToken, TaskState), A2aError> {
        let entry = self.visible(caller, task_id)?;
        let run = RunId { task_id: task_id.to_owned(), number: entry.run_number };
        Ok((run, entry.cancelled.clone(), entry.task.state()))
    }

    /// Every task that the caller may see, with its size in bytes.
    pub(super) fn all_visible<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = (&'a Task, usize)> {
        self.tasks
            .values()
            .filter(|entry| entry.is_visible_to(caller))
            .map(|entry| (&entry.task, entry.bytes))
    }

    /// Forgets ended tasks that are too old or too many, the oldest end first.
    pub(super) fn evict(&mut self, now: Timestamp) {
        let keep = SignedDuration::try_from(self.limits.finished_keep).unwrap_or(SignedDuration::MAX);
        while let Some((ended, _)) = self.finished.front() {
            let too_old = now.duration_since(*ended) > keep;
            let too_many = self.finished.len() > self.limits.finished_tasks_max;
            let too_big = self.finished_bytes > self.limits.finished_bytes_max;
            if !(too_old || too_many || too_big) {
                return;
            }
            let Some((_, task_id)) = self.finished.pop_front() else { return };
            let Some(entry) = self.tasks.remove(&task_id) else { continue };
            self.finished_bytes = self.finished_bytes.saturating_sub(entry.bytes);
            for key in entry.message_keys {
                self.messages.remove(&key);
            }
        }
    }

    fn visible(&self, caller: &Caller, task_id: &str) -> Result<&Entry, A2aError> {
        let entry = self.tasks.get(task_id).filter(|entry| entry.is_visible_to(caller));
        entry.ok_or_else(|| A2aError::task_not_found(task_id))
    }

    fn visible_mut(&mut self, caller: &Caller, task_id: &str) -> Result<&mut Entry, A2aError> {
        let entry = self.tasks.get_mut(task_id).filter(|entry| entry.is_visible_to(caller));
        entry.ok_or_else(|| A2aError::task_not_found(task_id))
    }
}

impl Entry {
    fn is_visible_to(&self, caller: &Caller) -> bool {
        let owns = !caller.is_anonymous() && caller.name == self.owner;
        caller.tenant == self.tenant && (owns || caller.has_scope(Caller::SCOPE_ALL_TASKS))
    }

    /// True while that run may still report.
    fn is_at(&self, run: &RunId) -> bool {
        self.run_number == run.number && !self.task.state().is_terminal()
    }

    fn change_status(&mut self, state: TaskState, mut message: Option<Message>, now: Timestamp) {
        if let Some(message) = &mut message {
            message.task_id.clone_from(&self.task.id);
            message.context_id.clone_from(&self.task.context_id);
        }
        // Lists are sorted by this: a clock that was set back does not move a task behind its own past.
        let timestamp = self.task.status.timestamp.map_or(now, |last| last.max(now));
        self.task.status = TaskStatus { state, message, timestamp: Some(timestamp) };
        self.publish(StreamEvent::StatusUpdate {
            task_id: self.task.id.clone(),
            context_id: self.task.context_id.clone(),
            status: self.task.status.clone(),
            metadata: None,
        });
        self.state.send_replace(state);
    }

    fn publish(&self, event: StreamEvent) {
        if let Some(events) = &self.events {
            // Without a receiver there is nobody to tell.
            let _ = events.send(Arc::new(event));
        }
    }

    fn subscription(&self) -> Subscription {
        Subscription {
            task: self.task.clone(),
            events: self.events.as_ref().map(broadcast::Sender::subscribe),
            state: self.state.subscribe(),
        }
    }
}

fn message_key(caller: &Caller, message: &Message) -> Option<MessageKey> {
    (!caller.is_anonymous()).then(|| MessageKey {
        caller: caller.name.clone(),
        tenant: caller.tenant.clone(),
        message_id: message.message_id.clone(),
    })
}

fn message_bytes(message: &Message) -> usize {
    content_of(message).map_or(0, |(_, bytes)| bytes)
}
