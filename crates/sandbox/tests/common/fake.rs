//! Agents that answer as a test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use quell_a2a::{
    Access, AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Caller, Outcome, ServerOptions, Skill,
    SkillError, TaskManager, TaskOptions, Work,
};
use quell_sandbox::{Options, Part};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What a skill does when it is asked.
pub(crate) enum Says {
    /// Completes with this document.
    Data(Value),
    /// Completes without a data part.
    Words(&'static str),
    /// Fails with these words.
    Fails(String),
    /// Panics.
    Panics,
    /// Rejects the request with these words.
    Rejects(&'static str),
    /// Completes with this document once it is told to.
    Later(Arc<Notify>, Value),
    /// Never ends.
    Nothing,
}

/// Fails with these words.
pub(crate) fn fails(why: &str) -> Says {
    Says::Fails(why.to_owned())
}

type Script = Box<dyn Fn(usize, &Value) -> Says + Send + Sync>;

struct Scripted {
    id: &'static str,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    script: Script,
}

#[async_trait]
impl Skill for Scripted {
    fn id(&self) -> &str {
        self.id
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        let request = work.data().cloned().unwrap_or_default();
        let before = {
            let mut asked = self.asked.lock().unwrap();
            let before = asked.iter().filter(|(skill, _)| skill == self.id).count();
            asked.push((self.id.to_owned(), request.clone()));
            before
        };
        match (self.script)(before, &request) {
            Says::Data(data) => Ok(Outcome::data("answer", data)),
            Says::Words(words) => {
                let artifact = quell_a2a::Artifact::new("answer", vec![quell_a2a::Part::text(words)]);
                Ok(Outcome::completed(vec![artifact]))
            }
            Says::Fails(why) => Err(SkillError::failed(why)),
            Says::Panics => panic!("the skill is broken on purpose"),
            Says::Rejects(why) => Err(SkillError::rejected(why)),
            Says::Later(told, data) => {
                told.notified().await;
                Ok(Outcome::data("answer", data))
            }
            Says::Nothing => std::future::pending().await,
        }
    }
}

/// An agent made of scripts. Dropping it ends it.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    serving: JoinHandle<()>,
}

/// The scripts of an agent.
#[derive(Default)]
pub(crate) struct Scripts(Vec<(&'static str, Script)>);

impl Scripts {
    /// The same with a skill that is given how often it was asked before, and the request.
    pub(crate) fn with(
        mut self,
        id: &'static str,
        script: impl Fn(usize, &Value) -> Says + Send + Sync + 'static,
    ) -> Self {
        self.0.retain(|(known, _)| *known != id);
        self.0.push((id, Box::new(script)));
        self
    }

    /// A diagnostic agent that finds the shop slow.
    pub(crate) fn diagnostic() -> Self {
        Self::default().with("diagnose", |_, request| Says::Data(report(request)))
    }

    /// A resolution agent that restarts the shop, after which it is fast.
    pub(crate) fn resolution() -> Self {
        let restarted = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&restarted);
        Self::default()
            .with("plan", |_, request| Says::Data(planned(plan(request, 1))))
            .with("execute", move |_, request| {
                *restarted.lock().unwrap() = true;
                Says::Data(json!({"key": request["key"], "outcome": done()}))
            })
            .with("undo", |_, request| Says::Data(json!({"key": request["key"], "outcome": done()})))
            .with("probe", |_, request| {
                Says::Data(json!({"key": request["key"], "verdict": {"kind": "not_done"}}))
            })
            .with("verify", move |_, _| {
                let verdict = if *seen.lock().unwrap() { "passed" } else { "failed" };
                Says::Data(checks(verdict))
            })
    }

    /// Serves them on a free port, or on the given one.
    pub(crate) async fn serve_at(self, address: SocketAddr) -> Fake {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let card = card(address, &self.0);
        let skill = |(id, script): (&'static str, Script)| -> Arc<dyn Skill> {
            Arc::new(Scripted { id, asked: Arc::clone(&asked), script })
        };
        let skills = self.0.into_iter().map(skill).collect();
        let options = TaskOptions::new(|| uuid::Uuid::now_v7().to_string(), now);
        let manager = TaskManager::new(skills, options).unwrap();
        let server = ServerOptions::new(Access::Loopback(Caller::local()), now());
        let router = quell_a2a::router(Arc::new(manager), card, server).unwrap();
        let serving = tokio::spawn(async move {
            quell_service::serve(listener, router, std::future::pending()).await;
        });
        Fake { address, asked, serving }
    }

    pub(crate) async fn serve(self) -> Fake {
        self.serve_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }
}

impl Fake {
    /// The requests that a skill was given, in their order; the same message twice is one.
    pub(crate) fn asked(&self, skill: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(id, _)| id == skill).map(|(_, request)| request.clone()).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A coordinator alone that works with these two, quickly, and by itself.
pub(crate) fn working_with(diagnostic: SocketAddr, resolution: SocketAddr) -> Options {
    Options::default()
        .coordinator_alone()
        .agent_at(Part::Diagnostic, diagnostic)
        .agent_at(Part::Resolution, resolution)
        .replacing("agent_backoff: 200ms, agent_retries_max: 10", QUICK)
        .replacing("verify_interval: 200ms", "verify_interval: 50ms")
        .replacing("hold_look_again: 200ms", "hold_look_again: 50ms")
}

const QUICK: &str = "agent_backoff: 50ms, agent_retries_max: 3, diagnosis: 900ms, planning: 900ms";

#[allow(clippy::disallowed_methods, reason = "an agent of a test, in the time of the coordinator beside it")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

fn card(address: SocketAddr, skills: &[(&'static str, Script)]) -> AgentCard {
    let json = || vec!["application/json".to_owned()];
    let skill = |id: &str| AgentSkill {
        id: id.to_owned(),
        name: id.to_owned(),
        description: "As a test says".to_owned(),
        tags: vec!["test".to_owned()],
        ..AgentSkill::default()
    };
    AgentCard {
        name: "fake".to_owned(),
        description: "An agent of a test".to_owned(),
        supported_interfaces: vec![AgentInterface::grpc(address.to_string())],
        version: "0".to_owned(),
        capabilities: AgentCapabilities { streaming: Some(true), ..AgentCapabilities::default() },
        default_input_modes: json(),
        default_output_modes: json(),
        skills: skills.iter().map(|(id, _)| skill(id)).collect(),
        ..AgentCard::default()
    }
}

/// A report with a cause, for a [`DiagnoseRequest`](quell_incident::contract::DiagnoseRequest).
pub(crate) fn report(request: &Value) -> Value {
    let evidence = json!({
        "id": "m1", "kind": "metric", "source": "fake", "query": "latency", "from": request["reference_time"],
        "to": request["reference_time"], "summary": "latency is 4 s", "data": {"last": 4.5},
    });
    json!({
        "schema": "quell/report/v1", "incident_id": request["incident"]["id"], "reference_time": request["reference_time"],
        "root_cause": {
            "cause": "slow", "subject": {"service": "shop"}, "statement": "the shop is slow", "confidence": 0.9,
            "calibrated": false, "recommended_actions": ["restart_service"],
            "claims": [{"by": "test", "statement": "latency is 4 s", "evidence": ["m1"]}],
        },
        "alternatives": [], "evidence": [evidence], "unavailable": [], "engine": "fake",
    })
}

/// A plan of so many steps, for a [`PlanRequest`](quell_incident::contract::PlanRequest).
pub(crate) fn plan(request: &Value, steps: usize) -> Value {
    let call =
        json!({"tool": "deployment-system", "action": "restart_service", "target": "shop", "arguments": {}});
    let step = |number: usize| {
        json!({
            "name": format!("restart-{number}"), "title": "Restart the shop", "target": "shop", "call": call,
            "preview": {"summary": "restarts", "changes": []}, "undo": {"kind": "not_needed", "why": "a restart"},
            "timeout": "PT1S", "idempotent": false,
        })
    };
    json!({
        "schema": "quell/plan/v1", "incident_id": request["incident"]["id"], "runbook": "restart-shop",
        "runbook_digest": "0".repeat(64), "cause": "slow", "summary": "Restart the shop",
        "steps": (1..=steps).map(step).collect::<Vec<_>>(),
        "checks": [{"name": "fast", "metric": "latency", "labels": {}, "reduce": "last", "holds_if": "<", "value": 1.5}],
        "alert_look_back": "PT0S", "made_at": now(),
        "valid_until": now().saturating_add(SignedDuration::from_mins(10)).unwrap(),
        "agent": {"instance": "fake", "ledger": "l1"},
    })
}

/// The answer that has a plan.
pub(crate) fn planned(plan: Value) -> Value {
    json!({"kind": "plan", "plan": plan})
}

/// The outcome of a step that was done.
pub(crate) fn done() -> Value {
    json!({"kind": "done", "changes": [], "output": "restarted", "began_at": now(), "ended_at": now()})
}

/// The answer to `verify`.
pub(crate) fn checks(verdict: &str) -> Value {
    let check = json!({"name": "fast", "verdict": verdict, "value": 0.5, "statement": format!("latency says {verdict}"), "query": "latency"});
    json!({"schema": "quell/verification/v1", "verdict": verdict, "checks": [check], "read_at": now()})
}
