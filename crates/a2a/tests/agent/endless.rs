//! Agents that say more than can be heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use quell_a2a::{
    A2aError, Access, Agent, Artifact, Caller, Client, ClientError, ClientOptions, ErrorKind, EventStream,
    ListTasks, Message, Part, SendReply, SendRequest, ServerOptions, StreamEvent, Task, TaskPage, TaskState,
    TaskStatus,
};
use tokio::net::TcpListener;

use crate::bench::card;

const CHUNK_BYTES: usize = 64 << 10;

/// Adds to its one task without an end, in the manner of its kind.
struct Endless {
    told: Arc<AtomicUsize>,
    cancelled: AtomicBool,
    chunk: fn(usize) -> StreamEvent,
}

fn task(state: TaskState) -> Task {
    let status = TaskStatus { state, message: None, timestamp: Some(Timestamp::UNIX_EPOCH) };
    Task {
        id: "endless".into(),
        context_id: "c".into(),
        status,
        artifacts: vec![],
        history: vec![],
        metadata: None,
    }
}

fn update(artifact: Artifact, append: bool) -> StreamEvent {
    let (task_id, context_id) = ("endless".into(), "c".into());
    StreamEvent::ArtifactUpdate { task_id, context_id, artifact, append, last_chunk: false, metadata: None }
}

#[async_trait]
impl Agent for Endless {
    async fn send(&self, _: &Caller, _: SendRequest) -> Result<SendReply, A2aError> {
        Err(A2aError::unsupported("it streams"))
    }

    async fn stream(&self, _: &Caller, _: SendRequest) -> Result<EventStream, A2aError> {
        let (told, chunk) = (Arc::clone(&self.told), self.chunk);
        let first = stream::once(async { Ok(StreamEvent::Task(task(TaskState::Working))) });
        let rest = stream::repeat_with(move || Ok(chunk(told.fetch_add(1, Ordering::SeqCst))));
        Ok(Box::pin(first.chain(rest)))
    }

    async fn get_task(&self, _: &Caller, _: &str, _: Option<u32>) -> Result<Task, A2aError> {
        Ok(task(TaskState::Working))
    }

    async fn list_tasks(&self, _: &Caller, _: ListTasks) -> Result<TaskPage, A2aError> {
        Err(A2aError::unsupported("no lists"))
    }

    async fn cancel(&self, _: &Caller, _: &str) -> Result<Task, A2aError> {
        self.cancelled.store(true, Ordering::SeqCst);
        Ok(task(TaskState::Canceled))
    }

    async fn subscribe(&self, caller: &Caller, _: &str) -> Result<EventStream, A2aError> {
        self.stream(caller, SendRequest::new(Message::user("m", vec![]))).await
    }
}

#[tokio::test]
async fn an_agent_that_adds_to_its_task_without_end_is_given_up() {
    type Event = fn(usize) -> StreamEvent;
    let kinds: [(&str, Event); 4] = [
        ("more of one artifact", |_| {
            update(Artifact::new("a", vec![Part::raw(vec![0; CHUNK_BYTES], "text/plain")]), true)
        }),
        ("further artifacts", |number| {
            update(Artifact::new(number.to_string(), vec![Part::text("x")]), false)
        }),
        ("small parts", |_| update(Artifact::new("a", vec![Part::text("x")]), true)),
        ("metadata", |number| {
            let mut artifact = Artifact::new("a", vec![Part::text("x")]);
            let entry = serde_json::json!({ number.to_string(): "x".repeat(1_000) });
            artifact.metadata = entry.as_object().cloned();
            update(artifact, true)
        }),
    ];
    for (kind, chunk) in kinds {
        let agent = Arc::new(Endless { told: Arc::default(), cancelled: AtomicBool::new(false), chunk });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = ServerOptions::new(Access::Loopback(Caller::local()), Timestamp::UNIX_EPOCH);
        let router =
            quell_a2a::router(Arc::<Endless>::clone(&agent), card("endless", address), options).unwrap();
        tokio::spawn(quell_service::serve(listener, router, std::future::pending()));
        let options = ClientOptions { task_bytes_max: 1 << 20, ..ClientOptions::default() };
        let client = Client::connect_lazy(&address.to_string(), options).unwrap();
        let message = Message::user("m1", vec![Part::text("begin")]);
        let error = client.run(message, Duration::from_secs(60)).await.unwrap_err();
        let ClientError::Call(error) = error else { panic!("{kind}: {error}") };
        assert_eq!(error.kind(), ErrorKind::InvalidAgentResponse, "{kind}: {error}");
        assert!(error.to_string().contains("grown beyond 1048576 bytes"), "{kind}: {error}");
        assert!(agent.cancelled.load(Ordering::SeqCst), "{kind}: the agent was not asked to stop");
    }
}
