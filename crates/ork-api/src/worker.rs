//! The worker protocol. A worker in the server's process speaks it over a channel, one elsewhere
//! over HTTP; neither sees the store.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use ork_core::ids::{AttemptRef, WorkerId};
use ork_core::logs::LogBatch;
use ork_core::rows::CodeRef;
use ork_core::run::{Assignment, Departure, Report, StopReason};
use ork_core::time::Span;
use ork_core::value::{Digest, Value};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

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
    /// Attempts like this will come: get ready.
    Prepare(Box<Prepare>),
}

/// What will be asked of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// The project's name.
    pub project: Arc<str>,
    /// The executor.
    pub executor: Arc<str>,
    /// What is fixed of its block of the file.
    pub spec: Value,
    /// The code.
    pub code: CodeRef,
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
        /// How many beats it had sent when it last was known to have the attempt.
        #[serde(default)]
        beats: u64,
    },
    /// It is alive. What it has and should not is fenced. Refused, it has to say hello again.
    Beat {
        /// The worker.
        worker: WorkerId,
        /// Which of its beats this is, from 1.
        number: u64,
        /// What it has, up to those whose end it has reported without an answer yet.
        held: Vec<AttemptRef>,
    },
    /// It takes no more; its trees are stopped.
    Goodbye {
        /// The worker.
        worker: WorkerId,
        /// Whether it was told to leave.
        departure: Departure,
    },
}

/// A content that comes part by part.
pub type Content = BoxStream<'static, io::Result<Bytes>>;

/// How much of a content is read at a time.
const PART: usize = 1 << 20;

/// What can be read, part by part.
pub fn in_parts(from: impl AsyncRead + Send + Unpin + 'static) -> Content {
    let parts = unfold(from, |mut from| async {
        let mut part = BytesMut::with_capacity(PART);
        match from.read_buf(&mut part).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(part.freeze()), from)),
            Err(error) => Some((Err(error), from)),
        }
    });
    parts.boxed()
}

/// A worker's way to its server.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// The next word from the server; none when the server is gone for good.
    async fn recv(&self) -> Option<ToWorker>;

    /// Whether the server wants heartbeats. A worker whose life it sees by itself sends none, so
    /// that nothing wakes while both are idle.
    fn wants_beats(&self) -> bool {
        true
    }

    /// Sends a word, waiting while the server is behind. Between processes a confirmation returns
    /// once the server has accepted or refused it; user code starts only after that.
    async fn send(&self, message: FromWorker) -> Result<(), LinkError>;

    /// Sends lines; returns when the server has written them, so that a task that writes faster
    /// than the server can keep waits.
    async fn logs(&self, attempt: &AttemptRef, batch: LogBatch) -> Result<(), LinkError>;

    /// The content of a blob.
    async fn get_blob(&self, digest: &Digest) -> Result<Bytes, LinkError>;

    /// Keeps a blob; durable when this returns.
    async fn put_blob(&self, content: Bytes) -> Result<Digest, LinkError>;

    /// The bytes of a blob from `range.start` up to `range.end` or its end, for one that is too
    /// large to be in memory.
    async fn get_part(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, LinkError>;

    /// Keeps a blob that is read part by part, whatever its size; durable when this returns. Gives
    /// its digest and its length.
    async fn put_stream(&self, content: Content) -> Result<(Digest, u64), LinkError>;
}

/// The server cannot be reached, or refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The server is gone.
    #[error("the server is gone")]
    Closed,
    /// The server cannot do it now; the same call may work later.
    #[error("the server cannot now: {0}")]
    Retryable(String),
    /// The server says no.
    #[error("{0}")]
    Refused(String),
}
