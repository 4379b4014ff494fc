//! Making plans: which runbook, which targets, what the dry run says, and how each step would be undone.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use common::*;
use jiff::SignedDuration;
use quell_incident::contract::PlanAnswer;
use quell_incident::ids::Digest;
use quell_incident::plan::Undo;
use quell_remedy::{Inventory, Knowledge, Runbooks};
use quell_tool::ToolError;
use quell_tool::fake::{Behaviour, KeyValueTarget};
use serde_json::json;

async fn why_not(agent: &quell_remedy::Agent, request: &quell_incident::contract::PlanRequest) -> String {
    match agent.plan(request).await.unwrap() {
        PlanAnswer::NoPlan { why } => why,
        other => panic!("a plan: {other:?}"),
    }
}

#[tokio::test]
async fn a_plan_shows_each_step_dry_with_its_undo() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    target.set("alpha", "size", json!(10));
    let agent = agent(folder.path(), &target, &clock);
    let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
    insta::assert_json_snapshot!(plan, @r#"
    {
      "schema": "quell/plan/v1",
      "incident_id": "00000000-0000-0000-0000-000000000001",
      "runbook": "raise",
      "runbook_digest": "e69b6442dbd6b0f515b33eb972039663807b974ca43f825a16a015750804d679",
      "cause": "too_low",
      "summary": "Raise two values",
      "steps": [
        {
          "name": "first",
          "title": "Raise size on alpha",
          "target": "alpha",
          "call": {
            "tool": "set-value",
            "action": "set-value",
            "target": "alpha",
            "arguments": {
              "key": "size",
              "value": 20
            }
          },
          "preview": {
            "summary": "set size of alpha",
            "changes": [
              {
                "what": "size of alpha",
                "from": 10,
                "to": 20
              }
            ]
          },
          "undo": {
            "kind": "inverse",
            "call": {
              "tool": "set-value",
              "action": "set-value",
              "target": "alpha",
              "arguments": {
                "key": "size",
                "value": 10
              }
            }
          },
          "timeout": "PT30S",
          "idempotent": true
        },
        {
          "name": "second",
          "title": "Mark the subject",
          "target": "beta",
          "call": {
            "tool": "set-value",
            "action": "set-value",
            "target": "beta",
            "arguments": {
              "key": "marked",
              "value": true
            }
          },
          "preview": {
            "summary": "set marked of beta",
            "changes": [
              {
                "what": "marked of beta",
                "from": null,
                "to": true
              }
            ],
            "limits": "the effect of the steps before it is not in this preview"
          },
          "undo": {
            "kind": "not_needed",
            "why": "a mark harms nobody"
          },
          "timeout": "PT2M",
          "idempotent": true
        }
      ],
      "declared": {
        "alpha": {
          "known_as": [
            "alpha-service"
          ]
        },
        "beta": {
          "known_as": [
            "beta-service"
          ]
        }
      },
      "checks": [
        {
          "name": "low-rate",
          "metric": "errors_total",
          "labels": {},
          "reduce": "rate",
          "holds_if": "<",
          "value": 0.5
        }
      ],
      "alert_look_back": "PT1M",
      "made_at": "2027-01-15T08:00:00Z",
      "valid_until": "2027-01-15T08:10:00Z",
      "agent": {
        "instance": "agent-1",
        "ledger": "00000000-0000-0000-0000-000000000007"
      }
    }
    "#);
    // A plan is only shown once this agent knows it again.
    assert_eq!(*agent.ledger().plan(&plan.digest().unwrap()).unwrap(), plan);
    assert!(target.effects().is_empty());
}

#[tokio::test]
async fn the_same_question_has_the_same_answer() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(folder.path(), &target, &clock);
    let request = plan_request("too_low", "beta-service");
    let first = plan(&agent, &request).await;
    let second = plan(&agent, &request).await;
    assert_eq!(first.digest().unwrap(), second.digest().unwrap());
    // The digest also holds after a way through doubles.
    let wire = serde_json::to_string(&first).unwrap();
    let back: quell_incident::Plan = serde_json::from_str(&wire).unwrap();
    assert_eq!(Digest::of(&back).unwrap(), first.digest().unwrap());
}

#[tokio::test]
async fn runbooks_are_tried_in_order_and_the_excluded_are_passed_over() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(folder.path(), &target, &clock);
    let mut request = plan_request("too_low", "beta-service");
    assert_eq!(plan(&agent, &request).await.runbook, runbook("raise"));
    request.exclude.push(runbook("raise"));
    let other = plan(&agent, &request).await;
    assert_eq!(other.runbook, runbook("other"));
    assert!(other.needs_person().unwrap().contains("the old mode is not known"));
    request.exclude.push(runbook("other"));
    assert_eq!(
        why_not(&agent, &request).await,
        "no runbook for the cause `too_low` is left: `raise` was tried or is cooling down; `other` was tried or is cooling down"
    );
    assert_eq!(
        why_not(&agent, &plan_request("unheard_of", "beta-service")).await,
        "no runbook is for the cause `unheard_of`"
    );
}

#[tokio::test]
async fn a_runbook_needs_its_confidence_and_its_subject() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(folder.path(), &target, &clock);
    let mut request = plan_request("too_low", "beta-service");
    request.report = Some(report("too_low", 0.4, subject("beta-service")));
    assert_eq!(plan(&agent, &request).await.runbook, runbook("other"));
    // Without a target for `$subject` the runbook does not fit; telemetry's text makes no target.
    request.report = Some(report("too_low", 0.9, subject("http://evil.example")));
    assert_eq!(plan(&agent, &request).await.runbook, runbook("other"));
    request.exclude.push(runbook("other"));
    assert!(why_not(&agent, &request).await.contains("no target of the inventory matches service"));
    request.report = None;
    assert_eq!(why_not(&agent, &request).await, "the diagnosis names no cause");
    let mut abstained = report("too_low", 0.9, subject("beta-service"));
    (abstained.root_cause, abstained.abstained) = (None, Some("nothing stands out".to_owned()));
    request.report = Some(abstained);
    assert_eq!(why_not(&agent, &request).await, "the diagnosis names no cause: nothing stands out");
}

#[tokio::test]
async fn a_person_who_chooses_a_runbook_wins() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(folder.path(), &target, &clock);
    let mut request = plan_request("elsewhere", "beta-service");
    request.runbook = Some(runbook("raise"));
    request.exclude.push(runbook("raise"));
    let with_report = plan(&agent, &request).await;
    assert_eq!((with_report.runbook.as_str(), with_report.cause.as_str()), ("raise", "elsewhere"));
    // Without a diagnosis the alert's own labels select the target.
    request.report = None;
    request.incident.labels.insert("service", "beta-service");
    let without = plan(&agent, &request).await;
    assert_eq!((without.cause.as_str(), without.steps[1].target.as_str()), ("chosen by a person", "beta"));
    request.runbook = Some(runbook("none"));
    assert_eq!(why_not(&agent, &request).await, "there is no runbook `none`");
}

#[tokio::test]
async fn a_dry_run_that_fails_makes_no_plan() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(folder.path(), &target, &clock);
    target.next_call(Behaviour::Fail(ToolError::Unreachable { why: "connection refused".to_owned() }));
    assert_eq!(
        why_not(&agent, &plan_request("too_low", "beta-service")).await,
        "step first on alpha cannot be previewed: cannot reach the target: connection refused"
    );
    assert_eq!(agent.ledger().sizes(), (0, 0));
}

#[tokio::test]
async fn a_plan_that_changes_nothing_says_so() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    target.set("alpha", "size", json!(20));
    let agent = agent(folder.path(), &target, &clock);
    let plan = plan(&agent, &plan_request("too_low", "alpha-service")).await;
    assert_eq!(plan.summary, "Raise two values (already so, would change nothing: first)");
    assert!(plan.steps[0].preview.summary.ends_with("it is so already, nothing would change"));
    assert!(matches!(plan.steps[0].undo, Undo::Inverse { .. }));
    let limits = plan.steps[1].preview.limits.as_deref();
    assert_eq!(limits, Some("earlier steps change the same target; this was read before them"));
}

#[tokio::test]
async fn a_plan_knows_how_long_it_is_good_for() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(folder.path(), &target, &clock);
    let plan = plan(&agent, &plan_request("too_low", "alpha-service")).await;
    assert_eq!(plan.made_at, clock.now());
    assert_eq!(plan.valid_until, clock.now() + SignedDuration::from_mins(10));
    assert_eq!(plan.alert_look_back, SignedDuration::from_mins(1));
}

/// A plan carries what decides how far it may go, and telemetry has no part in it.
#[tokio::test]
async fn a_plan_says_what_is_declared_of_its_targets() {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    target.set("alpha", "size", json!(10));
    let agent = agent(folder.path(), &target, &clock);
    let text =
        INVENTORY.replace("alpha: {kind: service,", "alpha: {kind: service, service: shop, level: approve,");
    let actions = tools(&target);
    let inventory = Inventory::from_yaml("inventory.yaml", &text, Some("http://127.0.0.1:1")).unwrap();
    let raise = RAISE.replace("priority: 10", "priority: 10\nlevel: suggest");
    let runbooks = Runbooks::from_texts(&[("raise.yaml", &raise)], &inventory, &actions).unwrap();
    agent.replace_knowledge(Knowledge { inventory, runbooks, actions, ..knowledge(&target, switched_on()) });
    let mut asked = plan_request("too_low", "beta-service");
    asked.incident.labels = [("service", "billing"), ("level", "auto")].into_iter().collect();
    let plan = plan(&agent, &asked).await;
    assert_eq!(
        json!({"declared": plan.declared, "level": plan.level}),
        json!({
            "declared": {
                "alpha": {"service": "shop", "level": "approve", "known_as": ["alpha-service"]},
                "beta": {"known_as": ["beta-service"]},
            },
            "level": "suggest",
        })
    );
    let other = quell_incident::Plan { level: None, ..plan.clone() };
    assert_ne!(plan.digest().unwrap(), other.digest().unwrap(), "an approval is of what is declared as well");
}
