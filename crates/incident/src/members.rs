//! Every alert of an incident in its shortest form, so that "all of them have cleared" is exact for twenty thousand of them while
//! only a sample is kept in full.
//!
//! An incident is copied for every change of it. The members stand in shards that copies share, and a change copies only the shards
//! that it touches: what a change costs does not grow with the square of the storm.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::{AlertKey, Fingerprint};
use crate::ids::SourceName;

/// Members that stand in a single shard; most incidents never have more.
const UNSHARDED_MAX: usize = 64;
/// Shards of a large incident: about as many as a shard then has members.
const SHARDS: usize = 256;

/// An alert of an incident, in its shortest form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredMember", into = "StoredMember")]
pub struct Member {
    /// Which.
    pub key: AlertKey,
    /// When this episode began, as its source says.
    pub starts_at: Timestamp,
    /// When it cleared, if it has.
    pub cleared_at: Option<Timestamp>,
    /// What silences or inhibits it.
    pub suppressed_by: Option<Arc<str>>,
}

/// The stored form, with the key's parts beside the others.
#[derive(Serialize, Deserialize)]
struct StoredMember {
    source: SourceName,
    fingerprint: Fingerprint,
    starts_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cleared_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suppressed_by: Option<Arc<str>>,
}

impl From<StoredMember> for Member {
    fn from(stored: StoredMember) -> Self {
        let StoredMember { source, fingerprint, starts_at, cleared_at, suppressed_by } = stored;
        Self { key: AlertKey { source, fingerprint }, starts_at, cleared_at, suppressed_by }
    }
}

impl From<Member> for StoredMember {
    fn from(member: Member) -> Self {
        let Member { key: AlertKey { source, fingerprint }, starts_at, cleared_at, suppressed_by } = member;
        Self { source, fingerprint, starts_at, cleared_at, suppressed_by }
    }
}

impl Member {
    /// An alert that fires.
    pub fn firing(key: AlertKey, starts_at: Timestamp) -> Self {
        Self { key, starts_at, cleared_at: None, suppressed_by: None }
    }

    /// Whether it fires, as far as messages said.
    pub fn fires(&self) -> bool {
        self.cleared_at.is_none()
    }
}

/// The alerts of an incident by source and fingerprint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// One, or [`SHARDS`] of them; each sorted by key.
    shards: Vec<Arc<Vec<Member>>>,
    total: usize,
    firing: usize,
}

impl Members {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many fire.
    pub fn firing(&self) -> usize {
        self.firing
    }

    /// One of them.
    pub fn get(&self, key: &AlertKey) -> Option<&Member> {
        let shard = self.shards.get(self.shard_of(key))?;
        shard.binary_search_by(|member| member.key.cmp(key)).ok().and_then(|place| shard.get(place))
    }

    /// All of them, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Puts one in, or in the place of what was known of the same alert.
    pub(crate) fn put(&mut self, member: Member) {
        if self.shards.is_empty() {
            self.shards.push(Arc::default());
        }
        if self.shards.len() == 1 && self.total >= UNSHARDED_MAX {
            self.spread();
        }
        let at = self.shard_of(&member.key);
        let Some(shard) = self.shards.get_mut(at) else { return };
        let shard = Arc::make_mut(shard);
        self.firing += usize::from(member.fires());
        match shard.binary_search_by(|known| known.key.cmp(&member.key)) {
            Ok(place) => {
                if let Some(known) = shard.get_mut(place) {
                    self.firing -= usize::from(known.fires());
                    *known = member;
                }
            }
            Err(place) => {
                self.total += 1;
                shard.insert(place, member);
            }
        }
    }

    /// Notes that one has cleared; whether it fired.
    pub(crate) fn clear(&mut self, key: &AlertKey, at: Timestamp) -> bool {
        let cleared = self
            .change(key, |member| member.fires().then(|| member.cleared_at = Some(at)).is_some())
            .unwrap_or(false);
        self.firing -= usize::from(cleared);
        cleared
    }

    /// Notes by what one is silenced; whether it is known.
    pub(crate) fn suppress(&mut self, key: &AlertKey, by: Option<&str>) -> bool {
        self.change(key, |member| member.suppressed_by = by.map(Arc::from)).is_some()
    }

    fn change<T>(&mut self, key: &AlertKey, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let at = self.shard_of(key);
        let shard = self.shards.get_mut(at)?;
        let place = shard.binary_search_by(|member| member.key.cmp(key)).ok()?;
        Arc::make_mut(shard).get_mut(place).map(change)
    }

    fn shard_of(&self, key: &AlertKey) -> usize {
        if self.shards.len() <= 1 { 0 } else { hash(key) % self.shards.len() }
    }

    fn spread(&mut self) {
        let before = std::mem::take(&mut self.shards);
        let mut shards = vec![Vec::new(); SHARDS];
        for member in before.iter().flat_map(|shard| shard.iter()) {
            if let Some(shard) = shards.get_mut(hash(&member.key) % SHARDS) {
                shard.push(member.clone());
            }
        }
        self.shards = shards.into_iter().map(Arc::new).collect();
    }
}

/// FNV-1a: the same in every process, so that a replay makes the same shards.
fn hash(key: &AlertKey) -> usize {
    let bytes = key.fingerprint.as_str().bytes().chain(key.source.as_str().bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> AlertKey {
        AlertKey {
            source: SourceName::declared("am").unwrap(),
            fingerprint: Fingerprint::given(&format!("{number:016x}")).unwrap(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn counts_are_exact_over_the_change_to_shards() {
        let mut members = Members::default();
        for number in 0..1_000 {
            members.put(Member::firing(key(number), at(1)));
        }
        assert_eq!((members.len(), members.firing(), members.iter().count()), (1_000, 1_000, 1_000));
        for number in (0..1_000).step_by(2) {
            assert!(members.clear(&key(number), at(2)));
            assert!(!members.clear(&key(number), at(3)), "it cleared once");
        }
        assert_eq!((members.len(), members.firing()), (1_000, 500));
        members.put(Member::firing(key(0), at(4)));
        members.put(Member::firing(key(1), at(4)));
        assert_eq!((members.len(), members.firing()), (1_000, 501));
        assert_eq!(members.get(&key(0)).unwrap().starts_at, at(4));
        assert!(members.get(&key(1_000)).is_none() && !members.clear(&key(1_000), at(5)));
    }

    #[test]
    fn the_stored_form_has_the_parts_of_the_key_beside_the_others() {
        let stored = r#"{"source":"am","fingerprint":"000000000000000a","starts_at":"1970-01-01T00:00:01Z"}"#;
        let member: Member = serde_json::from_str(stored).unwrap();
        assert_eq!(member, Member::firing(key(10), at(1)));
        assert_eq!(serde_json::to_string(&member).unwrap(), stored);
    }

    #[test]
    fn a_copy_shares_what_was_not_changed() {
        let mut members = Members::default();
        for number in 0..5_000 {
            members.put(Member::firing(key(number), at(1)));
        }
        let before = members.clone();
        members.put(Member::firing(key(9_999), at(1)));
        let copied = before.shards.iter().zip(&members.shards).filter(|(old, new)| !Arc::ptr_eq(old, new));
        assert_eq!(copied.count(), 1);
        let largest = members.shards.iter().map(|shard| shard.len()).max().unwrap();
        assert!(largest < 60, "the shards are uneven: one has {largest} of 5001");
    }
}
