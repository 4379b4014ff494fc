use axum::response::IntoResponse;
use quell_connect::metrics::{SERIES_MAX, prometheus_tools};
use quell_tool::{Effect, ToolError};
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, context};

/// A Prometheus that gives this, whatever it is asked, and its tools.
async fn saying(status: u16, body: impl Into<String>) -> (Fake, ReadRegistry) {
    let fake = Fake::saying(status, body).await;
    let registry = registry(prometheus_tools(fake.access()));
    (fake, registry)
}

fn success(data: Value) -> String {
    json!({"status": "success", "data": data}).to_string()
}

#[tokio::test]
async fn every_tool_describes_itself_and_only_looks() {
    let (_fake, registry) = saying(200, "").await;
    let names: Vec<&str> = registry.list().into_iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "prometheus-alerts",
            "prometheus-query",
            "prometheus-query-range",
            "prometheus-rules",
            "prometheus-series",
            "prometheus-targets"
        ]
    );
    for spec in registry.list() {
        assert_eq!(spec.effect, Effect::ReadOnly);
        assert_eq!(spec.input_schema["additionalProperties"], false, "{}", spec.name);
    }
}

#[tokio::test]
async fn values_stay_as_prometheus_has_them() {
    let values = json!([[1_795_194_400.5, "NaN"], [1_795_194_401, "+Inf"], [1_795_194_402, "1"]]);
    let data = json!({"resultType": "matrix", "result": [{"metric": {"a": "b"}, "values": values}]});
    let (fake, registry) = saying(200, success(data)).await;
    let input =
        json!({"query": " up ", "from": at(0).to_string(), "to": at(2_000).to_string(), "step_seconds": 0.5});
    let answer = registry.call("prometheus-query-range", input, &context()).await.unwrap();
    assert_eq!(answer["result"][0]["values"], values);
    assert_eq!(
        fake.asked(),
        ["/api/v1/query_range?query=up&start=1795194400.000&end=1795196400.000&step=2.000"],
        "a step that would give too many is made longer"
    );
    let (fake, registry) = saying(200, include_str!("../fixtures/prometheus-v1-query.json")).await;
    let answer = registry
        .call("prometheus-query", json!({"query": "up", "time": at(1).to_string()}), &context())
        .await;
    assert_eq!(answer.unwrap()["result_type"], "vector");
    assert_eq!(fake.asked(), ["/api/v1/query?query=up&time=1795194401.000"]);
}

#[tokio::test]
async fn scalars_are_not_cut_and_long_lists_are() {
    let (_fake, registry) = saying(200, success(json!({"resultType": "scalar", "result": [1, "2"]}))).await;
    let answer = registry.call("prometheus-query", json!({"query": "2"}), &context()).await.unwrap();
    assert_eq!((&answer["result"], &answer["truncated"]), (&json!([1, "2"]), &json!(false)));
    let many: Vec<Value> =
        (0..SERIES_MAX + 5).map(|i| json!({"metric": {"i": i.to_string()}, "value": [1, "1"]})).collect();
    let (_fake, registry) = saying(200, success(json!({"resultType": "vector", "result": many}))).await;
    let answer = registry.call("prometheus-query", json!({"query": "up"}), &context()).await.unwrap();
    assert_eq!(
        (answer["result"].as_array().unwrap().len(), &answer["truncated"]),
        (SERIES_MAX, &json!(true))
    );
}

#[tokio::test]
async fn lists_are_selected_and_shortened() {
    let (_fake, registry) = saying(200, include_str!("../fixtures/prometheus-v1-rules-alert.json")).await;
    let answer = registry.call("prometheus-rules", json!({}), &context()).await.unwrap();
    let rule = &answer["items"][0];
    assert!(rule["alerts"].is_u64() && rule["group"].is_string() && rule["query"].is_string(), "{rule}");
    let none =
        registry.call("prometheus-rules", json!({"contains": "no such rule"}), &context()).await.unwrap();
    assert_eq!(none["items"], json!([]));

    let (_fake, registry) = saying(200, include_str!("../fixtures/prometheus-v1-alerts.json")).await;
    let count = async |input: Value| {
        let answer = registry.call("prometheus-alerts", input, &context()).await.unwrap();
        answer["items"].as_array().unwrap().len()
    };
    let all = count(json!({})).await;
    assert!(all > 0);
    assert_eq!(count(json!({"state": "firing"})).await + count(json!({"state": "pending"})).await, all);
    assert!(registry.call("prometheus-alerts", json!({"state": "odd"}), &context()).await.is_err());

    let target =
        |job: &str, health: &str| json!({"labels": {"job": job}, "health": health, "discoveredLabels": {}});
    let data = json!({"activeTargets": [target("a", "up"), target("b", "down"), target("a", "unknown"), 5]});
    let (fake, registry) = saying(200, success(data)).await;
    let answer = registry.call("prometheus-targets", json!({"job": "a"}), &context()).await.unwrap();
    let health: Vec<&Value> =
        answer["items"].as_array().unwrap().iter().map(|target| &target["health"]).collect();
    assert_eq!(health, ["unknown", "up"]);
    assert!(answer["items"][0].get("discoveredLabels").is_none());
    assert_eq!(fake.asked(), ["/api/v1/targets?state=active"]);

    let (fake, registry) = saying(200, success(json!([{"__name__": "up"}]))).await;
    let input = json!({"matches": ["up", "{job=\"a\"}"], "from": at(0).to_string(), "to": at(1).to_string()});
    let answer = registry.call("prometheus-series", input, &context()).await.unwrap();
    assert_eq!(answer["items"], json!([{"__name__": "up"}]));
    assert!(
        fake.asked()[0].contains("&match%5B%5D=up&match%5B%5D=%7Bjob%3D%22a%22%7D"),
        "{:?}",
        fake.asked()
    );
}

#[tokio::test]
async fn questions_that_are_none_are_not_sent() {
    let (fake, registry) = saying(200, "").await;
    let (from, to) = (at(0).to_string(), at(8 * 24 * 3600).to_string());
    for (tool, input) in [
        ("prometheus-query", json!({})),
        ("prometheus-query", json!({"query": "  "})),
        ("prometheus-query", json!({"query": "x".repeat(9_000)})),
        ("prometheus-query", json!({"query": "up", "time": "yesterday"})),
        ("prometheus-query", json!({"query": "up", "extra": 1})),
        ("prometheus-query-range", json!({"query": "up", "from": from, "to": to})),
        ("prometheus-query-range", json!({"query": "up", "from": from, "to": from, "step_seconds": 0})),
        ("prometheus-query-range", json!({"query": "up", "from": to, "to": from})),
        ("prometheus-series", json!({"matches": [], "from": from, "to": from})),
        ("prometheus-series", json!({"matches": vec!["up"; 17], "from": from, "to": from})),
    ] {
        let answer = registry.call(tool, input.clone(), &context()).await;
        assert!(matches!(answer, Err(ToolError::InvalidInput { .. })), "{tool} {input}: {answer:?}");
    }
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn errors_are_told_by_what_prometheus_says() {
    let (_fake, registry) = saying(400, include_str!("../fixtures/prometheus-v1-query-error.json")).await;
    let error = registry.call("prometheus-query", json!({"query": "sum("}), &context()).await.unwrap_err();
    assert!(
        error.to_string().contains("status 400") && error.to_string().contains("unclosed left parenthesis"),
        "{error}"
    );
    for body in ["", "[]", "{}", "{\"status\":\"success\"}", "{\"data\":[]}", "{\"data\":{\"resultType\":5}}"]
    {
        let (_fake, registry) = saying(200, body).await;
        let answer = registry.call("prometheus-query", json!({"query": "up"}), &context()).await;
        assert!(matches!(answer, Err(ToolError::Broken { .. })), "{body}: {answer:?}");
    }
    // Ten million points are over a hundred megabytes.
    let huge = Fake::answering(|_| "[1795194400,\"1\"],".repeat(2_000_000).into_response()).await;
    let registry = super::registry(prometheus_tools(huge.access()));
    let answer = registry.call("prometheus-query", json!({"query": "up"}), &context()).await;
    assert!(matches!(answer, Err(ToolError::OutputTooLarge { .. })), "{answer:?}");
}
