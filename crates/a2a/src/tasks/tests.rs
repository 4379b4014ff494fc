use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::error::{A2aError, ErrorKind};
use crate::server::{Agent, Caller, EventStream};
use crate::types::{
    Artifact, ListTasks, Message, Part, SendReply, SendRequest, StreamEvent, Task, TaskState,
};

/// Does what its message says, step by step as the test allows.
#[derive(Default)]
struct Script {
    runs: AtomicUsize,
    steps: Notify,
    at_work: AtomicUsize,
    most_at_work: AtomicUsize,
    gate: Option<Semaphore>,
    keeps_going: bool,
}

impl Script {
    fn gated() -> Self {
        Self { gate: Some(Semaphore::new(0)), ..Self::default() }
    }

    fn open(&self, runs: usize) {
        self.gate.as_ref().unwrap().add_permits(runs);
    }
}

#[async_trait]
impl Skill for Script {
    fn id(&self) -> &str {
        "script"
    }

    fn check(&self, message: &Message) -> Result<(), A2aError> {
        match message.text().as_str() {
            "bad" => Err(A2aError::invalid("message.parts[0].text", "is bad")),
            _ => Ok(()),
        }
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let now = self.at_work.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_work.fetch_max(now, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        match work.message.text().as_str() {
            "fail" => Err(SkillError::failed_because("the disk is full", "secret detail")),
            "reject" => Err(SkillError::rejected("not today")),
            "panic" => panic!("as asked"),
            "ask" if work.earlier.is_empty() => {
                Ok(Outcome::InputRequired { question: vec![Part::text("which one?")] })
            }
            "hang" => {
                let () = std::future::pending().await;
                Err(SkillError::Canceled)
            }
            "polite" => {
                work.cancelled.cancelled().await;
                Err(SkillError::Canceled)
            }
            "huge" => Ok(Outcome::completed(vec![Artifact::new("a", vec![Part::text("x".repeat(9 << 20))])])),
            "chunks" => {
                for n in 0..20 {
                    work.updates.status(vec![Part::text(format!("step {n}"))])?;
                    let chunk = Artifact::new("log", vec![Part::text(format!("{n}"))]);
                    work.updates.artifact_chunk(chunk, n == 19)?;
                    tokio::task::yield_now().await;
                }
                Ok(Outcome::completed(vec![]))
            }
            "steps" => loop {
                self.steps.notified().await;
                work.updates.status(vec![Part::text("step")])?;
            },
            _ => Ok(Outcome::data("echo", json!({ "got": work.message.text(), "caller": work.caller.name }))),
        }
    }

    fn may_be_dropped(&self) -> bool {
        !self.keeps_going
    }
}

struct Bench {
    manager: TaskManager,
    script: Arc<Script>,
    second: Arc<AtomicI64>,
}

fn bench_with(script: Script, limits: TaskLimits) -> Bench {
    let second = Arc::new(AtomicI64::new(1_000));
    let ids = AtomicU32::new(0);
    let clock = Arc::clone(&second);
    let mut options = TaskOptions::new(
        move || format!("id-{:04}", ids.fetch_add(1, Ordering::SeqCst)),
        move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap(),
    );
    options.limits = limits;
    let script = Arc::new(script);
    let skill: Arc<dyn Skill> = Arc::<Script>::clone(&script);
    Bench { manager: TaskManager::new(vec![skill], options).unwrap(), script, second }
}

fn bench() -> Bench {
    bench_with(Script::default(), TaskLimits::default())
}

fn ask(id: &str, text: &str) -> SendRequest {
    SendRequest::new(Message::user(id, vec![Part::text(text)]))
}

impl Bench {
    async fn send(&self, caller: &Caller, request: SendRequest) -> Result<Task, A2aError> {
        match self.manager.send(caller, request).await? {
            SendReply::Task(task) => Ok(task),
            SendReply::Message(message) => panic!("a message: {message:?}"),
        }
    }

    async fn reached(&self, caller: &Caller, id: &str, state: TaskState) -> Task {
        // Not a deadline: with paused time a loop that is always ready never gets to one.
        for _ in 0..100_000 {
            let task = self.manager.get_task(caller, id, None).await.unwrap();
            if task.state() == state {
                return task;
            }
            tokio::task::yield_now().await;
        }
        panic!("task {id} never was {state}");
    }
}

async fn all(mut events: EventStream) -> Vec<StreamEvent> {
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(event.unwrap());
    }
    seen
}

fn tester() -> Caller {
    Caller::named("tester")
}

#[tokio::test]
async fn message_becomes_a_task_with_its_result() {
    let bench = bench();
    let task = bench.send(&tester(), ask("m1", "hello")).await.unwrap();
    assert_eq!(task.state(), TaskState::Completed);
    assert_eq!(task.artifact("echo").unwrap().data().unwrap()["got"], "hello");
    assert_eq!(task.history[0].task_id, task.id);
    assert!(!task.context_id.is_empty());
    let mut bare = ask("m1", "hello");
    bare.configuration.history_length = Some(0);
    assert!(bench.send(&tester(), bare).await.unwrap().history.is_empty());
}

#[tokio::test]
async fn same_message_is_one_task() {
    let bench = bench();
    let first = bench.send(&tester(), ask("m1", "hello")).await.unwrap();
    let again = bench.send(&tester(), ask("m1", "hello").return_immediately()).await.unwrap();
    assert_eq!((first.id.as_str(), again.state()), (again.id.as_str(), TaskState::Completed));
    assert_eq!(all(bench.manager.stream(&tester(), ask("m1", "hello")).await.unwrap()).await.len(), 1);
    assert_eq!(bench.script.runs.load(Ordering::SeqCst), 1);

    let error = bench.send(&tester(), ask("m1", "other")).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "message.message_id");
    // Another caller's ids, and the same caller's in another tenant, are their own.
    for caller in [Caller::named("someone"), tester().with_tenant("blue")] {
        assert_ne!(bench.send(&caller, ask("m1", "other")).await.unwrap().id, first.id);
    }
}

#[tokio::test]
async fn callers_without_credentials_share_nothing() {
    let bench = bench();
    let nobody = Caller::anonymous();
    let first = bench.send(&nobody, ask("m1", "hello")).await.unwrap();
    let second = bench.send(&nobody, ask("m1", "other")).await.unwrap();
    assert_ne!(first.id, second.id);
    let error = bench.manager.get_task(&nobody, &first.id, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskNotFound);
    assert_eq!(bench.manager.list_tasks(&nobody, ListTasks::default()).await.unwrap().total_size, 0);
    assert_eq!(bench.manager.list_tasks(&Caller::local(), ListTasks::default()).await.unwrap().total_size, 2);
}

#[tokio::test]
async fn tasks_are_visible_to_their_caller_and_to_those_who_see_all() {
    let bench = bench();
    let id = bench.send(&tester(), ask("m1", "polite").return_immediately()).await.unwrap().id;
    let other = Caller::named("other");
    for error in [
        bench.manager.get_task(&other, &id, None).await.map(|_| ()).unwrap_err(),
        bench.manager.cancel(&other, &id).await.map(|_| ()).unwrap_err(),
        bench.manager.subscribe(&other, &id).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TaskNotFound);
    }
    let mut follow = ask("m2", "more");
    follow.message.task_id.clone_from(&id);
    assert_eq!(bench.send(&other, follow).await.unwrap_err().kind(), ErrorKind::TaskNotFound);
    let boss = other.with_scope(Caller::SCOPE_ALL_TASKS);
    assert!(bench.manager.get_task(&boss, &id, None).await.is_ok());
    assert!(bench.manager.get_task(&boss.with_tenant("blue"), &id, None).await.is_err());
}

#[tokio::test]
async fn three_subscribers_see_the_same_events_in_the_same_order() {
    let bench = bench_with(Script::gated(), TaskLimits::default());
    let first = bench.manager.stream(&tester(), ask("m1", "chunks")).await.unwrap();
    let id = bench.reached(&tester(), "id-0000", TaskState::Working).await.id;
    let second = bench.manager.subscribe(&tester(), &id).await.unwrap();
    let third = bench.manager.stream(&tester(), ask("m1", "chunks")).await.unwrap();
    bench.script.open(1);
    let (first, second, third) = tokio::join!(all(first), all(second), all(third));
    assert!(matches!(&first[0], StreamEvent::Task(task) if task.state() == TaskState::Submitted));
    assert!(matches!(&second[0], StreamEvent::Task(task) if task.state() == TaskState::Working));
    // The first one also saw the task begin.
    assert_eq!(first[2..], second[1..]);
    assert_eq!(second[1..], third[1..]);
    assert_eq!(second.len(), 1 + 40 + 1);
    assert_eq!(second.last().unwrap().state(), Some(TaskState::Completed));
    let task = bench.manager.get_task(&tester(), &id, None).await.unwrap();
    let text: String = task.artifacts[0].parts.iter().map(|part| format!("{:?}", part.content)).collect();
    assert!(text.starts_with(r#"Text("0")Text("1")"#), "{text}");
    assert_eq!(task.artifacts[0].parts.len(), 20);
}

#[tokio::test]
async fn slow_subscriber_is_let_go_and_can_come_back() {
    let limits = TaskLimits { subscriber_events_max: 4, ..TaskLimits::default() };
    let bench = bench_with(Script::default(), limits);
    let mut slow = bench.manager.stream(&tester(), ask("m1", "chunks")).await.unwrap();
    assert!(matches!(slow.next().await, Some(Ok(StreamEvent::Task(_)))));
    let done = bench.send(&tester(), ask("m1", "chunks")).await.unwrap();
    assert_eq!(done.state(), TaskState::Completed, "the task did not wait for the subscriber");
    let error = slow.next().await.unwrap().unwrap_err();
    assert!(error.is_retryable());
    assert!(slow.next().await.is_none());
    assert_eq!(bench.manager.get_task(&tester(), &done.id, None).await.unwrap().artifacts[0].parts.len(), 20);
}

#[tokio::test]
async fn errors_and_panics_end_only_their_task() {
    let bench = bench();
    for (text, state, words) in [
        ("fail", TaskState::Failed, "the disk is full"),
        ("reject", TaskState::Rejected, "not today"),
        ("panic", TaskState::Failed, "the agent failed in the middle of the work; its log says more"),
        ("huge", TaskState::Failed, "the result cannot be kept: task: would grow beyond 8388608 bytes"),
        ("hello", TaskState::Completed, ""),
    ] {
        let task = bench.send(&tester(), ask(text, text)).await.unwrap();
        let said = task.status.message.map(|message| message.text()).unwrap_or_default();
        assert_eq!((task.status.state, said.as_str()), (state, words));
    }
    assert_eq!(bench.manager.tasks_in_flight(), 0);
}

#[tokio::test]
async fn question_and_answer() {
    let bench = bench();
    let task = bench.send(&tester(), ask("m1", "ask")).await.unwrap();
    assert_eq!(task.state(), TaskState::InputRequired);
    let stream = bench.manager.subscribe(&tester(), &task.id).await.unwrap();

    let mut reply = ask("m2", "the red one");
    reply.message.task_id.clone_from(&task.id);
    let mut astray = reply.clone();
    astray.message.context_id = "elsewhere".into();
    let error = bench.send(&tester(), astray).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "message.context_id");

    let done = bench.send(&tester(), reply.clone()).await.unwrap();
    assert_eq!((done.state(), done.id.as_str()), (TaskState::Completed, task.id.as_str()));
    let told: Vec<String> = done.history.iter().map(Message::text).collect();
    assert_eq!(told, ["ask", "which one?", "the red one"]);
    assert!(done.history.iter().all(|message| message.context_id == task.context_id));
    let states: Vec<_> = all(stream).await.iter().filter_map(StreamEvent::state).collect();
    assert_eq!(states, [TaskState::InputRequired, TaskState::Working, TaskState::Completed]);

    // Sent again it meets its task; a further one meets an ended task.
    assert_eq!(bench.send(&tester(), reply.clone()).await.unwrap().id, task.id);
    reply.message.message_id = "m3".into();
    assert_eq!(bench.send(&tester(), reply).await.unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}

#[tokio::test(start_paused = true)]
async fn cancelling() {
    let bench = bench();
    for (text, ends) in [("polite", true), ("hang", true), ("ask", true)] {
        let id = bench.send(&tester(), ask(text, text).return_immediately()).await.unwrap().id;
        let state = if text == "ask" { TaskState::InputRequired } else { TaskState::Working };
        bench.reached(&tester(), &id, state).await;
        let task = bench.manager.cancel(&tester(), &id).await.unwrap();
        assert_eq!((task.state() == TaskState::Canceled, text), (ends, text));
        let error = bench.manager.cancel(&tester(), &id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TaskNotCancelable);
        let error = bench.manager.subscribe(&tester(), &id).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_must_not_be_dropped_goes_on() {
    let bench = bench_with(Script { keeps_going: true, ..Script::gated() }, TaskLimits::default());
    let id = bench.send(&tester(), ask("m1", "hello").return_immediately()).await.unwrap().id;
    bench.reached(&tester(), &id, TaskState::Working).await;
    assert_eq!(bench.manager.cancel(&tester(), &id).await.unwrap().state(), TaskState::Working);
    bench.script.open(1);
    bench.reached(&tester(), &id, TaskState::Completed).await;
}

#[tokio::test]
async fn queue_is_bounded_and_work_is_limited() {
    let limits = TaskLimits { running_tasks_max: 2, queued_tasks_max: 3, ..TaskLimits::default() };
    let bench = bench_with(Script::gated(), limits);
    let mut ids = Vec::new();
    for n in 0..5 {
        let task = bench.send(&tester(), ask(&format!("m{n}"), "hello").return_immediately()).await.unwrap();
        ids.push(task.id);
    }
    let error = bench.send(&tester(), ask("m5", "hello").return_immediately()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // One that is queued can be called off without ever running.
    assert_eq!(bench.manager.cancel(&tester(), &ids[4]).await.unwrap().state(), TaskState::Canceled);
    bench.script.open(4);
    for id in &ids[..4] {
        bench.reached(&tester(), id, TaskState::Completed).await;
    }
    assert_eq!(bench.script.most_at_work.load(Ordering::SeqCst), 2);
    assert_eq!(bench.script.runs.load(Ordering::SeqCst), 4);
    // What was refused left nothing behind and can be sent again.
    bench.script.open(1);
    assert_eq!(bench.send(&tester(), ask("m5", "hello")).await.unwrap().state(), TaskState::Completed);
}

#[tokio::test]
async fn ended_tasks_are_forgotten_by_count_and_age() {
    let limits =
        TaskLimits { finished_tasks_max: 2, finished_keep: Duration::from_secs(60), ..TaskLimits::default() };
    let bench = bench_with(Script::default(), limits);
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(bench.send(&tester(), ask(&format!("m{n}"), "hello")).await.unwrap().id);
    }
    assert!(bench.manager.get_task(&tester(), &ids[0], None).await.is_err());
    assert!(bench.manager.get_task(&tester(), &ids[1], None).await.is_ok());
    // Its message id went with it.
    let again = bench.send(&tester(), ask("m0", "hello")).await.unwrap();
    assert!(!ids.contains(&again.id));
    bench.second.fetch_add(61, Ordering::SeqCst);
    assert_eq!(bench.manager.list_tasks(&tester(), ListTasks::default()).await.unwrap().total_size, 0);
}

#[tokio::test]
async fn tasks_are_listed_last_changed_first() {
    let bench = bench();
    for n in 0..5 {
        bench.second.fetch_add(1, Ordering::SeqCst);
        bench.send(&tester(), ask(&format!("m{n}"), "hello")).await.unwrap();
    }
    let query = ListTasks { page_size: Some(3), ..ListTasks::default() };
    let first = bench.manager.list_tasks(&tester(), query.clone()).await.unwrap();
    let query = ListTasks { page_token: first.next_page_token.clone(), ..query };
    let second = bench.manager.list_tasks(&tester(), query).await.unwrap();
    let ids: Vec<_> =
        first.tasks.iter().chain(&second.tasks).map(|task| task.history[0].message_id.clone()).collect();
    assert_eq!(ids, ["m4", "m3", "m2", "m1", "m0"]);
    assert_eq!((first.total_size, second.next_page_token.as_str()), (5, ""));
}

#[tokio::test]
async fn skills_are_chosen_by_the_message() {
    let bench = bench();
    let mut request = ask("m1", "hello");
    request.message = request.message.with_skill("other");
    let error = bench.send(&tester(), request).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "message.metadata.skill");
    assert!(error.message().contains("it has script"));
    assert_eq!(bench.send(&tester(), ask("m2", "bad")).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(bench.manager.list_tasks(&tester(), ListTasks::default()).await.unwrap().total_size, 0);
    let twice: Vec<Arc<dyn Skill>> = vec![Arc::new(Script::default()), Arc::new(Script::default())];
    let options = TaskOptions::new(String::new, || Timestamp::UNIX_EPOCH);
    assert!(TaskManager::new(twice, options.clone()).is_err());
    assert!(TaskManager::new(Vec::new(), options).is_err());
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_what_is_at_work() {
    let bench = bench();
    let id = bench.send(&tester(), ask("m1", "hang").return_immediately()).await.unwrap().id;
    bench.reached(&tester(), &id, TaskState::Working).await;
    let stream = bench.manager.subscribe(&tester(), &id).await.unwrap();
    assert_eq!(bench.manager.shutdown(Duration::from_secs(1)).await, 0);
    assert_eq!(all(stream).await.last().unwrap().state(), Some(TaskState::Failed));
    let error = bench.send(&tester(), ask("m2", "hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn send_does_not_wait_for_ever() {
    let limits = TaskLimits { send_wait_max: Duration::from_secs(9), ..TaskLimits::default() };
    let bench = bench_with(Script::default(), limits);
    let error = bench.send(&tester(), ask("m1", "steps")).await.unwrap_err();
    assert_eq!((error.kind(), error.metadata()["taskId"].as_str()), (ErrorKind::Timeout, "id-0000"));
    bench.script.steps.notify_one();
    let task = bench.manager.get_task(&tester(), "id-0000", None).await.unwrap();
    assert_eq!(task.state(), TaskState::Working);
}
