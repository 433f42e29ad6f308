//! The worker's loop over its link.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ork_api::worker::{FromWorker, Link, LinkError, Prepare, ToWorker};
use ork_core::ids::{AttemptRef, Token};
use ork_core::rows::LogSummary;
use ork_core::run::{Assignment, Departure, Failure, FailureKind, Finished, Outcome, Report};
use ork_core::time::Span;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::attempt::{self, AT_ONCE};
use crate::bundle::Bundles;
use crate::config::Config;
use crate::environment::{self, Env};
use crate::executors::{self, Executor};
use crate::files::Copies;
use crate::rooms::Rooms;
use crate::spawner::{self, Spawner};

/// How often a worker says that it lives.
const BEAT: Duration = Duration::from_secs(3);
/// How long before a report is sent again; doubled each time, up to [`BEAT`].
const PAUSE: Duration = Duration::from_millis(50);
/// How long the killing of what a dead spawner or a panic left may take.
const LAST_PATIENCE: Duration = Duration::from_secs(30);
/// How many ended attempts are remembered, to answer an offer that is sent again.
const REMEMBERED: usize = 4096;
/// How many bytes of JSON their ends may take in all.
const REMEMBERED_BYTES: usize = 16 << 20;

/// A worker. It ends when its server is gone, or when it is asked to leave.
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

/// Why a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The server is gone for good.
    ServerGone,
    /// It was asked to leave.
    Left,
    /// The process that starts programs for it has died. Another worker, under another id and with
    /// another spawner, can take its place.
    SpawnerGone,
    /// It panicked. Another worker can take its place, as above.
    Panicked,
}

/// What attempts and executors share.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) spawner: Spawner,
    pub(crate) bundles: Bundles,
    pub(crate) inherited: Env,
    executors: Vec<Box<dyn Executor>>,
    scratch: OnceLock<()>,
    /// A folder for each attempt's own files.
    pub(crate) rooms: Rooms,
    /// Folders for artifacts.
    pub(crate) artifact_rooms: Rooms,
    /// Files that attempts are given.
    pub(crate) copies: Copies,
    table: Mutex<Table>,
    /// Told whenever an attempt ends.
    ended: Notify,
}

#[derive(Default)]
struct Table {
    under_way: HashMap<Token, Control>,
    /// What has ended and is being reported.
    reported: HashMap<Token, AttemptRef>,
    done: Done,
    /// How many beats were sent.
    beats: u64,
}

impl Table {
    fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.reported.is_empty()
    }

    /// The next beat's number, and what it names.
    fn beat(&mut self) -> (u64, Vec<AttemptRef>) {
        self.beats += 1;
        let under_way = self.under_way.values().filter(|control| !control.silent);
        let held = under_way.map(|control| &control.attempt).chain(self.reported.values());
        (self.beats, held.cloned().collect())
    }
}

/// The latest ends.
#[derive(Default)]
struct Done {
    ends: HashMap<Token, (Finished, usize)>,
    order: VecDeque<Token>,
    bytes: usize,
}

impl Done {
    fn get(&self, token: Token) -> Option<Report> {
        let (done, _) = self.ends.get(&token)?;
        Some(Report::Finished(Box::new(done.clone())))
    }

    /// Remembers an end, and forgets the oldest where there are too many.
    fn add(&mut self, token: Token, done: &Finished) {
        let bytes = serde_json::to_vec(done).map_or(0, |json| json.len());
        if let Some((_, before)) = self.ends.insert(token, (done.clone(), bytes)) {
            self.bytes -= before;
        } else {
            self.order.push_back(token);
        }
        self.bytes += bytes;
        while self.order.len() > REMEMBERED || self.bytes > REMEMBERED_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            self.bytes -= self.ends.remove(&oldest).map_or(0, |(_, bytes)| bytes);
        }
    }
}

struct Control {
    attempt: AttemptRef,
    stop: watch::Sender<Option<Duration>>,
    /// Whether its end is to be reported.
    silent: bool,
}

impl Worker {
    /// A worker that starts programs by `spawner` and speaks to its server over `link`.
    pub fn new(config: Config, spawner: Spawner, link: Arc<dyn Link>) -> Self {
        let inherited = environment::inherited(&config.pass_env);
        let bundles = Bundles::new(&config.dirs.cache);
        let rooms = Rooms::new(&config.dirs.temporary);
        let artifact_rooms = Rooms::new(&config.dirs.artifacts);
        let copies = Copies::new(config.dirs.temporary.join("files"));
        let inner = Inner {
            config,
            link,
            spawner,
            bundles,
            inherited,
            executors: executors::all(),
            scratch: OnceLock::new(),
            rooms,
            artifact_rooms,
            copies,
            table: Mutex::default(),
            ended: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Serves until the server is gone or `leaving` comes with the time that what is under way may
    /// take. Whatever lives after that is killed and not reported, so that the server gives it to
    /// another. Nothing that the worker started is left when this returns.
    pub async fn run(&self, leaving: impl Future<Output = Duration>) -> Ended {
        let inner = &self.inner;
        let serving = Arc::clone(inner);
        // A task of its own, so that a panic in it is an end like another.
        let mut serve = JoinSet::new();
        serve.spawn(async move {
            if serving.link.send(serving.hello()).await.is_err() {
                return Ended::ServerGone;
            }
            serving.serve().await
        });
        let ended = tokio::select! {
            ended = ended(&mut serve) => ended,
            patience = leaving => tokio::select! {
                ended = ended(&mut serve) => ended,
                () = inner.idle(patience) => Ended::Left,
            },
        };
        serve.shutdown().await;
        self.end(ended).await;
        ended
    }

    /// Gets ready for attempts that will come.
    pub fn prepare(&self, what: Prepare) {
        self.inner.prepare(what);
    }

    async fn end(&self, ended: Ended) {
        let inner = &self.inner;
        for control in inner.table().under_way.values_mut() {
            control.silent = true;
            control.stop.send_replace(Some(AT_ONCE));
        }
        inner.spawner.close().await;
        if ended == Ended::SpawnerGone {
            let boots = [inner.config.worker.clone()];
            if let Err(error) = spawner::stop_trees_of(&boots, LAST_PATIENCE).await {
                tracing::error!(%error, "what the worker had started could not be stopped");
            }
        }
        inner.config.dirs.remove();
        if ended != Ended::ServerGone {
            let departure =
                if ended == Ended::Left { Departure::Orderly } else { Departure::Broken };
            let worker = inner.config.worker.clone();
            let goodbye = FromWorker::Goodbye { worker, departure };
            let _ = inner.link.send(goodbye).await;
        }
    }
}

/// How the only one of these has ended.
async fn ended(serve: &mut JoinSet<Ended>) -> Ended {
    match serve.join_next().await {
        Some(Ok(ended)) => ended,
        _ => Ended::Panicked,
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the server's words and says that the worker lives; ends when the server is gone.
    async fn serve(self: &Arc<Self>) -> Ended {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        loop {
            tokio::select! {
                word = self.link.recv() => match word {
                    Some(word) => self.take(word).await,
                    None => return Ended::ServerGone,
                },
                () = self.spawner.gone() => return Ended::SpawnerGone,
                _ = beat.tick(), if self.link.wants_beats() => if self.beat().await == Err(LinkError::Closed) {
                    return Ended::ServerGone;
                },
            }
        }
    }

    fn hello(&self) -> FromWorker {
        let Config { worker, slots, queues, .. } = &self.config;
        FromWorker::Hello { worker: worker.clone(), slots: *slots, queues: queues.clone() }
    }

    /// Says that the worker lives and what it has. A server that does not know it is told anew.
    async fn beat(&self) -> Result<(), LinkError> {
        let (number, held) = self.table().beat();
        let beat = FromWorker::Beat { worker: self.config.worker.clone(), number, held };
        match self.link.send(beat).await {
            Err(LinkError::Refused(_)) => self.link.send(self.hello()).await,
            sent => sent,
        }
    }

    /// How many beats were sent.
    pub(crate) fn beats(&self) -> u64 {
        self.table().beats
    }

    /// Sends a word about an attempt, again and again to a server that cannot take it now. One
    /// that is gone learns of it by the worker's end.
    pub(crate) async fn report(
        &self,
        attempt: &AttemptRef,
        report: Report,
    ) -> Result<(), LinkError> {
        let beats = self.beats();
        let message = FromWorker::Report { attempt: attempt.clone(), report, beats };
        let mut pause = PAUSE;
        loop {
            match self.link.send(message.clone()).await {
                Err(LinkError::Retryable(why)) => {
                    tracing::info!(path = %attempt.path, why, "a report is sent again");
                }
                sent => return sent,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BEAT);
        }
    }

    /// The same, whatever comes of it.
    async fn tell(&self, attempt: &AttemptRef, report: Report) {
        if let Err(error) = self.report(attempt, report).await {
            tracing::debug!(path = %attempt.path, %error, "a report was not taken");
        }
    }

    /// Reports the end of an attempt, unless it is nobody's business.
    pub(crate) async fn finish(&self, reference: &AttemptRef, done: Finished) {
        if self.close(reference, &done) {
            self.tell(reference, Report::Finished(Box::new(done))).await;
            self.table().reported.remove(&reference.token);
            self.ended.notify_waiters();
        }
    }

    /// Waits until nothing is under way, at most for `patience`.
    async fn idle(&self, patience: Duration) {
        let all_ended = async {
            loop {
                let ended = self.ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                if self.table().is_empty() {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(patience, all_ended).await;
    }

    async fn take(self: &Arc<Self>, word: ToWorker) {
        match word {
            ToWorker::Assign(assignment) => self.assign(*assignment).await,
            ToWorker::Stop { attempt, grace, .. } => self.stop(attempt, grace.to_std()).await,
            ToWorker::Fence { attempt } => self.fence(&attempt),
            ToWorker::Prepare(what) => self.prepare(*what),
        }
    }

    fn prepare(self: &Arc<Self>, what: Prepare) {
        let inner = Arc::clone(self);
        drop(tokio::spawn(async move {
            if let Some(executor) = inner.executor(&what.executor) {
                executor.prepare(&inner, &what).await;
            }
        }));
    }

    /// Begins an attempt. One that is under way is confirmed again, one that has ended is reported
    /// again: an offer may be repeated, an attempt is not.
    async fn assign(self: &Arc<Self>, assignment: Assignment) {
        let reference = &assignment.attempt;
        let known = {
            let table = self.table();
            let under_way = table.under_way.contains_key(&reference.token);
            table.done.get(reference.token).or(under_way.then_some(Report::Confirmed))
        };
        if let Some(report) = known {
            return self.tell(reference, report).await;
        }
        let (stop, watch) = watch::channel(None);
        let token = reference.token;
        let reference = reference.clone();
        let control = Control { attempt: reference.clone(), stop, silent: false };
        self.table().under_way.insert(token, control);
        let inner = Arc::clone(self);
        let work = tokio::spawn(attempt::perform(Arc::clone(self), assignment, watch));
        drop(tokio::spawn(async move {
            if let Err(error) = work.await {
                inner.panicked(&reference, &error.to_string()).await;
            }
        }));
    }

    /// Reports the failure of an attempt in which the worker itself went wrong, once nothing of it
    /// is left.
    async fn panicked(&self, reference: &AttemptRef, what: &str) {
        tracing::error!(path = %reference.path, what, "the worker panicked");
        let message = format!("the worker panicked in this attempt; this is a bug of Ork: {what}");
        if tokio::time::timeout(LAST_PATIENCE, self.spawner.quiet()).await.is_err() {
            tracing::error!(path = %reference.path, "what the attempt had started lives on");
        }
        let done = ended_as(Outcome::Failed(Failure::new(FailureKind::Failure, message)));
        self.finish(reference, done).await;
    }

    /// Stops an attempt; one that is not here has ended, as is said again, or is not known.
    async fn stop(&self, reference: AttemptRef, grace: Duration) {
        if self.ask(&reference, grace, false) {
            return;
        }
        let done = self.table().done.get(reference.token);
        let report = done.unwrap_or_else(|| Report::Finished(Box::new(ended_as(Outcome::Stopped))));
        self.tell(&reference, report).await;
    }

    fn fence(&self, reference: &AttemptRef) {
        self.ask(reference, AT_ONCE, true);
    }

    /// Asks an attempt to stop; false when there is none. A later order may only be stricter.
    fn ask(&self, reference: &AttemptRef, grace: Duration, silent: bool) -> bool {
        let mut table = self.table();
        let Some(control) = table.under_way.get_mut(&reference.token) else { return false };
        control.silent |= silent;
        control.stop.send_if_modified(|asked| {
            let stricter = asked.is_none_or(|before| grace < before);
            if stricter {
                *asked = Some(grace);
            }
            stricter
        });
        true
    }

    /// Takes an attempt off the table of which nothing was started: if it is offered again, it may
    /// be done.
    pub(crate) fn forget(&self, reference: &AttemptRef) {
        self.table().under_way.remove(&reference.token);
        self.ended.notify_waiters();
    }

    /// Takes an attempt off the table; false when its end is nobody's business. Of a silenced one
    /// no more is remembered than that it is gone.
    fn close(&self, reference: &AttemptRef, done: &Finished) -> bool {
        let mut table = self.table();
        let Some(control) = table.under_way.remove(&reference.token) else { return false };
        if control.silent {
            table.done.add(reference.token, &ended_as(Outcome::Stopped));
        } else {
            table.done.add(reference.token, done);
        }
        self.ended.notify_waiters();
        let told = !control.silent && !self.spawner.is_gone();
        if told {
            table.reported.insert(reference.token, control.attempt);
        }
        told
    }

    pub(crate) fn executor(&self, name: &str) -> Option<&dyn Executor> {
        self.executors.iter().map(|executor| &**executor).find(|executor| executor.name() == name)
    }

    pub(crate) fn executor_names(&self) -> String {
        let names: Vec<&str> = self.executors.iter().map(|executor| executor.name()).collect();
        names.join(", ")
    }

    /// Writes a file of an attempt, readable by its owner alone.
    pub(crate) fn write_scratch(&self, file: &Path, content: &[u8]) -> io::Result<()> {
        self.make_scratch()?;
        std::fs::write(file, content)
    }

    /// Makes the scratch folder, once, with the file of those without inputs.
    pub(crate) fn make_scratch(&self) -> io::Result<()> {
        if self.scratch.get().is_some() {
            return Ok(());
        }
        let dir = &self.config.dirs.scratch;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        std::fs::write(dir.join("no-inputs.json"), "{}")?;
        let _ = self.scratch.set(());
        Ok(())
    }
}

/// An end of an attempt that did nothing which could be measured.
fn ended_as(outcome: Outcome) -> Finished {
    Finished { outcome, logs: LogSummary::default(), artifacts: None, took: Span::ZERO }
}

#[cfg(test)]
mod tests {
    use ork_core::ids::Epoch;
    use ork_core::value::{Data, Value};

    use super::*;

    #[test]
    fn ends_are_remembered_within_bounds() {
        let token = |n: usize| Token::new(Epoch(1), u32::try_from(n).unwrap());
        let mut done = Done::default();
        for n in 0..REMEMBERED + 10 {
            done.add(token(n), &ended_as(Outcome::Stopped));
        }
        assert_eq!((done.order.len(), done.ends.len()), (REMEMBERED, REMEMBERED));
        assert!(done.get(token(9)).is_none() && done.get(token(10)).is_some());
        let text = Value::String("x".repeat(1 << 20));
        let large = ended_as(Outcome::Success { output: Some(Data::Inline(text)) });
        for n in 0..20 {
            done.add(token(10_000 + n), &large);
        }
        assert_eq!((done.order.len(), done.ends.len()), (15, 15));
        assert!(done.bytes <= REMEMBERED_BYTES);
    }

    #[test]
    fn a_beat_names_what_is_under_way_or_not_yet_reported() {
        let attempt = |n: u32| AttemptRef {
            run: "01890000-0000-7000-8000-000000000001".parse().unwrap(),
            path: "task".into(),
            token: Token::new(Epoch(1), n),
        };
        let mut table = Table::default();
        for (n, silent) in [(1, false), (2, true)] {
            let control = Control { attempt: attempt(n), stop: watch::channel(None).0, silent };
            table.under_way.insert(attempt(n).token, control);
        }
        table.reported.insert(attempt(3).token, attempt(3));
        let (number, mut held) = table.beat();
        held.sort_by_key(|attempt| attempt.token);
        assert_eq!((number, held), (1, vec![attempt(1), attempt(3)]));
        assert_eq!(table.beat().0, 2);
    }
}
