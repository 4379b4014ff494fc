//! What comes in and is not as it should be: it is told why, nothing is lost, and the coordinator goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "../common/mod.rs"]
mod common;

mod api;
mod callers;
mod folders;
mod programs;
mod secrets;
mod senders;
mod webhooks;
