//! Prometheus as it answers, and as it should not.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use fake::{Fake, client, context, nowhere};
use jiff::{SignedDuration, Timestamp};
use quell_connect::metrics::{MetricSource, PrometheusSource, QueryMetrics, SERIES_MAX};
use quell_connect::{Access, SourceError};
use quell_incident::evidence::{MetricQuery, POINTS_MAX};
use quell_tool::{CallContext, ReadRegistry, ToolError};
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_194_400 + second).unwrap()
}

fn query(labels: &[(&str, &str)]) -> MetricQuery {
    MetricQuery {
        metric: "demo_error_ratio".to_owned(),
        labels: labels.iter().copied().collect(),
        from: at(0),
        to: at(100),
    }
}

async fn ask(fake: &Fake, query: &MetricQuery) -> Result<quell_incident::evidence::SeriesSet, SourceError> {
    PrometheusSource::new(fake.access()).series(query, &context()).await
}

fn matrix(result: Value) -> String {
    json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string()
}

#[tokio::test]
async fn a_recorded_matrix_is_read() {
    let fake = Fake::saying(200, include_str!("fixtures/prometheus-v1-query_range.json")).await;
    let set = ask(&fake, &query(&[("service", "checkout")])).await.unwrap();
    assert_eq!((set.source.as_str(), set.truncated), ("prometheus", false));
    assert_eq!(set.query, "demo_error_ratio{service=\"checkout\"}[100000ms]");
    let series = &set.series[0];
    assert_eq!(series.points.len(), 7);
    assert_eq!((series.points[0].at, series.points[0].value), (at(39), 0.0));
    assert!(series.labels.get("__name__").is_none());
    assert!(series.labels.get("service").unwrap().is("checkout"));
    let asked = fake.asked().remove(0);
    assert!(
        asked.starts_with("/api/v1/query?query=demo_error_ratio%7Bservice%3D%22checkout%22%7D%5B100000ms%5D"),
        "{asked}"
    );
    assert!(asked.ends_with("&time=1795194500.000"), "{asked}");
}

#[tokio::test]
async fn values_of_labels_cannot_leave_their_quotes() {
    let fake = Fake::saying(200, matrix(json!([]))).await;
    let hostile = query(&[("service", "x\"} or vector(1) # \\"), ("host", "a\nb")]);
    let set = ask(&fake, &hostile).await.unwrap();
    assert_eq!(set.query, "demo_error_ratio{host=\"a b\",service=\"x\\\"} or vector(1) # \\\\\"}[100000ms]");
}

#[tokio::test]
async fn names_of_other_signs_stand_in_quotes() {
    let fake = Fake::saying(200, matrix(json!([]))).await;
    for (metric, labels, sent) in [
        (
            "http.server.duration",
            vec![("service.name", "x")],
            r#"{"http.server.duration","service.name"="x"}"#,
        ),
        ("http.server.duration", vec![], r#"{"http.server.duration"}"#),
        ("up", vec![("service.name", "x"), ("job", "y")], r#"up{job="y","service.name"="x"}"#),
        ("job:up:sum", vec![("job", "y")], r#"job:up:sum{job="y"}"#),
        ("1up", vec![], r#"{"1up"}"#),
        ("up} or vector(1)", vec![("a=\"b\",c", "d")], r#"{"up} or vector(1)","a=\"b\",c"="d"}"#),
    ] {
        let asked = MetricQuery { metric: metric.to_owned(), ..query(&labels) };
        assert_eq!(ask(&fake, &asked).await.unwrap().query, format!("{sent}[100000ms]"));
    }
}

#[tokio::test]
async fn names_that_are_none_are_not_sent() {
    let fake = Fake::saying(200, matrix(json!([]))).await;
    for metric in ["", "a\nb", &"a".repeat(257)] {
        let asked = MetricQuery { metric: metric.to_owned(), ..query(&[]) };
        assert!(matches!(ask(&fake, &asked).await, Err(SourceError::Invalid { .. })), "{metric}");
    }
    assert!(matches!(ask(&fake, &query(&[("a\u{0}", "d")])).await, Err(SourceError::Invalid { .. })));
    let backwards = MetricQuery { to: at(-1), ..query(&[]) };
    assert!(matches!(ask(&fake, &backwards).await, Err(SourceError::Invalid { .. })));
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn what_is_not_finite_or_outside_the_range_is_left_out() {
    let values = json!([
        [1_795_194_399.0, "1"],
        [1_795_194_401.5, "2"],
        [1_795_194_402, "NaN"],
        [1_795_194_403, "+Inf"],
        [1_795_194_404, "word"],
        [1_795_194_405, "3"],
        [1_795_194_900, "4"]
    ]);
    let fake = Fake::saying(200, matrix(json!([{"metric": {}, "values": values}]))).await;
    let set = ask(&fake, &query(&[])).await.unwrap();
    let values: Vec<f64> = set.series[0].points.iter().map(|point| point.value).collect();
    assert_eq!(values, [2.0, 3.0]);
    assert_eq!(set.series[0].points[0].at, at(1) + SignedDuration::from_millis(500));
}

#[tokio::test]
async fn errors_are_told_by_what_prometheus_says() {
    let fake = Fake::saying(400, include_str!("fixtures/prometheus-v1-query-error.json")).await;
    let error = ask(&fake, &query(&[])).await.unwrap_err();
    assert!(error.to_string().contains("unclosed left parenthesis"), "{error}");
    let fake = Fake::saying(503, "<html>busy password=hunter2 \u{1b}[31m</html>").await;
    let error = ask(&fake, &query(&[])).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Answered { status: 503, body } if !body.contains("hunter2") && !body.contains('\u{1b}'))
    );
    assert!(ToolError::from(error).is_retryable());
    for body in [
        "",
        "[]",
        "{\"status\":\"success\"}",
        &matrix(json!({"a": 1})),
        &matrix(json!([{"values": [["x", 1]]}])),
        include_str!("fixtures/prometheus-v1-query.json"),
    ] {
        let fake = Fake::saying(200, body).await;
        assert!(matches!(ask(&fake, &query(&[])).await, Err(SourceError::Malformed { .. })), "{body}");
    }
}

#[tokio::test]
async fn too_much_is_cut_or_refused() {
    let many: Vec<Value> = (0..SERIES_MAX + 5)
        .map(|i| json!({"metric": {"i": i.to_string()}, "values": [[1_795_194_401, "1"]]}))
        .collect();
    let fake = Fake::saying(200, matrix(json!(many))).await;
    let set = ask(&fake, &query(&[])).await.unwrap();
    assert_eq!((set.series.len(), set.truncated), (SERIES_MAX, true));

    let long: Vec<Value> =
        (0..POINTS_MAX * 3).map(|i| json!([1_795_194_400.0 + i as f64 / 100.0, i.to_string()])).collect();
    let fake = Fake::saying(200, matrix(json!([{"metric": {}, "values": long}]))).await;
    let set = ask(&fake, &query(&[])).await.unwrap();
    assert_eq!((set.series[0].points.len(), set.truncated), (POINTS_MAX, true));
    assert_eq!(set.series[0].points.last().unwrap().value, (POINTS_MAX * 3 - 1) as f64);

    let huge = "x".repeat(33 << 20);
    let fake = Fake::answering(move |_| huge.clone().into_response()).await;
    assert!(matches!(ask(&fake, &query(&[])).await, Err(SourceError::TooLarge { .. })));
}

#[tokio::test]
async fn a_source_that_is_silent_or_gone_is_unavailable() {
    let silent = Fake::silent().await;
    let short = CallContext::within(Duration::from_millis(50));
    let asked = PrometheusSource::new(silent.access()).series(&query(&[]), &short).await;
    assert_eq!(asked, Err(SourceError::TimedOut));
    let access = Access::new(client(), &nowhere().await).unwrap();
    let asked = PrometheusSource::new(access).series(&query(&[]), &context()).await;
    assert!(matches!(asked, Err(SourceError::Unreachable { .. })), "{asked:?}");
    assert!(Access::new(client(), "ftp://127.0.0.1/").is_err());
    assert!(Access::new(client(), "127.0.0.1:9090").is_err());
}

#[tokio::test]
async fn the_tool_takes_and_gives_the_domains_own_types() {
    let fake = Fake::saying(200, include_str!("fixtures/prometheus-v1-query_range.json")).await;
    let access =
        Access::new(client(), &format!("{}/prefix", fake.url())).unwrap().with_bearer("s3cret".into());
    let mut registry = ReadRegistry::new();
    registry.register(Arc::new(QueryMetrics::new(Arc::new(PrometheusSource::new(access))))).unwrap();
    let input = serde_json::to_value(query(&[])).unwrap();
    let answer = registry.call(QueryMetrics::NAME, input, &context()).await.unwrap();
    let set: quell_incident::evidence::SeriesSet = serde_json::from_value(answer).unwrap();
    assert_eq!(set.series.len(), 1);
    let asked = fake.asked().remove(0);
    assert!(asked.starts_with("/prefix/api/v1/query?") && asked.ends_with(" Bearer s3cret"), "{asked}");
    let wrong = registry.call(QueryMetrics::NAME, json!({"metric": "up", "step": 5}), &context()).await;
    assert!(matches!(wrong, Err(ToolError::InvalidInput { .. })));
}
