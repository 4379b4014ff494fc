//! The store's records in the journal.
//!
//! | kind | record | payload |
//! |---|---|---|
//! | 1 | received | one JSON object |
//! | 2 | appended | lines: a JSON object with claims and message, then each event's envelope |
//! | 3 | site switched | one JSON object |
//! | 4 | correlated | one JSON object |
//! | 5 | retained | one JSON object: whose payloads are given up and why, and what of them still counts |
//! | 6 | lost | one JSON object: after which record others were lost, and who gave them up |
//!
//! Each object carries `schema`. Events stand on lines of their own, so that an event that this program does not know hides
//! neither the claims that were made with it nor the other events.

use jiff::Timestamp;
use quell_incident::contract::TargetLock;
use quell_incident::event::{DecodeError, Envelope};
use quell_incident::gate::{CoolDown, SiteGates};
use quell_incident::ids::{Digest, GateEpoch, IncidentId, Revision};
use quell_incident::workflow::Claim;
use quell_journal::Entry;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) use super::loss::{LossRecord, decode_loss};
pub(crate) use super::retained::{RetainedRecord, decode_retained};
use crate::append::{Append, MessageKey, Received, ReceivedPosition};
use crate::error::StoreError;

pub(crate) const RECEIVED: u16 = 1;
pub(crate) const APPENDED: u16 = 2;
pub(crate) const SWITCHED: u16 = 3;
pub(crate) const CORRELATED: u16 = 4;
pub(crate) const RETAINED: u16 = 5;
pub(crate) const LOST: u16 = 6;

/// The version of the records' own shape; events have theirs.
const SCHEMA: u32 = 1;

/// How every record of this program begins, by [`SCHEMA`]: serde's `flatten` would take the content apart into a tree first.
const BEGINNING: &[u8] = br#"{"schema":1,"#;

/// Read before the rest, which a newer program may have shaped in another way.
#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

#[derive(Serialize, Deserialize)]
struct AppendedHead {
    incident_id: IncidentId,
    expected: Revision,
    at: Timestamp,
    claims: Vec<StoredClaim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<StoredMessage>,
    events: usize,
}

#[derive(Serialize, Deserialize)]
struct StoredMessage {
    key: MessageKey,
    content: Digest,
}

#[derive(Serialize, Deserialize)]
struct Correlated {
    /// Text, as all whole numbers of 64 bits are.
    up_to: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum StoredClaim {
    Take { lock: TargetLock },
    Hold { lock: TargetLock },
    Release { lock: TargetLock },
    SiteEpoch { epoch: GateEpoch },
    CoolDown { cool_down: CoolDown },
}

impl From<&Claim> for StoredClaim {
    fn from(claim: &Claim) -> Self {
        match claim.clone() {
            Claim::Take(lock) => Self::Take { lock },
            Claim::Hold(lock) => Self::Hold { lock },
            Claim::Release(lock) => Self::Release { lock },
            Claim::SiteEpoch(epoch) => Self::SiteEpoch { epoch },
            Claim::CoolDown(cool_down) => Self::CoolDown { cool_down },
        }
    }
}

impl From<StoredClaim> for Claim {
    fn from(claim: StoredClaim) -> Self {
        match claim {
            StoredClaim::Take { lock } => Self::Take(lock),
            StoredClaim::Hold { lock } => Self::Hold(lock),
            StoredClaim::Release { lock } => Self::Release(lock),
            StoredClaim::SiteEpoch { epoch } => Self::SiteEpoch(epoch),
            StoredClaim::CoolDown { cool_down } => Self::CoolDown(cool_down),
        }
    }
}

/// An append as it is read back.
pub(crate) struct Appended {
    pub(crate) incident_id: IncidentId,
    pub(crate) expected: Revision,
    pub(crate) at: Timestamp,
    pub(crate) claims: Vec<Claim>,
    pub(crate) message: Option<(MessageKey, Digest)>,
    pub(crate) events: Vec<Result<Envelope, DecodeError>>,
}

pub(crate) fn encode_received(received: &Received) -> Result<Vec<u8>, StoreError> {
    encode(received)
}

pub(crate) fn decode_received(payload: &[u8]) -> Result<Received, String> {
    decode(payload)
}

pub(crate) fn encode_switched(site: &SiteGates) -> Result<Vec<u8>, StoreError> {
    encode(site)
}

pub(crate) fn decode_switched(payload: &[u8]) -> Result<SiteGates, String> {
    decode(payload)
}

pub(crate) fn encode_correlated(up_to: ReceivedPosition) -> Result<Vec<u8>, StoreError> {
    encode(&Correlated { up_to: up_to.0.to_string() })
}

pub(crate) fn decode_correlated(payload: &[u8]) -> Result<ReceivedPosition, String> {
    let Correlated { up_to } = decode(payload)?;
    up_to.parse().map(ReceivedPosition).map_err(|_| format!("`{up_to}` is not a position"))
}

pub(crate) fn encode_append(append: &Append) -> Result<Vec<u8>, StoreError> {
    let head = AppendedHead {
        incident_id: append.incident_id,
        expected: append.expected,
        at: append.at(),
        claims: append.claims.iter().map(StoredClaim::from).collect(),
        message: append
            .message
            .as_ref()
            .map(|(key, content)| StoredMessage { key: key.clone(), content: *content }),
        events: append.envelopes.len(),
    };
    let mut payload = encode(&head)?;
    for envelope in &append.envelopes {
        payload.push(b'\n');
        payload.extend(envelope.encode().map_err(no_json)?);
    }
    Ok(payload)
}

pub(crate) fn decode_append(payload: &[u8]) -> Result<Appended, String> {
    let mut lines = payload.split(|byte| *byte == b'\n');
    let head: AppendedHead = decode(lines.next().unwrap_or_default())?;
    let events: Vec<_> = lines.map(Envelope::decode).collect();
    if events.len() != head.events {
        return Err(format!("it has {} events and says {}", events.len(), head.events));
    }
    Ok(Appended {
        incident_id: head.incident_id,
        expected: head.expected,
        at: head.at,
        claims: head.claims.into_iter().map(Claim::from).collect(),
        message: head.message.map(|message| (message.key, message.content)),
        events,
    })
}

/// The incident that an append is of; none when that cannot be told.
pub(crate) fn incident_of(payload: &[u8]) -> Option<IncidentId> {
    #[derive(Deserialize)]
    struct Of {
        incident_id: IncidentId,
    }
    let head = payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Of>(head).ok().map(|of| of.incident_id)
}

pub(super) fn encode<T: Serialize>(content: &T) -> Result<Vec<u8>, StoreError> {
    let mut json = BEGINNING.to_vec();
    json.pop();
    let brace = json.len();
    serde_json::to_writer(&mut json, content).map_err(no_json)?;
    match json.get_mut(brace..) {
        // The content's members follow the schema.
        Some([first @ b'{', b'"', ..]) => *first = b',',
        _ => return Err(StoreError::unsound("the content of a record is an object with members")),
    }
    Ok(json)
}

/// When a record was written, if it says so.
pub(crate) fn time_of(entry: &Entry) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct At {
        at: Timestamp,
    }
    let first = entry.payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<At>(first).ok().map(|found| found.at)
}

fn no_json(error: serde_json::Error) -> StoreError {
    StoreError::unsound(format!("a value has no JSON form: {error}"))
}

pub(super) fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    if !json.starts_with(BEGINNING) {
        let SchemaOnly { schema } = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if schema > SCHEMA {
            return Err(format!(
                "it has schema {schema}, this program knows up to {SCHEMA}: run the version that wrote it, or a newer one"
            ));
        }
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_begins_with_its_schema_and_reads_back() {
        let payload = encode_correlated(ReceivedPosition(7)).unwrap();
        assert_eq!(payload, br#"{"schema":1,"up_to":"7"}"#);
        assert_eq!(BEGINNING, format!("{{\"schema\":{SCHEMA},").as_bytes());
        assert_eq!(decode_correlated(&payload).unwrap(), ReceivedPosition(7));
        assert_eq!(decode_correlated(br#"{ "up_to": "8", "schema": 1 }"#).unwrap(), ReceivedPosition(8));
        assert!(decode_correlated(br#"{"up_to":"8"}"#).unwrap_err().contains("schema"));
        assert!(decode_correlated(br#"{"schema":12,"up_to":{}}"#).unwrap_err().contains("schema 12"));
        assert!(encode(&()).is_err() && encode(&serde_json::json!({})).is_err());
    }
}
