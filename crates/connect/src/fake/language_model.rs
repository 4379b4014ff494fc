//! A language model's endpoint: it knows its models, its keys and its quota, and says what it was told to say.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::server::{Mood, Server, lock, shown};

/// About so many characters are a token.
const TOKEN_CHARACTERS: usize = 4;

#[derive(Default)]
struct Inside {
    models: BTreeSet<String>,
    credentials: Option<String>,
    says: VecDeque<String>,
    quota: Option<u64>,
    context_tokens: Option<u64>,
}

type Shared = Arc<Mutex<Inside>>;

/// It runs until it is dropped.
pub struct FakeLanguageModel {
    server: Server,
    inside: Shared,
}

impl FakeLanguageModel {
    /// Starts one that has a model by this name.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(model: &str) -> std::io::Result<Self> {
        let inside = Shared::default();
        lock(&inside).models.insert(model.to_owned());
        let routes =
            Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&inside));
        Ok(Self { server: Server::start(routes).await?, inside })
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// How it answers from now on.
    pub fn feels(&self, mood: Mood) {
        self.server.feels(mood);
    }

    /// What was asked: method, path and body.
    pub fn asked(&self) -> Vec<String> {
        self.server.asked()
    }

    /// From now on it wants to be shown these credentials, such as `Bearer abc`.
    pub fn wants(&self, credentials: &str) {
        lock(&self.inside).credentials = Some(credentials.to_owned());
    }

    /// Its next answer; without any it says an empty object.
    pub fn will_say(&self, text: &str) {
        lock(&self.inside).says.push_back(text.to_owned());
    }

    /// How many tokens it may still read and write.
    pub fn has_quota(&self, tokens: u64) {
        lock(&self.inside).quota = Some(tokens);
    }

    /// How many tokens it can look at.
    pub fn looks_at(&self, tokens: u64) {
        lock(&self.inside).context_tokens = Some(tokens);
    }
}

fn refusal(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message, "type": kind, "code": kind}}))).into_response()
}

fn tokens(text: &str) -> u64 {
    text.chars().count().div_ceil(TOKEN_CHARACTERS) as u64
}

async fn complete(State(inside): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let mut inside = lock(&inside);
    if inside.credentials.as_deref().is_some_and(|known| known != shown(&headers)) {
        return refusal(StatusCode::UNAUTHORIZED, "invalid_api_key", "Incorrect API key provided");
    }
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    if !inside.models.contains(&model) {
        return refusal(StatusCode::NOT_FOUND, "model_not_found", "The model does not exist");
    }
    let Some(messages) = body["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "'messages' is a required property",
        );
    };
    let contents: Option<Vec<&str>> = messages.iter().map(|message| message["content"].as_str()).collect();
    let Some(contents) = contents else {
        return refusal(StatusCode::BAD_REQUEST, "invalid_request_error", "'content' is no text");
    };
    let wants_json = body["response_format"]["type"] == "json_object";
    if wants_json && !contents.iter().any(|text| text.contains("JSON")) {
        let why = "'messages' must contain the word 'json' in some form, to use 'response_format'";
        return refusal(StatusCode::BAD_REQUEST, "invalid_request_error", why);
    }
    let read: u64 = contents.iter().map(|text| tokens(text)).sum();
    let answer_max = body["max_tokens"].as_u64().unwrap_or(u64::MAX);
    if inside.context_tokens.is_some_and(|most| read.saturating_add(answer_max.min(most)) > most) {
        let why = "This model's maximum context length is exceeded";
        return refusal(StatusCode::BAD_REQUEST, "context_length_exceeded", why);
    }
    if inside.quota.is_some_and(|left| left < read) {
        let why = "You exceeded your current quota";
        return refusal(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", why);
    }
    let whole = inside.says.pop_front().unwrap_or_else(|| "{}".to_owned());
    let is_cut = tokens(&whole) > answer_max;
    let most = usize::try_from(answer_max).unwrap_or(usize::MAX).saturating_mul(TOKEN_CHARACTERS);
    let text: String = whole.chars().take(most).collect();
    let written = tokens(&text);
    inside.quota = inside.quota.map(|left| left.saturating_sub(read + written));
    Json(json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": if is_cut { "length" } else { "stop" },
        }],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }))
    .into_response()
}
