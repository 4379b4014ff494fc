//! How far a series is from its normal, in units of a noise that cannot be smaller than what a person would call noise.

use crate::stats::{median, quantile};

/// One sample: seconds and value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since the epoch.
    pub at: f64,
    /// The value; what is not finite is left out.
    pub value: f64,
}

/// Beyond this the number means nothing more.
const SCORE_MAX: f64 = 10_000.0;
/// What the normal reaches except in this part of it is usual: a normal window may hold some minutes of another fault.
pub(crate) const USUAL_SHARE: f64 = 0.9;
/// Values needed to know what is normal.
const NORMAL_MIN: usize = 4;

/// The least that counts as noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Floor {
    /// Of the normal level.
    pub(crate) relative: f64,
    /// In the series' unit.
    pub(crate) absolute: f64,
}

/// A series beside its normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Deviation {
    /// The median of the normal.
    pub(crate) normal: f64,
    /// The level that two neighbouring samples reach at least.
    pub(crate) now: f64,
    /// How many times the noise `now` lies above the normal; negative below it.
    pub(crate) score: f64,
    /// The first of those samples.
    pub(crate) onset: f64,
}

impl Deviation {
    /// `None` without enough normal values or without any other.
    ///
    /// The level now is what two neighbouring samples reach, since one wild value is no fault, in the direction that is further away. What
    /// the normal reaches in the same way is no deviation, and neither is what was there just `before`.
    pub(crate) fn of(normal: &[f64], before: &[f64], fault: &[Sample], floor: Floor) -> Option<Self> {
        let normal: Vec<f64> = normal.iter().copied().filter(|value| value.is_finite()).collect();
        let fault: Vec<Sample> = fault.iter().copied().filter(|sample| sample.value.is_finite()).collect();
        if normal.len() < NORMAL_MIN {
            return None;
        }
        let center = median(&normal)?;
        let scale = scale(&normal, center, floor)?;
        let scores: Vec<f64> = fault.iter().map(|sample| (sample.value - center) / scale).collect();
        let usual: Vec<f64> = normal.iter().map(|value| (value - center) / scale).collect();
        let (up, at_up) = held(&scores)?;
        let down = held(&scores.iter().map(|score| -score).collect::<Vec<_>>());
        let (down, at_down) = down?;
        let sign = if up >= down { 1.0 } else { -1.0 };
        let (reached, index) = if up >= down { (up, at_up) } else { (down, at_down) };
        let signed = |values: &[f64]| values.iter().map(|value| sign * value).collect::<Vec<_>>();
        let usual = held_all(&signed(&usual));
        let usual = quantile(&usual, USUAL_SHARE).unwrap_or(0.0).max(0.0);
        let drift: Vec<f64> =
            before.iter().filter(|value| value.is_finite()).map(|v| sign * (v - center) / scale).collect();
        let drift = drift.into_iter().reduce(f64::min).unwrap_or(0.0).max(0.0);
        // What is normal now and then counts for what it exceeds that by.
        let own = (reached - drift).max(0.0);
        let own = if reached > usual { own } else { own.min(1.0) };
        let onset = fault.get(index)?.at;
        Some(Self {
            normal: center,
            now: center + sign * reached * scale,
            score: sign * own.min(SCORE_MAX),
            onset,
        })
    }
}

/// The noise of the normal, at least the floor; `None` when there is no floor either.
fn scale(normal: &[f64], center: f64, floor: Floor) -> Option<f64> {
    let spread = quantile(normal, 0.75)? - quantile(normal, 0.25)?;
    let noise = crate::stats::noise(normal, center);
    let scale = noise
        .max(spread / 1.349)
        .max(floor.relative * center.abs())
        .max(floor.absolute)
        .max(f64::MIN_POSITIVE);
    scale.is_finite().then_some(scale)
}

/// The highest level that two neighbours reach, and the first of them; of a single value half of it.
fn held(scores: &[f64]) -> Option<(f64, usize)> {
    if let [only] = scores {
        return Some((only / 2.0, 0));
    }
    let all = held_all(scores);
    let best = all.iter().copied().reduce(f64::max)?;
    Some((best, all.iter().position(|level| *level == best)?))
}

fn held_all(scores: &[f64]) -> Vec<f64> {
    scores.iter().zip(scores.iter().skip(1)).map(|(one, next)| one.min(*next)).collect()
}

/// How strongly a score speaks: 0 up to `from`, 1 from `full` on, and in between by its logarithm, since twice as far away is not twice
/// as certain.
pub(crate) fn grade(score: f64, from: f64, full: f64) -> f64 {
    if score.is_nan() || score < from {
        return 0.0;
    }
    let share = ((score / from).ln() / (full / from).ln()).min(1.0);
    0.3 + 0.7 * share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Vec<Sample> {
        values.iter().enumerate().map(|(index, value)| Sample { at: index as f64, value: *value }).collect()
    }

    const FLOOR: Floor = Floor { relative: 0.1, absolute: 0.0 };

    #[test]
    fn a_level_has_to_be_held() {
        let normal = [10.0, 11.0, 9.0, 10.0, 10.5, 9.5];
        let once = Deviation::of(&normal, &[], &samples(&[10.0, 90.0, 10.0]), FLOOR).unwrap();
        assert!(once.score < 3.0, "{once:?}");
        let held = Deviation::of(&normal, &[], &samples(&[10.0, 90.0, 80.0]), FLOOR).unwrap();
        assert!(held.score > 20.0 && (held.now - 80.0).abs() < 1e-9 && held.onset == 1.0, "{held:?}");
        let fallen = Deviation::of(&normal, &[], &samples(&[10.0, 0.0, 1.0]), FLOOR).unwrap();
        assert!(fallen.score < -5.0, "{fallen:?}");
    }

    #[test]
    fn what_was_there_before_and_what_is_usual_is_no_deviation() {
        let normal = [10.0, 11.0, 9.0, 10.0, 10.5, 9.5];
        let drifted = Deviation::of(&normal, &[79.0, 82.0], &samples(&[80.0, 81.0]), FLOOR).unwrap();
        assert!(drifted.score < 3.0, "{drifted:?}");
        let bursts = [1.0, 1.0, 1.0, 50.0, 50.0, 50.0, 1.0, 1.0, 1.0, 1.0];
        let again = Deviation::of(&bursts, &[], &samples(&[1.0, 50.0, 50.0]), FLOOR).unwrap();
        assert!(again.score <= 1.0, "{again:?}");
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(Deviation::of(&[1.0, 1.0, 1.0], &[], &samples(&[9.0, 9.0]), FLOOR), None);
        assert_eq!(Deviation::of(&[1.0; 9], &[], &[], FLOOR), None);
        let wild = [f64::NAN, f64::INFINITY, 1.0, 1.0, 1.0, 1.0];
        let calm = Deviation::of(&wild, &[f64::NAN], &samples(&[f64::NAN, 1.0, 1.0]), FLOOR).unwrap();
        assert_eq!(calm.score, 0.0);
    }
}
