//! Where the parts of a line stand in a structured record. Every shipper has its own names; a site can set its own.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use quell_incident::evidence::LogLine;
use serde_json::{Map, Value};

use super::names::{CAUSE, INSTANCE, LEVEL, MESSAGE, METHOD, PATH, SERVICE, STATUS, TIME};
use super::parse::Parsed;
use super::time::{self, Missing};
use super::{MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, cut, level};
use crate::source::SourceError;

/// Fields of one record that are looked at, and how deep.
const FIELDS_MAX: usize = 500;
const DEPTH_MAX: usize = 6;
/// A cause that is told behind a message, at the most, in characters.
const CAUSE_CHARACTERS_MAX: usize = 400;

/// The fields of a record that a line is made of; of each list the first one that the record has counts. A field below another one
/// is written with a dot. Whether a record nests it, has the dot or an underline in its name, or writes it with capitals is all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMap {
    /// When it was written.
    pub time: Vec<String>,
    /// The message.
    pub message: Vec<String>,
    /// Its level.
    pub level: Vec<String>,
    /// The service that wrote it.
    pub service: Vec<String>,
    /// The host, instance or pod.
    pub instance: Vec<String>,
    /// The zone of times that name none.
    pub zone: TimeZone,
}

impl Default for FieldMap {
    /// The names of the Elastic Common Schema, of OpenTelemetry, of collectors on Kubernetes, and those that loggers use; UTC.
    fn default() -> Self {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            time: own(TIME),
            message: own(MESSAGE),
            level: own(LEVEL),
            service: own(SERVICE),
            instance: own(INSTANCE),
            zone: TimeZone::UTC,
        }
    }
}

impl FieldMap {
    /// The same with these names in place of the default ones where any are given, and with their zone.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        let either = |given: Vec<String>, own: Vec<String>| if given.is_empty() { own } else { given };
        Self {
            time: either(others.time, self.time),
            message: either(others.message, self.message),
            level: either(others.level, self.level),
            service: either(others.service, self.service),
            instance: either(others.instance, self.instance),
            zone: others.zone,
        }
    }

    /// The same, with times that name no zone in this one.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for a zone that is not known.
    pub fn in_zone(self, zone: &str) -> Result<Self, SourceError> {
        let zone = TimeZone::get(zone).map_err(|_unknown| SourceError::Invalid {
            why: format!("`{}` is not a time zone; write one such as `Europe/Berlin`", zone.escape_debug()),
        })?;
        Ok(Self { zone, ..self })
    }

    /// Every field that a line may be made of, for sources that answer with named fields only.
    pub(super) fn names(&self) -> Vec<&str> {
        let own = [&self.time, &self.message, &self.level, &self.service, &self.instance];
        let own = own.into_iter().flatten().map(String::as_str);
        let mut names: Vec<&str> =
            own.chain([CAUSE, STATUS, METHOD, PATH].into_iter().flatten().copied()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What a record says, of this service where it names none; without a message where it has none.
    pub(super) fn read(&self, fields: &Map<String, Value>, service: &str, missing: &Missing) -> Parsed {
        let record = Record::of(fields);
        let at = self.time.iter().find_map(|name| time::of_field(record.get(name)?, missing));
        let level = self.level.iter().find_map(|name| {
            let value = record.get(name)?;
            let level = level::of_field(name, value)?;
            // A name of one letter is MongoDB's; elsewhere it may mean anything.
            let is_sure = name.len() > 1 || value.as_str().is_some_and(|text| text.len() <= 2);
            is_sure.then_some(level)
        });
        let status = STATUS.iter().find_map(|name| status(record.get(name)?));
        let level = level.or_else(|| level::of_status(status?).map(str::to_owned));
        let service = record.name(&self.service).unwrap_or_else(|| service.to_owned());
        let service = service.strip_suffix(".service").unwrap_or(&service);
        let line = LogLine {
            at: at.unwrap_or_default(),
            level: cut(&level.unwrap_or_default(), NAME_CHARACTERS_MAX),
            service: cut(service, NAME_CHARACTERS_MAX),
            instance: cut(&record.name(&self.instance).unwrap_or_default(), NAME_CHARACTERS_MAX),
            message: cut(&self.message(&record, status).unwrap_or_default(), MESSAGE_CHARACTERS_MAX),
        };
        Parsed { at, line, structured: true, partial: false, wrapped: false }
    }

    fn message(&self, record: &Record<'_>, status: Option<u16>) -> Option<String> {
        let said = self.message.iter().find_map(|name| {
            let text = message_of(record.get(name)?, DEPTH_MAX)?;
            let is_template = matches!(name.as_str(), "@mt" | "messageTemplate");
            Some(if is_template { rendered(&text, record) } else { text })
        });
        let Some(said) = said else {
            // An access log's record is its own message.
            let (method, path, status) = (record.name(METHOD), record.name(PATH)?, status?);
            return Some(format!("{} {path} {status}", method.unwrap_or_default()).trim().to_owned());
        };
        let cause = CAUSE.iter().find_map(|name| cause_of(record.get(name)?));
        Some(match cause {
            Some(cause) if !said.contains(&cause) => format!("{said}: {cause}"),
            _ => said,
        })
    }
}

/// A record with every field by its path, written alike whoever wrote it.
struct Record<'a> {
    by_path: HashMap<String, &'a Value>,
}

impl<'a> Record<'a> {
    fn of(fields: &'a Map<String, Value>) -> Self {
        let mut by_path: HashMap<String, &Value> = HashMap::new();
        let mut level: Vec<(String, &Value)> =
            fields.iter().map(|(name, value)| (alike(name), value)).collect();
        // What stands further out counts before what stands further in.
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            for (path, value) in level {
                if by_path.len() >= FIELDS_MAX {
                    return Self { by_path };
                }
                match value {
                    Value::Object(inner) => {
                        next.extend(
                            inner.iter().map(|(name, value)| (format!("{path}{}", alike(name)), value)),
                        );
                    }
                    // OpenTelemetry's own form of attributes.
                    Value::Array(list) => next.extend(list.iter().take(FIELDS_MAX).filter_map(|pair| {
                        let (name, value) = (pair.get("key")?.as_str()?, pair.get("value")?);
                        Some((format!("{path}{}", alike(name)), value))
                    })),
                    _ => {}
                }
                by_path.entry(path).or_insert(value);
            }
            level = next;
        }
        Self { by_path }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.by_path.get(&alike(name)).copied()
    }

    /// The first of these fields that is a name.
    fn name<S: AsRef<str>>(&self, names: &[S]) -> Option<String> {
        names.iter().find_map(|name| name_of(self.get(name.as_ref())?))
    }
}

/// A name without what shippers change in it: dots, underlines and capitals.
fn alike(name: &str) -> String {
    let kept = name.chars().filter(|c| c.is_alphanumeric() || *c == '@' || *c == '$');
    kept.flat_map(char::to_lowercase).collect()
}

fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        // `{"host": {"name": "db-1"}}`, as collectors write it, and `{"stringValue": "a"}` of OpenTelemetry.
        Value::Object(inner) => {
            ["name", "stringValue"].iter().find_map(|name| inner.get(*name)?.as_str()).map(str::to_owned)
        }
        Value::Array(values) => values.iter().find_map(Value::as_str).map(str::to_owned),
        _ => None,
    }
}

/// The text of a message: what it is, or what is called the text in it.
fn message_of(value: &Value, depth: usize) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim_end().to_owned(),
        Value::Number(number) => number.to_string(),
        // A field that was written several times.
        Value::Array(values) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n").trim_end().to_owned()
        }
        Value::Object(inner) if depth > 0 => {
            let names =
                ["message", "msg", "text", "body", "stringValue", "string_value", "original", "@m", "log"];
            inner.iter().find_map(|(name, value)| {
                let is_text = names.iter().any(|known| known.eq_ignore_ascii_case(name));
                is_text.then(|| message_of(value, depth - 1)).flatten()
            })?
        }
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Why something failed, in the first line of what is said of it: the rest of a trace says where.
fn cause_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(inner) => {
            let names = ["message", "msg", "type"];
            names.iter().find_map(|name| inner.get(*name)?.as_str()).map(str::to_owned)?
        }
        _ => return None,
    };
    let first = text.lines().next().unwrap_or_default().trim();
    let says_nothing = first.is_empty() || ["true", "false", "null", "<nil>", "none"].contains(&first);
    (!says_nothing).then(|| cut(first, CAUSE_CHARACTERS_MAX))
}

fn status(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|status| (100..600).contains(status))
}

/// A message of Serilog's compact form: its template with what stands in the record.
fn rendered(template: &str, record: &Record<'_>) -> String {
    let (mut text, mut rest) = (String::with_capacity(template.len()), template);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((hole, after)) = after.split_once('}') else {
            text.push('{');
            rest = after;
            break;
        };
        let name = hole.trim_start_matches(['@', '$']).split([':', ',']).next().unwrap_or_default();
        match record.get(name) {
            Some(Value::String(value)) => text.push_str(value),
            Some(value) if !name.is_empty() => text.push_str(&value.to_string()),
            _ => text.push_str(&format!("{{{hole}}}")),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(map: &FieldMap, record: Value) -> Parsed {
        let missing = Missing { zone: TimeZone::UTC, latest: "2026-12-01T00:00:00Z".parse().unwrap() };
        map.read(record.as_object().unwrap(), "otherwise", &missing)
    }

    #[test]
    fn fields_are_found_nested_dotted_and_both() {
        for record in [
            json!({"@timestamp": "2026-03-01T09:00:00Z", "log": {"level": "WARNING"}, "message": "m",
                   "kubernetes": {"labels": {"app.kubernetes.io/name": "a"}, "pod": {"name": "p"}}}),
            json!({"@timestamp": 1_772_355_600_000_i64, "log.level": "warn", "message": "m", "service.name": "a", "pod": "p"}),
            json!({"time": "1772355600.0", "level": 40, "body": "m", "service": {"name": "a"}, "host": {"name": "p"}}),
            json!({"Timestamp": "2026-03-01T09:00:00Z", "LogLevel": "Warning", "Message": "m", "Application": "a", "HostName": "p"}),
            json!({"time": "2026-03-01T09:00:00Z", "severity_text": "WARN", "body": {"text": "m"},
                   "resource": {"attributes": {"service.name": "a", "k8s.pod.name": "p", "host.name": "vm"}}}),
        ] {
            let Parsed { at, line, .. } = read(&FieldMap::default(), record.clone());
            assert_eq!(at.unwrap().to_string(), "2026-03-01T09:00:00Z", "{record}");
            let said = [&line.level, &line.service, &line.instance, &line.message];
            assert_eq!(said, ["warn", "a", "p", "m"], "{record}");
        }
    }

    #[test]
    fn a_message_is_told_with_its_cause_and_an_access_log_by_its_status() {
        for (record, level, message) in [
            (
                json!({"msg": "query failed", "level": "error", "error": "timeout"}),
                "error",
                "query failed: timeout",
            ),
            (
                json!({"msg": "query failed: timeout", "error": {"message": "timeout"}}),
                "",
                "query failed: timeout",
            ),
            (json!({"msg": "query failed", "error": false}), "", "query failed"),
            (json!({"message": {"body": "pool exhausted"}}), "", "pool exhausted"),
            (json!({"event": {"original": "pool exhausted", "dataset": "app"}}), "", "pool exhausted"),
            (json!({"error": {"message": "pool exhausted"}}), "", "pool exhausted"),
            (
                json!({"@mt": "pool {Name} {@Count:000} {Gone}", "Name": "a", "Count": 3}),
                "",
                "pool a 3 {Gone}",
            ),
            (json!({"method": "GET", "uri": "/x", "status": "502"}), "error", "GET /x 502"),
            (json!({"message": "m", "status": 200}), "", "m"),
            (json!({"message": "m", "level": "info", "status": 502}), "info", "m"),
            (json!({"s": "success", "msg": "m"}), "", "m"),
        ] {
            let line = read(&FieldMap::default(), record.clone()).line;
            assert_eq!([line.level.as_str(), line.message.as_str()], [level, message], "{record}");
        }
    }

    #[test]
    fn a_site_has_its_own_names() {
        let own = FieldMap { message: vec!["x.y".to_owned()], ..FieldMap::default().emptied() };
        let map = FieldMap::default().with(own);
        let line = read(&map, json!({"x": {"y": "mine"}, "message": "not mine", "level": "odd"})).line;
        assert_eq!([&line.message, &line.service, &line.level], ["mine", "otherwise", "odd"]);
    }

    #[test]
    fn values_of_other_types_are_no_text() {
        let record =
            json!({"message": true, "service": 5, "level": true, "@timestamp": [true], "host": null});
        let Parsed { at, line, .. } = read(&FieldMap::default(), record);
        assert_eq!((at, line.message.as_str(), line.service.as_str()), (None, "", "otherwise"));
    }

    impl FieldMap {
        fn emptied(self) -> Self {
            let none = Vec::new;
            Self {
                time: none(),
                message: none(),
                level: none(),
                service: none(),
                instance: none(),
                zone: self.zone,
            }
        }
    }
}
