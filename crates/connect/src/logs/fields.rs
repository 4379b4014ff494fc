//! Where the parts of a line stand in a structured record. Every shipper has its own names; a site can set its own.

use jiff::tz::TimeZone;
use quell_incident::evidence::LogLine;
use serde_json::{Map, Value};

use super::names::{
    CAUSE, INSTANCE, LEVEL, MESSAGE, METHOD, PATH, PERHAPS_LEVEL, SERVICE, STATUS, TIME, alike,
};
use super::parse::Parsed;
use super::record::{DEPTH_MAX, Record};
use super::time::Missing;
use super::{MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, cut, level, time_field};
use crate::source::SourceError;

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
}

/// The names of a [`FieldMap`] and those that no site sets, written alike once for all records.
#[derive(Clone, Debug)]
pub(super) struct Known {
    time: Vec<String>,
    message: Vec<String>,
    level: Vec<String>,
    perhaps_level: Vec<String>,
    service: Vec<String>,
    instance: Vec<String>,
    cause: Vec<String>,
    status: Vec<String>,
    method: Vec<String>,
    path: Vec<String>,
}

impl Known {
    pub(super) fn of(map: &FieldMap) -> Self {
        fn all<S: AsRef<str>>(names: &[S]) -> Vec<String> {
            let mut all: Vec<String> = Vec::with_capacity(names.len());
            for name in names.iter().map(|name| alike(name.as_ref())) {
                if !all.contains(&name) {
                    all.push(name);
                }
            }
            all
        }
        Self {
            time: all(&map.time),
            message: all(&map.message),
            level: all(&map.level),
            perhaps_level: all(PERHAPS_LEVEL),
            service: all(&map.service),
            instance: all(&map.instance),
            cause: all(CAUSE),
            status: all(STATUS),
            method: all(METHOD),
            path: all(PATH),
        }
    }

    /// What a record says, of this service where it names none; without a message where it has none.
    pub(super) fn read(&self, fields: &Map<String, Value>, service: &str, missing: &Missing) -> Parsed {
        let record = Record::of(fields);
        let at = record.first(&self.time, |_, value| time_field::of_field(value, missing));
        let level = record.first(&self.level, |name, value| {
            let level = level::of_field(name, value)?;
            // A name of one letter is MongoDB's; elsewhere it may mean anything.
            let is_sure = name.len() > 1 || value.as_str().is_some_and(|text| text.len() <= 2);
            is_sure.then_some(level)
        });
        let perhaps = || record.first(&self.perhaps_level, level::perhaps_of_field);
        let status = record.first(&self.status, |_, value| status(value));
        let level = level.or_else(|| perhaps().or_else(|| level::of_status(status?)).map(str::to_owned));
        let service = record.name(&self.service).unwrap_or_else(|| service.to_owned());
        let service = service.strip_suffix(".service").unwrap_or(&service);
        let message = self.message(&record).or_else(|| self.access(&record, status?));
        let line = LogLine {
            at: at.unwrap_or_default(),
            level: cut(&level.unwrap_or_default(), NAME_CHARACTERS_MAX),
            service: cut(service, NAME_CHARACTERS_MAX),
            instance: cut(&record.name(&self.instance).unwrap_or_default(), NAME_CHARACTERS_MAX),
            message: cut(&message.unwrap_or_default(), MESSAGE_CHARACTERS_MAX),
        };
        Parsed { at, line, structured: true, partial: false, wrapped: false }
    }

    /// Whether a record has a message of its own, rather than being one.
    pub(super) fn has_message(&self, fields: &Map<String, Value>) -> bool {
        self.message(&Record::of(fields)).is_some()
    }

    fn message(&self, record: &Record<'_>) -> Option<String> {
        let said = record.first(&self.message, |name, value| {
            let text = message_of(value, DEPTH_MAX)?;
            let is_template = matches!(name, "@mt" | "messagetemplate");
            Some(if is_template { rendered(&text, record) } else { text })
        })?;
        let cause = record.first(&self.cause, |_, value| cause_of(value));
        Some(match cause {
            Some(cause) if !said.contains(&cause) => format!("{said}: {cause}"),
            _ => said,
        })
    }

    /// An access log's record is its own message.
    fn access(&self, record: &Record<'_>, status: u16) -> Option<String> {
        let (method, path) = (record.text(&self.method), record.text(&self.path)?);
        Some(format!("{} {path} {status}", method.unwrap_or_default()).trim().to_owned())
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
            let names = ["message", "msg", "reason", "type"];
            names.iter().find_map(|name| inner.get(*name)?.as_str()).map(str::to_owned)?
        }
        Value::Array(several) => return several.first().filter(|first| first.is_object()).and_then(cause_of),
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
        match record.get(&alike(name)) {
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
        let missing =
            Missing { zone: TimeZone::UTC, latest: "2026-12-01T00:00:00Z".parse().unwrap(), day: None };
        Known::of(map).read(record.as_object().unwrap(), "otherwise", &missing)
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
