//! Statistics that a few wild values do not move.

/// Pairs of points compared for a slope; a longer series is thinned to this many points first.
const SLOPE_POINTS_MAX: usize = 60;

/// The median; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let middle = finite.len() / 2;
    if finite.is_empty() {
        return None;
    }
    let is_odd = finite.len() % 2 == 1;
    let (below, upper, _) = finite.select_nth_unstable_by(middle, f64::total_cmp);
    if is_odd {
        return Some(*upper);
    }
    let lower = below.iter().copied().max_by(f64::total_cmp)?;
    // Halved before the addition, which would otherwise overflow for the largest numbers.
    Some(lower / 2.0 + *upper / 2.0)
}

/// The value below which a share of the values lies; `None` of nothing.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let last = finite.len().checked_sub(1)?;
    let place = ((last as f64 * share).round() as usize).min(last);
    Some(*finite.select_nth_unstable_by(place, f64::total_cmp).1)
}

/// The scale of the noise around `center`: the median absolute deviation, scaled so that it estimates a standard deviation.
pub(crate) fn noise(values: &[f64], center: f64) -> f64 {
    let deviations: Vec<f64> = values.iter().map(|value| (value - center).abs()).collect();
    median(&deviations).unwrap_or(0.0) * 1.4826
}

/// The median of the slopes between pairs of points (Theil and Sen): the trend that outliers do not bend. 0 for fewer than two points.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let step = points.len().div_ceil(SLOPE_POINTS_MAX).max(1);
    let thinned: Vec<(f64, f64)> = points.iter().copied().rev().step_by(step).collect();
    let mut slopes = Vec::new();
    for (index, (at, value)) in thinned.iter().enumerate() {
        for (other_at, other_value) in thinned.iter().skip(index + 1) {
            let (over, rise) = (at - other_at, value - other_value);
            if over.abs() > f64::EPSILON && rise.is_finite() {
                slopes.push(rise / over);
            }
        }
    }
    median(&slopes).filter(|slope| slope.is_finite()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::MAX, f64::MAX]), Some(f64::MAX));
    }

    #[test]
    fn an_outlier_moves_neither_noise_nor_slope() {
        let values = [1.0, 2.0, 3.0, 4.0, 1e9];
        assert!(noise(&values, 3.0) < 2.0);
        let points: Vec<(f64, f64)> =
            (0..20).map(|i| (f64::from(i), if i == 7 { 1e9 } else { 2.0 * f64::from(i) })).collect();
        assert!((slope(&points) - 2.0).abs() < 1e-9);
        assert_eq!(slope(&points[..1]), 0.0);
    }
}
