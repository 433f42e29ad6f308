//! Rows to store.

use std::sync::Arc;

use indexmap::IndexMap;
use ork_core::ids::{Epoch, InstancePath, ProjectId, RunId, Token, WorkerId};
use ork_core::plan::{Metadata, Plan, Scope};
use ork_core::rows::{
    Actor, AnswerRow, AttemptRow, CacheKey, CacheParts, CacheRow, Change, CodeRef, EventRow,
    Happened, HistoryRow, LogSummary, Pause, PauseRow, PoolRow, RunRow, TaskRow, VersionId,
    VersionRow, WorkflowRow,
};
use ork_core::run::{AttemptState, EventKind, Failure, FailureKind, RunState, TaskState};
use ork_core::time::Wall;
use ork_core::value::{Data, Digest, Value};
use serde_json::json;
use uuid::Uuid;

pub(crate) const PROJECT: ProjectId = ProjectId::DEFAULT;

pub(crate) fn run_id(n: u128) -> RunId {
    RunId(Uuid::from_u128(n))
}

pub(crate) fn actor() -> Actor {
    Actor { name: "ann".into(), reason: Some("try".into()), request_id: None, ..Actor::default() }
}

/// A pending run made `n` µs after the epoch.
pub(crate) fn run(n: u128) -> RunRow {
    RunRow {
        project: PROJECT,
        id: run_id(n),
        workflow: "etl".into(),
        version: VersionId(1),
        state: RunState::Pending,
        run_attempt: 1,
        params: json!({"day": "2026-11-24", "text": "nul \u{0} and \u{1f980}"}),
        logical_time: "2026-11-24T00:00:00Z".into(),
        labels: IndexMap::from([("team".to_owned(), "data".to_owned())]),
        trigger: "manual".into(),
        created_by: actor(),
        created_at: Wall(i64::try_from(n).unwrap()),
        started_at: None,
        finished_at: None,
        failure: None,
        output: None,
        rerun_of: None,
        after: None,
        paused: None,
        detail: Value::Null,
    }
}

/// The run in `state`, ended `at` if that is final.
pub(crate) fn in_state(mut row: RunRow, state: RunState, at: i64) -> RunRow {
    row.state = state;
    row.finished_at = state.is_terminal().then_some(Wall(at));
    row
}

pub(crate) fn task(run: u128, path: &str, ordinal: u32) -> TaskRow {
    TaskRow {
        project: PROJECT,
        run: run_id(run),
        path: path.into(),
        ordinal,
        generation: 1,
        state: TaskState::Queued,
        attempt: 0,
        cause: None,
        failure: None,
        inputs: Some(IndexMap::from([("n".to_owned(), Data::Inline(json!(1)))])),
        output: None,
        queued_at: Some(Wall(5)),
        started_at: None,
        finished_at: None,
        marked: false,
        cache: None,
        detail: json!({"not_before": 7}),
    }
}

pub(crate) fn ended(mut row: TaskRow, state: TaskState) -> TaskRow {
    row.state = state;
    row.finished_at = Some(Wall(9));
    row.cause = (state == TaskState::UpstreamFailed).then(|| InstancePath::from("up"));
    row
}

pub(crate) fn attempt(run: u128, path: &str, attempt: u32) -> AttemptRow {
    AttemptRow {
        project: PROJECT,
        run: run_id(run),
        path: path.into(),
        generation: 1,
        attempt,
        token: Token::new(Epoch(u32::MAX), attempt),
        worker: WorkerId::from("w-1"),
        state: AttemptState::Running,
        offered_at: Wall(1),
        started_at: Some(Wall(2)),
        finished_at: None,
        failure: None,
        artifacts: None,
        logs: LogSummary::default(),
    }
}

pub(crate) fn failed(mut row: AttemptRow) -> AttemptRow {
    row.state = AttemptState::Failed;
    row.finished_at = Some(Wall(3));
    row.failure = Some(Failure::new(FailureKind::Failure, "exit code 3"));
    row.logs =
        LogSummary { lines: 3, dropped_lines: 1, bytes: 60, dropped_bytes: 7, incomplete: true };
    row
}

pub(crate) fn event(run: u128, seq: u64) -> EventRow {
    EventRow {
        project: PROJECT,
        run: run_id(run),
        seq,
        at: Wall(11),
        path: Some("extract".into()),
        generation: Some(1),
        attempt: Some(1),
        actor: actor(),
        schema_version: 1,
        kind: EventKind::TaskStarted { token: Token::new(Epoch(1), 9) },
    }
}

pub(crate) fn workflow(name: &str) -> WorkflowRow {
    WorkflowRow {
        project: PROJECT,
        name: name.into(),
        current: Some(VersionId(1)),
        metadata: Metadata { description: Some("d".into()), ..Metadata::default() },
        declared: None,
        deleted_at: None,
        limits: None,
        created_at: Wall(1),
        updated_at: Wall(2),
    }
}

/// What was done to a workflow, as it is before it has its number.
pub(crate) fn happened(workflow: &str, what: Happened, at: i64) -> HistoryRow {
    HistoryRow {
        project: PROJECT,
        workflow: workflow.into(),
        number: 0,
        at: Wall(at),
        by: actor(),
        what,
        version: None,
        changes: Vec::new(),
    }
}

pub(crate) fn version(workflow: &str, number: i64) -> VersionRow {
    VersionRow {
        project: PROJECT,
        workflow: workflow.into(),
        version: VersionId(number),
        digest: Digest::of(format!("{workflow} {number}").as_bytes()),
        source: "name: etl\n".into(),
        plan: Arc::new(plan(workflow)),
        code: CodeRef::InPlace { root: "/code".into(), digest: Digest::of(&[]) },
        created_by: actor(),
        created_at: Wall(number.abs()),
    }
}

fn plan(name: &str) -> Plan {
    Plan::new(name, Scope::default())
}

/// What is said of the pauses of a workflow, or of the project.
pub(crate) fn pause(workflow: Option<&str>, on: bool, at: i64) -> PauseRow {
    PauseRow {
        project: PROJECT,
        workflow: workflow.map(str::to_owned),
        pause: on.then(|| Pause { by: actor(), at: Wall(at) }),
        by: actor(),
        at: Wall(at),
    }
}

pub(crate) fn pool(name: &str, slots: Option<u32>) -> PoolRow {
    PoolRow { project: PROJECT, name: name.to_owned(), slots, by: actor(), at: Wall(1) }
}

pub(crate) fn cache_key(n: u8) -> CacheKey {
    CacheKey { task: Digest::of(b"task"), inputs: Digest::of(&[n]), key: Digest::of(b"key") }
}

/// A success of a task named `load`, which can be reused for the key of this number.
pub(crate) fn success(n: u8, run: u128, at: i64, expires_at: Option<i64>) -> CacheRow {
    CacheRow {
        project: PROJECT,
        workflow: "etl".into(),
        task: "load".into(),
        key: cache_key(n),
        run: run_id(run),
        path: "load[1]".into(),
        output: Some(Data::Inline(json!({"n": n}))),
        at: Wall(at),
        expires_at: expires_at.map(Wall),
        parts: CacheParts::default(),
    }
}

pub(crate) fn answer(key: &str, run: Option<u128>) -> AnswerRow {
    AnswerRow {
        project: PROJECT,
        key: key.into(),
        request: Digest::of(b"request"),
        run: run.map(run_id),
        answer: json!({"id": 1}),
        expires_at: run.is_none().then_some(Wall(100)),
    }
}

/// A row as a change.
pub(crate) trait IntoChange {
    fn change(self) -> Change;
}

macro_rules! into_change {
    ($($row:ty => $variant:ident),*) => {
        $(impl IntoChange for $row {
            fn change(self) -> Change {
                Change::$variant(self.into())
            }
        })*
    };
}

into_change!(RunRow => Run, TaskRow => Task, AttemptRow => Attempt, EventRow => Event,
    WorkflowRow => Workflow, VersionRow => Version, AnswerRow => Answer, PauseRow => Pause,
    PoolRow => Pool, CacheRow => Cache, HistoryRow => History);
