//! What senders call Alertmanager's webhook and do not write as Alertmanager does: numbers and `null` as values, other times, no version,
//! a status for the whole payload only. Read from a tree, piece by piece, so that nothing odd loses what stands beside it.

use std::borrow::Cow;
use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::{AlertStatus, Labels};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::WireAlert;

/// The text of a body: without a byte order mark, and with a replacement for what is not UTF-8.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    for (mark, unit) in
        [([0xff, 0xfe], u16::from_le_bytes as fn([u8; 2]) -> u16), ([0xfe, 0xff], u16::from_be_bytes)]
    {
        if let Some(rest) = bytes.strip_prefix(&mark) {
            let units: Vec<u16> = rest.as_chunks::<2>().0.iter().map(|pair| unit(*pair)).collect();
            return String::from_utf16_lossy(&units).into();
        }
    }
    String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

/// A body as JSON. A character that was cut in half (`\ud83d` alone) is replaced and costs nothing else.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match without_halves(text) {
        Some(whole) => serde_json::from_str(&whole),
        None => Err(error),
    })
}

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
            map.next_value::<IgnoredAny>()?;
            alerts |= name == "alerts";
            labels |= name == "labels";
        }
        Ok(Shape { is_bare: labels && !alerts })
    }
}

/// The text with its lone surrogates replaced; `None` when it has none.
fn without_halves(text: &str) -> Option<String> {
    let mut whole = String::with_capacity(text.len());
    let (mut rest, mut replaced) = (text, false);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        whole.push_str(before);
        let taken = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                replaced = true;
                whole.push_str("\\ufffd");
                rest = escape.get(6..)?;
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (escape, after) = escape.split_at_checked(taken)?;
        whole.push_str(escape);
        rest = after;
    }
    whole.push_str(rest);
    replaced.then_some(whole)
}

/// The code unit of an escape such as `\u00e4` at the beginning.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// What wraps alerts in a form of its own, or is no Alertmanager's payload at all, in words that say which setting of theirs helps.
pub(super) fn foreign(value: &Value) -> Option<&'static str> {
    let has = |name: &str| value.get(name).is_some();
    Some(match value {
        Value::Array(_) => "a list; a webhook payload is an object with the list `alerts`",
        _ if has("TopicArn") || (has("Type") && has("MessageId")) => {
            "an Amazon SNS envelope; turn raw message delivery on for this subscription, so that the alerts come without it"
        }
        _ if value
            .get("schemaId")
            .is_some_and(|id| id.as_str().is_some_and(|id| id.starts_with("azureMonitor"))) =>
        {
            "Azure Monitor's common alert schema; send the alerts by an Alertmanager's or Grafana's webhook"
        }
        _ if has("AlarmName") || has("AlarmArn") => {
            "a CloudWatch alarm; send the alerts by an Alertmanager's or Grafana's webhook"
        }
        _ if has("specversion") => "a CloudEvents envelope; send what is in it",
        _ if has("evalMatches") || has("ruleUrl") => {
            "the form of Grafana's legacy alerting; use a webhook contact point of Grafana's own alerting"
        }
        _ if value.get("incident").is_some_and(Value::is_object) => {
            "a notification of Google Cloud Monitoring"
        }
        _ if has("event") && !has("alerts") => "an event of another incident tool",
        _ => return None,
    })
}

/// One alert of a payload.
pub(super) fn alert(value: &Value) -> Result<WireAlert<'static>, String> {
    if !value.is_object() {
        return Err(format!("it is `{}`, expected an object with `labels`", shown(value)));
    }
    let plain = |name: &str| value.get(name).and_then(plain);
    Ok(WireAlert {
        status: plain("status").map(Into::into),
        labels: labels(value.get("labels"), "labels")?,
        annotations: labels(value.get("annotations"), "annotations")?,
        starts_at: plain("startsAt").map(Into::into),
        ends_at: plain("endsAt").map(Into::into),
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

/// A status in any case, also in the words of other senders.
pub(super) fn status(text: &str) -> Option<AlertStatus> {
    match text.trim().to_ascii_lowercase().as_str() {
        "firing" | "fired" | "alerting" | "active" | "open" | "triggered" | "problem" => {
            Some(AlertStatus::Firing)
        }
        "resolved" | "ok" | "inactive" | "closed" | "ended" | "cleared" | "recovered" => {
            Some(AlertStatus::Resolved)
        }
        _ => None,
    }
}

/// A time as senders write it: RFC 3339, the same with a blank or without a zone (then UTC), Go's own form, or seconds, milli-, micro-
/// or nanoseconds since 1970. `None` for an absent or a zero time, and for one that is later than any that can be held here: .NET and Java
/// write the last day of the year 9999 for an end that there is not.
pub(super) fn instant(text: Option<&str>, field: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.starts_with("0001-01-01") || text == "0" {
        return Ok(None);
    }
    if is_beyond(text) {
        return Ok(None);
    }
    read_instant(text).map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("`{field}` is `{shown}`, expected a time such as 2026-01-31T12:00:00Z")
    })
}

fn read_instant(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| since_epoch(text)).or_else(|| in_other_forms(text))
}

/// Whether a text is a time that is later than any that can be held here.
pub(crate) fn is_beyond(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    let year_ends = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (year, rest) = digits.split_at(year_ends);
    if year.len() < 4 {
        return false;
    }
    if rest.starts_with('-') {
        // The same time in a year that fits, a leap year, tells whether it is a time at all.
        let is_late = year.len() > 4 || (year == "9999" && read_instant(text).is_none());
        return is_late && read_instant(&format!("2000{rest}")).is_some();
    }
    // As a number it would be taken for one of a finer unit, in 1978: the last second of the year 9999 and what is around it.
    let is_number = rest.strip_prefix('.').unwrap_or(rest).bytes().all(|byte| byte.is_ascii_digit());
    is_number
        && year.parse::<i64>().map_or(true, |number| {
            (253_402_200_000..=253_402_300_800).contains(&number)
                || (253_402_200_000_000..=253_402_300_800_000).contains(&number)
        })
}

/// A number since 1970, whose size tells its unit. Small ones are no times: 5 seconds after midnight is a mistake.
fn since_epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number: i64 = whole.parse().ok()?;
    match number {
        100_000_000..100_000_000_000 => {
            let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
            Timestamp::new(number, digits.parse().ok()?).ok()
        }
        100_000_000_000..100_000_000_000_000 => Timestamp::from_millisecond(number).ok(),
        100_000_000_000_000..100_000_000_000_000_000 => Timestamp::from_microsecond(number).ok(),
        100_000_000_000_000_000.. => Timestamp::from_nanosecond(number.into()).ok(),
        _ => None,
    }
}

/// `2026-01-31 12:00:00`, `2026-01-31T12:00:00`, `2026-01-31 12:00:00.123 +0100 CET m=+1.5`.
fn in_other_forms(text: &str) -> Option<Timestamp> {
    let mut parts = text.split_ascii_whitespace();
    let first = parts.next()?;
    let (civil, zone) = if first.contains(['T', 't']) {
        (first.to_owned(), parts.next())
    } else {
        (format!("{first}T{}", parts.next()?), parts.next())
    };
    // A zone that stands at the time itself.
    if let Ok(at) = civil.parse() {
        return Some(at);
    }
    let civil: DateTime = civil.parse().ok()?;
    let at = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let minutes = match zone {
        None | Some("UTC" | "GMT" | "Z") => 0,
        Some(zone) => offset_minutes(zone)?,
    };
    at.checked_sub(SignedDuration::from_mins(minutes)).ok()
}

/// `+0100` and `+01:00` in minutes.
fn offset_minutes(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.as_bytes().first()? {
        b'+' => (1, zone.get(1..)?),
        b'-' => (-1, zone.get(1..)?),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let (hours, minutes): (i64, i64) = (digits.get(..2)?.parse().ok()?, digits.get(2..4)?.parse().ok()?);
    Some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_the_forms_of_many_senders() {
        for text in [
            "2026-11-30T14:00:00Z",
            "2026-11-30T15:00:00+01:00",
            "2026-11-30 14:00:00",
            "2026-11-30T14:00:00",
            " 2026-11-30 14:00:00Z ",
            "2026-11-30 14:00:00 UTC",
            "2026-11-30 14:00:00.000 +0000 UTC",
            "2026-11-30 15:00:00 +0100 CET m=+448423.18",
            "2026-11-30 09:00:00 -05:00",
            "1796047200",
            "1796047200.0",
            "1796047200000",
            "1796047200000000",
            "1796047200000000000",
        ] {
            let read = instant(Some(text), "startsAt").unwrap().unwrap();
            assert_eq!(read.to_string(), "2026-11-30T14:00:00Z", "{text}");
        }
        for none in [
            None,
            Some(""),
            Some("  "),
            Some("0"),
            Some("0001-01-01T00:00:00Z"),
            Some("0001-01-01 00:00:00 +0000 UTC"),
        ] {
            assert_eq!(instant(none, "endsAt"), Ok(None), "{none:?}");
        }
        for beyond in [
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.9999999Z",
            "9999-12-31T23:59:59.999+01:00",
            " 9999-12-31 23:59:59 ",
            "9999-12-31 23:59:59 +0000 UTC",
            "10000-01-01T00:00:00Z",
            "+292278994-08-17T07:12:55.807Z",
            "20000-02-29T00:00:00Z",
            "253402300799",
            "253402300799.999",
            "253402300799999",
            "99999999999999999999999999",
        ] {
            assert!(is_beyond(beyond), "{beyond}");
            assert_eq!(instant(Some(beyond), "endsAt"), Ok(None), "{beyond}");
        }
        for held in ["9999-12-30T00:00:00Z", "2026-11-30T14:00:00Z", "253402100000", "9223372036854775807"] {
            assert!(!is_beyond(held) && instant(Some(held), "endsAt").unwrap().is_some(), "{held}");
        }
        for wrong in [
            "9999-12-32T00:00:00Z",
            "9999-12-31",
            "10000-02-30T00:00:00Z",
            "99999-yesterday",
            "yesterday",
            "25:00",
            "5",
            "-3",
            "2026-02-31T00:00:00Z",
            "2026-11-30 14:00:00 XYZ",
            "2026-11-30 14:00:00 +1",
        ] {
            assert!(instant(Some(wrong), "startsAt").unwrap_err().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn halves_of_characters_are_replaced_and_whole_ones_kept() {
        for (text, expected) in [
            (r#""caf\ud83d""#, "caf\u{fffd}"),
            (r#""\udc00 \ud83d\ude00 \\ud83d \u00e4""#, "\u{fffd} 😀 \\ud83d ä"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
        ] {
            assert_eq!(read::<Value>(text).unwrap(), expected, "{text}");
        }
        for broken in [r#""\ud83"#, r#""\"#, r#"{"a":"\ud83d"#] {
            assert!(read::<Value>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn bodies_with_a_byte_order_mark_or_of_another_encoding() {
        assert_eq!(text(b"\xef\xbb\xbf{}"), "{}");
        assert_eq!(text(b"\xff\xfe{\0}\0"), "{}");
        assert_eq!(text(b"\xfe\xff\0{\0}"), "{}");
        assert_eq!(text(b"\"caf\xe9\""), "\"caf\u{fffd}\"");
    }
}
