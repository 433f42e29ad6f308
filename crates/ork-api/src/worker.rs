//! The worker protocol. A worker in the server's process speaks it over a channel, one elsewhere
//! over HTTP; neither sees the store.

use async_trait::async_trait;
use bytes::Bytes;
use ork_core::ids::{AttemptRef, WorkerId};
use ork_core::run::{Assignment, Report, StopReason};
use ork_core::time::{Span, Wall};
use ork_core::value::Digest;
use serde::{Deserialize, Serialize};

/// From the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// Do this.
    Assign(Box<Assignment>),
    /// Stop this: politely, and after `grace` by force. The worker reports when all is gone. An
    /// attempt that it does not have is reported as stopped.
    Stop {
        /// The attempt.
        attempt: AttemptRef,
        /// Why.
        reason: StopReason,
        /// How long between the polite stop and the kill.
        grace: Span,
    },
    /// The token is void: stop it at once and report nothing.
    Fence {
        /// The attempt.
        attempt: AttemptRef,
    },
}

/// From a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// It is here and takes attempts.
    Hello {
        /// This boot of it.
        worker: WorkerId,
        /// How many attempts it does at a time.
        slots: u32,
        /// The queues it serves.
        queues: Vec<String>,
    },
    /// About an attempt.
    Report {
        /// The attempt.
        attempt: AttemptRef,
        /// What it says.
        report: Report,
    },
    /// It is alive.
    Beat {
        /// The worker.
        worker: WorkerId,
    },
    /// It takes no more; its trees are stopped.
    Goodbye {
        /// The worker.
        worker: WorkerId,
    },
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Ork's own words on the attempt.
    System,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Detail.
    Debug,
    /// The level of a line that names none.
    Info,
    /// Worth a look.
    Warn,
    /// Wrong.
    Error,
}

/// A line of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its bytes in the batch's text, without a line end.
    pub length: u32,
    /// When it was read.
    pub at: Wall,
    /// Where it came from.
    pub stream: Stream,
    /// How much it matters: from a structured line, else `info`.
    pub level: Level,
}

/// Lines of one attempt, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// The lines' text, one after the other, valid UTF-8.
    pub text: Bytes,
    /// Where each begins and ends, and what it is.
    pub lines: Vec<LogLine>,
}

/// A worker's way to its server.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// The next word from the server; none when the server is gone for good.
    async fn recv(&self) -> Option<ToWorker>;

    /// Sends a word, waiting while the server is behind.
    async fn send(&self, message: FromWorker) -> Result<(), LinkError>;

    /// Sends lines; returns when the server has written them, so that a task that writes faster
    /// than the server can keep waits.
    async fn logs(&self, attempt: &AttemptRef, batch: LogBatch) -> Result<(), LinkError>;

    /// The content of a blob.
    async fn get_blob(&self, digest: &Digest) -> Result<Bytes, LinkError>;

    /// Keeps a blob; durable when this returns.
    async fn put_blob(&self, content: Bytes) -> Result<Digest, LinkError>;
}

/// The server cannot be reached, or refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The server is gone.
    #[error("the server is gone")]
    Closed,
    /// The server says no.
    #[error("{0}")]
    Refused(String),
}
