//! Systems that keep logs, against fakes that refuse what they refuse, and on bad days.
#![cfg(feature = "logs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod elasticsearch;
mod field;
mod journal;
mod loki;
mod splunk;
mod writers;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_connect::logs::LogSource;
use quell_connect::{Access, Endpoint, Guard, GuardOptions, SourceError};
use quell_incident::evidence::{LogLines, LogQuery};
use quell_tool::CallContext;

fn start() -> Timestamp {
    "2026-03-01T09:00:00Z".parse().unwrap()
}

fn at(milliseconds: i64) -> Timestamp {
    start() + SignedDuration::from_millis(milliseconds)
}

/// The first ten minutes.
fn query() -> LogQuery {
    LogQuery { from: start(), to: at(600_000), service: None, contains: None, lines_max: 100 }
}

fn context() -> CallContext {
    CallContext::within(Duration::from_secs(60))
}

fn client() -> reqwest::Client {
    // Every test may be the first one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

fn access(url: &str) -> Access {
    Access::new(client(), url).unwrap()
}

/// As the agent asks: again after a pause, and not for ever.
fn endpoint(access: Access) -> Endpoint {
    let options = GuardOptions {
        timeout: Duration::from_secs(60),
        pause: Duration::from_millis(1),
        failures_max: 50,
        ..GuardOptions::default()
    };
    Endpoint::new(access, Guard::new("the source", options))
}

fn messages(lines: &LogLines) -> Vec<&str> {
    lines.lines.iter().map(|line| line.message.as_str()).collect()
}

async fn ask(source: &dyn LogSource, query: &LogQuery) -> Result<LogLines, SourceError> {
    source.lines(query, &context()).await
}

/// What every source does with a server that does not do as it should: an error with a reason, in time, and never lines.
async fn has_bad_days(source: &dyn LogSource, feels: impl Fn(quell_connect::fake::Mood)) {
    use quell_connect::fake::Mood;
    let ask = async || source.lines(&query(), &context()).await;
    feels(Mood::Busy(2));
    assert!(ask().await.is_ok(), "asked again until it answers");
    feels(Mood::Unavailable);
    assert!(matches!(ask().await, Err(SourceError::Answered { status: 503, .. })));
    feels(Mood::Cut(40));
    let error = ask().await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    for nonsense in ["[]", "\"word\"", "<html>", "{\"hits\": 5, \"data\": 5, \"result\": 5}", "\u{0}\u{1}"] {
        feels(Mood::Saying(nonsense.to_owned()));
        let error = ask().await.unwrap_err();
        assert!(matches!(error, SourceError::Malformed { .. }), "{nonsense}: {error}");
    }
    feels(Mood::Silent);
    let short = CallContext::within(Duration::from_millis(50));
    assert_eq!(source.lines(&query(), &short).await, Err(SourceError::TimedOut));
    feels(Mood::Well);
    assert!(ask().await.is_ok());
}
