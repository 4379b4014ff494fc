//! Asking for a plan, and waiting while another incident is worked on with the same one: a storm of alerts with one cause opens many
//! incidents, and one plan is made for them and shown once.

use std::time::Duration;

use jiff::Timestamp;
use quell_incident::IncidentId;
use quell_incident::contract::{PlanAnswer, PlanRequest};
use quell_incident::severity::Status;
use quell_incident::workflow;
use quell_store::StoreError;
use tokio::time::sleep;
use tracing::info;

use crate::agents::{AgentError, Room, Workers};
use crate::site::Site;

/// Incidents that are passed over in one request for a plan.
const DESPITE_MAX: usize = 16;

/// Asks for a plan. An open one of an incident that is over, or that nobody here knows, does not count.
pub(crate) async fn ask(
    site: &Site,
    agents: &dyn Workers,
    room: &Room,
    key: &str,
    mut request: PlanRequest,
    within: Duration,
) -> Result<PlanAnswer, AgentError> {
    let (own, mut key) = (request.incident.id, key.to_owned());
    loop {
        let answer = agents.plan(room, &key, &request, within, site.now()).await?;
        let PlanAnswer::Taken { incident_id, .. } = &answer else { return Ok(answer) };
        let again = request.despite.contains(incident_id) || request.despite.len() >= DESPITE_MAX;
        if again || is_waited_for(site, own, *incident_id).await {
            return Ok(answer);
        }
        info!(incident_id = %own, other = %incident_id, "its open plan does not count, asking for one all the same");
        key = format!("{key}/despite/{incident_id}");
        request.despite.push(*incident_id);
    }
}

/// Waits until there may be something else to do than to wait for the other incident: at least one pause between two looks.
pub(crate) async fn wait(site: &Site, own: IncidentId, other: IncidentId, until: Timestamp) {
    loop {
        sleep(site.settings().policy.hold_look_again.unsigned_abs().max(Duration::from_millis(20))).await;
        if site.now() > until || !is_waited_for(site, own, other).await {
            return;
        }
    }
}

async fn is_waited_for(site: &Site, own: IncidentId, other: IncidentId) -> bool {
    let policy = &site.settings().policy;
    let is_waited_for = async {
        let Some(other) = site.store.incident(other).await? else { return Ok(false) };
        if other.id != own && !workflow::may_only_show(&other, policy) {
            // A storm's incidents all look at one other: reading each of them for that would be a storm of its own.
            return Ok(!matches!(other.status(), Status::Resolved | Status::Closed));
        }
        let own = site.store.incident(own).await?;
        Ok::<_, StoreError>(own.is_some_and(|own| workflow::waits_for(&own, &other, policy)))
    };
    // Not known now: the next look tells.
    is_waited_for.await.unwrap_or(true)
}
