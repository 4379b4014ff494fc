//! The public card over HTTP. It holds nothing secret and needs no credentials.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::AGENT_CARD_PATH;
use crate::error::A2aError;
use crate::types::AgentCard;

struct Published {
    body: Bytes,
    etag: HeaderValue,
    cache_control: HeaderValue,
    last_modified: HeaderValue,
}

/// The route of the card alone, for a daemon that shows it on a second port.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) naming the card's required fields that are empty.
pub fn card_router(card: &AgentCard, max_age_seconds: u32, modified: Timestamp) -> Result<Router, A2aError> {
    let missing = card.missing_fields();
    if !missing.is_empty() {
        return Err(super::missing(missing));
    }
    let body = serde_json::to_vec(card).map_err(A2aError::internal)?;
    let digest = hex::encode(Sha256::digest(&body));
    let header = |text: String| HeaderValue::try_from(text).map_err(A2aError::internal);
    let published = Published {
        etag: header(format!("\"{digest}\""))?,
        cache_control: header(format!("public, max-age={max_age_seconds}"))?,
        last_modified: header(modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())?,
        body: Bytes::from(body),
    };
    Ok(Router::new().route(AGENT_CARD_PATH, get(answer)).with_state(Arc::new(published)))
}

async fn answer(State(published): State<Arc<Published>>, headers: HeaderMap) -> Response {
    let caching = [
        (ETAG, published.etag.clone()),
        (CACHE_CONTROL, published.cache_control.clone()),
        (LAST_MODIFIED, published.last_modified.clone()),
    ];
    if is_known(&headers, &published.etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (caching, json, published.body.clone()).into_response()
}

fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let etag = etag.to_str().unwrap_or_default();
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == "*" || known == etag)
}
