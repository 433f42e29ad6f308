//! An engine with a deployed workflow and a worker.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use indexmap::IndexMap;
use ork_core::catalog::Deploy;
use ork_core::ids::{AttemptRef, ProjectId, RunId, WorkerId};
use ork_core::plan::{Action, Binding, Plan, Scope, Task};
use ork_core::rows::{Actor, CodeRef, LogSummary, VersionId};
use ork_core::run::{
    Assignment, Command, Compile, Finished, NewRun, Outcome, Report, RunState, StopReason,
};
use ork_core::time::{Span, Wall};
use ork_core::value::{Data, Digest, Value};
use ork_engine::{Clock, Compiling, Config, Effects, Engine, Key, Request, SystemClock};
use ork_store::{Blobs, Committed, Content, Listed, Memory, MemoryBlobs, Store as _, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::faulty::Faulty;

pub(crate) const WORKER: &str = "w1";

/// What left the engine.
#[derive(Debug)]
pub(crate) enum Seen {
    Dispatch(AttemptRef),
    Events(Vec<Committed>),
}

struct Outlet(mpsc::UnboundedSender<Seen>);

impl Effects for Outlet {
    fn dispatch(&self, _: &WorkerId, assignment: Box<Assignment>) {
        let _ = self.0.send(Seen::Dispatch(assignment.attempt));
    }

    fn stop(&self, _: &WorkerId, _: AttemptRef, _: StopReason, _: Span) {}

    fn compile(&self, ask: Compile) -> Compiling {
        // What is to become a DAG here is one already.
        let scope = serde_json::from_value((*ask.tasks).clone());
        Box::pin(async { scope.map(Arc::new).map_err(|error| error.to_string()) })
    }

    fn committed(&self, events: Vec<Committed>) {
        let _ = self.0.send(Seen::Events(events));
    }
}

/// Blobs in memory that refuse what they are told to.
#[derive(Default)]
pub(crate) struct Kept {
    blobs: MemoryBlobs,
    pub(crate) refused: Mutex<Option<Digest>>,
}

#[async_trait]
impl Blobs for Kept {
    async fn put(&self, content: Bytes) -> Result<Digest, StoreError> {
        if *self.refused.lock().unwrap() == Some(Digest::of(&content)) {
            return Err(StoreError::Rejected("it is not wanted".into()));
        }
        self.blobs.put(content).await
    }

    async fn put_stream(&self, content: Content, most: u64) -> Result<(Digest, u64), StoreError> {
        self.blobs.put_stream(content, most).await
    }

    async fn touch(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.blobs.touch(digest).await
    }

    async fn named(&self) -> Result<BTreeSet<Digest>, StoreError> {
        self.blobs.named().await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.blobs.get(digest).await
    }

    async fn get_range(
        &self,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        self.blobs.get_range(digest, range).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.blobs.size(digest).await
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        self.blobs.list(after, limit).await
    }

    async fn remove(&self, digest: &Digest, before: Wall) -> Result<bool, StoreError> {
        self.blobs.remove(digest, before).await
    }
}

pub(crate) struct Setup {
    pub(crate) store: Arc<Faulty>,
    pub(crate) blobs: Arc<Kept>,
    pub(crate) engine: Engine,
    pub(crate) task: JoinHandle<()>,
    /// Events that have left.
    pub(crate) streamed: Vec<Committed>,
    /// What left the engine beside those, in order.
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    /// The sizes of the commits that were asked for.
    pub(crate) begun: mpsc::UnboundedReceiver<usize>,
}

impl Setup {
    /// A new store with a workflow, and a worker with one slot.
    pub(crate) async fn new() -> Self {
        Self::with_workflow(Config::default()).await
    }

    pub(crate) async fn with_workflow(config: Config) -> Self {
        let setup = Self::with(Memory::new(), config).await;
        let deploy = Deploy {
            digest: Digest([1; 32]),
            source: String::new(),
            plan: plan(),
            code: code(),
            draft: false,
            by: Actor::default(),
        };
        setup.engine.submit(Request::deploy(ProjectId::DEFAULT, deploy)).await.unwrap();
        setup.join().await;
        setup
    }

    /// Another engine over a store that is there.
    pub(crate) async fn over(memory: Memory) -> Self {
        Self::with(memory, Config::default()).await
    }

    /// Another engine over a store that is there, by a clock.
    pub(crate) async fn at(memory: Memory, clock: Arc<dyn Clock>) -> Self {
        Self::by(memory, clock, Config::default()).await
    }

    pub(crate) async fn with(memory: Memory, config: Config) -> Self {
        Self::by(memory, Arc::new(SystemClock::new()), config).await
    }

    async fn by(memory: Memory, clock: Arc<dyn Clock>, config: Config) -> Self {
        let blobs = Arc::new(Kept::default());
        let (store, begun) = Faulty::new(memory);
        let (outlet, seen) = mpsc::unbounded_channel();
        let (engine, task) =
            Engine::start(store.clone(), blobs.clone(), Arc::new(Outlet(outlet)), clock, config)
                .await
                .unwrap();
        Self { store, blobs, engine, task, streamed: Vec::new(), seen, begun }
    }

    pub(crate) async fn join(&self) {
        let joined = Command::WorkerJoined {
            worker: WORKER.into(),
            slots: 1,
            queues: Vec::new(),
            confirms: true,
        };
        self.engine.submit(Request::worker(joined)).await.unwrap();
    }

    /// The next offer that leaves.
    pub(crate) async fn offer(&mut self) -> AttemptRef {
        loop {
            match self.seen.recv().await.unwrap() {
                Seen::Dispatch(attempt) => return attempt,
                Seen::Events(events) => self.streamed.extend(events),
            }
        }
    }

    /// All events that have left.
    pub(crate) fn events(&mut self) -> Vec<Committed> {
        while let Ok(seen) = self.seen.try_recv() {
            if let Seen::Events(events) = seen {
                self.streamed.extend(events);
            }
        }
        std::mem::take(&mut self.streamed)
    }

    pub(crate) async fn state(&self, run: RunId) -> Option<RunState> {
        self.store.memory.run(ProjectId::DEFAULT, run).await.unwrap().map(|row| row.state)
    }
}

pub(crate) fn run_id(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

pub(crate) fn create(number: u128) -> Request {
    Request::run(
        ProjectId::DEFAULT,
        Command::Create(Box::new(NewRun {
            project: ProjectId::DEFAULT,
            project_name: "default".into(),
            id: run_id(number),
            version: VersionId(1),
            plan: plan(),
            code: code(),
            params: Value::Object(serde_json::Map::new()),
            logical_time: "2026-11-24T00:00:00+00:00".into(),
            labels: IndexMap::new(),
            trigger: "manual".into(),
            url: String::new(),
            rerun_of: None,
            after: None,
            by: Actor::default(),
        })),
    )
}

pub(crate) fn key(name: &str, content: u8) -> Key {
    Key { key: name.into(), request: Digest([content; 32]) }
}

pub(crate) fn success(attempt: AttemptRef) -> Request {
    success_with(attempt, None)
}

pub(crate) fn success_with(attempt: AttemptRef, output: Option<Data>) -> Request {
    let outcome = Outcome::Success { output };
    let finished =
        Finished { outcome, logs: LogSummary::default(), artifacts: None, took: Span::ZERO };
    Request::worker(Command::Report {
        attempt,
        report: Report::Finished(Box::new(finished)),
        beats: 0,
    })
}

pub(crate) fn code() -> CodeRef {
    CodeRef::InPlace { root: "/".into(), digest: Digest::of(&[]) }
}

pub(crate) fn plan() -> Arc<Plan> {
    let action = Action::Execute { executor: "test".into(), spec: Binding::Const(Value::Null) };
    Arc::new(Plan::new("w", Scope { tasks: vec![Task::new("a", action)] }))
}
