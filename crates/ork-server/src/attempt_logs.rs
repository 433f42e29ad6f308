//! The logs of attempts, and the blobs beside them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ork_api::stamp::Stamp;
use ork_api::types::{Gap, LogLine};
use ork_core::logs::{Level, LogBatch, Stream};
use ork_core::rows::LogSummary;
use ork_store::{
    FileBlobs, FileLogs, FoundLine, Limits, LogKey, LogPart, LogQuery, Place, StoreError,
};

/// How long a search may take before it answers with what it has.
const SEARCH: Duration = Duration::from_millis(100);

/// Which lines of a log are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) after: u64,
    pub(crate) tail: bool,
    pub(crate) level: Option<Level>,
    pub(crate) stream: Option<Stream>,
    pub(crate) text: Option<String>,
    pub(crate) limit: usize,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) lines: Vec<LogLine>,
    /// The last line that was looked at.
    pub(crate) scanned_to: u64,
    /// Whether more lines are there to look at.
    pub(crate) more: bool,
    /// The last line that the log had.
    pub(crate) last: u64,
}

pub(crate) struct AttemptLogs {
    logs: FileLogs,
    blobs: Arc<FileBlobs>,
    /// Logs that have grown since they were last closed.
    open: Mutex<HashSet<Arc<LogKey>>>,
}

impl AttemptLogs {
    /// The logs of a data directory, each of at most `most` bytes.
    pub(crate) fn open(directory: &Arc<ork_store::DataDir>, most: u64) -> Result<Self, StoreError> {
        Ok(Self {
            logs: FileLogs::open(directory.clone(), Limits { attempt: most }),
            blobs: Arc::new(FileBlobs::open(directory.clone())?),
            open: Mutex::default(),
        })
    }

    pub(crate) fn files(&self) -> &FileLogs {
        &self.logs
    }

    pub(crate) fn blobs(&self) -> &Arc<FileBlobs> {
        &self.blobs
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, HashSet<Arc<LogKey>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps lines; a process that is killed after this loses none of them.
    pub(crate) async fn append(
        &self,
        key: &Arc<LogKey>,
        batch: LogBatch,
    ) -> Result<(), StoreError> {
        self.opened().insert(key.clone());
        self.logs.append(key, batch).await
    }

    /// Makes an attempt's lines durable, and tells what the log holds. Costs nothing, and tells
    /// nothing, where no lines came since the last close that did so.
    pub(crate) async fn close(&self, key: &Arc<LogKey>) -> Result<Option<LogSummary>, StoreError> {
        if !self.opened().remove(key) {
            return Ok(None);
        }
        let closed = self.logs.close(key).await;
        if closed.is_err() {
            self.opened().insert(Arc::clone(key));
        }
        closed.map(Some)
    }

    /// Whether lines came since the last close.
    pub(crate) fn is_open(&self, key: &LogKey) -> bool {
        self.opened().contains(key)
    }

    pub(crate) async fn read(&self, key: &LogKey, wanted: &Wanted) -> Result<Found, StoreError> {
        let query = LogQuery {
            place: if wanted.tail { Place::END } else { Place::After(wanted.after) },
            level: wanted.level,
            stream: wanted.stream,
            text: wanted.text.clone(),
            since: None,
            until: None,
            limit: wanted.limit,
        };
        let begun = Instant::now();
        let part = self.logs.read(key, query, move || begun.elapsed() > SEARCH).await?;
        Ok(found(part, wanted))
    }
}

fn found(part: LogPart, wanted: &Wanted) -> Found {
    let mut gaps = part.gaps.iter().peekable();
    let lines = part.lines.into_iter().map(|line| {
        let mut missed = None;
        while let Some(gap) = gaps.next_if(|gap| gap.after < line.number) {
            let before = missed.unwrap_or(Gap { lines: 0, bytes: 0 });
            missed = Some(Gap { lines: before.lines + gap.lines, bytes: before.bytes + gap.bytes });
        }
        log_line(line, missed)
    });
    let lines: Vec<_> = lines.collect();
    // Read backward, the lines end where the log does; fewer than were wanted, and more to look
    // at, means that the search ended early.
    let early = !wanted.tail || lines.len() < wanted.limit;
    let last = lines.last().map_or(0, |line| line.seq);
    let scanned_to = if wanted.tail { last } else { part.scanned_to.max(wanted.after) };
    Found { lines, scanned_to, more: part.more && early, last: part.last }
}

fn log_line(line: FoundLine, gap: Option<Gap>) -> LogLine {
    LogLine {
        path: None,
        seq: line.number,
        at: Stamp(line.at),
        stream: line.stream,
        level: line.level,
        text: line.text,
        cut: line.cut,
        gap,
    }
}

#[cfg(test)]
mod tests {
    use ork_core::time::Wall;

    use super::*;

    fn part(lines: usize, more: bool) -> LogPart {
        let line = |n: usize| FoundLine {
            number: 100 + n as u64,
            at: Wall(0),
            stream: Stream::Stdout,
            level: Level::Info,
            cut: 0,
            text: "x".into(),
        };
        let lines = (0..lines).map(line).collect();
        LogPart { lines, gaps: Vec::new(), last: 200, scanned_to: 50, more }
    }

    #[test]
    fn a_search_from_the_end_that_ended_early_is_not_complete() {
        let wanted = Wanted {
            after: 0,
            tail: true,
            level: None,
            stream: None,
            text: Some("x".into()),
            limit: 3,
        };
        for (lines, more, expected) in
            [(3, true, false), (3, false, false), (1, true, true), (1, false, false)]
        {
            let found = found(part(lines, more), &wanted);
            assert_eq!((found.lines.len(), found.more), (lines, expected), "{lines} {more}");
        }
    }
}
