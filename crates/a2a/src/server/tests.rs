//! The server as a client that breaks the rules sees it: with the generated client, header by header.

use async_trait::async_trait;
use futures::StreamExt;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::*;
use crate::error::ErrorKind;
use crate::proto::a2a_service_client::A2aServiceClient;
use crate::types::{
    AgentCapabilities, AgentInterface, AgentSkill, Artifact, Message, Part, SendReply, TaskState, TaskStatus,
};

/// Knows one task, which never changes; a send waits for the gate.
struct Fixed {
    gate: Semaphore,
}

fn task() -> Task {
    let status = TaskStatus { state: TaskState::Working, message: None, timestamp: None };
    let (id, context_id) = ("known".to_owned(), "c".to_owned());
    Task { id, context_id, status, artifacts: vec![], history: vec![], metadata: None }
}

#[async_trait]
impl Agent for Fixed {
    async fn send(&self, caller: &Caller, _: SendRequest) -> Result<SendReply, A2aError> {
        let _open = self.gate.acquire().await;
        let words =
            format!("{}/{}/{}", caller.name, caller.tenant, caller.traceparent.as_deref().unwrap_or("-"));
        Ok(SendReply::Message(Message::agent("r", vec![Part::text(words)])))
    }

    async fn stream(&self, _: &Caller, _: SendRequest) -> Result<EventStream, A2aError> {
        Ok(Box::pin(
            futures::stream::once(async { Ok(StreamEvent::Task(task())) }).chain(futures::stream::pending()),
        ))
    }

    async fn get_task(&self, _: &Caller, id: &str, _: Option<u32>) -> Result<Task, A2aError> {
        match id {
            "known" => Ok(task()),
            // An agent that breaks the protocol: numbers that cannot be sent.
            "broken" => {
                Ok(Task { metadata: serde_json::json!({ "n": u64::MAX }).as_object().cloned(), ..task() })
            }
            "large" => {
                let report = Artifact::new("report", vec![Part::raw(vec![b'x'; 12 << 20], "text/plain")]);
                Ok(Task {
                    artifacts: vec![report, Artifact::new("answer", vec![Part::text("42")])],
                    ..task()
                })
            }
            "failing" => Err(A2aError::internal("the secret cause")),
            other => Err(A2aError::task_not_found(other)),
        }
    }

    async fn list_tasks(&self, _: &Caller, query: ListTasks) -> Result<TaskPage, A2aError> {
        let page_size = query.page_size.unwrap_or(50);
        Ok(TaskPage { tasks: vec![], next_page_token: String::new(), page_size, total_size: 0 })
    }

    async fn cancel(&self, _: &Caller, _: &str) -> Result<Task, A2aError> {
        Err(A2aError::new(ErrorKind::TaskNotCancelable, "it has ended"))
    }

    async fn subscribe(&self, caller: &Caller, _: &str) -> Result<EventStream, A2aError> {
        self.stream(caller, SendRequest::new(Message::user("m", vec![]))).await
    }
}

struct OneToken;

impl Authenticate for OneToken {
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, A2aError> {
        match headers.get("authorization").map(http::HeaderValue::as_bytes) {
            Some(b"Bearer good") => Ok(Caller::named("tester")),
            _ => Err(A2aError::new(ErrorKind::Unauthenticated, "a bearer token is needed")),
        }
    }
}

fn card() -> AgentCard {
    AgentCard {
        name: "fixed".into(),
        description: "for tests".into(),
        version: "1".into(),
        supported_interfaces: vec![AgentInterface::grpc("127.0.0.1:1")],
        capabilities: AgentCapabilities { streaming: Some(true), ..Default::default() },
        default_input_modes: vec!["text/plain".into()],
        default_output_modes: vec!["text/plain".into()],
        skills: vec![AgentSkill {
            id: "s".into(),
            name: "s".into(),
            description: "s".into(),
            tags: vec!["s".into()],
            ..AgentSkill::default()
        }],
        ..AgentCard::default()
    }
}

struct Bench {
    channel: Channel,
    agent: Arc<Fixed>,
    draining: CancellationToken,
}

async fn bench(card: AgentCard, change: impl FnOnce(&mut ServerOptions)) -> Bench {
    let mut options = ServerOptions::new(Access::Tokens(Arc::new(OneToken)), Timestamp::UNIX_EPOCH);
    change(&mut options);
    let draining = options.draining.clone();
    let agent = Arc::new(Fixed { gate: Semaphore::new(0) });
    let router = router(Arc::<Fixed>::clone(&agent), card, options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(quell_service::serve(listener, router, std::future::pending()));
    Bench { channel: Endpoint::from_shared(url).unwrap().connect_lazy(), agent, draining }
}

impl Bench {
    fn client(&self) -> A2aServiceClient<Channel> {
        A2aServiceClient::new(self.channel.clone())
    }

    async fn get(&self, id: &str, headers: &[(&'static str, &'static str)]) -> Result<proto::Task, A2aError> {
        let request = with(proto::GetTaskRequest { id: id.into(), ..Default::default() }, headers);
        read(self.client().get_task(request).await)
    }
}

fn with<T>(message: T, headers: &[(&'static str, &'static str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

fn good<T>(message: T) -> Request<T> {
    with(message, &GOOD)
}

fn read<T>(answer: Result<tonic::Response<T>, Status>) -> Result<T, A2aError> {
    answer.map(tonic::Response::into_inner).map_err(|status| A2aError::from_status(&status))
}

fn send(text: &str) -> proto::SendMessageRequest {
    crate::convert::send_to_proto(SendRequest::new(Message::user("m", vec![Part::text(text)]))).unwrap()
}

const VERSION: (&str, &str) = ("a2a-version", "1.0");
const TOKEN: (&str, &str) = ("authorization", "Bearer good");
const GOOD: [(&str, &str); 2] = [VERSION, TOKEN];

#[tokio::test]
async fn version_is_asked_for_in_every_call() {
    let bench = bench(card(), |_| {}).await;
    assert_eq!(bench.get("known", &GOOD).await.unwrap().id, "known");
    for headers in [vec![TOKEN], vec![TOKEN, ("a2a-version", "")], vec![TOKEN, ("a2a-version", "0.3")]] {
        let error = bench.get("known", &headers).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::VersionNotSupported, "{headers:?}");
        assert_eq!(error.metadata()["supportedVersions"], "1.0");
    }
    let status = bench.client().send_message(send("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let status =
        bench.client().subscribe_to_task(proto::SubscribeToTaskRequest::default()).await.unwrap_err();
    assert_eq!(A2aError::from_status(&status).kind(), ErrorKind::VersionNotSupported);
}

#[tokio::test]
async fn credentials_come_before_everything_about_tasks() {
    let bench = bench(card(), |_| {}).await;
    for id in ["known", "unknown", ""] {
        for headers in [vec![VERSION], vec![VERSION, ("authorization", "Bearer bad")]] {
            assert_eq!(bench.get(id, &headers).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
        }
    }
    let error = bench.get("unknown", &GOOD).await.unwrap_err();
    assert_eq!((error.kind(), error.metadata()["taskId"].as_str()), (ErrorKind::TaskNotFound, "unknown"));
    assert_eq!(bench.get("", &GOOD).await.unwrap_err().violations()[0].field, "id");
}

#[tokio::test]
async fn a_task_that_is_larger_than_its_caller_reads_at_once_is_read_in_part() {
    let bench = bench(card(), |_| {}).await;
    // As every library reads it.
    let task = bench.get("large", &GOOD).await.unwrap();
    let text = |task: &proto::Task, artifact: usize| match &task.artifacts[artifact].parts[0].content {
        Some(proto::part::Content::Text(text)) => text.clone(),
        content => panic!("{content:?}"),
    };
    assert!(text(&task, 0).starts_with("left out: a part of 12582"), "{}", text(&task, 0));
    assert_eq!(text(&task, 1), "42");
    // Whoever reads more says so and gets it all, as this crate's client does.
    let mut client = bench.client().max_decoding_message_size(16 << 20);
    let request = proto::GetTaskRequest { id: "large".into(), ..Default::default() };
    let headers = [VERSION, TOKEN, (crate::MESSAGE_BYTES_HEADER, "16777216")];
    let task = client.get_task(with(request, &headers)).await.unwrap().into_inner();
    assert!(
        matches!(&task.artifacts[0].parts[0].content, Some(proto::part::Content::Raw(raw)) if raw.len() == 12 << 20)
    );
}

#[tokio::test]
async fn what_the_agent_did_wrong_is_not_the_callers_fault() {
    let bench = bench(card(), |_| {}).await;
    assert_eq!(bench.get("broken", &GOOD).await.unwrap_err().kind(), ErrorKind::InvalidAgentResponse);
    let error = bench.get("failing", &GOOD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(!format!("{error:?}").contains("secret"));
}

#[tokio::test]
async fn unsupported_calls_say_so() {
    let bench = bench(card(), |_| {}).await;
    let mut client = bench.client();
    let refused = [
        read(client.create_task_push_notification_config(good(Default::default())).await)
            .map(|_| ())
            .unwrap_err(),
        read(client.get_task_push_notification_config(good(Default::default())).await)
            .map(|_| ())
            .unwrap_err(),
        read(client.list_task_push_notification_configs(good(Default::default())).await)
            .map(|_| ())
            .unwrap_err(),
        read(client.delete_task_push_notification_config(good(Default::default())).await).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::PushNotificationNotSupported);
    }
    let mut request = send("x");
    let configuration = request.configuration.as_mut().unwrap();
    configuration.task_push_notification_config = Some(proto::TaskPushNotificationConfig::default());
    let error = read(client.send_message(good(request)).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PushNotificationNotSupported);
    let error = read(client.get_extended_agent_card(good(Default::default())).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);

    let mut announced = card();
    announced.capabilities = AgentCapabilities { extended_agent_card: Some(true), ..Default::default() };
    let bench = self::bench(announced, |_| {}).await;
    let error = read(bench.client().get_extended_agent_card(good(Default::default())).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExtendedAgentCardNotConfigured);
    // This one does not stream either.
    let error = read(bench.client().send_streaming_message(good(send("x"))).await).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    let request = proto::SubscribeToTaskRequest { id: "known".into(), ..Default::default() };
    let error = read(bench.client().subscribe_to_task(good(request)).await).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused() {
    let bench = bench(card(), |options| options.request_bytes_max = 10_000).await;
    bench.agent.gate.add_permits(10);
    assert!(bench.client().send_message(good(send(&"x".repeat(9_000)))).await.is_ok());
    let status = bench.client().send_message(good(send(&"x".repeat(10_001)))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(A2aError::from_status(&status).kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn calls_and_streams_at_the_same_time_are_limited() {
    let limits = |options: &mut ServerOptions| {
        options.calls_in_flight_max = 2;
        options.streams_open_max = 1;
    };
    let bench = bench(card(), limits).await;
    let request = proto::SubscribeToTaskRequest { id: "known".into(), ..Default::default() };
    let mut stream = bench.client().subscribe_to_task(good(request.clone())).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let error = read(bench.client().subscribe_to_task(good(request.clone())).await).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    // Streams leave the calls their room: two sends wait, a third call finds none.
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let mut client = bench.client();
            tokio::spawn(async move { client.send_message(good(send("x"))).await })
        })
        .collect();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while let Err(error) = bench.get("known", &GOOD).await.map_or(Ok(()), |_| Err("let in")) {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.get("known", &GOOD).await.unwrap_err().kind(), ErrorKind::Unavailable);
    bench.agent.gate.add_permits(10);
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    assert!(bench.get("known", &GOOD).await.is_ok());
    drop(stream);
    while bench.client().subscribe_to_task(good(request.clone())).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the stream's room was not given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn caller_tenant_and_trace_reach_the_agent() {
    let mut card = card();
    card.supported_interfaces.push(AgentInterface { tenant: "blue".into(), ..AgentInterface::grpc("h:1") });
    let bench = bench(card, |_| {}).await;
    bench.agent.gate.add_permits(10);
    let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let said = |request: proto::SendMessageRequest, headers: Vec<(&'static str, &'static str)>| {
        let mut client = bench.client();
        async move {
            let reply = read(client.send_message(with(request, &headers)).await);
            match crate::convert::reply_from_proto(reply?)? {
                SendReply::Message(message) => Ok::<_, A2aError>(message.text()),
                SendReply::Task(_) => panic!("a task"),
            }
        }
    };
    let blue = proto::SendMessageRequest { tenant: "blue".into(), ..send("x") };
    let expected = format!("tester/blue/{}", trace.1);
    assert_eq!(said(blue, vec![VERSION, TOKEN, trace]).await.unwrap(), expected);
    assert_eq!(said(send("x"), vec![VERSION, TOKEN, ("traceparent", "junk")]).await.unwrap(), "tester//-");
    let red = proto::SendMessageRequest { tenant: "red".into(), ..send("x") };
    assert_eq!(said(red, GOOD.to_vec()).await.unwrap_err().violations()[0].field, "tenant");
}

#[tokio::test]
async fn health_follows_the_drain_and_streams_end_with_it() {
    let bench = bench(card(), |_| {}).await;
    let mut health = HealthClient::new(bench.channel.clone());
    let known = HealthCheckRequest { service: "lf.a2a.v1.A2AService".into() };
    for request in [HealthCheckRequest::default(), known] {
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
    let unknown = HealthCheckRequest { service: "other".into() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let request = proto::SubscribeToTaskRequest { id: "known".into(), ..Default::default() };
    let mut stream = bench.client().subscribe_to_task(good(request)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());

    bench.draining.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none());
    let error = A2aError::from_status(&stream.message().await.unwrap_err());
    assert!(error.is_retryable());
    assert_eq!(bench.get("known", &GOOD).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
}

#[tokio::test]
async fn health_is_watched_by_a_few() {
    let bench = bench(card(), |_| {}).await;
    let mut health = HealthClient::new(bench.channel.clone());
    let mut watches = Vec::new();
    let refused = loop {
        match health.watch(HealthCheckRequest::default()).await {
            Ok(watch) => watches.push(watch),
            Err(status) => break status,
        }
        assert!(watches.len() < 1_000, "any number of watches");
    };
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let bench = bench(card(), |_| {}).await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = futures::stream::iter([request]);
    let mut client = ServerReflectionClient::new(bench.channel.clone());
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let ServerReflectionResponse {
        message_response: Some(MessageResponse::ListServicesResponse(list)), ..
    } = answers.message().await.unwrap().unwrap()
    else {
        panic!("not a list");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["lf.a2a.v1.A2AService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
}

#[test]
fn card_with_missing_fields_is_not_served() {
    let incomplete = AgentCard { skills: vec![AgentSkill::default()], name: String::new(), ..card() };
    let error = card_router(&incomplete, 1, Timestamp::UNIX_EPOCH).unwrap_err();
    let fields: Vec<_> = error.violations().iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["name", "skills[0].id", "skills[0].name", "skills[0].description", "skills[0].tags"]);
}
