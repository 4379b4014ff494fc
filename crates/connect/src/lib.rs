//! Outside systems, one module each. Only this crate names vendors.
//!
//! A source answers a question about the past and changes nothing: [`metrics::MetricSource`], [`logs::LogSource`]. Each is given a
//! shared HTTP client, and bounds what it reads: bytes of a body, series, points, lines, time. What a system says is data; it is
//! checked for its form and never followed. A [`Guard`] repeats what failed and spares a source that keeps failing. A source that cannot answer says so by a [`SourceError`], since "no data" is not "healthy".

#[cfg(feature = "actions")]
pub mod actions;
#[cfg(feature = "metrics")]
pub mod alertmanager;
#[cfg(feature = "metrics")]
mod duration;
#[cfg(feature = "fake")]
pub mod fake;
#[cfg(feature = "metrics")]
pub mod grafana;
#[cfg(feature = "ask")]
mod guard;
#[cfg(feature = "health")]
pub mod health;
#[cfg(feature = "ask")]
mod http;
#[cfg(feature = "language-model")]
pub mod language_model;
#[cfg(feature = "logs")]
pub mod logs;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "platform")]
pub mod platform;
#[cfg(feature = "metrics")]
pub mod prometheus;
mod source;

#[cfg(feature = "ask")]
pub use guard::{Guard, GuardOptions};
#[cfg(feature = "ask")]
pub use http::{Access, Endpoint};
pub use source::{Now, SourceError};
