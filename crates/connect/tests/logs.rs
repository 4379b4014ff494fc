//! Log sources: files, and the simulator's log.
#![cfg(feature = "logs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod fake;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fake::{Fake, client, context, nowhere};
use jiff::{SignedDuration, Timestamp};
use quell_connect::logs::{FileLogs, FileLogsOptions, LogSource, SearchLogs, SimulatorLogs};
use quell_connect::{Access, SourceError};
use quell_incident::evidence::{LogLines, LogQuery};
use quell_tool::{CallContext, ReadRegistry};
use serde_json::json;

fn at(second: i64) -> Timestamp {
    "2026-03-01T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second)
}

fn query() -> LogQuery {
    LogQuery { from: at(0), to: at(600), service: None, contains: None, lines_max: 100 }
}

fn messages(lines: &LogLines) -> Vec<&str> {
    lines.lines.iter().map(|line| line.message.as_str()).collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

async fn read(paths: Vec<PathBuf>, query: &LogQuery) -> Result<LogLines, SourceError> {
    FileLogs::new(FileLogsOptions::new(paths)).lines(query, &context()).await
}

#[tokio::test]
async fn plain_and_json_files_are_read_together_in_the_order_of_time() {
    let folder = Folder::new();
    let plain = folder.file(
        "orders.log",
        "2026-03-01 08:59:59 INFO too early\n2026-03-01 09:00:10,500 ERROR failed\n  at main\n2026-03-01 09:20:00 INFO too late\n",
    );
    let json = folder.file(
        "events.jsonl",
        "{\"time\":\"2026-03-01T09:00:05Z\",\"level\":\"WARN\",\"service\":\"db\",\"message\":\"slow\"}\n",
    );
    let lines = read(vec![plain, json], &query()).await.unwrap();
    assert_eq!(messages(&lines), ["slow", "ERROR failed\n  at main"], "a trace belongs to its line");
    let services: Vec<&str> = lines.lines.iter().map(|line| line.service.as_str()).collect();
    assert_eq!(services, ["db", "orders"]);
    assert!(!lines.truncated);
}

#[tokio::test]
async fn service_and_text_select() {
    let folder = Folder::new();
    let path = folder.file("a.log", "2026-03-01T09:00:01Z one\n2026-03-01T09:00:02Z TWO\n");
    let asked = LogQuery { contains: Some("two".to_owned()), ..query() };
    assert_eq!(messages(&read(vec![path.clone()], &asked).await.unwrap()), ["TWO"]);
    let asked = LogQuery { service: Some("b".to_owned()), ..query() };
    assert!(read(vec![path], &asked).await.unwrap().lines.is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_text_and_endless_lines_are_bounded() {
    let folder = Folder::new();
    let mut bytes = b"2026-03-01T09:00:01Z \xff\xfe broken\n2026-03-01T09:00:02Z ".to_vec();
    bytes.extend(vec![b'x'; 1 << 20]);
    bytes.extend(b"\n\n2026-03-01T09:00:03Z last");
    let path = folder.file("a.log", bytes);
    let lines = read(vec![path], &query()).await.unwrap();
    assert_eq!(lines.lines.len(), 3);
    assert!(lines.lines[0].message.ends_with("broken"));
    assert_eq!(lines.lines[1].message.chars().count(), 2_000);
    assert_eq!(lines.lines[2].message, "last");
}

#[tokio::test]
async fn a_large_file_is_read_from_its_end() {
    let folder = Folder::new();
    let text: String = (0..600).map(|second| format!("{} line {second}\n", at(second))).collect();
    let path = folder.file("a.log", &text);
    let options = FileLogsOptions { file_bytes_max: 1_000, ..FileLogsOptions::new(vec![path.clone()]) };
    let lines = FileLogs::new(options.clone()).lines(&query(), &context()).await.unwrap();
    assert!(lines.truncated && lines.lines.len() < 50);
    assert_eq!(messages(&lines).last(), Some(&"line 599"));
    assert!(lines.lines[0].message.starts_with("line "), "no half line: {}", lines.lines[0].message);
    // What was read reaches back to before the range, so nothing of the range is missing.
    let recent = LogQuery { from: at(590), ..query() };
    assert!(!FileLogs::new(options).lines(&recent, &context()).await.unwrap().truncated);
    let few = LogQuery { lines_max: 3, ..query() };
    let lines = read(vec![path], &few).await.unwrap();
    assert_eq!(messages(&lines), ["line 597", "line 598", "line 599"]);
    assert!(lines.truncated);
}

#[tokio::test]
async fn a_missing_file_is_told() {
    let folder = Folder::new();
    let missing = folder.0.path().join("missing.log");
    let error = read(vec![missing.clone()], &query()).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Unreachable { what, .. } if what.ends_with("missing.log")),
        "{error}"
    );
    let path = folder.file("a.log", "2026-03-01T09:00:01Z one\n");
    let lines = read(vec![missing, path], &query()).await.unwrap();
    assert!(lines.query.contains("cannot read") && lines.truncated);
    assert_eq!(messages(&lines), ["one"]);
    assert!(read(vec![folder.0.path().to_owned()], &query()).await.is_err());
}

#[tokio::test]
async fn the_simulators_log_is_asked_and_checked() {
    let body = json!([
        {"time": "2026-03-01T09:00:02Z", "level": "ERROR", "service": "orders", "instance": "app-1", "message": "m".repeat(5_000)},
        {"time": "2026-03-01T09:00:01Z", "level": "INFO", "service": "orders", "instance": "app-1", "message": "first"},
        {"time": "2026-03-01T10:00:01Z", "level": "INFO", "service": "orders", "instance": "app-1", "message": "outside"}
    ]);
    let fake = Fake::saying(200, body.to_string()).await;
    let source = SimulatorLogs::new(fake.access());
    let asked = LogQuery { service: Some("a&b=c".to_owned()), contains: Some("x y".to_owned()), ..query() };
    let lines = source.lines(&asked, &context()).await.unwrap();
    assert_eq!(lines.lines.len(), 2);
    assert_eq!((lines.lines[0].message.as_str(), lines.lines[1].level.as_str()), ("first", "error"));
    assert_eq!(lines.lines[1].message.len(), 2_000);
    assert_eq!(
        fake.asked(),
        [
            "/logs?since=2026-03-01T09%3A00%3A00Z&until=2026-03-01T09%3A10%3A00Z&limit=100&service=a%26b%3Dc&contains=x+y"
        ]
    );
}

#[tokio::test]
async fn a_simulator_that_answers_otherwise_is_unavailable() {
    for (status, body) in [(500, "oops"), (200, "{}"), (200, "[{\"time\": 5}]"), (200, "")] {
        let fake = Fake::saying(status, body).await;
        assert!(
            SimulatorLogs::new(fake.access()).lines(&query(), &context()).await.is_err(),
            "{status} {body}"
        );
    }
    let huge = Fake::saying(200, "x".repeat(33 << 20)).await;
    let answer = SimulatorLogs::new(huge.access()).lines(&query(), &context()).await;
    assert!(matches!(answer, Err(SourceError::TooLarge { .. })));
    let silent = Fake::silent().await;
    let short = CallContext::within(Duration::from_millis(50));
    assert_eq!(SimulatorLogs::new(silent.access()).lines(&query(), &short).await, Err(SourceError::TimedOut));
    let gone = Access::new(client(), &nowhere().await).unwrap();
    let answer = SimulatorLogs::new(gone).lines(&query(), &context()).await;
    assert!(matches!(answer, Err(SourceError::Unreachable { .. })));
}

#[tokio::test]
async fn the_tool_takes_and_gives_the_domains_own_types() {
    let folder = Folder::new();
    let path = folder.file("a.log", "2026-03-01T09:00:01Z token=hunter2hunter2 used\n");
    let mut registry = ReadRegistry::new();
    let source = Arc::new(FileLogs::new(FileLogsOptions::new(vec![path])));
    registry.register(Arc::new(SearchLogs::new(source.clone()))).unwrap();
    registry.register(Arc::new(SearchLogs::named("search-logs.file", source))).unwrap();
    let input = serde_json::to_value(query()).unwrap();
    for name in [SearchLogs::NAME, "search-logs.file"] {
        let answer = registry.call(name, input.clone(), &context()).await.unwrap();
        let lines: LogLines = serde_json::from_value(answer).unwrap();
        assert_eq!(messages(&lines), ["token=*** used"]);
    }
    let wrong = LogQuery { lines_max: 0, ..query() };
    assert!(registry.call(SearchLogs::NAME, serde_json::to_value(wrong).unwrap(), &context()).await.is_err());
}

#[tokio::test]
async fn what_follows_a_line_belongs_to_it_where_it_is_written_like_that() {
    let folder = Folder::new();
    let python = folder.file(
        "python.log",
        "2026-03-01 09:00:01 ERROR failed\nTraceback (most recent call last):\n  File \"x.py\", line 1, in f\nValueError: bad\nERROR of another kind\n",
    );
    let containers = folder.file(
        "cri.log",
        "2026-03-01T09:00:02Z stderr F ERROR failed\n2026-03-01T09:00:02.1Z stderr F \tat com.example.Main(Main.java:7)\n2026-03-01T09:00:03Z stdout P half \n2026-03-01T09:00:03.1Z stdout F and half\n",
    );
    let lines = read(vec![python, containers], &query()).await.unwrap();
    assert_eq!(
        messages(&lines),
        [
            "ERROR failed\nTraceback (most recent call last):\n  File \"x.py\", line 1, in f\nValueError: bad",
            "ERROR of another kind",
            "ERROR failed\n\tat com.example.Main(Main.java:7)",
            "half and half",
        ]
    );
    let levels: Vec<&str> = lines.lines.iter().map(|line| line.level.as_str()).collect();
    assert_eq!(levels, ["error", "error", "error", ""]);
}

#[tokio::test]
async fn lines_without_a_time_are_counted_and_shown() {
    let folder = Folder::new();
    let untimed = folder.file("untimed.log", "ERROR pool exhausted\n09:00 again\n");
    let timed = folder.file("timed.log", "banner\n2026-03-01T09:00:01Z one\n");
    let lines = read(vec![untimed, timed], &query()).await.unwrap();
    assert_eq!(messages(&lines), ["one"]);
    let told: Vec<String> = lines.left_out.iter().map(|left_out| left_out.told()).collect();
    assert_eq!(told, ["3 lines without a time left out: ERROR pool exhausted"]);
}
