//! What a store keeps beside its journal.

use quell_incident::ids::{Digest, IncidentId};

use crate::change_record::ReceivedChange;

/// One thing that a store keeps beside its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A document of an incident: what is too large for an event.
    Document {
        /// Whose it is.
        incident: IncidentId,
        /// Under which name it is cited; its content has this digest.
        digest: Digest,
        /// Its content.
        content: Vec<u8>,
    },
    /// A change of the site.
    Change(ReceivedChange),
}
