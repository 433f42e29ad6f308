//! Log lines, as a worker ships them and a log store keeps them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::time::Wall;

/// The most bytes of one line that are kept; the rest of a longer line is counted as cut.
pub const MAX_LINE: usize = 64 * 1024;

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
    /// Its bytes in the batch's text, without a line end; at most [`MAX_LINE`].
    pub length: u32,
    /// Bytes that the task wrote on this line beyond those, and that are not kept.
    pub cut: u64,
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
    /// The lines' text, one after the other, without line ends, valid UTF-8.
    pub text: Bytes,
    /// Where each begins and ends, and what it is.
    pub lines: Vec<LogLine>,
}
