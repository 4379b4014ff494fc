//! What the agent counts.

use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quell_service::Door;
use quell_service::http::register_build_info;

/// What a task was and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    skill: &'static str,
    outcome: &'static str,
}

/// The agent's counters.
pub(crate) struct Metrics {
    pub(crate) registry: Mutex<Registry>,
    answers: Family<Ending, Counter>,
    pub(crate) steps_running: Gauge,
}

impl Metrics {
    /// Also counts who is refused at this door.
    pub(crate) fn register(&self, door: &Door) {
        door.register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        register_build_info(&mut registry, "quell-resolution", env!("CARGO_PKG_VERSION"));
        let answers = Family::default();
        registry.register("quell_resolution_answers", "Answers by skill and outcome", answers.clone());
        let steps_running = Gauge::default();
        registry.register("quell_resolution_steps_running", "Steps under way", steps_running.clone());
        Self { registry: Mutex::new(registry), answers, steps_running }
    }

    pub(crate) fn answered(&self, skill: &'static str, outcome: &'static str) {
        self.answers.get_or_create(&Ending { skill, outcome }).inc();
    }
}
