//! A record with every field by its path, written alike whoever wrote it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::names::{ENVELOPES, FLAT_ENVELOPES, FLAT_NAME_BYTES_MIN, NOT_IN_ENVELOPES, segments};

/// Fields of one record that are looked at, and how deep.
const FIELDS_MAX: usize = 500;
pub(super) const DEPTH_MAX: usize = 7;

/// The fields of a record, by names as [`super::names::alike`] writes them.
pub(super) struct Record<'a> {
    by_path: HashMap<String, &'a Value>,
    /// The same by what is left of their paths without the envelopes that they stand in.
    in_envelopes: HashMap<String, &'a Value>,
}

impl<'a> Record<'a> {
    pub(super) fn of(fields: &'a Map<String, Value>) -> Self {
        let mut record = Self { by_path: HashMap::new(), in_envelopes: HashMap::new() };
        let mut level: Vec<(Vec<String>, &Value)> =
            fields.iter().map(|(name, value)| (segments(name).collect(), bare(value))).collect();
        // What stands further out counts before what stands further in.
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            for (path, value) in level {
                if record.by_path.len() >= FIELDS_MAX {
                    return record;
                }
                let below = |name: &str| path.iter().cloned().chain(segments(name)).collect::<Vec<_>>();
                match value {
                    Value::Object(inner) => {
                        next.extend(inner.iter().map(|(name, value)| (below(name), bare(value))));
                    }
                    Value::Array(list) => {
                        // OpenTelemetry's own form of attributes.
                        let named = list.iter().take(FIELDS_MAX).filter_map(|pair| {
                            let (name, value) = (pair.get("key")?.as_str()?, pair.get("value")?);
                            Some((below(name), bare(value)))
                        });
                        let before = next.len();
                        next.extend(named);
                        // Of several the first: the exception that was thrown, and not what it was caused by.
                        if next.len() == before
                            && let Some(Value::Object(first)) = list.first()
                        {
                            next.extend(first.iter().map(|(name, value)| (below(name), bare(value))));
                        }
                    }
                    _ => {}
                }
                record.insert(&path, value);
            }
            level = next;
        }
        record
    }

    fn insert(&mut self, path: &[String], value: &'a Value) {
        let mut rest = path;
        while let [envelope, inside @ ..] = rest {
            if inside.is_empty() || !ENVELOPES.contains(&envelope.as_str()) {
                break;
            }
            rest = inside;
            let name = rest.concat();
            // The severity of an event is on whatever scale its sender has.
            let is_other =
                NOT_IN_ENVELOPES.contains(&name.as_str()) || (envelope == "event" && name == "severity");
            if !is_other {
                self.in_envelopes.entry(name).or_insert(value);
            }
        }
        let whole = path.concat();
        if let Some(name) = FLAT_ENVELOPES.iter().find_map(|envelope| whole.strip_prefix(envelope))
            && name.len() >= FLAT_NAME_BYTES_MIN
        {
            self.in_envelopes.entry(name.to_owned()).or_insert(value);
        }
        self.by_path.entry(whole).or_insert(value);
    }

    /// The field of this name, or the one in an envelope.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.by_path.get(name).or_else(|| self.in_envelopes.get(name)).copied()
    }

    /// What is made of the first of these fields of which something can be made; those in envelopes after all others, since an envelope
    /// may hold a whole record of its own.
    pub(super) fn first<T>(
        &self,
        names: &[String],
        made: impl Fn(&str, &'a Value) -> Option<T>,
    ) -> Option<T> {
        let of = |fields: &HashMap<String, &'a Value>| {
            names.iter().find_map(|name| made(name, fields.get(name).copied()?))
        };
        of(&self.by_path).or_else(|| of(&self.in_envelopes))
    }

    /// The first of these fields that is a text.
    pub(super) fn text(&self, names: &[String]) -> Option<&'a str> {
        self.first(names, |_, value| value.as_str().filter(|text| !text.is_empty()))
    }

    /// The first of these fields that is a name, wherever it stands: a pod's is better than its host's.
    pub(super) fn name(&self, names: &[String]) -> Option<String> {
        let of =
            |fields: &HashMap<String, &'a Value>, name: &String| name_of(fields.get(name).copied()?, name);
        names.iter().find_map(|name| of(&self.by_path, name).or_else(|| of(&self.in_envelopes, name)))
    }
}

/// `{"stringValue": "a"}` of OpenTelemetry is `a`.
fn bare(value: &Value) -> &Value {
    const KINDS: [&str; 8] = [
        "stringValue",
        "intValue",
        "doubleValue",
        "boolValue",
        "string_value",
        "int_value",
        "double_value",
        "bool_value",
    ];
    let inner = value.as_object().filter(|inner| inner.len() == 1);
    inner.and_then(|inner| KINDS.iter().find_map(|kind| inner.get(*kind))).unwrap_or(value)
}

fn name_of(value: &Value, field: &str) -> Option<String> {
    let name = match value {
        Value::String(text) => text.trim(),
        // `{"host": {"name": "db-1"}}`, as collectors write it.
        Value::Object(inner) => {
            ["name", "hostname"].iter().find_map(|name| inner.get(*name)?.as_str())?.trim()
        }
        Value::Array(values) => values.iter().find_map(Value::as_str)?.trim(),
        _ => return None,
    };
    // `cart[42]:` of rsyslog is told with its process.
    let name = match field {
        "syslogtag" => name.trim_end_matches(':').split('[').next().unwrap_or(name),
        _ => name,
    };
    // Docker's own names of containers begin with a slash.
    let name = name.strip_prefix('/').filter(|rest| !rest.contains('/')).unwrap_or(name);
    // Which stream a line came by, or which file, is no instance.
    let is_origin = field == "source" && name.contains(['/', '\\', ' ']);
    let says_nothing = ["", "-", "stdout", "stderr", "null", "undefined"].contains(&name);
    (!is_origin && !says_nothing).then(|| name.to_owned())
}
