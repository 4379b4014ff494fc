//! What a listener allows.

use std::time::Duration;

use crate::config::Listeners;

/// Files that are kept for everything but connections: the store, logs, calls to other systems.
const FILES_KEPT: usize = 256;
/// Listeners of one process that may be full at the same time.
const LISTENERS: usize = 2;
/// As many connections there are, however few files may be open.
const CONNECTIONS_LEAST: usize = 16;
/// How many open files are asked for at the most: what is beyond is of no use here.
const FILES_MAX: u64 = 1 << 16;

/// Limits of a listener and its connections.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections open at the same time. One more closes the one that can be spared best.
    pub connections_max: usize,
    /// Of these, from one address (from one /64 of IPv6). One more closes one of its own.
    pub connections_per_peer_max: usize,
    /// Further connections while all the others have requests at work: only for those who ask how it is, and for webhooks.
    pub connections_reserved: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams_per_connection_max: u32,
    /// Bytes of the headers of one request.
    pub header_bytes_max: u32,
    /// A connection whose first request does not come for so long is closed.
    pub head_within: Duration,
    /// A connection without a request is closed after this time.
    pub idle_within: Duration,
    /// How long the body of a request may take, if it keeps to `rate_min`.
    pub body_within: Duration,
    /// How long a sender or a reader may stand still, or fall behind `rate_min`, until it is cut off.
    pub behind_max: Duration,
    /// Bytes a second that a sender sends, and a reader reads, at the least.
    pub rate_min: u64,
    /// Bytes of requests that arrive or are worked on at the same time. A further request is 503. None where the handlers see to that
    /// themselves, since they do not keep what strangers send.
    pub request_bytes_max: Option<usize>,
    /// Bytes of answers that wait for their readers at the same time. A further answer is 503.
    pub answer_bytes_max: usize,
    /// A silent HTTP/2 connection is asked for a sign of life after this time.
    pub keepalive_interval: Duration,
    /// It is closed when none comes within this time.
    pub keepalive_timeout: Duration,
    /// How long requests under way may go on after the shutdown signal.
    pub drain_within: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self::of(&Listeners::default())
    }
}

impl ServeOptions {
    /// The limits that are configured, and the others as they always are.
    #[must_use]
    pub fn of(settings: &Listeners) -> Self {
        Self {
            connections_max: settings.connections_max,
            connections_per_peer_max: settings.connections_per_peer_max,
            connections_reserved: 64,
            streams_per_connection_max: 128,
            header_bytes_max: 32 << 10,
            head_within: settings.head_timeout.get(),
            idle_within: settings.idle_timeout.get(),
            body_within: settings.body_timeout.get(),
            behind_max: settings.behind_max.get(),
            rate_min: 4 << 10,
            request_bytes_max: Some(settings.body_bytes_max),
            answer_bytes_max: settings.answer_bytes_max,
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(20),
            drain_within: Duration::from_secs(10),
        }
    }

    /// Connections that may be open at the same time, given how many files may be.
    pub(super) fn connections(&self) -> usize {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        let room = files.saturating_sub(FILES_KEPT) / LISTENERS;
        self.connections_max.min(room.saturating_sub(self.connections_reserved)).max(CONNECTIONS_LEAST)
    }
}

/// Lets this process have as many files open as the system allows it without asking, which is more than it starts with.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES_MAX, |most| most.min(FILES_MAX));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised; fewer connections are taken");
    }
}
