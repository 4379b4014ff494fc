//! Typed names and ids, so that a target can never be passed where a runbook is meant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Why a text is not a valid id or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {why}")]
pub struct InvalidName {
    /// What it should have been, in the field's words.
    pub what: &'static str,
    /// The text that was given, shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), why }
    }
}

/// The id of an incident: a UUIDv7 in its 36-character form, so that ids sort by the time they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncidentId(pub uuid::Uuid);

impl fmt::Display for IncidentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(formatter)
    }
}

impl fmt::Debug for IncidentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for IncidentId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| {
            InvalidName::new(
                "incident id",
                text,
                "expected a UUID such as 0190d2f0-7b1e-7cc0-8000-000000000000",
            )
        })
    }
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $characters_max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a declared name: visible ASCII characters without blanks or quotes, of a bounded length.
            ///
            /// # Errors
            /// [`InvalidName`] for anything else.
            pub fn declared(text: &str) -> Result<Self, InvalidName> {
                if text.is_empty() || text.len() > $characters_max {
                    let why = concat!("expected 1 to ", stringify!($characters_max), " characters");
                    return Err(InvalidName::new($what, text, why));
                }
                if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`' | b'\\')) {
                    return Err(InvalidName::new($what, text, "expected visible ASCII characters without quotes"));
                }
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::declared(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::declared(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_name!(
    /// A thing that can be acted on, by its name in the inventory. It is never made from telemetry: a label can only be
    /// compared with it ([`crate::Untrusted::is`]).
    TargetName,
    "target name",
    200
);
text_name!(
    /// The name of a runbook.
    RunbookName,
    "runbook name",
    200
);
text_name!(
    /// The name of a step within its runbook.
    StepName,
    "step name",
    200
);
text_name!(
    /// A configured source of alerts, such as `alertmanager`. Two Alertmanagers of one pair are one source.
    SourceName,
    "source name",
    200
);
text_name!(
    /// The key of work that an agent is asked to do (diagnosis, planning, verification); it is the A2A `message_id`, so asking
    /// again finds the same task.
    TaskKey,
    "task key",
    400
);
text_name!(
    /// The key of one try of one step: `incident/attempt/plan digest/step/try`, with `/undo` for its inverse. It is started once.
    StepKey,
    "step key",
    400
);

impl TaskKey {
    /// The key of an incident's `serial`th request to an agent.
    pub(crate) fn of(incident: IncidentId, skill: &str, serial: u32) -> Self {
        Self(format!("{incident}/{skill}/{serial}").into())
    }
}

impl StepKey {
    /// The key of one try of one step. It fits, since a step's name is at most 200 characters long.
    pub fn of(
        incident: IncidentId,
        attempt: usize,
        plan: &Digest,
        step: &StepName,
        try_number: u32,
        undo: bool,
    ) -> Self {
        let undo = if undo { "/undo" } else { "" };
        Self(format!("{incident}/{attempt}/{}/{step}/{try_number}{undo}", plan.short()).into())
    }

    /// Which attempt and which try of it, if it is a key of this step of this plan; anything else is none.
    pub fn numbers(
        &self,
        incident: IncidentId,
        plan: &Digest,
        step: &StepName,
        undo: bool,
    ) -> Option<(usize, u32)> {
        let rest = self.as_str().strip_prefix(&format!("{incident}/"))?;
        let (attempt, rest) = rest.split_once('/')?;
        let rest = rest.strip_prefix(&format!("{}/{step}/", plan.short()))?;
        let try_number = if undo { rest.strip_suffix("/undo")? } else { rest };
        let (attempt, try_number) = (attempt.parse().ok()?, try_number.parse().ok()?);
        // Signs and leading zeros would make two keys of one.
        (Self::of(incident, attempt, plan, step, try_number, undo) == *self).then_some((attempt, try_number))
    }

    /// Which try a key of [`StepKey::of`] is.
    pub fn try_number(&self) -> Option<u32> {
        let key = self.as_str().strip_suffix("/undo").unwrap_or(self.as_str());
        key.rsplit('/').next()?.parse().ok()
    }
}

/// SHA-256 over RFC 8785 canonical JSON, in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a document's canonical JSON (RFC 8785).
    ///
    /// # Errors
    /// When the document has no JSON form: a map with keys that are not text, or a number that is not finite.
    pub fn of<T: Serialize>(document: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::of_bytes(&serde_json_canonicalizer::to_vec(document)?))
    }

    /// The digest of raw bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve hex characters: enough for people to tell plans apart.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| InvalidName::new("digest", text, "expected 64 hexadecimal characters"))?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The next one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map(Self).map_err(|_| serde::de::Error::custom("expected a whole number in a string"))
            }
        }
    };
}

counter!(
    /// How many events an incident has had: the expected value of it is what makes an append a compare-and-swap.
    Revision
);
counter!(
    /// Grows with every taking of a target's lock. An agent refuses a token lower than one that it has seen for the target, so a
    /// holder that was stopped and wakes late can do nothing.
    FencingToken
);
counter!(
    /// Grows with every change of the gates that stand for the whole site (the kill switch).
    GateEpoch
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_does_not_depend_on_the_order_of_keys() {
        let one: serde_json::Value = serde_json::from_str(r#"{"b":1,"a":[true,"x"]}"#).unwrap();
        let other: serde_json::Value = serde_json::from_str(r#"{"a":[true,"x"],"b":1.0}"#).unwrap();
        assert_eq!(Digest::of(&one).unwrap(), Digest::of(&other).unwrap());
    }

    #[test]
    fn names_refuse_what_could_be_read_as_a_command_line() {
        for bad in ["", "a b", "a\nb", "a\"b", "naïve", "`id`"] {
            assert!(TargetName::declared(bad).is_err(), "{bad:?}");
        }
        assert_eq!(TargetName::declared("db-server-01").unwrap().as_str(), "db-server-01");
    }

    #[test]
    fn a_step_key_is_taken_apart_by_what_it_must_be_of() {
        let (incident, plan) = (IncidentId(uuid::Uuid::from_u128(1)), Digest::of_bytes(b"plan"));
        for step in ["raise", "a/b", "1/2"] {
            let step = StepName::declared(step).unwrap();
            for undo in [false, true] {
                let key = StepKey::of(incident, 2, &plan, &step, 31, undo);
                assert_eq!(key.numbers(incident, &plan, &step, undo), Some((2, 31)));
                assert_eq!(key.try_number(), Some(31));
                assert_eq!(key.numbers(incident, &plan, &step, !undo), None);
                assert_eq!(key.numbers(IncidentId(uuid::Uuid::from_u128(2)), &plan, &step, undo), None);
                assert_eq!(key.numbers(incident, &Digest::of_bytes(b"other"), &step, undo), None);
                assert_eq!(key.numbers(incident, &plan, &StepName::declared("other").unwrap(), undo), None);
            }
            let (short, all) = (plan.short(), |rest: &str| format!("{incident}/{rest}"));
            for odd in [
                all(&format!("+2/{short}/{step}/31")),
                all(&format!("02/{short}/{step}/31")),
                all(&format!("2/{short}/{step}/031")),
                all(&format!("2/{short}/{step}/31/x")),
                all(&format!("2/{short}/{step}")),
                format!("{short}/{step}/31"),
            ] {
                assert_eq!(
                    StepKey::declared(&odd).unwrap().numbers(incident, &plan, &step, false),
                    None,
                    "{odd}"
                );
            }
        }
    }

    #[test]
    fn counters_cross_json_as_text() {
        assert_eq!(serde_json::to_string(&FencingToken(u64::MAX)).unwrap(), "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<Revision>("\"7\"").unwrap(), Revision(7));
    }
}
