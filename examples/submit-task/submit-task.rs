//! Hands in an incident over A2A, follows it, reads the plan, approves it by its digest, and sees it end.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]
use futures::StreamExt as _;
use quell_a2a::{Client, ClientOptions, Message, Part, SendRequest, StreamEvent, TaskState};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let token = std::env::var("QUELL_TOKEN").ok();
    let client = Client::connect_lazy(&address, ClientOptions::default().with_bearer(token.as_deref()))?;

    let draft = json!({
        "schema": "quell/incident-draft/v1",
        "title": "Mails are sent an hour late",
        "severity": "high",
        "service": "email-service",
        "affected_systems": ["email-service"],
    });
    // The same id is the same task: after an error the message may be sent again.
    let id = uuid::Uuid::now_v7();
    let message = Message::user(format!("{id}/open"), vec![Part::data(draft)]).with_skill("respond");
    let mut events = client.stream(message.into()).await?;
    let mut task_id = String::new();
    while let Some(event) = events.next().await {
        let status = match event? {
            StreamEvent::Task(task) => {
                task_id.clone_from(&task.id);
                task.status
            }
            StreamEvent::ArtifactUpdate { artifact, .. } => {
                println!("{}: {}", artifact.artifact_id, artifact.data().unwrap_or(&json!("text")));
                continue;
            }
            StreamEvent::StatusUpdate { status, .. } => status,
            StreamEvent::Message(message) => return Err(message.text().into()),
        };
        let told = status.message.unwrap_or_else(|| Message::agent("", Vec::new()));
        println!("{}: {}", status.state, told.text());
        let digest = told.data().map_or(json!(null), |data| data["question"]["plan_digest"].clone());
        if status.state == TaskState::InputRequired && digest.is_string() {
            let approval =
                json!({"schema": "quell/decision/v1", "decision": "approve", "plan_digest": digest});
            let mut answer = Message::user(format!("{id}/approve"), vec![Part::data(approval)]);
            answer.task_id.clone_from(&task_id);
            client.send(SendRequest::new(answer).return_immediately()).await?;
        }
    }
    Ok(())
}
