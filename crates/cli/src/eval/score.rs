//! What predictions are worth: hits among the first, and whether the confidence means what it says.

use serde::{Deserialize, Serialize};

/// z of a 95 % interval.
const Z: f64 = 1.959_963_984_540_054;
/// Bins of the reliability table and of the expected calibration error.
const BINS: usize = 5;

/// A line of predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Prediction {
    pub(crate) case: String,
    #[serde(default)]
    pub(crate) suite: String,
    /// The services, the likeliest first.
    #[serde(default)]
    pub(crate) ranked: Vec<String>,
    /// Of the first one.
    #[serde(default)]
    pub(crate) confidence: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) n_candidates: Option<usize>,
    /// What a calibration looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) features: Option<Told>,
    /// Why the first one is first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) because: Vec<String>,
}

/// The engines' features as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) first: f64,
    pub(crate) second: f64,
    pub(crate) groups: usize,
}

/// A line of truth; what else it holds is not looked at.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) case: String,
    pub(crate) root_cause_service: String,
}

/// The place of what was really at fault, and how sure the answer was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// From 1; `None` when it is not on the list.
    pub(crate) place: Option<usize>,
    pub(crate) confidence: f64,
    /// How many services there are.
    pub(crate) services: Option<usize>,
}

impl Outcome {
    /// A missing answer is a wrong one without confidence. A name that stands twice on the list counts once.
    pub(crate) fn of(truth: &Truth, prediction: Option<&Prediction>) -> Self {
        let Some(prediction) = prediction else {
            return Self { place: None, confidence: 0.0, services: None };
        };
        let mut seen: Vec<&str> = Vec::new();
        for name in &prediction.ranked {
            if !seen.contains(&name.as_str()) {
                seen.push(name);
            }
        }
        let place = seen.iter().position(|name| *name == truth.root_cause_service).map(|place| place + 1);
        Self { place, confidence: prediction.confidence, services: prediction.n_candidates }
    }

    pub(crate) fn is_within(&self, count: usize) -> bool {
        self.place.is_some_and(|place| place <= count)
    }
}

/// A share with Wilson's interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Share {
    pub(crate) share: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) of: usize,
}

impl Share {
    /// `None` of nothing.
    pub(crate) fn of(hits: usize, of: usize) -> Option<Self> {
        if of == 0 {
            return None;
        }
        let (count, share) = (of as f64, hits as f64 / of as f64);
        let squared = Z * Z;
        let middle = (share + squared / (2.0 * count)) / (1.0 + squared / count);
        let reach = Z / (1.0 + squared / count)
            * (share * (1.0 - share) / count + squared / (4.0 * count * count)).sqrt();
        Some(Self { share, low: (middle - reach).max(0.0), high: (middle + reach).min(1.0), of })
    }
}

/// One bin of a reliability table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Bin {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) count: usize,
    /// The mean confidence.
    pub(crate) said: f64,
    pub(crate) right: Option<Share>,
}

/// What the answers of one suite are worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Score {
    pub(crate) cases: usize,
    pub(crate) ac1: Option<Share>,
    pub(crate) ac3: Option<Share>,
    pub(crate) ac5: Option<Share>,
    pub(crate) avg5: f64,
    pub(crate) mrr: f64,
    pub(crate) brier: f64,
    /// `None` when all answers are right, or all are wrong.
    pub(crate) auroc: Option<f64>,
    pub(crate) ece: f64,
    pub(crate) reliability: Vec<Bin>,
    /// The share of answers with a confidence under a half.
    pub(crate) abstained: Option<Share>,
    /// What guessing would hit at first.
    pub(crate) chance: f64,
}

/// A confidence from here on is an answer.
pub(crate) const CONFIDENT: f64 = 0.5;

impl Score {
    pub(crate) fn of(outcomes: &[Outcome]) -> Self {
        let count = outcomes.len();
        let mean = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
        let within = |places: usize| outcomes.iter().filter(|one| one.is_within(places)).count();
        let right = |one: &Outcome| if one.is_within(1) { 1.0 } else { 0.0 };
        let bins = bins(outcomes);
        let apart =
            |bin: &Bin| bin.right.map_or(0.0, |right| bin.count as f64 * (bin.said - right.share).abs());
        let abstained = outcomes.iter().filter(|one| one.confidence < CONFIDENT).count();
        Self {
            cases: count,
            ac1: Share::of(within(1), count),
            ac3: Share::of(within(3), count),
            ac5: Share::of(within(5), count),
            avg5: mean((1..=5).map(|places| within(places) as f64).sum::<f64>() / 5.0),
            mrr: mean(outcomes.iter().filter_map(|one| one.place).map(|place| 1.0 / place as f64).sum()),
            brier: mean(outcomes.iter().map(|one| (one.confidence - right(one)).powi(2)).sum()),
            auroc: auroc(outcomes),
            ece: mean(bins.iter().map(apart).sum()),
            reliability: bins,
            abstained: Share::of(abstained, count),
            chance: mean(
                outcomes.iter().filter_map(|one| one.services).map(|all| 1.0 / all.max(1) as f64).sum(),
            ),
        }
    }
}

fn bins(outcomes: &[Outcome]) -> Vec<Bin> {
    (0..BINS)
        .map(|bin| {
            let (from, to) = (bin as f64 / BINS as f64, (bin + 1) as f64 / BINS as f64);
            let inside = |one: &&Outcome| (one.confidence > from || bin == 0) && one.confidence <= to;
            let inside: Vec<&Outcome> = outcomes.iter().filter(inside).collect();
            let said = inside.iter().map(|one| one.confidence).sum::<f64>() / inside.len().max(1) as f64;
            let right = inside.iter().filter(|one| one.is_within(1)).count();
            Bin { from, to, count: inside.len(), said, right: Share::of(right, inside.len()) }
        })
        .collect()
}

/// How likely it is that a right answer is surer than a wrong one.
fn auroc(outcomes: &[Outcome]) -> Option<f64> {
    let (right, wrong): (Vec<&Outcome>, Vec<&Outcome>) = outcomes.iter().partition(|one| one.is_within(1));
    if right.is_empty() || wrong.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    for one in &right {
        for other in &wrong {
            sum += match one.confidence.total_cmp(&other.confidence) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    Some(sum / (right.len() * wrong.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(place: usize, confidence: f64) -> Outcome {
        let place = (place > 0).then_some(place);
        Outcome { place, confidence, services: Some(10) }
    }

    #[test]
    fn scores_are_what_they_are_defined_to_be() {
        let outcomes = [outcome(1, 0.9), outcome(1, 0.7), outcome(2, 0.6), outcome(0, 0.0)];
        let score = Score::of(&outcomes);
        assert_eq!(score.ac1.map(|share| share.share), Some(0.5));
        assert_eq!(score.ac3.map(|share| share.share), Some(0.75));
        assert!((score.mrr - 0.625).abs() < 1e-12);
        assert!((score.avg5 - (0.5 + 4.0 * 0.75) / 5.0).abs() < 1e-12);
        assert!((score.brier - (0.01 + 0.09 + 0.36) / 4.0).abs() < 1e-12);
        assert_eq!(score.auroc, Some(1.0));
        assert!((score.chance - 0.1).abs() < 1e-12);
        assert_eq!(score.abstained.map(|share| share.share), Some(0.25));
        let half = Share::of(5, 10).unwrap();
        assert!((half.low - 0.2366).abs() < 1e-4 && (half.high - 0.7634).abs() < 1e-4, "{half:?}");
        assert_eq!(Score::of(&[]).ac1, None);
    }

    #[test]
    fn a_list_gives_no_credit_for_repetition_and_a_missing_answer_is_wrong() {
        let truth = Truth { case: "a".to_owned(), root_cause_service: "cart".to_owned() };
        let text = r#"{"case": "a", "ranked": ["web", "web", "cart"], "confidence": 0.4}"#;
        let prediction: Prediction = serde_json::from_str(text).unwrap();
        assert_eq!(Outcome::of(&truth, Some(&prediction)).place, Some(2));
        assert_eq!(Outcome::of(&truth, None), Outcome { place: None, confidence: 0.0, services: None });
    }
}
