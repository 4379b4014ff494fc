//! The skill `respond`: an incident as a task, opened, followed, answered and withdrawn over A2A, and the same as REST shows it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "../common/mod.rs"]
mod common;
mod contexts;

use std::collections::BTreeSet;
use std::time::Duration;

use common::fake::{Fake, Says, Scripts, fails, working_with};
use common::{WITHIN, deliver, firing, is_healthy, resolved, still};
use futures::StreamExt;
use futures::future::join_all;
use quell_a2a::{
    A2aError, Client, ClientOptions, ErrorKind, EventStream, ListTasks, Message, Part, PartContent,
    SendReply, SendRequest, StreamEvent, Task, TaskState,
};
use quell_sandbox::{Options, Part as SitePart, Sandbox};
use serde_json::{Value, json};

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

fn client(sandbox: &Sandbox) -> Client {
    Client::connect_lazy(&sandbox.grpc().to_string(), ClientOptions::default()).unwrap()
}

fn draft(title: &str) -> Value {
    json!({"schema": "quell/incident-draft/v1", "title": title, "priority": "P0", "service": "shop"})
}

fn message(id: &str, data: Value) -> Message {
    Message::user(id, vec![Part::data(data)]).with_skill("respond")
}

fn answer(task: &Task, id: &str, data: Value) -> Message {
    Message { task_id: task.id.clone(), ..message(id, data) }
}

fn task(reply: SendReply) -> Task {
    match reply {
        SendReply::Task(task) => task,
        SendReply::Message(message) => panic!("{message:?}"),
    }
}

/// Sends without waiting for the end.
async fn send(client: &Client, message: Message) -> Result<Task, A2aError> {
    client.send(SendRequest::new(message).return_immediately()).await.map(task)
}

async fn events_of(mut stream: EventStream) -> Vec<StreamEvent> {
    let mut events = Vec::new();
    let all = async {
        while let Some(event) = stream.next().await {
            events.push(event.unwrap());
        }
    };
    tokio::time::timeout(WITHIN, all).await.unwrap();
    events
}

async fn incident(sandbox: &Sandbox, id: &str) -> Value {
    sandbox.get(&format!("/api/incidents/{id}")).await.unwrap()
}

async fn phase(sandbox: &Sandbox, id: &str, wanted: &str) -> Value {
    let fits = |incident: &Value| incident["id"] == id && incident["phase"] == wanted;
    sandbox.incident(wanted, WITHIN, fits).await.unwrap()
}

fn data_of(task: &Task) -> Value {
    task.status.message.as_ref().unwrap().data().unwrap().clone()
}

/// A coordinator with two agents that do as they should.
struct Site {
    sandbox: Sandbox,
    client: Client,
    _agents: [Fake; 2],
}

async fn site(change: fn(Options) -> Options) -> Site {
    site_with(Scripts::resolution(), change).await
}

async fn site_with(resolution: Scripts, change: fn(Options) -> Options) -> Site {
    let agents = [Scripts::diagnostic().serve().await, resolution.serve().await];
    let options = change(working_with(agents[0].address, agents[1].address));
    let sandbox = Sandbox::start(options).await.unwrap();
    let client = client(&sandbox);
    Site { sandbox, client, _agents: agents }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_opens_an_incident_that_rest_shows_too() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    let client = client(&sandbox);
    let opened = send(&client, message("m1", draft("Checkout is slow"))).await.unwrap();
    let shown = incident(&sandbox, &opened.id).await;
    assert_eq!((&shown["title"], &shown["priority"]), (&json!("Checkout is slow"), &json!("P0")));
    assert_eq!((&shown["origin"], &shown["alert_name"]), (&json!("local"), &json!("ManualIncident")));
    assert_eq!((opened.state(), &opened.context_id), (TaskState::Working, &opened.id));
    let told = data_of(&opened);
    for field in ["status", "phase", "summary"] {
        assert_eq!(told[field], shown[field], "{field}");
    }
    assert!(opened.artifacts.is_empty(), "{opened:#?}");
    let changed: jiff::Timestamp = shown["updated_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(opened.status.timestamp, Some(changed));
    assert_eq!(client.get_task(&opened.id, None).await.unwrap(), opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_opens_an_incident_once() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    let client = client(&sandbox);
    let alert =
        firing("DiskSpaceCritical", &[("instance", "storage-node-01:9090"), ("severity", "critical")]);
    let ended = resolved(&alert, "2026-01-31T13:00:00Z");
    // The end of what is not known opens nothing.
    let error = send(&client, message("m0", ended.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    let opened = send(&client, message("m1", alert.clone())).await.unwrap();
    let shown = incident(&sandbox, &opened.id).await;
    assert_eq!(shown["title"], "Disk space critical on storage-node-01");
    assert_eq!((&shown["priority"], &shown["origin"]), (&json!("P1"), &json!("a2a")));
    assert_eq!((&shown["alerts_total"], &shown["started_at"]), (&json!(1), &json!("2026-01-31T12:00:00Z")));
    // The same alert in another message is the same incident, and its end ends it.
    assert_eq!(send(&client, message("m2", alert.clone())).await.unwrap().id, opened.id);
    let ended = send(&client, message("m3", ended)).await.unwrap();
    assert_eq!((&ended.id, &data_of(&ended)["status"]), (&opened.id, &json!("resolved")));
    assert_eq!(sandbox.get("/api/incidents").await.unwrap().as_array().unwrap().len(), 1);
    // After its incident was closed it opens one that is linked to it.
    sandbox.post(&format!("/api/incidents/{}/close", opened.id), &json!({"why": "done"})).await.unwrap();
    let next = send(&client, message("m4", alert)).await.unwrap();
    assert_ne!(next.id, opened.id);
    assert_eq!(
        (&incident(&sandbox, &next.id).await["linked_to"], &next.context_id),
        (&json!(opened.id), &opened.id)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_is_the_same_task() {
    let mut sandbox = Sandbox::start(still()).await.unwrap();
    let client = client(&sandbox);
    let sends = (0..10).map(|_| send(&client, message("m1", draft("Once"))));
    let tasks = join_all(sends).await.into_iter().map(|task| task.unwrap().id).collect::<BTreeSet<_>>();
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    let other = send(&client, message("m1", draft("Twice"))).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Invalid, "{other:?}");
    assert_eq!(other.violations()[0].field, "message.message_id", "{other:?}");
    assert!(other.message().contains(tasks.first().unwrap()), "{other:?}");
    // Also after a restart, and by REST, where the key has another name.
    sandbox.restart(SitePart::Coordinator).await.unwrap();
    let client = self::client(&sandbox);
    let again = client.run(message("m1", draft("Once")).clone(), Duration::from_secs(1)).await.unwrap_err();
    assert!(again.to_string().contains("no result within"), "it is found, and goes on: {again}");
    assert_eq!(send(&client, message("m1", draft("Once"))).await.unwrap().id, *tasks.first().unwrap());
    assert_eq!(sandbox.get("/api/incidents").await.unwrap().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_cannot_be_taken_are_told_why() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    let client = client(&sandbox);
    let text = Message::user("m", vec![Part::text("the shop is slow")]);
    let of = |data: Value| message("m", data);
    for (what, message, words) in [
        ("nothing known", of(json!({"hello": 1})), "`hello`"),
        ("no title", of(json!({})), "`title`"),
        ("an empty title", of(json!({"title": " "})), "`title` is empty"),
        ("a wrong priority", of(json!({"title": "A", "priority": "urgent"})), "urgent"),
        ("a wrong schema", of(json!({"title": "A", "schema": "quell/plan/v1"})), "quell/incident-draft/v1"),
        ("a number", of(json!(5)), "a JSON object"),
        ("a list", of(json!(["quell/incident-draft/v1", "A"])), "a JSON object"),
        ("an alert without labels", of(json!({"labels": {}})), "no labels"),
        ("an odd alert", of(json!({"labels": {"a": "b"}, "status": "odd"})), "`odd`"),
        ("a list of alerts", of(json!({"version": "4", "alerts": []})), "unknown field"),
    ] {
        let error = send(&client, message).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error:?}");
        assert!(error.message().contains(words), "{what}: {error:?}");
    }
    // The card says that JSON is read, and nothing else.
    let error = send(&client, text).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContentTypeNotSupported, "{error:?}");
    assert!(error.message().contains("application/json"), "{error:?}");
    assert_eq!(sandbox.get("/api/incidents").await.unwrap(), json!([]));
    is_healthy(&sandbox).await;
}

/// The revision and the sentence of each status update.
fn log_of(events: &[StreamEvent]) -> Vec<(String, String)> {
    let of = |event: &StreamEvent| {
        let StreamEvent::StatusUpdate { status, .. } = event else { return None };
        let message = status.message.as_ref().unwrap();
        let entry = message.data().unwrap()["event"].clone();
        assert_eq!(entry["text"], message.text(), "{message:?}");
        Some((entry["revision"].as_str().unwrap().to_owned(), message.text()))
    };
    events.iter().filter_map(of).collect()
}

fn artifacts_of(events: &[StreamEvent]) -> Vec<&str> {
    let name = |event: &'_ StreamEvent| match event {
        StreamEvent::ArtifactUpdate { artifact, append: false, last_chunk: true, .. } => {
            Some(artifact.name.clone())
        }
        _ => None,
    };
    events
        .iter()
        .filter_map(name)
        .map(|name| match name.as_str() {
            "diagnosis" => "diagnosis",
            "plan" => "plan",
            "outcome" => "outcome",
            "post-mortem" => "post-mortem",
            other => panic!("{other}"),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_log_in_its_order() {
    let site = site(|options| options).await;
    let request = SendRequest::new(message("m1", draft("The shop is slow")));
    let stream = site.client.stream(request).await.unwrap();
    let events = events_of(stream).await;
    let StreamEvent::Task(first) = &events[0] else { panic!("{:?}", events[0]) };
    let shown = incident(&site.sandbox, &first.id).await;

    // Every event of the log after those that the first task had in it, each once, in order, in REST's words.
    let timeline: Vec<_> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (entry["revision"].as_str().unwrap().to_owned(), entry["text"].as_str().unwrap().to_owned())
        })
        .collect();
    let told = log_of(&events);
    assert!(timeline.ends_with(&told), "{told:#?}\n{timeline:#?}");
    let first_told: u64 = told[0].0.parse().unwrap();
    assert!(first_told <= 3, "the first task was seen late: {told:#?}");
    let states: Vec<_> = events.iter().filter_map(StreamEvent::state).collect();
    assert!(states[..states.len() - 1].iter().all(|state| *state == TaskState::Working), "{states:?}");
    assert_eq!(states.last(), Some(&TaskState::Completed));
    assert_eq!(artifacts_of(&events), ["diagnosis", "plan", "outcome", "outcome", "outcome", "post-mortem"]);

    // What the stream brought, what the task has and what REST shows are the same.
    let ended = site.client.get_task(&first.id, None).await.unwrap();
    assert_eq!(ended.state(), TaskState::Completed);
    let names: Vec<_> = ended.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, ["diagnosis", "plan", "outcome", "post-mortem"]);
    for event in &events {
        let StreamEvent::ArtifactUpdate { artifact, .. } = event else { continue };
        if artifact.name != "outcome" {
            assert_eq!(ended.artifact(&artifact.name), Some(artifact));
        }
    }
    let data = |name: &str| ended.artifact(name).unwrap().data().unwrap().clone();
    assert_eq!(data("diagnosis")["root_cause"]["cause"], shown["diagnostics"]["root_cause"]);
    assert_eq!(data("plan")["digest"], shown["plan"]["digest"]);
    assert_eq!(data("outcome")["actions"], shown["remediation_actions"]);
    assert_eq!(
        (&data("outcome")["resolution"], &shown["resolution"]["by"]),
        (&shown["resolution"], &json!("runbook"))
    );
    let PartContent::Text(post_mortem) = &ended.artifact("post-mortem").unwrap().parts[0].content else {
        panic!()
    };
    assert_eq!(&json!(post_mortem), &shown["post_mortem"]);
    assert_eq!(shown["status"], "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_who_follows_sees_the_same() {
    let site = site(Options::asking).await;
    let opened = send(&site.client, message("m1", draft("Followed"))).await.unwrap();
    phase(&site.sandbox, &opened.id, "awaiting_approval").await;
    let follow = async || site.client.subscribe(&opened.id).await.unwrap();
    let (one, two) = (follow().await, follow().await);
    let digest = incident(&site.sandbox, &opened.id).await["question"]["plan_digest"].clone();
    // The one approves by REST what the others see by A2A.
    let approve = format!("/api/incidents/{}/approve", opened.id);
    site.sandbox.post(&approve, &json!({"plan_digest": digest})).await.unwrap();
    let (one, two) = tokio::join!(events_of(one), events_of(two));
    assert_eq!(one, two);
    let StreamEvent::Task(first) = &one[0] else { panic!("{:?}", one[0]) };
    assert_eq!(first.state(), TaskState::InputRequired);
    assert_eq!(data_of(first)["question"]["plan_digest"], digest);
    assert_eq!(one.last().unwrap().state(), Some(TaskState::Completed));
    let over = site.client.subscribe(&opened.id).await.err().unwrap();
    assert_eq!(over.kind(), ErrorKind::UnsupportedOperation, "{over:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_a_message() {
    let site = site(Options::asking).await;
    let client = &site.client;
    // A send that waits comes back with the question.
    let asked = task(client.send(SendRequest::new(message("m1", draft("Asked")))).await.unwrap());
    assert_eq!(asked.state(), TaskState::InputRequired);
    let question = data_of(&asked)["question"].clone();
    let shown = incident(&site.sandbox, &asked.id).await;
    assert_eq!((&question, &question["kind"]), (&shown["question"], &json!("approval")));
    let digest = question["plan_digest"].as_str().unwrap().to_owned();
    assert_eq!(asked.artifact("plan").unwrap().data().unwrap()["digest"], digest);
    let wrong = "0".repeat(64);
    for (what, data, kind, words) in [
        ("no decision", json!({"plan_digest": digest}), ErrorKind::Invalid, "decision"),
        ("another word", json!({"decision": "maybe", "plan_digest": digest}), ErrorKind::Invalid, "`maybe`"),
        ("no digest", json!({"decision": "approve"}), ErrorKind::Invalid, "which plan"),
        (
            "half a digest",
            json!({"decision": "approve", "plan_digest": digest[..12]}),
            ErrorKind::Invalid,
            "plan_digest",
        ),
        (
            "another plan",
            json!({"decision": "approve", "plan_digest": wrong}),
            ErrorKind::Invalid,
            &digest[..12],
        ),
        (
            "no to another plan",
            json!({"decision": "deny", "plan_digest": wrong}),
            ErrorKind::Invalid,
            &digest[..12],
        ),
    ] {
        let error = send(client, answer(&asked, what, data)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        assert!(error.message().contains(words), "{what}: {error:?}");
    }
    // By their order these would be the fields of a decision, and no list is a person's word.
    for list in [json!(["approve", digest]), json!([{"decision": "approve", "plan_digest": digest}])] {
        let error = send(client, answer(&asked, "list", list)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    }
    let approve = json!({"decision": "approve", "plan_digest": digest});
    for (what, message) in [
        ("another skill", answer(&asked, "s1", approve.clone()).with_skill("diagnose")),
        (
            "another schema",
            answer(
                &asked,
                "s2",
                json!({"schema": "quell/step/v1", "decision": "approve", "plan_digest": digest}),
            ),
        ),
    ] {
        let error = send(client, message).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error:?}");
    }
    let following = client.subscribe(&asked.id).await.unwrap();
    let lost = Message { task_id: NOBODY.to_owned(), ..message("lost", approve.clone()) };
    assert_eq!(send(client, lost).await.unwrap_err().kind(), ErrorKind::TaskNotFound);
    let elsewhere = Message { context_id: NOBODY.to_owned(), ..answer(&asked, "elsewhere", approve.clone()) };
    assert_eq!(send(client, elsewhere).await.unwrap_err().kind(), ErrorKind::Invalid);
    let before = incident(&site.sandbox, &asked.id).await;
    assert_eq!(before["revision"], shown["revision"], "what was refused changed nothing");

    let yes = SendRequest::new(answer(&asked, "yes", approve));
    let done = task(client.send(yes).await.unwrap());
    assert_eq!(done.state(), TaskState::Completed, "{done:#?}");
    let told = events_of(following).await;
    let asks = told.iter().skip(1).filter(|event| event.state() == Some(TaskState::InputRequired));
    assert_eq!(asks.count(), 0, "after the approval nothing is asked: {told:#?}");
    let after = incident(&site.sandbox, &asked.id).await;
    let approved =
        after["timeline"].as_array().unwrap().iter().find(|entry| entry["type"] == "approved").unwrap();
    assert_eq!(approved["actor"], "local");
    let late = send(client, answer(&asked, "late", json!({"decision": "deny"}))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::UnsupportedOperation, "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_is_an_answer_too() {
    let site = site(Options::asking).await;
    let asked = task(site.client.send(SendRequest::new(message("m1", draft("Denied")))).await.unwrap());
    let no = json!({"decision": "deny", "why": "not on a Friday"});
    let denied = task(site.client.send(SendRequest::new(answer(&asked, "no", no.clone()))).await.unwrap());
    assert_eq!(denied.state(), TaskState::InputRequired, "a person has it now");
    assert_eq!(data_of(&denied)["question"]["kind"], "escalation");
    assert!(denied.status.message.as_ref().unwrap().text().contains("not on a Friday"));
    // Sent again, because the answer was lost on the way: the same no.
    let again = send(&site.client, answer(&asked, "no", no)).await.unwrap();
    assert_eq!(again, denied);
    let yes = json!({"decision": "approve", "plan_digest": data_of(&asked)["question"]["plan_digest"]});
    let late = send(&site.client, answer(&asked, "yes", yes)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::UnsupportedOperation, "{late:?}");
    let shown = incident(&site.sandbox, &asked.id).await;
    assert_eq!(shown["remediation_actions"], json!([]));
    // A person ends it although nothing could be done.
    site.sandbox
        .post(&format!("/api/incidents/{}/close", asked.id), &json!({"why": "tomorrow"}))
        .await
        .unwrap();
    assert_eq!(site.client.get_task(&asked.id, None).await.unwrap().state(), TaskState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_can_be_withdrawn_until_it_is_over() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    let client = client(&sandbox);
    let opened = send(&client, message("m1", draft("Withdrawn"))).await.unwrap();
    let stream = client.subscribe(&opened.id).await.unwrap();
    let canceled = client.cancel(&opened.id).await.unwrap();
    assert_eq!((canceled.state(), &canceled.id), (TaskState::Canceled, &opened.id));
    let events = events_of(stream).await;
    assert_eq!(events.last().unwrap().state(), Some(TaskState::Canceled), "{events:#?}");
    assert_eq!(artifacts_of(&events), ["post-mortem"]);
    let shown = incident(&sandbox, &opened.id).await;
    assert_eq!((&shown["status"], &shown["summary"]), (&json!("closed"), &json!("withdrawn by local")));
    assert_eq!(client.cancel(&opened.id).await.unwrap_err().kind(), ErrorKind::TaskNotCancelable);
    assert_eq!(client.subscribe(&opened.id).await.err().unwrap().kind(), ErrorKind::UnsupportedOperation);
    for id in [NOBODY, "17", "not-an-id"] {
        assert_eq!(client.get_task(id, None).await.unwrap_err().kind(), ErrorKind::TaskNotFound, "{id}");
        assert_eq!(client.cancel(id).await.unwrap_err().kind(), ErrorKind::TaskNotFound, "{id}");
        assert_eq!(client.subscribe(id).await.err().unwrap().kind(), ErrorKind::TaskNotFound, "{id}");
    }
    // A message that continues what is over opens nothing.
    let late = send(&client, answer(&opened, "m2", draft("More"))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::UnsupportedOperation, "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_not_withdrawn_while_a_step_runs() {
    let resolution =
        Scripts::resolution().with("execute", |_, _| Says::Nothing).with("probe", |_, _| fails("no"));
    let site = site_with(resolution, |options| options).await;
    let opened = send(&site.client, message("m1", draft("Running"))).await.unwrap();
    let running =
        |incident: &Value| incident["remediation_actions"].as_array().is_some_and(|all| !all.is_empty());
    site.sandbox.incident("a step to run", WITHIN, running).await.unwrap();
    let error = site.client.cancel(&opened.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskNotCancelable, "{error:?}");
    assert!(error.message().contains("a step is running"), "{error:?}");
}

async fn listed(client: &Client, query: ListTasks) -> Vec<String> {
    client.list_tasks(query).await.unwrap().tasks.into_iter().map(|task| task.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_by_pages_and_filters() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    let client = client(&sandbox);
    let mut ids = Vec::new();
    for number in 0..7 {
        let opened =
            send(&client, message(&format!("m{number}"), draft(&format!("Listed {number}")))).await.unwrap();
        ids.push(opened.id);
    }
    // What changed last comes first, whenever it was opened.
    client.cancel(&ids[2]).await.unwrap();
    sandbox.post(&format!("/api/incidents/{}/take-over", ids[4]), &json!({})).await.unwrap();
    let newest_first = [4, 2, 6, 5, 3, 1, 0].map(|number: usize| ids[number].clone());
    assert_eq!(listed(&client, ListTasks::default()).await, newest_first);

    let mut query = ListTasks { page_size: Some(3), ..ListTasks::default() };
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let page = client.list_tasks(query.clone()).await.unwrap();
        assert_eq!((page.page_size, page.total_size), (3, 7));
        assert!(page.tasks.iter().all(|task| task.artifacts.is_empty()));
        sizes.push(page.tasks.len());
        seen.extend(page.tasks.into_iter().map(|task| task.id));
        if page.next_page_token.is_empty() {
            break;
        }
        query.page_token = page.next_page_token;
    }
    assert_eq!((sizes, seen), (vec![3, 3, 1], newest_first.to_vec()));

    let of = |status| ListTasks { status: Some(status), page_size: Some(2), ..ListTasks::default() };
    for (status, found, total) in [
        (TaskState::Working, &newest_first[2..4], 5),
        (TaskState::Canceled, &newest_first[1..2], 1),
        (TaskState::InputRequired, &newest_first[..1], 1),
        (TaskState::Completed, &newest_first[..0], 0),
        (TaskState::Submitted, &newest_first[..0], 0),
    ] {
        let page = client.list_tasks(of(status)).await.unwrap();
        assert_eq!(page.total_size, total, "{status}: how many match, on all pages");
        let ids: Vec<_> = page.tasks.iter().map(|task| task.id.clone()).collect();
        assert_eq!(ids, found, "{status}");
        assert!(page.tasks.iter().all(|task| task.state() == status));
    }
    let context = |id: &str| ListTasks { context_id: id.to_owned(), ..ListTasks::default() };
    assert_eq!(listed(&client, context(&ids[3])).await, [ids[3].clone()]);
    assert_eq!(listed(&client, context(NOBODY)).await, Vec::<String>::new());
    assert_eq!(listed(&client, context("somewhere")).await, Vec::<String>::new());
    let after = client.get_task(&ids[2], None).await.unwrap().status.timestamp;
    let since = ListTasks { status_timestamp_after: after, ..ListTasks::default() };
    assert_eq!(listed(&client, since).await, newest_first[..2]);
    let whole =
        ListTasks { include_artifacts: true, status: Some(TaskState::Canceled), ..ListTasks::default() };
    let whole = client.list_tasks(whole).await.unwrap().tasks.remove(0);
    assert_eq!(whole, client.get_task(&ids[2], None).await.unwrap());
    assert_eq!(whole.artifacts.len(), 1);

    for (what, query) in [
        ("page_size", ListTasks { page_size: Some(0), ..ListTasks::default() }),
        ("page_size", ListTasks { page_size: Some(101), ..ListTasks::default() }),
        ("page_token", ListTasks { page_token: "abc".to_owned(), ..ListTasks::default() }),
        ("page_token", ListTasks { page_token: "1_2".to_owned(), ..ListTasks::default() }),
    ] {
        let error = client.list_tasks(query).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.violations()[0].field.as_str()),
            (ErrorKind::Invalid, what),
            "{error:?}"
        );
    }
}
