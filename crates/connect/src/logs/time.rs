//! When a line was written: the forms of time that are met at the beginning of lines and in fields, read by hand since a format string
//! fits one of them only.

use std::borrow::Cow;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::clock;
use super::cursor::Cursor;
use super::time_field::since_epoch;

/// A time without a year is of the year that does not make it later than this after what is asked for.
const FUTURE_MAX: SignedDuration = SignedDuration::from_hours(25);
/// Years that are tried for a time without one; the 29th of February needs more than one.
const YEARS_TRIED: i16 = 8;
/// How far from what is asked for a time is believed that may be read in several ways, or be no time at all.
const NEAR: SignedDuration = SignedDuration::from_hours(366 * 24);

/// What completes a time that leaves something out.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    /// The zone of a time that names none.
    pub(super) zone: TimeZone,
    /// The latest instant that is asked for; a time without a year is not later.
    pub(super) latest: Timestamp,
    /// An instant of the day that a time without a day is of, where it is known.
    pub(super) day: Option<Timestamp>,
}

/// Words of a line at whose beginning a time is looked for.
const WORDS_MAX: usize = 6;
/// Bytes of a line in which the bracketed time of an access log is looked for.
const ACCESS_BYTES_MAX: usize = 400;

/// The first time near the beginning of a line, and the line without it.
pub(super) fn of_line<'a>(line: &'a str, missing: &Missing) -> Option<(Timestamp, Cow<'a, str>)> {
    let opens = |c: char| c.is_whitespace() || "[(<\"'#*".contains(c);
    let mut start = line.len() - line.trim_start_matches(opens).len();
    for _ in 0..WORDS_MAX {
        let rest = line.get(start..)?;
        if let Some((at, after)) = leading(rest, missing) {
            return Some((at, without(line, start, after)));
        }
        let Some(word) = rest.find(char::is_whitespace) else { break };
        let next = rest.get(word..)?;
        start += word + next.len() - next.trim_start_matches(opens).len();
    }
    // Access logs have theirs in brackets, after as many names as the client has.
    let mut bytes = ACCESS_BYTES_MAX.min(line.len());
    while !line.is_char_boundary(bytes) {
        bytes -= 1;
    }
    let head = line.get(..bytes)?;
    let audited = head.find("audit(").and_then(|at| {
        let (instant, after) = leading(line.get(at + "audit(".len()..)?, missing)?;
        after.starts_with(':').then_some((instant, Cow::Borrowed(line)))
    });
    audited.or_else(|| {
        head.match_indices('[').find_map(|(at, _)| {
            let (instant, after) = leading(line.get(at + 1..)?, missing)?;
            after.starts_with(']').then(|| (instant, without(line, at + 1, after)))
        })
    })
}

/// What a line says besides its time, and without the brackets that the time had to itself.
fn without<'a>(line: &'a str, start: usize, after: &'a str) -> Cow<'a, str> {
    let mut before = line.get(..start).unwrap_or_default();
    let mut after = after;
    if let (Some(outer), Some(rest)) =
        (before.strip_suffix(['[', '(', '<', '"']), after.strip_prefix([']', ')', '>', '"']))
    {
        (before, after) = (outer, rest);
    }
    let before = before.trim();
    let after = after.trim_start();
    match (before.trim_matches(|c: char| "[(<\"'#*".contains(c)).is_empty(), after.is_empty()) {
        (true, _) => {
            // `[time #42] ERROR`: what opened before the time has lost what it opened for.
            Cow::Borrowed(after.strip_prefix([']', ',']).unwrap_or(after).trim_start())
        }
        (false, true) => Cow::Borrowed(before),
        (false, false) => Cow::Owned(format!("{before} {after}")),
    }
}

/// The time at the beginning of a text, and what follows it.
pub(super) fn leading<'a>(text: &'a str, missing: &Missing) -> Option<(Timestamp, &'a str)> {
    let mut cursor = Cursor { rest: text };
    let (at, rest) = match text.as_bytes().first()? {
        b'0'..=b'9' => numbers(cursor, missing)?,
        b'A'..=b'Z' | b'a'..=b'z' => {
            cursor.weekday();
            match cursor.peek_digit() {
                true => day_first(cursor, missing)?,
                false => month_first(cursor, missing)?,
            }
        }
        _ => return None,
    };
    let goes_on = rest.chars().next().is_some_and(|next| next.is_alphanumeric() || next == '_');
    (!goes_on).then_some((at, rest))
}

type Found<'a> = (Timestamp, &'a str);

fn numbers<'a>(cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    year_first(cursor, missing)
        .or_else(|| day_first(cursor, missing))
        .or_else(|| month_and_day(cursor, missing))
        .or_else(|| slashed(cursor, missing))
        .or_else(|| short_year(cursor, missing))
        .or_else(|| compact_short_year(cursor, missing))
        .or_else(|| epoch(cursor, missing))
        .or_else(|| clock::nearest(cursor, missing.day?, &missing.zone))
}

/// `2026-11-30T14:00:00.123Z`, with `/`, `.`, `_`, blanks, a comma or no separators at all.
fn year_first<'a>(mut cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let year = cursor.digits(4)?;
    let separator = cursor.any(&['-', '/', '.']);
    let month = cursor.digits(2)?;
    if let Some(separator) = separator {
        cursor.is(separator)?;
    }
    let day = cursor.digits(2)?;
    // As runit's and Go's logs have it, and CloudFront's: `2026-11-30_14:00:00`, `2026-11-30-14:00:00`, and a tab.
    cursor.any(&['T', 't', ' ', '_', '-', '\t'])?;
    let date =
        Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let time = cursor.time(separator.is_none())?;
    zoned(date.to_datetime(time), cursor, missing)
}

/// `30/Nov/2026:14:00:00 +0000`, `30 Nov 2026 14:00:00.123`, `30-Nov-2026::14:00:00`.
fn day_first<'a>(mut cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let day = cursor.digits_up_to(2)?;
    let separator = cursor.any(&['/', '-', ' '])?;
    let month = cursor.month()?;
    cursor.is(separator)?;
    let year = cursor.digits(4)?;
    cursor.any(&[':', ' ', 'T'])?;
    cursor.any(&[':']);
    let date = Date::new(i16::try_from(year).ok()?, month, i8::try_from(day).ok()?).ok()?;
    let time = cursor.time(false)?;
    zoned(date.to_datetime(time), cursor, missing)
}

/// `Nov 30 14:00:00`, `Nov  3, 2026 2:00:00 PM`, `Nov 30 14:00:00.123456 UTC 2026`.
fn month_first<'a>(mut cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let month = cursor.month()?;
    cursor.is(' ')?;
    cursor.any(&[' ']);
    let day = i8::try_from(cursor.digits_up_to(2)?).ok()?;
    cursor.any(&[',']);
    cursor.is(' ')?;
    let before_year = cursor;
    let year = cursor.digits(4).filter(|_| cursor.any(&[' ']).is_some() || cursor.any(&[',']).is_some());
    if year.is_none() {
        cursor = before_year;
    }
    cursor.any(&[' ']);
    let time = cursor.time(false)?;
    if let Some(year) = year {
        let date = Date::new(i16::try_from(year).ok()?, month, day).ok()?;
        return zoned(date.to_datetime(time), cursor, missing);
    }
    // The year may come last, after the zone.
    let mut ahead = cursor;
    let zone = ahead.zone();
    if ahead.is(' ').is_some()
        && let Some(year) = ahead.digits(4)
        && !ahead.peek_digit()
    {
        let date = Date::new(i16::try_from(year).ok()?, month, day).ok()?;
        let zone = zone.unwrap_or_else(|| missing.zone.clone());
        return Some((zone.to_timestamp(date.to_datetime(time)).ok()?, ahead.rest));
    }
    without_year(month, day, time, cursor, missing)
}

/// `11-30 14:00:00.123`, as Android writes it; told from other numbers by its fraction.
fn month_and_day<'a>(mut cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let month = i8::try_from(cursor.digits(2)?).ok()?;
    cursor.is('-')?;
    let day = i8::try_from(cursor.digits(2)?).ok()?;
    cursor.is(' ')?;
    let time = cursor.time(false)?;
    without_year(month, day, time, cursor, missing)
}

/// `11/30/2026 2:00:00 PM` or `30/11/2026 14:00:00`, where the numbers tell which is the day; otherwise it is not known.
fn slashed<'a>(mut cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let one = cursor.digits_up_to(2)?;
    let separator = cursor.any(&['/', '.'])?;
    let other = cursor.digits_up_to(2)?;
    cursor.is(separator)?;
    let year = cursor.digits(4)?;
    cursor.any(&[',']);
    cursor.any(&[' ', 'T', ':'])?;
    let (day, month) = match (separator, one, other) {
        // With dots the day comes first everywhere.
        ('.', day, month) | ('/', day @ 13.., month) => (day, month),
        ('/', month, day @ 13..) => (day, month),
        ('/', day, month) if day == month => (day, month),
        _ => return None,
    };
    let date =
        Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let time = cursor.time(false)?;
    zoned(date.to_datetime(time), cursor, missing)
}

/// `26/11/30 14:00:00` of Spark and Hadoop, and what else has a year of two digits. Where it can be read in several ways, it is the one
/// with the year first, or the only one that is near to what is asked for.
fn short_year<'a>(mut cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let one = cursor.digits(2)?;
    let separator = cursor.any(&['/', '.', '-'])?;
    let two = cursor.digits(2)?;
    cursor.is(separator)?;
    let three = cursor.digits(2)?;
    cursor.any(&[',']);
    cursor.any(&[' ', 'T'])?;
    let time = cursor.time(false)?;
    let zone = cursor.zone().unwrap_or_else(|| missing.zone.clone());
    let read = |year: u32, month: u32, day: u32| {
        let date = short_date(year, month, day)?;
        zone.to_timestamp(date.to_datetime(time)).ok().filter(|at| is_near(*at, missing))
    };
    let at = match separator {
        // With dots the day comes first everywhere.
        '.' => read(three, two, one)?,
        _ => match (read(one, two, three), read(three, one, two), read(three, two, one)) {
            (Some(at), _, _) | (None, Some(at), None) | (None, None, Some(at)) => at,
            (None, Some(one), Some(other)) if one == other => one,
            _ => return None,
        },
    };
    Some((at, cursor.rest))
}

/// `261130 14:00:00`, as old MySQL servers and CockroachDB write it.
pub(super) fn compact_short_year<'a>(mut cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let (year, month, day) = (cursor.digits(2)?, cursor.digits(2)?, cursor.digits(2)?);
    cursor.is(' ')?;
    cursor.any(&[' ']);
    let before = cursor.rest;
    let time = cursor.time(false)?;
    // Six digits may be anything: the time behind them has its seconds.
    (before.get(..before.len() - cursor.rest.len())?.matches(':').count() == 2).then_some(())?;
    let found = zoned(short_date(year, month, day)?.to_datetime(time), cursor, missing)?;
    is_near(found.0, missing).then_some(found)
}

fn short_date(year: u32, month: u32, day: u32) -> Option<Date> {
    Date::new(i16::try_from(2000 + year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

fn is_near(at: Timestamp, missing: &Missing) -> bool {
    at.duration_since(missing.latest).abs() < NEAR
}

/// Seconds since 1970 with a fraction, or milliseconds, microseconds, nanoseconds. A bare number of ten digits may be anything: it is a
/// time where it is near to what is asked for and stands like one, as in `1764500000: text` of Mosquitto and `[1764500000] text` of Nagios.
fn epoch<'a>(cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let end = cursor.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(cursor.rest.len());
    let (number, rest) = cursor.rest.split_at_checked(end)?;
    let whole = number.split_once('.').map_or(number.len(), |(whole, _)| whole.len());
    let is_bare = number.len() == 10 && !number.contains('.');
    let fits = match number.contains('.') {
        true => whole == 10,
        false => {
            matches!(whole, 13 | 16 | 19) || (is_bare && (rest.starts_with(": ") || rest.starts_with("] ")))
        }
    };
    (fits && number.starts_with('1')).then_some(())?;
    let at = since_epoch(number.parse().ok()?)?;
    (!is_bare || is_near(at, missing)).then_some((at, rest))
}

fn zoned<'a>(civil: DateTime, mut cursor: Cursor<'a>, missing: &Missing) -> Option<Found<'a>> {
    let zone = cursor.zone().unwrap_or_else(|| missing.zone.clone());
    Some((zone.to_timestamp(civil).ok()?, cursor.rest))
}

/// A time without a year: the newest one that is not in the future.
pub(super) fn without_year<'a>(
    month: i8,
    day: i8,
    time: Time,
    mut cursor: Cursor<'a>,
    missing: &Missing,
) -> Option<Found<'a>> {
    let zone = cursor.zone().unwrap_or_else(|| missing.zone.clone());
    let bound = missing.latest.checked_add(FUTURE_MAX).unwrap_or(Timestamp::MAX);
    let newest = zone.to_datetime(bound).year();
    (0..YEARS_TRIED).find_map(|back| {
        let date = Date::new(newest.checked_sub(back)?, month, day).ok()?;
        let at = zone.to_timestamp(date.to_datetime(time)).ok()?;
        (at <= bound).then_some((at, cursor.rest))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn missing() -> Missing {
        Missing { zone: TimeZone::UTC, latest: "2026-12-01T00:00:00Z".parse().unwrap(), day: None }
    }

    #[test]
    fn the_usual_forms_of_time_are_read() {
        for line in [
            "2026-11-30T14:00:00Z x",
            "2026-11-30t15:00:00+01:00 x",
            "2026-11-30T15:00:00+0100 x",
            "2026-11-30T15:00:00+01 x",
            "2026-11-30T14:00:00 x",
            "2026-11-30 14:00:00,000 x",
            "[2026-11-30 14:00:00.000] x",
            "2026-11-30 14:00:00 +0000 UTC x",
            "2026-11-30 14:00:00 UTC x",
            "2026-11-30 15:00:00 CET x",
            "2026-11-30 09:00:00 EST x",
            "2026/11/30 14:00:00 x",
            "2026.11.30 14:00:00.000000 x",
            "2026-11-30_14:00:00 x",
            "20261130 14:00:00 x",
            "20261130T140000Z x",
            "[30/Nov/2026:14:00:00 +0000] x",
            "30 Nov 2026 14:00:00.000 x",
            "30-Nov-2026 14:00:00.000 x",
            "30-Nov-2026::14:00:00 x",
            "[30-Nov-2026 15:00:00 Europe/Berlin] x",
            "Nov 30 14:00:00 x",
            "Nov 30 2026 14:00:00 x",
            "Nov 30, 2026 2:00:00 PM x",
            "Mon Nov 30 14:00:00 2026 x",
            "[Mon Nov 30 14:00:00.000000 2026] x",
            "Mon Nov 30 15:00:00 CET 2026 x",
            "Mon, 30 Nov 2026 14:00:00 GMT x",
            "11-30 14:00:00.000 x",
            "11/30/2026 2:00:00 PM x",
            "30.11.2026 14:00:00 x",
            "1796047200.000 x",
            "1796047200000 x",
            "[2026-11-30T14:00:00,000][x",
            "26/11/30 14:00:00 x",
            "11/30/26 14:00:00 x",
            "30/11/26 14:00:00 x",
            "30.11.26 14:00:00 x",
            "261130 14:00:00 x",
            "1796047200: x",
            "[1796047200] x",
        ] {
            let (at, rest) = of_line(line, &missing()).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(at.to_string(), "2026-11-30T14:00:00Z", "{line}");
            assert_eq!(rest.trim_start_matches(['[', ':', ' ']), "x", "{line}");
        }
        for line in [
            "   at com.example.Main(Main.java:7)",
            "2026 orders",
            "12:00 lunch",
            "2026-13-30 14:00:00 x",
            "1796047200 orders were taken",
            "01/02/2026 14:00:00 one cannot tell",
            "03/04/26 14:00:00 nor here",
            "14:00:00 of an unknown day",
            "1234567890: long ago",
            "123456 items were taken",
            "Nov rain",
            "",
        ] {
            assert!(of_line(line, &missing()).is_none(), "{line}");
        }
    }

    #[test]
    fn a_time_in_the_middle_is_taken_out() {
        for (line, said) in [
            (
                "10.1.2.3 - - [30/Nov/2026:14:00:00 +0000] \"GET / HTTP/1.1\" 502",
                "10.1.2.3 - - \"GET / HTTP/1.1\" 502",
            ),
            ("INFO  [2026-11-30 14:00:00,000] o.e.Server: started", "INFO o.e.Server: started"),
            ("ERROR 2026-11-30 14:00:00,000 pool exhausted", "ERROR pool exhausted"),
            ("https 2026-11-30T14:00:00.000Z app/x 502", "https app/x 502"),
        ] {
            let (at, rest) = of_line(line, &missing()).unwrap();
            assert_eq!((at.to_string().as_str(), &*rest), ("2026-11-30T14:00:00Z", said), "{line}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_not_in_the_future() {
        for (line, latest, at) in [
            ("Dec 31 23:59:59 x", "2027-01-01T00:10:00Z", "2026-12-31T23:59:59Z"),
            ("Jan  1 00:00:05 x", "2026-12-31T23:59:59Z", "2027-01-01T00:00:05Z"),
            ("Nov 30 14:00:00 x", "2026-11-29T12:00:00Z", "2025-11-30T14:00:00Z"),
            ("Feb 29 12:00:00 x", "2026-11-29T12:00:00Z", "2024-02-29T12:00:00Z"),
        ] {
            let missing = Missing { latest: latest.parse().unwrap(), ..missing() };
            assert_eq!(of_line(line, &missing).unwrap().0.to_string(), at, "{line}");
        }
        let berlin = Missing { zone: TimeZone::get("Europe/Berlin").unwrap(), ..missing() };
        assert_eq!(of_line("Nov 30 15:00:00 x", &berlin).unwrap().0.to_string(), "2026-11-30T14:00:00Z");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_line_is_looked_at(line in "[0-9:/TZ,. \\[\\]+-]{0,40}|\\PC{0,80}|[A-Z][a-z]{2} [0-9]{1,2} [0-9:,. A-Z]{0,20}") {
            if let Some((_, rest)) = of_line(&line, &missing()) {
                prop_assert!(rest.len() <= line.len());
            }
        }
    }
}
