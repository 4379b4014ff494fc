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
//! Fields of a metric: `last`, `level` (median in the fault window), `before` (median before it), `compared` (whether there is a
//! before), `rate` (of a counter, per second), `slope` (per second), `highest`, `lowest`, `change`, `ratio`, `score` (distance from
//! before in units of noise), `present`. Fields of a log pattern: `count`, `before`, `per_minute`, `burst` (times what was to be
//! expected), `present`. `now` is the reference time in seconds. All are doubles but `present` and `compared`.

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
    pub(crate) kind: Option<SeriesKind>,
    pub(crate) combine: Option<Combine>,
    #[serde(default)]
    pub(crate) unit: Unit,
    #[serde(default)]
    pub(crate) level: Vec<String>,
    pub(crate) about: Option<About>,
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

/// Which lines count for a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum About {
    /// Those of its service or machine, or that name it.
    #[default]
    Subject,
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
