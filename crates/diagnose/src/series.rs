//! Reading a series: its level, its rate, what it was before the fault, and when it began to differ.
//!
//! The instant at which an alert fires lies minutes behind the fault (range and `for` of its rule), so the start of the fault is
//! looked for in each series: the split that explains most of its variance, accepted when the medians of both sides are far apart
//! against the noise of the first. Only when there is none, the incident's own start divides before from after.

use jiff::Timestamp;
use quell_incident::evidence::{POINTS_MAX, Point};
use serde::{Deserialize, Serialize};

use crate::stats::{median, noise, quantile, slope};

/// How long before the incident's start a fault may have begun.
pub const ONSET_LEAD_SECONDS: f64 = 900.0;
/// A series whose last sample is older than this at the reference time says nothing about it.
pub const STALE_SECONDS: f64 = 300.0;
/// Medians further apart than this many times the noise are a change.
pub const CHANGE_SCORE_MIN: f64 = 5.0;
/// The largest score; beyond it the number means nothing more.
const SCORE_MAX: f64 = 10_000.0;
/// Points needed before a split, so that there is a normal to compare with.
const POINTS_BEFORE_MIN: usize = 3;
/// Points needed after a split, so that one wild value is not a change.
const POINTS_AFTER_MIN: usize = 2;

/// What the numbers of a series mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeriesKind {
    /// Goes up and down; read by its level.
    Gauge,
    /// Only grows, until it starts again from zero; read by its rate.
    Counter,
}

impl SeriesKind {
    /// What the name says by convention. `_count` is left out: `pg_stat_activity_count` is a gauge.
    pub fn of(metric: &str) -> Self {
        let counter = ["_total", "_sum", "_bucket"].iter().any(|suffix| metric.ends_with(suffix));
        if counter { Self::Counter } else { Self::Gauge }
    }
}

/// A value of the level of a series and how many seconds it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Level {
    pub(crate) at: f64,
    pub(crate) value: f64,
    pub(crate) span_seconds: f64,
}

/// The instants that a series is read against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When the incident began.
    pub started_at: Timestamp,
    /// The instant of the diagnosis; later samples are not looked at.
    pub reference: Timestamp,
}

/// What was read from a series. All numbers are finite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// Counter or gauge.
    pub kind: SeriesKind,
    /// The last sample as it was taken.
    pub last: f64,
    /// The median in the fault window: of the samples of a gauge, of the rates per second of a counter.
    pub level: f64,
    /// The same before the fault; `None` when there are no samples from before.
    pub before: Option<f64>,
    /// Of a counter: growth per second in the fault window, resets allowed for.
    pub rate: Option<f64>,
    /// The trend of the level in the fault window, per second.
    pub slope: f64,
    /// The largest level in the fault window.
    pub highest: f64,
    /// The smallest level in the fault window.
    pub lowest: f64,
    /// How many times the noise `level` lies from `before`; 0 without a before.
    pub score: f64,
    /// When the series began to differ, if it did.
    pub onset: Option<Timestamp>,
    /// Samples that were read.
    pub samples: usize,
}

impl Reading {
    /// Reads samples in the order of time; `None` without a sample that is fresh at the reference time, or for a counter of one
    /// sample, which has no rate.
    pub fn of(points: &[Point], kind: SeriesKind, window: Window) -> Option<Self> {
        let usable = usable(points, window.reference);
        let last = usable.last()?.value;
        Self::of_levels(&levels(&usable, kind), last, usable.len(), kind, window)
    }

    pub(crate) fn of_levels(
        levels: &[Level],
        last: f64,
        samples: usize,
        kind: SeriesKind,
        window: Window,
    ) -> Option<Self> {
        let newest = levels.last()?;
        if seconds(window.reference) - newest.at > STALE_SECONDS {
            return None;
        }
        let started = seconds(window.started_at);
        let onset = onset(levels, started - ONSET_LEAD_SECONDS);
        let split = onset.unwrap_or_else(|| split_at(levels, started));
        let (before, fault) = levels.split_at(split);
        let values = |part: &[Level]| part.iter().map(|level| level.value).collect::<Vec<_>>();
        let fault_values = values(fault);
        let level = median(&fault_values)?;
        let before_median = median(&values(before));
        let covered: f64 = fault.iter().map(|level| level.span_seconds).sum();
        let grown: f64 = fault.iter().map(|level| level.value * level.span_seconds).sum();
        let rate = if covered > 0.0 { grown / covered } else { level };
        let trend: Vec<(f64, f64)> = fault.iter().map(|level| (level.at, level.value)).collect();
        let reading = Self {
            kind,
            last,
            level,
            before: before_median,
            rate: (kind == SeriesKind::Counter).then_some(rate),
            slope: slope(&trend),
            highest: fault_values.iter().copied().fold(level, f64::max),
            lowest: fault_values.iter().copied().fold(level, f64::min),
            score: score(before, fault).unwrap_or(0.0),
            onset: onset.and_then(|index| levels.get(index)).and_then(|level| instant(level.at)),
            samples,
        };
        let finite = [reading.last, reading.level, rate, reading.highest, reading.lowest];
        finite.iter().all(|number| number.is_finite()).then_some(reading)
    }

    /// Whether the series changed.
    pub fn changed(&self) -> bool {
        self.onset.is_some() && self.score >= CHANGE_SCORE_MIN
    }
}

/// Finite samples up to the reference time, in order, one per instant.
pub(crate) fn usable(points: &[Point], reference: Timestamp) -> Vec<Point> {
    let mut kept: Vec<Point> =
        points.iter().copied().filter(|point| point.value.is_finite() && point.at <= reference).collect();
    kept.sort_by_key(|point| point.at);
    kept.dedup_by_key(|point| point.at);
    let surplus = kept.len().saturating_sub(POINTS_MAX);
    kept.drain(..surplus);
    kept
}

/// The levels of samples: themselves for a gauge, rates per second between neighbours for a counter.
pub(crate) fn levels(points: &[Point], kind: SeriesKind) -> Vec<Level> {
    let pairs = points.iter().zip(points.iter().skip(1));
    match kind {
        SeriesKind::Gauge => points
            .iter()
            .map(|point| Level { at: seconds(point.at), value: point.value, span_seconds: 0.0 })
            .collect(),
        SeriesKind::Counter => pairs
            .filter_map(|(earlier, later)| {
                let span_seconds = seconds(later.at) - seconds(earlier.at);
                // A counter that fell has started again from zero, so all that it shows has grown since.
                let grown =
                    if later.value < earlier.value { later.value } else { later.value - earlier.value };
                let value = grown / span_seconds;
                (span_seconds > 0.0 && value.is_finite()).then(|| Level {
                    at: seconds(later.at),
                    value,
                    span_seconds,
                })
            })
            .collect(),
    }
}

/// The sum of several series, each holding its last level until its next one.
pub(crate) fn sum(parts: &[Vec<Level>]) -> Vec<Level> {
    let mut events: Vec<(usize, Level)> = parts
        .iter()
        .enumerate()
        .flat_map(|(part, levels)| levels.iter().map(move |level| (part, *level)))
        .collect();
    events.sort_by(|one, other| one.1.at.total_cmp(&other.1.at).then(one.0.cmp(&other.0)));
    let mut current: Vec<Option<Level>> = vec![None; parts.len()];
    let mut summed: Vec<Level> = Vec::new();
    for (part, level) in events {
        if let Some(slot) = current.get_mut(part) {
            *slot = Some(level);
        }
        let alive = current.iter().flatten().filter(|held| level.at - held.at <= STALE_SECONDS);
        let total = Level { value: alive.map(|held| held.value).sum(), ..level };
        match summed.last_mut() {
            Some(last) if last.at == level.at => *last = total,
            _ => summed.push(total),
        }
    }
    summed
}

fn score(before: &[Level], fault: &[Level]) -> Option<f64> {
    let normal: Vec<f64> = before.iter().map(|level| level.value).collect();
    let now: Vec<f64> = fault.iter().map(|level| level.value).collect();
    let center = median(&normal)?;
    let distance = (median(&now)? - center).abs();
    let score = distance / scale(&normal, center);
    score.is_finite().then(|| score.min(SCORE_MAX))
}

/// Whether most of what is now lies beyond the noise of before, and would have been rare then: one wild value is no change, nor are
/// the blips of a series that is mostly still and so has no noise.
fn persists(before: &[Level], fault: &[Level]) -> Option<bool> {
    let normal: Vec<f64> = before.iter().map(|level| level.value).collect();
    let center = median(&normal)?;
    let reach = CHANGE_SCORE_MIN * scale(&normal, center);
    let high = quantile(&normal, 0.95)?.max(center + reach);
    let low = quantile(&normal, 0.05)?.min(center - reach);
    let above = fault.iter().filter(|level| level.value > high).count();
    let below = fault.iter().filter(|level| level.value < low).count();
    let most = above.max(below);
    Some(most >= POINTS_AFTER_MIN && 3 * most >= 2 * fault.len())
}

/// What counts as noise around `center`. A tenth of the level is the least: a constant series has none of its own.
fn scale(normal: &[f64], center: f64) -> f64 {
    noise(normal, center).max(0.1 * center.abs()).max(1e-9)
}

/// The index of the first level of the change, if there is one at or after `earliest`.
fn onset(levels: &[Level], earliest: f64) -> Option<usize> {
    let count = levels.len();
    if count < POINTS_BEFORE_MIN + POINTS_AFTER_MIN {
        return None;
    }
    let total: f64 = levels.iter().map(|level| level.value).sum();
    let (mut left, mut best) = (0.0, None::<(f64, usize)>);
    for (index, level) in levels.iter().enumerate() {
        let usable = index >= POINTS_BEFORE_MIN && count - index >= POINTS_AFTER_MIN && level.at >= earliest;
        if usable {
            let (ahead, behind) = (index as f64, (count - index) as f64);
            let apart = left / ahead - (total - left) / behind;
            let gain = ahead * behind * apart * apart;
            // The first of equal splits is kept, so that the answer does not depend on anything but the samples.
            if gain.is_finite() && best.is_none_or(|(most, _)| gain > most) {
                best = Some((gain, index));
            }
        }
        left += level.value;
    }
    let (_, split) = best?;
    let (before, fault) = levels.split_at_checked(split)?;
    let changed = score(before, fault)? >= CHANGE_SCORE_MIN && persists(before, fault)?;
    changed.then(|| first_beyond(levels, split, earliest))
}

/// Walks back from a split to where the level left its normal range: a ramp is split in its middle, but began at its foot.
fn first_beyond(levels: &[Level], split: usize, earliest: f64) -> usize {
    let normal: Vec<f64> = levels.iter().take(split.div_ceil(2)).map(|level| level.value).collect();
    let Some(center) = median(&normal) else { return split };
    let scale = scale(&normal, center);
    let after: Vec<f64> = levels.iter().skip(split).map(|level| level.value).collect();
    let upwards = median(&after).is_none_or(|now| now >= center);
    let beyond = |level: &Level| {
        let distance = if upwards { level.value - center } else { center - level.value };
        level.at >= earliest && distance >= CHANGE_SCORE_MIN * scale
    };
    let steps = levels.iter().take(split).rev().take_while(|level| beyond(level)).count();
    split.saturating_sub(steps).max(POINTS_BEFORE_MIN)
}

/// Where a series without a change of its own is divided: at the start of the incident, or so that the newest quarter is "now".
fn split_at(levels: &[Level], started: f64) -> usize {
    let split = levels.partition_point(|level| level.at < started);
    if levels.len() - split >= POINTS_AFTER_MIN {
        return split;
    }
    levels.len().saturating_sub((levels.len() / 4).max(POINTS_AFTER_MIN))
}

/// Seconds since the epoch.
pub(crate) fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn instant(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn points(values: &[f64]) -> Vec<Point> {
        values
            .iter()
            .enumerate()
            .map(|(index, value)| Point { at: at(5 * index as i64), value: *value })
            .collect()
    }

    fn window(started: i64, reference: i64) -> Window {
        Window { started_at: at(started), reference: at(reference) }
    }

    #[test]
    fn a_counter_that_starts_again_does_not_fall() {
        let reading =
            Reading::of(&points(&[100.0, 110.0, 120.0, 10.0, 20.0]), SeriesKind::Counter, window(0, 20))
                .unwrap();
        assert_eq!(reading.rate, Some(2.0));
        assert_eq!(reading.last, 20.0);
    }

    #[test]
    fn the_onset_is_found_before_the_alert() {
        let mut values = vec![1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.1, 1.0];
        values.extend([9.0, 11.0, 10.0, 10.5, 9.5]);
        // The alert came four samples after the fault.
        let reading = Reading::of(&points(&values), SeriesKind::Gauge, window(60, 60)).unwrap();
        assert_eq!(reading.onset, Some(at(40)));
        assert_eq!(reading.before, Some(1.0));
        assert_eq!(reading.level, 10.0);
        assert!(reading.changed());
    }

    #[test]
    fn a_ramp_began_at_its_foot() {
        let mut values: Vec<f64> = (0..20).map(|i| 200.0 + f64::from(i % 3)).collect();
        values.extend((0..20).map(|i| 500.0 + 50.0 * f64::from(i)));
        let reading = Reading::of(&points(&values), SeriesKind::Gauge, window(190, 195)).unwrap();
        assert_eq!(reading.onset, Some(at(100)));
        assert!((reading.slope - 10.0).abs() < 1e-6);
    }

    #[test]
    fn noise_and_one_wild_value_are_no_change() {
        let mut values: Vec<f64> = (0..30).map(|i| 10.0 + f64::from(i * 7 % 5)).collect();
        values.push(1000.0);
        let reading = Reading::of(&points(&values), SeriesKind::Gauge, window(100, 150)).unwrap();
        assert_eq!(reading.onset, None);
    }

    #[test]
    fn stale_late_and_wild_samples_say_nothing() {
        let old = points(&[1.0, 2.0]);
        assert_eq!(Reading::of(&old, SeriesKind::Gauge, window(0, 1000)), None);
        assert_eq!(Reading::of(&old[..1], SeriesKind::Counter, window(0, 10)), None);
        let wild = points(&[1.0, f64::NAN, f64::INFINITY, 2.0, 3.0]);
        let reading = Reading::of(&wild, SeriesKind::Gauge, window(0, 15)).unwrap();
        assert_eq!((reading.last, reading.samples), (2.0, 2));
    }

    #[test]
    fn a_sum_holds_the_last_level_of_each_part() {
        let one = levels(&points(&[1.0, 2.0]), SeriesKind::Gauge);
        let other = levels(&[Point { at: at(2), value: 10.0 }], SeriesKind::Gauge);
        let values: Vec<f64> = sum(&[one, other]).iter().map(|level| level.value).collect();
        assert_eq!(values, [1.0, 11.0, 12.0]);
    }
}
