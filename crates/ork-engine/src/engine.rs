//! The driver: a task that runs [`Core`] over a store and a clock.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use ork_core::catalog::Known;
use ork_core::ids::{AttemptRef, Epoch, InstancePath, ProjectId, RunId, WorkerId};
use ork_core::plan::Scope;
use ork_core::rows::{ActiveRun, Change, VersionId};
use ork_core::run::{
    Assignment, AttemptState, Blob, Blocker, Command, Compile, Effect, Machine, StopReason,
};
use ork_core::schedule::Declared;
use ork_core::time::{Mono, Now, Span};
use ork_core::trigger::Fired;
use ork_core::value::{Data, Digest, Value};
use ork_store::{Blobs, Cached, CommitSeq, Committed, MAX_PAGE, Page, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::failpoint;
use crate::firings;
use crate::request::{Answer, Error, Found, Read, Request};
use crate::turn::{Config, Core, Led, Output, Step};

/// How many requests may wait for the loop; more are turned away, or wait at the door.
const QUEUE: usize = 10_000;

/// How many questions may wait for the loop; more wait at the door.
const QUESTIONS: usize = 1_000;

/// How many blobs are put at a time.
const PUTS: usize = 8;

/// Where what the engine decided goes, once it is durable. Calls come in order from one task and
/// must return at once: put the work in a queue.
pub trait Effects: Send + Sync + 'static {
    /// Offers an attempt to a worker. After a restart an offer may come again with its token.
    fn dispatch(&self, worker: &WorkerId, assignment: Box<Assignment>);

    /// Tells a worker to stop an attempt: politely, and after `grace` by force.
    fn stop(&self, worker: &WorkerId, attempt: AttemptRef, reason: StopReason, grace: Span);

    /// Compiles a DAG that was made at run time: gives it, or all that is wrong with it.
    fn compile(&self, ask: Compile) -> Compiling;

    /// Events that have become durable, in the order of commits.
    fn committed(&self, events: Vec<Committed>);
}

/// A DAG that is being compiled.
pub type Compiling = Pin<Box<dyn Future<Output = Result<Arc<Scope>, String>> + Send>>;

type Slot = Option<oneshot::Sender<Result<Answer, Error>>>;
type Question = Box<dyn FnOnce(Option<&Machine>) + Send>;

type Message = (Box<Request>, Slot);

/// A handle of a running engine. Clones are handles of the same.
#[derive(Clone)]
pub struct Engine {
    queue: mpsc::Sender<Message>,
    questions: mpsc::Sender<Question>,
    stop: Arc<watch::Sender<bool>>,
    patience: Span,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// A request that is in the queue.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<Answer, Error>>);

impl Ticket {
    /// Waits for the answer, which comes once what it says is durable.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn answer(self) -> Result<Answer, Error> {
        self.0.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Engine {
    /// Takes the lead of the store, loads what is active, and starts the loop on the current
    /// tokio runtime. The task ends after [`Engine::stop`], or when all handles are dropped.
    ///
    /// # Errors
    /// What the store says when it cannot be led or read.
    pub async fn start(
        store: Arc<dyn Store>,
        blobs: Arc<dyn Blobs>,
        effects: Arc<dyn Effects>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let (patience, give_up) = (config.patience, config.give_up);
        let backoff = (config.retry_min, config.retry_max);
        let mut core = Core::new(config);
        core.led(Ok(lead(&*store).await?), clock.now());
        let (queue, messages) = mpsc::channel(QUEUE);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let (stop, stopping) = watch::channel(false);
        let (found_in, found) = mpsc::unbounded_channel();
        let driver = Driver {
            core,
            store,
            blobs,
            effects,
            clock,
            messages,
            asked,
            found_in,
            found,
            stopping,
            backoff,
            cannot_lead: false,
            open: true,
        };
        let engine = Self { queue, questions, stop: Arc::new(stop), patience };
        Ok((engine, spawn(driver.run(give_up))))
    }

    /// Puts a request in the queue and waits for its answer, neither for long: whoever asks can
    /// ask again.
    ///
    /// # Errors
    /// See [`Error`]. [`Error::Unavailable`] where the queue is full, or no answer has come within
    /// [`Config::patience`].
    pub async fn submit(&self, request: Request) -> Result<Answer, Error> {
        let (slot, answer) = oneshot::channel();
        self.queue.try_send((Box::new(request), Some(slot))).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                Error::Unavailable(format!("{QUEUE} requests wait already"))
            }
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        let answer = Ticket(answer).answer();
        tokio::time::timeout(self.patience.to_std(), answer).await.unwrap_or_else(|_| {
            let patience = self.patience;
            Err(Error::Unavailable(format!("the store has not answered within {patience}")))
        })
    }

    /// Puts a request in the queue, waiting while that is full. Requests are applied in the order
    /// in which they were put there.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn enqueue(&self, request: Request) -> Result<Ticket, Error> {
        let (slot, answer) = oneshot::channel();
        let sent = self.queue.send((Box::new(request), Some(slot))).await;
        sent.map_err(|_| Error::Stopped)?;
        Ok(Ticket(answer))
    }

    /// Asks the machine something between two turns, also while the store does not answer. Keep it
    /// short: the loop waits meanwhile.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the engine does not lead.
    pub async fn inspect<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (slot, answer) = oneshot::channel();
        let ask = move |machine: Option<&Machine>| {
            // The asker may have gone; then nobody misses the answer.
            let _ = slot.send(machine.map(question));
        };
        self.questions.send(Box::new(ask)).await.map_err(|_| Error::Stopped)?;
        let answer = answer.await.map_err(|_| Error::Stopped)?;
        answer.ok_or_else(|| Error::Unavailable("it is loading".into()))
    }

    /// Why an instance does not go on: empty when it is under way or over, none when its run is
    /// not in memory, being over.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the engine does not lead.
    pub async fn blockers(
        &self,
        run: RunId,
        path: InstancePath,
    ) -> Result<Option<Vec<Blocker>>, Error> {
        self.inspect(move |machine| machine.blockers(run, &path)).await
    }

    /// Ends the loop after what is in the queue; await the task to know that all is durable. While
    /// the store does not answer it ends after [`Config::give_up`] all the same: what was not
    /// committed by then was never acknowledged.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

struct Driver {
    core: Core<Slot>,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    effects: Arc<dyn Effects>,
    clock: Arc<dyn Clock>,
    messages: mpsc::Receiver<Message>,
    asked: mpsc::Receiver<Question>,
    found_in: mpsc::UnboundedSender<Fed>,
    found: mpsc::UnboundedReceiver<Fed>,
    stopping: watch::Receiver<bool>,
    backoff: Backoff,
    /// Whether it has been said that the lead cannot be taken.
    cannot_lead: bool,
    /// Whether requests may come.
    open: bool,
}

/// What was fetched off the loop.
enum Fed {
    Read(Read, Found),
    Told(Command),
}

/// What the store is asked for.
enum Work {
    Lead,
    Commit { epoch: Epoch, blobs: Arc<[Blob]>, changes: Arc<[Change]> },
}

/// What came of it.
enum Done {
    Led(Result<Led, StoreError>),
    Committed(Result<CommitSeq, StoreError>),
    Unkept(Digest, String),
}

impl Driver {
    async fn run(mut self, give_up: Span) {
        let mut stopping = self.stopping.clone();
        let given_up = async {
            stopped(&mut stopping).await;
            pause(give_up).await;
        };
        tokio::select! {
            biased;
            () = self.drive() => {}
            () = given_up => {
                tracing::error!("the store has not answered within {give_up} after the stop");
                self.core.abandon("the store did not answer before the stop");
                self.perform();
            }
        }
    }

    async fn drive(&mut self) {
        loop {
            self.take_waiting();
            let (after, work) = match self.core.step(self.clock.now()) {
                Step::Lead { after } => (after, Work::Lead),
                Step::Commit { after, epoch, blobs, changes } => {
                    (after, Work::Commit { epoch, blobs: blobs.clone(), changes: changes.clone() })
                }
                Step::Wait { until } => {
                    self.perform();
                    if !self.open && self.core.backlog() == 0 {
                        return;
                    }
                    self.wait(until).await;
                    self.perform();
                    continue;
                }
            };
            let done = do_work(after, work, self.store.clone(), self.blobs.clone());
            let done = self.meanwhile(done).await;
            self.hear(done);
            self.perform();
        }
    }

    /// Answers questions while the store works. Requests wait in their queue, which is bounded.
    async fn meanwhile(&mut self, work: impl Future<Output = Done>) -> Done {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(question) = self.asked.recv() => question(self.core.machine()),
            }
        }
    }

    fn hear(&mut self, done: Done) {
        match done {
            Done::Led(led) => {
                let failed = led.as_ref().err();
                if let Some(error) = failed.filter(|_| !self.cannot_lead) {
                    tracing::warn!(%error, "cannot take the lead of the store; trying on");
                }
                self.cannot_lead = failed.is_some();
                self.core.led(led, self.clock.now());
            }
            Done::Committed(result) => {
                if let Err(error) = &result {
                    tracing::warn!(%error, "a commit failed");
                }
                self.core.committed(result);
            }
            Done::Unkept(digest, reason) => {
                tracing::warn!(%digest, reason, "a value cannot be kept");
                self.core.unkept(&digest, &reason);
            }
        }
    }

    /// Takes what waits, so that it goes with the next commit; no more than may wait here.
    fn take_waiting(&mut self) {
        while let Ok(fed) = self.found.try_recv() {
            self.feed(fed);
        }
        while let Ok(question) = self.asked.try_recv() {
            question(self.core.machine());
        }
        if self.open && *self.stopping.borrow() {
            self.close();
        }
        while self.open && self.core.backlog() < QUEUE {
            match self.messages.try_recv() {
                Ok((request, slot)) => self.core.push(*request, slot),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => self.shut(),
            }
        }
    }

    /// No more requests are let in; those that are in the queue are still done.
    fn close(&mut self) {
        self.core.close();
        self.messages.close();
    }

    /// The queue is empty and closed.
    fn shut(&mut self) {
        self.core.close();
        self.open = false;
    }

    fn feed(&mut self, fed: Fed) {
        match fed {
            Fed::Read(read, found) => self.core.found(read, found),
            Fed::Told(command) => self.core.push(Request::worker(command), None),
        }
    }

    async fn wait(&mut self, until: Option<Mono>) {
        let left = until.map(|at| at - self.clock.now().mono);
        if left.is_some_and(|left| left <= Span::ZERO) {
            return;
        }
        let listens = self.open && self.core.backlog() < QUEUE;
        tokio::select! {
            biased;
            message = self.messages.recv(), if listens => match message {
                Some((request, slot)) => self.core.push(*request, slot),
                None => self.shut(),
            },
            Some(question) = self.asked.recv() => question(self.core.machine()),
            Some(fed) = self.found.recv() => self.feed(fed),
            () = stopped(&mut self.stopping), if !self.messages.is_closed() => {}
            () = self.clock.stepped() => {}
            () = pause(left.unwrap_or_default()), if left.is_some() => {}
        }
    }

    /// Lets out what is durable.
    fn perform(&mut self) {
        let outputs: Vec<_> = self.core.outputs().collect();
        for output in outputs {
            match output {
                Output::Answer { slot, result } => {
                    if let Some(slot) = slot {
                        // Whoever asked may have gone.
                        let _ = slot.send(result);
                    }
                }
                Output::Effect(effect) => self.carry_out(effect),
                Output::Events(events) => {
                    failpoint::hit("events.before");
                    self.effects.committed(events);
                }
                Output::Read { read, after } => self.read(read, after),
            }
        }
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Dispatch { worker, assignment } => {
                failpoint::hit("dispatch.before");
                self.effects.dispatch(&worker, assignment);
                failpoint::hit("dispatch.after");
            }
            Effect::Stop { worker, attempt, reason, grace } => {
                failpoint::hit("stop.before");
                self.effects.stop(&worker, attempt, reason, grace);
            }
            Effect::Fetch { digest } => {
                let (blobs, found) = (self.blobs.clone(), self.found_in.clone());
                let (clock, backoff) = (self.clock.clone(), self.backoff);
                spawn(async move {
                    let value = fetch(&*blobs, &digest, (&*clock, backoff)).await;
                    let _ = found.send(Fed::Told(Command::Fetched { digest, value }));
                });
            }
            Effect::Recall { project, run, earlier } => {
                let (store, found) = (self.store.clone(), self.found_in.clone());
                let (clock, backoff) = (self.clock.clone(), self.backoff);
                spawn(async move {
                    let earlier = recall(&*store, project, earlier, (&*clock, backoff)).await;
                    let _ = found.send(Fed::Told(Command::Recalled { run, earlier }));
                });
            }
            Effect::Lookup { project, workflow, task, key, run, path } => {
                let (store, found) = (self.store.clone(), self.found_in.clone());
                spawn(async move {
                    let cached = store.cached(project, &workflow, &task, &key).await;
                    // What cannot be looked up is done.
                    let Cached { hit, last } = cached.unwrap_or_default();
                    let (hit, last) = (hit.map(Box::new), last.map(Box::new));
                    let _ = found.send(Fed::Told(Command::Found { run, path, hit, last }));
                });
            }
            Effect::Compile(ask) => {
                let (run, path, generation) = (ask.run, ask.path.clone(), ask.generation);
                let (compiling, found) = (self.effects.compile(*ask), self.found_in.clone());
                spawn(async move {
                    let result = compiling.await;
                    let answer = Command::Compiled { run, path, generation, result };
                    let _ = found.send(Fed::Told(answer));
                });
            }
        }
    }

    fn read(&self, read: Read, after: Span) {
        let (store, blobs) = (self.store.clone(), self.blobs.clone());
        let found = self.found_in.clone();
        let after = jittered(after, self.clock.now());
        spawn(async move {
            pause(after).await;
            let result = look_up(&*store, &*blobs, &read).await;
            if let (Err(error), Span::ZERO) = (&result, after) {
                tracing::warn!(%error, ?read, "the store cannot be read; trying on");
            }
            let _ = found.send(Fed::Read(read, result.unwrap_or_else(Found::Failed)));
        });
    }
}

/// Waits until the engine is to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        // All handles are gone, and nobody will say so any more.
        std::future::pending::<()>().await;
    }
}

async fn do_work(after: Span, work: Work, store: Arc<dyn Store>, blobs: Arc<dyn Blobs>) -> Done {
    pause(after).await;
    match work {
        Work::Lead => Done::Led(lead(&*store).await),
        Work::Commit { epoch, blobs: new, changes } => match keep(&*blobs, &new).await {
            Ok(()) => {
                failpoint::hit("commit.before");
                let result = store.commit(epoch, changes).await;
                failpoint::hit("commit.after");
                Done::Committed(result)
            }
            Err(undone) => undone,
        },
    }
}

async fn pause(span: Span) {
    if span > Span::ZERO {
        tokio::time::sleep(span.to_std()).await;
    }
}

/// Keeps the blobs that a commit refers to, several at a time.
async fn keep(to: &dyn Blobs, blobs: &[Blob]) -> Result<(), Done> {
    let put = |blob: &Blob| {
        let (digest, content) = (blob.digest, Bytes::copy_from_slice(&blob.content));
        async move { (digest, to.put(content).await) }
    };
    let mut puts = futures_util::stream::iter(blobs.iter().map(put)).buffer_unordered(PUTS);
    while let Some((digest, put)) = puts.next().await {
        match put {
            Ok(_) => {}
            Err(StoreError::Rejected(reason)) => return Err(Done::Unkept(digest, reason)),
            // A blob may be put again, whatever came of it before.
            Err(error) => {
                let words = format!("a value cannot be kept ({digest}): {error}");
                return Err(Done::Committed(Err(StoreError::Retryable(words))));
            }
        }
    }
    Ok(())
}

/// A value that is kept apart. While it cannot be read, whoever looks at it waits; that it is not
/// there, or is no value, is an answer.
async fn fetch(
    from: &dyn Blobs,
    digest: &Digest,
    again: (&dyn Clock, Backoff),
) -> Result<Arc<Value>, String> {
    let content = trying_on("a value", || from.get(digest), again).await;
    let content = content.map_err(|error| error.to_string())?;
    let content = content.ok_or_else(|| format!("there is no blob {digest}"))?;
    let value = serde_json::from_slice(&content);
    value.map(Arc::new).map_err(|error| format!("blob {digest} is not JSON: {error}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "reads go on beside the loop, which is itself a task"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

async fn lead(store: &dyn Store) -> Result<Led, StoreError> {
    let epoch = store.lead().await?;
    let (pools, mut limited) = (store.pools().await?, store.load_limits().await?);
    let (runs, pauses) = (store.load_active().await?, store.pauses().await?);
    let drafts = runs.iter().filter(|active| active.run.version.is_draft());
    let drafts: BTreeSet<_> = drafts.map(|a| (a.run.project, a.run.workflow.as_str())).collect();
    for (project, name) in drafts {
        let deployed = store.workflow(project, name).await?.filter(|row| row.current.is_some());
        limited.extend(deployed);
    }
    let triggers = store.load_triggers().await?;
    Ok(Led { epoch, runs, pauses, pools, limited, triggers })
}

/// The waits before what failed is tried again: the shortest, which doubles, and the longest.
type Backoff = (Span, Span);

/// Reads until the store says what there is, or that it never will.
async fn trying_on<T, F: Future<Output = Result<T, StoreError>>>(
    what: &str,
    read: impl Fn() -> F,
    (clock, (mut wait, longest)): (&dyn Clock, Backoff),
) -> Result<T, StoreError> {
    let mut quiet = false;
    loop {
        match read().await {
            Err(error @ (StoreError::Retryable(_) | StoreError::Unknown(_))) => {
                if !std::mem::replace(&mut quiet, true) {
                    tracing::warn!(%error, what, "it cannot be read; trying on");
                }
                pause(jittered(wait, clock.now())).await;
                wait = Span(wait.0.saturating_mul(2).min(longest.0));
            }
            said => return said,
        }
    }
}

/// A run that another does again. While the store cannot say, that one waits.
async fn recall(
    store: &dyn Store,
    project: ProjectId,
    run: RunId,
    again: (&dyn Clock, Backoff),
) -> Option<Arc<ActiveRun>> {
    let found = trying_on("an earlier run", || store.load_run(project, run), again).await;
    found.ok().flatten().map(Arc::new)
}

/// A wait that is up to half as long again, so that those who failed together do not come back
/// together. The clock's finest digits serve as chance.
fn jittered(wait: Span, now: Now) -> Span {
    let share = now.wall.0.unsigned_abs() % 512;
    Span(wait.0 + wait.0 / 1_024 * i64::try_from(share).unwrap_or_default())
}

/// Whether the rows know the attempt of this token, as one that is over and was not lost.
async fn has_ended(
    store: &dyn Store,
    project: ProjectId,
    attempt: &AttemptRef,
) -> Result<bool, StoreError> {
    let mut page = Page { limit: MAX_PAGE, cursor: None };
    loop {
        let (run, path) = (attempt.run, &attempt.path);
        let part = store.attempts(project, run, path, &page).await?;
        let own = part.items.iter().find(|row| row.token == attempt.token);
        match (own, part.next) {
            (Some(row), _) => {
                let lost = row.state == AttemptState::Lost;
                return Ok(row.finished_at.is_some() && !lost);
            }
            (None, None) => return Ok(false),
            (None, next) => page.cursor = next,
        }
    }
}

/// These versions, each once.
async fn declared(
    store: &dyn Store,
    keys: BTreeSet<(ProjectId, &str, VersionId)>,
) -> Result<Vec<Arc<Declared>>, StoreError> {
    let mut found = Vec::new();
    for (project, workflow, version) in keys {
        if let Some(row) = store.version(project, workflow, version).await? {
            found.push(Arc::new(row.into()));
        }
    }
    Ok(found)
}

/// A row that nobody can read is as good as none: others do not wait for it.
fn readable<T>(found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Err(StoreError::Rejected(_) | StoreError::Malformed(_)) => Ok(None),
        other => other,
    }
}

/// The ends of runs that have to start others, with what those need.
async fn fired(store: &dyn Store, blobs: &dyn Blobs) -> Result<Vec<Fired>, StoreError> {
    let mut all = Vec::new();
    for firing in store.open_firings(firings::MOST).await? {
        let project = firing.project;
        let source = readable(store.run(project, firing.source).await)?;
        let output = match source.as_ref().and_then(|run| run.output.clone()) {
            None => Ok(Value::Null),
            Some(Data::Inline(value)) => Ok(value),
            Some(Data::Blob { digest, .. }) => match blobs.get(&digest).await? {
                Some(content) => serde_json::from_slice(&content).map_err(|e| e.to_string()),
                None => Err(format!("there is no blob {digest}, its output")),
            },
        };
        let row = store.trigger(project, &firing.workflow, &firing.trigger).await?;
        let version = match row.filter(|row| !row.removed) {
            Some(row) => readable(store.version(project, &row.workflow, row.version).await)?,
            None => None,
        };
        let version = version.map(|row| Arc::new(row.into()));
        all.push(Fired { firing, source, output, version });
    }
    Ok(all)
}

async fn look_up(store: &dyn Store, blobs: &dyn Blobs, read: &Read) -> Result<Found, StoreError> {
    Ok(match read {
        Read::Answer { project, key } => Found::Answer(store.answer(*project, key).await?),
        Read::Ended { project, attempt } => {
            Found::Ended(has_ended(store, *project, attempt).await?)
        }
        Read::Schedules { .. } => {
            let rows = store.load_schedules().await?;
            let backfills = store.load_backfills().await?;
            let keys = rows.iter().map(|row| (row.project, &*row.workflow, row.version));
            let more = backfills.iter().map(|row| (row.project, &*row.workflow, row.version));
            let versions = declared(store, keys.chain(more).collect()).await?;
            Found::Schedules(rows, backfills, versions)
        }
        Read::Firings { .. } => Found::Firings(fired(store, blobs).await?),
        Read::Run { project, run } => {
            Found::Run(store.load_run(*project, *run).await?.map(Box::new))
        }
        Read::Workflow { project, name, digest, draft } => {
            let same = match digest {
                Some(digest) => store.version_by_digest(*project, name, digest, *draft).await?,
                None => None,
            };
            let (highest, lowest) = store.version_numbers(*project, name).await?;
            Found::Workflow(Box::new(Known {
                workflow: store.workflow(*project, name).await?,
                same: same.map(|row| row.version),
                highest,
                lowest: VersionId(lowest.0.min(0)),
            }))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use ork_core::time::{Now, Wall};

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Now {
            Now { mono: Mono(0), wall: Wall(0) }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_now_is_read_again_and_a_no_is_believed() {
        let busy = || StoreError::Retryable("busy".into());
        let no = || StoreError::Rejected("it may not be read".into());
        for (fate, expected) in [(None, Ok(4)), (Some(no()), Err(no()))] {
            let tries = Cell::new(0);
            let read = || async {
                tries.set(tries.get() + 1);
                if tries.get() < 4 {
                    Err(busy())
                } else {
                    fate.clone().map_or(Ok(tries.get()), Err)
                }
            };
            let waits = (Span(1), Span(2));
            assert_eq!(trying_on("a value", read, (&Still, waits)).await, expected);
            assert_eq!(tries.get(), 4);
        }
    }
}
