//! Connections that break, and agents that come back with and without their memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use quell_a2a::{Client, ClientError, ClientOptions, ErrorKind, ListTasks, StreamEvent, TaskState};
use serde_json::json;

use crate::bench::{Bench, message, until};

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn client_follows_its_task_over_a_broken_connection() {
    let bench = Bench::new("kept");
    let server = bench.serve().await;
    let (address, client) = (server.address, server.client());
    let run = tokio::spawn(async move { client.run(message("m1", "gated", json!({})), WITHIN).await });
    until("the task runs", async || bench.gated.runs.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.stop().await.connections_cut, 1);
    let server = bench.serve_at(address, Duration::ZERO).await;
    bench.gated.gate.add_permits(1);
    let task = run.await.unwrap().unwrap();
    assert_eq!(task.state(), TaskState::Completed);
    // The artifact from before the cut came back with the task.
    assert!(task.artifact("begun").is_some() && task.artifact("done").is_some());
    assert_eq!(bench.gated.runs.load(Ordering::SeqCst), 1);
    let tasks = server.client().list_tasks(ListTasks::default()).await.unwrap();
    assert_eq!(tasks.total_size, 1);
}

#[tokio::test]
async fn client_sends_again_what_the_agent_forgot() {
    let first = Bench::new("first");
    let server = first.serve().await;
    let (address, client) = (server.address, server.client());
    let run = tokio::spawn(async move { client.run(message("m1", "gated", json!({})), WITHIN).await });
    until("the task runs", async || first.gated.runs.load(Ordering::SeqCst) == 1).await;
    server.stop().await;
    let second = Bench::new("second");
    let _server = second.serve_at(address, Duration::ZERO).await;
    second.gated.gate.add_permits(1);
    let task = run.await.unwrap().unwrap();
    assert_eq!(task.state(), TaskState::Completed);
    assert!(task.id.starts_with("second-"), "{}", task.id);
    assert_eq!(task.history[0].message_id, "m1");
    assert_eq!(second.gated.runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_must_not_be_done_twice_is_not_sent_twice() {
    let first = Bench::new("first");
    let server = first.serve().await;
    let address = server.address;
    let client = Client::connect_lazy(
        &address.to_string(),
        ClientOptions { resends: false, ..server.client_options() },
    );
    let client = client.unwrap();
    let run = {
        let client = client.clone();
        tokio::spawn(async move { client.run(message("m1", "gated", json!({})), WITHIN).await })
    };
    until("the task runs", async || first.gated.runs.load(Ordering::SeqCst) == 1).await;
    server.stop().await;
    // Nobody there, and whether the message arrived is not known.
    let error = client.run(message("m2", "gated", json!({})), WITHIN).await.unwrap_err();
    assert!(matches!(&error, ClientError::Call(error) if error.kind() == ErrorKind::Unavailable), "{error}");
    let second = Bench::new("second");
    let _server = second.serve_at(address, Duration::ZERO).await;
    let error = run.await.unwrap().unwrap_err();
    assert!(matches!(&error, ClientError::Call(error) if error.kind() == ErrorKind::TaskNotFound), "{error}");
    assert_eq!(second.gated.runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn drain_lets_calls_end_and_accepts_no_more() {
    let bench = Bench::new("drain");
    let server = bench.serve_at(([127, 0, 0, 1], 0).into(), WITHIN).await;
    let (address, client) = (server.address, server.client());
    let mut events = client.stream(message("m1", "gated", json!({})).into()).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(StreamEvent::Task(_)))));
    let stopping = tokio::spawn(server.stop());
    until("no connection is accepted", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    assert!(!stopping.is_finished());
    bench.gated.gate.add_permits(1);
    let rest: Vec<_> = events.map(Result::unwrap).collect().await;
    assert_eq!(rest.last().unwrap().state(), Some(TaskState::Completed));
    assert_eq!(stopping.await.unwrap().connections_cut, 0);
}
