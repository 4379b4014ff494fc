//! A digest of what a store trusts its index for without asking the journal again: locks, cool-downs, switches, and which
//! incidents are open. It is kept with every batch and compared at opening.

use sha2::{Digest, Sha256};

use super::index::Trouble;
use super::keys;

/// Sealed entries that there is one of.
const SINGLE: [&[u8]; 3] = [keys::SITE, keys::CORRELATED, keys::TOKENS_ABOVE];

/// The digests of all sealed entries, combined without an order, so that one entry is added or taken away in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seal([u8; 32]);

impl Seal {
    /// Whether entries under this key are sealed.
    pub(super) fn covers(key: &[u8]) -> bool {
        match key.first() {
            Some(&first) if keys::SEALED.contains(&first) => true,
            _ => SINGLE.contains(&key),
        }
    }

    /// Adds an entry, or takes away one that was added.
    pub(super) fn toggle(&mut self, key: &[u8], value: &[u8]) {
        let mut hasher = Sha256::new();
        hasher.update((key.len() as u64).to_be_bytes());
        hasher.update(key);
        hasher.update(value);
        let digest: [u8; 32] = hasher.finalize().into();
        for (byte, other) in self.0.iter_mut().zip(digest) {
            *byte ^= other;
        }
    }

    /// The seal of all that is stored.
    pub(super) fn of(db: &sled::Db) -> Result<Self, Trouble> {
        let mut seal = Self::default();
        for first in keys::SEALED {
            for entry in db.scan_prefix([first]) {
                let (key, value) = entry?;
                seal.toggle(&key, &value);
            }
        }
        for key in SINGLE {
            if let Some(value) = db.get(key)? {
                seal.toggle(key, &value);
            }
        }
        Ok(seal)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
