//! What senders call Alertmanager's webhook and do not write as Alertmanager does: numbers and `null` as values, a status for the whole
//! payload only or as an object. Read from a tree, piece by piece, so that nothing odd loses what stands beside it.

use std::borrow::Cow;
use std::fmt;

use quell_incident::alert::{AlertStatus, Labels};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{WireAlert, times};

/// Whether a body is an object with labels of its own and no list of alerts; nothing of it is kept, however large it is.
pub(super) struct Shape {
    pub(super) is_bare: bool,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    // By hand: a name that stands twice is no error here, as it is none in a tree.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let (mut alerts, mut labels) = (false, false);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            // `null` is as good as absent, for both.
            let is_there = map.next_value::<Option<IgnoredAny>>()?.is_some();
            alerts |= name == "alerts" && is_there;
            labels |= name == "labels" && is_there;
        }
        Ok(Shape { is_bare: labels && !alerts })
    }
}

/// One alert of a payload.
pub(super) fn alert(value: &Value) -> Result<WireAlert<'static>, String> {
    if !value.is_object() {
        return Err(format!("it is `{}`, expected an object with `labels`", shown(value)));
    }
    let plain = |name: &str| value.get(name).and_then(plain);
    let time = |name: &str| value.get(name).and_then(times::written);
    Ok(WireAlert {
        status: value.get("status").and_then(status_of).map(Into::into),
        labels: labels(value.get("labels"), "labels")?,
        annotations: labels(value.get("annotations"), "annotations")?,
        starts_at: time("startsAt").map(Into::into),
        ends_at: time("endsAt").map(Into::into),
        generator_url: plain("generatorURL"),
        fingerprint: plain("fingerprint").map(Into::into),
        dashboard_url: plain("dashboardURL"),
        panel_url: plain("panelURL"),
    })
}

/// Names and texts; a number is its text, `null` is as good as absent, and what has parts is its JSON.
fn labels(value: Option<&Value>, what: &str) -> Result<Labels, String> {
    match value {
        None | Some(Value::Null) => Ok(Labels::default()),
        Some(Value::Object(fields)) => {
            Ok(fields.iter().filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect())
        }
        Some(other) => Err(format!("its `{what}` are `{}`, expected a map of names and texts", shown(other))),
    }
}

/// A value as text; `None` for `null`.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

/// A status as text: the word itself, or the word within an object such as the `{"state": "active"}` of Alertmanager's own API.
pub(super) fn status_of(value: &Value) -> Option<String> {
    let within = ["state", "status", "value", "name"].iter().find_map(|name| value.get(*name)?.as_str());
    within.map(str::to_owned).or_else(|| plain(value))
}

/// A status in any case, also in the words of other senders. A truth value says whether the alert holds. A number says nothing: 0 is
/// well for some senders and down for others.
pub(super) fn status(text: &str) -> Option<AlertStatus> {
    match text.trim().to_ascii_lowercase().as_str() {
        "firing" | "fired" | "alerting" | "active" | "open" | "opened" | "triggered" | "trigger"
        | "problem" | "alarm" | "down" | "critical" | "warning" | "unhealthy" | "acknowledged"
        | "suppressed" | "unprocessed" | "activated" | "nodata" | "true" => Some(AlertStatus::Firing),
        "resolved" | "resolve" | "ok" | "inactive" | "closed" | "close" | "ended" | "cleared" | "clear"
        | "recovered" | "recovery" | "up" | "healthy" | "normal" | "deactivated" | "expired" | "false" => {
            Some(AlertStatus::Resolved)
        }
        _ => None,
    }
}
