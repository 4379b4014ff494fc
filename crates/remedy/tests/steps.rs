//! Executing, undoing and probing steps by the ledger and the guard.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::*;
use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::{ProbeVerdict, StepOutcome, StepRequest};
use quell_incident::{Plan, TargetName};
use quell_remedy::{
    Agent, FaultHook, GuardSettings, Knowledge, Ledger, LedgerSettings, NoFaults, PlanSettings,
};
use quell_tool::fake::{Behaviour, KeyValueTarget, SetValue};
use quell_tool::{
    ActionCall, ActionRegistry, ActionTool, CallContext, Effected, ExecutionGrant, Preview, ToolError,
    ToolSpec,
};
use serde_json::json;

struct Site {
    folder: tempfile::TempDir,
    target: KeyValueTarget,
    clock: TestClock,
    agent: Arc<Agent>,
    plan: Plan,
}

async fn site() -> Site {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    target.set("alpha", "size", json!(10));
    let agent = agent(folder.path(), &target, &clock);
    let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
    Site { folder, target, clock, agent, plan }
}

impl Site {
    fn request(&self, step: usize, key: &str, token: u64) -> StepRequest {
        request(&self.plan, step, key, token, &self.clock)
    }

    async fn execute(&self, request: StepRequest) -> StepOutcome {
        self.agent.execute(request).await.outcome
    }

    async fn refusal(&self, request: StepRequest) -> String {
        match self.execute(request).await {
            StepOutcome::Refused { why } => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    async fn probe(&self, request: StepRequest) -> ProbeVerdict {
        self.agent.probe(asking(request)).await.verdict
    }

    fn size(&self) -> Option<serde_json::Value> {
        self.target.get("alpha", "size")
    }
}

#[tokio::test]
async fn a_step_is_done_once_and_its_outcome_is_remembered() {
    let site = site().await;
    let first = site.execute(site.request(0, "k1", 1)).await;
    let StepOutcome::Done { changes, began_at, .. } = &first else { panic!("{first:?}") };
    assert_eq!((&changes[0].from, &changes[0].to), (&json!(10), &json!(20)));
    assert_eq!(*began_at, site.clock.now());
    site.clock.advance(30);
    // The same key again, with another holding of the lock, gets what was recorded.
    assert_eq!(site.execute(site.request(0, "k1", 2)).await, first);
    assert_eq!(effects_of(&site.target, "k1"), 1);
    // The number that ran is the runbook's own, not the double that the request carried.
    assert_eq!(site.size(), Some(json!(20)));
}

#[tokio::test]
async fn an_outcome_survives_the_process() {
    let site = site().await;
    let first = site.execute(site.request(0, "k1", 1)).await;
    let Site { folder, target, clock, agent: old, plan } = site;
    drop(old);
    let agent = agent(folder.path(), &target, &clock);
    let again = agent.execute(request(&plan, 0, "k1", 1, &clock)).await.outcome;
    assert_eq!(again, first);
    assert_eq!(target.effects().len(), 1);
}

#[tokio::test]
async fn what_is_sent_twice_at_once_runs_once() {
    let site = site().await;
    let request = site.request(0, "k1", 1);
    let (one, two) = tokio::join!(site.agent.execute(request.clone()), site.agent.execute(request.clone()));
    assert_eq!(one, two);
    assert_eq!(site.target.effects().len(), 1);
}

#[tokio::test]
async fn a_key_stands_for_one_step_and_a_try_for_one_key() {
    let site = site().await;
    let first = site.request(0, "k1", 1);
    site.execute(first.clone()).await;
    // The key did something; that this step did not happen is not for this agent to say.
    let other = permitted(StepRequest { key: first.key.clone(), ..site.request(1, "k1", 1) });
    let undo = permitted(StepRequest { undo: true, ..first.clone() });
    for request in [other, undo] {
        let outcome = site.execute(request).await;
        assert!(matches!(&outcome, StepOutcome::Unknown { why } if why.contains("`key`")), "{outcome:?}");
    }
    // The same try of the same step as if it were of another attempt.
    let again = first.key.as_str().replacen("/1/", "/2/", 1);
    let again = permitted(StepRequest { key: key(&again), ..first.clone() });
    let why = site.refusal(again.clone()).await;
    assert!(why.contains(&format!("was asked for as {}", first.key)), "{why}");
    let verdict = site.probe(again).await;
    assert!(
        matches!(&verdict, ProbeVerdict::CannotTell { why } if why.contains("was asked for as")),
        "{verdict:?}"
    );
    assert_eq!(site.target.effects().len(), 1);
}

#[tokio::test]
async fn with_the_shipped_defaults_everything_is_refused() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let mut sent = Vec::new();
    for settings in [
        GuardSettings::default(),
        GuardSettings { execute_real_commands: true, require_approval: false, ..GuardSettings::default() },
        GuardSettings { dry_run: false, ..GuardSettings::default() },
    ] {
        let agent = agent_with(folder.path(), &target, &clock, settings, Arc::new(NoFaults));
        let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
        let request = request(&plan, 0, &format!("k{}", sent.len()), 1, &clock);
        let outcome = agent.execute(request.clone()).await.outcome;
        let StepOutcome::Refused { why } = outcome else { panic!("{outcome:?}") };
        assert!(why.starts_with("execution is switched off: set "), "{why}");
        sent.push(request);
    }
    // A refusal is final for its key, also when execution is switched on afterwards.
    let agent = agent(folder.path(), &target, &clock);
    for request in sent {
        let outcome = agent.execute(request).await.outcome;
        assert!(matches!(outcome, StepOutcome::Refused { .. }), "{outcome:?}");
    }
    assert!(target.effects().is_empty());
}

#[tokio::test]
async fn only_what_this_agent_planned_runs() {
    let site = site().await;
    let change = |key: &str, change: &dyn Fn(&mut StepRequest)| {
        let mut request = site.request(0, key, 1);
        change(&mut request);
        // Also a coordinator may be wrong.
        permitted(request)
    };
    let other = TargetName::declared("beta").unwrap();
    let gamma = TargetName::declared("gamma").unwrap();
    for (request, expected) in [
        (
            change("a", &|request| request.step.call.arguments["value"] = json!(2000)),
            "is not the one that plan",
        ),
        (change("b", &|request| request.step.call.target = other.clone()), "is not the one that plan"),
        (change("c", &|request| request.step.call.tool = "shell".to_owned()), "is not the one that plan"),
        (change("d", &|request| request.lock.target = other.clone()), "the lock is on `beta`"),
        (change("e", &|request| request.lock.target = gamma.clone()), "the lock is on `gamma`"),
        (
            change("f", &|request| {
                request.plan_digest = quell_incident::Digest::of_bytes(b"x");
                request.key = key_of(request);
            }),
            "was made by this agent, or it is forgotten",
        ),
        (
            change("g", &|request| {
                request.incident_id = quell_incident::IncidentId(uuid::Uuid::from_u128(2));
                request.key = key_of(request);
            }),
            "is for another incident",
        ),
        (change("h", &|request| request.schema = "quell/step/v2".to_owned()), "this agent takes"),
        (undo_of(site.request(0, "k", 1)), "was never begun here"),
        (
            change("l", &|request| request.not_after = site.clock.now() - SignedDuration::from_secs(1)),
            "was not to begin after",
        ),
    ] {
        let why = site.refusal(request).await;
        assert!(why.contains(expected), "{why}");
    }
    for request in [
        change("i", &|request| request.agent.ledger = "another".to_owned()),
        change("j", &|request| request.agent.instance = "agent-2".to_owned()),
    ] {
        let outcome = site.execute(request).await;
        let belongs = "the step belongs to agent";
        assert!(matches!(&outcome, StepOutcome::Unknown { why } if why.contains(belongs)), "{outcome:?}");
    }
    assert!(site.target.effects().is_empty());
}

#[tokio::test]
async fn the_allow_list_narrows_the_inventory() {
    let site = site().await;
    let beta = TargetName::declared("beta").unwrap();
    let guard = GuardSettings { allowed_targets: Some([beta].into()), ..switched_on() };
    site.agent.replace_knowledge(knowledge(&site.target, guard));
    let why = site.refusal(site.request(0, "k1", 1)).await;
    assert_eq!(why, "target `alpha` is not on the list resolution.allowed_targets");
    assert!(matches!(site.execute(site.request(1, "k2", 1)).await, StepOutcome::Done { .. }));
}

#[tokio::test]
async fn a_runbook_that_changed_since_the_plan_needs_a_new_one() {
    let site = site().await;
    site.execute(site.request(0, "done", 1)).await;
    let edited = RAISE.replace("value: 20", "value: 30");
    for (runbooks, key, expected) in [
        (vec![("other.yaml", OTHER)], "k1", "runbook `raise` was removed"),
        (vec![("raise.yaml", edited.as_str())], "k2", "runbook `raise` was edited"),
    ] {
        site.agent.replace_knowledge(knowledge_of(&site.target, switched_on(), &runbooks));
        let why = site.refusal(site.request(1, key, 1)).await;
        assert!(why.starts_with(expected), "{why}");
    }
    // What was done by the old one can still be taken back: the inverse is in the ledger.
    let undo = undo_of(site.request(0, "u1", 2));
    assert!(matches!(site.execute(undo).await, StepOutcome::Done { .. }));
    assert_eq!(site.size(), Some(json!(10)));
}

#[tokio::test]
async fn an_old_plan_is_not_started_but_is_finished() {
    let site = site().await;
    site.clock.advance(601);
    let why = site.refusal(site.request(0, "k1", 1)).await;
    assert!(why.contains("was to be started by"), "{why}");
    site.clock.advance(-10);
    assert!(matches!(site.execute(site.request(0, "k2", 1)).await, StepOutcome::Done { .. }));
    site.clock.advance(10);
    assert!(matches!(site.execute(site.request(1, "k3", 1)).await, StepOutcome::Done { .. }));
}

#[tokio::test]
async fn an_undo_restores_what_the_dry_run_captured() {
    let site = site().await;
    site.execute(site.request(0, "k1", 1)).await;
    let undo = undo_of(site.request(0, "k1", 2));
    let outcome = site.execute(undo.clone()).await;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
    assert_eq!(site.size(), Some(json!(10)));
    assert_eq!(site.execute(undo).await, outcome);
    assert_eq!(site.target.effects().len(), 2);
    // A step that needs no undo has none.
    site.execute(site.request(1, "k2", 2)).await;
    let none = undo_of(site.request(1, "k2", 2));
    assert_eq!(site.refusal(none).await, "step `second` has no inverse");
}

#[tokio::test]
async fn a_lower_token_than_one_that_was_seen_does_nothing() {
    let site = site().await;
    site.execute(site.request(0, "k1", 5)).await;
    let why = site.refusal(site.request(0, "k2", 4)).await;
    assert_eq!(why, "the lock's token 4 on `alpha` is lower than 5, which was seen already");
    // Another target has tokens of its own.
    assert!(matches!(site.execute(site.request(1, "k3", 4)).await, StepOutcome::Done { .. }));
    // A probe by a newer holder counts, also after a restart.
    assert_eq!(site.probe(site.request(0, "k1", 9)).await, site.probe(site.request(0, "k1", 9)).await);
    let Site { folder, target, clock, agent: old, plan } = site;
    drop(old);
    let agent = agent(folder.path(), &target, &clock);
    let outcome = agent.execute(request(&plan, 0, "k4", 8, &clock)).await.outcome;
    assert!(matches!(outcome, StepOutcome::Refused { .. }), "{outcome:?}");
    let outcome = agent.execute(request(&plan, 0, "k5", 9, &clock)).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_probe_seals_a_key_that_was_not_seen() {
    let site = site().await;
    assert_eq!(site.probe(site.request(0, "k1", 1)).await, ProbeVerdict::NotDone);
    let why = site.refusal(site.request(0, "k1", 1)).await;
    assert!(why.contains("sealed"), "{why}");
    let Site { folder, target, clock, agent: old, plan } = site;
    drop(old);
    let agent = agent(folder.path(), &target, &clock);
    let late = agent.execute(request(&plan, 0, "k1", 1, &clock)).await.outcome;
    assert!(matches!(late, StepOutcome::Refused { .. }), "{late:?}");
    assert_eq!(agent.probe(asking(request(&plan, 0, "k1", 1, &clock))).await.verdict, ProbeVerdict::NotDone);
    assert!(target.effects().is_empty());
    // The target itself was not asked: the ledger knows.
    assert_eq!(target.looks().1, 0);
}

#[tokio::test]
async fn what_is_in_doubt_is_decided_by_the_target() {
    let site = site().await;
    site.target.next_call(Behaviour::LoseReply);
    let outcome = site.execute(site.request(0, "k1", 1)).await;
    assert!(matches!(outcome, StepOutcome::Unknown { .. }), "{outcome:?}");
    let verdict = site.probe(site.request(0, "k1", 1)).await;
    assert!(matches!(&verdict, ProbeVerdict::Done { .. }), "{verdict:?}");
    assert_eq!(site.execute(site.request(0, "k1", 1)).await, outcome);
    site.target.next_call(Behaviour::Fail(ToolError::InDoubt { why: "reset".to_owned() }));
    site.execute(site.request(1, "k2", 1)).await;
    assert_eq!(site.probe(site.request(1, "k2", 1)).await, ProbeVerdict::NotDone);
    site.target.next_call(Behaviour::CannotTell);
    let verdict = site.probe(site.request(1, "k2", 1)).await;
    assert!(matches!(verdict, ProbeVerdict::CannotTell { .. }), "{verdict:?}");
    site.target.next_call(Behaviour::Fail(ToolError::Unreachable { why: "down".to_owned() }));
    let verdict = site.probe(site.request(1, "k2", 1)).await;
    assert!(matches!(verdict, ProbeVerdict::CannotTell { .. }), "{verdict:?}");
}

#[tokio::test]
async fn a_failure_without_effect_is_a_failure_and_a_target_that_refuses_refuses() {
    let site = site().await;
    site.target.next_call(Behaviour::Fail(ToolError::upstream(500, "boom")));
    let outcome = site.execute(site.request(0, "k1", 1)).await;
    assert!(matches!(&outcome, StepOutcome::Failed { why } if why.contains("500")), "{outcome:?}");
    assert_eq!(site.probe(site.request(0, "k1", 1)).await, ProbeVerdict::NotDone);
    site.target.next_call(Behaviour::Fail(ToolError::Refused { why: "frozen".to_owned() }));
    let outcome = site.execute(site.request(0, "k2", 1)).await;
    assert!(matches!(outcome, StepOutcome::Refused { .. }), "{outcome:?}");
    for (index, error) in [
        ToolError::Unreachable { why: "refused".to_owned() },
        ToolError::NotFound { what: "it".to_owned() },
        ToolError::invalid("value", "too large"),
        ToolError::upstream(409, "busy"),
    ]
    .into_iter()
    .enumerate()
    {
        site.target.next_call(Behaviour::Fail(error));
        let outcome = site.execute(site.request(0, &format!("none{index}"), 1)).await;
        assert!(matches!(outcome, StepOutcome::Refused { .. }), "{outcome:?}");
    }
    let why = "answered: password=hunter2".to_owned();
    site.target.next_call(Behaviour::Fail(ToolError::InDoubt { why }));
    let outcome = site.execute(site.request(0, "secret", 1)).await;
    assert!(matches!(&outcome, StepOutcome::Unknown { why } if !why.contains("hunter2")), "{outcome:?}");
    site.target.next_call(Behaviour::Panic);
    let outcome = site.execute(site.request(0, "k3", 1)).await;
    assert!(matches!(outcome, StepOutcome::Unknown { .. }), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_ends_by_its_timeout_and_a_probe_waits_for_that() {
    let site = site().await;
    site.target.next_call(Behaviour::HangAfterEffect);
    let agent = Arc::clone(&site.agent);
    let request = site.request(0, "k1", 1);
    let running = tokio::spawn(async move { agent.execute(request).await.outcome });
    while site.target.effects().is_empty() {
        tokio::task::yield_now().await;
    }
    let verdict = site.probe(site.request(0, "k1", 1)).await;
    assert!(matches!(verdict, ProbeVerdict::Done { .. }), "{verdict:?}");
    assert_eq!(site.agent.running(), 0, "the target was asked while the step ran");
    assert!(matches!(running.await.unwrap(), StepOutcome::Unknown { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_target_without_an_effect_is_believed_only_once_it_has_settled() {
    let Site { folder, target, clock, agent: old, plan } = site().await;
    drop(old);
    let (ledger, _) = Ledger::open(
        folder.path(),
        "agent-1",
        uuid::Uuid::from_u128(7),
        LedgerSettings::default(),
        clock.now(),
    )
    .unwrap();
    let now = clock.clone();
    let agent = Agent::new(
        Arc::new(ledger),
        knowledge(&target, switched_on()),
        PlanSettings::default(),
        Arc::new(move || now.now()),
        Arc::new(NoFaults),
    );
    let sent = request(&plan, 0, "k1", 1, &clock);
    target.next_call(Behaviour::Fail(ToolError::InDoubt { why: "reset".to_owned() }));
    agent.execute(sent.clone()).await;
    let (prober, asked) = (Arc::clone(&agent), asking(sent.clone()));
    let probe = tokio::spawn(async move { prober.probe(asked).await.verdict });
    while target.looks().1 == 0 {
        tokio::task::yield_now().await;
    }
    // What was sent is carried out only now, after the first look.
    target.set("alpha", "size", json!(20));
    let verdict = probe.await.unwrap();
    assert!(matches!(verdict, ProbeVerdict::Done { .. }), "{verdict:?}");
    assert_eq!(target.looks().1, 2);
    target.set("alpha", "size", json!(10));
    clock.advance(5);
    assert_eq!(agent.probe(asking(sent)).await.verdict, ProbeVerdict::NotDone);
    assert_eq!(target.looks().1, 3, "it had settled, and was asked once more all the same");
}

/// Waits after the intent until it is let go.
#[derive(Default)]
struct HoldAfterIntent {
    held: tokio::sync::Notify,
    go: tokio::sync::Notify,
}

#[async_trait]
impl FaultHook for HoldAfterIntent {
    async fn reached(&self, point: &'static str) {
        if point == "resolution.intent.after" {
            self.held.notify_one();
            self.go.notified().await;
        }
    }
}

#[tokio::test]
async fn a_newer_holder_that_shows_itself_during_the_intent_stops_the_effect() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let hold = Arc::new(HoldAfterIntent::default());
    let hook = Arc::clone(&hold) as Arc<dyn FaultHook>;
    let agent = agent_with(folder.path(), &target, &clock, switched_on(), hook);
    let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
    let (executing, sent) = (Arc::clone(&agent), request(&plan, 0, "k1", 1, &clock));
    let running = tokio::spawn(async move { executing.execute(sent).await.outcome });
    hold.held.notified().await;
    agent.probe(asking(request(&plan, 0, "k2", 2, &clock))).await;
    hold.go.notify_one();
    let outcome = running.await.unwrap();
    assert!(matches!(&outcome, StepOutcome::Refused { why } if why.contains("lower than 2")), "{outcome:?}");
    assert!(target.effects().is_empty());
}

/// Counts how many executions run at once on each target.
struct Busy {
    inner: SetValue,
    running: Mutex<HashMap<String, usize>>,
    most: AtomicUsize,
}

#[async_trait]
impl ActionTool for Busy {
    fn spec(&self) -> &ToolSpec {
        self.inner.spec()
    }

    async fn preview(&self, call: &ActionCall, context: &CallContext) -> Result<Preview, ToolError> {
        self.inner.preview(call, context).await
    }

    async fn execute(
        &self,
        call: &ActionCall,
        grant: &ExecutionGrant,
        context: &CallContext,
    ) -> Result<Effected, ToolError> {
        let now = {
            let mut running = self.running.lock().unwrap();
            let running = running.entry(call.target.clone()).or_default();
            *running += 1;
            *running
        };
        self.most.fetch_max(now, Ordering::SeqCst);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let effected = self.inner.execute(call, grant, context).await;
        *self.running.lock().unwrap().entry(call.target.clone()).or_default() -= 1;
        effected
    }

    async fn probe(
        &self,
        call: &ActionCall,
        started_at: Timestamp,
        context: &CallContext,
    ) -> Result<quell_tool::ProbeVerdict, ToolError> {
        self.inner.probe(call, started_at, context).await
    }
}

#[tokio::test]
async fn one_step_at_a_time_per_target() {
    let site = site().await;
    let busy = Arc::new(Busy {
        inner: SetValue::new(site.target.clone()),
        running: Mutex::default(),
        most: AtomicUsize::new(0),
    });
    let mut actions = ActionRegistry::new();
    actions.register(Arc::clone(&busy) as Arc<dyn ActionTool>).unwrap();
    let known = knowledge(&site.target, switched_on());
    site.agent.replace_knowledge(Knowledge { actions, ..known });
    let steps: Vec<_> = (0..8)
        .map(|index| {
            let (agent, request) =
                (Arc::clone(&site.agent), site.request(index % 2, &format!("k{index}"), 1));
            tokio::spawn(async move { agent.execute(request).await.outcome })
        })
        .collect();
    for step in steps {
        let outcome = step.await.unwrap();
        assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
    }
    assert_eq!(busy.most.load(Ordering::SeqCst), 1);
    assert_eq!(site.target.effects().len(), 8);
}

#[tokio::test]
async fn what_is_switched_off_while_a_step_waits_its_turn_is_refused() {
    let site = site().await;
    let busy = Arc::new(Busy {
        inner: SetValue::new(site.target.clone()),
        running: Mutex::default(),
        most: AtomicUsize::new(0),
    });
    let knows = |guard| {
        let mut actions = ActionRegistry::new();
        actions.register(Arc::clone(&busy) as Arc<dyn ActionTool>).unwrap();
        Knowledge { actions, ..knowledge(&site.target, guard) }
    };
    site.agent.replace_knowledge(knows(switched_on()));
    let spawned = |key: &str| {
        let (agent, request) = (Arc::clone(&site.agent), site.request(0, key, 1));
        tokio::spawn(async move { agent.execute(request).await.outcome })
    };
    let (first, second) = (spawned("k1"), spawned("k2"));
    while busy.most.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // Long enough for the second one to wait for the target, not long enough for the first one to end.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    site.agent.replace_knowledge(knows(GuardSettings::default()));
    let first = first.await.unwrap();
    assert!(matches!(first, StepOutcome::Done { .. }), "{first:?}");
    let second = second.await.unwrap();
    assert!(matches!(&second, StepOutcome::Refused { why } if why.contains("switched off")), "{second:?}");
    assert_eq!(site.target.effects().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_goes_on_when_its_caller_is_gone_and_is_waited_for() {
    let site = site().await;
    let request = site.request(0, "k1", 1);
    let agent = Arc::clone(&site.agent);
    let caller = tokio::spawn(async move { agent.execute(request).await });
    while site.agent.running() == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    site.agent.drained().await;
    assert_eq!(site.target.effects().len(), 1);
    assert!(matches!(site.execute(site.request(0, "k1", 1)).await, StepOutcome::Done { .. }));
}
