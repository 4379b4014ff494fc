//! How long a class of alerts that mostly heals by itself is worth waiting for.

use jiff::SignedDuration;

use crate::severity::Priority;

/// Ends of one class that are remembered.
pub const SETTLED_KEPT_MAX: usize = 30;
/// With fewer of them nothing is concluded.
const ENDS_MIN: usize = 5;

/// What is concluded from how incidents of a class ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleRule {
    /// Only what heals within this time counts, and nothing waits longer; zero: nothing is concluded.
    pub within_max: SignedDuration,
}

impl Default for SettleRule {
    fn default() -> Self {
        Self { within_max: SignedDuration::from_mins(2) }
    }
}

/// How long the next incident of a class settles, by how the last ones ended: `Some` with the time from opening to clearing of one
/// that healed by itself, `None` for any other end. `None` when the usual time is right: too few ends, a class that mostly does not
/// heal in time, or P0.
pub fn learned_settle(
    ends: &[Option<SignedDuration>],
    priority: Priority,
    rule: &SettleRule,
) -> Option<SignedDuration> {
    if priority == Priority::P0 || ends.len() < ENDS_MIN || !rule.within_max.is_positive() {
        return None;
    }
    let mut healed: Vec<_> = ends
        .iter()
        .flatten()
        .copied()
        .filter(|took| *took <= rule.within_max)
        .map(|took| took.max(SignedDuration::ZERO))
        .collect();
    if healed.len() * 2 <= ends.len() {
        return None;
    }
    healed.sort();
    // The nearest rank of the 80th percentile.
    healed.get((healed.len() * 4).div_ceil(5).saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_the_class_must_heal_in_time() {
        let rule = SettleRule::default();
        let seconds = |ends: &[i64]| -> Vec<_> {
            ends.iter().map(|end| (*end >= 0).then(|| SignedDuration::from_secs(*end))).collect()
        };
        for (ends, expected) in [
            (&[10, 20, 30, 40][..], None),
            (&[50, 10, 20, 30, 40][..], Some(40)),
            (&[10, 20, 30, 40, 50, 60, 70, 80, 90, 100][..], Some(80)),
            // One half is not most.
            (&[10, 20, 30, -1, -1, -1][..], None),
            (&[10, 20, 30, 40, -1, -1, -1][..], Some(40)),
            // What takes longer than the bound is no reason to wait.
            (&[10, 20, 600, 600, 600][..], None),
            (&[10, 20, 30, 120, 600][..], Some(120)),
        ] {
            let learned = learned_settle(&seconds(ends), Priority::P2, &rule);
            assert_eq!(learned.map(|span| span.as_secs()), expected, "{ends:?}");
            assert_eq!(learned_settle(&seconds(ends), Priority::P0, &rule), None, "P0 never waits");
        }
        let off = SettleRule { within_max: SignedDuration::ZERO };
        assert_eq!(learned_settle(&seconds(&[1, 1, 1, 1, 1]), Priority::P3, &off), None);
    }
}
