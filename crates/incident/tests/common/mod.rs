//! An incident with its log, driven through the workflow like the runner does it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::contract::{CheckResult, PlanAnswer, StepOutcome, Verdict, VerificationReport};
use quell_incident::gate::{AlertNow, LockState, World};
use quell_incident::ids::{
    Digest, FencingToken, IncidentId, Revision, RunbookName, SourceName, StepName, TargetName,
};
use quell_incident::incident::{Incident, Phase};
use quell_incident::mapping::Mapping;
use quell_incident::plan::*;
use quell_incident::report::{Claim as ReportClaim, Hypothesis, Report, Subject};
use quell_incident::workflow::{self, Autonomy, AutonomyOverride, Claim, Draft, Input, Policy, Refused};
use quell_incident::{Envelope, Event};

pub(crate) const START: i64 = 1_750_000_000;

pub(crate) struct Case {
    pub(crate) incident: Incident,
    pub(crate) log: Vec<Envelope>,
    pub(crate) now: Timestamp,
    pub(crate) policy: Policy,
    /// What the store would keep besides the log.
    pub(crate) locks: BTreeMap<TargetName, LockState>,
    pub(crate) world: World,
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

pub(crate) fn alert(name: &str) -> Alert {
    let labels: Labels =
        [("alertname", name), ("severity", "warning"), ("instance", "host-1:9090"), ("service", "shop")]
            .into_iter()
            .collect();
    Alert {
        key: AlertKey {
            source: SourceName::declared("alertmanager").unwrap(),
            fingerprint: Fingerprint::of(&labels),
        },
        status: AlertStatus::Firing,
        labels,
        annotations: Labels::default(),
        starts_at: at(-60),
        ends_at: None,
        generator_url: None,
    }
}

pub(crate) fn auto() -> Policy {
    Policy { execution_enabled: true, require_approval: false, autonomy: Autonomy::Auto, ..Policy::default() }
}

pub(crate) fn with_approval() -> Policy {
    Policy { execution_enabled: true, ..Policy::default() }
}

pub(crate) fn target(name: &str) -> TargetName {
    TargetName::declared(name).unwrap()
}

pub(crate) fn report(incident: IncidentId, confidence: f64) -> Report {
    let claims =
        ReportClaim::new("rule", "it is slow".to_owned(), vec!["m1".to_owned()]).into_iter().collect();
    let subject = Subject { service: "shop".to_owned(), ..Subject::default() };
    Report {
        schema: "quell/report/v1".to_owned(),
        incident_id: incident,
        reference_time: at(0),
        root_cause: Hypothesis::new(
            "slow",
            subject,
            "the shop is slow".to_owned(),
            confidence,
            claims,
            Vec::new(),
        ),
        abstained: None,
        alternatives: Vec::new(),
        evidence: Vec::new(),
        unavailable: Vec::new(),
        second_opinion: None,
        engine: "test".to_owned(),
        case: None,
    }
}

fn call(action: &str, on: &str) -> ActionCall {
    ActionCall {
        tool: "deployment-system".to_owned(),
        action: action.to_owned(),
        target: target(on),
        arguments: Default::default(),
    }
}

fn step(name: &str, on: &str, undo: Undo) -> Step {
    Step {
        name: StepName::declared(name).unwrap(),
        title: name.to_owned(),
        target: target(on),
        call: call(name, on),
        preview: StepPreview::default(),
        undo,
        timeout: SignedDuration::from_secs(30),
        idempotent: true,
    }
}

/// Three steps on two targets: one with an inverse, one that needs none, one with an inverse.
pub(crate) fn plan(incident: IncidentId, runbook: &str, now: Timestamp) -> Plan {
    Plan {
        schema: "quell/plan/v1".to_owned(),
        incident_id: incident,
        runbook: RunbookName::declared(runbook).unwrap(),
        runbook_digest: Digest::of_bytes(runbook.as_bytes()),
        cause: "slow".to_owned(),
        summary: format!("{runbook} the shop"),
        steps: vec![
            step("configure", "db-1", Undo::Inverse { call: call("configure-back", "db-1") }),
            step("restart", "shop", Undo::NotNeeded { why: "a restart".to_owned() }),
            step("scale", "shop", Undo::Inverse { call: call("scale-back", "shop") }),
        ],
        declared: BTreeMap::new(),
        level: None,
        checks: vec![Check {
            name: "fast".to_owned(),
            metric: "latency".to_owned(),
            labels: Labels::default(),
            reduce: Reduce::Last,
            divide_by: None,
            holds_if: Comparison::Less,
            value: 1.0,
        }],
        alert_look_back: SignedDuration::from_secs(60),
        made_at: now,
        valid_until: now.saturating_add(SignedDuration::from_mins(10)).unwrap(),
        agent: AgentIdentity { instance: "resolution".to_owned(), ledger: "l1".to_owned() },
    }
}

pub(crate) fn checks(verdict: Verdict, now: Timestamp) -> VerificationReport {
    let statement = format!("latency says {verdict:?}");
    VerificationReport {
        schema: "quell/verification/v1".to_owned(),
        verdict,
        checks: vec![CheckResult {
            name: "fast".to_owned(),
            verdict,
            value: None,
            statement,
            query: "latency".to_owned(),
        }],
        read_at: now,
    }
}

pub(crate) fn done(now: Timestamp) -> StepOutcome {
    let changes = vec![Change { what: "x".to_owned(), from: 1.into(), to: 2.into() }];
    StepOutcome::Done { changes, output: String::new(), began_at: now, ended_at: now }
}

impl Case {
    pub(crate) fn new(policy: Policy) -> Self {
        Self::opened_by(alert("ShopSlow"), policy)
    }

    pub(crate) fn opened_by(alert: Alert, policy: Policy) -> Self {
        let now = at(0);
        let key = alert.key.clone();
        let draft = Draft {
            head: Mapping::default().head(&alert),
            affected_systems: vec![alert.about().name],
            origin: "alertmanager".to_owned(),
            linked_to: None,
            context: None,
            alert: Some(alert),
        };
        let id = IncidentId(uuid::Uuid::from_u128(7));
        let events = workflow::open(draft, now, &policy);
        let log: Vec<_> =
            events.into_iter().enumerate().map(|(n, event)| envelope(id, n as u64 + 1, now, event)).collect();
        let incident = workflow::replay(&log).unwrap();
        let world = World { alerts: [(key, AlertNow::Firing)].into(), ..World::default() };
        let locks = ["db-1", "shop"].into_iter().map(|name| (target(name), LockState::default())).collect();
        Self { incident, log, now, policy, locks, world }
    }

    /// Decides, appends and folds; what the store would refuse is a failure of the test.
    pub(crate) fn input(&mut self, input: Input) -> Result<Vec<Event>, Refused> {
        let events = workflow::decide(&self.incident, &input, self.now, &self.policy)?;
        for claim in workflow::claims(&events) {
            self.claim(&claim);
        }
        for event in &events {
            let envelope = envelope(self.incident.id, self.incident.revision.0 + 1, self.now, event.clone());
            workflow::apply(&mut self.incident, &envelope)
                .unwrap_or_else(|error| panic!("{input:?} made {event:?}: {error}"));
            self.log.push(envelope);
        }
        Ok(events)
    }

    fn claim(&mut self, claim: &Claim) {
        let me = self.incident.id;
        match claim {
            Claim::Take(lock) => {
                let state = self.locks.entry(lock.target.clone()).or_default();
                assert!(state.holder.is_none(), "{lock:?} was taken while held");
                assert_eq!(state.token.next(), lock.token, "the token must grow by one");
                *state = LockState { token: lock.token, holder: Some(me) };
            }
            Claim::Hold(lock) => {
                assert_eq!(
                    self.locks[&lock.target],
                    LockState { token: lock.token, holder: Some(me) },
                    "lock not held"
                );
            }
            Claim::Release(lock) => {
                assert_eq!(self.locks[&lock.target].holder, Some(me), "released a lock that is not held");
                self.locks.insert(lock.target.clone(), LockState { token: lock.token, holder: None });
            }
            Claim::SiteEpoch(epoch) => assert_eq!(*epoch, self.world.site.epoch),
            Claim::CoolDown(_) => {}
        }
    }

    pub(crate) fn must(&mut self, input: Input) -> Vec<Event> {
        let phase = self.incident.phase.name();
        self.input(input.clone()).unwrap_or_else(|refused| panic!("{input:?} in {phase}: {refused}"))
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    pub(crate) fn look_world(&self) -> World {
        World { locks: self.locks.clone(), ..self.world.clone() }
    }

    pub(crate) fn gates(&mut self) -> Vec<Event> {
        let world = self.look_world();
        self.must(Input::Gates(Box::new(world)))
    }

    pub(crate) fn key(&self) -> AlertKey {
        self.incident.alerts.keys().next().unwrap().clone()
    }

    pub(crate) fn reach_diagnosing(&mut self) {
        self.pass(6);
        self.must(Input::Deadline);
    }

    pub(crate) fn diagnose(&mut self, confidence: f64) {
        let Phase::Diagnosing(asking) = &self.incident.phase else { panic!("{:?}", self.incident.phase) };
        let task = asking.task.clone();
        let report = Box::new(report(self.incident.id, confidence));
        self.must(Input::Report { task, report });
    }

    pub(crate) fn plan(&mut self, runbook: &str) {
        let Phase::Planning { asking, .. } = &self.incident.phase else {
            panic!("{:?}", self.incident.phase)
        };
        let task = asking.task.clone();
        let plan = Box::new(plan(self.incident.id, runbook, self.now));
        self.must(Input::Plan { task, answer: PlanAnswer::Plan { plan } });
    }

    pub(crate) fn reach_held(&mut self) {
        self.reach_diagnosing();
        self.diagnose(0.9);
        self.plan("mend");
    }

    /// As far as the policy lets it go by itself: executing, or waiting for approval.
    pub(crate) fn reach_decided(&mut self) {
        self.reach_held();
        self.gates();
    }

    pub(crate) fn outcome(&mut self, outcome: StepOutcome) -> Vec<Event> {
        let key = self.incident.run().expect("a step runs").key.clone();
        self.must(Input::StepOutcome { key, outcome })
    }

    /// Starts and finishes the next step.
    pub(crate) fn do_step(&mut self) {
        self.gates();
        self.pass(1);
        let now = self.now;
        self.outcome(done(now));
    }

    pub(crate) fn reach_verifying(&mut self) {
        self.reach_decided();
        for _ in 0..3 {
            self.do_step();
        }
        assert_eq!(self.incident.phase.name(), "verifying");
    }

    pub(crate) fn clear(&mut self) {
        let (key, at) = (self.key(), self.now);
        self.must(Input::AlertCleared { key, at });
    }

    pub(crate) fn phase(&self) -> &'static str {
        self.incident.phase.name()
    }
}

pub(crate) fn envelope(id: IncidentId, revision: u64, now: Timestamp, event: Event) -> Envelope {
    Envelope {
        id: uuid::Uuid::from_u128(u128::from(revision)),
        incident_id: id,
        revision: Revision(revision),
        tenant: "default".to_owned(),
        at: now,
        actor: "test".to_owned(),
        trace: None,
        policy: Digest::of_bytes(b"policy"),
        version: quell_incident::event::EVENT_VERSION,
        event,
    }
}

pub(crate) fn token(number: u64) -> FencingToken {
    FencingToken(number)
}

pub(crate) fn policy(autonomy: Autonomy, autonomy_overrides: &[AutonomyOverride]) -> Policy {
    Policy { autonomy, autonomy_overrides: autonomy_overrides.to_vec(), ..auto() }
}

pub(crate) fn from(source: &str, labels: &[(&str, &str)]) -> Alert {
    let labels: Labels = labels.iter().copied().collect();
    let key =
        AlertKey { source: SourceName::declared(source).unwrap(), fingerprint: Fingerprint::of(&labels) };
    let annotations = Labels::default();
    let starts_at = at(0);
    Alert {
        key,
        status: AlertStatus::Firing,
        labels,
        annotations,
        starts_at,
        ends_at: None,
        generator_url: None,
    }
}

/// A plan of the case's incident, with what the inventory declares of `db-1` and `shop`.
pub(crate) fn plan_of(case: &Case, declared: &[(&str, DeclaredTarget)]) -> Plan {
    let declared = declared.iter().map(|(name, declared)| (target(name), declared.clone())).collect();
    Plan { declared, ..plan(case.incident.id, "mend", case.now) }
}

pub(crate) fn answer(case: &mut Case, plan: Plan) -> Vec<Event> {
    let Phase::Planning { asking, .. } = &case.incident.phase else { panic!("{:?}", case.incident.phase) };
    let (task, plan) = (asking.task.clone(), Box::new(plan));
    case.must(Input::Plan { task, answer: PlanAnswer::Plan { plan } })
}
