//! From the bytes that a task writes to batches of lines.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ork_api::worker::{Link, LinkError};
use ork_core::ids::AttemptRef;
use ork_core::logs::{Level, LogBatch, LogLine, MAX_LINE, Stream};
use ork_core::rows::LogSummary;
use ork_core::run::Report;
use ork_core::time::Wall;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;

use crate::attempt::report;

/// A batch of this size is shipped at once, and no more is read while one of this size waits.
const FULL: usize = 256 * 1024;
/// How long a line may wait for company.
const LINGER: Duration = Duration::from_millis(25);
/// How many of the last lines on stderr are kept for a failure's details.
const TAIL_LINES: usize = 20;
/// How many bytes of each of those.
const TAIL_LINE: usize = 400;

type Shipment = std::pin::Pin<Box<dyn Future<Output = Result<(), LinkError>> + Send + 'static>>;

/// The log of one attempt: lines go in, batches go out, one at a time.
pub(crate) struct Logs {
    link: Arc<dyn Link>,
    attempt: AttemptRef,
    text: Vec<u8>,
    lines: Vec<LogLine>,
    due: Option<Instant>,
    shipment: Option<Shipment>,
    summary: LogSummary,
    tail: VecDeque<String>,
    /// Why lines are not kept any more.
    broken: Option<LinkError>,
}

impl Logs {
    pub(crate) fn new(link: Arc<dyn Link>, attempt: AttemptRef) -> Self {
        Self {
            link,
            attempt,
            text: Vec::new(),
            lines: Vec::new(),
            due: None,
            shipment: None,
            summary: LogSummary::default(),
            tail: VecDeque::new(),
            broken: None,
        }
    }

    /// Reports that user code runs.
    pub(crate) async fn started(&mut self) {
        let link = Arc::clone(&self.link);
        report(&*link, &self.attempt.clone(), Report::Started).await;
    }

    /// Whether nothing more may be read until a batch has been taken.
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() >= FULL
    }

    /// Adds a line of Ork's own.
    pub(crate) fn say(&mut self, level: Level, text: &str) {
        for line in text.lines() {
            self.push(Stream::System, level, line.as_bytes(), 0, now());
        }
    }

    fn line(&mut self, stream: Stream, bytes: &[u8], cut: u64, at: Wall) {
        let level = if cut == 0 { level_of(bytes) } else { None };
        self.push(stream, level.unwrap_or(Level::Info), bytes, cut, at);
        if stream == Stream::Stderr {
            self.remember(bytes);
        }
    }

    fn push(&mut self, stream: Stream, level: Level, bytes: &[u8], cut: u64, at: Wall) {
        let start = self.text.len();
        let kept = &bytes[..bytes.len().min(MAX_LINE)];
        match std::str::from_utf8(kept) {
            Ok(_) => self.text.extend_from_slice(kept),
            Err(_) => self.text.extend_from_slice(lossy(kept).as_bytes()),
        }
        let length = u32::try_from(self.text.len() - start).unwrap_or(u32::MAX);
        self.lines.push(LogLine { length, cut, at, stream, level });
        self.summary.lines += 1;
        self.summary.dropped_bytes += cut;
        self.due.get_or_insert_with(|| Instant::now() + LINGER);
    }

    fn remember(&mut self, bytes: &[u8]) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        let bytes = &bytes[..bytes.len().min(TAIL_LINE)];
        self.tail.push_back(String::from_utf8_lossy(bytes).into_owned());
    }

    /// The last lines on stderr.
    pub(crate) fn tail(&self) -> Option<String> {
        let lines: Vec<&str> = self.tail.iter().map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// Ships what is due; pends while nothing is to be done. Nothing is lost when it is dropped.
    pub(crate) async fn ship(&mut self) {
        if let Some(shipment) = &mut self.shipment {
            let result = shipment.await;
            self.shipment = None;
            self.settle(result);
            return;
        }
        let Some(due) = self.due else { return std::future::pending().await };
        if !self.is_full() {
            tokio::time::sleep_until(due).await;
        }
        self.send_off();
    }

    /// Ships everything and returns what was written in all.
    pub(crate) async fn finish(&mut self) -> Result<LogSummary, LinkError> {
        while self.shipment.is_some() || self.due.is_some() {
            if self.shipment.is_none() {
                self.send_off();
            }
            self.ship().await;
        }
        self.broken.clone().map_or(Ok(self.summary), Err)
    }

    fn send_off(&mut self) {
        self.due = None;
        let batch = LogBatch {
            text: Bytes::from(std::mem::take(&mut self.text)),
            lines: std::mem::take(&mut self.lines),
        };
        if self.broken.is_some() {
            return;
        }
        let (link, attempt) = (Arc::clone(&self.link), self.attempt.clone());
        self.shipment = Some(Box::pin(async move { link.logs(&attempt, batch).await }));
    }

    fn settle(&mut self, result: Result<(), LinkError>) {
        if let Err(error) = result {
            self.broken = Some(error);
        }
    }
}

/// Puts the lines of one stream together.
pub(crate) struct Splitter {
    stream: Stream,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// Bytes of that line beyond what is kept.
    cut: u64,
}

impl Splitter {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, partial: Vec::new(), cut: 0 }
    }

    /// Takes what was read.
    pub(crate) fn take(&mut self, mut bytes: &[u8], logs: &mut Logs) {
        logs.summary.bytes += bytes.len() as u64;
        let at = now();
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.partial.is_empty() && self.cut == 0 && line.len() <= MAX_LINE {
                logs.line(self.stream, without_return(line), 0, at);
            } else {
                self.keep(line);
                self.end(logs, at);
            }
            bytes = rest;
        }
        self.keep(bytes);
    }

    /// The stream is over: what has no line end is a line too.
    pub(crate) fn finish(&mut self, logs: &mut Logs) {
        if !self.partial.is_empty() || self.cut > 0 {
            self.end(logs, now());
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.partial.len();
        let kept = bytes.len().min(room);
        self.partial.extend_from_slice(&bytes[..kept]);
        self.cut += (bytes.len() - kept) as u64;
    }

    fn end(&mut self, logs: &mut Logs, at: Wall) {
        logs.line(self.stream, without_return(&self.partial), self.cut, at);
        self.partial.clear();
        self.partial.shrink_to(4096);
        self.cut = 0;
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The text with a mark for each byte that is not UTF-8, cut so that it is no longer than a line.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(MAX_LINE));
    text
}

/// The level of a structured line: a JSON object with `level` and `message`.
fn level_of(line: &[u8]) -> Option<Level> {
    #[derive(Deserialize)]
    struct Structured<'a> {
        #[serde(borrow)]
        level: std::borrow::Cow<'a, str>,
        #[serde(rename = "message")]
        _message: IgnoredAny,
    }
    if line.first() != Some(&b'{') || line.last() != Some(&b'}') {
        return None;
    }
    let structured: Structured = serde_json::from_slice(line).ok()?;
    Some(match structured.level.to_ascii_lowercase().as_str() {
        "trace" | "debug" => Level::Debug,
        "warn" | "warning" => Level::Warn,
        "error" | "critical" | "fatal" => Level::Error,
        _ => Level::Info,
    })
}

/// The civil clock.
pub(crate) fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
