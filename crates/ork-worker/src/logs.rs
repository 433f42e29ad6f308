//! From the bytes that a task writes to batches of lines.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ork_api::worker::{FromWorker, Link, LinkError};
use ork_core::ids::AttemptRef;
use ork_core::logs::{Level, LogBatch, LogLine, MAX_LINE, Stream};
use ork_core::rows::LogSummary;
use ork_core::run::Report;
use ork_core::time::Wall;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;

/// A batch of this size is shipped at once, and no more is read while one of this size waits. A
/// line counts with what is noted of it, so that many short ones are no larger than few long ones.
const FULL: usize = 256 * 1024;
/// How long a line may wait for company.
const LINGER: Duration = Duration::from_millis(25);
/// How many of the last lines on stderr are kept for a failure's details.
const TAIL_LINES: usize = 20;
/// How many bytes of each of those.
const TAIL_LINE: usize = 400;

/// How often a batch is offered to a server that cannot take it now.
const TRIES: u32 = 9;
/// How long before the second offer; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(20);

type Shipment = std::pin::Pin<Box<dyn Future<Output = Result<(), LinkError>> + Send + 'static>>;

/// Lines that were given up.
#[derive(Clone, Copy, Default)]
struct Gap {
    lines: u64,
    bytes: u64,
}

impl std::ops::AddAssign for Gap {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
    }
}

/// The log of one attempt: lines go in, batches go out, one at a time.
pub(crate) struct Logs {
    link: Arc<dyn Link>,
    attempt: AttemptRef,
    beats: u64,
    text: Vec<u8>,
    lines: Vec<LogLine>,
    due: Option<Instant>,
    shipment: Option<Shipment>,
    /// What is lost if the shipment is.
    at_stake: Gap,
    /// What was given up since the last batch that was taken, and why.
    gap: Option<(Gap, String)>,
    summary: LogSummary,
    tail: VecDeque<String>,
    /// Whether lines are not wanted any more.
    broken: bool,
}

impl Logs {
    /// A log without lines. The worker had sent so many beats when it took the attempt.
    pub(crate) fn new(link: Arc<dyn Link>, attempt: AttemptRef, beats: u64) -> Self {
        Self {
            link,
            attempt,
            beats,
            text: Vec::new(),
            lines: Vec::new(),
            due: None,
            shipment: None,
            at_stake: Gap::default(),
            gap: None,
            summary: LogSummary::default(),
            tail: VecDeque::new(),
            broken: false,
        }
    }

    /// Reports that user code runs.
    pub(crate) async fn started(&mut self) {
        let (attempt, beats) = (self.attempt.clone(), self.beats);
        let message = FromWorker::Report { attempt, report: Report::Started, beats };
        // The report of the end tells of the start too.
        if let Err(error) = self.link.send(message).await {
            tracing::debug!(path = %self.attempt.path, %error, "a start was not taken");
        }
    }

    /// Whether nothing more may be read until a batch has been taken.
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() + size_of_val(self.lines.as_slice()) >= FULL
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

    /// Ships everything and returns what was written in all, and what of it was given up.
    pub(crate) async fn finish(&mut self) -> LogSummary {
        while self.shipment.is_some() || self.due.is_some() {
            if self.shipment.is_none() {
                self.send_off();
            }
            self.ship().await;
        }
        if self.gap.is_some() && !self.broken {
            self.send_off();
            self.ship().await;
        }
        self.summary
    }

    fn send_off(&mut self) {
        self.due = None;
        let at_stake = Gap { lines: self.lines.len() as u64, bytes: self.text.len() as u64 };
        if self.broken {
            self.text.clear();
            self.lines.clear();
            return self.give_up(at_stake);
        }
        // A server that took nothing for that long is asked once for each batch.
        let tries = if self.gap.is_some() { 1 } else { TRIES };
        if let Some((gap, why)) = &self.gap {
            let Gap { lines, bytes } = *gap;
            let text = format!("{lines} lines ({bytes} bytes) before could not be kept: {why}");
            let (stream, level) = (Stream::System, Level::Warn);
            self.text.extend_from_slice(text.as_bytes());
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            self.lines.push(LogLine { length, cut: 0, at: now(), stream, level });
        }
        let batch = LogBatch {
            text: Bytes::from(std::mem::take(&mut self.text)),
            lines: std::mem::take(&mut self.lines),
        };
        self.at_stake = at_stake;
        let (link, attempt) = (Arc::clone(&self.link), self.attempt.clone());
        self.shipment = Some(Box::pin(offer(link, attempt, batch, tries)));
    }

    fn settle(&mut self, result: Result<(), LinkError>) {
        let lost = std::mem::take(&mut self.at_stake);
        let Err(error) = result else {
            self.summary.lines += u64::from(self.gap.take().is_some());
            return;
        };
        self.give_up(lost);
        match error {
            LinkError::Retryable(why) => {
                let (mut gap, _) = self.gap.take().unwrap_or_default();
                gap += lost;
                self.gap = Some((gap, why));
            }
            LinkError::Closed | LinkError::Refused(_) => {
                tracing::warn!(attempt = %self.attempt.path, %error, "log lines are not kept");
                self.broken = true;
            }
        }
    }

    fn give_up(&mut self, lost: Gap) {
        self.summary.lines -= lost.lines;
        self.summary.dropped_lines += lost.lines;
        self.summary.dropped_bytes += lost.bytes;
    }
}

/// Offers a batch until it is taken or refused, with pauses, this many times at most.
async fn offer(
    link: Arc<dyn Link>,
    attempt: AttemptRef,
    batch: LogBatch,
    tries: u32,
) -> Result<(), LinkError> {
    let mut pause = PAUSE;
    for _ in 1..tries {
        match link.logs(&attempt, batch.clone()).await {
            Err(LinkError::Retryable(_)) => tokio::time::sleep(pause).await,
            taken => return taken,
        }
        pause *= 2;
    }
    link.logs(&attempt, batch).await
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
