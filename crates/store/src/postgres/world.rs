//! What a transaction knows and has decided: the stored state as far as it was loaded, ahead by what the transaction adds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use quell_incident::gate::{CoolDown, LockState, SiteGates, Throw};
use quell_incident::ids::{Digest, FencingToken, GateEpoch, IncidentId, Revision, TargetName};
use quell_incident::{AlertKey, Incident};
use quell_journal::{ChainHash, Link};
use sha2::{Digest as _, Sha256};

use crate::append::{Append, MessageKey, MessageRecord, ReceivedPosition, check_message, decide};
use crate::embedded::record;
use crate::embedded::state::{AppendedChange, Known};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::ledger::{CoolDownKey, Ledger, LedgerChange};
use crate::list::Cursor;
use crate::memory::switched;
use crate::store::Changed;

/// The flag of a record that is a request of its own, as all of a store's are.
const WHOLE_REQUEST: u16 = 1;

/// The end of the journal, and what stands beside it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) sequence: u64,
    pub(super) chain_hash: ChainHash,
    pub(super) correlated: ReceivedPosition,
    pub(super) site: SiteGates,
    /// Locks are taken with tokens above this one. Only an import changes it.
    pub(super) tokens_above: FencingToken,
}

/// The state that decisions of one transaction rely on.
pub(super) struct World {
    pub(super) head: Head,
    pub(super) incidents: HashMap<IncidentId, Known>,
    pub(super) messages: HashMap<MessageKey, MessageRecord>,
    /// Locks that are asked for, and cool-downs, where one is to be set.
    pub(super) ledger: Ledger,
    /// Those of the requests' leases that are held.
    pub(super) leases: HashSet<Lease>,
    pub(super) writes: Writes,
}

/// What a transaction adds.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) records: Vec<NewRecord>,
    pub(super) incidents: BTreeMap<IncidentId, ChangedIncident>,
    pub(super) events: Vec<NewEvents>,
    pub(super) alerts: BTreeMap<AlertKey, Cursor>,
    pub(super) messages: BTreeMap<MessageKey, MessageRecord>,
    pub(super) locks: BTreeMap<TargetName, LockState>,
    /// Set, or over.
    pub(super) cool_downs: BTreeMap<CoolDownKey, Option<CoolDown>>,
    pub(super) changed: Vec<(u64, Changed)>,
}

pub(super) struct NewRecord {
    pub(super) link: Link,
    pub(super) at: Option<Timestamp>,
    /// None where retention had dropped it before it came here.
    pub(super) payload: Option<Arc<[u8]>>,
    pub(super) chain_hash: ChainHash,
}

pub(super) struct ChangedIncident {
    /// As it was before the transaction.
    pub(super) before: Option<Known>,
    pub(super) now: Known,
    /// Of its last record.
    pub(super) chain_hash: ChainHash,
}

pub(super) struct NewEvents {
    pub(super) incident_id: IncidentId,
    pub(super) first_revision: Revision,
    pub(super) events: u64,
    pub(super) sequence: u64,
}

/// A change of the journal's end that is not an append.
pub(super) enum Site<'a> {
    Correlated { up_to: ReceivedPosition, fence: Option<&'a Lease> },
    Switched { expected: GateEpoch, throw: &'a Throw },
}

impl World {
    pub(super) fn new(head: Head) -> Self {
        let mut ledger = Ledger::default();
        ledger.site = head.site.clone();
        ledger.tokens_above = head.tokens_above;
        Self {
            head,
            incidents: HashMap::new(),
            messages: HashMap::new(),
            ledger,
            leases: HashSet::new(),
            writes: Writes::default(),
        }
    }

    pub(super) fn record(
        &mut self,
        kind: u16,
        at: Option<Timestamp>,
        payload: Arc<[u8]>,
    ) -> Result<u64, StoreError> {
        let link = link(self.head.sequence + 1, kind, WHOLE_REQUEST, &payload)?;
        let chain_hash = self.head.chain_hash.next(&link);
        self.take_record(NewRecord { link, at, payload: Some(payload), chain_hash });
        Ok(link.sequence)
    }

    pub(super) fn take_record(&mut self, record: NewRecord) {
        self.head.sequence = record.link.sequence;
        self.head.chain_hash = record.chain_hash;
        self.writes.records.push(record);
    }

    pub(super) fn receive(
        &mut self,
        at: Timestamp,
        payload: &Arc<[u8]>,
    ) -> Result<ReceivedPosition, StoreError> {
        self.record(record::RECEIVED, Some(at), Arc::clone(payload)).map(ReceivedPosition)
    }

    /// Decides on an append just as the other backends do.
    pub(super) fn append(
        &mut self,
        append: &Append,
        payload: &Arc<[u8]>,
    ) -> Result<Arc<Incident>, StoreError> {
        self.check_lease(append.fence.as_ref())?;
        let taken = append.message.as_ref().and_then(|(key, _)| self.messages.get(key).copied());
        check_message(append.message.as_ref(), taken)?;
        let id = append.incident_id;
        let before = self.incidents.get(&id).cloned();
        let stored = before.as_ref().map(Known::readable).transpose()?;
        let decided = decide(append, stored, &self.ledger)?;
        let sequence = self.record(record::APPENDED, Some(append.at()), Arc::clone(payload))?;
        let change = AppendedChange {
            known: Known::Readable(Arc::clone(&decided.incident)),
            first_revision: append.expected.next(),
            events: append.envelopes.len() as u64,
            before: None,
            alerts_fired: append.alerts_fired(),
            message: message_of(append.message.as_ref(), id),
            ledger: decided.ledger,
        };
        self.make(sequence, before, change);
        Ok(decided.incident)
    }

    /// Notes what an append that was accepted has changed.
    pub(super) fn make(&mut self, sequence: u64, before: Option<Known>, change: AppendedChange) {
        let AppendedChange { known, first_revision, events, alerts_fired, message, ledger, .. } = change;
        let id = known.id();
        if let Known::Readable(incident) = &known {
            let place = Cursor::of(incident);
            for key in alerts_fired {
                let newest = self.writes.alerts.entry(key).or_insert(place);
                if place.order() < newest.order() {
                    *newest = place;
                }
            }
            let changed = Changed { incident_id: id, revision: incident.revision };
            self.writes.changed.push((sequence, changed));
        }
        if let Some((key, record)) = message {
            self.messages.insert(key.clone(), record);
            self.writes.messages.insert(key, record);
        }
        self.writes.events.push(NewEvents { incident_id: id, first_revision, events, sequence });
        self.incidents.insert(id, known.clone());
        let chain_hash = self.head.chain_hash;
        let fresh = || ChangedIncident { before, now: known.clone(), chain_hash };
        let changed = self.writes.incidents.entry(id).or_insert_with(fresh);
        (changed.now, changed.chain_hash) = (known, chain_hash);
        self.change_ledger(&ledger);
    }

    pub(super) fn change_ledger(&mut self, change: &LedgerChange) {
        self.ledger.apply(change);
        self.writes.locks.extend(change.locks.clone());
        for over in &change.cool_downs_over {
            self.writes.cool_downs.insert(over.clone(), None);
        }
        for cool_down in &change.cool_downs {
            let key = (cool_down.class.clone(), cool_down.target.clone(), cool_down.runbook.clone());
            self.writes.cool_downs.insert(key, Some(cool_down.clone()));
        }
    }

    /// Decides on something that concerns the whole store. Returns the switches in force after it.
    pub(super) fn site(&mut self, change: Site<'_>) -> Result<SiteGates, StoreError> {
        match change {
            Site::Correlated { up_to, fence } => {
                self.check_lease(fence)?;
                if up_to.0 > self.head.sequence {
                    let why = format!("nothing was received at position {}", up_to.0);
                    return Err(StoreError::unsound(why));
                }
                if up_to > self.head.correlated {
                    self.record(record::CORRELATED, None, record::encode_correlated(up_to)?.into())?;
                    self.head.correlated = up_to;
                }
            }
            Site::Switched { expected, throw } => {
                let site = switched(&self.head.site, expected, throw.clone())?;
                self.record(record::SWITCHED, None, record::encode_switched(&site)?.into())?;
                self.set_site(site);
            }
        }
        Ok(self.head.site.clone())
    }

    pub(super) fn set_site(&mut self, site: SiteGates) {
        self.ledger.site = site.clone();
        self.head.site = site;
    }

    pub(super) fn set_tokens_above(&mut self, tokens_above: FencingToken) {
        self.ledger.tokens_above = tokens_above;
        self.head.tokens_above = tokens_above;
    }

    fn check_lease(&self, fence: Option<&Lease>) -> Result<(), StoreError> {
        match fence {
            Some(lease) if !self.leases.contains(lease) => Err(lease.lost()),
            _ => Ok(()),
        }
    }
}

fn message_of(
    message: Option<&(MessageKey, Digest)>,
    incident_id: IncidentId,
) -> Option<(MessageKey, MessageRecord)> {
    message.map(|(key, content)| (key.clone(), MessageRecord { incident_id, content: *content }))
}

/// What the chain covers of a record.
pub(super) fn link(sequence: u64, kind: u16, flags: u16, payload: &[u8]) -> Result<Link, StoreError> {
    let too_large = |_| StoreError::TooLarge { bytes: payload.len(), bytes_max: u32::MAX as usize };
    let payload_length = u32::try_from(payload.len()).map_err(too_large)?;
    Ok(Link { sequence, kind, flags, payload_length, payload_digest: Sha256::digest(payload).into() })
}

/// What a set of requests needs to have loaded.
#[derive(Default)]
pub(super) struct Needs {
    pub(super) incidents: BTreeSet<IncidentId>,
    pub(super) messages: BTreeSet<MessageKey>,
    pub(super) targets: BTreeSet<TargetName>,
    pub(super) cool_downs: bool,
    pub(super) leases: Vec<Lease>,
}
