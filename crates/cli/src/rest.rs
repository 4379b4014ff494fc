//! The HTTP side of the coordinator and of the simulator.

use std::time::Duration;

use quell_service::config::shown_address;
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::failure::{Failure, Result};

const CONNECT_SECONDS_MAX: u64 = 5;
const REQUEST_SECONDS_MAX: u64 = 30;
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Which process is talked to, for saying what to do when it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Coordinator,
    Simulator,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Simulator => "simulator",
        }
    }

    /// What to do when nobody answers there.
    pub(crate) fn not_reachable(self) -> &'static str {
        match self {
            Self::Coordinator => {
                "start it with `quell-coordinator`, or name another one with --url or QUELL_URL"
            }
            Self::Simulator => {
                "start it with `quell-simulator`, or name another one with --simulator-url or SIMULATOR_URL"
            }
        }
    }

    /// What to do when it does not know who asks.
    pub(crate) fn not_known(self) -> &'static str {
        match self {
            Self::Coordinator => "give a token that it knows with --token or QUELL_TOKEN",
            Self::Simulator => "give its token with --simulator-token or SIMULATOR_TOKEN",
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Value,
    /// Where the next page is.
    pub(crate) next: Option<Url>,
    /// How many there are on all pages together.
    pub(crate) total: Option<u64>,
}

/// A client of one process.
#[derive(Clone)]
pub(crate) struct Rest {
    pub(crate) service: Service,
    pub(crate) http: Client,
    base: Url,
    token: Option<SecretString>,
}

impl Rest {
    /// A client of the process at that address; an empty token is none.
    pub(crate) fn new(service: Service, url: &str, token: Option<SecretString>) -> Result<Self> {
        let wrong = |why: String| {
            let setting = match service {
                Service::Coordinator => "--url or QUELL_URL",
                Service::Simulator => "--simulator-url or SIMULATOR_URL",
            };
            Failure::usage(format!(
                "{:?} is not an address of the {}: {why}",
                shown_address(url),
                service.name()
            ))
            .next(format!("write it like http://127.0.0.1:5000 in {setting}"))
        };
        let base: Url = url.trim().parse().map_err(|error| wrong(format!("{error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong("it has to begin with http:// or https://".to_owned()));
        }
        // Another part of the process may have chosen the provider before; there is only one to choose.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut client = Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            .timeout(Duration::from_secs(REQUEST_SECONDS_MAX))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("quell/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            // No certificate is ever checked, so a machine without any will do.
            client = client.tls_certs_only([]);
        }
        let http = client.build().map_err(|error| wrong(cause(&error)))?;
        let token = token.filter(|token| !token.expose_secret().is_empty());
        Ok(Self { service, http, base, token })
    }

    /// The address without a slash at its end, also with secrets in it: for the client that calls it.
    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The same for people.
    pub(crate) fn shown(&self) -> String {
        shown_address(self.url())
    }

    /// The address of that resource.
    fn address(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Answer> {
        self.send(self.http.request(Method::GET, self.address(path)).query(query)).await
    }

    pub(crate) async fn post(&self, path: &[&str], body: Option<&Value>) -> Result<Value> {
        let request = self.http.request(Method::POST, self.address(path));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        Ok(self.send(request).await?.body)
    }

    pub(crate) async fn put(&self, path: &[&str], body: &Value) -> Result<Value> {
        Ok(self.send(self.http.request(Method::PUT, self.address(path)).json(body)).await?.body)
    }

    /// The page at an address that this process gave.
    pub(crate) async fn follow(&self, next: Url) -> Result<Answer> {
        if next.origin() != self.base.origin() {
            // The token is for this process only.
            let (name, next) = (self.service.name(), next.origin().ascii_serialization());
            return Err(Failure::failed(format!(
                "the {name} says that its next page is at {next}, another server"
            )));
        }
        self.send(self.http.request(Method::GET, next)).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let next = next_page(response.headers(), &self.base);
        let total = response.headers().get("x-total-count");
        let total = total.and_then(|total| total.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let name = self.service.name();
                return Err(Failure::failed(format!(
                    "the {name}'s answer is longer than {ANSWER_BYTES_MAX} bytes"
                ))
                .next("ask for less, for example with --limit"));
            }
            body.extend_from_slice(&chunk);
        }
        let document: Option<Value> = serde_json::from_slice(&body).ok();
        match document {
            Some(body) if status.is_success() => Ok(Answer { body, next, total }),
            None if status.is_success() => {
                Err(self.foreign(&format!("it answered {status}, and not with JSON")))
            }
            problem => Err(self.refused(status, problem.as_ref())),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let what = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
        let error = cause(error);
        Failure::failed(format!("the {} at {} {what}: {error}", self.service.name(), self.shown()))
            .next(self.service.not_reachable())
    }

    /// Whoever listens there is not what was looked for.
    fn foreign(&self, what: &str) -> Failure {
        let name = self.service.name();
        Failure::failed(format!("{} does not look like a {name}: {what}", self.shown()))
            .next(self.service.not_reachable())
    }

    /// The failure that an error answer stands for.
    fn refused(&self, status: StatusCode, problem: Option<&Value>) -> Failure {
        let member = |name: &str| problem?.get(name)?.as_str().filter(|text| !text.is_empty());
        let told = member("detail").or_else(|| member("title"));
        let name = self.service.name();
        let says = told.map_or_else(|| format!("the {name} answered {status}"), str::to_owned);
        match status {
            StatusCode::UNAUTHORIZED => {
                Failure::failed(format!("the {name} at {} does not know you: {says}", self.shown()))
                    .next(self.service.not_known())
            }
            StatusCode::FORBIDDEN => Failure::failed(format!("your token may not do this: {says}"))
                .next("ask for the right, or use another token"),
            StatusCode::NOT_FOUND if told.is_none() => {
                self.foreign("there is nothing at the address of its API")
            }
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::GONE => Failure::not_possible(says),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Failure::usage(says),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Failure::failed(format!("the {name} cannot do this at the moment: {says}"))
                    .next("try again in a moment")
            }
            _ if status.is_server_error() => {
                Failure::failed(format!("the {name} failed ({status}): {says}")).next("its log says more")
            }
            _ if status.is_redirection() || told.is_none() => self.foreign(&format!("it answered {status}")),
            _ => Failure::failed(says),
        }
    }
}

/// The address with `rel="next"` of the `Link` headers.
fn next_page(headers: &HeaderMap, base: &Url) -> Option<Url> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let mut links = links.flat_map(|value| value.split(",<").map(|link| link.trim().trim_start_matches('<')));
    links.find_map(|link| {
        let (address, parameters) = link.split_once('>')?;
        let is_next =
            parameters.split(';').any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
        if is_next { base.join(address).ok() } else { None }
    })
}

/// An HTTP error says only in its causes what happened; its first line merely repeats the address.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let causes: Vec<String> =
        std::iter::successors(error.source(), |error| error.source()).map(ToString::to_string).collect();
    causes.last().cloned().unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, value.parse().unwrap());
        next_page(&headers, &"http://127.0.0.1:5000/".parse().unwrap()).map(String::from)
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        assert_eq!(
            next("</api/incidents?cursor=a,b>; rel=\"next\"").as_deref(),
            Some("http://127.0.0.1:5000/api/incidents?cursor=a,b")
        );
        assert_eq!(
            next("</a>; rel=\"prev\",</b>; title=x; rel=next").as_deref(),
            Some("http://127.0.0.1:5000/b")
        );
        assert_eq!(next("</a>; rel=\"prev\""), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn names_cannot_leave_their_place_in_an_address() {
        let rest = Rest::new(Service::Simulator, "http://127.0.0.1:8000/sub/", None).unwrap();
        let address = rest.address(&["trigger", "../resolve?x=1"]);
        assert_eq!(address.as_str(), "http://127.0.0.1:8000/sub/trigger/..%2Fresolve%3Fx=1");
    }
}
