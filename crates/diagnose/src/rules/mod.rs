//! Rules: what speaks for which cause. They are read from YAML, compiled when they are loaded, and never look at an alert's name.

mod compile;
pub(crate) mod condition;
mod explain;
pub(crate) mod file;
pub(crate) mod filter;
pub(crate) mod sentence;
mod shipped;
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cel::Env;
use quell_incident::Digest;
use quell_incident::alert::Labels;
use regex::Regex;
use serde::Serialize;

use crate::series::SeriesKind;
use condition::{Condition, SignalKind};
pub use explain::{ConditionExplanation, RuleExplanation, RuleSummary};
pub use file::RULES_SCHEMA;
use file::{About, Combine, Unit};
use filter::Filter;
use sentence::Sentence;
pub use testing::{RULE_TESTS_SCHEMA, RuleTestResult, RuleTests, check_files, is_of_tests};

/// A rule file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSource {
    /// Its name, for mistakes.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl RuleSource {
    fn shipped(files: &[(&str, &str)]) -> Vec<Self> {
        files.iter().map(|(name, text)| Self { name: (*name).to_owned(), text: (*text).to_owned() }).collect()
    }
}

/// A mistake in a rule file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleMistake {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 when it is not known.
    pub line: u64,
    /// The column, from 1; 0 when it is not known.
    pub column: u64,
    /// Which field of which rule, such as `memory-leak.when[0].if`.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for RuleMistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, field, why } = self;
        write!(formatter, "{file}:{line}:{column}: {field} {why}")
    }
}

/// All mistakes that were found; none of the rules was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rules have mistakes: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct RuleMistakes(pub Vec<RuleMistake>);

/// One metric that the rules read: the daemon asks its sources for these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricRead {
    /// The metric's name.
    pub metric: String,
    /// Labels that must be equal.
    pub labels: Labels,
}

/// Compiled rules.
pub struct RuleSet {
    pub(crate) env: Arc<Env>,
    pub(crate) rules: Vec<Rule>,
    digest: Digest,
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RuleSet").field("rules", &self.names()).field("digest", &self.digest).finish()
    }
}

impl RuleSet {
    /// No rules: every diagnosis abstains.
    pub fn empty() -> Self {
        Self { env: Arc::new(Env::stdlib()), rules: Vec::new(), digest: Digest::of_bytes(b"") }
    }

    /// The rules that come with Quell, and a site's own: one of the same name replaces the shipped one.
    ///
    /// # Errors
    /// Every mistake of every file. Then none of them is taken.
    pub fn load(site: &[RuleSource]) -> Result<Self, RuleMistakes> {
        let shipped = RuleSource::shipped(shipped::RULES);
        let env = Arc::new(Env::stdlib());
        let (mut rules, mut mistakes) = (BTreeMap::new(), Vec::new());
        for sources in [&shipped[..], site] {
            let mut layer = BTreeMap::new();
            for source in sources {
                compile::compile(&env, source, &mut layer, &mut mistakes);
            }
            rules.extend(layer);
        }
        if !mistakes.is_empty() {
            return Err(RuleMistakes(mistakes));
        }
        let texts: Vec<&str> = shipped.iter().chain(site).map(|source| source.text.as_str()).collect();
        // A byte that no text holds keeps two files apart from one.
        let digest = Digest::of_bytes(&texts.join("\u{0}").into_bytes());
        Ok(Self { env, rules: rules.into_values().collect(), digest })
    }

    /// The names of the rules, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.rules.iter().map(|rule| rule.name.as_str()).collect()
    }

    /// The causes that the rules know, sorted.
    pub fn causes(&self) -> BTreeSet<&str> {
        self.rules.iter().map(|rule| rule.cause.as_str()).collect()
    }

    /// What tells these rules from others: of their texts.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The metrics that the rules read, each once.
    pub fn reads(&self) -> Vec<MetricRead> {
        let mut wanted: BTreeMap<&str, BTreeSet<Vec<(&str, &str)>>> = BTreeMap::new();
        for signal in self.rules.iter().flat_map(|rule| rule.signals.values()) {
            if let Signal::Metric(signal) = signal {
                let own = signal.names().map(|name| (name, &signal.labels));
                let over = signal.over.iter().map(|over| (over.metric.as_str(), &over.labels));
                for (metric, labels) in own.chain(over) {
                    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                    wanted.entry(metric).or_default().insert(labels.collect());
                }
            }
        }
        let mut reads = Vec::new();
        for (metric, mut choices) in wanted {
            // Asking for all series of a metric includes those with certain labels.
            if choices.contains(&Vec::new()) {
                choices.retain(Vec::is_empty);
            }
            reads.extend(choices.into_iter().map(|labels| MetricRead {
                metric: metric.to_owned(),
                labels: labels.into_iter().collect(),
            }));
        }
        reads
    }

    /// The metrics that the rules read and that the sources know, each once: what [`RuleSet::reads`] has, without those that no source
    /// has ever stored.
    ///
    /// A source's own list of names makes asking cheap, and no cause is hidden by it: what is left out would have been answered with
    /// no series. Rules are never left out by an alert's words, since the cause is seldom of the component that raises the alert. So
    /// a caller must take the names of all its sources together, and must not use a list that a source did not answer in full.
    pub fn reads_for(&self, known_metric_names: &BTreeSet<String>) -> Vec<MetricRead> {
        self.reads().into_iter().filter(|read| known_metric_names.contains(&read.metric)).collect()
    }

    /// Whether any rule reads logs.
    pub fn reads_logs(&self) -> bool {
        self.reads_kind(SignalKind::Log)
    }

    /// Whether any rule reads the objects or events of platforms.
    pub fn reads_platform(&self) -> bool {
        self.reads_kind(SignalKind::Object) || self.reads_kind(SignalKind::Event)
    }

    /// Whether any rule reads health checks.
    pub fn reads_health(&self) -> bool {
        self.reads_kind(SignalKind::Health)
    }

    /// Whether any rule reads changes.
    pub fn reads_changes(&self) -> bool {
        self.reads_kind(SignalKind::Change)
    }

    fn reads_kind(&self, kind: SignalKind) -> bool {
        self.rules.iter().flat_map(|rule| rule.signals.values()).any(|signal| signal.kind() == kind)
    }
}

pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) cause: String,
    pub(crate) root_cause: Sentence,
    pub(crate) base_confidence: f64,
    pub(crate) components: Vec<String>,
    pub(crate) per: Vec<Per>,
    pub(crate) signals: BTreeMap<String, Signal>,
    pub(crate) units: BTreeMap<String, Unit>,
    pub(crate) subject: SubjectSources,
    pub(crate) conditions: Vec<RuleCondition>,
    pub(crate) recommended_actions: Vec<String>,
}

/// Signals and their labels or groups, the first that has a value counts.
#[derive(Default)]
pub(crate) struct SubjectSources {
    pub(crate) service: Vec<(String, String)>,
    pub(crate) instance: Vec<(String, String)>,
    pub(crate) part: Vec<(String, String)>,
}

pub(crate) struct RuleCondition {
    pub(crate) group: String,
    /// How much of the rule's confidence it carries: a group's contribution is `1 - (1 - base)^share`, so that all groups together
    /// give the base confidence by the noisy-OR.
    pub(crate) share: f64,
    pub(crate) condition: Condition,
    pub(crate) says: Sentence,
}

pub(crate) enum Signal {
    Metric(MetricSignal),
    Log(LogSignal),
    Item(ItemSignal),
}

impl Signal {
    pub(crate) fn kind(&self) -> SignalKind {
        match self {
            Self::Metric(_) => SignalKind::Metric,
            Self::Log(_) => SignalKind::Log,
            Self::Item(signal) => signal.filter.kind(),
        }
    }
}

/// A signal that reads what stands around series and lines.
pub(crate) struct ItemSignal {
    pub(crate) filter: Filter,
    pub(crate) about: About,
}

pub(crate) struct MetricSignal {
    pub(crate) metric: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Labels whose whole value fits the pattern. The sources are asked without them.
    pub(crate) matching: BTreeMap<String, Regex>,
    /// Labels whose whole value must not fit; to Prometheus an absent label is an empty one.
    pub(crate) excluding: BTreeMap<String, Regex>,
    /// What the metric is called in other versions.
    pub(crate) also: Vec<String>,
    pub(crate) kind: SeriesKind,
    pub(crate) combine: Combine,
    pub(crate) over: Option<Over>,
    /// Series that are lower say nothing.
    pub(crate) least: Option<f64>,
}

/// The metric of the same thing that a series is read in terms of.
pub(crate) struct Over {
    pub(crate) metric: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Labels that are the same of both.
    pub(crate) on: Vec<String>,
    pub(crate) kind: SeriesKind,
}

impl MetricSignal {
    /// Every name that it may be stored under.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.metric.as_str()).chain(self.also.iter().map(String::as_str))
    }
}

/// A label that there is a candidate for each value of.
pub(crate) struct Per {
    pub(crate) label: String,
    /// Whether it counts only where it is there.
    pub(crate) optional: bool,
}

pub(crate) struct LogSignal {
    pub(crate) regex: Regex,
    pub(crate) level: Vec<String>,
    pub(crate) about: About,
}
