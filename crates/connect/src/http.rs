//! Requests whose answers are bounded in bytes and time.

use std::time::Duration;

use quell_tool::{CallContext, redact, truncate};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::guard::{Guard, GuardOptions};
use crate::source::SourceError;

/// How a server with several tenants is told which one is meant.
const TENANT_HEADER: &str = "X-Scope-OrgID";
/// What is kept of an error's body, in bytes.
const EXCERPT_BYTES_MAX: usize = 300;
/// What is read of an error's body, in bytes.
const ERROR_BODY_BYTES_MAX: usize = 16 << 10;

/// Where a system is and how one shows who one is. The client is shared by all sources of a process.
#[derive(Clone)]
pub struct Access {
    pub(crate) client: Client,
    base: Url,
    credentials: Credentials,
    /// Named in the header `X-Scope-OrgID`, which Loki, Mimir, Cortex and Thanos take.
    tenant: Option<String>,
}

/// How one shows who one is.
#[derive(Clone, Default)]
enum Credentials {
    #[default]
    None,
    Bearer(SecretString),
    Basic {
        user: String,
        password: SecretString,
    },
    /// `Authorization: {scheme} {secret}`
    Scheme {
        scheme: &'static str,
        secret: SecretString,
    },
}

impl Access {
    /// A system at `base`, an address that may have a path.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when that is not an `http` or `https` address.
    pub fn new(client: Client, base: &str) -> Result<Self, SourceError> {
        let invalid = |why: String| SourceError::Invalid { why };
        let mut url = Url::parse(base).map_err(|error| invalid(format!("it is not an address: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid(format!("`{}` is not an http or https address", shown(&url))));
        }
        // Joined to later, and without a final slash the last part of the path would be lost then.
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self { client, base: url, credentials: Credentials::None, tenant: None })
    }

    /// The same for one of several tenants (`X-Scope-OrgID`).
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when a header cannot carry that name.
    pub fn with_tenant(mut self, tenant: Option<&str>) -> Result<Self, SourceError> {
        if let Some(tenant) = tenant
            && HeaderValue::from_str(tenant).is_err()
        {
            return Err(SourceError::Invalid { why: format!("`{tenant}` cannot be the name of a tenant") });
        }
        self.tenant = tenant.map(str::to_owned);
        Ok(self)
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_bearer(mut self, token: SecretString) -> Self {
        self.credentials = Credentials::Bearer(token);
        self
    }

    /// The same with a user and a password.
    #[must_use]
    pub fn with_basic(mut self, user: &str, password: SecretString) -> Self {
        self.credentials = Credentials::Basic { user: user.to_owned(), password };
        self
    }

    /// The same with a secret of another kind: `Authorization: ApiKey ...`.
    #[must_use]
    pub fn with_scheme(mut self, scheme: &'static str, secret: SecretString) -> Self {
        self.credentials = Credentials::Scheme { scheme, secret };
        self
    }

    pub(crate) fn url(&self, path: &str) -> Result<Url, SourceError> {
        self.base.join(path).map_err(|error| SourceError::Invalid { why: error.to_string() })
    }

    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.known(self.client.get(url))
    }

    pub(crate) fn post(&self, url: Url) -> RequestBuilder {
        self.known(self.client.post(url))
    }

    fn known(&self, request: RequestBuilder) -> RequestBuilder {
        let request = match &self.tenant {
            Some(tenant) => request.header(TENANT_HEADER, tenant),
            None => request,
        };
        match &self.credentials {
            Credentials::None => request,
            Credentials::Bearer(token) => request.bearer_auth(token.expose_secret()),
            Credentials::Basic { user, password } => request.basic_auth(user, Some(password.expose_secret())),
            Credentials::Scheme { scheme, secret } => {
                match HeaderValue::from_str(&format!("{scheme} {}", secret.expose_secret())) {
                    Ok(mut value) => {
                        value.set_sensitive(true);
                        request.header(AUTHORIZATION, value)
                    }
                    // Characters that a header cannot carry: the other side will say that nobody was named.
                    Err(_) => request,
                }
            }
        }
    }

    /// The address without user and password, for people.
    pub(crate) fn shown(&self) -> String {
        let mut shown = self.base.clone();
        // Neither can fail for an address with a host.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.as_str().trim_end_matches('/').to_owned()
    }
}

/// A system with its guard: every question goes through here. Copies share the breaker.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) access: Access,
    guard: Guard,
}

impl Endpoint {
    /// That system behind this guard.
    pub fn new(access: Access, guard: Guard) -> Self {
        Self { access, guard }
    }

    /// What is below this system at that path, which ends with a slash; behind the same guard.
    #[cfg(feature = "metrics")]
    pub(crate) fn below(&self, path: &str) -> Result<Self, SourceError> {
        let mut below = self.clone();
        below.access.base = self.access.url(path)?;
        Ok(below)
    }

    /// The answer to a question that can be asked twice. A status that may pass is an error; any other one is for the caller.
    pub(crate) async fn ask(
        &self,
        request: RequestBuilder,
        bytes_max: usize,
        context: &CallContext,
    ) -> Result<(StatusCode, Vec<u8>), SourceError> {
        let answer = self.send(request, Limit { bytes_max, cut: false }, context).await?;
        Ok((answer.status, answer.body))
    }

    #[cfg(feature = "logs")]
    /// The same for an answer whose beginning is of use: at most `bytes_max` of it.
    pub(crate) async fn ask_beginning(
        &self,
        request: RequestBuilder,
        bytes_max: usize,
        context: &CallContext,
    ) -> Result<Answer, SourceError> {
        self.send(request, Limit { bytes_max, cut: true }, context).await
    }

    async fn send(
        &self,
        request: RequestBuilder,
        limit: Limit,
        context: &CallContext,
    ) -> Result<Answer, SourceError> {
        self.guard
            .run(context, || {
                // A body that is streamed could not be sent again, and none of ours is.
                let request = request.try_clone();
                async move {
                    let request = request
                        .ok_or_else(|| SourceError::Invalid { why: "it cannot be asked twice".to_owned() })?;
                    let answer = read(request, limit).await?;
                    if answer.status.is_success() {
                        return Ok(answer);
                    }
                    match answered(answer.status, &answer.body) {
                        error if error.may_pass() => Err(error),
                        _ => Ok(answer),
                    }
                }
            })
            .await
    }

    /// The same for JSON; any status but a success is an error.
    pub(crate) async fn ask_json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        bytes_max: usize,
        context: &CallContext,
    ) -> Result<T, SourceError> {
        let (status, body) = self.ask(request, bytes_max, context).await?;
        if !status.is_success() {
            return Err(answered(status, &body));
        }
        parse(&body)
    }
}

impl From<Access> for Endpoint {
    /// Asked once, always.
    fn from(access: Access) -> Self {
        let guard = Guard::new(&access.shown(), GuardOptions::once());
        Self { access, guard }
    }
}

/// Sends a request and reads its whole answer: the status, and a body of at most `bytes_max`.
pub(crate) async fn fetch(
    request: RequestBuilder,
    bytes_max: usize,
    within: Duration,
) -> Result<(StatusCode, Vec<u8>), SourceError> {
    let limit = Limit { bytes_max, cut: false };
    match tokio::time::timeout(within, read(request, limit)).await {
        Ok(answer) => answer.map(|answer| (answer.status, answer.body)),
        Err(_elapsed) => Err(SourceError::TimedOut),
    }
}

/// What is read of a body at the most, and whether more than that is cut off or refused.
#[derive(Clone, Copy)]
struct Limit {
    bytes_max: usize,
    cut: bool,
}

/// A status, a body, and whether that is only its beginning.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    #[cfg_attr(
        not(feature = "logs"),
        expect(dead_code, reason = "only Splunk's answers may be read in part")
    )]
    pub(crate) is_cut: bool,
}

async fn read(request: RequestBuilder, limit: Limit) -> Result<Answer, SourceError> {
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let Limit { bytes_max, cut } = match status.is_success() {
        true => limit,
        false => Limit { bytes_max: ERROR_BODY_BYTES_MAX, cut: true },
    };
    if !cut && response.content_length().unwrap_or(0) > bytes_max as u64 {
        return Err(SourceError::TooLarge { bytes_max });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        let room = bytes_max - body.len();
        match chunk.get(..room) {
            Some(_) if chunk.len() > room && !cut => return Err(SourceError::TooLarge { bytes_max }),
            Some(beginning) if chunk.len() > room => {
                body.extend_from_slice(beginning);
                return Ok(Answer { status, body, is_cut: true });
            }
            _ => body.extend_from_slice(&chunk),
        }
    }
    Ok(Answer { status, body, is_cut: false })
}

/// An address without what may be a secret in it: the user, the password and the query.
pub(crate) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Neither can fail for an address with a host.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

pub(crate) fn unreachable(error: reqwest::Error) -> SourceError {
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

/// The error of an answer that is not a success: the sentence in it where it is JSON of a usual form, else its beginning.
pub(crate) fn answered(status: StatusCode, body: &[u8]) -> SourceError {
    const SENTENCES: [&str; 6] = [
        "/error/root_cause/0/reason",
        "/error/reason",
        "/error",
        "/messages/0/text",
        "/message",
        "/errors/0",
    ];
    let body = body.get(..ERROR_BODY_BYTES_MAX).unwrap_or(body);
    let document = serde_json::from_slice::<serde_json::Value>(body).ok();
    let sentence = document
        .as_ref()
        .and_then(|document| SENTENCES.iter().find_map(|sentence| document.pointer(sentence)?.as_str()));
    let text = sentence.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    SourceError::Answered { status: status.as_u16(), body: self::sentence(&text) }
}

/// What a system said, for people: redacted, cut, on one line.
pub(crate) fn sentence(text: &str) -> String {
    truncate(&redact(text), EXCERPT_BYTES_MAX).replace(char::is_control, " ")
}

/// Reads JSON; the error says where it does not fit.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(body).map_err(|error| SourceError::Malformed { why: error.to_string() })
}
