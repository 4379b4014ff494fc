//! The guard itself.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::header::{
    ACCEPT_LANGUAGE, CONTENT_TYPE, COOKIE, HOST, HeaderName, ORIGIN, REFERER, USER_AGENT,
    X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Version};

use crate::refused::Refused;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// The longest name of a host (RFC 1035).
const NAME_BYTES_MAX: usize = 253;

/// Whether a request's headers show a token that is known here.
type Known = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

/// The names that a port answers to, beside loopback's and IP addresses.
#[derive(Clone)]
pub struct Hosts {
    setting: &'static str,
    allowed: Vec<String>,
    known: Option<Known>,
}

impl Hosts {
    /// These names. `setting` is where they are set, for the refusal that names it.
    #[must_use]
    pub fn new(setting: &'static str, allowed: &[String]) -> Self {
        let allowed = allowed.iter().map(|name| normal(name)).collect();
        Self { setting, allowed, known: None }
    }

    /// The same where every caller has to show a token, which `known` recognises.
    #[must_use]
    pub fn with_tokens(mut self, known: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        self.known = Some(Arc::new(known));
        self
    }

    fn allow(&self, authority: &Authority, headers: &HeaderMap) -> bool {
        let host = normal(authority.host());
        if is_loopback_name(&host) || is_ip_address(&host) || self.allowed.contains(&host) {
            return true;
        }
        match &self.known {
            // A page that was served under this name can remove or fake every mark of a browser except `Accept-Language`, so that one
            // alone is enough.
            Some(known) if self.allowed.is_empty() => {
                known(headers) || !(is_browser(headers) || headers.contains_key(ACCEPT_LANGUAGE))
            }
            _ => false,
        }
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let headers = request.headers();
        let authorities = authorities(request)?;
        if let Some(foreign) = authorities.iter().find(|authority| !self.allow(authority, headers)) {
            let host = foreign.host().to_owned();
            return Err(Refused::ForeignHost { host, setting: self.setting });
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
            let is_own = authorities.iter().all(|authority| is_same_origin(&origin, authority));
            if authorities.is_empty() || !is_own {
                return Err(Refused::ForeignOrigin { origin });
            }
        }
        for site in headers.get_all(SEC_FETCH_SITE) {
            if !matches!(site.as_bytes(), b"same-origin" | b"none") {
                let site = String::from_utf8_lossy(site.as_bytes());
                return Err(Refused::ForeignOrigin { origin: format!("{SEC_FETCH_SITE}: {site}") });
            }
        }
        if !request.method().is_safe()
            && has_json_body(headers) != Some(true)
            && is_browser(headers)
            && !is_grpc(headers)
        {
            return Err(Refused::ContentType);
        }
        Ok(())
    }
}

/// All routes of this router, and what it says of paths that it does not have, behind the guard.
pub fn guard(router: Router, hosts: Hosts) -> Router {
    router.layer(from_fn_with_state(Arc::new(hosts), look))
}

async fn look(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let mut response = match hosts.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.answer(request.headers()),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// By what the request says that it calls: `:authority` or an absolute target, and `Host`. A browser always says it. HTTP/1.1 wants it
/// from everybody (RFC 9112, 3.2); some health checks speak HTTP/1.0.
fn authorities(request: &Request) -> Result<Vec<Authority>, Refused> {
    let mut named: Vec<Authority> = request.uri().authority().cloned().into_iter().collect();
    let hosts: Vec<&HeaderValue> = request.headers().get_all(HOST).iter().collect();
    if hosts.len() > 1 || hosts.is_empty() && request.version() == Version::HTTP_11 {
        return Err(Refused::NoHost);
    }
    for host in hosts {
        named.push(Authority::try_from(host.as_bytes()).map_err(|_| Refused::NoHost)?);
    }
    // Who is called has no user.
    if named.iter().any(|authority| authority.as_str().contains('@')) {
        return Err(Refused::NoHost);
    }
    Ok(named)
}

/// A name as it is compared: in small letters, without the dot at its end.
fn normal(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    host.strip_suffix('.').map(str::to_owned).unwrap_or(host)
}

fn is_loopback_name(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

fn is_ip_address(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.parse::<Ipv4Addr>().is_ok() || v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// The same host and port. The scheme is not compared: TLS may end in front of this program, which does not know of it then. A browser
/// that calls `http` from a page of `https` says so in `Sec-Fetch-Site`.
fn is_same_origin(origin: &str, called: &Authority) -> bool {
    let Some((scheme, place)) = origin.split_once("://") else { return false };
    let usual_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Ok(origin) = place.parse::<Authority>() else { return false };
    let port_of = |authority: &Authority| authority.port_u16().unwrap_or(usual_port);
    !place.contains('@')
        && normal(origin.host()) == normal(called.host())
        && port_of(&origin) == port_of(called)
}

/// Whether this has the marks of a browser. Each of them is one that a page of another origin cannot take away or change; programs
/// that are none send none of them, but for `Accept-Language: *` of Node.js.
fn is_browser(headers: &HeaderMap) -> bool {
    let begins = |name: HeaderName, text: &[u8]| {
        headers.get_all(name).iter().any(|value| value.as_bytes().starts_with(text))
    };
    [ORIGIN, SEC_FETCH_SITE, REFERER, COOKIE].iter().any(|name| headers.contains_key(name))
        || begins(USER_AGENT, b"Mozilla/")
        || headers.get_all(ACCEPT_LANGUAGE).iter().any(|value| value != "*")
}

/// Whether the body is said to be JSON; `None` where nothing is said.
pub(crate) fn has_json_body(headers: &HeaderMap) -> Option<bool> {
    let types = headers.get_all(CONTENT_TYPE);
    let said: Vec<bool> = types.iter().map(|value| value.to_str().is_ok_and(is_json)).collect();
    (!said.is_empty()).then(|| said.into_iter().all(|is_json| is_json))
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    kind == "application" && (subtype == "json" || subtype.ends_with("+json"))
}

/// Whether the body is said to be gRPC's. A page cannot send this type without asking first, and is not answered then; a gRPC client
/// reads no other answers.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter().peekable();
    types.peek().is_some() && types.all(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A name that may be allowed, as it is compared; the error says what a name is.
///
/// # Errors
/// The text is no name of a host.
pub fn host_name(text: &str) -> Result<String, String> {
    let name = normal(text.trim());
    let fits = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() <= NAME_BYTES_MAX && name.split('.').all(fits) {
        return Ok(name);
    }
    Err(format!(
        "`{}` is no name of a host; write it like `quell.example.com`, without scheme and port",
        text.escape_debug()
    ))
}

#[cfg(test)]
mod tests;
