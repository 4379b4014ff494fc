//! Records that come many in one: OpenTelemetry's exports, what CloudWatch sends to its subscribers, and Azure's lists of records.

use serde_json::{Map, Value};

use super::names::alike;

/// Records in one line at the most.
const RECORDS_MAX: usize = 10_000;

/// Whether a text may hold several records, without reading it as JSON.
pub(super) fn may_be_one(text: &str) -> bool {
    let names =
        ["resourceLogs\"", "resource_logs\"", "logEvents\"", "{\"records\"", "{\"Records\"", "{ \"records\""];
    text.trim_start().starts_with('{') && names.iter().any(|name| text.contains(name))
}

/// The records in one, each with what is said of all of them; none where it is a record itself.
pub(super) fn records_of(whole: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let mut records = Vec::new();
    for resource in list(whole, "resourcelogs") {
        let about = found(resource, "resource");
        for scope in list(resource, "scopelogs").chain(list(resource, "instrumentationlibrarylogs")) {
            for record in list(scope, "logrecords").take(RECORDS_MAX - records.len()) {
                let mut record = record.clone();
                if let Some(about) = about {
                    record.insert("resource".to_owned(), about.clone());
                }
                records.push(record);
            }
        }
    }
    if records.is_empty() {
        let rest = whole.iter().filter(|(_, value)| value.is_string());
        let about: Map<String, Value> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
        let several = list(whole, "logevents").chain(list(whole, "records").filter(|_| whole.len() == 1));
        records.extend(several.take(RECORDS_MAX).map(|record| {
            let mut record = record.clone();
            for (name, value) in &about {
                record.entry(name.clone()).or_insert_with(|| value.clone());
            }
            record
        }));
    }
    records
}

fn found<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.iter().find(|(known, _)| alike(known) == name).map(|(_, value)| value)
}

fn list<'a>(fields: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    let list = found(fields, name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_object)
}
