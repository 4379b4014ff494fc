//! What every daemon of Quell shares, and nothing that only one of them needs.
//!
//! * [`config`] reads one YAML file, environment variables, flags;
//! * [`run`] knows start, signals, reload, drain;
//! * [`telemetry`] begins the log;
//! * [`clock`] makes time and ids inputs;
//! * [`mod@listen`] binds addresses and serves connections;
//! * [`door`] keeps web pages out of a port, and traces who was refused;
//! * [`tokens`] tells who calls, and what they may do;
//! * [`mod@http`] has errors and the metrics page;
//! * [`faults`] has points at which tests let a process crash.
//!
//! Nothing here is global: configuration, clock and shutdown are values that are passed on. Only [`run::run_daemon`], which
//! `main` calls, touches what a process has one of: the log, the panic hook, signals.

pub mod clock;
pub mod config;
pub mod door;
mod exit;
pub mod faults;
pub mod http;
pub mod listen;
pub mod run;
pub mod telemetry;
pub mod tokens;

pub use clock::{Clock, CountingIds, IdSource, ManualClock, SystemClock, SystemIds};
pub use config::{Config, ConfigError, Daemon, Environment, Loading, Period, Scope, Secret};
pub use door::Door;
pub use exit::{Exit, Failure, in_words};
pub use faults::{Crashed, FaultPoints};
pub use http::Problem;
pub use listen::{BindError, Listening, ServeOptions, ServeReport, bind, serve, serve_with};
pub use run::{ArgsCommon, DRAIN, Handle, RunOptions, Signal, Signals, run_daemon, run_until_signal};
pub use telemetry::{LogFormat, LogOptions, TelemetryError};
pub use tokens::{AuthError, Principal, TokenTable, bearer_of};
