//! Schemas from types, and a check of input against a schema.
//!
//! The check covers what describes arguments in practice: types, required and unknown fields, enumerations, bounds of
//! numbers, lengths, items, `anyOf`/`oneOf`/`allOf` and references inside the schema. A keyword that it does not know
//! passes; the tool's own typed reading of the input has the last word. A full validator would be the heaviest
//! dependency of this crate.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ToolError;

const DEPTH_MAX: usize = 64;
/// Steps through alternatives and references; only a schema that refers to itself without end takes so many.
const SCHEMA_STEPS_MAX: usize = 4 * DEPTH_MAX;

/// The JSON Schema of `T`, self-contained (no references but recursive ones).
pub fn schema_of<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Reads `input` as a `T`; the error names the path of the field that does not fit.
pub fn parse_input<T: DeserializeOwned>(input: Value) -> Result<T, ToolError> {
    serde_path_to_error::deserialize(input).map_err(|error| {
        let field = error.path().to_string();
        ToolError::invalid(field, error.into_inner().to_string())
    })
}

/// Checks `input` against `schema`; the error names the path of the first field that does not fit.
pub fn check_schema(schema: &Value, input: &Value) -> Result<(), ToolError> {
    Check { root: schema, path: Vec::new(), steps: 0 }.check(schema, input)
}

struct Check<'a> {
    root: &'a Value,
    path: Vec<String>,
    steps: usize,
}

impl Check<'_> {
    fn check(&mut self, schema: &Value, input: &Value) -> Result<(), ToolError> {
        let Value::Object(rules) = schema else {
            // `true` accepts anything; `false` is met only where a field must not exist.
            return if schema == &Value::Bool(false) { Err(self.fault("is not allowed")) } else { Ok(()) };
        };
        if self.path.len() > DEPTH_MAX || self.steps > SCHEMA_STEPS_MAX {
            return Err(self.fault(format!("is nested deeper than {DEPTH_MAX} levels")));
        }
        self.steps += 1;
        let checked = self.check_rules(rules, input);
        self.steps -= 1;
        checked
    }

    fn check_rules(&mut self, rules: &Map<String, Value>, input: &Value) -> Result<(), ToolError> {
        if let Some(reference) = rules.get("$ref").and_then(Value::as_str)
            && let Some(target) = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
        {
            self.check(target, input)?;
        }
        self.check_type(rules, input)?;
        if let Some(Value::Array(allowed)) = rules.get("enum")
            && !allowed.contains(input)
        {
            return Err(self.fault(format!("must be one of {}", list(allowed))));
        }
        if let Some(only) = rules.get("const")
            && only != input
        {
            return Err(self.fault(format!("must be {only}")));
        }
        self.check_alternatives(rules, input)?;
        match input {
            Value::Object(fields) => self.check_object(rules, fields),
            Value::Array(items) => self.check_array(rules, items),
            Value::String(text) => {
                self.check_size(rules, ["minLength", "maxLength"], text.chars().count(), "characters")
            }
            Value::Number(number) => self.check_number(rules, number),
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn within(&mut self, name: String, schema: &Value, input: &Value) -> Result<(), ToolError> {
        self.path.push(name);
        let checked = self.check(schema, input);
        self.path.pop();
        checked
    }

    fn fault(&self, why: impl Into<String>) -> ToolError {
        let field = if self.path.is_empty() { ".".to_owned() } else { self.path.join(".") };
        ToolError::invalid(field, why)
    }

    fn check_type(&self, rules: &Map<String, Value>, input: &Value) -> Result<(), ToolError> {
        let allowed = match rules.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => return Ok(()),
        };
        let fits = allowed.iter().any(|name| match *name {
            "null" => input.is_null(),
            "boolean" => input.is_boolean(),
            "string" => input.is_string(),
            "array" => input.is_array(),
            "object" => input.is_object(),
            "number" => input.is_number(),
            "integer" => input.is_i64() || input.is_u64() || input.as_f64().is_some_and(|n| n.fract() == 0.0),
            _ => true,
        });
        if fits { Ok(()) } else { Err(self.fault(format!("must be of type {}", allowed.join(" or ")))) }
    }

    fn check_alternatives(&mut self, rules: &Map<String, Value>, input: &Value) -> Result<(), ToolError> {
        if let Some(Value::Array(all)) = rules.get("allOf") {
            for schema in all {
                self.check(schema, input)?;
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(Value::Array(schemas)) = rules.get(keyword) else { continue };
            let mut fitting = 0_usize;
            let mut first_fault = None;
            for schema in schemas {
                let depth = self.path.len();
                match self.check(schema, input) {
                    Ok(()) => fitting += 1,
                    Err(error) => first_fault = first_fault.or(Some(error)),
                }
                // A fault leaves its own path behind.
                self.path.truncate(depth);
            }
            if fitting == 0 {
                return Err(first_fault.unwrap_or_else(|| self.fault("fits no alternative of the schema")));
            }
            if keyword == "oneOf" && fitting > 1 {
                return Err(self.fault("fits several alternatives of the schema where one is wanted"));
            }
        }
        Ok(())
    }

    fn check_object(
        &mut self,
        rules: &Map<String, Value>,
        fields: &Map<String, Value>,
    ) -> Result<(), ToolError> {
        if let Some(Value::Array(required)) = rules.get("required") {
            for name in required.iter().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    self.path.push(name.to_owned());
                    return Err(self.fault("is required"));
                }
            }
        }
        let properties = rules.get("properties").and_then(Value::as_object);
        for (name, field) in fields {
            let known = properties.and_then(|properties| properties.get(name));
            match (known, rules.get("additionalProperties")) {
                (Some(schema), _) => self.within(name.clone(), schema, field)?,
                (None, Some(Value::Bool(false))) => {
                    let names = properties.map(|known| known.keys().cloned().collect::<Vec<_>>().join(", "));
                    self.path.push(name.clone());
                    let why = format!("is not a known field; known are: {}", names.unwrap_or_default());
                    return Err(self.fault(why));
                }
                (None, Some(schema)) => self.within(name.clone(), schema, field)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn check_array(&mut self, rules: &Map<String, Value>, items: &[Value]) -> Result<(), ToolError> {
        self.check_size(rules, ["minItems", "maxItems"], items.len(), "items")?;
        let Some(schema) = rules.get("items") else { return Ok(()) };
        for (index, item) in items.iter().enumerate() {
            self.within(index.to_string(), schema, item)?;
        }
        Ok(())
    }

    fn check_size(
        &self,
        rules: &Map<String, Value>,
        [least, most]: [&str; 2],
        size: usize,
        unit: &str,
    ) -> Result<(), ToolError> {
        let size = size as u64;
        if let Some(least) = rules.get(least).and_then(Value::as_u64)
            && size < least
        {
            return Err(self.fault(format!("must have at least {least} {unit}")));
        }
        if let Some(most) = rules.get(most).and_then(Value::as_u64)
            && size > most
        {
            return Err(self.fault(format!("must have at most {most} {unit}")));
        }
        Ok(())
    }

    fn check_number(&self, rules: &Map<String, Value>, number: &serde_json::Number) -> Result<(), ToolError> {
        let Some(number) = number.as_f64() else { return Ok(()) };
        type Broken = fn(f64, f64) -> bool;
        let bounds: [(&str, Broken, &str); 4] = [
            ("minimum", |number, bound| number < bound, "at least"),
            ("maximum", |number, bound| number > bound, "at most"),
            ("exclusiveMinimum", |number, bound| number <= bound, "above"),
            ("exclusiveMaximum", |number, bound| number >= bound, "below"),
        ];
        for (keyword, is_broken, words) in bounds {
            if let Some(bound) = rules.get(keyword).and_then(Value::as_f64)
                && is_broken(number, bound)
            {
                return Err(self.fault(format!("must be {words} {bound}")));
            }
        }
        Ok(())
    }
}

fn list(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Query {
        expression: String,
        #[serde(default)]
        step_seconds: Option<u32>,
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        servers: Vec<String>,
        #[serde(default)]
        next: Option<Box<Query>>,
    }

    #[derive(Debug, Default, Deserialize, JsonSchema, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        #[default]
        Instant,
        Range,
    }

    fn fault_of(input: Value) -> String {
        check_schema(&schema_of::<Query>(), &input).unwrap_err().to_string()
    }

    #[test]
    fn what_fits_the_type_passes_the_check() {
        let schema = schema_of::<Query>();
        for input in [
            json!({"expression": "up"}),
            json!({"expression": "up", "step_seconds": null, "mode": "range", "servers": ["a"]}),
            json!({"expression": "up", "next": {"expression": "down", "next": null}}),
        ] {
            check_schema(&schema, &input).unwrap();
            parse_input::<Query>(input).unwrap();
        }
    }

    #[test]
    fn faults_name_the_path_and_what_is_wanted() {
        assert_eq!(fault_of(json!([])), "invalid input in `.`: must be of type object");
        assert_eq!(fault_of(json!({})), "invalid input in `expression`: is required");
        assert_eq!(
            fault_of(json!({"expression": "up", "expr": 1})),
            "invalid input in `expr`: is not a known field; known are: expression, mode, next, servers, step_seconds"
        );
        assert_eq!(
            fault_of(json!({"expression": "up", "step_seconds": -1})),
            "invalid input in `step_seconds`: must be at least 0"
        );
        assert_eq!(
            fault_of(json!({"expression": "up", "mode": "never"})),
            "invalid input in `mode`: must be one of \"instant\", \"range\""
        );
        assert_eq!(
            fault_of(json!({"expression": "up", "servers": ["a", 5]})),
            "invalid input in `servers.1`: must be of type string"
        );
        assert_eq!(
            fault_of(json!({"expression": "up", "next": {"expression": 5}})),
            "invalid input in `next.expression`: must be of type string"
        );
    }

    #[test]
    fn bounds_and_alternatives_are_checked() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 2, "maxLength": 3},
                "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                "either": {"oneOf": [{"type": "integer"}, {"type": "number", "maximum": 5}]},
                "never": false,
                "fixed": {"const": 1},
                "map": {"type": "object", "additionalProperties": {"type": "integer"}},
                "both": {"allOf": [{"minimum": 1}, {"maximum": 2}]}
            }
        });
        for (input, fits) in [
            (json!({"name": "ab"}), true),
            (json!({"name": "a"}), false),
            (json!({"name": "äöüß"}), false),
            (json!({"share": 0.5}), true),
            (json!({"share": 0}), false),
            (json!({"share": 1.0}), false),
            (json!({"either": 7}), true),
            (json!({"either": 4}), false),
            (json!({"either": 4.5}), true),
            (json!({"never": 1}), false),
            (json!({"fixed": 2}), false),
            (json!({"map": {"a": 1}}), true),
            (json!({"map": {"a": "b"}}), false),
            (json!({"both": 3}), false),
        ] {
            assert_eq!(check_schema(&schema, &input).is_ok(), fits, "{input}");
        }
    }

    #[test]
    fn typed_reading_names_the_path() {
        let error = parse_input::<Query>(json!({"expression": "up", "next": {"expression": 5}})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid input in `next.expression`: invalid type: integer `5`, expected a string"
        );
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}});
        assert!(check_schema(&schema, &json!({})).is_err());
    }

    #[test]
    fn deep_input_is_refused_instead_of_exhausting_the_stack() {
        let mut input = json!({"expression": "up"});
        for _ in 0..100 {
            input = json!({"expression": "up", "next": input});
        }
        assert!(fault_of(input).contains("nested deeper than 64 levels"));
    }
}
