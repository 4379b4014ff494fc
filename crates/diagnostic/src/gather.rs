//! Gathering evidence: everything that the rules read, at once and within a time. What could not be had is part of the evidence.

use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use quell_connect::health::HealthChecks;
use quell_connect::metrics::QueryMetrics;
use quell_connect::platform::PlatformState;
use quell_diagnose::{MetricRead, RuleSet};
use quell_incident::contract::DiagnoseRequest;
use quell_incident::evidence::{EvidenceSet, LogLines, LogQuery, MetricQuery, SeriesSet, Unavailable};
use quell_incident::surroundings::{HealthSet, PlatformQuery, PlatformSet, Topology};
use quell_tool::{CallContext, ToolError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::sources::Tools;

/// Calls of tools at the same time.
const CALLS_AT_ONCE: usize = 8;
/// The share of the time in which a source may say which metrics it has.
const NAMES_SHARE: f64 = 0.2;
/// One answer of a tool at the most, in bytes of JSON.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Lines of one source of logs at the most.
const LINES_MAX: u32 = 5_000;
/// An incident older than this is looked at from here on: what began it is not in reach of the sources any more.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// How evidence is gathered.
#[derive(Clone, Debug)]
pub(crate) struct Gathering {
    /// How much time before the incident is compared with.
    pub(crate) window_before: SignedDuration,
    /// How long it may take.
    pub(crate) within: Duration,
    /// Who calls whom, as it is configured.
    pub(crate) topology: Topology,
}

enum Answer {
    Metrics(SeriesSet),
    Logs(LogLines),
    Health(HealthSet),
    Platform(PlatformSet),
    None(Unavailable),
}

/// Asks for all that the rules read. It ends in time, with what has come by then.
pub(crate) async fn gather(
    tools: &Tools,
    rules: &RuleSet,
    request: &DiagnoseRequest,
    gathering: &Gathering,
) -> EvidenceSet {
    let context = CallContext::within(gathering.within)
        .with_output_bytes_max(ANSWER_BYTES_MAX)
        .for_incident(request.incident.id.to_string());
    let (from, to) = window(request, gathering.window_before);
    let metrics = async {
        let mut reads = rules.reads();
        if tools.metrics.is_none() {
            reads.clear();
        }
        leave_out_unknown(&mut reads, tools, &context, gathering).await;
        let calls = reads.into_iter().map(|read| Call::Metric(query(read, from, to)));
        make_all(calls.collect(), tools, &context).await
    };
    let mut calls = Vec::new();
    if rules.reads_logs() {
        let query = LogQuery { from, to, service: None, contains: None, lines_max: LINES_MAX };
        calls.extend(tools.log_tools.iter().map(|tool| Call::Logs(tool.clone(), query.clone())));
    }
    calls.extend(tools.has_health.then_some(Call::Health));
    let platform = PlatformQuery { from, to, namespace: None, service: None };
    calls.extend(tools.has_platform.then_some(Call::Platform(platform)));
    let (metrics, others) = tokio::join!(metrics, make_all(calls, tools, &context));
    let mut evidence = EvidenceSet {
        changes: request.changes.clone(),
        topology: gathering.topology.clone(),
        ..EvidenceSet::default()
    };
    for answer in metrics.into_iter().chain(others) {
        match answer {
            // A metric that does not exist here says nothing.
            Answer::Metrics(set) if set.series.is_empty() => {}
            Answer::Metrics(set) => evidence.metrics.push(set),
            Answer::Logs(lines) => evidence.logs.push(lines),
            Answer::Health(set) => evidence.health.push(set),
            Answer::Platform(set) => evidence.platform.push(set),
            Answer::None(unavailable) => evidence.unavailable.push(unavailable),
        }
    }
    evidence
}

/// The answers come in the order of the questions, so the same telemetry gives the same evidence.
async fn make_all(calls: Vec<Call>, tools: &Tools, context: &CallContext) -> Vec<Answer> {
    let answers = futures::stream::iter(calls).map(|call| call.make(tools, context)).buffered(CALLS_AT_ONCE);
    answers.collect().await
}

/// Rules know many metrics, and a site has some of them: those that the source does not have are not asked for. A source that cannot
/// tell is asked for all.
async fn leave_out_unknown(
    reads: &mut Vec<MetricRead>,
    tools: &Tools,
    context: &CallContext,
    gathering: &Gathering,
) {
    let Some(source) = &tools.metrics else { return };
    // Most of the time is for the questions themselves.
    let within = gathering.within.mul_f64(NAMES_SHARE);
    match tokio::time::timeout(within, source.names(context)).await {
        Ok(Ok(Some(names))) => reads.retain(|read| names.contains(&read.metric)),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "which metrics there are is not known"),
        Err(_elapsed) => tracing::debug!("which metrics there are was not said in time"),
    }
}

fn window(request: &DiagnoseRequest, window_before: SignedDuration) -> (Timestamp, Timestamp) {
    let to = request.reference_time;
    let earliest = to.checked_sub(AGE_MAX).unwrap_or(Timestamp::MIN);
    let started = request.incident.started_at.clamp(earliest, to);
    (started.checked_sub(window_before).unwrap_or(Timestamp::MIN), to)
}

fn query(read: MetricRead, from: Timestamp, to: Timestamp) -> MetricQuery {
    MetricQuery { metric: read.metric, labels: read.labels, from, to }
}

enum Call {
    Metric(MetricQuery),
    Logs(String, LogQuery),
    Health,
    Platform(PlatformQuery),
}

impl Call {
    async fn make(self, tools: &Tools, context: &CallContext) -> Answer {
        match self {
            Self::Metric(query) => match ask(tools, QueryMetrics::NAME, &query, context).await {
                Ok(set) => Answer::Metrics(set),
                Err(error) => {
                    let labels: Vec<String> = query
                        .labels
                        .iter()
                        .map(|(name, value)| format!("{name}={:?}", value.for_people()))
                        .collect();
                    let words = format!(
                        "{}{{{}}} from {} to {}",
                        query.metric,
                        labels.join(","),
                        query.from,
                        query.to
                    );
                    Answer::None(unavailable(QueryMetrics::NAME, words, &error))
                }
            },
            Self::Logs(tool, query) => match ask(tools, &tool, &query, context).await {
                Ok(lines) => Answer::Logs(lines),
                Err(error) => Answer::None(unavailable(
                    &tool,
                    format!("lines from {} to {}", query.from, query.to),
                    &error,
                )),
            },
            Self::Health => match ask(tools, HealthChecks::NAME, &json!({}), context).await {
                Ok(set) => Answer::Health(set),
                Err(error) => {
                    Answer::None(unavailable(HealthChecks::NAME, "health of dependencies".to_owned(), &error))
                }
            },
            Self::Platform(query) => match ask(tools, PlatformState::NAME, &query, context).await {
                Ok(set) => Answer::Platform(set),
                Err(error) => Answer::None(unavailable(
                    PlatformState::NAME,
                    format!("objects, and events from {} to {}", query.from, query.to),
                    &error,
                )),
            },
        }
    }
}

async fn ask<Q: Serialize, A: DeserializeOwned>(
    tools: &Tools,
    tool: &str,
    query: &Q,
    context: &CallContext,
) -> Result<A, ToolError> {
    let broken = |why: String| ToolError::Broken { why };
    let input = serde_json::to_value(query).map_err(|error| broken(error.to_string()))?;
    let answer = tools.registry.call(tool, input, context).await?;
    serde_json::from_value(answer)
        .map_err(|error| broken(format!("its answer is not of the agreed form: {error}")))
}

fn unavailable(source: &str, query: String, error: &ToolError) -> Unavailable {
    Unavailable { source: source.to_owned(), query, why: error.to_string() }
}
