//! What is kept for how long.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_incident::ids::Digest;
use quell_journal::Head;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long a store keeps what is over. None is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Incidents, from their last event on, once they are closed.
    pub closed_incidents: Option<Duration>,
    /// Received alerts, once they are correlated.
    pub received: Option<Duration>,
}

impl Retention {
    /// Closed incidents whose last event was before this instant are over.
    pub fn closed_before(&self, now: Timestamp) -> Option<Timestamp> {
        before(self.closed_incidents, now)
    }

    /// Alerts received before this instant are over.
    pub fn received_before(&self, now: Timestamp) -> Option<Timestamp> {
        before(self.received, now)
    }

    /// The digest under which dropping is noted.
    pub fn digest(&self) -> Digest {
        let seconds = |period: Option<Duration>| period.map_or("none".to_owned(), |one| format!("{one:?}"));
        let text = format!(
            "quell retention v1\nclosed_incidents {}\nreceived {}\n",
            seconds(self.closed_incidents),
            seconds(self.received)
        );
        Digest::of_bytes(text.as_bytes())
    }
}

fn before(period: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
    let period = SignedDuration::try_from(period?).ok()?;
    now.checked_sub(period).ok()
}

/// How much one call of [`IncidentStore::retain`](crate::IncidentStore::retain) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionBudget {
    /// Incidents that are dropped.
    pub incidents_max: usize,
    /// Bytes of received alerts that are read.
    pub read_bytes_max: u64,
    /// Segments of the journal that are written anew; where it has none, parts of some thousand records.
    pub segments_max: usize,
}

impl Default for RetentionBudget {
    fn default() -> Self {
        Self { incidents_max: 500, read_bytes_max: 64 << 20, segments_max: 2 }
    }
}

/// What one call came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// The retention record, if one was written.
    pub record: Option<u64>,
    /// Incidents dropped.
    pub incidents: u64,
    /// Records of which the payload was given up.
    pub payloads_given_up: u64,
    /// Segments written anew, or parts that lost their payloads.
    pub segments: u64,
    /// Bytes by which they are shorter.
    pub bytes_freed: u64,
    /// Whether the budget was used up before all was done.
    pub more: bool,
}

/// Where a store's chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The identity of the journal.
    pub journal_id: Uuid,
    /// Its last durable record.
    pub head: Head,
}
