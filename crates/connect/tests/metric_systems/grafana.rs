use quell_connect::fake::{FakeGrafana, Mood};
use quell_connect::grafana::grafana_tools;
use quell_connect::metrics::{MetricSource, PrometheusSource};
use quell_connect::{Endpoint, SourceError};
use quell_incident::evidence::MetricQuery;
use quell_tool::ToolError;
use serde_json::{Value, json};

use super::*;
use crate::fake::context;

fn endpoint(fake: &FakeGrafana) -> Endpoint {
    access(&fake.url()).with_bearer("glsa_token".into()).into()
}

fn milliseconds(second: i64) -> i64 {
    at(second).as_millisecond()
}

async fn with_series() -> FakeGrafana {
    let fake = FakeGrafana::start().await.unwrap();
    fake.wants("Bearer glsa_token");
    let samples = [(-1, "9"), (0, "1"), (30, "NaN"), (60, "2.5"), (61, "+Inf")];
    let samples: Vec<(i64, &str)> =
        samples.into_iter().map(|(second, value)| (milliseconds(second), value)).collect();
    fake.add_series("prom", &[("__name__", "demo_error_ratio"), ("service", "check\"out")], &samples);
    fake.add_series("prom", &[("__name__", "demo_error_ratio"), ("service", "other")], &samples);
    fake
}

fn query(labels: &[(&str, &str)]) -> MetricQuery {
    let labels = labels.iter().copied().collect();
    MetricQuery { metric: "demo_error_ratio".to_owned(), labels, from: at(0), to: at(61) }
}

#[tokio::test]
async fn samples_come_through_the_proxy() {
    let fake = with_series().await;
    let source = PrometheusSource::through_grafana(&endpoint(&fake), "prom").unwrap();
    let set = source.series(&query(&[("service", "check\"out")]), &context()).await.unwrap();
    assert_eq!((set.source.as_str(), set.series.len()), ("grafana", 1));
    let values: Vec<f64> = set.series[0].points.iter().map(|point| point.value).collect();
    assert_eq!(values, [1.0, 2.5]);
    assert!(source.names(&context()).await.unwrap().unwrap().contains("demo_error_ratio"));
    assert!(fake.asked()[0].starts_with("GET /api/datasources/proxy/uid/prom/api/v1/query?query="));
}

#[tokio::test]
async fn what_grafana_refuses_is_told() {
    let fake = with_series().await;
    let source = PrometheusSource::through_grafana(&endpoint(&fake), "gone").unwrap();
    let error = source.series(&query(&[]), &context()).await.unwrap_err();
    assert_eq!(error.to_string(), "the source answered with status 404: Unable to find datasource");
    let stranger: Endpoint = access(&fake.url()).into();
    let source = PrometheusSource::through_grafana(&stranger, "prom").unwrap();
    let error = source.series(&query(&[]), &context()).await.unwrap_err();
    assert_eq!(error.to_string(), "the source answered with status 401: Invalid API key");
    for uid in ["", "a/b", "../admin", "a b", "a?b", "ä", &"a".repeat(41)] {
        let source = PrometheusSource::through_grafana(&stranger, uid);
        assert!(matches!(source, Err(SourceError::Invalid { .. })), "{uid}");
    }
}

#[tokio::test]
async fn health_is_told_also_when_it_is_bad() {
    let fake = FakeGrafana::start().await.unwrap();
    let registry = registry(grafana_tools(&endpoint(&fake)));
    let answer = registry.call("grafana-health", json!({}), &context()).await.unwrap();
    assert_eq!(answer, json!({"database": "ok", "version": "11.0.0"}));
    fake.loses_its_database();
    let error = registry.call("grafana-health", json!({}), &context()).await.unwrap_err();
    assert!(matches!(error, ToolError::Upstream { status: 503, .. }), "{error}");
}

#[tokio::test]
async fn a_dashboard_is_told_by_what_it_asks() {
    let fake = FakeGrafana::start().await.unwrap();
    let panel = |title: &str, expr: &str| json!({"title": title, "type": "timeseries", "datasource": {"uid": "prom"}, "targets": [{"expr": expr}, {"hide": true}]});
    let row = json!({"type": "row", "title": "more", "panels": [panel("inner", "rate(a[1m])")]});
    fake.add_dashboard("abc-1", "Orders", json!([panel("outer", "up"), row, {"type": "text"}]));
    let registry = registry(grafana_tools(&endpoint(&fake)));
    let ask = async |uid: &str| registry.call("grafana-dashboard", json!({"uid": uid}), &context()).await;
    let answer = ask("abc-1").await.unwrap();
    assert_eq!((&answer["title"], &answer["folder"]), (&json!("Orders"), &json!("General")));
    let expressions: Vec<&Value> =
        answer["panels"].as_array().unwrap().iter().map(|panel| &panel["expressions"]).collect();
    assert_eq!(expressions, [&json!(["up"]), &json!(["rate(a[1m])"])]);
    assert!(matches!(ask("gone").await, Err(ToolError::NotFound { .. })));
    assert!(matches!(ask("../../admin").await, Err(ToolError::InvalidInput { .. })));
    // A dashboard of any shape, and of any depth, is read without harm.
    let mut deep = json!([]);
    for _ in 0..60 {
        deep = json!([{"panels": deep, "targets": "none", "title": 5}]);
    }
    fake.add_dashboard("deep", "Deep", deep);
    assert_eq!(ask("deep").await.unwrap()["panels"], json!([]));
}

#[tokio::test]
async fn a_query_is_answered_by_points() {
    let fake = with_series().await;
    let registry = registry(grafana_tools(&endpoint(&fake)));
    let ask = async |source: &str, expression: &str, from: i64, to: i64| {
        let input = json!({
            "data_source": source, "expression": expression, "from": at(from).to_string(), "to": at(to).to_string(),
        });
        registry.call("grafana-query", input, &context()).await
    };
    let answer = ask("prom", "demo_error_ratio{service=\"other\"}", 0, 61).await.unwrap();
    let series = &answer["series"][0];
    assert_eq!(series["labels"]["service"], "other");
    assert_eq!(
        series["points"],
        json!([
            [milliseconds(0), 1.0],
            [milliseconds(30), null],
            [milliseconds(60), 2.5],
            [milliseconds(61), null]
        ])
    );
    assert_eq!(ask("prom", "demo_error_ratio", 100, 200).await.unwrap()["series"][0]["points"], json!([]));
    assert_eq!(ask("prom", "no_such_metric", 0, 9).await.unwrap()["series"], json!([]));
    let error = ask("prom", "sum(", 0, 9).await.unwrap_err().to_string();
    assert!(error.contains("parse error"), "{error}");
    assert!(ask("gone", "up", 0, 9).await.unwrap_err().to_string().contains("data source not found"));
    for wrong in [ask("a/b", "up", 0, 9).await, ask("prom", " ", 0, 9).await, ask("prom", "up", 9, 0).await] {
        assert!(matches!(wrong, Err(ToolError::InvalidInput { .. })), "{wrong:?}");
    }
}

#[tokio::test]
async fn frames_of_any_shape_are_read_without_harm() {
    let fake = FakeGrafana::start().await.unwrap();
    let registry = registry(grafana_tools(&endpoint(&fake)));
    let ask = async || {
        let input = json!({"data_source": "p", "expression": "up", "from": at(0).to_string(), "to": at(9).to_string()});
        registry.call("grafana-query", input, &context()).await
    };
    let of = |frame: Value| json!({"results": {"A": {"frames": [frame]}}}).to_string();
    let time = json!({"name": "T", "type": "time"});
    for (frame, series) in [
        (json!({}), 0),
        (json!({"schema": {"fields": [{"type": "number"}]}, "data": {"values": [[1]]}}), 0),
        (json!({"schema": {"fields": [time]}, "data": {"values": []}}), 0),
        (
            json!({"schema": {"fields": [time, {"type": "number"}]}, "data": {"values": [[1, "x", null], [1]]}}),
            1,
        ),
        (json!({"schema": {"fields": [time, {"type": "number"}]}, "data": {"values": [[1], [{}]]}}), 1),
    ] {
        fake.feels(Mood::Saying(of(frame.clone())));
        assert_eq!(ask().await.unwrap()["series"].as_array().unwrap().len(), series, "{frame}");
    }
    for nonsense in ["[]", "{}", "{\"results\": []}", "<html>", ""] {
        fake.feels(Mood::Saying(nonsense.to_owned()));
        assert!(ask().await.is_err(), "{nonsense}");
    }
    fake.feels(Mood::Endless(100));
    assert!(matches!(ask().await, Err(ToolError::OutputTooLarge { .. })));
}
