//! Plans that come to nothing leave nothing behind, stop nobody from planning, and are not made twice for one cause.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends by it, and what was measured is shown"
)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::*;
use quell_incident::contract::{PlanAnswer, PlanRequest, StepOutcome};
use quell_incident::{IncidentId, Plan};
use quell_remedy::{GuardSettings, LedgerSettings, NoFaults};
use quell_tool::fake::KeyValueTarget;
use tokio::task::JoinSet;

fn asked_by(number: u128) -> PlanRequest {
    let mut request = plan_request("too_low", "beta-service");
    request.incident.id = IncidentId(uuid::Uuid::from_u128(number));
    request
}

/// The files below a folder, and their bytes.
fn on_disk(folder: &Path) -> (usize, u64) {
    let mut found = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let (files, bytes) = if metadata.is_dir() { on_disk(&entry.path()) } else { (1, metadata.len()) };
        found = (found.0 + files, found.1 + bytes);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_plans_over_time_and_across_restarts_never_stop_planning() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let unused_max = LedgerSettings::default().unused_plans_max;
    let mut begun: Option<Plan> = None;
    for life in 0..10_u128 {
        // As it ships in every other life: plans are shown, and nothing is done.
        let guard = if life % 2 == 0 { GuardSettings::default() } else { switched_on() };
        let agent = agent_with(folder.path(), &target, &clock, guard, Arc::new(NoFaults));
        for number in 0..1_000 {
            let mut request = asked_by(life * 1_000 + number + 1);
            // What a person chooses is made for each incident.
            request.runbook = Some(runbook("raise"));
            let plan = plan(&agent, &request).await;
            if begun.is_none() && life % 2 == 1 {
                let outcome = agent.execute(request_of(&plan, 0, "k1", &clock)).await.outcome;
                assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
                begun = Some(plan);
            }
            clock.advance(1);
        }
        assert!(agent.ledger().sizes().1 <= unused_max + 1, "{:?}", agent.ledger().sizes());
    }
    let (files, bytes) = on_disk(folder.path());
    println!("after 10000 plans, one of them begun: {files} files, {bytes} bytes");
    assert!(files <= unused_max + 10 && bytes < 8 << 20, "{files} files, {bytes} bytes");
    // Soon after they expire they are gone, and what was executed is not.
    clock.advance(1_201);
    let agent = agent_with(folder.path(), &target, &clock, switched_on(), Arc::new(NoFaults));
    let (files, bytes) = on_disk(folder.path());
    println!("twenty minutes later: {files} files, {bytes} bytes");
    assert_eq!(agent.ledger().sizes(), (1, 1));
    assert!(files < 10 && bytes < 64 << 10, "{files} files, {bytes} bytes");
    let undone = undo_of(request_of(&begun.unwrap(), 0, "k1", &clock));
    let outcome = agent.execute(undone).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
}

fn request_of(
    plan: &Plan,
    step: usize,
    name: &str,
    clock: &TestClock,
) -> quell_incident::contract::StepRequest {
    request(plan, step, name, 1, clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_incidents_with_one_cause_get_one_plan() {
    for guard in [GuardSettings::default(), switched_on()] {
        let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
        let agent = agent_with(folder.path(), &target, &clock, guard, Arc::new(NoFaults));
        let mut asking = JoinSet::new();
        for number in 1..=300 {
            let agent = Arc::clone(&agent);
            asking.spawn(async move { agent.plan(&asked_by(number)).await.unwrap() });
        }
        let (mut plans, mut waiting) = (Vec::new(), Vec::new());
        for answer in asking.join_all().await {
            match answer {
                PlanAnswer::Plan { plan } => plans.push(plan),
                PlanAnswer::Taken { incident_id, runbook, targets, .. } => {
                    assert_eq!((runbook.as_str(), targets.len()), ("raise", 2));
                    waiting.push(incident_id);
                }
                PlanAnswer::NoPlan { why } => panic!("{why}"),
            }
        }
        assert_eq!((plans.len(), waiting.len()), (1, 299));
        let first = plans[0].incident_id;
        assert!(waiting.iter().all(|other| *other == first));
        assert_eq!(agent.ledger().sizes(), (0, 1));
        // The incident itself may ask again, a person may choose, and another target or runbook is another plan.
        let mut again = asked_by(1);
        again.incident.id = first;
        assert!(matches!(agent.plan(&again).await.unwrap(), PlanAnswer::Plan { .. }));
        let mut elsewhere = asked_by(400);
        elsewhere.exclude = vec![runbook("raise")];
        assert!(matches!(agent.plan(&elsewhere).await.unwrap(), PlanAnswer::Plan { .. }));
        // Where the first one is over, its plan does not count; nor after its time.
        let mut despite = asked_by(500);
        despite.despite = vec![first];
        let PlanAnswer::Plan { plan } = agent.plan(&despite).await.unwrap() else { panic!("taken") };
        assert!(matches!(agent.plan(&asked_by(501)).await.unwrap(), PlanAnswer::Taken { .. }));
        clock.advance(plan.valid_until.duration_since(clock.now()).as_secs() + 1);
        assert!(matches!(agent.plan(&asked_by(501)).await.unwrap(), PlanAnswer::Plan { .. }));
    }
}

#[tokio::test]
async fn a_damaged_or_unfinished_plan_file_is_left_out_and_the_others_count() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let first = agent(folder.path(), &target, &clock);
    let kept = plan(&first, &asked_by(1)).await;
    let mut other = asked_by(2);
    other.runbook = Some(runbook("raise"));
    let damaged = plan(&first, &other).await;
    drop(first);
    let plans = folder.path().join("plans");
    let file = plans.join(format!("{}.json", damaged.digest().unwrap()));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("alpha", "omega")).unwrap();
    std::fs::write(plans.join("0.new"), "{").unwrap();
    let agent = agent(folder.path(), &target, &clock);
    assert_eq!(agent.ledger().sizes(), (0, 1));
    assert_eq!(std::fs::read_dir(&plans).unwrap().count(), 1);
    let outcome = agent.execute(request(&damaged, 0, "k1", 1, &clock)).await.outcome;
    assert!(matches!(&outcome, StepOutcome::Refused { why } if why.contains("forgotten")), "{outcome:?}");
    let outcome = agent.execute(request(&kept, 0, "k1", 1, &clock)).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
    assert_eq!(std::fs::read_dir(&plans).unwrap().count(), 0, "a plan that has begun stands in the journal");
}

/// Makes so many other plans before a step's intent is written that its own plan is no longer kept.
struct Flood {
    agent: std::sync::OnceLock<std::sync::Weak<quell_remedy::Agent>>,
}

#[async_trait::async_trait]
impl quell_remedy::FaultHook for Flood {
    async fn reached(&self, point: &'static str) {
        if point != "resolution.intent.before" {
            return;
        }
        let Some(agent) = self.agent.get().and_then(std::sync::Weak::upgrade) else { return };
        for number in 0..=LedgerSettings::default().unused_plans_max as u128 {
            let mut request = asked_by(1_000 + number);
            request.runbook = Some(runbook("raise"));
            plan(&agent, &request).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_plan_gave_way_to_others_touches_nothing() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let flood = Arc::new(Flood { agent: std::sync::OnceLock::new() });
    let hook: Arc<dyn quell_remedy::FaultHook> = Arc::clone(&flood) as _;
    let agent = agent_with(folder.path(), &target, &clock, switched_on(), hook);
    flood.agent.set(Arc::downgrade(&agent)).unwrap();
    let mut first = asked_by(1);
    first.runbook = Some(runbook("raise"));
    let first = plan(&agent, &first).await;
    clock.advance(1);
    let outcome = agent.execute(request_of(&first, 0, "k1", &clock)).await.outcome;
    assert!(!matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
    assert!(target.effects().is_empty());
}
