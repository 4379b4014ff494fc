//! Whether a document fits a JSON Schema, as far as the schema of the configuration goes: a rule that is not known here is a failure.

use serde_json::Value;

/// Checks `document`; the error says where it does not fit.
pub(crate) fn fits(schema: &Value, document: &Value) -> Result<(), String> {
    check(schema, schema, document, "")
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let refused = |why: String| Err(format!("`{path}`: {why}"));
    let Some(rules) = schema.as_object() else {
        return if schema == &Value::Bool(false) { refused("is not allowed".to_owned()) } else { Ok(()) };
    };
    let each = |list: &Value| -> Vec<Result<(), String>> {
        list.as_array().into_iter().flatten().map(|one| check(root, one, value, path)).collect()
    };
    for (rule, wanted) in rules {
        match rule.as_str() {
            "$schema" | "definitions" | "title" | "description" | "default" | "examples" | "format" => {}
            "$ref" => {
                let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).unwrap();
                check(root, root.pointer(pointer).unwrap(), value, path)?;
            }
            "allOf" => each(wanted).into_iter().collect::<Result<(), _>>()?,
            "anyOf" | "oneOf" => {
                let results = each(wanted);
                let met = results.iter().filter(|result| result.is_ok()).count();
                if met == 0 || (rule == "oneOf" && met > 1) {
                    let why: Vec<_> = results.into_iter().filter_map(Result::err).collect();
                    return refused(format!("{value} meets {met} of the alternatives: {}", why.join("; ")));
                }
            }
            "const" if wanted != value => return refused(format!("{value} is not {wanted}")),
            "type" => {
                let kinds = wanted.as_array().map_or_else(|| vec![wanted], |kinds| kinds.iter().collect());
                if !kinds.iter().any(|kind| is_a(value, kind.as_str().unwrap())) {
                    return refused(format!("{value} is no {wanted}"));
                }
            }
            "pattern" => {
                let pattern = regex::Regex::new(wanted.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    return refused(format!("{value} does not look like {pattern}"));
                }
            }
            "minimum" if value.as_f64().is_some_and(|number| number < wanted.as_f64().unwrap()) => {
                return refused(format!("{value} is less than {wanted}"));
            }
            "maximum" if value.as_f64().is_some_and(|number| number > wanted.as_f64().unwrap()) => {
                return refused(format!("{value} is more than {wanted}"));
            }
            "required" => {
                let missing =
                    |name: &&Value| value.is_object() && value.get(name.as_str().unwrap()).is_none();
                if let Some(name) = wanted.as_array().unwrap().iter().find(missing) {
                    return refused(format!("{name} is missing"));
                }
            }
            "properties" | "additionalProperties" => {
                for (name, below) in value.as_object().into_iter().flatten() {
                    let own = rules.get("properties").and_then(|properties| properties.get(name));
                    let below_path = format!("{path}.{name}");
                    match (own, rule.as_str()) {
                        (Some(own), "properties") => check(root, own, below, &below_path)?,
                        (None, "additionalProperties") => check(root, wanted, below, &below_path)?,
                        _ => {}
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, item, &format!("{path}[{index}]"))?;
                }
            }
            "const" | "minimum" | "maximum" => {}
            other => panic!("the schema has the rule `{other}`, which this test does not know"),
        }
    }
    Ok(())
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no kind of value: {other}"),
    }
}
