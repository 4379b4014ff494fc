//! What the ledger writes: one JSON document per record.

use jiff::Timestamp;
use quell_incident::contract::StepOutcome;
use quell_incident::ids::{Digest, FencingToken, StepName};
use quell_incident::{Plan, StepKey, TargetName};
use quell_journal::Record as JournalRecord;
use serde::{Deserialize, Serialize};

/// The type number of all records here; the document says which it is.
const KIND: u16 = 1;

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Record {
    /// A plan of this agent begins: the intent of its first step follows.
    Planned { digest: Digest, plan: Box<Plan>, at: Timestamp },
    /// From here on the key may have taken effect.
    Intent { key: StepKey, about: About, plan: Digest, step: StepName, undo: bool, at: Timestamp },
    /// How the key ended; one that was refused has no intent before it.
    Outcome { key: StepKey, about: About, outcome: StepOutcome, at: Timestamp },
    /// The key was asked about before it was seen: it never starts.
    Sealed { key: StepKey, about: About, at: Timestamp },
    /// A token was seen that is in no other record.
    Token { target: TargetName, token: FencingToken, at: Timestamp },
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    /// Digest of what the request would do.
    pub(crate) content: Digest,
    pub(crate) target: TargetName,
    /// The token that is thereby seen; none when the target is not one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<FencingToken>,
    pub(crate) not_after: Timestamp,
}

impl Record {
    pub(crate) fn encode(&self) -> Result<JournalRecord, serde_json::Error> {
        Ok(JournalRecord::new(KIND, serde_json::to_vec(self)?))
    }

    /// The record, or why these bytes are none: written by a newer program.
    pub(crate) fn decode(kind: u16, payload: &[u8]) -> Result<Self, String> {
        if kind != KIND {
            return Err(format!("its kind is {kind}, this program knows {KIND}"));
        }
        serde_json::from_slice(payload).map_err(|error| error.to_string())
    }
}
