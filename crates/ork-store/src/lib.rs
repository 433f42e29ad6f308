//! Where Ork keeps its state: one contract, its members, one conformance suite that all pass.
//!
//! A store keeps what it is given and gives it back; it knows no rule about states.

mod blobs;
mod check;
mod damage;
mod dir;
mod logs;
mod memory;
mod page;
mod refs;
mod retention;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use ork_core::ids::{BackfillId, Epoch, InstancePath, ProjectId, RunId};
use ork_core::rows::{
    ActiveRun, AnswerRow, AttemptRow, BackfillRow, CacheKey, CacheRow, Change, EventRow, FiringRow,
    HistoryRow, PauseRow, PoolRow, RunRow, ScheduleRow, TaskRow, TickRow, TriggerRow, VersionId,
    VersionRow, WorkflowRow,
};
use ork_core::run::{RunState, TaskState};
use ork_core::time::{Span, Wall};
use ork_core::value::Digest;
use serde::{Deserialize, Serialize};

pub use blobs::{Blobs, Content, FileBlobs, Listed, MemoryBlobs};
pub use dir::{DataDir, DirError};
pub use logs::{
    FileLogs, FoundLine, Gap, Limits, LogKey, LogPart, LogQuery, MAX_BATCH, MAX_LINES, MAX_PART,
    MAX_SCAN, Place,
};
pub use memory::Memory;
pub use refs::each_blob;
pub use retention::{Swept, prune, sweep_blobs, sweep_logs};
pub use sqlite::Sqlite;

/// Counts commits of a store from 1, without gaps.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CommitSeq(pub u64);

/// The most changes that one commit takes. Callers aim at far fewer; but what one run changes in
/// one step is one commit, so that no crash leaves half of it, and a run may have 10,000 tasks.
pub const MAX_CHANGES: usize = 65_536;

/// The most items that one call returns.
pub const MAX_PAGE: usize = 1_000;

/// The most bytes of a version's source, and of its plan's JSON. All other payloads in rows (an
/// inline value, params, an answer, a failure's words) end at
/// [`INLINE_LIMIT`](ork_core::value::INLINE_LIMIT).
pub const MAX_VERSION: usize = 64 << 20;

/// A draft that no run refers to is kept this long, so that one whose run is about to be made is
/// not pruned.
pub const DRAFT_GRACE: Span = Span::from_secs(3_600);

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was done; the same call may work later.
    #[error("the store is busy: {0}")]
    Retryable(String),
    /// It may or may not have been done. The caller drops what it holds and loads again.
    #[error("the store did not say whether it committed: {0}")]
    Unknown(String),
    /// Nothing was done, and the same call never will be: a constraint, a size, a newer schema.
    #[error("the store refused: {0}")]
    Rejected(String),
    /// The question is none: a cursor that this list did not give, a limit that is not possible.
    #[error("{0}")]
    Malformed(String),
    /// Nothing was done: another epoch leads.
    #[error("epoch {ours:?} does not lead any more")]
    Fenced {
        /// The epoch that was given.
        ours: Epoch,
    },
}

/// The result of a store's call.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many items at most: 1 to [`MAX_PAGE`], else [`StoreError::Malformed`].
    pub limit: usize,
    /// Where the part before ended, as that part's `next` said; opaque to callers.
    pub cursor: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next part begins; none when this was the last.
    pub next: Option<String>,
}

/// Which runs are listed, and how; newest first unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of one of these workflows; none: of any. Each costs a walk of its own.
    pub workflows: Option<Vec<String>>,
    /// In one of these states; empty: all.
    pub states: Vec<RunState>,
    /// With this trigger.
    pub trigger: Option<String>,
    /// With all these labels.
    pub labels: Vec<(String, String)>,
    /// Made at or after.
    pub created_after: Option<Wall>,
    /// Made before.
    pub created_before: Option<Wall>,
    /// Oldest first.
    pub oldest_first: bool,
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Terminal runs that ended before this.
    pub finished_before: Option<Wall>,
    /// Of each workflow only this many terminal runs, the newest.
    pub keep_per_workflow: Option<u64>,
    /// At most this many runs in one call.
    pub batch: usize,
    /// The time, for answers that have expired.
    pub now: Wall,
}

/// An event with the commit that made it durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The commit.
    pub commit: CommitSeq,
    /// Its place among the commit's events, from 0.
    pub position: u32,
    /// The event.
    pub event: Arc<EventRow>,
}

/// What there is to be reused of a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cached {
    /// The success with the key.
    pub hit: Option<CacheRow>,
    /// The last success.
    pub last: Option<CacheRow>,
}

/// Keeps rows. Every list is in keyset order: page 1,000 costs what page 1 costs.
///
/// Writes go through one leader, which holds an [`Epoch`]. Reads may be answered by anyone at any
/// time and see whole commits only.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Takes the lead: makes a new epoch durable and returns it. From then on commits of earlier
    /// epochs are [`StoreError::Fenced`]. After a crash an epoch may be skipped, never given twice.
    async fn lead(&self) -> Result<Epoch>;

    /// Everything that is not terminal, for the run machine. Runs by id, instances by ordinal. What
    /// cannot be read of a run is that run's [`ActiveRun::damage`], and the others are whole.
    async fn load_active(&self) -> Result<Vec<ActiveRun>>;

    /// One active or terminal run, in the same form.
    async fn load_run(&self, project: ProjectId, run: RunId) -> Result<Option<ActiveRun>>;

    /// Makes the changes durable, in order, all or none. After a crash all of them are there or
    /// none is; once this has returned `Ok` all are.
    ///
    /// A run keeps the workflow, trigger, labels and time of creation that it was inserted with.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] for more than [`MAX_CHANGES`], and where a row has a payload over
    /// 64 KiB or contradicts itself or what is stored: a final state without the time of the end
    /// (or the reverse), a number below the first, an event's `seq` that is there, a run that is
    /// there as another, a version's content that is there under another number, a tick that has its
    /// answer.
    async fn commit(&self, epoch: Epoch, changes: Arc<[Change]>) -> Result<CommitSeq>;

    /// The last commit.
    async fn last_commit(&self) -> Result<CommitSeq>;

    /// A run.
    async fn run(&self, project: ProjectId, run: RunId) -> Result<Option<RunRow>>;

    /// Runs in the filter's order.
    async fn runs(
        &self,
        project: ProjectId,
        filter: &RunFilter,
        page: &Page,
    ) -> Result<Items<RunRow>>;

    /// An instance.
    async fn task(
        &self,
        project: ProjectId,
        run: RunId,
        path: &InstancePath,
    ) -> Result<Option<TaskRow>>;

    /// A run's instances by ordinal; in one of these states, or all when there is none.
    async fn tasks(
        &self,
        project: ProjectId,
        run: RunId,
        states: &[TaskState],
        page: &Page,
    ) -> Result<Items<TaskRow>>;

    /// An instance's attempts, oldest first.
    async fn attempts(
        &self,
        project: ProjectId,
        run: RunId,
        path: &InstancePath,
        page: &Page,
    ) -> Result<Items<AttemptRow>>;

    /// A run's events after `seq`, at most `limit` (1 to [`MAX_PAGE`]).
    async fn events(
        &self,
        project: ProjectId,
        run: RunId,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<Committed>>;

    /// All events after a place in the order of commits, at most `limit` (1 to [`MAX_PAGE`]). The
    /// places of pruned runs are missing.
    async fn feed(&self, after: (CommitSeq, u32), limit: usize) -> Result<Vec<Committed>>;

    /// A workflow.
    async fn workflow(&self, project: ProjectId, name: &str) -> Result<Option<WorkflowRow>>;

    /// Workflows by name, without those that are deleted.
    async fn workflows(&self, project: ProjectId, page: &Page) -> Result<Items<WorkflowRow>>;

    /// What was done to a workflow, the latest first.
    async fn history(
        &self,
        project: ProjectId,
        workflow: &str,
        page: &Page,
    ) -> Result<Items<HistoryRow>>;

    /// A version.
    async fn version(
        &self,
        project: ProjectId,
        workflow: &str,
        version: VersionId,
    ) -> Result<Option<VersionRow>>;

    /// A workflow's versions without its drafts, newest first.
    async fn versions(
        &self,
        project: ProjectId,
        workflow: &str,
        page: &Page,
    ) -> Result<Items<VersionRow>>;

    /// The version with this content, among drafts or among the others.
    async fn version_by_digest(
        &self,
        project: ProjectId,
        workflow: &str,
        digest: &Digest,
        draft: bool,
    ) -> Result<Option<VersionRow>>;

    /// The highest version number, and the lowest draft number (0 where there is none).
    async fn version_numbers(
        &self,
        project: ProjectId,
        workflow: &str,
    ) -> Result<(VersionId, VersionId)>;

    /// The answer that is kept for an idempotency key.
    async fn answer(&self, project: ProjectId, key: &str) -> Result<Option<AnswerRow>>;

    /// All schedules of all projects, removed ones too, for the engine.
    async fn load_schedules(&self) -> Result<Vec<ScheduleRow>>;

    /// The declared pools of all projects, by project and name.
    async fn pools(&self) -> Result<Vec<PoolRow>>;

    /// The workflows of all projects whose runs are limited, for the engine.
    async fn load_limits(&self) -> Result<Vec<WorkflowRow>>;

    /// A schedule.
    async fn schedule(
        &self,
        project: ProjectId,
        workflow: &str,
        name: &str,
    ) -> Result<Option<ScheduleRow>>;

    /// Schedules by workflow and name, of one workflow or of all; without those that are removed.
    async fn schedules(
        &self,
        project: ProjectId,
        workflow: Option<&str>,
        page: &Page,
    ) -> Result<Items<ScheduleRow>>;

    /// All triggers of all projects, removed ones too, for the engine.
    async fn load_triggers(&self) -> Result<Vec<TriggerRow>>;

    /// A trigger.
    async fn trigger(
        &self,
        project: ProjectId,
        workflow: &str,
        name: &str,
    ) -> Result<Option<TriggerRow>>;

    /// The trigger that is called by this name.
    async fn hook(&self, hook: &str) -> Result<Option<TriggerRow>>;

    /// Triggers by workflow and name, of one workflow or of all; without those that are removed.
    async fn triggers(
        &self,
        project: ProjectId,
        workflow: Option<&str>,
        page: &Page,
    ) -> Result<Items<TriggerRow>>;

    /// The firings of all projects that have no answer yet, the oldest first, at most `limit`.
    async fn open_firings(&self, limit: usize) -> Result<Vec<FiringRow>>;

    /// The firings of a trigger, the latest first.
    async fn firings(
        &self,
        project: ProjectId,
        workflow: &str,
        trigger: &str,
        page: &Page,
    ) -> Result<Items<FiringRow>>;

    /// The backfills of all projects that are not over, for the engine.
    async fn load_backfills(&self) -> Result<Vec<BackfillRow>>;

    /// A backfill.
    async fn backfill(&self, project: ProjectId, id: BackfillId) -> Result<Option<BackfillRow>>;

    /// Backfills, newest first.
    async fn backfills(&self, project: ProjectId, page: &Page) -> Result<Items<BackfillRow>>;

    /// The answers to a schedule's ticks, the latest tick first.
    async fn ticks(
        &self,
        project: ProjectId,
        workflow: &str,
        schedule: &str,
        page: &Page,
    ) -> Result<Items<TickRow>>;

    /// What is paused, or was.
    async fn pauses(&self) -> Result<Vec<PauseRow>>;

    /// The success of a workflow's task that can be reused for `key`, and the last one whatever
    /// its key.
    async fn cached(
        &self,
        project: ProjectId,
        workflow: &str,
        task: &str,
        key: &CacheKey,
    ) -> Result<Cached>;

    /// Those of these blobs that no row refers to.
    async fn unreferenced(&self, digests: &[Digest]) -> Result<Vec<Digest>>;

    /// Removes old terminal runs, those that ended too early and of each workflow the oldest of those
    /// that are too many, with all that belongs to them, expired answers, old answers to ticks, and
    /// drafts without runs (after [`DRAFT_GRACE`]), in small transactions, and returns the runs removed; fewer than `batch`: all is done. After a crash a run that was being
    /// removed is gone, and the rest of what belonged to it goes with the next call.
    async fn prune(&self, epoch: Epoch, retention: &Retention) -> Result<Vec<(ProjectId, RunId)>>;
}
