//! The serving side: what an agent implements, who may call it, and the routes that carry it.

mod admission;
mod card;
mod fit;
mod health;
mod service;

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;

use crate::error::{A2aError, FieldViolation};
use crate::proto;
use crate::proto::a2a_service_server::A2aServiceServer;
use crate::types::{AgentCard, ListTasks, SendReply, SendRequest, StreamEvent, Task, TaskPage};

pub use admission::{Access, Authenticate, Caller};
pub use card::card_router;

/// The events of one stream. It ends by itself after the last one, or with an error after which the caller
/// may subscribe again.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<StreamEvent, A2aError>> + Send>>;

/// What an agent answers to. The router has checked version, credentials, tenant, extensions and the
/// request's form before; which tasks a caller may see is the agent's own to decide, and what it may not see
/// it must call not found.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// Takes a message and waits for the work to settle, unless the request asks for an answer at once.
    async fn send(&self, caller: &Caller, request: SendRequest) -> Result<SendReply, A2aError>;
    /// Takes a message and tells what happens: one message, or the task and then its changes until it has
    /// ended.
    async fn stream(&self, caller: &Caller, request: SendRequest) -> Result<EventStream, A2aError>;
    /// One task as it stands, with at most `history_length` messages of its history.
    async fn get_task(
        &self,
        caller: &Caller,
        id: &str,
        history_length: Option<u32>,
    ) -> Result<Task, A2aError>;
    /// A page of the tasks that the caller may see.
    async fn list_tasks(&self, caller: &Caller, query: ListTasks) -> Result<TaskPage, A2aError>;
    /// Asks for the task to stop; the state of the answer says whether it did.
    async fn cancel(&self, caller: &Caller, id: &str) -> Result<Task, A2aError>;
    /// The task as it stands, then its changes until it has ended.
    async fn subscribe(&self, caller: &Caller, id: &str) -> Result<EventStream, A2aError>;
}

/// How an agent is served.
#[derive(Clone)]
pub struct ServerOptions {
    /// Who may call.
    pub access: Access,
    /// A longer request is refused before it is read.
    pub request_bytes_max: usize,
    /// Calls at work at the same time, streams not counted; one more is refused as unavailable.
    pub calls_in_flight_max: usize,
    /// Streams open at the same time; one more is refused as unavailable.
    pub streams_open_max: usize,
    /// How long readers may keep the card.
    pub card_max_age_seconds: u32,
    /// When the card last changed, for its `Last-Modified`.
    pub card_modified: Timestamp,
    /// Once cancelled, health says not serving, new calls are refused and open streams end as unavailable, so
    /// that callers come back to another instance.
    pub draining: CancellationToken,
}

impl ServerOptions {
    /// The defaults: requests of 4 MiB, 256 calls and 256 streams, a card kept for five minutes.
    #[must_use]
    pub fn new(access: Access, card_modified: Timestamp) -> Self {
        Self {
            access,
            request_bytes_max: 4 << 20,
            calls_in_flight_max: 256,
            streams_open_max: 256,
            card_max_age_seconds: 300,
            card_modified,
            draining: CancellationToken::new(),
        }
    }
}

/// The routes of one agent: gRPC (A2A, health, reflection) and the public card at
/// `/.well-known/agent-card.json`. There is no fallback route, so it merges with others. Whoever serves it has
/// to bound connections and the time that bodies take.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) naming the card's required fields that are empty.
pub fn router(
    agent: Arc<dyn Agent>,
    card: AgentCard,
    options: ServerOptions,
) -> Result<axum::Router, A2aError> {
    let http_card = card_router(&card, options.card_max_age_seconds, options.card_modified)?;
    let gate = Arc::new(admission::Gate::new(&card, &options));
    let service = A2aServiceServer::new(service::Service::new(agent, Arc::clone(&gate)))
        .max_decoding_message_size(options.request_bytes_max);
    let admit = move |request: tonic::Request<()>| gate.admit(request).map_err(A2aError::into_status);
    let health = tonic_health::pb::health_server::HealthServer::new(health::Health::new(options.draining));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(A2aError::internal)?;
    let calls = axum::Router::new()
        .route_service(&path_of(&service), InterceptedService::new(service, admit))
        .route_service(&path_of(&health), health)
        .route_service(&path_of(&reflection), reflection)
        .layer(from_fn(grpc_alone));
    Ok(http_card.merge(calls))
}

/// gRPC wants 415 for any other type. It matters: the library below would read a message that a web page sent as `text/plain`, which
/// it may send anywhere without asking.
async fn grpc_alone(request: Request, next: Next) -> Response {
    let is_grpc = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    let mut types = request.headers().get_all(CONTENT_TYPE).iter().peekable();
    if types.peek().is_some() && types.all(is_grpc) {
        return next.run(request).await;
    }
    StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response()
}

/// The paths of all calls that [`router`] answers to.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::ErrorKind::Internal) when the descriptors that this is built with cannot be read.
pub fn calls() -> Result<Vec<String>, A2aError> {
    let mut paths = Vec::new();
    for set in [
        proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ] {
        let set = prost_types::FileDescriptorSet::decode(set).map_err(A2aError::internal)?;
        for file in &set.file {
            for service in &file.service {
                let calls = service.method.iter();
                paths.extend(
                    calls.map(|call| format!("/{}.{}/{}", file.package(), service.name(), call.name())),
                );
            }
        }
    }
    Ok(paths)
}

fn path_of<S: NamedService>(_: &S) -> String {
    format!("/{}/{{*call}}", S::NAME)
}

/// One error for all that is missing.
fn missing(fields: Vec<String>) -> A2aError {
    let names = fields.join(", ");
    let violations =
        fields.into_iter().map(|field| FieldViolation { field, description: "is required".to_owned() });
    A2aError::invalid_fields(format!("the agent card lacks required fields: {names}"), violations.collect())
}

#[cfg(test)]
mod tests;
