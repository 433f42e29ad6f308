//! Watches over a tree while it runs: its output, its end, and the order to stop it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
use ork_core::logs::{Level, Stream};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use crate::logs::{Logs, Splitter};
use crate::spawner::{Gone, TreeHandle, Word};

/// What runs.
pub(crate) trait Life: Send {
    /// The next word of it; none when the spawner's process has died.
    fn next(&mut self) -> impl Future<Output = Option<Word>> + Send;

    /// Stops it: politely, and after `grace` by force.
    fn stop(&mut self, grace: Duration);
}

impl Life for TreeHandle {
    async fn next(&mut self) -> Option<Word> {
        TreeHandle::next(self).await
    }

    fn stop(&mut self, grace: Duration) {
        TreeHandle::stop(self, grace);
    }
}

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// How much more is read from a pipe that somebody unknown still holds open.
const MAX_REST: usize = 1 << 20;

/// The order to stop, once there is one: how long between the polite stop and the kill.
pub(crate) type StopWatch = watch::Receiver<Option<Duration>>;

/// Why a tree did not run to its end by itself.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The program could not be started.
    Refused(io::Error),
    /// The spawner's process has died, and with it all knowledge of the tree.
    SpawnerGone,
}

/// The ends that a program gets.
pub(crate) struct Ends {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// What a program writes.
pub(crate) struct Output {
    stdout: Pipe,
    stderr: Pipe,
}

struct Pipe {
    end: Receiver,
    buffer: BytesMut,
    sink: Sink,
    ended: bool,
}

/// Where the bytes of a pipe go.
enum Sink {
    Lines(Splitter),
    /// To the log, and the last line that begins with the prefix is kept.
    LinesAndLast(Splitter, LastLine),
    Value(Capture),
}

/// What is kept of standard output besides the log.
#[derive(Clone, Copy)]
pub(crate) enum Keep {
    /// Nothing.
    Nothing,
    /// All of it, instead of the log.
    All,
    /// What follows this on the last line that begins with it.
    LastLine(&'static str),
}

/// At most `limit` bytes, and whether there was more.
#[derive(Default)]
pub(crate) struct Capture {
    pub(crate) bytes: Vec<u8>,
    pub(crate) overflow: bool,
    limit: usize,
}

impl Capture {
    /// What was read elsewhere.
    pub(crate) fn of(bytes: Vec<u8>, overflow: bool) -> Self {
        Self { bytes, overflow, limit: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.overflow |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

struct LastLine {
    prefix: &'static [u8],
    line: Capture,
    last: Option<Capture>,
}

impl LastLine {
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.line.take(&bytes[..end]);
            self.end();
            bytes = &bytes[end + 1..];
        }
        self.line.take(bytes);
    }

    fn end(&mut self) {
        let limit = self.line.limit;
        let mut line = std::mem::replace(&mut self.line, Capture { limit, ..Capture::default() });
        if line.bytes.starts_with(self.prefix) {
            line.bytes.drain(..self.prefix.len());
            self.last = Some(line);
        }
    }
}

impl Output {
    /// Two pipes; `limit` bounds what is kept.
    pub(crate) fn pipes(keep: Keep, limit: usize) -> io::Result<(Self, Ends)> {
        let capture = || Capture { limit, ..Capture::default() };
        let out = Splitter::new(Stream::Stdout);
        let sink = match keep {
            Keep::Nothing => Sink::Lines(out),
            Keep::All => Sink::Value(capture()),
            Keep::LastLine(prefix) => {
                let prefix = prefix.as_bytes();
                Sink::LinesAndLast(out, LastLine { prefix, line: capture(), last: None })
            }
        };
        let (stdout, out_end) = Pipe::new(sink)?;
        let (stderr, err_end) = Pipe::new(Sink::Lines(Splitter::new(Stream::Stderr)))?;
        let output = Self { stdout, stderr };
        Ok((output, Ends { stdout: out_end, stderr: err_end }))
    }

    /// Reads once from whichever pipe has something, and says from which; pends when both have
    /// ended.
    async fn ready(&mut self) -> Stream {
        tokio::select! {
            () = fill(&mut self.stdout) => Stream::Stdout,
            () = fill(&mut self.stderr) => Stream::Stderr,
        }
    }

    /// Takes what was read from a pipe; nothing means that it has ended.
    fn take(&mut self, which: Stream, logs: &mut Logs) {
        let pipe = if which == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
        pipe.ended = pipe.buffer.is_empty();
        pipe.sink.take(&pipe.buffer, logs);
    }

    /// Takes what is left in the pipes after the tree has gone.
    async fn rest(&mut self, logs: &mut Logs) {
        for pipe in [&mut self.stdout, &mut self.stderr] {
            let mut left = MAX_REST;
            while left > 0 {
                if logs.is_full() {
                    logs.ship().await;
                    continue;
                }
                pipe.read_now();
                if pipe.buffer.is_empty() {
                    break;
                }
                pipe.sink.take(&pipe.buffer, logs);
                left = left.saturating_sub(pipe.buffer.len());
            }
            pipe.sink.finish(logs);
        }
    }

    /// What was kept of standard output.
    pub(crate) fn kept(self) -> Option<Capture> {
        match self.stdout.sink {
            Sink::Lines(_) => None,
            Sink::Value(capture) => Some(capture),
            Sink::LinesAndLast(_, last) => last.last,
        }
    }
}

impl Pipe {
    fn new(sink: Sink) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let end = Receiver::from_owned_fd_unchecked(ours)?;
        Ok((Self { end, buffer: BytesMut::new(), sink, ended: false }, theirs))
    }

    /// Fills the buffer with what the pipe holds, if anything. The kernel is asked: the runtime may
    /// not have noticed yet that there is something.
    fn read_now(&mut self) {
        self.buffer.resize(CHUNK, 0);
        let n = rustix::io::read(&self.end, &mut self.buffer[..]).unwrap_or(0);
        self.buffer.truncate(n);
    }
}

impl Sink {
    fn take(&mut self, bytes: &[u8], logs: &mut Logs) {
        match self {
            Self::Lines(lines) => lines.take(bytes, logs),
            Self::LinesAndLast(lines, last) => {
                lines.take(bytes, logs);
                last.take(bytes);
            }
            Self::Value(capture) => capture.take(bytes),
        }
    }

    fn finish(&mut self, logs: &mut Logs) {
        match self {
            Self::Lines(lines) => lines.finish(logs),
            Self::LinesAndLast(lines, last) => {
                lines.finish(logs);
                last.end();
            }
            Self::Value(_) => {}
        }
    }
}

/// Fills the pipe's buffer; empty afterwards means that it has ended.
async fn fill(pipe: &mut Pipe) {
    if pipe.ended {
        return std::future::pending().await;
    }
    pipe.buffer.clear();
    pipe.buffer.reserve(CHUNK);
    if pipe.end.read_buf(&mut pipe.buffer).await.is_err() {
        pipe.buffer.clear();
    }
}

/// Sees a tree through to its end and reports its start.
///
/// # Errors
/// See [`Broken`].
pub(crate) async fn watch(
    tree: &mut impl Life,
    output: &mut Output,
    logs: &mut Logs,
    stop: &mut StopWatch,
) -> Result<Gone, Broken> {
    if let Some(grace) = *stop.borrow_and_update() {
        tree.stop(grace);
    }
    let gone = loop {
        tokio::select! {
            biased;
            word = tree.next() => match word {
                Some(Word::Started(_)) => logs.started().await,
                Some(Word::Refused(error)) => return Err(Broken::Refused(error)),
                Some(Word::Gone(gone)) => break gone,
                None => return Err(Broken::SpawnerGone),
            },
            Ok(()) = stop.changed() => {
                if let Some(grace) = *stop.borrow_and_update() {
                    tree.stop(grace);
                }
            }
            () = turn(output, logs) => {}
        }
    };
    output.rest(logs).await;
    if gone.leftovers > 0 {
        let text = format!("killed {} process(es) that the task left running", gone.leftovers);
        logs.say(Level::Warn, &text);
    }
    Ok(gone)
}

/// Ships a batch or reads, whichever can be done first; reads nothing while the server is behind.
async fn turn(output: &mut Output, logs: &mut Logs) {
    if logs.is_full() {
        return logs.ship().await;
    }
    let mut ready = None;
    tokio::select! {
        biased;
        () = logs.ship() => {}
        which = output.ready() => ready = Some(which),
    }
    if let Some(which) = ready {
        output.take(which, logs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_runtime_has_not_noticed_is_read() {
        let sink = Sink::Value(Capture { limit: 8, ..Capture::default() });
        let (mut pipe, end) = Pipe::new(sink).unwrap();
        rustix::io::write(&end, b"late").unwrap();
        pipe.read_now();
        assert_eq!(&pipe.buffer[..], b"late");
        pipe.read_now();
        assert!(pipe.buffer.is_empty());
    }
}
