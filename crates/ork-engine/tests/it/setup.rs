//! An engine with a deployed workflow and a worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use indexmap::IndexMap;
use ork_core::catalog::Deploy;
use ork_core::ids::{AttemptRef, ProjectId, RunId, WorkerId};
use ork_core::plan::{Action, Binding, Plan, Scope, Task};
use ork_core::rows::{Actor, CodeRef, LogSummary, VersionId};
use ork_core::run::{
    Assignment, Blob, Command, Compile, Finished, NewRun, Outcome, Report, RunState, StopReason,
};
use ork_core::time::Span;
use ork_core::value::{Digest, Value};
use ork_engine::{Blobs, Clock, Compiling, Config, Effects, Engine, Key, Request, SystemClock};
use ork_store::Memory;
use ork_store::{Committed, Store as _};
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

#[derive(Default)]
struct Kept(Mutex<HashMap<Digest, Bytes>>);

#[async_trait]
impl Blobs for Kept {
    async fn put(&self, blob: &Blob) -> Result<(), String> {
        self.0.lock().unwrap().insert(blob.digest, blob.content.clone().into());
        Ok(())
    }

    async fn get(&self, digest: &Digest) -> Result<Bytes, String> {
        self.0.lock().unwrap().get(digest).cloned().ok_or_else(|| "not there".into())
    }
}

pub(crate) struct Setup {
    pub(crate) store: Arc<Faulty>,
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
        let setup = Self::over(Memory::new()).await;
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
        Self::at(memory, Arc::new(SystemClock::new())).await
    }

    /// Another engine over a store that is there, by a clock.
    pub(crate) async fn at(memory: Memory, clock: Arc<dyn Clock>) -> Self {
        let (store, begun) = Faulty::new(memory);
        let (outlet, seen) = mpsc::unbounded_channel();
        let (engine, task) = Engine::start(
            store.clone(),
            Arc::new(Kept::default()),
            Arc::new(Outlet(outlet)),
            clock,
            Config::default(),
        )
        .await
        .unwrap();
        Self { store, engine, task, streamed: Vec::new(), seen, begun }
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
            by: Actor::default(),
        })),
    )
}

pub(crate) fn key(name: &str, content: u8) -> Key {
    Key { key: name.into(), request: Digest([content; 32]) }
}

pub(crate) fn success(attempt: AttemptRef) -> Request {
    let outcome = Outcome::Success { output: None };
    let finished = Finished { outcome, logs: LogSummary::default(), took: Span::ZERO };
    Request::worker(Command::Report {
        attempt,
        report: Report::Finished(Box::new(finished)),
        beats: 0,
    })
}

pub(crate) fn code() -> CodeRef {
    CodeRef::InPlace { root: "/".into() }
}

pub(crate) fn plan() -> Arc<Plan> {
    let action = Action::Execute { executor: "test".into(), spec: Binding::Const(Value::Null) };
    Arc::new(Plan::new("w", Scope { tasks: vec![Task::new("a", action)] }))
}
