//! Platforms that run services: their workloads as they are, and what happened to them.

mod kubernetes;
mod objects;
mod tool;

use async_trait::async_trait;
use quell_incident::surroundings::{PlatformQuery, PlatformSet};
use quell_tool::CallContext;

use crate::source::SourceError;

pub use kubernetes::{KubernetesOptions, KubernetesPlatform};
pub use tool::PlatformState;

/// A platform that can be asked how its workloads are.
#[async_trait]
pub trait PlatformSource: Send + Sync {
    /// What it is called in evidence: `kubernetes`.
    fn name(&self) -> &str;

    /// The query in the source's own words, also when it cannot be answered.
    fn words(&self, query: &PlatformQuery) -> String;

    /// Objects as they are and events of the time range.
    ///
    /// # Errors
    /// [`SourceError`] when nothing can be had. What could be had in part says so in its query, and that it is truncated.
    async fn state(&self, query: &PlatformQuery, context: &CallContext) -> Result<PlatformSet, SourceError>;
}
