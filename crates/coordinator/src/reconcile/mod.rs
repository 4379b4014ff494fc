//! Compares what is known here with what Alertmanager holds, and repairs what webhooks missed; and reads alerts from Prometheus itself.
//!
//! **Flow.** A round reads the alerts, then what each Alertmanager says of itself, compares ([`mod@compare`]) and repairs: an alert that
//! fires there and is unknown here is received, one that has ended there is received as resolved, both by the same durable way as a
//! webhook's; what is silenced or inhibited is told to its incident. **Guarantees.** An incident opens once, whoever is first: what is
//! received is correlated by its key. Nothing is cleared by an answer that is missing or partial, nor by an Alertmanager that has not run
//! long enough to have heard again of what fires. **Assumptions.** The Alertmanagers of the source hold the same alerts. **Absent on
//! purpose.** Nothing is stored of a round: what is forgotten by a restart delays a repair by a round or two. Health does not depend on
//! an Alertmanager that can be reached.

mod compare;
mod intervals;
mod metrics;
mod polling;
mod reader;
mod repair;

use std::sync::Arc;
use std::time::Duration;

use quell_connect::prometheus::PrometheusClient;
use quell_incident::ids::SourceName;
use quell_service::config;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::compare::{Limits, Listing, Memory, compare, receivers_of};
#[cfg(test)]
pub(crate) use self::intervals::Told;
pub(crate) use self::metrics::ReconcileMetrics;
use self::polling::Poller;
#[cfg(test)]
pub(crate) use self::reader::NoAnswer;
pub(crate) use self::reader::Reading;
pub(crate) use self::reader::{AlertReader, Answer, Held};
use self::repair::Repair;
use crate::correlate::Correlated;
use crate::site::{Settings, Site};

/// What reconciliation works with.
pub(crate) struct Ground {
    /// The site.
    pub site: Arc<Site>,
    /// The source whose alerts are compared.
    pub source: SourceName,
    /// Told after each receipt.
    pub received: Arc<Notify>,
    /// Where correlation stands.
    pub correlated: Correlated,
    /// What is counted.
    pub metrics: Arc<ReconcileMetrics>,
}

/// Starts comparing with Alertmanager where there is one, and reading from Prometheus; each is done while the settings in force say so.
pub(crate) fn start(
    ground: Ground,
    reader: Option<Arc<AlertReader>>,
    prometheus: Option<PrometheusClient>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    let repair = Arc::new(Repair { ground });
    if let Some(reader) = reader.clone() {
        let page = prometheus.as_ref().map(PrometheusClient::alerts_page);
        let reconciler = Reconciler {
            repair: Arc::clone(&repair),
            reader,
            page,
            memory: Memory::default(),
            receivers: None,
        };
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(reconciler.run()).await });
    }
    if let Some(client) = prometheus {
        let poller = Poller::new(repair, client, reader);
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(poller.run()).await });
    }
}

struct Reconciler {
    repair: Arc<Repair>,
    reader: Arc<AlertReader>,
    /// The page that stands as the origin of alerts that are read from Prometheus, where there is one.
    page: Option<String>,
    memory: Memory,
    /// The receivers whose alerts are ours, once that is known.
    receivers: Option<Vec<String>>,
}

impl Reconciler {
    async fn run(mut self) {
        let site = Arc::clone(&self.repair.ground.site);
        loop {
            let reloaded = site.reloaded();
            let settings = site.settings();
            let enabled = settings.reconcile.enabled;
            if enabled {
                self.turn(&settings).await;
            } else {
                self.memory.interrupted();
            }
            if !paused(reloaded, enabled.then(|| self.repair.jittered(span(settings.reconcile.interval))))
                .await
            {
                self.receivers = None;
            }
        }
    }

    /// One round, and what is said of it.
    async fn turn(&mut self, settings: &Settings) {
        let timeout = span(settings.reconcile.timeout);
        let round = tokio::time::timeout(timeout, self.round(settings, timeout)).await;
        let result = match round {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => {
                warn!(%error, "the comparison with Alertmanager waits for the store");
                "store"
            }
            Err(_elapsed) => {
                warn!(
                    timeout_seconds = timeout.as_secs(),
                    "the comparison with Alertmanager did not end in time"
                );
                "late"
            }
        };
        if result != "complete" {
            self.memory.interrupted();
        }
        self.repair.ground.metrics.round(result);
    }

    async fn round(
        &mut self,
        settings: &Settings,
        within: Duration,
    ) -> Result<&'static str, quell_store::StoreError> {
        let page = self.page.as_deref().filter(|_| settings.poll_prometheus.enabled);
        let settings = &settings.reconcile;
        let site = &self.repair.ground.site;
        let at = site.now();
        self.reader.set_receivers(&settings.receivers);
        let reading = self.reader.all(within).await;
        self.say_who_answers(reading.as_deref().ok());
        let reading = match reading {
            Ok(reading) => reading,
            Err(error) => {
                info!(%error, "no Alertmanager answered; nothing is taken from that");
                return Ok("unreachable");
            }
        };
        // After the alerts: one that started anew in between shows it.
        let statuses = self.reader.statuses(within).await;
        let known: Vec<_> = statuses.iter().flatten().map(AsRef::as_ref).collect();
        let margin = settings.clear_margin.signed();
        let long_enough = |status: &quell_connect::alertmanager::Status| {
            at.duration_since(status.started_at) >= status.resolve_timeout.saturating_add(margin)
        };
        let complete = reading.failed.is_empty() && known.len() == statuses.len();
        let settled = complete && known.iter().all(|status| long_enough(status));
        if complete || self.receivers.is_none() && !known.is_empty() {
            let receivers = receivers_of(&settings.receivers, &known);
            if self.receivers.as_ref() != Some(&receivers) {
                info!(
                    receivers = receivers.join(", "),
                    "alerts of these receivers of Alertmanager are taken up when their webhooks are missed"
                );
            }
            self.receivers = Some(receivers);
        }
        let receivers = self.receivers.clone().unwrap_or_else(|| settings.receivers.clone());

        let own = self.repair.own(page).await?;
        let listing = Listing { alerts: &reading.alerts, settled, at };
        let limits = Limits {
            missed_after: settings.missed_after.signed(),
            cleared_after: settings.cleared_after.signed(),
            receivers: &receivers,
            polling: page.is_some(),
        };
        let mut findings = compare(&own, &listing, &limits, &mut self.memory);
        findings.unknown.retain(|held| !self.repair.is_heartbeat(held));
        // What holds actions back comes first.
        self.repair.suppress(&findings.suppressions).await;
        self.repair.missed(&findings.unknown).await?;
        let words = "Alertmanager does not list it any more";
        self.repair.ended(&findings.ended, "missed_resolved", words).await?;
        // What was missed is received by now; what is received too late for this round makes the incident incomplete again.
        if complete && findings.unknown.is_empty() {
            self.repair.listed().await?;
        }
        Ok(if complete { "complete" } else { "partial" })
    }

    fn say_who_answers(&self, reading: Option<&Reading>) {
        let metrics = &self.repair.ground.metrics;
        for place in self.reader.places() {
            let failed = reading.map(|reading| reading.failed.iter().find(|(failed, _)| *failed == place));
            if let Some(Some((_, why))) = failed {
                info!(
                    alertmanager = place,
                    why, "this Alertmanager did not answer; nothing is cleared meanwhile"
                );
            }
            metrics.reachable(&place, matches!(failed, Some(None)));
        }
        if let Some(reading) = reading {
            metrics.held(reading.alerts.len());
        }
    }
}

/// Waits for the span, or without one for ever, unless other settings come first: then that is false.
async fn paused(reloaded: Notified<'_>, span: Option<Duration>) -> bool {
    let pause = async {
        match span {
            Some(span) => sleep(span).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = reloaded => false,
        () = pause => true,
    }
}

fn span(period: config::Period) -> Duration {
    period.signed().unsigned_abs()
}

#[cfg(test)]
mod tests;
