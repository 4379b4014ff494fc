//! Carrying out what a comparison found, by the ways that webhooks and agents take.

use std::time::Duration;

use quell_connect::alertmanager::HeldAlert;
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::severity::Status;
use quell_incident::workflow::{self, Input};
use quell_store::{Received, ReceivedPosition, StoreError};
use tracing::{info, warn};

use super::Ground;
use super::compare::{Ended, Own, Suppression};
use crate::alertmanager;
use crate::secrets::masked;
use crate::site::ChangeError;

/// Alerts that are received together.
const BATCH_MAX: usize = 100;
/// Repairs of one round that are told to their incidents in words at the most; all are counted.
const NOTES_MAX: usize = 50;
/// How long correlation is waited for until an incident can be told what happened.
const CORRELATED_WITHIN: Duration = Duration::from_secs(5);
/// Who the notes in incidents are by.
const ACTOR: &str = "reconciler";

/// Carries out repairs.
pub(super) struct Repair {
    pub(super) ground: Ground,
}

impl Repair {
    /// The alerts of the source that fire as far as is known here. `polled_from` is the page that stands as the origin of alerts that were
    /// read from Prometheus.
    pub(super) async fn own(&self, polled_from: Option<&str>) -> Result<Vec<Own>, StoreError> {
        let store = &self.ground.site.store;
        let mut own = Vec::new();
        for id in store.unfinished().await? {
            // An incident that cannot be read is left alone.
            let Ok(Some(incident)) = store.incident(id).await else { continue };
            let ours = incident.members.iter().filter(|member| member.fires());
            own.extend(ours.filter(|member| member.key.source == self.ground.source).map(|member| {
                // Of a storm only a sample is there in full, and the others came by the same way.
                let full = incident.alerts.get(&member.key);
                let like_it = full.or_else(|| incident.alerts.values().next());
                Own {
                    key: AlertKey::clone(&member.key),
                    incident_id: id,
                    starts_at: member.starts_at,
                    suppressed_by: member.suppressed_by.as_deref().map(str::to_owned),
                    polled: like_it.is_some_and(|state| is_polled(&state.alert, polled_from)),
                    // Compared by only where Prometheus is read.
                    labels: polled_from.and(full).map(|state| state.alert.labels.clone()).unwrap_or_default(),
                }
            }));
        }
        Ok(own)
    }

    /// Whether it is a watchdog, which fires while all is well and opens nothing.
    pub(super) fn is_heartbeat(&self, held: &HeldAlert) -> bool {
        let mapping = &self.ground.site.settings().mapping;
        self.alert(held).is_some_and(|alert| mapping.is_heartbeat(&alert))
    }

    /// Whether a firing alert would change nothing: it is known, or was accepted by whoever closed its incident.
    pub(super) async fn is_known(&self, alert: &Alert) -> Result<bool, StoreError> {
        let site = &self.ground.site;
        if site.settings().mapping.is_heartbeat(alert) {
            return Ok(true);
        }
        let Some(id) = site.store.incident_of_alert(&alert.key).await? else { return Ok(false) };
        let incident = match site.store.incident(id).await {
            Ok(Some(incident)) => incident,
            Ok(None) | Err(StoreError::UnknownEvent { .. } | StoreError::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if incident.members.get(&alert.key).is_some() {
            return Ok(!workflow::begins_anew(&incident, alert, site.now()));
        }
        // It is one of those that the incident only counts.
        let accepted = |at| alert.starts_at <= at;
        Ok(incident.status() != Status::Closed || incident.closed_at.is_some_and(accepted))
    }

    /// Receives alerts that fire in Alertmanager and whose webhooks did not come.
    pub(super) async fn missed(&self, held: &[HeldAlert]) -> Result<(), StoreError> {
        let mut alerts = Vec::new();
        for held in held {
            let Some(alert) = self.alert(held) else { continue };
            if !self.is_known(&alert).await? {
                alerts.push(alert);
            }
        }
        self.fired(alerts, "missed_firing", "its webhook did not come; it was read from Alertmanager").await
    }

    /// Receives firing alerts, and says in their incidents where they come from.
    pub(super) async fn fired(
        &self,
        alerts: Vec<Alert>,
        kind: &'static str,
        words: &str,
    ) -> Result<(), StoreError> {
        if alerts.is_empty() {
            return Ok(());
        }
        info!(kind, alerts = alerts.len(), first = %alerts[0].key, "{words}");
        let keys: Vec<_> = alerts.iter().map(|alert| alert.key.clone()).take(NOTES_MAX).collect();
        let position = self.receive(alerts, kind).await?;
        let mut correlated = self.ground.correlated.clone();
        let reached = tokio::time::timeout(CORRELATED_WITHIN, correlated.reached(position)).await;
        if matches!(reached, Ok(true)) {
            for key in keys {
                if let Some(id) = self.ground.site.store.incident_of_alert(&key).await? {
                    self.note(id, format!("alert {key}: {words}")).await;
                }
            }
        }
        Ok(())
    }

    /// Receives alerts as resolved whose ends were not told.
    pub(super) async fn ended(
        &self,
        ended: &[Ended],
        kind: &'static str,
        words: &str,
    ) -> Result<(), StoreError> {
        let mut alerts = Vec::with_capacity(ended.len());
        for (nth, one) in ended.iter().enumerate() {
            let Ok(Some(incident)) = self.ground.site.store.incident(one.own.incident_id).await else {
                continue;
            };
            let Some(member) = incident.members.get(&one.own.key) else { continue };
            // It may have been told meanwhile, and begun again.
            if !member.fires() || member.starts_at != one.own.starts_at {
                continue;
            }
            if nth < NOTES_MAX {
                let text = format!(
                    "alert {}: {words}, in two readings from {} on; it has cleared",
                    one.own.key, one.at
                );
                self.note(one.own.incident_id, text).await;
            }
            let full = incident.alerts.get(&one.own.key).map(|state| Alert::clone(&state.alert));
            // What ends is found by its key; the labels of most of a storm are not kept.
            let alert = full.unwrap_or_else(|| Alert {
                key: one.own.key.clone(),
                status: AlertStatus::Resolved,
                labels: Labels::default(),
                annotations: Labels::default(),
                starts_at: member.starts_at,
                ends_at: None,
                generator_url: None,
            });
            let alert = Alert { status: AlertStatus::Resolved, ends_at: Some(one.at), ..alert };
            alerts.push(alert);
        }
        if let Some(first) = alerts.first() {
            info!(kind, alerts = alerts.len(), first = %first.key, "{words}");
            self.receive(alerts, kind).await?;
        }
        Ok(())
    }

    /// Tells incidents what holds their alerts back now. What one of them refuses is looked at again in the next round.
    pub(super) async fn suppress(&self, suppressions: &[Suppression]) {
        for one in suppressions {
            let kind = if one.by.is_some() { "suppressed" } else { "unsuppressed" };
            let input = Input::AlertSuppressed { key: one.key.clone(), by: one.by.clone() };
            match self.ground.site.change(one.incident_id, &input, self.ground.source.as_str()).await {
                Ok(_) => self.ground.metrics.repaired(kind, 1),
                Err(ChangeError::Refused(refused)) => {
                    info!(incident_id = %one.incident_id, %refused, "a silence changed nothing")
                }
                Err(error) => {
                    warn!(incident_id = %one.incident_id, %error, "a silence could not be told to the incident")
                }
            }
        }
    }

    /// Tells incidents whose messages did not carry every alert that all have been read now.
    pub(super) async fn listed(&self) -> Result<(), StoreError> {
        let site = &self.ground.site;
        for id in site.store.unfinished().await? {
            let Ok(Some(incident)) = site.store.incident(id).await else { continue };
            if incident.truncated.is_empty() {
                continue;
            }
            if let Err(error) = site.change(id, &Input::AlertsListed, ACTOR).await {
                warn!(incident_id = %id, %error, "the incident was not told that all alerts are known");
            }
        }
        Ok(())
    }

    async fn note(&self, id: quell_incident::IncidentId, text: String) {
        let input = Input::Note { by: ACTOR.to_owned(), text };
        if let Err(error) = self.ground.site.change(id, &input, ACTOR).await {
            warn!(incident_id = %id, %error, "a repair could not be noted in the incident");
        }
    }

    /// Puts alerts where webhooks put theirs, and returns the last position.
    async fn receive(&self, alerts: Vec<Alert>, kind: &'static str) -> Result<ReceivedPosition, StoreError> {
        let mut last = ReceivedPosition::default();
        for batch in alerts.chunks(BATCH_MAX) {
            let received = Received {
                at: self.ground.site.now(),
                source: self.ground.source.clone(),
                alerts: batch.to_vec(),
                group_key: None,
                truncated_alerts: 0,
                trace: None,
            };
            let (site, notify) =
                (std::sync::Arc::clone(&self.ground.site), std::sync::Arc::clone(&self.ground.received));
            // A round that is late is dropped; what is on disk by then must be correlated all the same.
            let receiving = tokio::spawn(async move {
                let position = site.store.receive(received).await;
                notify.notify_one();
                position
            });
            last = receiving.await.unwrap_or(Err(StoreError::Closed))?;
            self.ground.metrics.repaired(kind, batch.len() as u64);
        }
        Ok(last)
    }

    /// An alert that Alertmanager holds, as its webhook would have brought it; `None` where a webhook would have been refused.
    pub(super) fn alert(&self, held: &HeldAlert) -> Option<Alert> {
        let fingerprint =
            Fingerprint::given(&held.fingerprint).unwrap_or_else(|| Fingerprint::of(&held.labels));
        let alert = Alert {
            key: AlertKey { source: self.ground.source.clone(), fingerprint },
            status: AlertStatus::Firing,
            labels: held.labels.clone(),
            annotations: held.annotations.clone(),
            starts_at: held.starts_at.min(self.ground.site.now()),
            ends_at: None,
            generator_url: held.generator_url.as_ref().map(|url| url.chars().take(4_000).collect()),
        };
        self.usable(&alert.labels, &alert.annotations).then(|| masked(alert).0)
    }

    /// Whether a webhook with these would be taken.
    pub(super) fn usable(&self, labels: &Labels, annotations: &Labels) -> bool {
        match alertmanager::within_limits(labels, annotations) {
            Ok(()) => true,
            Err(why) => {
                warn!(source = %self.ground.source, why, "an alert that was read cannot be used");
                false
            }
        }
    }

    /// A pause up to a tenth shorter or longer, so that several coordinators do not ask in step.
    pub(super) fn jittered(&self, interval: Duration) -> Duration {
        let random = (self.ground.site.ids.new_id().as_u128() & 0xffff) as f64 / 65_535.0;
        interval.mul_f64(0.9 + 0.2 * random)
    }
}

/// Whether it was read from Prometheus itself: such an alert names the page that it was read from, and a webhook names its rule.
pub(super) fn is_polled(alert: &Alert, page: Option<&str>) -> bool {
    page.is_some_and(|page| alert.generator_url.as_deref() == Some(page))
}
