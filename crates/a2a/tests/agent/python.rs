//! The official SDK as a peer. It needs a Python; where there is none, the test says so and passes.

use std::process::{Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use quell_a2a::{
    Client, ClientOptions, ErrorKind, ListTasks, Message, Part, PartContent, SendReply, StreamEvent,
    TaskState,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bench::Bench;
use crate::sdk::{python_or_word, run};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/peer.py");
const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/agent.py");

#[tokio::test(flavor = "multi_thread")]
async fn official_sdk_understands_the_agent() {
    let Some(python) = python_or_word().await else { return };
    let bench = Bench::new("sdk");
    let server = bench.serve().await;
    let base = format!("http://{}", server.address);
    let peer = tokio::task::spawn_blocking(move || {
        run(Command::new(python)
            .arg(PEER)
            .arg(base)
            .arg("token-of-tester")
            .env("PYTHONDONTWRITEBYTECODE", "1"))
    });
    let printed = peer.await.unwrap().unwrap();
    let seen: Value = serde_json::from_str(printed.trim()).unwrap();

    assert_eq!(
        seen["card"],
        json!({
            "name": "sdk", "skills": ["echo", "ask", "gated"], "schemes": { "bearer": "http_auth_security_scheme" },
            "interface": {
                "url": server.address.to_string(), "protocolBinding": "GRPC", "protocolVersion": "1.0"
            },
        })
    );
    let given = json!({ "n": 7.0, "f": 0.5, "deep": { "list": [1.0, null] } });
    assert_eq!(
        seen["sent"],
        json!({ "state": "TASK_STATE_COMPLETED", "artifacts": {
            "log": [{ "text": "one " }, { "text": "two" }],
            "echo": [{ "data": { "got": given, "trace": null } }],
        } })
    );
    assert_eq!(seen["sent_again_is_the_same_task"], true);
    assert_eq!(
        seen["streamed"],
        json!([
            "task",
            "status_update",
            "status_update",
            "artifact_update",
            "artifact_update",
            "artifact_update",
            "status_update"
        ])
    );
    assert_eq!(seen["streamed_last_state"], "TASK_STATE_COMPLETED");
    assert_eq!(seen["got"], json!({ "state": "TASK_STATE_COMPLETED", "history": 0, "same": true }));
    assert_eq!(seen["listed"], json!({ "total": 2, "page": 1, "more": true }));
    assert_eq!(seen["asked"], json!(["TASK_STATE_AUTH_REQUIRED", "TASK_STATE_COMPLETED", true]));
    assert_eq!(seen["canceled"], json!(["task", "TASK_STATE_CANCELED", "TASK_STATE_CANCELED"]));
    assert_eq!(
        seen["raised"],
        json!([
            "TaskNotFoundError",
            "TaskNotCancelableError",
            "PushNotificationNotSupportedError",
            "A2AClientError"
        ])
    );
    let refused = &seen["refused"];
    let info = |reason: &str, metadata: Value| json!({ "reason": reason, "domain": "a2a-protocol.org", "metadata": metadata });
    assert_eq!(refused["unknown"]["code"], "NOT_FOUND");
    assert_eq!(refused["unknown"]["ErrorInfo"], info("TASK_NOT_FOUND", json!({ "taskId": "unknown" })));
    assert_eq!(refused["invalid"]["code"], "INVALID_ARGUMENT");
    assert_eq!(refused["invalid"]["BadRequest"]["fieldViolations"][0]["field"], "message.message_id");
    assert_eq!(refused["version"]["code"], "FAILED_PRECONDITION");
    assert_eq!(
        refused["version"]["ErrorInfo"],
        info("VERSION_NOT_SUPPORTED", json!({ "supportedVersions": "1.0" }))
    );
    assert_eq!(refused["token"]["code"], "UNAUTHENTICATED");
}

fn ask(id: &str, data: Value) -> Message {
    Message::user(id, vec![Part::data(data)])
}

#[tokio::test(flavor = "multi_thread")]
async fn client_understands_an_agent_of_the_official_sdk() {
    let Some(python) = python_or_word().await else { return };
    let mut agent = tokio::process::Command::new(python);
    agent.arg(AGENT).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut agent = agent.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    let started = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap();
    let port = started.unwrap().expect("the agent prints its port");
    let client = Client::connect_lazy(&format!("127.0.0.1:{port}"), ClientOptions::default()).unwrap();
    let within = Duration::from_secs(30);

    let data = json!({ "n": 7, "deep": { "list": [1, null, "x"] } });
    let done = client.run(ask("r1", data.clone()), within).await.unwrap();
    assert_eq!(done.state(), TaskState::Completed);
    let echo = done.artifact("echo").unwrap();
    assert_eq!(echo.data(), Some(&data));
    assert_eq!(echo.parts[1].content, PartContent::Text("end".into()));
    assert_eq!(client.get_task(&done.id, None).await.unwrap().artifacts, done.artifacts);

    let events = client.stream(ask("r2", json!({ "x": 1 })).into()).await.unwrap();
    let events: Vec<StreamEvent> = events.map(Result::unwrap).collect().await;
    assert!(matches!(events[0], StreamEvent::Task(_)));
    assert_eq!(events.last().unwrap().state(), Some(TaskState::Completed));
    let SendReply::Task(failed) = client.send(ask("r3", json!({ "fail": true })).into()).await.unwrap()
    else {
        panic!("a message");
    };
    assert_eq!(
        (failed.state(), failed.status.message.unwrap().text().as_str()),
        (TaskState::Failed, "as asked")
    );

    let asked = client.run(ask("r4", json!({ "ask": true })), within).await.unwrap();
    assert_eq!(asked.state(), TaskState::InputRequired);
    let mut answer = ask("r5", json!({ "x": 2 }));
    answer.task_id.clone_from(&asked.id);
    let answered = client.run(answer, within).await.unwrap();
    assert_eq!((answered.id.as_str(), answered.state()), (asked.id.as_str(), TaskState::Completed));

    let waiting = client.run(ask("r6", json!({ "ask": true })), within).await.unwrap();
    assert_eq!(client.cancel(&waiting.id).await.unwrap().state(), TaskState::Canceled);
    let page = client.list_tasks(ListTasks { page_size: Some(2), ..ListTasks::default() }).await.unwrap();
    assert_eq!((page.tasks.len(), page.total_size), (2, 5));
    assert!(!page.next_page_token.is_empty());

    assert_eq!(client.get_task("unknown", None).await.unwrap_err().kind(), ErrorKind::TaskNotFound);
    assert_eq!(client.cancel(&done.id).await.unwrap_err().kind(), ErrorKind::TaskNotCancelable);
    let error = client.subscribe(&done.id).await;
    let error = match error {
        Err(error) => error,
        Ok(mut events) => events.next().await.unwrap().unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    drop(agent.stdin.take());
    assert!(tokio::time::timeout(within, agent.wait()).await.unwrap().unwrap().success());
}
