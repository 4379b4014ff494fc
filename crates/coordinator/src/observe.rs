//! The world as it is just before a step: alerts read again at their source, locks, switches, cool-downs, the plan's checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use quell_connect::alertmanager::AlertState as Listed;
use quell_incident::alert::AlertKey;
use quell_incident::contract::VerifyRequest;
use quell_incident::gate::{AlertNow, World};
use quell_incident::{Incident, Plan};
use quell_store::StoreError;

use crate::agents::Workers;
use crate::reconcile::{AlertReader, Answer, Held};
use crate::site::Site;

/// How long reading the checks before the first step may take; without an answer the alert alone counts.
const CHECKS_WITHIN: Duration = Duration::from_secs(10);

/// Two scrapes of the slowest usual interval, with a margin.
const RECENT: SignedDuration = SignedDuration::from_secs(45);
/// How long reading the alerts again may take.
const ALERTS_WITHIN: Duration = Duration::from_secs(10);

/// Where alerts are read again.
pub(crate) struct AlertSource {
    /// The configured source whose alerts these Alertmanagers have.
    pub name: String,
    /// Who reads the Alertmanagers.
    pub reader: Arc<dyn ReadAlerts>,
}

/// Who is asked what the Alertmanagers of a source hold just now.
#[async_trait]
pub(crate) trait ReadAlerts: Send + Sync {
    /// At least what they hold of alerts with these names.
    async fn named(&self, names: &[&str], within: Duration) -> Answer;
}

#[async_trait]
impl ReadAlerts for AlertReader {
    async fn named(&self, names: &[&str], within: Duration) -> Answer {
        AlertReader::named(self, names, within).await
    }
}

/// Observes what the gates of a plan's next step are decided by.
pub(crate) async fn world(
    site: &Site,
    agents: &dyn Workers,
    alertmanager: Option<&AlertSource>,
    incident: &Incident,
    plan: &Plan,
    read_checks: bool,
) -> Result<World, StoreError> {
    let targets = plan.targets();
    let baseline = async {
        if !read_checks {
            return None;
        }
        let request = VerifyRequest {
            schema: "quell/verify/v1".to_owned(),
            incident_id: incident.id,
            checks: plan.checks.clone(),
            since: Some(recently(site, incident)),
        };
        let message_id = format!("{}/baseline/{}", incident.id, site.ids.new_id());
        agents.verify(incident.priority, message_id, &request, CHECKS_WITHIN).await.ok()
    };
    let baseline = baseline.await;
    // Each as late as it can be: the checks may have waited for the agent. Locks before cool-downs, since an end frees the one and sets
    // the other in one commit. What can race is checked again by the append.
    let alerts = alerts(alertmanager, incident).await;
    let locks = site.store.locks(&targets).await?;
    let cool_downs = site.store.cool_downs(&incident.alert_name, &targets, site.now()).await?;
    let windows = site.settings().windows.open(incident, site.now());
    Ok(World { alerts, baseline, locks, cool_downs, windows, site: site.store.site_gates().await? })
}

/// Since when samples speak of now: not from before the fault, of which a rate would still be full, and not from long ago.
fn recently(site: &Site, incident: &Incident) -> Timestamp {
    let fired = incident.members.iter().filter(|member| member.fires()).map(|member| member.starts_at);
    let recent = site.now().saturating_sub(RECENT).unwrap_or(Timestamp::MIN);
    fired.min().map_or(recent, |fired| fired.max(recent))
}

/// What is known of each alert now: what its source says where there is one to ask, else what its messages said.
async fn alerts(source: Option<&AlertSource>, incident: &Incident) -> BTreeMap<AlertKey, AlertNow> {
    let by_message: BTreeMap<_, _> = incident
        .members
        .iter()
        .map(|member| {
            let now = match (member.cleared_at, &member.suppressed_by) {
                (Some(at), _) => AlertNow::Cleared(at),
                (None, Some(by)) => AlertNow::Suppressed(by.to_string()),
                (None, None) => AlertNow::Firing,
            };
            (AlertKey::clone(&member.key), now)
        })
        .collect();
    let Some(source) = source else { return by_message };
    let asked: Vec<_> = by_message
        .iter()
        .filter(|(key, now)| key.source.as_str() == source.name && !matches!(now, AlertNow::Cleared(_)))
        .map(|(key, _)| key.clone())
        .collect();
    if asked.is_empty() {
        return by_message;
    }
    let mut alerts = by_message;
    // Without names everything is asked for, as for an alert that has none.
    let name = |key: &AlertKey| Some(incident.alerts.get(key)?.alert.labels.get("alertname")?.for_people());
    let names: BTreeSet<_> = asked.iter().map(name).collect::<Option<_>>().unwrap_or_default();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let read = source.reader.named(&names, ALERTS_WITHIN).await;
    alerts.extend(asked.into_iter().map(|key| {
        let now = match &read {
            Ok(reading) => now_of(reading.alerts.get(key.fingerprint.as_str())),
            Err(error) => AlertNow::Unknown(format!("Alertmanager did not answer: {error}")),
        };
        (key, now)
    }));
    alerts
}

fn now_of(held: Option<&Held>) -> AlertNow {
    match held.map(|held| (&held.alert.state, &held.by)) {
        Some((Listed::Firing, _)) => AlertNow::Firing,
        Some((Listed::Suppressed { .. }, Some(by))) => AlertNow::Suppressed(by.clone()),
        Some((Listed::Suppressed { .. }, None)) => AlertNow::Suppressed("Alertmanager".to_owned()),
        // It may have cleared, or Alertmanager may have lost it with a restart: its own message will tell, or the reconciler.
        Some((Listed::Cleared, _)) | None => AlertNow::Unknown("Alertmanager does not list it".to_owned()),
    }
}
