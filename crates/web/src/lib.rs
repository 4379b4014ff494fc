//! What every HTTP port of every program has in common: a table of its endpoints, and a guard against web pages.
//!
//! # What is guarded against
//!
//! A browser on this machine, or inside this network, sends requests for every page that it shows. Such a page must neither act here
//! nor read anything here:
//!
//! - **By another origin's page** that calls this port as it is: `fetch`, forms, images, scripts, beacons. Some of these go out without
//!   asking first, so refusing to answer is not enough: they must not be carried out.
//! - **By a name that points here** (DNS rebinding): the page's own name is made to resolve to this machine, so for the browser the
//!   page and this port are one origin, and it may read what comes back.
//!
//! # How
//!
//! [`guard`] looks at every request before anything else does:
//!
//! 1. **Host** and `:authority` are a loopback name (`localhost`, `*.localhost`), an IP address, or one of the names that are allowed.
//!    Rebinding needs a name: what a browser calls by an IP address comes from a page of that address, or names another origin. So
//!    probes of orchestrators and scrapers, which call by IP address, need no setting. Where callers have to show a token, a browser
//!    has none, and senders inside a cluster call by names that only their cluster knows: there a foreign name is taken from whoever
//!    shows a known token, and from whatever is no browser; unless names are allowed, then only those.
//! 2. **Origin**, where there is one, is this port's own: the same host and port as in `Host`. `null` never is.
//! 3. **Sec-Fetch-Site**, where there is one, is `same-origin` or `none` (typed by a person). Links from other sites are refused too: there
//!    are no pages for people here, so nothing is lost.
//! 4. **Content-Type** of whatever changes something is JSON, or gRPC, if a browser sent it. A page can send the other types without
//!    asking. What no browser sends may have any type, where the table says so ([`Takes::AnyType`]): several senders of webhooks, and
//!    `curl -d`, give a wrong one or none. Elsewhere ([`Takes::Json`]) it must be JSON, or missing.
//!
//! No answer ever has a CORS header, and each says `nosniff` and `same-origin`, for browsers that send none of the above.
//!
//! # What is no protection
//!
//! Another program on this machine can send any header. Against it there are tokens.

mod endpoints;
mod guard;
mod refused;

pub use endpoints::{Endpoint, Routes, Takes, open, table};
pub use guard::{Hosts, guard, host_name, is_grpc};
pub use refused::Refused;
