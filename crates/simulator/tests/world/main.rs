//! The world by itself: what breaks, what heals, and what the series look like.

#![allow(clippy::unwrap_used, reason = "helpers outside test functions may fail like tests")]

mod healing;
mod lab;
mod records;
mod series;
