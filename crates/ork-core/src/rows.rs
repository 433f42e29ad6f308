//! What a store keeps: rows, made by the run machine, kept and given back as they are.
//!
//! A store computes nothing from a row beyond its keys. Columns exist for what is queried; the
//! rest of a row is its JSON.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::difference::Difference;
use crate::ids::{BackfillId, InstancePath, ProjectId, RunId, Token, WorkerId};
use crate::plan::{Concurrency, Metadata, Plan, Schedule, Trigger};
use crate::run::{AttemptState, EventKind, Failure, RunState, TaskState};
use crate::time::Wall;
use crate::value::{Data, Digest, Value};

/// One durable change. A commit is a list of them, applied in order, all or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Inserts or replaces a run.
    Run(Box<RunRow>),
    /// Inserts or replaces an instance.
    Task(Box<TaskRow>),
    /// Inserts or replaces an attempt.
    Attempt(Box<AttemptRow>),
    /// Appends an event.
    Event(Arc<EventRow>),
    /// Inserts or replaces a workflow.
    Workflow(Box<WorkflowRow>),
    /// Inserts a version; one that is there stays as it is.
    Version(Box<VersionRow>),
    /// Keeps the answer of a request with an idempotency key.
    Answer(Box<AnswerRow>),
    /// Inserts or replaces a schedule; beside it the run that a tick of it made, if this is of one.
    Schedule(Box<ScheduleRow>, Option<RunId>),
    /// Inserts a tick; one that is there is refused.
    Tick(Box<TickRow>),
    /// Inserts or replaces a trigger.
    Trigger(Box<TriggerRow>),
    /// A firing without an answer: inserts it; one that is there stays as it is. One with its
    /// answer: replaces the one without, and is refused where there is none.
    Firing(Box<FiringRow>),
    /// Inserts or replaces a backfill; beside it the run that it made, if this is of one.
    Backfill(Box<BackfillRow>, Option<RunId>),
    /// Inserts or replaces the pause of a workflow or a project.
    Pause(Box<PauseRow>),
    /// Inserts or replaces a success that may be reused.
    Cache(Box<CacheRow>),
    /// Inserts, replaces or removes a pool.
    Pool(Box<PoolRow>),
    /// Appends to the history of a workflow; the store gives it its number.
    History(Box<HistoryRow>),
}

impl Change {
    /// The run that the change belongs to, if to one.
    pub fn run(&self) -> Option<(ProjectId, RunId)> {
        match self {
            Self::Run(row) => Some((row.project, row.id)),
            Self::Task(row) => Some((row.project, row.run)),
            Self::Attempt(row) => Some((row.project, row.run)),
            Self::Event(row) => Some((row.project, row.run)),
            Self::Answer(row) => row.run.map(|run| (row.project, run)),
            Self::Schedule(row, run) => run.map(|run| (row.project, run)),
            Self::Backfill(row, run) => run.map(|run| (row.project, run)),
            Self::Tick(row) => row.run.map(|run| (row.project, run)),
            Self::Cache(row) => Some((row.project, row.run)),
            Self::Firing(row) if row.decided_at.is_none() => Some((row.project, row.source)),
            Self::Firing(row) => row.run.map(|run| (row.project, run)),
            Self::Trigger(_)
            | Self::Workflow(_)
            | Self::Version(_)
            | Self::Pause(_)
            | Self::History(_)
            | Self::Pool(_) => None,
        }
    }
}

/// What a project says of a pool. Key: `(project, name)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// How many slots it has; none: the project says nothing any more, and the row goes.
    pub slots: Option<u32>,
    /// Who said so.
    pub by: Actor,
    /// When.
    pub at: Wall,
}

/// Who asked, why, and under which request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user or service; `system` for what the engine does by itself.
    pub name: String,
    /// What they gave as `--reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request's id, as in the answer's `X-Request-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The groups they are in, for whoever asks whether they may; not kept.
    #[serde(skip)]
    pub groups: Vec<String>,
    /// Their roles in the project, for whoever asks whether they may; not kept.
    #[serde(skip)]
    pub roles: Vec<String>,
}

/// Who stopped new starts, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who, and why.
    pub by: Actor,
    /// When.
    pub at: Wall,
}

/// Whether new starts of a workflow, or of a whole project, are stopped. Key: `(project,
/// workflow)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRow {
    /// The project.
    pub project: ProjectId,
    /// The workflow; none: all of the project.
    pub workflow: Option<String>,
    /// The pause; none: it was ended.
    pub pause: Option<Pause>,
    /// Who changed it last, and why.
    pub by: Actor,
    /// When.
    pub at: Wall,
}

/// What makes one use of a cache differ from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CachePart {
    /// The task itself: what it does, its types, its environment.
    Task,
    /// The code of its version.
    Code,
    /// The input of this name.
    Input(String),
    /// Its inputs, where they are too many to tell which.
    Inputs,
    /// The value of `cache.key`.
    Key,
    /// All is equal, and the success is older than `cache.ttl`.
    Age,
}

/// What a success can be reused for, each part by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// The task itself.
    pub task: Digest,
    /// Its inputs.
    pub inputs: Digest,
    /// The value of `cache.key`.
    pub key: Digest,
}

impl CacheKey {
    /// The digest of all parts.
    pub fn digest(&self) -> Digest {
        let parts = [self.task.0, self.inputs.0, self.key.0];
        Digest::of(parts.as_flattened())
    }

    /// In what two differ.
    pub fn differs(&self, other: &Self) -> Vec<CachePart> {
        let parts = [
            (CachePart::Task, self.task == other.task),
            (CachePart::Inputs, self.inputs == other.inputs),
            (CachePart::Key, self.key == other.key),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect()
    }
}

/// Parts of a [`CacheKey`], by which it is told what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheParts {
    /// The task without its code.
    pub task: Option<Digest>,
    /// The code.
    pub code: Option<Digest>,
    /// Each input by its name, but of [`CacheParts::MAX_INPUTS`] at most; else none.
    pub inputs: IndexMap<String, Digest>,
}

impl CacheParts {
    /// The most inputs that are told apart.
    pub const MAX_INPUTS: usize = 128;

    /// What makes a use of this, with the key `key`, differ from an earlier success.
    pub fn differs(&self, key: &CacheKey, earlier: &CacheRow) -> Vec<CachePart> {
        let before = &earlier.parts;
        let other =
            |ours: Option<Digest>, theirs: Option<Digest>| theirs.is_some() && ours != theirs;
        earlier
            .key
            .differs(key)
            .into_iter()
            .flat_map(|part| match part {
                CachePart::Task => {
                    let parts = [
                        (CachePart::Task, other(self.task, before.task)),
                        (CachePart::Code, other(self.code, before.code)),
                    ];
                    let found: Vec<_> = parts.into_iter().filter(|(_, other)| *other).collect();
                    let found: Vec<_> = found.into_iter().map(|(part, _)| part).collect();
                    if found.is_empty() { vec![CachePart::Task] } else { found }
                }
                CachePart::Inputs => {
                    let names = self.inputs.keys().chain(before.inputs.keys());
                    let mut found = Vec::new();
                    for name in
                        names.filter(|name| self.inputs.get(*name) != before.inputs.get(*name))
                    {
                        let part = CachePart::Input(name.clone());
                        if !found.contains(&part) {
                            found.push(part);
                        }
                    }
                    let told = found.len() <= Self::MAX_INPUTS && !found.is_empty();
                    if told && !before.inputs.is_empty() { found } else { vec![CachePart::Inputs] }
                }
                part => vec![part],
            })
            .collect()
    }
}

/// A success that may be reused. Key: `(project, digest of key)`; goes with its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheRow {
    /// The project.
    pub project: ProjectId,
    /// The workflow.
    pub workflow: String,
    /// The task, as the plan names it: an instance's path without items.
    pub task: String,
    /// What it can be reused for.
    pub key: CacheKey,
    /// Parts of that key.
    #[serde(default)]
    pub parts: CacheParts,
    /// The run that it happened in.
    pub run: RunId,
    /// The instance.
    pub path: InstancePath,
    /// Its output.
    pub output: Option<Data>,
    /// When it ended.
    pub at: Wall,
    /// When it can be forgotten; none: with its run.
    pub expires_at: Option<Wall>,
}

/// What came of a task's cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cache", rename_all = "snake_case")]
pub enum CacheNote {
    /// An earlier success was reused.
    Hit {
        /// Its run.
        run: RunId,
        /// Its instance.
        path: InstancePath,
        /// When that ended.
        at: Wall,
    },
    /// None could be.
    Missed {
        /// What was another in the last success of the task; empty: there is none.
        differs: Vec<CachePart>,
        /// The run of that success.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        than: Option<RunId>,
    },
}

/// A run. Key: `(project, id)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// The project.
    pub project: ProjectId,
    /// The run.
    pub id: RunId,
    /// The workflow's name.
    pub workflow: String,
    /// The version of the workflow that the run stays on.
    pub version: VersionId,
    /// Where it stands.
    pub state: RunState,
    /// Counts from 1; `retry` opens the next.
    pub run_attempt: u32,
    /// The params, checked, defaults filled in.
    pub params: Value,
    /// What the run is for: ISO 8601 with an offset.
    pub logical_time: String,
    /// For people and filters.
    pub labels: IndexMap<String, String>,
    /// How it came to be: `manual`, `rerun`, `schedule:NAME`, `backfill:ID`, `webhook:NAME`,
    /// `workflow:NAME`.
    pub trigger: String,
    /// Who made it.
    pub created_by: Actor,
    /// When.
    pub created_at: Wall,
    /// When its first task could start.
    pub started_at: Option<Wall>,
    /// When it ended.
    pub finished_at: Option<Wall>,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
    /// Its result.
    pub output: Option<Data>,
    /// The run that it is done again for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<RunId>,
    /// The run whose end started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RunId>,
    /// Its own pause; its workflow and its project may be paused beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// What else the run machine needs to go on after a restart; its own affair.
    pub detail: Value,
}

/// An instance. Key: `(project, run, path)`; listed by `(project, run, ordinal)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// The project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// Where the instance stands in the run.
    pub path: InstancePath,
    /// Its place in lists: the order of the file, then of items.
    pub ordinal: u32,
    /// Counts from 1 the times it was meant to be done.
    pub generation: u32,
    /// Where it stands.
    pub state: TaskState,
    /// Attempts begun in this generation.
    pub attempt: u32,
    /// For `upstream_failed` and `skipped`: the instance that decided it.
    pub cause: Option<InstancePath>,
    /// Why it did not succeed, or why its last attempt did not.
    pub failure: Option<Failure>,
    /// The inputs of this generation, once resolved.
    pub inputs: Option<IndexMap<String, Data>>,
    /// Its output.
    pub output: Option<Data>,
    /// When it could first start in this generation.
    pub queued_at: Option<Wall>,
    /// When its first attempt of this generation began.
    pub started_at: Option<Wall>,
    /// When it ended.
    pub finished_at: Option<Wall>,
    /// Whether a person set its outcome.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marked: bool,
    /// What came of its cache in this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheNote>,
    /// What else the run machine needs to go on after a restart; its own affair.
    pub detail: Value,
}

/// An attempt. Key: `(project, run, path, generation, attempt)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// The project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// The instance.
    pub path: InstancePath,
    /// The generation.
    pub generation: u32,
    /// Counts from 1 within the generation.
    pub attempt: u32,
    /// The token of its last offer.
    pub token: Token,
    /// The worker of its last offer.
    pub worker: WorkerId,
    /// Where it stands.
    pub state: AttemptState,
    /// When it was last offered.
    pub offered_at: Wall,
    /// When the worker began it.
    pub started_at: Option<Wall>,
    /// When it ended.
    pub finished_at: Option<Wall>,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
    /// What it wrote.
    pub logs: LogSummary,
    /// The files that it left: a list of [`FileRef`](crate::value::FileRef)s, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Data>,
}

/// What an attempt wrote to its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSummary {
    /// Lines kept.
    pub lines: u64,
    /// Lines not kept, since the attempt wrote more than its cap.
    pub dropped_lines: u64,
    /// Bytes of text written by the task, line ends not counted.
    pub bytes: u64,
    /// Of these the bytes not kept: those of dropped lines and those cut from long lines.
    pub dropped_bytes: u64,
    /// Whether less may be kept than this says: the log could not be made durable to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// An event. Key: `(project, run, seq)`; a store adds the commit's number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// The project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// Counts from 1, without gaps, in the run.
    pub seq: u64,
    /// When.
    pub at: Wall,
    /// The instance, for events of one.
    pub path: Option<InstancePath>,
    /// Its generation.
    pub generation: Option<u32>,
    /// Its attempt.
    pub attempt: Option<u32>,
    /// Who caused it.
    pub actor: Actor,
    /// The form of `kind`; 1.
    pub schema_version: u32,
    /// What happened.
    pub kind: EventKind,
}

/// A version: counts from 1 in its workflow; drafts count apart, below zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct VersionId(pub i64);

impl VersionId {
    /// Whether the version is a draft, made by `ork run FILE`: never current.
    pub fn is_draft(self) -> bool {
        self.0 < 0
    }
}

/// A workflow. Key: `(project, name)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkflowRow {
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// The version that new runs get; none while there are only drafts.
    pub current: Option<VersionId>,
    /// What people read and filter by.
    pub metadata: Metadata,
    /// What its file said of that at the last deploy; none: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<Box<Metadata>>,
    /// When it was deleted; a deploy brings it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Wall>,
    /// The limits of the current version, which bind all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Concurrency>,
    /// When it was first seen.
    pub created_at: Wall,
    /// When it last changed.
    pub updated_at: Wall,
}

/// Something that was done to a workflow as a whole. Key: `(project, workflow, number)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// The project.
    pub project: ProjectId,
    /// The workflow's name.
    pub workflow: String,
    /// Counts from 1, without gaps, in the workflow; given by the store.
    #[serde(default)]
    pub number: u64,
    /// When.
    pub at: Wall,
    /// Who, and why.
    pub by: Actor,
    /// What.
    pub what: Happened,
    /// The version that became current, if this made one so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// What is another in its metadata.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Difference>,
}

/// What was done to a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// It was deployed, and something of it is new.
    Deployed,
    /// Its metadata was changed.
    Described,
    /// It was paused.
    Paused,
    /// Its pause was ended.
    Resumed,
    /// It was deleted.
    Deleted,
}

/// A version of a workflow. Key: `(project, workflow, version)`; unique by `(project, workflow,
/// draft or not, digest)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRow {
    /// The project.
    pub project: ProjectId,
    /// The workflow's name.
    pub workflow: String,
    /// Its number.
    pub version: VersionId,
    /// The digest of the YAML and the code that make it.
    pub digest: Digest,
    /// The YAML as deployed.
    pub source: String,
    /// The checked plan.
    pub plan: Arc<Plan>,
    /// Where its code is.
    pub code: CodeRef,
    /// Who deployed it.
    pub created_by: Actor,
    /// When.
    pub created_at: Wall,
}

/// Where the code of a version is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeRef {
    /// In a folder of this machine; for drafts.
    InPlace {
        /// The code root, absolute.
        root: String,
        /// The digest of the code files that the workflow named when it was compiled: what runs
        /// other code is another task. One that was kept before there was a digest runs code that
        /// nobody knows: that of no file.
        #[serde(default = "no_code")]
        digest: Digest,
    },
    /// In the blob store, as a tar archive.
    Bundle {
        /// The archive's digest.
        digest: Digest,
    },
}

fn no_code() -> Digest {
    Digest::of(&[])
}

/// The answer that was given to a request with an idempotency key. Key: `(project, key)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// The project.
    pub project: ProjectId,
    /// The key, as the client sent it.
    pub key: String,
    /// The digest of what the client sent with it.
    pub request: Digest,
    /// The run that the request made or concerned.
    pub run: Option<RunId>,
    /// The answer.
    pub answer: Value,
    /// When the answer may be forgotten; none: with its run.
    pub expires_at: Option<Wall>,
}

/// A schedule. Key: `(project, workflow, name)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRow {
    /// The project.
    pub project: ProjectId,
    /// The workflow's name.
    pub workflow: String,
    /// Its name in the workflow.
    pub name: String,
    /// The version that declares it; where it is removed, the first that does not.
    pub version: VersionId,
    /// What the version says of it.
    pub spec: Schedule,
    /// Whether it is paused now.
    pub paused: bool,
    /// Who paused or resumed it last.
    pub changed_by: Option<Actor>,
    /// Whether the current version has it no more.
    pub removed: bool,
    /// All its ticks up to here have their answer. It only grows.
    pub decided: Wall,
    /// Ticks up to here were missed while it was paused.
    pub missed_before: Option<Wall>,
    /// Its next tick.
    pub next: Option<Wall>,
    /// Its last tick that has an answer.
    pub last: Option<LastTick>,
    /// When the row last changed.
    pub updated_at: Wall,
}

/// The last tick of a schedule that has an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTick {
    /// The tick.
    pub tick: Wall,
    /// Its run; none where it was skipped.
    pub run: Option<RunId>,
}

/// The answer to a tick of a schedule, or to several that were skipped together. Key: `(project,
/// workflow, schedule, tick)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TickRow {
    /// The project.
    pub project: ProjectId,
    /// The workflow's name.
    pub workflow: String,
    /// The schedule's name.
    pub schedule: String,
    /// The tick, or the first of several.
    pub tick: Wall,
    /// The last of several; else the tick.
    pub until: Wall,
    /// How many; a large number is counted in part.
    pub count: u64,
    /// The tick's local time: ISO 8601 with an offset.
    pub logical_time: String,
    /// Its run.
    pub run: Option<RunId>,
    /// Why there is no run.
    pub reason: Option<String>,
    /// When it was decided.
    pub decided_at: Wall,
}

/// What the sender of a webhook shows who it is by.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookSecret {
    /// The secret that both sides sign with. It is needed as it is.
    Hmac {
        /// As it was shown.
        key: String,
    },
    /// The digest of the token.
    Token {
        /// Of the token as it was shown.
        digest: Digest,
    },
}

/// Secrets are printed nowhere.
impl std::fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookSecret")
    }
}

/// A trigger. Key: `(project, workflow, name)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerRow {
    /// The project.
    pub project: ProjectId,
    /// The workflow's name.
    pub workflow: String,
    /// Its name in the workflow.
    pub name: String,
    /// The version that declares it, or did last.
    pub version: VersionId,
    /// What the version says of it.
    pub spec: Trigger,
    /// The name under which a webhook is called.
    pub hook: Option<String>,
    /// A webhook's secret; without one it takes nothing.
    pub secret: Option<HookSecret>,
    /// Who made that secret.
    pub rotated_by: Option<Actor>,
    /// When.
    pub rotated_at: Option<Wall>,
    /// Whether the current version has it no more.
    pub removed: bool,
    /// When the row last changed.
    pub updated_at: Wall,
}

/// An end of a run that a trigger waited for, and what came of it. Key: `(project, source,
/// workflow, trigger)`; goes with the run that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FiringRow {
    /// The project.
    pub project: ProjectId,
    /// The run that ended.
    pub source: RunId,
    /// Its workflow.
    pub source_workflow: String,
    /// How it ended.
    pub source_state: RunState,
    /// The workflow whose trigger waited for it.
    pub workflow: String,
    /// The trigger's name.
    pub trigger: String,
    /// When that was.
    pub fired_at: Wall,
    /// The run that was started.
    pub run: Option<RunId>,
    /// Why none was.
    pub reason: Option<String>,
    /// When the one or the other was decided; none: it is still to be.
    pub decided_at: Option<Wall>,
}

/// A backfill. Key: `(project, id)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackfillRow {
    /// The project.
    pub project: ProjectId,
    /// The backfill.
    pub id: BackfillId,
    /// The workflow's name.
    pub workflow: String,
    /// The schedule's name.
    pub schedule: String,
    /// The version whose runs it makes.
    pub version: VersionId,
    /// What that version says of the schedule.
    pub spec: Schedule,
    /// No tick before.
    pub from: Wall,
    /// No tick after.
    pub to: Wall,
    /// How many of its runs may go on at a time.
    pub max_runs: u32,
    /// Which ticks come first.
    pub order: Order,
    /// Where it stands.
    pub state: BackfillState,
    /// The last tick that has its run, in its order.
    pub reached: Option<Wall>,
    /// How many ticks the range has.
    pub total: u64,
    /// How many runs it has made.
    pub made: u64,
    /// How many ticks have no run.
    pub skipped: u64,
    /// Why the last of these has none.
    pub reason: Option<String>,
    /// Its runs that go on; some may be over by now.
    pub open: Vec<RunId>,
    /// Its runs that are to be retried.
    pub again: Vec<RunId>,
    /// Who made it.
    pub created_by: Actor,
    /// Who paused, resumed, cancelled or retried it last.
    pub changed_by: Option<Actor>,
    /// When it was made.
    pub created_at: Wall,
    /// When the row last changed.
    pub updated_at: Wall,
    /// When its last run had ended.
    pub finished_at: Option<Wall>,
}

/// Which ticks a backfill begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The oldest.
    #[default]
    Oldest,
    /// The newest.
    Newest,
}

/// Where a backfill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// It makes runs.
    Running,
    /// It makes none until it is resumed.
    Paused,
    /// A person ended it.
    Cancelled,
    /// Each tick has its run, and they are over.
    Done,
}

/// All that the run machine needs to go on with a run after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveRun {
    /// The run.
    pub run: RunRow,
    /// The version that it stays on; runs of the same share it.
    pub version: Arc<VersionRow>,
    /// All its instances, by ordinal.
    pub tasks: Vec<TaskRow>,
    /// Its attempts that have not ended.
    pub attempts: Vec<AttemptRow>,
    /// The number of its last event.
    pub last_seq: u64,
    /// What of it the store has and cannot read. Such a run is set aside, with what can be read.
    pub damage: Option<String>,
}
