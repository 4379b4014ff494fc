//! The REST API: queries, pages, bodies and words.

use std::collections::BTreeSet;

use quell_sandbox::Sandbox;
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{
    WITHIN, ask, correlated, deliver, firing, get, incidents, is_healthy, next_page, post, still,
};

async fn start() -> Sandbox {
    Sandbox::start(still()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_cannot_be_answered_are_told_why() {
    let sandbox = start().await;
    for (query, words) in [
        ("status=done", vec!["`status`", "`done`", "open, investigating, resolved, closed", "active"]),
        ("status=open,closed", vec!["`status`"]),
        ("priority=P9", vec!["`priority`", "`P9`", "P0, P1, P2, P3"]),
        ("priority=urgent", vec!["`priority`"]),
        ("since=yesterday", vec!["`since`", "`yesterday`", "2026-01-31T12:00:00Z"]),
        ("since=2026-01-31", vec!["`since`"]),
        ("since=1769860800", vec!["`since`"]),
        ("limit=0", vec!["`limit`", "1 to 1000"]),
        ("limit=1001", vec!["`limit`", "1 to 1000"]),
        ("limit=-1", vec!["`limit`"]),
        ("limit=many", vec!["`limit`"]),
        ("limit=99999999999999999999999", vec!["`limit`"]),
        ("cursor=abc", vec!["`cursor`", "`abc`"]),
        ("cursor=1_2", vec!["`cursor`"]),
        ("cursor=99999999999999999999999999999_00000000-0000-7000-8000-000000000000", vec!["`cursor`"]),
        ("offset=5", vec!["unknown parameter `offset`", "status, priority, since, limit, cursor"]),
        ("Status=open", vec!["unknown parameter `Status`"]),
        ("statsu=", vec!["unknown parameter `statsu`"]),
        ("status=%ff", vec![]),
        (&*format!("status={}", "x".repeat(5_000)), vec!["`status`"]),
        (&*format!("{}=1", "x".repeat(5_000)), vec!["unknown parameter"]),
    ] {
        for path in ["/api/incidents", "/incidents"] {
            get(&sandbox, &format!("{path}?{query}")).await.is_problem(query, 400, &words);
        }
    }
    is_healthy(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_leave_everything_open_are_answered() {
    let sandbox = start().await;
    deliver(&sandbox, "/webhooks/alertmanager", &[firing("One", &[("severity", "critical")])]).await;
    incidents(&sandbox, 1).await;
    for (query, found) in [
        ("", 1),
        ("status=&priority=&since=&limit=&cursor=", 1),
        ("status=active", 1),
        ("status=Active&priority=p0", 1),
        ("status=OPEN", 1),
        ("status=closed", 0),
        ("priority=P3", 0),
        ("since=1970-01-01T00:00:00Z", 1),
        ("since=1970-01-01T00:00:00%2B02:00", 1),
        ("since=2999-01-01T00:00:00Z", 0),
        ("cursor=0_00000000-0000-7000-8000-000000000000", 0),
    ] {
        let answer = get(&sandbox, &format!("/api/incidents?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        assert_eq!(answer.json().as_array().unwrap().len(), found, "{query}");
        assert_eq!(answer.header("link"), "", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_over_thousands_of_incidents() {
    const COUNT: usize = 2_500;
    let sandbox = start().await;
    let alert = |number: usize| {
        let severity = if number.is_multiple_of(2) { "critical" } else { "warning" };
        firing("Paged", &[("instance", &format!("host-{number}:1")), ("severity", severity)])
    };
    deliver(&sandbox, "/webhooks/alertmanager", &(0..COUNT).map(alert).collect::<Vec<_>>()).await;
    deliver(&sandbox, "/webhook/alert", &[alert(COUNT)]).await;
    correlated(&sandbox, WITHIN * 4).await;
    let now = crate::common::fake::now();
    let since = "2026-01-01T00:00:00%2B00:00";
    for (query, total, sizes) in [
        ("", COUNT + 1, vec![1000, 1000, 501]),
        ("limit=500&priority=P0&status=active", COUNT / 2 + 1, vec![500, 500, 251]),
        (&*format!("since={since}&limit=625&priority=p2"), COUNT / 2, vec![625, 625]),
        (&*format!("since={now}"), 0, vec![0]),
    ] {
        let mut path = format!("/api/incidents?{query}");
        let mut seen = BTreeSet::new();
        let mut pages = Vec::new();
        let mut before = None;
        loop {
            let page = get(&sandbox, &path).await;
            assert_eq!(page.status, 200, "{path}: {page:?}");
            assert_eq!(page.header("x-total-count"), total.to_string(), "{path}");
            let rows = page.json().as_array().unwrap().clone();
            pages.push(rows.len());
            for row in rows {
                let place =
                    (row["created_at"].as_str().unwrap().to_owned(), row["id"].as_str().unwrap().to_owned());
                assert!(
                    before.as_ref().is_none_or(|before| *before > place),
                    "not the newest first: {place:?}"
                );
                seen.insert(place.1.clone());
                before = Some(place);
            }
            match next_page(&page) {
                Some(next) => path = next,
                None => break,
            }
        }
        assert_eq!(pages, sizes, "{query}");
        assert_eq!(seen.len(), total, "{query}: each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_that_cannot_be_taken_are_told_why() {
    let sandbox = start().await;
    let long = "x".repeat(20_000);
    let many: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    for (what, body, status, words) in [
        ("empty", String::new(), 400, vec!["not an incident"]),
        ("half", "{\"title\":".to_owned(), 400, vec!["not an incident", "line 1"]),
        ("a list", "[]".to_owned(), 400, vec!["not an incident"]),
        ("no title", "{}".to_owned(), 400, vec!["`title`"]),
        (
            "an unknown field",
            json!({"title": "A", "prio": "P0"}).to_string(),
            400,
            vec!["`prio`", "`priority`"],
        ),
        ("a wrong priority", json!({"title": "A", "priority": "P9"}).to_string(), 400, vec!["`P9`", "`P0`"]),
        (
            "a wrong severity",
            json!({"title": "A", "severity": "bad"}).to_string(),
            400,
            vec!["`bad`", "`critical`"],
        ),
        ("a blank title", json!({"title": "  "}).to_string(), 422, vec!["`title` is empty"]),
        ("a long title", json!({"title": long}).to_string(), 422, vec!["`title`", "16384 bytes"]),
        (
            "a long alert name",
            json!({"title": "A", "alert_name": long}).to_string(),
            422,
            vec!["`alert_name`"],
        ),
        ("a wrong schema", json!({"title": "A", "schema": "v9"}).to_string(), 422, vec!["`schema`", "`v9`"]),
        ("many tags", json!({"title": "A", "tags": many}).to_string(), 422, vec!["`tags`", "100"]),
    ] {
        post(&sandbox, "/api/incidents", body).await.is_problem(what, status, &words);
    }
    incidents(&sandbox, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_sent_twice_is_one_incident() {
    let sandbox = start().await;
    let draft = json!({"title": "Checkout is slow", "severity": "critical"}).to_string();
    let key = [("idempotency-key", "job-1")];
    let first = ask(&sandbox, Method::POST, "/api/incidents", &key, draft.clone()).await;
    assert_eq!(first.status, 201, "{first:?}");
    let again = ask(&sandbox, Method::POST, "/api/incidents", &key, draft.clone()).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]), "{again:?}");
    let other =
        ask(&sandbox, Method::POST, "/api/incidents", &key, json!({"title": "Other"}).to_string()).await;
    other.is_problem("other content", 422, &["Idempotency-Key", first.json()["id"].as_str().unwrap()]);
    // A key that cannot be kept would make a repeat harmful, silently.
    for key in ["schlüssel", &*"k".repeat(10_000)] {
        let answer =
            ask(&sandbox, Method::POST, "/api/incidents", &[("idempotency-key", key)], draft.clone()).await;
        answer.is_problem("a key", 400, &["Idempotency-Key"]);
    }
    let incident = incidents(&sandbox, 1).await.remove(0);
    assert_eq!((&incident["priority"], &incident["alert_name"]), (&json!("P0"), &json!("ManualIncident")));
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_do_not_fit_are_told_why() {
    let sandbox = start().await;
    deliver(&sandbox, "/webhooks/alertmanager", &[firing("One", &[])]).await;
    let id = incidents(&sandbox, 1).await[0]["id"].as_str().unwrap().to_owned();
    let digest = "0".repeat(64);
    for (word, body, status, words) in [
        ("explode", String::new(), 404, vec!["`explode`", "acknowledge, approve"]),
        ("approve", String::new(), 422, vec!["`plan_digest` is missing"]),
        ("approve", json!({"plan_digest": "beef"}).to_string(), 422, vec!["`plan_digest`", "beef"]),
        ("approve", json!({"plan_digest": digest}).to_string(), 409, vec!["no plan waits for approval"]),
        ("approve", json!({"digest": digest}).to_string(), 400, vec!["`digest`", "`plan_digest`"]),
        ("deny", String::new(), 409, vec!["no plan waits for approval"]),
        ("deny", "[".to_owned(), 400, vec!["not readable"]),
        ("hand-back", String::new(), 409, vec!["nobody has taken it over"]),
        ("settle", String::new(), 422, vec!["`happened` is missing"]),
        ("settle", json!({"happened": true}).to_string(), 422, vec!["`why` is missing"]),
        ("settle", json!({"happened": true, "why": "x", "step": "a b"}).to_string(), 422, vec!["`step`"]),
        ("settle", json!({"happened": "yes", "why": "x"}).to_string(), 400, vec!["not readable"]),
        ("settle", json!({"happened": true, "why": "x"}).to_string(), 409, vec!["no step", "unknown effect"]),
        ("reopen", json!({"why": "x"}).to_string(), 409, vec!["not resolved"]),
        ("run", String::new(), 422, vec!["`runbook` is missing"]),
        ("run", json!({"runbook": "a b"}).to_string(), 422, vec!["runbook", "a b"]),
        ("run", json!({"runbook": "mend"}).to_string(), 409, vec!["take over first"]),
        ("notes", String::new(), 422, vec!["`text` is missing"]),
        ("notes", json!({"text": " \n"}).to_string(), 422, vec!["`text` is missing"]),
        ("notes", json!({"text": "x".repeat(20_000)}).to_string(), 422, vec!["`text`", "16384 bytes"]),
        ("close", json!({"why": "x".repeat(20_000)}).to_string(), 422, vec!["`why`", "16384 bytes"]),
        ("close", "\u{ff}".to_owned(), 400, vec!["not readable"]),
    ] {
        let path = format!("/api/incidents/{id}/{word}");
        post(&sandbox, &path, body.clone()).await.is_problem(&format!("{word} {body:.60}"), status, &words);
    }
    let before = sandbox.get(&format!("/api/incidents/{id}")).await.unwrap();
    assert_eq!(
        before["timeline"].as_array().unwrap().len(),
        2,
        "what was refused changed nothing: {before:#}"
    );
    let noted =
        post(&sandbox, &format!("/api/incidents/{id}/notes"), json!({"text": "seen"}).to_string()).await;
    assert_eq!((noted.status, &noted.json()["revision"]), (200, &json!("3")), "{noted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch() {
    let sandbox = start().await;
    let put = async |body: &str| ask(&sandbox, Method::PUT, "/api/kill-switch", &[], body.to_owned()).await;
    for body in ["", "{}", "{\"engaged\": \"yes\"}", "{\"engaged\": true, \"reason\": \"x\"}", "null"] {
        put(body).await.is_problem(body, 400, &["expected {\"engaged\": true"]);
    }
    let off = sandbox.get("/api/kill-switch").await.unwrap();
    assert_eq!((&off["engaged"], &off["why"]), (&json!(false), &Value::Null), "{off}");
    let on = put("{\"engaged\": true, \"why\": \"database move\"}").await.json();
    assert_eq!((&on["engaged"], &on["why"]), (&json!(true), &json!("database move")), "{on}");
    assert_eq!(on, sandbox.get("/api/kill-switch").await.unwrap());
    put("{\"engaged\": true, \"why\": \"\\u0000\"}").await;
    let off = put("{\"engaged\": false, \"why\": \"moved\"}").await.json();
    assert_eq!(off["engaged"], false, "{off}");
    // Letting everything go on is answered for like stopping it.
    let word = &off["released"];
    assert_eq!((&word["by"], &word["why"]), (&json!("local"), &json!("moved")), "{off}");
    assert!(word["at"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{off}");
    assert_eq!(off, sandbox.get("/api/kill-switch").await.unwrap());
    // What is not engaged cannot be released: nobody is said to have done it.
    let mut again = put("{\"engaged\": false, \"why\": \"once more\"}").await.json();
    assert_eq!(again.as_object_mut().unwrap().remove("changed"), Some(json!(false)), "{again}");
    assert_eq!(again, off);
    assert_eq!(off, sandbox.get("/api/kill-switch").await.unwrap());
    is_healthy(&sandbox).await;
}

/// Serde reads a struct from a list as well, by the order of its fields: no list, number or text is anybody's word, at any endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_object_is_refused_at_every_endpoint() {
    let sandbox = start().await;
    deliver(&sandbox, "/webhooks/alertmanager", &[firing("One", &[])]).await;
    let id = incidents(&sandbox, 1).await[0]["id"].as_str().unwrap().to_owned();
    let digest = "0".repeat(64);
    let others = ["[]", "[[]]", "null", "1", "true", "\"approve\"", "[{}]"].map(str::to_owned);
    let mut endpoints = vec![
        (Method::POST, "/api/incidents".to_owned(), vec![json!(["quell/incident-draft/v1", "A"])]),
        (Method::PUT, "/api/kill-switch".to_owned(), vec![json!([true, "x"])]),
        (Method::POST, "/api/changes".to_owned(), vec![json!([["2026-01-31T12:00:00Z", "deploy"]])]),
        (
            Method::POST,
            "/webhooks/alertmanager".to_owned(),
            vec![
                json!(["4", "{}", 0, [firing("Two", &[])]]),
                json!({"version": "4", "alerts": [["firing", {"alertname": "Two"}]]}),
            ],
        ),
        (Method::POST, "/webhook/alert".to_owned(), vec![json!(["firing", {"alertname": "Two"}])]),
    ];
    for word in WORDS {
        let positional = json!([digest, "enough", "mend", "text", true, null]);
        endpoints.push((Method::POST, format!("/api/incidents/{id}/{word}"), vec![positional]));
    }
    for (method, path, positional) in endpoints {
        // An empty list of changes is a list of changes.
        let others = others.iter().filter(|body| path != "/api/changes" || *body != "[]").cloned();
        for body in others.chain(positional.iter().map(Value::to_string)) {
            let answer = ask(&sandbox, method.clone(), &path, &[], body.clone()).await;
            answer.is_problem(&format!("{method} {path} {body}"), 400, &[]);
        }
    }
    let after = sandbox.get(&format!("/api/incidents/{id}")).await.unwrap();
    assert_eq!(after["timeline"].as_array().unwrap().len(), 2, "nothing was taken: {after:#}");
    assert_eq!(sandbox.get("/api/kill-switch").await.unwrap()["engaged"], false);
    incidents(&sandbox, 1).await;
    is_healthy(&sandbox).await;
}

/// Every word that a person can say of an incident.
const WORDS: [&str; 12] = [
    "acknowledge",
    "approve",
    "deny",
    "take-over",
    "hand-back",
    "diagnose",
    "settle",
    "resolve",
    "close",
    "reopen",
    "notes",
    "run",
];
