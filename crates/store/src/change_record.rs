//! What was changed on purpose at a site: told from outside, kept for a while, and looked at when something breaks.

use jiff::{SignedDuration, Timestamp};
use quell_incident::Digest;
use quell_incident::surroundings::ChangeRecord;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// How long a change is kept after it took effect.
pub const CHANGE_RECORDS_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A change, and when it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedChange {
    /// When the site heard of it.
    pub received_at: Timestamp,
    /// What was changed.
    pub record: ChangeRecord,
}

impl ReceivedChange {
    /// The same record told twice is one.
    pub(crate) fn digest(&self) -> Result<Digest, StoreError> {
        let json =
            serde_json::to_vec(&self.record).map_err(|error| StoreError::unsound(error.to_string()))?;
        Ok(Digest::of_bytes(&json))
    }

    /// Before this a change is forgotten, seen from when this one was told.
    pub(crate) fn horizon(&self) -> Timestamp {
        self.received_at.checked_sub(CHANGE_RECORDS_KEPT).unwrap_or(Timestamp::MIN)
    }
}

/// Which changes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeQuery {
    /// They took effect at this instant or later.
    pub from: Timestamp,
    /// And at this instant or earlier.
    pub to: Timestamp,
    /// And were told at this instant or earlier.
    pub received_until: Timestamp,
    /// The latest so many of them.
    pub limit: usize,
}

impl ChangeQuery {
    pub(crate) fn admits(&self, change: &ReceivedChange) -> bool {
        let at = change.record.at;
        self.from <= at && at <= self.to && change.received_at <= self.received_until
    }
}
