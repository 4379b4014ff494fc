//! Times without a day, `21:50:17.123 [main] ERROR`, as loggers write them to consoles. The day is known where something else says when the
//! last line was written: then the lines are followed back from there, and a day is over wherever the clock goes backwards.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::cursor::Cursor;
use super::level;

/// By how much lines of several threads may stand in each other's place.
const JITTER: SignedDuration = SignedDuration::from_mins(5);

/// When each line was written, of those that begin with the time of a day and nothing more; nothing was written after `last`.
pub(super) fn instants<'a>(
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    last: Timestamp,
    zone: &TimeZone,
) -> Vec<Option<Timestamp>> {
    let mut bound = last;
    let mut instants: Vec<Option<Timestamp>> = lines
        .rev()
        .map(|line| {
            let at = latest(clock_of(line)?, bound.checked_add(JITTER).ok()?, zone)?;
            bound = bound.min(at);
            Some(at)
        })
        .collect();
    instants.reverse();
    instants
}

/// The latest instant of that time of day that is not after the bound.
fn latest(time: Time, bound: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let today = zone.to_datetime(bound).date();
    [Some(today), today.yesterday().ok()].into_iter().flatten().find_map(|date| {
        let at = zone.to_timestamp(date.to_datetime(time)).ok()?;
        (at <= bound).then_some(at)
    })
}

/// The instant of a time of day at the beginning of a text that is nearest to what is known, and what follows it.
pub(super) fn nearest<'a>(
    cursor: Cursor<'a>,
    near: Timestamp,
    zone: &TimeZone,
) -> Option<(Timestamp, &'a str)> {
    let (time, rest) = leading(cursor)?;
    let bound = near.checked_add(SignedDuration::from_hours(12)).ok()?;
    Some((latest(time, bound, zone)?, rest))
}

/// The time of day that a line begins with, before or after its level.
fn clock_of(line: &[u8]) -> Option<Time> {
    let head = line.get(..line.len().min(80))?;
    let head = match std::str::from_utf8(head) {
        Ok(head) => head,
        Err(error) => std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?,
    };
    let opened = head.trim_start_matches(['[', '(', '<', '"', ' ', '\u{feff}']);
    let clock = |text: &str| leading(Cursor { rest: text }).map(|(time, _)| time);
    clock(opened).or_else(|| {
        let (word, rest) = opened.split_once([' ', '\t'])?;
        let rest = rest.trim_start().trim_start_matches(['[', '(']);
        level::of_word(word.trim_end_matches([']', ':'])).and_then(|_| clock(rest))
    })
}

/// A time of day at the beginning of a text: with seconds, or as half of a day without a blank, as in `9:50PM ERR`.
fn leading(mut cursor: Cursor<'_>) -> Option<(Time, &str)> {
    let before = cursor.rest;
    let time = cursor.time(false)?;
    let read = before.get(..before.len() - cursor.rest.len())?;
    let is_half = read.ends_with(['M', 'm']) && !read.contains(' ');
    let is_whole = read.matches(':').count() == 2 && read.bytes().take_while(u8::is_ascii_digit).count() == 2;
    let goes_on = cursor.rest.starts_with(|next: char| next.is_alphanumeric() || "_-:/".contains(next));
    ((is_half || is_whole) && !goes_on).then_some((time, cursor.rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], last: &str) -> Vec<Option<String>> {
        let read = instants(lines.iter().map(|line| line.as_bytes()), last.parse().unwrap(), &TimeZone::UTC);
        read.into_iter().map(|at| at.map(|at| at.to_string())).collect()
    }

    #[test]
    fn the_day_is_found_from_the_end() {
        for line in [
            "21:50:17 [main] ERROR c.e.Pool - x",
            "[21:50:17 ERR] x",
            "[21:50:17] ERROR (42): x",
            "9:50PM ERR x",
            "ERROR 21:50:17 x",
        ] {
            let at = read(&[line], "2026-11-30T21:50:40Z");
            let wanted = if line.starts_with('9') { "2026-11-30T21:50:00Z" } else { "2026-11-30T21:50:17Z" };
            assert_eq!(at[0].as_deref(), Some(wanted), "{line}");
        }
        for line in
            ["12:00 lunch", "1:2:3 x", "21:50:17-1 x", "25:00:00 x", "at 21:50:17 it began", "", "   at x"]
        {
            assert_eq!(read(&[line], "2026-11-30T21:50:17Z"), [None], "{line}");
        }
    }

    #[test]
    fn a_day_is_over_where_the_clock_goes_backwards() {
        let lines =
            ["22:00:00 a", "\tat x", "23:59:58 b", "23:59:57 c", "00:10:00 d", "09:00:00 e", "08:00:00 f"];
        let at = read(&lines, "2026-11-30T09:00:00Z");
        let said: Vec<&str> = at.iter().map(|at| at.as_deref().unwrap_or("")).collect();
        assert_eq!(
            said,
            [
                "2026-11-28T22:00:00Z",
                "",
                "2026-11-28T23:59:58Z",
                "2026-11-28T23:59:57Z",
                "2026-11-29T00:10:00Z",
                "2026-11-29T09:00:00Z",
                "2026-11-30T08:00:00Z",
            ]
        );
    }
}
