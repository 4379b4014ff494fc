//! Requests that break off: what a service does equally often in every request when nothing is wrong, and no longer does.
//!
//! A line that is written twice for each of two trains and now once for each is not missing from any request, but it is less often there
//! than the line that it goes with. Counts of templates that are equal in every normal request are the simplest of the invariants of
//! Lou et al., "Mining Invariants from Console Logs for System Problem Detection", USENIX ATC 2010.

use std::collections::{BTreeMap, BTreeSet};

/// Requests of a kind that have to be known, so that equal counts are no accident.
const REQUESTS_MIN: usize = 5;

/// One request's visit of a service: how often it did what.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Done {
    pub(super) is_fault: bool,
    pub(super) counts: BTreeMap<usize, u32>,
}

/// An item that fell behind what it goes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Behind {
    pub(super) item: usize,
    /// One that it goes with and that came more often.
    pub(super) ahead: usize,
    /// Requests in which it fell behind.
    pub(super) broken: f64,
    /// Requests now that do any of what goes together.
    pub(super) requests: f64,
    /// In how many of them it would do so by chance, as Jeffreys' prior has it of what never happened in the normal requests.
    pub(super) expected: f64,
}

/// Of one kind of requests: every item that fell behind.
pub(super) fn behind(requests: &[Done]) -> Vec<Behind> {
    let normal: Vec<&Done> = requests.iter().filter(|done| !done.is_fault).collect();
    let now: Vec<&Done> = requests.iter().filter(|done| done.is_fault).collect();
    if normal.len() < REQUESTS_MIN || now.is_empty() {
        return Vec::new();
    }
    let count = |done: &Done, item: &usize| done.counts.get(item).copied().unwrap_or(0);
    let items: BTreeSet<usize> = normal.iter().flat_map(|done| done.counts.keys().copied()).collect();
    let mut together: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
    for item in items {
        let counts: Vec<u32> = normal.iter().map(|done| count(done, &item)).collect();
        if counts.iter().filter(|count| **count > 0).count() >= REQUESTS_MIN {
            together.entry(counts).or_default().push(item);
        }
    }
    let mut found = Vec::new();
    for (counts, items) in together {
        let known = counts.iter().filter(|count| **count > 0).count();
        let mut broken: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
        let mut asked = 0.0;
        for done in &now {
            let Some(ahead) = items.iter().copied().max_by_key(|item| (count(done, item), usize::MAX - item))
            else {
                continue;
            };
            let most = count(done, &ahead);
            if most == 0 {
                continue;
            }
            asked += 1.0;
            for item in items.iter().filter(|item| count(done, item) < most) {
                broken.entry(*item).or_insert((0.0, ahead)).0 += 1.0;
            }
        }
        let expected = asked * 0.5 / (known as f64 + 1.0);
        found.extend(broken.into_iter().map(|(item, (broken, ahead))| Behind {
            item,
            ahead,
            broken,
            requests: asked,
            expected,
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(is_fault: bool, counts: &[(usize, u32)]) -> Done {
        Done { is_fault, counts: counts.iter().copied().collect() }
    }

    #[test]
    fn half_as_often_as_what_it_goes_with_is_seen_though_no_request_lacks_it() {
        let mut requests: Vec<Done> = (0..8)
            .map(|request| done(false, &[(1, 2 + 4 * (request % 2)), (2, 2 + 4 * (request % 2)), (3, 1)]))
            .collect();
        requests.extend((0..6).map(|_| done(true, &[(1, 6), (2, 3), (3, 1)])));
        requests.push(done(true, &[(1, 2), (2, 2), (3, 1)]));
        let found = behind(&requests);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].item, found[0].ahead, found[0].broken, found[0].requests), (2, 1, 6.0, 7.0));
        assert!((found[0].expected - 7.0 * 0.5 / 9.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn a_request_that_does_none_of_it_and_one_that_does_more_of_all_say_nothing() {
        let mut requests: Vec<Done> = (0..8).map(|_| done(false, &[(1, 2), (2, 2)])).collect();
        requests.push(done(true, &[]));
        requests.push(done(true, &[(1, 9), (2, 9), (7, 1)]));
        assert_eq!(behind(&requests), []);
    }

    #[test]
    fn few_known_requests_and_counts_that_are_not_always_equal_say_nothing() {
        let few: Vec<Done> = (0..4).map(|_| done(false, &[(1, 2), (2, 2)])).collect();
        let now = done(true, &[(1, 2)]);
        assert_eq!(behind(&[few, vec![now.clone()]].concat()), []);
        let mut unequal: Vec<Done> = (0..9).map(|_| done(false, &[(1, 2), (2, 2)])).collect();
        unequal.push(done(false, &[(1, 2), (2, 1)]));
        unequal.push(now);
        assert_eq!(behind(&unequal), []);
    }
}
