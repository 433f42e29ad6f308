//! A worker on a link whose other end is the test.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use indexmap::IndexMap;
use ork_api::types::MAX_ARTIFACT;
use ork_api::worker::{Content, FromWorker, Link, LinkError, ToWorker};
use ork_core::ids::{AttemptRef, Epoch, RunId, Token, WorkerId};
use ork_core::logs::{Level, LogBatch, Stream};
use ork_core::rows::CodeRef;
use ork_core::run::{Assignment, Failure, Finished, Outcome, Report, StopReason};
use ork_core::time::Span;
use ork_core::value::{Data, Digest, Value};
use ork_worker::{Config, Dirs, Ended, MAX_OUTPUT, PYTHON_IDLE, Worker, spawner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};

/// Longer than anything here takes on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A line as the server got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub stream: Stream,
    pub level: Level,
    pub text: String,
    pub cut: u64,
}

#[derive(Default)]
pub(crate) struct Server {
    pub reports: Mutex<Vec<FromWorker>>,
    pub lines: Mutex<HashMap<Token, Vec<Line>>>,
    pub log_bytes: AtomicU64,
    /// The lines of the largest batch.
    pub most_lines: AtomicUsize,
    pub blobs: Mutex<HashMap<Digest, Bytes>>,
    /// What it says to the next calls about blobs.
    pub refusals: Mutex<VecDeque<LinkError>>,
    /// How many parts of blobs it was asked for, and how many blobs came in parts.
    pub parts: AtomicU32,
    pub streamed: AtomicU32,
    /// How many more batches of lines it cannot take now.
    pub busy: AtomicU32,
    /// The call of its link that panics, by name.
    pub panics_in: Mutex<&'static str>,
    news: Notify,
}

struct TestLink {
    server: Arc<Server>,
    words: tokio::sync::Mutex<UnboundedReceiver<ToWorker>>,
    keep_lines: bool,
}

#[async_trait]
impl Link for TestLink {
    async fn recv(&self) -> Option<ToWorker> {
        let word = self.words.lock().await.recv().await;
        self.server.pass("recv");
        word
    }

    async fn send(&self, message: FromWorker) -> Result<(), LinkError> {
        self.server.reports.lock().unwrap().push(message);
        self.server.news.notify_waiters();
        Ok(())
    }

    async fn logs(&self, attempt: &AttemptRef, batch: LogBatch) -> Result<(), LinkError> {
        self.server.pass("logs");
        let less = |busy: u32| busy.checked_sub(1);
        if self.server.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Err(LinkError::Retryable("the disk is full".into()));
        }
        let text = std::str::from_utf8(&batch.text).expect("lines are UTF-8");
        self.server.most_lines.fetch_max(batch.lines.len(), Ordering::Relaxed);
        self.server.log_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        assert_eq!(batch.lines.iter().map(|l| l.length as usize).sum::<usize>(), text.len());
        if self.keep_lines {
            let mut lines = self.server.lines.lock().unwrap();
            let kept = lines.entry(attempt.token).or_default();
            let mut at = 0;
            for line in &batch.lines {
                let end = at + line.length as usize;
                let (stream, level, cut) = (line.stream, line.level, line.cut);
                kept.push(Line { stream, level, text: text[at..end].to_owned(), cut });
                at = end;
            }
        }
        self.server.news.notify_waiters();
        Ok(())
    }

    async fn get_part(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, LinkError> {
        self.server.parts.fetch_add(1, Ordering::Relaxed);
        let content = self.get_blob(digest).await?;
        let end = content.len().min(usize::try_from(range.end).unwrap());
        Ok(content.slice(usize::try_from(range.start).unwrap()..end))
    }

    async fn put_stream(&self, mut content: Content) -> Result<(Digest, u64), LinkError> {
        let mut bytes = Vec::new();
        while let Some(part) = content.next().await {
            bytes.extend_from_slice(&part.unwrap());
        }
        self.server.streamed.fetch_add(1, Ordering::Relaxed);
        let size = bytes.len() as u64;
        Ok((self.put_blob(bytes.into()).await?, size))
    }

    async fn get_blob(&self, digest: &Digest) -> Result<Bytes, LinkError> {
        self.server.pass("get_blob");
        self.server.answer()?;
        let blob = self.server.blobs.lock().unwrap().get(digest).cloned();
        blob.ok_or_else(|| LinkError::Refused("no such blob".into()))
    }

    async fn put_blob(&self, content: Bytes) -> Result<Digest, LinkError> {
        self.server.answer()?;
        let digest = Digest::of(&content);
        self.server.blobs.lock().unwrap().insert(digest, content);
        Ok(digest)
    }
}

/// A worker that runs.
pub(crate) struct Bed {
    pub dir: TempDir,
    pub server: Arc<Server>,
    words: UnboundedSender<ToWorker>,
    leave: Option<oneshot::Sender<Duration>>,
    pub ended: tokio::task::JoinHandle<Ended>,
    next: AtomicU32,
}

/// A name that no other worker has.
pub(crate) fn worker_id() -> WorkerId {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    format!("test-{:016x}", u64::from_le_bytes(bytes)).as_str().into()
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(true, |_| ())
    }

    pub(crate) fn with(keep_lines: bool, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let worker = worker_id();
        let spawner = spawner::launch(Path::new(env!("CARGO_BIN_EXE_ork-spawner")), &worker);
        let spawner = spawner.unwrap().attach().unwrap();
        let mut config = Config {
            dirs: Dirs::of(&worker, dir.path(), cache()),
            worker,
            slots: 4,
            queues: vec!["default".into()],
            python: None,
            python_idle: PYTHON_IDLE,
            pass_env: Vec::new(),
            max_output: MAX_OUTPUT,
            max_artifact: MAX_ARTIFACT,
        };
        change(&mut config);
        let (words, receiver) = unbounded_channel();
        let server = Arc::new(Server::default());
        let words_in = tokio::sync::Mutex::new(receiver);
        let link = TestLink { server: Arc::clone(&server), words: words_in, keep_lines };
        let worker = Worker::new(config, spawner, Arc::new(link));
        let (leave, leaving) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let leaving = async { leaving.await.unwrap_or(Duration::ZERO) };
            worker.run(leaving).await
        });
        std::fs::create_dir(dir.path().join("code")).unwrap();
        let next = AtomicU32::new(1);
        Self { dir, server, words, leave: Some(leave), ended, next }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("code")
    }

    /// A file of the code.
    pub(crate) fn file(&self, name: &str, content: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// An assignment for this worker.
    pub(crate) fn assignment(&self, executor: &str, spec: Value) -> Assignment {
        let token = Token::new(Epoch(1), self.next.fetch_add(1, Ordering::Relaxed));
        Assignment {
            attempt: AttemptRef {
                run: RunId("01890000-0000-7000-8000-000000000001".parse().unwrap()),
                path: "task".into(),
                token,
            },
            project: "default".into(),
            workflow: "flow".into(),
            generation: 1,
            number: 1,
            executor: executor.into(),
            spec,
            inputs: IndexMap::new(),
            input_type: None,
            output_type: None,
            env: IndexMap::new(),
            timeout: None,
            heartbeat: None,
            grace: Span::from_secs(10),
            code: CodeRef::InPlace {
                root: self.root().to_str().unwrap().into(),
                digest: Digest::of(&[]),
            },
            logical_time: "2026-11-24T00:00:00+00:00".into(),
            request_id: None,
            map_index: None,
        }
    }

    pub(crate) fn send(&self, word: ToWorker) {
        self.words.send(word).unwrap();
    }

    /// Offers an attempt.
    pub(crate) fn assign(&self, assignment: Assignment) -> AttemptRef {
        let attempt = assignment.attempt.clone();
        self.send(ToWorker::Assign(Box::new(assignment)));
        attempt
    }

    pub(crate) fn stop(&self, attempt: &AttemptRef, grace: Span) {
        let (attempt, reason) = (attempt.clone(), StopReason::Cancelled);
        self.send(ToWorker::Stop { attempt, reason, grace });
    }

    /// Waits until something is so.
    pub(crate) async fn until<T>(&self, what: &str, check: impl Fn(&Server) -> Option<T>) -> T {
        let seen = async {
            loop {
                let news = self.server.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(found) = check(&self.server) {
                    return found;
                }
                news.await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        seen.unwrap_or_else(|_| {
            panic!("{what} did not come; reports: {:?}", self.server.reports.lock().unwrap())
        })
    }

    /// The end of an attempt.
    pub(crate) async fn finished(&self, attempt: &AttemptRef) -> Finished {
        self.until("the end", |server| {
            server.reports_of(attempt).into_iter().find_map(|report| match report {
                Report::Finished(finished) => Some(*finished),
                _ => None,
            })
        })
        .await
    }

    /// Runs an assignment to its end.
    pub(crate) async fn run(&self, assignment: Assignment) -> Finished {
        let attempt = self.assign(assignment);
        self.finished(&attempt).await
    }

    /// Waits for a line of an attempt that begins so, and returns it.
    pub(crate) async fn line(&self, attempt: &AttemptRef, begins: &str) -> String {
        self.until(begins, |server| {
            let mut lines = server.lines_of(attempt).into_iter();
            lines.find(|line| line.text.starts_with(begins)).map(|line| line.text)
        })
        .await
    }

    /// Asks the worker to leave and waits until it has.
    pub(crate) async fn leave(&mut self, patience: Duration) {
        self.leave.take().unwrap().send(patience).unwrap();
        let ended = tokio::time::timeout(PATIENCE, &mut self.ended).await.unwrap();
        assert_eq!(ended.unwrap(), Ended::Left);
    }
}

impl Server {
    /// Panics where it is told to, as a bug of the worker would.
    fn pass(&self, call: &str) {
        let panics = *self.panics_in.lock().unwrap() == call;
        assert!(!panics, "told to panic in {call}");
    }

    /// What the server says to the next call about a blob.
    fn answer(&self) -> Result<(), LinkError> {
        self.refusals.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    pub(crate) fn reports_of(&self, attempt: &AttemptRef) -> Vec<Report> {
        let reports = self.reports.lock().unwrap();
        let of = |message: &FromWorker| match message {
            FromWorker::Report { attempt: of, report, .. } if of == attempt => Some(report.clone()),
            _ => None,
        };
        reports.iter().filter_map(of).collect()
    }

    pub(crate) fn lines_of(&self, attempt: &AttemptRef) -> Vec<Line> {
        self.lines.lock().unwrap().get(&attempt.token).cloned().unwrap_or_default()
    }
}

/// What can be made again is shared between tests, as it is between runs.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

pub(crate) fn failure(finished: &Finished) -> Failure {
    match &finished.outcome {
        Outcome::Failed(failure) => failure.clone(),
        other => panic!("should have failed: {other:?}"),
    }
}

pub(crate) fn output(finished: &Finished) -> Value {
    match &finished.outcome {
        Outcome::Success { output: Some(Data::Inline(value)) } => value.clone(),
        other => panic!("should have given a value: {other:?}"),
    }
}

/// The living processes with this word among their arguments.
pub(crate) fn processes_with(word: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let named = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|arg| arg == word.as_bytes())
    };
    pids.filter(named).collect()
}

/// Waits until a process has ended.
pub(crate) async fn end_of(process: OwnedFd) {
    let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let waiting = move || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    let ended = tokio::task::spawn_blocking(waiting).await.unwrap();
    assert_eq!(ended, Ok(1), "a process lives on");
}

/// The processes that work in a folder.
pub(crate) fn processes_in(folder: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let there =
        |pid: &i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    pids.filter(there).collect()
}

/// An argument for `sleep` that no other process has: longer than any test waits, and short enough
/// that what a failed test leaves behind is soon gone.
pub(crate) fn unique_nap() -> String {
    format!(
        "300.{}",
        &worker_id().0[5..].bytes().map(|b| (b % 10 + b'0') as char).collect::<String>()
    )
}

/// The most memory that this process has had, in bytes.
pub(crate) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
