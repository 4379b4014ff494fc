//! Whether the model's answer counts.

use serde::{Deserialize, Serialize};

/// Resolved incidents, the last ones, over which the model has to be better.
pub const SWITCH_INCIDENTS: usize = 30;

/// What somebody said of one incident before its cause was known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The cause that was named; none for an abstention.
    pub cause: Option<String>,
    /// How sure that was, between 0 and 1.
    pub confidence: f64,
}

/// One resolved incident with both answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// What the rules said.
    pub rules: Answer,
    /// What the model said that was trained before this incident.
    pub model: Answer,
    /// What it was.
    pub cause: String,
}

/// Whether the model's answer counts, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Switch {
    /// Too few resolved incidents have both answers.
    TooFew {
        /// How many there are.
        incidents: usize,
    },
    /// The rules were at least as good.
    Off {
        /// The rules' error: Brier's score, 0 is perfect, 2 the worst.
        rules: f64,
        /// The model's error.
        model: f64,
    },
    /// The model was better.
    On {
        /// The rules' error.
        rules: f64,
        /// The model's error.
        model: f64,
    },
}

impl Switch {
    /// Whether the model's answer counts.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }

    /// One clause for people.
    pub fn told(&self) -> String {
        match self {
            Self::TooFew { incidents } => {
                format!("it does not count yet, since {incidents} of {SWITCH_INCIDENTS} incidents judge it")
            }
            Self::Off { rules, model } => {
                format!("it does not count, since its error {model:.3} is not under the rules' {rules:.3}")
            }
            Self::On { rules, model } => {
                format!("it counts, since its error {model:.3} is under the rules' {rules:.3}")
            }
        }
    }
}

/// Compares both over the last [`SWITCH_INCIDENTS`]; the incidents come in the order in which they were resolved.
///
/// Brier's score in its first form, over the named cause and the true one: an abstention costs 1, as much as naming the wrong cause
/// without any confidence does, so that nobody wins by saying nothing. Being sure and wrong costs 2.
pub fn switch(incidents: &[Judged]) -> Switch {
    let last = incidents.get(incidents.len().saturating_sub(SWITCH_INCIDENTS)..).unwrap_or_default();
    if last.len() < SWITCH_INCIDENTS {
        return Switch::TooFew { incidents: last.len() };
    }
    let mean = |answer: fn(&Judged) -> &Answer| {
        last.iter().map(|one| error(answer(one), &one.cause)).sum::<f64>() / last.len() as f64
    };
    let (rules, model) = (mean(|one| &one.rules), mean(|one| &one.model));
    if model < rules { Switch::On { rules, model } } else { Switch::Off { rules, model } }
}

fn error(answer: &Answer, truth: &str) -> f64 {
    match &answer.cause {
        None => 1.0,
        // What is no probability must not help whoever gave it.
        Some(_) if !(0.0..=1.0).contains(&answer.confidence) => 2.0,
        Some(cause) if cause == truth => (1.0 - answer.confidence).powi(2),
        Some(_) => 1.0 + answer.confidence.powi(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cause: &str, confidence: f64) -> Answer {
        Answer { cause: (!cause.is_empty()).then(|| cause.to_owned()), confidence }
    }

    fn judged(rules: Answer, model: Answer) -> Judged {
        Judged { rules, model, cause: "a".to_owned() }
    }

    #[test]
    fn the_model_counts_once_it_was_better_for_long_enough() {
        let better = judged(answer("b", 0.6), answer("a", 0.9));
        let mut incidents = vec![better.clone(); SWITCH_INCIDENTS - 1];
        assert_eq!(switch(&incidents), Switch::TooFew { incidents: 29 });
        incidents.push(better);
        assert!(switch(&incidents).is_on());
        // Only the last ones count.
        incidents.extend(vec![judged(answer("a", 0.9), answer("b", 0.9)); SWITCH_INCIDENTS]);
        assert!(matches!(switch(&incidents), Switch::Off { .. }));
    }

    #[test]
    fn as_good_is_not_better_and_silence_wins_nothing() {
        let switched =
            |rules: Answer, model: Answer| switch(&vec![judged(rules, model); SWITCH_INCIDENTS]).is_on();
        assert!(!switched(answer("a", 0.9), answer("a", 0.9)));
        assert!(switched(answer("a", 0.8), answer("a", 0.9)));
        assert!(switched(answer("", 0.0), answer("a", 0.5)));
        assert!(!switched(answer("a", 0.5), answer("", 0.0)));
        assert!(!switched(answer("", 0.0), answer("b", 0.1)));
        for nonsense in [f64::NAN, f64::INFINITY, -5.0, 1.5] {
            assert!(!switched(answer("b", 0.9), answer("a", nonsense)), "{nonsense}");
        }
    }
}
