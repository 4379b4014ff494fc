//! The shape of a rule file.
//!
//! ```yaml
//! schema: quell/rules/v1
//! rules:
//!   - name: memory-leak              # unique; a site's rule of the same name replaces the shipped one
//!     cause: memory_leak             # what runbooks are chosen by
//!     root_cause: "{service} on {instance} leaks memory"   # {service} {instance} {part}, or {signal.field}
//!     base_confidence: 0.87          # when every group of evidence is complete
//!     components: [memory]           # values of an alert's label `component` that it has to do with
//!     per: [instance, service]       # one candidate per value of these labels
//!     signals:
//!       memory: {metric: process_resident_memory_bytes, unit: bytes}
//!       memory_lines: {log: '(?i)out of memory'}
//!     subject:                       # the first source that has a value: a label, a named group, `service` or `instance` of lines
//!       service: [memory.service, memory_lines.service]
//!     when:
//!       - {group: metric, share: 0.7, if: memory.last > 500000000.0, says: "memory is at {memory.last}"}
//!       - {group: log, share: 0.3, if: memory_lines.count >= 2.0, says: "{memory_lines.count} lines tell of it"}
//!     recommended_actions: [restart_service]
//! ```
//!
//! A metric's `labels` have to be equal, and those under `matching` fit a regular expression as a whole: `matching: {status: '5..'}`;
//! those under `excluding` must not fit one, where an absent label is an empty one: `excluding: {fstype: 'tmpfs|overlay'}`. What an
//! exporter's version calls it otherwise stands in `also`. A series may be read over another one of the same thing, by the labels that
//! both have, and then it is a share: `over: {metric: kube_pod_container_resource_limits, labels: {resource: memory}, on: [namespace,
//! pod, container]}`. Series under `least` are left out. A label of `per` with a question mark, `service?`, counts where it is there.
//! Labels mean what the series is about: `exported_pod` is read as `pod`, and what a scrape added to kube-state-metrics is dropped.
//! Fields of a metric: `last`, `level` (median in the fault window), `before` (median before it), `compared` (whether there is a
//! before), `rate` (of a counter, per second), `slope` (per second), `highest`, `lowest`, `change`, `ratio`, `score` (distance from
//! before in units of noise), `present`. Fields of a log pattern: `count`, `before`, `per_minute`, `burst` (times what was to be
//! expected), `present`. `now` is the reference time in seconds. All are doubles but `present` and `compared`.
//!
//! Besides series and lines a signal reads what stands around them. Each filter may be left out, and then everything fits:
//!
//! ```yaml
//!       kills: {event: {kind: [Pod], reason: [OOMKilling], message: '(?i)out of memory', warning: true}}
//!       pods: {object: {kind: [Pod], state: [CrashLoopBackOff], last_exit: [OOMKilled], ready: false, restarts: 3}}
//!       checks: {health: {name: '(?i)redis', message: '(?i)refused'}, about: dependencies}
//!       deploys: {change: {kind: [deploy], within: 30m}}
//! ```
//!
//! `about` says which of them count for a candidate: those of its `subject` (as it is without a word), of its `dependencies` by the
//! topology, or `any`. Fields of an event: `count` and `before` (how often in the fault window and before it), `objects` (to how
//! many), `minutes_ago` (the newest). Of an object: `count` (those that fit), `total` (those of its kind), `unready`, `restarts` (the
//! most of one), `minutes_ago` (when one last changed). Of a health check: `count` (how many were asked), `failed`, `seconds` (the
//! slowest). Of a change: `count` (from `within` before the fault until the incident began), `minutes_ago`, `minutes_before` (the
//! fault). `present`: whether there is one that fits, for a health check one that failed. Without its source a signal has no number.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::series::SeriesKind;

/// The schema that a rule file names.
pub const RULES_SCHEMA: &str = "quell/rules/v1";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleFile {
    pub(crate) schema: Spanned<String>,
    pub(crate) rules: Vec<RuleText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleText {
    pub(crate) name: Spanned<String>,
    pub(crate) cause: Spanned<String>,
    pub(crate) root_cause: Spanned<String>,
    pub(crate) base_confidence: Spanned<f64>,
    #[serde(default)]
    pub(crate) components: Vec<String>,
    #[serde(default)]
    pub(crate) per: Vec<String>,
    pub(crate) signals: BTreeMap<String, Spanned<SignalText>>,
    #[serde(default)]
    pub(crate) subject: SubjectText,
    pub(crate) when: Vec<ConditionText>,
    #[serde(default)]
    pub(crate) recommended_actions: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubjectText {
    #[serde(default)]
    pub(crate) service: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) instance: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) part: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalText {
    pub(crate) metric: Option<String>,
    pub(crate) log: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) matching: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) excluding: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) also: Vec<String>,
    pub(crate) over: Option<OverText>,
    pub(crate) least: Option<f64>,
    pub(crate) kind: Option<SeriesKind>,
    pub(crate) combine: Option<Combine>,
    #[serde(default)]
    pub(crate) unit: Unit,
    #[serde(default)]
    pub(crate) level: Vec<String>,
    pub(crate) about: Option<About>,
    pub(crate) event: Option<EventText>,
    pub(crate) object: Option<ObjectText>,
    pub(crate) health: Option<HealthText>,
    pub(crate) change: Option<ChangeText>,
}

/// What a series is read in terms of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverText {
    pub(crate) metric: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) on: Vec<String>,
}

/// Which of the platform's events are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventText {
    #[serde(default)]
    pub(crate) kind: Vec<String>,
    #[serde(default)]
    pub(crate) reason: Vec<String>,
    pub(crate) message: Option<String>,
    pub(crate) warning: Option<bool>,
}

/// Which of the platform's objects are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectText {
    #[serde(default)]
    pub(crate) kind: Vec<String>,
    #[serde(default)]
    pub(crate) state: Vec<String>,
    #[serde(default)]
    pub(crate) last_exit: Vec<String>,
    pub(crate) ready: Option<bool>,
    /// At least so many.
    #[serde(default)]
    pub(crate) restarts: u32,
}

/// Which health checks are meant, by regular expressions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthText {
    pub(crate) name: Option<String>,
    pub(crate) message: Option<String>,
}

/// Which changes are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeText {
    #[serde(default)]
    pub(crate) kind: Vec<String>,
    /// How long before the fault at the most, such as `30m`.
    pub(crate) within: Option<String>,
}

/// Which of several series of one candidate is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Combine {
    #[default]
    Highest,
    Lowest,
    Sum,
}

/// Which lines, events, objects, checks or changes count for a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum About {
    /// Those of its service or machine, or that name it.
    #[default]
    Subject,
    /// Those of what its service calls by the topology; all of them when nothing is known of what it calls.
    Dependencies,
    /// All of them.
    Any,
}

/// How values are shown to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    #[default]
    None,
    Bytes,
    Seconds,
    Epoch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConditionText {
    pub(crate) group: Spanned<String>,
    pub(crate) share: Spanned<f64>,
    #[serde(rename = "if")]
    pub(crate) holds_if: Spanned<String>,
    pub(crate) says: Spanned<String>,
}
