//! The event stream: what topics ask for, in the order of commits, from a place that the client
//! names, without a gap.
//!
//! Nothing is buffered for a client beyond one part: the stream takes what is next from memory, or
//! from the store when the client is further behind, whenever the client has taken the last part.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Bytes;
use ork_api::encode::{segment, unsegment};
use ork_api::types::{LogChunk, Reset};
use ork_core::ids::{ProjectId, RunId};
use ork_core::run::EventKind;
use ork_store::{CommitSeq, Committed, LogKey};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};

use crate::app::App;
use crate::attempt_logs::Wanted;
use crate::feed::{Place, Since};
use crate::refused::{Refused, Result};
use crate::start::stopped;
use crate::view;

/// How many topics one stream has at most.
const TOPICS: usize = 16;

/// How many events are taken at a time.
const PART: usize = 256;

/// How many events are read of the store at a time.
const READ: usize = 500;

/// How many lines are sent at a time.
const LINES: usize = 500;

/// How many lines a log may be ahead of a stream of recent lines, and how many of the newest are
/// sent where it is further ahead.
const AHEAD: u64 = 50_000;
const NEWEST: u64 = 5_000;

/// What a client wants.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    project: bool,
    runs: Vec<RunId>,
    logs: Vec<Logs>,
}

/// The logs of a run, or of one of its instances.
#[derive(Debug)]
struct Logs {
    run: RunId,
    path: Option<String>,
    /// Whether lines are passed over where the client is far behind.
    recent: bool,
}

impl Logs {
    /// Reads `ID` or `ID/PATH`.
    fn read(of: &str, recent: bool) -> Result<Self> {
        let (id, path) = of.split_once('/').map_or((of, None), |(id, path)| (id, Some(path)));
        Ok(Self { run: run_id(id)?, path: path.map(str::to_owned), recent })
    }

    fn has(&self, run: RunId, path: &str) -> bool {
        self.run == run && self.path.as_deref().is_none_or(|only| only == path)
    }
}

impl Topics {
    /// Reads `run:ID,logs:ID/PATH,recent:ID/PATH,project:NAME`.
    pub(crate) fn read(app: &App, text: &str) -> Result<Self> {
        let mut topics = Self::default();
        let words: Vec<_> = text.split(',').filter(|word| !word.is_empty()).collect();
        if words.is_empty() || words.len() > TOPICS {
            return Err(Refused::malformed(format!("topics: from 1 to {TOPICS} of them")));
        }
        for word in words {
            match word.split_once(':') {
                Some(("run", id)) => topics.runs.push(run_id(id)?),
                Some(("project", name)) => {
                    app.project(name)?;
                    topics.project = true;
                }
                Some(("logs", of)) => topics.logs.push(Logs::read(of, false)?),
                Some(("recent", of)) => topics.logs.push(Logs::read(of, true)?),
                _ => {
                    return Err(Refused::malformed(format!(
                        "topics: `{word}` is none; write run:ID, project:NAME, logs:ID, \
                         logs:ID/PATH, recent:ID or recent:ID/PATH"
                    )));
                }
            }
        }
        Ok(topics)
    }

    /// The runs that are named, each once.
    pub(crate) fn all_runs(&self) -> Vec<RunId> {
        let named = self.runs.iter().chain(self.logs.iter().map(|logs| &logs.run));
        let mut runs: Vec<_> = named.copied().collect();
        runs.sort_unstable();
        runs.dedup();
        runs
    }

    fn wants_event(&self, run: RunId) -> bool {
        self.project || self.runs.contains(&run)
    }

    fn wants_log(&self, run: RunId, path: &str) -> bool {
        self.logs.iter().any(|logs| logs.has(run, path))
    }

    /// Whether all lines of a log are wanted.
    fn wants_all(&self, run: RunId, path: &str) -> bool {
        self.logs.iter().any(|logs| !logs.recent && logs.has(run, path))
    }
}

fn run_id(text: &str) -> Result<RunId> {
    text.parse().map_err(|_| Refused::malformed(format!("topics: `{text}` is not a run's id")))
}

/// Where a client is: the last event, and how much of each log under way it has.
#[derive(Debug, PartialEq)]
pub(crate) struct Position {
    place: Place,
    logs: HashMap<Arc<LogKey>, u64>,
}

impl Position {
    /// `12.0;RUN/PATH@1.2:345`
    fn write(&self) -> String {
        let mut text = format!("{}.{}", self.place.0.0, self.place.1);
        for (key, lines) in &self.logs {
            let (run, path) = (key.run, segment(key.path.as_str()));
            // Writing to a string does not fail.
            let _ = write!(text, ";{run}/{path}@{}.{}:{lines}", key.generation, key.attempt);
        }
        text
    }

    pub(crate) fn read(text: &str, project: ProjectId) -> Result<Self> {
        Self::parse(text, project)
            .ok_or_else(|| Refused::malformed("Last-Event-ID: send the id of an event as it came"))
    }

    fn parse(text: &str, project: ProjectId) -> Option<Self> {
        let mut parts = text.split(';');
        let (commit, position) = parts.next()?.split_once('.')?;
        let place = (CommitSeq(commit.parse().ok()?), position.parse().ok()?);
        let logs = parts.map(|part| {
            let (run, rest) = part.split_once('/')?;
            let (path, rest) = rest.split_once('@')?;
            let (number, lines) = rest.split_once(':')?;
            let (generation, attempt) = number.split_once('.')?;
            let key = LogKey {
                project,
                run: run.parse().ok()?,
                path: unsegment(path)?.as_str().into(),
                generation: generation.parse().ok()?,
                attempt: attempt.parse().ok()?,
            };
            Some((Arc::new(key), lines.parse().ok()?))
        });
        Some(Self { place, logs: logs.collect::<Option<_>>()? })
    }
}

/// What is read of the store until the memory's events follow.
enum Backlog {
    /// The events of these runs, merged.
    Runs(Vec<RunBacklog>),
    /// Those of all runs.
    All,
}

struct RunBacklog {
    run: RunId,
    seq: u64,
    read: VecDeque<Committed>,
    done: bool,
}

pub(crate) struct Streaming {
    app: Arc<App>,
    project: ProjectId,
    topics: Topics,
    at: Position,
    /// With the place up to which it goes.
    backlog: Option<(Backlog, Place)>,
    events: VecDeque<Committed>,
    ready: VecDeque<Bytes>,
    /// Logs that may have grown.
    grown: HashSet<Arc<LogKey>>,
    changes: watch::Receiver<()>,
    lines: broadcast::Receiver<Arc<LogKey>>,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Streaming {
    /// A stream that goes on after `from`; without one with the first events of the runs that
    /// are named.
    pub(crate) async fn open(
        app: Arc<App>,
        project: ProjectId,
        topics: Topics,
        from: Option<Position>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self> {
        let last = app.feed.last();
        let start = Position { place: (CommitSeq(0), 0), logs: HashMap::new() };
        let mut stream = Self {
            changes: app.feed.changes(),
            lines: app.feed.lines(),
            stopping: app.stopping.clone(),
            project,
            topics,
            at: start,
            backlog: None,
            events: VecDeque::new(),
            ready: VecDeque::from([Bytes::from_static(b": ork\n\n")]),
            grown: HashSet::new(),
            app,
            _permit: permit,
        };
        match from {
            None => stream.backlog = Some((stream.runs().await?, last)),
            Some(at) => stream.resume(at, last).await?,
        }
        Ok(stream)
    }

    async fn resume(&mut self, at: Position, last: Place) -> Result<()> {
        let unknown = at.place > last && at.place.0 > self.app.store.last_commit().await?;
        if unknown || (self.topics.project && self.is_pruned(at.place).await?) {
            let reason = if unknown { "this store has not come so far" } else { "it is too old" };
            self.reset(format!("the stream cannot go on from there: {reason}"), last)?;
            return Ok(());
        }
        self.grown = at.logs.keys().cloned().collect();
        self.at = at;
        Ok(())
    }

    /// Whether events after `place` may have been removed.
    async fn is_pruned(&self, place: Place) -> Result<bool> {
        let oldest = self.app.store.feed((CommitSeq(0), 0), 1).await?;
        Ok(oldest.first().is_some_and(|oldest| place.0.0 + 1 < oldest.commit.0))
    }

    fn reset(&mut self, reason: String, last: Place) -> Result<()> {
        self.at = Position { place: last, logs: HashMap::new() };
        self.emit("reset", &Reset { reason })
    }

    /// The next part of the stream; none at its end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Some(part);
            }
            if *self.stopping.borrow() {
                return None;
            }
            match self.advance().await {
                Ok(true) => {}
                Ok(false) => self.wait().await,
                Err(refused) => {
                    tracing::warn!(error = %refused.0.detail, "an event stream ends");
                    return None;
                }
            }
        }
    }

    /// Takes one step; false where there is nothing to do.
    async fn advance(&mut self) -> Result<bool> {
        if let Some(event) = self.events.pop_front() {
            self.take(event).await?;
            return Ok(true);
        }
        self.changes.borrow_and_update();
        if self.fetch().await? {
            return Ok(true);
        }
        self.pump_grown().await
    }

    async fn take(&mut self, committed: Committed) -> Result<()> {
        if let Some((key, over)) = self.log_of(&committed) {
            if over {
                if self.at.logs.contains_key(&key) && self.pump(&key).await? {
                    self.events.push_front(committed);
                    return Ok(());
                }
                self.at.logs.remove(&key);
                self.grown.remove(&key);
            } else if !self.at.logs.contains_key(&key) {
                self.at.logs.insert(key.clone(), 0);
                self.grown.insert(key);
            }
        }
        self.at.place = (committed.commit, committed.position);
        if self.topics.wants_event(committed.event.run) {
            let event = view::event(&committed);
            self.emit("", &event)?;
        }
        Ok(())
    }

    /// The attempt that an event begins or ends, where its log is wanted.
    fn log_of(&self, committed: &Committed) -> Option<(Arc<LogKey>, bool)> {
        let event = &committed.event;
        let over = match event.kind {
            EventKind::TaskStarted { .. } => false,
            EventKind::TaskRetrying { .. }
            | EventKind::TaskDeferred { token: Some(_), .. }
            | EventKind::TaskFinished { .. } => true,
            _ => return None,
        };
        let (path, generation) = (event.path.clone()?, event.generation?);
        if !self.topics.wants_log(event.run, path.as_str()) {
            return None;
        }
        let attempt = event.attempt?;
        let key = LogKey { project: event.project, run: event.run, path, generation, attempt };
        Some((Arc::new(key), over))
    }

    /// Brings events that follow; false where there are none yet.
    async fn fetch(&mut self) -> Result<bool> {
        loop {
            if self.backlog.is_some() {
                let read = self.read_backlog().await?;
                self.events.extend(read);
                if !self.events.is_empty() {
                    return Ok(true);
                }
            }
            match self.app.feed.since(self.at.place, PART) {
                Since::Events(events) => {
                    self.events.extend(events);
                    return Ok(true);
                }
                Since::Nothing => return Ok(false),
                Since::Older => {
                    let all = self.topics.project;
                    let backlog = if all { Backlog::All } else { self.runs().await? };
                    self.backlog = Some((backlog, self.app.feed.last()));
                }
            }
        }
    }

    async fn runs(&self) -> Result<Backlog> {
        let mut runs = Vec::new();
        for run in self.topics.all_runs() {
            let seq = self.passed(run).await?;
            runs.push(RunBacklog { run, seq, read: VecDeque::new(), done: false });
        }
        Ok(Backlog::Runs(runs))
    }

    /// The number of the run's last event that the client has passed. Numbers have no gaps and
    /// follow the order of commits, so it is found by doubling and halving.
    async fn passed(&self, run: RunId) -> Result<u64> {
        if self.at.place.0 == CommitSeq(0) {
            return Ok(0);
        }
        let (mut passed, mut ahead) = (0, 1);
        while self.has_passed(run, ahead).await? {
            (passed, ahead) = (ahead, ahead * 2);
        }
        while ahead - passed > 1 {
            let middle = passed + (ahead - passed) / 2;
            if self.has_passed(run, middle).await? { passed = middle } else { ahead = middle }
        }
        Ok(passed)
    }

    async fn has_passed(&self, run: RunId, seq: u64) -> Result<bool> {
        let found = self.app.store.events(self.project, run, seq - 1, 1).await?;
        Ok(found.first().is_some_and(|event| (event.commit, event.position) <= self.at.place))
    }

    /// Reads a part of the backlog, and ends it where all is read.
    async fn read_backlog(&mut self) -> Result<Vec<Committed>> {
        let Some((mut backlog, until)) = self.backlog.take() else { return Ok(Vec::new()) };
        let from = self.at.place;
        let read = match &mut backlog {
            Backlog::Runs(runs) => self.merge(runs, from, until).await?,
            Backlog::All => {
                let mut read = self.app.store.feed(from, READ).await?;
                read.retain(|event| (event.commit, event.position) <= until);
                read
            }
        };
        if read.is_empty() {
            self.at.place = from.max(until);
        } else {
            self.backlog = Some((backlog, until));
        }
        Ok(read)
    }

    /// The next events of several runs in the order of commits.
    async fn merge(
        &self,
        runs: &mut [RunBacklog],
        from: Place,
        until: Place,
    ) -> Result<Vec<Committed>> {
        let mut merged = Vec::new();
        while merged.len() < PART {
            for run in runs.iter_mut() {
                self.refill(run, from, until).await?;
            }
            let head = |run: &&mut RunBacklog| {
                run.read.front().map(|event| (event.commit, event.position))
            };
            let Some(run) = runs.iter_mut().filter(|run| !run.read.is_empty()).min_by_key(head)
            else {
                break;
            };
            merged.extend(run.read.pop_front());
        }
        Ok(merged)
    }

    async fn refill(&self, run: &mut RunBacklog, from: Place, until: Place) -> Result<()> {
        while run.read.is_empty() && !run.done {
            let read = self.app.store.events(self.project, run.run, run.seq, READ).await?;
            run.done = read.len() < READ;
            for event in read {
                run.seq = event.event.seq;
                let place = (event.commit, event.position);
                run.done |= place > until;
                if place > from && place <= until {
                    run.read.push_back(event);
                }
            }
        }
        Ok(())
    }

    async fn pump_grown(&mut self) -> Result<bool> {
        while let Some(key) = self.grown.iter().next().cloned() {
            if self.at.logs.contains_key(&key) && self.pump(&key).await? {
                return Ok(true);
            }
            self.grown.remove(&key);
        }
        Ok(false)
    }

    /// Sends the next lines of a log; false where there are none.
    async fn pump(&mut self, key: &Arc<LogKey>) -> Result<bool> {
        let after = self.at.logs.get(key).copied().unwrap_or(0);
        let wanted = Wanted { after, limit: LINES, ..Wanted::default() };
        let mut part = self.app.logs.read(key, &wanted).await?;
        let mut skipped = 0;
        if part.last.saturating_sub(after) > AHEAD
            && !self.topics.wants_all(key.run, key.path.as_str())
        {
            let wanted = Wanted { after: part.last - NEWEST, ..wanted };
            part = self.app.logs.read(key, &wanted).await?;
            skipped = part.lines.first().map_or(0, |line| line.seq - after - 1);
        }
        let Some(last) = part.lines.last() else { return Ok(false) };
        self.at.logs.insert(key.clone(), last.seq);
        let (generation, attempt) = (key.generation, key.attempt);
        let (run, path) = (key.run, key.path.clone());
        self.emit("log", &LogChunk { run, path, generation, attempt, skipped, lines: part.lines })?;
        Ok(true)
    }

    fn emit(&mut self, kind: &str, data: &impl serde::Serialize) -> Result<()> {
        let data = serde_json::to_string(data).map_err(Refused::internal)?;
        let kind = if kind.is_empty() { String::new() } else { format!("event: {kind}\n") };
        let block = format!("{kind}id: {}\ndata: {data}\n\n", self.at.write());
        self.ready.push_back(block.into());
        Ok(())
    }

    async fn wait(&mut self) {
        let mut grown = None;
        tokio::select! {
            _ = self.changes.changed() => {}
            news = self.lines.recv() => grown = Some(news),
            () = stopped(&mut self.stopping) => {}
            () = tokio::time::sleep(self.app.limits.keep_alive) => {
                self.ready.push_back(Bytes::from_static(b": still here\n\n"));
            }
        }
        if let Some(news) = grown {
            self.note(news);
        }
    }

    fn note(&mut self, grown: std::result::Result<Arc<LogKey>, broadcast::error::RecvError>) {
        match grown {
            Ok(key) if self.at.logs.contains_key(&key) => drop(self.grown.insert(key)),
            Ok(_) => {}
            Err(_) => self.grown.extend(self.at.logs.keys().cloned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        let key = |path: &str, attempt| {
            Arc::new(LogKey {
                project: ProjectId::DEFAULT,
                run: RunId(uuid::Uuid::from_u128(7)),
                path: path.into(),
                generation: 1,
                attempt,
            })
        };
        let position = Position {
            place: (CommitSeq(12), 3),
            logs: HashMap::from([(key("load[a;b@c:d]", 2), 45), (key("finally/x", 1), 0)]),
        };
        assert_eq!(Position::read(&position.write(), ProjectId::DEFAULT).unwrap(), position);
        for text in ["", "1", "1.x", "1.2;", "1.2;x/y", "-1.2"] {
            assert!(Position::read(text, ProjectId::DEFAULT).is_err(), "{text}");
        }
    }
}
