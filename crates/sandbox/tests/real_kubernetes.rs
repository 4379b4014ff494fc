//! A real Kubernetes API server beside the fake one that the other tests use: the same objects, the same questions, the same answers.
//!
//! `cargo xtask test --kubernetes` builds the server once and names it by `QUELL_KUBE_APISERVER`; where it is not named, or `etcd` or
//! `openssl` is missing, the test says so and returns.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_child::{Manner, Process, find, free_addresses};
use quell_connect::fake::FakeKubernetes;
use quell_connect::platform::{KubernetesOptions, KubernetesPlatform, PlatformSource as _};
use quell_connect::{Guard, GuardOptions, SourceError};
use quell_incident::surroundings::{PlatformQuery, PlatformSet};
use quell_sandbox::until;
use quell_service::{Clock as _, SystemClock};
use quell_tool::CallContext;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(60);
const ADMIN: &str = "admintoken";
/// Somebody without any right.
const NOBODY: &str = "bottoken";
/// Path of the group and plural of all that is listed.
const KINDS: [(&str, &str); 5] = [
    ("/api/v1", "pods"),
    ("/api/v1", "events"),
    ("/api/v1", "nodes"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "replicasets"),
];

struct Programs {
    api_server: PathBuf,
    etcd: PathBuf,
    openssl: PathBuf,
}

fn programs() -> Result<Programs, String> {
    #[allow(clippy::disallowed_methods, reason = "whoever runs the tests names it")]
    let api_server = std::env::var_os("QUELL_KUBE_APISERVER")
        .map(PathBuf::from)
        .ok_or("`cargo xtask test --kubernetes` builds it")?;
    let found = |name: &str| find(name).ok_or_else(|| format!("no `{name}` in the PATH"));
    Ok(Programs { api_server, etcd: found("etcd")?, openssl: found("openssl")? })
}

/// The real one. Dropping it kills it.
struct Real {
    url: String,
    client: reqwest::Client,
    folder: TempDir,
    _processes: [Process; 2],
}

impl Real {
    async fn start(programs: &Programs) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let [client, peer, api] = free_addresses().unwrap();
        fs::write(
            path("tokens.csv"),
            format!("{ADMIN},admin,1,\"system:masters\"\n{NOBODY},nobody,2,\"nothing\"\n"),
        )
        .unwrap();
        let made = |arguments: &[&str]| {
            let output = Command::new(&programs.openssl).args(arguments).output().unwrap();
            assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        };
        made(&["genrsa", "-out", &path("sa.key"), "2048"]);
        made(&["rsa", "-in", &path("sa.key"), "-pubout", "-out", &path("sa.pub")]);
        let start = |name: &str, program: &Path, arguments: &[String]| {
            Process::start(name, program, arguments, folder.path(), Manner::default()).unwrap()
        };
        let etcd = start(
            "etcd",
            &programs.etcd,
            &[
                "--name=one".to_owned(),
                format!("--data-dir={}", path("etcd")),
                format!("--listen-client-urls=http://{client}"),
                format!("--advertise-client-urls=http://{client}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster=one=http://{peer}"),
            ],
        );
        let api_server = start(
            "kube-apiserver",
            &programs.api_server,
            &[
                format!("--etcd-servers=http://{client}"),
                format!("--bind-address={}", api.ip()),
                format!("--secure-port={}", api.port()),
                format!("--cert-dir={}", path("certs")),
                format!("--service-account-issuer=https://{api}"),
                format!("--service-account-key-file={}", path("sa.pub")),
                format!("--service-account-signing-key-file={}", path("sa.key")),
                format!("--token-auth-file={}", path("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                "--anonymous-auth=false".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
            ],
        );
        let certificate = folder.path().join("certs/apiserver.crt");
        let (url, processes) = (format!("https://{api}"), [etcd, api_server]);
        let ready = async || {
            let client = trusting(&certificate).map_err(|why| why + &processes[1].last_words())?;
            let asked = client.get(format!("{url}/readyz")).bearer_auth(ADMIN).send().await;
            match asked {
                Ok(answer) if answer.status().is_success() => Ok(client),
                Ok(answer) => Err(answer.text().await.unwrap_or_default()),
                Err(error) => Err(format!("{error}\n{}", processes[1].last_words())),
            }
        };
        let client = until("the API server to be ready", WITHIN, ready).await;
        let client = client.unwrap_or_else(|error| panic!("{error}"));
        Self { url, client, folder, _processes: processes }
    }

    async fn send(&self, method: Method, path: &str, object: &Value) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(ADMIN);
        let answer = request.json(object).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{path}: {body:#}");
        body
    }

    /// Creates an object, and sets its status as a controller or a node would.
    async fn create(&self, collection: &str, object: Value) -> Value {
        let mut made = self.send(Method::POST, collection, &object).await;
        if object["status"].is_null() {
            return made;
        }
        made["status"] = object["status"].clone();
        let name = object["metadata"]["name"].as_str().unwrap();
        self.send(Method::PUT, &format!("{collection}/{name}/status"), &made).await
    }

    async fn platform(&self, token: &str) -> KubernetesPlatform {
        let file = self.folder.path().join(format!("kubeconfig-{token}"));
        let authority = self.folder.path().join("certs/apiserver.crt");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: \"{}\", certificate-authority: \"{}\"}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n",
            self.url,
            authority.display()
        );
        fs::write(&file, text).unwrap();
        let options = KubernetesOptions { kubeconfig: Some(file), namespaces: Vec::new() };
        KubernetesPlatform::open(options, guard()).await.unwrap()
    }
}

fn trusting(certificate: &Path) -> Result<reqwest::Client, String> {
    let pem = fs::read(certificate).map_err(|error| error.to_string())?;
    let certificate = reqwest::Certificate::from_pem(&pem).map_err(|error| error.to_string())?;
    let client = reqwest::Client::builder().add_root_certificate(certificate).build();
    client.map_err(|error| error.to_string())
}

fn guard() -> Guard {
    Guard::new("kubernetes", GuardOptions { failures_max: 0, ..GuardOptions::default() })
}

fn pod(namespace: &str, name: &str, app: &str, status: &Value) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]},
        "status": status,
    })
}

/// A deployment that is in a crash loop, a full node, and many pods that are well.
async fn fill(real: &Real, now: Timestamp) {
    let ago =
        |seconds: i64| (now - SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for namespace in ["production", "staging"] {
        real.create("/api/v1/namespaces", json!({"metadata": {"name": namespace}})).await;
    }
    let node = json!({"metadata": {"name": "node-1"}, "status": {"conditions": [
        {"type": "MemoryPressure", "status": "True", "lastTransitionTime": ago(40), "lastHeartbeatTime": ago(1), "reason": "R", "message": "m"},
        {"type": "Ready", "status": "True", "lastTransitionTime": ago(9_000), "lastHeartbeatTime": ago(1), "reason": "R", "message": "m"},
    ]}});
    real.create("/api/v1/nodes", node).await;
    let ready = |status: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": ago(60)}]);
    let container = |restarts: i32, state: Value, last: Value| json!([{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state, "lastState": last}]);
    let pods = |namespace: &str| format!("/api/v1/namespaces/{namespace}/pods");
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": ago(30), "startedAt": ago(90), "containerID": "x"}});
    let looping = container(7, json!({"waiting": {"reason": "CrashLoopBackOff"}}), killed);
    let looping = json!({"phase": "Running", "conditions": ready("False"), "containerStatuses": looping});
    real.create(&pods("production"), pod("production", "orders-7c9-x2", "orders", &looping)).await;
    let pending = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
    real.create(&pods("staging"), pod("staging", "orders-1-a", "orders", &pending)).await;
    let running = container(0, json!({"running": {"startedAt": ago(800)}}), json!({}));
    let running = json!({"phase": "Running", "conditions": ready("True"), "containerStatuses": running});
    for number in 0..25 {
        real.create(&pods("production"), pod("production", &format!("web-{number}"), "web", &running)).await;
    }
    let template = json!({"metadata": {"labels": {"app": "orders"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"app": "orders"}});
    let group = "/apis/apps/v1/namespaces/production";
    let deployment = json!({
        "metadata": {"namespace": "production", "name": "orders", "labels": {"app": "orders"},
            "annotations": {"deployment.kubernetes.io/revision": "4"}},
        "spec": {"replicas": 1, "selector": selector, "template": template},
        "status": {"updatedReplicas": 1, "replicas": 1, "unavailableReplicas": 1, "conditions": [
            {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "lastTransitionTime": ago(100), "lastUpdateTime": ago(100), "message": "m"},
        ]},
    });
    let deployment = real.create(&format!("{group}/deployments"), deployment).await;
    let uid = &deployment["metadata"]["uid"];
    for (name, revision, replicas) in [("orders-5b8", "3", 0), ("orders-7c9", "4", 1)] {
        let set = json!({
            "metadata": {"namespace": "production", "name": name, "labels": {"app": "orders"},
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": uid}]},
            "spec": {"replicas": replicas, "selector": selector, "template": template},
            "status": {"replicas": replicas, "readyReplicas": 0},
        });
        real.create(&format!("{group}/replicasets"), set).await;
    }
    let event = |namespace: &str, kind: &str, name: &str, reason: &str, seconds: i64| {
        let object = match kind {
            "Node" => json!({"kind": kind, "name": name}),
            _ => json!({"kind": kind, "namespace": namespace, "name": name}),
        };
        json!({
            "metadata": {"namespace": namespace, "name": format!("{name}.{}", reason.to_lowercase())}, "involvedObject": object,
            "reason": reason, "message": "m".repeat(900), "type": "Warning", "count": 3,
            "firstTimestamp": ago(seconds + 5), "lastTimestamp": ago(seconds),
        })
    };
    for (namespace, kind, name, reason, seconds) in [
        ("production", "Pod", "orders-7c9-x2", "BackOff", 20),
        ("production", "Pod", "web-3", "Unhealthy", 50),
        ("default", "Node", "node-1", "SystemOOM", 35),
        ("production", "Pod", "web-3", "LongAgo", 90_000),
    ] {
        let object = event(namespace, kind, name, reason, seconds);
        real.create(&format!("/api/v1/namespaces/{namespace}/events"), object).await;
    }
}

/// Status and body of an answer.
async fn got(client: &reqwest::Client, url: &str, token: Option<&str>) -> (u16, Value) {
    let request = client.get(url);
    let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// What a client can go by: of a list its form and its objects, of a refusal all but who was refused.
fn form(body: &Value) -> Value {
    if body["kind"] == "Status" {
        let message = body["message"].as_str().unwrap_or_default();
        let who = message.find("User \"").map(|from| &message[from..]);
        let who = who.and_then(|text| text.split('"').nth(1)).unwrap_or_default();
        let message = if who.is_empty() { message.to_owned() } else { message.replace(who, "WHO") };
        // What a decoder of Go's library says of nonsense is nothing that anybody goes by.
        let message = if body["code"] == 400 { String::new() } else { message };
        return json!({
            "apiVersion": body["apiVersion"], "status": body["status"], "reason": body["reason"], "code": body["code"],
            "message": message,
        });
    }
    let items = body["items"].as_array().cloned().unwrap_or_default();
    json!({
        "kind": body["kind"], "apiVersion": body["apiVersion"],
        "more": body["metadata"]["continue"].is_string(), "remaining": body["metadata"]["remainingItemCount"], "items": items,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_api_server_answers_as_a_real_one() {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(missing) => {
            println!("skipped: real Kubernetes API server: {missing}");
            return;
        }
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let real = Real::start(&programs).await;
    let now = SystemClock.now();
    fill(&real, now).await;

    let fake = FakeKubernetes::start().await.unwrap();
    fake.wants(ADMIN);
    for (group, plural) in KINDS {
        let (status, list) = got(&real.client, &format!("{}{group}/{plural}", real.url), Some(ADMIN)).await;
        assert_eq!(status, 200, "{list:#}");
        for object in list["items"].as_array().unwrap() {
            fake.add(plural, object.clone());
        }
    }

    // Question by question.
    let both = async |path: &str, token: Option<&str>| {
        let real = got(&real.client, &format!("{}{path}", real.url), token).await;
        let fake = got(&plain(), &format!("{}{path}", fake.url()), token).await;
        assert_eq!((fake.0, form(&fake.1)), (real.0, form(&real.1)), "{path}: {:#}", real.1);
        (real.1, fake.1)
    };
    for (group, plural) in KINDS {
        both(&format!("{group}/{plural}"), Some(ADMIN)).await;
        both(&format!("{group}/{plural}?limit=0"), Some(ADMIN)).await;
        both(&format!("{group}/{plural}?limit=1000"), Some(ADMIN)).await;
        if plural != "nodes" {
            both(&format!("{group}/namespaces/production/{plural}"), Some(ADMIN)).await;
            both(&format!("{group}/namespaces/nowhere/{plural}"), Some(ADMIN)).await;
        }
    }
    let (mut at_real, mut at_fake) = both("/api/v1/pods?limit=10", Some(ADMIN)).await;
    let mut pages = 1;
    while let (Some(next), Some(same)) =
        (at_real["metadata"]["continue"].as_str(), at_fake["metadata"]["continue"].as_str())
    {
        let page = async |client: &reqwest::Client, url: &str, next: &str| {
            let url = reqwest::Url::parse_with_params(
                &format!("{url}/api/v1/pods"),
                [("limit", "10"), ("continue", next)],
            );
            got(client, url.unwrap().as_str(), Some(ADMIN)).await
        };
        let (one, other) =
            (page(&real.client, &real.url, next).await, page(&plain(), &fake.url(), same).await);
        assert_eq!((other.0, form(&other.1)), (one.0, form(&one.1)));
        (at_real, at_fake, pages) = (one.1, other.1, pages + 1);
    }
    assert_eq!(pages, 3);
    for path in [
        "/api/v1/pods?continue=nonsense",
        "/api/v1/pods?limit=many",
        "/api/v1/unheard",
        "/apis/apps/v1/unheard",
    ] {
        both(path, Some(ADMIN)).await;
    }
    both("/api/v1/pods", None).await;
    both("/api/v1/pods", Some("wrong")).await;

    // And as diagnosis sees it.
    let at_fake = KubernetesPlatform::at(&fake.url(), Some(ADMIN.into()), Vec::new(), guard()).unwrap();
    let at_real = real.platform(ADMIN).await;
    let context = CallContext::within(WITHIN);
    let told = |set: PlatformSet| (set.objects, set.events, set.truncated);
    for (namespace, service) in
        [(None, None), (Some("production"), None), (None, Some("orders")), (Some("nowhere"), None)]
    {
        let query = PlatformQuery {
            from: now - SignedDuration::from_mins(10),
            to: now + SignedDuration::from_mins(1),
            namespace: namespace.map(str::to_owned),
            service: service.map(str::to_owned),
        };
        let (one, other) = (at_real.state(&query, &context).await, at_fake.state(&query, &context).await);
        let (one, other) = (told(one.unwrap()), told(other.unwrap()));
        assert_eq!(other, one, "{query:?}");
        let is_empty = namespace == Some("nowhere");
        assert_eq!(one.0.iter().any(|object| object.state == "CrashLoopBackOff"), !is_empty, "{query:?}");
    }

    // Who may nothing is told so by both.
    let query = PlatformQuery { from: now, to: now, namespace: None, service: None };
    let refused = real.platform(NOBODY).await.state(&query, &context).await.unwrap_err();
    KINDS.iter().for_each(|(_, plural)| fake.forbids(plural));
    let same = at_fake.state(&query, &context).await.unwrap_err();
    for error in [&refused, &same] {
        assert!(matches!(error, SourceError::Answered { status: 403, .. }), "{error}");
    }
    let path = "/api/v1/pods";
    let one = got(&real.client, &format!("{}{path}", real.url), Some(NOBODY)).await;
    let other = got(&plain(), &format!("{}{path}", fake.url()), Some(ADMIN)).await;
    assert_eq!((other.0, form(&other.1)), (one.0, form(&one.1)));
}

/// For the fake, which speaks plain HTTP.
fn plain() -> reqwest::Client {
    reqwest::Client::new()
}
