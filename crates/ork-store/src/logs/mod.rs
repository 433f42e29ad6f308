//! What attempts write: one file for each that wrote anything.
//!
//! A batch is in the file when [`FileLogs::append`] returns: a process that is killed loses none.
//! The disk is waited for once, at the close, so a power loss may cost the lines of open attempts;
//! what is torn then is found by its checksum and passed over.

mod file;
mod frame;
mod read;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ork_core::ids::{InstancePath, ProjectId, RunId};
use ork_core::logs::{Level, LogBatch, LogLine, MAX_LINE, Stream};
use ork_core::rows::LogSummary;
use ork_core::time::Wall;
use ork_core::value::Digest;

use crate::dir::blocking;
use crate::sqlite::error::io_failed;
use crate::{DataDir, Result, StoreError};

/// The most bytes of text in one batch.
pub const MAX_BATCH: usize = 8 << 20;
/// A search stops after this many bytes of text.
pub const MAX_SCAN: u64 = 64 << 20;
/// A part of a log has at most about this many bytes of text.
pub const MAX_PART: usize = 4 << 20;

/// The most lines of one part. A long log of short lines is read in few parts.
pub const MAX_LINES: usize = 65_536;

/// What is kept of each log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one attempt, the lines' ends among them: the first half as head, the newest of
    /// what follows as tail.
    pub attempt: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { attempt: 64 << 20 }
    }
}

/// Whose log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogKey {
    /// The project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// The instance.
    pub path: InstancePath,
    /// Its generation.
    pub generation: u32,
    /// Its attempt.
    pub attempt: u32,
}

/// Where reading begins, and in which direction it goes. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Forward, after this line; 0: from the start.
    After(u64),
    /// Backward, before this line; [`Place::END`]: from the end.
    Before(u64),
}

impl Place {
    /// Backward from the end: the last lines.
    pub const END: Self = Self::Before(u64::MAX);
}

/// Which lines are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Where to begin.
    pub place: Place,
    /// Of at least this level.
    pub level: Option<Level>,
    /// Of this stream.
    pub stream: Option<Stream>,
    /// With this text in them, as it is.
    pub text: Option<String>,
    /// Read at or after.
    pub since: Option<Wall>,
    /// Read before.
    pub until: Option<Wall>,
    /// How many at most: 1 to [`MAX_LINES`].
    pub limit: usize,
}

/// A line that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLine {
    /// Its number, from 1.
    pub number: u64,
    /// When it was read.
    pub at: Wall,
    /// Where it came from.
    pub stream: Stream,
    /// How much it matters.
    pub level: Level,
    /// Bytes of it that were not kept.
    pub cut: u64,
    /// Its text without a line end.
    pub text: String,
}

/// Lines that were not kept, since the attempt wrote more than its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last line before the gap.
    pub after: u64,
    /// How many lines.
    pub lines: u64,
    /// How many bytes of text.
    pub bytes: u64,
}

/// A part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPart {
    /// The lines, by number, whatever the direction.
    pub lines: Vec<FoundLine>,
    /// The gaps between the lines that were looked at.
    pub gaps: Vec<Gap>,
    /// The last line that the log had then; 0: none.
    pub last: u64,
    /// The last line that was looked at: `After(scanned_to)` or `Before(scanned_to)` goes on.
    pub scanned_to: u64,
    /// Whether there is more to look at in this direction now.
    pub more: bool,
}

/// Logs as files of a data directory: `logs/PROJECT/RUN/PATH.GENERATION.ATTEMPT.log`.
pub struct FileLogs(Arc<Inner>);

struct Inner {
    root: PathBuf,
    limits: Limits,
    open: Mutex<HashMap<LogKey, Arc<Mutex<Option<file::Log>>>>>,
    _dir: Arc<DataDir>,
}

impl fmt::Debug for FileLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileLogs").field(&self.0.root).finish()
    }
}

impl FileLogs {
    /// The logs of a data directory. Touches no file.
    pub fn open(dir: Arc<DataDir>, limits: Limits) -> Self {
        let root = dir.path().join("logs");
        Self(Arc::new(Inner { root, limits, open: Mutex::default(), _dir: dir }))
    }

    /// Appends lines to an attempt's log. Lines longer than [`MAX_LINE`] are cut here too.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] where a batch does not fit its own lengths, is not UTF-8, or is
    /// larger than [`MAX_BATCH`]; [`StoreError::Retryable`] with a full disk: nothing was kept.
    pub async fn append(&self, key: &LogKey, batch: LogBatch) -> Result<()> {
        let key = key.clone();
        blocking(&self.0, move |logs| logs.append(&key, &batch)).await
    }

    /// Ends an attempt's log: what it has is on the disk when this returns. Nothing was written
    /// where the attempt wrote nothing. Lines that come later open it again.
    ///
    /// # Errors
    /// The file system refused; the log stays readable, and may be closed again.
    pub async fn close(&self, key: &LogKey) -> Result<LogSummary> {
        let key = key.clone();
        blocking(&self.0, move |logs| logs.close(&key)).await
    }

    /// Reads a part of a log, open or closed. A search ends early, with what it has, after
    /// [`MAX_SCAN`] bytes or when `late` says so, and goes on from [`LogPart::scanned_to`].
    ///
    /// # Errors
    /// [`StoreError::Malformed`] for a limit that is not possible.
    pub async fn read(
        &self,
        key: &LogKey,
        query: LogQuery,
        late: impl Fn() -> bool + Send + 'static,
    ) -> Result<LogPart> {
        if !(1..=MAX_LINES).contains(&query.limit) {
            let words = format!("{} lines: from 1 to {MAX_LINES} are possible", query.limit);
            return Err(StoreError::Malformed(words));
        }
        let key = key.clone();
        blocking(&self.0, move |logs| logs.read(&key, &query, &late)).await
    }

    /// Removes all logs of a run.
    ///
    /// # Errors
    /// The file system refused.
    pub async fn remove(&self, project: ProjectId, run: RunId) -> Result<()> {
        blocking(&self.0, move |logs| logs.remove(project, run)).await
    }

    /// The runs that have logs, in no order.
    pub(crate) async fn runs(&self) -> Result<Vec<(ProjectId, RunId)>> {
        blocking(&self.0, |logs| logs.runs().map_err(|error| io_failed(&logs.root, &error))).await
    }
}

impl Inner {
    fn dir(&self, project: ProjectId, run: RunId) -> PathBuf {
        self.root.join(project.0.to_string()).join(run.to_string())
    }

    fn path(&self, key: &LogKey) -> PathBuf {
        let name = file_name(key.path.as_str());
        let name = format!("{name}.{}.{}.log", key.generation, key.attempt);
        self.dir(key.project, key.run).join(name)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<LogKey, Arc<Mutex<Option<file::Log>>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, key: &LogKey, batch: &LogBatch) -> Result<()> {
        if batch.lines.is_empty() {
            return Ok(());
        }
        let (lines, text) = checked(batch)?;
        let path = self.path(key);
        let log = self.open().entry(key.clone()).or_default().clone();
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match log.take() {
            Some(open) => Ok(open),
            None => file::Log::open(&path),
        };
        let done = opened.and_then(|open| log.insert(open).append(&lines, &text, self.limits));
        done.map_err(|error| io_failed(&path, &error))
    }

    fn close(&self, key: &LogKey) -> Result<LogSummary> {
        let path = self.path(key);
        let log = self.open().entry(key.clone()).or_default().clone();
        let mut held = log.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = match held.take() {
            Some(open) => open.close(),
            None => file::close(&path),
        };
        drop(held);
        let mut open = self.open();
        // Whoever else has the lock in hand goes on with it: there is one lock for each log.
        if Arc::strong_count(&log) == 2 {
            open.remove(key);
        }
        closed.map_err(|error| io_failed(&path, &error))
    }

    fn read(&self, key: &LogKey, query: &LogQuery, late: &dyn Fn() -> bool) -> Result<LogPart> {
        let path = self.path(key);
        let failed = |error| io_failed(&path, &error);
        // A file that goes while it is read was dropped from the tail, or put to the head by a
        // close: the groups are other ones then.
        for _ in 0..3 {
            let groups = self.groups(key, &path).map_err(failed)?;
            match read::part(&path, &groups, query, late) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done.map_err(failed),
            }
        }
        Err(StoreError::Retryable(format!("{} changes faster than it is read", path.display())))
    }

    fn groups(&self, key: &LogKey, path: &Path) -> io::Result<Arc<Vec<file::Group>>> {
        let log = self.open().get(key).cloned();
        if let Some(log) = log
            && let Some(log) = &*log.lock().unwrap_or_else(PoisonError::into_inner)
        {
            return Ok(log.groups.clone());
        }
        Ok(Arc::new(file::load(path)?.unwrap_or_default()))
    }

    fn remove(&self, project: ProjectId, run: RunId) -> Result<()> {
        self.open().retain(|key, _| (key.project, key.run) != (project, run));
        let path = self.dir(project, run);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_failed(&path, &error)),
            _ => Ok(()),
        }
    }

    fn runs(&self) -> io::Result<Vec<(ProjectId, RunId)>> {
        let mut runs = Vec::new();
        for (project, path) in names::<i64>(&self.root)? {
            let found = names::<RunId>(&path)?.into_iter();
            runs.extend(found.map(|(run, _)| (ProjectId(project), run)));
        }
        Ok(runs)
    }
}

/// The entries of a directory whose names are what is looked for.
fn names<T: std::str::FromStr>(path: &Path) -> io::Result<Vec<(T, PathBuf)>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(name.map(|name| (name, entry.path())));
    }
    Ok(found)
}

/// A path as a file's name: other characters than letters, digits, `_` and `-` become `%XX`; a
/// long one ends in `~` and a part of its digest.
fn file_name(path: &str) -> String {
    let mut name = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > 160 {
        name.truncate(120);
        let digest = Digest::of(path.as_bytes()).to_string();
        name.push('~');
        name.push_str(&digest[..32]);
    }
    name
}

/// A batch's lines and text with each line at most [`MAX_LINE`] bytes.
fn checked(batch: &LogBatch) -> Result<(Cow<'_, [LogLine]>, Cow<'_, str>)> {
    let refuse = |words: String| Err(StoreError::Rejected(format!("a batch of lines: {words}")));
    let total: u64 = batch.lines.iter().map(|line| u64::from(line.length)).sum();
    if total != batch.text.len() as u64 {
        return refuse(format!("lines of {total} bytes, text of {}", batch.text.len()));
    }
    if batch.text.len() > MAX_BATCH {
        return refuse(format!("{total} bytes; {MAX_BATCH} is the most"));
    }
    let Ok(mut rest) = std::str::from_utf8(&batch.text) else {
        return refuse("the text is not UTF-8".to_owned());
    };
    let mut at = 0;
    if batch.lines.iter().any(|line| {
        at += line.length as usize;
        !rest.is_char_boundary(at)
    }) {
        return refuse("a line ends inside a character".to_owned());
    }
    if batch.lines.iter().all(|line| line.length as usize <= MAX_LINE) {
        return Ok((Cow::Borrowed(&batch.lines), Cow::Borrowed(rest)));
    }
    let mut text = String::with_capacity(rest.len());
    let mut lines = batch.lines.clone();
    for line in &mut lines {
        let (written, after) = rest.split_at(line.length as usize);
        let kept = &written[..written.floor_char_boundary(MAX_LINE)];
        line.cut += (written.len() - kept.len()) as u64;
        line.length = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        text.push_str(kept);
        rest = after;
    }
    Ok((lines.into(), text.into()))
}
