//! An agent over real connections: the client of this crate, plain HTTP, restarts, and the official SDK in
//! Python.

#![allow(clippy::unwrap_used, reason = "in tests, helpers included, a failure is what the test is for")]

mod bench;
mod calls;
mod card;
mod endless;
mod python;
mod restart;
#[path = "../python/sdk.rs"]
mod sdk;
