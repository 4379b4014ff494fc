//! Times in the forms of many senders. What is written as a time is taken as what it says, and what stands for "no time" as none; only
//! what is neither is refused, for a wrong guess would move an alert into another episode.

use jiff::civil::{Date, DateTime};
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// What templates and encoders write for a time that there is not.
const NO_TIMES: [&str; 12] =
    ["0", "null", "none", "nil", "nan", "undefined", "<nil>", "<no value>", "n/a", "-", "never", "{}"];
/// Digits of a fraction that say something: a nanosecond is the smallest step that is kept.
const FRACTION_DIGITS_MAX: usize = 9;

/// A time of a tree as text: also the pair of seconds and nanoseconds that encoders of protobuf write, and MongoDB's `$date`.
pub(super) fn written(value: &Value) -> Option<String> {
    if let Value::Object(fields) = value {
        let field =
            |names: &[&str]| names.iter().find_map(|name| fields.get(*name)).and_then(super::wire::plain);
        if let Some(date) = fields.get("$date").or_else(|| fields.get("$numberLong")) {
            return written(date);
        }
        if let Some(seconds) = field(&["seconds", "epochSecond", "_seconds"])
            && seconds.parse::<i64>().is_ok()
        {
            let nanos = field(&["nanos", "nano", "_nanoseconds"]).and_then(|nanos| nanos.parse::<u32>().ok());
            return Some(format!("{seconds}.{:09}", nanos.unwrap_or(0)));
        }
    }
    super::wire::plain(value)
}

/// A time as senders write it: RFC 3339, the same with a blank or without a zone (then UTC), Go's own form, or seconds, milli-, micro-
/// or nanoseconds since 1970. `None` for an absent or a zero time, and for one that is later than any that can be held here: .NET and Java
/// write the last day of the year 9999 for an end that there is not.
pub(super) fn instant(text: Option<&str>, field: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if is_none(text) || is_beyond(text) {
        return Ok(None);
    }
    read_instant(text).map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("`{field}` is `{shown}`, expected a time such as 2026-01-31T12:00:00Z")
    })
}

/// Whether a text stands for a time that there is not: Go's and .NET's first day, MySQL's zero, Go's zero as seconds, a word.
fn is_none(text: &str) -> bool {
    let starts = |begin: &&str| text.starts_with(begin);
    ["0001-01-01", "0000-00-00", "0001/01/01", "-62135596800"].iter().any(starts)
        || NO_TIMES.iter().any(|word| text.eq_ignore_ascii_case(word))
        || text.parse() == Ok(0.0)
}

fn read_instant(text: &str) -> Option<Timestamp> {
    let readers = [
        |text: &str| text.parse().ok(),
        since_epoch,
        in_other_forms,
        with_the_month_in_words,
        |text: &str| {
            // A date alone is its first instant.
            let date = is_date(text).then(|| dashed(text).parse::<Date>().ok()).flatten()?;
            Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
        },
    ];
    let shortened = short_fraction(text);
    readers.iter().find_map(|read| read(&shortened))
}

/// The text with a fraction of at most nine digits.
fn short_fraction(text: &str) -> String {
    let Some((whole, fraction)) = text.split_once('.') else { return text.to_owned() };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if digits <= FRACTION_DIGITS_MAX {
        return text.to_owned();
    }
    let (digits, after) = fraction.split_at(digits);
    format!("{whole}.{}{after}", digits.get(..FRACTION_DIGITS_MAX).unwrap_or(digits))
}

/// Whether it is a year, a month and a day as digits, in this order.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => matches!(byte, b'-' | b'/' | b'.'),
            _ => byte.is_ascii_digit(),
        })
}

/// Zabbix writes dates with points, others with slashes.
fn dashed(date: &str) -> String {
    if is_date(date) { date.replace(['.', '/'], "-") } else { date.to_owned() }
}

/// RFC 2822 as in mails and HTTP, and what `date` and Java print: `Mon Nov 30 14:00:00 UTC 2026`. A wrong day of the week is no reason
/// to refuse it.
fn with_the_month_in_words(text: &str) -> Option<Timestamp> {
    let without_day = text.split_once(',').map_or(text, |(_, rest)| rest).trim();
    if let Ok(at) = rfc2822::parse(without_day) {
        return Some(at.timestamp());
    }
    let parts: Vec<_> = text.split_ascii_whitespace().collect();
    let (month, day, clock, zone, year) = match parts[..] {
        [_, month, day, clock, year] => (month, day, clock, "+0000", year),
        [_, month, day, clock, zone, year] => (month, day, clock, zone, year),
        _ => return None,
    };
    let zone = if matches!(zone, "UTC" | "Z") { "+0000" } else { zone };
    rfc2822::parse(&format!("{day} {month} {year} {clock} {zone}")).ok().map(|at| at.timestamp())
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
    // .NET's old form, `/Date(1796047200000)/`, also with a zone that changes nothing.
    if let Some(inner) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        let end = inner.find(['+', '-']).filter(|at| *at > 0).unwrap_or(inner.len());
        return inner
            .get(..end)
            .and_then(|number| number.parse().ok())
            .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    }
    if text.contains(['e', 'E']) {
        // Go prints a large float as 1.7960472e+09.
        let number: f64 = text.parse().ok()?;
        return (number.abs() < 1e19).then(|| format!("{number:.0}")).and_then(|plain| since_epoch(&plain));
    }
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
    let (civil, zone) = match first.split_once(['T', 't']) {
        Some((date, clock)) => (format!("{}T{clock}", dashed(date)), parts.next()),
        None => (format!("{}T{}", dashed(first), parts.next()?), parts.next()),
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
    use serde_json::json;

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
            "1.7960472e+09",
            "1.7960472e9",
            "Mon, 30 Nov 2026 14:00:00 GMT",
            "Mon, 30 Nov 2026 15:00:00 +0100",
            "Tue, 30 Nov 2026 14:00:00 +0000",
            "30 Nov 2026 09:00:00 EST",
            "Mon Nov 30 14:00:00 2026",
            "Mon Nov 30 14:00:00 UTC 2026",
            "2026.11.30 14:00:00",
            "2026/11/30 14:00:00",
            "2026/11/30T14:00:00Z",
            "2026-11-30T15:00:00+0100",
            "2026-11-30T14:00Z",
            "20261130T140000Z",
            "2026-11-30T15:00:00+01:00[Europe/Berlin]",
            "2026-11-30T14:00:00.000000000123Z",
            "/Date(1796047200000)/",
            "/Date(1796047200000+0100)/",
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
            Some("0000-00-00 00:00:00"),
            Some("0.0"),
            Some("-62135596800"),
            Some("<no value>"),
            Some("NaN"),
            Some("None"),
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
    fn a_date_alone_is_its_first_instant_and_pairs_of_seconds_are_one_time() {
        for date in ["2026-11-30", "2026.11.30", "2026/11/30"] {
            let read = instant(Some(date), "startsAt").unwrap().unwrap();
            assert_eq!(read.to_string(), "2026-11-30T00:00:00Z", "{date}");
        }
        for (value, expected) in [
            (json!({"seconds": 1_796_047_200, "nanos": 500_000_000}), "2026-11-30T14:00:00.5Z"),
            (json!({"seconds": "1796047200"}), "2026-11-30T14:00:00Z"),
            (json!({"$date": "2026-11-30T14:00:00Z"}), "2026-11-30T14:00:00Z"),
            (json!({"$date": {"$numberLong": "1796047200000"}}), "2026-11-30T14:00:00Z"),
        ] {
            let read = instant(written(&value).as_deref(), "startsAt").unwrap().unwrap();
            assert_eq!(read.to_string(), expected, "{value}");
        }
        assert_eq!(instant(written(&json!({})).as_deref(), "endsAt"), Ok(None));
        assert!(instant(written(&json!({"at": 5})).as_deref(), "endsAt").unwrap_err().contains("`endsAt`"));
    }
}
