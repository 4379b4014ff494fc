//! Tasks, messages, parts and artifacts.

use crate::error::A2aError;
use crate::proto;
use crate::types::{Artifact, Message, Part, PartContent, Role, Task, TaskState, TaskStatus};

use super::value::{value_from_proto, value_to_proto};
use super::{
    each, metadata_from_proto, metadata_to_proto, optional_id, required, required_id, timestamp_from_proto,
    timestamp_to_proto,
};

pub(super) fn state_from_number(number: i32) -> Option<TaskState> {
    Some(match proto::TaskState::try_from(number).ok()? {
        proto::TaskState::Unspecified => return None,
        proto::TaskState::Submitted => TaskState::Submitted,
        proto::TaskState::Working => TaskState::Working,
        proto::TaskState::Completed => TaskState::Completed,
        proto::TaskState::Failed => TaskState::Failed,
        proto::TaskState::Canceled => TaskState::Canceled,
        proto::TaskState::InputRequired => TaskState::InputRequired,
        proto::TaskState::Rejected => TaskState::Rejected,
        proto::TaskState::AuthRequired => TaskState::AuthRequired,
    })
}

pub(super) fn state_to_proto(state: TaskState) -> proto::TaskState {
    match state {
        TaskState::Submitted => proto::TaskState::Submitted,
        TaskState::Working => proto::TaskState::Working,
        TaskState::Completed => proto::TaskState::Completed,
        TaskState::Failed => proto::TaskState::Failed,
        TaskState::Canceled => proto::TaskState::Canceled,
        TaskState::InputRequired => proto::TaskState::InputRequired,
        TaskState::Rejected => proto::TaskState::Rejected,
        TaskState::AuthRequired => proto::TaskState::AuthRequired,
    }
}

pub(super) fn part_from_proto(part: proto::Part) -> Result<Part, A2aError> {
    let content = match part.content {
        None => return Err(A2aError::invalid("content", "is required: text, raw, url or data")),
        Some(proto::part::Content::Text(text)) => PartContent::Text(text),
        Some(proto::part::Content::Raw(bytes)) => PartContent::Raw(bytes),
        Some(proto::part::Content::Url(url)) => PartContent::Url(url),
        Some(proto::part::Content::Data(data)) => {
            PartContent::Data(value_from_proto(data).map_err(|error| error.within("data"))?)
        }
    };
    Ok(Part {
        content,
        metadata: metadata_from_proto(part.metadata)?,
        filename: part.filename,
        media_type: part.media_type,
    })
}

fn part_to_proto(part: Part) -> Result<proto::Part, A2aError> {
    let content = match part.content {
        PartContent::Text(text) => proto::part::Content::Text(text),
        PartContent::Raw(bytes) => proto::part::Content::Raw(bytes),
        PartContent::Url(url) => proto::part::Content::Url(url),
        PartContent::Data(data) => {
            proto::part::Content::Data(value_to_proto(&data).map_err(|error| error.within("data"))?)
        }
    };
    Ok(proto::Part {
        content: Some(content),
        metadata: metadata_to_proto(part.metadata.as_ref())?,
        filename: part.filename,
        media_type: part.media_type,
    })
}

pub(super) fn message_from_proto(message: proto::Message) -> Result<Message, A2aError> {
    let role = match proto::Role::try_from(message.role) {
        Ok(proto::Role::User) => Role::User,
        Ok(proto::Role::Agent) => Role::Agent,
        Ok(proto::Role::Unspecified) | Err(_) => {
            return Err(A2aError::invalid("role", "is required: user or agent"));
        }
    };
    if message.parts.is_empty() {
        return Err(A2aError::invalid("parts", "needs at least one part"));
    }
    Ok(Message {
        message_id: required_id("message_id", message.message_id)?,
        context_id: optional_id("context_id", message.context_id)?,
        task_id: optional_id("task_id", message.task_id)?,
        role,
        parts: each("parts", message.parts, part_from_proto)?,
        metadata: metadata_from_proto(message.metadata)?,
        extensions: message.extensions,
        reference_task_ids: message.reference_task_ids,
    })
}

pub(crate) fn message_to_proto(message: Message) -> Result<proto::Message, A2aError> {
    let role = match message.role {
        Role::User => proto::Role::User,
        Role::Agent => proto::Role::Agent,
    };
    Ok(proto::Message {
        message_id: message.message_id,
        context_id: message.context_id,
        task_id: message.task_id,
        role: role.into(),
        parts: each("parts", message.parts, part_to_proto)?,
        metadata: metadata_to_proto(message.metadata.as_ref())?,
        extensions: message.extensions,
        reference_task_ids: message.reference_task_ids,
    })
}

pub(super) fn artifact_from_proto(artifact: proto::Artifact) -> Result<Artifact, A2aError> {
    if artifact.parts.is_empty() {
        return Err(A2aError::invalid("parts", "needs at least one part"));
    }
    Ok(Artifact {
        artifact_id: required_id("artifact_id", artifact.artifact_id)?,
        name: artifact.name,
        description: artifact.description,
        parts: each("parts", artifact.parts, part_from_proto)?,
        metadata: metadata_from_proto(artifact.metadata)?,
        extensions: artifact.extensions,
    })
}

pub(crate) fn artifact_to_proto(artifact: Artifact) -> Result<proto::Artifact, A2aError> {
    Ok(proto::Artifact {
        artifact_id: artifact.artifact_id,
        name: artifact.name,
        description: artifact.description,
        parts: each("parts", artifact.parts, part_to_proto)?,
        metadata: metadata_to_proto(artifact.metadata.as_ref())?,
        extensions: artifact.extensions,
    })
}

pub(super) fn status_from_proto(status: proto::TaskStatus) -> Result<TaskStatus, A2aError> {
    let state = state_from_number(status.state).ok_or_else(|| A2aError::invalid("state", "is required"))?;
    let message = status.message.map(message_from_proto).transpose();
    Ok(TaskStatus {
        state,
        message: message.map_err(|error| error.within("message"))?,
        timestamp: timestamp_from_proto("timestamp", status.timestamp)?,
    })
}

pub(super) fn status_to_proto(status: TaskStatus) -> Result<proto::TaskStatus, A2aError> {
    let message = status.message.map(message_to_proto).transpose();
    Ok(proto::TaskStatus {
        state: state_to_proto(status.state).into(),
        message: message.map_err(|error| error.within("message"))?,
        timestamp: status.timestamp.map(timestamp_to_proto),
    })
}

pub(crate) fn task_from_proto(task: proto::Task) -> Result<Task, A2aError> {
    let status = required("status", task.status)?;
    Ok(Task {
        id: required_id("id", task.id)?,
        context_id: optional_id("context_id", task.context_id)?,
        status: status_from_proto(status).map_err(|error| error.within("status"))?,
        artifacts: each("artifacts", task.artifacts, artifact_from_proto)?,
        history: each("history", task.history, message_from_proto)?,
        metadata: metadata_from_proto(task.metadata)?,
    })
}

pub(crate) fn task_to_proto(task: Task) -> Result<proto::Task, A2aError> {
    Ok(proto::Task {
        id: task.id,
        context_id: task.context_id,
        status: Some(status_to_proto(task.status).map_err(|error| error.within("status"))?),
        artifacts: each("artifacts", task.artifacts, artifact_to_proto)?,
        history: each("history", task.history, message_to_proto)?,
        metadata: metadata_to_proto(task.metadata.as_ref())?,
    })
}
