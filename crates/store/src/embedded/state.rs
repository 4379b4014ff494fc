//! What the embedded store knows without looking anything up: everything that decisions rely on. There are two of it, one ahead
//! of the disk (for deciding) and one as durable as the journal (for reading).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use quell_incident::event::DecodeError;
use quell_incident::gate::SiteGates;
use quell_incident::ids::{FencingToken, IncidentId, Revision};
use quell_incident::{AlertKey, Incident};

use super::index::DropRange;
use super::record::Appended;
use crate::append::{MessageKey, MessageRecord, ReceivedPosition, alerts_fired, fold};
use crate::error::StoreError;
use crate::ledger::{Ledger, LedgerChange};
use crate::list::Cursor;
use crate::memory::{Turn, in_turn, is_finished, turn};
use crate::weight::estimated_bytes;

/// One accepted change.
#[derive(Debug)]
pub(super) enum Change {
    Appended(Box<AppendedChange>),
    Switched(SiteGates),
    Correlated(ReceivedPosition),
    Retained(Box<RetainedChange>),
    /// Records were lost: locks are taken with tokens above this one from then on.
    Lost(FencingToken),
}

/// What a retention record has given up, and what stood at that moment: records before it may lack their payloads.
#[derive(Debug)]
pub(super) struct RetainedChange {
    pub(super) incidents: Vec<IncidentId>,
    pub(super) ranges: Vec<DropRange>,
    pub(super) received_up_to: u64,
    pub(super) correlated: ReceivedPosition,
    pub(super) ledger: Ledger,
}

#[derive(Debug)]
pub(crate) struct AppendedChange {
    pub(crate) known: Known,
    /// The revision of its first event.
    pub(crate) first_revision: Revision,
    pub(crate) events: u64,
    /// Where the incident stood in lists before.
    pub(crate) before: Option<Listed>,
    pub(crate) alerts_fired: Vec<AlertKey>,
    pub(crate) message: Option<(MessageKey, MessageRecord)>,
    pub(crate) ledger: LedgerChange,
}

/// What an incident's place in the lists follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(super) status: quell_incident::severity::Status,
    pub(super) priority: quell_incident::severity::Priority,
    pub(super) place: Cursor,
}

impl Listed {
    pub(super) fn of(incident: &Incident) -> Self {
        Self { status: incident.status(), priority: incident.priority, place: Cursor::of(incident) }
    }
}

/// An incident, or why it is left alone.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    Readable(Arc<Incident>),
    LeftAlone(Arc<LeftAlone>),
}

/// An incident that this program must not touch.
#[derive(Debug)]
pub(crate) struct LeftAlone {
    pub(super) id: IncidentId,
    why: Why,
}

#[derive(Debug)]
enum Why {
    OtherVersion { kind: String, version: u16 },
    Damaged(String),
}

impl LeftAlone {
    pub(crate) fn damaged(id: IncidentId, why: impl ToString) -> Self {
        Self { id, why: Why::Damaged(why.to_string()) }
    }

    pub(crate) fn undecodable(id: IncidentId, error: DecodeError) -> Self {
        match error {
            DecodeError::Newer { kind, version } | DecodeError::Older { kind, version } => {
                Self { id, why: Why::OtherVersion { kind, version } }
            }
            DecodeError::Malformed(why) => Self::damaged(id, why),
        }
    }

    pub(crate) fn error(&self) -> StoreError {
        let incident_id = self.id;
        match &self.why {
            Why::OtherVersion { kind, version } => {
                StoreError::UnknownEvent { incident_id, kind: kind.clone(), version: *version }
            }
            Why::Damaged(why) => StoreError::Damaged { incident_id, why: why.clone() },
        }
    }
}

impl Known {
    pub(crate) fn id(&self) -> IncidentId {
        match self {
            Self::Readable(incident) => incident.id,
            Self::LeftAlone(left) => left.id,
        }
    }

    pub(crate) fn readable(&self) -> Result<&Arc<Incident>, StoreError> {
        match self {
            Self::Readable(incident) => Ok(incident),
            Self::LeftAlone(left) => Err(left.error()),
        }
    }

    /// With the events of a stored append. What cannot be read or cannot follow makes it one that is left alone, for good.
    pub(crate) fn with(stored: Option<Self>, appended: &mut Appended) -> Self {
        let id = appended.incident_id;
        let left = |left: LeftAlone| Self::LeftAlone(Arc::new(left));
        let stored = match stored {
            Some(Self::LeftAlone(alone)) => return Self::LeftAlone(alone),
            Some(Self::Readable(incident)) => Some(incident),
            None => None,
        };
        let envelopes: Result<Vec<_>, _> = std::mem::take(&mut appended.events).into_iter().collect();
        let envelopes = match envelopes {
            Ok(envelopes) => envelopes,
            Err(error) => return left(LeftAlone::undecodable(id, error)),
        };
        let known = match fold(stored.as_ref(), &envelopes) {
            Ok(incident) if incident.id == id => Self::Readable(Arc::new(incident)),
            Ok(incident) => left(LeftAlone::damaged(id, format!("it has the events of {}", incident.id))),
            Err(illegal) => left(LeftAlone::damaged(id, illegal)),
        };
        appended.events = envelopes.into_iter().map(Ok).collect();
        known
    }
}

impl AppendedChange {
    /// The change that a stored append has made.
    pub(crate) fn replay(mut appended: Appended, stored: Option<Known>, ledger: &Ledger) -> Self {
        let before = match &stored {
            Some(Known::Readable(incident)) => Some(Listed::of(incident)),
            _ => None,
        };
        let events = appended.events.len() as u64;
        let known = Known::with(stored, &mut appended);
        let readable: Vec<_> = appended.events.into_iter().filter_map(Result::ok).collect();
        let incident_id = appended.incident_id;
        Self {
            known,
            first_revision: appended.expected.next(),
            events,
            before,
            alerts_fired: alerts_fired(&readable),
            message: appended.message.map(|(key, content)| (key, MessageRecord { incident_id, content })),
            ledger: ledger.replay(&appended.claims, incident_id, appended.at),
        }
    }
}

/// Shrinking copies the map, so it is done only when less than an eighth of the room is used.
fn is_roomy(length: usize, capacity: usize) -> bool {
    capacity > 1_024 && length < capacity / 8
}

/// What is known without looking it up.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Unfinished ones, but for [`State::resting`]; and finished ones until the index has them.
    incidents: HashMap<IncidentId, Held>,
    /// Unfinished ones that are read from the journal when they are wanted.
    resting: HashMap<IncidentId, Turn>,
    /// Messages that the index does not have yet.
    messages: HashMap<MessageKey, MessageRecord>,
    pub(super) ledger: Ledger,
    pub(super) correlated: ReceivedPosition,
    /// Up to where retention has looked at received alerts.
    pub(super) received_retained: u64,
    /// Dropped, and the index may not know it yet.
    dropped: HashSet<IncidentId>,
    /// What may be forgotten once the index has this record.
    forgettable: VecDeque<(u64, Forgettable)>,
}

#[derive(Clone, Debug)]
struct Held {
    known: Known,
    /// The record of its last append.
    sequence: u64,
    /// When that was made here.
    since: Instant,
}

#[derive(Clone, Debug)]
enum Forgettable {
    Incident(IncidentId),
    Message(MessageKey),
    Dropped(IncidentId),
}

impl State {
    pub(super) fn incident(&self, id: IncidentId) -> Option<&Known> {
        self.incidents.get(&id).map(|held| &held.known)
    }

    /// Whether it is known and its work is not over.
    pub(super) fn has_unfinished(&self, id: IncidentId) -> bool {
        self.resting.contains_key(&id)
            || self.incident(id).is_some_and(|known| known.readable().is_ok_and(|known| !is_finished(known)))
    }

    /// Whether retention has dropped it and the index may not know that yet.
    pub(super) fn is_dropped(&self, id: IncidentId) -> bool {
        self.dropped.contains(&id)
    }

    pub(super) fn message(&self, key: &MessageKey) -> Option<MessageRecord> {
        self.messages.get(key).copied()
    }

    pub(super) fn readable(&self) -> impl Iterator<Item = &Arc<Incident>> {
        self.incidents.values().filter_map(|held| held.known.readable().ok())
    }

    /// Those whose work is not over, held or not, in their order.
    pub(super) fn unfinished(&self) -> Vec<IncidentId> {
        let held = self.readable().filter_map(|incident| turn(incident));
        in_turn(held.chain(self.resting.values().copied()))
    }

    pub(super) fn left_alone(&self) -> impl Iterator<Item = (IncidentId, StoreError)> {
        let known = self.incidents.values().map(|held| &held.known);
        known.filter_map(|known| Some((known.id(), known.readable().err()?)))
    }

    /// Makes a change that was decided on this very state.
    pub(super) fn apply(&mut self, sequence: u64, change: &Change) {
        match change {
            Change::Appended(appended) => {
                let id = appended.known.id();
                self.hold(appended.known.clone(), sequence);
                if matches!(&appended.known, Known::Readable(incident) if is_finished(incident)) {
                    self.forgettable.push_back((sequence, Forgettable::Incident(id)));
                }
                if let Some((key, record)) = &appended.message {
                    self.messages.insert(key.clone(), *record);
                    self.forgettable.push_back((sequence, Forgettable::Message(key.clone())));
                }
                self.ledger.apply(&appended.ledger);
            }
            Change::Switched(site) => self.ledger.site = site.clone(),
            Change::Retained(retained) => {
                for id in &retained.incidents {
                    self.incidents.remove(id);
                    self.resting.remove(id);
                    self.dropped.insert(*id);
                    self.forgettable.push_back((sequence, Forgettable::Dropped(*id)));
                }
                // Only loss records say what tokens are above, and they stay.
                let tokens_above = self.ledger.tokens_above;
                self.ledger = retained.ledger.clone();
                self.ledger.tokens_above = tokens_above;
                self.correlated = self.correlated.max(retained.correlated);
                self.received_retained = self.received_retained.max(retained.received_up_to);
            }
            Change::Correlated(up_to) => self.correlated = self.correlated.max(*up_to),
            Change::Lost(tokens_above) => self.ledger.tokens_above = *tokens_above,
        }
    }

    /// Takes an incident as it stands in the index.
    pub(super) fn hold(&mut self, known: Known, sequence: u64) {
        self.resting.remove(&known.id());
        self.incidents.insert(known.id(), Held { known, sequence, since: Instant::now() });
    }

    /// Lets go of unfinished incidents that the index has and that nothing has happened to since an instant, the longest first,
    /// until the others take little. They are returned, so that nobody waits while their memory is freed.
    pub(super) fn let_rest(&mut self, bytes_max: usize, indexed: u64, since: Instant) -> Vec<Known> {
        let mut bytes = self.readable().map(|incident| estimated_bytes(incident)).sum::<usize>();
        if bytes <= bytes_max {
            return Vec::new();
        }
        let idle = |held: &Held| match &held.known {
            Known::Readable(incident) if held.sequence <= indexed && held.since <= since => {
                turn(incident).map(|turn| (held.since, turn, estimated_bytes(incident)))
            }
            _ => None,
        };
        let mut idle: Vec<_> = self.incidents.values().filter_map(idle).collect();
        idle.sort_unstable();
        let mut rests = Vec::new();
        for (_, turn, estimate) in idle {
            if bytes <= bytes_max {
                break;
            }
            bytes = bytes.saturating_sub(estimate);
            let (_, _, id) = turn;
            rests.extend(self.incidents.remove(&id).map(|held| held.known));
            self.resting.insert(id, turn);
        }
        self.give_back();
        rests
    }

    /// Forgets what the index has and nobody works on.
    pub(super) fn forget_up_to(&mut self, indexed: u64) {
        while let Some((sequence, _)) = self.forgettable.front()
            && *sequence <= indexed
        {
            let Some((sequence, forgettable)) = self.forgettable.pop_front() else { return };
            match forgettable {
                // A later append may have made it anew; then that one's own entry is what counts.
                Forgettable::Incident(id) => {
                    let same = |held: &Held| held.sequence == sequence;
                    if self.incidents.get(&id).is_some_and(same) {
                        self.incidents.remove(&id);
                    }
                }
                Forgettable::Dropped(id) => drop(self.dropped.remove(&id)),
                Forgettable::Message(key) => drop(self.messages.remove(&key)),
            }
        }
        self.give_back();
    }

    /// A storm is over: what it took is not kept for the next one.
    fn give_back(&mut self) {
        if is_roomy(self.incidents.len(), self.incidents.capacity()) {
            self.incidents.shrink_to_fit();
        }
        if is_roomy(self.messages.len(), self.messages.capacity()) {
            self.messages.shrink_to_fit();
        }
        if is_roomy(self.forgettable.len(), self.forgettable.capacity()) {
            self.forgettable.shrink_to_fit();
        }
    }

    /// How many incidents and messages are held, for tests of the bound.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.incidents.len(), self.messages.len())
    }
}
