//! What those who follow an incident as a task are told: each event of the log with its artifacts and the task's status, in its order,
//! until the task is over.

use std::sync::Arc;

use quell_a2a::{A2aError, Part, StreamEvent, TaskState};
use quell_incident::{Envelope, Event, Incident, IncidentId, Revision, view, workflow};
use quell_store::Changed;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::respond::{artifact, context_of, outcome, post_mortem, status_of, store_error};
use crate::site::Site;

/// Where somebody who follows an incident stands.
pub(crate) struct Following {
    pub(crate) site: Arc<Site>,
    pub(crate) changes: Receiver<Changed>,
    pub(crate) id: IncidentId,
    pub(crate) seen: Revision,
    pub(crate) over: bool,
}

impl Following {
    /// What has happened since, once something has.
    pub(crate) async fn next(mut self) -> Option<(Vec<Result<StreamEvent, A2aError>>, Self)> {
        if self.over {
            return None;
        }
        loop {
            match self.changes.recv().await {
                Ok(changed) if changed.incident_id != self.id || changed.revision <= self.seen => {}
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    let events = self.since_seen().await;
                    self.over |= events.iter().any(|event| event.as_ref().map_or(true, StreamEvent::is_last));
                    if !events.is_empty() {
                        return Some((events, self));
                    }
                }
                Err(RecvError::Closed) => {
                    self.over = true;
                    return Some((vec![Err(A2aError::unavailable("the coordinator is stopping"))], self));
                }
            }
        }
    }

    async fn since_seen(&mut self) -> Vec<Result<StreamEvent, A2aError>> {
        let log = match self.site.store.log(self.id).await {
            Ok(log) => log,
            Err(error) => return vec![Err(store_error(error))],
        };
        let mut events = Vec::new();
        let mut incident = None;
        // What was decided together is one commit, and has one instant. Between its events the incident never stood anywhere: the
        // approval of a plan that is carried out from there asks for nothing.
        for decided in log.chunk_by(|one, next| one.at == next.at) {
            for envelope in decided {
                incident = match incident {
                    None => workflow::opened(envelope).ok(),
                    Some(mut known) => workflow::apply(&mut known, envelope).is_ok().then_some(known),
                };
                if incident.is_none() {
                    return vec![Err(A2aError::internal("the incident's log cannot be folded"))];
                }
            }
            let last = decided.last().map(|envelope| envelope.revision);
            for envelope in decided.iter().filter(|envelope| envelope.revision > self.seen) {
                let is_last = Some(envelope.revision) == last;
                let told = incident.iter().flat_map(|incident| events_of(incident, envelope, is_last));
                events.extend(told.map(Ok));
            }
        }
        self.seen = log.last().map_or(self.seen, |envelope| envelope.revision);
        events
    }
}

/// What an event brings to those who follow. The incident is as the whole decision made it; only with the decision's last event does
/// its task wait for somebody, or end.
fn events_of(incident: &Incident, envelope: &Envelope, is_last: bool) -> Vec<StreamEvent> {
    let (task_id, context_id) = (incident.id.to_string(), context_of(incident));
    let artifacts: Vec<_> = match &envelope.event {
        Event::Diagnosed { report } => vec![artifact("diagnosis", json!(report))],
        Event::Planned { plan, digest, .. } => {
            vec![artifact("plan", json!({"digest": digest, "plan": plan}))]
        }
        Event::StepEnded { .. } | Event::Resolved { .. } => outcome(incident).into_iter().collect(),
        Event::Closed { .. } => outcome(incident).into_iter().chain(post_mortem(incident)).collect(),
        _ => Vec::new(),
    };
    let artifacts = artifacts.into_iter().map(|artifact| StreamEvent::ArtifactUpdate {
        task_id: task_id.clone(),
        context_id: context_id.clone(),
        artifact,
        append: false,
        last_chunk: true,
        metadata: None,
    });
    let artifacts: Vec<_> = artifacts.collect();
    let mut status = status_of(incident, envelope.at);
    if !is_last {
        status.state = TaskState::Working;
    }
    if let Some(message) = &mut status.message {
        message.parts = vec![
            Part::text(view::describe(&envelope.event)),
            Part::data(json!({
                "status": incident.status(),
                "phase": incident.phase.name(),
                "summary": view::summary(incident),
                "question": view::to_json(incident)["question"].take(),
                "event": view::timeline(std::slice::from_ref(envelope)).pop(),
            })),
        ];
    }
    let status = StreamEvent::StatusUpdate { task_id, context_id, status, metadata: None };
    artifacts.into_iter().chain(std::iter::once(status)).collect()
}
