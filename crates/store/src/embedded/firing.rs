//! Which incident the alerts of unfinished incidents fired in. They are held, so the index need not know before an incident is over:
//! otherwise every alert of a storm would be written there while it comes in.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{PoisonError, RwLock};

use quell_incident::ids::IncidentId;
use quell_incident::{AlertKey, Incident};

use super::index::Work;
use super::state::{AppendedChange, Change, Known, State};
use crate::list::Cursor;
use crate::memory::is_finished;

/// The newest incident that each alert fired in, as durable as the journal. Alerts of one that is over are here until the index has
/// them.
///
/// A storm has a million alerts, and incidents that rest are not in memory: so a key stands here as a hash of 128 bits under keys of
/// this process, which nobody outside can make collide, and an incident as a number.
pub(super) struct AlertsHeld(RwLock<Held>);

#[derive(Default)]
struct Held {
    hashers: [RandomState; 2],
    newest: HashMap<[u32; 4], u32>,
    places: Vec<Place>,
    numbers: HashMap<IncidentId, u32>,
    /// Numbers of incidents that are over, to be given to new ones.
    free: Vec<u32>,
}

/// An incident, and how many alerts lead to it.
struct Place {
    incident: Cursor,
    alerts: u32,
}

impl AlertsHeld {
    /// Those of the incidents that are held.
    pub(super) fn of(state: &State) -> Self {
        let mut held = Held::default();
        for incident in state.readable() {
            held.note(incident, incident.members.iter().map(|member| &member.key));
        }
        Self(RwLock::new(held))
    }

    /// An append is durable.
    pub(super) fn note(&self, appended: &AppendedChange) {
        let Known::Readable(incident) = &appended.known else { return };
        if appended.alerts_fired.is_empty() {
            return;
        }
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        held.note(incident, appended.alerts_fired.iter());
    }

    /// The index has these changes: what of them is over is found there.
    pub(super) fn forget(&self, indexed: &[Work], durable: &State) {
        for work in indexed {
            let Change::Appended(appended) = &work.change else { continue };
            let Known::Readable(incident) = &appended.known else { continue };
            // One that came back has these alerts in the index as well; it is forgotten when it is over again.
            if !is_finished(incident) || durable.has_unfinished(incident.id) {
                continue;
            }
            let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
            held.forget(incident.id, alerts_of(incident, &appended.alerts_fired));
        }
    }

    pub(super) fn find(&self, keys: &[AlertKey]) -> Vec<Option<Cursor>> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|key| held.find(key)).collect()
    }
}

impl Held {
    fn find(&self, key: &AlertKey) -> Option<Cursor> {
        let number = *self.newest.get(&hash(&self.hashers, key))?;
        self.places.get(number as usize).map(|place| place.incident)
    }

    fn note<'a>(&mut self, incident: &Incident, keys: impl Iterator<Item = &'a AlertKey>) {
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return;
        }
        let place = Cursor::of(incident);
        let number = self.number(place);
        for key in keys {
            let hash = hash(&self.hashers, key);
            let known = self.newest.get(&hash).copied();
            let other = known.and_then(|known| self.places.get_mut(known as usize));
            if let Some(other) = other {
                // Smaller is newer.
                if place.order() >= other.incident.order() {
                    continue;
                }
                other.alerts -= 1;
            }
            self.newest.insert(hash, number);
            if let Some(own) = self.places.get_mut(number as usize) {
                own.alerts += 1;
            }
        }
    }

    fn number(&mut self, incident: Cursor) -> u32 {
        if let Some(number) = self.numbers.get(&incident.id) {
            return *number;
        }
        let place = Place { incident, alerts: 0 };
        let free = self.free.pop();
        let number = free.unwrap_or(self.places.len() as u32);
        match self.places.get_mut(number as usize) {
            Some(free) => *free = place,
            None => self.places.push(place),
        }
        self.numbers.insert(incident.id, number);
        number
    }

    fn forget<'a>(&mut self, id: IncidentId, keys: impl Iterator<Item = &'a AlertKey>) {
        let Some(number) = self.numbers.get(&id).copied() else { return };
        let Some(place) = self.places.get_mut(number as usize) else { return };
        for key in keys {
            let hash = hash(&self.hashers, key);
            if self.newest.get(&hash) == Some(&number) {
                self.newest.remove(&hash);
                place.alerts -= 1;
            }
        }
        // Alerts beyond those that an incident keeps still lead to it; they must not lead to whoever gets its number next.
        if place.alerts == 0 {
            self.numbers.remove(&id);
            self.free.push(number);
        }
        // A storm is over.
        if self.newest.len() < self.newest.capacity() / 8 {
            self.newest.shrink_to_fit();
            self.numbers.shrink_to_fit();
        }
    }
}

fn hash([first, second]: &[RandomState; 2], key: &AlertKey) -> [u32; 4] {
    let (first, second) = (first.hash_one(key), second.hash_one(key));
    // In halves, so that an entry of the map takes 20 bytes and not 24.
    [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32]
}

/// All alerts that fired in an incident. Beyond what it keeps, those that were just added are the only ones known.
pub(super) fn alerts_of<'a>(
    incident: &'a Incident,
    just_fired: &'a [AlertKey],
) -> impl Iterator<Item = &'a AlertKey> {
    let not_kept = just_fired.iter().filter(|key| incident.members.get(key).is_none());
    incident.members.iter().map(|member| &member.key).chain(not_kept)
}
