//! The driver: a task that runs [`Core`] over a store and a clock.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ork_core::catalog::Known;
use ork_core::ids::{AttemptRef, InstancePath, ProjectId, RunId, WorkerId};
use ork_core::plan::Scope;
use ork_core::rows::{ActiveRun, ScheduleRow, VersionId};
use ork_core::run::{
    Assignment, AttemptState, Blob, Blocker, Command, Compile, Effect, Machine, StopReason,
};
use ork_core::schedule::Declared;
use ork_core::time::{Mono, Span};
use ork_core::value::{Digest, Value};
use ork_store::{Cached, Committed, MAX_PAGE, Page, Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::request::{Answer, Error, Found, Read, Request};
use crate::turn::{Config, Core, Led, Output, Step};

/// How many requests may wait for the loop; more of them wait at the door.
const QUEUE: usize = 10_000;

/// The wait before a run is asked for again that the store could not give.
const RECALL_AGAIN: Span = Span::from_millis(100);

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

/// Where values too large for rows are kept.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Keeps a blob; durable when this returns. Or one sentence that says why it cannot be kept.
    async fn put(&self, blob: &Blob) -> Result<(), String>;

    /// The content of a blob, or one sentence that says why it cannot be had.
    async fn get(&self, digest: &Digest) -> Result<Bytes, String>;
}

type Slot = Option<oneshot::Sender<Result<Answer, Error>>>;
type Question = Box<dyn FnOnce(Option<&Machine>) + Send>;

enum Message {
    Request(Box<Request>, Slot),
    Inspect(Question),
    Stop,
}

/// A handle of a running engine. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Engine {
    queue: mpsc::Sender<Message>,
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
        let mut core = Core::new(config);
        core.led(Ok(lead(&*store).await?), clock.now());
        let (queue, messages) = mpsc::channel(QUEUE);
        let (found_in, found) = mpsc::unbounded_channel();
        let driver =
            Driver { core, store, blobs, effects, clock, messages, found_in, found, open: true };
        Ok((Self { queue }, spawn(driver.run())))
    }

    /// Puts a request in the queue, waiting while that is full, and waits for its answer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn submit(&self, request: Request) -> Result<Answer, Error> {
        self.enqueue(request).await?.answer().await
    }

    /// Puts a request in the queue, waiting while that is full. Requests are applied in the order
    /// in which they were put there.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn enqueue(&self, request: Request) -> Result<Ticket, Error> {
        let (slot, answer) = oneshot::channel();
        self.send(Message::Request(Box::new(request), Some(slot))).await?;
        Ok(Ticket(answer))
    }

    /// Asks the machine something between two turns. Keep it short: the loop waits meanwhile.
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
        self.send(Message::Inspect(Box::new(ask))).await?;
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

    /// Ends the loop after what is in the queue; await the task to know that all is durable.
    pub async fn stop(&self) {
        let _ = self.send(Message::Stop).await;
    }

    async fn send(&self, message: Message) -> Result<(), Error> {
        self.queue.send(message).await.map_err(|_| Error::Stopped)
    }
}

struct Driver {
    core: Core<Slot>,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    effects: Arc<dyn Effects>,
    clock: Arc<dyn Clock>,
    messages: mpsc::Receiver<Message>,
    found_in: mpsc::UnboundedSender<Fed>,
    found: mpsc::UnboundedReceiver<Fed>,
    open: bool,
}

/// What was fetched off the loop.
enum Fed {
    Read(Read, Found),
    Told(Command),
}

impl Driver {
    async fn run(mut self) {
        loop {
            self.take_waiting();
            match self.core.step(self.clock.now()) {
                Step::Lead { after } => {
                    pause(after).await;
                    let led = lead(&*self.store).await;
                    if let Err(error) = &led {
                        tracing::warn!(%error, "cannot take the lead of the store");
                    }
                    self.core.led(led, self.clock.now());
                }
                Step::Commit { after, epoch, blobs, changes } => {
                    pause(after).await;
                    let result = match keep(&*self.blobs, blobs).await {
                        Ok(()) => self.store.commit(epoch, Arc::clone(changes)).await,
                        Err(reason) => Err(StoreError::Retryable(reason)),
                    };
                    if let Err(error) = &result {
                        tracing::warn!(%error, changes = changes.len(), "a commit failed");
                    }
                    self.core.committed(result);
                }
                Step::Wait { until } => {
                    self.perform();
                    if !self.open && self.core.backlog() == 0 {
                        break;
                    }
                    self.wait(until).await;
                }
            }
            self.perform();
        }
    }

    /// Takes all that waits, so that it goes with the next commit.
    fn take_waiting(&mut self) {
        while let Ok(fed) = self.found.try_recv() {
            self.feed(fed);
        }
        while self.open
            && let Ok(message) = self.messages.try_recv()
        {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Request(request, slot) => self.core.push(*request, slot),
            Message::Inspect(question) => question(self.core.machine()),
            Message::Stop => self.close(),
        }
    }

    fn close(&mut self) {
        self.open = false;
        self.core.close();
        self.messages.close();
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
        tokio::select! {
            biased;
            message = self.messages.recv(), if self.open => match message {
                Some(message) => self.take(message),
                None => self.close(),
            },
            Some(fed) = self.found.recv() => self.feed(fed),
            () = pause(left.unwrap_or_default()), if left.is_some() => {}
        }
    }

    /// Lets out what is durable.
    fn perform(&mut self) {
        for output in self.core.outputs() {
            match output {
                Output::Answer { slot, result } => {
                    if let Some(slot) = slot {
                        // Whoever asked may have gone.
                        let _ = slot.send(result);
                    }
                }
                Output::Effect(Effect::Dispatch { worker, assignment }) => {
                    self.effects.dispatch(&worker, assignment);
                }
                Output::Effect(Effect::Stop { worker, attempt, reason, grace }) => {
                    self.effects.stop(&worker, attempt, reason, grace);
                }
                Output::Effect(Effect::Fetch { digest }) => {
                    let (blobs, found) = (self.blobs.clone(), self.found_in.clone());
                    spawn(async move {
                        let value = fetch(&*blobs, &digest).await;
                        let _ = found.send(Fed::Told(Command::Fetched { digest, value }));
                    });
                }
                Output::Effect(Effect::Recall { project, run, earlier }) => {
                    let (store, found) = (self.store.clone(), self.found_in.clone());
                    spawn(async move {
                        let earlier = recall(&*store, project, earlier).await;
                        let _ = found.send(Fed::Told(Command::Recalled { run, earlier }));
                    });
                }
                Output::Effect(Effect::Lookup { project, workflow, task, key, run, path }) => {
                    let (store, found) = (self.store.clone(), self.found_in.clone());
                    spawn(async move {
                        let cached = store.cached(project, &workflow, &task, &key).await;
                        // What cannot be looked up is done.
                        let Cached { hit, last } = cached.unwrap_or_default();
                        let (hit, last) = (hit.map(Box::new), last.map(Box::new));
                        let _ = found.send(Fed::Told(Command::Found { run, path, hit, last }));
                    });
                }
                Output::Effect(Effect::Compile(ask)) => {
                    let (run, path, generation) = (ask.run, ask.path.clone(), ask.generation);
                    let (compiling, found) = (self.effects.compile(*ask), self.found_in.clone());
                    spawn(async move {
                        let result = compiling.await;
                        let answer = Command::Compiled { run, path, generation, result };
                        let _ = found.send(Fed::Told(answer));
                    });
                }
                Output::Events(events) => self.effects.committed(events),
                Output::Read(read) => {
                    let (store, found) = (self.store.clone(), self.found_in.clone());
                    spawn(async move {
                        let result = look_up(&*store, &read).await.unwrap_or_else(Found::Failed);
                        let _ = found.send(Fed::Read(read, result));
                    });
                }
            }
        }
    }
}

async fn pause(span: Span) {
    if span > Span::ZERO {
        tokio::time::sleep(span.to_std()).await;
    }
}

async fn keep(to: &dyn Blobs, blobs: &[Blob]) -> Result<(), String> {
    for blob in blobs {
        to.put(blob).await?;
    }
    Ok(())
}

async fn fetch(from: &dyn Blobs, digest: &Digest) -> Result<Arc<Value>, String> {
    let content = from.get(digest).await?;
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
    Ok(Led { epoch, runs: store.load_active().await?, pauses: store.pauses().await? })
}

/// A run that another does again. While the store cannot say, that one waits.
async fn recall(store: &dyn Store, project: ProjectId, run: RunId) -> Option<Arc<ActiveRun>> {
    loop {
        match store.load_run(project, run).await {
            Ok(found) => return found.map(Arc::new),
            Err(StoreError::Retryable(_)) => pause(RECALL_AGAIN).await,
            Err(_) => return None,
        }
    }
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

/// The versions that declare these schedules, each once.
async fn declared(
    store: &dyn Store,
    rows: &[ScheduleRow],
) -> Result<Vec<Arc<Declared>>, StoreError> {
    let mut found: Vec<Arc<Declared>> = Vec::new();
    for row in rows {
        let (project, workflow, version) = (row.project, &row.workflow, row.version);
        let known = found.last().is_some_and(|known| {
            (known.project, &known.workflow, known.version) == (project, workflow, version)
        });
        if !known && let Some(row) = store.version(project, workflow, version).await? {
            found.push(Arc::new(row.into()));
        }
    }
    Ok(found)
}

async fn look_up(store: &dyn Store, read: &Read) -> Result<Found, StoreError> {
    Ok(match read {
        Read::Answer { project, key } => Found::Answer(store.answer(*project, key).await?),
        Read::Ended { project, attempt } => {
            Found::Ended(has_ended(store, *project, attempt).await?)
        }
        Read::Schedules { .. } => {
            let rows = store.load_schedules().await?;
            let versions = declared(store, &rows).await?;
            Found::Schedules(rows, versions)
        }
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
