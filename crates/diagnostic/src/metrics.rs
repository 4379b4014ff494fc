//! What the agent counts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use quell_incident::evidence::EvidenceSet;
use quell_service::Door;
use quell_service::http::register_build_info;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    outcome: &'static str,
}

/// The agent's counters.
pub(crate) struct Metrics {
    pub(crate) registry: Mutex<Registry>,
    diagnoses: Family<Ending, Counter>,
    unavailable: Counter,
    seconds: Histogram,
    language_model: Family<Ending, Counter>,
    language_model_tokens: Counter,
}

impl Metrics {
    /// Also counts who is refused at this door.
    pub(crate) fn register(&self, door: &Door) {
        door.register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        register_build_info(&mut registry, "quell-diagnostic", env!("CARGO_PKG_VERSION"));
        let diagnoses = Family::default();
        registry.register("quell_diagnostic_diagnoses", "Diagnoses by outcome", diagnoses.clone());
        let unavailable = Counter::default();
        let help = "Questions to sources that had no answer";
        registry.register("quell_diagnostic_evidence_unavailable", help, unavailable.clone());
        let seconds = Histogram::new(exponential_buckets(0.01, 2.0, 12));
        registry.register("quell_diagnostic_diagnosis_seconds", "Duration of diagnoses", seconds.clone());
        let language_model = Family::default();
        let help = "Diagnoses for which a language model could be asked, by what came of it";
        registry.register("quell_diagnostic_language_model_readings", help, language_model.clone());
        let language_model_tokens = Counter::default();
        let help = "Tokens that the language model says it has read and written";
        registry.register("quell_diagnostic_language_model_tokens", help, language_model_tokens.clone());
        let registry = Mutex::new(registry);
        Self { registry, diagnoses, unavailable, seconds, language_model, language_model_tokens }
    }

    /// `read`, `failed`, `malformed` or `over_budget`; and the tokens that it cost, if that is known.
    pub(crate) fn reading(&self, outcome: &'static str, tokens: u64) {
        self.language_model.get_or_create(&Ending { outcome }).inc();
        self.language_model_tokens.inc_by(tokens);
    }

    pub(crate) fn gathered(&self, evidence: &EvidenceSet) {
        self.unavailable.inc_by(evidence.unavailable.len() as u64);
    }

    pub(crate) fn diagnosed(&self, named: bool, took: Duration) {
        let outcome = if named { "named" } else { "abstained" };
        self.diagnoses.get_or_create(&Ending { outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
