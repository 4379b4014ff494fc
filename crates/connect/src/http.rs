//! Requests whose answers are bounded in bytes and time.

use std::time::Duration;

use quell_tool::{redact, truncate};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::source::SourceError;

/// What is kept of an error's body, in bytes.
const EXCERPT_BYTES_MAX: usize = 300;
/// What is read of an error's body, in bytes.
const ERROR_BODY_BYTES_MAX: usize = 16 << 10;

/// Where a system is and how one shows who one is. The client is shared by all sources of a process.
#[derive(Clone)]
pub struct Access {
    pub(crate) client: Client,
    base: Url,
    bearer: Option<SecretString>,
}

impl Access {
    /// A system at `base`, an address that may have a path.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when that is not an `http` or `https` address.
    pub fn new(client: Client, base: &str) -> Result<Self, SourceError> {
        let invalid = |why: String| SourceError::Invalid { why };
        let mut url =
            Url::parse(base).map_err(|error| invalid(format!("`{base}` is not an address: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid(format!("`{base}` is not an http or https address")));
        }
        // Joined to later, and without a final slash the last part of the path would be lost then.
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self { client, base: url, bearer: None })
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_bearer(mut self, token: SecretString) -> Self {
        self.bearer = Some(token);
        self
    }

    pub(crate) fn url(&self, path: &str) -> Result<Url, SourceError> {
        self.base.join(path).map_err(|error| SourceError::Invalid { why: error.to_string() })
    }

    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        let request = self.client.get(url);
        match &self.bearer {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// The address without user and password, for people.
    #[cfg(feature = "logs")]
    pub(crate) fn shown(&self) -> String {
        let mut shown = self.base.clone();
        // Neither can fail for an address with a host.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.as_str().trim_end_matches('/').to_owned()
    }
}

/// Sends a request and reads its whole answer: the status, and a body of at most `bytes_max`.
pub(crate) async fn fetch(
    request: RequestBuilder,
    bytes_max: usize,
    within: Duration,
) -> Result<(StatusCode, Vec<u8>), SourceError> {
    match tokio::time::timeout(within, read(request, bytes_max)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(SourceError::TimedOut),
    }
}

async fn read(request: RequestBuilder, bytes_max: usize) -> Result<(StatusCode, Vec<u8>), SourceError> {
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let bytes_max = if status.is_success() { bytes_max } else { ERROR_BODY_BYTES_MAX };
    let announced = response.content_length().unwrap_or(0);
    if status.is_success() && announced > bytes_max as u64 {
        return Err(SourceError::TooLarge { bytes_max });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > bytes_max {
            if status.is_success() {
                return Err(SourceError::TooLarge { bytes_max });
            }
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

fn unreachable(error: reqwest::Error) -> SourceError {
    if error.is_timeout() {
        return SourceError::TimedOut;
    }
    let what = error.url().map_or_else(
        || "the source".to_owned(),
        |url| {
            url.host_str().map_or_else(
                || "the source".to_owned(),
                |host| match url.port_or_known_default() {
                    Some(port) => format!("{host}:{port}"),
                    None => host.to_owned(),
                },
            )
        },
    );
    // The innermost cause says what happened; the outer ones repeat the address.
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    SourceError::Unreachable { what, why: redact(&cause.to_string()) }
}

/// The error of an answer that is not a success.
pub(crate) fn answered(status: StatusCode, body: &[u8]) -> SourceError {
    let text = String::from_utf8_lossy(body);
    let body = truncate(&redact(&text), EXCERPT_BYTES_MAX).replace(char::is_control, " ");
    SourceError::Answered { status: status.as_u16(), body }
}

/// Reads JSON; the error says where it does not fit.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(body).map_err(|error| SourceError::Malformed { why: error.to_string() })
}
