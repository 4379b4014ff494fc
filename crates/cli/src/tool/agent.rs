//! The diagnostic agent's skill `tool`, over A2A.

use std::error::Error as _;
use std::time::Duration;

use quell_a2a::{
    A2aError, Client, ClientOptions, ErrorKind, Message, Part, SendReply, SendRequest, Task, TaskState,
};
use quell_service::config::shown_address;
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::failure::{Failure, Result};
use crate::rest::cause;

const SKILL: &str = "tool";
const SCHEMA: &str = "quell/tool-call/v1";

pub(super) struct DiagnosticAgent {
    client: Client,
    /// Its address for people, without what may be a secret in it.
    shown: String,
}

impl DiagnosticAgent {
    /// The agent at that address. Nothing is sent yet.
    pub(super) fn at(endpoint: &str, token: Option<SecretString>, timeout: Duration) -> Result<Self> {
        let options = ClientOptions { bearer: token, task_timeout: timeout, ..ClientOptions::default() };
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let client = Client::connect_lazy(&endpoint, options).map_err(|error| {
            Failure::usage(error.to_string())
                .next("write it like 127.0.0.1:50052 in --agent or QUELL_DIAGNOSTIC_URL")
        })?;
        Ok(Self { client, shown: shown_address(&endpoint) })
    }

    /// The document of that artifact: a tool's answer, or without a tool the tools that there are.
    pub(super) async fn ask(&self, artifact: &str, call: Option<(&str, Value)>) -> Result<Value> {
        let mut data = json!({"schema": SCHEMA});
        if let Some((tool, input)) = call {
            data["tool"] = json!(tool);
            data["input"] = input;
        }
        let message = Message::user(Uuid::now_v7().to_string(), vec![Part::data(data)]).with_skill(SKILL);
        // Once: who types the command sees at once that nobody is there, and can type it again.
        let reply =
            self.client.send(SendRequest::new(message)).await.map_err(|error| self.refusal(&error))?;
        let SendReply::Task(task) = reply else {
            return Err(Failure::failed(format!(
                "the agent at {} answered with a message instead of a task",
                self.shown
            ))
            .next("is it Quell's diagnostic agent?"));
        };
        match task.state() {
            TaskState::Completed => {
                let answer = task.artifact(artifact).and_then(|artifact| artifact.data()).cloned();
                answer.ok_or_else(|| {
                    Failure::failed(format!(
                        "the agent at {} answered without the artifact `{artifact}`",
                        self.shown
                    ))
                    .next("is it Quell's diagnostic agent, and of this version?")
                })
            }
            TaskState::Rejected => Err(Failure::usage(words(&task, "the agent rejected the call"))),
            other => Err(Failure::failed(words(&task, &format!("the call ended as {}", other.as_str())))),
        }
    }

    fn refusal(&self, error: &A2aError) -> Failure {
        let (says, shown) = (error.message(), &self.shown);
        match error.kind() {
            ErrorKind::Invalid => {
                let fields: Vec<String> = error
                    .violations()
                    .iter()
                    .map(|violation| format!("{}: {}", violation.field.trim_start_matches("parts[0].data."), violation.description))
                    .collect();
                let says = if fields.is_empty() { says.to_owned() } else { fields.join("; ") };
                Failure::usage(says).next("quell tool list shows what there is and what each wants")
            }
            ErrorKind::Unauthenticated => {
                Failure::failed(format!("the diagnostic agent at {shown} does not know you: {says}"))
                    .next("give a token of its configuration with the scope `agent` by --token or QUELL_TOKEN")
            }
            ErrorKind::Timeout => {
                Failure::failed(format!("the diagnostic agent at {shown} gave no answer in time: {says}"))
                    .next("give it more time with --timeout, or ask for less")
            }
            ErrorKind::UnsupportedOperation => {
                Failure::not_possible(format!("the agent at {shown} does not take tool calls: {says}"))
                    .next("is it Quell's diagnostic agent, and of this version?")
            }
            ErrorKind::Forbidden => Failure::failed(format!("your token may not do this: {says}"))
                .next("it takes a token with the scope `agent`"),
            ErrorKind::Unavailable if error.source().is_some() => {
                Failure::failed(format!("the diagnostic agent at {shown} cannot be reached: {}", cause(error)))
                    .next("is quell-diagnostic running there? Name another address with --agent or QUELL_DIAGNOSTIC_URL")
            }
            _ => Failure::failed(format!("the diagnostic agent at {shown} failed: {says}")).next("its log says more"),
        }
    }
}

fn words(task: &Task, otherwise: &str) -> String {
    let words = task.status.message.as_ref().map(Message::text).filter(|words| !words.is_empty());
    words.unwrap_or_else(|| otherwise.to_owned())
}
