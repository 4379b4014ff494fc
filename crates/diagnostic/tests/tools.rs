//! The tools `system-monitor` and `log-analyzer` over the simulated world.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use quell_connect::SourceError;
use quell_connect::logs::LogSource;
use quell_connect::metrics::MetricSource;
use quell_diagnose::RuleSet;
use quell_diagnostic::{log_analyzer, system_monitor};
use quell_incident::evidence::{LogLine, LogLines, LogQuery, MetricQuery, Point, Series, SeriesSet};
use quell_service::ManualClock;
use quell_tool::{CallContext, ReadRegistry, ToolError};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// Memory of two servers, one of which grew three minutes ago; nothing else can be read.
struct Memory;

#[async_trait]
impl MetricSource for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn words(&self, query: &MetricQuery) -> String {
        query.metric.clone()
    }

    async fn series(&self, query: &MetricQuery, _context: &CallContext) -> Result<SeriesSet, SourceError> {
        if query.metric != "process_resident_memory_bytes" {
            return Err(SourceError::TimedOut);
        }
        let series = ["app-1:9090", "app-2:9090"].map(|instance| {
            let grows = instance.starts_with("app-1");
            let points = (0..120).rev().map(|step| {
                let seconds = 15 * step;
                let value = if grows && seconds < 180 { 9e8 } else { 2e8 + f64::from(step as i32 % 7) * 1e6 };
                Point { at: ago(seconds), value }
            });
            Series {
                metric: query.metric.clone(),
                labels: [("instance", instance)].into_iter().collect(),
                points: points.filter(|point| point.at >= query.from).collect(),
            }
        });
        Ok(SeriesSet {
            source: "memory".to_owned(),
            query: self.words(query),
            series: series.to_vec(),
            truncated: false,
        })
    }
}

/// A heartbeat for three hours, and errors in the last minutes.
struct Lines;

#[async_trait]
impl LogSource for Lines {
    fn name(&self) -> &str {
        "lines"
    }

    fn words(&self, _query: &LogQuery) -> String {
        "lines".to_owned()
    }

    async fn lines(&self, query: &LogQuery, _context: &CallContext) -> Result<LogLines, SourceError> {
        let line = |at: Timestamp, level: &str, message: String| LogLine {
            at,
            level: level.to_owned(),
            service: "orders".to_owned(),
            instance: String::new(),
            message,
        };
        let mut lines: Vec<LogLine> = (0..180)
            .rev()
            .map(|minute| line(ago(60 * minute), "info", format!("heartbeat {minute}")))
            .collect();
        lines
            .extend((0..30).map(|second| line(ago(300 - second), "error", format!("payment {second} lost"))));
        lines.retain(|line| line.at >= query.from && line.at <= query.to);
        Ok(LogLines {
            source: "lines".to_owned(),
            query: String::new(),
            lines,
            truncated: false,
            left_out: Vec::new(),
        })
    }
}

struct Broken;

#[async_trait]
impl LogSource for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn words(&self, _query: &LogQuery) -> String {
        String::new()
    }

    async fn lines(&self, _query: &LogQuery, _context: &CallContext) -> Result<LogLines, SourceError> {
        Err(SourceError::TimedOut)
    }
}

async fn call(registry: &ReadRegistry, tool: &str, input: Value) -> Result<Value, ToolError> {
    registry.call(tool, input, &CallContext::within(Duration::from_secs(10))).await
}

#[tokio::test]
async fn the_monitor_shows_the_servers_that_were_asked_for() {
    let reads = RuleSet::load(&[]).unwrap().reads();
    let others = reads.len() - 1;
    let mut registry = ReadRegistry::new();
    registry.register(system_monitor(Arc::new(Memory), reads, Arc::new(ManualClock::at(now())))).unwrap();
    let input = json!({"incident_id": "i-1", "servers": ["app-1"]});
    let answer = call(&registry, "system-monitor", input).await.unwrap();
    assert_eq!(answer["incident_id"], "i-1");
    assert_eq!(answer["from"], "2026-03-01T11:30:00Z");
    let signals = answer["signals"].as_array().unwrap();
    assert_eq!(signals.len(), 1);
    assert_eq!((&signals[0]["labels"]["instance"], &signals[0]["last"]), (&json!("app-1:9090"), &json!(9e8)));
    assert_eq!(signals[0]["changed_at"], "2026-03-01T11:57:15Z");
    assert_eq!(answer["unavailable"].as_array().unwrap().len(), others);
    let both = json!({"incident_id": "i-1", "servers": ["app-2:9090", "app-1"], "time_range": "20m"});
    assert_eq!(
        call(&registry, "system-monitor", both).await.unwrap()["signals"].as_array().unwrap().len(),
        2
    );
    for wrong in [
        json!({"incident_id": "i-1", "servers": []}),
        json!({"incident_id": "i-1", "servers": ["a"], "time_range": "soon"}),
        json!({"incident_id": "i-1", "servers": ["a"], "time_range": "100d"}),
        json!({"servers": ["a"]}),
    ] {
        let answer = call(&registry, "system-monitor", wrong.clone()).await;
        assert!(matches!(answer, Err(ToolError::InvalidInput { .. })), "{wrong} {answer:?}");
    }
}

#[tokio::test]
async fn the_analyzer_shows_what_is_new() {
    let mut registry = ReadRegistry::new();
    let clock = Arc::new(ManualClock::at(now()));
    registry.register(log_analyzer(vec![Arc::new(Lines), Arc::new(Broken)], clock.clone())).unwrap();
    let input = json!({"incident_id": "i-1", "time_range": "1h"});
    let answer = call(&registry, "log-analyzer", input).await.unwrap();
    let templates = answer["templates"].as_array().unwrap();
    assert_eq!(templates.len(), 1, "{answer}");
    assert_eq!(
        (&templates[0]["class"], &templates[0]["template"]),
        (&json!("new"), &json!("payment <n> lost"))
    );
    assert_eq!((&templates[0]["count"], &templates[0]["before"]), (&json!(30), &json!(0)));
    assert_eq!(answer["unavailable"].as_array().unwrap().len(), 1);
    let mut alone = ReadRegistry::new();
    alone.register(log_analyzer(vec![Arc::new(Broken)], clock)).unwrap();
    let answer = call(&alone, "log-analyzer", json!({"incident_id": "i-1"})).await;
    assert!(matches!(answer, Err(ToolError::Unreachable { .. })));
}
