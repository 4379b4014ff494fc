//! Which incident the alerts of unfinished incidents fired in. They are held, so the index need not know before an incident is over:
//! otherwise every alert of a storm would be written there while it comes in.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use quell_incident::{AlertKey, Incident};

use super::index::Work;
use super::state::{AppendedChange, Change, Known, State};
use crate::list::Cursor;
use crate::memory::is_finished;

/// The newest incident that each alert fired in, as durable as the journal. Alerts of one that is over are here until the index has
/// them.
pub(super) struct AlertsHeld(RwLock<HashMap<AlertKey, Cursor>>);

impl AlertsHeld {
    /// Those of the incidents that are held.
    pub(super) fn of(state: &State) -> Self {
        let mut newest = HashMap::new();
        for incident in state.readable() {
            let place = Cursor::of(incident);
            incident.members.iter().for_each(|member| note(&mut newest, &member.key, place));
        }
        Self(RwLock::new(newest))
    }

    /// An append is durable.
    pub(super) fn note(&self, appended: &AppendedChange) {
        let Known::Readable(incident) = &appended.known else { return };
        if appended.alerts_fired.is_empty() {
            return;
        }
        let place = Cursor::of(incident);
        let mut newest = self.0.write().unwrap_or_else(PoisonError::into_inner);
        appended.alerts_fired.iter().for_each(|key| note(&mut newest, key, place));
    }

    /// The index has these changes: what of them is over is found there.
    pub(super) fn forget(&self, indexed: &[Work], durable: &State) {
        for work in indexed {
            let Change::Appended(appended) = &work.change else { continue };
            let Known::Readable(incident) = &appended.known else { continue };
            // One that came back has these alerts in the index as well; it is forgotten when it is over again.
            if !is_finished(incident) || durable.incident(incident.id).is_some() {
                continue;
            }
            let mut newest = self.0.write().unwrap_or_else(PoisonError::into_inner);
            for key in alerts_of(incident, &appended.alerts_fired) {
                if newest.get(key).is_some_and(|place| place.id == incident.id) {
                    newest.remove(key);
                }
            }
            // A storm is over.
            if newest.len() < newest.capacity() / 8 {
                newest.shrink_to_fit();
            }
        }
    }

    pub(super) fn find(&self, keys: &[AlertKey]) -> Vec<Option<Cursor>> {
        let newest = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|key| newest.get(key).copied()).collect()
    }
}

/// All alerts that fired in an incident. Beyond what it keeps, those that were just added are the only ones known.
pub(super) fn alerts_of<'a>(
    incident: &'a Incident,
    just_fired: &'a [AlertKey],
) -> impl Iterator<Item = &'a AlertKey> {
    let not_kept = just_fired.iter().filter(|key| incident.members.get(key).is_none());
    incident.members.iter().map(|member| &member.key).chain(not_kept)
}

fn note(newest: &mut HashMap<AlertKey, Cursor>, key: &AlertKey, place: Cursor) {
    match newest.get_mut(key) {
        // Smaller is newer.
        Some(known) if place.order() < known.order() => *known = place,
        Some(_) => {}
        None => drop(newest.insert(key.clone(), place)),
    }
}
