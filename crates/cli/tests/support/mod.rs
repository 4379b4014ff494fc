//! A small coordinator for tests: the REST API and the A2A skill `respond` on one port, over the same incidents; and the real
//! binary, run against it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "help for tests, each of which uses a part of it"
)]

pub mod fixtures;

use std::collections::{BTreeMap, VecDeque};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream;
use jiff::Timestamp;
use quell_a2a::{
    A2aError, Access, Agent, AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Authenticate, Caller,
    ErrorKind, EventStream, ListTasks, Message, Part, SendReply, SendRequest, ServerOptions, StreamEvent,
    Task, TaskPage, TaskState, TaskStatus,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// The time that the binary takes for now.
pub const NOW: &str = "2026-05-01T12:10:00Z";

/// What a subscriber is told, one after the other.
#[derive(Clone, Debug)]
pub enum Told {
    /// A status update; its event joins the timeline.
    Event { state: TaskState, data: Value },
    /// An event that only the timeline learns of, as while nobody was connected.
    Missed(Value),
    /// The connection breaks.
    Break,
}

/// Everything that the fake knows and was asked.
#[derive(Default)]
pub struct World {
    pub incidents: Vec<Value>,
    pub agents: Value,
    pub kill_switch: Value,
    /// Wanted as a bearer token, if set.
    pub token: Option<String>,
    /// Pages of lists are never longer.
    pub page_max: usize,
    /// Requests that change something: method, path, body.
    pub requests: Vec<(String, String, Value)>,
    /// Messages by id: content and the task that they opened.
    pub messages: BTreeMap<String, (Value, String)>,
    /// Decisions that were taken.
    pub decisions: Vec<Value>,
    pub script: VecDeque<Told>,
    pub subscriptions: usize,
}

impl World {
    pub fn incident(&mut self, id: &str) -> Option<&mut Value> {
        self.incidents.iter_mut().find(|incident| incident["id"] == id)
    }
}

#[derive(Clone)]
pub struct Coordinator {
    pub url: String,
    world: Arc<Mutex<World>>,
    /// One for each time that an incident was shown. A subscription tells its news only after that, so that a test knows what its
    /// reader learns from where.
    shown: Arc<Semaphore>,
}

impl Coordinator {
    /// Starts it on a free port; it ends with the test's runtime.
    pub async fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (world, shown) = (Arc::new(Mutex::new(world)), Arc::new(Semaphore::new(0)));
        let fake = Self { url: format!("http://{address}"), world, shown };
        let access = match fake.world().token.clone() {
            Some(token) => Access::Tokens(Arc::new(Token(token))),
            None => Access::Loopback(Caller::local()),
        };
        let options = ServerOptions::new(access, Timestamp::UNIX_EPOCH);
        let a2a = quell_a2a::router(Arc::new(fake.clone()), card(&address.to_string()), options).unwrap();
        tokio::spawn(quell_service::serve(listener, rest(fake.clone()).merge(a2a), std::future::pending()));
        fake
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Runs the binary against it, without a terminal.
    pub async fn quell(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["--url", &self.url];
        all.extend(arguments);
        quell(&all, None).await
    }

    /// Runs the binary against it; this is what a person types at its terminal.
    pub async fn quell_typing(&self, arguments: &[&str], typed: &str) -> Ran {
        let mut all = vec!["--url", &self.url, "--assume-terminal"];
        all.extend(arguments);
        quell(&all, Some(typed)).await
    }
}

/// How a run of the binary ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub error: String,
}

impl Ran {
    /// Exit code and both outputs, for a snapshot; addresses differ from run to run.
    pub fn told(&self, coordinator: &Coordinator) -> String {
        let text = format!("exit {}\n--- out\n{}--- error\n{}", self.code, self.out, self.error);
        text.replace(&coordinator.url, "[URL]")
            .replace(coordinator.url.trim_start_matches("http://"), "[ADDRESS]")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.error))
    }
}

/// Runs the binary with nothing of this environment that could change its answers.
pub async fn quell(arguments: &[&str], typed: Option<&str>) -> Ran {
    quell_in(&[], arguments, typed).await
}

/// The same with some variables.
pub async fn quell_in(variables: &[(&str, &str)], arguments: &[&str], typed: Option<&str>) -> Ran {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_quell"));
    command.args(arguments).args(["--now", NOW]).env_clear().kill_on_drop(true);
    command.envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    if let Some(typed) = typed {
        stdin.write_all(typed.as_bytes()).await.unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

fn card(host_port: &str) -> AgentCard {
    AgentCard {
        name: "quell-coordinator".to_owned(),
        description: "fake".to_owned(),
        version: "0.0.0".to_owned(),
        supported_interfaces: vec![AgentInterface::grpc(host_port)],
        capabilities: AgentCapabilities { streaming: Some(true), ..AgentCapabilities::default() },
        default_input_modes: vec!["application/json".to_owned()],
        default_output_modes: vec!["application/json".to_owned()],
        skills: vec![AgentSkill {
            id: "respond".to_owned(),
            name: "Respond".to_owned(),
            description: "fake".to_owned(),
            tags: vec!["incident".to_owned()],
            ..AgentSkill::default()
        }],
        ..AgentCard::default()
    }
}

struct Token(String);

impl Authenticate for Token {
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, A2aError> {
        if bearer(headers) == Some(self.0.as_str()) {
            return Ok(Caller::named("ada").with_scope(Caller::SCOPE_ALL_TASKS));
        }
        Err(A2aError::new(ErrorKind::Unauthenticated, "a bearer token is needed"))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

pub fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({"type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail});
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn rest(fake: Coordinator) -> Router {
    Router::new()
        .route("/api/incidents", get(list))
        .route("/api/incidents/{id}", get(show))
        .route("/api/incidents/{id}/{verb}", post(act))
        .route(
            "/api/agents",
            get(|State(fake): State<Coordinator>| async move { Json(fake.world().agents.clone()) }),
        )
        .route("/api/kill-switch", get(read_switch).put(set_switch))
        .route_layer(middleware::from_fn_with_state(fake.clone(), guard))
        .with_state(fake)
}

async fn guard(State(fake): State<Coordinator>, request: Request, next: Next) -> Response {
    let wanted = fake.world().token.clone();
    if wanted.is_some() && bearer(request.headers()) != wanted.as_deref() {
        return problem(StatusCode::UNAUTHORIZED, "a bearer token is needed");
    }
    next.run(request).await
}

async fn list(State(fake): State<Coordinator>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let world = fake.world();
    let fits = |incident: &&Value| {
        let status = incident["status"].as_str().unwrap();
        let by_status = match query.get("status").map(String::as_str) {
            Some("active") => matches!(status, "open" | "investigating"),
            Some(wanted) => status == wanted,
            None => true,
        };
        let by_priority = query.get("priority").is_none_or(|wanted| incident["priority"] == wanted.as_str());
        let by_time = query.get("since").is_none_or(|since| {
            let since: Timestamp = since.parse().unwrap();
            incident["created_at"].as_str().unwrap().parse::<Timestamp>().unwrap() >= since
        });
        by_status && by_priority && by_time
    };
    let all: Vec<Value> = world.incidents.iter().filter(fits).cloned().collect();
    let limit =
        query["limit"].parse::<usize>().unwrap().min(if world.page_max == 0 { 1000 } else { world.page_max });
    let from = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let page: Vec<&Value> = all.iter().skip(from).take(limit).collect();
    let mut response = Json(&page).into_response();
    response.headers_mut().insert("x-total-count", all.len().into());
    if from + limit < all.len() {
        let mut next = format!("/api/incidents?limit={limit}&cursor={}", from + limit);
        if let Some(status) = query.get("status") {
            next.push_str(&format!("&status={status}"));
        }
        response.headers_mut().insert(header::LINK, format!("<{next}>; rel=\"next\"").parse().unwrap());
    }
    response
}

async fn show(State(fake): State<Coordinator>, Path(id): Path<String>) -> Response {
    let mut world = fake.world();
    fake.shown.add_permits(1);
    match world.incident(&id) {
        Some(incident) => Json(incident.clone()).into_response(),
        None => problem(StatusCode::NOT_FOUND, &format!("there is no incident {id}")),
    }
}

async fn act(
    State(fake): State<Coordinator>,
    Path((id, verb)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    let mut world = fake.world();
    world.requests.push(("POST".to_owned(), format!("/api/incidents/{id}/{verb}"), body.clone()));
    let Some(incident) = world.incident(&id) else {
        return problem(StatusCode::NOT_FOUND, &format!("there is no incident {id}"));
    };
    if incident["status"] == "closed" && verb != "reopen" {
        return problem(StatusCode::CONFLICT, "the incident is closed; reopen it to go on");
    }
    match verb.as_str() {
        "acknowledge" => incident["acknowledged_by"] = json!(["ada"]),
        "resolve" => {
            incident["status"] = json!("resolved");
            incident["summary"] = json!("resolved by ada; watched for a return");
        }
        "close" => {
            incident["status"] = json!("closed");
            incident["summary"] = json!(format!("closed by ada: {}", body["why"].as_str().unwrap()));
        }
        "take-over" => incident["summary"] = json!("ada has taken over"),
        "reopen" | "hand-back" | "diagnose" => incident["summary"] = json!("looking for the root cause"),
        "settle" => incident["summary"] = json!("the step is settled; how to go on is open"),
        "run" => {
            incident["summary"] = json!(format!("making a plan from {}", body["runbook"].as_str().unwrap()))
        }
        "notes" => incident["summary"] = json!(format!("noted: {}", body["text"].as_str().unwrap())),
        other => return problem(StatusCode::NOT_FOUND, &format!("there is no action {other}")),
    }
    Json(incident.clone()).into_response()
}

async fn read_switch(State(fake): State<Coordinator>) -> Json<Value> {
    Json(fake.world().kill_switch.clone())
}

async fn set_switch(State(fake): State<Coordinator>, Json(body): Json<Value>) -> Json<Value> {
    let switch = &mut fake.world().kill_switch;
    if body["engaged"] == false && switch["engaged"] == false {
        let mut unchanged = switch.clone();
        unchanged["changed"] = json!(false);
        return Json(unchanged);
    }
    *switch = body.clone();
    Json(body)
}

fn task(incident: &Value) -> Task {
    let state = match (incident["status"].as_str().unwrap(), incident["question"].is_null()) {
        ("closed", _) => TaskState::Completed,
        (_, false) => TaskState::InputRequired,
        _ => TaskState::Working,
    };
    Task {
        id: incident["id"].as_str().unwrap().to_owned(),
        context_id: "c-1".to_owned(),
        status: status(
            state,
            &json!({"status": incident["status"], "phase": incident["phase"], "summary": incident["summary"]}),
        ),
        artifacts: Vec::new(),
        history: Vec::new(),
        metadata: None,
    }
}

fn status(state: TaskState, data: &Value) -> TaskStatus {
    let message = Message::agent("m", vec![Part::data(data.clone())]);
    TaskStatus { state, message: Some(message), timestamp: Some(Timestamp::UNIX_EPOCH) }
}

#[async_trait]
impl Agent for Coordinator {
    async fn send(&self, _: &Caller, request: SendRequest) -> Result<SendReply, A2aError> {
        let message = request.message;
        assert_eq!(message.metadata.as_ref().unwrap()["skill"], "respond");
        let data =
            message.data().cloned().ok_or_else(|| A2aError::invalid("message.parts", "holds no data"))?;
        let mut world = self.world();
        if !message.task_id.is_empty() {
            return decide(&mut world, &message.task_id, &data).map(SendReply::Task);
        }
        if let Some((content, id)) = world.messages.get(&message.message_id).cloned() {
            if content != data {
                return Err(A2aError::invalid("message.message_id", "was used for another content"));
            }
            return Ok(SendReply::Task(task(world.incident(&id).unwrap())));
        }
        assert_eq!(data["schema"], "quell/incident-draft/v1");
        let id = format!("01969000-0000-7000-8000-{:012x}", 0xabc0 + world.incidents.len());
        let opened = fixtures::opened(&id, &data);
        let answer = task(&opened);
        world.incidents.insert(0, opened);
        world.messages.insert(message.message_id, (data, id));
        Ok(SendReply::Task(answer))
    }

    async fn stream(&self, _: &Caller, _: SendRequest) -> Result<EventStream, A2aError> {
        Err(A2aError::unsupported("send the message and subscribe"))
    }

    async fn get_task(&self, _: &Caller, id: &str, _: Option<u32>) -> Result<Task, A2aError> {
        self.world().incident(id).map(|incident| task(incident)).ok_or_else(|| A2aError::task_not_found(id))
    }

    async fn list_tasks(&self, _: &Caller, _: ListTasks) -> Result<TaskPage, A2aError> {
        Err(A2aError::unsupported("the API lists incidents"))
    }

    async fn cancel(&self, _: &Caller, _: &str) -> Result<Task, A2aError> {
        Err(A2aError::unsupported("close the incident"))
    }

    async fn subscribe(&self, _: &Caller, id: &str) -> Result<EventStream, A2aError> {
        let first = self.get_task(&Caller::local(), id, None).await?;
        if first.state().is_terminal() {
            return Err(A2aError::unsupported(format!("task {id:?} has ended")));
        }
        self.world().subscriptions += 1;
        let (fake, id) = (self.clone(), id.to_owned());
        Ok(Box::pin(stream::unfold(Some(Position::Task(Box::new(first))), move |next| {
            let (fake, id) = (fake.clone(), id.clone());
            async move {
                match next? {
                    Position::Task(task) => {
                        return Some((Ok(StreamEvent::Task(*task)), Some(Position::AfterLook)));
                    }
                    Position::AfterLook => fake.shown.acquire().await.unwrap().forget(),
                    Position::News => {}
                }
                let (event, goes_on) = fake.tell(&id);
                Some((event, goes_on.then_some(Position::News)))
            }
        })))
    }
}

/// Where a stream stands.
enum Position {
    Task(Box<Task>),
    AfterLook,
    News,
}

impl Coordinator {
    /// The next of the script, and whether more may come. What happens is in the timeline before it is told.
    fn tell(&self, id: &str) -> (Result<StreamEvent, A2aError>, bool) {
        let mut world = self.world();
        let mut told = world.script.pop_front();
        while let Some(Told::Missed(event)) = told {
            push(world.incident(id).unwrap(), &event);
            told = world.script.pop_front();
        }
        let Some(Told::Event { state, data }) = told else {
            return (Err(A2aError::unavailable("the agent drains")), false);
        };
        let incident = world.incident(id).unwrap();
        incident["status"] = data["status"].clone();
        incident["summary"] = data["summary"].clone();
        push(incident, &data["event"]);
        let event = StreamEvent::StatusUpdate {
            task_id: id.to_owned(),
            context_id: "c-1".to_owned(),
            status: status(state, &data),
            metadata: None,
        };
        (Ok(event), !state.is_terminal())
    }
}

fn push(incident: &mut Value, event: &Value) {
    if event.is_object() {
        incident["timeline"].as_array_mut().unwrap().push(event.clone());
    }
}

fn decide(world: &mut World, id: &str, data: &Value) -> Result<Task, A2aError> {
    let incident = world.incident(id).ok_or_else(|| A2aError::task_not_found(id))?;
    if incident["question"]["kind"] != "approval" {
        return Err(A2aError::unsupported("the incident does not wait for an approval"));
    }
    if incident["question"]["plan_digest"] != data["plan_digest"] {
        return Err(A2aError::unsupported("the plan has changed; look at it again"));
    }
    match data["decision"].as_str() {
        Some("approve") => {
            incident["phase"] = json!("executing");
            incident["summary"] = json!("carries out: raise the connection pool");
            incident["question"] = Value::Null;
        }
        Some("deny") => {
            incident["phase"] = json!("escalated");
            let why = format!("ada denied the plan: {}", data["why"].as_str().unwrap());
            incident["summary"] = json!(format!("a person must decide: {why}"));
            incident["question"] = json!({"kind": "escalation", "text": why});
        }
        _ => return Err(A2aError::invalid("message.parts[0].data.decision", "must be approve or deny")),
    }
    let answer = task(incident);
    world.decisions.push(data.clone());
    Ok(answer)
}
