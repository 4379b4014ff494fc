//! Alertmanager's webhook payload as alerts of our own. What can be used is used: one alert that cannot does not lose the others, and is
//! named in the answer. Grafana and many a script send the same form with another version or none, so the form counts and not the number.

mod foreign;
#[cfg(test)]
mod kinds;
mod text;
mod times;
mod wire;

pub(crate) use times::is_beyond;

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
struct Wire<'a> {
    #[serde(borrow)]
    status: Option<Text<'a>>,
    group_key: Option<String>,
    #[serde(default, deserialize_with = "null_is_absent")]
    truncated_alerts: u64,
    alerts: Option<Vec<Object<WireAlert<'a>>>>,
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
    #[serde(rename = "dashboardURL")]
    dashboard_url: Option<String>,
    #[serde(rename = "panelURL")]
    panel_url: Option<String>,
}

/// Text that is only looked at: borrowed from the body where nothing in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// An empty map of Go is often written as `null`.
fn null_is_absent<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Whether a body is one bare alert and no payload. It may be as large as any body, and nothing of it is kept.
pub(crate) fn is_bare(bytes: &[u8]) -> bool {
    text::read::<wire::Shape>(&text::text(bytes)).is_ok_and(|shape| shape.is_bare)
}

fn is_bare_alert(value: &serde_json::Value) -> bool {
    let is_there = |name: &str| value.get(name).is_some_and(|field| !field.is_null());
    is_there("labels") && !is_there("alerts")
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
    let text = text::text(bytes);
    if !bare
        && let Ok(Object(Wire { status, group_key, truncated_alerts, alerts: Some(alerts) })) =
            serde_json::from_str::<Object<Wire<'_>>>(&text)
    {
        let whole = Whole { status: of(&status).and_then(wire::status), group_key, truncated_alerts };
        return payload(whole, alerts.into_iter().map(|alert| Ok(alert.0)), source, now);
    }
    // Something in it is odd. Read as a tree, a single alert that is odd is told from the others.
    let mut value =
        text::read::<serde_json::Value>(&text).map_err(|error| text::why_not_json(&text, &error))?;
    if let serde_json::Value::String(inner) = &value
        && let Ok(object @ serde_json::Value::Object(_)) = text::read(inner)
    {
        // It was encoded twice.
        value = object;
    }
    if bare && is_bare_alert(&value) {
        let whole = Whole::default();
        let alert = alert(wire::alert(&value)?, whole.status, source, now)?;
        return Ok(Payload {
            alerts: vec![alert],
            group_key: None,
            truncated_alerts: 0,
            rejected: Vec::new(),
        });
    }
    let none = Vec::new();
    let alerts = match value.get("alerts") {
        Some(serde_json::Value::Array(alerts)) => alerts,
        // An empty list of Go is often written as `null`.
        Some(serde_json::Value::Null) if is_empty_payload(&value) => &none,
        _ => return Err(not_ours(&value)),
    };
    let field = |name: &str| value.get(name).and_then(wire::plain);
    let whole = Whole {
        status: value.get("status").and_then(wire::status_of).as_deref().and_then(wire::status),
        group_key: field("groupKey"),
        truncated_alerts: field("truncatedAlerts").and_then(|more| more.parse().ok()).unwrap_or(0),
    };
    payload(whole, alerts.iter().map(wire::alert), source, now)
}

/// Whether `"alerts": null` stands in a payload of ours: neither in what another tool sends nor beside the labels of one alert.
fn is_empty_payload(value: &serde_json::Value) -> bool {
    foreign::looks_like(value).is_none() && !is_bare_alert(value)
}

/// What is wrong with a body that has no list of alerts, and what to do.
fn not_ours(value: &serde_json::Value) -> String {
    let why = if is_bare_alert(value) {
        "it has no `alerts`, expected a list of alerts; one alert by itself is taken at `/webhook/alert`"
            .to_owned()
    } else if let Some((what, help)) = foreign::looks_like(value) {
        format!("this looks like {what}; {help}")
    } else {
        format!("it has no `alerts`, expected a list of alerts{}", foreign::names(value))
    };
    format!("the body is not an Alertmanager webhook payload of version 4: {why}")
}

/// What a payload says of all its alerts.
#[derive(Default)]
struct Whole {
    status: Option<AlertStatus>,
    group_key: Option<String>,
    truncated_alerts: u64,
}

/// What of a payload can be used.
fn payload<'a>(
    whole: Whole,
    wire_alerts: impl ExactSizeIterator<Item = Result<WireAlert<'a>, String>>,
    source: &SourceName,
    now: Timestamp,
) -> Result<Payload, String> {
    let count = wire_alerts.len();
    if count > ALERTS_MAX {
        return Err(format!("the payload has {count} alerts, expected at most {ALERTS_MAX}"));
    }
    let mut alerts = Vec::with_capacity(count);
    let mut rejected = Vec::new();
    for (index, wire) in wire_alerts.enumerate() {
        match wire.and_then(|wire| alert(wire, whole.status, source, now)) {
            Ok(alert) => alerts.push(alert),
            Err(why) => rejected.push(Rejected { index, why }),
        }
    }
    if let (true, Some(first)) = (alerts.is_empty(), rejected.first()) {
        return Err(format!("no alert of the payload can be used; alert {}: {}", first.index, first.why));
    }
    let group_key = whole.group_key.map(|key| cut(key, TEXT_CHARACTERS_MAX));
    Ok(Payload { alerts, group_key, truncated_alerts: whole.truncated_alerts, rejected })
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

fn alert(
    mut wire: WireAlert<'_>,
    of_payload: Option<AlertStatus>,
    source: &SourceName,
    now: Timestamp,
) -> Result<Alert, String> {
    if wire.labels.is_empty() {
        return Err("it has no labels, so nothing tells it from others".to_owned());
    }
    let starts_at = times::instant(of(&wire.starts_at), "startsAt")?.unwrap_or(now);
    let ends_at = times::instant(of(&wire.ends_at), "endsAt")?;
    let ended = || ends_at.is_some_and(|at| at <= now);
    let status = match of(&wire.status).filter(|text| !text.trim().is_empty()) {
        Some(own) => wire::status(own).ok_or_else(|| {
            let own: String = own.chars().take(40).collect();
            format!("unknown status `{own}`, expected `firing` or `resolved`")
        })?,
        None if of_payload == Some(AlertStatus::Resolved) || ended() => AlertStatus::Resolved,
        None => AlertStatus::Firing,
    };
    // Grafana's addresses stand beside the annotations; for people they are the same kind of thing.
    for (name, url) in [("dashboardURL", wire.dashboard_url), ("panelURL", wire.panel_url)] {
        if let Some(url) = url.filter(|url| !url.is_empty()) {
            wire.annotations.insert(name, cut(url, TEXT_CHARACTERS_MAX));
        }
    }
    within_limits(&wire.labels, &wire.annotations)?;
    let fingerprint = wire.fingerprint.as_ref().and_then(|text| Fingerprint::given(&text.0));
    Ok(Alert {
        key: AlertKey {
            source: source.clone(),
            fingerprint: fingerprint.unwrap_or_else(|| Fingerprint::of(&wire.labels)),
        },
        status,
        labels: wire.labels,
        annotations: wire.annotations,
        // An alert that begins in the future has begun by being sent; Go's zero time means "not known".
        starts_at: starts_at.min(now),
        ends_at: ends_at.filter(|_| status == AlertStatus::Resolved),
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
            (json!({"version": "4"}), "no `alerts`"),
            (json!({"version": "4", "alerts": {}}), "no `alerts`"),
            (of(json!({"status": "firing"})), "no labels"),
            (of(json!({"status": "odd", "labels": {"alertname": "A"}})), "unknown status `odd`"),
            (of(json!({"labels": {"alertname": "A"}, "startsAt": "yesterday"})), "`startsAt` is `yesterday`"),
            (good.clone(), "no `alerts`"),
            (json!([good.clone()]), "looks like a list"),
            (json!({"Type": "Notification", "MessageId": "1", "Message": "{}"}), "Amazon SNS"),
            (
                json!({"Type": "SubscriptionConfirmation", "TopicArn": "arn:aws:sns:x"}),
                "raw message delivery",
            ),
            (json!({"schemaId": "azureMonitorCommonAlertSchema", "data": {}}), "Azure Monitor"),
            (json!({"version": "1.2", "incident": {"state": "open"}}), "Google Cloud Monitoring"),
            (json!({"ruleName": "x", "evalMatches": []}), "legacy alerting"),
            (json!({"specversion": "1.0", "data": {"alerts": []}}), "CloudEvents"),
            (json!({"AlarmName": "x"}), "CloudWatch"),
        ] {
            let error = read(&body, false).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
        assert_eq!(read(&good, true).unwrap().alerts.len(), 1);
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
    fn any_version_of_the_form_is_taken() {
        for version in [json!("4"), json!("1"), json!(4), json!(null), json!({"major": 5})] {
            let mut body = of(json!({"labels": {"alertname": "A"}}));
            body["version"] = version;
            assert_eq!(read(&body, false).unwrap().alerts.len(), 1, "{body}");
            body.as_object_mut().unwrap().remove("version");
            assert_eq!(read(&body, false).unwrap().alerts.len(), 1, "{body}");
        }
        assert!(read(&json!({"alerts": []}), false).unwrap().alerts.is_empty());
    }

    #[test]
    fn the_status_of_the_payload_and_an_end_that_has_passed_count_where_an_alert_has_none() {
        use AlertStatus::{Firing, Resolved};
        let (past, future) = ("2026-11-20T17:00:00Z", "2026-11-20T19:00:00Z");
        for (of_payload, own, ends_at, expected) in [
            ("firing", json!(null), "", Firing),
            ("resolved", json!(null), "", Resolved),
            ("Resolved", json!(" "), "", Resolved),
            ("firing", json!(null), past, Resolved),
            ("firing", json!(null), future, Firing),
            ("resolved", json!("FIRING"), past, Firing),
            ("firing", json!("Resolved"), future, Resolved),
            ("odd", json!("OK"), "", Resolved),
        ] {
            let alert = json!({"status": own, "labels": {"a": "b"}, "endsAt": ends_at});
            let mut body = of(alert.clone());
            body["status"] = json!(of_payload);
            assert_eq!(read(&body, false).unwrap().alerts[0].status, expected, "{body}");
            if of_payload == "firing" {
                assert_eq!(read(&alert, true).unwrap().alerts[0].status, expected, "bare: {alert}");
            }
        }
    }

    #[test]
    fn values_that_are_no_text_are_their_text() {
        let alert = json!({
            "labels": {"a": 503, "b": 12.5, "c": true, "d": null, "e": [1]}, "annotations": {"value": 7, "none": null},
            "dashboardURL": "https://g/d", "panelURL": "", "startsAt": 1_763_661_600, "fingerprint": 17, "values": {"B": 1},
        });
        let payload = read(&of(alert), false).unwrap();
        let read = &payload.alerts[0];
        assert_eq!(json!(read.labels), json!({"a": "503", "b": "12.5", "c": "true", "e": "[1]"}));
        assert_eq!(json!(read.annotations), json!({"value": "7", "dashboardURL": "https://g/d"}));
        assert_eq!(read.key.fingerprint.as_str(), "17");
        assert_eq!(read.starts_at.as_second(), 1_763_661_600);
        let mut body = of(json!({"labels": {"a": "b"}}));
        body["groupKey"] = json!(5);
        body["truncatedAlerts"] = json!("3");
        let payload =
            super::parse(body.to_string().as_bytes(), &SourceName::declared("am").unwrap(), false, now())
                .unwrap();
        assert_eq!((payload.group_key.as_deref(), payload.truncated_alerts), (Some("5"), 3));
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
    fn a_bare_alert_is_told_from_a_payload_without_keeping_it() {
        for (body, expected) in [
            (r#"{"labels": {"a": "b"}}"#, true),
            (r#"{"labels": 5}"#, true),
            (r#"{"labels": {}, "labels": {}}"#, true),
            (r#"{"\u006cabels": {}}"#, true),
            (r#"{"\ud83d": 1, "labels": {"a": "\ud83d"}}"#, true),
            ("\u{feff}{\"labels\": {}}", true),
            (r#"{"labels": {}, "alerts": null}"#, true),
            (r#"{"alerts": [{"labels": {}}]}"#, false),
            (r#"[{"labels": {}}]"#, false),
            (r#""labels""#, false),
            (r#"{"labels": {}"#, false),
            (r#"{"labels": {}} {}"#, false),
            ("{}", false),
            ("", false),
        ] {
            assert_eq!(is_bare(body.as_bytes()), expected, "{body}");
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
