//! All six calls of the client, and what the server answers to mistakes.

use std::time::Duration;

use futures::StreamExt;
use quell_a2a::{
    Client, ClientError, ClientOptions, ErrorKind, ListTasks, Message, Part, SendReply, SendRequest,
    StreamEvent, Task, TaskState,
};
use serde_json::json;

use crate::bench::{Bench, message};

async fn sent(client: &Client, request: SendRequest) -> Task {
    match client.send(request).await.unwrap() {
        SendReply::Task(task) => task,
        SendReply::Message(message) => panic!("a message: {message:?}"),
    }
}

#[tokio::test]
async fn send_get_list_and_stream() {
    let bench = Bench::new("calls");
    let server = bench.serve().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let client = server.client().with_traceparent(trace);

    let task = sent(&client, message("m1", "echo", json!({ "n": [1, 2.5, null, "x"] })).into()).await;
    assert_eq!(task.state(), TaskState::Completed);
    let echo = task.artifact("echo").unwrap().data().unwrap();
    assert_eq!(echo, &json!({ "got": { "n": [1, 2.5, null, "x"] }, "trace": trace }));
    assert_eq!(client.get_task(&task.id, None).await.unwrap(), task);
    assert!(client.get_task(&task.id, Some(0)).await.unwrap().history.is_empty());

    let events = client.stream(message("m2", "echo", json!({})).into()).await.unwrap();
    let events: Vec<StreamEvent> = events.map(Result::unwrap).collect().await;
    assert!(matches!(events[0], StreamEvent::Task(_)));
    assert_eq!(events.last().unwrap().state(), Some(TaskState::Completed));
    let chunks: Vec<(bool, bool)> = events
        .iter()
        .filter_map(|event| match event {
            StreamEvent::ArtifactUpdate { artifact, append, last_chunk, .. }
                if artifact.artifact_id == "log" =>
            {
                Some((*append, *last_chunk))
            }
            _ => None,
        })
        .collect();
    assert_eq!(chunks, [(false, false), (true, true)]);

    let page = client.list_tasks(ListTasks { page_size: Some(1), ..ListTasks::default() }).await.unwrap();
    assert_eq!((page.total_size, page.tasks.len(), page.page_size), (2, 1, 1));
    assert_eq!(page.tasks[0].history[0].message_id, "m2");
    assert!(page.tasks[0].artifacts.is_empty());
    let query =
        ListTasks { page_token: page.next_page_token, include_artifacts: true, ..ListTasks::default() };
    let page = client.list_tasks(query).await.unwrap();
    assert_eq!((page.tasks[0].id.as_str(), page.next_page_token.as_str()), (task.id.as_str(), ""));
    assert_eq!(page.tasks[0].artifacts, task.artifacts);

    let other = server.client_with("token-of-other");
    assert_eq!(other.get_task(&task.id, None).await.unwrap_err().kind(), ErrorKind::TaskNotFound);
    assert_eq!(other.list_tasks(ListTasks::default()).await.unwrap().total_size, 0);
}

#[tokio::test]
async fn authorisation_is_asked_for_and_given() {
    let bench = Bench::new("ask");
    let server = bench.serve().await;
    let client = server.client();
    let within = Duration::from_secs(20);
    let asked = client.run(message("m1", "ask", json!({})), within).await.unwrap();
    assert_eq!(asked.state(), TaskState::AuthRequired);
    assert_eq!(asked.status.message.as_ref().unwrap().text(), "shall I?");

    let mut watched = client.subscribe(&asked.id).await.unwrap();
    assert!(matches!(watched.next().await, Some(Ok(StreamEvent::Task(_)))));
    let mut answer = message("m2", "ask", json!({ "decision": "approve" }));
    answer.task_id.clone_from(&asked.id);
    let done = client.run(answer, within).await.unwrap();
    assert_eq!((done.state(), done.id.as_str()), (TaskState::Completed, asked.id.as_str()));
    assert_eq!(done.artifact("decision").unwrap().data().unwrap()["approved_by"], "tester");
    let rest: Vec<_> = watched.map(Result::unwrap).collect().await;
    assert_eq!(rest.last().unwrap().state(), Some(TaskState::Completed));
}

#[tokio::test]
async fn mistakes_are_named() {
    let bench = Bench::new("mistakes");
    let server = bench.serve().await;
    let client = server.client();
    let error =
        client.send(Message::user("m1", vec![Part::text("x")]).with_skill("echo").into()).await.unwrap_err();
    assert_eq!((error.kind(), error.violations()[0].field.as_str()), (ErrorKind::Invalid, "message.parts"));
    let error = client.send(message("m2", "fly", json!({})).into()).await.unwrap_err();
    assert!(error.message().contains("ask, echo, gated"), "{error}");
    let error =
        client.send(Message::user("m3", vec![Part::raw(vec![1], "image/png")]).into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContentTypeNotSupported);
    let error = client.send(Message::user("m4", vec![]).into()).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "message.parts");
    let error = client.get_task("nothing", None).await.unwrap_err();
    assert_eq!((error.kind(), error.metadata()["taskId"].as_str()), (ErrorKind::TaskNotFound, "nothing"));
    let error =
        client.list_tasks(ListTasks { page_size: Some(101), ..ListTasks::default() }).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "page_size");
    let done = sent(&client, message("m5", "echo", json!({})).into()).await;
    assert_eq!(client.cancel(&done.id).await.unwrap_err().kind(), ErrorKind::TaskNotCancelable);
    let error = client.subscribe(&done.id).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    let error = server.client_with("wrong").get_task(&done.id, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn numbers_that_would_change_are_not_sent() {
    let bench = Bench::new("numbers");
    let server = bench.serve().await;
    let request = message("m1", "echo", json!({ "id": u64::MAX }));
    let error = server.client().send(request.into()).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "message.parts[0].data.id");
}

#[tokio::test]
async fn cancelling_over_the_wire() {
    let bench = Bench::new("cancel");
    let server = bench.serve().await;
    let client = server.client();
    let task = sent(&client, SendRequest::new(message("m1", "gated", json!({}))).return_immediately()).await;
    let followed = client.run(message("m1", "gated", json!({})), Duration::from_secs(20));
    let (canceled, followed) = tokio::join!(client.cancel(&task.id), followed);
    assert_eq!(canceled.unwrap().state(), TaskState::Canceled);
    assert_eq!(followed.unwrap().state(), TaskState::Canceled);
}

#[tokio::test]
async fn nobody_there_is_a_timeout() {
    // A port that was free a moment ago, and nobody listens on.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::connect_lazy(&address.to_string(), ClientOptions::default()).unwrap();
    assert!(client.get_task("x", None).await.unwrap_err().is_retryable());
    let error = client.run(message("m1", "echo", json!({})), Duration::from_millis(300)).await.unwrap_err();
    let ClientError::Timeout { task_id, last, .. } = error else { panic!("{error}") };
    assert_eq!(task_id, None);
    assert!(!last.is_empty());
}

#[tokio::test]
async fn secrets_stay_out_of_what_is_printed() {
    let bearer =
        |token: &str| ClientOptions { bearer: Some(token.to_owned().into()), ..ClientOptions::default() };
    let client = Client::connect_lazy("127.0.0.1:1", bearer("swordfish")).unwrap();
    assert!(!format!("{client:?}").contains("swordfish"));
    let error = Client::connect_lazy("127.0.0.1:1", bearer("sword\nfish")).unwrap_err();
    assert!(!format!("{error:?}").contains("fish"));
    let error = Client::connect_lazy("https://127.0.0.1:1", ClientOptions::default()).unwrap_err();
    assert!(error.to_string().contains("only http://"), "{error}");
}
