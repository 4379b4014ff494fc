//! What was looked at besides series and lines: the platform's workloads, the health of dependencies, changes, and who calls whom.
//! All of its text is telemetry's.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Objects in one answer of a platform at the most.
pub const PLATFORM_OBJECTS_MAX: usize = 2_000;
/// Events in one answer of a platform at the most; the newest.
pub const PLATFORM_EVENTS_MAX: usize = 2_000;
/// Changes that one diagnosis is told of at the most; the newest.
pub const CHANGES_MAX: usize = 500;
/// Edges of a topology at the most.
pub const EDGES_MAX: usize = 20_000;

/// A question to a platform such as Kubernetes. Input of the tool `platform-state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformQuery {
    /// Events from this instant on; objects are as they are now.
    pub from: Timestamp,
    /// Events until this instant.
    pub to: Timestamp,
    /// In this namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of this service only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// The answer of the tool `platform-state`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlatformSet {
    /// Which source answered: `kubernetes`.
    pub source: String,
    /// The query in that source's own words.
    pub query: String,
    /// Workloads, pods and nodes as they are.
    pub objects: Vec<PlatformObject>,
    /// What happened to them, in the order of time.
    pub events: Vec<PlatformEvent>,
    /// Whether something was left out because of a limit.
    #[serde(default)]
    pub truncated: bool,
}

/// A pod, a workload or a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformObject {
    /// `Pod`, `Deployment`, `Node`, ...
    pub kind: String,
    /// Empty for what has none.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The service that it is part of; empty when unknown.
    #[serde(default)]
    pub service: String,
    /// The node that it runs on; empty when unknown.
    #[serde(default)]
    pub node: String,
    /// Whether it is ready.
    pub ready: bool,
    /// `Running`, `CrashLoopBackOff`, `ImagePullBackOff`, `MemoryPressure`, ...: the state that explains most.
    pub state: String,
    /// Restarts of its containers.
    #[serde(default)]
    pub restarts: u32,
    /// How its last container ended, such as `OOMKilled`; empty when none did.
    #[serde(default)]
    pub last_exit: String,
    /// The rollout's revision; empty for what has none.
    #[serde(default)]
    pub revision: String,
    /// When its state or its revision last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
}

/// Something that the platform noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformEvent {
    /// When it last happened.
    pub at: Timestamp,
    /// The kind of object that it happened to.
    pub kind: String,
    /// The object's namespace.
    #[serde(default)]
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The service that the object is part of; empty when unknown.
    #[serde(default)]
    pub service: String,
    /// `OOMKilling`, `BackOff`, `FailedScheduling`, ...
    pub reason: String,
    /// The message, cut.
    pub message: String,
    /// How often it happened.
    #[serde(default)]
    pub count: u32,
    /// Whether it is a warning.
    #[serde(default)]
    pub warning: bool,
}

/// The answer of the tool `health-check`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthSet {
    /// Which source answered: `http-health`.
    pub source: String,
    /// What was asked, in its own words.
    pub query: String,
    /// One for each dependency that was asked.
    pub checks: Vec<HealthCheck>,
}

/// How a dependency is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// When it was asked.
    pub at: Timestamp,
    /// The dependency by its configured name, which is a service's.
    pub name: String,
    /// Whether it is well.
    pub healthy: bool,
    /// How long the answer took, in seconds.
    pub seconds: f64,
    /// The status or what went wrong, cut.
    pub message: String,
}

/// A deployment, a change of configuration, or whatever else was changed on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRecord {
    /// When it took effect.
    pub at: Timestamp,
    /// `deploy`, `config`, `scale`, `migration`, ...
    pub kind: String,
    /// The service that was changed; empty when unknown.
    #[serde(default)]
    pub service: String,
    /// From what to what, such as a version; may be empty.
    #[serde(default)]
    pub version: String,
    /// Who or what did it; may be empty.
    #[serde(default)]
    pub by: String,
    /// One sentence.
    #[serde(default)]
    pub summary: String,
    /// Where to read more; may be empty.
    #[serde(default)]
    pub link: String,
}

/// Who calls whom: an edge goes from a service to one that it depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The edges.
    pub edges: Vec<Edge>,
}

/// One service depends on another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Who calls.
    pub caller: String,
    /// Who is called.
    pub callee: String,
}
