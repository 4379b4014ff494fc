//! The world as it is just before a step: alerts read again at their source, locks, switches, cool-downs, the plan's checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use quell_connect::SourceError;
use quell_connect::alertmanager::{AlertState as Listed, AlertmanagerClient};
use quell_incident::alert::AlertKey;
use quell_incident::contract::VerifyRequest;
use quell_incident::gate::{AlertNow, World};
use quell_incident::{Incident, Plan};
use quell_store::StoreError;
use quell_tool::CallContext;

use crate::agents::Workers;
use crate::site::Site;

/// How long reading the checks before the first step may take; without an answer the alert alone counts.
const CHECKS_WITHIN: Duration = Duration::from_secs(10);

/// Two scrapes of the slowest usual interval, with a margin.
const RECENT: SignedDuration = SignedDuration::from_secs(45);
/// How long reading the alerts again may take.
const ALERTS_WITHIN: Duration = Duration::from_secs(10);

/// Where alerts are read again.
pub(crate) struct AlertSource {
    /// The configured source whose alerts this Alertmanager has.
    pub name: String,
    /// The Alertmanager.
    pub client: Arc<dyn AlertStates>,
}

/// Who is asked what an Alertmanager holds of alerts just now.
#[async_trait]
pub(crate) trait AlertStates: Send + Sync {
    /// The state of each of these alerts.
    async fn states(
        &self,
        keys: &[AlertKey],
        context: &CallContext,
    ) -> Result<Vec<(AlertKey, Listed)>, SourceError>;
}

#[async_trait]
impl AlertStates for AlertmanagerClient {
    async fn states(
        &self,
        keys: &[AlertKey],
        context: &CallContext,
    ) -> Result<Vec<(AlertKey, Listed)>, SourceError> {
        AlertmanagerClient::states(self, keys, context).await
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
    Ok(World { alerts, baseline, locks, cool_downs, site: site.store.site_gates().await? })
}

/// Since when samples speak of now: not from before the fault, of which a rate would still be full, and not from long ago.
fn recently(site: &Site, incident: &Incident) -> Timestamp {
    let fired = incident
        .alerts
        .values()
        .filter(|state| state.cleared_at.is_none())
        .map(|state| state.alert.starts_at);
    let recent = site.now().saturating_sub(RECENT).unwrap_or(Timestamp::MIN);
    fired.min().map_or(recent, |fired| fired.max(recent))
}

/// What is known of each alert now: what its source says where there is one to ask, else what its messages said.
async fn alerts(source: Option<&AlertSource>, incident: &Incident) -> BTreeMap<AlertKey, AlertNow> {
    let by_message: BTreeMap<_, _> = incident
        .alerts
        .iter()
        .map(|(key, state)| {
            let now = match (state.cleared_at, &state.suppressed_by) {
                (Some(at), _) => AlertNow::Cleared(at),
                (None, Some(by)) => AlertNow::Suppressed(by.clone()),
                (None, None) => AlertNow::Firing,
            };
            (key.clone(), now)
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
    match source.client.states(&asked, &CallContext::within(ALERTS_WITHIN)).await {
        Ok(listed) => alerts.extend(listed.into_iter().map(|(key, state)| (key, now_of(state)))),
        Err(error) => {
            let why = format!("Alertmanager did not answer: {error}");
            alerts.extend(asked.into_iter().map(|key| (key, AlertNow::Unknown(why.clone()))));
        }
    }
    alerts
}

fn now_of(state: Listed) -> AlertNow {
    match state {
        Listed::Firing => AlertNow::Firing,
        Listed::Suppressed { by } => AlertNow::Suppressed(by.join(", ")),
        // It may have cleared, or Alertmanager may have lost it with a restart: its own message will tell.
        Listed::Cleared => AlertNow::Unknown("Alertmanager does not list it".to_owned()),
    }
}
