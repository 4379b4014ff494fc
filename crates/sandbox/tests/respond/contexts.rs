//! What messages are for: the context that a caller names, the skill that a message names, and a step that is settled by one.

use super::*;

/// Incidents that came by webhook are tasks as well, and those of one alert share their context.
#[tokio::test(flavor = "multi_thread")]
async fn incidents_of_one_alert_share_their_context() {
    let sandbox = Sandbox::start(still().replacing("quiet_before_close: 1h", "quiet_before_close: 50ms"))
        .await
        .unwrap();
    let client = client(&sandbox);
    let alert = firing("Again", &[]);
    deliver(&sandbox, "/webhooks/alertmanager", std::slice::from_ref(&alert)).await;
    let first = common::incidents(&sandbox, 1).await[0]["id"].as_str().unwrap().to_owned();
    deliver(&sandbox, "/webhooks/alertmanager", &[resolved(&alert, "2026-01-31T12:10:00Z")]).await;
    phase(&sandbox, &first, "closed").await;
    deliver(
        &sandbox,
        "/webhooks/alertmanager",
        &[common::with(alert, "startsAt", json!("2026-01-31T12:20:00Z"))],
    )
    .await;
    let second = common::incidents(&sandbox, 2).await[0].clone();
    assert_eq!(second["linked_to"], first);
    let second = second["id"].as_str().unwrap().to_owned();
    let query = ListTasks { context_id: first.clone(), ..ListTasks::default() };
    let page = client.list_tasks(query).await.unwrap();
    let found: Vec<_> =
        page.tasks.iter().map(|task| (task.id.clone(), task.context_id.clone(), task.state())).collect();
    assert_eq!(
        found,
        [(second, first.clone(), TaskState::Working), (first.clone(), first, TaskState::Completed)]
    );
}

/// A caller's context is kept, or refused; it is never replaced by another one.
#[tokio::test(flavor = "multi_thread")]
async fn the_context_that_a_caller_names_is_kept() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    let client = client(&sandbox);
    let within = |context: &str, message: Message| Message { context_id: context.to_owned(), ..message };
    let opened = send(&client, within("night-shift", message("m1", draft("Slow")))).await.unwrap();
    assert_eq!(opened.context_id, "night-shift");
    assert_eq!(client.get_task(&opened.id, None).await.unwrap().context_id, "night-shift");
    // Sent again it is the same task, and in another context it is another content.
    let again = send(&client, within("night-shift", message("m1", draft("Slow")))).await.unwrap();
    assert_eq!((&again.id, again.context_id.as_str()), (&opened.id, "night-shift"));
    let moved = send(&client, within("day-shift", message("m1", draft("Slow")))).await.unwrap_err();
    assert_eq!(moved.kind(), ErrorKind::Invalid, "{moved:?}");
    // An alert of an incident that has a context of its own is not taken in another one.
    let alert = firing("Again", &[("instance", "shop:80")]);
    let first = send(&client, within("night-shift", message("m2", alert.clone()))).await.unwrap();
    assert_eq!(first.context_id, "night-shift");
    let elsewhere = send(&client, within("day-shift", message("m3", alert.clone()))).await.unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::Invalid, "{elsewhere:?}");
    assert!(elsewhere.message().contains("night-shift"), "{elsewhere:?}");
    assert_eq!(send(&client, message("m4", alert)).await.unwrap().context_id, "night-shift");
    let query = ListTasks { context_id: "night-shift".to_owned(), ..ListTasks::default() };
    let listed: BTreeSet<_> = listed(&client, query).await.into_iter().collect();
    assert_eq!(listed, BTreeSet::from([opened.id, first.id]));
}

/// A message that is meant for another skill is refused, also where there is only one.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_another_skill_is_refused() {
    let sandbox = Sandbox::start(still()).await.unwrap();
    let client = client(&sandbox);
    for skill in ["diagnose", "plan", "", "Respond"] {
        let error = send(&client, message("m1", draft("Slow")).with_skill(skill)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{skill}: {error:?}");
        assert!(error.message().contains("message.metadata.skill"), "{skill}: {error:?}");
    }
    assert_eq!(sandbox.get("/api/incidents").await.unwrap(), json!([]));
}

/// Only a person can say what became of a step, here by a message.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_settled_by_a_message() {
    let resolution =
        Scripts::resolution().with("execute", |_, _| fails("broken pipe")).with("probe", |_, request| {
            Says::Data(json!({"key": request["key"], "verdict": {"kind": "cannot_tell", "why": "no access"}}))
        });
    let quick: fn(Options) -> Options =
        |options| options.replacing("step_grace: 2s, probe: 30s", "step_grace: 500ms, probe: 2s");
    let site = site_with(resolution, quick).await;
    let asked = task(site.client.send(SendRequest::new(message("m1", draft("Unknown")))).await.unwrap());
    assert_eq!(data_of(&asked)["question"]["unknown_step"]["lock"]["target"], "shop", "{asked:#?}");
    let error = site.client.cancel(&asked.id).await.unwrap_err();
    assert!(error.message().contains("quell incident settle"), "{error:?}");
    for (what, data, field) in [
        ("no verdict", json!({"decision": "settle", "why": "seen"}), "happened"),
        ("no reason", json!({"decision": "settle", "happened": true}), "why"),
        ("no key", json!({"decision": "settle", "happened": true, "why": "seen", "step": " "}), "step"),
        // As much as by REST.
        ("long", json!({"decision": "settle", "happened": true, "why": "x".repeat((16 << 10) + 1)}), "why"),
    ] {
        let error = send(&site.client, answer(&asked, what, data)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error:?}");
        assert!(error.message().contains(field), "{what}: {error:?}");
    }
    let settle = json!({"decision": "settle", "happened": false, "why": "it is as old as before"});
    let settled = send(&site.client, answer(&asked, "s", settle.clone())).await.unwrap();
    assert_eq!(data_of(&settled)["question"]["unknown_step"], Value::Null, "{settled:#?}");
    assert_eq!(send(&site.client, answer(&asked, "s", settle)).await.unwrap(), settled);
    assert_eq!(site.client.cancel(&asked.id).await.unwrap().state(), TaskState::Canceled);
}
