//! The real command line against a site: what it prints, what it changes, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{WITHIN, deliver, firing, incidents, program, still};
use quell_sandbox::{Options, Part, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

struct Ran {
    code: i32,
    out: String,
    error: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    fn has(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.out.contains(word), "{word:?} is not in:\n{}\n{}", self.out, self.error);
        }
        self
    }

    /// Failed with this code, and said why and what to do on standard error alone.
    fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.error);
        for word in words {
            assert!(self.error.contains(word), "{word:?} is not in:\n{}", self.error);
        }
        assert_eq!(self.out, "", "nothing is printed for a pipe");
    }
}

fn quell(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("quell"));
    command.env_clear().env("QUELL_URL", sandbox.url("")).env("SIMULATOR_URL", sandbox.simulator_url());
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Ran {
    let ran = tokio::time::timeout(WITHIN, command.output()).await.expect("the command goes on").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: ran.status.code().unwrap(), out: text(ran.stdout), error: text(ran.stderr) }
}

async fn run(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    output(quell(sandbox, arguments)).await
}

/// A command that must succeed.
async fn ok(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    let ran = run(sandbox, arguments).await;
    assert_eq!(ran.code, 0, "{arguments:?}: {}\n{}", ran.out, ran.error);
    ran
}

/// The JSON of a command that must succeed.
async fn json_of(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    ok(sandbox, &all).await.json()
}

async fn shown(sandbox: &Sandbox, id: &str) -> Value {
    sandbox.get(&format!("/api/incidents/{id}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_are_created_listed_and_shown() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    let none = ok(&sandbox, &["incident", "list"]).await;
    assert_eq!((none.out.as_str(), none.error.trim()), ("", "no incidents"));
    assert_eq!(json_of(&sandbox, &["incident", "list"]).await, json!([]));

    let made = ok(&sandbox, &["incident", "create", "--template", "database"]).await;
    made.has(&["P0 Database connection timeout on db-server-01: open"]);
    let slow =
        ["incident", "create", "--title", "Checkout is slow", "--severity", "high", "--message-id", "job-1"];
    let first = json_of(&sandbox, &slow).await;
    assert_eq!(json_of(&sandbox, &slow).await["id"], first["id"], "the same message id opens nothing");
    let other = ["incident", "create", "--title", "Another", "--message-id", "job-1"];
    run(&sandbox, &other).await.fails(2, &["another content"]);
    run(&sandbox, &["incident", "create"]).await.fails(2, &["--template"]);

    let table = ok(&sandbox, &["incident", "list"]).await;
    table.has(&[
        "PRI",
        "P0",
        "P1",
        "open",
        "Checkout is slow",
        "Database connection timeout on db-server-01",
    ]);
    assert_eq!(table.out.lines().count(), 3, "{}", table.out);
    let listed = json_of(&sandbox, &["incident", "list", "--status", "active", "--priority", "p1"]).await;
    assert_eq!(listed, sandbox.get("/api/incidents?priority=P1").await.unwrap(), "as the API gave it");
    assert_eq!(
        json_of(&sandbox, &["incident", "list", "--since", "0001-01-01T00:00:00Z"])
            .await
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(json_of(&sandbox, &["incident", "list", "--status", "closed"]).await, json!([]));

    let id = first["id"].as_str().unwrap();
    let end = &id[id.len() - 8..];
    for given in [id, end, &id.to_uppercase()] {
        ok(&sandbox, &["incident", "show", given]).await.has(&[
            "Checkout is slow",
            "P1 high",
            id,
            "TIMELINE",
            "opened by local",
        ]);
    }
    assert_eq!(json_of(&sandbox, &["incident", "show", end]).await, shown(&sandbox, id).await);
    run(&sandbox, &["incident", "show", "ffffffff"])
        .await
        .fails(3, &["no incident", "ffffffff", "quell incident list"]);
    run(&sandbox, &["incident", "show", "00000000-0000-7000-8000-000000000000"])
        .await
        .fails(3, &["no incident"]);
    run(&sandbox, &["incident", "show", "what?"]).await.fails(2, &["what?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_work_on_incidents() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    deliver(&sandbox, "/webhooks/alertmanager", &[firing("TestIncident", &[("severity", "critical")])]).await;
    let id = incidents(&sandbox, 1).await[0]["id"].as_str().unwrap().to_owned();
    let word = async |arguments: &[&str]| {
        ok(&sandbox, &[&["incident", arguments[0], &*id], &arguments[1..]].concat()).await
    };
    word(&["ack"]).await.has(&["TestIncident"]);
    assert_eq!(shown(&sandbox, &id).await["acknowledged_by"], json!(["local"]));
    word(&["note", "the", "supplier", "knows"]).await;
    run(&sandbox, &["incident", "approve", &id, "--yes"]).await.fails(3, &["does not wait for an approval"]);
    run(&sandbox, &["incident", "approve", &id]).await.fails(2, &["not a terminal", "--yes"]);
    run(&sandbox, &["incident", "hand-back", &id]).await.fails(3, &["nobody has taken it over"]);
    word(&["take-over"]).await.has(&["local has taken over"]);
    word(&["resolve"]).await.has(&["resolved"]);
    word(&["reopen", "--why", "still slow"]).await;
    word(&["close", "--why", "a planned test"]).await.has(&["closed by local: a planned test"]);
    run(&sandbox, &["incident", "close", &id]).await.fails(2, &["--why"]);
    run(&sandbox, &["incident", "ack", &id]).await.fails(3, &["the incident is closed"]);
    let page = word(&["show"]).await;
    page.has(&["closed by local: a planned test", "local: the supplier knows", "POST-MORTEM", "seen by"]);
    ok(&sandbox, &["incident", "watch", &id]).await.has(&["TestIncident", "local: the supplier knows"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_triggered_watched_approved_and_repaired() {
    let sandbox = Sandbox::start(Options::default().asking()).await.unwrap();
    ok(&sandbox, &["sim", "list"]).await.has(&["SCENARIO", "kafka_lag", "database_timeout"]);
    ok(&sandbox, &["agent", "list"]).await.has(&["diagnostic", "resolution", "yes", "diagnose", "plan, "]);
    let agents = json_of(&sandbox, &["agent", "list"]).await;
    assert!(agents.as_array().unwrap().iter().all(|agent| agent["reachable"] == true), "{agents:#}");
    ok(&sandbox, &["sim", "trigger", "kafka_lag"])
        .await
        .has(&["kafka_lag", "until the right action heals it"]);
    let triggered = json_of(&sandbox, &["sim", "list"]).await;
    let lag = triggered.as_array().unwrap().iter().find(|scenario| scenario["name"] == "kafka_lag").unwrap();
    assert_eq!(lag["active"], true, "{lag}");
    run(&sandbox, &["sim", "trigger", "earthquake"]).await.fails(3, &["earthquake"]);

    let asked =
        sandbox.incident("a question", WITHIN, |one| one["phase"] == "awaiting_approval").await.unwrap();
    let id = asked["id"].as_str().unwrap();
    let digest = asked["question"]["plan_digest"].as_str().unwrap();
    // It ends at the question that is open already.
    ok(&sandbox, &["incident", "watch", id, "--until", "question"])
        .await
        .has(&["root cause", "approval of plan"]);
    let page = ok(&sandbox, &["incident", "show", id]).await;
    page.has(&["QUESTION", "CAUSE", "consumer_group_too_small", &digest[..12], "quell incident approve"]);
    let wrong = ["incident", "approve", id, "--yes", "--digest", "000000000000"];
    run(&sandbox, &wrong).await.fails(3, &[digest, "000000000000"]);

    // One follows while another one approves.
    let mut watching =
        quell(&sandbox, &["incident", "watch", id, "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut told: Vec<Value> = Vec::new();
    let mut read = async |until: &str| {
        while let Some(line) = tokio::time::timeout(WITHIN, lines.next_line()).await.expect(until).unwrap() {
            told.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
            if told.last().unwrap()["event"]["type"] == until {
                return;
            }
        }
        panic!("the end came before {until}: {told:#?}");
    };
    read("approval_asked").await;
    let approved = ok(&sandbox, &["incident", "approve", id, "--yes", "--digest", &digest[..12]]).await;
    assert!(
        approved.error.contains(&digest[..12]) && approved.error.contains("email-service"),
        "{}",
        approved.error
    );
    read("closed").await;
    let ended = tokio::time::timeout(WITHIN, watching.wait()).await.unwrap().unwrap();
    assert!(ended.success());

    // Every event was told once, in order, though they came by two ways.
    let whole = shown(&sandbox, id).await;
    let types = |of: Vec<&Value>| {
        of.iter().map(|entry| entry["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        types(told.iter().map(|line| &line["event"]).collect()),
        types(whole["timeline"].as_array().unwrap().iter().collect())
    );
    let page = ok(&sandbox, &["incident", "show", id]).await;
    page.has(&["resolved by runbook", "ACTIONS", "done", "1 -> 6", "POST-MORTEM"]);
    ok(&sandbox, &["sim", "actions"]).await.has(&["email-service", "kafka_lag"]);
    let again = ok(&sandbox, &["incident", "watch", id, "--until", "resolved", "--timeout", "5s"]).await;
    again.has(&["closed; it was resolved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_is_seen_and_thrown() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    ok(&sandbox, &["kill-switch", "status"]).await.has(&["not engaged"]);
    ok(&sandbox, &["kill-switch", "on", "--why", "database move"]).await.has(&["engaged", "(database move)"]);
    ok(&sandbox, &["kill-switch", "status"]).await.has(&["engaged: nothing is carried out (database move)"]);
    let state = json_of(&sandbox, &["kill-switch", "status"]).await;
    assert_eq!(
        (&state["engaged"], &state["by"], &state["why"]),
        (&json!(true), &json!("local"), &json!("database move"))
    );
    ok(&sandbox, &["kill-switch", "off", "--why", "moved"]).await.has(&[
        "not engaged",
        "released",
        "local",
        "(moved)",
    ]);
    ok(&sandbox, &["kill-switch", "status"]).await.has(&["not engaged", "released", "local", "(moved)"]);
    run(&sandbox, &["kill-switch", "on"]).await.fails(2, &["--why"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_down_is_named() {
    let mut sandbox = Sandbox::start(still()).await.unwrap();
    let agents = ok(&sandbox, &["agent", "list"]).await;
    agents.has(&["diagnostic", "resolution", "no"]);
    sandbox.kill(Part::Coordinator);
    let url = sandbox.url("");
    for arguments in [
        &["incident", "list"][..],
        &["incident", "show", "3f2a9c"],
        &["incident", "create", "--title", "A"],
        &["incident", "ack", "00000000-0000-7000-8000-000000000000"],
        &["incident", "watch", "00000000-0000-7000-8000-000000000000", "--timeout", "1s"],
        &["agent", "list"],
        &["kill-switch", "status"],
    ] {
        run(&sandbox, arguments).await.fails(1, &["coordinator", &url, "quell-coordinator", "QUELL_URL"]);
    }
    let mut lost = quell(&sandbox, &["sim", "list"]);
    lost.env("SIMULATOR_URL", &url);
    output(lost).await.fails(1, &["simulator", &url, "SIMULATOR_URL"]);
    run(&sandbox, &["incident", "list", "--url", "nonsense"]).await.fails(2, &["nonsense", "--url"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_used() {
    let tokens = "tokens: [{name: viewer, token: token-of-viewer, scopes: [read]}]";
    let options = still().replacing("  autonomy:", &format!("  {tokens}\n  autonomy:"));
    let sandbox = Sandbox::start(options).await.unwrap();
    run(&sandbox, &["incident", "list"]).await.fails(1, &["does not know you", "QUELL_TOKEN"]);
    let mut wrong = quell(&sandbox, &["incident", "list"]);
    wrong.env("QUELL_TOKEN", "token-of-nobody");
    let wrong = output(wrong).await;
    wrong.fails(1, &["does not know you", "--token"]);
    assert!(!wrong.error.contains("token-of-nobody"), "{}", wrong.error);
    let viewer = async |arguments: &[&str]| {
        let mut command = quell(&sandbox, arguments);
        command.env("QUELL_TOKEN", "token-of-viewer");
        output(command).await
    };
    assert_eq!(viewer(&["incident", "list"]).await.code, 0);
    viewer(&["kill-switch", "on", "--why", "x"])
        .await
        .fails(1, &["may not do this", "`viewer`", "`operate`"]);
    viewer(&["incident", "create", "--title", "A"]).await.fails(1, &["may not do this", "`operate`"]);
}

/// A watcher outlives a restart of the coordinator, and tells nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn watching_goes_on_over_a_restart() {
    let mut sandbox = Sandbox::start(still()).await.unwrap();
    let made = json_of(&sandbox, &["incident", "create", "--title", "Restarted"]).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let mut watching = quell(&sandbox, &["incident", "watch", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    let mut read = async |until: &str| {
        while let Some(line) = tokio::time::timeout(WITHIN, lines.next_line()).await.expect("a line").unwrap()
        {
            told.push(line);
            if told.last().unwrap().contains(until) {
                return;
            }
        }
        panic!("the end came before {until:?}: {told:#?}");
    };
    read("opened by local").await;
    sandbox.restart(Part::Coordinator).await.unwrap();
    ok(&sandbox, &["incident", "note", &id, "still here"]).await;
    read("local: still here").await;
    ok(&sandbox, &["incident", "close", &id, "--why", "enough"]).await;
    read("closed by local enough").await;
    let ended = tokio::time::timeout(Duration::from_secs(5), watching.wait()).await.unwrap().unwrap();
    assert!(ended.success());
    assert_eq!(told.iter().filter(|line| line.contains("opened by local")).count(), 1, "{told:#?}");
}
