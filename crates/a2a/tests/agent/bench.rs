//! An agent with a few small skills, and a server that can be stopped and started again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use jiff::Timestamp;
use quell_a2a::{
    A2aError, Access, AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Artifact, Authenticate,
    Caller, Client, ClientOptions, ErrorKind, Message, Outcome, Part, SecurityRequirement, SecurityScheme,
    ServerOptions, Skill, SkillError, TaskManager, TaskOptions, Work,
};
use quell_service::{ServeOptions, ServeReport};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

/// Answers with what it was given, in two artifacts.
struct Echo;

#[async_trait]
impl Skill for Echo {
    fn id(&self) -> &str {
        "echo"
    }

    fn check(&self, message: &Message) -> Result<(), A2aError> {
        match message.data() {
            Some(_) => Ok(()),
            None => Err(A2aError::invalid("message.parts", "needs a data part")),
        }
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        work.updates.status(vec![Part::text("echoing")])?;
        for (n, word) in ["one ", "two"].into_iter().enumerate() {
            work.updates.artifact_chunk(Artifact::new("log", vec![Part::text(word)]), n == 1)?;
        }
        let data = work.data().cloned().unwrap_or_default();
        Ok(Outcome::data("echo", json!({ "got": data, "trace": work.caller.traceparent })))
    }
}

/// Asks for a decision and obeys.
struct Ask;

#[async_trait]
impl Skill for Ask {
    fn id(&self) -> &str {
        "ask"
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        match work.message.data().and_then(|data| data["decision"].as_str()) {
            Some("approve") => Ok(Outcome::data("decision", json!({ "approved_by": work.caller.name }))),
            Some(_) => Err(SkillError::rejected("denied")),
            None => Ok(Outcome::AuthRequired { question: vec![Part::text("shall I?")] }),
        }
    }
}

/// Works until the test opens the gate.
pub(crate) struct Gated {
    pub(crate) gate: Semaphore,
    pub(crate) runs: AtomicUsize,
}

#[async_trait]
impl Skill for Gated {
    fn id(&self) -> &str {
        "gated"
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        work.updates.artifact(Artifact::new("begun", vec![Part::text("before the gate")]))?;
        tokio::select! {
            permit = self.gate.acquire() => permit.map_err(|_| SkillError::failed("the gate is gone"))?.forget(),
            () = work.cancelled.cancelled() => return Err(SkillError::Canceled),
        }
        Ok(Outcome::data("done", json!({ "runs": self.runs.load(Ordering::SeqCst) })))
    }
}

struct Tokens;

impl Authenticate for Tokens {
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, A2aError> {
        match headers.get("authorization").and_then(|value| value.to_str().ok()) {
            Some("Bearer token-of-tester") => Ok(Caller::named("tester")),
            Some("Bearer token-of-other") => Ok(Caller::named("other")),
            _ => Err(A2aError::new(ErrorKind::Unauthenticated, "a bearer token is needed")),
        }
    }
}

pub(crate) struct Bench {
    pub(crate) manager: TaskManager,
    pub(crate) gated: Arc<Gated>,
    prefix: &'static str,
}

impl Bench {
    /// Ids begin with the prefix; the clock goes on a millisecond with every look.
    pub(crate) fn new(prefix: &'static str) -> Self {
        let ids = AtomicU32::new(0);
        let clock = AtomicI64::new(1_700_000_000_000);
        let options = TaskOptions::new(
            move || format!("{prefix}-{}", ids.fetch_add(1, Ordering::SeqCst)),
            move || Timestamp::from_millisecond(clock.fetch_add(1, Ordering::SeqCst)).unwrap(),
        );
        let gated = Arc::new(Gated { gate: Semaphore::new(0), runs: AtomicUsize::new(0) });
        let skill: Arc<dyn Skill> = Arc::<Gated>::clone(&gated);
        let manager = TaskManager::new(vec![Arc::new(Echo), Arc::new(Ask), skill], options).unwrap();
        Self { manager, gated, prefix }
    }

    /// Serves on that address, and cuts what is open when it is stopped; port 0 takes any free one.
    pub(crate) async fn serve_at(&self, address: SocketAddr, drain_within: Duration) -> Server {
        let listener = bind(address).await;
        let address = listener.local_addr().unwrap();
        let modified = Timestamp::from_second(784_111_777).unwrap();
        let options = ServerOptions::new(Access::Tokens(Arc::new(Tokens)), modified);
        let router =
            quell_a2a::router(Arc::new(self.manager.clone()), card(self.prefix, address), options).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let options = ServeOptions { drain_within, ..ServeOptions::default() };
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(quell_service::serve_with(listener, router, options, shutdown));
        Server { address, stop, task }
    }

    pub(crate) async fn serve(&self) -> Server {
        self.serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), Duration::ZERO).await
    }
}

/// A port that was just given up may take a moment to be free.
async fn bind(address: SocketAddr) -> TcpListener {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{address}: {error}"),
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<ServeReport>,
}

impl Server {
    pub(crate) async fn stop(self) -> ServeReport {
        let _ = self.stop.send(());
        self.task.await.unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with("token-of-tester")
    }

    pub(crate) fn client_with(&self, bearer: &str) -> Client {
        let options = ClientOptions { bearer: Some(bearer.to_owned().into()), ..self.client_options() };
        Client::connect_lazy(&self.address.to_string(), options).unwrap()
    }

    pub(crate) fn client_options(&self) -> ClientOptions {
        ClientOptions {
            bearer: Some("token-of-tester".to_owned().into()),
            retry_delay_min: Duration::from_millis(5),
            retry_delay_max: Duration::from_millis(50),
            ..ClientOptions::default()
        }
    }
}

pub(crate) fn card(name: &str, address: SocketAddr) -> AgentCard {
    let skill = |id: &str| AgentSkill {
        id: id.into(),
        name: id.into(),
        description: format!("the skill {id}"),
        tags: vec!["test".into()],
        ..AgentSkill::default()
    };
    AgentCard {
        name: name.into(),
        description: "an agent for tests".into(),
        version: "0.1.0".into(),
        supported_interfaces: vec![AgentInterface::grpc(address.to_string())],
        capabilities: AgentCapabilities { streaming: Some(true), ..AgentCapabilities::default() },
        security_schemes: [("bearer".to_owned(), SecurityScheme::bearer("a token"))].into(),
        security_requirements: vec![SecurityRequirement::scheme("bearer")],
        default_input_modes: vec!["application/json".into(), "text/plain".into()],
        default_output_modes: vec!["application/json".into()],
        skills: ["echo", "ask", "gated"].map(skill).into(),
        ..AgentCard::default()
    }
}

/// A message of one data part for that skill.
pub(crate) fn message(id: &str, skill: &str, data: serde_json::Value) -> Message {
    Message::user(id, vec![Part::data(data)]).with_skill(skill)
}

/// Waits for a condition, and not for ever.
pub(crate) async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !reached().await {
        assert!(tokio::time::Instant::now() < deadline, "not reached: {what}");
        tokio::task::yield_now().await;
    }
}
