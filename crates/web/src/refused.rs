//! Why a request is refused, as an answer that says what to do.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::guard::is_grpc;

/// What of a header's value an answer repeats, in characters.
const SHOWN_CHARACTERS_MAX: usize = 80;
/// `PERMISSION_DENIED` of gRPC.
const GRPC_PERMISSION_DENIED: &str = "7";

/// Why a request is refused. The answer carries it among its extensions, for whoever counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// HTTP wants exactly one `Host` that can be read.
    NoHost,
    /// It was called by a name that is not allowed.
    ForeignHost {
        /// The name.
        host: String,
        /// The setting that takes further names.
        setting: &'static str,
    },
    /// A page of another origin called.
    ForeignOrigin {
        /// The origin, or what else told.
        origin: String,
    },
    /// The body is said to be something else than JSON.
    ContentType,
}

impl Refused {
    /// A word for counters.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoHost => "no_host",
            Self::ForeignHost { .. } => "foreign_host",
            Self::ForeignOrigin { .. } => "foreign_origin",
            Self::ContentType => "content_type",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoHost => StatusCode::BAD_REQUEST,
            Self::ForeignHost { .. } | Self::ForeignOrigin { .. } => StatusCode::FORBIDDEN,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NoHost => "No host",
            Self::ForeignHost { .. } => "A host that is not known here",
            Self::ForeignOrigin { .. } => "A web page of another origin",
            Self::ContentType => "Not JSON",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::NoHost => "send one header `Host` with the name or address that is called".to_owned(),
            Self::ForeignHost { host, setting } => format!(
                "this port does not answer to the name `{}`, which a web page could have made to point here; call it as \
                 `localhost` or by its IP address, or add the name to `{setting}`",
                shown(host)
            ),
            Self::ForeignOrigin { origin } => format!(
                "a web page of another origin may not call this port (`{}`); call it from a program, or, behind a proxy, let \
                 the proxy pass on the name that the page has as `Host`",
                shown(origin)
            ),
            Self::ContentType => "the body has to be JSON, and its type has to say so: send \
                                  `Content-Type: application/json`"
                .to_owned(),
        }
    }

    /// The answer to a request with these headers: gRPC has a form of its own.
    #[must_use]
    pub(crate) fn answer(self, request: &HeaderMap) -> Response {
        if !is_grpc(request) {
            return self.into_response();
        }
        let message = percent_encoded(&self.detail());
        let headers = [
            (CONTENT_TYPE.as_str(), "application/grpc".to_owned()),
            ("grpc-status", GRPC_PERMISSION_DENIED.to_owned()),
            ("grpc-message", message),
        ];
        let mut response = (headers, ()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Refused {
    /// An RFC 9457 problem.
    fn into_response(self) -> Response {
        let document = serde_json::json!({
            "type": format!("urn:quell:problem:{}", self.as_str().replace('_', "-")),
            "title": self.title(),
            "status": self.status().as_u16(),
            "detail": self.detail(),
        });
        let mut response = (self.status(), document.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.extensions_mut().insert(self);
        response
    }
}

/// What a stranger sent, as much of it as helps.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS_MAX).flat_map(char::escape_default).collect()
}

/// As gRPC wants its messages: what is not visible ASCII, and `%`, as bytes in hexadecimal.
fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}
