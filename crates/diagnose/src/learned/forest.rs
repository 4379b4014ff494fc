//! Extremely randomised trees: at each node some features are drawn, each with a threshold between its least and its greatest
//! value, and the split that separates the classes best is taken.
//!
//! Against a random forest on the same folds of the suites at hand the drawn thresholds named the right service first as often or
//! more and were better calibrated: few incidents make the best threshold of a feature a matter of chance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Trees of one forest.
pub(crate) const TREES: usize = 100;
/// Trees that a read model may have at the most.
pub(crate) const TREES_MAX: usize = 1_000;
/// Nodes of one tree at the most.
pub(crate) const NODES_MAX: usize = 8_192;
/// Splits from the root to a leaf at the most.
const DEPTH_MAX: usize = 16;
/// Rows of a node that is not split further.
const ROWS_MIN: usize = 4;
/// The share of the features that are drawn for a split: one of so many.
const FEATURES_DRAWN: usize = 5;
/// Classes at the most.
pub(crate) const CLASSES_MAX: usize = 100;

/// Some trees over the same columns and classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forest {
    pub(crate) trees: Vec<Vec<Node>>,
}

/// A node; the root is the first one, and the nodes below one come after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    /// The share of each class among the rows that came here.
    pub(crate) shares: Vec<f64>,
    /// None for a leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) split: Option<Split>,
}

/// Where a row goes from a node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Split {
    pub(crate) column: usize,
    /// A row whose value is at most this goes to `low`, any other to `high`.
    pub(crate) threshold: f64,
    pub(crate) low: usize,
    pub(crate) high: usize,
}

/// Numbers that look random and are the same for the same seed everywhere (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Rows to learn from, each with its class.
pub(crate) struct Rows<'a> {
    /// By column, then by row: a split looks at one column of many rows.
    columns: Vec<Vec<f64>>,
    classes: &'a [usize],
    class_count: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(rows: &[&Vec<f64>], classes: &'a [usize], class_count: usize) -> Self {
        let column_count = rows.first().map_or(0, |row| row.len());
        let column = |at| rows.iter().map(|row| row.get(at).copied().unwrap_or_default()).collect();
        Self { columns: (0..column_count).map(column).collect(), classes, class_count }
    }

    fn counts(&self, rows: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.class_count];
        for class in rows.iter().filter_map(|row| self.classes.get(*row)) {
            if let Some(count) = counts.get_mut(*class) {
                *count += 1;
            }
        }
        counts
    }
}

impl Forest {
    pub(crate) fn train(rows: &Rows<'_>, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        Self { trees: (0..TREES).map(|_| tree(rows, &mut draw)).collect() }
    }

    /// The mean share of each class, and how far each column moved that of `class`.
    pub(crate) fn predict(
        &self,
        row: &[f64],
        class_count: usize,
        class: usize,
    ) -> (Vec<f64>, BTreeMap<usize, f64>) {
        let mut shares = vec![0.0; class_count];
        let mut moved: BTreeMap<usize, f64> = BTreeMap::new();
        let part = 1.0 / self.trees.len().max(1) as f64;
        for tree in &self.trees {
            let mut node = tree.first();
            while let Some(here) = node {
                let Some(split) = here.split else {
                    shares.iter_mut().zip(&here.shares).for_each(|(sum, share)| *sum += share * part);
                    break;
                };
                let value = row.get(split.column).copied().unwrap_or_default();
                let next = tree.get(if value <= split.threshold { split.low } else { split.high });
                let share = |node: Option<&Node>| node?.shares.get(class).copied();
                let change = share(next).unwrap_or_default() - share(Some(here)).unwrap_or_default();
                *moved.entry(split.column).or_default() += change * part;
                node = next;
            }
        }
        (shares, moved)
    }
}

fn tree(rows: &Rows<'_>, draw: &mut Draw) -> Vec<Node> {
    let mut nodes: Vec<Node> = vec![Node { shares: Vec::new(), split: None }];
    let mut open: Vec<(usize, usize, Vec<usize>)> = vec![(0, 0, (0..rows.classes.len()).collect())];
    while let Some((index, depth, members)) = open.pop() {
        let counts = rows.counts(&members);
        let total = members.len().max(1) as f64;
        let shares: Vec<f64> = counts.iter().map(|count| *count as f64 / total).collect();
        let pure = counts.iter().filter(|count| **count > 0).count() < 2;
        let may_split =
            !pure && members.len() >= ROWS_MIN && depth < DEPTH_MAX && nodes.len() + 2 <= NODES_MAX;
        let split = if may_split { best_split(rows, &members, &counts, draw) } else { None };
        let split = split.map(|(column, threshold)| {
            let (low, high): (Vec<usize>, Vec<usize>) =
                members.iter().partition(|row| value(rows.columns.get(column), **row) <= threshold);
            let next = nodes.len();
            nodes.extend([const { Node { shares: Vec::new(), split: None } }; 2]);
            open.push((next, depth + 1, low));
            open.push((next + 1, depth + 1, high));
            Split { column, threshold, low: next, high: next + 1 }
        });
        if let Some(node) = nodes.get_mut(index) {
            *node = Node { shares, split };
        }
    }
    nodes
}

/// The drawn split after which the classes are separated best.
fn best_split(rows: &Rows<'_>, members: &[usize], counts: &[usize], draw: &mut Draw) -> Option<(usize, f64)> {
    let column_count = rows.columns.len();
    let wanted = column_count.div_ceil(FEATURES_DRAWN);
    let mut columns: Vec<usize> = (0..column_count).collect();
    let mut best: Option<(f64, usize, f64)> = None;
    let mut seen = 0;
    let mut left = column_count;
    // A column that is the same for all rows here counts as not drawn.
    while seen < wanted && left > 0 {
        let drawn = draw.below(left);
        left -= 1;
        columns.swap(drawn, left);
        let column = *columns.get(left)?;
        let values = rows.columns.get(column);
        let (least, greatest) = members
            .iter()
            .map(|row| value(values, *row))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| {
                (least.min(value), greatest.max(value))
            });
        if least >= greatest {
            continue;
        }
        seen += 1;
        let threshold = least + draw.share() * (greatest - least);
        let mut low = vec![0; counts.len()];
        let mut low_total = 0;
        for row in members {
            if value(values, *row) <= threshold {
                low_total += 1;
                if let Some(count) = rows.classes.get(*row).and_then(|class| low.get_mut(*class)) {
                    *count += 1;
                }
            }
        }
        let high_total = members.len() - low_total;
        if low_total == 0 || high_total == 0 {
            continue;
        }
        let high = counts.iter().zip(&low).map(|(all, low)| all - low);
        // The larger, the purer both sides are: what is left of Gini's impurity when the constants are gone.
        let purity = squares(low.iter().copied()) / low_total as f64 + squares(high) / high_total as f64;
        if best.is_none_or(|(most, ..)| purity > most) {
            best = Some((purity, column, threshold));
        }
    }
    best.map(|(_, column, threshold)| (column, threshold))
}

fn value(column: Option<&Vec<f64>>, row: usize) -> f64 {
    column.and_then(|column| column.get(row)).copied().unwrap_or_default()
}

fn squares(counts: impl Iterator<Item = usize>) -> f64 {
    counts.map(|count| (count * count) as f64).sum()
}
