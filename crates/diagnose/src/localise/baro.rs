//! A published baseline to be compared with: BARO's RobustScorer. Each metric is scaled by the median and the interquartile range of its
//! normal window, its score is the largest value in the fault window, and services are ranked by their best metric.

use std::collections::BTreeMap;

use super::Observed;
use crate::stats::{median, quantile};

/// The services, the likeliest first; of equal ones in the order of their names. Services without any metric are left out.
pub fn robust_scorer(observed: &Observed) -> Vec<usize> {
    let mut best: BTreeMap<usize, f64> = BTreeMap::new();
    for series in &observed.series {
        let Some(center) = median(&series.normal) else { continue };
        let range = quantile(&series.normal, 0.75).zip(quantile(&series.normal, 0.25));
        let range = range.map_or(0.0, |(high, low)| high - low);
        // A metric without any range is not scaled.
        let range = if range > 0.0 { range } else { 1.0 };
        let scores = series.fault.iter().map(|sample| ((sample.value - center) / range).abs());
        let score = scores.filter(|score| score.is_finite()).fold(0.0, f64::max);
        let known = best.entry(series.service).or_default();
        *known = known.max(score);
    }
    let name = |service: &usize| observed.services.get(*service);
    let mut ranked: Vec<(usize, f64)> = best.into_iter().collect();
    ranked.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| name(&one.0).cmp(&name(&other.0))));
    ranked.into_iter().map(|(service, _)| service).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Quantity, Sample, ServiceSeries};
    use super::*;

    #[test]
    fn the_service_whose_metric_moved_most_is_first() {
        let series = |service: usize, now: f64| ServiceSeries {
            service,
            metric: "cpu".to_owned(),
            quantity: Quantity::Cpu,
            normal: vec![1.0, 2.0, 3.0, 4.0, 5.0],
            before: Vec::new(),
            fault: vec![Sample { at: 0.0, value: now }],
        };
        let services = vec!["b".to_owned(), "a".to_owned(), "c".to_owned()];
        let observed = Observed {
            services,
            series: vec![series(0, 4.0), series(1, 4.0), series(2, 9.0)],
            ..Observed::default()
        };
        assert_eq!(robust_scorer(&observed), [2, 1, 0]);
    }
}
