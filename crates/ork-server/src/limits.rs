//! The named limits of the door.

use std::time::Duration;

/// What the server takes from one client and from all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `limits.connections`: sockets at a time; more are answered 503.
    pub connections: usize,
    /// `max_head`: bytes of a request's head; more are answered 431.
    pub head: usize,
    /// `max_headers`: header fields of a request; more are answered 431.
    pub headers: usize,
    /// `head_timeout`: how long a request's head may take, and how long a connection may idle.
    pub head_timeout: Duration,
    /// `limits.body`: bytes of a JSON body; more are answered 413.
    pub body: usize,
    /// `limits.bundle`: bytes of a code bundle; a workflow with more is answered 422.
    pub bundle: usize,
    /// `limits.artifact`: bytes of a blob that is put; more are answered 413.
    pub artifact: u64,
    /// What a workflow file may cost; one that costs more is not accepted.
    pub language: ork_core::lang::Limits,
    /// `body_timeout`: how long a body may take; longer ones are answered 408.
    pub body_timeout: Duration,
    /// `write_timeout`: how long a client may take nothing of its answer before it is cut off.
    pub write_timeout: Duration,
    /// `limits.streams`: event and log streams at a time; more are answered 429.
    pub streams: usize,
    /// `keep_alive`: how long a stream is silent before a comment is sent.
    pub keep_alive: Duration,
    /// `drain`: how long requests under way may take when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            head: 32 << 10,
            headers: 100,
            head_timeout: Duration::from_secs(30),
            body: ork_api::types::MAX_BODY,
            bundle: ork_api::types::MAX_BUNDLE,
            artifact: ork_api::types::MAX_ARTIFACT,
            language: ork_core::lang::Limits::default(),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            streams: 1_024,
            keep_alive: Duration::from_secs(15),
            drain: Duration::from_secs(5),
        }
    }
}
