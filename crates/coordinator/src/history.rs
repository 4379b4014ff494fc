//! How incidents of each class ended, kept in memory: what heals by itself is worth a moment's waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;
use quell_incident::correlation::{Class, SETTLED_KEPT_MAX};
use quell_incident::incident::{How, Outcome, Phase};
use quell_incident::severity::Status;
use quell_incident::{Event, Incident};
use quell_store::{IncidentStore, ListQuery, Row, StatusFilter, StoreError};

/// Closed incidents that are read at the start.
const READ_AT_START_MAX: usize = 2_000;
/// Classes that are remembered.
const CLASSES_MAX: usize = 10_000;

type Ends = VecDeque<Option<SignedDuration>>;

/// The ends of incidents by class, the newest last.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<HashMap<Class, Ends>>);

impl History {
    /// Reads the newest closed incidents.
    pub(crate) async fn learn(&self, store: &dyn IncidentStore) -> Result<(), StoreError> {
        let query = ListQuery {
            status: Some(StatusFilter::Is(Status::Closed)),
            limit: READ_AT_START_MAX,
            ..ListQuery::default()
        };
        for row in store.list(&query).await?.rows.into_iter().rev() {
            let took = healed_within(&row);
            let class = Class { source: row.origin, alert_name: row.alert_name, component: row.component };
            self.note(class, took);
        }
        Ok(())
    }

    /// Notes the end of an incident, if these events ended it.
    pub(crate) fn changed(&self, incident: &Incident, events: &[Event]) {
        if !events.iter().any(|event| matches!(event, Event::Closed { .. })) {
            return;
        }
        let by_itself =
            matches!(&incident.phase, Phase::Closed { outcome: Outcome::Resolved { how: How::Itself } });
        let took = incident.resolved_at.filter(|_| by_itself && incident.attempts.is_empty());
        let class = Class {
            source: incident.origin.clone(),
            alert_name: incident.alert_name.clone(),
            component: incident.component.clone(),
        };
        self.note(class, took.map(|at| at.duration_since(incident.created_at)));
    }

    /// How the last incidents of a class ended: the time that those took that healed by themselves.
    pub(crate) fn ends(&self, class: &Class) -> Vec<Option<SignedDuration>> {
        let classes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        classes.get(class).map(|ends| ends.iter().copied().collect()).unwrap_or_default()
    }

    fn note(&self, class: Class, took: Option<SignedDuration>) {
        let mut classes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if classes.len() >= CLASSES_MAX && !classes.contains_key(&class) {
            return;
        }
        let ends = classes.entry(class).or_default();
        ends.push_back(took);
        if ends.len() > SETTLED_KEPT_MAX {
            ends.pop_front();
        }
    }
}

/// How long an incident took to heal by itself, as [`History::changed`] has it: not at all when a plan was begun.
fn healed_within(row: &Row) -> Option<SignedDuration> {
    let by_itself = row.summary == format!("resolved {}", How::Itself) && row.attempts == 0;
    row.resolved_at.filter(|_| by_itself).map(|at| at.duration_since(row.created_at))
}

#[cfg(test)]
mod tests {
    use quell_incident::event::EVENT_VERSION;
    use quell_incident::{Digest, Envelope, workflow};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_worked_on_did_not_heal_by_itself_after_a_restart_either() {
        let head = json!({"title": "A", "description": "A", "alert_name": "A", "severity": "warning", "priority": "P3",
            "tags": [], "component": "", "service": ""});
        let opened = json!({
            "id": uuid::Uuid::nil(), "incident_id": uuid::Uuid::nil(), "revision": "1", "tenant": "t",
            "at": "2026-01-31T12:00:00Z", "actor": "alertmanager", "policy": Digest::of_bytes(b"policy"),
            "version": EVENT_VERSION, "type": "opened",
            "data": {"head": head, "affected_systems": [], "origin": "alertmanager", "linked_to": null,
                "started_at": "2026-01-31T12:00:00Z", "settle_until": "2026-01-31T12:00:05Z"},
        });
        let opened = Envelope::decode(opened.to_string().as_bytes()).unwrap();
        let incident = workflow::replay([&opened]).unwrap();
        let resolved_at = incident.created_at.checked_add(SignedDuration::from_secs(40)).ok();
        let summary = format!("resolved {}", How::Itself);
        let row = Row { resolved_at, summary, ..Row::of(&incident) };
        assert_eq!(healed_within(&row), Some(SignedDuration::from_secs(40)));
        assert_eq!(healed_within(&Row { attempts: 1, ..row }), None, "a plan was begun");
    }
}
