//! Who may call, and for what.

use quell_a2a::{Client, ClientOptions, ErrorKind, ListTasks, Message, Part, SendReply, SendRequest, Task};
use quell_sandbox::{Options, Sandbox};
use reqwest::Method;
use serde_json::json;

use crate::common::{ask, firing, payload, still};

const CALLERS: [(&str, &str); 4] = [
    ("alertmanager", "webhook"),
    ("viewer", "read"),
    ("operator", "read, operate"),
    ("on-call", "read, approve"),
];

/// An incident that is not there.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

fn token_of(name: &str) -> String {
    format!("token-of-{name}")
}

fn with_tokens() -> Options {
    let entry = |(name, scopes): (&str, &str)| {
        format!("{{name: {name}, token: {}, scopes: [{scopes}]}}", token_of(name))
    };
    let entries = CALLERS.map(entry).join(", ");
    still().replacing("  autonomy:", &format!("  tokens: [{entries}]\n  autonomy:"))
}

/// What each path needs, with a body that would be taken.
fn paths() -> Vec<(Method, String, String, &'static str)> {
    let alert = firing("One", &[]);
    let nobody = NOBODY;
    let mut paths = vec![
        (Method::POST, "/webhooks/alertmanager".to_owned(), payload(&[]).to_string(), "webhook"),
        (Method::POST, "/webhooks/alertmanager/".to_owned(), payload(&[]).to_string(), "webhook"),
        (Method::POST, "/webhook/alert".to_owned(), alert.to_string(), "webhook"),
        (Method::POST, "/webhook/alert/".to_owned(), alert.to_string(), "webhook"),
        (Method::GET, "/api/incidents".to_owned(), String::new(), "read"),
        (Method::GET, "/incidents".to_owned(), String::new(), "read"),
        (Method::GET, format!("/api/incidents/{nobody}"), String::new(), "read"),
        (Method::GET, "/api/agents".to_owned(), String::new(), "read"),
        (Method::GET, format!("/api/incidents/{nobody}/evidence"), String::new(), "read"),
        (Method::GET, "/api/changes".to_owned(), String::new(), "read"),
        (Method::POST, "/api/changes".to_owned(), json!({"title": "A"}).to_string(), "webhook"),
        (Method::GET, "/api/kill-switch".to_owned(), String::new(), "read"),
        (Method::POST, "/api/incidents".to_owned(), json!({"title": "A"}).to_string(), "operate"),
        (Method::PUT, "/api/kill-switch".to_owned(), json!({"engaged": true}).to_string(), "operate"),
    ];
    for word in
        ["acknowledge", "take-over", "hand-back", "diagnose", "settle", "resolve", "close", "reopen", "notes"]
    {
        paths.push((Method::POST, format!("/api/incidents/{nobody}/{word}"), String::new(), "operate"));
    }
    for word in ["approve", "deny", "run"] {
        let body = json!({"plan_digest": "0".repeat(64)}).to_string();
        paths.push((Method::POST, format!("/api/incidents/{nobody}/{word}"), body, "approve"));
    }
    paths
}

/// The table of endpoints says what each needs, and the handlers ask for it: the test below tries every row of the table.
#[test]
fn every_row_of_the_table_of_endpoints_is_tried() {
    let [http, _] = quell_coordinator::endpoints().unwrap();
    let tried = paths();
    for endpoint in http.iter().filter(|endpoint| endpoint.needs != quell_web::open()) {
        let path = endpoint.path.replace("{id}", NOBODY);
        let found = tried.iter().find(|(method, tried, ..)| *method == endpoint.method && *tried == path);
        let scope = found.map(|(.., scope)| *scope);
        // What follows is about a part of what it takes.
        let needs = endpoint.needs.split(';').next();
        assert_eq!(scope, needs, "{} {}", endpoint.method, endpoint.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_asks_for_a_token_and_its_scope() {
    let sandbox = Sandbox::start(with_tokens()).await.unwrap();
    for (method, path, body, scope) in paths() {
        let what = format!("{method} {path}");
        let request = async |authorization: Option<String>| {
            let header = authorization.as_deref().map(|value| ("authorization", value));
            ask(&sandbox, method.clone(), &path, header.as_slice(), body.clone()).await
        };
        for (authorization, words) in [
            (None, "Authorization: Bearer"),
            (Some("Bearer ".to_owned()), "Authorization: Bearer"),
            (Some("Basic b24tY2FsbDpwYXNz".to_owned()), "Authorization: Bearer"),
            (Some("Bearer token-of-nobody".to_owned()), "not known"),
            (Some(format!("Bearer {}x", token_of("operator"))), "not known"),
        ] {
            let refused = request(authorization).await;
            refused.is_problem(&what, 401, &[words]);
            assert_eq!(refused.header("www-authenticate"), "Bearer", "{what}");
        }
        for (name, scopes) in CALLERS {
            let answer = request(Some(format!("Bearer {}", token_of(name)))).await;
            if scopes.split(", ").any(|has| has == scope) {
                assert!(!matches!(answer.status, 401 | 403 | 500..), "{what} by {name}: {answer:?}");
            } else {
                let missing = format!("scope `{scope}`");
                answer.is_problem(&format!("{what} by {name}"), 403, &[&format!("`{name}`"), &missing]);
            }
            assert!(!answer.text.contains("token-of"), "{what}: a token in the answer: {answer:?}");
        }
    }
    // Stopping everything is anybody's who operates; letting it go on is not.
    let release = json!({"engaged": false}).to_string();
    let operator = format!("Bearer {}", token_of("operator"));
    let headers = [("authorization", operator.as_str())];
    let answer = ask(&sandbox, Method::PUT, "/api/kill-switch", &headers, release).await;
    answer.is_problem("a release by operator", 403, &["scope `approve`"]);
    // Whoever is not known is told so, also when what they send is too large to be kept.
    let large = vec![b' '; 11 << 20];
    let answer = ask(&sandbox, Method::POST, "/webhook/alert", &[], large).await;
    answer.is_problem("a large body of nobody", 401, &["Authorization: Bearer"]);
    // A probe of an orchestrator and a scraper have no token.
    for open in ["/health", "/ready", "/metrics", "/.well-known/agent-card.json"] {
        assert_eq!(ask(&sandbox, Method::GET, open, &[], "").await.status, 200, "{open}");
    }
}

fn client(sandbox: &Sandbox, token: Option<&str>) -> Client {
    let options = ClientOptions::default().with_bearer(token);
    Client::connect_lazy(&sandbox.grpc().to_string(), options).unwrap()
}

fn draft(message_id: &str) -> SendRequest {
    let message =
        Message::user(message_id, vec![Part::data(json!({"title": "By A2A"}))]).with_skill("respond");
    SendRequest::new(message).return_immediately()
}

fn decision(task: &Task, message_id: &str) -> SendRequest {
    let data = json!({"decision": "approve", "plan_digest": "0".repeat(64)});
    let mut message = Message::user(message_id, vec![Part::data(data)]);
    message.task_id.clone_from(&task.id);
    SendRequest::new(message).return_immediately()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a2a_asks_for_a_token_and_its_scope() {
    let sandbox = Sandbox::start(with_tokens()).await.unwrap();
    let by = |name: &str| client(&sandbox, Some(&token_of(name)));
    let opened = match by("operator").send(draft("m1")).await.unwrap() {
        SendReply::Task(task) => task,
        SendReply::Message(message) => panic!("{message:?}"),
    };
    for nobody in [client(&sandbox, None), client(&sandbox, Some("token-of-nobody"))] {
        let errors = [
            nobody.send(draft("m2")).await.unwrap_err(),
            nobody.stream(draft("m3")).await.err().unwrap(),
            nobody.get_task(&opened.id, None).await.unwrap_err(),
            nobody.list_tasks(ListTasks::default()).await.unwrap_err(),
            nobody.cancel(&opened.id).await.unwrap_err(),
            nobody.subscribe(&opened.id).await.err().unwrap(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
            assert!(!error.to_string().contains("token-of"), "{error:?}");
        }
    }
    let alertmanager = by("alertmanager");
    let viewer = by("viewer");
    let errors = [
        alertmanager.send(draft("m4")).await.unwrap_err(),
        alertmanager.get_task(&opened.id, None).await.unwrap_err(),
        alertmanager.list_tasks(ListTasks::default()).await.unwrap_err(),
        alertmanager.cancel(&opened.id).await.unwrap_err(),
        alertmanager.subscribe(&opened.id).await.err().unwrap(),
        viewer.send(draft("m5")).await.unwrap_err(),
        viewer.send(decision(&opened, "m6")).await.unwrap_err(),
        viewer.cancel(&opened.id).await.unwrap_err(),
        by("operator").send(decision(&opened, "m7")).await.unwrap_err(),
        by("on-call").send(draft("m8")).await.unwrap_err(),
        by("on-call").cancel(&opened.id).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error:?}");
        assert!(error.message().contains("no scope `"), "{error:?}");
    }
    // Whoever may: it is let in, and the workflow says that there is nothing to approve.
    let error = by("on-call").send(decision(&opened, "m9")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation, "{error:?}");
    assert_eq!(viewer.get_task(&opened.id, None).await.unwrap().id, opened.id);
    assert_eq!(viewer.list_tasks(ListTasks::default()).await.unwrap().tasks.len(), 1);
    let origin = ask(
        &sandbox,
        Method::GET,
        &format!("/api/incidents/{}", opened.id),
        &[("authorization", &format!("Bearer {}", token_of("viewer")))],
        "",
    )
    .await;
    assert_eq!(origin.json()["origin"], "operator", "who it was is what the token says");
}
