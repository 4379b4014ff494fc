//! A trained model: how it comes about, what it says, and how it is kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::encode::{COLUMNS_MAX, NAME_BYTES_MAX, columns, row};
use super::forest::{CLASSES_MAX, Forest, NODES_MAX, Rows, TREES_MAX};
use super::mixture::{Lessons, Mixture, candidates_forest, forest_shares};
use super::regression::{Choice, Regression, shares};
use super::{
    CANDIDATES_MAX, Candidate, EXAMPLES_MAX, EXAMPLES_MIN, Example, Fault, Kind, Prediction, REASONS_MAX,
    Reason, Scored,
};

/// The form in which models are kept; another one is trained anew.
pub const MODEL_SCHEMA: &str = "quell.learned/1";
/// A kept model at the most, in bytes.
const MODEL_BYTES_MAX: usize = 64 << 20;
/// Weights are not larger than this in a model that is read.
const WEIGHT_MAX: f64 = 1e12;

/// A trained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    schema: String,
    /// How many incidents it learned from.
    examples: usize,
    columns: Vec<String>,
    /// Which of an incident's candidates is at fault.
    cause: Scorer,
    /// The kinds of fault, and which of them the candidate at fault has.
    faults: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<FaultScorer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scorer {
    Regression(Regression),
    Forest(Forest),
    Mixture(Box<Mixture>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FaultScorer {
    /// One for each kind: is it this one or not.
    Regression(Vec<Regression>),
    Forest(Forest),
}

/// Why there is no model.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ModelError {
    /// Not enough to learn from.
    #[error("{usable} usable incidents are too few to learn from; {EXAMPLES_MIN} are needed")]
    TooFew {
        /// Incidents whose cause is among at least two candidates.
        usable: usize,
    },
    /// What was kept is not a model.
    #[error("the kept model cannot be used: {why}; train it anew")]
    Unusable {
        /// What is wrong with it.
        why: String,
    },
}

fn unusable(why: impl Into<String>) -> ModelError {
    ModelError::Unusable { why: why.into() }
}

impl Model {
    /// Learns from resolved incidents, in the order in which they were resolved.
    pub fn train(examples: &[Example], kind: Kind, seed: u64) -> Result<Self, ModelError> {
        let newest = examples.get(examples.len().saturating_sub(EXAMPLES_MAX)..).unwrap_or_default();
        let usable: Vec<(&Example, usize)> = newest
            .iter()
            .filter(|example| example.candidates.len() >= 2)
            .filter_map(|example| {
                let mut candidates = example.candidates.iter().take(CANDIDATES_MAX);
                Some((example, candidates.position(|candidate| candidate.name == example.cause)?))
            })
            .collect();
        if usable.len() < EXAMPLES_MIN {
            return Err(ModelError::TooFew { usable: usable.len() });
        }
        let candidates = |example: &'_ Example| example.candidates.len().min(CANDIDATES_MAX);
        let columns =
            columns(usable.iter().flat_map(|(example, _)| example.candidates.iter().take(CANDIDATES_MAX)));
        let choices: Vec<Choice> = usable
            .iter()
            .map(|(example, chosen)| Choice {
                rows: example
                    .candidates
                    .iter()
                    .take(candidates(example))
                    .map(|one| row(&columns, one))
                    .collect(),
                chosen: *chosen,
            })
            .collect();
        let cause = match kind {
            Kind::Regression => Scorer::Regression(Regression::train(&choices, columns.len())),
            Kind::Forest => Scorer::Forest(candidates_forest(&choices, seed)),
            Kind::Mixture => {
                let examples: Vec<&Example> = usable.iter().map(|(example, _)| *example).collect();
                let (choices, examples) = (choices.as_slice(), examples.as_slice());
                let lessons = Lessons { choices, examples, column_count: columns.len(), seed };
                Scorer::Mixture(Box::new(Mixture::train(&lessons)))
            }
        };
        let (faults, fault) = train_fault(&usable, &choices, columns.len(), kind, seed);
        Ok(Self { schema: MODEL_SCHEMA.to_owned(), examples: usable.len(), columns, cause, faults, fault })
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self.cause {
            Scorer::Regression(_) => Kind::Regression,
            Scorer::Forest(_) => Kind::Forest,
            Scorer::Mixture(_) => Kind::Mixture,
        }
    }

    /// How many incidents it learned from.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// Ranks the candidates of an incident.
    pub fn predict(&self, candidates: &[Candidate]) -> Prediction {
        let candidates = candidates.get(..candidates.len().min(CANDIDATES_MAX)).unwrap_or_default();
        let rows: Vec<Vec<f64>> = candidates.iter().map(|one| row(&self.columns, one)).collect();
        let confidences = match &self.cause {
            Scorer::Regression(regression) => {
                shares(&rows.iter().map(|row| regression.parts(row).iter().sum()).collect::<Vec<_>>())
            }
            Scorer::Forest(forest) => forest_shares(forest, &rows),
            Scorer::Mixture(mixture) => mixture.shares(&rows, candidates),
        };
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        let confidence = |index: usize| confidences.get(index).copied().unwrap_or_default();
        let name = |index: usize| candidates.get(index).map(|one| one.name.as_str());
        order.sort_by(|one, other| {
            confidence(*other).total_cmp(&confidence(*one)).then_with(|| name(*one).cmp(&name(*other)))
        });
        let fault = order.first().and_then(|first| self.fault_of(rows.get(*first)?));
        let scored = order.iter().filter_map(|index| {
            Some(Scored {
                name: name(*index)?.to_owned(),
                confidence: confidence(*index).min(1.0),
                reasons: self.reasons(rows.get(*index)?),
            })
        });
        Prediction { ranked: scored.collect(), fault }
    }

    /// By column: what moved a candidate's score. Of a mixture what moved the regression, which anyone can check.
    fn moved(&self, row: &[f64]) -> BTreeMap<usize, f64> {
        let by_regression = |regression: &Regression| regression.parts(row).into_iter().enumerate().collect();
        match &self.cause {
            Scorer::Regression(regression) => by_regression(regression),
            Scorer::Forest(forest) => forest.predict(row, 2, 1).1,
            Scorer::Mixture(mixture) => by_regression(&mixture.regression),
        }
    }

    fn reasons(&self, row: &[f64]) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = self
            .moved(row)
            .into_iter()
            .filter(|(_, weight)| *weight != 0.0)
            .filter_map(|(column, weight)| {
                let feature = self.columns.get(column)?.clone();
                Some(Reason { feature, value: *row.get(column)?, weight })
            })
            .collect();
        reasons.sort_by(|one, other| {
            let by_weight = other.weight.abs().total_cmp(&one.weight.abs());
            by_weight.then_with(|| one.feature.cmp(&other.feature))
        });
        reasons.truncate(REASONS_MAX);
        reasons
    }

    fn fault_of(&self, row: &[f64]) -> Option<Fault> {
        let confidences = match self.fault.as_ref()? {
            FaultScorer::Regression(kinds) => {
                let odds: Vec<f64> = kinds.iter().map(|kind| is_it(kind, row)).collect();
                let sum: f64 = odds.iter().sum::<f64>().max(f64::MIN_POSITIVE);
                odds.into_iter().map(|one| one / sum).collect()
            }
            FaultScorer::Forest(forest) => forest.predict(row, self.faults.len(), 0).0,
        };
        let named = self.faults.iter().zip(confidences);
        let best = named.reduce(|best, one| if one.1 > best.1 { one } else { best })?;
        // A sum of a hundred shares may be a hair over the whole.
        Some(Fault { name: best.0.clone(), confidence: best.1.min(1.0) })
    }

    /// As it is kept.
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a kept model and checks all that a prediction relies on.
    pub fn read(text: &str) -> Result<Self, ModelError> {
        if text.len() > MODEL_BYTES_MAX {
            return Err(unusable(format!("it has more than {MODEL_BYTES_MAX} bytes")));
        }
        let model: Self = serde_json::from_str(text).map_err(|error| unusable(error.to_string()))?;
        model.check()?;
        Ok(model)
    }

    pub(crate) fn check(&self) -> Result<(), ModelError> {
        if self.schema != MODEL_SCHEMA {
            return Err(unusable(format!("its form is not {MODEL_SCHEMA}")));
        }
        if self.columns.len() > COLUMNS_MAX || self.columns.iter().any(|name| name.len() > NAME_BYTES_MAX) {
            return Err(unusable("it has too many or too long features"));
        }
        if self.faults.len() > CLASSES_MAX || self.faults.iter().any(|name| name.len() > NAME_BYTES_MAX) {
            return Err(unusable("it has too many or too long kinds of fault"));
        }
        match &self.cause {
            Scorer::Regression(regression) => Self::check_regression(regression, self.columns.len())?,
            Scorer::Forest(forest) => Self::check_forest(forest, self.columns.len(), 2)?,
            Scorer::Mixture(mixture) => {
                let Mixture { regression, forest, services, .. } = &**mixture;
                Self::check_regression(regression, self.columns.len())?;
                Self::check_forest(forest, self.columns.len(), 2)?;
                if !services.has_sound_names() || !mixture.has_sound_weights() {
                    return Err(unusable("its services or weights are none"));
                }
                Self::check_forest(&services.forest, services.columns.len(), services.names.len())?;
            }
        }
        match &self.fault {
            None => Ok(()),
            Some(FaultScorer::Forest(forest)) => {
                Self::check_forest(forest, self.columns.len(), self.faults.len())
            }
            Some(FaultScorer::Regression(kinds)) if kinds.len() != self.faults.len() => {
                Err(unusable("its kinds of fault are not those that it tells apart"))
            }
            Some(FaultScorer::Regression(kinds)) => kinds
                .iter()
                .try_for_each(|regression| Self::check_regression(regression, self.columns.len() + 1)),
        }
    }

    fn check_regression(regression: &Regression, column_count: usize) -> Result<(), ModelError> {
        for numbers in [&regression.means, &regression.scales, &regression.weights] {
            let bounded = |number: &f64| number.is_finite() && number.abs() <= WEIGHT_MAX;
            if numbers.len() != column_count || !numbers.iter().all(bounded) {
                return Err(unusable("its weights are not those of its features"));
            }
        }
        Ok(())
    }

    fn check_forest(forest: &Forest, column_count: usize, class_count: usize) -> Result<(), ModelError> {
        if forest.trees.len() > TREES_MAX {
            return Err(unusable("it has too many trees"));
        }
        for tree in &forest.trees {
            if tree.is_empty() || tree.len() > NODES_MAX {
                return Err(unusable("a tree has no nodes or too many"));
            }
            for (index, node) in tree.iter().enumerate() {
                let is_share = |share: &f64| (0.0..=1.0).contains(share);
                if node.shares.len() != class_count || !node.shares.iter().all(is_share) {
                    return Err(unusable("the shares of a node are none"));
                }
                let Some(split) = node.split else { continue };
                // A node below itself would be gone round for ever.
                let below = |next: usize| next > index && next < tree.len();
                if split.column >= column_count
                    || !split.threshold.is_finite()
                    || !below(split.low)
                    || !below(split.high)
                {
                    return Err(unusable("a node does not lead to one below it"));
                }
            }
        }
        Ok(())
    }
}

fn train_fault(
    usable: &[(&Example, usize)],
    choices: &[Choice],
    column_count: usize,
    kind: Kind,
    seed: u64,
) -> (Vec<String>, Option<FaultScorer>) {
    let known: Vec<(&str, &Vec<f64>)> = usable
        .iter()
        .zip(choices)
        .filter_map(|((example, _), choice)| {
            let fault = example.fault.as_deref().filter(|fault| fault.len() <= NAME_BYTES_MAX)?;
            Some((fault, choice.rows.get(choice.chosen)?))
        })
        .collect();
    let names: BTreeSet<&str> = known.iter().map(|(fault, _)| *fault).collect();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if names.len() < 2 || names.len() > CLASSES_MAX || known.len() < EXAMPLES_MIN {
        return (Vec::new(), None);
    }
    let classes: Vec<usize> = known
        .iter()
        .map(|(fault, _)| names.binary_search_by(|name| name.as_str().cmp(fault)).unwrap_or_default())
        .collect();
    let scorer = match kind {
        Kind::Forest | Kind::Mixture => {
            let rows: Vec<&Vec<f64>> = known.iter().map(|(_, row)| *row).collect();
            FaultScorer::Forest(Forest::train(&Rows::new(&rows, &classes, names.len()), seed))
        }
        Kind::Regression => {
            let one_kind = |kind: usize| {
                let choices: Vec<Choice> = known
                    .iter()
                    .zip(&classes)
                    .map(|((_, row), class)| Choice {
                        rows: vec![with_constant(row), vec![0.0; column_count + 1]],
                        chosen: usize::from(*class != kind),
                    })
                    .collect();
                Regression::train(&choices, column_count + 1)
            };
            FaultScorer::Regression((0..names.len()).map(one_kind).collect())
        }
    };
    (names, Some(scorer))
}

/// How likely a row is of this kind rather than not.
fn is_it(kind: &Regression, row: &[f64]) -> f64 {
    let score = |row: &[f64]| kind.parts(row).iter().sum::<f64>();
    let row = with_constant(row);
    shares(&[score(&row), score(&vec![0.0; row.len()])]).first().copied().unwrap_or_default()
}

/// How frequent a kind is anyway, whatever the features say.
fn with_constant(row: &[f64]) -> Vec<f64> {
    row.iter().copied().chain([1.0]).collect()
}
