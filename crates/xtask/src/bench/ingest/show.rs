//! The tables.

use serde_json::{Value, json};

use super::Measured;
use super::measure::median;
use crate::bench::report::percentile;

/// What stands above [`saturation`]'s rows.
pub(super) fn saturation_head(runs: u32, seconds: u64) {
    println!(
        "as fast as it takes them, medians of {runs} runs of {seconds} s, floor and coordinator in turn\n"
    );
    println!(
        "{:<14} {:<12} {:>10} {:>9} {:>9} {:>9} {:>14} {:>9} {:>10}",
        "alerts/webhook",
        "server",
        "alerts/s",
        "of floor",
        "p50, ms",
        "p99, ms",
        "CPU-ms/alert",
        "of floor",
        "behind, s"
    );
}

/// One shape of the load.
pub(super) fn saturation(batch: u64, floors: &[Measured], ours: &[Measured]) -> Value {
    let rate = |all: &[Measured]| median(all.iter().map(|one| one.alerts_per_second));
    let cost = |all: &[Measured]| median(all.iter().map(|one| one.processor_milliseconds_per_alert));
    let mut rows = Vec::new();
    let mut row = |name: &str, all: &[Measured]| {
        let at = |share| median(all.iter().map(|one| percentile(&one.milliseconds, share)));
        let behind = median(all.iter().map(|one| one.behind_seconds));
        println!(
            "{batch:<14} {name:<12} {:>10.0} {:>9.2} {:>9.2} {:>9.2} {:>14.4} {:>9.1} {behind:>10.2}",
            rate(all),
            rate(all) / rate(floors),
            at(0.5),
            at(0.99),
            cost(all),
            cost(all) / cost(floors)
        );
        rows.push(json!({
            "server": name, "alerts_per_second": rate(all), "of_floor": rate(all) / rate(floors), "p50": at(0.5),
            "p99": at(0.99), "processor_milliseconds_per_alert": cost(all), "behind_seconds": behind,
        }));
    };
    row("floor", floors);
    row("coordinator", ours);
    json!({"alerts_per_webhook": batch, "rows": rows})
}

/// The time to an answer at a rate that leaves room.
pub(super) fn steady(alerts_per_second: f64, all: &[Measured]) -> Value {
    let at = |share| median(all.iter().map(|one| percentile(&one.milliseconds, share)));
    println!("\nat {alerts_per_second} alerts/s, one by one: p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
    json!({"alerts_per_second": alerts_per_second, "p50": at(0.5), "p99": at(0.99)})
}
