//! The shape of a file of rule tests.
//!
//! ```yaml
//! schema: quell/rule-tests/v1
//! cases:
//!   - rule: redis-memory-full                # the rule that is tried; all others are loaded as well
//!     name: keys are evicted at the limit    # what is tried, in a few words
//!     alert: {instance: "redis-01:9121"}     # labels of the alert
//!     series:                                # one sample a minute, the first half an hour before the fault
//!       'redis_memory_used_bytes{instance="redis-01:9121"}': 2e8x29 1e9x5
//!     lines:                                 # `count` lines, one every `every`, the first `at` after the fault
//!       - {message: "OOM command not allowed", service: redis-01, level: error, at: 10s, every: 5s, count: 20}
//!     events: [{kind: Pod, namespace: shop, name: redis-0, reason: OOMKilling, message: "killed", at: 1m}]
//!     objects: [{kind: Pod, namespace: shop, name: redis-0, state: Running, last_exit: OOMKilled, restarts: 3, changed: 1m}]
//!     health: [{name: redis, healthy: false, message: "connection refused"}]
//!     changes: [{kind: config, service: redis-01, at: -4m}]
//!     calls: {checkout: [redis]}             # who depends on whom
//!     unavailable: [logs]                    # sources that were asked and did not answer: metrics, logs, platform, health
//!     fires: {service: redis-01, confidence_min: 0.85}
//! ```
//!
//! The fault begins at 2026-01-01T12:00:00Z (1767268800), the alert fires two minutes later, and the diagnosis is made five minutes
//! after the fault; all times in a case are after the fault, or before it with a `-`. A source of lines, of platforms or of health that a
//! case does not name is one that the site does not have; `lines: []` is one that has nothing to say.
//!
//! A case has either `fires`, and then the rule's cause has to be the root cause of the whole report, at least as sure as that and
//! with that subject, or `silent`, and then no hypothesis of the rule may reach `confidence_max` (0.5 without a word).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestFile {
    pub(super) schema: Spanned<String>,
    pub(super) cases: Vec<CaseText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseText {
    pub(super) rule: Spanned<String>,
    pub(super) name: String,
    #[serde(default)]
    pub(super) alert: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) series: BTreeMap<String, Spanned<String>>,
    pub(super) lines: Option<Vec<LineText>>,
    pub(super) events: Option<Vec<EventText>>,
    pub(super) objects: Option<Vec<ObjectText>>,
    pub(super) health: Option<Vec<HealthText>>,
    #[serde(default)]
    pub(super) changes: Vec<ChangeText>,
    #[serde(default)]
    pub(super) calls: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) unavailable: Vec<SourceText>,
    pub(super) fires: Option<FiresText>,
    pub(super) silent: Option<SilentText>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SourceText {
    Metrics,
    Logs,
    Platform,
    Health,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FiresText {
    pub(super) service: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) part: Option<String>,
    pub(super) confidence_min: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SilentText {
    pub(super) confidence_max: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineText {
    pub(super) message: String,
    #[serde(default)]
    pub(super) service: String,
    #[serde(default)]
    pub(super) instance: String,
    #[serde(default)]
    pub(super) level: String,
    pub(super) at: Option<Spanned<String>>,
    pub(super) every: Option<Spanned<String>>,
    pub(super) count: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventText {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) service: String,
    pub(super) reason: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) count: u32,
    pub(super) warning: Option<bool>,
    pub(super) at: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectText {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) service: String,
    #[serde(default)]
    pub(super) node: String,
    #[serde(default)]
    pub(super) ready: bool,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) last_exit: String,
    #[serde(default)]
    pub(super) restarts: u32,
    #[serde(default)]
    pub(super) revision: String,
    pub(super) changed: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthText {
    pub(super) name: String,
    #[serde(default)]
    pub(super) healthy: bool,
    #[serde(default)]
    pub(super) seconds: f64,
    #[serde(default)]
    pub(super) message: String,
    pub(super) at: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeText {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) service: String,
    #[serde(default)]
    pub(super) version: String,
    #[serde(default)]
    pub(super) summary: String,
    pub(super) at: Option<Spanned<String>>,
}
