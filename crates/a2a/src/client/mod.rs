//! The asking side.

mod card;
mod run;

use std::pin::Pin;
use std::time::Duration;

use futures::stream::{self, Stream};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::convert;
use crate::error::{A2aError, ErrorKind};
use crate::proto;
use crate::proto::a2a_service_client::A2aServiceClient;
use crate::server::EventStream;
use crate::types::{ListTasks, SendReply, SendRequest, Task, TaskPage};
use crate::{EXTENSIONS_HEADER, MESSAGE_BYTES_HEADER, PROTOCOL_VERSION, TRACEPARENT_HEADER, VERSION_HEADER};

pub use card::fetch_card;

/// How to reach an agent.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Sent as `authorization: Bearer ...` with every call.
    pub bearer: Option<SecretString>,
    /// The tenant of the chosen interface in the agent's card, or empty.
    pub tenant: String,
    /// Extensions of the protocol that this side knows.
    pub extensions: Vec<String>,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// How long a call may take that does not wait for a task.
    pub call_timeout: Duration,
    /// How long a blocking send or a stream may take.
    pub task_timeout: Duration,
    /// A longer answer is refused.
    pub message_bytes_max: usize,
    /// A task that takes about so many bytes of memory here is given up, whatever more its agent has to say.
    pub task_bytes_max: usize,
    /// A silent connection is asked for a sign of life after this time. Some foreign servers take offence
    /// below five minutes.
    pub keepalive_interval: Duration,
    /// It is given up when none comes within this time.
    pub keepalive_timeout: Duration,
    /// May [`Client::run`] send a message again whose fate is unknown? No is for an agent that does not know
    /// message ids and might do the work twice: then such a message ends with the error instead.
    pub resends: bool,
    /// The shortest pause before another attempt in [`Client::run`].
    pub retry_delay_min: Duration,
    /// The longest such pause.
    pub retry_delay_max: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            bearer: None,
            tenant: String::new(),
            extensions: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            task_timeout: Duration::from_secs(30 * 60),
            message_bytes_max: 16 << 20,
            task_bytes_max: 32 << 20,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            resends: true,
            retry_delay_min: Duration::from_millis(100),
            retry_delay_max: Duration::from_secs(5),
        }
    }
}

impl ClientOptions {
    /// The same with this bearer token, if there is one.
    #[must_use]
    pub fn with_bearer(mut self, token: Option<&str>) -> Self {
        self.bearer = token.map(SecretString::from);
        self
    }
}

/// Why a client did not get what it asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The client cannot be made.
    #[error("the agent at {endpoint:?} cannot be addressed: {reason}")]
    Endpoint {
        /// As it was given, without what may be a secret in it.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The agent refused, or could not be reached.
    #[error(transparent)]
    Call(#[from] A2aError),
    /// The deadline passed. The task, where there is one, goes on.
    #[error("no result within {} s; the last attempt: {last}", within.as_secs())]
    Timeout {
        /// The time that was given.
        within: Duration,
        /// The task, where the agent named one.
        task_id: Option<String>,
        /// How far it came.
        last: String,
    },
    /// The agent answered with a message where a task was wanted.
    #[error("the agent answered with a message instead of a task: {text:?}")]
    NotATask {
        /// Its text.
        text: String,
    },
    /// The agent's card cannot be had.
    #[error("the agent card at {url} cannot be read: {reason}")]
    Card {
        /// Where it was looked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
}

/// An address without what may be a secret in it: the user, and the query.
fn shown(address: &str) -> String {
    let place = address.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = place.split_once("://").map_or(("", place), |(scheme, rest)| (scheme, rest));
    let separator = if scheme.is_empty() { "" } else { "://" };
    let host = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}{separator}{host}")
}

/// A client of one agent. Clones share the connection, which comes up with the first call and again after it
/// broke.
#[derive(Clone, Debug)]
pub struct Client {
    service: A2aServiceClient<Channel>,
    headers: Vec<(AsciiMetadataKey, AsciiMetadataValue)>,
    options: ClientOptions,
}

impl Client {
    /// A client of the agent at `host:port` or `http://host:port`. Nothing is sent yet. Has to be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] when the address, the bearer token or an extension cannot be sent.
    pub fn connect_lazy(endpoint: &str, options: ClientOptions) -> Result<Self, ClientError> {
        let wrong = |reason: String| ClientError::Endpoint { endpoint: shown(endpoint), reason };
        let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        if !url.starts_with("http://") {
            return Err(wrong("only http:// is spoken here; let a proxy on this machine add TLS".into()));
        }
        let channel = Endpoint::from_shared(url)
            .map_err(|error| wrong(error.to_string()))?
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout)
            .keep_alive_while_idle(true)
            .connect_lazy();

        let mut headers =
            vec![header(VERSION_HEADER, PROTOCOL_VERSION).ok_or_else(|| wrong("no version".into()))?];
        if !options.extensions.is_empty() {
            let named = header(EXTENSIONS_HEADER, &options.extensions.join(","));
            headers.push(named.ok_or_else(|| wrong("an extension's URI cannot be sent as a header".into()))?);
        }
        if let Some(bearer) = &options.bearer {
            let authorization = header("authorization", &format!("Bearer {}", bearer.expose_secret()));
            let (key, mut value) =
                authorization.ok_or_else(|| wrong("the bearer token cannot be sent as a header".into()))?;
            value.set_sensitive(true);
            headers.push((key, value));
        }
        headers.extend(header(MESSAGE_BYTES_HEADER, &options.message_bytes_max.to_string()));
        let service = A2aServiceClient::new(channel).max_decoding_message_size(options.message_bytes_max);
        Ok(Self { service, headers, options })
    }

    /// The same client, whose calls carry that W3C trace context. What is not of the header's form is left
    /// out.
    #[must_use]
    pub fn with_traceparent(&self, traceparent: &str) -> Self {
        let mut client = self.clone();
        client.headers.retain(|(key, _)| key.as_str() != TRACEPARENT_HEADER);
        if crate::is_traceparent(traceparent) {
            client.headers.extend(header(TRACEPARENT_HEADER, traceparent));
        }
        client
    }

    /// Sends a message. Without `return_immediately` the answer waits for the task to settle.
    ///
    /// # Errors
    /// What the agent answers; [`ErrorKind::Unavailable`] when it cannot be reached, [`ErrorKind::Timeout`]
    /// when time runs out.
    pub async fn send(&self, request: SendRequest) -> Result<SendReply, A2aError> {
        let within = match request.configuration.return_immediately {
            true => self.options.call_timeout,
            false => self.options.task_timeout,
        };
        let request = convert::send_to_proto(self.in_tenant(request))?;
        let mut service = self.service.clone();
        let call = service.send_message(self.request(request, within));
        convert::reply_from_proto(answer(within, call).await?).map_err(peer_fault)
    }

    /// Sends a message and follows what happens.
    ///
    /// # Errors
    /// As for [`send`](Self::send), here and in the stream.
    pub async fn stream(&self, request: SendRequest) -> Result<EventStream, A2aError> {
        let request = convert::send_to_proto(self.in_tenant(request))?;
        let mut service = self.service.clone();
        let call = service.send_streaming_message(self.request(request, self.options.task_timeout));
        Ok(incoming(answer(self.options.call_timeout, call).await?))
    }

    /// One task as it stands.
    ///
    /// # Errors
    /// [`ErrorKind::TaskNotFound`], and as for [`send`](Self::send).
    pub async fn get_task(&self, id: &str, history_length: Option<u32>) -> Result<Task, A2aError> {
        let request = proto::GetTaskRequest {
            tenant: self.options.tenant.clone(),
            id: id.to_owned(),
            history_length: convert::history_length_to_proto(history_length),
        };
        let within = self.options.call_timeout;
        let mut service = self.service.clone();
        let call = service.get_task(self.request(request, within));
        convert::task_from_proto(answer(within, call).await?).map_err(peer_fault)
    }

    /// A page of the tasks that this client may see.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn list_tasks(&self, mut query: ListTasks) -> Result<TaskPage, A2aError> {
        if query.tenant.is_empty() {
            query.tenant.clone_from(&self.options.tenant);
        }
        let within = self.options.call_timeout;
        let mut service = self.service.clone();
        let call = service.list_tasks(self.request(convert::list_to_proto(query), within));
        convert::page_from_proto(answer(within, call).await?).map_err(peer_fault)
    }

    /// Asks for the task to stop; the state of the answer says whether it did.
    ///
    /// # Errors
    /// [`ErrorKind::TaskNotFound`], [`ErrorKind::TaskNotCancelable`], and as for [`send`](Self::send).
    pub async fn cancel(&self, id: &str) -> Result<Task, A2aError> {
        let tenant = self.options.tenant.clone();
        let request = proto::CancelTaskRequest { tenant, id: id.to_owned(), metadata: None };
        let within = self.options.call_timeout;
        let mut service = self.service.clone();
        let call = service.cancel_task(self.request(request, within));
        convert::task_from_proto(answer(within, call).await?).map_err(peer_fault)
    }

    /// Follows a task that has not ended.
    ///
    /// # Errors
    /// [`ErrorKind::TaskNotFound`], [`ErrorKind::UnsupportedOperation`] for a task that has ended, and as for
    /// [`send`](Self::send).
    pub async fn subscribe(&self, id: &str) -> Result<EventStream, A2aError> {
        let request =
            proto::SubscribeToTaskRequest { tenant: self.options.tenant.clone(), id: id.to_owned() };
        let mut service = self.service.clone();
        let call = service.subscribe_to_task(self.request(request, self.options.task_timeout));
        Ok(incoming(answer(self.options.call_timeout, call).await?))
    }

    fn in_tenant(&self, mut request: SendRequest) -> SendRequest {
        if request.tenant.is_empty() {
            request.tenant.clone_from(&self.options.tenant);
        }
        request
    }

    fn request<T>(&self, message: T, within: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(within);
        for (key, value) in &self.headers {
            request.metadata_mut().insert(key.clone(), value.clone());
        }
        request
    }
}

fn header(name: &'static str, value: &str) -> Option<(AsciiMetadataKey, AsciiMetadataValue)> {
    // Parsing as HTTP first refuses line ends and the like.
    HeaderValue::from_str(value).ok()?;
    Some((AsciiMetadataKey::from_static(name), value.parse().ok()?))
}

/// The server is told the deadline as well; this one holds when it does not keep to it.
async fn answer<T>(
    within: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, A2aError> {
    match tokio::time::timeout(within, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(A2aError::from_status(&status)),
        Err(_) => {
            Err(A2aError::new(ErrorKind::Timeout, format!("no answer within {} ms", within.as_millis())))
        }
    }
}

/// What the agent sent breaks the protocol: asking again would not help.
fn peer_fault(error: A2aError) -> A2aError {
    A2aError::new(ErrorKind::InvalidAgentResponse, format!("the agent's answer breaks the protocol: {error}"))
}

fn incoming(events: Streaming<proto::StreamResponse>) -> Pin<Box<dyn Stream<Item = Item> + Send>> {
    Box::pin(stream::unfold(Some(events), async |events| {
        let mut events = events?;
        match events.message().await {
            Ok(None) => None,
            Ok(Some(event)) => {
                let event = convert::event_from_proto(event).map_err(peer_fault);
                let next = event.is_ok().then_some(events);
                Some((event, next))
            }
            Err(status) => Some((Err(A2aError::from_status(&status)), None)),
        }
    }))
}

type Item = Result<crate::types::StreamEvent, A2aError>;
