//! A series in terms of another one of the same thing, such as a container's memory over that container's limit: each is compared with
//! its own, never the largest of one kind with the largest of another.

use crate::gathered::{Evidences, Gathered};
use crate::rules::{MetricSignal, Over};
use crate::series::{Level, Reading, STALE_SECONDS, SeriesKind, levels, seconds};

/// The reading of a series, in terms of what it is over where the signal says so, with its levels.
pub(crate) fn read(
    one: &Gathered,
    signal: &MetricSignal,
    evidences: &Evidences,
) -> Option<(Reading, Vec<Level>)> {
    let last = one.points.last()?.value;
    if signal.least.is_some_and(|least| last < least) {
        return None;
    }
    let own = levels(&one.points, signal.kind);
    let (levels, last, kind) = match &signal.over {
        None => (own, last, signal.kind),
        Some(over) => divided(&own, last, signal.kind, over, one, evidences)?,
    };
    let reading = Reading::of_levels(&levels, last, one.points.len(), kind, evidences.window)?;
    Some((reading, levels))
}

fn divided(
    own: &[Level],
    last: f64,
    kind: SeriesKind,
    over: &Over,
    one: &Gathered,
    evidences: &Evidences,
) -> Option<(Vec<Level>, f64, SeriesKind)> {
    let oldest = seconds(evidences.window.reference) - STALE_SECONDS;
    let fits = |other: &&Gathered| {
        other.metric == over.metric
            && over.labels.iter().all(|(name, value)| other.label(name) == Some(value.as_str()))
            && over.on.iter().all(|name| other.label(name) == one.label(name))
            && other.points.last().is_some_and(|point| seconds(point.at) >= oldest)
    };
    let other = evidences.series.iter().find(fits)?;
    let whole = levels(&other.points, over.kind);
    // What is over a rate is a share at each instant; what is over a level stays what it was, in units of that level.
    let divides = |value: f64| (value > 0.0).then_some(value);
    let held = |at: f64| {
        let next = whole.partition_point(|level| level.at <= at);
        let level = next.checked_sub(1).and_then(|index| whole.get(index)).or_else(|| whole.first())?;
        divides(level.value)
    };
    let shares: Vec<Level> = own
        .iter()
        .filter_map(|level| Some(Level { value: level.value / held(level.at)?, ..*level }))
        .collect();
    let newest = shares.last()?;
    match (kind, over.kind) {
        (SeriesKind::Counter, SeriesKind::Counter) => {
            let last = newest.value;
            Some((shares, last, SeriesKind::Gauge))
        }
        _ => {
            let last = last / divides(whole.last()?.value)?;
            Some((shares, last, kind))
        }
    }
}
