//! What agents are asked and what they may do: the same again after a crash, nothing without a permit, one plan for one cause, and nothing after a
//! step that nobody can vouch for until a person has said what became of it.

use jiff::SignedDuration;
use quell_a2a::{Client, ClientOptions, Message, Part as MessagePart};
use quell_incident::contract::{PlanAnswer, StepAnswer, StepOutcome, StepRequest, TargetLock};
use quell_incident::{FencingToken, Permit, PermittedSkill, SignedPermit, StepKey};
use quell_sandbox::Part;
use quell_sign::SigningKey;
use serde::de::DeserializeOwned;

use super::common::{firing, payload, post};
use super::*;

/// Asks the agent as whoever reaches its port can.
async fn ask<T: DeserializeOwned>(agent: SocketAddr, skill: &str, request: &impl serde::Serialize) -> T {
    let client = Client::connect_lazy(&format!("http://{agent}"), ClientOptions::default()).unwrap();
    let part = MessagePart::data(serde_json::to_value(request).unwrap());
    let message = Message::user(uuid::Uuid::now_v7().to_string(), vec![part]).with_skill(skill);
    let task = client.run(message, WITHIN).await.unwrap();
    let data = task.artifacts.iter().find_map(|artifact| artifact.data()).unwrap().clone();
    serde_json::from_value(data).unwrap()
}

/// The other way round: the coordinator is who it says it is, and somebody else asks its resolution agent.
#[tokio::test(flavor = "multi_thread")]
async fn the_resolution_agent_does_what_its_own_coordinator_permits_and_nothing_else() {
    let site = Sandbox::start(Options::default()).await.unwrap();
    let agent = site.agent(Part::Resolution).unwrap();
    let pinned = site.folder().join("resolution").join("coordinator.pub");
    quell_sandbox::until("the coordinator to introduce itself", WITHIN, async || {
        if pinned.exists() { Ok(()) } else { Err("no key is pinned".to_owned()) }
    })
    .await
    .unwrap();
    let brief = json!({
        "id": uuid::Uuid::now_v7(), "title": "invented", "alert_name": "Invented", "priority": "P1", "severity": "high",
        "affected_systems": [], "started_at": "2026-01-01T00:00:00Z", "alerts": [], "labels": {"service": "order_service"},
    });
    let request = json!({
        "schema": "quell/plan-request/v1", "incident": brief, "report": null, "exclude": [], "runbook": "memory-restart-service",
    });
    let PlanAnswer::Plan { plan } = ask(agent, "plan", &request).await else { panic!("no plan") };
    let (digest, step, own) = (plan.digest().unwrap(), &plan.steps[0], SigningKey::generate().unwrap());
    for number in 1..=5 {
        let not_after = common::fake::now() + SignedDuration::from_secs(60);
        let unsigned = StepRequest {
            schema: "quell/step/v1".to_owned(),
            incident_id: plan.incident_id,
            key: StepKey::of(plan.incident_id, 1, &digest, &step.name, number, false),
            plan_digest: digest,
            step: step.clone(),
            undo: false,
            agent: plan.agent.clone(),
            lock: TargetLock { target: step.target.clone(), token: FencingToken(u64::MAX) },
            started_at: common::fake::now(),
            not_after,
            permit: None,
        };
        let permit = Permit::of(&unsigned, PermittedSkill::Execute, Vec::new(), not_after).unwrap();
        let signature = own.sign(&permit.signed_bytes().unwrap()).unwrap();
        let permit = Some(SignedPermit { permit, public_key: own.public().to_string(), signature });
        for request in [StepRequest { permit, ..unsigned.clone() }, unsigned] {
            let answer: StepAnswer = ask(agent, "execute", &request).await;
            assert!(matches!(answer.outcome, StepOutcome::Refused { .. }), "{answer:?}");
        }
    }
    assert!(site.actions().await.unwrap().is_empty());
    // Its own coordinator's incident is worked on, on the same target.
    site.trigger("memory_leak", None).await.unwrap();
    let resolved = |incident: &Value| incident["status"] == "closed";
    site.incident("the fault to be resolved", WITHIN, resolved).await.unwrap();
    assert!(!site.actions().await.unwrap().is_empty());
}

/// A coordinator that dies while an agent works asks again under the same key. Whatever has joined the incident meanwhile: it is the same
/// request, which an agent finds again; another one under that key it would refuse.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_asked_the_same_again_after_a_crash_although_alerts_have_joined() {
    tokio::join!(joins_while_asked("diagnose", "diagnosing"), joins_while_asked("plan", "planning"));
}

async fn joins_while_asked(skill: &'static str, phase: &'static str) {
    let told = Arc::new(tokio::sync::Notify::new());
    let waits = Arc::clone(&told);
    let answer = move |_: usize, request: &Value| match skill {
        "diagnose" => Says::Later(Arc::clone(&waits), report(request)),
        _ => Says::Later(Arc::clone(&waits), planned(plan(request, 1))),
    };
    let (mut diagnostic, mut resolution) = (Scripts::diagnostic(), Scripts::resolution());
    if skill == "diagnose" {
        diagnostic = diagnostic.with(skill, answer);
    } else {
        resolution = resolution.with(skill, answer);
    }
    let (diagnostic, resolution) = (diagnostic.serve().await, resolution.serve().await);
    let options = working_with(diagnostic.address, resolution.address)
        .replacing("diagnosis: 900ms, planning: 900ms", "diagnosis: 60s, planning: 60s");
    let mut sandbox = Sandbox::start(options).await.unwrap();
    let group = async |sandbox: &Sandbox, alerts: &[&str]| {
        let labels =
            [("cluster", "one"), ("service", "shop"), ("instance", "shop:80"), ("severity", "warning")];
        let alerts: Vec<_> = alerts.iter().map(|name| firing(name, &labels)).collect();
        let mut payload = payload(&alerts);
        payload["groupKey"] = json!("{}:{cluster=\"one\", service=\"shop\"}");
        let taken = post(sandbox, "/webhooks/alertmanager", payload.to_string()).await;
        assert_eq!(taken.status, 200, "{taken:?}");
    };
    let at_work = |total: u64| move |one: &Value| one["phase"] == phase && one["alerts_total"] == total;
    group(&sandbox, &["ShopSlow"]).await;
    sandbox.incident("it is asked", WITHIN, at_work(1)).await.unwrap();
    group(&sandbox, &["ShopSlow", "ShopDown"]).await;
    sandbox.incident("another alert has joined", WITHIN, at_work(2)).await.unwrap();
    sandbox.restart(Part::Coordinator).await.unwrap();
    told.notify_one();
    let goes_on = |one: &Value| one["phase"] != phase;
    let incident = sandbox.incident("it goes on", WITHIN, goes_on).await.unwrap();
    assert_eq!(count(&incident, "task_failed"), 0, "{skill}: {}", texts(&incident));
    let agent = if skill == "diagnose" { &diagnostic } else { &resolution };
    assert_eq!(agent.asked(skill).len(), 1, "{skill}: {}", texts(&incident));
}

/// Only a person can say what became of a step that nobody can vouch for, and until they have its target stays locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_nobody_can_vouch_for_is_settled_by_a_person_and_then_the_target_is_free() {
    for happened in [true, false] {
        let cannot_tell = |_: usize, request: &Value| {
            Says::Data(json!({"key": request["key"], "verdict": {"kind": "cannot_tell", "why": "no access"}}))
        };
        let diagnostic = Scripts::diagnostic().serve().await;
        let resolution = Scripts::resolution()
            .with("execute", |before, request| match before {
                0 => fails("broken pipe"),
                _ => Says::Data(json!({"key": request["key"], "outcome": done()})),
            })
            .with("probe", cannot_tell)
            .serve()
            .await;
        let options = working_with(diagnostic.address, resolution.address)
            .replacing("step_grace: 2s, probe: 30s", "step_grace: 500ms, probe: 2s");
        let sandbox = Sandbox::start(options).await.unwrap();
        let id = open(&sandbox).await;
        escalated(&sandbox).await;
        let say = async |word: &str, body: Value| {
            post(&sandbox, &format!("/api/incidents/{id}/{word}"), body.to_string()).await
        };
        for (word, body) in [
            ("diagnose", json!({})),
            ("run", json!({"runbook": "restart-shop"})),
            ("resolve", json!({})),
            ("close", json!({"why": "enough"})),
        ] {
            let words = ["`shop` stays locked", "quell incident settle", "--happened|--not-happened --why"];
            say(word, body).await.is_problem(word, 409, &words);
        }
        say("settle", json!({"why": "seen"})).await.is_problem("no verdict", 422, &["`happened` is missing"]);
        say("settle", json!({"happened": true})).await.is_problem("no reason", 422, &["`why` is missing"]);
        let first = resolution.asked("execute").remove(0);
        let settled =
            say("settle", json!({"happened": happened, "why": "its uptime", "step": first["key"]})).await;
        assert_eq!(settled.status, 200, "{settled:?}");
        let action = &settled.json()["remediation_actions"][0];
        assert_eq!(
            (&action["success"], &action["settled"]["by"]),
            (&json!(happened), &json!("local")),
            "{action}"
        );
        // Said again, because the answer was lost: nothing more happens.
        let again = say("settle", json!({"happened": happened, "why": "its uptime"})).await;
        assert_eq!(again.json()["revision"], settled.json()["revision"]);
        let gone_on = say("run", json!({"runbook": "restart-shop"})).await;
        assert_eq!(gone_on.status, 200, "{gone_on:?}");
        let acted = |one: &Value| one["remediation_actions"].as_array().is_some_and(|all| all.len() > 1);
        let incident = sandbox.incident("the target is worked on again", WITHIN, acted).await.unwrap();
        assert!(texts(&incident).contains("says that step"), "{}", texts(&incident));
        let asked = resolution.asked("execute");
        let token = |request: &Value| request["lock"]["token"].as_str().unwrap().parse::<u64>().unwrap();
        assert!(asked.len() < 2 || token(&asked[1]) > token(&asked[0]), "{asked:#?}");
    }
}

/// As it ships, nothing is executed, and every plan would be shown to a person.
#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_alerts_with_one_cause_get_one_plan() {
    let diagnostic = Scripts::default()
        .with("diagnose", |_, request| {
            let mut report = report(request);
            report["root_cause"]["cause"] = json!("memory_leak");
            report["root_cause"]["subject"] =
                json!({"service": "order_service", "instance": "app-server-01:9090"});
            Says::Data(report)
        })
        .serve()
        .await;
    let options =
        Options { automatic: false, parts: vec![Part::Resolution, Part::Coordinator], ..Options::default() };
    let site = Sandbox::start(options.agent_at(Part::Diagnostic, diagnostic.address)).await.unwrap();
    let alert = |number: usize, status: &str| {
        let labels = json!({"alertname": format!("Slow{number}"), "severity": "critical", "instance": format!("host-{number}:1")});
        let ends_at = if status == "firing" {
            "0001-01-01T00:00:00Z".to_owned()
        } else {
            common::fake::now().to_string()
        };
        json!({"status": status, "labels": labels, "annotations": {}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": ends_at})
    };
    let storm: Vec<_> = (0..300).map(|number| alert(number, "firing")).collect();
    common::deliver(&site, common::WEBHOOKS[0], &storm).await;
    let all = async || {
        let all = site.get("/api/incidents?view=full&limit=1000").await.map_err(|error| error.to_string())?;
        Ok::<_, String>(all.as_array().cloned().unwrap_or_default())
    };
    let waits = |incident: &&Value| {
        incident["phase"] == "planning"
            && incident["summary"].as_str().unwrap_or_default().contains("has the plan")
    };
    quell_sandbox::until("one to have the plan and the others to wait for it", WITHIN, async || {
        let all = all().await?;
        let waiting = all.iter().filter(waits).count();
        if waiting == 299 { Ok(()) } else { Err(format!("{waiting} of {} wait", all.len())) }
    })
    .await
    .unwrap();
    let page = format!("http://{}/metrics", site.agent(Part::Resolution).unwrap());
    let page = site.client().get(page).send().await.unwrap().text().await.unwrap();
    let one = r#"quell_resolution_answers_total{skill="plan",outcome="plan"} 1"#;
    assert!(page.lines().any(|line| line == one), "{page}");
    let id = all().await.unwrap().iter().find(waits).unwrap()["id"].as_str().unwrap().to_owned();
    let waiting = site.get(&format!("/api/incidents/{id}")).await.unwrap();
    let said = waiting["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["type"] == "planning_waits")
        .count();
    assert_eq!(said, 1, "{waiting}");
    // With their alerts they are over.
    let storm: Vec<_> = (0..300).map(|number| alert(number, "resolved")).collect();
    common::deliver(&site, common::WEBHOOKS[0], &storm).await;
    quell_sandbox::until("all to be over", WITHIN, async || {
        let left = all().await?.iter().filter(|one| one["phase"] == "planning").count();
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    })
    .await
    .unwrap();
}
