//! Reading a time sign by sign: numbers, names of months, halves of a day and zones.

use jiff::civil::Time;
use jiff::tz::{Offset, TimeZone};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The words for zones that are met in logs, in hours and minutes east of Greenwich. A word that means several zones has the one that
/// programs mean by it most: `IST` India, `CST` and `EST` those of America.
const ZONE_WORDS: [(&str, i32, i32); 36] = [
    ("UTC", 0, 0),
    ("GMT", 0, 0),
    ("WET", 0, 0),
    ("WEST", 1, 0),
    ("BST", 1, 0),
    ("CET", 1, 0),
    ("MET", 1, 0),
    ("CEST", 2, 0),
    ("MEST", 2, 0),
    ("EET", 2, 0),
    ("SAST", 2, 0),
    ("EEST", 3, 0),
    ("MSK", 3, 0),
    ("TRT", 3, 0),
    ("GST", 4, 0),
    ("PKT", 5, 0),
    ("IST", 5, 30),
    ("WIB", 7, 0),
    ("ICT", 7, 0),
    ("HKT", 8, 0),
    ("SGT", 8, 0),
    ("AWST", 8, 0),
    ("JST", 9, 0),
    ("KST", 9, 0),
    ("AEST", 10, 0),
    ("AEDT", 11, 0),
    ("NZST", 12, 0),
    ("NZDT", 13, 0),
    ("BRT", -3, 0),
    ("EDT", -4, 0),
    ("EST", -5, 0),
    ("CDT", -5, 0),
    ("CST", -6, 0),
    ("MDT", -6, 0),
    ("MST", -7, 0),
    ("PDT", -7, 0),
];

/// What is still to be read.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a str,
}

impl Cursor<'_> {
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    pub(super) fn peek_digit(&self) -> bool {
        self.rest.starts_with(|c: char| c.is_ascii_digit())
    }

    pub(super) fn any(&mut self, wanted: &[char]) -> Option<char> {
        let next = self.rest.chars().next().filter(|next| wanted.contains(next))?;
        self.skip(next.len_utf8());
        Some(next)
    }

    pub(super) fn is(&mut self, wanted: char) -> Option<char> {
        self.any(&[wanted])
    }

    /// Just so many digits; more may follow.
    pub(super) fn digits(&mut self, count: usize) -> Option<u32> {
        let number =
            self.rest.get(..count).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let number = number.parse().ok()?;
        self.skip(count);
        Some(number)
    }

    pub(super) fn digits_up_to(&mut self, count: usize) -> Option<u32> {
        let found = self.rest.bytes().take(count).take_while(u8::is_ascii_digit).count();
        (found > 0).then(|| self.digits(found)).flatten()
    }

    pub(super) fn weekday(&mut self) {
        let Some(word) = self.rest.get(..3) else { return };
        if !WEEKDAYS.iter().any(|day| day.eq_ignore_ascii_case(word)) {
            return;
        }
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        self.rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }

    pub(super) fn month(&mut self) -> Option<i8> {
        let word = self.rest.get(..3)?;
        let index = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(word))?;
        self.skip(3);
        // Written out it is as good.
        let longer = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        (longer <= 6).then(|| self.skip(longer))?;
        i8::try_from(index + 1).ok()
    }

    /// `14:00:00.123`, `14:00:00,123`, `2:00:00 PM`; compact `140000` where the date is compact as well.
    pub(super) fn time(&mut self, may_be_compact: bool) -> Option<Time> {
        let hour = self.digits_up_to(2)?;
        let colon = self.any(&[':']).is_some();
        (colon || may_be_compact).then_some(())?;
        let minute = self.digits(2)?;
        let second = match colon {
            true if self.is(':').is_some() => self.digits(2)?,
            true => 0,
            false => self.digits(2)?,
        };
        let nanosecond = self.fraction();
        let hour = self.half_of_day(hour)?;
        // A leap second is the last one of its minute.
        let part = |number: u32| i8::try_from(number).ok();
        Time::new(part(hour)?, part(minute)?, part(second.min(59))?, nanosecond).ok()
    }

    fn fraction(&mut self) -> i32 {
        let mut ahead = *self;
        if ahead.any(&['.', ',']).is_none() || !ahead.peek_digit() {
            return 0;
        }
        let length = ahead.rest.bytes().take_while(u8::is_ascii_digit).count();
        let digits = ahead.rest.get(..length.min(9)).unwrap_or_default();
        let number: i32 = digits.parse().unwrap_or(0);
        ahead.skip(length);
        *self = ahead;
        (digits.len()..9).fold(number, |number, _| number.saturating_mul(10))
    }

    fn half_of_day(&mut self, hour: u32) -> Option<u32> {
        let spaced = self.rest.strip_prefix([' ', '\u{202f}']).unwrap_or(self.rest);
        let half = spaced.get(..2).unwrap_or_default();
        let ends = spaced.get(2..).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()));
        let afternoon = match (half, ends) {
            ("AM" | "am", true) => false,
            ("PM" | "pm", true) => true,
            _ => return Some(hour),
        };
        self.rest = spaced.get(2..).unwrap_or_default();
        (1..=12).contains(&hour).then(|| hour % 12 + if afternoon { 12 } else { 0 })
    }

    /// `Z`, `+0100`, `+01:00`, `+01`, a word that is known, or the name of a zone such as `Europe/Berlin`.
    pub(super) fn zone(&mut self) -> Option<TimeZone> {
        let mut ahead = Cursor { rest: self.rest.strip_prefix(' ').unwrap_or(self.rest) };
        let spaced = ahead.rest.len() < self.rest.len();
        let zone = ahead.offset(spaced).or_else(|| ahead.zone_word())?;
        *self = ahead;
        // Go writes both: `+0000 UTC`.
        let mut both = Cursor { rest: self.rest.strip_prefix(' ').unwrap_or(self.rest) };
        if both.rest.len() < self.rest.len() && both.rest.starts_with("UTC") && both.zone_word().is_some() {
            *self = both;
        }
        Some(zone)
    }

    /// A number after a blank is an offset only with all of its digits: it may be anything.
    fn offset(&mut self, spaced: bool) -> Option<TimeZone> {
        let mut ahead = *self;
        let negative = ahead.any(&['+', '-'])? == '-';
        let hours = ahead.digits(2)?;
        let colon = ahead.is(':').is_some();
        let minutes = match ahead.digits(2) {
            Some(minutes) => minutes,
            None if !colon && !spaced => 0,
            None => return None,
        };
        (!ahead.peek_digit()).then_some(())?;
        let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
        let offset = Offset::from_seconds(if negative { -seconds } else { seconds }).ok()?;
        *self = ahead;
        Some(TimeZone::fixed(offset))
    }

    fn zone_word(&mut self) -> Option<TimeZone> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphabetic() || c == '/' || c == '_'))
            .unwrap_or(self.rest.len());
        let word = self.rest.get(..end)?;
        let zone = match word {
            "Z" | "z" => TimeZone::UTC,
            "PST" => TimeZone::fixed(Offset::from_hours(-8).ok()?),
            _ if word.contains('/') => TimeZone::get(word).ok()?,
            _ => {
                let (_, hours, minutes) = ZONE_WORDS.iter().find(|(known, _, _)| *known == word)?;
                TimeZone::fixed(Offset::from_seconds(hours * 3600 + minutes * 60).ok()?)
            }
        };
        self.skip(end);
        Some(zone)
    }
}
