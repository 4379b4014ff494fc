//! What the listeners of every daemon allow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::Period;

/// Limits of each listener and of its connections. The defaults are meant for sites of any size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// Connections open at the same time; fewer where the system allows fewer open files. One more closes one that has no request at
    /// work.
    pub connections_max: usize,
    /// Of these, from one address or one /64 network of IPv6. One more closes one of its own.
    pub connections_per_peer_max: usize,
    /// How long a new connection may take until its first request is there.
    pub head_timeout: Period,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Period,
    /// How long the body of a request may take.
    pub body_timeout: Period,
    /// How long a sender of a body, or a reader of an answer, may stand still. Who is slower than 4 KiB a second all the time has no more
    /// than that in all.
    pub behind_max: Period,
    /// Bytes of large answers that wait for their readers at the same time.
    pub answer_bytes_max: usize,
    /// Bytes of request bodies that are read or worked on at the same time; as many again for webhooks alone.
    pub body_bytes_max: usize,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            connections_max: 2048,
            connections_per_peer_max: 1024,
            head_timeout: Period::seconds(10),
            idle_timeout: Period::seconds(120),
            body_timeout: Period::seconds(30),
            behind_max: Period::seconds(10),
            answer_bytes_max: 64 << 20,
            body_bytes_max: 32 << 20,
        }
    }
}
