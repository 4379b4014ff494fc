//! Maintenance windows and freezes: from the configuration to what is open now.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use quell_incident::Incident;
use quell_incident::alert::{Alert, Labels};
use quell_incident::gate::{OpenWindow, WindowKind};
use quell_service::config;
use regex::Regex;

/// Windows of each kind at the most.
const WINDOWS_MAX: usize = 1_000;
/// The longest that one which comes again may last.
const LASTS_DAYS_MAX: i64 = 7;
/// A compiled expression in bytes at the most.
const EXPRESSION_BYTES_MAX: usize = 1 << 20;

/// All that are configured.
#[derive(Debug, Default)]
pub(crate) struct Windows(Vec<Window>);

#[derive(Debug)]
struct Window {
    kind: WindowKind,
    name: String,
    matchers: Vec<(String, Matcher)>,
    when: When,
}

#[derive(Debug)]
enum Matcher {
    Is(String),
    Fits(Regex),
}

#[derive(Debug)]
enum When {
    Once { from: Timestamp, until: Timestamp },
    Again { weekdays: Vec<Weekday>, time: Time, lasts: SignedDuration, zone: TimeZone },
}

impl Windows {
    /// What a configuration means.
    ///
    /// # Errors
    /// A sentence that names the setting and what is wrong with it.
    pub(crate) fn of(maintenance: &[config::Window], freezes: &[config::Window]) -> Result<Self, String> {
        let mut windows = Vec::new();
        for (setting, configured) in [("maintenance", maintenance), ("freezes", freezes)] {
            if configured.len() > WINDOWS_MAX {
                return Err(format!("`coordinator.{setting}` has more than {WINDOWS_MAX} entries"));
            }
            for (index, window) in configured.iter().enumerate() {
                let wrong =
                    |why: String| format!("`coordinator.{setting}[{index}]` ({}): {why}", window.name);
                let kind = match setting {
                    "freezes" => WindowKind::Freeze { allow_p0: window.allow_p0 },
                    _ if window.allow_p0 => return Err(wrong("`allow_p0` is for freezes".to_owned())),
                    _ => WindowKind::Maintenance,
                };
                windows.push(read(kind, window).map_err(wrong)?);
            }
        }
        Ok(Self(windows))
    }

    /// Those that are open now and concern an alert of the incident.
    pub(crate) fn open(&self, incident: &Incident, now: Timestamp) -> Vec<OpenWindow> {
        let concerns = |window: &Window| {
            window.matchers.is_empty() || incident.alerts.values().any(|state| window.concerns(&state.alert))
        };
        let open = self.0.iter().filter_map(|window| {
            let until = window.when.open_until(now)?;
            concerns(window).then(|| OpenWindow { kind: window.kind, name: window.name.clone(), until })
        });
        open.collect()
    }
}

impl Window {
    fn concerns(&self, alert: &Alert) -> bool {
        self.matchers.iter().all(|(name, matcher)| matches(&alert.labels, name, matcher))
    }
}

/// The regular expression is compared with the value as people see it; what it selects is a window, and nothing else.
fn matches(labels: &Labels, name: &str, matcher: &Matcher) -> bool {
    match (labels.get(name), matcher) {
        (Some(value), Matcher::Is(wanted)) => value.is(wanted),
        (Some(value), Matcher::Fits(expression)) => expression.is_match(&value.for_people()),
        (None, Matcher::Is(wanted)) => wanted.is_empty(),
        (None, Matcher::Fits(expression)) => expression.is_match(""),
    }
}

fn read(kind: WindowKind, window: &config::Window) -> Result<Window, String> {
    let mut matchers = Vec::new();
    for (name, wanted) in &window.matchers {
        let expression = wanted.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let matcher = match expression {
            Some(expression) => {
                let built = regex::RegexBuilder::new(&format!("^(?:{expression})$"))
                    .size_limit(EXPRESSION_BYTES_MAX)
                    .build();
                Matcher::Fits(built.map_err(|error| format!("`{wanted}` of `{name}`: {error}"))?)
            }
            None => Matcher::Is(wanted.clone()),
        };
        matchers.push((name.clone(), matcher));
    }
    let when = match (&window.starts_at, &window.ends_at, &window.schedule) {
        (Some(from), Some(until), None) => {
            let instant = |text: &str| -> Result<Timestamp, String> {
                let wrong = |_| format!("`{text}` is no time such as 2026-01-31T22:00:00Z");
                text.parse().map_err(wrong)
            };
            let (from, until) = (instant(from)?, instant(until)?);
            if from >= until {
                return Err("it ends before it begins".to_owned());
            }
            When::Once { from, until }
        }
        (None, None, Some(schedule)) => again(schedule)?,
        _ => return Err("it needs `starts_at` and `ends_at`, or a `schedule`".to_owned()),
    };
    Ok(Window { kind, name: window.name.clone(), matchers, when })
}

fn again(schedule: &config::Schedule) -> Result<When, String> {
    let lasts = schedule.duration.signed();
    if !lasts.is_positive() || lasts > SignedDuration::from_hours(24 * LASTS_DAYS_MAX) {
        return Err(format!(
            "`duration` {} is out of range; it takes up to {LASTS_DAYS_MAX} days",
            schedule.duration
        ));
    }
    let time = Time::strptime("%H:%M", &schedule.time)
        .map_err(|_| format!("`{}` is no time of day such as 22:00", schedule.time))?;
    let zone = TimeZone::get(&schedule.zone)
        .map_err(|_| format!("`{}` is no zone such as Europe/Berlin", schedule.zone))?;
    let weekdays = schedule.weekdays.iter().map(|day| match day {
        config::Weekday::Monday => Weekday::Monday,
        config::Weekday::Tuesday => Weekday::Tuesday,
        config::Weekday::Wednesday => Weekday::Wednesday,
        config::Weekday::Thursday => Weekday::Thursday,
        config::Weekday::Friday => Weekday::Friday,
        config::Weekday::Saturday => Weekday::Saturday,
        config::Weekday::Sunday => Weekday::Sunday,
    });
    Ok(When::Again { weekdays: weekdays.collect(), time, lasts, zone })
}

impl When {
    /// When it ends, if it is open. One that comes again begins by the clock of its zone and lasts as long as it says, also over a
    /// change of that clock; an hour that is left out begins it when the clock goes on, one that comes twice at its first coming.
    fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let (weekdays, time, lasts, zone) = match self {
            Self::Once { from, until } => return (*from <= now && now < *until).then_some(*until),
            Self::Again { weekdays, time, lasts, zone } => (weekdays, time, lasts, zone),
        };
        let today = zone.to_datetime(now).date();
        let began = (0..=LASTS_DAYS_MAX + 1).filter_map(|days| {
            let day = today.checked_sub(Span::new().days(days)).ok()?;
            if !weekdays.is_empty() && !weekdays.contains(&day.weekday()) {
                return None;
            }
            zone.to_timestamp(day.to_datetime(*time)).ok()
        });
        let ends = began.filter(|from| *from <= now).filter_map(|from| from.checked_add(*lasts).ok());
        ends.filter(|until| now < *until).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(yaml: &str) -> Result<Windows, String> {
        let configured: Vec<config::Window> =
            serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        Windows::of(&configured, &[])
    }

    fn open(windows: &Windows, at: &str) -> Option<String> {
        let until = windows.0[0].when.open_until(at.parse().unwrap());
        until.map(|until| until.to_string())
    }

    #[test]
    fn a_window_begins_by_the_clock_of_its_zone_also_when_that_changes() {
        let weekly =
            "- {name: w, schedule: {weekdays: [saturday], time: '22:00', duration: 6h, zone: Europe/Berlin}}";
        let weekly = windows(weekly).unwrap();
        // Winter, the night in which the clock goes forward, summer, the night in which it goes back.
        for (inside, until, before, after) in [
            ("2026-01-31T21:00:00Z", "2026-02-01T03:00:00Z", "2026-01-31T20:59:59Z", "2026-02-01T03:00:00Z"),
            ("2026-03-29T02:59:00Z", "2026-03-29T03:00:00Z", "2026-03-28T20:59:59Z", "2026-03-29T03:00:00Z"),
            ("2026-07-04T20:00:00Z", "2026-07-05T02:00:00Z", "2026-07-04T19:59:59Z", "2026-07-05T02:00:00Z"),
            ("2026-10-25T01:59:00Z", "2026-10-25T02:00:00Z", "2026-10-24T19:59:59Z", "2026-10-25T02:00:00Z"),
        ] {
            assert_eq!(open(&weekly, inside).as_deref(), Some(until), "{inside}");
            assert_eq!(open(&weekly, before), None, "{before}");
            assert_eq!(open(&weekly, after), None, "{after}");
        }
        assert_eq!(open(&weekly, "2026-01-30T21:30:00Z"), None, "a Friday");
    }

    #[test]
    fn an_hour_that_is_left_out_or_comes_twice() {
        let nightly = "- {name: w, schedule: {time: '02:30', duration: 30m, zone: Europe/Berlin}}";
        let nightly = windows(nightly).unwrap();
        // There is no 02:30 on 29 March: the clock goes from 02:00 to 03:00, at 01:00 UTC.
        assert_eq!(open(&nightly, "2026-03-29T01:45:00Z").as_deref(), Some("2026-03-29T02:00:00Z"));
        assert_eq!(open(&nightly, "2026-03-29T01:15:00Z"), None);
        // 02:30 comes twice on 25 October.
        assert_eq!(open(&nightly, "2026-10-25T00:45:00Z").as_deref(), Some("2026-10-25T01:00:00Z"));
        assert_eq!(open(&nightly, "2026-10-25T01:45:00Z"), None);
    }

    #[test]
    fn once_and_the_longest() {
        let once = windows("- {name: w, starts_at: '2026-01-01T00:00:00Z', ends_at: '2026-01-02T00:00:00Z'}");
        let once = once.unwrap();
        assert_eq!(open(&once, "2026-01-01T00:00:00Z").as_deref(), Some("2026-01-02T00:00:00Z"));
        assert_eq!(open(&once, "2026-01-02T00:00:00Z"), None);
        let week = "- {name: w, schedule: {weekdays: [monday], time: '00:00', duration: 168h, zone: UTC}}";
        assert_eq!(
            open(&windows(week).unwrap(), "2026-01-04T23:59:59Z").as_deref(),
            Some("2026-01-05T00:00:00Z")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, word) in [
            ("- {name: w}", "`starts_at` and `ends_at`, or a `schedule`"),
            ("- {name: w, starts_at: x, ends_at: y}", "`x` is no time"),
            (
                "- {name: w, starts_at: '2026-01-02T00:00:00Z', ends_at: '2026-01-01T00:00:00Z'}",
                "ends before",
            ),
            ("- {name: w, schedule: {time: '25:00', duration: 1h, zone: UTC}}", "`25:00`"),
            ("- {name: w, schedule: {time: '01:00', duration: 1h, zone: Mars/Base}}", "`Mars/Base`"),
            ("- {name: w, schedule: {time: '01:00', duration: 8d, zone: UTC}}", "up to 7 days"),
            ("- {name: w, matchers: {a: '/(/'}, starts_at: x, ends_at: y}", "of `a`"),
            ("- {name: w, allow_p0: true, starts_at: x, ends_at: y}", "`allow_p0` is for freezes"),
            ("- {name: w, begins: x}", "begins"),
        ] {
            let words = windows(yaml).unwrap_err();
            assert!(words.contains(word), "{yaml}: {words}");
        }
    }

    #[test]
    fn matchers_are_texts_or_expressions_over_the_whole_value() {
        let yaml = "- {name: w, matchers: {service: shop, instance: '/db-.*/'}, starts_at: '2026-01-01T00:00:00Z', ends_at: '2026-01-02T00:00:00Z'}";
        let windows = windows(yaml).unwrap();
        for (service, instance, concerns) in
            [("shop", "db-1", true), ("shop", "a-db-1", false), ("shops", "db-1", false), ("shop", "", false)]
        {
            let labels: Labels = [("service", service), ("instance", instance)].into_iter().collect();
            let all = windows.0[0].matchers.iter().all(|(name, matcher)| matches(&labels, name, matcher));
            assert_eq!(all, concerns, "{service} {instance}");
        }
    }
}
