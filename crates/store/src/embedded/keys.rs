//! Keys and values of the index.
//!
//! | first byte | rest of the key | value |
//! |---|---|---|
//! | `!` | `format`, `applied`, `correlated`, `head`, `journal`, `retained`, `seal`, `site`, `tokens-above` | as named |
//! | `A` | source, 0, fingerprint | the newest incident that the alert fired in: creation, id |
//! | `B` | incident, a key of `A` or `M` | nothing: what goes when the incident is dropped |
//! | `C` | digest of class, target, runbook | the cool-down, JSON |
//! | `D` | first record | payloads to be dropped from there: last record, the retention record that says so |
//! | `I` | incident | its row, JSON |
//! | `K` | target | target and lock, JSON |
//! | `L` | status, priority, creation and id descending | nothing |
//! | `M` | digest of caller, tenant, message id | incident and digest of the content, JSON |
//! | `P` | incident, first revision | where that append lies in the journal, how many events and which record it has |
//! | `X` | incident that is left alone | nothing |

use jiff::Timestamp;
use quell_incident::AlertKey;
use quell_incident::ids::{Digest, IncidentId, TargetName};
use quell_incident::severity::{Priority, Status};
use quell_journal::Position;

use super::index::{Applied, DropRange, Place, Trouble};
use super::state::Listed;
use crate::append::MessageKey;
use crate::ledger::CoolDownKey;
use crate::list::Cursor;

pub(super) const FORMAT: &[u8] = b"!format";
pub(super) const APPLIED: &[u8] = b"!applied";
/// How far the journal was durable when this was last written: at least as far as [`APPLIED`].
pub(super) const HEAD: &[u8] = b"!head";
/// The identity of the journal.
pub(super) const JOURNAL: &[u8] = b"!journal";
pub(super) const CORRELATED: &[u8] = b"!correlated";
/// Up to where received alerts were looked at by retention.
pub(super) const RETAINED: &[u8] = b"!retained";
pub(super) const SEAL: &[u8] = b"!seal";
pub(super) const SITE: &[u8] = b"!site";
/// Locks are taken with tokens above this one.
pub(super) const TOKENS_ABOVE: &[u8] = b"!tokens-above";
pub(super) const COOL_DOWNS: u8 = b'C';
pub(super) const LOCKS: u8 = b'K';
pub(super) const LISTED: u8 = b'L';
pub(super) const LEFT_ALONE: u8 = b'X';
pub(super) const DROPS: u8 = b'D';
const BACK_REFERENCES: u8 = b'B';
/// What decisions rely on after opening.
pub(super) const SEALED: [u8; 4] = [COOL_DOWNS, LOCKS, LISTED, LEFT_ALONE];

/// Creation and id, so that bytes sort as the list does: the newest first.
pub(crate) const PLACE_BYTES: usize = 32;

fn keyed(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![first];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// A digest instead of a text of any length.
fn digested(first: u8, parts: [&str; 3]) -> Vec<u8> {
    let mut text = Vec::new();
    for part in parts {
        text.extend((part.len() as u64).to_be_bytes());
        text.extend(part.as_bytes());
    }
    keyed(first, &[Digest::of_bytes(&text).to_string().as_bytes()])
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> Result<[u8; N], Trouble> {
    let found = bytes.get(from..from + N).and_then(|part| part.try_into().ok());
    found.ok_or_else(|| format!("an entry of {} bytes is too short", bytes.len()).into())
}

fn number(bytes: &[u8], from: usize) -> Result<u64, Trouble> {
    Ok(u64::from_be_bytes(array(bytes, from)?))
}

pub(super) fn applied(applied: Applied) -> Vec<u8> {
    [&applied.sequence.to_be_bytes()[..], &applied.chain_hash].concat()
}

pub(super) fn applied_from(value: &[u8]) -> Result<Applied, Trouble> {
    Ok(Applied { sequence: number(value, 0)?, chain_hash: array(value, 8)? })
}

pub(super) fn number_from(value: &[u8]) -> Result<u64, Trouble> {
    number(value, 0)
}

pub(super) fn row(id: IncidentId) -> Vec<u8> {
    keyed(b'I', &[id.0.as_bytes()])
}

pub(super) fn left_alone(id: IncidentId) -> Vec<u8> {
    keyed(LEFT_ALONE, &[id.0.as_bytes()])
}

pub(super) fn left_alone_from(key: &[u8]) -> Result<IncidentId, Trouble> {
    Ok(IncidentId(uuid::Uuid::from_bytes(array(key, 1)?)))
}

pub(super) fn lock(target: &TargetName) -> Vec<u8> {
    keyed(LOCKS, &[target.as_str().as_bytes()])
}

pub(crate) fn cool_down((class, target, runbook): &CoolDownKey) -> Vec<u8> {
    digested(COOL_DOWNS, [class, target.as_str(), runbook.as_str()])
}

pub(crate) fn message(key: &MessageKey) -> Vec<u8> {
    digested(b'M', [&key.caller, &key.tenant, &key.message_id])
}

pub(super) fn alert(key: &AlertKey) -> Vec<u8> {
    keyed(b'A', &[key.source.as_str().as_bytes(), &[0], key.fingerprint.as_str().as_bytes()])
}

pub(super) fn alert_place(place: &Cursor) -> Vec<u8> {
    place_bytes(place).to_vec()
}

pub(super) fn alert_place_from(value: &[u8]) -> Result<Cursor, Trouble> {
    place_from_bytes(array(value, 0)?)
}

pub(super) fn back_references_of(id: IncidentId) -> Vec<u8> {
    keyed(BACK_REFERENCES, &[id.0.as_bytes()])
}

pub(super) fn back_reference(id: IncidentId, to: &[u8]) -> Vec<u8> {
    keyed(BACK_REFERENCES, &[id.0.as_bytes(), to])
}

/// The key that a back reference stands for.
pub(super) fn back_reference_to(key: &[u8]) -> &[u8] {
    key.get(17..).unwrap_or_default()
}

pub(super) fn drop_range(range: &DropRange) -> (Vec<u8>, Vec<u8>) {
    let key = keyed(DROPS, &[&range.first.to_be_bytes()]);
    (key, [range.last.to_be_bytes(), range.retention.to_be_bytes()].concat())
}

pub(super) fn drop_range_from(key: &[u8], value: &[u8]) -> Result<DropRange, Trouble> {
    Ok(DropRange { first: number(key, 1)?, last: number(value, 0)?, retention: number(value, 8)? })
}

pub(super) fn places_of(id: IncidentId) -> Vec<u8> {
    keyed(b'P', &[id.0.as_bytes()])
}

pub(super) fn place(id: IncidentId, first_revision: u64) -> Vec<u8> {
    keyed(b'P', &[id.0.as_bytes(), &first_revision.to_be_bytes()])
}

pub(super) fn place_value(place: &Place) -> Vec<u8> {
    let Place { position: Position { segment, offset }, events, sequence, .. } = place;
    [segment.to_be_bytes(), offset.to_be_bytes(), events.to_be_bytes(), sequence.to_be_bytes()].concat()
}

pub(super) fn place_from(key: &[u8], value: &[u8]) -> Result<Place, Trouble> {
    Ok(Place {
        position: Position { segment: number(value, 0)?, offset: number(value, 8)? },
        first_revision: number(key, 17)?,
        events: number(value, 16)?,
        sequence: number(value, 24)?,
    })
}

fn bucket((status, priority): (Status, Priority)) -> Vec<u8> {
    let status = Status::ALL.iter().position(|one| *one == status).unwrap_or(usize::MAX);
    let priority = Priority::ALL.iter().position(|one| *one == priority).unwrap_or(usize::MAX);
    vec![LISTED, status as u8, priority as u8]
}

/// The prefixes of closed incidents' places in the lists.
pub(super) fn closed_prefixes() -> Vec<Vec<u8>> {
    Priority::ALL.iter().map(|priority| bucket((Status::Closed, *priority))).collect()
}

pub(super) fn listed(listed: &Listed) -> Vec<u8> {
    [&bucket((listed.status, listed.priority))[..], &place_bytes(&listed.place)].concat()
}

pub(super) fn listed_from(key: &[u8]) -> Result<Listed, Trouble> {
    let [status, priority] = array(key, 1)?;
    let status = Status::ALL.get(usize::from(status)).copied().ok_or("an unknown status")?;
    let priority = Priority::ALL.get(usize::from(priority)).copied().ok_or("an unknown priority")?;
    Ok(Listed { status, priority, place: place_from_bytes(array(key, 3)?)? })
}

/// The keys of a bucket, from after the cursor up to those created at `since`.
pub(super) fn bucket_range(
    of: (Status, Priority),
    after: Option<Cursor>,
    since: Option<Timestamp>,
) -> (Vec<u8>, Vec<u8>) {
    let prefix = bucket(of);
    let first = match after {
        // The zero byte makes it the next possible key.
        Some(cursor) => [&prefix[..], &place_bytes(&cursor), &[0]].concat(),
        None => prefix.clone(),
    };
    let oldest = since.map_or([0xff; 16], |since| descending(created_bytes(since)));
    let end = [&prefix[..], &oldest, &[0xff; 17]].concat();
    (first, end)
}

pub(crate) fn place_bytes(place: &Cursor) -> [u8; PLACE_BYTES] {
    let mut bytes = [0; PLACE_BYTES];
    let (created, id) = bytes.split_at_mut(16);
    created.copy_from_slice(&descending(created_bytes(place.created_at)));
    id.copy_from_slice(&descending(*place.id.0.as_bytes()));
    bytes
}

fn place_from_bytes(bytes: [u8; PLACE_BYTES]) -> Result<Cursor, Trouble> {
    let created = u128::from_be_bytes(descending(array(&bytes, 0)?));
    let created_at = Timestamp::from_nanosecond((created ^ SIGN) as i128)?;
    let id = IncidentId(uuid::Uuid::from_bytes(descending(array(&bytes, 16)?)));
    Ok(Cursor { created_at, id })
}

/// Turned over, negative numbers sort before positive ones as bytes.
const SIGN: u128 = 1 << 127;

pub(crate) fn created_bytes(at: Timestamp) -> [u8; 16] {
    ((at.as_nanosecond() as u128) ^ SIGN).to_be_bytes()
}

pub(crate) fn descending(bytes: [u8; 16]) -> [u8; 16] {
    bytes.map(|byte| !byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_bucket_sort_as_the_list_does_and_read_back() {
        let places = [
            (Timestamp::MAX, 1),
            (Timestamp::from_second(5).unwrap(), 9),
            (Timestamp::from_second(5).unwrap(), 2),
            (Timestamp::UNIX_EPOCH, u128::MAX),
            (Timestamp::from_nanosecond(-1).unwrap(), 3),
            (Timestamp::MIN, 3),
        ];
        let of_place = |(created_at, id): (Timestamp, u128)| Listed {
            status: Status::Resolved,
            priority: Priority::P2,
            place: Cursor { created_at, id: IncidentId(uuid::Uuid::from_u128(id)) },
        };
        let keys: Vec<_> = places.iter().map(|place| listed(&of_place(*place))).collect();
        assert!(keys.is_sorted());
        for (key, place) in keys.iter().zip(places) {
            assert_eq!(listed_from(key).unwrap(), of_place(place));
        }
        let of = (Status::Resolved, Priority::P2);
        let inside = |after: Option<usize>, since| {
            let (first, end) = bucket_range(of, after.map(|at| of_place(places[at]).place), since);
            keys.iter().filter(|key| **key >= first && **key < end).count()
        };
        assert_eq!(inside(None, None), 6);
        assert_eq!(inside(Some(1), None), 4);
        assert_eq!(inside(Some(1), Some(Timestamp::UNIX_EPOCH)), 2);
        assert_eq!(inside(None, Some(Timestamp::from_second(5).unwrap())), 3);
    }

    #[test]
    fn texts_in_a_digested_key_cannot_flow_into_each_other() {
        assert_ne!(digested(b'M', ["ab", "c", ""]), digested(b'M', ["a", "bc", ""]));
    }
}
