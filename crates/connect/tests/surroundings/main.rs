//! What is looked at besides series and lines: the health of dependencies, and a platform, against its fake and on bad days.
#![cfg(all(feature = "health", feature = "platform"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../fake/mod.rs"]
mod fake;
mod health;
mod kubernetes;

use jiff::{SignedDuration, Timestamp};

fn start() -> Timestamp {
    "2026-03-01T09:00:00Z".parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    start() + SignedDuration::from_secs(second)
}
