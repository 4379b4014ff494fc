//! Asking for a plan, and waiting while another incident is worked on with the same one: a storm of alerts with one cause opens many
//! incidents, and one plan is made for them and shown once.

use std::time::Duration;

use jiff::Timestamp;
use quell_incident::contract::{PlanAnswer, PlanRequest};
use quell_incident::workflow;
use quell_incident::{Incident, IncidentId};
use tokio::time::sleep;
use tracing::info;

use crate::agents::{AgentError, Workers};
use crate::site::Site;

/// Incidents that are passed over in one request for a plan.
const DESPITE_MAX: usize = 16;

/// Asks for a plan. An open one of an incident that is over, or that nobody here knows, does not count.
pub(crate) async fn ask(
    site: &Site,
    agents: &dyn Workers,
    incident: &Incident,
    key: &str,
    request: &PlanRequest,
    within: Duration,
) -> Result<PlanAnswer, AgentError> {
    let (mut key, mut request) = (key.to_owned(), request.clone());
    loop {
        let answer = agents.plan(&key, &request, within, site.now()).await?;
        let PlanAnswer::Taken { incident_id, .. } = &answer else { return Ok(answer) };
        let again = request.despite.contains(incident_id) || request.despite.len() >= DESPITE_MAX;
        if again || is_waited_for(site, incident, *incident_id).await {
            return Ok(answer);
        }
        info!(incident_id = %incident.id, other = %incident_id, "its open plan does not count, asking for one all the same");
        key = format!("{key}/despite/{incident_id}");
        request.despite.push(*incident_id);
    }
}

/// Waits until there may be something else to do than to wait for the other incident: at least one pause between two looks.
pub(crate) async fn wait(site: &Site, incident: &Incident, other: IncidentId, until: Timestamp) {
    loop {
        sleep(site.settings().policy.hold_look_again.unsigned_abs().max(Duration::from_millis(20))).await;
        if site.now() > until || !is_waited_for(site, incident, other).await {
            return;
        }
    }
}

async fn is_waited_for(site: &Site, own: &Incident, other: IncidentId) -> bool {
    match site.store.incident(other).await {
        Ok(Some(other)) => workflow::waits_for(own, &other, &site.settings().policy),
        Ok(None) => false,
        // Not known now: the next look tells.
        Err(_) => true,
    }
}
