//! Alertmanager's webhook payload, version 4, as alerts of our own. What can be used is used: one alert that cannot does not lose the
//! others, and is named in the answer.

use std::borrow::Cow;

use jiff::Timestamp;
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::document::Object;
use quell_incident::ids::SourceName;
use serde::{Deserialize, Deserializer};

/// Alerts in one payload at the most.
const ALERTS_MAX: usize = 100_000;
/// Labels or annotations of one alert at the most.
const LABELS_MAX: usize = 256;
/// One label's or annotation's value in bytes at the most.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// What is kept of a group key or of the address of a rule.
const TEXT_CHARACTERS_MAX: usize = 4_000;

/// A payload as far as it could be used.
#[derive(Debug)]
pub(crate) struct Payload {
    /// Alerts in the order of the payload.
    pub alerts: Vec<Alert>,
    /// Alertmanager's group key, if there is one.
    pub group_key: Option<String>,
    /// Alerts that Alertmanager left out of the payload.
    pub truncated_alerts: u64,
    /// Alerts that cannot be used, with why.
    pub rejected: Vec<Rejected>,
}

/// An alert that cannot be used.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Rejected {
    /// Its place in the payload, from 0.
    pub index: usize,
    /// Why.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<A> {
    version: Option<String>,
    group_key: Option<String>,
    #[serde(default, deserialize_with = "null_is_absent")]
    truncated_alerts: u64,
    alerts: Option<Vec<A>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAlert<'a> {
    #[serde(borrow)]
    status: Option<Text<'a>>,
    #[serde(default, deserialize_with = "null_is_absent")]
    labels: Labels,
    #[serde(default, deserialize_with = "null_is_absent")]
    annotations: Labels,
    starts_at: Option<Text<'a>>,
    ends_at: Option<Text<'a>>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
    fingerprint: Option<Text<'a>>,
}

/// Text that is only looked at: borrowed from the body where nothing in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An empty map of Go is often written as `null`.
fn null_is_absent<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Reads a payload, or one bare alert where `bare` is allowed.
///
/// # Errors
/// A sentence on what is wrong with the payload as a whole: it will never be accepted as it is.
pub(crate) fn parse(
    bytes: &[u8],
    source: &SourceName,
    bare: bool,
    now: Timestamp,
) -> Result<Payload, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    if !bare && let Ok(wire) = serde_json::from_str::<Object<Wire<Object<WireAlert<'_>>>>>(text) {
        return payload(wire.0, source, now, |alert| Ok(alert.0));
    }
    // Something in it is odd. Read as a tree, a single alert that is odd is told from the others.
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("the body is not JSON: {error}"))?;
    if bare && value.get("alerts").is_none() && value.get("labels").is_some() {
        let alert = alert(of_tree(value)?, source, now)?;
        return Ok(Payload {
            alerts: vec![alert],
            group_key: None,
            truncated_alerts: 0,
            rejected: Vec::new(),
        });
    }
    let Object(wire): Object<Wire<serde_json::Value>> = serde_json::from_value(value)
        .map_err(|error| format!("the body is not an Alertmanager webhook payload of version 4: {error}"))?;
    payload(wire, source, now, of_tree)
}

fn of_tree(value: serde_json::Value) -> Result<WireAlert<'static>, String> {
    Object::<WireAlert<'_>>::deserialize(value).map(|alert| alert.0).map_err(|error| error.to_string())
}

/// What of a payload can be used; `of` reads an alert.
fn payload<'a, A>(
    wire: Wire<A>,
    source: &SourceName,
    now: Timestamp,
    of: impl Fn(A) -> Result<WireAlert<'a>, String>,
) -> Result<Payload, String> {
    match wire.version.as_deref() {
        Some("4") => {}
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            return Err(format!("the payload has version `{other}`, expected `4`"));
        }
        None => return Err("the payload has no `version`, expected `4`".to_owned()),
    }
    let wire_alerts = wire.alerts.ok_or("the payload has no `alerts`, expected a list")?;
    if wire_alerts.len() > ALERTS_MAX {
        return Err(format!("the payload has {} alerts, expected at most {ALERTS_MAX}", wire_alerts.len()));
    }
    let mut alerts = Vec::with_capacity(wire_alerts.len());
    let mut rejected = Vec::new();
    for (index, wire) in wire_alerts.into_iter().enumerate() {
        match of(wire).and_then(|wire| alert(wire, source, now)) {
            Ok(alert) => alerts.push(alert),
            Err(why) => rejected.push(Rejected { index, why }),
        }
    }
    if let (true, Some(first)) = (alerts.is_empty(), rejected.first()) {
        return Err(format!("no alert of the payload can be used; alert {}: {}", first.index, first.why));
    }
    let group_key = wire.group_key.map(|key| cut(key, TEXT_CHARACTERS_MAX));
    Ok(Payload { alerts, group_key, truncated_alerts: wire.truncated_alerts, rejected })
}

/// The first so many characters.
fn cut(mut text: String, characters_max: usize) -> String {
    if text.len() > characters_max
        && let Some((end, _)) = text.char_indices().nth(characters_max)
    {
        text.truncate(end);
    }
    text
}

fn of<'a>(text: &'a Option<Text<'_>>) -> Option<&'a str> {
    text.as_ref().map(|text| text.0.as_ref())
}

fn alert(wire: WireAlert<'_>, source: &SourceName, now: Timestamp) -> Result<Alert, String> {
    let status = match of(&wire.status) {
        Some("firing") | None => AlertStatus::Firing,
        Some("resolved") => AlertStatus::Resolved,
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            return Err(format!("unknown status `{other}`, expected `firing` or `resolved`"));
        }
    };
    if wire.labels.is_empty() {
        return Err("it has no labels, so nothing tells it from others".to_owned());
    }
    within_limits(&wire.labels, &wire.annotations)?;
    let fingerprint =
        of(&wire.fingerprint).and_then(Fingerprint::given).unwrap_or_else(|| Fingerprint::of(&wire.labels));
    let starts_at = instant(of(&wire.starts_at), "startsAt")?.unwrap_or(now);
    // An alert that begins in the future has begun by being sent; Go's zero time means "not known".
    let starts_at = if starts_at > now { now } else { starts_at };
    let ends_at = instant(of(&wire.ends_at), "endsAt")?.filter(|_| status == AlertStatus::Resolved);
    Ok(Alert {
        key: AlertKey { source: source.clone(), fingerprint },
        status,
        labels: wire.labels,
        annotations: wire.annotations,
        starts_at,
        ends_at,
        generator_url: wire.generator_url.map(|url| cut(url, TEXT_CHARACTERS_MAX)),
    })
}

/// Whether an alert with these can be taken.
///
/// # Errors
/// A sentence on what there is too much of.
pub(crate) fn within_limits(labels: &Labels, annotations: &Labels) -> Result<(), String> {
    for (what, labels) in [("labels", labels), ("annotations", annotations)] {
        if labels.len() > LABELS_MAX {
            return Err(format!("it has {} {what}, expected at most {LABELS_MAX}", labels.len()));
        }
        if let Some((name, _)) =
            labels.iter().find(|(name, value)| name.len() + value.bytes() > VALUE_BYTES_MAX)
        {
            let name: String = name.chars().take(80).collect();
            return Err(format!("`{name}` in its {what} is longer than {VALUE_BYTES_MAX} bytes"));
        }
    }
    Ok(())
}

/// `None` for an absent or a zero time.
fn instant(text: Option<&str>, field: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        format!("`{field}` is `{shown}`, expected a time such as 2026-01-31T12:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T18:00:00Z".parse().unwrap()
    }

    fn read(body: &serde_json::Value, bare: bool) -> Result<Payload, String> {
        parse(body.to_string().as_bytes(), &SourceName::declared("am").unwrap(), bare, now())
    }

    fn of(alert: serde_json::Value) -> serde_json::Value {
        json!({"version": "4", "groupKey": "{}", "alerts": [alert]})
    }

    #[test]
    fn recorded_payloads_of_alertmanager() {
        for (body, status) in [
            (
                include_str!("../../incident/tests/fixtures/alertmanager-webhook-firing.json"),
                AlertStatus::Firing,
            ),
            (
                include_str!("../../incident/tests/fixtures/alertmanager-webhook-resolved.json"),
                AlertStatus::Resolved,
            ),
        ] {
            let payload = parse(body.as_bytes(), &SourceName::declared("am").unwrap(), false, now()).unwrap();
            assert_eq!(payload.alerts[0].status, status);
            assert_eq!(payload.alerts[0].key.fingerprint.as_str(), "1599681a69b07994");
            assert_eq!(payload.alerts[0].ends_at.is_some(), status == AlertStatus::Resolved);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = json!({"labels": {"alertname": "A"}});
        for (body, expected) in [
            (json!([]), "not an Alertmanager webhook payload"),
            (json!({"alerts": []}), "no `version`"),
            (json!({"version": "3", "alerts": []}), "version `3`"),
            (json!({"version": "4"}), "no `alerts`"),
            (of(json!({"status": "firing"})), "no labels"),
            (of(json!({"status": "odd", "labels": {"alertname": "A"}})), "unknown status `odd`"),
            (of(json!({"labels": {"alertname": "A"}, "startsAt": "yesterday"})), "`startsAt` is `yesterday`"),
            (good.clone(), "no `version`"),
        ] {
            let error = read(&body, false).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
        assert_eq!(read(&good, true).unwrap().alerts.len(), 1);
        assert!(
            parse(b"\xff", &SourceName::declared("am").unwrap(), false, now()).unwrap_err().contains("UTF-8")
        );
        assert!(
            parse(b"{", &SourceName::declared("am").unwrap(), false, now()).unwrap_err().contains("JSON")
        );
    }

    #[test]
    fn one_bad_alert_does_not_lose_the_others() {
        let body = json!({"version": "4", "alerts": [{"status": "odd", "labels": {"a": "b"}}, {"labels": {"alertname": "A"}}]});
        let payload = read(&body, false).unwrap();
        assert_eq!(payload.alerts.len(), 1);
        assert_eq!(payload.rejected[0].index, 0);
    }

    #[test]
    fn what_is_escaped_or_null_or_doubled_reads_the_same() {
        let plain = r#"{"version":"4","groupKey":"{}","alerts":[{"status":"resolved","labels":{"a":"b"},"fingerprint":"0f"}]}"#;
        let of = |text: &str| {
            let payload = parse(text.as_bytes(), &SourceName::declared("am").unwrap(), false, now()).unwrap();
            (payload.alerts, payload.group_key, payload.rejected.len())
        };
        for odd in [
            plain.replace("resolved", r"\u0072esolved"),
            plain.replace(r#""0f""#, r#""\u0030f""#),
            plain.replace(r#""labels""#, r#""annotations":null,"labels""#),
            plain.replace(r#""status""#, r#""status":"firing","status""#),
            plain.replace(r#""version""#, r#""truncatedAlerts":null,"version""#),
        ] {
            assert_eq!(of(&odd), of(plain), "{odd}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "ä".repeat(TEXT_CHARACTERS_MAX + 1);
        assert_eq!(cut(long.clone(), TEXT_CHARACTERS_MAX).chars().count(), TEXT_CHARACTERS_MAX);
        assert_eq!(cut("ä".to_owned(), 1), "ä");
    }

    #[test]
    fn odd_times_and_missing_fields_are_taken() {
        let cases = [
            (json!({"labels": {"x": "y"}}), now()),
            (json!({"labels": {"x": "y"}, "startsAt": "0001-01-01T00:00:00Z"}), now()),
            (json!({"labels": {"x": "y"}, "startsAt": "2999-01-01T00:00:00Z"}), now()),
            (json!({"labels": {"x": "y"}, "startsAt": "1970-01-01T00:00:00Z"}), Timestamp::UNIX_EPOCH),
        ];
        for (alert, starts_at) in cases {
            let payload = read(&of(alert), false).unwrap();
            assert_eq!(payload.alerts[0].starts_at, starts_at);
            assert_eq!(payload.alerts[0].name(), "unnamed");
            assert_eq!(payload.alerts[0].key.fingerprint.as_str().len(), 16);
        }
    }
}
