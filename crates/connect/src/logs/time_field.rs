//! Fields that are times: text in any of the forms of [`super::time`], numbers since 1970 in any unit, and objects of those.

use jiff::Timestamp;
use serde_json::Value;

use super::time::{Missing, leading};

/// Numbers above this are milliseconds, above its thousandfold microseconds, and so on: seconds reach it in the year 5138.
const SECONDS_MAX: f64 = 1e11;

/// The instant that a field means: text in any of the forms, seconds or smaller units since 1970, or an object of those.
pub(super) fn of_field(value: &Value, missing: &Missing) -> Option<Timestamp> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            whole(text, missing).or_else(|| text.parse::<f64>().ok().and_then(since_epoch))
        }
        Value::Number(number) => since_epoch(number.as_f64()?),
        Value::Array(values) => of_field(values.first()?, missing),
        Value::Object(parts) => {
            // MongoDB's extended JSON, and seconds with their nanoseconds as log4j and Google write them.
            let inner = ["$date", "$numberLong", "SystemTime", "@SystemTime"];
            if let Some(date) = inner.iter().find_map(|name| parts.get(*name)) {
                return of_field(date, missing);
            }
            let part = |names: [&str; 2]| {
                let value = names.iter().find_map(|name| parts.get(*name))?;
                value.as_i64().or_else(|| value.as_str()?.parse().ok())
            };
            // loguru has the seconds with a fraction beside the time as people read it.
            if let Some(seconds) = parts.get("timestamp").filter(|seconds| seconds.is_number()) {
                return of_field(seconds, missing);
            }
            let nanoseconds = part(["nanoOfSecond", "nanos"]).unwrap_or(0);
            Timestamp::new(part(["epochSecond", "seconds"])?, i32::try_from(nanoseconds).ok()?).ok()
        }
        _ => None,
    }
}

pub(super) fn since_epoch(mut seconds: f64) -> Option<Timestamp> {
    if !(seconds.is_finite() && seconds > 0.0) {
        return None;
    }
    while seconds > SECONDS_MAX {
        seconds /= 1000.0;
    }
    Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
}

/// A text that is a time and nothing else.
fn whole(text: &str, missing: &Missing) -> Option<Timestamp> {
    let (at, rest) = leading(text, missing)?;
    // Java adds the name of the zone: `+01:00[Europe/Berlin]`.
    let rest = rest.trim();
    (rest.is_empty() || (rest.starts_with('[') && rest.ends_with(']'))).then_some(at)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;

    fn missing() -> Missing {
        Missing { zone: TimeZone::UTC, latest: "2026-12-01T00:00:00Z".parse().unwrap(), day: None }
    }

    #[test]
    fn fields_are_times_of_every_kind() {
        for value in [
            json!("2026-11-30T14:00:00Z"),
            json!("2026-11-30 15:00:00.000 CET"),
            json!("2026-11-30T15:00:00+01:00[Europe/Berlin]"),
            json!(1_796_047_200),
            json!(1_796_047_200.0),
            json!("1796047200.000"),
            json!("1796047200000000000"),
            json!({"$date": "2026-11-30T14:00:00.000Z"}),
            json!({"$date": {"$numberLong": "1796047200000"}}),
            json!({"epochSecond": 1_796_047_200, "nanoOfSecond": 0}),
            json!(["2026-11-30T14:00:00Z"]),
            json!("30/Nov/2026:14:00:00 +0000"),
            json!("1796047200000000"),
            json!({"repr": "2026-11-30 15:00:00+01:00", "timestamp": 1_796_047_200.0}),
            json!({"SystemTime": "2026-11-30T14:00:00.0000000Z"}),
        ] {
            assert_eq!(
                of_field(&value, &missing()).map(|at| at.to_string()).as_deref(),
                Some("2026-11-30T14:00:00Z"),
                "{value}"
            );
        }
        for value in [
            json!(-1),
            json!(0),
            json!(1e300),
            json!("NaN"),
            json!("inf"),
            json!({}),
            json!([]),
            json!("soon"),
        ] {
            let at = of_field(&value, &missing());
            assert!(at.is_none() || at.is_some_and(|at| at.as_second() > 0), "{value}");
        }
    }
}
