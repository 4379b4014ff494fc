//! Tasks, messages, parts and artifacts.

use jiff::Timestamp;
use serde_json::Value;

use super::Metadata;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// Accepted, not begun.
    Submitted,
    /// Under way.
    Working,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Ended on request.
    Canceled,
    /// Waits for a further message.
    InputRequired,
    /// Ended because the agent does not want it.
    Rejected,
    /// Waits for an authorisation that the status message explains.
    AuthRequired,
}

impl TaskState {
    /// Every state, in the order of their numbers on the wire.
    pub const ALL: [TaskState; 8] = [
        TaskState::Submitted,
        TaskState::Working,
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Canceled,
        TaskState::InputRequired,
        TaskState::Rejected,
        TaskState::AuthRequired,
    ];

    /// True for a state that is never left: such a task takes no message, cancellation or subscription.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, TaskState::Completed | TaskState::Failed | TaskState::Canceled | TaskState::Rejected)
    }

    /// True while the task waits for its caller; a blocking send answers here.
    #[must_use]
    pub fn is_interrupted(self) -> bool {
        matches!(self, TaskState::InputRequired | TaskState::AuthRequired)
    }

    /// True when nothing happens to the task by itself: terminal or interrupted.
    #[must_use]
    pub fn is_settled(self) -> bool {
        self.is_terminal() || self.is_interrupted()
    }

    /// The state's name in logs and messages, such as `input-required`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Submitted => "submitted",
            TaskState::Working => "working",
            TaskState::Completed => "completed",
            TaskState::Failed => "failed",
            TaskState::Canceled => "canceled",
            TaskState::InputRequired => "input-required",
            TaskState::Rejected => "rejected",
            TaskState::AuthRequired => "auth-required",
        }
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that asks.
    User,
    /// The side that works.
    Agent,
}

/// What a part holds.
#[derive(Clone, Debug, PartialEq)]
pub enum PartContent {
    /// Plain text.
    Text(String),
    /// Bytes, as of a file.
    Raw(Vec<u8>),
    /// Where the content can be fetched; this crate never fetches it.
    Url(String),
    /// Any JSON. Numbers cross the wire as doubles: what must stay exact beyond 2^53 is sent as a string.
    Data(Value),
}

/// A piece of content in a message or an artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The content.
    pub content: PartContent,
    /// Free-form additions.
    pub metadata: Option<Metadata>,
    /// The file name, or empty.
    pub filename: String,
    /// The MIME type, or empty for the content's natural one.
    pub media_type: String,
}

impl Part {
    /// A text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(PartContent::Text(text.into()))
    }

    /// A JSON part.
    #[must_use]
    pub fn data(data: Value) -> Self {
        Self::of(PartContent::Data(data))
    }

    /// A part of bytes with their MIME type.
    pub fn raw(bytes: Vec<u8>, media_type: impl Into<String>) -> Self {
        Self { media_type: media_type.into(), ..Self::of(PartContent::Raw(bytes)) }
    }

    fn of(content: PartContent) -> Self {
        Self { content, metadata: None, filename: String::new(), media_type: String::new() }
    }

    /// The MIME type that was given, or else the one that the content has by nature; bytes and links have
    /// none.
    #[must_use]
    pub fn effective_media_type(&self) -> Option<&str> {
        match (&self.content, self.media_type.as_str()) {
            (PartContent::Text(_), "") => Some("text/plain"),
            (PartContent::Data(_), "") => Some("application/json"),
            (_, "") => None,
            (_, given) => Some(given),
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Chosen by the sender. The same id with the same content is the same message, however often it is sent.
    pub message_id: String,
    /// The context this belongs to, or empty.
    pub context_id: String,
    /// The task this continues, or empty for a new one.
    pub task_id: String,
    /// Who wrote it.
    pub role: Role,
    /// The content, at least one part.
    pub parts: Vec<Part>,
    /// Free-form additions; the key `skill` chooses the skill of a `TaskManager`.
    pub metadata: Option<Metadata>,
    /// URIs of the extensions in use.
    pub extensions: Vec<String>,
    /// Other tasks that this message speaks of.
    pub reference_task_ids: Vec<String>,
}

impl Message {
    /// A message of the asking side.
    pub fn user(message_id: impl Into<String>, parts: Vec<Part>) -> Self {
        Self::of(message_id.into(), Role::User, parts)
    }

    /// A message of the working side.
    pub fn agent(message_id: impl Into<String>, parts: Vec<Part>) -> Self {
        Self::of(message_id.into(), Role::Agent, parts)
    }

    fn of(message_id: String, role: Role, parts: Vec<Part>) -> Self {
        Self {
            message_id,
            context_id: String::new(),
            task_id: String::new(),
            role,
            parts,
            metadata: None,
            extensions: Vec::new(),
            reference_task_ids: Vec::new(),
        }
    }

    /// The same message for the named skill.
    #[must_use]
    pub fn with_skill(mut self, skill: impl Into<String>) -> Self {
        let metadata = self.metadata.get_or_insert_default();
        metadata.insert("skill".to_owned(), Value::String(skill.into()));
        self
    }

    /// The content of the first data part.
    #[must_use]
    pub fn data(&self) -> Option<&Value> {
        first_data(&self.parts)
    }

    /// The text parts, joined by line ends.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .parts
            .iter()
            .filter_map(|part| match &part.content {
                PartContent::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        texts.join("\n")
    }
}

fn first_data(parts: &[Part]) -> Option<&Value> {
    parts.iter().find_map(|part| match &part.content {
        PartContent::Data(data) => Some(data),
        _ => None,
    })
}

/// A state, since when, and in the agent's words.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskStatus {
    /// The state.
    pub state: TaskState,
    /// What the agent says about it.
    pub message: Option<Message>,
    /// Since when; a server of this crate always says.
    pub timestamp: Option<Timestamp>,
}

/// A result of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// Unique within the task.
    pub artifact_id: String,
    /// For people, or empty.
    pub name: String,
    /// For people, or empty.
    pub description: String,
    /// The content, at least one part.
    pub parts: Vec<Part>,
    /// Free-form additions.
    pub metadata: Option<Metadata>,
    /// URIs of the extensions in use.
    pub extensions: Vec<String>,
}

impl Artifact {
    /// An artifact of these parts.
    pub fn new(artifact_id: impl Into<String>, parts: Vec<Part>) -> Self {
        Self {
            artifact_id: artifact_id.into(),
            name: String::new(),
            description: String::new(),
            parts,
            metadata: None,
            extensions: Vec::new(),
        }
    }

    /// The same artifact under a name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The content of the first data part.
    #[must_use]
    pub fn data(&self) -> Option<&Value> {
        first_data(&self.parts)
    }
}

/// A piece of work and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Given by the server.
    pub id: String,
    /// The context this belongs to.
    pub context_id: String,
    /// Where it stands.
    pub status: TaskStatus,
    /// The results so far.
    pub artifacts: Vec<Artifact>,
    /// The messages so far, oldest first.
    pub history: Vec<Message>,
    /// Free-form additions.
    pub metadata: Option<Metadata>,
}

impl Task {
    /// Where the task stands.
    #[must_use]
    pub fn state(&self) -> TaskState {
        self.status.state
    }

    /// The artifact of that id or, failing this, of that name.
    #[must_use]
    pub fn artifact(&self, id_or_name: &str) -> Option<&Artifact> {
        let by_id = self.artifacts.iter().find(|artifact| artifact.artifact_id == id_or_name);
        by_id.or_else(|| self.artifacts.iter().find(|artifact| artifact.name == id_or_name))
    }

    /// Keeps the `length` most recent messages of the history; `None` keeps all.
    pub fn trim_history(&mut self, length: Option<u32>) {
        let Some(length) = length else { return };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let surplus = self.history.len().saturating_sub(length);
        self.history.drain(..surplus);
    }

    /// Takes in an artifact: `append` continues the one of the same id, otherwise that one is replaced.
    pub(crate) fn put_artifact(&mut self, artifact: Artifact, append: bool) {
        let known = self.artifacts.iter_mut().find(|known| known.artifact_id == artifact.artifact_id);
        match known {
            Some(known) if append => {
                known.parts.extend(artifact.parts);
                if let Some(metadata) = artifact.metadata {
                    known.metadata.get_or_insert_default().extend(metadata);
                }
                for extension in artifact.extensions {
                    if !known.extensions.contains(&extension) {
                        known.extensions.push(extension);
                    }
                }
            }
            Some(known) => *known = artifact,
            None => self.artifacts.push(artifact),
        }
    }
}
