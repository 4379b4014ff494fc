//! Reads alerts from Prometheus itself: for sites without an Alertmanager, and beside one for what does not reach it.
//!
//! An alert's fingerprint is Alertmanager's: over its own labels and the external ones, which Prometheus adds on the way to Alertmanager
//! and does not show in its list. So an alert that came by a webhook and is read here is one. Where labels are rewritten on that way the
//! fingerprint cannot be computed: then, beside an Alertmanager, nothing is opened from here.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_connect::SourceError;
use quell_connect::prometheus::{AlertConfig, PrometheusClient, RuleAlert, RuleTimes};
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_store::StoreError;
use quell_tool::CallContext;
use tokio::time::Instant;
use tracing::{info, warn};

use super::compare::{Ended, Memory, Own};
use super::reader::{AlertReader, Reading};
use super::repair::Repair;
use super::{paused, span};
use crate::secrets::masked;
use crate::site::Settings;

/// How long the configuration and the rules are taken for what they were.
const CONFIG_FRESH: Duration = Duration::from_secs(60);
/// What is added to a rule's `for` and two of its evaluations after a start of Prometheus.
const START_MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// The `for` of a rule that is not listed, for alerts that began before Prometheus started.
const HOLD_UNKNOWN: SignedDuration = SignedDuration::from_mins(15);

/// How long what Alertmanager kept back when it last answered is left alone while it does not answer. A silence or an interval is seldom
/// shorter than a restart takes, and seldom forgotten for longer than this.
const KEPT_BACK_FOR: SignedDuration = SignedDuration::from_hours(1);

/// What changes rarely.
#[derive(Clone, Debug, Default)]
struct Known {
    config: AlertConfig,
    rules: BTreeMap<String, RuleTimes>,
    rules_known: bool,
}

/// One good reading.
struct Poll {
    at: Timestamp,
    alerts: Vec<RuleAlert>,
    /// `None` where the server does not say.
    started_at: Option<Timestamp>,
    known: Known,
    /// By which it is judged.
    settings: Arc<Settings>,
}

pub(super) struct Poller {
    repair: Arc<Repair>,
    client: PrometheusClient,
    alertmanager: Option<Arc<AlertReader>>,
    page: String,
    memory: Memory,
    known: Option<(Instant, Known)>,
    said_relabels: bool,
    /// What Alertmanager kept back when it last answered, and when that was.
    kept_back: (Timestamp, HashSet<String>),
}

impl Poller {
    pub(super) fn new(
        repair: Arc<Repair>,
        client: PrometheusClient,
        alertmanager: Option<Arc<AlertReader>>,
    ) -> Self {
        let page = client.alerts_page();
        let (memory, known) = (Memory::default(), None);
        let kept_back = (Timestamp::MIN, HashSet::new());
        Self { repair, client, alertmanager, page, memory, known, said_relabels: false, kept_back }
    }

    pub(super) async fn run(mut self) {
        let site = Arc::clone(&self.repair.ground.site);
        loop {
            let reloaded = site.reloaded();
            let settings = site.settings();
            let enabled = settings.poll_prometheus.enabled;
            if enabled {
                self.turn(&settings).await;
            } else {
                self.memory.interrupted();
            }
            let interval = span(settings.poll_prometheus.interval);
            paused(reloaded, enabled.then(|| self.repair.jittered(interval))).await;
        }
    }

    /// One round, and what is said of it.
    async fn turn(&mut self, settings: &Arc<Settings>) {
        let timeout = span(settings.poll_prometheus.timeout);
        let result = match tokio::time::timeout(timeout, self.round(settings, timeout)).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => {
                warn!(%error, "reading alerts from Prometheus waits for the store");
                "store"
            }
            Err(_elapsed) => {
                warn!(
                    timeout_seconds = timeout.as_secs(),
                    "reading alerts from Prometheus did not end in time"
                );
                "late"
            }
        };
        if result != "complete" {
            self.memory.interrupted();
        }
        self.repair.ground.metrics.poll(result);
    }

    async fn round(
        &mut self,
        settings: &Arc<Settings>,
        within: Duration,
    ) -> Result<&'static str, StoreError> {
        let poll = match self.read(settings, within).await {
            Ok(poll) => poll,
            Err(error) => {
                info!(%error, "Prometheus' alerts could not be read; nothing is taken from that");
                return Ok("unreachable");
            }
        };
        let reading = match &self.alertmanager {
            Some(reader) => reader.all(within).await.ok(),
            None => None,
        };
        if let Some(reading) = &reading {
            self.kept_back = (poll.at, reading.kept_back().map(str::to_owned).collect());
        }
        let own = self.repair.own(Some(&self.page)).await?;
        let listed: Vec<(Alert, bool)> =
            poll.alerts.iter().filter_map(|alert| Some((self.alert(alert, &poll)?, alert.firing))).collect();
        let fired = self.unknown(&poll, &own, &listed, reading.as_deref()).await?;
        self.repair
            .fired(fired, "polled_firing", "it was read from Prometheus, no webhook told of it")
            .await?;
        let ended = self.ended(&poll, &own, &listed, reading.as_deref());
        self.repair.ended(&ended, "polled_resolved", "Prometheus does not list it any more").await?;
        Ok("complete")
    }

    async fn read(&mut self, settings: &Arc<Settings>, within: Duration) -> Result<Poll, SourceError> {
        let context = CallContext::within(within);
        let at = self.repair.ground.site.now();
        let alerts = self.client.alerts(&context).await?;
        // After the alerts: a start in between shows.
        let started_at = not_offered(self.client.started_at(&context).await.map(Some))?;
        let fresh = |began: &Instant| began.elapsed() < CONFIG_FRESH;
        let known = match &self.known {
            Some((began, known)) if fresh(began) => known.clone(),
            _ => {
                let rules = not_offered(self.client.rules(&context).await.map(Some))?;
                let known = Known {
                    config: not_offered(self.client.alert_config(&context).await)?,
                    rules_known: rules.is_some(),
                    rules: rules.unwrap_or_default(),
                };
                self.known = Some((Instant::now(), known.clone()));
                known
            }
        };
        Ok(Poll { at, alerts, started_at, known, settings: Arc::clone(settings) })
    }

    /// The alert as Alertmanager would have it; `None` for what is left out or cannot be used.
    fn alert(&self, alert: &RuleAlert, poll: &Poll) -> Option<Alert> {
        let name = alert.labels.get("alertname")?;
        if poll.settings.poll_prometheus.ignore.iter().any(|ignored| name.is(ignored)) {
            return None;
        }
        // Prometheus adds an external label where the alert has none of that name.
        let labels = alert.labels.completed_by(&poll.known.config.external_labels);
        if !self.repair.usable(&labels, &alert.annotations) {
            return None;
        }
        let hold = poll.known.rules.get(&name.for_people()).map_or(SignedDuration::ZERO, |times| times.hold);
        let fires_since = alert.active_at.saturating_add(hold).unwrap_or(alert.active_at);
        let source = self.repair.ground.source.clone();
        let alert = Alert {
            key: AlertKey { source, fingerprint: Fingerprint::of(&labels) },
            status: AlertStatus::Firing,
            labels,
            annotations: alert.annotations.clone(),
            starts_at: fires_since.min(poll.at),
            ends_at: None,
            generator_url: Some(self.page.clone()),
        };
        Some(masked(alert).0)
    }

    /// The alerts that fire and that nobody else sees to.
    async fn unknown(
        &mut self,
        poll: &Poll,
        own: &[Own],
        listed: &[(Alert, bool)],
        reading: Option<&Reading>,
    ) -> Result<Vec<Alert>, StoreError> {
        let beside = self.alertmanager.is_some();
        let missed_after = poll.settings.reconcile.missed_after.signed();
        if beside && poll.known.config.relabels {
            if !self.said_relabels {
                warn!(
                    "Prometheus rewrites labels on the way to Alertmanager (alert_relabel_configs): polling opens no incidents"
                );
                self.said_relabels = true;
            }
            return Ok(Vec::new());
        }
        let external = &poll.known.config.external_labels;
        let mut unknown = Vec::new();
        for (alert, firing) in listed {
            let fingerprint = alert.key.fingerprint.as_str();
            // What Alertmanager holds is the reconciler's: it knows of routes and silences.
            let held = match reading {
                Some(reading) => reading.alerts.contains_key(fingerprint),
                None => {
                    let (read_at, kept_back) = &self.kept_back;
                    poll.at.duration_since(*read_at) < KEPT_BACK_FOR && kept_back.contains(fingerprint)
                }
            };
            // Beside an Alertmanager it is on its way there for a while.
            let early = beside && poll.at.duration_since(alert.starts_at) < missed_after;
            if !firing || held || early || own.iter().any(|own| same(own, alert, external)) {
                continue;
            }
            if !self.repair.is_known(alert).await? {
                unknown.push(alert.clone());
            }
        }
        Ok(unknown)
    }

    /// The alerts that were read from here and are not listed any more, neither here nor by Alertmanager.
    fn ended(
        &mut self,
        poll: &Poll,
        own: &[Own],
        listed: &[(Alert, bool)],
        reading: Option<&Reading>,
    ) -> Vec<Ended> {
        let external = &poll.known.config.external_labels;
        let mut ended = Vec::new();
        for one in own.iter().filter(|one| one.polled) {
            // Pending as well: after a start it waits for its `for` again.
            let here = listed.iter().any(|(alert, _)| same(one, alert, external));
            let there =
                reading.is_some_and(|reading| reading.alerts.contains_key(one.key.fingerprint.as_str()));
            if here || there {
                self.memory.present(&one.key);
                continue;
            }
            let since = self.memory.gone(one, poll.at);
            let started_at = poll.started_at.or(since).unwrap_or(poll.at);
            let told_of = started_at.saturating_add(grace(one, &poll.known)).unwrap_or(Timestamp::MAX);
            if let Some(since) = since
                && poll.at >= told_of
            {
                ended.push(Ended { own: one.clone(), at: since.max(one.starts_at) });
            }
        }
        self.memory.keep(&own.iter().map(|one| &one.key).collect::<HashSet<_>>());
        ended
    }
}

/// How long after a start an alert that still holds may be missing: until its rule was evaluated, with a margin; a rule that waits lists
/// it as pending from then on.
fn grace(own: &Own, known: &Known) -> SignedDuration {
    let name = own.labels.get("alertname").map(|name| name.for_people()).unwrap_or_default();
    let times = match known.rules.get(&name) {
        Some(times) => *times,
        // The rule was taken away, and its alerts with it.
        None if known.rules_known => RuleTimes::default(),
        None => RuleTimes { hold: HOLD_UNKNOWN, interval: SignedDuration::ZERO },
    };
    let interval = times.interval.max(known.config.evaluation_interval);
    times.hold.saturating_add(interval.saturating_mul(2)).saturating_add(START_MARGIN)
}

/// Whether an alert that is known is the one that was read: the same fingerprint; or the same labels, but that external ones are missing,
/// which were dropped on the way.
fn same(own: &Own, alert: &Alert, external: &Labels) -> bool {
    if own.key == alert.key {
        return true;
    }
    let (ours, its) = (&own.labels, &alert.labels);
    let dropped = |name: &str| ours.get(name).is_none() && external.get(name) == its.get(name);
    !ours.is_empty()
        && ours.iter().all(|(name, _)| its.get(name) == ours.get(name))
        && its.iter().all(|(name, _)| ours.get(name) == its.get(name) || dropped(name))
}

/// What speaks Prometheus' query interface and is not Prometheus often does not offer the rest of it: then its defaults hold.
fn not_offered<T: Default>(answer: Result<T, SourceError>) -> Result<T, SourceError> {
    match answer {
        Err(SourceError::Answered { status: 403 | 404 | 405 | 501, .. }) => Ok(T::default()),
        other => other,
    }
}
