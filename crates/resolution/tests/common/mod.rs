//! A simulator, a resolution agent in front of it, and a client that speaks A2A to the agent.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_a2a::{Client, ClientOptions, Message, Part, TaskState};
use quell_incident::contract::{
    IncidentBrief, Introduced, Introduction, PlanAnswer, PlanRequest, ProbeAnswer, StepAnswer, StepOutcome,
    StepRequest, TargetLock, Verdict, VerificationReport, VerifyRequest,
};
use quell_incident::ids::FencingToken;
use quell_incident::incident::Approval;
use quell_incident::plan::Undo;
use quell_incident::report::{Claim, Hypothesis, REPORT_SCHEMA, Report, Subject};
use quell_incident::{
    IncidentId, Labels, Permit, PermittedSkill, Plan, Priority, Severity, SignedPermit, StepKey,
};
use quell_resolution::{Handle, Setup, start};
use quell_service::{Clock as _, Config, FaultPoints, Period, SystemClock, SystemIds};
use quell_sign::SigningKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long a condition is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

pub(crate) async fn simulator() -> quell_simulator::Handle {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = quell_simulator::Config::new(Arc::new(now));
    config.metrics_port = 0;
    config.tick = Duration::from_millis(100);
    config.seed = Some(7);
    quell_simulator::start(config).await.unwrap()
}

pub(crate) fn url(simulator: &quell_simulator::Handle) -> String {
    format!("http://{}", simulator.addresses()[0])
}

/// The shipped defaults, but for addresses, folder and pace.
pub(crate) fn defaults(simulator: &quell_simulator::Handle, folder: &Path) -> Config {
    let mut config = Config::default();
    config.simulator.url = url(simulator).parse().unwrap();
    let pages = simulator.addresses().map(|address| format!("http://{address}/metrics").parse().unwrap());
    config.simulator.metrics_urls = pages.to_vec();
    config.diagnostic.scrape_interval = Period::milliseconds(100);
    config.resolution.listen = "127.0.0.1:0".parse().unwrap();
    config.resolution.data_dir = Some(folder.to_owned());
    config
}

pub(crate) fn switched_on(simulator: &quell_simulator::Handle, folder: &Path) -> Config {
    let mut config = defaults(simulator, folder);
    config.agents.resolution.execute_real_commands = true;
    config.agents.resolution.dry_run = false;
    config
}

pub(crate) async fn agent(config: Config) -> Handle {
    agent_with(config, FaultPoints::disabled()).await
}

pub(crate) async fn agent_with(config: Config, faults: FaultPoints) -> Handle {
    let clock = Arc::new(SystemClock);
    let ids = Arc::new(SystemIds::new(clock.clone()));
    start(Setup { config, clock, ids, faults }).await.unwrap()
}

/// Asks the agent as the coordinator does.
#[derive(Clone)]
pub(crate) struct Asker(Client);

impl Asker {
    pub(crate) fn of(handle: &Handle) -> Self {
        Self::with(handle, ClientOptions::default())
    }

    pub(crate) fn over(client: Client) -> Self {
        Self(client)
    }

    pub(crate) fn with(handle: &Handle, options: ClientOptions) -> Self {
        Self(Client::connect_lazy(&format!("http://{}", handle.address()), options).unwrap())
    }

    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        skill: &str,
        request: &impl Serialize,
    ) -> Result<T, String> {
        let id = uuid::Uuid::now_v7().to_string();
        let data = serde_json::to_value(request).unwrap();
        let message = Message::user(id, vec![Part::data(data)]).with_skill(skill);
        let task = self.0.run(message, PATIENCE).await.map_err(|error| error.to_string())?;
        if task.state() != TaskState::Completed {
            return Err(task.status.message.as_ref().map(Message::text).unwrap_or_default());
        }
        let data = task.artifacts.iter().find_map(|artifact| artifact.data()).unwrap().clone();
        serde_json::from_value(data).map_err(|error| error.to_string())
    }

    pub(crate) async fn plan(&self, request: &PlanRequest) -> Plan {
        let mut request = request.clone();
        loop {
            match self.ask("plan", &request).await.unwrap() {
                PlanAnswer::Plan { plan } => return *plan,
                // As the coordinator does when the other incident is over.
                PlanAnswer::Taken { incident_id, .. } => {
                    assert!(!request.despite.contains(&incident_id), "{incident_id} counts all the same");
                    request.despite.push(incident_id);
                }
                PlanAnswer::NoPlan { why } => panic!("no plan: {why}"),
            }
        }
    }

    pub(crate) async fn step(&self, request: &StepRequest) -> StepOutcome {
        let (name, skill) = match request.undo {
            true => ("undo", PermittedSkill::Undo),
            false => ("execute", PermittedSkill::Execute),
        };
        let request = permitted(request, skill, approved(request), &permit_key());
        self.ask::<StepAnswer>(name, &request).await.unwrap().outcome
    }

    pub(crate) async fn probe(&self, request: &StepRequest) -> ProbeAnswer {
        let request = permitted(request, PermittedSkill::Probe, Vec::new(), &permit_key());
        self.ask("probe", &request).await.unwrap()
    }

    pub(crate) async fn introduce(&self, key: &SigningKey) -> Introduced {
        let schema = "quell/introduction/v1".to_owned();
        let introduction = Introduction { schema, public_key: key.public().to_string() };
        self.ask("introduce", &introduction).await.unwrap()
    }

    pub(crate) async fn verify(&self, plan: &Plan, since: Option<Timestamp>) -> VerificationReport {
        let request = VerifyRequest {
            schema: "quell/verify/v1".to_owned(),
            incident_id: plan.incident_id,
            checks: plan.checks.clone(),
            since,
        };
        self.ask("verify", &request).await.unwrap()
    }

    /// Verifies again and again until the verdict is the wanted one.
    pub(crate) async fn verified(
        &self,
        plan: &Plan,
        since: Option<Timestamp>,
        wanted: Verdict,
    ) -> VerificationReport {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let report = self.verify(plan, since).await;
            if report.verdict == wanted {
                return report;
            }
            assert!(tokio::time::Instant::now() < deadline, "not {wanted:?} in time: {report:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(crate) fn plan_request(cause: &str, subject: Subject) -> PlanRequest {
    let id = IncidentId(uuid::Uuid::now_v7());
    let claim = Claim::new("test", "seen".to_owned(), vec!["m1".to_owned()]).unwrap();
    let cause = Hypothesis::new(cause, subject, "it is so".to_owned(), 0.9, vec![claim], Vec::new()).unwrap();
    PlanRequest {
        schema: "quell/plan-request/v1".to_owned(),
        incident: IncidentBrief {
            id,
            title: "a fault".to_owned(),
            alert_name: "Fault".to_owned(),
            priority: Priority::P1,
            severity: Severity::High,
            affected_systems: Vec::new(),
            started_at: now(),
            alerts: Vec::new(),
            labels: Labels::default(),
        },
        report: Some(Report {
            schema: REPORT_SCHEMA.to_owned(),
            incident_id: id,
            reference_time: now(),
            root_cause: Some(cause),
            abstained: None,
            alternatives: Vec::new(),
            evidence: Vec::new(),
            unavailable: Vec::new(),
            second_opinion: None,
            engine: "test".to_owned(),
            case: None,
        }),
        exclude: Vec::new(),
        runbook: None,
        despite: Vec::new(),
    }
}

pub(crate) fn subject(service: &str, instance: &str, part: &str) -> Subject {
    Subject { service: service.to_owned(), instance: instance.to_owned(), part: part.to_owned() }
}

pub(crate) fn step_request(
    plan: &Plan,
    index: usize,
    try_number: u32,
    undo: bool,
    token: u64,
) -> StepRequest {
    let step = &plan.steps[index];
    let digest = plan.digest().unwrap();
    StepRequest {
        schema: "quell/step/v1".to_owned(),
        incident_id: plan.incident_id,
        key: StepKey::of(plan.incident_id, 1, &digest, &step.name, try_number, undo),
        plan_digest: digest,
        step: step.clone(),
        undo,
        agent: plan.agent.clone(),
        lock: TargetLock { target: step.target.clone(), token: FencingToken(token) },
        started_at: now(),
        not_after: now() + SignedDuration::from_secs(60),
        permit: None,
    }
}

/// The coordinator's key.
pub(crate) fn permit_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

/// The same with a permit for it, signed with this key.
pub(crate) fn permitted(
    request: &StepRequest,
    skill: PermittedSkill,
    approvals: Vec<Approval>,
    key: &SigningKey,
) -> StepRequest {
    let permit = Permit::of(request, skill, approvals, request.not_after).unwrap();
    let signature = key.sign(&permit.signed_bytes().unwrap()).unwrap();
    let permit = Some(SignedPermit { permit, public_key: key.public().to_string(), signature });
    StepRequest { permit, ..request.clone() }
}

/// Agreed to by somebody.
pub(crate) fn approved(request: &StepRequest) -> Vec<Approval> {
    vec![Approval { by: "mei".to_owned(), digest: request.plan_digest, at: now() }]
}

pub(crate) fn has_inverse(plan: &Plan, index: usize) -> bool {
    matches!(plan.steps[index].undo, Undo::Inverse { .. })
}

pub(crate) async fn get(url: String) -> Value {
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

pub(crate) async fn trigger(simulator: &quell_simulator::Handle, scenario: &str) {
    let answer =
        reqwest::Client::new().post(format!("{}/trigger/{scenario}", url(simulator))).send().await.unwrap();
    assert!(answer.status().is_success());
}

pub(crate) async fn scenario(simulator: &quell_simulator::Handle, name: &str) -> Value {
    let all = get(format!("{}/scenarios", url(simulator))).await;
    all.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
}

pub(crate) async fn actions(simulator: &quell_simulator::Handle) -> Vec<Value> {
    get(format!("{}/actions", url(simulator))).await.as_array().unwrap().clone()
}
