//! The body of a request, bounded in bytes, alone and together with all others. How long it may take is the listener's to bound. A sender
//! that is told "too large" has to hear it: if the connection were closed on what it still has to say, it would see a broken connection,
//! and send the same again for ever.

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use futures::StreamExt;
use quell_incident::document::Object;
use quell_service::Problem;
use quell_service::listen::{ByteBudget, ByteShare};
use serde::de::DeserializeOwned;

use super::Web;

/// What of a body that is too large is read and thrown away, so that its sender comes to read the answer.
const THROWN_AWAY_BYTES_MAX: usize = 64 << 20;
/// What is made ready for a body before it comes: what its sender declares may never come.
const CAPACITY_BYTES: usize = 8 << 10;
/// When to come back if there is no room.
const RETRY_AFTER_SECONDS: u64 = 2;

/// What all bodies together may take while they arrive and are worked on. Webhooks have a part of their own, so that nothing else keeps
/// them out.
#[derive(Clone)]
pub(crate) struct Bodies {
    webhooks: ByteBudget,
    others: ByteBudget,
}

impl Bodies {
    /// Each part has so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { webhooks: ByteBudget::new(bytes), others: ByteBudget::new(bytes) }
    }

    fn of(&self, path: &str) -> &ByteBudget {
        if path.starts_with("/webhook") { &self.webhooks } else { &self.others }
    }
}

/// The whole body, or why there is none. It never rejects by itself: the handler asks first whether the caller may do it at all. What
/// comes from somebody unknown is read, so that they hear so, and not kept.
pub(super) struct Body(pub(super) Result<Bytes, Problem>);

impl FromRequest<Web> for Body {
    type Rejection = Infallible;

    async fn from_request(request: Request, web: &Web) -> Result<Self, Infallible> {
        let known = web.tokens.authenticate_headers(request.headers());
        let budget = known.is_ok().then(|| web.bodies.of(request.uri().path()).clone());
        let body = read(request, web.body_bytes_max, budget.as_ref()).await;
        Ok(Self(known.map_err(Problem::from).and(body)))
    }
}

/// What a body says, as an object with these fields and nothing else: a list of values is nobody's word.
pub(super) fn object<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map(|Object(read)| read)
        .map_err(|error| Problem::bad_request(format!("{expected}: {error}")))
}

/// Without a budget nothing is kept.
async fn read(request: Request, bytes_max: usize, budget: Option<&ByteBudget>) -> Result<Bytes, Problem> {
    let declared = declared_bytes(request.headers()).unwrap_or(0);
    let too_large = || {
        let why = format!(
            "the body has more than {bytes_max} bytes; send less at once, or raise `coordinator.body_bytes_max`"
        );
        Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why))
    };
    if declared > bytes_max as u64 && request.headers().contains_key(EXPECT) {
        // The sender waits for leave to send.
        return too_large();
    }
    let mut kept = match budget {
        Some(budget) => Some(Kept::new(budget).ok_or_else(no_room)?),
        None => None,
    };
    let (mut is_full, mut bytes) = (false, 0_usize);
    let mut chunks = request.into_body().into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("the body could not be read to its end"))?;
        bytes = bytes.saturating_add(chunk.len());
        if bytes > bytes_max.saturating_add(THROWN_AWAY_BYTES_MAX) {
            break;
        } else if bytes > bytes_max {
            kept = None;
        } else if let Some(body) = &mut kept
            && !body.add(&chunk)
        {
            // The rest is thrown away.
            (kept, is_full) = (None, true);
        }
    }
    if bytes > bytes_max {
        too_large()
    } else if is_full {
        Err(no_room())
    } else {
        Ok(kept.map(Kept::finish).unwrap_or_default())
    }
}

fn no_room() -> Problem {
    let why = "too many bodies are being worked on (`listeners.body_bytes_max`); send it again";
    Problem::unavailable(why, RETRY_AFTER_SECONDS)
}

/// What has come of a body, with its share of what all may take.
struct Kept {
    bytes: Vec<u8>,
    share: ByteShare,
}

impl Kept {
    fn new(budget: &ByteBudget) -> Option<Self> {
        Some(Self { bytes: Vec::new(), share: budget.take(0)? })
    }

    /// False if there is no room for that.
    fn add(&mut self, chunk: &[u8]) -> bool {
        let (length, capacity) = (self.bytes.len() + chunk.len(), self.bytes.capacity());
        if length > capacity {
            let wanted = length.max(capacity * 2).max(CAPACITY_BYTES);
            if !self.share.grow_to(wanted) {
                return false;
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        true
    }

    fn finish(self) -> Bytes {
        self.share.hold(self.bytes)
    }
}

fn declared_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
