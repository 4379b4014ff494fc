//! The door of every port: who is kept out of it, and the trace that this leaves.
//!
//! Web pages are kept out by [`quell_web::guard`], callers without a token or the right by the routes behind it. Either way there is a log
//! line with the peer, what was called and why, never with what was shown; at most one for a peer in ten seconds, which says how many were left
//! out. The counters have all of them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use quell_web::{Hosts, Refused};

use crate::clock::Clock;
use crate::tokens::TokenTable;

/// A peer has at most one log line in this time.
const QUIET: SignedDuration = SignedDuration::from_secs(10);
/// Peers that are told apart at the same time; further ones share a line.
const PEERS_MAX: usize = 1_000;
/// What of a path is logged, in characters.
const PATH_CHARACTERS_MAX: usize = 200;
/// `PERMISSION_DENIED` and `UNAUTHENTICATED` of gRPC.
const GRPC_FORBIDDEN: &str = "7";
const GRPC_UNAUTHENTICATED: &str = "16";

/// Reasons why a caller is not let in.
const MISSING: &str = "missing";
const UNKNOWN: &str = "unknown";
const FORBIDDEN: &str = "forbidden";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What was said of a peer.
struct Said {
    at: Timestamp,
    left_out: u64,
}

/// The door of a daemon's ports.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    hosts: Hosts,
    clock: Arc<dyn Clock>,
    authentication: Family<Reason, Counter>,
    requests: Family<Reason, Counter>,
    /// By address; `None` stands for all for whom there is no room.
    said: Mutex<HashMap<Option<IpAddr>, Said>>,
}

impl Door {
    /// A door. `setting` names the setting that has `allowed_hosts`.
    #[must_use]
    pub fn new(
        setting: &'static str,
        allowed_hosts: &[String],
        tokens: &TokenTable,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut hosts = Hosts::new(setting, allowed_hosts);
        if tokens.is_required() {
            let tokens = tokens.clone();
            hosts =
                hosts.with_tokens(move |headers: &HeaderMap| tokens.authenticate_headers(headers).is_ok());
        }
        let (authentication, requests) = (Family::default(), Family::default());
        // A counter that is there from the start can be watched for its first increase.
        for reason in [MISSING, UNKNOWN, FORBIDDEN] {
            let _: &Counter = &authentication.get_or_create(&Reason { reason });
        }
        Self(Arc::new(Inner { hosts, clock, authentication, requests, said: Mutex::default() }))
    }

    /// Registers what is counted.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests of callers who were not let in, by whether a token was missing, unknown or without the right";
        registry.register("quell_authentication_failures", help, self.0.authentication.clone());
        let help = "Requests that were refused before they were looked at, as a web page's might be, by why";
        registry.register("quell_requests_refused", help, self.0.requests.clone());
    }

    /// These routes behind the door.
    pub fn before(&self, router: Router) -> Router {
        quell_web::guard(router, self.0.hosts.clone()).layer(from_fn_with_state(Arc::clone(&self.0), watch))
    }
}

async fn watch(State(door): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let showed = request.headers().contains_key(AUTHORIZATION);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    if let Some(refused) = response.extensions().get::<Refused>() {
        door.requests.get_or_create(&Reason { reason: refused.as_str() }).inc();
        door.say(peer, &method, uri.path(), refused.as_str());
    } else if let Some(reason) = reason_of(&response, showed) {
        door.authentication.get_or_create(&Reason { reason }).inc();
        door.say(peer, &method, uri.path(), reason);
    }
    response
}

/// Why a caller was not let in, if that is what the answer says.
fn reason_of(response: &Response, showed: bool) -> Option<&'static str> {
    let grpc = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    match (response.status(), grpc) {
        (StatusCode::UNAUTHORIZED, _) | (_, Some(GRPC_UNAUTHENTICATED)) => {
            Some(if showed { UNKNOWN } else { MISSING })
        }
        (StatusCode::FORBIDDEN, _) | (_, Some(GRPC_FORBIDDEN)) => Some(FORBIDDEN),
        _ => None,
    }
}

impl Inner {
    fn say(&self, peer: Option<IpAddr>, method: &Method, path: &str, why: &'static str) {
        if let Some(left_out) = self.left_out(peer) {
            let path: String = path.chars().take(PATH_CHARACTERS_MAX).collect();
            let peer = peer.map(tracing::field::display);
            tracing::warn!(peer, call = %format_args!("{method} {path}"), why, left_out, "a caller was refused");
        }
    }

    /// How many were left out before, if there is to be a line now.
    fn left_out(&self, peer: Option<IpAddr>) -> Option<u64> {
        let now = self.clock.now();
        // The clock may be set back.
        let is_quiet = |said: &Said| now.duration_since(said.at).abs() < QUIET;
        // Each change of the map is whole by itself, so a panic leaves nothing half done.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= PEERS_MAX && !said.contains_key(&peer) {
            said.retain(|_, said| is_quiet(said));
        }
        let has_room = said.len() < PEERS_MAX || said.contains_key(&peer);
        let peer = if has_room { peer } else { None };
        match said.get_mut(&peer) {
            Some(last) if is_quiet(last) => {
                last.left_out += 1;
                None
            }
            last => {
                let left_out = last.map_or(0, |last| last.left_out);
                said.insert(peer, Said { at: now, left_out: 0 });
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{Scope, Secret, TokenEntry};
    use crate::http::Problem;

    fn door(clock: &ManualClock) -> Door {
        let entry = TokenEntry {
            name: "viewer".to_owned(),
            token: Some(Secret::new("token-of-viewer")),
            token_file: None,
            scopes: vec![Scope::Read],
        };
        Door::new("test.allowed_hosts", &[], &TokenTable::new(&[entry]), Arc::new(clock.clone()))
    }

    fn peer(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    #[tokio::test]
    async fn every_refusal_is_counted_by_why() {
        let door = door(&ManualClock::at(Timestamp::UNIX_EPOCH));
        let refusing = |status: StatusCode| move || async move { Problem::new(status, "no") };
        let grpc = || async { ([("grpc-status", "16")], "") };
        let routes = Router::new()
            .route("/who", get(refusing(StatusCode::UNAUTHORIZED)))
            .route("/may", get(refusing(StatusCode::FORBIDDEN)))
            .route("/grpc", get(grpc));
        let router = door.before(routes);
        for (path, header) in [
            ("/who", ("x-none", "")),
            ("/who", ("authorization", "Bearer wrong")),
            ("/grpc", ("x-none", "")),
            ("/may", ("x-none", "")),
            ("/may", ("origin", "http://evil.test")),
            ("/nowhere", ("x-none", "")),
        ] {
            let request = Request::builder().uri(path).header("host", "localhost").header(header.0, header.1);
            router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        }
        let count = |family: &Family<Reason, Counter>, reason| family.get_or_create(&Reason { reason }).get();
        let counted = [MISSING, UNKNOWN, FORBIDDEN].map(|reason| count(&door.0.authentication, reason));
        assert_eq!(counted, [2, 1, 1]);
        assert_eq!(count(&door.0.requests, "foreign_origin"), 1);
    }

    #[test]
    fn a_peer_has_one_line_in_ten_seconds_which_says_how_many_were_left_out() {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let door = door(&clock).0;
        assert_eq!(door.left_out(peer(1)), Some(0));
        assert_eq!(door.left_out(peer(1)), None);
        assert_eq!(door.left_out(peer(2)), Some(0), "another peer has its own");
        assert_eq!(door.left_out(peer(1)), None);
        clock.advance(QUIET);
        assert_eq!(door.left_out(peer(1)), Some(2));
        assert_eq!(door.left_out(peer(1)), None);
    }

    #[test]
    fn many_peers_share_a_line_and_take_bounded_room() {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let door = door(&clock).0;
        let lines = (0..5_000).filter(|number| door.left_out(peer(*number)).is_some()).count();
        assert_eq!(lines, PEERS_MAX + 1);
        assert_eq!(door.said.lock().unwrap().len(), PEERS_MAX + 1);
        clock.advance(QUIET);
        assert_eq!(door.left_out(peer(9_999)), Some(0));
        assert!(door.said.lock().unwrap().len() <= 2, "what is over makes room");
    }
}
