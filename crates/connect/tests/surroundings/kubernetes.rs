use std::fs;
use std::time::Duration;

use quell_connect::fake::{FakeKubernetes, Mood};
use quell_connect::platform::{KubernetesOptions, KubernetesPlatform, PlatformSource, PlatformState};
use quell_connect::{Guard, GuardOptions, SourceError};
use quell_incident::surroundings::{PLATFORM_OBJECTS_MAX, PlatformObject, PlatformQuery, PlatformSet};
use quell_tool::{CallContext, ReadRegistry};
use serde_json::{Value, json};

use super::*;
use crate::fake::{client, context, nowhere};

fn guard() -> Guard {
    let options = GuardOptions {
        timeout: Duration::from_secs(60),
        pause: Duration::from_millis(1),
        failures_max: 0,
        ..GuardOptions::default()
    };
    Guard::new("kubernetes", options)
}

fn platform(url: &str) -> KubernetesPlatform {
    // Every test may be the first one.
    let _ = client();
    KubernetesPlatform::at(url, Some("t0ken".into()), Vec::new(), guard()).unwrap()
}

fn query() -> PlatformQuery {
    PlatformQuery { from: at(0), to: at(600), namespace: None, service: None }
}

async fn ask(fake: &FakeKubernetes, query: &PlatformQuery) -> Result<PlatformSet, SourceError> {
    platform(&fake.url()).state(query, &context()).await
}

fn pod(namespace: &str, name: &str, app: &str, status: Value) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}, "creationTimestamp": at(-900).to_string()},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": status,
    })
}

fn container(restarts: i32, state: Value, last: Value) -> Value {
    json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state, "lastState": last})
}

fn ready(status: &str) -> Value {
    json!([{"type": "Ready", "status": status, "lastTransitionTime": at(-60).to_string()}])
}

/// A deployment that was rolled out anew and is in a crash loop, on a node without memory.
async fn cluster() -> FakeKubernetes {
    let fake = FakeKubernetes::start().await.unwrap();
    fake.wants("t0ken");
    let killed =
        json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": at(-30).to_string()}});
    let looping = container(7, json!({"waiting": {"reason": "CrashLoopBackOff"}}), killed);
    fake.add(
        "pods",
        pod(
            "production",
            "orders-7c9-x2",
            "orders",
            json!({"phase": "Running", "conditions": ready("False"), "containerStatuses": [looping]}),
        ),
    );
    let running = container(0, json!({"running": {"startedAt": at(-800).to_string()}}), json!({}));
    fake.add(
        "pods",
        pod(
            "production",
            "db-0",
            "db",
            json!({"phase": "Running", "conditions": ready("True"), "containerStatuses": [running]}),
        ),
    );
    fake.add("pods", pod("staging", "orders-1-a", "orders", json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]})));
    let set = |name: &str, revision: &str, replicas: i32, created: Timestamp| {
        json!({
            "metadata": {
                "namespace": "production", "name": name, "labels": {"app": "orders"}, "creationTimestamp": created.to_string(),
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": "1"}],
            },
            "spec": {"replicas": replicas, "selector": {}},
            "status": {"replicas": replicas, "readyReplicas": 0},
        })
    };
    fake.add("replicasets", set("orders-5b8", "3", 0, at(-90_000)));
    fake.add("replicasets", set("orders-7c9", "4", 1, at(-120)));
    fake.add("deployments", json!({
        "metadata": {
            "namespace": "production", "name": "orders", "labels": {"app": "orders"}, "creationTimestamp": at(-99_000).to_string(),
            "annotations": {"deployment.kubernetes.io/revision": "4"},
        },
        "spec": {"replicas": 1, "selector": {}, "template": {}},
        "status": {"updatedReplicas": 1, "conditions": [{"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"}]},
    }));
    fake.add(
        "nodes",
        json!({
            "metadata": {"name": "node-1"},
            "status": {"conditions": [
                {"type": "MemoryPressure", "status": "True", "lastTransitionTime": at(-40).to_string()},
                {"type": "Ready", "status": "True", "lastTransitionTime": at(-9_000).to_string()},
            ]},
        }),
    );
    let event = |at: Timestamp, kind: &str, name: &str, reason: &str| {
        let namespace = if kind == "Node" { Value::Null } else { json!("production") };
        json!({
            "metadata": {"namespace": "production", "name": format!("{name}.{reason}")},
            "involvedObject": {"kind": kind, "namespace": namespace, "name": name},
            "reason": reason, "message": "m".repeat(5_000), "type": "Warning", "count": 3, "lastTimestamp": at.to_string(),
        })
    };
    fake.add("events", event(at(200), "Pod", "orders-7c9-gone", "BackOff"));
    fake.add("events", event(at(100), "Node", "node-1", "SystemOOM"));
    fake.add("events", event(at(300), "Pod", "db-0", "Unhealthy"));
    fake.add("events", event(at(601), "Pod", "db-0", "TooLate"));
    fake.add("events", event(at(-1), "Pod", "db-0", "TooEarly"));
    fake
}

fn of<'a>(set: &'a PlatformSet, kind: &str, name: &str) -> &'a PlatformObject {
    set.objects.iter().find(|object| object.kind == kind && object.name == name).unwrap()
}

#[tokio::test]
async fn objects_are_told_by_the_state_that_explains_most() {
    let fake = cluster().await;
    let set = ask(&fake, &query()).await.unwrap();
    assert_eq!((set.source.as_str(), set.truncated, set.objects.len()), ("kubernetes", false, 7));
    let looping = of(&set, "Pod", "orders-7c9-x2");
    assert_eq!(
        (looping.state.as_str(), looping.last_exit.as_str(), looping.restarts),
        ("CrashLoopBackOff", "OOMKilled", 7)
    );
    assert_eq!((looping.ready, looping.service.as_str(), looping.node.as_str()), (false, "orders", "node-1"));
    let db = of(&set, "Pod", "db-0");
    assert_eq!((db.ready, db.state.as_str(), db.changed_at), (true, "Running", Some(at(-60))));
    assert_eq!(of(&set, "Pod", "orders-1-a").state, "Unschedulable");
    let orders = of(&set, "Deployment", "orders");
    assert_eq!(
        (orders.state.as_str(), orders.revision.as_str()),
        ("MinimumReplicasUnavailable (0 of 1)", "4")
    );
    assert_eq!(orders.changed_at, Some(at(-120)), "when the revision was rolled out");
    assert_eq!(of(&set, "ReplicaSet", "orders-5b8").state, "ScaledDown");
    let node = of(&set, "Node", "node-1");
    assert_eq!((node.ready, node.state.as_str(), node.changed_at), (true, "MemoryPressure", Some(at(-40))));
    let events: Vec<(&str, &str)> =
        set.events.iter().map(|event| (&*event.reason, &*event.service)).collect();
    assert_eq!(events, [("SystemOOM", ""), ("BackOff", "orders"), ("Unhealthy", "db")]);
    assert!(set.events.iter().all(|event| event.message.len() == 1_000 && event.count == 3 && event.warning));
    assert!(fake.asked().iter().all(|asked| asked.starts_with("GET ")), "{:?}", fake.asked());
}

#[tokio::test]
async fn service_and_namespace_select() {
    let fake = cluster().await;
    let asked = PlatformQuery {
        service: Some("orders".to_owned()),
        namespace: Some("production".to_owned()),
        ..query()
    };
    let set = ask(&fake, &asked).await.unwrap();
    let kinds: Vec<(&str, &str)> = set.objects.iter().map(|object| (&*object.kind, &*object.name)).collect();
    assert_eq!(
        kinds,
        [
            ("Pod", "orders-7c9-x2"),
            ("Deployment", "orders"),
            ("ReplicaSet", "orders-5b8"),
            ("ReplicaSet", "orders-7c9"),
            ("Node", "node-1")
        ]
    );
    let reasons: Vec<&str> = set.events.iter().map(|event| &*event.reason).collect();
    assert_eq!(reasons, ["SystemOOM", "BackOff"]);
    let hostile = PlatformQuery { namespace: Some("a/../../secrets".to_owned()), ..query() };
    assert!(matches!(ask(&fake, &hostile).await, Err(SourceError::Invalid { .. })));
    let some =
        KubernetesPlatform::at(&fake.url(), Some("t0ken".into()), vec!["production".to_owned()], guard())
            .unwrap();
    let set = some.state(&query(), &context()).await.unwrap();
    assert!(set.objects.iter().all(|object| object.namespace != "staging"));
    let other = PlatformQuery { namespace: Some("staging".to_owned()), ..query() };
    assert!(matches!(some.state(&other, &context()).await, Err(SourceError::Invalid { .. })));
}

#[tokio::test]
async fn what_may_not_be_read_is_missing_and_told() {
    let fake = cluster().await;
    fake.forbids("nodes");
    let set = ask(&fake, &query()).await.unwrap();
    assert!(set.truncated && set.objects.iter().all(|object| object.kind != "Node"));
    assert!(
        set.query.contains("cannot read nodes: the source answered with status 403: nodes is forbidden"),
        "{}",
        set.query
    );
    for plural in ["pods", "deployments", "replicasets", "events"] {
        fake.forbids(plural);
    }
    let error = ask(&fake, &query()).await.unwrap_err();
    assert!(matches!(error, SourceError::Answered { status: 403, .. }), "{error}");
    let stranger = KubernetesPlatform::at(&fake.url(), Some("other".into()), Vec::new(), guard()).unwrap();
    let error = stranger.state(&query(), &context()).await.unwrap_err();
    assert!(matches!(error, SourceError::Answered { status: 401, .. }), "{error}");
}

#[tokio::test]
async fn lists_come_in_pages_and_begin_anew_when_their_place_is_forgotten() {
    let fake = FakeKubernetes::start().await.unwrap();
    for index in 0..25 {
        fake.add("pods", pod("production", &format!("p-{index}"), "a", json!({"phase": "Running"})));
    }
    fake.has_pages_of(10);
    assert_eq!(ask(&fake, &query()).await.unwrap().objects.len(), 25);
    fake.forgets(1);
    let set = ask(&fake, &query()).await.unwrap();
    assert_eq!((set.objects.len(), set.truncated), (25, false), "each once");
    fake.forgets(2);
    let set = ask(&fake, &query()).await.unwrap();
    assert!(set.truncated && set.query.contains("status 410"), "{}", set.query);
    fake.has_pages_of(1);
    let set = ask(&fake, &query()).await.unwrap();
    assert_eq!((set.objects.len(), set.truncated), (20, true), "so many pages and no more");
}

#[tokio::test]
async fn of_too_many_those_that_are_not_well_are_kept() {
    let fake = FakeKubernetes::start().await.unwrap();
    for index in 0..PLATFORM_OBJECTS_MAX + 10 {
        fake.add(
            "pods",
            pod("a", &format!("p-{index}"), "a", json!({"phase": "Running", "conditions": ready("True")})),
        );
    }
    fake.add("pods", pod("a", "ill", "a", json!({"phase": "Failed", "reason": "Evicted"})));
    let set = ask(&fake, &query()).await.unwrap();
    assert_eq!((set.objects.len(), set.truncated), (PLATFORM_OBJECTS_MAX, true));
    assert_eq!((set.objects[0].name.as_str(), set.objects[0].state.as_str()), ("ill", "Evicted"));
}

#[tokio::test]
async fn it_has_bad_days() {
    let fake = cluster().await;
    fake.feels(Mood::Unavailable);
    assert!(matches!(ask(&fake, &query()).await, Err(SourceError::Answered { status: 503, .. })));
    for nonsense in ["[]", "{}", "<html>", "", "{\"items\": 5}", "{\"metadata\": {}, \"items\": [5]}"] {
        fake.feels(Mood::Saying(nonsense.to_owned()));
        let error = ask(&fake, &query()).await.unwrap_err();
        assert!(matches!(error, SourceError::Malformed { .. }), "{nonsense}: {error}");
    }
    fake.feels(Mood::Cut(50));
    let error = ask(&fake, &query()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    fake.feels(Mood::Endless(100));
    let error = ask(&fake, &query()).await.unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
    fake.feels(Mood::Silent);
    let short = CallContext::within(Duration::from_millis(50));
    assert_eq!(platform(&fake.url()).state(&query(), &short).await, Err(SourceError::TimedOut));
    let error = platform(&nowhere().await).state(&query(), &context()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    fake.feels(Mood::Well);
    assert!(ask(&fake, &query()).await.is_ok());
}

#[tokio::test]
async fn a_kubeconfig_says_where_and_who() {
    let fake = cluster().await;
    let _ = client();
    let folder = tempfile::tempdir().unwrap();
    let open = async |text: &str| {
        let path = folder.path().join("kubeconfig");
        fs::write(&path, text).unwrap();
        let options = KubernetesOptions { kubeconfig: Some(path), namespaces: Vec::new() };
        KubernetesPlatform::open(options, guard()).await
    };
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: \"{}\"}}}}]\nusers: [{{name: u, user: {{token: t0ken}}}}]\n",
        fake.url()
    );
    let platform = open(&text).await.unwrap();
    assert_eq!(platform.state(&query(), &context()).await.unwrap().objects.len(), 7);
    for wrong in ["", "a: [", "apiVersion: v1\nkind: Config\ncurrent-context: none\n"] {
        let error = open(wrong).await.err().unwrap().to_string();
        assert!(error.contains("kubeconfig"), "{error}");
    }
}

#[tokio::test]
async fn the_tool_takes_and_gives_the_domains_own_types() {
    let fake = cluster().await;
    let mut registry = ReadRegistry::new();
    registry
        .register(std::sync::Arc::new(PlatformState::new(std::sync::Arc::new(platform(&fake.url())))))
        .unwrap();
    let input = serde_json::to_value(query()).unwrap();
    let answer = registry.call(PlatformState::NAME, input, &context()).await.unwrap();
    let set: PlatformSet = serde_json::from_value(answer).unwrap();
    assert_eq!(set.objects.len(), 7);
    assert!(registry.call(PlatformState::NAME, json!({"from": "now"}), &context()).await.is_err());
}
