//! What is asked of the machine, and what it asks for.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::ids::{AttemptRef, InstancePath, ProjectId, RunId, WorkerId};
use crate::plan::{Plan, Scope};
use crate::rows::{ActiveRun, Actor, CacheKey, CacheRow, CodeRef, LogSummary, VersionId};
use crate::run::{Failure, StopReason};
use crate::time::Span;
use crate::types::Type;
use crate::value::{Data, Digest, Value};

/// One thing that is asked of the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Makes a run.
    Create(Box<NewRun>),
    /// Ends a run's body, or one instance. A second one, or a forced one, ends `finally` too.
    Cancel {
        /// The run.
        run: RunId,
        /// The instance; none: the run.
        path: Option<InstancePath>,
        /// Whether `finally` is ended at once.
        force: bool,
        /// Who asked.
        by: Actor,
    },
    /// Does parts of a run again: opens one that is over, or goes back in one that is not.
    Retry {
        /// The run.
        run: RunId,
        /// What is done again.
        selection: RetrySelection,
        /// Whether what is under way downstream, in a run that is not over, is stopped for it;
        /// else it is a reason to refuse.
        cancel_downstream: bool,
        /// Who asked.
        by: Actor,
    },
    /// Stops new starts, or lets them go on. What runs goes on, and so do deadlines.
    Pause {
        /// Of what.
        what: Pausable,
        /// Stop or go on.
        on: bool,
        /// Who asked.
        by: Actor,
    },
    /// Keeps a signal for the run until a wait takes it.
    Signal {
        /// The run.
        run: RunId,
        /// Its name.
        name: String,
        /// What it says.
        payload: Value,
        /// Who sent it.
        by: Actor,
    },
    /// A person's decision on an approval.
    Decide {
        /// The run.
        run: RunId,
        /// The instance.
        path: InstancePath,
        /// What was decided.
        decision: Decision,
        /// Who decided.
        by: Actor,
    },
    /// Sets the outcome of an instance: a new generation that nothing is done for.
    Mark {
        /// The run.
        run: RunId,
        /// The instance.
        path: InstancePath,
        /// The outcome.
        outcome: Marked,
        /// Who asked.
        by: Actor,
    },
    /// The run that [`Effect::Recall`] asked for; none: it is gone.
    Recalled {
        /// The run that asked.
        run: RunId,
        /// The other as it is kept.
        earlier: Option<Arc<ActiveRun>>,
    },
    /// What [`Effect::Lookup`] found.
    Found {
        /// The run.
        run: RunId,
        /// The instance.
        path: InstancePath,
        /// The success with this key.
        hit: Option<Box<CacheRow>>,
        /// The last success of the task, whatever its key.
        last: Option<Box<CacheRow>>,
    },
    /// Sets the size of a pool.
    SetPool {
        /// The project.
        project: ProjectId,
        /// The pool.
        name: String,
        /// How many slots it has; none: the project does not say any more.
        slots: Option<u32>,
        /// Who asked.
        by: Actor,
    },
    /// A worker is ready to take attempts.
    WorkerJoined {
        /// The worker.
        worker: WorkerId,
        /// How many attempts it does at a time.
        slots: u32,
        /// The queues it serves; `*`: all of them.
        queues: Vec<String>,
        /// Whether it starts user code only once its confirmation is accepted. One that does not
        /// wait lives in this process and is reached by a channel that loses nothing: an offer to
        /// it is never taken back, and its attempts are lost only with [`Command::WorkerGone`].
        confirms: bool,
    },
    /// A worker is alive and has these attempts. What the machine takes it to have and a beat that
    /// it sent after it had confirmed does not name is lost. The answer is [`Answer::Beat`].
    WorkerBeat {
        /// The worker.
        worker: WorkerId,
        /// Which of the worker's beats it is, from 1. One that comes late renews no lease.
        number: u64,
        /// What it has, up to those whose end it has reported without an answer yet.
        held: Vec<AttemptRef>,
    },
    /// A worker is gone and its process trees are stopped: what it had is lost at once.
    WorkerGone {
        /// The worker.
        worker: WorkerId,
        /// How it went.
        departure: Departure,
    },
    /// A worker takes no new attempts and ends those it has.
    WorkerLeaving {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker reports on an attempt.
    Report {
        /// The attempt.
        attempt: AttemptRef,
        /// What it says.
        report: Report,
        /// How many beats the worker had sent when it said so: those after them name the attempt
        /// for as long as the worker has it.
        beats: u64,
    },
    /// A value that the machine asked for with [`Effect::Fetch`].
    Fetched {
        /// The blob.
        digest: Digest,
        /// Its value, or why it cannot be had.
        value: Result<Arc<Value>, String>,
    },
    /// What came of [`Effect::Compile`].
    Compiled {
        /// The run.
        run: RunId,
        /// The instance.
        path: InstancePath,
        /// Its generation.
        generation: u32,
        /// The DAG, or all that is wrong with it.
        result: Result<Arc<Scope>, String>,
    },
    /// Sets a run aside: its changes cannot be kept, or it made the machine panic.
    Quarantine {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
}

/// How a worker went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// It was told to leave and stopped what it had: that is tried again, on no budget.
    Orderly,
    /// It died: what it had is lost.
    Crashed,
    /// What it starts programs with has died, or it panicked: what it had is lost, and tried again
    /// after a while, since one of those attempts may have done it.
    Broken,
}

/// A run to be made. Its params are checked by [`crate::lang`] before.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// The project.
    pub project: ProjectId,
    /// The project's name.
    pub project_name: Arc<str>,
    /// The run.
    pub id: RunId,
    /// The version.
    pub version: VersionId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// Its code.
    pub code: CodeRef,
    /// The params, checked, defaults filled in.
    pub params: Value,
    /// ISO 8601 with an offset.
    pub logical_time: String,
    /// For people and filters.
    pub labels: IndexMap<String, String>,
    /// How it came to be.
    pub trigger: String,
    /// Where a person finds it.
    pub url: String,
    /// The run that it is done again for: its successes are copied where nothing differs.
    pub rerun_of: Option<RunId>,
    /// The run whose end starts it.
    pub after: Option<RunId>,
    /// Who asked.
    pub by: Actor,
}

/// What can be paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pausable {
    /// A run.
    Run(RunId),
    /// All runs of a workflow.
    Workflow(ProjectId, String),
    /// All runs of a project.
    Project(ProjectId),
}

/// A person's decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it is a yes.
    pub approved: bool,
    /// What they say to it.
    pub comment: Option<String>,
    /// What they filled in: an object, or null for nothing.
    pub form: Value,
}

/// The outcome that a person sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Marked {
    /// Success.
    Success {
        /// Of the task's type.
        output: Value,
    },
    /// Failed.
    Failed,
    /// Skipped.
    Skipped,
}

/// What a retry does again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrySelection {
    /// What failed or was cancelled, and what was not done because of it.
    Failed,
    /// These instances and everything downstream of them.
    Tasks(Vec<InstancePath>),
    /// These instances, and of what is downstream of them that which did not succeed.
    Only(Vec<InstancePath>),
}

/// A worker's word on an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It has the offer.
    Confirmed,
    /// User code runs.
    Started,
    /// User code gave a sign of life.
    Beat,
    /// User code and all its processes are gone.
    Finished(Box<Finished>),
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// How.
    pub outcome: Outcome,
    /// What it wrote.
    pub logs: LogSummary,
    /// The files that it left in `ORK_ARTIFACTS`: a list of [`FileRef`](crate::value::FileRef)s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Data>,
    /// How long user code ran.
    pub took: Span,
}

/// How user code ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Well; the output has been checked against its type.
    Success {
        /// What it returned.
        output: Option<Data>,
    },
    /// Badly.
    Failed(Failure),
    /// It was stopped as asked.
    Stopped,
}

/// What is to be done once the changes are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Offer an attempt to a worker.
    Dispatch {
        /// The worker.
        worker: WorkerId,
        /// The attempt.
        assignment: Box<Assignment>,
    },
    /// Tell a worker to stop an attempt; repeated until it reports.
    Stop {
        /// The worker.
        worker: WorkerId,
        /// The attempt.
        attempt: AttemptRef,
        /// Why.
        reason: StopReason,
        /// How long between the polite stop and the kill.
        grace: Span,
    },
    /// Load a blob and bring its value with [`Command::Fetched`].
    Fetch {
        /// The blob.
        digest: Digest,
    },
    /// Load a run and bring it with [`Command::Recalled`].
    Recall {
        /// Its project.
        project: ProjectId,
        /// The run that asks.
        run: RunId,
        /// The run to be loaded.
        earlier: RunId,
    },
    /// Look for an earlier success, and bring what there is with [`Command::Found`].
    Lookup {
        /// The project.
        project: ProjectId,
        /// The workflow.
        workflow: Arc<str>,
        /// The task, as the plan names it.
        task: String,
        /// What it could be reused for.
        key: CacheKey,
        /// The run that asks.
        run: RunId,
        /// The instance.
        path: InstancePath,
    },
    /// Compile a DAG that was made at run time and bring it with [`Command::Compiled`].
    Compile(Box<Compile>),
}

/// A DAG to be compiled that was made at run time.
#[derive(Clone, Debug, PartialEq)]
pub struct Compile {
    /// The run.
    pub run: RunId,
    /// The instance.
    pub path: InstancePath,
    /// Its generation.
    pub generation: u32,
    /// What YAML would hold under `tasks`.
    pub tasks: Arc<Value>,
    /// The executors that it may use.
    pub allow: Vec<String>,
    /// The items of the maps that it is made in, by the names that they have there.
    pub values: Vec<(String, Type)>,
    /// The workflow that it is made in.
    pub plan: Arc<Plan>,
    /// That workflow's code.
    pub code: CodeRef,
}

/// All that a worker needs for an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The attempt, with its token.
    pub attempt: AttemptRef,
    /// The project's name.
    pub project: Arc<str>,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// Which item of its map it is, from 0; none outside a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_index: Option<u32>,
    /// The generation.
    pub generation: u32,
    /// Counts from 1 within the generation.
    pub number: u32,
    /// The executor.
    pub executor: Arc<str>,
    /// Its block of the file, resolved.
    pub spec: Value,
    /// The inputs; those by reference are loaded by the worker.
    pub inputs: IndexMap<String, Data>,
    /// What the inputs must be, checked by the worker before it starts user code.
    pub input_type: Option<Type>,
    /// What the output must be, checked by the worker before it reports success.
    pub output_type: Option<Type>,
    /// Environment: the workflow's and the task's, resolved.
    pub env: IndexMap<String, String>,
    /// How long the attempt may take; the machine enforces it.
    pub timeout: Option<Span>,
    /// How often user code has to give a sign of life; the worker passes it on as
    /// [`Report::Beat`], a few times as often at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Span>,
    /// How long between the polite stop and the kill.
    pub grace: Span,
    /// Its code.
    pub code: CodeRef,
    /// The run's logical time.
    pub logical_time: Arc<str>,
    /// The request that made the run.
    pub request_id: Option<String>,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or was so already.
    Done,
    /// A beat was heard.
    Beat {
        /// What the worker named and has no current token for: it stops that at once and reports
        /// nothing.
        stale: Vec<AttemptRef>,
    },
}

/// Why a command was refused. A refused command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: names the thing, the place and the next step.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub(super) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// There is no such run, instance or worker among the active ones.
    NotFound,
    /// The token is not the instance's current one; the worker stops what it runs under it.
    StaleLease,
    /// The state does not allow it.
    Conflict,
    /// A limit is reached.
    LimitReached,
    /// The idempotency key was used for another request.
    KeyReused,
    /// A value is not of its type.
    Invalid,
    /// Not theirs to decide.
    Forbidden,
    /// It is not any more what the asker saw.
    Changed,
    /// The workflow is deleted.
    Deleted,
}
