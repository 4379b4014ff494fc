//! Every port of a whole site, what it answers to, and everything that a call could have changed.

use std::net::SocketAddr;
use std::sync::Arc;

use quell_a2a::{Client, ClientOptions, ListTasks};
use quell_sandbox::{Options, Part, Sandbox};
use quell_service::{Clock as _, SystemClock};
use quell_simulator::Config;
use quell_web::{Endpoint, Takes};
use serde_json::{Value, json};

use crate::common::{correlated, deliver, firing, payload, still};

/// What a caller with every right shows, where tokens are set.
const TOKEN: &str = "token-of-everybody";
/// The same at the resolution agent: two agents have no token in common.
const RESOLUTION_TOKEN: &str = "token-of-everybody-else";

/// A port and what it answers to.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// What shows a caller with every right there.
    pub(crate) token: &'static str,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A site of which every port is known.
pub(crate) struct Place {
    pub(crate) sandbox: Sandbox,
    pub(crate) ports: Vec<Port>,
    pub(crate) has_tokens: bool,
    /// An incident that people's words can be said about.
    pub(crate) incident: String,
    _simulator: quell_simulator::Handle,
}

/// The tables of all ports, without a site.
pub(crate) fn tables() -> Vec<(&'static str, Vec<Endpoint>)> {
    let [http, grpc] = quell_coordinator::endpoints().unwrap();
    let [control, application, gateway] = quell_simulator::endpoints();
    vec![
        ("coordinator, HTTP (5000)", http),
        ("coordinator, gRPC (50051)", grpc),
        ("diagnostic agent (50052)", quell_diagnostic::endpoints().unwrap()),
        ("resolution agent (50053)", quell_resolution::endpoints().unwrap()),
        ("simulator, database and control (8000)", control),
        ("simulator, application (8001)", application),
        ("simulator, gateway (8002)", gateway),
    ]
}

impl Place {
    pub(crate) async fn start(has_tokens: bool) -> Self {
        let mut options = Options { parts: Part::ALL.to_vec(), ..still() };
        let entry = |token: &str| {
            format!(
                "tokens: [{{name: everybody, token: {token}, scopes: [webhook, read, operate, approve, agent]}}]"
            )
        };
        if has_tokens {
            let (own, other) = (entry(TOKEN), entry(RESOLUTION_TOKEN));
            options = options
                .replacing("  autonomy:", &format!("  {own}\n  autonomy:"))
                .replacing("diagnostic: {", &format!("diagnostic: {{{own}, "))
                .replacing("resolution: {listen", &format!("resolution: {{{other}, listen"));
        }
        let sandbox = Sandbox::start(options).await.unwrap();
        let mut config = Config::new(Arc::new(|| SystemClock.now()));
        config.metrics_port = 0;
        config.token = has_tokens.then(|| TOKEN.into());
        let simulator = quell_simulator::start(config).await.unwrap();
        let [control, application, gateway] = simulator.addresses();
        let http = sandbox.url("").trim_start_matches("http://").parse().unwrap();
        let [diagnostic, resolution] =
            [Part::Diagnostic, Part::Resolution].map(|part| sandbox.agent(part).unwrap());
        let addresses = [http, sandbox.grpc(), diagnostic, resolution, control, application, gateway];
        let ports = tables().into_iter().zip(addresses);
        let ports = ports.map(|((name, endpoints), address)| {
            let token = if name.starts_with("resolution") { RESOLUTION_TOKEN } else { TOKEN };
            Port { name, address, token, endpoints }
        });
        let ports = ports.collect();
        let mut place = Self { sandbox, ports, has_tokens, incident: String::new(), _simulator: simulator };
        let opened = place.trusted("POST", http, "/api/incidents", Some(json!({"title": "Mine"}))).await;
        place.incident = opened["id"].as_str().unwrap().to_owned();
        place
    }

    /// A request of a program that may do everything.
    pub(crate) async fn trusted(
        &self,
        method: &str,
        address: SocketAddr,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let method = method.parse().unwrap();
        let mut request = self.sandbox.client().request(method, format!("http://{address}{path}"));
        if self.has_tokens {
            request = request.bearer_auth(TOKEN);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {response:?}");
        response.json().await.unwrap()
    }

    /// Everything that a call could have changed.
    pub(crate) async fn state(&self) -> Value {
        let [http, grpc, diagnostic, resolution, control, ..] = self.ports.as_slice() else { panic!() };
        let mut state = json!({});
        for (port, paths) in [
            (http, ["/api/incidents?view=full", "/api/changes", "/api/kill-switch"].as_slice()),
            (control, &["/scenarios", "/targets", "/actions"]),
        ] {
            for path in paths {
                state[port.name][*path] = self.trusted("GET", port.address, path, None).await;
            }
        }
        state["timeline"] =
            self.trusted("GET", http.address, &format!("/api/incidents/{}", self.incident), None).await;
        for port in [grpc, diagnostic, resolution] {
            let options = ClientOptions::default().with_bearer(self.has_tokens.then_some(port.token));
            let client = Client::connect_lazy(&port.address.to_string(), options).unwrap();
            let tasks = client.list_tasks(ListTasks::default()).await.unwrap();
            state[port.name]["tasks"] = json!(tasks.tasks.len());
        }
        // The simulated world moves by itself; what is done to it does not.
        for target in state[control.name]["/targets"].as_array_mut().into_iter().flatten() {
            *target =
                json!({"name": target["name"], "config": target["config"], "replicas": target["replicas"]});
        }
        state
    }

    /// The path with something in the place of its variable parts that a call has an effect on.
    pub(crate) fn path(&self, endpoint: &Endpoint) -> String {
        let target = match endpoint.path.rsplit('/').next().unwrap() {
            "config" => "db-server-01",
            "end-idle-sessions" => "postgres-01",
            "clean" => "storage-node-01",
            "renew" => "api.example.com",
            _ => "order_service",
        };
        endpoint
            .path
            .replace("{id}", &self.incident)
            .replace("{name}", target)
            .replace("{scenario}", "memory_leak")
    }

    /// Waits until all that was delivered is part of incidents, which it was not if it was refused.
    pub(crate) async fn settled(&self) {
        if !self.has_tokens {
            correlated(&self.sandbox, crate::common::WITHIN).await;
        }
    }

    /// Alerts of a program come in as ever.
    pub(crate) async fn still_takes_alerts(&self) {
        if !self.has_tokens {
            deliver(&self.sandbox, "/webhooks/alertmanager", &[firing("Ours", &[])]).await;
            correlated(&self.sandbox, crate::common::WITHIN).await;
        }
    }
}

/// A body that would be taken.
pub(crate) fn body(endpoint: &Endpoint) -> Vec<u8> {
    let json = match endpoint.path.trim_end_matches('/') {
        "/webhooks/alertmanager" => payload(&[firing("Evil", &[])]),
        "/webhook/alert" => firing("EvilToo", &[]),
        "/api/incidents" => json!({"title": "Evil"}),
        "/api/changes" => json!({"kind": "deploy", "service": "evil"}),
        "/api/kill-switch" => json!({"engaged": true, "why": "evil"}),
        path => match path.rsplit('/').next().unwrap() {
            "notes" => json!({"text": "evil"}),
            "run" => json!({"runbook": "restart"}),
            "settle" => json!({"happened": true, "why": "evil"}),
            "approve" => json!({"plan_digest": "0".repeat(64)}),
            "{scenario}" => json!({"duration": 60}),
            "config" => json!({"pool_size": 11}),
            "replicas" => json!({"replicas": 5}),
            "clean" => json!({"path": "/data"}),
            "stop-job" => json!({"job": "report"}),
            "refuse" => json!({"target": "order_service", "times": 0}),
            _ => json!({}),
        },
    };
    match endpoint.takes {
        Takes::Nothing => Vec::new(),
        // An empty message: no flag, no length.
        Takes::Grpc => vec![0; 5],
        Takes::Json | Takes::AnyType => json.to_string().into_bytes(),
    }
}
