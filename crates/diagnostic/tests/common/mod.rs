//! The agent in this process, against the real simulator, through the real A2A client.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quell_a2a::{Client, ClientOptions, Message, Part, TaskState};
use quell_diagnostic::{Setup, StartError};
use quell_incident::Report;
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::contract::{DiagnoseRequest, IncidentBrief};
use quell_incident::ids::{IncidentId, SourceName};
use quell_incident::severity::{Priority, Severity};
use quell_service::{Clock, Config, Daemon, Environment, Handle as _, Loading, SystemClock, SystemIds};

pub(crate) const WITHIN: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

pub(crate) struct Site {
    pub(crate) simulator: quell_simulator::Handle,
    pub(crate) agent: quell_diagnostic::Handle,
    pub(crate) http: reqwest::Client,
    pub(crate) client: Client,
    pub(crate) tasks: u32,
}

pub(crate) fn config(text: &str) -> Config {
    let loading =
        Loading { daemon: Some(Daemon::Diagnostic), file: None, environment: Environment::default() };
    loading.load_text(text, |_| {}).unwrap()
}

pub(crate) fn settings(addresses: [std::net::SocketAddr; 3], more: &str) -> String {
    let [control, application, gateway] = addresses;
    format!(
        "simulator:\n  url: http://{control}\n  metrics_urls: [http://{control}/metrics, http://{application}/metrics, \
         http://{gateway}/metrics]\ndiagnostic:\n  listen: 127.0.0.1:0\n  scrape_interval: 50ms\n  gather_timeout: 10s\n{more}"
    )
}

pub(crate) async fn simulator() -> quell_simulator::Handle {
    let now: quell_simulator::Clock = Arc::new(|| SystemClock.now());
    let config = quell_simulator::Config {
        metrics_port: 0,
        tick: TICK,
        seed: Some(7),
        ..quell_simulator::Config::new(now)
    };
    quell_simulator::start(config).await.unwrap()
}

pub(crate) async fn agent(config: Config) -> Result<quell_diagnostic::Handle, StartError> {
    let clock = Arc::new(SystemClock);
    quell_diagnostic::start(Setup { config, clock: clock.clone(), ids: Arc::new(SystemIds::new(clock)) })
        .await
}

impl Site {
    pub(crate) async fn start(more: &str) -> Self {
        let simulator = simulator().await;
        let agent = agent(config(&settings(simulator.addresses(), more))).await.unwrap();
        let client = Client::connect_lazy(&agent.address().to_string(), ClientOptions::default()).unwrap();
        Self { simulator, agent, http: reqwest::Client::new(), client, tasks: 0 }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("http://{}{path}", self.agent.address())).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn trigger(&self, scenario: &str) {
        let url = format!("http://{}/trigger/{scenario}", self.simulator.addresses()[0]);
        assert!(self.http.post(url).send().await.unwrap().status().is_success());
    }

    pub(crate) async fn diagnose(&mut self, request: &DiagnoseRequest) -> Report {
        self.tasks += 1;
        let data = serde_json::to_value(request).unwrap();
        let id = format!("{}-{}", request.incident.id, self.tasks);
        let message = Message::user(id, vec![Part::data(data)]).with_skill("diagnose");
        let task = self.client.run(message, WITHIN).await.unwrap();
        assert_eq!(task.state(), TaskState::Completed, "{task:?}");
        let data = task.artifact("report").and_then(|artifact| artifact.data()).unwrap().clone();
        serde_json::from_value(data).unwrap()
    }

    /// Diagnoses until the report is as wanted: the world needs some ticks before a fault shows.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        labels: &[(&str, &str)],
        holds: impl Fn(&Report) -> bool,
    ) -> Report {
        let started = SystemClock.now();
        let deadline = tokio::time::Instant::now() + WITHIN;
        loop {
            let report = self.diagnose(&request(started, labels)).await;
            if holds(&report) {
                return report;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: {report:#?}");
        }
    }

    pub(crate) async fn stop(self) {
        self.agent.stop(Duration::from_secs(5)).await;
        self.simulator.stop().await;
    }
}

pub(crate) fn request(started_at: Timestamp, labels: &[(&str, &str)]) -> DiagnoseRequest {
    let labels: Labels = labels.iter().copied().collect();
    let alert = Alert {
        key: AlertKey {
            source: SourceName::declared("alertmanager").unwrap(),
            fingerprint: Fingerprint::of(&labels),
        },
        status: AlertStatus::Firing,
        labels: labels.clone(),
        annotations: Labels::default(),
        starts_at: started_at,
        ends_at: None,
        generator_url: None,
    };
    DiagnoseRequest {
        schema: "quell/diagnose/v1".to_owned(),
        incident: IncidentBrief {
            id: IncidentId(uuid::Uuid::from_u128(9)),
            title: "an incident".to_owned(),
            alert_name: alert.name(),
            priority: Priority::P1,
            severity: Severity::High,
            affected_systems: vec![alert.about().name],
            started_at,
            alerts: vec![alert],
            labels,
        },
        reference_time: SystemClock.now(),
        changes: Vec::new(),
    }
}
