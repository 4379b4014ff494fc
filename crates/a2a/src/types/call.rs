//! What is asked and answered: sends, lists, stream events.

use jiff::Timestamp;

use super::{Artifact, Message, Metadata, Task, TaskState, TaskStatus};

/// How the sender wants its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SendConfiguration {
    /// MIME types that the sender can read; empty for any.
    pub accepted_output_modes: Vec<String>,
    /// Messages of history wanted in the answer; `None` leaves it to the server.
    pub history_length: Option<u32>,
    /// Answer once the task exists, without waiting for its end.
    pub return_immediately: bool,
    /// The sender asked for push notifications, which this crate does not do: a server refuses such a
    /// request.
    pub wants_push_notifications: bool,
}

/// A message and how to answer it.
#[derive(Clone, Debug, PartialEq)]
pub struct SendRequest {
    /// The tenant of the chosen interface in the agent's card, or empty.
    pub tenant: String,
    /// The message.
    pub message: Message,
    /// How to answer.
    pub configuration: SendConfiguration,
    /// Free-form additions.
    pub metadata: Option<Metadata>,
}

impl SendRequest {
    /// Sends that message and waits for the task to settle.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self { tenant: String::new(), message, configuration: SendConfiguration::default(), metadata: None }
    }

    /// The same request, answered once the task exists.
    #[must_use]
    pub fn return_immediately(mut self) -> Self {
        self.configuration.return_immediately = true;
        self
    }
}

impl From<Message> for SendRequest {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}

/// The answer to a send.
#[derive(Clone, Debug, PartialEq)]
pub enum SendReply {
    /// The work goes on, or went on, as this task.
    Task(Task),
    /// No work was needed.
    Message(Message),
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// The whole task as it stands; the first event of every stream about a task.
    Task(Task),
    /// A direct answer; the only event of its stream.
    Message(Message),
    /// The status changed.
    StatusUpdate {
        /// Of which task.
        task_id: String,
        /// In which context.
        context_id: String,
        /// To what.
        status: TaskStatus,
        /// Free-form additions.
        metadata: Option<Metadata>,
    },
    /// A result arrived, or more of one.
    ArtifactUpdate {
        /// Of which task.
        task_id: String,
        /// In which context.
        context_id: String,
        /// The artifact, or its next parts.
        artifact: Artifact,
        /// The parts continue the artifact of the same id; otherwise it is replaced.
        append: bool,
        /// The artifact is whole with this.
        last_chunk: bool,
        /// Free-form additions.
        metadata: Option<Metadata>,
    },
}

impl StreamEvent {
    /// The state that the event tells of.
    #[must_use]
    pub fn state(&self) -> Option<TaskState> {
        match self {
            StreamEvent::Task(task) => Some(task.state()),
            StreamEvent::StatusUpdate { status, .. } => Some(status.state),
            StreamEvent::Message(_) | StreamEvent::ArtifactUpdate { .. } => None,
        }
    }

    /// True when no event can follow this one.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, StreamEvent::Message(_)) || self.state().is_some_and(TaskState::is_terminal)
    }
}

/// Asks for a page of tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListTasks {
    /// The tenant of the chosen interface in the agent's card, or empty.
    pub tenant: String,
    /// Only of this context, unless empty.
    pub context_id: String,
    /// Only in this state.
    pub status: Option<TaskState>,
    /// 1 to 100; 50 when `None`.
    pub page_size: Option<u32>,
    /// From the page before, or empty for the first.
    pub page_token: String,
    /// Messages of history wanted with each task; `None` leaves it to the server.
    pub history_length: Option<u32>,
    /// Only tasks whose status is of this time or later.
    pub status_timestamp_after: Option<Timestamp>,
    /// Artifacts are left out unless this is set.
    pub include_artifacts: bool,
}

/// A page of tasks, last changed first.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// For the next page; empty on the last.
    pub next_page_token: String,
    /// The page size that was used.
    pub page_size: u32,
    /// How many tasks match, on all pages together.
    pub total_size: u32,
}
