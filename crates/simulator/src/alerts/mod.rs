//! Raises the shipped alerts without Prometheus and Alertmanager.
//!
//! One task evaluates; one worker per group of alerts delivers, so that a group whose receiver is slow does not hold up
//! another. A message is retried until the receiver takes it, refuses it, or a newer state of the group replaces it.

mod rules;
mod state;
#[cfg(test)]
mod tests;
mod webhook;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::simulation::Shared;
use crate::world::Exporter;
use crate::{AlertsConfig, StartError};
use rules::Scrapes;
use state::Alerting;
use webhook::Payload;

const POST_SECONDS_MAX: u64 = 10;
const RETRY_MILLISECONDS_MIN: u64 = 250;
const RETRY_MILLISECONDS_MAX: u64 = 30_000;

pub(crate) struct Notifier {
    sender: Sender,
    interval: Duration,
    scrapes: Scrapes,
    alerting: Alerting,
}

impl Notifier {
    pub(crate) fn new(
        config: &AlertsConfig,
        tick: Duration,
        own: SocketAddr,
    ) -> Result<Notifier, StartError> {
        let wrong = |reason: String| StartError::Setting { setting: "--alerts", reason };
        let url: Url = config.url.parse().map_err(|error| wrong(format!("{error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("it must be an http or https address".to_owned()));
        }
        // Another part of the process may have chosen the provider before; there is only one to choose.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut client = Client::builder()
            .timeout(Duration::from_secs(POST_SECONDS_MAX))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("quell-simulator/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // No certificate is ever checked, so a machine without any will do.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|error| StartError::Client(innermost(error)))?;
        let window = config.hold.max(config.interval.saturating_mul(4)).max(tick.saturating_mul(6));
        Ok(Notifier {
            sender: Sender { client, url, token: config.token.clone() },
            interval: config.interval,
            scrapes: Scrapes::new(window),
            alerting: Alerting::new(config.hold, config.repeat, format!("http://{own}")),
        })
    }

    pub(crate) async fn run(mut self, shared: Arc<Shared>, stopping: CancellationToken) {
        let mut interval = tokio::time::interval(self.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // There are as many groups as rules and services, so neither grows without end.
        let mut groups: BTreeMap<String, watch::Sender<Payload>> = BTreeMap::new();
        let mut workers = JoinSet::new();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                _ = interval.tick() => {}
            }
            let now = shared.now();
            let exporters = shared.with(|world| {
                Exporter::ALL.into_iter().map(|one| (one.job(), world.metrics(one))).collect::<Vec<_>>()
            });
            self.scrapes.take(now, exporters);
            for message in self.alerting.evaluate(now, self.scrapes.matches()) {
                tracing::info!(group = message.group_key, status = ?message.status, "alert");
                match groups.get(&message.group_key) {
                    Some(group) => {
                        group.send_replace(message);
                    }
                    None => {
                        let key = message.group_key.clone();
                        let (group, messages) = watch::channel(message);
                        groups.insert(key, group);
                        workers.spawn(self.sender.clone().deliver(messages));
                    }
                }
            }
        }
        // What is not delivered by now is not delivered: the state that it speaks of ends with the process.
        workers.shutdown().await;
    }
}

#[derive(Clone)]
struct Sender {
    client: Client,
    url: Url,
    token: Option<SecretString>,
}

enum Outcome {
    Delivered,
    Refused(StatusCode),
    Failed(String),
}

impl Sender {
    async fn deliver(self, mut messages: watch::Receiver<Payload>) {
        loop {
            let mut pause = RETRY_MILLISECONDS_MIN;
            loop {
                let message = messages.borrow_and_update().clone();
                let group = message.group_key.as_str();
                match self.post(&message).await {
                    Outcome::Delivered => {
                        tracing::info!(group, status = ?message.status, "webhook delivered");
                        break;
                    }
                    Outcome::Refused(code) => {
                        tracing::warn!(group, code = code.as_u16(), "webhook refused, not sent again");
                        break;
                    }
                    Outcome::Failed(error) => {
                        tracing::warn!(
                            group,
                            error,
                            retry_milliseconds = pause,
                            "webhook failed, will be sent again"
                        );
                    }
                }
                let jittered = rand::rng().random_range(pause / 2..=pause);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(jittered)) => {
                        pause = (pause * 2).min(RETRY_MILLISECONDS_MAX);
                    }
                    // A newer state replaces this one at once.
                    changed = messages.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
            if messages.changed().await.is_err() {
                return;
            }
        }
    }

    async fn post(&self, message: &Payload) -> Outcome {
        let mut request = self.client.post(self.url.clone()).json(message);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        match request.send().await {
            Ok(response) if response.status().is_success() => Outcome::Delivered,
            Ok(response) if response.status().is_server_error() => {
                Outcome::Failed(response.status().to_string())
            }
            Ok(response) => Outcome::Refused(response.status()),
            Err(error) => Outcome::Failed(innermost(error)),
        }
    }
}

/// What is wrong in the end, without the address, which might hold a secret.
fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let first: &(dyn std::error::Error + 'static) = &error;
    std::iter::successors(Some(first), |error| (**error).source()).last().unwrap_or(first).to_string()
}
