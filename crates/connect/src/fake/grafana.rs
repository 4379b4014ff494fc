//! A Grafana with dashboards, and with a Prometheus as its data source: series that are asked by selectors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::server::{Mood, Server, lock, shown};

type Labels = BTreeMap<String, String>;
/// Labels and samples: milliseconds and a number as text.
type Series = (Labels, Vec<(i64, String)>);

#[derive(Default)]
struct Inside {
    dashboards: BTreeMap<String, Value>,
    /// By the uid of a data source.
    sources: BTreeMap<String, Vec<Series>>,
    credentials: Option<String>,
    database_fails: bool,
}

type Shared = Arc<Mutex<Inside>>;

/// It runs until it is dropped.
pub struct FakeGrafana {
    server: Server,
    inside: Shared,
}

impl FakeGrafana {
    /// Starts an empty one.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let inside = Shared::default();
        let routes = Router::new()
            .route("/api/health", get(health))
            .route("/api/dashboards/uid/{uid}", get(dashboard))
            .route("/api/ds/query", post(ds_query))
            .route("/api/datasources/proxy/uid/{uid}/api/v1/query", get(proxied_query))
            .route("/api/datasources/proxy/uid/{uid}/api/v1/label/{label}/values", get(proxied_values))
            .with_state(Arc::clone(&inside));
        Ok(Self { server: Server::start(routes).await?, inside })
    }

    /// Its base address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// How it answers from now on.
    pub fn feels(&self, mood: Mood) {
        self.server.feels(mood);
    }

    /// What was asked: method, path and body.
    pub fn asked(&self) -> Vec<String> {
        self.server.asked()
    }

    /// From now on it wants to be shown these credentials, such as `Bearer abc`, except for its health.
    pub fn wants(&self, credentials: &str) {
        lock(&self.inside).credentials = Some(credentials.to_owned());
    }

    /// From now on its database fails.
    pub fn loses_its_database(&self) {
        lock(&self.inside).database_fails = true;
    }

    /// Adds a dashboard with these panels.
    pub fn add_dashboard(&self, uid: &str, title: &str, panels: Value) {
        let dashboard = json!({"uid": uid, "title": title, "panels": panels});
        lock(&self.inside).dashboards.insert(uid.to_owned(), dashboard);
    }

    /// Adds a series to a data source; `__name__` is a label. Samples are milliseconds and a number as text.
    pub fn add_series(&self, data_source: &str, labels: &[(&str, &str)], samples: &[(i64, &str)]) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let samples = samples.iter().map(|(at, value)| (*at, (*value).to_owned())).collect();
        lock(&self.inside).sources.entry(data_source.to_owned()).or_default().push((labels, samples));
    }
}

fn told(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

fn refused(inside: &Inside, headers: &HeaderMap) -> Option<Response> {
    let known = inside.credentials.as_deref().is_none_or(|known| known == shown(headers));
    (!known).then(|| told(StatusCode::UNAUTHORIZED, "Invalid API key"))
}

async fn health(State(inside): State<Shared>) -> Response {
    match lock(&inside).database_fails {
        false => Json(json!({"commit": "0", "database": "ok", "version": "11.0.0"})).into_response(),
        true => {
            let body = json!({"commit": "0", "database": "failing", "version": "11.0.0"});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn dashboard(State(inside): State<Shared>, Path(uid): Path<String>, headers: HeaderMap) -> Response {
    let inside = lock(&inside);
    if let Some(refused) = refused(&inside, &headers) {
        return refused;
    }
    match inside.dashboards.get(&uid) {
        Some(dashboard) => {
            Json(json!({"meta": {"folderTitle": "General"}, "dashboard": dashboard})).into_response()
        }
        None => told(StatusCode::NOT_FOUND, "Dashboard not found"),
    }
}

async fn ds_query(State(inside): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let inside = lock(&inside);
    if let Some(refused) = refused(&inside, &headers) {
        return refused;
    }
    let time = |name: &str| body[name].as_str().and_then(|text| text.parse::<i64>().ok());
    let (Some(from), Some(to)) = (time("from"), time("to")) else {
        return told(StatusCode::BAD_REQUEST, "bad request data");
    };
    let Some(query) = body["queries"].get(0) else {
        return told(StatusCode::BAD_REQUEST, "no queries found");
    };
    let Some(series) = inside.sources.get(query["datasource"]["uid"].as_str().unwrap_or_default()) else {
        return told(StatusCode::NOT_FOUND, "data source not found");
    };
    let Some(selector) = Selector::of(query["expr"].as_str().unwrap_or_default()) else {
        let error = "bad_data: invalid parameter \"query\": parse error: unexpected character";
        let outcome = json!({"error": error, "status": 400, "frames": []});
        return (StatusCode::BAD_REQUEST, Json(json!({"results": {"A": outcome}}))).into_response();
    };
    let frames: Vec<Value> = series
        .iter()
        .filter(|(labels, _)| selector.selects(labels))
        .map(|(labels, samples)| {
            let samples: Vec<_> = samples.iter().filter(|(at, _)| (from..=to).contains(at)).collect();
            let times: Vec<i64> = samples.iter().map(|(at, _)| *at).collect();
            let number = |text: &String| text.parse::<f64>().ok().filter(|value| value.is_finite());
            let values: Vec<Option<f64>> = samples.iter().map(|(_, value)| number(value)).collect();
            json!({
                "schema": {"refId": "A", "fields": [
                    {"name": "Time", "type": "time"},
                    {"name": "Value", "type": "number", "labels": labels},
                ]},
                "data": {"values": [times, values]},
            })
        })
        .collect();
    Json(json!({"results": {"A": {"status": 200, "frames": frames}}})).into_response()
}

async fn proxied_query(
    State(inside): State<Shared>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    Query(parameters): Query<BTreeMap<String, String>>,
) -> Response {
    let inside = lock(&inside);
    if let Some(refused) = refused(&inside, &headers) {
        return refused;
    }
    let Some(series) = inside.sources.get(&uid) else {
        return told(StatusCode::NOT_FOUND, "Unable to find datasource");
    };
    let asked = parameters.get("query").map_or("", String::as_str);
    let range = asked.strip_suffix("ms]").and_then(|rest| rest.rsplit_once('['));
    let range =
        range.and_then(|(selector, range)| Some((Selector::of(selector)?, range.parse::<i64>().ok()?)));
    let time = parameters.get("time").and_then(|time| time.parse::<f64>().ok());
    let (Some((selector, range)), Some(time)) = (range, time) else {
        let error = "invalid parameter \"query\": 1:1: parse error: unexpected character";
        let body = json!({"status": "error", "errorType": "bad_data", "error": error});
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    };
    let end = (time * 1000.0).round() as i64;
    let result: Vec<Value> = series
        .iter()
        .filter(|(labels, _)| selector.selects(labels))
        .map(|(labels, samples)| {
            let within = samples.iter().filter(|(at, _)| (end - range..=end).contains(at));
            let values: Vec<Value> = within.map(|(at, value)| json!([*at as f64 / 1000.0, value])).collect();
            json!({"metric": labels, "values": values})
        })
        .collect();
    Json(json!({"status": "success", "data": {"resultType": "matrix", "result": result}})).into_response()
}

async fn proxied_values(
    State(inside): State<Shared>,
    Path((uid, label)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let inside = lock(&inside);
    if let Some(refused) = refused(&inside, &headers) {
        return refused;
    }
    let Some(series) = inside.sources.get(&uid) else {
        return told(StatusCode::NOT_FOUND, "Unable to find datasource");
    };
    let values: std::collections::BTreeSet<&String> =
        series.iter().filter_map(|(labels, _)| labels.get(&label)).collect();
    Json(json!({"status": "success", "data": values})).into_response()
}

/// `name{label="value"}`
struct Selector(Labels);

impl Selector {
    fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text.find('{').unwrap_or(text.len());
        let (name, mut rest) = text.split_at(end);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
        if name.is_empty() || !name.bytes().all(fits) {
            return None;
        }
        let mut labels = Labels::from([("__name__".to_owned(), name.to_owned())]);
        if rest.is_empty() {
            return Some(Self(labels));
        }
        rest = rest.strip_prefix('{')?.strip_suffix('}')?;
        while !rest.is_empty() {
            let (label, after) = rest.split_once('=')?;
            let mut literals = serde_json::Deserializer::from_str(after).into_iter::<String>();
            labels.insert(label.to_owned(), literals.next()?.ok()?);
            rest = after.get(literals.byte_offset()..)?;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        Some(Self(labels))
    }

    fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}
