//! What the tests share: a small site with two targets, its runbooks, and an agent over a folder.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::Labels;
use quell_incident::contract::{IncidentBrief, PlanAnswer, PlanRequest, StepRequest, TargetLock};
use quell_incident::ids::{FencingToken, RunbookName};
use quell_incident::report::{Claim, Hypothesis, REPORT_SCHEMA, Report, Subject};
use quell_incident::{IncidentId, Permit, PermittedSkill, Plan, Priority, Severity, SignedPermit, StepKey};
use quell_remedy::{
    Agent, CoordinatorKeys, FaultHook, GuardSettings, Inventory, Knowledge, Ledger, LedgerSettings, NoFaults,
    PlanSettings, Runbooks,
};
use quell_sign::SigningKey;
use quell_tool::ActionRegistry;
use quell_tool::fake::{KeyValueTarget, SetValue};
use serde_json::json;

pub(crate) const INVENTORY: &str = "
targets:
  alpha: {kind: service, match: {service: [alpha-service], instance: ['alpha:9090']}}
  beta: {kind: service, match: {service: [beta-service]}}
";

pub(crate) const RAISE: &str = "
name: raise
title: Raise two values
for: {causes: [too_low]}
priority: 10
min_confidence: 0.5
steps:
  - name: first
    title: Raise size on alpha
    tool: set-value
    action: set-value
    target: alpha
    arguments: {key: size, value: 20}
    undo: inverse
    timeout: 30s
    idempotent: true
  - name: second
    title: Mark the subject
    tool: set-value
    action: set-value
    target: $subject
    arguments: {key: marked, value: true}
    undo: {not_needed: 'a mark harms nobody'}
    idempotent: true
verify:
  - {name: low-rate, metric: errors_total, reduce: rate, holds_if: '<', value: 0.5}
alert_look_back: 1m
";

pub(crate) const OTHER: &str = "
name: other
title: Set another value
for: {causes: [too_low, elsewhere]}
priority: 20
steps:
  - name: only
    title: Set mode on beta
    tool: set-value
    action: set-value
    target: beta
    arguments: {key: mode, value: safe}
    undo: {irreversible: 'the old mode is not known'}
    idempotent: false
verify:
  - {name: low, metric: level, reduce: last, holds_if: '<=', value: 3}
alert_look_back: 0s
";

/// A clock that only tests move.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000)))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// Hangs for ever at one point, as a process that was killed there.
#[derive(Default)]
pub(crate) struct DieAt {
    point: Mutex<Option<&'static str>>,
    died: tokio::sync::Notify,
}

impl DieAt {
    pub(crate) fn point(point: &'static str) -> Arc<Self> {
        Arc::new(Self { point: Mutex::new(Some(point)), died: tokio::sync::Notify::new() })
    }

    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }
}

#[async_trait]
impl FaultHook for DieAt {
    async fn reached(&self, point: &'static str) {
        let dies = *self.point.lock().unwrap() == Some(point);
        if dies {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

pub(crate) fn tools(target: &KeyValueTarget) -> ActionRegistry {
    let mut actions = ActionRegistry::new();
    actions.register(Arc::new(SetValue::new(target.clone()))).unwrap();
    actions
}

pub(crate) fn switched_on() -> GuardSettings {
    GuardSettings {
        execute_real_commands: true,
        dry_run: false,
        require_approval: false,
        allowed_targets: None,
    }
}

pub(crate) fn knowledge(target: &KeyValueTarget, guard: GuardSettings) -> Knowledge {
    knowledge_of(target, guard, &[("raise.yaml", RAISE), ("other.yaml", OTHER)])
}

pub(crate) fn knowledge_of(
    target: &KeyValueTarget,
    guard: GuardSettings,
    runbooks: &[(&str, &str)],
) -> Knowledge {
    let actions = tools(target);
    let inventory = Inventory::from_yaml("inventory.yaml", INVENTORY, Some("http://127.0.0.1:1")).unwrap();
    let runbooks = Runbooks::from_texts(runbooks, &inventory, &actions).unwrap();
    let coordinator = CoordinatorKeys::listed([permit_key().public()]);
    Knowledge { inventory, runbooks, actions, guard, coordinator }
}

/// One life of the agent over a folder.
pub(crate) fn agent_with(
    folder: &Path,
    target: &KeyValueTarget,
    clock: &TestClock,
    guard: GuardSettings,
    faults: Arc<dyn FaultHook>,
) -> Arc<Agent> {
    let id = uuid::Uuid::from_u128(7);
    let (ledger, _) = Ledger::open(folder, "agent-1", id, LedgerSettings::default(), clock.now()).unwrap();
    let now = clock.clone();
    let clock: quell_remedy::Clock = Arc::new(move || now.now());
    Agent::new(Arc::new(ledger), knowledge(target, guard), settles_at_once(), clock, faults)
}

/// The fake target has no effect after its answer, so nothing has to be waited for.
pub(crate) fn settles_at_once() -> PlanSettings {
    PlanSettings { effect_settles_within: Duration::ZERO, ..PlanSettings::default() }
}

pub(crate) fn agent(folder: &Path, target: &KeyValueTarget, clock: &TestClock) -> Arc<Agent> {
    agent_with(folder, target, clock, switched_on(), Arc::new(NoFaults))
}

pub(crate) fn incident() -> IncidentBrief {
    IncidentBrief {
        id: IncidentId(uuid::Uuid::from_u128(1)),
        title: "too low".to_owned(),
        alert_name: "TooLow".to_owned(),
        priority: Priority::P1,
        severity: Severity::High,
        affected_systems: vec!["alpha".to_owned()],
        started_at: Timestamp::UNIX_EPOCH,
        alerts: Vec::new(),
        labels: Labels::default(),
    }
}

pub(crate) fn report(cause: &str, confidence: f64, subject: Subject) -> Report {
    let claim = Claim::new("rule", "it is low".to_owned(), vec!["m1".to_owned()]).unwrap();
    let cause =
        Hypothesis::new(cause, subject, "too low".to_owned(), confidence, vec![claim], Vec::new()).unwrap();
    Report {
        schema: REPORT_SCHEMA.to_owned(),
        incident_id: incident().id,
        reference_time: Timestamp::UNIX_EPOCH,
        root_cause: Some(cause),
        abstained: None,
        alternatives: Vec::new(),
        evidence: Vec::new(),
        unavailable: Vec::new(),
        second_opinion: None,
        engine: "test".to_owned(),
        case: None,
    }
}

pub(crate) fn subject(service: &str) -> Subject {
    Subject { service: service.to_owned(), ..Subject::default() }
}

pub(crate) fn plan_request(cause: &str, service: &str) -> PlanRequest {
    PlanRequest {
        schema: "quell/plan-request/v1".to_owned(),
        incident: incident(),
        report: Some(report(cause, 0.9, subject(service))),
        exclude: Vec::new(),
        runbook: None,
        despite: Vec::new(),
    }
}

pub(crate) fn runbook(name: &str) -> RunbookName {
    RunbookName::declared(name).unwrap()
}

pub(crate) async fn plan(agent: &Agent, request: &PlanRequest) -> Plan {
    match agent.plan(request).await.unwrap() {
        PlanAnswer::Plan { plan } => *plan,
        other => panic!("no plan: {other:?}"),
    }
}

/// The coordinator's key.
pub(crate) fn permit_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

/// The number of the try that a test calls so.
fn try_number(name: &str) -> u32 {
    name.bytes().fold(17_u32, |number, byte| (number * 31 + u32::from(byte)) % 1_000_003)
}

/// A request for a step of a plan, as it arrives: through JSON in which every number is a double. Each name stands for a try.
pub(crate) fn request(plan: &Plan, step: usize, name: &str, token: u64, clock: &TestClock) -> StepRequest {
    let step = &plan.steps[step];
    let digest = plan.digest().unwrap();
    let request = StepRequest {
        schema: "quell/step/v1".to_owned(),
        incident_id: plan.incident_id,
        key: StepKey::of(plan.incident_id, 1, &digest, &step.name, try_number(name), false),
        plan_digest: digest,
        step: step.clone(),
        undo: false,
        agent: plan.agent.clone(),
        lock: TargetLock { target: step.target.clone(), token: FencingToken(token) },
        started_at: clock.now(),
        not_after: clock.now() + SignedDuration::from_secs(60),
        permit: None,
    };
    permitted(over_the_wire(request))
}

pub(crate) fn key(text: &str) -> StepKey {
    StepKey::declared(text).unwrap()
}

/// The key that fits what a request says otherwise.
pub(crate) fn key_of(request: &StepRequest) -> StepKey {
    let StepRequest { incident_id, plan_digest, step, undo, key, .. } = request;
    StepKey::of(*incident_id, 1, plan_digest, &step.name, key.try_number().unwrap(), *undo)
}

/// The inverse of a request's step, permitted.
pub(crate) fn undo_of(mut request: StepRequest) -> StepRequest {
    request.undo = true;
    request.key = StepKey::declared(&format!("{}/undo", request.key)).unwrap();
    permitted(request)
}

/// The same with the coordinator's permit for it as it stands.
pub(crate) fn permitted(request: StepRequest) -> StepRequest {
    let skill = if request.undo { PermittedSkill::Undo } else { PermittedSkill::Execute };
    let permit = Permit::of(&request, skill, Vec::new(), request.not_after).unwrap();
    signed(request, permit, &permit_key())
}

/// The same as a question.
pub(crate) fn asking(request: StepRequest) -> StepRequest {
    let permit = Permit::of(&request, PermittedSkill::Probe, Vec::new(), Timestamp::MAX).unwrap();
    signed(request, permit, &permit_key())
}

/// The same with this permit, signed with this key.
pub(crate) fn signed(request: StepRequest, permit: Permit, key: &SigningKey) -> StepRequest {
    let signature = key.sign(&permit.signed_bytes().unwrap()).unwrap();
    let signed = SignedPermit { permit, public_key: key.public().to_string(), signature };
    over_the_wire(StepRequest { permit: Some(signed), ..request })
}

fn over_the_wire(request: StepRequest) -> StepRequest {
    let mut wire = serde_json::to_value(request).unwrap();
    to_doubles(&mut wire);
    serde_json::from_value(wire).unwrap()
}

fn to_doubles(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) => *value = json!(number.as_f64().unwrap()),
        serde_json::Value::Array(items) => items.iter_mut().for_each(to_doubles),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(to_doubles),
        _ => {}
    }
}

/// How many effects this try of a step had.
pub(crate) fn effects_of(target: &KeyValueTarget, name: &str) -> usize {
    let (try_of, undo_of) = (format!("/{}", try_number(name)), format!("/{}/undo", try_number(name)));
    let keys = target.effects().into_iter().map(|effect| effect.key);
    keys.filter(|key| key.ends_with(&try_of) || key.ends_with(&undo_of)).count()
}
