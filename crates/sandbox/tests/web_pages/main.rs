//! No web page of another origin acts on any port of any program, or reads anything there: every endpoint, with and without tokens.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it skips; the exemption does not reach its helpers"
)]

mod chromium;
#[path = "../common/mod.rs"]
mod common;
mod ports;
mod requests;
