//! JSON documents that come from outside: an object and nothing else, which names its schema where there is one.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde_json::Value;

use crate::contract::{
    DiagnoseRequest, Introduction, PlanRequest, StepRequest, VerificationReport, VerifyRequest,
};
use crate::report::{REPORT_SCHEMA, Report};

/// A `T` that is read from a JSON object only. Serde reads a struct from an array as well, by the order of its fields: a list would be
/// taken for a person's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = Object<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OfMap(PhantomData))
    }
}

/// A document that names its schema.
pub trait Document: DeserializeOwned {
    /// What its field `schema` says.
    const SCHEMA: &'static str;
}

impl Document for DiagnoseRequest {
    const SCHEMA: &'static str = "quell/diagnose/v1";
}
impl Document for PlanRequest {
    const SCHEMA: &'static str = "quell/plan-request/v1";
}
impl Document for StepRequest {
    const SCHEMA: &'static str = "quell/step/v1";
}
impl Document for Introduction {
    const SCHEMA: &'static str = "quell/introduction/v1";
}
impl Document for VerifyRequest {
    const SCHEMA: &'static str = "quell/verify/v1";
}
impl Document for VerificationReport {
    const SCHEMA: &'static str = "quell/verification/v1";
}
impl Document for Report {
    const SCHEMA: &'static str = REPORT_SCHEMA;
}

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", if .field.is_empty() { String::new() } else { format!("`{}` ", .field) })]
pub struct Unfit {
    /// The field that is wrong; empty for the document as a whole.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// Reads a document of this schema. The schema is looked at first: of another one nothing else needs to fit.
///
/// # Errors
/// [`Unfit`], which names the schema that was given and the one that is expected.
pub fn read<T: Document>(data: &Value) -> Result<T, Unfit> {
    named(data, T::SCHEMA)?;
    object(data)
}

/// Whether a document names this schema.
///
/// # Errors
/// [`Unfit`], which names the schema that was given and the one that is expected.
pub fn named(data: &Value, expected: &str) -> Result<(), Unfit> {
    let Some(fields) = data.as_object() else {
        return Err(Unfit { field: "", why: "a JSON object is expected".to_owned() });
    };
    let why = match fields.get("schema") {
        Some(Value::String(given)) if given == expected => return Ok(()),
        Some(Value::String(given)) => {
            let given: String = given.chars().take(80).collect();
            format!("is `{given}`, expected `{expected}`")
        }
        Some(_) => format!("is no text, expected `{expected}`"),
        None => format!("is missing, expected `{expected}`"),
    };
    Err(Unfit { field: "schema", why })
}

/// Reads a document that names no schema.
///
/// # Errors
/// [`Unfit`] when it is no object, or not one with these fields.
pub fn object<T: DeserializeOwned>(data: &Value) -> Result<T, Unfit> {
    let read = Object::<T>::deserialize(data);
    read.map(|Object(read)| read).map_err(|error| Unfit { field: "", why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Words {
        why: String,
        happened: Option<bool>,
    }

    #[test]
    fn only_an_object_is_read() {
        let given: Object<Words> = serde_json::from_str(r#"{"why": "x", "happened": true}"#).unwrap();
        assert_eq!(given.0, Words { why: "x".to_owned(), happened: Some(true) });
        for other in ["[]", r#"["x", true]"#, "null", "1", "\"x\"", "true", "[{}]"] {
            assert!(serde_json::from_str::<Object<Words>>(other).is_err(), "{other}");
            let tree: Value = serde_json::from_str(other).unwrap();
            assert!(object::<Words>(&tree).is_err(), "{other}");
            assert!(read::<VerifyRequest>(&tree).is_err(), "{other}");
        }
        // What serde by itself would have made of it.
        assert!(serde_json::from_str::<Words>(r#"["x", true]"#).is_ok());
    }

    #[test]
    fn another_schema_is_refused_by_name_before_anything_else_is_looked_at() {
        for (given, said) in [
            (json!({"schema": "quell/step/v1"}), "`schema` is `quell/step/v1`, expected `quell/verify/v1`"),
            (json!({"schema": 1}), "`schema` is no text, expected `quell/verify/v1`"),
            (json!({"checks": []}), "`schema` is missing, expected `quell/verify/v1`"),
        ] {
            assert_eq!(read::<VerifyRequest>(&given).unwrap_err().to_string(), said);
        }
    }
}
