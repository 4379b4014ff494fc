//! Grafana against its fake, and Prometheus' own questions against recorded answers. The same questions are put to a real Prometheus by
//! the tests of the whole site.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../fake/mod.rs"]
mod fake;
mod grafana;
mod names;
mod prometheus;

use std::sync::Arc;

use jiff::Timestamp;
use quell_connect::Access;
use quell_tool::{ReadRegistry, ReadTool};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_194_400 + second).unwrap()
}

fn registry(tools: Vec<Arc<dyn ReadTool>>) -> ReadRegistry {
    let mut registry = ReadRegistry::new();
    tools.into_iter().for_each(|tool| registry.register(tool).unwrap());
    registry
}

fn access(url: &str) -> Access {
    Access::new(fake::client(), url).unwrap()
}
