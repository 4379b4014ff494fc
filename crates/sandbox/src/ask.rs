//! Asking the JSON interfaces of a site, and waiting for something to become true.

use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::Value;

use crate::SandboxError;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A client for the programs of a site.
#[derive(Clone)]
pub struct Asking(Client);

impl Asking {
    /// A client.
    ///
    /// # Errors
    /// [`SandboxError::Ground`]
    pub fn new() -> Result<Self, SandboxError> {
        // Another part of the process may have chosen the provider before; there is only one to choose.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder().timeout(ANSWER_WITHIN).build();
        client.map(Self).map_err(|error| SandboxError::Ground(error.to_string()))
    }

    /// The JSON at an address.
    ///
    /// # Errors
    /// [`SandboxError::Request`], also for any other status than success.
    pub async fn get(&self, url: &str) -> Result<Value, SandboxError> {
        self.json(Method::GET, url, None).await
    }

    /// The text at an address.
    ///
    /// # Errors
    /// As [`Asking::get`].
    pub async fn text(&self, url: &str) -> Result<String, SandboxError> {
        self.send(Method::GET, url, None).await
    }

    /// `POST`, `PUT` or `DELETE` with a body if there is one; an empty answer is `null`.
    ///
    /// # Errors
    /// As [`Asking::get`].
    pub async fn json(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Value, SandboxError> {
        let what = format!("{method} {url}");
        let text = self.send(method, url, body).await?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| SandboxError::Request { what, why: error.to_string() })
    }

    /// The text of an answer to any request.
    ///
    /// # Errors
    /// As [`Asking::get`].
    pub async fn text_of(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<String, SandboxError> {
        self.send(method, url, body).await
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<String, SandboxError> {
        let what = format!("{method} {url}");
        let failed =
            |error: reqwest::Error| SandboxError::Request { what: what.clone(), why: error.to_string() };
        let mut request = self.0.request(method.clone(), url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let text = response.text().await.map_err(failed)?;
        if status.is_success() {
            Ok(text)
        } else {
            Err(SandboxError::Request { what: what.clone(), why: format!("{status} {text}") })
        }
    }
}

/// Looks until there is something, and returns it. What is not there says what was seen instead.
///
/// # Errors
/// [`SandboxError::Late`] with what was seen last.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, SandboxError> {
    let started = Instant::now();
    loop {
        let last = match look().await {
            Ok(found) => return Ok(found),
            Err(last) => last,
        };
        if started.elapsed() > within {
            return Err(SandboxError::Late { what: what.to_owned(), within, last });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
