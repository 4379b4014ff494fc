//! What a tool says about itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::RegistryError;

const NAME_BYTES_MAX: usize = 64;

/// What a call of a tool can do to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// It only looks; calling it any number of times changes nothing.
    ReadOnly,
    /// It changes something.
    Action {
        /// Doing it twice with the same arguments has the effect of doing it once.
        idempotent: bool,
        /// It can remove or interrupt something, as opposed to only adding.
        destructive: bool,
    },
}

impl Effect {
    /// The MCP tool annotations for this effect.
    pub fn annotations(self) -> Value {
        let (read_only, destructive, idempotent) = match self {
            Self::ReadOnly => (true, false, true),
            Self::Action { idempotent, destructive } => (false, destructive, idempotent),
        };
        json!({"readOnlyHint": read_only, "destructiveHint": destructive, "idempotentHint": idempotent})
    }
}

/// The description of a tool, for people, for agents and for MCP clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Unique in its registry: lower case letters, digits, `-`, `_` and `.`, at most 64 of them.
    pub name: String,
    /// A short title for people.
    pub title: String,
    /// What the tool does and when it is of use.
    pub description: String,
    /// JSON Schema of a read tool's input, or of an action's `arguments`; always of type `object`.
    pub input_schema: Value,
    /// JSON Schema of the answer.
    pub output_schema: Value,
    /// What a call can change.
    pub effect: Effect,
}

impl ToolSpec {
    /// The tool as an MCP `tools/list` shows it.
    pub fn to_mcp(&self) -> Value {
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input_schema,
            "outputSchema": self.output_schema,
            "annotations": self.effect.annotations(),
        })
    }

    /// Checks the name and the form of the input schema.
    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        let first_fits = self.name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest_fits =
            self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        if !first_fits || !rest_fits || self.name.len() > NAME_BYTES_MAX {
            return Err(RegistryError::BadName { name: self.name.clone() });
        }
        if self.input_schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(RegistryError::InputNotAnObject { name: self.name.clone() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, effect: Effect) -> ToolSpec {
        ToolSpec {
            name: name.to_owned(),
            title: "Title".to_owned(),
            description: "Describes".to_owned(),
            input_schema: json!({"type": "object"}),
            output_schema: json!({}),
            effect,
        }
    }

    #[test]
    fn annotations_follow_the_effect() {
        assert_eq!(
            spec("look", Effect::ReadOnly).to_mcp()["annotations"],
            json!({"readOnlyHint": true, "destructiveHint": false, "idempotentHint": true})
        );
        assert_eq!(
            spec("do", Effect::Action { idempotent: false, destructive: true }).to_mcp()["annotations"],
            json!({"readOnlyHint": false, "destructiveHint": true, "idempotentHint": false})
        );
    }

    #[test]
    fn names_that_would_confuse_are_refused() {
        for good in ["log-analyzer", "http.call", "a", "0_x"] {
            assert!(spec(good, Effect::ReadOnly).check().is_ok(), "{good}");
        }
        for bad in ["", "Log", "log analyzer", "-x", "ü", &"a".repeat(65)] {
            assert!(
                matches!(spec(bad, Effect::ReadOnly).check(), Err(RegistryError::BadName { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_input_schema_must_describe_an_object() {
        let mut spec = spec("look", Effect::ReadOnly);
        spec.input_schema = json!({"type": "string"});
        assert!(matches!(spec.check(), Err(RegistryError::InputNotAnObject { .. })));
    }
}
