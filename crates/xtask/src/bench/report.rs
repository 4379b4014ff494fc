//! Tables and numbers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The value that this share of all values does not exceed.
pub(super) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Percentiles for scripts.
pub(super) fn json(values: &[f64]) -> Value {
    json!({
        "p50": percentile(values, 0.5), "p95": percentile(values, 0.95), "p99": percentile(values, 0.99),
        "max": percentile(values, 1.0),
    })
}

/// Milliseconds.
pub(super) fn latencies(rows: &[(&str, &Vec<f64>)]) {
    println!("{:<28} {:>10} {:>10} {:>10} {:>10}", "milliseconds", "p50", "p95", "p99", "max");
    for (name, values) in rows {
        let at = |share| percentile(values, share);
        println!("{name:<28} {:>10.2} {:>10.2} {:>10.2} {:>10.2}", at(0.5), at(0.95), at(0.99), at(1.0));
    }
}

/// Start-up and memory.
pub(super) fn programs(
    starts: &BTreeMap<String, f64>,
    idle: &BTreeMap<String, Option<u64>>,
    busy: &BTreeMap<String, Option<u64>>,
) {
    println!("\n{:<28} {:>14} {:>14} {:>14}", "program", "start-up, ms", "MB before", "MB after");
    let megabytes = |of: &BTreeMap<String, Option<u64>>, name: &str| match of.get(name).copied().flatten() {
        Some(bytes) => format!("{:.1}", bytes as f64 / 1e6),
        None => "-".to_owned(),
    };
    for (name, milliseconds) in starts {
        println!(
            "{name:<28} {milliseconds:>14.1} {:>14} {:>14}",
            megabytes(idle, name),
            megabytes(busy, name)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.95, 0.99, 1.0].map(|share| percentile(&values, share)), [50.0, 95.0, 99.0, 100.0]);
        assert_eq!(percentile(&[7.0], 0.5), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
