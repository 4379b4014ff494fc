//! Two coordinators on one real PostgreSQL: one dies or stands still at the worst instant, the other takes over, and what the first one
//! does when it goes on, or has sent before, has no effect.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic, and what was measured is shown"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use quell_sandbox::{Options, Part, Sandbox, until};
use quell_service::FaultPoints;
use quell_store::testing::{ClusterError, PostgresCluster};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

const WITHIN: Duration = Duration::from_secs(60);
/// Within this another coordinator works on what one had that died or stands still.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);
/// As the body of an `execute` says it, and of no other request before the first `execute`.
const STEP: &[u8] = b"quell/step/v1";
const RUNBOOK: &str = include_str!("../../remedy/runbooks/memory-restart-service.yaml");

fn cluster() -> Option<PostgresCluster> {
    match PostgresCluster::start() {
        Ok(cluster) => {
            cluster.create_database("site").unwrap();
            Some(cluster)
        }
        Err(missing @ ClusterError::Missing) => {
            println!("skipped: two coordinators on PostgreSQL: {missing}");
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn on(options: Options, cluster: &PostgresCluster) -> Options {
    let setting = format!("coordinator:\n  database_url: \"{}\"\n", cluster.url("site"));
    options.replacing("coordinator:\n", &setting)
}

/// A second coordinator with the agents of the first one's site.
async fn successor(options: Options, cluster: &PostgresCluster, first: &Sandbox) -> Sandbox {
    // Both sign with one key: that of the first one, which the agent takes for the coordinator's.
    let key = first.folder().join("coordinator").join("permit.key");
    let key = format!("coordinator:\n  signing_key_file: \"{}\"\n", key.display());
    let mut options = on(options, cluster).replacing("coordinator:\n", &key).coordinator_alone();
    for part in [Part::Diagnostic, Part::Resolution] {
        options = options.agent_at(part, first.agent(part).unwrap());
    }
    Sandbox::start(options).await.unwrap()
}

async fn whole(sandbox: &Sandbox, id: &str) -> Value {
    sandbox.get(&format!("/api/incidents/{id}")).await.unwrap()
}

fn kinds(incident: &Value) -> Vec<&str> {
    incident["timeline"].as_array().unwrap().iter().map(|line| line["type"].as_str().unwrap()).collect()
}

fn count(incident: &Value, kind: &str) -> usize {
    kinds(incident).iter().filter(|other| **other == kind).count()
}

/// Waits until there is an event of that kind, and returns the incident.
async fn event(sandbox: &Sandbox, id: &str, kind: &str, within: Duration) -> Value {
    let found = until(kind, within, async || {
        let incident = whole(sandbox, id).await;
        if count(&incident, kind) > 0 { Ok(incident) } else { Err(format!("{:?}", kinds(&incident))) }
    });
    found.await.unwrap_or_else(|error| panic!("{error}"))
}

async fn closed(sandbox: &Sandbox) -> Value {
    let is_closed = |incident: &Value| incident["status"] == "closed";
    sandbox.incident("the incident to be closed", WITHIN, is_closed).await.unwrap()
}

/// How often the resolution agent has given such an answer.
async fn answers(sandbox: &Sandbox, skill: &str, outcome: &str) -> u64 {
    let page = format!("http://{}/metrics", sandbox.agent(Part::Resolution).unwrap());
    let text = sandbox.client().get(page).send().await.unwrap().text().await.unwrap();
    let line = format!("quell_resolution_answers_total{{skill=\"{skill}\",outcome=\"{outcome}\"}} ");
    let count = text.lines().find_map(|other| other.strip_prefix(&line));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

fn id_of(incident: &Value) -> String {
    incident["id"].as_str().unwrap().to_owned()
}

/// Passes on what goes between a coordinator and the resolution agent, and holds the first `execute` on its way.
#[derive(Clone)]
struct Network {
    address: SocketAddr,
    way: Arc<Way>,
}

#[derive(Default)]
struct Way {
    agent: OnceLock<SocketAddr>,
    has_held: AtomicBool,
    held: Notify,
    delivered: Notify,
}

impl Network {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = Self { address: listener.local_addr().unwrap(), way: Arc::default() };
        let way = Arc::clone(&network.way);
        tokio::spawn(async move {
            while let Ok((coordinator, _)) = listener.accept().await {
                let Some(agent) = way.agent.get() else { continue };
                let Ok(agent) = TcpStream::connect(agent).await else { continue };
                let (mut from_coordinator, mut to_coordinator) = coordinator.into_split();
                let (mut from_agent, mut to_agent) = agent.into_split();
                let way = Arc::clone(&way);
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = from_coordinator.read(&mut bytes).await {
                        let is_step = bytes[..read].windows(STEP.len()).any(|part| part == STEP);
                        if is_step && !way.has_held.swap(true, Ordering::SeqCst) {
                            way.held.notify_one();
                            way.delivered.notified().await;
                        }
                        if to_agent.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                });
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = from_agent.read(&mut bytes).await {
                        if to_coordinator.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        network
    }

    async fn has_held_an_execute(&self) {
        tokio::time::timeout(WITHIN, self.way.held.notified()).await.expect("an `execute` was sent");
    }

    fn deliver(&self) {
        self.way.delivered.notify_one();
    }
}

/// The first coordinator has started a step and told the agent, its `execute` is still on its way, and it stands still past its lease. The
/// second one finds the step without an outcome, probes its key, which seals it, and tries again under a new key. Then the packet
/// arrives, and the first coordinator goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_execute_after_a_successors_probe_is_refused_by_the_ledger() {
    let Some(cluster) = cluster() else { return };
    let runbooks = tempfile::tempdir().unwrap();
    // In doubt before the successor comes: it probes instead of saying the same again.
    assert!(RUNBOOK.contains("timeout: 60s"));
    let quick = RUNBOOK.replace("timeout: 60s", "timeout: 1s");
    std::fs::write(runbooks.path().join("memory-restart-service.yaml"), quick).unwrap();
    let setting = format!("resolution: {{runbook_dir: {}, listen", json!(runbooks.path()));
    let common = || Options::default().replacing("step_grace: 2s", "step_grace: 500ms");
    let network = Network::new().await;
    let options = on(common(), &cluster)
        .replacing("resolution: {listen", &setting)
        .agent_at(Part::Resolution, network.address);
    let first = Sandbox::start(options).await.unwrap();
    network.way.agent.set(first.agent(Part::Resolution).unwrap()).unwrap();
    first.trigger("memory_leak", None).await.unwrap();
    // While there is one alone, it is the one that works on the incident.
    let id = id_of(&first.incident("an incident", WITHIN, |_| true).await.unwrap());
    let second = successor(common(), &cluster, &first).await;

    network.has_held_an_execute().await;
    let stopped = first.stop(Part::Coordinator).await.unwrap();
    let since = Instant::now();
    let before = whole(&second, &id).await;
    assert_eq!(kinds(&before).last(), Some(&"step_started"), "{before:#}");
    event(&second, &id, "step_doubted", TAKEN_OVER_WITHIN).await;
    let taken_over = since.elapsed();
    println!("taken over {:.1} s after the other one stood still", taken_over.as_secs_f64());
    assert!(taken_over <= TAKEN_OVER_WITHIN, "{taken_over:?}");
    let done = event(&second, &id, "verification_started", WITHIN).await;
    assert_eq!(count(&done, "step_started"), 2, "{done:#}");
    assert_eq!(first.actions().await.unwrap().len(), 1);

    // The probe found a key that the ledger had not seen, and so sealed it; the ledger is asked before everything else.
    assert_eq!(answers(&first, "probe", "not_done").await, 1);
    assert_eq!(answers(&first, "execute", "done").await, 1);
    assert_eq!(answers(&first, "execute", "refused").await, 0);
    network.deliver();
    let refused = until("the late `execute` to be refused", WITHIN, async || {
        let refused = answers(&first, "execute", "refused").await;
        if refused == 1 { Ok(()) } else { Err(refused.to_string()) }
    });
    refused.await.unwrap_or_else(|error| panic!("{error}"));
    drop(stopped);
    let end = closed(&second).await;
    assert_eq!(end["resolution"]["by"], "runbook", "{end:#}");
    let steps = end["remediation_actions"].as_array().unwrap();
    let keys: Vec<_> = steps.iter().map(|step| step["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_ne!(keys[0], keys[1]);
    let actions = first.actions().await.unwrap();
    assert_eq!(actions.len(), 1, "{actions:#?}");
    assert_eq!(actions[0]["key"], keys[1], "the sealed key did nothing");
    assert_eq!(answers(&first, "execute", "done").await, 1);
    // Neither what the first one was told nor what it knew became an event.
    assert_eq!(count(&end, "step_ended"), 2, "{:?}", kinds(&end));
}

/// The first coordinator has decided to start a step and stands still before that is on disk. The second one starts it. When the first
/// one goes on, its append is refused, and so it tells the agent nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_from_before_a_successor_came_is_refused_by_the_store() {
    let Some(cluster) = cluster() else { return };
    let faults = FaultPoints::counting();
    let mut options = on(Options::default().asking(), &cluster);
    options.faults.insert(Part::Coordinator, faults.clone());
    let first = Sandbox::start(options).await.unwrap();
    first.trigger("memory_leak", None).await.unwrap();
    let asks = |incident: &Value| incident["phase"] == "awaiting_approval";
    let asking = first.incident("a question", WITHIN, asks).await.unwrap();
    let id = id_of(&asking);
    let second = successor(Options::default().asking(), &cluster, &first).await;

    let appends = || {
        let counts = faults.counts();
        ["coordinator.append.before", "coordinator.append.after"].map(|name| counts[name])
    };
    let [before, after] = appends();
    assert_eq!(before, after, "nothing is under way while a person is asked");
    let (told, stands) = oneshot::channel();
    let (go_on, stopped) = std::sync::mpsc::channel::<()>();
    faults.stall("coordinator.append.before", before + 1, move || {
        let _ = told.send(());
        let _ = stopped.recv();
    });
    let digest = json!({"plan_digest": asking["question"]["plan_digest"]});
    second.post(&format!("/api/incidents/{id}/approve"), &digest).await.unwrap();
    tokio::time::timeout(WITHIN, stands).await.unwrap().unwrap();
    let since = Instant::now();
    let decided = whole(&second, &id).await;
    assert_eq!(kinds(&decided).last(), Some(&"execution_started"), "{decided:#}");

    event(&second, &id, "step_started", TAKEN_OVER_WITHIN).await;
    let taken_over = since.elapsed();
    println!("taken over {:.1} s after the other one stood still", taken_over.as_secs_f64());
    assert!(taken_over <= TAKEN_OVER_WITHIN, "{taken_over:?}");
    event(&second, &id, "verification_started", WITHIN).await;
    drop(go_on);
    let end = closed(&second).await;
    assert_eq!(end["resolution"]["by"], "runbook", "{end:#}");
    assert_eq!(count(&end, "step_started"), 1, "{:?}", kinds(&end));
    assert_eq!(first.actions().await.unwrap().len(), 1);
    // What was decided before standing still came to the store, and was not taken.
    let refused = until("the first one's append to be refused", WITHIN, async || {
        let [before, after] = appends();
        if before > after { Ok(()) } else { Err(format!("{before} begun, {after} taken")) }
    });
    refused.await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(whole(&first, &id).await["status"], "closed", "it works again");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_coordinator_takes_over_within_ten_seconds_of_a_death() {
    let Some(cluster) = cluster() else { return };
    let faults = FaultPoints::counting();
    let (told, dies) = oneshot::channel();
    faults.arm("coordinator.plan.before", 1, move |_| {
        let _ = told.send(());
    });
    let mut options = on(Options::default(), &cluster);
    options.faults.insert(Part::Coordinator, faults);
    let mut first = Sandbox::start(options).await.unwrap();
    first.trigger("memory_leak", None).await.unwrap();
    let id = id_of(&first.incident("an incident", WITHIN, |_| true).await.unwrap());
    let second = successor(Options::default(), &cluster, &first).await;
    tokio::time::timeout(WITHIN, dies).await.unwrap().unwrap();
    first.kill(Part::Coordinator);
    let since = Instant::now();
    assert_eq!(count(&whole(&second, &id).await, "planned"), 0);
    event(&second, &id, "planned", TAKEN_OVER_WITHIN).await;
    let taken_over = since.elapsed();
    println!("taken over {:.1} s after the other one died", taken_over.as_secs_f64());
    assert!(taken_over <= TAKEN_OVER_WITHIN, "{taken_over:?}");
    // Webhooks go there.
    first.restart(Part::Coordinator).await.unwrap();
    let end = closed(&second).await;
    assert_eq!(end["resolution"]["by"], "runbook", "{end:#}");
    assert_eq!(first.actions().await.unwrap().len(), 1);
}
