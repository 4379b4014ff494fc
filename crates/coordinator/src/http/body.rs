//! The body of a request, bounded in bytes and time. A sender that is told "too large" has to hear it: if the connection were closed
//! on what it still has to say, it would see a broken connection, and send the same again for ever.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use futures::StreamExt;
use quell_service::Problem;

use super::Web;

/// What of a body that is too large is read and thrown away, so that its sender comes to read the answer.
const THROWN_AWAY_BYTES_MAX: usize = 64 << 20;
/// How long a body may take.
const WITHIN: Duration = Duration::from_secs(60);

/// The whole body, or why there is none. It never rejects by itself: the handler asks first whether the caller may do it at all. What
/// comes from somebody unknown is read, so that they hear so, and not kept.
pub(super) struct Body(pub(super) Result<Bytes, Problem>);

impl FromRequest<Web> for Body {
    type Rejection = Infallible;

    async fn from_request(request: Request, web: &Web) -> Result<Self, Infallible> {
        let known = web.tokens.authenticate_headers(request.headers());
        let read = async {
            let body = read(request, web.body_bytes_max, known.is_ok()).await;
            known.map_err(Problem::from).and(body)
        };
        let read = tokio::time::timeout(WITHIN, read).await;
        Ok(Self(read.unwrap_or_else(|_| {
            let why = format!("the body did not arrive within {} s; send it again", WITHIN.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, why))
        })))
    }
}

async fn read(request: Request, bytes_max: usize, keep: bool) -> Result<Bytes, Problem> {
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
    let capacity = if keep { usize::try_from(declared).unwrap_or(0).min(bytes_max) } else { 0 };
    let mut body = Vec::with_capacity(capacity);
    let mut bytes = 0_usize;
    let mut chunks = request.into_body().into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("the body could not be read to its end"))?;
        bytes = bytes.saturating_add(chunk.len());
        if bytes > bytes_max.saturating_add(THROWN_AWAY_BYTES_MAX) {
            break;
        } else if bytes > bytes_max {
            body = Vec::new();
        } else if keep {
            body.extend_from_slice(&chunk);
        }
    }
    if bytes > bytes_max { too_large() } else { Ok(body.into()) }
}

fn declared_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
