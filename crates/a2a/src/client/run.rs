//! Following one message to its result, through whatever happens to the connection and the agent.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::StreamExt;
use tokio::time::Instant;

use crate::error::{A2aError, ErrorKind};
use crate::server::EventStream;
use crate::types::{Message, SendReply, SendRequest, StreamEvent, Task, TaskState, TaskStatus};

use super::{Client, ClientError, ClientOptions};

/// What is known so far.
struct Progress {
    request: SendRequest,
    task_id: Option<String>,
    /// The task as told by the stream that is being read.
    task: Option<Task>,
    /// About what that task takes in memory.
    weight: usize,
    /// The agent has said that it does not stream.
    polls: bool,
    /// The present attempt has brought an event.
    heard: bool,
    last: String,
}

impl Client {
    /// Sends a message and returns its task once that has ended or waits for somebody. When the stream breaks
    /// it subscribes again; when the agent does not know the task any more, the same message is sent again,
    /// which does nothing twice where the agent knows message ids. Attempts are repeated with growing pauses
    /// until the time is over.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when the time is over, [`ClientError::Call`] for an error that would not go
    /// away by itself, [`ClientError::NotATask`] for an agent that answers with a message.
    pub async fn run(&self, request: impl Into<SendRequest>, within: Duration) -> Result<Task, ClientError> {
        let mut progress = Progress {
            request: request.into(),
            task_id: None,
            task: None,
            weight: 0,
            polls: false,
            heard: false,
            last: "not connected".to_owned(),
        };
        let deadline = Instant::now() + within;
        let result = tokio::time::timeout_at(deadline, self.follow(&mut progress, deadline)).await;
        match result {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout { within, task_id: progress.task_id, last: progress.last }),
        }
    }

    async fn follow(&self, progress: &mut Progress, deadline: Instant) -> Result<Task, ClientError> {
        let mut pauses = pauses(&self.options);
        loop {
            progress.heard = false;
            progress.task = None;
            match self.until(deadline).attempt(progress).await {
                Ok(Some(task)) => return Ok(task),
                Ok(None) => {}
                Err(ClientError::Call(error)) if error.is_retryable() && self.may_go_on(progress) => {
                    tracing::debug!(task_id = progress.task_id, error = %error, "agent not reached, trying again");
                    error.message().clone_into(&mut progress.last);
                }
                Err(error) => return Err(error),
            }
            if progress.heard {
                // The agent was there: the pauses begin anew.
                pauses = self::pauses(&self.options);
            }
            tokio::time::sleep(pauses.next().unwrap_or(self.options.retry_delay_max)).await;
        }
    }

    /// The same client with no call going beyond that instant, which the agent is told as well.
    fn until(&self, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut client = self.clone();
        client.options.call_timeout = client.options.call_timeout.min(left);
        client.options.task_timeout = client.options.task_timeout.min(left);
        client
    }

    /// With a task in hand another attempt only looks; without one it sends.
    fn may_go_on(&self, progress: &Progress) -> bool {
        self.options.resends || progress.task_id.is_some()
    }

    /// A task that the agent forgot is made again by the same message; one that the message was to continue
    /// cannot be.
    fn gone(&self, progress: &mut Progress, error: A2aError) -> Result<Option<Task>, ClientError> {
        let makes_a_task = progress.request.message.task_id.is_empty();
        if error.kind() == ErrorKind::TaskNotFound && makes_a_task && self.options.resends {
            progress.task_id = None;
            "the agent forgot the task; the message is sent again".clone_into(&mut progress.last);
            return Ok(None);
        }
        Err(error.into())
    }

    /// One attempt. `None` says that there is no result yet and another attempt may find one.
    async fn attempt(&self, progress: &mut Progress) -> Result<Option<Task>, ClientError> {
        let Some(task_id) = progress.task_id.clone() else {
            return self.begin(progress).await;
        };
        if !progress.polls {
            match self.subscribe(&task_id).await {
                Ok(events) => return self.read(progress, events).await,
                // The task has ended, or the agent does not stream: its state tells which.
                Err(error) if error.kind() == ErrorKind::UnsupportedOperation => {}
                Err(error) => return self.gone(progress, error),
            }
        }
        match self.get_task(&task_id, None).await {
            Ok(task) if task.state().is_settled() => Ok(Some(task)),
            Ok(task) => {
                progress.polls = true;
                progress.last = format!("the task is {}", task.state());
                Ok(None)
            }
            Err(error) => self.gone(progress, error),
        }
    }

    async fn begin(&self, progress: &mut Progress) -> Result<Option<Task>, ClientError> {
        if !progress.polls {
            match self.stream(progress.request.clone()).await {
                Ok(events) => return self.read(progress, events).await,
                Err(error) if error.kind() != ErrorKind::UnsupportedOperation => return Err(error.into()),
                // Either the agent does not stream, or it does not take the message: sending it plainly tells
                // which.
                Err(_) => {}
            }
        }
        let task = match self.send(progress.request.clone().return_immediately()).await? {
            SendReply::Task(task) => task,
            SendReply::Message(message) => return Err(ClientError::NotATask { text: message.text() }),
        };
        progress.polls = true;
        progress.task_id = Some(task.id.clone());
        progress.last = format!("the task is {}", task.state());
        Ok(task.state().is_settled().then_some(task))
    }

    /// Reads a stream to the task's end or to where it breaks.
    async fn read(
        &self,
        progress: &mut Progress,
        mut events: EventStream,
    ) -> Result<Option<Task>, ClientError> {
        while let Some(event) = events.next().await {
            let state = take_in(progress, event?)?;
            if progress.weight > self.options.task_bytes_max {
                return Err(self.give_up(progress).await);
            }
            if !state.is_some_and(TaskState::is_settled) {
                continue;
            }
            return match (progress.task.take(), &progress.task_id) {
                (Some(task), _) => Ok(Some(task)),
                // A stream that did not begin with the task has told of its end only.
                (None, Some(task_id)) => Ok(Some(self.get_task(task_id, None).await?)),
                (None, None) => Ok(None),
            };
        }
        let broke = A2aError::unavailable("the stream ended before the task did");
        Err(broke.into())
    }
}

/// How long an agent is asked to stop a task that has become too large.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

impl Client {
    /// An agent that adds to its task without an end is not heard to it.
    async fn give_up(&self, progress: &mut Progress) -> ClientError {
        progress.task = None;
        if let Some(task_id) = &progress.task_id {
            // It may go on; nobody listens.
            let _ = tokio::time::timeout(CANCEL_WITHIN, self.cancel(task_id)).await;
        }
        let bytes_max = self.options.task_bytes_max;
        let why = format!("the task has grown beyond {bytes_max} bytes and was given up");
        A2aError::new(ErrorKind::InvalidAgentResponse, why).into()
    }
}

/// Brings what is known up to date, and says which state the event told of.
fn take_in(progress: &mut Progress, event: StreamEvent) -> Result<Option<TaskState>, ClientError> {
    let state = event.state();
    progress.heard = true;
    match event {
        StreamEvent::Message(message) => return Err(ClientError::NotATask { text: message.text() }),
        StreamEvent::Task(task) => {
            progress.task_id = Some(task.id.clone());
            progress.weight = task.weight();
            progress.task = Some(task);
        }
        StreamEvent::StatusUpdate { task_id, status, .. } => {
            progress.task_id = Some(task_id);
            if let Some(task) = &mut progress.task {
                let weight = |status: &TaskStatus| status.message.as_ref().map_or(0, Message::weight);
                progress.weight = progress.weight.saturating_sub(weight(&task.status)) + weight(&status);
                task.status = status;
            }
        }
        StreamEvent::ArtifactUpdate { task_id, artifact, append, .. } => {
            progress.task_id = Some(task_id);
            if let Some(task) = &mut progress.task {
                let known = task.artifacts.iter().find(|known| known.artifact_id == artifact.artifact_id);
                let (replaced, added) = match known {
                    Some(_) if append => (0, artifact.weight_added()),
                    Some(known) => (known.weight(), artifact.weight()),
                    None => (0, artifact.weight()),
                };
                progress.weight = progress.weight.saturating_sub(replaced) + added;
                task.put_artifact(artifact, append);
            }
        }
    }
    if let Some(state) = state {
        progress.last = format!("the task is {state}");
    }
    Ok(state)
}

fn pauses(options: &ClientOptions) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(options.retry_delay_min)
        .with_max_delay(options.retry_delay_max)
        .with_jitter()
        .without_max_times()
        .build()
}
