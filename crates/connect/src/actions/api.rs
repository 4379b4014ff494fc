//! The HTTP side: bounded, without redirects, without retries.

use std::collections::BTreeMap;
use std::time::Duration;

use quell_incident::Digest;
use quell_tool::{CallContext, ExecutionGrant, ToolError, redact, truncate};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::action::Action;
use super::state::TargetState;
use crate::http::shown;

const ANSWER_BYTES_MAX: usize = 256 << 10;
/// What an error tells of an answer at the most.
const EXCERPT_BYTES_MAX: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer keys are sent as their digest: interfaces bound this header.
const KEY_BYTES_MAX: usize = 200;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const FENCING_TOKEN: HeaderName = HeaderName::from_static("fencing-token");

/// A target and where it is operated; from the inventory only.
#[derive(Clone, Debug)]
pub struct DeploymentTarget {
    /// Its name in the inventory, which is also its name in the interface.
    pub name: String,
    /// The base URL of the interface.
    pub endpoint: String,
    /// A bearer token, if the interface wants one.
    pub token: Option<SecretString>,
}

/// Why the tool cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An endpoint is not a URL, or the name has no place in one.
    #[error("target `{name}` cannot be operated at its endpoint: {why}")]
    Endpoint {
        /// The target.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A token cannot be sent in a header.
    #[error("the token of target `{name}` has characters that a header cannot carry")]
    Token {
        /// The target.
        name: String,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

struct Place {
    /// `{endpoint}/targets/{name}`.
    url: Url,
    headers: HeaderMap,
}

/// The interface of all targets.
pub(super) struct Api {
    client: Client,
    places: BTreeMap<String, Place>,
}

impl Api {
    pub(super) fn new(targets: Vec<DeploymentTarget>) -> Result<Self, ClientError> {
        // Whoever came first has chosen; every crate of ours chooses the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A connection of its own for each request: one that the other side had closed meanwhile would leave it unclear whether
            // the request was read.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(ClientError::Client)?;
        let places = targets.into_iter().map(|target| Ok((target.name.clone(), place(target)?)));
        Ok(Self { client, places: places.collect::<Result<_, _>>()? })
    }

    fn place(&self, target: &str) -> Result<&Place, ToolError> {
        self.places
            .get(target)
            .ok_or_else(|| ToolError::NotFound { what: format!("target `{target}` in the inventory") })
    }

    /// Reads a target's state.
    pub(super) async fn state(&self, target: &str, context: &CallContext) -> Result<TargetState, ToolError> {
        let place = self.place(target)?;
        let asked = self
            .client
            .get(place.url.clone())
            .headers(place.headers.clone())
            .timeout(context.remaining())
            .send()
            .await;
        let response = asked.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = read(response).await.map_err(|why| ToolError::Unreachable { why })?;
        if status == reqwest::StatusCode::NOT_FOUND {
            return Err(ToolError::NotFound { what: format!("target `{target}` at {}", shown(&place.url)) });
        }
        if !status.is_success() {
            return Err(ToolError::upstream(i32::from(status.as_u16()), &String::from_utf8_lossy(&body)));
        }
        serde_json::from_slice(&body).map_err(|error| ToolError::Broken {
            why: format!("the state of target `{target}` is not understood: {error}"),
        })
    }

    /// Sends an action once. Errors other than [`ToolError::InDoubt`] say that it had no effect.
    pub(super) async fn send(
        &self,
        target: &str,
        action: &Action,
        grant: &ExecutionGrant,
    ) -> Result<Answer, ToolError> {
        let place = self.place(target)?;
        let (method, segment, body) = action.request();
        let mut url = place.url.clone();
        push(&mut url, &[segment]).map_err(|why| ToolError::Broken { why })?;
        let mut headers = place.headers.clone();
        headers.insert(IDEMPOTENCY_KEY, key_header(grant.key())?);
        if let Some(token) = grant.fencing_token() {
            headers.insert(FENCING_TOKEN, HeaderValue::from(token));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = self.client.request(method, url).headers(headers).body(body.to_string()).build();
        let request = request.map_err(|error| ToolError::Broken { why: cause(&error) })?;
        let in_doubt = |why: String| ToolError::InDoubt { why };
        let response = match self.client.execute(request).await {
            Ok(response) => response,
            // Before there is a connection nothing can have been sent.
            Err(error) if error.is_connect() => return Err(unreachable(&error)),
            Err(error) => {
                return Err(in_doubt(format!("it was sent and no answer came: {}", cause(&error))));
            }
        };
        let status = response.status();
        let body = read(response).await;
        if status.is_success() {
            // An answer that broke off says that it was done, but not what was done.
            let body = body.map_err(in_doubt)?;
            return serde_json::from_slice(&body).map_err(|error| {
                in_doubt(format!(
                    "it was answered with {status}, but not in a form that is understood: {error}"
                ))
            });
        }
        let body = body.unwrap_or_default();
        let body = String::from_utf8_lossy(&body);
        // Only the other side's own refusal says that nothing happened. It, or something before it, may have failed after the effect,
        // and many an interface redirects after an effect.
        if !status.is_client_error() || status == reqwest::StatusCode::REQUEST_TIMEOUT {
            let beginning = redact(truncate(&body, EXCERPT_BYTES_MAX * 8));
            let beginning = truncate(&beginning, EXCERPT_BYTES_MAX);
            return Err(in_doubt(format!("it was answered with {status}: {beginning}")));
        }
        Err(ToolError::upstream(i32::from(status.as_u16()), &body))
    }
}

/// What an action answers.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Answer {
    pub(super) from: Value,
    pub(super) to: Value,
}

impl Answer {
    /// The values that changed, one by one where both sides are objects.
    pub(super) fn pairs(self) -> Vec<(Option<String>, Value, Value)> {
        match (self.from, self.to) {
            (Value::Object(from), Value::Object(to)) => by_name(from, to),
            (from, to) => vec![(None, from, to)],
        }
    }
}

fn by_name(mut from: Map<String, Value>, to: Map<String, Value>) -> Vec<(Option<String>, Value, Value)> {
    let mut pairs: Vec<_> = to
        .into_iter()
        .map(|(name, to)| (from.remove(&name).unwrap_or(Value::Null), name, to))
        .map(|(from, name, to)| (Some(name), from, to))
        .collect();
    pairs.extend(from.into_iter().map(|(name, from)| (Some(name), from, Value::Null)));
    pairs
}

fn place(target: DeploymentTarget) -> Result<Place, ClientError> {
    let DeploymentTarget { name, endpoint, token } = target;
    let wrong = |why: String| ClientError::Endpoint { name: name.clone(), why };
    let mut url = Url::parse(&endpoint).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("expected an http or https URL".to_owned()));
    }
    push(&mut url, &["targets", &name]).map_err(wrong)?;
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        let mut value = value.map_err(|_| ClientError::Token { name: name.clone() })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(Place { url, headers })
}

/// Appends path segments, each percent-encoded as one.
fn push(url: &mut Url, segments: &[&str]) -> Result<(), String> {
    for segment in segments {
        // A URL drops or climbs over these instead of taking them as names.
        if segment.is_empty() || matches!(*segment, "." | "..") {
            return Err(format!("`{segment}` cannot be a part of a path"));
        }
    }
    let mut path = url.path_segments_mut().map_err(|()| "the URL has no path".to_owned())?;
    path.pop_if_empty().extend(segments);
    Ok(())
}

fn key_header(key: &str) -> Result<HeaderValue, ToolError> {
    let sent =
        if key.len() > KEY_BYTES_MAX { Digest::of_bytes(key.as_bytes()).to_string() } else { key.to_owned() };
    HeaderValue::from_str(&sent).map_err(|_| ToolError::invalid("key", "cannot be sent in a header"))
}

/// The body, up to the limit.
async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_BYTES_MAX => {
                return Err(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(format!("the answer broke off: {}", cause(&error))),
        }
    }
}

fn unreachable(error: &reqwest::Error) -> ToolError {
    if error.is_timeout() && !error.is_connect() {
        return ToolError::TimedOut;
    }
    ToolError::Unreachable { why: cause(error) }
}

/// The innermost causes, which say what happened on the wire.
fn cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}
