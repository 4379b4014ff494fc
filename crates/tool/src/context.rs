//! The circumstances of one call.

use std::time::Duration;

use tokio::time::Instant;

/// The limits and the reason of one call.
///
/// A tool passes the remaining time on to what it calls; the registry enforces the deadline whether it does or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallContext {
    /// The call has to have ended by then.
    pub deadline: Instant,
    /// The largest answer, in bytes of JSON (reads) or of text (output of actions).
    pub output_bytes_max: usize,
    /// The incident for which the call is made, for logs and for tools that record it.
    pub incident_id: Option<String>,
    /// A key that makes a repeated call recognisable to the target, where the target can make use of one.
    pub idempotency_key: Option<String>,
}

impl CallContext {
    /// The output limit of [`CallContext::within`]: 1 MiB.
    pub const OUTPUT_BYTES_MAX_DEFAULT: usize = 1 << 20;

    /// A context whose deadline is `budget` from now.
    pub fn within(budget: Duration) -> Self {
        Self {
            deadline: Instant::now() + budget,
            output_bytes_max: Self::OUTPUT_BYTES_MAX_DEFAULT,
            incident_id: None,
            idempotency_key: None,
        }
    }

    /// The same with another output limit.
    pub fn with_output_bytes_max(mut self, output_bytes_max: usize) -> Self {
        self.output_bytes_max = output_bytes_max;
        self
    }

    /// The same for an incident.
    pub fn for_incident(mut self, incident_id: impl Into<String>) -> Self {
        self.incident_id = Some(incident_id.into());
        self
    }

    /// The same with a key that the target can recognise a repeat by.
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// The time left; zero when the deadline has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
