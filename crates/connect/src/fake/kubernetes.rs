//! A Kubernetes API server that keeps objects and lists them, page by page, and does nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::server::{Mood, Server, lock, shown};

/// Path of the group, plural, kind of the list, whether objects are in namespaces.
const KINDS: [(&str, &str, &str, bool); 5] = [
    ("/api/v1", "pods", "PodList", true),
    ("/api/v1", "events", "EventList", true),
    ("/api/v1", "nodes", "NodeList", false),
    ("/apis/apps/v1", "deployments", "DeploymentList", true),
    ("/apis/apps/v1", "replicasets", "ReplicaSetList", true),
];

#[derive(Default)]
struct Inside {
    objects: BTreeMap<String, Vec<Value>>,
    token: Option<String>,
    forbidden: BTreeSet<String>,
    /// Grows when places in lists are forgotten.
    version: u64,
    /// Places are forgotten before so many of the next pages are asked for.
    forgets: u32,
    /// Pages have so many objects, if that is fewer than asked for.
    page_max: Option<usize>,
}

type Shared = Arc<Mutex<Inside>>;

/// It runs until it is dropped.
pub struct FakeKubernetes {
    server: Server,
    inside: Shared,
}

impl FakeKubernetes {
    /// Starts an empty one.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let inside = Shared::default();
        let routes = Router::new().fallback(list).with_state(Arc::clone(&inside));
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

    /// What was asked: method and path.
    pub fn asked(&self) -> Vec<String> {
        self.server.asked()
    }

    /// Adds an object to those of this plural, such as `pods`.
    pub fn add(&self, plural: &str, object: Value) {
        lock(&self.inside).objects.entry(plural.to_owned()).or_default().push(object);
    }

    /// From now on it wants to be shown this bearer token.
    pub fn wants(&self, token: &str) {
        lock(&self.inside).token = Some(token.to_owned());
    }

    /// From now on objects of this plural may not be listed.
    pub fn forbids(&self, plural: &str) {
        lock(&self.inside).forbidden.insert(plural.to_owned());
    }

    /// Its pages have at most so many objects.
    pub fn has_pages_of(&self, objects: usize) {
        lock(&self.inside).page_max = Some(objects);
    }

    /// So often it will have forgotten what a list was like, when the next page is asked for.
    pub fn forgets(&self, times: u32) {
        lock(&self.inside).forgets = times;
    }
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

async fn list(
    State(inside): State<Shared>,
    Query(parameters): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    let mut inside = lock(&inside);
    if let Some(token) = &inside.token
        && shown(request.headers()) != format!("Bearer {token}")
    {
        return failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    }
    if request.method() != Method::GET {
        let message = "the server does not allow this method on the requested resource";
        return failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
    }
    let path = request.uri().path();
    let Some((group, plural, kind, namespace)) = resource(path) else {
        return failure(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        );
    };
    if inside.forbidden.contains(plural) {
        let message = format!(
            "{plural} is forbidden: User \"system:serviceaccount:production:quell\" cannot list resource \"{plural}\" in API group \"{group}\" {}",
            namespace.map_or_else(
                || "at the cluster scope".to_owned(),
                |name| format!("in the namespace \"{name}\"")
            )
        );
        return failure(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    let limit = match parameters.get("limit").map(|limit| limit.parse::<usize>()) {
        None => usize::MAX,
        Some(Ok(0)) => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return failure(StatusCode::BAD_REQUEST, "BadRequest", "limit is not a number"),
    };
    let limit = limit.min(inside.page_max.unwrap_or(usize::MAX));
    let from = match parameters.get("continue").map(|place| place.split_once('.')) {
        None => 0,
        Some(Some((version, from))) => {
            if inside.forgets > 0 {
                inside.forgets -= 1;
                inside.version += 1;
            }
            if version != inside.version.to_string() {
                let message =
                    "The provided continue parameter is too old to display a consistent list result.";
                return failure(StatusCode::GONE, "Expired", message);
            }
            from.parse().unwrap_or(usize::MAX)
        }
        Some(None) => return failure(StatusCode::BAD_REQUEST, "BadRequest", "continue key is not valid"),
    };
    let objects = inside.objects.get(plural).map(Vec::as_slice).unwrap_or_default();
    let within = |object: &&Value| {
        namespace
            .is_none_or(|name| object.pointer("/metadata/namespace").and_then(Value::as_str) == Some(name))
    };
    let all: Vec<&Value> = objects.iter().filter(within).collect();
    let page: Vec<&Value> = all.iter().skip(from).take(limit).copied().collect();
    let end = from.saturating_add(page.len());
    let mut metadata = json!({"resourceVersion": "1"});
    if end < all.len() {
        metadata["continue"] = json!(format!("{}.{end}", inside.version));
        metadata["remainingItemCount"] = json!(all.len() - end);
    }
    let version = if group.is_empty() { "v1" } else { "apps/v1" };
    Json(json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": page})).into_response()
}

/// Group, plural, kind of the list and namespace of a path.
fn resource(path: &str) -> Option<(&'static str, &'static str, &'static str, Option<&str>)> {
    KINDS.iter().find_map(|(prefix, plural, kind, namespaced)| {
        let group = if *prefix == "/api/v1" { "" } else { "apps" };
        let rest = path.strip_prefix(prefix)?.strip_prefix('/')?;
        if rest == *plural {
            return Some((group, *plural, *kind, None));
        }
        let (namespace, named) = rest.strip_prefix("namespaces/")?.split_once('/')?;
        (*namespaced && named == *plural).then_some((group, *plural, *kind, Some(namespace)))
    })
}
