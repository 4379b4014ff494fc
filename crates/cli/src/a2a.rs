//! The A2A side of the coordinator: its skill `respond`, where the task is the incident.

use std::error::Error as _;

use quell_a2a::{
    A2aError, Client, ClientError, ClientOptions, ErrorKind, Message, Part, SendReply, SendRequest, Task,
};
use quell_a2a::{TaskState, fetch_card};
use quell_service::config::shown_address;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::rest::{Service, cause};
use crate::view;

const SKILL: &str = "respond";
const SERVICE: Service = Service::Coordinator;

/// The coordinator as an A2A agent.
pub(crate) struct Responder {
    pub(crate) client: Client,
    /// Its address for people, without what may be a secret in it.
    shown: String,
    /// Whether the card named it, and not the caller.
    from_card: bool,
}

impl Responder {
    /// Finds the gRPC address on the coordinator's card, unless it was given. Nothing is sent to it yet.
    pub(crate) async fn find(context: &Context<'_>) -> Result<Self> {
        let mut options = ClientOptions::default();
        options.bearer.clone_from(&context.global.token);
        let given = context.global.grpc_url.as_deref().map(str::trim).filter(|given| !given.is_empty());
        let endpoint = match given {
            Some(given) => given.to_owned(),
            None => {
                let (url, shown) = (context.coordinator.url(), context.coordinator.shown());
                let card = fetch_card(&context.coordinator.http, url)
                    .await
                    .map_err(|error| no_card(context, &error))?;
                let Some(interface) = card.grpc_interface() else {
                    let what = format!(
                        "the agent card of {shown} names no gRPC address of A2A {}",
                        quell_a2a::PROTOCOL_VERSION
                    );
                    return Err(Failure::failed(what).next("give it with --grpc-url or QUELL_GRPC_URL"));
                };
                options.tenant.clone_from(&interface.tenant);
                interface.url.clone()
            }
        };
        let client = Client::connect_lazy(&endpoint, options).map_err(|error| {
            Failure::usage(error.to_string())
                .next("write it like 127.0.0.1:50051 in --grpc-url or QUELL_GRPC_URL")
        })?;
        Ok(Self { client, shown: shown_address(&endpoint), from_card: given.is_none() })
    }

    /// Opens an incident and returns its id. The same message id with the same draft finds the incident that it opened before.
    pub(crate) async fn open(&self, message_id: &str, draft: Value) -> Result<String> {
        let message = Message::user(message_id, vec![Part::data(draft)]);
        let opened = self.send(message).await.map_err(|error| {
            let failure = self.failure(&error);
            if !error.is_retryable() {
                return failure;
            }
            failure.and_next(format!(
                "whether it was opened is not known; with --message-id {message_id} it is not opened twice"
            ))
        })?;
        Ok(opened.id)
    }

    /// Answers the question whether that plan may be carried out.
    pub(crate) async fn decide(
        &self,
        incident: &str,
        approve: bool,
        plan_digest: &str,
        why: &str,
    ) -> Result<()> {
        let decision = if approve { "approve" } else { "deny" };
        let mut data = json!({"decision": decision, "plan_digest": plan_digest});
        if !why.is_empty() {
            data["why"] = json!(why);
        }
        let mut message = Message::user(Uuid::now_v7().to_string(), vec![Part::data(data)]);
        message.task_id = incident.to_owned();
        self.send(message).await.map_err(|error| self.failure(&error))?;
        Ok(())
    }

    async fn send(&self, message: Message) -> std::result::Result<Task, A2aError> {
        let request = SendRequest::new(message.with_skill(SKILL)).return_immediately();
        match self.client.send(request).await? {
            SendReply::Task(task) if task.state() == TaskState::Rejected => {
                let words = task.status.message.as_ref().map(Message::text).filter(|words| !words.is_empty());
                Err(A2aError::unsupported(words.unwrap_or_else(|| "the coordinator rejected it".to_owned())))
            }
            SendReply::Task(task) => Ok(task),
            SendReply::Message(message) => {
                let what = format!("it answered with a message instead of a task: {:?}", message.text());
                Err(A2aError::new(ErrorKind::InvalidAgentResponse, what))
            }
        }
    }

    /// The failure that an error answer stands for.
    pub(crate) fn failure(&self, error: &A2aError) -> Failure {
        let says = error.message();
        let shown = &self.shown;
        match error.kind() {
            ErrorKind::TaskNotFound => {
                Failure::not_possible(says).next("quell incident list shows what there is")
            }
            ErrorKind::UnsupportedOperation | ErrorKind::TaskNotCancelable => Failure::not_possible(says),
            ErrorKind::Invalid | ErrorKind::ContentTypeNotSupported => Failure::usage(says),
            ErrorKind::Unauthenticated => {
                Failure::failed(format!("the coordinator at {shown} does not know you: {says}"))
                    .next(SERVICE.not_known())
            }
            ErrorKind::Forbidden => Failure::failed(format!("your token may not do this: {says}"))
                .next("ask for the right, or use another token"),
            ErrorKind::Timeout => {
                Failure::failed(format!("the coordinator at {shown} does not answer in time: {says}"))
                    .next("see what became of it with quell incident show")
            }
            // An error with a cause was made on this side: the connection failed, not the coordinator.
            ErrorKind::Unavailable if error.source().is_some() => Failure::failed(format!(
                "the gRPC port of the coordinator at {shown} cannot be reached: {}",
                last(&cause(error))
            ))
            .next(if self.from_card {
                    "that address is on its agent card; name another one with --grpc-url or QUELL_GRPC_URL"
                } else {
                    "that address was given with --grpc-url or QUELL_GRPC_URL; without it the one on its agent card is taken"
                }),
            ErrorKind::Unavailable => {
                Failure::failed(format!("the coordinator cannot do this at the moment: {says}"))
                    .next("try again in a moment")
            }
            _ => Failure::failed(format!("the coordinator at {shown} failed: {says}"))
                .next("its log says more"),
        }
    }
}

fn no_card(context: &Context<'_>, error: &ClientError) -> Failure {
    let url = context.coordinator.shown();
    let what = match error {
        ClientError::Card { reason, .. } if reason.starts_with("error sending request") => {
            format!("the coordinator at {url} cannot be reached: {}", last(reason))
        }
        ClientError::Card { reason, .. } => format!("the agent card of {url} cannot be read: {reason}"),
        other => other.to_string(),
    };
    Failure::failed(what)
        .next(SERVICE.not_reachable())
        .and_next("or give its gRPC address with --grpc-url or QUELL_GRPC_URL")
}

/// The innermost cause of several in one line.
fn last(causes: &str) -> &str {
    causes.rsplit(": ").next().unwrap_or(causes)
}

/// What a status message says about the incident, as the coordinator's data part has it.
pub(crate) fn told(message: Option<&Message>) -> Value {
    message.and_then(Message::data).cloned().unwrap_or_default()
}

/// A sentence on where the incident stands, from a status message.
pub(crate) fn summary(message: Option<&Message>) -> String {
    let data = told(message);
    match view::text(&data, "/summary") {
        "" => message.map(Message::text).unwrap_or_default(),
        summary => summary.to_owned(),
    }
}
