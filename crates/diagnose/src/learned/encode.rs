//! Named numbers as rows of a matrix.

use std::collections::BTreeMap;

use super::Candidate;

/// Columns at the most; the most frequent ones.
pub(crate) const COLUMNS_MAX: usize = 2_000;
/// Rows in which a feature has to occur: what was seen once says nothing of the next incident.
const ROWS_MIN: usize = 3;
/// A feature's name at the most, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 500;
/// A number is not larger than this: sums of squares stay finite.
const VALUE_MAX: f64 = 1e9;

/// The features that a model knows, sorted by name.
pub(crate) fn columns<'a>(rows: impl Iterator<Item = &'a Candidate>) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, value) in rows.flat_map(|row| &row.features) {
        if *value != 0.0 && name.len() <= NAME_BYTES_MAX {
            *counts.entry(name).or_default() += 1;
        }
    }
    let mut names: Vec<(&str, usize)> = counts.into_iter().filter(|(_, count)| *count >= ROWS_MIN).collect();
    names.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    names.truncate(COLUMNS_MAX);
    let mut names: Vec<String> = names.into_iter().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names
}

/// One candidate's numbers in the order of the columns.
pub(crate) fn row(columns: &[String], candidate: &Candidate) -> Vec<f64> {
    let value = |name| candidate.features.get(name).copied().filter(|value| value.is_finite());
    columns.iter().map(|name| value(name).unwrap_or_default().clamp(-VALUE_MAX, VALUE_MAX)).collect()
}
