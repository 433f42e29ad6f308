//! The door between the engine and its workers: offers and stops go out, reports, lines and blobs
//! come in.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ork_api::worker::{Content, FromWorker, Link, LinkError, Prepare, ToWorker};
use ork_core::ids::{AttemptRef, ProjectId, Token, WorkerId};
use ork_core::logs::LogBatch;
use ork_core::plan::{Action, Binding, Plan};
use ork_core::rows::{LogSummary, VersionId};
use ork_core::run::{
    Assignment, Command, Compile, EVERY_QUEUE, EventKind, Machine, RefusalCode, Report, StopReason,
};
use ork_core::time::Span;
use ork_core::value::{Digest, Value};
use ork_engine::{Answer, Compiling, Effects, Engine, Request, failpoint};
use ork_store::{Blobs as _, Committed, LogKey, Store, StoreError};
use tokio::sync::{mpsc, watch};

use crate::attempt_logs::AttemptLogs;
use crate::feed::Feed;
use crate::plans::{Loaded, Plans};
use crate::start::stopped;

/// How many kinds of attempt workers are told to get ready for, of one version.
const PREPARED: usize = 16;

/// How often workers are told at most that a version will run.
const ANNOUNCED: Duration = Duration::from_secs(5);

/// The waits before a log is closed again that could not be.
const CLOSE_AGAIN: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
];

/// The engine's effects on one side, the workers' links on the other.
pub(crate) struct Hub {
    state: Mutex<State>,
    served: OnceLock<Served>,
    feed: Arc<Feed>,
    pub(crate) logs: Arc<AttemptLogs>,
    stopping: watch::Receiver<bool>,
}

/// Whom the hub serves, and what it knows of what is about to run.
pub(crate) struct Served {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) project: Arc<str>,
}

/// A version of a workflow.
type Versioned = (ProjectId, Arc<str>, VersionId);

/// A worker that has said hello.
struct Employed {
    out: mpsc::UnboundedSender<ToWorker>,
    queues: Vec<String>,
}

#[derive(Default)]
struct State {
    workers: HashMap<WorkerId, Employed>,
    /// The attempts under way, by the token of their offer.
    attempts: HashMap<Token, Arc<LogKey>>,
    /// How many tokens each of those attempts has: one, or two while an offer is made again.
    under_way: HashMap<Arc<LogKey>, usize>,
}

impl State {
    fn begin(&mut self, token: Token, key: Arc<LogKey>) {
        if self.attempts.insert(token, key.clone()).is_none() {
            *self.under_way.entry(key).or_default() += 1;
        }
    }

    fn end(&mut self, token: Token) -> Option<Arc<LogKey>> {
        let key = self.attempts.remove(&token)?;
        if let Some(tokens) = self.under_way.get_mut(&key) {
            *tokens -= 1;
            if *tokens == 0 {
                self.under_way.remove(&key);
            }
        }
        Some(key)
    }
}

impl Hub {
    pub(crate) fn new(
        feed: Arc<Feed>,
        logs: Arc<AttemptLogs>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { state: Mutex::default(), served: OnceLock::new(), feed, logs, stopping }
    }

    /// Tells the hub its engine, once.
    pub(crate) fn serve(&self, served: Served) {
        // A second engine is never told.
        let _ = self.served.set(served);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> Result<&Engine, LinkError> {
        self.served.get().map(|served| &served.engine).ok_or(LinkError::Closed)
    }

    /// A way to this hub for a worker in the same process. It loses nothing, and what waits in it
    /// is bounded by the worker's slots: an offer for each, and few stops.
    pub(crate) fn link(self: &Arc<Self>) -> WorkerLink {
        let (out, inbox) = mpsc::unbounded_channel();
        WorkerLink { hub: self.clone(), out, inbox: tokio::sync::Mutex::new(inbox) }
    }

    /// Whether a worker serves the queue; none while there is no worker at all.
    pub(crate) fn serves(&self, queue: &str) -> Option<bool> {
        let state = self.state();
        let mut served = state.workers.values().flat_map(|it| &it.queues).peekable();
        served.peek()?;
        Some(served.any(|name| name == queue || name == EVERY_QUEUE))
    }

    fn tell(&self, worker: &WorkerId, word: ToWorker) {
        let out = self.state().workers.get(worker).map(|employed| employed.out.clone());
        match out {
            Some(out) => {
                if out.send(word).is_err() {
                    tracing::warn!(%worker, "the worker is gone");
                }
            }
            None => tracing::warn!(%worker, "there is no such worker here"),
        }
    }

    /// Tells the workers that attempts of this version will come, once in a while.
    pub(crate) fn prepare(&self, project: &Arc<str>, loaded: &Loaded) {
        if !loaded.announce(ANNOUNCED) {
            return;
        }
        let outs: Vec<_> = self.state().workers.values().map(|it| it.out.clone()).collect();
        for (executor, spec) in fixed_specs(&loaded.plan) {
            let (project, executor) = (project.clone(), executor.into());
            let prepare = Box::new(Prepare { project, executor, spec, code: loaded.code.clone() });
            for out in &outs {
                // A worker that is gone does not miss it.
                let _ = out.send(ToWorker::Prepare(prepare.clone()));
            }
        }
    }

    /// Tells the workers of the runs that have just been admitted.
    fn announce(self: &Arc<Self>, events: &[Committed]) {
        let Some(served) = self.served.get() else { return };
        let (mut known, mut unknown) = (BTreeSet::new(), Vec::new());
        let mut made = HashMap::new();
        for event in events {
            match &event.event.kind {
                EventKind::RunCreated { workflow, version, .. } => {
                    made.insert(event.event.run, (event.event.project, workflow, *version));
                }
                EventKind::RunStarted { .. } => match made.get(&event.event.run) {
                    // Whoever makes a draft's run has told the workers.
                    Some((.., version)) if version.0 < 0 => {}
                    Some((project, workflow, version)) => {
                        known.insert((*project, Arc::from(workflow.as_str()), *version));
                    }
                    None => unknown.push(event.event.run),
                },
                _ => {}
            }
        }
        known.retain(|(project, workflow, version)| {
            let at_hand = served.plans.at_hand(*project, workflow, *version);
            at_hand.as_ref().inspect(|loaded| self.prepare(&served.project, loaded)).is_none()
        });
        if known.is_empty() && unknown.is_empty() {
            return;
        }
        let hub = self.clone();
        tokio::spawn(async move {
            let versions = move |machine: &Machine| {
                unknown.into_iter().filter_map(|run| machine.version_of(run)).collect::<Vec<_>>()
            };
            if let Some(served) = hub.served.get() {
                // An engine that is not there any more starts nothing.
                known.extend(served.engine.inspect(versions).await.unwrap_or_default());
            }
            hub.prepare_all(known).await;
        });
    }

    /// Tells the workers that attempts of these versions will come.
    async fn prepare_all(&self, versions: BTreeSet<Versioned>) {
        let Some(served) = self.served.get() else { return };
        for (project, workflow, version) in versions {
            match served.plans.get(&*served.store, project, &workflow, Some(version)).await {
                Ok(loaded) => self.prepare(&served.project, &loaded),
                Err(refused) => tracing::debug!(?refused, "nothing is prepared"),
            }
        }
    }

    /// Tells a new worker's kind of what is under way already.
    fn resume(self: &Arc<Self>) {
        let hub = self.clone();
        tokio::spawn(async move {
            let Some(served) = hub.served.get() else { return };
            if let Ok(versions) = served.engine.inspect(Machine::versions).await {
                hub.prepare_all(versions).await;
            }
        });
    }

    fn attempt(&self, token: Token) -> Option<Arc<LogKey>> {
        self.state().attempts.get(&token).cloned()
    }

    /// Whether the attempt is under way, so that its log may still grow.
    pub(crate) fn is_under_way(&self, attempt: &LogKey) -> bool {
        self.state().under_way.contains_key(attempt)
    }

    /// Ends an attempt's log; what was written is durable when this returns. A disk that cannot
    /// now is tried a few times.
    ///
    /// # Errors
    /// When the log cannot be ended: lines that were taken may be lost with the machine.
    async fn close_log(&self, attempt: &Arc<LogKey>) -> Result<Option<LogSummary>, StoreError> {
        let mut pauses = CLOSE_AGAIN.iter();
        let closed = loop {
            match (self.logs.close(attempt).await, pauses.next()) {
                (Err(StoreError::Retryable(why)), Some(pause)) => {
                    tracing::info!(why, ?attempt, "a log is closed again");
                    tokio::time::sleep(*pause).await;
                }
                (closed, _) => break closed,
            }
        };
        self.feed.grown(attempt.clone());
        closed.inspect_err(|error| {
            tracing::error!(%error, ?attempt, "a log could not be closed");
        })
    }

    async fn report(
        self: &Arc<Self>,
        out: &mpsc::UnboundedSender<ToWorker>,
        attempt: AttemptRef,
        (mut report, beats): (Report, u64),
    ) -> Result<(), LinkError> {
        let finished = matches!(report, Report::Finished(_));
        if let Report::Finished(finished) = &mut report
            && let Some(key) = self.attempt(attempt.token)
        {
            match self.close_log(&key).await {
                Ok(Some(kept)) => finished.logs = summed(kept, finished.logs),
                Ok(None) => {}
                Err(_) => finished.logs.incomplete = true,
            }
        }
        if finished {
            failpoint::hit("finish.before");
        }
        let command = Command::Report { attempt: attempt.clone(), report, beats };
        let ticket = self.engine()?.enqueue(Request::worker(command)).await;
        let ticket = ticket.map_err(|_| LinkError::Closed)?;
        if finished {
            failpoint::hit("finish.after");
        }
        let (hub, out) = (self.clone(), out.clone());
        tokio::spawn(async move {
            if let Err(ork_engine::Error::Refused(refusal)) = ticket.answer().await {
                tracing::info!(token = %attempt.token, %refusal, "a report was refused");
                if refusal.code == RefusalCode::StaleLease && !finished {
                    hub.forget(attempt.token).await;
                    let _ = out.send(ToWorker::Fence { attempt });
                }
            }
        });
        Ok(())
    }

    async fn forget(&self, token: Token) {
        let key = self.state().end(token);
        if let Some(key) = key {
            // The log says why; nobody waits for it here.
            let _ = self.close_log(&key).await;
        }
    }

    async fn command(&self, command: Command) -> Result<(), LinkError> {
        Self::taken(self.engine()?.submit(Request::worker(command)).await)
    }

    fn taken(answer: Result<Answer, ork_engine::Error>) -> Result<(), LinkError> {
        match answer {
            Ok(_) => Ok(()),
            Err(ork_engine::Error::Stopped) => Err(LinkError::Closed),
            Err(error) => Err(LinkError::Refused(error.to_string())),
        }
    }
}

/// Where the engine's effects leave.
pub(crate) struct Outlet(pub(crate) Arc<Hub>);

impl Effects for Outlet {
    fn dispatch(&self, worker: &WorkerId, assignment: Box<Assignment>) {
        let key = LogKey {
            project: ProjectId::DEFAULT,
            run: assignment.attempt.run,
            path: assignment.attempt.path.clone(),
            generation: assignment.generation,
            attempt: assignment.number,
        };
        self.0.state().begin(assignment.attempt.token, Arc::new(key));
        self.0.tell(worker, ToWorker::Assign(assignment));
    }

    fn stop(&self, worker: &WorkerId, attempt: AttemptRef, reason: StopReason, grace: Span) {
        self.0.tell(worker, ToWorker::Stop { attempt, reason, grace });
    }

    fn compile(&self, ask: Compile) -> Compiling {
        let logs = self.0.logs.clone();
        Box::pin(async move { crate::generated::compile(&logs, ask).await })
    }

    fn committed(&self, events: Vec<Committed>) {
        self.0.announce(&events);
        let over: Vec<_> = events.iter().filter_map(|event| over(&event.event.kind)).collect();
        self.0.feed.push(events);
        let mut lost = Vec::new();
        {
            let mut state = self.0.state();
            lost.extend(over.into_iter().filter_map(|token| state.end(token)));
        }
        for key in lost {
            self.0.feed.grown(key.clone());
            if self.0.logs.is_open(&key) {
                let hub = self.0.clone();
                tokio::spawn(async move { drop(hub.close_log(&key).await) });
            }
        }
    }
}

/// The executors of a plan with what is fixed of their blocks, each once.
fn fixed_specs(plan: &Plan) -> Vec<(&str, Value)> {
    let mut specs = Vec::new();
    for task in plan.all_tasks() {
        let Action::Execute { executor, spec } = &task.action else { continue };
        let spec = (executor.as_str(), fixed(spec).unwrap_or_default());
        if !specs.contains(&spec) {
            specs.push(spec);
        }
        if specs.len() >= PREPARED {
            break;
        }
    }
    specs
}

/// What of a binding does not depend on a run.
fn fixed(binding: &Binding) -> Option<Value> {
    match binding {
        Binding::Const(value) => Some(value.clone()),
        Binding::List(items) => items.iter().map(fixed).collect::<Option<_>>().map(Value::Array),
        Binding::Map(fields) => {
            let fields =
                fields.iter().filter_map(|(name, value)| Some((name.clone(), fixed(value)?)));
            Some(Value::Object(fields.collect()))
        }
        Binding::Expr(_) | Binding::Text(_) | Binding::Args(_) => None,
    }
}

/// What a log holds and what it dropped, and what the worker read and could not hand over.
fn summed(kept: LogSummary, read: LogSummary) -> LogSummary {
    let total = read.lines + read.dropped_lines;
    let missing = total.saturating_sub(kept.lines + kept.dropped_lines);
    if missing == 0 {
        return kept;
    }
    LogSummary {
        lines: kept.lines,
        dropped_lines: kept.dropped_lines + missing,
        bytes: kept.bytes.max(read.bytes),
        dropped_bytes: kept.dropped_bytes + read.bytes.saturating_sub(kept.bytes),
        incomplete: kept.incomplete,
    }
}

/// The token that the event voids.
fn over(kind: &EventKind) -> Option<Token> {
    match kind {
        EventKind::TaskUnclaimed { token } | EventKind::TaskRetrying { token, .. } => Some(*token),
        EventKind::TaskFinished { token, .. }
        | EventKind::TaskDeferred { token, .. }
        | EventKind::TaskReset { token } => *token,
        _ => None,
    }
}

/// A way to the server for a worker in the same process. It needs no heartbeats: the worker lives
/// as long as the server does.
pub struct WorkerLink {
    hub: Arc<Hub>,
    out: mpsc::UnboundedSender<ToWorker>,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<ToWorker>>,
}

impl WorkerLink {
    /// A way for a worker that follows this one's: nothing that waits here is in it.
    #[must_use]
    pub fn another(&self) -> Self {
        self.hub.link()
    }
}

impl std::fmt::Debug for WorkerLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerLink").finish_non_exhaustive()
    }
}

#[async_trait]
impl Link for WorkerLink {
    async fn recv(&self) -> Option<ToWorker> {
        let mut stopping = self.hub.stopping.clone();
        let mut inbox = self.inbox.lock().await;
        tokio::select! {
            biased;
            word = inbox.recv() => word,
            () = stopped(&mut stopping) => None,
        }
    }

    fn wants_beats(&self) -> bool {
        false
    }

    async fn send(&self, message: FromWorker) -> Result<(), LinkError> {
        match message {
            FromWorker::Hello { worker, slots, queues } => {
                let employed = Employed { out: self.out.clone(), queues: queues.clone() };
                self.hub.state().workers.insert(worker.clone(), employed);
                let joined = Command::WorkerJoined { worker, slots, queues, confirms: false };
                let ticket = self.hub.engine()?.enqueue(Request::worker(joined)).await;
                Hub::taken(ticket.map_err(|_| LinkError::Closed)?.answer().await)?;
                self.hub.resume();
                Ok(())
            }
            FromWorker::Report { attempt, report, beats } => {
                self.hub.report(&self.out, attempt, (report, beats)).await
            }
            // Neither can lose the other, and what is said between them.
            FromWorker::Beat { .. } => Ok(()),
            FromWorker::Goodbye { worker, departure } => {
                let gone = Command::WorkerGone { worker: worker.clone(), departure };
                self.hub.command(gone).await?;
                self.hub.state().workers.remove(&worker);
                Ok(())
            }
        }
    }

    async fn logs(&self, attempt: &AttemptRef, batch: LogBatch) -> Result<(), LinkError> {
        let stale = || LinkError::Refused(format!("token {} is void", attempt.token));
        let key = self.hub.attempt(attempt.token).ok_or_else(stale)?;
        self.hub.logs.append(&key, batch).await.map_err(|error| link_error(&error))?;
        self.hub.feed.grown(key);
        Ok(())
    }

    async fn get_blob(&self, digest: &Digest) -> Result<Bytes, LinkError> {
        match self.hub.logs.blobs().get(digest).await {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err(LinkError::Refused(format!("there is no blob {digest}"))),
            Err(error) => Err(link_error(&error)),
        }
    }

    async fn put_blob(&self, content: Bytes) -> Result<Digest, LinkError> {
        let put = self.hub.logs.blobs().put(content).await;
        put.map_err(|error| link_error(&error))
    }

    async fn get_part(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, LinkError> {
        match self.hub.logs.blobs().get_range(digest, range).await {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err(LinkError::Refused(format!("there is no blob {digest}"))),
            Err(error) => Err(link_error(&error)),
        }
    }

    async fn put_stream(&self, content: Content) -> Result<(Digest, u64), LinkError> {
        // The worker keeps to its own limit.
        let put = self.hub.logs.blobs().put_stream(content, u64::MAX).await;
        put.map_err(|error| link_error(&error))
    }
}

fn link_error(error: &StoreError) -> LinkError {
    match error {
        // What a worker asks for may be done twice.
        StoreError::Retryable(_) | StoreError::Unknown(_) => {
            LinkError::Retryable(error.to_string())
        }
        StoreError::Rejected(_) | StoreError::Malformed(_) | StoreError::Fenced { .. } => {
            LinkError::Refused(error.to_string())
        }
    }
}
