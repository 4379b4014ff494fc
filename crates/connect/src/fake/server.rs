//! What all fakes share: a port, moods, a record of what was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use tokio::task::JoinHandle;

/// A request's body at the most, in bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 1 << 20;
const ANSWER_BYTES_MAX: usize = 256 << 20;
const CHUNK_BYTES: usize = 1 << 20;

/// How a fake answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// 503 to this many requests, then well.
    Busy(u32),
    /// 503 to everything.
    Unavailable,
    /// Never.
    Silent,
    /// This, whatever was asked.
    Saying(String),
    /// The first bytes of what it should, and then the connection ends.
    Cut(usize),
    /// Blanks without a length, this many megabytes of them.
    Endless(usize),
}

/// Mood and record.
#[derive(Default)]
struct Manner {
    mood: Mood,
    asked: Vec<String>,
}

/// A port with routes on it, until it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(routes: Router) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let manner: Arc<Mutex<Manner>> = Arc::default();
        let routes = routes.layer(axum::middleware::from_fn_with_state(Arc::clone(&manner), by_mood));
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, manner, task })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn feels(&self, mood: Mood) {
        lock(&self.manner).mood = mood;
    }

    pub(super) fn asked(&self) -> Vec<String> {
        lock(&self.manner).asked.clone()
    }
}

pub(super) fn lock<T>(inside: &Mutex<T>) -> MutexGuard<'_, T> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn by_mood(State(manner): State<Arc<Mutex<Manner>>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let mood = {
        let mut manner = lock(&manner);
        let asked = format!("{} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&body));
        manner.asked.push(asked.trim_end().to_owned());
        let mood = manner.mood.clone();
        if let Mood::Busy(left) = &mut manner.mood {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => manner.mood = Mood::Well,
            }
        }
        mood
    };
    match mood {
        Mood::Well | Mood::Busy(0) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Mood::Unavailable | Mood::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::Saying(text) => text.into_response(),
        Mood::Cut(bytes) => {
            let (parts, body) = next.run(Request::from_parts(parts, Body::from(body))).await.into_parts();
            let whole = to_bytes(body, ANSWER_BYTES_MAX).await.unwrap_or_default();
            let beginning = whole.slice(..bytes.min(whole.len()));
            let broken = std::io::Error::other("the connection ends here");
            let body = Body::from_stream(stream::iter([Ok(beginning), Err(broken)]));
            let mut headers = parts.headers;
            headers.remove(header::CONTENT_LENGTH);
            (parts.status, headers, body).into_response()
        }
        Mood::Endless(megabytes) => {
            let blanks = Bytes::from(vec![b' '; CHUNK_BYTES]);
            let chunks = (0..megabytes).map(move |_| Ok::<Bytes, Infallible>(blanks.clone()));
            Body::from_stream(stream::iter(chunks)).into_response()
        }
    }
}

/// The credentials that a request shows, such as `Bearer abc`.
pub(super) fn shown(headers: &HeaderMap) -> &str {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
