//! The agents as one life of the coordinator meets them: answers come late, twice, never, or to another key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use quell_incident::contract::{
    CheckResult, DiagnoseRequest, PlanAnswer, PlanRequest, ProbeAnswer, StepAnswer, StepRequest, Verdict,
    VerificationReport, VerifyRequest,
};
use quell_incident::ids::Digest;
use quell_incident::report::{Claim, REPORT_SCHEMA, Subject};
use quell_incident::{Event, Hypothesis, Priority, Report};
use quell_store::IncidentStore as _;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::life::Life;
use super::resolution::Resolution;
use super::world::{World, target_name};
use crate::agents::{AgentError, Diagnosis, Room, Wanted, Workers};

/// Both agents, which outlive the coordinator.
pub(super) struct Agents {
    pub(super) world: Arc<World>,
    pub(super) resolution: Arc<Resolution>,
    /// The same message again finds the same task.
    reports: Mutex<BTreeMap<String, Report>>,
    /// What was asked under each key: the real agents refuse another content under it.
    asked: Mutex<BTreeMap<String, Digest>>,
}

impl Agents {
    pub(super) fn of(world: Arc<World>) -> Arc<Self> {
        let resolution = Resolution::of(Arc::clone(&world));
        Arc::new(Self { world, resolution, reports: Mutex::default(), asked: Mutex::default() })
    }

    /// A key stands for one request, byte for byte, whatever happened to the incident or the coordinator between asking and asking again.
    fn must_be_the_same(&self, key: &str, request: &impl Serialize) {
        let content = Digest::of(request).unwrap();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if *asked.entry(key.to_owned()).or_insert(content) != content {
            self.world.violated(format!("{key} was asked again with another content"));
        }
    }

    /// With the document that it cites, which is the same whenever it is asked for.
    fn diagnosis(&self, key: &str, request: &DiagnoseRequest) -> Diagnosis {
        let mut report = self.report(key, request);
        let case = format!("the evidence of {key}").into_bytes();
        report.case = Some(Digest::of_bytes(&case));
        Diagnosis { report, case: Some(case) }
    }

    fn report(&self, key: &str, request: &DiagnoseRequest) -> Report {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = reports.get(key) {
            return report.clone();
        }
        let confidence = self.world.draw(|dice| if dice.percent(80) { 0.9 } else { 0.4 });
        let knows = self.world.draw(|dice| dice.percent(92));
        let claim = Claim::new("test", "it is slow".to_owned(), vec!["m1".to_owned()]).unwrap();
        let cause = Hypothesis::new(
            "slow",
            Subject::default(),
            "it is slow".to_owned(),
            confidence,
            vec![claim],
            Vec::new(),
        );
        let report = Report {
            schema: REPORT_SCHEMA.to_owned(),
            incident_id: request.incident.id,
            reference_time: request.reference_time,
            root_cause: cause.filter(|_| knows),
            abstained: None,
            alternatives: Vec::new(),
            evidence: Vec::new(),
            unavailable: Vec::new(),
            second_opinion: None,
            engine: "simulation".to_owned(),
            case: None,
        };
        reports.insert(key.to_owned(), report.clone());
        report
    }

    fn checks(&self, request: &VerifyRequest) -> VerificationReport {
        let broken = request.checks.iter().any(|check| self.world.is_broken(&target_name(&check.metric)));
        let verdict = match broken {
            _ if self.world.mishap(10) => Verdict::Inconclusive,
            true => Verdict::Failed,
            false => Verdict::Passed,
        };
        let check = CheckResult {
            name: "fast".to_owned(),
            verdict,
            value: None,
            statement: format!("{verdict:?}"),
            query: "latency".to_owned(),
        };
        VerificationReport {
            schema: "quell/verification/v1".to_owned(),
            verdict,
            checks: vec![check],
            read_at: self.world.now(),
        }
    }
}

/// The way from one life of the coordinator to the agents.
pub(super) struct Line {
    pub(super) agents: Arc<Agents>,
    pub(super) life: Arc<Life>,
}

impl Line {
    /// Carries a request to its agent and the answer back. The agent works on, whoever waits; some requests arrive once more, later.
    async fn carry<T: Send + 'static>(
        &self,
        what: &'static str,
        within: Duration,
        work: impl Fn() -> BoxFuture<'static, T> + Send + 'static,
    ) -> Result<T, AgentError> {
        let world = Arc::clone(&self.agents.world);
        let failed = |why: &str| AgentError::Failed { agent: "simulated", skill: what, why: why.to_owned() };
        self.life.point(what).await;
        world.note(|| format!("life {} asks: {what}", self.life.number));
        if world.mishap(5) {
            return Err(failed("it could not be reached"));
        }
        let (answer, answered) = oneshot::channel();
        let (again, travelling) = (world.mishap(15), Arc::clone(&world));
        tokio::spawn(async move {
            travelling.travel().await;
            let done = work().await;
            if again {
                let travelling = Arc::clone(&travelling);
                tokio::spawn(async move {
                    sleep(travelling.draw(|dice| dice.seconds(0, 40))).await;
                    work().await;
                });
            }
            travelling.travel().await;
            if !travelling.mishap(4) {
                // Nobody may wait for it any more.
                let _ = answer.send(done);
            }
        });
        let arrived = tokio::time::timeout(within, answered).await;
        self.life.point(what).await;
        match arrived {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(failed("the connection broke")),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// An effect is asked for only after its event is on the disk.
    fn must_be_durable(&self, request: &StepRequest) {
        let log = self.agents.world.disk.log(request.incident_id).now_or_never();
        let started = log.and_then(Result::ok).is_some_and(|log| {
            log.iter().any(
                |envelope| matches!(&envelope.event, Event::StepStarted { key, .. } if *key == request.key),
            )
        });
        if !started {
            self.agents.world.violated(format!("{} was asked for before it was on disk", request.key));
        }
    }
}

#[async_trait]
impl Workers for Line {
    async fn room(
        &self,
        _wanted: Wanted,
        _priority: Priority,
        _within: Duration,
    ) -> Result<Room, AgentError> {
        Ok(Room::without_bound())
    }

    async fn diagnose(
        &self,
        _room: &Room,
        key: &str,
        request: &DiagnoseRequest,
        within: Duration,
    ) -> Result<Diagnosis, AgentError> {
        self.agents.must_be_the_same(key, request);
        let (agents, key, request) = (Arc::clone(&self.agents), key.to_owned(), request.clone());
        let work = move || {
            let (agents, key, request) = (Arc::clone(&agents), key.clone(), request.clone());
            async move { agents.diagnosis(&key, &request) }.boxed()
        };
        self.carry("diagnose", within, work).await
    }

    async fn plan(
        &self,
        _room: &Room,
        key: &str,
        request: &PlanRequest,
        within: Duration,
        now: Timestamp,
    ) -> Result<PlanAnswer, AgentError> {
        self.agents.must_be_the_same(key, request);
        let (agents, key, request) = (Arc::clone(&self.agents), key.to_owned(), request.clone());
        let work = move || {
            let (agents, key, request) = (Arc::clone(&agents), key.clone(), request.clone());
            async move { agents.resolution.plan(&key, &request) }.boxed()
        };
        match self.carry("plan", within, work).await? {
            // As the real one.
            PlanAnswer::Plan { plan } if plan.valid_until <= now => {
                let why = format!("the plan was valid until {}; do the clocks agree?", plan.valid_until);
                Err(AgentError::Failed { agent: "resolution", skill: "plan", why })
            }
            answer => Ok(answer),
        }
    }

    async fn step(
        &self,
        _priority: Priority,
        request: &StepRequest,
        within: Duration,
    ) -> Result<StepAnswer, AgentError> {
        self.must_be_durable(request);
        self.agents.must_be_the_same(request.key.as_str(), request);
        let (agents, asked) = (Arc::clone(&self.agents), request.clone());
        let work = move || {
            let (agents, request) = (Arc::clone(&agents), asked.clone());
            async move { Arc::clone(&agents.resolution).execute(request).await }.boxed()
        };
        self.carry("step", within, work).await
    }

    async fn probe(
        &self,
        _priority: Priority,
        _message_id: String,
        request: &StepRequest,
        within: Duration,
    ) -> Result<ProbeAnswer, AgentError> {
        self.must_be_durable(request);
        let (agents, asked) = (Arc::clone(&self.agents), request.clone());
        let work = move || {
            let (agents, request) = (Arc::clone(&agents), asked.clone());
            async move { Arc::clone(&agents.resolution).probe(request).await }.boxed()
        };
        self.carry("probe", within, work).await
    }

    async fn verify(
        &self,
        _priority: Priority,
        _message_id: String,
        request: &VerifyRequest,
        within: Duration,
    ) -> Result<VerificationReport, AgentError> {
        let (agents, request) = (Arc::clone(&self.agents), request.clone());
        let work = move || {
            let (agents, request) = (Arc::clone(&agents), request.clone());
            async move { agents.checks(&request) }.boxed()
        };
        self.carry("verify", within, work).await
    }
}
