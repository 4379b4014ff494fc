//! What belongs together, what flaps, and when nothing is done.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::Optional;
use super::values::{Period, optional};

/// How alerts come to be one incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Correlation {
    /// An alert joins the incident of its Alertmanager group when the group's last alert came no longer ago. 0s: groups say nothing.
    pub group_window: Period,
    /// Labels by which alerts join, looked at in this order after the group, and before `coordinator.correlate_by`.
    pub rules: Vec<CorrelationRule>,
    /// Alerts on one workload of a cluster, or on its pods, are one incident while that is under way.
    pub same_workload: bool,
    /// When an alert counts as flapping.
    pub flapping: FlappingSettings,
    /// The longest that an incident settles because its class mostly heals by itself; never for P0. 0s: history says nothing.
    pub self_healing_within: Period,
}

impl Default for Correlation {
    fn default() -> Self {
        Self {
            group_window: Period::seconds(5 * 60),
            rules: Vec::new(),
            same_workload: true,
            flapping: FlappingSettings::default(),
            self_healing_within: Period::seconds(2 * 60),
        }
    }
}

/// What a site's alerts say in words and labels of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertWords {
    /// Severity words of the site's own, each with a known one that it means: `{wakeup: critical, lunch: low}`.
    pub severities: BTreeMap<String, String>,
    /// Labels whose value is what is broken, the most telling first; before all that are known anyway.
    pub subject_labels: Vec<String>,
    /// Words in a `job`, `container` or `service` of which the labels of the scrape name an exporter and not what is broken.
    pub exporters: Vec<String>,
}

/// Alerts with the same values of these labels are one incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrelationRule {
    /// The name of the rule, for the timeline.
    pub name: String,
    /// The labels; all of them must be there and equal.
    pub labels: Vec<String>,
    /// How long after the last alert another one joins; by default for as long as the incident is under way.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<Period>")]
    pub window: Option<Period>,
    /// The sources that it is for, whose alerts then join each other; by default each source by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

/// When an alert counts as flapping. Nothing is done by itself about it meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlappingSettings {
    /// With so many changes between firing and resolved within the window. 0: never.
    pub transitions: u32,
    /// The sliding time in which changes are counted.
    pub window: Period,
    /// How long after the last change it no longer flaps.
    pub quiet: Period,
}

impl Default for FlappingSettings {
    fn default() -> Self {
        Self { transitions: 6, window: Period::seconds(60 * 60), quiet: Period::seconds(15 * 60) }
    }
}

/// A time in which nothing is done about some alerts. It has either `starts_at` and `ends_at`, or a `schedule`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The name of the window, for the reason that is shown.
    pub name: String,
    /// Labels that an alert must have: the text itself, or `/a regular expression over the whole value/`. None: every alert.
    #[serde(default)]
    pub matchers: BTreeMap<String, String>,
    /// When it begins: `2026-01-31T22:00:00Z`.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<String>")]
    pub starts_at: Option<String>,
    /// When it ends: `2026-02-01T04:00:00Z`.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<String>")]
    pub ends_at: Option<String>,
    /// When it comes again and again, instead of `starts_at` and `ends_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Only for freezes: P0 is worked on all the same.
    #[serde(default)]
    pub allow_p0: bool,
}

/// A window that comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The days on which it begins; none: every day.
    #[serde(default)]
    pub weekdays: Vec<Weekday>,
    /// When it begins, on the clock of the zone: `22:00`.
    pub time: String,
    /// How long it lasts, at most a week.
    pub duration: Period,
    /// An IANA zone: `Europe/Berlin`.
    pub zone: String,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the days have their names")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}
