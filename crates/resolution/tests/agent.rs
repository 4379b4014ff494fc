//! The agent as a process: its switches, its callers, its ledger, its pages.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use common::*;
use quell_a2a::{ClientOptions, fetch_card};
use quell_incident::PermittedSkill;
use quell_incident::contract::{Introduced, PlanAnswer, ProbeAnswer, ProbeVerdict, StepAnswer, StepOutcome};
use quell_incident::incident::Approval;
use quell_resolution::{LEDGER_EXTENSION, Setup, StartError, start};
use quell_service::config::{Scope, TokenEntry};
use quell_service::{Exit, Failure as _, FaultPoints, Handle as _, Secret, SystemClock, SystemIds};
use quell_sign::SigningKey;
use secrecy::SecretString;
use std::sync::Arc;

fn database() -> quell_incident::contract::PlanRequest {
    plan_request("connection_pool_exhausted", subject("order_service", "db-server-01:9090", "customer_db"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_shipped_defaults_every_step_is_refused_and_nothing_is_done() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let agent = agent(defaults(&simulator, folder.path())).await;
    let asker = Asker::of(&agent);
    let causes = [
        ("connection_pool_exhausted", subject("order_service", "db-server-01:9090", "customer_db")),
        ("memory_leak", subject("order_service", "app-server-01:9090", "")),
        ("runaway_cpu", subject("order_service", "app-server-01:9090", "")),
        ("upstream_unavailable", subject("catalog_service", "", "")),
        ("disk_filled_by_logs", subject("", "storage-node-01:9090", "/data")),
        ("certificate_expiring", subject("", "api.example.com:443", "")),
        ("consumer_group_too_small", subject("email-service", "", "email-service")),
        ("idle_sessions_exhaust_connections", subject("", "postgres-01:9187", "")),
    ];
    for (cause, subject) in causes {
        let plan = asker.plan(&plan_request(cause, subject)).await;
        for index in 0..plan.steps.len() {
            let outcome = asker.step(&step_request(&plan, index, 1, false, 1)).await;
            let StepOutcome::Refused { why } = outcome else { panic!("{cause}: {outcome:?}") };
            assert!(why.starts_with("execution is switched off: set agents.resolution"), "{why}");
        }
    }
    assert!(actions(&simulator).await.is_empty());
    agent.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_taken_back_by_its_inverse() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let agent = agent(switched_on(&simulator, folder.path())).await;
    let asker = Asker::of(&agent);
    let config = async || get(format!("{}/targets/db-server-01", url(&simulator))).await["config"].clone();
    let before = config().await;
    let plan = asker.plan(&database()).await;
    assert!(has_inverse(&plan, 0));
    assert!(matches!(asker.step(&step_request(&plan, 0, 1, false, 1)).await, StepOutcome::Done { .. }));
    assert_ne!(config().await, before);
    let undo = step_request(&plan, 0, 1, true, 1);
    assert!(matches!(asker.step(&undo).await, StepOutcome::Done { .. }));
    assert_eq!(config().await, before);
    // A request for the one skill does not go by the other.
    let refused = asker.ask::<StepAnswer>("execute", &undo).await.unwrap_err();
    assert!(refused.contains("undo"), "{refused}");
    agent.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_outlives_the_process_and_belongs_to_one() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let first = agent(switched_on(&simulator, folder.path())).await;
    let asker = Asker::of(&first);
    let plan = asker.plan(&database()).await;
    let done = asker.step(&step_request(&plan, 0, 1, false, 1)).await;

    let clock = Arc::new(SystemClock);
    let ids = Arc::new(SystemIds::new(clock.clone()));
    let config = switched_on(&simulator, folder.path());
    let second = start(Setup { config, clock, ids, faults: FaultPoints::disabled() }).await;
    let error = second.err().unwrap();
    assert!(matches!(error, StartError::Ledger { .. }), "{error}");
    assert_eq!(error.exit(), Exit::DataLocked);

    first.stop(PATIENCE).await;
    let second = agent(switched_on(&simulator, folder.path())).await;
    let asker = Asker::of(&second);
    assert_eq!(asker.step(&step_request(&plan, 0, 1, false, 1)).await, done);
    assert_eq!(actions(&simulator).await.len(), 1);
    // Another ledger knows nothing of the plan and says whom it is for.
    let elsewhere = tempfile::tempdir().unwrap();
    let third = agent(switched_on(&simulator, elsewhere.path())).await;
    let outcome = Asker::of(&third).step(&step_request(&plan, 1, 1, false, 1)).await;
    assert!(
        matches!(&outcome, StepOutcome::Unknown { why } if why.contains("belongs to agent")),
        "{outcome:?}"
    );
    assert_eq!(actions(&simulator).await.len(), 1);
}

/// Lives of the agent are runtimes of their own: dropping one ends all of its tasks, as the end of a process does.
#[test]
fn killed_in_the_middle_of_a_step_the_agent_never_begins_it_again() {
    let world = tokio::runtime::Runtime::new().unwrap();
    let simulator = world.block_on(simulator());
    for (point, happened) in [
        ("resolution.intent.before", None),
        ("resolution.intent.after", Some(false)),
        ("resolution.effect.before", Some(false)),
        ("resolution.effect.after", Some(true)),
        ("resolution.outcome.before", Some(true)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let before = world.block_on(actions(&simulator)).len();
        let life = tokio::runtime::Runtime::new().unwrap();
        let plan = life.block_on(async {
            let faults = FaultPoints::counting();
            let (died, dead) = tokio::sync::oneshot::channel();
            faults.arm(point, 1, move |_| {
                let _ = died.send(());
            });
            let agent = agent_with(switched_on(&simulator, folder.path()), faults).await;
            let asker = Asker::of(&agent);
            let clean = plan_request("disk_filled_by_logs", subject("", "storage-node-01:9090", "/data"));
            let plan = asker.plan(&clean).await;
            let request = step_request(&plan, 0, 1, false, 1);
            tokio::select! {
                outcome = asker.step(&request) => panic!("{point}: {outcome:?}"),
                died = dead => died.unwrap(),
            }
            plan
        });
        drop(life);

        let life = tokio::runtime::Runtime::new().unwrap();
        life.block_on(async {
            let agent = agent(switched_on(&simulator, folder.path())).await;
            let asker = Asker::of(&agent);
            let request = step_request(&plan, 0, 1, false, 1);
            let verdict = asker.probe(&request).await.verdict;
            let again = asker.step(&request).await;
            let done = actions(&simulator).await.len() - before;
            match happened {
                // Nothing was on disk: the probe has sealed the key.
                None => {
                    assert_eq!(verdict, ProbeVerdict::NotDone, "{point}");
                    assert!(matches!(again, StepOutcome::Refused { .. }), "{point}: {again:?}");
                    assert_eq!(done, 0, "{point}");
                }
                Some(happened) => {
                    assert!(matches!(again, StepOutcome::Unknown { .. }), "{point}: {again:?}");
                    assert_eq!(done, usize::from(happened), "{point}");
                    match verdict {
                        ProbeVerdict::Done { .. } => assert!(happened, "{point}"),
                        ProbeVerdict::NotDone => assert!(!happened, "{point}"),
                        ProbeVerdict::CannotTell { why } => panic!("{point}: {why}"),
                    }
                }
            }
            agent.stop(PATIENCE).await;
        });
    }
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_names_the_ledger_and_the_pages_tell_how_it_is() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let agent = agent(defaults(&simulator, folder.path())).await;
    let base = format!("http://{}", agent.address());
    let client = reqwest::Client::new();
    let card = fetch_card(&client, &base).await.unwrap();
    for skill in ["plan", "execute", "undo", "probe", "verify", "introduce"] {
        assert!(card.has_skill(skill), "{skill}");
    }
    let plan = Asker::of(&agent).plan(&database()).await;
    let extension = card.capabilities.extensions.iter().find(|one| one.uri == LEDGER_EXTENSION).unwrap();
    let params = extension.params.as_ref().unwrap();
    assert_eq!(params["instance"], plan.agent.instance.as_str());
    assert_eq!(params["ledger"], plan.agent.ledger.as_str());

    assert_eq!(get(format!("{base}/health")).await["status"], "healthy");
    let ready = get(format!("{base}/ready")).await;
    assert_eq!((&ready["status"], &ready["executes"]), (&"ready".into(), &false.into()));
    assert!(ready["runbooks"].as_u64().unwrap() >= 10);
    let metrics = reqwest::get(format!("{base}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("quell_resolution_steps_running 0"), "{metrics}");
    assert!(
        metrics.contains(r#"quell_resolution_answers_total{skill="plan",outcome="plan"} 1"#),
        "{metrics}"
    );
    agent.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_callers_with_the_right_token_are_heard() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let mut config = switched_on(&simulator, folder.path());
    let entry = |name: &str, token: &str, scope| TokenEntry {
        name: name.to_owned(),
        token: Some(Secret::new(token)),
        token_file: None,
        scopes: vec![scope],
    };
    config.resolution.tokens =
        vec![entry("coordinator", "right-token", Scope::Agent), entry("viewer", "other-token", Scope::Read)];
    let agent = agent(config).await;
    let asker = |token: Option<&str>| {
        let bearer = token.map(|token| SecretString::from(token.to_owned()));
        Asker::with(&agent, ClientOptions { bearer, ..ClientOptions::default() })
    };
    assert_eq!(asker(Some("right-token")).plan(&database()).await.steps.len(), 2);
    for token in [None, Some("wrong-token"), Some("other-token")] {
        let error = asker(token).ask::<PlanAnswer>("plan", &database()).await.unwrap_err();
        assert!(error.contains("token") || error.contains("scope"), "{error}");
    }
    agent.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invented_incident_with_the_agents_token_executes_nothing() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let mut config = switched_on(&simulator, folder.path());
    assert!(config.agents.resolution.require_approval);
    config.resolution.tokens = vec![TokenEntry {
        name: "coordinator".to_owned(),
        token: Some(Secret::new("right-token")),
        token_file: None,
        scopes: vec![Scope::Agent],
    }];
    let intruder = SigningKey::generate().unwrap();
    // In the second life the coordinator does not introduce itself again: its key is on disk.
    for life in 0..2 {
        let agent = agent(config.clone()).await;
        let bearer = Some(SecretString::from("right-token".to_owned()));
        let asker = Asker::with(&agent, ClientOptions { bearer, ..ClientOptions::default() });
        if life == 0 {
            assert_eq!(asker.introduce(&permit_key()).await, Introduced::Accepted);
        }
        let Introduced::Refused { why } = asker.introduce(&intruder).await else { panic!("accepted") };
        // By the setting, and by the file in which the first key is kept.
        let file = folder.path().join("coordinator.pub");
        for part in ["agents.resolution.coordinator_public_keys", file.to_str().unwrap()] {
            assert!(why.contains(part), "{why}");
        }
        let plan = asker.plan(&database()).await;
        for number in 1..=5 {
            let request = step_request(&plan, 0, number, false, u64::MAX);
            let approvals = vec![Approval { by: "mei".to_owned(), digest: request.plan_digest, at: now() }];
            let signed = |skill| permitted(&request, skill, approvals.clone(), &intruder);
            for forged in [request.clone(), signed(PermittedSkill::Execute)] {
                let outcome = asker.ask::<StepAnswer>("execute", &forged).await.unwrap().outcome;
                assert!(matches!(outcome, StepOutcome::Refused { .. }), "{outcome:?}");
            }
            for forged in [request.clone(), signed(PermittedSkill::Probe)] {
                let verdict = asker.ask::<ProbeAnswer>("probe", &forged).await.unwrap().verdict;
                assert!(matches!(verdict, ProbeVerdict::CannotTell { .. }), "{verdict:?}");
            }
        }
        assert_eq!(actions(&simulator).await.len(), life);
        // What the coordinator permits is done all the same: no key was sealed and no token believed.
        let outcome = asker.step(&step_request(&plan, 0, 1, false, life as u64 + 1)).await;
        assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
        agent.stop(PATIENCE).await;
    }
    assert_eq!(actions(&simulator).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_all_or_nothing() {
    let (simulator, folder) = (simulator().await, tempfile::tempdir().unwrap());
    let runbooks = tempfile::tempdir().unwrap();
    let mut agent = agent(defaults(&simulator, folder.path())).await;
    let asker = Asker::of(&agent);
    let mut config = defaults(&simulator, folder.path());
    config.resolution.runbook_dir = Some(runbooks.path().to_owned());
    let kafka = || plan_request("consumer_group_too_small", subject("email-service", "", ""));

    std::fs::write(runbooks.path().join("bad.yaml"), "name: x\nstepps: []\n").unwrap();
    let why = agent.reload(config.clone()).await.unwrap_err();
    assert!(why.contains("bad.yaml:2:1: `stepps`: unknown key `stepps`; did you mean `steps`?"), "{why}");
    let plan = asker.plan(&kafka()).await;
    assert_eq!(plan.steps[0].call.arguments["replicas"], 6);

    std::fs::remove_file(runbooks.path().join("bad.yaml")).unwrap();
    let own = include_str!("../../remedy/runbooks/kafka-scale-consumers.yaml")
        .replace("replicas: 6", "replicas: 9");
    std::fs::write(runbooks.path().join("kafka.yaml"), own).unwrap();
    config.agents.resolution.execute_real_commands = true;
    config.agents.resolution.dry_run = false;
    agent.reload(config.clone()).await.unwrap();
    // What was planned by the old runbook is not carried out by the new one.
    let stale = asker.step(&step_request(&plan, 0, 1, false, 1)).await;
    assert!(matches!(&stale, StepOutcome::Refused { why } if why.contains("was edited")), "{stale:?}");
    let plan = asker.plan(&kafka()).await;
    assert_eq!(plan.steps[0].call.arguments["replicas"], 9);
    assert!(matches!(asker.step(&step_request(&plan, 0, 1, false, 1)).await, StepOutcome::Done { .. }));

    config.resolution.allowed_targets = Some(vec!["nowhere".to_owned()]);
    let why = agent.reload(config).await.unwrap_err();
    assert!(why.starts_with("`resolution.allowed_targets`: `nowhere` is not in the inventory"), "{why}");
    agent.stop(PATIENCE).await;
}
