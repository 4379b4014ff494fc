//! From where on the engines speak: the few numbers that are not given by what something means.

use super::deviation::grade;

/// A symptom that is so many times as far away as the threshold could not be more so.
const FULL: f64 = 4.0;
/// A count that is as surprising as this could not be more so.
const SURPRISE_FULL: f64 = 60.0;

/// The engines' thresholds: one set for all systems.
///
/// [`Thresholds::default`] is what is shipped. Others are for measuring what a choice is worth on systems that it was not made on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// In units of noise: from where on a symptom is unusual.
    pub symptom: f64,
    /// The same for CPU near its limit: less of a deviation is needed, since the level speaks as well.
    pub cpu: f64,
    /// How surprising a count has to be, as twice the log-likelihood ratio: 10.8 is one chance in a thousand.
    pub surprise: f64,
    /// A callee that has this part of the caller's amount explains all of it: on the way up a part is waited for at the same time.
    pub explains: f64,
    /// The odds of "none of these": what a candidate has to hold against when it is the only one.
    pub none_odds: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { symptom: 4.0, cpu: 2.5, surprise: 10.8, explains: 0.6, none_odds: 1.0 }
    }
}

impl Thresholds {
    /// These and their neighbours: each threshold lower and higher by itself, by about what anyone would argue about.
    pub fn neighbours(&self) -> Vec<Self> {
        let steps = [0.7, 1.4];
        let each = |change: &dyn Fn(&mut Self, f64)| {
            steps.map(|step| {
                let mut moved = *self;
                change(&mut moved, step);
                moved
            })
        };
        [
            each(&|moved, step| moved.symptom *= step),
            each(&|moved, step| moved.cpu *= step),
            each(&|moved, step| moved.surprise *= step),
            each(&|moved, step| moved.explains = (moved.explains * step).min(1.0)),
            each(&|moved, step| moved.none_odds *= step),
        ]
        .concat()
    }

    /// How strongly a symptom speaks that is so many times its noise away.
    pub(crate) fn symptom(&self, score: f64) -> f64 {
        grade(score, self.symptom, FULL * self.symptom)
    }

    /// How strongly CPU near its limit speaks.
    pub(crate) fn cpu(&self, score: f64) -> f64 {
        grade(score, self.cpu, FULL * self.cpu)
    }

    /// How strongly a count speaks.
    pub(crate) fn surprise(&self, surprise: f64) -> f64 {
        grade(surprise, self.surprise, SURPRISE_FULL.max(self.surprise * FULL))
    }
}
