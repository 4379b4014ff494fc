//! Which metrics a source has.

use quell_connect::metrics::{ListMetrics, MetricSource, PrometheusSource};
use quell_tool::TypedReadTool;
use serde_json::json;

use super::*;
use crate::fake::{Fake, context};

const NAMES: &str = r#"{"status":"success","data":["http_requests_total","up","up_again"]}"#;

#[tokio::test]
async fn names_are_read_once_for_many_questions() {
    let fake = Fake::saying(200, NAMES).await;
    let source = PrometheusSource::new(fake.access());
    let context = context();
    let (one, other) = tokio::join!(source.names(&context), source.names(&context));
    assert_eq!(one.unwrap().unwrap().len(), 3);
    assert!(other.unwrap().unwrap().contains("up"));
    assert_eq!(fake.asked(), ["/api/v1/label/__name__/values"]);
}

#[tokio::test]
async fn names_that_cannot_be_read_are_an_error_and_not_none() {
    for (status, body) in [(500, "oops"), (200, "{}"), (200, "{\"data\":[1]}"), (200, "")] {
        let fake = Fake::saying(status, body).await;
        assert!(PrometheusSource::new(fake.access()).names(&context()).await.is_err(), "{status} {body}");
    }
}

#[tokio::test]
async fn the_tool_lists_what_is_asked_for() {
    let fake = Fake::saying(200, NAMES).await;
    let tool = ListMetrics::new(Arc::new(PrometheusSource::new(fake.access())));
    let tool = TypedReadTool::new(ListMetrics::NAME, "List metrics", "Names.", tool);
    let registry = registry(vec![Arc::new(tool)]);
    let ask = async |input| registry.call(ListMetrics::NAME, input, &context()).await;
    let answer = ask(json!({"contains": "up", "limit": 1})).await.unwrap();
    assert_eq!(answer, json!({"source": "prometheus", "names": ["up"], "truncated": true}));
    let answer = ask(json!({})).await.unwrap();
    assert_eq!(answer["names"].as_array().unwrap().len(), 3);
    assert!(ask(json!({"limit": 0})).await.is_err());
}
