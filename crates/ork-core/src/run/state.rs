//! The names of states, failures and events, as rows and clients know them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{InstancePath, RunId, Token, WorkerId};
use crate::plan::Scope;
use crate::rows::{CachePart, LogSummary, VersionId};
use crate::time::Wall;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Accepted; waits for admission.
    Pending,
    /// Under way.
    Running,
    /// Ended well.
    Success,
    /// Ended badly.
    Failed,
    /// Ended by command.
    Cancelled,
    /// Never started, by a limit's policy.
    Skipped,
}

impl RunState {
    /// Each once.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::Success, Self::Failed, Self::Cancelled, Self::Skipped];

    /// Whether the run attempt is over.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Upstreams are open.
    Pending,
    /// May start; waits for a slot, a limit or its retry time.
    Queued,
    /// Offered to a worker.
    Dispatched,
    /// A worker does it.
    Running,
    /// Waits for something outside without a slot.
    Deferred,
    /// The verdict is fixed; its processes are being stopped.
    Stopping,
    /// Done.
    Success,
    /// Given up.
    Failed,
    /// Not wanted: `when` was false, or its rule can no longer hold and nothing failed.
    Skipped,
    /// Its rule can no longer hold because of a failure.
    UpstreamFailed,
    /// Ended by command.
    Cancelled,
}

impl TaskState {
    /// Each once.
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Queued,
        Self::Dispatched,
        Self::Running,
        Self::Deferred,
        Self::Stopping,
        Self::Success,
        Self::Failed,
        Self::Skipped,
        Self::UpstreamFailed,
        Self::Cancelled,
    ];

    /// Whether the generation is over.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failed | Self::Skipped | Self::UpstreamFailed | Self::Cancelled
        )
    }
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Offered to a worker.
    Dispatched,
    /// A worker does it.
    Running,
    /// Its processes are being stopped.
    Stopping,
    /// Succeeded.
    Success,
    /// Said that what it looks for is not there yet; the next look is another attempt.
    NotReady,
    /// Failed.
    Failed,
    /// Stopped by command.
    Cancelled,
    /// Ended with its worker.
    Lost,
}

/// Why an attempt is stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Its own timeout, or the run's.
    TimedOut,
    /// A command.
    Cancelled,
    /// Another generation took its place.
    Superseded,
}

/// Why something did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// One sentence for a person.
    pub message: String,
    /// The exit code of a process that ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// More lines, such as a traceback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

impl Failure {
    /// A failure with a message alone.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), exit_code: None, signal: None, details: None }.cut()
    }

    /// The failure within [`MAX_MESSAGE`] and [`MAX_DETAILS`]: of a longer message the beginning
    /// stays, of longer details the end, where a traceback says what happened.
    #[must_use]
    pub fn cut(mut self) -> Self {
        let size = self.message.len();
        if size > MAX_MESSAGE {
            self.message.truncate(self.message.floor_char_boundary(MAX_MESSAGE - CUT_NOTE));
            self.message.push_str(&format!("… ({size} bytes in all)"));
        }
        if let Some(details) = self.details.take_if(|details| details.len() > MAX_DETAILS) {
            let size = details.len();
            let from = details.ceil_char_boundary(size - (MAX_DETAILS - CUT_NOTE));
            self.details = Some(format!("({size} bytes in all) …{}", &details[from..]));
        }
        self
    }
}

impl FailureKind {
    /// Whether the attempt ended by its worker, and says nothing about the task.
    pub fn is_of_the_worker(self) -> bool {
        self.spends_lost_retries() || self == Self::Interrupted
    }

    /// Whether another attempt is on `lost_retries`.
    pub fn spends_lost_retries(self) -> bool {
        matches!(self, Self::Lost | Self::WorkerFailed)
    }
}

/// How often a generation is tried again since its worker was told to leave. It is on no budget,
/// so this is only there to end what would go on for ever.
pub const MAX_INTERRUPTIONS: u32 = 100;

/// The longest message of a failure that is kept, in bytes.
pub const MAX_MESSAGE: usize = 4 << 10;

/// The longest details of a failure that are kept, in bytes.
pub const MAX_DETAILS: usize = 32 << 10;

/// Room for the words that tell of a cut.
const CUT_NOTE: usize = 64;

/// The kinds of failure; `error.kind` in a retry condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program exited with another code than 0, or the function raised.
    Failure,
    /// Ended by a signal that Ork did not send.
    Signal,
    /// Killed for want of memory.
    OutOfMemory,
    /// Took longer than `timeout`.
    Timeout,
    /// Could not be started: program, interpreter, file or function missing.
    NotStarted,
    /// The inputs are not of their type.
    InputInvalid,
    /// The output is not of its type, or not JSON, or too large.
    OutputInvalid,
    /// An expression could not be evaluated.
    Expression,
    /// Its worker was lost.
    Lost,
    /// Its worker could not do it, for a reason that may pass and is not the task's: no room on
    /// its disk, no memory for a process, or what it starts programs with was killed.
    WorkerFailed,
    /// Its worker was told to leave before it was done.
    Interrupted,
    /// Stopped by command.
    Cancelled,
    /// A person refused to approve it.
    Rejected,
    /// A task failed; for runs.
    TaskFailed,
    /// The run found no place under the limits of its workflow, which refuse it then; for runs.
    RunLimit,
    /// The run could not be kept or decided, and was set aside.
    Quarantined,
}

/// What a deferred instance waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum Waiting {
    /// A time.
    Time {
        /// Which.
        at: Wall,
    },
    /// A signal to the run.
    Event {
        /// Its name.
        name: String,
    },
    /// A person's decision.
    Approval {
        /// What is asked.
        prompt: String,
        /// Who may decide; empty: whoever may run the workflow.
        approvers: Vec<String>,
    },
    /// The next look of a sensor.
    Poll {
        /// When it is; none while a value is loaded that the answer of the last one depends on.
        again: Option<Wall>,
        /// How the attempt ended that looked last: `not_ready`, or `success` with an output for
        /// which `poll.until` does not hold.
        attempt: AttemptState,
    },
}

/// Where an outcome comes from that no attempt made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Source {
    /// A person set it.
    Mark,
    /// A person decided; the event's actor.
    Decision,
    /// The time for a decision ran out.
    Timeout,
    /// A signal.
    Signal {
        /// Its number in the run.
        number: u64,
    },
    /// An earlier success of the task.
    Cache {
        /// The run.
        run: RunId,
        /// The instance in it.
        path: InstancePath,
        /// When that ended.
        at: Wall,
    },
    /// The same instance in the run that this one is a rerun of.
    Copy {
        /// That run.
        run: RunId,
    },
}

/// The place of a run among those of its workflow, at the start of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPlace {
    /// The workflow.
    pub workflow: String,
    /// What tells the runs apart.
    pub key: String,
    /// How many runs of the key there may be.
    pub max_runs: u32,
}

/// The slots of a pool that an attempt takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolPlace {
    /// The pool.
    pub name: String,
    /// How many slots.
    pub slots: u32,
    /// How many the pool has.
    pub of: u32,
}

/// What happened. Each is one transition, or a report that changed nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// The run was accepted.
    RunCreated {
        /// Its workflow.
        workflow: String,
        /// Its version.
        version: VersionId,
        /// How many instances it has from the start.
        tasks: u32,
        /// The run that it is done again for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rerun_of: Option<RunId>,
    },
    /// From here on nothing of the run starts.
    RunPaused,
    /// The run's own pause is over.
    RunResumed,
    /// A signal came, and is kept until a wait takes it.
    SignalReceived {
        /// Its name.
        name: String,
        /// Counts the run's signals from 1.
        number: u64,
    },
    /// `pending → running`.
    RunStarted {
        /// The run attempt.
        run_attempt: u32,
        /// The place that it takes, where runs are limited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<RunPlace>,
    },
    /// The body is being ended before its time, `finally` too if `forced`.
    RunStopping {
        /// Why.
        reason: StopReason,
        /// Whether `finally` is ended too.
        forced: bool,
    },
    /// The run attempt ended.
    RunFinished {
        /// How.
        state: RunState,
        /// Why it did not succeed.
        failure: Option<Failure>,
    },
    /// A terminal run was opened again: `→ pending`.
    RunReopened {
        /// The run attempt that this opens.
        run_attempt: u32,
    },
    /// The instance got a new generation: `→ pending`.
    TaskReset {
        /// The token of the attempt that was stopped for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
    },
    /// No earlier success could be reused.
    TaskCacheMissed {
        /// What was another in the last success of the task; empty: there is none.
        differs: Vec<CachePart>,
    },
    /// `pending → queued`.
    TaskQueued,
    /// `pending → running` of an instance that has others inside.
    TaskOpened {
        /// How many are inside: members of a DAG, or items.
        count: u32,
        /// Whether what an earlier generation did inside stays.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        kept: bool,
        /// The DAG, where it was made at run time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made: Option<Arc<Scope>>,
        /// The place that a call takes among the runs of the workflow that it calls.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<RunPlace>,
    },
    /// `running → stopping` of such an instance: what is inside is being ended.
    TaskClosing {
        /// Why.
        reason: StopReason,
    },
    /// `pending | running → deferred`: it waits without a slot.
    TaskDeferred {
        /// For what.
        wait: Waiting,
        /// When the wait is given up.
        until: Option<Wall>,
        /// The token of the attempt that is over, if there was one.
        token: Option<Token>,
        /// What that attempt wrote.
        logs: LogSummary,
    },
    /// `deferred → queued`: it is tried again.
    TaskResumed,
    /// `queued → dispatched`.
    TaskDispatched {
        /// The token of this offer.
        token: Token,
        /// The worker it was offered to.
        worker: WorkerId,
        /// The slots of a pool that it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<PoolPlace>,
    },
    /// `dispatched → queued`: nobody confirmed the offer. Same attempt number.
    TaskUnclaimed {
        /// The token that is void now.
        token: Token,
    },
    /// `dispatched → running`.
    TaskStarted {
        /// The token.
        token: Token,
    },
    /// `dispatched | running → stopping`.
    TaskStopping {
        /// The token.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// `dispatched | running | stopping → queued`: the attempt is over, another will follow.
    TaskRetrying {
        /// The token of the attempt that is over.
        token: Token,
        /// Why it is over.
        failure: Failure,
        /// Not before.
        not_before: Wall,
        /// What it wrote.
        logs: LogSummary,
    },
    /// The generation is over.
    TaskFinished {
        /// How.
        state: TaskState,
        /// The token of its last attempt, if it had one that was under way.
        token: Option<Token>,
        /// Why it did not succeed.
        failure: Option<Failure>,
        /// The instance that decided it, for `upstream_failed` and `skipped`.
        cause: Option<InstancePath>,
        /// What the last attempt wrote.
        logs: LogSummary,
        /// Where the outcome comes from, when not from an attempt, a rule or a deadline.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
    },
    /// A worker's report that came after the verdict, and changed nothing.
    ReportIgnored {
        /// The token of the attempt.
        token: Token,
        /// What it said.
        outcome: String,
    },
    /// The run was set aside.
    RunQuarantined {
        /// Why.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_cut_to_what_a_row_takes() {
        let long = "é".repeat(100_000);
        let failure = Failure {
            details: Some(long.clone() + "the end"),
            ..Failure::new(FailureKind::Failure, "x".to_owned() + &long)
        };
        let cut = failure.cut();
        assert!(cut.message.starts_with("xé") && cut.message.len() <= MAX_MESSAGE);
        let details = cut.details.as_deref().unwrap();
        assert!(details.ends_with("éthe end") && details.len() <= MAX_DETAILS);
        assert_eq!(cut.clone().cut(), cut);
    }
}
