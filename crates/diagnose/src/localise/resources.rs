//! What a service itself runs short of: CPU, memory, disk; and restarts.

use super::deviation::{Deviation, Floor, grade};
use super::{Finding, Quantity, Rule, ServiceSeries, Source, System, Thresholds};

/// CPU from which a service waits for it, in percent of what it may use.
const CPU_NEAR_LIMIT: f64 = 70.0;
/// A rise of CPU under this many points is not worth a word.
const CPU_RISE_MIN: f64 = 5.0;
/// Of the CPU that was left before: from which part on its use speaks for saturation, and from which on in full.
const CPU_LEFT_USED: (f64, f64) = (0.55, 0.75);
/// Memory and disk from which they are about to run out, in percent.
const SPACE_NEAR_LIMIT: f64 = 90.0;
/// A raw measure has to have grown so many times.
const GROWN_MIN: f64 = 2.0;
/// In units of noise: from where on a resource is unusual, and where it could not be more so.
const UNUSUAL: (f64, f64) = (5.0, 20.0);

pub(crate) fn find(system: &System<'_>, findings: &mut Vec<Finding>) {
    for service in system.services() {
        for (index, series, quantity) in system.measuring(service, |_| true) {
            let percent = system.percent(&series.metric);
            let found = match quantity {
                Quantity::CpuShare => cpu_share(series, percent, system.thresholds),
                Quantity::Cpu => raw(series, Rule::CpuAboveNormal, "CPU"),
                Quantity::MemoryShare => share(series, percent, Rule::MemoryNearLimit, "memory")
                    .or_else(|| raw(series, Rule::MemoryAboveNormal, "memory")),
                Quantity::Memory => raw(series, Rule::MemoryAboveNormal, "memory"),
                Quantity::DiskShare => share(series, percent, Rule::DiskNearlyFull, "the disk"),
                Quantity::Restarts => restarts(series),
                _ => None,
            };
            if let Some((rule, strength, statement, deviation)) = found {
                findings.push(Finding {
                    service,
                    rule,
                    strength,
                    amount: deviation.score.abs(),
                    statement,
                    sources: vec![Source::Series(index)],
                    onset: Some(deviation.onset),
                    discounts: Vec::new(),
                });
            }
        }
    }
}

type Found = (Rule, f64, String, Deviation);

fn cpu_share(series: &ServiceSeries, percent: f64, thresholds: &Thresholds) -> Option<Found> {
    let floor = Floor { relative: 0.1, absolute: 1.0 / percent };
    let deviation = Deviation::of(&series.normal, &series.before, &series.fault, floor)?;
    let (now, normal) = (deviation.now * percent, deviation.normal * percent);
    let told = format!("CPU is at {now:.0} % of what it may use, before at {normal:.0} %");
    // Of what was left before, how much is used up: a service that always runs hot has little, and one that never did has a lot.
    let used = (now - normal) / (100.0 - normal).max(1.0);
    if now >= CPU_NEAR_LIMIT && used > CPU_LEFT_USED.0 {
        let share = ((used - CPU_LEFT_USED.0) / (CPU_LEFT_USED.1 - CPU_LEFT_USED.0)).min(1.0);
        let strength = share * thresholds.cpu(deviation.score);
        return (strength > 0.0).then_some((Rule::CpuNearLimit, strength, told, deviation));
    }
    // The nearer the limit, the more there is to it.
    let nearness = (now / CPU_NEAR_LIMIT).clamp(0.0, 1.0);
    let strength = grade(deviation.score, UNUSUAL.0, UNUSUAL.1) * nearness.sqrt();
    (now - normal >= CPU_RISE_MIN && strength > 0.0).then_some((
        Rule::CpuAboveNormal,
        strength,
        told,
        deviation,
    ))
}

fn share(series: &ServiceSeries, percent: f64, rule: Rule, what: &str) -> Option<Found> {
    let floor = Floor { relative: 0.05, absolute: 1.0 / percent };
    let deviation = Deviation::of(&series.normal, &series.before, &series.fault, floor)?;
    let (now, normal) = (deviation.now * percent, deviation.normal * percent);
    let near = (SPACE_NEAR_LIMIT..=105.0).contains(&now) && deviation.score >= 2.0;
    let told = format!("{what} is at {now:.0} %, before at {normal:.0} %");
    near.then_some((rule, 1.0, told, deviation))
}

fn raw(series: &ServiceSeries, rule: Rule, what: &str) -> Option<Found> {
    let floor = Floor { relative: 0.1, absolute: 0.0 };
    let deviation = Deviation::of(&series.normal, &series.before, &series.fault, floor)?;
    let strength = grade(deviation.score, UNUSUAL.0, UNUSUAL.1);
    let grown = deviation.normal > 0.0 && deviation.now >= GROWN_MIN * deviation.normal;
    let times = deviation.now / deviation.normal;
    let told = format!("{what} ({}) is at {times:.1} times what it was", series.metric);
    (strength > 0.0 && grown).then_some((rule, strength, told, deviation))
}

fn restarts(series: &ServiceSeries) -> Option<Found> {
    let deviation =
        Deviation::of(&series.normal, &[], &series.fault, Floor { relative: 0.0, absolute: 0.2 })?;
    let told = "it was started again".to_owned();
    (deviation.now - deviation.normal >= 1.0).then_some((Rule::Restarted, 1.0, told, deviation))
}
