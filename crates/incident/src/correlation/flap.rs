//! Flapping: an alert that changes between firing and resolved again and again.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alert::AlertKey;

/// Instants that are kept of one alert.
const KEPT_MAX: usize = 64;

/// When an alert counts as flapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlappingRule {
    /// With so many changes within the window it flaps; 0: never.
    pub transitions: usize,
    /// The sliding time in which changes are counted.
    pub window: SignedDuration,
    /// It no longer flaps so long after the last change.
    pub quiet: SignedDuration,
}

impl Default for FlappingRule {
    fn default() -> Self {
        Self { transitions: 6, window: SignedDuration::from_hours(1), quiet: SignedDuration::from_mins(15) }
    }
}

/// An alert flaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flapping {
    /// Which.
    pub key: AlertKey,
    /// How often it changed within the window.
    pub transitions: usize,
    /// Until then, if it does not change again.
    pub until: Timestamp,
}

/// When an alert changed. A set of instants as the source says them: a message that comes again, or late, counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transitions(Vec<Timestamp>);

impl Transitions {
    /// Notes a change.
    pub fn note(&mut self, at: Timestamp) {
        let place = self.0.partition_point(|known| *known < at);
        if self.0.get(place) == Some(&at) {
            return;
        }
        if self.0.is_empty() {
            // Most alerts change once or twice, and tens of thousands are remembered.
            self.0.reserve_exact(1);
        }
        self.0.insert(place, at);
        if self.0.len() > KEPT_MAX {
            self.0.remove(0);
        }
    }

    /// The last change.
    pub fn last(&self) -> Option<Timestamp> {
        self.0.last().copied()
    }

    /// Whether it flaps now.
    pub fn flapping(&self, key: &AlertKey, rule: &FlappingRule, now: Timestamp) -> Option<Flapping> {
        let until = self.last()?.saturating_add(rule.quiet).unwrap_or(Timestamp::MAX);
        if rule.transitions == 0 || until <= now {
            return None;
        }
        let since = now.saturating_sub(rule.window).unwrap_or(Timestamp::MIN);
        let transitions = self.0.iter().filter(|at| (since..=now).contains(at)).count();
        (transitions >= rule.transitions).then(|| Flapping { key: key.clone(), transitions, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Fingerprint;
    use crate::ids::SourceName;

    #[test]
    fn six_changes_in_an_hour_until_it_is_quiet() {
        let source = SourceName::declared("am").unwrap();
        let key = AlertKey { source, fingerprint: Fingerprint::given("1").unwrap() };
        let minute = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let rule = FlappingRule::default();
        let mut seen = Transitions::default();
        for at in [0, 5, 10, 15, 20, 20, 15] {
            seen.note(minute(at));
            assert_eq!(seen.flapping(&key, &rule, minute(20)), None, "five changes, two of them told twice");
        }
        seen.note(minute(25));
        let flapping = seen.flapping(&key, &rule, minute(25)).unwrap();
        assert_eq!((flapping.transitions, flapping.until), (6, minute(40)));
        assert!(seen.flapping(&key, &rule, minute(39)).is_some());
        assert_eq!(seen.flapping(&key, &rule, minute(40)), None, "quiet for long enough");
        seen.note(minute(61));
        assert_eq!(seen.flapping(&key, &rule, minute(61)).map(|now| now.transitions), Some(6), "0 slid out");
        assert_eq!(seen.flapping(&key, &FlappingRule { transitions: 0, ..rule }, minute(61)), None);
    }
}
