//! The endpoints of a port as a table, which the routes are made from: it cannot leave one out.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use http::Method;

use crate::guard::has_json_body;
use crate::refused::Refused;

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing that is read.
    Nothing,
    /// JSON; a type that says otherwise is refused.
    Json,
    /// JSON, whatever type it is said to have by what is no browser.
    AnyType,
    /// A gRPC message.
    Grpc,
}

impl Takes {
    /// The words of the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Json => "JSON",
            Self::AnyType => "JSON, of any type unless a browser sends it",
            Self::Grpc => "gRPC",
        }
    }
}

/// One thing that can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with its variable parts in braces.
    pub path: String,
    /// The right that a caller needs; `none` where none is needed.
    pub needs: &'static str,
    /// What it takes.
    pub takes: Takes,
}

/// What an endpoint needs that everybody may call.
#[must_use]
pub fn open() -> &'static str {
    "none"
}

/// Routes together with the table of what they answer to.
pub struct Routes<S> {
    router: Router<S>,
    endpoints: Vec<Endpoint>,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self { router: Router::new(), endpoints: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a page that is only read.
    #[must_use]
    pub fn page<H, T>(self, path: &'static str, needs: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.with(Method::GET, path, needs, Takes::Nothing, handler)
    }

    /// The same with something that is called by this method.
    ///
    /// # Panics
    /// Like [`Router::route`], where the path or its method is taken already; and for a method that [`MethodFilter`] does not know.
    #[must_use]
    pub fn with<H, T>(
        mut self,
        method: Method,
        path: &'static str,
        needs: &'static str,
        takes: Takes,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let Ok(filter) = MethodFilter::try_from(method.clone()) else {
            panic!("no route can be made for the method {method} of {path}");
        };
        let mut route = axum::routing::on(filter, handler);
        if takes == Takes::Json {
            route = route.layer(from_fn(json_alone));
        }
        self.router = self.router.route(path, route);
        self.endpoints.push(Endpoint { method, path: path.to_owned(), needs, takes });
        self
    }

    /// The router, without a fallback.
    pub fn into_router(self) -> Router<S> {
        self.router
    }

    /// The table.
    #[must_use]
    pub fn into_endpoints(self) -> Vec<Endpoint> {
        self.endpoints
    }
}

/// A type that is given has to be JSON; without one it is tried.
async fn json_alone(request: Request, next: Next) -> Response {
    if has_json_body(request.headers()).unwrap_or(true) {
        return next.run(request).await;
    }
    Refused::ContentType.into_response()
}

/// The table of a port as people read it.
#[must_use]
pub fn table(port: &str, endpoints: &[Endpoint]) -> String {
    let width = endpoints.iter().map(|endpoint| endpoint.path.len()).max().unwrap_or(0);
    let scopes = endpoints.iter().map(|endpoint| endpoint.needs.len()).max().unwrap_or(0);
    let mut text = format!("{port}\n");
    for Endpoint { method, path, needs, takes } in endpoints {
        // Writing to a text cannot fail.
        let _ =
            writeln!(text, "  {:<6} {path:<width$}  {needs:<scopes$}  {}", method.as_str(), takes.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "no route can be made for the method BREW of /pot")]
    fn a_method_that_cannot_be_routed_is_not_served_as_another() {
        let brew = Method::from_bytes(b"BREW").unwrap();
        let _ = Routes::<()>::new().with(brew, "/pot", open(), Takes::Nothing, async || "done");
    }
}
