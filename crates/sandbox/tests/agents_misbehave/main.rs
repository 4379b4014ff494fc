//! Agents that are down, silent, or talk nonsense: they are asked again, and then a person is told which agent and why. Nothing is
//! done twice, and nothing is done that was not planned.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "../common/mod.rs"]
mod common;
mod what_is_asked;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::fake::{Fake, Says, Scripts, checks, done, fails, plan, planned, report, working_with};
use common::{WITHIN, is_healthy};
use futures::future::join_all;
use quell_sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// An address where nobody listens, and nobody else can as long as this is kept.
struct Nobody {
    address: SocketAddr,
    _bound: TcpSocket,
}

fn nobody() -> Nobody {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    Nobody { address: socket.local_addr().unwrap(), _bound: socket }
}

/// Something that listens and is no agent.
struct Impostor {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Says these bytes on every connection, and then nothing; `None` hangs up at once.
async fn impostor(says: Option<&'static [u8]>) -> Impostor {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listening = tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let Some(says) = says else { continue };
            tokio::spawn(async move {
                let _ = stream.write_all(says).await;
                let mut heard = [0; 1024];
                while stream.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
            });
        }
    });
    Impostor { address, listening }
}

async fn open(sandbox: &Sandbox) -> String {
    let draft = json!({"title": "The shop is slow", "priority": "P0", "service": "shop"});
    let opened = sandbox.post("/api/incidents", &draft).await.unwrap();
    opened["id"].as_str().unwrap().to_owned()
}

async fn escalated(sandbox: &Sandbox) -> Value {
    sandbox
        .incident("a person to be asked", WITHIN, |incident| incident["phase"] == "escalated")
        .await
        .unwrap()
}

async fn closed(sandbox: &Sandbox) -> Value {
    sandbox.incident("the end", WITHIN, |incident| incident["status"] == "closed").await.unwrap()
}

fn count(incident: &Value, kind: &str) -> usize {
    incident["timeline"].as_array().unwrap().iter().filter(|entry| entry["type"] == kind).count()
}

fn texts(incident: &Value) -> String {
    let lines = incident["timeline"].as_array().unwrap().iter();
    lines.map(|line| line["text"].as_str().unwrap().to_owned() + "\n").collect()
}

/// A person is asked, after so many tries, with a reason that has these words.
async fn gives_up(what: &str, options: Options, tries: usize, words: &[&str]) -> Value {
    let sandbox = Sandbox::start(options).await.unwrap();
    open(&sandbox).await;
    let incident = escalated(&sandbox).await;
    let why = incident["question"]["text"].as_str().unwrap();
    for word in words {
        assert!(why.contains(word), "{what}: {word:?} is not in {why:?}");
    }
    assert!(why.len() < 1_000, "{what}: {} bytes", why.len());
    assert_eq!(count(&incident, "task_failed"), tries, "{what}: {}", texts(&incident));
    assert_eq!(texts(&incident).contains("asked again (try 3)"), tries == 3, "{what}: {}", texts(&incident));
    assert_eq!(incident["question"]["kind"], "escalation", "{what}");
    is_healthy(&sandbox).await;
    incident
}

/// What may be better the next time is asked for three times; what was rejected is not asked for again.
fn tries_of(what: &str) -> usize {
    if ["a failure", "a panic", "no end", "a plan from the past"].contains(&what) { 3 } else { 1 }
}

async fn diagnostic_gives_up(what: &'static str, says: fn(&Value) -> Says, words: &[&str]) {
    let diagnostic = Scripts::default().with("diagnose", move |_, request| says(request)).serve().await;
    let resolution = Scripts::resolution().serve().await;
    gives_up(what, working_with(diagnostic.address, resolution.address), tries_of(what), words).await;
    assert_eq!(diagnostic.asked("diagnose").len(), tries_of(what), "{what}");
    assert_eq!(resolution.asked("plan").len(), 0, "{what}");
}

async fn resolution_gives_up(what: &'static str, says: fn(&Value) -> Says, words: &[&str]) {
    let diagnostic = Scripts::diagnostic().serve().await;
    let resolution = Scripts::resolution().with("plan", move |_, request| says(request)).serve().await;
    gives_up(what, working_with(diagnostic.address, resolution.address), tries_of(what), words).await;
    assert_eq!(diagnostic.asked("diagnose").len(), 1, "{what}");
    assert_eq!(resolution.asked("plan").len(), tries_of(what), "{what}");
    assert_eq!(resolution.asked("execute").len(), 0, "{what}");
}

/// The same agents as they should be, so that the tests below say something.
#[tokio::test(flavor = "multi_thread")]
async fn agents_that_behave() {
    let (diagnostic, resolution) = (Scripts::diagnostic().serve().await, Scripts::resolution().serve().await);
    let sandbox = Sandbox::start(working_with(diagnostic.address, resolution.address)).await.unwrap();
    let id = open(&sandbox).await;
    let incident = closed(&sandbox).await;
    assert_eq!(
        (&incident["id"], &incident["resolution"]["by"]),
        (&json!(id), &json!("runbook")),
        "{incident:#}"
    );
    let asked = ["diagnose"].map(|skill| diagnostic.asked(skill).len());
    assert_eq!((asked, resolution.asked("plan").len(), resolution.asked("execute").len()), ([1], 1, 1));
    assert_eq!((resolution.asked("undo").len(), resolution.asked("probe").len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_there() {
    let resolution = Scripts::resolution().serve().await;
    let diagnostic = Scripts::diagnostic().serve().await;
    let diagnose = |what: &'static str, address: SocketAddr| {
        gives_up(
            what,
            working_with(address, resolution.address),
            3,
            &["the diagnostic agent did not answer", "3 tries"],
        )
    };
    let plan = |what: &'static str, address: SocketAddr| {
        gives_up(
            what,
            working_with(diagnostic.address, address),
            3,
            &["the resolution agent did not answer", "3 tries"],
        )
    };
    let (silent, rude) = (impostor(Some(b"")).await, impostor(None).await);
    let ssh = impostor(Some(b"SSH-2.0-quell\r\n")).await;
    let http = impostor(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let down = nobody();
    tokio::join!(
        join_all([
            diagnose("down", down.address),
            diagnose("silent", silent.address),
            diagnose("hangs up", rude.address),
            diagnose("another protocol", ssh.address),
        ]),
        join_all([
            plan("down", down.address),
            plan("silent", silent.address),
            plan("hangs up", rude.address),
            plan("HTTP/1", http.address),
        ]),
    );
    assert_eq!(resolution.asked("plan").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diagnostic_agent_that_talks_nonsense() {
    const AGENT: &str = "the diagnostic agent";
    tokio::join!(
        diagnostic_gives_up(
            "another document",
            |_| Says::Data(json!({"hello": 1})),
            &[AGENT, "cannot be used", "`schema` is missing, expected `quell/report/v1`"]
        ),
        diagnostic_gives_up("a list", |_| Says::Data(json!([])), &[AGENT, "cannot be used"]),
        diagnostic_gives_up(
            "a report of another version",
            |request| Says::Data(changed_report(request, "/schema", json!("quell/report/v9"))),
            &[AGENT, "`schema` is `quell/report/v9`, expected `quell/report/v1`"]
        ),
        diagnostic_gives_up(
            "a rejection",
            |_| Says::Rejects("not in this zone"),
            &[AGENT, "rejected", "not in this zone"]
        ),
        diagnostic_gives_up("null", |_| Says::Data(Value::Null), &[AGENT, "cannot be used"]),
        diagnostic_gives_up("words", |_| Says::Words("all is well"), &[AGENT, "cannot be used", "no data"]),
        diagnostic_gives_up(
            "a failure",
            |_| fails("no rules are loaded"),
            &[AGENT, "failed", "no rules are loaded"]
        ),
        diagnostic_gives_up("a panic", |_| Says::Panics, &[AGENT, "failed"]),
        diagnostic_gives_up("no end", |_| Says::Nothing, &[AGENT, "did not answer", "working"]),
        diagnostic_gives_up(
            "of another incident",
            |request| Says::Data(changed_report(
                request,
                "/incident_id",
                json!("00000000-0000-7000-8000-000000000001")
            )),
            &[AGENT, "the report is of incident 00000000-0000-7000-8000-000000000001"],
        ),
        diagnostic_gives_up(
            "too sure",
            |request| Says::Data(changed_report(request, "/root_cause/confidence", json!(1e9))),
            &[AGENT, "the confidence in slow is 1000000000, expected 0 to 1"],
        ),
        diagnostic_gives_up(
            "a confidence in words",
            |request| Says::Data(changed_report(request, "/root_cause/confidence", json!("high"))),
            &[AGENT, "cannot be used", "\"high\""],
        ),
        diagnostic_gives_up(
            "no evidence",
            |request| Says::Data(changed_report(request, "/root_cause/claims", json!([]))),
            &[AGENT, "nothing is said to speak for slow"],
        ),
        diagnostic_gives_up(
            "evidence that is not there",
            |request| Says::Data(changed_report(request, "/evidence", json!([]))),
            &[AGENT, "a claim for slow cites no evidence"],
        ),
    );
}

fn changed_report(request: &Value, path: &str, value: Value) -> Value {
    let mut report = report(request);
    *report.pointer_mut(path).unwrap() = value;
    report
}

fn changed_plan(request: &Value, path: &str, value: Value) -> Says {
    let mut plan = plan(request, 2);
    *plan.pointer_mut(path).unwrap() = value;
    Says::Data(planned(plan))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_agent_that_plans_nonsense() {
    const AGENT: &str = "the resolution agent";
    tokio::join!(
        resolution_gives_up(
            "another document",
            |_| Says::Data(json!({"kind": "poem"})),
            &[AGENT, "cannot be used", "`poem`"]
        ),
        resolution_gives_up(
            "a plan of another version",
            |request| changed_plan(request, "/schema", json!("quell/plan/v9")),
            &[AGENT, "`quell/plan/v9`, expected `quell/plan/v1`"]
        ),
        resolution_gives_up(
            "a rejection",
            |_| Says::Rejects("not for this site"),
            &[AGENT, "rejected", "not for this site"]
        ),
        resolution_gives_up("a list", |_| Says::Data(json!(["plan", {}])), &[AGENT, "cannot be used"]),
        resolution_gives_up("a failure", |_| fails("no inventory"), &[AGENT, "failed", "no inventory"]),
        resolution_gives_up("no end", |_| Says::Nothing, &[AGENT, "did not answer"]),
        resolution_gives_up(
            "for another incident",
            |request| changed_plan(request, "/incident_id", json!("00000000-0000-7000-8000-000000000001")),
            &[AGENT, "the plan is for incident 00000000-0000-7000-8000-000000000001"],
        ),
        resolution_gives_up(
            "a plan from the past",
            |request| changed_plan(request, "/valid_until", json!("2026-01-31T12:00:00Z")),
            &[AGENT, "the plan was valid until 2026-01-31T12:00:00Z"],
        ),
        resolution_gives_up(
            "no checks",
            |request| changed_plan(request, "/checks", json!([])),
            &["plan", "it has no check"]
        ),
        resolution_gives_up(
            "no steps",
            |request| changed_plan(request, "/steps", json!([])),
            &["plan", "it has 0 steps"]
        ),
        resolution_gives_up(
            "51 steps",
            |request| Says::Data(planned(plan(request, 51))),
            &["plan", "it has 51 steps, expected 1 to 50"],
        ),
        resolution_gives_up(
            "two steps of one name",
            |request| changed_plan(request, "/steps/1/name", json!("restart-1")),
            &["plan", "two of its steps have one name"],
        ),
        resolution_gives_up(
            "a step that acts elsewhere",
            |request| changed_plan(request, "/steps/0/call/target", json!("vault")),
            &["plan", "another target"],
        ),
        resolution_gives_up(
            "a target with a blank",
            |request| changed_plan(request, "/steps/0/target", json!("rm -rf")),
            &[AGENT, "cannot be used", "rm -rf"],
        ),
    );
}

/// 50 steps are still a plan, and each is started once.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_steps_are_done_once_each() {
    let diagnostic = Scripts::diagnostic().serve().await;
    let plans = |_: usize, request: &Value| Says::Data(planned(plan(request, 50)));
    let resolution = Scripts::resolution().with("plan", plans).serve().await;
    let options = working_with(diagnostic.address, resolution.address);
    let sandbox =
        Sandbox::start(options.replacing("hold_look_again: 50ms", "hold_look_again: 20ms")).await.unwrap();
    open(&sandbox).await;
    let incident = closed(&sandbox).await;
    assert_eq!(incident["resolution"]["by"], "runbook", "{}", texts(&incident));
    let names: Vec<_> = resolution.asked("execute").iter().map(|one| one["step"]["name"].clone()).collect();
    assert_eq!(names, (1..=50).map(|number| json!(format!("restart-{number}"))).collect::<Vec<_>>());
    let keys: std::collections::BTreeSet<_> =
        resolution.asked("execute").iter().map(|one| one["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_plan_is_an_answer() {
    let diagnostic = Scripts::diagnostic().serve().await;
    let none = |_: usize, _: &Value| Says::Data(json!({"kind": "no_plan", "why": "no runbook fits"}));
    let resolution = Scripts::resolution().with("plan", none).serve().await;
    let sandbox = Sandbox::start(working_with(diagnostic.address, resolution.address)).await.unwrap();
    open(&sandbox).await;
    let incident = escalated(&sandbox).await;
    assert!(incident["summary"].as_str().unwrap().contains("no runbook fits"), "{}", incident["summary"]);
    assert_eq!(resolution.asked("plan").len(), 1, "asked once");
}

/// An agent that fails at first, and one that comes up late: the incident goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_incident_goes_on_when_its_agents_come_back() {
    let at_last =
        |before: usize, answer: Value| if before < 2 { fails("starting") } else { Says::Data(answer) };
    let diagnostic =
        Scripts::default().with("diagnose", move |before, request| at_last(before, report(request)));
    let diagnostic = diagnostic.serve().await;
    let place = nobody();
    let address = place.address;
    let options = working_with(diagnostic.address, address).replacing("planning: 900ms", "planning: 8s");
    let sandbox = Sandbox::start(options).await.unwrap();
    open(&sandbox).await;
    let planning = |incident: &Value| incident["phase"] == "planning";
    let incident = sandbox.incident("a plan to be asked for", WITHIN, planning).await.unwrap();
    assert_eq!(count(&incident, "task_failed"), 2, "{}", texts(&incident));
    drop(place);
    let resolution = Scripts::resolution().serve_at(address).await;
    let incident = closed(&sandbox).await;
    assert_eq!(incident["resolution"]["by"], "runbook", "{}", texts(&incident));
    assert_eq!(count(&incident, "task_failed"), 2, "{}", texts(&incident));
    assert_eq!(resolution.asked("execute").len(), 1);
}

/// The waits between tries grow, and are kept: nobody is hammered.
#[tokio::test(flavor = "multi_thread")]
async fn the_pauses_between_tries_grow() {
    let diagnostic = Scripts::default().with("diagnose", |_, _| fails("no")).serve().await;
    let down = nobody();
    let options = working_with(diagnostic.address, down.address);
    let options = options
        .replacing("agent_backoff: 50ms, agent_retries_max: 3", "agent_backoff: 200ms, agent_retries_max: 4");
    let sandbox = Sandbox::start(options).await.unwrap();
    open(&sandbox).await;
    let incident = escalated(&sandbox).await;
    let asked: Vec<jiff::Timestamp> = diagnostic
        .asked("diagnose")
        .iter()
        .map(|one| one["reference_time"].as_str().unwrap().parse().unwrap())
        .collect();
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).collect();
    assert_eq!(pauses.len(), 3, "{}", texts(&incident));
    for (pause, least) in pauses.iter().zip([200, 400, 800]) {
        assert!((least..least + 2_000).contains(pause), "{pauses:?}");
    }
}

/// What a step that nobody can vouch for comes to.
struct Doubted {
    incident: Value,
    resolution: Fake,
}

async fn doubted(
    execute: impl Fn(usize, &Value) -> Says + Send + Sync + 'static,
    probe: impl Fn(usize, &Value) -> Says + Send + Sync + 'static,
) -> Doubted {
    let diagnostic = Scripts::diagnostic().serve().await;
    let resolution = Scripts::resolution().with("execute", execute).with("probe", probe).serve().await;
    let options = working_with(diagnostic.address, resolution.address)
        .replacing("step_grace: 2s, probe: 30s", "step_grace: 500ms, probe: 2s")
        .replacing("verification_grace: 60s", "verification_grace: 1s, alert_pipeline_delay: 0s");
    let sandbox = Sandbox::start(options).await.unwrap();
    open(&sandbox).await;
    let over = |incident: &Value| incident["phase"] == "escalated" || incident["status"] == "closed";
    let incident = sandbox.incident("the end", WITHIN, over).await.unwrap();
    is_healthy(&sandbox).await;
    Doubted { incident, resolution }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_answer_is_for_another_key() {
    let other = |_: usize, request: &Value| {
        let key = request["key"].as_str().unwrap().replace("restart-1", "restart-2");
        assert_ne!(request["key"], key);
        Says::Data(json!({"key": key, "outcome": done()}))
    };
    let not_done = |_: usize, request: &Value| {
        Says::Data(json!({"key": request["key"], "verdict": {"kind": "not_done"}}))
    };
    let Doubted { incident, resolution } = doubted(other, not_done).await;
    // The probe says that it did not happen, and the step is not one that may be tried again.
    assert!(
        incident["question"]["text"].as_str().unwrap().contains("did not happen"),
        "{}",
        texts(&incident)
    );
    assert_eq!(
        resolution.asked("execute").len(),
        1,
        "one key, asked for once or again: {}",
        texts(&incident)
    );
    assert_eq!(count(&incident, "step_started"), 1, "{}", texts(&incident));
    assert_eq!(incident["remediation_actions"][0]["success"], false, "{incident:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_as_a_task_is_probed_and_not_done_again() {
    let probed_done = |_: usize, request: &Value| {
        Says::Data(json!({"key": request["key"], "verdict": {"kind": "done", "changes": []}}))
    };
    let executed: [fn(usize, &Value) -> Says; 5] = [
        |_, _| fails("the connection to the shop broke"),
        |_, _| Says::Panics,
        |_, _| Says::Nothing,
        |_, _| Says::Words("done"),
        |_, request| Says::Data(json!({"key": request["key"], "outcome": {"kind": "perhaps"}})),
    ];
    let cases = executed.map(|execute| doubted(execute, probed_done));
    for Doubted { incident, resolution } in join_all(cases).await {
        assert_eq!(resolution.asked("execute").len(), 1, "{}", texts(&incident));
        assert_eq!(count(&incident, "step_started"), 1, "{}", texts(&incident));
        assert_eq!(count(&incident, "step_doubted"), 1, "{}", texts(&incident));
        assert_eq!(incident["remediation_actions"][0]["success"], true, "{}", texts(&incident));
        // The checks never pass, since this agent never restarted anything: that is not taken for success.
        assert_eq!(incident["phase"], "escalated", "{}", texts(&incident));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_cannot_tell_is_handed_to_a_person_with_the_lock_kept() {
    let probes: [fn(usize, &Value) -> Says; 5] = [
        |_, request| {
            Says::Data(json!({"key": request["key"], "verdict": {"kind": "cannot_tell", "why": "no access"}}))
        },
        |_, _| fails("no access"),
        |_, _| Says::Nothing,
        |_, _| Says::Data(json!({"key": "x/y/z", "verdict": {"kind": "done", "changes": []}})),
        |_, _| Says::Data(json!("yes")),
    ];
    let cases = probes.map(|probe| doubted(|_, _| fails("broken pipe"), probe));
    for (number, Doubted { incident, resolution }) in join_all(cases).await.into_iter().enumerate() {
        assert_eq!(incident["phase"], "escalated", "{number}: {}", texts(&incident));
        let unknown = &incident["question"]["unknown_step"];
        assert_eq!(unknown["lock"]["target"], "shop", "{number}: {}", texts(&incident));
        assert_eq!(resolution.asked("execute").len(), 1, "{number}: {}", texts(&incident));
        assert_eq!(resolution.asked("undo").len(), 0, "{number}: {}", texts(&incident));
        assert_eq!(incident["remediation_actions"][0]["success"], Value::Null, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_cannot_be_read_never_pass() {
    let verifies: [fn(usize, &Value) -> Says; 6] = [
        |_, _| fails("no metrics"),
        |_, _| Says::Panics,
        |_, _| Says::Data(json!({"verdict": "passed"})),
        |_, _| Says::Data(checks("inconclusive")),
        |_, _| Says::Words("passed"),
        |_, _| {
            // Read before the step was done.
            let mut old = checks("passed");
            old["read_at"] = json!("2026-01-31T12:00:00Z");
            Says::Data(old)
        },
    ];
    let cases = verifies.map(|verify| async move {
        let executed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&executed);
        let diagnostic = Scripts::diagnostic().serve().await;
        let resolution = Scripts::resolution()
            .with("execute", move |_, request| {
                executed.store(true, Ordering::SeqCst);
                Says::Data(json!({"key": request["key"], "outcome": done()}))
            })
            .with("verify", move |before, request| {
                // Before the first step the fault is there.
                if seen.load(Ordering::SeqCst) {
                    verify(before, request)
                } else {
                    Says::Data(checks("failed"))
                }
            })
            .serve()
            .await;
        let options = working_with(diagnostic.address, resolution.address)
            .replacing("verification_grace: 60s", "verification_grace: 1s, alert_pipeline_delay: 0s");
        let sandbox = Sandbox::start(options).await.unwrap();
        open(&sandbox).await;
        let incident = escalated(&sandbox).await;
        assert_eq!(resolution.asked("execute").len(), 1, "{}", texts(&incident));
        incident
    });
    for (number, incident) in join_all(cases).await.into_iter().enumerate() {
        let why = incident["question"]["text"].as_str().unwrap();
        assert!(why.contains("the checks"), "{number}: {why}");
        assert!(incident["resolution"].is_null(), "{number}: {}", texts(&incident));
    }
}

/// Words of an agent are shown, and obeyed by nothing: bounded, and free of what a terminal would take for orders.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_talks_too_much() {
    let long = "no \u{1b}[2J".repeat(20_000);
    let fails = move |_: usize, _: &Value| Says::Fails(long.clone());
    let diagnostic = Scripts::default().with("diagnose", fails).serve().await;
    let down = nobody();
    let options = working_with(diagnostic.address, down.address);
    let incident = gives_up("too much", options, 3, &["the diagnostic agent", "failed"]).await;
    assert!(!incident.to_string().contains("\\u001b"), "a terminal would obey this");
    assert!(incident.to_string().len() < 20_000, "{} bytes", incident.to_string().len());
}
