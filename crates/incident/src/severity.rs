//! How bad, how urgent, and where an incident stands, in the words that people see.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that is not one of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{text}`: expected one of {expected}")]
pub struct UnknownWord {
    what: &'static str,
    text: String,
    expected: &'static str,
}

macro_rules! words {
    ($name:ident, $what:literal, $expected:literal, $( $variant:ident = $word:literal ),+) => {
        impl $name {
            /// All of them, the first one first.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it stands in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|known| known.as_str().eq_ignore_ascii_case(text.trim()))
                    .ok_or_else(|| UnknownWord { what: $what, text: text.chars().take(80).collect(), expected: $expected })
            }
        }
    };
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Users are hurt now.
    Critical,
    /// Users will be hurt soon.
    High,
    /// Something is degraded.
    Medium,
    /// Something should be looked at.
    Warning,
    /// For information.
    Info,
}

words!(
    Severity,
    "severity",
    "critical, high, medium, warning, info",
    Critical = "critical",
    High = "high",
    Medium = "medium",
    Warning = "warning",
    Info = "info"
);

/// How urgent it is; P0 comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// At once, day or night.
    P0,
    /// Within the hour.
    P1,
    /// Today.
    P2,
    /// When there is time.
    P3,
}

words!(Priority, "priority", "P0, P1, P2, P3", P0 = "P0", P1 = "P1", P2 = "P2", P3 = "P3");

/// Where an incident stands, in the four words of its public life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Taken, not yet looked into.
    Open,
    /// Being looked into, planned, carried out, verified, or with a person.
    Investigating,
    /// Its alerts have cleared; watched for a return.
    Resolved,
    /// Over.
    Closed,
}

words!(
    Status,
    "status",
    "open, investigating, resolved, closed",
    Open = "open",
    Investigating = "investigating",
    Resolved = "resolved",
    Closed = "closed"
);

impl Status {
    /// Open or investigating: `status=active` of the API.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Open | Self::Investigating)
    }
}
