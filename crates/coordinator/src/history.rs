//! How incidents of each class ended, kept in memory: what heals by itself is worth a moment's waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;
use quell_incident::correlation::{Class, SETTLED_KEPT_MAX};
use quell_incident::incident::{How, Outcome, Phase};
use quell_incident::severity::Status;
use quell_incident::{Event, Incident};
use quell_store::{IncidentStore, ListQuery, StatusFilter, StoreError};

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
        let healed = format!("resolved {}", How::Itself);
        for row in store.list(&query).await?.rows.into_iter().rev() {
            let took = row.resolved_at.filter(|_| row.summary == healed && row.attempts == 0);
            let took = took.map(|at| at.duration_since(row.created_at));
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
