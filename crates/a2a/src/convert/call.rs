//! Requests, answers and stream events.

use crate::error::A2aError;
use crate::proto;
use crate::types::{ListTasks, SendConfiguration, SendReply, SendRequest, StreamEvent, TaskPage};

use super::task::{
    artifact_from_proto, artifact_to_proto, message_from_proto, message_to_proto, state_from_number,
    state_to_proto, status_from_proto, status_to_proto, task_from_proto, task_to_proto,
};
use super::{
    each, metadata_from_proto, metadata_to_proto, optional_id, required, timestamp_from_proto,
    timestamp_to_proto,
};

pub(crate) fn required_id(field: &str, id: String) -> Result<String, A2aError> {
    if id.is_empty() {
        return Err(A2aError::invalid(field, "is required"));
    }
    optional_id(field, id)
}

pub(crate) fn history_length_from_proto(length: Option<i32>) -> Result<Option<u32>, A2aError> {
    let read = length.map(u32::try_from).transpose();
    read.map_err(|_| A2aError::invalid("history_length", "is negative"))
}

pub(crate) fn history_length_to_proto(length: Option<u32>) -> Option<i32> {
    // More than a peer can hold means all of it.
    length.map(|length| i32::try_from(length).unwrap_or(i32::MAX))
}

pub(crate) fn send_from_proto(request: proto::SendMessageRequest) -> Result<SendRequest, A2aError> {
    let message = required("message", request.message)?;
    let configuration = request.configuration.unwrap_or_default();
    let history_length = history_length_from_proto(configuration.history_length);
    Ok(SendRequest {
        tenant: request.tenant,
        message: message_from_proto(message).map_err(|error| error.within("message"))?,
        configuration: SendConfiguration {
            accepted_output_modes: configuration.accepted_output_modes,
            history_length: history_length.map_err(|error| error.within("configuration"))?,
            return_immediately: configuration.return_immediately,
            wants_push_notifications: configuration.task_push_notification_config.is_some(),
        },
        metadata: metadata_from_proto(request.metadata)?,
    })
}

pub(crate) fn send_to_proto(request: SendRequest) -> Result<proto::SendMessageRequest, A2aError> {
    let message = message_to_proto(request.message).map_err(|error| error.within("message"))?;
    let configuration = request.configuration;
    if configuration.wants_push_notifications {
        return Err(A2aError::invalid(
            "configuration",
            "push notifications are not something this client asks for",
        ));
    }
    Ok(proto::SendMessageRequest {
        tenant: request.tenant,
        message: Some(message),
        configuration: Some(proto::SendMessageConfiguration {
            accepted_output_modes: configuration.accepted_output_modes,
            task_push_notification_config: None,
            history_length: history_length_to_proto(configuration.history_length),
            return_immediately: configuration.return_immediately,
        }),
        metadata: metadata_to_proto(request.metadata.as_ref())?,
    })
}

pub(crate) fn reply_from_proto(response: proto::SendMessageResponse) -> Result<SendReply, A2aError> {
    use proto::send_message_response::Payload;
    match required("payload", response.payload)? {
        Payload::Task(task) => {
            Ok(SendReply::Task(task_from_proto(task).map_err(|error| error.within("task"))?))
        }
        Payload::Message(message) => {
            Ok(SendReply::Message(message_from_proto(message).map_err(|error| error.within("message"))?))
        }
    }
}

pub(crate) fn reply_to_proto(reply: SendReply) -> Result<proto::SendMessageResponse, A2aError> {
    use proto::send_message_response::Payload;
    let payload = match reply {
        SendReply::Task(task) => Payload::Task(task_to_proto(task).map_err(|error| error.within("task"))?),
        SendReply::Message(message) => {
            Payload::Message(message_to_proto(message).map_err(|error| error.within("message"))?)
        }
    };
    Ok(proto::SendMessageResponse { payload: Some(payload) })
}

pub(crate) fn event_from_proto(response: proto::StreamResponse) -> Result<StreamEvent, A2aError> {
    use proto::stream_response::Payload;
    match required("payload", response.payload)? {
        Payload::Task(task) => {
            task_from_proto(task).map(StreamEvent::Task).map_err(|error| error.within("task"))
        }
        Payload::Message(message) => {
            message_from_proto(message).map(StreamEvent::Message).map_err(|error| error.within("message"))
        }
        Payload::StatusUpdate(update) => {
            status_update_from_proto(update).map_err(|error| error.within("status_update"))
        }
        Payload::ArtifactUpdate(update) => {
            artifact_update_from_proto(update).map_err(|error| error.within("artifact_update"))
        }
    }
}

fn status_update_from_proto(update: proto::TaskStatusUpdateEvent) -> Result<StreamEvent, A2aError> {
    let status = required("status", update.status)?;
    Ok(StreamEvent::StatusUpdate {
        task_id: required_id("task_id", update.task_id)?,
        context_id: optional_id("context_id", update.context_id)?,
        status: status_from_proto(status).map_err(|error| error.within("status"))?,
        metadata: metadata_from_proto(update.metadata)?,
    })
}

fn artifact_update_from_proto(update: proto::TaskArtifactUpdateEvent) -> Result<StreamEvent, A2aError> {
    let artifact = required("artifact", update.artifact)?;
    Ok(StreamEvent::ArtifactUpdate {
        task_id: required_id("task_id", update.task_id)?,
        context_id: optional_id("context_id", update.context_id)?,
        artifact: artifact_from_proto(artifact).map_err(|error| error.within("artifact"))?,
        append: update.append,
        last_chunk: update.last_chunk,
        metadata: metadata_from_proto(update.metadata)?,
    })
}

pub(crate) fn event_to_proto(event: StreamEvent) -> Result<proto::StreamResponse, A2aError> {
    use proto::stream_response::Payload;
    let payload = match event {
        StreamEvent::Task(task) => Payload::Task(task_to_proto(task)?),
        StreamEvent::Message(message) => Payload::Message(message_to_proto(message)?),
        StreamEvent::StatusUpdate { task_id, context_id, status, metadata } => {
            Payload::StatusUpdate(proto::TaskStatusUpdateEvent {
                task_id,
                context_id,
                status: Some(status_to_proto(status)?),
                metadata: metadata_to_proto(metadata.as_ref())?,
            })
        }
        StreamEvent::ArtifactUpdate { task_id, context_id, artifact, append, last_chunk, metadata } => {
            Payload::ArtifactUpdate(proto::TaskArtifactUpdateEvent {
                task_id,
                context_id,
                artifact: Some(artifact_to_proto(artifact)?),
                append,
                last_chunk,
                metadata: metadata_to_proto(metadata.as_ref())?,
            })
        }
    };
    Ok(proto::StreamResponse { payload: Some(payload) })
}

pub(crate) fn list_from_proto(request: proto::ListTasksRequest) -> Result<ListTasks, A2aError> {
    let status = match request.status {
        0 => None,
        number => {
            let state = state_from_number(number);
            Some(state.ok_or_else(|| A2aError::invalid("status", format!("{number} is not a task state")))?)
        }
    };
    let page_size = request.page_size.map(u32::try_from).transpose();
    Ok(ListTasks {
        tenant: request.tenant,
        context_id: optional_id("context_id", request.context_id)?,
        status,
        page_size: page_size.map_err(|_| A2aError::invalid("page_size", "is negative"))?,
        page_token: request.page_token,
        history_length: history_length_from_proto(request.history_length)?,
        status_timestamp_after: timestamp_from_proto(
            "status_timestamp_after",
            request.status_timestamp_after,
        )?,
        include_artifacts: request.include_artifacts.unwrap_or_default(),
    })
}

pub(crate) fn list_to_proto(query: ListTasks) -> proto::ListTasksRequest {
    proto::ListTasksRequest {
        tenant: query.tenant,
        context_id: query.context_id,
        status: query.status.map_or(proto::TaskState::Unspecified, state_to_proto).into(),
        page_size: query.page_size.map(|size| i32::try_from(size).unwrap_or(i32::MAX)),
        page_token: query.page_token,
        history_length: history_length_to_proto(query.history_length),
        status_timestamp_after: query.status_timestamp_after.map(timestamp_to_proto),
        include_artifacts: query.include_artifacts.then_some(true),
    }
}

pub(crate) fn page_from_proto(page: proto::ListTasksResponse) -> Result<TaskPage, A2aError> {
    Ok(TaskPage {
        tasks: each("tasks", page.tasks, task_from_proto)?,
        next_page_token: page.next_page_token,
        page_size: u32::try_from(page.page_size)
            .map_err(|_| A2aError::invalid("page_size", "is negative"))?,
        total_size: u32::try_from(page.total_size)
            .map_err(|_| A2aError::invalid("total_size", "is negative"))?,
    })
}

pub(crate) fn page_to_proto(page: TaskPage) -> Result<proto::ListTasksResponse, A2aError> {
    Ok(proto::ListTasksResponse {
        tasks: each("tasks", page.tasks, task_to_proto)?,
        next_page_token: page.next_page_token,
        page_size: i32::try_from(page.page_size).unwrap_or(i32::MAX),
        total_size: i32::try_from(page.total_size).unwrap_or(i32::MAX),
    })
}
