//! The generated service trait, answered by an [`Agent`].

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::convert;
use crate::error::{A2aError, ErrorKind};
use crate::proto::{self, a2a_service_server::A2aService};
use crate::types::{SendRequest, StreamEvent, Task};

use super::admission::{Admitted, Caller, Gate};
use super::{Agent, EventStream, fit};

type Outgoing = Pin<Box<dyn Stream<Item = Result<proto::StreamResponse, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// A call's place among those at work, and how much of an answer its caller reads.
struct Room {
    _permit: OwnedSemaphorePermit,
    read_bytes_max: usize,
}

pub(super) struct Service {
    agent: Arc<dyn Agent>,
    gate: Arc<Gate>,
}

impl Service {
    pub(super) fn new(agent: Arc<dyn Agent>, gate: Arc<Gate>) -> Self {
        Self { agent, gate }
    }

    /// What the gate has let in, in the tenant that the request names. The room is held while the call is
    /// at work.
    fn admitted<T>(
        &self,
        mut request: Request<T>,
        tenant: fn(&T) -> &str,
    ) -> Result<(Caller, Room, T), A2aError> {
        let admitted = request.extensions_mut().remove::<Admitted>();
        let Some(Admitted { caller, read_bytes_max }) = admitted else {
            return Err(A2aError::internal("the call did not come through the gate"));
        };
        let room = Room { _permit: self.gate.begin_call()?, read_bytes_max };
        let request = request.into_inner();
        let caller = self.gate.enter_tenant(caller, tenant(&request))?;
        Ok((caller, room, request))
    }

    fn read_send(&self, request: proto::SendMessageRequest) -> Result<SendRequest, A2aError> {
        let request = convert::send_from_proto(request)?;
        self.gate.check_send(&request)?;
        Ok(request)
    }

    async fn send(
        &self,
        request: Request<proto::SendMessageRequest>,
    ) -> Result<proto::SendMessageResponse, A2aError> {
        let (caller, room, request) = self.admitted(request, |request| &request.tenant)?;
        let request = self.read_send(request)?;
        let reply = self.agent.send(&caller, request).await?;
        let mut reply = convert::reply_to_proto(reply).map_err(agent_fault)?;
        fit::fit_reply(&mut reply, room.read_bytes_max);
        Ok(reply)
    }

    async fn stream(&self, request: Request<proto::SendMessageRequest>) -> Result<Outgoing, A2aError> {
        let (caller, room, request) = self.admitted(request, |request| &request.tenant)?;
        let request = self.read_send(request)?;
        let open = self.gate.open_stream()?;
        let events = self.agent.stream(&caller, request).await?;
        Ok(self.outgoing(events, open, room.read_bytes_max))
    }

    async fn get(&self, request: Request<proto::GetTaskRequest>) -> Result<proto::Task, A2aError> {
        let (caller, room, request) = self.admitted(request, |request| &request.tenant)?;
        let history_length = convert::history_length_from_proto(request.history_length)?;
        let id = convert::required_id("id", request.id)?;
        let task = self.agent.get_task(&caller, &id, history_length).await?;
        readable(task, &room)
    }

    async fn list(
        &self,
        request: Request<proto::ListTasksRequest>,
    ) -> Result<proto::ListTasksResponse, A2aError> {
        let (caller, room, request) = self.admitted(request, |request| &request.tenant)?;
        let query = convert::list_from_proto(request)?;
        let page = self.agent.list_tasks(&caller, query).await?;
        let mut page = convert::page_to_proto(page).map_err(agent_fault)?;
        fit::fit_page(&mut page, room.read_bytes_max);
        Ok(page)
    }

    async fn cancel(&self, request: Request<proto::CancelTaskRequest>) -> Result<proto::Task, A2aError> {
        let (caller, room, request) = self.admitted(request, |request| &request.tenant)?;
        let id = convert::required_id("id", request.id)?;
        let task = self.agent.cancel(&caller, &id).await?;
        readable(task, &room)
    }

    async fn subscribe(&self, request: Request<proto::SubscribeToTaskRequest>) -> Result<Outgoing, A2aError> {
        let (caller, room, request) = self.admitted(request, |request| &request.tenant)?;
        let id = convert::required_id("id", request.id)?;
        let open = self.gate.open_stream()?;
        let events = self.agent.subscribe(&caller, &id).await?;
        Ok(self.outgoing(events, open, room.read_bytes_max))
    }

    fn outgoing(&self, events: EventStream, open: OwnedSemaphorePermit, read_bytes_max: usize) -> Outgoing {
        let state = Some((events, open, self.gate.draining.clone()));
        Box::pin(stream::unfold(state, move |state| async move {
            let (mut events, open, draining) = state?;
            match next_event(&mut events, &draining).await? {
                Ok(event) => {
                    let is_last = event.is_last();
                    match convert::event_to_proto(event).map_err(agent_fault) {
                        Ok(mut response) => {
                            fit::fit_event(&mut response, read_bytes_max);
                            Some((Ok(response), (!is_last).then_some((events, open, draining))))
                        }
                        Err(error) => Some((Err(error.into_status()), None)),
                    }
                }
                Err(error) => Some((Err(error.into_status()), None)),
            }
        }))
    }

    fn refuse<T, A>(
        &self,
        request: Request<T>,
        tenant: fn(&T) -> &str,
        error: A2aError,
    ) -> Result<A, A2aError> {
        self.admitted(request, tenant)?;
        Err(error)
    }

    fn refuse_push<T, A>(&self, request: Request<T>, tenant: fn(&T) -> &str) -> Answer<A> {
        let refused = match self.gate.check_push_notifications() {
            Err(error) => self.refuse(request, tenant, error),
            Ok(()) => Err(A2aError::internal("push notifications are not built")),
        };
        refused.map_err(A2aError::into_status)
    }
}

/// Events that are there go out before the stream gives way to a shutdown.
async fn next_event(
    events: &mut EventStream,
    draining: &CancellationToken,
) -> Option<Result<StreamEvent, A2aError>> {
    tokio::select! {
        biased;
        event = events.next() => event,
        () = draining.cancelled() => Some(Err(A2aError::unavailable("the agent is shutting down; subscribe again"))),
    }
}

fn readable(task: Task, room: &Room) -> Result<proto::Task, A2aError> {
    let mut task = convert::task_to_proto(task).map_err(agent_fault)?;
    fit::fit_task(&mut task, room.read_bytes_max);
    Ok(task)
}

/// What the agent made cannot be sent: that is not the caller's mistake.
fn agent_fault(error: A2aError) -> A2aError {
    A2aError::new(ErrorKind::InvalidAgentResponse, format!("the agent's answer cannot be sent: {error}"))
}

#[tonic::async_trait]
impl A2aService for Service {
    type SendStreamingMessageStream = Outgoing;
    type SubscribeToTaskStream = Outgoing;

    async fn send_message(
        &self,
        request: Request<proto::SendMessageRequest>,
    ) -> Answer<proto::SendMessageResponse> {
        self.send(request).await.map(Response::new).map_err(A2aError::into_status)
    }

    async fn send_streaming_message(&self, request: Request<proto::SendMessageRequest>) -> Answer<Outgoing> {
        self.stream(request).await.map(Response::new).map_err(A2aError::into_status)
    }

    async fn get_task(&self, request: Request<proto::GetTaskRequest>) -> Answer<proto::Task> {
        self.get(request).await.map(Response::new).map_err(A2aError::into_status)
    }

    async fn list_tasks(
        &self,
        request: Request<proto::ListTasksRequest>,
    ) -> Answer<proto::ListTasksResponse> {
        self.list(request).await.map(Response::new).map_err(A2aError::into_status)
    }

    async fn cancel_task(&self, request: Request<proto::CancelTaskRequest>) -> Answer<proto::Task> {
        self.cancel(request).await.map(Response::new).map_err(A2aError::into_status)
    }

    async fn subscribe_to_task(&self, request: Request<proto::SubscribeToTaskRequest>) -> Answer<Outgoing> {
        self.subscribe(request).await.map(Response::new).map_err(A2aError::into_status)
    }

    async fn create_task_push_notification_config(
        &self,
        request: Request<proto::TaskPushNotificationConfig>,
    ) -> Answer<proto::TaskPushNotificationConfig> {
        self.refuse_push(request, |request| &request.tenant)
    }

    async fn get_task_push_notification_config(
        &self,
        request: Request<proto::GetTaskPushNotificationConfigRequest>,
    ) -> Answer<proto::TaskPushNotificationConfig> {
        self.refuse_push(request, |request| &request.tenant)
    }

    async fn list_task_push_notification_configs(
        &self,
        request: Request<proto::ListTaskPushNotificationConfigsRequest>,
    ) -> Answer<proto::ListTaskPushNotificationConfigsResponse> {
        self.refuse_push(request, |request| &request.tenant)
    }

    async fn delete_task_push_notification_config(
        &self,
        request: Request<proto::DeleteTaskPushNotificationConfigRequest>,
    ) -> Answer<()> {
        self.refuse_push(request, |request| &request.tenant)
    }

    async fn get_extended_agent_card(
        &self,
        request: Request<proto::GetExtendedAgentCardRequest>,
    ) -> Answer<proto::AgentCard> {
        let refused = self.refuse(request, |request| &request.tenant, self.gate.extended_card_error());
        refused.map_err(A2aError::into_status)
    }
}
