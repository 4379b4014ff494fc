//! Fetching a public card.

use http::StatusCode;
use http::header::ACCEPT;

use crate::AGENT_CARD_PATH;
use crate::types::AgentCard;

use super::ClientError;

const CARD_BYTES_MAX: usize = 1 << 20;

/// Fetches the public card of the agent at `base_url`, such as `http://host:port`. How to connect, which
/// certificates to trust and how long to wait is the given HTTP client's.
///
/// # Errors
/// [`ClientError::Card`] when it cannot be reached, is longer than 1 MiB, or is not a card with all required
/// fields.
pub async fn fetch_card(http: &reqwest::Client, base_url: &str) -> Result<AgentCard, ClientError> {
    let url = format!("{}{AGENT_CARD_PATH}", base_url.trim_end_matches('/'));
    let wrong = |reason: String| ClientError::Card { url: super::shown(&url), reason };
    let request = http.get(&url).header(ACCEPT, "application/json");
    let mut response = request.send().await.map_err(|error| wrong(chain(error)))?;
    if response.status() != StatusCode::OK {
        return Err(wrong(format!("the answer is {}", response.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| wrong(chain(error)))? {
        if body.len() + chunk.len() > CARD_BYTES_MAX {
            return Err(wrong(format!("it is longer than {CARD_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    let card: AgentCard = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
    match card.missing_fields() {
        missing if missing.is_empty() => Ok(card),
        missing => Err(wrong(format!("it lacks required fields: {}", missing.join(", ")))),
    }
}

/// An HTTP error says only in its causes what happened. Its address is said beside it, without secrets.
fn chain(error: reqwest::Error) -> String {
    crate::error::chain(&error.without_url())
}
