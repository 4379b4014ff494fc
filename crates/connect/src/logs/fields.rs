//! Where the parts of a line stand in a structured record. Every shipper has its own names; a site can set its own.

use jiff::Timestamp;
use quell_incident::evidence::LogLine;
use serde_json::{Map, Value};

use super::parse::{Parsed, level_word, time_of};
use super::{MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, cut};

/// Numbers above this are milliseconds, above its thousandfold microseconds, and so on: seconds reach it in the year 5138.
const SECONDS_MAX: f64 = 1e11;

/// The fields of a record that a line is made of; of each list the first one that the record has counts. A field below another one
/// is written with a dot, whether the record nests it or has the dot in its name.
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
}

impl Default for FieldMap {
    /// The names of the Elastic Common Schema, of collectors on Kubernetes, and those that loggers use.
    fn default() -> Self {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            time: own(&["@timestamp", "time", "timestamp", "ts", "date", "datetime", "_time"]),
            message: own(&["message", "msg", "log", "text", "event", "body", "_raw"]),
            level: own(&[
                "level",
                "severity",
                "lvl",
                "log.level",
                "levelname",
                "severity_text",
                "detected_level",
            ]),
            service: own(&[
                "service",
                "service.name",
                "service_name",
                "app",
                "application",
                "kubernetes.labels.app",
                "kubernetes.labels.app.kubernetes.io/name",
                "program",
                "logger",
                "name",
            ]),
            instance: own(&[
                "instance",
                "host",
                "hostname",
                "host.name",
                "node",
                "pod",
                "kubernetes.pod.name",
            ]),
        }
    }
}

impl FieldMap {
    /// The same with these names in place of the default ones where any are given.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        let either = |given: Vec<String>, own: Vec<String>| if given.is_empty() { own } else { given };
        Self {
            time: either(others.time, self.time),
            message: either(others.message, self.message),
            level: either(others.level, self.level),
            service: either(others.service, self.service),
            instance: either(others.instance, self.instance),
        }
    }

    /// What a record says, of this service where it names none; without a message where it has none.
    pub(crate) fn read(&self, fields: &Map<String, Value>, service: &str) -> Parsed {
        let at = self.time.iter().find_map(|key| instant(find(fields, key)?));
        let service = text(fields, &self.service).unwrap_or_else(|| service.to_owned());
        let line = LogLine {
            at: at.unwrap_or_default(),
            level: cut(
                &self.level.iter().find_map(|key| level(find(fields, key)?)).unwrap_or_default(),
                NAME_CHARACTERS_MAX,
            ),
            service: cut(&service, NAME_CHARACTERS_MAX),
            instance: cut(&text(fields, &self.instance).unwrap_or_default(), NAME_CHARACTERS_MAX),
            message: cut(&text(fields, &self.message).unwrap_or_default(), MESSAGE_CHARACTERS_MAX),
        };
        Parsed { at, line }
    }
}

/// A field by its name, also where its parts are nested.
fn find<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    if let Some(value) = fields.get(key) {
        return Some(value);
    }
    key.match_indices('.').find_map(|(dot, _)| {
        let (outer, inner) = (key.get(..dot)?, key.get(dot + 1..)?);
        find(fields.get(outer)?.as_object()?, inner)
    })
}

fn text(fields: &Map<String, Value>, keys: &[String]) -> Option<String> {
    keys.iter().find_map(|key| match find(fields, key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        // `{"host": {"name": "db-1"}}`, as collectors write it.
        Value::Object(inner) => inner.get("name").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    })
}

/// A level by its word, or by its number where loggers count in tens.
pub(super) fn level(value: &Value) -> Option<String> {
    match value {
        Value::String(word) if !word.is_empty() => {
            Some(level_word(word).map_or_else(|| word.to_lowercase(), str::to_owned))
        }
        Value::Number(number) => {
            let word = match number.as_u64()? {
                10 => "trace",
                20 => "debug",
                30 => "info",
                40 => "warn",
                50 => "error",
                60 => "fatal",
                _ => return None,
            };
            Some(word.to_owned())
        }
        _ => None,
    }
}

pub(super) fn instant(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => {
            time_of(text.trim()).or_else(|| text.trim().parse::<f64>().ok().and_then(since_epoch))
        }
        Value::Number(number) => since_epoch(number.as_f64()?),
        _ => None,
    }
}

fn since_epoch(mut seconds: f64) -> Option<Timestamp> {
    if !(seconds.is_finite() && seconds > 0.0) {
        return None;
    }
    while seconds > SECONDS_MAX {
        seconds /= 1000.0;
    }
    Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(map: &FieldMap, record: Value) -> Parsed {
        map.read(record.as_object().unwrap(), "otherwise")
    }

    #[test]
    fn fields_are_found_nested_dotted_and_both() {
        for record in [
            json!({"@timestamp": "2026-03-01T09:00:00Z", "log": {"level": "WARNING"}, "message": "m",
                   "kubernetes": {"labels": {"app.kubernetes.io/name": "a"}, "pod": {"name": "p"}}}),
            json!({"@timestamp": 1_772_355_600_000_i64, "log.level": "warn", "message": "m", "service.name": "a", "pod": "p"}),
            json!({"time": "1772355600.0", "level": 40, "body": "m", "service": {"name": "a"}, "host": {"name": "p"}}),
        ] {
            let Parsed { at, line } = read(&FieldMap::default(), record.clone());
            assert_eq!(at.unwrap().to_string(), "2026-03-01T09:00:00Z", "{record}");
            let said = [&line.level, &line.service, &line.instance, &line.message];
            assert_eq!(said, ["warn", "a", "p", "m"], "{record}");
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
        let record = json!({"message": 5, "service": ["a"], "level": true, "@timestamp": [1], "host": null});
        let Parsed { at, line } = read(&FieldMap::default(), record);
        assert_eq!((at, line.message.as_str(), line.service.as_str()), (None, "", "otherwise"));
        for number in [json!(-1), json!(0), json!(1e300), json!("NaN"), json!("inf")] {
            let at = instant(&number);
            assert!(at.is_none() || at.is_some_and(|at| at.as_second() > 0), "{number}");
        }
    }

    impl FieldMap {
        fn emptied(self) -> Self {
            let none = Vec::new;
            Self { time: none(), message: none(), level: none(), service: none(), instance: none() }
        }
    }
}
