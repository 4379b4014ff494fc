//! What a daemon writes: skills, and what they are given.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::A2aError;
use crate::server::Caller;
use crate::types::{Artifact, Message, Part};

use super::manager::Shared;
use super::registry::RunId;

/// One kind of work that an agent does.
#[async_trait]
pub trait Skill: Send + Sync + 'static {
    /// The id in the agent's card, and what callers put into their message's `skill`.
    fn id(&self) -> &str;

    /// Looks at a message before there is a task for it. An error here is the answer to the call, and nothing
    /// is kept.
    ///
    /// # Errors
    /// Mostly [`A2aError::invalid`], naming the field.
    fn check(&self, message: &Message) -> Result<(), A2aError> {
        let _ = message;
        Ok(())
    }

    /// Does the work. A task that asked for input runs again, with the answer as its message. A panic fails
    /// the task only.
    async fn run(&self, work: Work) -> Result<Outcome, SkillError>;

    /// May the work be dropped where it waits, when it does not end by itself within the grace time after a
    /// cancellation? Work that changes something outside says no: it alone knows where it can stop.
    fn may_be_dropped(&self) -> bool {
        true
    }
}

/// What a skill is given.
#[non_exhaustive]
pub struct Work {
    /// The task.
    pub task_id: String,
    /// Its context.
    pub context_id: String,
    /// What to do, or the answer to the question that the task asked.
    pub message: Message,
    /// The task's messages before that one, oldest first.
    pub earlier: Vec<Message>,
    /// Who sent the message.
    pub caller: Caller,
    /// Cancelled when somebody asks for the task to stop, and when the agent shuts down.
    pub cancelled: CancellationToken,
    /// For telling of progress.
    pub updates: Updates,
}

impl Work {
    /// The message's first data part.
    #[must_use]
    pub fn data(&self) -> Option<&Value> {
        self.message.data()
    }
}

/// How a run of a skill ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The task is done.
    Completed {
        /// The results; each replaces an earlier one of the same id.
        artifacts: Vec<Artifact>,
        /// A word about it, or empty.
        words: Vec<Part>,
    },
    /// The task needs a further message.
    InputRequired {
        /// What is asked.
        question: Vec<Part>,
    },
    /// The task needs an authorisation. A message that continues it is no grant by itself: the skill checks
    /// it.
    AuthRequired {
        /// What is to be authorised, and how.
        question: Vec<Part>,
    },
}

impl Outcome {
    /// Done, with these results.
    #[must_use]
    pub fn completed(artifacts: Vec<Artifact>) -> Self {
        Self::Completed { artifacts, words: Vec::new() }
    }

    /// Done, with one JSON document as the artifact of that name.
    pub fn data(name: impl Into<String>, data: Value) -> Self {
        let name = name.into();
        Self::completed(vec![Artifact::new(name.clone(), vec![Part::data(data)]).with_name(name)])
    }
}

/// Why a run of a skill ended without an outcome. The text is shown to the caller as the task's status
/// message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkillError {
    /// The task fails.
    #[error("{message}")]
    Failed {
        /// For the caller.
        message: String,
        /// For the log alone.
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The skill does not want this work: the task is rejected.
    #[error("{message}")]
    Rejected {
        /// For the caller.
        message: String,
    },
    /// The skill stopped because it was asked to.
    #[error("canceled on request")]
    Canceled,
}

impl SkillError {
    /// The task fails with that message.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), cause: None }
    }

    /// The task fails with that message; the cause goes to the log.
    pub fn failed_because(
        message: impl Into<String>,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { message: message.into(), cause: Some(cause.into()) }
    }

    /// The task is rejected with that message.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self::Rejected { message: message.into() }
    }
}

impl From<A2aError> for SkillError {
    fn from(error: A2aError) -> Self {
        Self::failed(error.message().to_owned())
    }
}

/// Tells the task's subscribers of progress. Nothing here waits: a subscriber that is too slow is let go, not
/// waited for.
#[derive(Clone)]
pub struct Updates {
    pub(super) shared: Arc<Shared>,
    pub(super) run: RunId,
}

impl Updates {
    /// Says in words what is being done; the task stays working.
    ///
    /// # Errors
    /// [`UnsupportedOperation`](crate::ErrorKind::UnsupportedOperation) when the task has ended meanwhile;
    /// [`Invalid`](crate::ErrorKind::Invalid) when the parts cannot be sent.
    pub fn status(&self, words: Vec<Part>) -> Result<(), A2aError> {
        self.shared.report_status(&self.run, words)
    }

    /// Brings a whole artifact; it replaces an earlier one of the same id.
    ///
    /// # Errors
    /// As for [`status`](Self::status), and when the task's limit of bytes or artifacts is reached.
    pub fn artifact(&self, artifact: Artifact) -> Result<(), A2aError> {
        self.shared.report_artifact(&self.run, artifact, false, true)
    }

    /// Continues the artifact of the same id, or begins it; `last_chunk` says that it is whole.
    ///
    /// # Errors
    /// As for [`artifact`](Self::artifact).
    pub fn artifact_chunk(&self, artifact: Artifact, last_chunk: bool) -> Result<(), A2aError> {
        self.shared.report_artifact(&self.run, artifact, true, last_chunk)
    }
}
