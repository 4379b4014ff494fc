//! A diagnosis: candidates for the root cause, each with the evidence that speaks for it. A claim without evidence cannot be
//! built: [`Hypothesis::new`] takes at least one [`Claim`], and a claim at least one evidence id.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::evidence::{Point, Unavailable};
use crate::ids::{Digest, IncidentId};
use crate::surroundings::{ChangeRecord, HealthCheck, PlatformEvent, PlatformObject};

/// The schema name that the JSON of a [`Report`] carries.
pub const REPORT_SCHEMA: &str = "quell/report/v1";
/// Pieces of evidence in one report at the most.
pub const EVIDENCE_MAX: usize = 200;

/// What the diagnostic agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// For which incident.
    pub incident_id: IncidentId,
    /// The instant that the diagnosis speaks of.
    pub reference_time: Timestamp,
    /// The cause that the evidence supports, `None` when it supports none well enough: "I don't know" is an answer.
    pub root_cause: Option<Hypothesis>,
    /// Why there is no root cause, when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstained: Option<String>,
    /// Every other candidate, best first, with why it is not the first.
    pub alternatives: Vec<Hypothesis>,
    /// Everything that was looked at and says something.
    pub evidence: Vec<Evidence>,
    /// What could not be fetched.
    pub unavailable: Vec<Unavailable>,
    /// What a model says that learned from this site's resolved incidents, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_opinion: Option<SecondOpinion>,
    /// The version of the rules and engines that made it.
    pub engine: String,
    /// The digest of the document from which it can be made again: what was asked, and all that was gathered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<Digest>,
}

impl Report {
    /// The confidence in the root cause, 0 without one.
    pub fn confidence(&self) -> f64 {
        self.root_cause.as_ref().map_or(0.0, |cause| cause.confidence)
    }
}

/// What a learned model would name first, beside what the rules name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecondOpinion {
    /// The cause, one of the report's.
    pub cause: String,
    /// What is at fault.
    pub subject: Subject,
    /// 0 to 1.
    pub confidence: f64,
    /// Whether it counts: then the report's causes stand in its order.
    pub counts: bool,
    /// What it learned from, why it counts or not, and what moved it.
    pub why: String,
}

/// A candidate for the root cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hypothesis {
    /// The kind of fault by its declared name, such as `connection_pool_exhausted`: what runbooks are chosen by.
    pub cause: String,
    /// What is at fault: labels from telemetry, which may select an inventory entry and never become one.
    pub subject: Subject,
    /// One sentence for people.
    pub statement: String,
    /// 0 to 1.
    pub confidence: f64,
    /// Whether the confidence was fitted to outcomes; otherwise it is the rule's prior.
    pub calibrated: bool,
    /// What speaks for it; never empty.
    pub claims: Vec<Claim>,
    /// Why it is not the first, for an alternative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_first_because: Option<String>,
    /// What the rule recommends, as names of actions such as `restart_service`.
    pub recommended_actions: Vec<String>,
}

impl Hypothesis {
    /// Builds one from its claims; `None` without any, since a cause without evidence cannot be written.
    pub fn new(
        cause: &str,
        subject: Subject,
        statement: String,
        confidence: f64,
        claims: Vec<Claim>,
        recommended_actions: Vec<String>,
    ) -> Option<Self> {
        let supported = !claims.is_empty() && confidence.is_finite();
        supported.then(|| Self {
            cause: cause.to_owned(),
            subject,
            statement,
            confidence: confidence.clamp(0.0, 1.0),
            calibrated: false,
            claims,
            not_first_because: None,
            recommended_actions,
        })
    }
}

/// What is at fault, in telemetry's words; fields that are not known are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The service, such as `order_service`.
    #[serde(default)]
    pub service: String,
    /// The instance with its port, as in the series' label.
    #[serde(default)]
    pub instance: String,
    /// A part of it: a mount point, a database, a consumer group.
    #[serde(default)]
    pub part: String,
}

/// One sentence that speaks for a hypothesis, with the evidence that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The rule or engine that makes it.
    pub by: String,
    /// The sentence.
    pub statement: String,
    /// Ids of [`Evidence`]; never empty.
    pub evidence: Vec<String>,
}

impl Claim {
    /// `None` without evidence.
    pub fn new(by: &str, statement: String, evidence: Vec<String>) -> Option<Self> {
        (!evidence.is_empty()).then(|| Self { by: by.to_owned(), statement, evidence })
    }
}

/// The kind of a piece of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// A series and what was read from it.
    Metric,
    /// A pattern of log lines.
    Log,
    /// A workload, pod or node of a platform, or something that happened to it.
    Platform,
    /// The health of a dependency.
    Health,
    /// Something that was changed on purpose.
    Change,
    /// Calls between services.
    Trace,
}

/// One thing that was looked at, so that a reader can look again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Unique in its report: `m1`, `l3`, `p2`, `h1`, `c1`.
    pub id: String,
    /// What it is.
    pub kind: EvidenceKind,
    /// Which source answered.
    pub source: String,
    /// The query in the source's own words.
    pub query: String,
    /// The first instant looked at.
    pub from: Timestamp,
    /// The last instant looked at.
    pub to: Timestamp,
    /// One sentence with the values.
    pub summary: String,
    /// The values.
    pub data: EvidenceData,
}

/// The values of a piece of evidence. Typed and not a JSON tree, since an incident holds thousands of points for as long as it lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EvidenceData {
    /// Of a series.
    Metric(MetricData),
    /// Of a pattern of log lines.
    Log(LogData),
    /// A workload, pod or node.
    Object(PlatformObject),
    /// What happened to one.
    Event(PlatformEvent),
    /// The health of a dependency.
    Health(HealthCheck),
    /// A change. After the others: all that it must have is a time and a kind.
    Change(ChangeRecord),
    /// Of a kind that only the agent that found it knows.
    Other(Value),
}

/// A series and what was read from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricData {
    /// The metric's name.
    pub metric: String,
    /// Its labels; telemetry's text.
    pub labels: BTreeMap<String, String>,
    /// The last sample.
    pub last: f64,
    /// The rate of a counter.
    pub rate_per_second: Option<f64>,
    /// The level before the fault, `None` when nothing is known of the time before.
    pub before: Option<f64>,
    /// How many times the noise its level now lies from before.
    pub score: f64,
    /// When it began to change.
    pub onset: Option<Timestamp>,
    /// Samples in the order of time, evenly thinned.
    pub points: Vec<Point>,
}

/// A pattern of log lines and how often it occurs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogData {
    /// The message with its changing parts masked; telemetry's text.
    pub template: String,
    /// The rule's pattern that the lines match, when a rule asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// `new`, `burst` or `vanished`, when the template was found by its change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The service that wrote it, for a template that was found by its change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The level of its lines, for a template that was found by its change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Lines in the fault window.
    pub count: u64,
    /// Lines before it.
    pub before: u64,
    /// Some of the lines, cleaned for people.
    pub samples: Vec<String>,
}
