//! A model of a site's own resolved incidents, that ranks the services which may be at fault.
//!
//! It learns from confirmed incidents only, each a list of candidates with named numbers ([`features()`] makes them from what was
//! observed) and the candidate that was at fault. What is trained follows from how much there is to learn from ([`Kind::for_examples`]):
//! a conditional logistic regression, whose weights anyone can read; from [`MIXTURE_EXAMPLES_MIN`] incidents on a mixture of it with
//! extremely randomised trees over candidates and over whole incidents ([`Kind::Mixture`]). On the three public suites of alert events at hand
//! it is better calibrated than each part alone on two, and level with the regression on the third; with a few dozen incidents the
//! regression holds its ground and cannot fit noise as freely.
//!
//! Candidates share one model, rather than each service having a class of its own: that a service's memory rose says the same of
//! any service, so ten times the examples speak of it. A service's own history enters as a feature.
//!
//! Pure: the same examples and seed give the same model, byte for byte. A model is read back from JSON with every bound checked
//! ([`Model::read`]). Whether its answer counts is decided by [`switch()`], not here: it is off until it was better than the rules.

mod encode;
mod features;
mod forest;
mod mixture;
mod model;
mod regression;
mod site;
mod switch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use features::{Event, EventKind, Observation, features};
pub use model::{MODEL_SCHEMA, Model, ModelError};
pub use site::{LEARNED_SCHEMA, Learned, Record, Resolved, SiteRanking};
pub use switch::{Answer, Judged, SWITCH_INCIDENTS, Switch, switch};

/// Resolved incidents from which a model can be trained at all.
pub const EXAMPLES_MIN: usize = 20;
/// Resolved incidents from which a mixture is the better model.
pub const MIXTURE_EXAMPLES_MIN: usize = 60;
/// Incidents learned from at the most; the last ones given.
pub const EXAMPLES_MAX: usize = 2_000;
/// Candidates of one incident at the most; the first ones given.
pub const CANDIDATES_MAX: usize = 200;
/// Features that say why, for each candidate.
pub const REASONS_MAX: usize = 5;

/// A service that may be at fault, described by numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The service.
    pub name: String,
    /// By the feature's name; one that is missing is 0.
    pub features: BTreeMap<String, f64>,
}

/// A resolved incident, and what was found to be at fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The services that could have been.
    pub candidates: Vec<Candidate>,
    /// The one that was; an incident whose cause is not among its candidates teaches nothing.
    pub cause: String,
    /// What kind of fault it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Which model is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Conditional logistic regression.
    Regression,
    /// Extremely randomised trees.
    Forest,
    /// Both, and trees over the whole incident, weighed by what each is worth.
    Mixture,
}

impl Kind {
    /// The one that so many resolved incidents are enough for.
    pub fn for_examples(examples: usize) -> Self {
        if examples < MIXTURE_EXAMPLES_MIN { Self::Regression } else { Self::Mixture }
    }
}

/// What a model says of an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The candidates, the likeliest first; of equal ones the first by name. Their confidences sum up to 1.
    pub ranked: Vec<Scored>,
    /// Which kind of fault the likeliest one has, and how sure that is.
    pub fault: Option<Fault>,
}

/// One candidate as a model sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// The service.
    pub name: String,
    /// How likely it is at fault, between 0 and 1.
    pub confidence: f64,
    /// What speaks for it and against it, the weightiest first.
    pub reasons: Vec<Reason>,
}

/// A feature's part in a score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    /// Its name.
    pub feature: String,
    /// What it was.
    pub value: f64,
    /// How far it moved the score: above 0 for the candidate, below it against.
    pub weight: f64,
}

/// A kind of fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// Its name, as in the examples.
    pub name: String,
    /// How likely it is, if the candidate is at fault.
    pub confidence: f64,
}
