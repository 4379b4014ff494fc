//! The load: senders that behave as Alertmanager does, and note what was answered with success.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::tally::Episode;
use crate::clock::Clock;
use crate::failure::{Failure, Result};

/// Senders at the same time.
const SENDERS: u64 = 4;
/// Alerts in one webhook at the most.
const ALERTS_MAX: u64 = 5;
/// How long a sender waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries to deliver the same.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// From the end of a sender's alerts to its next ones: those that last are diagnosed, which is to leave room for the faults.
const PAUSE_MILLISECONDS: std::ops::Range<u64> = 300..1_200;
/// A webhook that is not taken within this is given up, and the test with it.
const TAKEN_WITHIN: Duration = Duration::from_secs(120);

/// What the senders share.
#[derive(Default)]
struct Shared {
    acknowledged: Mutex<BTreeSet<Episode>>,
    webhooks: AtomicU64,
    ending: AtomicBool,
}

/// The senders of one round.
pub(crate) struct Load {
    shared: Arc<Shared>,
    senders: JoinSet<std::result::Result<(), String>>,
}

impl Load {
    /// Starts the senders of a round. Each alert is one of its own; its end is delivered after its beginning was acknowledged.
    pub(crate) fn start(
        round: u64,
        targets: &[SocketAddr],
        random: &mut StdRng,
        clock: Clock,
    ) -> Result<Self> {
        let client = Client::builder().timeout(ANSWER_WITHIN).build();
        let client = client.map_err(|error| Failure::failed(format!("no HTTP client: {error}")))?;
        let shared = Arc::new(Shared::default());
        let mut senders = JoinSet::new();
        for number in 0..SENDERS {
            let sender = Sender {
                shared: Arc::clone(&shared),
                client: client.clone(),
                targets: targets.to_vec(),
                random: StdRng::seed_from_u64(random.random()),
                name: format!("{round}-{number}"),
                clock,
            };
            senders.spawn(sender.run());
        }
        Ok(Self { shared, senders })
    }

    /// Ends it: what has begun to fire is ended and acknowledged first. Returns what was acknowledged, and how many webhooks.
    ///
    /// # Errors
    /// When a webhook was refused for good, or not taken for too long.
    pub(crate) async fn end(mut self) -> Result<(BTreeSet<Episode>, u64)> {
        self.shared.ending.store(true, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return Err(Failure::failed(why)),
                Err(error) => return Err(Failure::failed(format!("a sender ended: {error}"))),
            }
        }
        let acknowledged = self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((acknowledged, self.shared.webhooks.load(Ordering::Relaxed)))
    }
}

struct Sender {
    shared: Arc<Shared>,
    client: Client,
    targets: Vec<SocketAddr>,
    random: StdRng,
    name: String,
    clock: Clock,
}

impl Sender {
    async fn run(mut self) -> std::result::Result<(), String> {
        let mut count = 0_u64;
        while !self.shared.ending.load(Ordering::Relaxed) {
            let mut alerts = Vec::new();
            for _ in 0..self.random.random_range(1..=ALERTS_MAX) {
                count += 1;
                alerts.push(self.alert(count));
            }
            self.deliver(&alerts).await?;
            self.note(&alerts);
            if self.random.random_bool(0.2) {
                // Its sender did not see the answer, or there is a second Alertmanager.
                self.deliver(&alerts).await?;
            }
            let lasts = if self.random.random_bool(0.05) { 800..2_000 } else { 50..600 };
            tokio::time::sleep(Duration::from_millis(self.random.random_range(lasts))).await;
            let ends_at = self.clock.now().to_string();
            for alert in &mut alerts {
                alert["status"] = json!("resolved");
                alert["endsAt"] = json!(ends_at);
            }
            self.deliver(&alerts).await?;
            let pause = self.random.random_range(PAUSE_MILLISECONDS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    fn alert(&mut self, count: u64) -> Value {
        json!({
            "status": "firing",
            "labels": {
                "alertname": "SelftestLoad", "severity": "info", "component": "selftest",
                "instance": format!("load-{}-{count}", self.name),
            },
            "annotations": {"summary": "made by quell selftest"},
            "startsAt": self.clock.now().to_string(),
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": format!("{:016x}", self.random.random::<u64>()),
        })
    }

    /// Delivers until it is taken, as Alertmanager does: everything but a success and a 4xx is tried again.
    async fn deliver(&mut self, alerts: &[Value]) -> std::result::Result<(), String> {
        let group = format!("{{}}:{{sender=\"{}\"}}", self.name);
        let body = json!({
            "version": "4", "groupKey": group, "truncatedAlerts": 0, "receiver": "quell",
            "status": alerts[0]["status"], "alerts": alerts,
        });
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < TAKEN_WITHIN {
            let target = self.targets[self.random.random_range(0..self.targets.len())];
            let url = format!("http://{target}/webhooks/alertmanager");
            if let Ok(response) = self.client.post(&url).json(&body).send().await {
                let status = response.status();
                if status.is_success() {
                    self.shared.webhooks.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                if status.is_client_error() {
                    let said = response.text().await.unwrap_or_default();
                    return Err(format!("a webhook was refused for good: {status} {said}"));
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        Err(format!("a webhook was not taken within {} s", TAKEN_WITHIN.as_secs()))
    }

    fn note(&self, alerts: &[Value]) {
        let text = |alert: &Value, field: &str| alert[field].as_str().unwrap_or_default().to_owned();
        let mut acknowledged = self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.extend(alerts.iter().map(|alert| (text(alert, "fingerprint"), text(alert, "startsAt"))));
    }
}
