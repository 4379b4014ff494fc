//! Where the evidence comes from: the simulator, or the configured systems.

mod open;
mod settings;

use std::sync::Arc;

use quell_connect::health::HealthChecks;
use quell_connect::logs::{LogSource, SearchLogs};
use quell_connect::metrics::{ListMetrics, MetricSource, QueryMetrics};
use quell_connect::platform::{PlatformSource, PlatformState};
use quell_diagnose::RuleSet;
use quell_service::Clock;
use quell_tool::{ReadRegistry, ReadTool, TypedReadTool};

use crate::analyzer::log_analyzer;
use crate::error::StartError;
use crate::monitor::system_monitor;

pub(crate) use settings::SourceSettings;

/// Open sources.
pub(crate) struct Sources {
    /// The first is the one that rules read; further ones are there for whoever asks them.
    metrics: Vec<Arc<dyn MetricSource>>,
    logs: Vec<Arc<dyn LogSource>>,
    health: Option<Arc<HealthChecks>>,
    platform: Option<Arc<dyn PlatformSource>>,
    /// Tools of single systems, beside those that every system of a kind has.
    own_tools: Vec<Arc<dyn ReadTool>>,
}

/// What a diagnosis is made with: read-only by its type.
pub(crate) struct Tools {
    pub(crate) registry: ReadRegistry,
    /// The source that `query-metrics` asks, if there is one: it knows which metrics there are.
    pub(crate) metrics: Option<Arc<dyn MetricSource>>,
    /// The tools that search logs, one for each source.
    pub(crate) log_tools: Vec<String>,
    /// Whether dependencies' health can be asked for.
    pub(crate) has_health: bool,
    /// Whether a platform can be asked.
    pub(crate) has_platform: bool,
}

impl Sources {
    /// The tools over these sources.
    pub(crate) fn tools(&self, rules: &RuleSet, clock: &Arc<dyn Clock>) -> Result<Tools, StartError> {
        let mut registry = ReadRegistry::new();
        let mut log_tools = Vec::new();
        let mut register = |tool: Arc<dyn ReadTool>| {
            registry.register(tool).map_err(|error| StartError::Assembly { why: error.to_string() })
        };
        for (index, source) in self.metrics.iter().enumerate() {
            let name = name_of(QueryMetrics::NAME, index, source.name());
            register(Arc::new(QueryMetrics::named(&name, Arc::clone(source))))?;
        }
        if let Some(source) = self.metrics.first() {
            register(system_monitor(Arc::clone(source), rules.reads(), Arc::clone(clock)))?;
            register(Arc::new(TypedReadTool::new(
                ListMetrics::NAME,
                "List metrics",
                "The names of the metrics that there are.",
                ListMetrics::new(Arc::clone(source)),
            )))?;
        }
        for (index, source) in self.logs.iter().enumerate() {
            let name = name_of(SearchLogs::NAME, index, source.name());
            register(Arc::new(SearchLogs::named(&name, Arc::clone(source))))?;
            log_tools.push(name);
        }
        if !self.logs.is_empty() {
            register(log_analyzer(self.logs.clone(), Arc::clone(clock)))?;
        }
        if let Some(health) = &self.health {
            register(Arc::clone(health) as Arc<dyn ReadTool>)?;
        }
        if let Some(platform) = &self.platform {
            register(Arc::new(PlatformState::new(Arc::clone(platform))))?;
        }
        for tool in &self.own_tools {
            register(Arc::clone(tool))?;
        }
        Ok(Tools {
            registry,
            metrics: self.metrics.first().cloned(),
            log_tools,
            has_health: self.health.is_some(),
            has_platform: self.platform.is_some(),
        })
    }
}

/// The first source has the usual name; a further one says which it is.
fn name_of(usual: &str, index: usize, source: &str) -> String {
    if index == 0 { usual.to_owned() } else { format!("{usual}.{source}") }
}
