//! JSON values and objects: between [`serde_json::Value`] and `google.protobuf.Value`.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Number, Value};

use crate::error::A2aError;
use crate::types::Metadata;

/// Objects and lists inside of each other. Protobuf readers stop at 100 levels of messages, and an object
/// takes three of them.
pub(crate) const VALUE_DEPTH_MAX: usize = 28;
/// Values in one document, counting every object, list, string, number, flag and null.
pub(crate) const VALUE_NODES_MAX: usize = 250_000;
/// Up to here every whole number has a double of its own.
const EXACT_WHOLE_MAX: u64 = 1 << 53;

/// Counts down over one document.
struct Budget {
    nodes: usize,
}

impl Budget {
    fn new() -> Self {
        Self { nodes: VALUE_NODES_MAX }
    }

    fn take(&mut self, depth: usize) -> Result<(), A2aError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(A2aError::invalid("", format!("is nested deeper than {VALUE_DEPTH_MAX} levels")));
        }
        self.nodes = self
            .nodes
            .checked_sub(1)
            .ok_or_else(|| A2aError::invalid("", format!("holds more than {VALUE_NODES_MAX} values")))?;
        Ok(())
    }
}

pub(crate) fn value_from_proto(value: prost_types::Value) -> Result<Value, A2aError> {
    read_value(value, 0, &mut Budget::new())
}

pub(crate) fn struct_from_proto(object: Struct) -> Result<Metadata, A2aError> {
    read_struct(object, 0, &mut Budget::new())
}

pub(crate) fn value_to_proto(value: &Value) -> Result<prost_types::Value, A2aError> {
    write_value(value, 0, &mut Budget::new())
}

pub(crate) fn struct_to_proto(object: &Metadata) -> Result<Struct, A2aError> {
    write_struct(object, 0, &mut Budget::new())
}

fn read_value(value: prost_types::Value, depth: usize, budget: &mut Budget) -> Result<Value, A2aError> {
    budget.take(depth)?;
    Ok(match value.kind {
        None => return Err(A2aError::invalid("", "holds no value")),
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => Value::Number(read_number(number)?),
        Some(Kind::StructValue(object)) => Value::Object(read_struct(object, depth + 1, budget)?),
        Some(Kind::ListValue(list)) => {
            let mut items = Vec::with_capacity(list.values.len());
            for (index, item) in list.values.into_iter().enumerate() {
                let item = read_value(item, depth + 1, budget);
                items.push(item.map_err(|error| error.within(&format!("[{index}]")))?);
            }
            Value::Array(items)
        }
    })
}

fn read_struct(object: Struct, depth: usize, budget: &mut Budget) -> Result<Metadata, A2aError> {
    let mut fields = Metadata::new();
    for (key, value) in object.fields {
        let value = read_value(value, depth, budget).map_err(|error| error.within(&key))?;
        fields.insert(key, value);
    }
    Ok(fields)
}

/// Whole numbers come back as whole numbers, so that they fit where the reader wants an integer.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn read_number(number: f64) -> Result<Number, A2aError> {
    if number.fract() == 0.0 && number.abs() <= EXACT_WHOLE_MAX as f64 {
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number)
        .ok_or_else(|| A2aError::invalid("", "is not a number that JSON knows (NaN or infinite)"))
}

fn write_value(value: &Value, depth: usize, budget: &mut Budget) -> Result<prost_types::Value, A2aError> {
    budget.take(depth)?;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Number(number) => Kind::NumberValue(write_number(number)?),
        Value::Object(object) => Kind::StructValue(write_struct(object, depth + 1, budget)?),
        Value::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let item = write_value(item, depth + 1, budget);
                values.push(item.map_err(|error| error.within(&format!("[{index}]")))?);
            }
            Kind::ListValue(ListValue { values })
        }
    };
    Ok(prost_types::Value { kind: Some(kind) })
}

fn write_struct(object: &Metadata, depth: usize, budget: &mut Budget) -> Result<Struct, A2aError> {
    let mut written = Struct::default();
    for (key, value) in object {
        let value = write_value(value, depth, budget).map_err(|error| error.within(key))?;
        written.fields.insert(key.clone(), value);
    }
    Ok(written)
}

/// Refuses what would arrive as another number: nobody would notice until much later.
fn write_number(number: &Number) -> Result<f64, A2aError> {
    let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    if whole.is_some_and(|whole| whole > EXACT_WHOLE_MAX) {
        return Err(A2aError::invalid(
            "",
            format!("the number {number} would be rounded on the wire; send it as a string"),
        ));
    }
    number
        .as_f64()
        .filter(|number| number.is_finite())
        .ok_or_else(|| A2aError::invalid("", format!("the number {number} does not fit a double")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn round(value: &Value) -> Value {
        value_from_proto(value_to_proto(value).unwrap()).unwrap()
    }

    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!("leaf"), |inner, _| json!({ "k": inner }))
    }

    #[test]
    fn json_survives() {
        let value = json!({
            "schema": "quell/plan/v1", "n": null, "t": true, "list": [1, -2, 0.5, "x", [], {}],
            "big": 9_007_199_254_740_992_u64, "small": -9_007_199_254_740_992_i64, "tiny": 1e-300, "huge": 1.5e300,
        });
        assert_eq!(round(&value), value);
    }

    #[test]
    fn whole_doubles_read_as_integers() {
        assert_eq!(round(&json!(3.0)), json!(3));
        assert_eq!(round(&json!(-0.0)), json!(0));
    }

    #[test]
    fn numbers_that_would_change_are_refused() {
        let error = value_to_proto(&json!({ "a": [9_007_199_254_740_993_u64] })).unwrap_err();
        assert_eq!(error.violations()[0].field, "a[0]");
        assert!(value_to_proto(&json!(i64::MIN)).is_err());
    }

    #[test]
    fn not_a_number_is_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let value = prost_types::Value { kind: Some(Kind::NumberValue(number)) };
            let object = Struct { fields: [("x".to_owned(), value)].into() };
            assert_eq!(struct_from_proto(object).unwrap_err().violations()[0].field, "x");
        }
    }

    #[test]
    fn value_without_kind_is_refused() {
        assert!(value_from_proto(prost_types::Value { kind: None }).is_err());
    }

    #[test]
    fn depth_is_limited_both_ways() {
        assert_eq!(round(&nested(VALUE_DEPTH_MAX)), nested(VALUE_DEPTH_MAX));
        assert!(value_to_proto(&nested(VALUE_DEPTH_MAX + 1)).is_err());
        let mut deep = prost_types::Value { kind: Some(Kind::NullValue(0)) };
        for _ in 0..=VALUE_DEPTH_MAX {
            deep = prost_types::Value { kind: Some(Kind::ListValue(ListValue { values: vec![deep] })) };
        }
        assert!(value_from_proto(deep).is_err());
    }

    #[test]
    fn count_is_limited() {
        let items = Value::Array(vec![Value::Null; VALUE_NODES_MAX]);
        assert!(value_to_proto(&items).unwrap_err().message().contains("250000"));
    }
}
