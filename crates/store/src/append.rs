//! What is handed to a store, and the decision on it that all backends share.

use std::sync::Arc;

use jiff::Timestamp;
use quell_incident::event::{EVENT_VERSION, Envelope};
use quell_incident::ids::{Digest, IncidentId, Revision, SourceName};
use quell_incident::workflow::{self, Claim};
use quell_incident::{Alert, AlertKey, Event, Incident};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::lease::Lease;
use crate::ledger::{Ledger, LedgerChange};

/// Alerts that came together, as they are received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// From which configured source.
    pub source: SourceName,
    /// The alerts, in the message's order.
    pub alerts: Vec<Alert>,
    /// The source's own grouping, if it has one; telemetry's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_key: Option<String>,
    /// How many more alerts exist than the message carries (Alertmanager's `truncatedAlerts`).
    #[serde(default)]
    pub truncated_alerts: u64,
    /// W3C trace context of the message, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// A place in the stream of received alerts. The default is before the first. Positions grow, with gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceivedPosition(pub u64);

/// What makes two messages of one caller the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageKey {
    /// The authenticated caller.
    pub caller: String,
    /// The tenant.
    pub tenant: String,
    /// The caller's id of the message.
    pub message_id: String,
}

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRecord {
    /// The incident that it made.
    pub incident_id: IncidentId,
    /// The digest of its content.
    pub content: Digest,
}

/// Events to be added to one incident, and what else must hold and change in the same commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// To which incident.
    pub incident_id: IncidentId,
    /// The revision that the decision relied on; 0 for a new incident.
    pub expected: Revision,
    /// The events; at least one.
    pub envelopes: Vec<Envelope>,
    /// What must hold of locks and switches and changes with them.
    pub claims: Vec<Claim>,
    /// The message that the append answers, with the digest of its content: taken once.
    pub message: Option<(MessageKey, Digest)>,
    /// The lease that must still be held when the append is made. Without one anybody may append.
    pub fence: Option<Lease>,
}

impl Append {
    /// An append with the claims that follow from its events.
    pub fn new(incident_id: IncidentId, expected: Revision, envelopes: Vec<Envelope>) -> Self {
        let claims = claims_of(&envelopes);
        Self { incident_id, expected, envelopes, claims, message: None, fence: None }
    }

    /// The same, taking a message in the same commit.
    #[must_use]
    pub fn answering(mut self, message: MessageKey, content: Digest) -> Self {
        self.message = Some((message, content));
        self
    }

    /// The same, on the condition that a lease is still held.
    #[must_use]
    pub fn fenced(mut self, fence: Lease) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Checks what can be checked without looking at what is stored.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.envelopes.is_empty() {
            return Err(StoreError::unsound("an append needs at least one event"));
        }
        for envelope in &self.envelopes {
            if envelope.incident_id != self.incident_id {
                let why = format!("an event of incident {} for {}", envelope.incident_id, self.incident_id);
                return Err(StoreError::unsound(why));
            }
            if envelope.version != EVENT_VERSION {
                let why = format!("an event of version {}, written are {EVENT_VERSION}", envelope.version);
                return Err(StoreError::unsound(why));
            }
        }
        // A lock that the log takes and the store does not would not be held at all.
        match claims_of(&self.envelopes).iter().find(|claim| !self.claims.contains(claim)) {
            Some(claim) => {
                Err(StoreError::unsound(format!("the events need the claim {claim:?}, which is not made")))
            }
            None => Ok(()),
        }
    }

    /// The instant of the last event.
    pub(crate) fn at(&self) -> Timestamp {
        self.envelopes.last().map_or(Timestamp::MIN, |envelope| envelope.at)
    }

    pub(crate) fn alerts_fired(&self) -> Vec<AlertKey> {
        alerts_fired(&self.envelopes)
    }
}

fn claims_of(envelopes: &[Envelope]) -> Vec<Claim> {
    let of_one = |envelope: &Envelope| workflow::claims(std::slice::from_ref(&envelope.event));
    envelopes.iter().flat_map(of_one).collect()
}

pub(crate) fn alerts_fired(envelopes: &[Envelope]) -> Vec<AlertKey> {
    let mut fired = Vec::new();
    for envelope in envelopes {
        match &envelope.event {
            Event::AlertFired { alert } => fired.push(alert.key.clone()),
            Event::AlertsJoined { full, counted, .. } => {
                fired.extend(full.iter().map(|alert| alert.key.clone()));
                fired.extend(counted.iter().map(|member| AlertKey::clone(&member.key)));
            }
            _ => {}
        }
    }
    fired
}

/// What an append makes of the incident and of the ledger.
pub(crate) struct Decided {
    pub(crate) incident: Arc<Incident>,
    pub(crate) ledger: LedgerChange,
}

/// Decides on an append by what is stored; changes nothing.
pub(crate) fn decide(
    append: &Append,
    stored: Option<&Arc<Incident>>,
    ledger: &Ledger,
) -> Result<Decided, StoreError> {
    let found = stored.map_or(Revision(0), |incident| incident.revision);
    if found != append.expected {
        let Append { incident_id, expected, .. } = *append;
        return Err(StoreError::Conflict { incident_id, expected, found });
    }
    let ledger = ledger.decide(&append.claims, append.incident_id, append.at())?;
    let incident = fold(stored, &append.envelopes).map_err(StoreError::Illegal)?;
    Ok(Decided { incident: Arc::new(incident), ledger })
}

/// The incident with more events.
pub(crate) fn fold(
    stored: Option<&Arc<Incident>>,
    envelopes: &[Envelope],
) -> Result<Incident, workflow::Illegal> {
    let Some(stored) = stored else { return workflow::replay(envelopes) };
    let mut incident = Incident::clone(stored);
    for envelope in envelopes {
        workflow::apply(&mut incident, envelope)?;
    }
    Ok(incident)
}

/// The refusal of a message that was taken before.
pub(crate) fn check_message(
    message: Option<&(MessageKey, Digest)>,
    taken: Option<MessageRecord>,
) -> Result<(), StoreError> {
    match (message, taken) {
        (Some((_, content)), Some(taken)) => Err(StoreError::MessageTaken {
            incident_id: taken.incident_id,
            same_content: taken.content == *content,
        }),
        _ => Ok(()),
    }
}
