//! Whatever the coordinator permits: what the agent's own files declare as a level holds here as well.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use common::*;
use quell_incident::Permit;
use quell_incident::contract::StepOutcome;
use quell_incident::incident::Approval;
use quell_remedy::{Agent, Inventory, Knowledge, Runbooks};
use quell_tool::fake::KeyValueTarget;
use serde_json::json;

/// The same knowledge with other texts of the inventory and the runbook.
fn with(target: &KeyValueTarget, inventory: &str, runbook: &str) -> Knowledge {
    let actions = tools(target);
    let inventory = Inventory::from_yaml("inventory.yaml", inventory, Some("http://127.0.0.1:1")).unwrap();
    let runbooks = Runbooks::from_texts(&[("raise.yaml", runbook)], &inventory, &actions).unwrap();
    Knowledge { inventory, runbooks, actions, ..knowledge(target, switched_on()) }
}

async fn refusal(agent: &std::sync::Arc<Agent>, request: quell_incident::contract::StepRequest) -> String {
    match agent.execute(request).await.outcome {
        StepOutcome::Refused { why } => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_target_that_is_for_showing_only_is_not_touched_and_what_was_done_is_undone() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    target.set("alpha", "size", json!(10));
    let agent = agent(folder.path(), &target, &clock);
    let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
    let outcome = agent.execute(request(&plan, 0, "done", 1, &clock)).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
    let showing = INVENTORY.replace("{kind: service,", "{kind: service, level: suggest,");
    agent.replace_knowledge(with(&target, &showing, RAISE));
    let why = refusal(&agent, request(&plan, 1, "k1", 1, &clock)).await;
    assert_eq!(why, "target `beta` declares the level suggest: a person carries it out, not this agent");
    let outcome = agent.execute(undo_of(request(&plan, 0, "u1", 2, &clock))).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
    assert_eq!(target.get("alpha", "size"), Some(json!(10)));
}

#[tokio::test]
async fn a_runbook_that_is_for_showing_only_is_not_carried_out() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(folder.path(), &target, &clock);
    let raise = RAISE.replace("priority: 10", "priority: 10\nlevel: observe");
    agent.replace_knowledge(with(&target, INVENTORY, &raise));
    let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
    let why = refusal(&agent, request(&plan, 0, "k1", 1, &clock)).await;
    assert_eq!(why, "runbook `raise` declares the level observe: a person carries it out, not this agent");
    assert!(target.effects().is_empty());
}

#[tokio::test]
async fn a_target_that_wants_a_person_is_touched_with_a_permit_that_names_one() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(folder.path(), &target, &clock);
    let asking = INVENTORY.replace("{kind: service,", "{kind: service, level: approve,");
    agent.replace_knowledge(with(&target, &asking, RAISE));
    let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
    let why = refusal(&agent, request(&plan, 0, "k1", 1, &clock)).await;
    assert!(
        why.starts_with("target `alpha` declares the level approve, and the permit names nobody"),
        "{why}"
    );
    let step = request(&plan, 0, "k2", 1, &clock);
    let approval = Approval { by: "mei".to_owned(), digest: step.plan_digest, at: clock.now() };
    let permit = Permit { approvals: vec![approval], ..step.permit.clone().unwrap().permit };
    let outcome = agent.execute(signed(step, permit, &permit_key())).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
}
